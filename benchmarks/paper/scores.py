"""From cells to scores: what refinement does for downstream models, in both protocols."""

import pandas as pd

from .grid import DISTANCES
from .measures import improvement
from .methods import NOTHING

COPY = ["data", "form", "copy", "seed"]
"""What tells noisy copies apart."""

NO_SCORE = ["failed", "seconds", "cpu seconds"]
OURS, AUTHORS = "Imp% untouched", "Imp% refined"
RATIO = "error ratio"
HIGHER = {OURS, AUTHORS, "rho"}
"""Scores of which more is better."""


def by_regressor(table: pd.DataFrame) -> pd.DataFrame:
    """Imp% of every regressor in both protocols, and the ratio of its error on untouched rows.

    Args:
        table: From `grid.table`.

    Returns:
        One line per copy, method and regressor. The baseline is the same regressor trained on the
        noisy rows: tested on the untouched rows (ours), or on the noisy ones (the authors').
    """
    found = table[table["measure"].isin(["mse untouched", "mse refined"])]
    wide = found.pivot_table(index=[*COPY, "part", "method"], columns="measure", values="value")
    wide = wide.reindex(columns=["mse untouched", "mse refined"]).reset_index()
    keys = [*COPY, "part"]
    before = wide[wide["method"] == NOTHING.name].drop(columns="method")
    both = wide.merge(before, on=keys, suffixes=("", " before"))
    ours, theirs = both["mse untouched"], both["mse refined"]
    both[OURS] = improvement(both["mse untouched before"], ours)
    both[AUTHORS] = improvement(both["mse refined before"], theirs)
    both[RATIO] = (ours / both["mse untouched before"]) ** 0.5
    return both[[*keys, "method", OURS, AUTHORS, RATIO]]


def scored(table: pd.DataFrame) -> pd.DataFrame:
    """All scores of every method on every copy, those of regressors averaged: one line each."""
    useful = by_regressor(table).groupby([*COPY, "method"])[[OURS, AUTHORS, RATIO]].mean()
    apart = table[(table["part"] == DISTANCES) & ~table["measure"].isin(NO_SCORE)]
    if apart.empty:
        return useful.reset_index()
    apart = apart.pivot_table(index=[*COPY, "method"], columns="measure", values="value")
    return useful.join(apart, how="outer").reset_index()


def blocks(scores: pd.DataFrame, measure: str, copy: str, methods) -> pd.DataFrame:
    """A score of each data set (row) and method (column), seeds averaged, on one kind of copy.

    Methods that lack a data set that others have are left out, since ranks would not compare.
    """
    if measure not in scores:
        return pd.DataFrame()
    found = scores[(scores["copy"] == copy) & scores["method"].isin(methods)]
    wide = found.pivot_table(index="data", columns="method", values=measure, aggfunc="mean")
    wide = wide.reindex(columns=[m for m in methods if m in wide])
    return wide.dropna(axis="columns")
