"""The report's pictures: Matplotlib by its object API, as SVG that follows the page's colours.

Nothing here uses pyplot or leaves a Matplotlib setting changed, and no text of the user's gets
into a picture (but the README's): names of columns stand in the captions around it.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denograd_jax._frames._timeline import GAP
from denograd_jax.report import _diagnostics
from denograd_jax.report._summaries import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Draw",
    "Figure",
    "before_after",
    "change_scatter",
    "drift_over_time",
    "error_left",
    "histograms",
    "inline_svg",
    "lags",
    "series_picture",
    "whole_series",
]

Values: TypeAlias = NDArray[Any]
Draw: TypeAlias = Callable[["Axes"], None]

# The page declares a variable of each name, which this value has in the light theme.
COLOURS = {
    "ink": "#1c2127",
    "line": "#d8dde3",
    "before": "#868f9b",
    "after": "#0b6bcb",
    "truth": "#b3470f",
}

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["line"],
    "axes.grid": True,
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "date.converter": "concise",
    "figure.constrained_layout.use": True,
    "font.size": 9.0,
    "font.sans-serif": ["DejaVu Sans"],
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["ink"],
    "svg.fonttype": "none",  # text stays text, in the page's font
    "xtick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.color": COLOURS["line"],
    "ytick.labelcolor": COLOURS["ink"],
}


class Figure(NamedTuple):
    """Pictures of one thing, with a caption."""

    title: str
    caption: str
    alt: str
    pictures: list[str]


def before_after(
    axes: "Axes",
    before: Values,
    after: Values,
    *,
    time: Values | None = None,
    truth: Values | None = None,
) -> None:
    """Draw a stretch of one series: before in grey, after in colour, and the truth if known.

    Cells that were missing and have a value now are circled.

    Args:
        axes: Where to draw.
        before: Values given, `(n,)`; NaN where missing.
        after: Values refined, `(n,)`.
        time: Time stamps or numbers, `(n,)`; without them the steps are counted from 0.
        truth: Values without noise, `(n,)`.
    """
    x = np.arange(len(before)) if time is None else time
    axes.plot(*_broken_at_gaps(x, before), color=COLOURS["before"], linewidth=1.1, label="before")
    if truth is not None:
        axes.plot(*_broken_at_gaps(x, truth), color=COLOURS["truth"], linewidth=1.1, label="true")
    axes.plot(*_broken_at_gaps(x, after), color=COLOURS["after"], linewidth=1.5, label="after")
    filled = np.isnan(before) & ~np.isnan(after)
    if filled.any():
        axes.plot(x[filled], after[filled], **_marks(COLOURS["truth"], "none"))
    axes.margins(x=0.01)


def whole_series(
    axes: "Axes", *, time: Values, before: Summary, after: Summary, breaks: Values, shown: Values
) -> None:
    """Draw a long series: bands from the lowest to the highest value, lines of means.

    Args:
        axes: Where to draw.
        time: When each bucket begins, `(B,)`.
        before: Values given, by bucket.
        after: Values refined, by bucket.
        breaks: Buckets that follow a gap.
        shown: First and last moment of the stretch that another picture shows.
    """
    axes.axvspan(shown[0], shown[1], color=COLOURS["line"], alpha=0.6)
    x = np.insert(time, breaks, time[breaks])
    for values, colour in ((before, COLOURS["before"]), (after, COLOURS["after"])):
        mean, low, high = (np.insert(part, breaks, np.nan) for part in values)
        axes.fill_between(x, low, high, color=colour, alpha=0.3, linewidth=0)
        axes.plot(x, mean, color=colour, linewidth=1)
    axes.margins(x=0.01)


def drift_over_time(axes: "Axes", *, time: Values, mean: Values, typical: Values) -> None:
    """Draw the mean change over time (line) and its root mean square (area), in deviations.

    Args:
        axes: Where to draw.
        time: When, `(M,)`.
        mean: Mean change with sign, `(M,)`.
        typical: Root mean square change, `(M,)`.
    """
    axes.fill_between(time, 0, typical, color=COLOURS["before"], alpha=0.35, linewidth=0)
    axes.axhline(0, color=COLOURS["before"], linewidth=1)
    axes.plot(time, mean, color=COLOURS["after"], linewidth=1.4)
    axes.set_ylabel("change (σ)")
    axes.margins(x=0.01)


def error_left(axes: "Axes", *, strength: Values, error: Values) -> None:
    """Draw the error that is left after corrections; strengths 0 and 1 are marked.

    Args:
        axes: Where to draw.
        strength: Of the correction, `(S,)`: 0 leaves the data as it is, 1 is what "auto" does.
        error: In units of what it is at strength 0, `(S,)`.
    """
    axes.plot(strength, error, color=COLOURS["after"], linewidth=1.4)
    marks = ((0, "before", "left as it is", (8, 9)), (1, "after", "what auto did", (0, -16)))
    for at, colour, words, away in marks:
        there = at, float(np.interp(at, strength, error))
        axes.plot(*there, color=COLOURS[colour], marker="o", clip_on=False, zorder=3)
        axes.annotate(words, there, xytext=away, textcoords="offset points", color=COLOURS["ink"])
    axes.set_ylim(0, 1.25 * error.max())
    axes.set_xlim(strength[0], strength[-1])
    axes.locator_params(axis="x", nbins=4)
    axes.yaxis.set_major_formatter(lambda part, _: f"{part:.0%}")
    axes.set_xlabel("strength of the correction")
    axes.set_ylabel("error left")


def lags(axes: "Axes", *, before: Values, after: Values) -> None:
    """Draw correlations of residuals with those some rows later, before and after.

    Args:
        axes: Where to draw.
        before: At lags of 1 row and more, `(L,)`.
        after: The same after the refinement.
    """
    lag = np.arange(1, len(before) + 1)
    axes.axhline(0, color=COLOURS["line"], linewidth=1)
    axes.bar(lag - 0.2, before, 0.4, color=COLOURS["before"])
    axes.bar(lag + 0.2, after, 0.4, color=COLOURS["after"])
    axes.set_xlabel("lag (rows)")
    axes.set_ylabel("autocorrelation")


def histograms(axes: "Axes", before: Values, after: Values) -> None:
    """Draw the distribution before (grey, filled) and after (coloured line) in common bins.

    Args:
        axes: Where to draw.
        before: Values, `(n,)`; NaN where missing.
        after: Values, `(m,)`.
    """
    edges, counts, counts_after = _diagnostics.distribution(before, after)
    axes.stairs(counts, edges, fill=True, color=COLOURS["before"], alpha=0.55)
    axes.stairs(counts_after, edges, color=COLOURS["after"], linewidth=1.4)
    axes.locator_params(axis="x", nbins=5)
    axes.set_ylabel("count")


def change_scatter(axes: "Axes", before: Values, after: Values, *, points: int = 600) -> None:
    """Draw the change of evenly spaced rows against their value before.

    Args:
        axes: Where to draw.
        before: Values, `(n,)`; NaN where missing.
        after: Values, `(n,)`.
        points: Most rows drawn.
    """
    observed = np.flatnonzero(np.isfinite(before) & np.isfinite(after))
    rows = observed[np.linspace(0, len(observed) - 1, min(points, len(observed))).astype(int)]
    axes.axhline(0, color=COLOURS["before"], linewidth=1)
    before, change = before[rows], after[rows] - before[rows]
    axes.plot(before, change, alpha=0.5, **_marks("none", COLOURS["after"]))
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("value before")
    axes.set_ylabel("change")


def inline_svg(draw: Draw, *, name: str, size: tuple[float, float]) -> str:
    """A picture as an `<svg>` element for an HTML page.

    Args:
        draw: Draws on the axes it is given.
        name: Unique within the page; keeps the identifiers of several pictures apart.
        size: Width and height in inches; the page scales the picture to the room there is.

    Returns:
        The element. Its colours are the page's variables `--ink`, `--before` and so on.
    """
    svg = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    _save(draw, svg, size, format="svg", metadata=no_metadata, transparent=True, salt=name)
    return _as_element(svg.getvalue())


def series_picture(
    path: str | Path,
    before: Values,
    after: Values,
    *,
    time: Values | None = None,
    truth: Values | None = None,
    label: str = "",
    size: tuple[float, float] = (9.0, 3.2),
) -> None:
    """Write a picture of a repaired stretch of one series, as for a README.

    Args:
        path: File to write; its suffix says whether PNG or SVG.
        before: Values given, `(n,)`; NaN where missing.
        after: Values refined, `(n,)`.
        time: Time stamps or numbers, `(n,)`.
        truth: Values without noise, `(n,)`.
        label: What is drawn, with its unit.
        size: Width and height in inches.
    """

    def draw(axes: "Axes") -> None:
        before_after(axes, before, after, time=time, truth=truth)
        axes.set_ylabel(label, parse_math=False)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)

    _save(draw, path, size, dpi=160, salt="picture")


def _save(
    draw: Draw,
    file: str | Path | io.StringIO,
    size: tuple[float, float],
    *,
    salt: str,
    **options: Any,
) -> None:
    # Imported here: Matplotlib is an extra.
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE | {"svg.hashsalt": salt}]):
        figure = Figure(figsize=size)
        draw(figure.add_subplot())
        figure.savefig(file, **options)


def _marks(edge: str, face: str) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": "o",
        "markersize": 3 if edge == "none" else 4.5,
        "markeredgecolor": edge,
        "markeredgewidth": 0 if edge == "none" else 1,
        "markerfacecolor": face,
    }


def _as_element(svg: str) -> str:
    """The bare element of an SVG file: no namespaces, no group names, colours by variable."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", element).replace("xlink:href", "href")
    element = re.sub(r'<g id="[^"]*"', "<g", element)
    # Matplotlib's style element would reach every element of the page; the page has its own.
    element = re.sub(r"<style.*?</style>", "", element, flags=re.DOTALL)
    for name, colour in COLOURS.items():
        element = element.replace(colour, f"var(--{name})")
    return element


def _broken_at_gaps(x: Values, y: Values) -> tuple[Values, Values]:
    """The line with a hole wherever `refine` sees a gap in time as well."""
    if len(x) < 3:
        return x, y
    steps = np.diff(x)
    gaps = np.flatnonzero(steps > GAP * np.median(steps)) + 1
    return np.insert(x, gaps, x[gaps]), np.insert(y.astype(np.float64), gaps, np.nan)
