"""What the page of `find_noisy` says: suspicious rows, and which classes are mistaken for which."""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax.report._figures import COLOURS, Figure, inline_svg
from denograd_jax.report._text import listed, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from denograd_jax.classification import NoisyRows

__all__ = ["contents"]

MOST_ROWS = 100
MOST_PAIRS = 12
MOST_CLASSES = 100


class Line(NamedTuple):
    """A row: its given and its likeliest label, the chances that they are wrong and right."""

    row: str
    label: Any
    suggested: Any
    wrong: float
    right: float
    score: float


class Pair(NamedTuple):
    """A mistake: rows called one class that are another, and their share of those called so."""

    called: Any
    truly: Any
    rows: float
    share: float


class ClassLine(NamedTuple):
    """A class: rows of its name and the share that is wrong, rows of it and the share missed."""

    name: Any
    called: float
    wrong: float
    truly: float
    missed: float


def contents(found: "NoisyRows") -> dict[str, Any]:
    """Everything that the page's template shows, by name."""
    counts = found.joint * int((found.labels.codes >= 0).sum())
    pairs, classes = _pairs(counts), _classes(counts)
    return {
        "verdict": found.in_words(),
        "settings": listed(found.settings),
        "rows": len(found.table),
        "named": _named(found.table),
        "lines": _lines(found),
        "panels": _panels(found),
        "pairs": pairs[:MOST_PAIRS],
        "all_pairs": len(pairs),
        "classes": classes[:MOST_CLASSES],
        "all_classes": len(classes),
    }


def _lines(found: "NoisyRows") -> list[Line]:
    first = found.top(MOST_ROWS)
    right = found.posterior.to_numpy().max(axis=1)[first["row"]]
    columns = first[["label", "suggested", "label_wrong", "feature_score"]].to_numpy(object).T
    label, suggested, wrong, score = columns
    lines = zip(_row_names(first), label, suggested, wrong, right, score, strict=True)
    return [Line(*line) for line in lines]


def _row_names(lines: pd.DataFrame) -> list[str]:
    """Positions, and labels where the index says more."""
    rows = lines["row"].astype(str).tolist()
    if not _named(lines):
        return rows
    return [f"{row} · {short(label)}" for row, label in zip(rows, lines.index, strict=True)]


def _named(lines: pd.DataFrame) -> bool:
    return not lines.index.equals(pd.Index(lines["row"]))


def _pairs(counts: pd.DataFrame) -> list[Pair]:
    """The mistakes that are expected in half a row or more, the most frequent first."""
    mistaken = counts.to_numpy() * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-mistaken, axis=None, kind="stable")[: int((mistaken >= 0.5).sum())]
    called = counts.to_numpy().sum(axis=0)
    return [
        Pair(
            counts.columns[given],
            counts.index[true],
            mistaken[true, given],
            mistaken[true, given] / called[given],
        )
        for true, given in zip(*np.unravel_index(order, mistaken.shape), strict=True)
    ]


def _classes(counts: pd.DataFrame) -> list[ClassLine]:
    """The largest classes first."""
    called, truly = (counts.to_numpy().sum(axis=axis) for axis in (0, 1))
    right = np.diag(counts)
    with np.errstate(invalid="ignore"):  # a class may have no row of its name, or none of it
        wrong, missed = 1 - right / called, 1 - right / truly
    lines = map(ClassLine, counts.index, called, wrong, truly, missed)
    return sorted(lines, key=lambda line: -line.called)


def _panels(found: "NoisyRows") -> list[Figure]:
    wrong = np.sort(found.table["label_wrong"].dropna())[::-1]
    reached = np.cumsum(wrong) / max(wrong.sum(), 1e-12)
    half, most = (int(np.searchsorted(reached, share)) + 1 for share in (0.5, 0.9))
    return [
        Figure(
            "How sure it is",
            "Rows by the probability that their label is wrong. Near 0 and 1 it is sure.",
            "Histogram of the probabilities that labels are wrong, counts on a logarithmic scale",
            [_drawn(functools.partial(_histogram, wrong=wrong), "sure")],
        ),
        Figure(
            "How far to read",
            f"Of the wrong labels that are expected ({wrong.sum():,.1f}), half are among the "
            f"first {half:,} rows of the ranking, nine in ten among the first {most:,}.",
            "Line chart of the share of wrong labels found against the number of rows read",
            [_drawn(functools.partial(_found_by, reached=reached), "read")],
        ),
    ]


def _drawn(draw: Any, name: str) -> str:
    return inline_svg(draw, name=name, size=(4.8, 2.2))


def _histogram(axes: "Axes", *, wrong: NDArray[np.float64]) -> None:
    axes.hist(wrong, np.linspace(0, 1, 21).tolist(), color=COLOURS["before"])
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.xaxis.set_major_formatter(lambda part, _: f"{part:.0%}")
    axes.set_xlabel("probability that the label is wrong")
    axes.set_ylabel("rows")


def _found_by(axes: "Axes", *, reached: NDArray[np.float64]) -> None:
    """Up to where nearly all is found: what follows is flat."""
    shown = min(len(reached), int(np.searchsorted(reached, 0.99)) + 2)
    axes.plot(np.arange(shown + 1), [0, *reached[:shown]], color=COLOURS["after"], linewidth=1.4)
    axes.yaxis.set_major_formatter(lambda part, _: f"{part:.0%}")
    axes.locator_params(axis="x", nbins=5, integer=True)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    axes.set_xlabel("rows read, the most suspicious first")
    axes.set_ylabel("wrong labels found")
