"""Datasets and DataArrays of xarray, whose rows lie along one dimension."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from denograd_jax._frames._columns import is_number
from denograd_jax._frames._containers._cells import changed_cells
from denograd_jax._frames._containers._numpy import in_native_order, refuse_array_type, with_changes
from denograd_jax._frames._containers._views import View, whole
from denograd_jax.errors import ShapeError, UnsupportedError

__all__ = ["view_xarray"]


def view_xarray(data: Any, role: str) -> View:
    """A Dataset's variables, or a DataArray's second dimension, as columns.

    The dimension of the rows is the index's name. Coordinates are passed through unseen.
    """
    if isinstance(data, xr.Dataset):
        return _view_dataset(data, role)
    if isinstance(data, xr.DataArray):
        _refuse_values(data.variable, role)
        if data.ndim not in (1, 2):
            raise ShapeError(
                f"{role} must have one or two dimensions, not {_named(data.dims)}: choose with "
                ".isel(...), or bring dimensions together with .stack(...)."
            )
        return _view_line(data) if data.ndim == 1 else _view_table(data)
    raise UnsupportedError(
        f"{role} must be an xarray Dataset or DataArray, not {type(data).__name__}: take one from "
        "it, as by tree.to_dataset() or xr.DataArray(variable)."
    )


def _view_dataset(data: xr.Dataset, role: str) -> View:
    """Variables without a dimension are passed through unseen."""
    dims = list(dict.fromkeys(dim for array in data.values() for dim in array.dims))
    names = [name for name, array in data.items() if array.dims]
    if len(dims) != 1:
        found = f"{len(dims)}: {_named(dims)}" if dims else "none"
        raise ShapeError(
            f"the variables of {role} must lie along one dimension, not {found}: choose with "
            f".isel(...) or .drop_vars(...), or pass one variable as {role}['name']."
        )
    for name in names:
        _refuse_values(data.variables[name], f"{role}[{name!r}]")
    frame = pd.concat([_columns(data[name].variable, dims[0]) for name in names], axis=1)
    frame = frame.set_axis(pd.Index(names, tupleize_cols=False), axis=1)
    frame = frame.set_axis(data.get_index(dims[0]), axis=0)

    def close(refined: pd.DataFrame) -> xr.Dataset:
        changed = {}
        for j, name in enumerate(names):
            before, after = frame.iloc[:, [j]], refined.iloc[:, [j]]
            if _differ(before, after):
                changed[name] = _with_changes(data.variables[name], dims[0], before, after)
        return data.copy(deep=True).assign(changed)

    def pick(closed: xr.Dataset, positions: int | list[int]) -> Any:
        if isinstance(positions, int):
            return closed[names[positions]]
        return closed[[names[j] for j in positions]]

    return View("xarray Dataset", frame, close, pick, dims[0] in data.xindexes, named=True)


def _view_line(data: xr.DataArray) -> View:
    """One column, called "value" if the array has no name."""
    dim = data.dims[0]
    label = "value" if data.name is None else data.name
    frame = _columns(data.variable, dim).set_axis(pd.Index([label], tupleize_cols=False), axis=1)
    frame = frame.set_axis(data.get_index(dim), axis=0)
    named = data.name is not None
    return _view_array(data, dim, frame, whole, named=named)


def _view_table(data: xr.DataArray) -> View:
    dim = _time_like(data)
    other = next(d for d in data.dims if d != dim)
    frame = _columns(data.variable, dim).set_axis(data.get_index(other), axis=1)
    frame = frame.set_axis(data.get_index(dim), axis=0)

    def pick(closed: xr.DataArray, positions: int | list[int]) -> xr.DataArray:
        return closed.isel({other: positions})

    return _view_array(data, dim, frame, pick, named=other in data.xindexes)


def _view_array(
    data: xr.DataArray, dim: Hashable, frame: pd.DataFrame, pick: Any, *, named: bool
) -> View:
    def close(refined: pd.DataFrame) -> xr.DataArray:
        if not _differ(frame, refined):
            return data.copy(deep=True)
        changed = _with_changes(data.variable, dim, frame, refined)
        closed = data.copy(deep=True, data=changed.data)
        closed.encoding = changed.encoding
        return closed

    return View("xarray DataArray", frame, close, pick, dim in data.xindexes, named)


def _time_like(data: xr.DataArray) -> Hashable:
    """The dimension of dates or durations; else that called "time"; else the first."""
    times = pd.DatetimeIndex | pd.PeriodIndex | pd.TimedeltaIndex | xr.CFTimeIndex
    dated = [dim for dim in data.dims if isinstance(data.get_index(dim), times)]
    return [*dated, *(dim for dim in data.dims if dim == "time"), *data.dims][0]


def _columns(variable: xr.Variable, dim: Hashable) -> pd.DataFrame:
    """Values with the rows first."""
    values = variable.transpose(dim, ...).data
    if isinstance(values, np.ndarray):
        values = in_native_order(values)
    return pd.DataFrame(values) if variable.ndim == 2 else pd.Series(values).to_frame()


def _differ(before: pd.DataFrame, after: pd.DataFrame) -> bool:
    return any(
        is_number(before.iloc[:, j])
        and bool(len(changed_cells(before.iloc[:, j], after.iloc[:, j])[0]))
        for j in range(before.shape[1])
    )


def _with_changes(
    variable: xr.Variable, dim: Hashable, before: pd.DataFrame, after: pd.DataFrame
) -> xr.Variable:
    """A copy with the cells that differ; integers become float64 if fractions come in."""
    turned = variable.transpose(dim, ...)
    numpy = isinstance(turned.data, np.ndarray)
    values = with_changes(turned.data, before, after) if numpy else after.iloc[:, 0].array
    changed = turned.copy(deep=True, data=values).transpose(*variable.dims)
    if changed.dtype != variable.dtype:
        changed.encoding = {}  # of integers: a file would round the corrections away
    return changed


def _refuse_values(variable: xr.Variable, role: str) -> None:
    values = variable.data
    if not isinstance(values, np.ndarray | pd.api.extensions.ExtensionArray):
        kind = type(values)
        raise UnsupportedError(
            f"{role} holds a {kind.__module__.partition('.')[0]} {kind.__name__}: make it an array "
            "in memory first, with .as_numpy()."
        )
    if isinstance(values, np.ndarray):
        refuse_array_type(values, role)


def _named(dims: Any) -> str:
    return "(" + ", ".join(map(repr, dims)) + ")"
