"""Output files: checked before the work, written whole and together after it."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from denograd_jax.errors import FileError

__all__ = ["check_folder", "check_outputs", "written_together"]


def check_outputs(outputs: Sequence[Path], source: Path, *, overwrite: bool) -> None:
    """Refuse, before any work is done, outputs that could not or must not be written.

    Raises:
        FileError: The folder is missing or read-only, the file exists and `overwrite` is not set,
            it is a folder, it is the input, or it is named twice.
    """
    for number, path in enumerate(outputs):
        if path.is_dir():
            raise FileError(f"{path} is a folder: name a file in it.")
        if not path.parent.is_dir():
            raise FileError(f"the folder {path.parent} does not exist: create it first.")
        if not os.access(path.parent, os.W_OK):
            raise FileError(f"{path.parent} may not be written to: choose another folder.")
        if path.exists() and source.exists() and path.samefile(source):
            raise FileError(f"{path} is the input, which is never replaced: choose another name.")
        if path.resolve() in [other.resolve() for other in outputs[:number]]:
            raise FileError(f"{path} is named for two outputs: choose another name for one.")
        if path.exists() and not overwrite:
            raise FileError(f"{path} exists: choose another name, or add --overwrite.")


def check_folder(folder: Path) -> None:
    """Refuse a folder that neither is there nor could be made.

    Raises:
        FileError: It, or the nearest existing folder above it, cannot be written to.
    """
    nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise FileError(f"{nearest} is a file, not a folder: choose another folder.")
    if not os.access(nearest, os.W_OK):
        raise FileError(f"{nearest} may not be written to: choose another folder.")


@contextlib.contextmanager
def written_together() -> Iterator[Callable[[Path], Path]]:
    """A function that gives, for each output, a path to write it to aside.

    The stand-ins lie in temporary folders beside the outputs and keep their names. When the block
    ends they are renamed to the outputs, all at once; when it fails they vanish and the outputs
    are as they were.

    Raises:
        FileError: A folder or file could not be written.
    """
    renames: list[tuple[Path, Path]] = []
    with contextlib.ExitStack() as folders:

        def aside(path: Path) -> Path:
            folder = tempfile.TemporaryDirectory(prefix=".denograd-", dir=path.parent)
            stand_in = Path(folders.enter_context(folder)) / path.name
            renames.append((stand_in, path))
            return stand_in

        try:
            yield aside
            for stand_in, path in renames:
                stand_in.replace(path)
        except OSError as error:
            raise FileError(f"the output could not be written: {error}") from error
