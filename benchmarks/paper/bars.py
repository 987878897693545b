"""The bars that the study is measured by.

Under the authors' protocol: the mean ranks of the study's eight methods. Under ours: the mean rank
of `auto` in downstream error among the methods that do not raise it on clean data, judged by the
mean over data sets or on each, and in distance to the clean data among those and among all.
"""

import pandas as pd

from . import ranks
from .methods import AUTO, METHODS, NOTHING, RANKED
from .scores import AUTHORS, HIGHER, RATIO, blocks

CLEAN = "sigma 0.0"
NO_HARM = 1.01
"""Ratio of downstream errors on clean data up to which a method does no harm."""

EIGHT = [m.name for m in METHODS if m.study]
PUBLISHED = {AUTHORS: 3.10, "SWD to noisy": 1.70, "rho": 2.10}
"""Of DenoGrad in the study, over its ten data sets."""

OURS = [RATIO, "SWD to clean", "correlation distance"]


def published(scores: pd.DataFrame, copy: str) -> pd.DataFrame:
    """Mean ranks of the eight methods on a kind of copy, by measure of the authors' protocol."""
    return ranked(scores, PUBLISHED, copy, EIGHT)


def harmless(scores: pd.DataFrame, each: bool = False) -> list[str]:
    """Methods whose downstream error on clean, untouched rows is not raised.

    Args:
        scores: From `scores.scored`.
        each: Whether it must not be raised on any data set; on their mean if not.
    """
    ratios = blocks(scores, RATIO, CLEAN, RANKED)
    judged = ratios.max() if each else ratios.mean()
    return [m for m in RANKED if m == NOTHING.name or judged.get(m, float("inf")) <= NO_HARM]


def honest(scores: pd.DataFrame, copy: str) -> dict[str, pd.DataFrame]:
    """Mean ranks on a kind of copy, by measure of our protocol; the keys say of which methods."""
    return {
        "among the harmless": ranked(scores, OURS, copy, harmless(scores)),
        "among the harmless on each data set": ranked(
            scores, [RATIO], copy, harmless(scores, each=True)
        ),
        "of all": ranked(scores, OURS, copy, RANKED),
    }


def ranked(scores, measures, copy, methods):
    """Mean ranks, method by measure; empty columns where there is nothing to compare."""
    found = {}
    for measure in measures:
        values = blocks(scores, measure, copy, methods)
        found[measure] = ranks.mean_ranks(values, measure in HIGHER) if len(values) else None
    wide = pd.DataFrame({k: v for k, v in found.items() if v is not None})
    return wide.reindex([m for m in methods if m in wide.index]).rename_axis("method")


def lines(scores: pd.DataFrame) -> list[str]:
    """Each bar as a sentence: the figure, and what it is held against."""
    said = []
    if AUTO in set(scores["method"]) and AUTO not in harmless(scores):
        said.append(f"{AUTO} raised the error on clean data, or was not tried on it: not ranked")
    for copy in noisy_copies(scores):
        theirs = published(scores, copy)
        for measure, figure in PUBLISHED.items():
            said.append(bar(theirs, measure, "unit_step", copy, f"published: {figure:.2f} of 8"))
        for which, ours in honest(scores, copy).items():
            said += [bar(ours, measure, AUTO, copy, which) for measure in OURS]
    return [line for line in said if line]


def bar(wide, measure, method, copy, remark):
    if measure not in wide or method not in wide.index:
        return None
    column = wide[measure].dropna()
    rank, best = column[method], column.idxmin()
    return (
        f"{copy}, {measure}: mean rank of {method} {rank:.2f} of {len(column)} ({remark}); "
        f"best: {best} {column[best]:.2f}"
    )


def noisy_copies(scores) -> list[str]:
    """Kinds of copy with a scale of noise, that of clean data among them."""
    return sorted(c for c in scores["copy"].unique() if c.startswith("sigma"))
