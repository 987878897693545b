"""Kinds of noise, on columns scaled to a standard deviation of one.

Each draws an array of rows x columns; `target` says which columns are the target.
"""

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pandas as pd

from .problems import DataSet

VERSION = "1"
"""Part of the key of every cell: change it when what is drawn changes."""

MEMORY = 0.8  # of the AR(1) noise, from one step to the next
SPIKES = 0.02  # part of the cells that a spike hits
DIRTY_ROWS = 0.1


@dataclass(frozen=True)
class Noise:
    """A kind of noise.

    Attributes:
        name: As in the tables.
        draw: `draw(rng, rows, target)` gives the noise in standard deviations.
        needs: Parts of the data that must be there: "X", "y".
        kinds: Kinds of data on which it means something.
    """

    name: str
    draw: Callable[[np.random.Generator, int, np.ndarray], np.ndarray]
    needs: str = ""
    kinds: tuple[str, ...] = ("series", "rows")

    def applies(self, data: DataSet) -> bool:
        """Whether there is anything that it can be added to."""
        has_y = data.target in data.columns
        there = {"X": len(data.columns) > has_y, "y": has_y}
        return data.kind in self.kinds and all(there[part] for part in self.needs)


def gaussian(scale):
    return lambda rng, rows, target: scale * rng.normal(size=(rows, len(target)))


def only_y(rng, rows, target):
    return gaussian(0.3)(rng, rows, target) * target


def only_x(rng, rows, target):
    return gaussian(0.3)(rng, rows, target) * ~target


def one_column(rng, rows, target):
    """In one column other than the target, drawn too."""
    hit = np.arange(len(target)) == rng.choice(np.flatnonzero(~target))
    return gaussian(0.5)(rng, rows, target) * hit


def laplace(rng, rows, target):
    return rng.laplace(scale=0.3 / np.sqrt(2), size=(rows, len(target)))


def autoregressive(rng, rows, target):
    """AR(1), stationary from the first row on, of standard deviation 0.3."""
    values = rng.normal(size=(rows, len(target)))
    values[1:] *= np.sqrt(1 - MEMORY**2)
    for t in range(1, rows):
        values[t] += MEMORY * values[t - 1]
    return 0.3 * values


def spikes(rng, rows, target):
    hit = rng.uniform(size=(rows, len(target))) < SPIKES
    return 5.0 * rng.choice([-1.0, 1.0], size=hit.shape) * hit


def some_rows(rng, rows, target):
    """In a tenth of the rows, whole rows at a time."""
    hit = np.zeros((rows, 1), bool)
    hit[rng.choice(rows, round(DIRTY_ROWS * rows), replace=False)] = True
    return gaussian(0.3)(rng, rows, target) * hit


def none(rng, rows, target):
    return np.zeros((rows, len(target)))


NOISES = [
    Noise("gaussian 0.1", gaussian(0.1)),
    Noise("gaussian 0.3", gaussian(0.3)),
    Noise("y only 0.3", only_y, needs="y"),
    Noise("x only 0.3", only_x, needs="X"),
    Noise("one column 0.5", one_column, needs="X"),
    Noise("laplace 0.3", laplace),
    # Rows have no order, so that noise with a memory is Gaussian noise there.
    Noise("ar1 0.3", autoregressive, kinds=("series",)),
    Noise("spikes", spikes),
    Noise("10% of rows 0.3", some_rows),
    Noise("none", none),
]


def add(noise: Noise, data: DataSet, seed: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """A noisy copy of what a data set has to be refined.

    Args:
        noise: What to add.
        data: Its `train` is copied.
        seed: With the names of noise and data it determines what is drawn.

    Returns:
        The noisy frame, and the root mean square of what each column got, in its unit.
    """
    rng = np.random.default_rng([seed, crc32(noise.name.encode()), crc32(data.name.encode())])
    columns = list(data.columns)
    target = np.array([c == data.target for c in columns])
    added = noise.draw(rng, len(data.train), target) * data.scale.to_numpy()
    noisy = data.train.copy()
    noisy[columns] += added
    return noisy, dict(zip(columns, np.sqrt((added**2).mean(axis=0)).tolist(), strict=True))
