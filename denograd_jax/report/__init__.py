"""HTML pages that tell what was done or found; they need the extra `denograd-jax[report]`."""

import secrets
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from denograd_jax.errors import FileError, MissingExtraError

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement
    from denograd_jax.classification import NoisyRows

__all__ = ["write_noisy_rows_report", "write_report"]


def write_report(refinement: "Refinement", path: str | Path) -> None:
    """Write a report of a refinement as one HTML page that needs no network.

    The page says what was done and with what, shows the most changed columns before and after,
    lists the largest corrections and the gaps, and measures drift and residuals; after the rule
    "auto" it says how much noise was found and what taking it off should bring. Of a target of
    classes it says, in place of residuals, how well the model knows each class, and lists the
    labels that it finds least likely. All of that is
    read without JavaScript; with it, columns and groups are picked and zoomed into, and the
    corrections are searched. Long data are summarised to a fixed size, and said to be. The page
    is written whole or not at all; a file of that name is replaced.

    Args:
        refinement: What `refine` returned.
        path: File to write.

    Raises:
        FileError: The folder does not exist or the file cannot be written.
        MissingExtraError: Bokeh, Jinja2 or Matplotlib is not installed.
    """
    _refuse_unwritable(path := Path(path))
    _write_whole(path, _pages().render(refinement))


def write_noisy_rows_report(found: "NoisyRows", path: str | Path) -> None:
    """Write what `find_noisy` found as one HTML page that needs no network and no JavaScript.

    The page lists the most suspicious rows, says how many are worth a look, which classes are
    called by another's name, and how many rows of each class are. It is written whole or not at
    all; a file of that name is replaced.

    Args:
        found: What `find_noisy` returned.
        path: File to write.

    Raises:
        FileError: The folder does not exist or the file cannot be written.
        MissingExtraError: Bokeh, Jinja2 or Matplotlib is not installed.
    """
    _refuse_unwritable(path := Path(path))
    _write_whole(path, _pages().render_noisy_rows(found))


def _pages() -> ModuleType:
    try:
        import bokeh  # noqa: F401 - the page embeds its script
        import jinja2  # noqa: F401 - the page is a template
        import matplotlib  # noqa: F401 - the figures import it
    except ImportError as error:
        raise MissingExtraError(
            "A report needs Bokeh, Jinja2 and Matplotlib, and one of them is missing: "
            'run pip install "denograd-jax[report]".'
        ) from error
    from denograd_jax.report import _page

    return _page


def _refuse_unwritable(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileError(f"The folder {path.parent} does not exist; create it, then try again.")
    if path.is_dir():
        raise FileError(f"{path} is a folder; give the name of the file to write.")


def _write_whole(path: Path, text: str) -> None:
    """Write beside the file, then rename: a reader sees the old page or the new, never a part."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        # A label may hold half of a surrogate pair, which no file can.
        aside.write_text(text, "utf-8", errors="replace", newline="\n")
        aside.replace(path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        aside.unlink(missing_ok=True)
