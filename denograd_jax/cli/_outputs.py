"""Output files: checked before the work, written whole and together after it."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from denograd_jax.cli._extras import require
from denograd_jax.cli._sources import reason, refuse_missing
from denograd_jax.errors import FileError

__all__ = ["check_folder", "check_outputs", "check_page", "written_together"]


def check_outputs(outputs: Sequence[Path], source: Path, *, overwrite: bool) -> None:
    """Refuse, before any work is done, outputs that could not or must not be written.

    Raises:
        FileError: The folder is missing or read-only, the file exists and `overwrite` is not set,
            it is a folder, it is the input, or it is named twice; or there is no input.
    """
    refuse_missing(source)
    for number, path in enumerate(outputs):
        try:
            _check_output(path, source, outputs[:number], overwrite=overwrite)
        except OSError as error:
            raise FileError(f"{path} cannot be written: {reason(error)}") from None


def check_page(path: Path) -> None:
    """Refuse a page that could not be written or opened.

    Raises:
        FileError: Its name ends otherwise than a page's.
        MissingExtraError: The extra for reports is not installed.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise FileError(f"{path} would be an HTML page: let its name end in .html.")
    require("a report", "jinja2", "matplotlib")


def _check_output(path: Path, source: Path, others: Sequence[Path], *, overwrite: bool) -> None:
    if path.is_dir():
        raise FileError(f"{path} is a folder: name a file in it.")
    _refuse_folder(path.parent)
    if path.exists() and path.samefile(source):
        raise FileError(f"{path} is the input, which is never replaced: choose another name.")
    if path.resolve() in [other.resolve() for other in others]:
        raise FileError(f"{path} is named for two outputs: choose another name for one.")
    if os.path.lexists(path) and not overwrite:  # also a link to nowhere
        raise FileError(f"{path} exists: choose another name, or add --overwrite.")


def _refuse_folder(folder: Path) -> None:
    if not folder.exists():
        raise FileError(f"the folder {folder} does not exist: create it first.")
    if not folder.is_dir():
        raise FileError(f"{folder} is a file, not a folder: choose another folder.")
    try:
        _folder_in(folder).cleanup()
    except OSError:
        raise FileError(f"{folder} may not be written to: choose another folder.") from None


def _folder_in(folder: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=".denograd-", dir=folder)


def check_folder(folder: Path) -> None:
    """Refuse a folder that neither is there nor could be made.

    Raises:
        FileError: It, or the nearest existing folder above it, cannot be written to.
    """
    try:
        nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    except OSError as error:
        raise FileError(f"{folder} cannot be made: {reason(error)}") from None
    _refuse_folder(nearest)


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
            stand_in = Path(folders.enter_context(_folder_in(path.parent))) / path.name
            renames.append((stand_in, path))
            return stand_in

        try:
            yield aside
            for stand_in, path in renames:
                stand_in.replace(path)
        except OSError as error:
            which = f" ({Path(error.filename).name})" if error.filename else ""
            raise FileError(f"the output could not be written{which}: {reason(error)}") from error
