"""Imp% in both protocols, and critical-difference diagrams."""

import numpy as np
import pandas as pd

from . import bars, ranks, summary
from .copies import PURE_NOISE
from .methods import lacking
from .scores import AUTHORS, HIGHER, OURS, blocks

MOST = 100.0
"""Imp% that bars reach to, up and down."""


def draw(scores: pd.DataFrame, folder) -> list:
    """One file of Imp% for each kind of copy, and one of diagrams for each measure.

    Args:
        scores: From `scores.scored`.
        folder: Where the files go.

    Returns:
        Their paths.
    """
    paths = [both_protocols(scores, copy, folder) for copy in scores["copy"].unique()]
    for measure, methods in summary.compared(scores):
        if path := diagrams(scores, measure, methods, folder):
            paths.append(path)
    return paths


def both_protocols(scores, copy, folder):
    """Two bars for each method, means over data sets."""
    from matplotlib.figure import Figure

    found = scores[scores["copy"] == copy].groupby("method")[[OURS, AUTHORS]].mean()
    found = summary.in_order(found)
    figure = Figure(figsize=(0.8 * len(found) + 2.5, 4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(found))
    labels = {OURS: "ours: tested on untouched rows", AUTHORS: "authors': on refined rows"}
    for offset, (column, label) in zip((-0.2, 0.2), labels.items(), strict=True):
        values = found[column].fillna(0)
        drawn = axes.bar(places + offset, values.clip(-MOST, MOST), 0.4, label=label)
        axes.bar_label(drawn, [str(round(v)) for v in values], fontsize=7)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(places, found.index, rotation=30, ha="right")
    axes.set_ylabel("Imp%")
    axes.set_ylim(-MOST * 1.1, MOST * 1.1)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    title = "the target is pure noise" if copy == PURE_NOISE.name else copy
    axes.set_title(f"Error of downstream models, {title}")
    return saved(figure, folder, f"imp {copy}")


def diagrams(scores, measure, methods, folder):
    """A critical-difference diagram for each scale of noise, where there are ranks to draw."""
    from matplotlib.figure import Figure

    found = {c: blocks(scores, measure, c, methods) for c in bars.noisy_copies(scores)}
    found = {c: v for c, v in found.items() if v.shape[1] > 2 and len(v) > 1}
    if not found or lacking(["scikit_posthocs"]):
        return None
    from scikit_posthocs import critical_difference_diagram

    figure = Figure(figsize=(8, 2.6 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), squeeze=False)[:, 0]
    for axes, (copy, values) in zip(panels, found.items(), strict=True):
        column = ranks.mean_ranks(values, measure in HIGHER)
        critical_difference_diagram(column, ranks.nemenyi(values), ax=axes)
        p = ranks.friedman(values)
        apart = ranks.critical_difference(values.shape[1], len(values))
        axes.set_title(
            f"{summary.LABELS[measure]}, {copy} (best at the left): {len(values)} data sets, "
            f"Friedman p {p:.2g}, critical difference {apart:.2f}",
            fontsize=9,
        )
    return saved(figure, folder, f"ranks {measure}")


def saved(figure, folder, name):
    path = folder / f"{name}.png".replace(" ", "_").replace("%", "")
    figure.savefig(path, dpi=150)
    return path
