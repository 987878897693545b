"""Soft labels that move and stay probabilities: any refinement, its targets projected."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from denograd_jax._core._constrained import with_data
from denograd_jax._core._refiner import InfoT, Refiner, StateT
from denograd_jax._losses import is_distribution
from denograd_jax._types import Params
from denograd_jax.errors import DataError, ShapeError

__all__ = ["simplex_targets"]


def simplex_targets(r: Refiner[StateT, InfoT]) -> Refiner[StateT, InfoT]:
    """The same refinement, with its targets kept probabilities of classes.

    After each step every row of y is projected on the simplex: no entry below 0, a sum of 1. A row
    that did not move, or of which any entry is missing or may not move, keeps every bit.

    Look-ahead: as the refiner's.

    Args:
        r: What `refiner(..., loss="brier")` returned, with y `(n, classes)`: one-hot, or soft.

    Returns:
        `Refiner(init, step)` with the state and info of `r`.

    Raises:
        ShapeError: By `init`, where y is not `(n, classes)`.
        DataError: By `init`, where a row of y is no distribution.

    Source:
        Duchi et al. 2008, the projection (`optax.projections.projection_simplex`).

    Example:
        >>> import jax.numpy as jnp
        >>> from denograd_jax import refiner, rules
        >>> r = simplex_targets(refiner(lambda w, x: w * x, rules.unit_step(0.5), loss="brier"))
        >>> state = r.init(jnp.array([[9.0, 0.0]]), jnp.array([[0.0, 1.0]]), movable_x=False)
        >>> state, info = r.step(jnp.float32(1.0), state)
        >>> print(state.data.y.round(2))
        [[0.35 0.65]]
    """

    def init(*arrays: Any, **named: Any) -> StateT:
        state = r.init(*arrays, **named)
        _refuse(state.data.y, state.data.observed_y)
        return state

    return Refiner(init, _build_step(r.step))


@functools.lru_cache(maxsize=32)
def _build_step(
    step: Callable[[Params, StateT], tuple[StateT, InfoT]],
) -> Callable[[Params, StateT], tuple[StateT, InfoT]]:
    """One for each inner step, so that the loops over it are cached too."""

    @jax.jit
    def projected_step(params: Params, state: StateT) -> tuple[StateT, InfoT]:
        before = state.data
        state, info = step(params, state)
        y = state.data.y
        assert y is not None
        assert before.y is not None
        assert before.movable_y is not None
        whole = before.movable_y.all(axis=1, keepdims=True)
        moved = (y != before.y).any(axis=1, keepdims=True) & whole
        with jax.numpy_dtype_promotion("standard"):  # it mixes ranks with floats
            projected = jax.vmap(optax.projections.projection_simplex)(y).astype(y.dtype)
        y = jnp.where(moved, projected, before.y)
        found: StateT = with_data(state, state.data._replace(y=y))
        return found, info

    return projected_step


def _refuse(y: jax.Array | None, observed: jax.Array | None) -> None:
    if y is None or observed is None or y.ndim != 2 or y.shape[1] < 2:
        shape = None if y is None else y.shape
        raise ShapeError(
            f"y must be probabilities of shape (rows, classes), two classes or more, not {shape}: "
            "one-hot labels are jax.nn.one_hot(labels, classes)."
        )
    if isinstance(y, jax.core.Tracer):
        return
    known = observed.all(axis=1)
    wrong = known & ~is_distribution(y)
    if wrong.any():
        row = int(jnp.argmax(wrong))
        raise DataError(
            f"y is no distribution in {int(wrong.sum())} row(s), the first of them row {row}: its "
            "entries must be at least 0 and sum to 1."
        )
