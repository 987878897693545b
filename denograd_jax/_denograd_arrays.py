"""Arrays in and out of the published interface: what X and y may be, what the model gets."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from denograd_jax._types import Model
from denograd_jax.errors import ColumnError, ModelError, ShapeError
from denograd_jax.layouts import Rows, Windows
from denograd_jax.models import as_model

__all__ = ["Fitted", "arrays", "model_and_inputs", "moved", "unflatten"]


class Fitted(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    layout: Rows | Windows
    target_columns: tuple[int, ...]
    keeps_targets: bool  # whether x must keep the target columns, as `target_cols` says


def arrays(
    X: Any, y: Any, target_cols: int | list[int] | None
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """X and y as arrays of their own, and which columns of X are y, if any."""
    if (y is None) == (target_cols is None):
        raise ShapeError(
            "give the targets as y (values, or column name(s) of a DataFrame), or the numbers of "
            "their columns as target_cols: "
            + ("neither was given." if y is None else "both were given.")
        )
    x = _numbers("X", X)
    if target_cols is not None:
        numbers = _column_numbers(x, target_cols)
        return x, x[:, list(numbers)].copy(), numbers
    names = _column_names(X, y)
    if names is None:
        return x, _numbers("y", y), ()
    columns = [list(X.columns).index(name) for name in names]
    single = not isinstance(y, list | tuple) and len(names) == 1 and np.ndim(y) == 0
    return x, x[:, columns[0] if single else columns].copy(), tuple(columns)


def _column_numbers(x: np.ndarray, target_cols: Any) -> tuple[int, ...]:
    """Numbers of columns, those below zero counted from the last."""
    if x.ndim != 2:
        raise ShapeError(f"X must have shape (steps, channels), not {x.shape}.")
    numbers = np.atleast_1d(np.asarray(target_cols)).tolist()
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int):
            raise ColumnError(
                f"target_cols takes numbers of columns, not {target_cols!r:.100}: names of a "
                "DataFrame's columns go into y."
            )
        if not -x.shape[1] <= number < x.shape[1]:
            raise ColumnError(f"target_cols names column {number}, X has {x.shape[1]}.")
    places = tuple(number % x.shape[1] for number in numbers)
    if not places or len(set(places)) < len(places):
        raise ColumnError(f"target_cols must name columns, each once, not {target_cols!r:.100}.")
    return places


def _column_names(X: Any, y: Any) -> list[Any] | None:
    """The columns of a DataFrame that y names; None where y is the target itself."""
    if not hasattr(X, "columns"):
        return None
    names = [y] if isinstance(y, str) or np.ndim(y) == 0 else list(y)
    if len(names) == len(X) and not all(isinstance(name, str) for name in names):
        return None
    if hasattr(y, "iloc"):  # a Series or DataFrame holds values
        return None
    for name in names:
        if list(X.columns).count(name) != 1:
            count = "not" if name not in list(X.columns) else "more than once"
            raise ColumnError(f"target column {name!r} is {count} in X; it has: {list(X.columns)}")
    return names


def _numbers(name: str, values: Any) -> np.ndarray:
    """A copy as a NumPy array; tensors of PyTorch are taken without importing it."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        array = np.array(values)
        if array.dtype == object:  # as of a data frame with nullable columns
            floats = {"dtype": np.float64, "na_value": np.nan}
            array = values.to_numpy(**floats) if hasattr(values, "iloc") else array.astype(float)
    except (TypeError, ValueError) as error:
        raise ColumnError(
            f"{name} holds values that are not numbers ({error}): encode text and categories "
            "first, or use denograd_jax.refine, which passes them through."
        ) from error
    if array.dtype.kind not in "fiub":
        raise ColumnError(f"{name} must hold numbers, not {array.dtype}.")
    return array


def model_and_inputs(obj: Any, fitted: Fitted) -> tuple[Model, np.ndarray]:
    """The model, and what it takes: all columns of X, else all that are not targets.

    Raises:
        UnsupportedError: What `as_model` cannot use.
        ModelError: A model that takes neither.
    """
    candidates = [fitted.x]
    if fitted.target_columns and not fitted.keeps_targets:
        candidates.append(np.delete(fitted.x, fitted.target_columns, axis=1))
    failure = None
    for x in candidates:
        try:
            model = as_model(obj, example=_example(x, fitted.layout))
        except ModelError as error:
            failure = failure or error
            continue
        if len(candidates) == 1 or _takes(model, x, fitted.layout):
            return model, x
    if failure is not None:
        raise failure
    raise ModelError(
        f"the model takes neither the {candidates[0].shape[1]} columns of X nor the "
        f"{candidates[-1].shape[1]} that are not targets."
    )


def _example(x: np.ndarray, layout: Rows | Windows) -> np.ndarray:
    """Two instances as the model will see them; only their shape matters."""
    shape: tuple[int, ...] = x.shape[1:]
    if isinstance(layout, Windows):
        shape = (layout.length, *shape)
        shape = (math.prod(shape),) if layout.flatten else shape
    return np.zeros((2, *shape), np.float64 if x.dtype == np.float64 else np.float32)


def _takes(model: Model, x: np.ndarray, layout: Rows | Windows) -> bool:
    try:
        jax.eval_shape(model.predict, model.params, _example(x, layout)[0])
    except Exception:  # whatever a model raises on a wrong shape
        return False
    return True


def moved(given: np.ndarray, begin: Any, end: Any) -> np.ndarray:
    """What was given plus its move, so that a value that did not move keeps every bit."""
    dtype = np.result_type(given.dtype, np.float16 if given.dtype.kind == "f" else np.float32)
    moved: np.ndarray = given.astype(dtype) + (np.asarray(end) - np.asarray(begin)).astype(dtype)
    return moved


def unflatten(gradient: np.ndarray, x: np.ndarray, layout: Rows | Windows) -> np.ndarray:
    """Windows in their own shape, also where the model takes them as vectors."""
    if isinstance(layout, Rows):
        return gradient
    return gradient.reshape(len(gradient), layout.length, x.shape[1])
