"""What a method is told, and what is kept from it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Problem:
    """What a method is told about a noisy frame.

    Attributes:
        kind: "series" or "rows".
        target: Column that the others explain.
        window: Steps to look back on; None for rows.
        columns: Numeric columns that may be noisy; the others are as they should be.
        noise_scale: Standard deviation of the noise of each of these columns, in its unit; only
            for methods that declare that they are told.
        seed: For whatever a method draws.
    """

    kind: str
    target: str
    window: int | None
    columns: tuple[str, ...]
    noise_scale: Mapping[str, float]
    seed: int


@dataclass(frozen=True)
class DataSet:
    """Clean data, cut in two.

    Attributes:
        name: As in the tables.
        kind: "series" or "rows".
        target: Column that the others explain.
        window: Steps that a model of a series looks back on; None for rows.
        train: What gets noise and is refined.
        test: Is neither noised nor refined; downstream models are tested on it.
    """

    name: str
    kind: str
    target: str
    window: int | None
    train: pd.DataFrame
    test: pd.DataFrame

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that get noise: numbers with more than two values."""
        numeric = self.train.select_dtypes("number")
        return tuple(c for c in numeric if numeric[c].nunique() > 2)

    @property
    def scale(self) -> pd.Series:
        """Standard deviation of these columns."""
        return self.train[list(self.columns)].std(ddof=0)
