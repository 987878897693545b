"""Series that stay on disk: `.npy` files and Zarr arrays, read and written some steps at a time.

Files are read and written, not mapped into memory: where a mapped file is shorter than it says, or
the disk is full, the process dies of a signal instead of getting an error.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from denograd_jax.errors import FileError, MissingExtraError, ShapeError, UnsupportedError

__all__ = [
    "FULL",
    "Columns",
    "Series",
    "SideBySide",
    "StorageError",
    "create_series",
    "is_zarr_array",
    "load_tensorstore",
    "open_series",
    "stamp",
    "storage",
]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when there is no more room."""

_ZARR_CHUNK = 2**18
"""Cells in a chunk of a new Zarr array: about a megabyte."""


class StorageError(OSError):
    """What the system refused on a series or a journal: an `OSError` that is not the caller's."""


@contextlib.contextmanager
def storage(path: Path) -> Iterator[None]:
    """Mark what the system refuses in the block as `StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(error.errno, error.strerror, str(path)) from error


class Series(Protocol):
    """A series on disk, `(steps, columns)`; one column where the array has one dimension."""

    dtype: np.dtype[Any]
    shape: tuple[int, int]

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """Steps `begin` to `end - 1`: `(end - begin, columns)`."""

    def write(self, begin: int, values: NDArray[Any]) -> None:
        """Replace the steps from `begin` on by values `(n, columns)`; they outlive a power cut."""


class Columns(Series, Protocol):
    """A series that lies in one file or folder."""

    path: Path
    given_shape: tuple[int, ...]


def open_series(path: Path) -> Columns:
    """Open a `.npy` file or a Zarr array.

    Raises:
        FileError: It is missing, neither of the two, or shorter than it says.
        ShapeError: It has neither one nor two dimensions.
        UnsupportedError: It does not hold real numbers.
        MissingExtraError: A Zarr array without tensorstore.
    """
    if not path.exists():
        raise FileError(f"{path} does not exist: check the path.")
    try:
        if path.is_dir() and not is_zarr_array(path):
            raise FileError(f"{path} is a folder but no Zarr array: name the array in it.")
        return ZarrArray(path) if path.is_dir() else NpyFile(path)
    except OSError as error:
        raise FileError(f"{path} may not be read: {error.strerror}.") from error


def create_series(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Columns:
    """Make a new array; a path that ends in `.zarr` makes it Zarr, any other `.npy`.

    Raises:
        StorageError: There is no room for it, which is noticed at once where the system allows.
        MissingExtraError: A Zarr array without tensorstore.
    """
    if path.suffix == ".zarr":
        _create_zarr(path, shape, dtype)
        return ZarrArray(path)
    with storage(path), path.open("wb", buffering=0) as file:
        description = np.lib.format.dtype_to_descr(dtype)
        header = {"descr": description, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        _reserve(file.fileno(), file.tell() + int(np.prod(shape)) * dtype.itemsize)
    return NpyFile(path)


def is_zarr_array(path: Path) -> bool:
    """Whether a folder is an array, and not a group of arrays.

    Raises:
        FileError: What it says of itself is damaged.
    """
    driver = _zarr_driver(path)
    if driver != "zarr3":
        return driver is not None
    try:
        about = json.loads((path / "zarr.json").read_bytes())
    except ValueError as error:
        raise FileError(f"{path / 'zarr.json'} is damaged ({error}): write it anew.") from error
    return isinstance(about, dict) and about.get("node_type") == "array"


def stamp(path: Path) -> str:
    """A digest of size and time of change of a file, or of all files in a folder."""
    with storage(path):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        seen = [(str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return hashlib.blake2b(repr(seen).encode(), digest_size=16).hexdigest()


class NpyFile:
    """A series in a file of NumPy's format, in C or Fortran order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb", buffering=0) as file:
            self.given_shape, self._fortran, self.dtype = _read_header(path, file)
            self._offset = file.tell()
        self.shape = _as_columns(path, self.given_shape, self.dtype)
        if path.stat().st_size < self._offset + self._size:
            raise self._truncated()

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """See `Series`."""
        steps, columns = self.shape
        with storage(self.path), self.path.open("rb", buffering=0) as file:
            if not self._fortran:
                cells = self._read(file, begin * columns, (end - begin) * columns)
                return cells.reshape(-1, columns)
            each = [self._read(file, c * steps + begin, end - begin) for c in range(columns)]
            return np.stack(each, axis=1)

    def write(self, begin: int, values: NDArray[Any]) -> None:
        """See `Series`."""
        cells = np.ascontiguousarray(values, self.dtype)
        rest = cells.reshape(-1).view(np.uint8).data
        with storage(self.path), self.path.open("r+b", buffering=0) as file:
            file.seek(self._offset + begin * self.shape[1] * self.dtype.itemsize)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())

    @property
    def _size(self) -> int:
        """Bytes that the cells take."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def _read(self, file: io.FileIO, first: int, count: int) -> NDArray[Any]:
        cells = np.empty(count, self.dtype)
        rest = cells.view(np.uint8).data
        file.seek(self._offset + first * self.dtype.itemsize)
        while rest:
            got = file.readinto(rest)
            if not got:
                raise self._truncated()
            rest = rest[got:]
        return cells

    def _truncated(self) -> FileError:
        steps, columns = self.shape
        held = max(self.path.stat().st_size - self._offset, 0)
        return FileError(
            f"{self.path} is truncated: its header promises {steps:,} steps of {columns} "
            f"column(s), {self._size:,} bytes, and {held:,} bytes follow. Copy or write it anew."
        )


class ZarrArray:
    """A series in a Zarr array, version 2 or 3, by tensorstore."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _plain_errors(path):
            self._store = load_tensorstore().open(_zarr_spec(path), open=True).result()
        self.dtype = np.dtype(self._store.dtype.numpy_dtype)
        self.given_shape = tuple(self._store.shape)
        self.shape = _as_columns(path, self.given_shape, self.dtype)

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """See `Series`."""
        with _plain_errors(self.path):
            values = self._store[begin:end].read(order="C").result()
        return np.asarray(values).reshape(end - begin, self.shape[1])

    def write(self, begin: int, values: NDArray[Any]) -> None:
        """See `Series`."""
        shape = (len(values), *self.given_shape[1:])
        with _plain_errors(self.path):  # tensorstore syncs before a write ends
            target = self._store[begin : begin + len(values)]
            target.write(values.astype(self.dtype).reshape(shape)).result()


class SideBySide:
    """Two series with the same steps as one: the columns of the first, then of the second."""

    def __init__(self, first: Series, second: Series) -> None:
        if first.shape[0] != second.shape[0]:
            raise ShapeError(
                f"the series has {first.shape[0]:,} steps and its target {second.shape[0]:,}: they "
                "must be as many."
            )
        self._first, self._second = first, second
        self.dtype = np.result_type(first.dtype, second.dtype)
        self.shape = (first.shape[0], first.shape[1] + second.shape[1])

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """See `Series`."""
        parts = [part.read(begin, end) for part in (self._first, self._second)]
        return np.concatenate(parts, axis=1, dtype=self.dtype)

    def write(self, begin: int, values: NDArray[Any]) -> None:
        """See `Series`."""
        border = self._first.shape[1]
        self._first.write(begin, values[:, :border])
        self._second.write(begin, values[:, border:])


def _read_header(path: Path, file: io.FileIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    readers: dict[tuple[int, int], Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        header: tuple[tuple[int, ...], bool, np.dtype[Any]]
        header = readers[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError) as error:
        raise FileError(
            f"{path} is no .npy file that can be read ({error}): write it by numpy.save, or name "
            "a Zarr array."
        ) from error
    return header


def _as_columns(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int]:
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise UnsupportedError(f"{path} must hold real numbers of at most 64 bits, not {dtype}.")
    if len(shape) not in (1, 2) or shape[0] < 0 or min(shape[1:], default=1) < 1:
        raise ShapeError(
            f"{path} must hold a series of shape (steps, columns) or (steps,), not {shape}."
        )
    return shape[0], shape[1] if len(shape) == 2 else 1


def _reserve(file: int, size: int) -> None:
    """Notice at once that there is no room; what cannot tell will run into it while writing."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno in FULL:
            raise


def load_tensorstore() -> Any:
    """The module of the extra `[zarr]`; `MissingExtraError` where it is not installed."""
    try:
        import tensorstore
    except ImportError as error:
        raise MissingExtraError(
            "a Zarr array needs tensorstore, which is not installed: pip install "
            '"denograd-jax[zarr]"'
        ) from error
    return tensorstore


def _zarr_driver(path: Path) -> str | None:
    """The name that tensorstore has for the array's version; None where there is none."""
    drivers = {"zarr.json": "zarr3", ".zarray": "zarr"}
    return next((driver for name, driver in drivers.items() if (path / name).is_file()), None)


def _zarr_spec(path: Path) -> dict[str, Any]:
    driver = _zarr_driver(path) or "zarr3"  # tensorstore takes no ".." in a path
    return {"driver": driver, "kvstore": {"driver": "file", "path": str(path.resolve())}}


def _create_zarr(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Uncompressed, so that its size is known before it is refined."""
    ts = load_tensorstore()
    columns = shape[1:]
    steps = min(shape[0], max(1, _ZARR_CHUNK // int(np.prod(columns))))
    with _plain_errors(path):
        ts.open(
            _zarr_spec(path),
            create=True,
            delete_existing=True,
            dtype=ts.dtype(dtype.newbyteorder("=")),
            shape=shape,
            chunk_layout=ts.ChunkLayout(write_chunk_shape=(steps, *columns)),
        ).result()


@contextlib.contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """What tensorstore says, as `StorageError` where the system refused, else as `FileError`."""
    try:
        yield
    except (ValueError, RuntimeError, IndexError, NotImplementedError) as error:
        found = re.search(r"os_error_code='(\d+)'", str(error))
        if found is not None:
            code = int(found[1])
            raise StorageError(code, os.strerror(code), str(path)) from error
        reason = str(error).partition(" [")[0]
        raise FileError(f"{path} is no Zarr array that can be read or written: {reason}") from error
