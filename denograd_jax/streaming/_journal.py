"""A folder beside the output that tells that it is unfinished, and holds all it takes to go on."""

import contextlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from denograd_jax.errors import FileError
from denograd_jax.streaming._arrays import FULL, StorageError, storage

if sys.platform != "win32":
    import fcntl

__all__ = ["Entry", "Journal", "sync_folder"]


class Entry(NamedTuple):
    """What is written down at a time: plain values (as JSON) and arrays."""

    record: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


class Journal:
    """Entries by name, each written whole or not at all, in the folder `OUTPUT.progress`.

    Args:
        output: The file or folder that is made.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f"{output.name}.progress")

    def save(self, name: str, record: Mapping[str, Any], **arrays: NDArray[Any]) -> None:
        """Replace an entry, so that power may fail at any time: the old or the new one is there."""
        aside = self.folder / f"{name}.new"
        text = np.frombuffer(json.dumps(record).encode(), np.uint8)
        with storage(self.folder):
            try:
                with aside.open("wb") as file:
                    np.savez(file, **{"record": text, **arrays})  # type: ignore[arg-type]
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                aside.unlink(missing_ok=True)
                raise
            aside.replace(self._path(name))
            sync_folder(self.folder)

    def holds(self, name: str) -> bool:
        """Whether there is an entry."""
        return self._path(name).exists()

    @property
    def unfinished(self) -> bool:
        """Whether there is something to go on from: a job, or at least a model."""
        return self.holds("job") or self.holds("model")

    def load(self, name: str) -> Entry | None:
        """An entry, or None where there is none.

        Raises:
            FileError: It was damaged by others.
        """
        path = self._path(name)
        if not self.holds(name):
            return None
        try:
            with storage(path), path.open("rb") as file, np.load(file) as entry:
                arrays = dict(entry)
            return Entry(json.loads(arrays.pop("record").tobytes()), arrays)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise FileError(
                f"{path} is damaged ({error}): remove {self.folder} and start again."
            ) from error

    def clear(self, *kept: str) -> None:
        """Remove all but these entries; first the job, without which nothing else is believed."""
        first = [self._path(name) for name in ("job", "model")]
        with storage(self.folder):
            for path in [*first, *self.folder.iterdir()]:
                if path.stem in ("lock", *kept):
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
                sync_folder(self.folder)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep other processes off it until the block ends.

        Where the block leaves no job, what stays of the folder is a model, or nothing.

        Raises:
            FileError: Another process is at work on the same output; the folder cannot be made;
                or what the system refused in the block, with what that means for the work.
        """
        with self._lock():
            try:
                yield
            except StorageError as error:
                raise self._refused(error) from error
            finally:
                self._tidy()

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):
            if not self.holds("job"):
                self.clear("model")
            if not self.unfinished:
                (self.folder / "lock").unlink(missing_ok=True)
                self.folder.rmdir()  # unless another process has just locked it

    def _refused(self, error: StorageError) -> FileError:
        full = error.errno in FULL
        what = "there is no room left" if full else "the work could not go on"
        advice = f"{'make room' if full else 'mend that'} and start the same again"
        if self.holds("job"):
            advice = f"nothing is lost: {advice}, it goes on where it stopped"
        return FileError(f"{what} in {self.folder} ({error}): {advice}.")

    def _lock(self) -> contextlib.AbstractContextManager[Any]:
        """A lock that ends with the process, however that ends."""
        path = self.folder / "lock"
        try:
            self.folder.mkdir(exist_ok=True)
            if sys.platform == "win32":
                return contextlib.nullcontext()
            file = path.open("wb")
        except OSError as error:
            raise FileError(
                f"{self.folder} cannot be made or written to ({error.strerror}): choose another "
                "place for the output."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except (BlockingIOError, FileNotFoundError):
            pass  # it is held; or, just now, was removed with the folder by who held it
        file.close()
        raise FileError(f"another process is at work in {self.folder}: wait for it, or end it.")

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


def sync_folder(folder: Path) -> None:
    """Make renames in a folder outlive a loss of power, where the system can."""
    if sys.platform == "win32":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
