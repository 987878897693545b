"""The loop over refinement steps: when it ends, and what is kept of it."""

import collections
import enum
import functools
import logging
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from denograd_jax._core._refiner import AnyInfo, AnyState, InfoT, Refiner, StateT
from denograd_jax._types import Model, Params
from denograd_jax.errors import UnsupportedError
from denograd_jax.layouts import Data

__all__ = ["History", "Progress", "Solution", "Status", "run"]

logger = logging.getLogger("denograd_jax")


class Status(enum.IntEnum):
    """Why a run ended."""

    converged = 0
    max_steps = 1
    nonfinite = 2
    interrupted = 3

    @property
    def advice(self) -> str:
        """What the status means and what to do about it."""
        return _ADVICE[self]


_ADVICE = {
    Status.converged: "every residual is within the tolerance (of a global refinement: "
    "the objective no longer changes)",
    Status.max_steps: "these were the most steps allowed; residuals that still exceed the "
    "tolerance may be what the model cannot know, so more steps are not always better",
    Status.nonfinite: "some instances had a residual or gradient that was not finite and were left "
    "where they were; check the model on them",
    Status.interrupted: "it was interrupted; this is what had been reached by then",
}


class Solution(NamedTuple, Generic[StateT, InfoT]):
    """The outcome of a run.

    Attributes:
        x: Refined inputs, in the shape given; NaN where a cell was missing and not movable. With
            a mesh they stay on its devices in equal blocks, the padding at the end being NaN: what
            was given is `x[:n]`, which gathers it.
        y: Refined targets likewise; None where they are columns of x.
        status: Value of `Status`, shape `()`.
        steps: Steps taken in this run, shape `()`.
        info: `Info` of the last step: residuals and gate BEFORE it.
        state: The last state, from which another run can go on.
    """

    x: jax.Array
    y: jax.Array | None
    status: jax.Array
    steps: jax.Array
    info: InfoT
    state: StateT


class Progress(Protocol):
    """Called after each step with its number (from 1), the limit, and its info."""

    def __call__(self, step: int, max_steps: int, info: Any) -> None: ...


class History:
    """What is kept of each step, on the host, in bounded memory.

    Args:
        record: `record(state, info) -> pytree`, called on the state BEFORE the step and the step's
            info; number of active instances and mean |residual| unless given. What it returns
            is copied to the host.
        capacity: Most steps kept; older ones are dropped first.

    Attributes:
        records: The pytrees kept, as NumPy arrays, oldest first.
    """

    def __init__(
        self,
        record: Callable[[Any, Any], Any] | None = None,
        *,
        capacity: int = 1000,
    ) -> None:
        self._record = _summarise if record is None else record
        self.records: collections.deque[Any] = collections.deque(maxlen=capacity)

    def __call__(self, state: AnyState, info: AnyInfo) -> None:
        """Keep one step."""
        self.records.append(jax.device_get(self._record(state, info)))


def _summarise(state: AnyState, info: AnyInfo) -> dict[str, jax.Array]:
    del state
    size = jnp.abs(info.residual).mean(axis=1)
    return {
        "active": info.active,
        "mean_abs_residual": size.mean(where=info.valid & jnp.isfinite(size)),
    }


def run(
    r: Refiner[StateT, InfoT],
    params: Params,
    state: StateT,
    max_steps: int = 100,
    history: History | None = None,
    progress: Progress | None = None,
) -> Solution[StateT, InfoT]:
    """Take steps until no instance is gated in, or `max_steps` are done.

    With history or progress the loop is on the host, where Ctrl-C ends it with what was reached.
    Without them it is one `lax.while_loop`, which composes with `jit` and `vmap`; for a gradient
    through the refinement `scan` over `r.step` a fixed number of times.

    Look-ahead: as the refiner's.

    Args:
        r: What `refiner(...)` returned.
        params: The frozen model's parameters.
        state: What `r.init(...)` returned, or the state of an earlier `Solution` (which brings the
            numbers of its rule along).
        max_steps: Most steps to take.
        history: What to keep of each step; the loop then runs on the host.
        progress: Called after each step; the loop then runs on the host.

    Returns:
        `Solution`. Under `vmap` every field, the status too, has the mapped axis.
    """
    if isinstance(params, Model):
        raise UnsupportedError("pass the model's params, not the model: run(r, model.params, ...).")
    if history is None and progress is None:
        last, info = _loop_of(r.step)(params, state, max_steps)
        status = _status(info)
    else:
        last, info, interrupted = _loop_on_host(r.step, params, state, max_steps, history, progress)
        status = jnp.array(Status.interrupted) if interrupted else _status(info)
    x, y = _values(last.data)
    return Solution(x, y, status, last.step - state.step, info, last)


@functools.lru_cache(maxsize=32)
def _loop_of(step: Any) -> Callable[[Params, Any, Any], tuple[Any, Any]]:
    """The compiled loop of a step; it lives as long as the step is in use."""

    @jax.jit
    def loop(params: Params, state: Any, max_steps: jax.Array) -> tuple[Any, Any]:
        begin = state.step

        def unfinished(carry: tuple[Any, Any]) -> Any:
            state, info = carry
            return (state.step - begin < max_steps) & (info.active > 0)

        def body(carry: tuple[Any, Any]) -> Any:
            return step(params, carry[0])

        return jax.lax.while_loop(unfinished, body, (state, _no_info(step, params, state)))

    return loop


def _loop_on_host(
    step: Any,
    params: Params,
    state: Any,
    max_steps: int,
    history: History | None,
    progress: Progress | None,
) -> tuple[Any, Any, bool]:
    """The last state and info, and whether Ctrl-C was pressed."""
    info = _no_info(step, params, state)
    if any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves((params, state))):
        raise UnsupportedError(
            "history and progress run on the host: call run outside jit and vmap, or scan over "
            "r.step and return its info."
        )
    number = 0
    try:
        for number in range(1, max_steps + 1):
            before = state
            state, info = step(params, state)
            info.active.block_until_ready()  # so that Ctrl-C comes between steps
            if history is not None:
                history(before, info)
            if progress is not None:
                progress(number, max_steps, info)
            if info.active == 0:
                break
    except KeyboardInterrupt:
        logger.warning("interrupted in step %d of %d: what was reached is kept", number, max_steps)
        return state, info, True
    return state, info, False


def _no_info(step: Any, params: Params, state: Any) -> Any:
    """The info of no step at all; `active` is 1, so that a loop begins."""
    _, shapes = jax.eval_shape(step, params, state)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return zeros._replace(active=jnp.ones_like(zeros.active))


def _status(info: AnyInfo) -> jax.Array:
    ended = jnp.where(info.active == 0, Status.converged, Status.max_steps)
    return jnp.where(info.nonfinite > 0, Status.nonfinite, ended)


@jax.jit
def _values(data: Data) -> tuple[jax.Array, jax.Array | None]:
    """The refined arrays, NaN where a cell was neither measured nor imputed."""

    def restore(values: jax.Array, known: jax.Array) -> jax.Array:
        floating = jnp.issubdtype(values.dtype, jnp.floating)
        return jnp.where(known, values, jnp.nan) if floating else values

    x = restore(data.x, data.observed_x | data.movable_x)
    if data.y is None:
        return x, None
    assert data.observed_y is not None
    assert data.movable_y is not None
    return x, restore(data.y, data.observed_y | data.movable_y)
