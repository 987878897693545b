"""Refinement of a series that looks a fixed number of steps ahead, or not at all."""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from denograd_jax import rules
from denograd_jax._core._chunks import default_chunk, even_chunks
from denograd_jax._core._constrained import Limits, constrained
from denograd_jax._core._prepare import init_of
from denograd_jax._core._refiner import (
    TRACED,
    Info,
    Refiner,
    State,
    as_static_model,
    origin_of,
    refiner,
)
from denograd_jax._core._run import Solution, run
from denograd_jax._core._sweep import scan_chunks
from denograd_jax._losses import as_loss, is_of_labels
from denograd_jax._types import Loss, Model, Params, Predict
from denograd_jax.errors import ShapeError, UnsupportedError
from denograd_jax.layouts import Data, Windows
from denograd_jax.layouts._slabs import slab, windows_of
from denograd_jax.rules import Rule

__all__ = ["Causal", "CausalRefiner", "causal_refiner", "missing_before", "visits"]

_T = TypeVar("_T")


class Causal(NamedTuple):
    """Each step as it was known `lag` steps later; the last `lag` steps as they are known so far.

    The window of a step is the one that predicts it, within the buffer that the step is read off.

    Attributes:
        x: Refined inputs `(n, C)`; NaN where a cell was missing and not movable.
        y: Refined targets likewise; None where they are columns of x.
        residual_before: `f(x) - y` of the step's window before its buffer was refined, `(n, q)`;
            NaN where the step has no window in its segment, or the target is missing.
        residual_after: The same after its buffer was refined.
        gate: Weight that the step's window had in the first move of its buffer, `(n,)`; 0 where
            there is none.
        status: Value of `Status` of the buffer's run, `(n,)`.
        steps: Steps that it took, `(n,)`.
    """

    x: jax.Array
    y: jax.Array | None
    residual_before: jax.Array
    residual_after: jax.Array
    gate: jax.Array
    status: jax.Array
    steps: jax.Array


class CausalRefiner(NamedTuple):
    """A refinement in bounded memory, as two pure functions.

    Attributes:
        init: As a `Refiner`'s, but returns `Data`.
        refine: `refine(params, data, first=0, limits=None) -> Causal` of the steps from `first` on,
            which is static; those before are history only. `Limits` are kept by projection after
            each step, as by `constrained`. It compiles once per shape, refuses nothing, and
            composes with `jit` and `vmap`.
        memory: Steps that a value depends on, `layout.span + lag`: of step t those from
            `t + lag - memory + 1` to `t + lag`. As of the last step n of `memory` or more,
            `refine(params, data, first=n - lag)` works on one buffer alone.
    """

    init: Callable[..., Data]
    refine: Callable[..., Causal]
    memory: int


def causal_refiner(
    predict: Predict | Model,
    rule: Rule | None,
    layout: Windows,
    *,
    lag: int = 0,
    max_steps: int = 5,
    loss: Loss | str = optax.losses.squared_error,
    refine_targets: bool = True,
    chunk_size: int | None = None,
) -> CausalRefiner:
    """Refine every step from the steps before it and `lag` steps behind it.

    The value of step t is read off the refinement, as `run` does it, of the `layout.span + lag`
    raw steps that end with t + lag; nothing refined before is fed back. So a longer series changes
    no value but the last `lag`, and steps can be refined one by one as they arrive. Where fewer
    steps have been seen, the buffer begins with missing ones, into which no window reaches.

    With a lag below the horizon no window holds a step both as input and as target: targets alone
    move. The work is that of `lag + 1` plain refinements.

    Look-ahead: `lag` steps.

    Args:
        predict: As `refiner` takes it.
        rule: How a window moves. None: `rules.unit_step(0.02 * v, 0.1)`, v being the number of
            windows in the buffer that have a say in the step, `min(lag, length) + 1` for a horizon
            of 1. The fewer they are, the less does the consensus hold the one back that has the
            step as its target: with a fixed step size, or more steps, a short lag does harm.
        layout: `layouts.windows(...)` of stride 1.
        lag: Steps to wait before a step is judged.
        max_steps: Most steps to take in a buffer.
        loss: As `refiner` takes it.
        refine_targets: As `refiner` takes it.
        chunk_size: Windows in memory at a time, rounded to whole buffers; chosen from the model's
            shapes unless given. The result does not depend on it beyond rounding.

    Returns:
        `CausalRefiner(init, refine, memory)`.

    Raises:
        ShapeError: For a lag below 0; by `init` as a `Refiner`'s.
        UnsupportedError: For rows, or a stride above 1.

    Source:
        Fixed-lag smoothing: Anderson and Moore, "Optimal Filtering", 1979, chapter 7.

    Example:
        >>> import jax.numpy as jnp
        >>> from denograd_jax import layouts, rules
        >>> layout = layouts.windows(1, target_columns=[0])
        >>> c = causal_refiner(lambda w, x: w * x[-1], rules.gauss_newton(1.0, 0.0), layout)
        >>> series = jnp.array([[1.0], [3.0], [1.0]])  # which the model believes to be constant
        >>> print(c.refine(jnp.array([1.0]), c.init(series)).x[:, 0].round(3))
        [1. 2. 2.]
    """
    lag = operator.index(lag)
    if lag < 0:
        raise ShapeError(f"lag must be at least 0, not {lag}.")
    if chunk_size is not None and chunk_size < 1:
        raise ShapeError(f"chunk_size must be at least 1, not {chunk_size}.")
    if not isinstance(layout, Windows):
        raise UnsupportedError(
            f"a causal refinement needs layouts.windows(...), not {layout!r:.100}: rows have no "
            "order in time, and each is refined from itself alone by refiner(...)."
        )
    if layout.stride != 1:
        raise UnsupportedError(
            f"a causal refinement needs windows of stride 1, not {layout.stride}: those of another "
            "are counted from the first step, and would be others in each buffer."
        )
    loss = as_loss(loss)
    refine_targets = refine_targets and not is_of_labels(loss)
    buffers = Buffers(_with_targets_apart(layout), lag, refine_targets, chunk_size)
    rule = rules.unit_step(0.02 * visits(layout, lag), 0.1) if rule is None else rule
    model = as_static_model(predict, loss)
    refine_data = _build_refine(
        model.predict, model.predict_batch, rule._replace(hyperparameters=TRACED), loss, buffers
    )

    def refine(params: Params, data: Data, first: int = 0, limits: Limits | None = None) -> Causal:
        if isinstance(params, Model):
            raise UnsupportedError("pass the model's params, not the model.")
        if not 0 <= first < len(data.x):
            raise ShapeError(f"first must be one of the {len(data.x)} steps, not {first}.")
        return refine_data(params, rule.hyperparameters, max_steps, data, limits, first)

    init = init_of(layout, lambda data: data, refine_targets=refine_targets, blocks=None)
    return CausalRefiner(init, refine, buffers.length)


def visits(layout: Windows, lag: int) -> int:
    """Windows of a buffer that hold the settled step, as their target or in their input."""
    return 1 + min(max(lag - layout.horizon + 1, 0), layout.length)


def missing_before(data: Data, steps: int) -> Data:
    """The data with so many steps in front that hold nothing and belong to no segment of it."""

    def pad(array: jax.Array | None, value: Any) -> Any:
        if array is None:
            return None
        front = [(steps, 0)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, front, constant_values=value)

    data = _with_noise_per_step(data)
    segments = jnp.zeros(len(data.x), jnp.int32) if data.segments is None else data.segments
    return Data(
        pad(data.x, 0),
        pad(data.y, 0),
        pad(data.observed_x, False),
        pad(data.observed_y, False),
        pad(data.movable_x, False),
        pad(data.movable_y, False),
        segments=pad(segments, -1),
        noise_x=pad(data.noise_x, 1),
        noise_y=pad(data.noise_y, 1),
    )


def _with_noise_per_step(data: Data) -> Data:
    """Noise that all steps share repeated for each, so that it is cut like all else."""

    def repeat(noise: jax.Array | None) -> jax.Array | None:
        return None if noise is None else jnp.broadcast_to(noise, (len(data.x), *noise.shape[1:]))

    return data._replace(noise_x=repeat(data.noise_x), noise_y=repeat(data.noise_y))


def _with_targets_apart(layout: Windows) -> Windows:
    """The layout of data whose targets, if they are not one with x, have become y."""
    if layout.shared:
        return layout
    return dataclasses.replace(layout, target_columns=None, shared=True)


@dataclasses.dataclass(frozen=True)
class Buffers:
    """A series in overlapping buffers, one that ends with each step.

    A buffer holds `lag + 1` windows, and the target of its first is the step that is settled; the
    targets of the others, in the last buffer, are the steps that are provisional.
    """

    layout: Windows
    lag: int
    refine_targets: bool
    chunk_size: int | None

    @property
    def length(self) -> int:
        """Steps in a buffer."""
        return self.layout.span + self.lag

    @property
    def at_once(self) -> int | None:
        """Buffers that hold `chunk_size` windows."""
        return None if self.chunk_size is None else max(self.chunk_size // (self.lag + 1), 1)

    def known(self, data: Data, count: int) -> Data:
        """The steps of the last `count` buffers, missing ones in front where there are too few."""
        steps, given = count + self.length - 1, len(data.x)
        if steps > given:
            return missing_before(data, steps - given)
        last: Data = jax.tree.map(lambda a: a[given - steps :], _with_noise_per_step(data))
        return last

    def known_limits(self, limits: Limits, data: Data, count: int) -> Limits:
        """The limits of the same steps; those of missing ones do not matter."""
        steps, given = count + self.length - 1, len(data.x)

        def fit(name: str, limit: Any) -> Any:
            if limit is None:
                return None
            like = data.x if name.endswith("x") else data.y
            assert like is not None
            whole = jnp.broadcast_to(jnp.asarray(limit, like.dtype), like.shape)
            front = [(max(steps - given, 0), 0)] + [(0, 0)] * (like.ndim - 1)
            return jnp.pad(whole, front, mode="edge")[-steps:]

        return Limits(*(fit(name, limit) for name, limit in limits._asdict().items()))

    def cut(self, series: _T, start: jax.Array | int, size: int) -> _T:
        """Buffers `start` to `start + size - 1`, along a new first axis."""

        def cut(array: jax.Array) -> jax.Array:
            return windows_of(slab(array, start, size + self.length - 1), 1, size, self.length)

        buffers: _T = jax.tree.map(cut, series)
        return buffers

    def windows(self, buffers: Data) -> Data:
        """The steps of the window that predicts each of `targets`, the target last."""
        span = self.layout.span

        def cut(array: jax.Array) -> jax.Array:
            last = windows_of(array[-1], 1, self.lag + 1, span)
            return jnp.concatenate([array[:, :span], last[1:]])

        windows: Data = jax.tree.map(cut, buffers)
        return windows

    def targets(self, values: jax.Array) -> jax.Array:
        """Of values `(buffers, steps, ...)` those settled in each, then the provisional ones."""
        span = self.layout.span
        return jnp.concatenate([values[:, span - 1], values[-1, span:]])

    def repeated(self, values: jax.Array) -> jax.Array:
        """The same, of one value per buffer."""
        return jnp.concatenate([values, jnp.broadcast_to(values[-1], self.lag)])


@functools.lru_cache(maxsize=32)
def _build_refine(
    predict: Any, predict_batch: Any, rule: Any, loss: Loss, buffers: Buffers
) -> Callable[..., Causal]:
    """The refinement of all buffers, some at a time; cached, as equal functions share it.

    The cache is small, since it keeps alive what `predict` closes over.
    """
    layout = buffers.layout

    @functools.partial(jax.jit, static_argnames="first")
    def refine(
        params: Params,
        hyperparameters: Any,
        max_steps: Any,
        data: Data,
        limits: Limits | None,
        first: int,
    ) -> Causal:
        numbers = {k: jnp.asarray(v, data.x.dtype) for k, v in hyperparameters.items()}
        r = refiner(
            Model(predict, None, predict_batch),
            rule._replace(hyperparameters=numbers),
            layout,
            loss,
            buffers.refine_targets,
            chunk_size=buffers.chunk_size,
        )

        def within(limits: Limits | None) -> Refiner[Any, Info]:
            return r if limits is None else constrained(r, limits)

        def begin(buffer: Data, limits: Limits | None) -> Any:
            return within(limits).init(*buffer[:7], buffer.noise_x, buffer.noise_y)

        def finish(state: Any, limits: Limits | None) -> Solution[Any, Info]:
            return run(within(limits), params, state, max_steps)

        def judge(window: Data) -> tuple[jax.Array, jax.Array]:
            """Residual and gate of the only window that fits, as if it began here."""
            state = State(window, numbers, jnp.zeros((), jnp.int32), origin_of(rule, window))
            _, info = r.step(params, state)
            seen = layout.cut(window, 0, 1).observed_y[0] & info.valid[0]
            return jnp.where(seen, info.residual[0], jnp.nan), info.gate[0]

        count = max(len(data.x) - first - buffers.lag, 1)
        known = (
            buffers.known(data, count),
            None if limits is None else buffers.known_limits(limits, data, count),
        )
        first_buffer = jax.tree.map(lambda a: a[: buffers.length], known)
        one = jax.eval_shape(begin, *first_buffer)
        step = functools.partial(within(first_buffer[1]).step, params)
        most = buffers.at_once or default_chunk(step, one)
        chunks, size = even_chunks(count, most)

        def one_chunk(_: Any, number: jax.Array | int) -> tuple[Causal, Causal]:
            # The last chunk reaches back over buffers already done: they are done again.
            start = jnp.minimum(number * size, count - size)
            cut, cut_limits = buffers.cut(known, start, size)
            states = jax.vmap(begin)(cut, cut_limits)
            ends = jax.vmap(finish)(states, cut_limits)
            before, gate = jax.vmap(judge)(buffers.windows(states.data))
            after, _ = jax.vmap(judge)(buffers.windows(ends.state.data))
            x, y = jax.tree.map(buffers.targets, (ends.x, ends.y))
            status, steps = jax.tree.map(buffers.repeated, (ends.status, ends.steps))
            found = Causal(x, y, before, after, gate, status, steps)
            return jax.tree.map(lambda a: a[size:], found), jax.tree.map(lambda a: a[:size], found)

        shapes, _ = jax.eval_shape(one_chunk, None, 0)
        none = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        provisional, settled = scan_chunks(one_chunk, none, chunks, count)
        steps = len(data.x) - first
        found: Causal = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b])[-steps:], settled, provisional
        )
        return found

    return refine
