"""What training on noisy data refuses, before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from denograd_jax._types import Params, PredictBatch
from denograd_jax.errors import DataError, ModelError, ShapeError

__all__ = ["at_least", "instances", "labels", "targets", "vector", "weights"]


def at_least(least: int, **numbers: Any) -> None:
    """Refuses numbers of epochs, rows and folds that are no integers or too small."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise DataError(f"{name} is {number!r}; expected an integer of at least {least}.")


def instances(x: ArrayLike, params: Params) -> jax.Array:
    """Instances `(n, ...)` in the precision of the parameters."""
    x = jnp.asarray(x)
    if x.ndim < 2 or len(x) == 0:
        raise ShapeError(f"x has shape {x.shape}; expected (n, d) or (n, W, C), n at least 1.")
    floating = [p for p in jax.tree.leaves(params) if jnp.issubdtype(p.dtype, jnp.floating)]
    if not floating:
        raise ModelError("params hold no array of floating-point numbers to be trained.")
    _finite("x", x)
    return x.astype(floating[0].dtype)


def labels(apply: PredictBatch, params: Params, x: jax.Array, y: ArrayLike) -> jax.Array:
    """Class labels `(n,)` that the model has logits for."""
    y = np.asarray(y)
    if y.shape != (len(x),):
        raise ShapeError(f"y has shape {y.shape}; expected one label per instance, ({len(x)},).")
    if not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"y is {y.dtype}; expected class labels, integers from 0.")
    logits = jax.eval_shape(apply, params, x)
    if logits.ndim != 2 or len(x) != logits.shape[0] or logits.shape[1] < 2:
        raise ModelError(
            f"The model makes {logits.shape} of {x.shape}; expected logits ({len(x)}, classes) "
            "of two classes or more."
        )
    if y.min() < 0 or y.max() >= logits.shape[1]:
        raise DataError(
            f"y holds labels from {y.min()} to {y.max()}; the model knows 0 to "
            f"{logits.shape[1] - 1}."
        )
    if y.min() == y.max():
        raise DataError(f"All labels are {y.min()}; there is nothing to tell apart.")
    return jnp.asarray(y, jnp.int32)


def targets(apply: PredictBatch, params: Params, x: jax.Array, y: ArrayLike) -> jax.Array:
    """Numbers `(n,)` or `(n, q)`, of the shape that the model predicts."""
    y = jnp.asarray(y)
    predicted = jax.eval_shape(apply, params, x)
    if y.ndim not in (1, 2) or predicted.shape != y.shape or len(y) != len(x):
        raise ShapeError(
            f"The model makes {predicted.shape} of instances {x.shape}, and y has shape {y.shape}; "
            f"expected both to be ({len(x)},) or ({len(x)}, q)."
        )
    _finite("y", y)
    return y.astype(x.dtype)


def weights(given: ArrayLike | None, x: jax.Array) -> jax.Array:
    """Weights `(n,)` of at least 0, divided by their mean; ones unless given."""
    if given is None:
        return jnp.ones(len(x), x.dtype)
    found = vector("weights", given, len(x))
    if found.min() < 0 or found.max() == 0:
        raise DataError("weights must be at least 0, and one of them must be more.")
    return jnp.asarray(found / found.mean(), x.dtype)


def vector(name: str, given: ArrayLike, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """One finite number for each instance, `(count,)`."""
    found = np.asarray(given, np.float64)
    if found.shape != (count,):
        raise ShapeError(f"{name} has shape {found.shape}; expected ({count},).")
    if not np.isfinite(found).all():
        raise DataError(f"{name} holds NaN or infinite numbers.")
    return found


def _finite(name: str, array: jax.Array) -> None:
    if not np.isfinite(np.asarray(array)).all():
        raise DataError(f"{name} holds NaN or infinite numbers; fill or drop these instances.")
