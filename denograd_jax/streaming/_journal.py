"""A folder beside the output that tells that it is unfinished, and holds all it takes to go on."""

import contextlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from denograd_jax.errors import FileError
from denograd_jax.streaming._arrays import FULL

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

    def load(self, name: str) -> Entry | None:
        """An entry, or None where there is none.

        Raises:
            FileError: It was damaged by others.
        """
        path = self._path(name)
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as entry:
                arrays = dict(entry)
            return Entry(json.loads(arrays.pop("record").tobytes()), arrays)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise FileError(
                f"{path} is damaged ({error}): remove {self.folder} and start again."
            ) from error

    def forget(self, *names: str) -> None:
        """Remove entries, in this order."""
        for name in names:
            self._path(name).unlink(missing_ok=True)
            sync_folder(self.folder)

    def discard(self) -> None:
        """Remove the folder: nothing is unfinished any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep other processes off it until the block ends.

        Raises:
            FileError: Another process is at work on the same output; or what the system refused
                in the block, with what that means for the work.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            with (self.folder / "lock").open("wb") as file:
                self._lock(file)
                yield
        except OSError as error:
            full = error.errno in FULL
            raise FileError(
                f"{'there is no room left' if full else 'the work could not go on'} in "
                f"{self.folder} ({error}). Nothing is lost: {'make room' if full else 'mend that'} "
                "and start the same again, it goes on where it stopped."
            ) from error

    def _lock(self, file: IO[bytes]) -> None:
        """A lock that ends with the process, however that ends."""
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileError(
                f"another process is at work in {self.folder}: wait for it, or end it."
            ) from None

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
