"""DataFrames and Series of pandas."""

from typing import Any

import pandas as pd

from denograd_jax._frames._containers._views import View, whole

__all__ = ["view_frame", "view_series"]


def view_frame(data: pd.DataFrame) -> View:
    """A frame is its own view."""
    return View(
        "pandas DataFrame",
        data,
        close=lambda refined: refined,
        pick=lambda closed, positions: closed.iloc[:, positions],
        indexed=True,
        named=True,
    )


def view_series(data: pd.Series) -> View:
    """A Series is one column, called "value" if it has no name."""
    given: Any = data.name
    name = "value" if given is None else given
    frame = data.to_frame().set_axis(pd.Index([name], tupleize_cols=False), axis=1)
    return View(
        "pandas Series",
        frame,
        close=lambda refined: refined[name].rename(given),
        pick=whole,
        indexed=True,
        named=given is not None,
    )
