"""How near a refined frame is to the clean one."""

from typing import NamedTuple

import numpy as np

from . import downstream
from .problems import DataSet

VERSION = "1"
"""Part of the key of every cell: change it when a measure changes."""


NINETY = 1.645
"""Standard deviations that hold 90 % of a Gaussian."""


class Measure(NamedTuple):
    """One number: of which part of the data, what, how much."""

    part: str
    measure: str
    value: float


def parts(data: DataSet) -> dict[str, list[str]]:
    """Columns of each measured part: all together, X, y, and each by itself."""
    columns = list(data.columns)
    groups = {
        "all": columns,
        "X": [c for c in columns if c != data.target],
        "y": [c for c in columns if c == data.target],
    }
    groups |= {f"column {c}": [c] for c in columns}
    return {part: chosen for part, chosen in groups.items() if chosen}


def distances(data: DataSet, noisy, refined) -> list[Measure]:
    """Error of the refined data over that of the noisy data, for every part.

    Where a part got no noise there is no ratio; its "move" is the root mean square of the change,
    in standard deviations.
    """
    found = []
    for part, columns in parts(data).items():
        error = root_mean_square(data, refined, columns)
        given = root_mean_square(data, noisy, columns)
        name, value = ("error ratio", error / given) if given > 0 else ("move", error)
        found.append(Measure(part, name, value))
    return found


def root_mean_square(data: DataSet, frame, columns) -> float:
    """Distance of these columns to the clean ones, in their standard deviations."""
    apart = (frame[columns] - data.train[columns]) / data.scale[columns]
    return float(np.sqrt((apart.to_numpy() ** 2).mean()))


def resemblance(data: DataSet, refined) -> list[Measure]:
    """Sliced Wasserstein and correlation distance to the clean data, columns scaled."""
    import jax

    from denograd_jax import metrics

    columns = list(data.columns)
    clean, ours = ((f[columns] / data.scale).to_numpy() for f in (data.train, refined))
    swd = metrics.sliced_wasserstein(clean, ours, key=jax.random.key(0))
    found = [Measure("all", "sliced wasserstein", swd)]
    if len(columns) > 1:
        distance = metrics.correlation_distance(clean, ours)
        found.append(Measure("all", "correlation distance", distance))
    return found


def usefulness(data: DataSet, baseline: dict[str, float], refined) -> list[Measure]:
    """Error on clean held-out data of models trained on the refined data, over that of the noisy.

    Args:
        data: Its `test` is predicted.
        baseline: `downstream.errors` of the noisy data.
        refined: What the models are trained on.
    """
    found = downstream.errors(data, refined)
    return [Measure("test", f"{k} error ratio", found[k] / baseline[k]) for k in found]


def coverage(data: DataSet, refined) -> list[Measure]:
    """Share of the clean values within the 90 % error bars, of the cells that have one."""
    errors = refined.attrs.get("standard errors")
    if errors is None:
        return []
    columns = [c for c in data.columns if c in errors]
    apart = (refined[columns] - data.train[columns]).abs().to_numpy()
    known = (errors[columns] > 0).to_numpy()
    if not known.any():
        return []
    inside = apart <= NINETY * errors[columns].to_numpy()
    return [
        Measure("all", "coverage", float(inside[known].mean())),
        Measure("all", "cells with error bars", float(known.mean())),
    ]


def all_measures(data: DataSet, noisy, baseline, refined) -> list[Measure]:
    """Everything that is measured of a cell but its time."""
    return [
        *distances(data, noisy, refined),
        *resemblance(data, refined),
        *usefulness(data, baseline, refined),
        *coverage(data, refined),
    ]
