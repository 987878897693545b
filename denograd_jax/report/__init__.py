"""One HTML page that tells what a refinement did; needs the extra `denograd-jax[report]`."""

import secrets
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from denograd_jax.errors import FileError, MissingExtraError

if TYPE_CHECKING:
    from denograd_jax._refinement import Refinement

__all__ = ["write_report"]


def write_report(refinement: "Refinement", path: str | Path) -> None:
    """Write a report of a refinement as one HTML page that needs no network.

    The page says what was done and with what, shows the most changed columns before and after,
    lists the largest corrections, and measures drift and residuals. It is written whole or not
    at all; a file of that name is replaced.

    Args:
        refinement: What `refine` returned.
        path: File to write.

    Raises:
        FileError: The folder does not exist or the file cannot be written.
        MissingExtraError: Jinja2 or Matplotlib is not installed.
    """
    path = Path(path)
    _refuse_unwritable(path)
    _write_whole(path, _render(refinement))


def _render(refinement: "Refinement") -> str:
    try:
        import jinja2
        import markupsafe
        import matplotlib  # noqa: F401 - the figures import it
    except ImportError as error:
        raise MissingExtraError(
            "A report needs Jinja2 and Matplotlib, and one of them is missing: "
            'run pip install "denograd-jax[report]".'
        ) from error
    from denograd_jax.report import _content

    files = resources.files(__package__)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"value": _content.value, "measure": _content.measure}
    template = environment.from_string(files.joinpath("page.html").read_text("utf-8"))
    style = markupsafe.Markup(files.joinpath("page.css").read_text("utf-8"))
    return template.render(style=style, **_content.contents(refinement))


def _refuse_unwritable(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileError(f"The folder {path.parent} does not exist; create it, then try again.")
    if path.is_dir():
        raise FileError(f"{path} is a folder; give the name of the file to write.")


def _write_whole(path: Path, text: str) -> None:
    """Write beside the file, then rename: a reader sees the old page or the new, never a part."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        aside.write_text(text, "utf-8")
        aside.replace(path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        aside.unlink(missing_ok=True)
