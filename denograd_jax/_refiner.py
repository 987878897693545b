"""One refinement step over a data set, as a pair of pure functions."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from denograd_jax import layouts, rules
from denograd_jax._instances import InputGradients, batch_gradients
from denograd_jax._types import Loss, Model, Params, Predict
from denograd_jax.errors import DataError, ShapeError, UnsupportedError
from denograd_jax.layouts import Data, Layout
from denograd_jax.rules import Move, Rule

__all__ = ["Info", "Refiner", "State", "prepare", "refiner"]


_T = TypeVar("_T")
_TRACED: Any = ()  # stands in a cached rule for the numbers that come with the state


class State(NamedTuple):
    """What the next step needs.

    Attributes:
        data: Values and masks; `data.x` and `data.y` are the refined arrays so far.
        hyperparameters: The rule's numbers, traced.
        step: Steps taken, shape `()`.
    """

    data: Data
    hyperparameters: dict[str, jax.Array]
    step: jax.Array


class Info(NamedTuple):
    """What a person wants to know about a step: every field speaks of the data BEFORE it.

    Attributes:
        residual: `f(x) - y` per instance, `(n, q)`; 0 where the target is missing.
        gate: Weight of each instance's move, `(n,)`; 0 for those that stayed.
        valid: Which instances there are, `(n,)`: with a target, and within one segment.
        active: How many instances moved, `()`.
        nonfinite: How many had a residual or gradient that was not finite; they stayed, `()`.
        direction: `(x (n, ...), y (n, q))`: each instance's gradient over its joint norm, whatever
            the gate says; or None unless asked for.
    """

    residual: jax.Array
    gate: jax.Array
    valid: jax.Array
    active: jax.Array
    nonfinite: jax.Array
    direction: tuple[jax.Array, jax.Array] | None = None


class Refiner(NamedTuple):
    """A refinement as two pure functions; `jit`, `vmap`, `scan`, `grad` and shard as you like.

    Attributes:
        init: `init(x, y=None, observed_x=None, observed_y=None, movable_x=None, movable_y=None,
            segments=None) -> State`. x is `(N, d)` or a series `(T, C)`; y `(N,)` or `(N, q)`. A
            cell is observed unless it is NaN or the mask says otherwise; it is movable where it is
            observed, unless the mask says otherwise; a movable cell that is not observed is
            imputed. Masks broadcast to the array. `segments` `(T,)` integers keep windows from
            crossing from one series, or one stretch without gaps, into the next.
        step: `step(params, state) -> (State, Info)`: every instance is judged on the same data,
            then all moves are made at once.
    """

    init: Callable[..., State]
    step: Callable[[Params, State], tuple[State, Info]]


def refiner(
    predict: Predict | Model,
    rule: Rule | None = None,
    layout: Layout | None = None,
    loss: Loss = optax.losses.squared_error,
    refine_targets: bool = True,
    *,
    chunk_size: int | None = None,
    keep_direction: bool = False,
) -> Refiner:
    """Build a refinement from a frozen model, a rule and a layout.

    Data is held in at least float32 (half-precision and integer arrays are widened by `init`:
    a step of 0.05 would be lost in their spacing), float64 where JAX has it enabled. Two refiners
    from equal functions share their compiled code, whatever the rule's numbers.

    Look-ahead: as the layout's.

    Args:
        predict: Pure `predict(params, x)` of ONE instance, `(d,)` or `(W, C)` to `()` or `(q,)`;
            or a `Model`, whose batched form is then used where it has one.
        rule: How an instance moves; `rules.unit_step()` unless given.
        layout: How instances are cut; `layouts.rows()` unless given.
        loss: `loss(prediction, target)`, summed over targets.
        refine_targets: Whether y moves too; the gradient is normalised with dL/dy all the same.
            Integer y is kept as class labels only where this is False.
        chunk_size: Instances in memory at a time; chosen from the shapes unless given. The result
            does not depend on it beyond rounding.
        keep_direction: Whether `Info.direction` is kept; it is as large as all instances together.

    Returns:
        `Refiner(init, step)`.

    Raises:
        ShapeError, DataError: By `init`, for arrays that do not fit or cannot be refined.
        ModelError: By `step`, if the model's output does not match the target.

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
    model = predict if isinstance(predict, Model) else Model(predict, None)
    step = _build_step(
        model.predict,
        model.predict_batch,
        rule._replace(hyperparameters=_TRACED),
        layout,  # type: ignore[arg-type]  # layouts are hashable
        loss,
        chunk_size,
        keep_direction,
    )
    init = functools.partial(_init, rule, layout, refine_targets)
    return Refiner(init, step)


def _init(
    rule: Rule,
    layout: Layout,
    refine_targets: bool,
    x: Any,
    y: Any = None,
    *args: Any,
    **kwargs: Any,
) -> State:
    data = prepare(layout, x, y, *args, refine_targets=refine_targets, **kwargs)
    labels = data.y is not None and jnp.issubdtype(data.y.dtype, jnp.integer)
    if labels and not rule.takes_labels:
        raise UnsupportedError(
            "this rule needs a gradient by the target, which integer class labels do not have: "
            "use rules.unit_step, or pass y as floats."
        )
    hyperparameters = {k: jnp.asarray(v, data.x.dtype) for k, v in rule.hyperparameters.items()}
    return State(data, hyperparameters, jnp.zeros((), jnp.int32))


def prepare(
    layout: Layout,
    x: Any,
    y: Any = None,
    observed_x: Any = None,
    observed_y: Any = None,
    movable_x: Any = None,
    movable_y: Any = None,
    segments: Any = None,
    *,
    refine_targets: bool = True,
) -> Data:
    """Check, widen, mask and fill the arrays: what `Refiner.init` and training start from."""
    x = _as_values("x", x)
    y = None if y is None else _as_values("y", y)
    layout.check(x, y)
    data: Data
    data, census = _prepare(
        layout,
        refine_targets,
        y is not None and not refine_targets and jnp.issubdtype(y.dtype, jnp.integer),
        Data(
            x,
            y,
            _mask("observed_x", observed_x, x, default=True),
            _mask("observed_y", observed_y, y, default=True),
            _mask("movable_x", movable_x, x),
            _mask("movable_y", movable_y, y),
            None if segments is None else _as_segments(segments, x.shape[0]),
        ),
    )
    for name, (infinite, observed) in census.items():
        _refuse(name, infinite, observed)
    return data


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _prepare(
    layout: Any, refine_targets: bool, labels: bool, given: Data
) -> tuple[Data, dict[str, tuple[jax.Array, jax.Array]]]:
    """Widen, mask and fill the arrays; count the infinite and the observed cells of each."""
    x, y = given.x, given.y
    dtype = _working_dtype(x) if y is None else _working_dtype(x, y)
    seen_x = _seen(x, given.observed_x)
    x = jnp.where(seen_x, x.astype(dtype), 0)
    moves_x = seen_x if given.movable_x is None else given.movable_x
    census = {"x": (jnp.isinf(x).sum(), seen_x.sum())}
    if y is None:
        moves_x = moves_x if refine_targets else _freeze_targets(layout, moves_x)
        seen_y = moves_y = None
    else:
        seen_y = _seen(y, given.observed_y)
        y = jnp.where(seen_y, y if labels else y.astype(dtype), 0)
        moves_y = (seen_y if given.movable_y is None else given.movable_y) & refine_targets
        census["y"] = (jnp.isinf(y).sum(), seen_y.sum())
    filled = layout.fill(x, seen_x, given.segments)
    return Data(filled, y, seen_x, seen_y, moves_x, moves_y, given.segments), census


@functools.lru_cache(maxsize=256)
def _build_step(
    predict: Any,
    predict_batch: Any,
    rule: Any,
    layout: Any,
    loss: Loss,
    chunk_size: int | None,
    keep_direction: bool,
) -> Callable[[Params, State], tuple[State, Info]]:
    """The step of a refiner; cached, since equal functions must share one compilation."""
    gradients = batch_gradients(predict, predict_batch, loss)

    @jax.jit
    def step(params: Params, state: State) -> tuple[State, Info]:
        data = state.data
        count = layout.count(data)
        size = min(count, chunk_size or _default_chunk(layout, data))
        chunks = -(-count // size)

        def one_chunk(carry: Any, number: jax.Array | int) -> Any:
            sums, norm = carry
            # The last chunk reaches back over rows already done, and must not add them again.
            start = jnp.minimum(number * size, count - size)
            fresh = start + jnp.arange(size) >= number * size
            cut = layout.cut(data, start, size)
            g, report = _judge(gradients(params, cut.x, cut.y, cut.observed_y), cut.valid, fresh)
            moves: Move = jax.vmap(rule.move, in_axes=(None, 0))(state.hyperparameters, g)
            moves = _only(report.counted, moves)
            sums = layout.add(sums, start, moves, report.counted, rule.consensus)
            squared = jax.vmap(rules.squared_norm)(g)
            kept = _unit(g, squared) if keep_direction else None
            return (sums, norm + squared.sum()), (report, moves.gate, kept)

        carry = layout.empty(data), jnp.zeros((), data.x.dtype)
        (sums, norm), (report, gate, direction) = _scan(one_chunk, carry, chunks, count)
        factor = rule.rescale(norm) if rule.rescale else jnp.ones((), data.x.dtype)
        dx, dy = layout.corrections(data, sums, rule.consensus)
        data = data._replace(x=_moved(data.x, data.movable_x, factor * dx))
        if data.y is not None and dy is not None:
            data = data._replace(y=_moved(data.y, data.movable_y, factor * dy))
        nonfinite = (report.valid & ~report.finite).sum()
        info = Info(report.residual, gate, report.valid, (gate > 0).sum(), nonfinite, direction)
        return State(data, state.hyperparameters, state.step + 1), info

    return step


class _Report(NamedTuple):
    residual: jax.Array
    valid: jax.Array
    finite: jax.Array
    counted: jax.Array


def _judge(g: InputGradients, valid: jax.Array, fresh: jax.Array) -> tuple[InputGradients, _Report]:
    """Zero the gradients of instances that are invalid, not finite or done already."""
    finite = jnp.isfinite(jax.vmap(rules.squared_norm)(g)) & jnp.isfinite(g.residual).all(axis=1)
    counted = valid & finite & fresh
    g = _only(counted, g)
    return g, _Report(g.residual, valid, finite, counted)


def _only(counted: jax.Array, tree: _T) -> _T:
    """Zeros for the rest: replaced, not multiplied, since NaN * 0 is NaN."""
    only: _T = jax.tree.map(lambda a: jnp.where(_column(counted, a), a, 0), tree)
    return only


def _unit(g: InputGradients, squared: jax.Array) -> tuple[jax.Array, jax.Array]:
    inverse = jax.lax.rsqrt(jnp.where(squared > 0, squared, 1))
    return g.x * _column(inverse, g.x), g.y * _column(inverse, g.y)


def _scan(one_chunk: Any, carry: Any, chunks: int, count: int) -> Any:
    """`lax.scan` over chunks whose outputs are put end to end, the last one overlapping."""
    if chunks == 1:
        return one_chunk(carry, 0)
    carry, outputs = jax.lax.scan(one_chunk, carry, jnp.arange(chunks))

    def join(output: jax.Array) -> jax.Array:
        size = output.shape[1]
        flat = output.reshape(chunks * size, *output.shape[2:])
        whole = (chunks - 1) * size
        return jnp.concatenate([flat[:whole], flat[chunks * size - (count - whole) :]])

    return carry, jax.tree.map(join, outputs)


def _default_chunk(layout: Layout, data: Data) -> int:
    """As many instances as make about 2**19 numbers, whatever the length of the data.

    Enough to vectorise, few enough to stay near the caches.
    """
    instance: int = jax.eval_shape(lambda d: layout.cut(d, 0, 1).x, data).size
    return int(np.clip(2**19 // max(instance, 1), 256, 16384))


def _moved(values: jax.Array, movable: jax.Array | None, correction: jax.Array) -> jax.Array:
    if jnp.issubdtype(values.dtype, jnp.integer):  # class labels
        return values
    assert movable is not None
    return jnp.where(movable, values + correction, values)


def _column(values: jax.Array, like: jax.Array) -> jax.Array:
    """One value per instance, shaped to be broadcast over what an instance holds."""
    shaped: jax.Array = values.reshape(values.shape + (1,) * (like.ndim - 1))
    return shaped


def _as_values(name: str, values: Any) -> jax.Array:
    try:
        with np.errstate(over="ignore"):  # what overflows float32 is refused as infinite
            array = jnp.asarray(values)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(
            f"{name} must be an array of numbers, not {type(values).__name__} "
            f"({getattr(values, 'dtype', 'no dtype')}): encode text and categories first, or use "
            "denograd_jax.refine with a data frame."
        ) from error
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise UnsupportedError(f"{name} must be real, not {array.dtype}.")
    return array.astype(jnp.float32) if array.dtype == bool else array


def _working_dtype(*arrays: jax.Array) -> Any:
    """At least float32, whatever is widest: corrections are below half precision's spacing."""
    floating = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    default = jnp.zeros(()).dtype  # for integers: float32, or float64 where JAX prefers it
    widest = max(floating, key=lambda d: d.itemsize, default=default)
    return widest if widest.itemsize >= 4 else np.dtype("float32")


def _mask(name: str, mask: Any, like: Any, *, default: bool | None = None) -> Any:
    """A boolean mask in the shape of `like`; without a mask, `default` everywhere, or None."""
    if like is None or (mask is None and default is None):
        return None
    mask = jnp.asarray(default if mask is None else mask)
    if mask.dtype != bool:
        raise UnsupportedError(f"{name} must be a boolean mask, not {mask.dtype}.")
    try:
        return jnp.broadcast_to(mask, like.shape)
    except ValueError as error:
        raise ShapeError(
            f"{name} of shape {mask.shape} does not broadcast to shape {like.shape}."
        ) from error


def _seen(values: jax.Array, observed: Any) -> jax.Array:
    floating = jnp.issubdtype(values.dtype, jnp.floating)
    return observed & ~jnp.isnan(values) if floating else jnp.asarray(observed)


def _refuse(name: str, infinite: jax.Array, observed: jax.Array) -> None:
    """Refuse values that cannot be refined; not under `jit`, where they are not at hand."""
    if isinstance(infinite, jax.core.Tracer):
        return
    if infinite > 0:
        raise DataError(
            f"{name} has {infinite} infinite value(s), or too large for its precision: replace "
            "them, or set them to NaN to have them treated as missing."
        )
    if observed == 0:
        raise DataError(f"every cell of {name} is missing: there is nothing to refine.")


def _as_segments(segments: Any, steps: int) -> jax.Array:
    segments = jnp.asarray(segments)
    if segments.shape != (steps,) or not jnp.issubdtype(segments.dtype, jnp.integer):
        raise ShapeError(
            f"segments must be integers of shape ({steps},), not {segments.dtype} of shape "
            f"{segments.shape}."
        )
    return segments


def _freeze_targets(layout: Any, movable: jax.Array) -> jax.Array:
    frozen: jax.Array = movable.at[:, jnp.array(layout.target_columns)].set(False)
    return frozen
