"""Noisy copies of a data set: Gaussian noise of the same scale on every cell of every row.

The test rows of a copy are noisy too; only the authors' protocol looks at them.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pandas as pd

from .data import DataSet, with_noise_for_target

VERSION = "1"
"""Part of the key of every cell: change it when what is drawn changes."""


@dataclass(frozen=True)
class Kind:
    """A kind of copy.

    Attributes:
        name: As in the tables.
        sigma: Scale of the noise, in standard deviations of the training rows.
        pure_noise: Whether the target, of test rows too, is replaced by noise.
    """

    name: str
    sigma: float = 0.0
    pure_noise: bool = False


PURE_NOISE = Kind("pure-noise target", pure_noise=True)
KINDS = [*(Kind(f"sigma {sigma}", sigma) for sigma in (0.0, 0.05, 0.1, 0.3)), PURE_NOISE]
CONTROLS = ("parkinsons", "daily_climate")
"""Data sets that also get a target of pure noise."""


@dataclass(frozen=True, eq=False)
class Copy:
    """A noisy copy of a data set.

    Attributes:
        data: The clean data.
        kind: What was done to it.
        learnt: The noisy training and validation rows.
        test: The noisy test rows.
        seed: For whatever a method draws.
    """

    data: DataSet
    kind: Kind
    learnt: pd.DataFrame
    test: pd.DataFrame
    seed: int


def make(data: DataSet, kind: Kind, seed: int) -> Copy:
    """A noisy copy; the same seed draws the same noise for every scale."""
    if kind.pure_noise:
        data = with_noise_for_target(data, seed)
    rng = np.random.default_rng([seed, crc32(data.name.encode())])
    scale = kind.sigma * data.scale.to_numpy()
    learnt, test = (
        frame + scale * rng.normal(size=frame.shape) for frame in (data.learnt, data.test)
    )
    return Copy(data, kind, learnt, test, seed)
