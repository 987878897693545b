"""Pages as text: template, style and scripts, and a policy that lets only these run."""

import base64
import functools
import gzip
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe
from bokeh.resources import Resources

from denograd_jax.report import _content, _explorer, _noise, _noisy_rows, _text

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement
    from denograd_jax.classification import NoisyRows

__all__ = ["render", "render_noisy_rows"]

FILES = resources.files(__package__)
EXPLORER = ("signals.js", "charts.js", "series.js", "table.js", "start.js")


def render(refinement: "Refinement") -> str:
    """The HTML of a refinement's report."""
    contents = _content.contents(refinement)
    data = contents.pop("data")
    scripts = [_enclosed("search.js")] if contents["corrections"] else []
    library, packed = _bokeh()
    if contents["explored"]:
        scripts.append(_enclosed(*EXPLORER))
    return _rendered(
        "refinement.html",
        title="Refinement report",
        policy=" ".join(map(_digest, [*scripts, library])),
        scripts=[markupsafe.Markup(script) for script in scripts],
        corrections_data=markupsafe.Markup(_explorer.as_json(contents["corrections"])),
        data=markupsafe.Markup(_explorer.as_json(data)),
        library=packed,
        **contents,
    )


def render_noisy_rows(found: "NoisyRows") -> str:
    """The HTML of what `find_noisy` found; it has no scripts."""
    contents = _noisy_rows.contents(found)
    return _rendered("noisy_rows.html", title="Noisy labels", policy="'none'", **contents)


def _rendered(template: str, **contents: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "estimate": _noise.estimate,
        "measure": _text.measure,
        "short": _text.short,
        "value": _text.value,
    }
    style = markupsafe.Markup(_read("page.css"))
    return environment.get_template(template).render(style=style, **contents)


def _read(name: str) -> str:
    return FILES.joinpath(name).read_text("utf-8")


def _enclosed(*names: str) -> str:
    """One script of files that share their names, and leave none to the page."""
    files = "\n".join(map(_read, names))
    return f'"use strict";\n(() => {{\n{files}}})();\n'


def _digest(script: str) -> str:
    """The source expression that allows exactly this script in a Content-Security-Policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@functools.cache
def _bokeh() -> tuple[str, str]:
    """BokehJS, and the same compressed as base64: a third of its size, in every page."""
    parts = Resources(mode="inline", components=["bokeh", "bokeh-api"], minified=True).js_raw
    # The last part only sets the level of its log.
    library = "\n".join(part for part in parts if not part.startswith("Bokeh."))
    packed = gzip.compress(library.encode(), 9, mtime=0)
    return library, base64.b64encode(packed).decode()
