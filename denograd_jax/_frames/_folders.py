"""Folders of arrays, frames and JSON, written whole or not at all; nothing in them is code."""

import contextlib
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax.errors import FileError, MissingExtraError, UnsupportedError

__all__ = ["Kind", "from_plain", "open_folder", "read_arrays", "read_frame", "to_plain"]
__all__ += ["refuse_taken", "write_arrays", "write_folder", "write_frame"]

SUMS = "SHA256SUMS"
"""The file that tells whether the others are as they were written; `sha256sum -c` reads it too."""


class Kind(NamedTuple):
    """What a folder holds, and the newest version of its layout that is known here."""

    name: str
    version: int


@contextlib.contextmanager
def write_folder(
    path: str | os.PathLike[str], kind: Kind, record: Mapping[str, Any], *, overwrite: bool
) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `path` when the block ends.

    Args:
        path: The folder to make.
        kind: What it holds; goes into its JSON with the record.
        record: Plain values, as `to_plain` makes them.
        overwrite: Whether a folder of the same kind may be replaced; another one never is.

    Raises:
        FileError: The folder exists, or cannot be written.
    """
    path = Path(path)
    refuse_taken(path, kind, overwrite=overwrite)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    old = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    try:
        aside.mkdir()
        yield aside
        about = {"format": kind.name, "version": kind.version, **record}
        (aside / "about.json").write_text(json.dumps(about, indent=1), "utf-8")
        (aside / SUMS).write_text(_sums(aside), "utf-8")
        if path.exists():
            path.rename(old)
        aside.rename(path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def open_folder(path: str | os.PathLike[str], kind: Kind) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder that `write_folder` made, and its record; what fails within says that it is damaged.

    Raises:
        FileError: The folder is missing, of another kind, of a newer version, or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileError(f"{path} is no folder: give the one that was saved.")
    try:
        about = json.loads((path / "about.json").read_text("utf-8"))
        found, version = str(about["format"]), int(about["version"])
    except Exception as error:  # any kind of text may be there
        raise FileError(
            f"{path} holds no {kind.name}: its about.json is missing or damaged."
        ) from error
    if found != kind.name:
        raise FileError(f"{path} holds a {found!r:.80}, not a {kind.name}.")
    if version > kind.version:
        raise FileError(
            f"{path} is of version {version}, this denograd-jax knows {kind.version} at most: "
            "upgrade it."
        )
    try:
        _refuse_other_sums(path)
        yield path, about
    except (MissingExtraError, FileError):
        raise
    except Exception as error:  # a damaged file may raise anything
        told = str(error).strip().partition("\n")[0]
        raise FileError(f"{path} is damaged: {type(error).__name__}: {told:.200}.") from error


def _sums(folder: Path) -> str:
    """A line for each file: its SHA-256, two spaces, its name."""
    lines = []
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".npz", ".parquet"):  # a file manager may add others
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            lines.append(f"{digest}  {file.name}\n")
    return "".join(lines)


def _refuse_other_sums(folder: Path) -> None:
    """Refuse files that are not as they were written: most formats would not tell."""
    found, written = ({*text.splitlines()} for text in (_sums(folder), _read_sums(folder)))
    for line in sorted(found ^ written):
        name = line[66:] or SUMS
        raise FileError(f"{folder} is damaged: {name} is missing or not as it was written.")


def _read_sums(folder: Path) -> str:
    try:
        return (folder / SUMS).read_text("utf-8")
    except FileNotFoundError as error:
        raise FileError(f"{folder} is damaged: {SUMS} is missing.") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{folder} is damaged: {SUMS} cannot be read as text.") from error


def write_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """An archive of arrays, without pickled objects."""
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in plain.items():
        if array.dtype.hasobject:
            raise UnsupportedError(f"{name} holds Python objects, which cannot be saved.")
    np.savez(file, **plain)  # type: ignore[arg-type]


def read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """What `write_arrays` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def write_frame(file: Path, frame: pd.DataFrame) -> list[Any]:
    """A frame as Parquet, whose columns are called by their number; returns their labels."""
    _require_parquet()
    numbered = frame.set_axis([str(j) for j in range(frame.shape[1])], axis=1)
    numbered.attrs = {}
    try:
        numbered.to_parquet(file)
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        told = str(error).strip().partition("\n")[0]
        raise UnsupportedError(f"the data cannot be saved as Parquet: {told:.200}.") from error
    return [to_plain(label) for label in frame.columns]


def read_frame(file: Path) -> pd.DataFrame:
    """What `write_frame` wrote, its columns called by their number."""
    _require_parquet()
    return pd.read_parquet(file)


def to_plain(value: Any) -> Any:
    """A label, level or setting as JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple):
        return {"tuple": [to_plain(item) for item in value]}
    if isinstance(value, pd.Timestamp):
        return {"time": value.isoformat()}
    raise UnsupportedError(f"{value!r} ({type(value).__name__}) cannot be saved as text.")


def from_plain(value: Any) -> Any:
    """What `to_plain` was given."""
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(from_plain(item) for item in value["tuple"])
    return pd.Timestamp(value["time"])


def _require_parquet() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError('Saving frames needs pyarrow: run pip install "denograd-jax[cli]".')


def refuse_taken(path: Path, kind: Kind, *, overwrite: bool) -> None:
    """Refuse, before the work is done, a folder that must not be written.

    Raises:
        FileError: It exists, unless it is of this kind and `overwrite` is set; or the folder around
            it does not.
    """
    if not path.parent.is_dir():
        raise FileError(f"the folder {path.parent} does not exist: create it first.")
    if not path.exists():
        return
    if not overwrite:
        raise FileError(f"{path} exists: choose another name, or set overwrite.")
    try:
        ours = json.loads((path / "about.json").read_text("utf-8"))["format"] == kind.name
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise FileError(f"{path} exists and holds no {kind.name}: choose another name.")
