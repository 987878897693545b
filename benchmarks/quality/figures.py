"""Heat maps: the ratio of a method for each data set and kind of noise."""

import numpy as np
import pandas as pd

from .summary import ERROR

DARKEST = 1.0
"""A ratio of 2 or of 0: as far from doing nothing as the colours tell."""


def draw(table: pd.DataFrame, folder) -> list:
    """One file for each of our methods, and one for the best practitioner's method of each kind.

    Args:
        table: From `grid.table`.
        folder: Where the files go.

    Returns:
        Their paths.
    """
    found = table[(table["part"] == "all") & (table["measure"] == ERROR)]
    paths = []
    for method in found.loc[found["family"] == "ours", "method"].unique():
        paths.append(heat_map(found[found["method"] == method], method, folder))
    for kind in ("series", "rows"):
        if best := best_practice(found[found["kind"] == kind]):
            chosen = found[(found["method"] == best) & (found["kind"] == kind)]
            paths.append(heat_map(chosen, f"{best} (best for {kind})", folder))
    return paths


def best_practice(found):
    """The practitioner's method with the lowest mean among those with every cell of its kind."""
    practice = found[found["family"] == "practice"]
    if practice.empty:
        return None
    methods = practice.groupby("method")["value"].agg(["mean", "count"])
    return methods.loc[methods["count"] == methods["count"].max(), "mean"].idxmin()


def heat_map(found, title, folder):
    """Blue is better than doing nothing, red is worse."""
    from matplotlib.figure import Figure

    wide = found.pivot_table(index="data", columns="noise", values="value", aggfunc="mean")
    wide = wide.loc[found["data"].unique(), found["noise"].unique()]
    height = 1.8 + 0.35 * len(wide)
    figure = Figure(figsize=(2.5 + 0.9 * wide.shape[1], height), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(wide, cmap="RdBu_r", vmin=1 - DARKEST, vmax=1 + DARKEST, aspect="auto")
    axes.set_xticks(range(wide.shape[1]), wide.columns, rotation=30, ha="right")
    axes.set_yticks(range(len(wide)), wide.index)
    for (i, j), value in np.ndenumerate(wide.to_numpy()):
        if np.isfinite(value):
            dark = abs(value - 1) > 0.7 * DARKEST
            axes.text(
                j, i, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black"
            )
    axes.set_title(f"{title}: error ratio, all columns")
    figure.colorbar(image, label="below 1: nearer to the clean data")
    path = folder / f"heat {title}.png".replace(" ", "_").replace("(", "").replace(")", "")
    figure.savefig(path, dpi=150)
    return path
