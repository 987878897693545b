"""One container of any kind, seen as a frame; its library is imported only if it came from it."""

from typing import Any

import numpy as np
import pandas as pd

from denograd_jax._frames._containers import _numpy, _pandas
from denograd_jax._frames._containers._labels import refuse_labels
from denograd_jax._frames._containers._views import View
from denograd_jax.errors import DataError, UnsupportedError

__all__ = ["is_container", "view_container"]


def is_container(data: Any) -> bool:
    """Whether this holds values, rather than naming columns."""
    return isinstance(data, pd.DataFrame | pd.Series | np.ndarray) or bool(
        _libraries(data) & {"polars", "xarray"}
    )


def view_container(data: Any, role: str) -> View:
    """See one container as a frame.

    Args:
        data: What a user gave.
        role: What it is, to be named in errors.
    """
    view = _view(data, role)
    if 0 in view.frame.shape:
        rows, columns = view.frame.shape
        raise DataError(
            f"there is nothing to refine: {role} has {rows} rows and {columns} columns."
        )
    refuse_labels(view.frame.columns)
    return view


def _view(data: Any, role: str) -> View:
    if isinstance(data, pd.DataFrame):
        return _pandas.view_frame(data)
    if isinstance(data, pd.Series):
        return _pandas.view_series(data)
    if isinstance(data, np.ndarray):
        return _numpy.view_array(data, role)
    libraries = _libraries(data)
    if "polars" in libraries:
        from denograd_jax._frames._containers._polars import view_polars

        return view_polars(data, role)
    if "xarray" in libraries:
        from denograd_jax._frames._containers._xarray import view_xarray

        return view_xarray(data, role)
    raise UnsupportedError(
        f"{role} must be a DataFrame or Series of pandas or polars, a Dataset or DataArray of "
        f"xarray, a NumPy array, or a list or dict of these, not {type(data).__name__}: convert it "
        "first, for example with np.asarray or .to_pandas()."
    )


def _libraries(data: Any) -> set[str]:
    """Where an object's class, and those that it extends, were defined."""
    return {kind.__module__.partition(".")[0] for kind in type(data).__mro__}
