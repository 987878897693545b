"""One refinement step over a data set, as a pair of pure functions."""

import functools
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from denograd_jax import layouts, rules
from denograd_jax._core._instances import batch_gradients
from denograd_jax._core._prepare import init_of
from denograd_jax._core._sharding import Blocks, blocks_over
from denograd_jax._core._sweep import Origin, sweep_with
from denograd_jax._losses import as_loss, is_of_labels
from denograd_jax._types import Loss, Model, Params, Predict
from denograd_jax.errors import ShapeError, UnsupportedError
from denograd_jax.layouts import Data, Layout
from denograd_jax.rules import Rule

__all__ = [
    "TRACED",
    "AnyInfo",
    "AnyState",
    "Info",
    "InfoT",
    "Refiner",
    "State",
    "StateT",
    "as_static_model",
    "moved",
    "origin_of",
    "refiner",
]

TRACED: Any = ()  # stands in a cached rule for the numbers that come with the state


class AnyState(Protocol):
    """What `run` asks of a state."""

    @property
    def data(self) -> Data: ...
    @property
    def step(self) -> jax.Array: ...


class AnyInfo(Protocol):
    """What `run` and its history ask of a step's info."""

    @property
    def residual(self) -> jax.Array: ...
    @property
    def valid(self) -> jax.Array: ...
    @property
    def active(self) -> jax.Array: ...
    @property
    def nonfinite(self) -> jax.Array: ...


StateT = TypeVar("StateT", bound=AnyState)
InfoT = TypeVar("InfoT", bound=AnyInfo)


class State(NamedTuple):
    """What the next step needs.

    Attributes:
        data: Values and masks; `data.x` and `data.y` are the refined arrays so far.
        hyperparameters: The rule's numbers, traced; `init` takes them from the rule, `_replace`
            them to go on with others.
        step: Steps taken, shape `()`.
        origin: Where the cells began, for a rule that is `anchored` there; else None.
    """

    data: Data
    hyperparameters: dict[str, jax.Array]
    step: jax.Array
    origin: Origin | None = None


class Info(NamedTuple):
    """What a person wants to know about a step: every field speaks of the data BEFORE it.

    Attributes:
        residual: `f(x) - y` per instance, `(n, q)`; 0 where the target is missing or the instance
            is not valid.
        gate: Weight of each instance's move, `(n,)`; 0 for those that stayed.
        valid: Which instances there are, `(n,)`: with a target, and within one segment.
        active: How many instances moved, `()`.
        nonfinite: How many had a residual or gradient that was not finite; they stayed, `()`.
        direction: `(x (n, ...), y (n, q))`: each instance's gradient over its joint norm, whatever
            the gate says (in units of the noise where that is known); or None unless asked for.
    """

    residual: jax.Array
    gate: jax.Array
    valid: jax.Array
    active: jax.Array
    nonfinite: jax.Array
    direction: tuple[jax.Array, jax.Array] | None = None


class Refiner(NamedTuple, Generic[StateT, InfoT]):
    """A refinement as two pure functions; `jit`, `vmap`, `scan`, `grad` and shard as you like.

    Attributes:
        init: `init(x, y=None, observed_x=None, observed_y=None, movable_x=None, movable_y=None,
            segments=None, noise_x=None, noise_y=None) -> State`. x is `(N, d)` or a series
            `(T, C)`; y `(N,)` or `(N, q)`. A cell is observed unless it is NaN or the mask says
            otherwise; it is movable where it is observed, unless the mask says otherwise. A movable
            cell of x that is not observed is imputed, beginning at its fill (rows: column mean;
            series: last value seen), where it stays if no instance covers it; a missing target is
            never imputed. Masks broadcast to the array. `segments`, `(T,)` integers, keep windows
            from crossing from one series, or one stretch without gaps, into the next. `noise_x` and
            `noise_y` are the standard deviations of the cells' noise, in units of x and y, where
            they are known: at least 0, broadcasting to the array (a number per column, or per
            cell). Rules then measure their steps in units of the noise, `global_refiner` its
            proximity; a cell with noise 0 is known exactly and does not move. None counts as 1.
        step: `step(params, state) -> (State, Info)`: every instance is judged on the same data,
            then all moves are made at once.
    """

    init: Callable[..., StateT]
    step: Callable[[Params, StateT], tuple[StateT, InfoT]]


def refiner(
    predict: Predict | Model,
    rule: Rule | None = None,
    layout: Layout | None = None,
    loss: Loss | str = optax.losses.squared_error,
    refine_targets: bool = True,
    *,
    chunk_size: int | None = None,
    keep_direction: bool = False,
    mesh: Mesh | None = None,
    axis: str | None = None,
) -> Refiner[State, Info]:
    """Build a refinement from a frozen model, a rule and a layout.

    Data is held in at least float32 (half-precision and integer arrays are widened by `init`:
    a step of 0.05 would be lost in their spacing), float64 where JAX has it enabled. Two refiners
    from equal functions share their compiled code, whatever the rule's numbers; keep one function
    object, as a new lambda each time compiles each time.

    Look-ahead: as the layout's.

    Args:
        predict: Pure `predict(params, x)` of ONE instance, `(d,)` or `(W, C)` to `()` or `(q,)`;
            or a `Model`, whose batched form is then used where it has one (its `params` are handed
            to `step`, as any others would be).
        rule: How an instance moves; `rules.unit_step()` unless given.
        layout: How instances are cut; `layouts.rows()` unless given.
        loss: `loss(prediction, target)`, summed over targets; or a name, "squared_error",
            "absolute_error" or "huber". For a model of logits "cross_entropy", with y the numbers
            of classes, `(n,)`, or their probabilities, `(n, classes)`; "binary_cross_entropy", with
            y 0 or 1; or "brier", for probabilities that move (`classification.simplex_targets`).
            Residuals, and with them the rule's tolerance, are then differences of probabilities.
        refine_targets: Whether y moves too; the gradient is normalised with dL/dy all the same.
            Integer y is kept as class labels only where this is False, or by the two losses called
            cross-entropy, which never move y and have no dL/dy.
        chunk_size: Instances in memory at a time (on each device); chosen from the model's shapes
            unless given. The result does not depend on it beyond rounding.
        keep_direction: Whether `Info.direction` is kept; it is as large as all instances together.
        mesh: Devices to share the rows or steps out to, in blocks: windows that straddle two blocks
            read a halo of `length + horizon - 1` steps from the next one. `init` pads the arrays to
            equal blocks and places them; NumPy arrays go to their devices in pieces. `Solution`
            leaves the padding out, `State` and `Info` keep it (missing cells, invalid instances).
        axis: The axis of the mesh to share out along; its first unless given.

    Returns:
        `Refiner(init, step)`.

    Raises:
        ShapeError, DataError: By `init`, for arrays that do not fit or cannot be refined.
        ModelError: By `step`, if the model's output does not match the target.
        UnsupportedError: A loss that is none; by `step`, a rule that class labels do not go with.

    Source:
        Alonso-Ramos et al., "DenoGrad", arXiv 2511.10161.

    Example:
        >>> import jax.numpy as jnp
        >>> from denograd_jax import refiner, rules
        >>> r = refiner(lambda w, x: w @ x, rule=rules.gauss_newton(step_size=1.0))
        >>> state = r.init(jnp.array([[2.0]]), jnp.array([0.0]))
        >>> state, info = r.step(jnp.array([1.0]), state)
        >>> print(state.data.x.round(3), state.data.y.round(3))
        [[1.]] [1.]
    """
    rule = rules.unit_step() if rule is None else rule
    layout = layouts.rows() if layout is None else layout
    if chunk_size is not None and chunk_size < 1:
        raise ShapeError(f"chunk_size must be at least 1, not {chunk_size}.")
    loss = as_loss(loss)
    refine_targets = refine_targets and not is_of_labels(loss)
    model = as_static_model(predict, loss)
    blocks = blocks_over(mesh, axis)
    step = _build_step(
        model.predict,
        model.predict_batch,
        rule._replace(hyperparameters=TRACED),
        tuple(sorted(rule.hyperparameters)),
        layout,  # type: ignore[arg-type]  # layouts are hashable
        loss,
        chunk_size,
        keep_direction,
        blocks,
    )

    def begin(data: Data) -> State:
        numbers = {k: jnp.array(v, data.x.dtype) for k, v in rule.hyperparameters.items()}
        return State(data, numbers, jnp.zeros((), jnp.int32), origin_of(rule, data))

    init = init_of(layout, begin, refine_targets=refine_targets, blocks=blocks)
    return Refiner(init, step)


def origin_of(rule: Rule, data: Data) -> Origin | None:
    """Where cells begin, if the rule asks; copied, apart from the data, which may be donated."""
    return jax.tree.map(jnp.copy, Origin(data.x, data.y)) if rule.anchored else None


def as_static_model(predict: Predict | Model, loss: Loss) -> Model:
    """The model's functions, which, like the loss, must be hashable: they are part of programs."""
    model = predict if isinstance(predict, Model) else Model(predict, None)
    for name, function in (("predict", model.predict), ("loss", loss)):
        try:
            hash(function)
        except TypeError as error:
            raise UnsupportedError(
                f"{name} must be a pure function, not {type(function).__name__}: make a module one "
                "with model = as_model(module), then refiner(model) and "
                "r.step(model.params, state)."
            ) from error
    return model


@functools.lru_cache(maxsize=32)
def _build_step(
    predict: Any,
    predict_batch: Any,
    rule: Any,
    numbers: tuple[str, ...],
    layout: Any,
    loss: Loss,
    chunk_size: int | None,
    keep_direction: bool,
    blocks: Blocks | None,
) -> Callable[[Params, State], tuple[State, Info]]:
    """The step of a refiner; cached, since equal functions must share one compilation.

    The cache is small, since it keeps alive what `predict` closes over.
    """
    gradients = batch_gradients(
        predict,
        predict_batch,
        loss,
        labels=rule.takes_labels,
        jacobian=rule.jacobian or rule.anchored,
    )
    sweep = sweep_with(gradients, rule, layout, chunk_size, keep_direction=keep_direction)
    if blocks is not None:
        sweep = blocks.over(sweep, layout)

    @jax.jit
    def step(params: Params, state: State) -> tuple[State, Info]:
        if tuple(sorted(state.hyperparameters)) != numbers:
            raise UnsupportedError(
                f"the state is of a rule with the numbers {sorted(state.hyperparameters)}, this "
                f"rule needs {list(numbers)}: begin with this refiner's own init."
            )
        if rule.anchored != (state.origin is not None):
            raise UnsupportedError(
                "a rule that is anchored where the data began, and no other, takes a state that "
                "knows where that was: begin with this refiner's own init."
            )
        data = state.data
        found = sweep(params, state.hyperparameters, data, state.origin)
        norm = found.totals.squared_norm
        factor = rule.rescale(norm) if rule.rescale else jnp.ones((), data.x.dtype)
        dx, dy = layout.corrections(data, found.sums, rule.consensus)
        info = Info(
            found.residual,
            found.gate,
            found.valid,
            (found.gate > 0).sum(),
            found.totals.nonfinite,
            found.direction,
        )
        data = moved(data, factor * dx, None if dy is None else factor * dy, state.origin)
        return state._replace(data=data, step=state.step + 1), info

    return step


def moved(data: Data, dx: jax.Array, dy: jax.Array | None, origin: Origin | None = None) -> Data:
    """The data with its movable cells moved, from their origin if given; class labels stay."""
    begin = Origin(data.x, data.y) if origin is None else origin

    def move(values: jax.Array, movable: jax.Array, begin: jax.Array, by: jax.Array) -> jax.Array:
        return jnp.where(movable, begin + by, values)

    data = data._replace(x=move(data.x, data.movable_x, begin.x, dx))
    if data.y is None or dy is None or jnp.issubdtype(data.y.dtype, jnp.integer):
        return data
    assert data.movable_y is not None
    assert begin.y is not None
    return data._replace(y=move(data.y, data.movable_y, begin.y, dy))
