"""What is good, to be spoilt: a small table, and further columns for it."""

from typing import Any

import numpy as np
import pandas as pd

ROWS = 24


def table(**columns: Any) -> pd.DataFrame:
    """Two inputs and a target, and further columns."""
    values = np.random.default_rng(3).normal(size=(ROWS, 3)).round(3)
    return pd.DataFrame(values, columns=["a", "b", "y"]).assign(**columns)


def cycle(*values: Any) -> list[Any]:
    return [values[i % len(values)] for i in range(ROWS)]


def total(x: Any) -> Any:
    return x.sum()


def two_lines(x: Any) -> Any:
    raise RuntimeError("out of cheese\nredo from start")


HOURS = pd.date_range("2024-01-01", periods=ROWS, freq="h")
MIXED_TIMES = cycle("2024-01-01", "13/01/2024", "Jan 5, 2024")
