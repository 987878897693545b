"""What a method is, and how columns get to one that works on an array."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .problems import Problem


@dataclass(frozen=True)
class Method:
    """Something that is compared.

    Attributes:
        name: As in the tables.
        family: "ours", "practice", "package", or "control".
        repair: `repair(noisy, problem)` gives a frame of the same shape.
        kinds: Kinds of data that it is for.
        version: Changes with what it does; part of the key of its cells.
        needs: Modules that must be importable.
        told: Whether it is told the scale of the noise.
        most_columns: Of a table; what it costs rules out more.
        quick: Whether the quick subset has it.
    """

    name: str
    family: str
    repair: Callable[[pd.DataFrame, Problem], pd.DataFrame]
    kinds: tuple[str, ...] = ("series", "rows")
    version: str = "1"
    needs: tuple[str, ...] = ()
    told: bool = False
    most_columns: int | None = None
    quick: bool = True

    def applies(self, kind: str, columns: int) -> bool:
        """Whether it is for such data; where it is not, there is no cell."""
        return kind in self.kinds and (self.most_columns is None or columns <= self.most_columns)

    def __call__(self, noisy: pd.DataFrame, problem: Problem) -> pd.DataFrame:
        """The refined frame.

        Raises:
            ImportError: A module that it needs is not installed.
            ValueError: What it returned has another shape, or values that are not finite.
        """
        for module in self.needs:
            importlib.import_module(module)
        refined = self.repair(noisy, problem)
        if refined.shape != noisy.shape:
            raise ValueError(f"returned {refined.shape} instead of {noisy.shape}")
        values = refined[list(problem.columns)].to_numpy(float)
        if lost := int((~np.isfinite(values)).sum()):
            raise ValueError(f"returned {lost} values that are not finite")
        return refined


def on_scaled_columns(smooth):
    """A method from `smooth(values) -> values` on the columns, standardised, as one array."""

    def repair(noisy, problem):
        columns = list(problem.columns)
        values = noisy[columns]
        mean, scale = values.mean(), values.std(ddof=0)
        smoothed = smooth(np.array((values - mean) / scale))  # a copy, writable
        refined = noisy.copy()
        refined[columns] = smoothed * scale.to_numpy() + mean.to_numpy()
        return refined

    return repair


def column_by_column(smooth):
    """A method from `smooth(values) -> values` on one column at a time."""
    return on_scaled_columns(lambda values: np.stack([smooth(v) for v in values.T], axis=1))
