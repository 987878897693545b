"""One pass over all instances: each one's gradient and move, added up in chunks."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from denograd_jax import rules
from denograd_jax._core._chunks import default_chunk, even_chunks
from denograd_jax._core._instances import GradientFunction, Linearisation
from denograd_jax._types import Params, Scalar, Targets
from denograd_jax.layouts import Cut, Data, Layout
from denograd_jax.rules import Move, Rule, ScaledGradients

__all__ = ["Origin", "Sweep", "Totals", "scan_chunks", "sweep_with"]

_T = TypeVar("_T")


class Origin(NamedTuple):
    """Where the cells began: x and y as `init` made them; y is None where it is part of x."""

    x: jax.Array
    y: jax.Array | None


class Totals(NamedTuple):
    """Numbers added up over the instances that took part: finite, valid, each once.

    Attributes:
        squared_norm: Sum of squares of all their gradients as the rule sees them, `()`.
        loss: Sum of their losses, `()`.
        targets: Number of their observed targets, `()`; in floating point, since it may be beyond
            32 bits.
        nonfinite: Number of valid instances that did not take part, `()`.
    """

    squared_norm: Scalar
    loss: Scalar
    targets: Scalar
    nonfinite: Scalar


class Sweep(NamedTuple):
    """What one pass found.

    Attributes:
        sums: The layout's sums of moves, along the first axis of x.
        totals: See there.
        residual: `f(x) - y` per instance, `(n, q)`; 0 where there is none.
        gate: Weight of each instance's move, `(n,)`.
        valid: Which instances there are, `(n,)`.
        direction: Each instance's gradient over its joint norm, if asked for.
    """

    sums: Any
    totals: Totals
    residual: Targets
    gate: jax.Array
    valid: jax.Array
    direction: tuple[jax.Array, jax.Array] | None


def sweep_with(
    gradients: GradientFunction,
    rule: Rule,
    layout: Layout,
    chunk_size: int | None = None,
    *,
    keep_direction: bool = False,
) -> Callable[..., Sweep]:
    """Build `sweep(params, hyperparameters, data, origin=None) -> Sweep`, all on the same data.

    An anchored rule needs the `Origin`; its sums are of moves from there.

    Memory: the sums (as large as the data), what is kept per instance, and one chunk.

    Args:
        gradients: As `batch_gradients` returns them.
        rule: How an instance moves.
        layout: How instances are cut, and their moves added up.
        chunk_size: Instances in memory at a time; chosen from the shapes unless given.
        keep_direction: Whether `Sweep.direction` is kept; it is as large as all instances.
    """

    def _default_chunk(params: Params, data: Data) -> int:
        one = jax.eval_shape(lambda d: layout.cut(d, 0, 1), data)
        return default_chunk(functools.partial(gradients, params), one.x, one.y, one.observed_y)

    def sweep(
        params: Params,
        hyperparameters: dict[str, jax.Array],
        data: Data,
        origin: Origin | None = None,
    ) -> Sweep:
        if rule.anchored:
            assert origin is not None
            data = _certain_where_fixed(data)
        count = layout.count(data)
        chunks, size = even_chunks(count, chunk_size or _default_chunk(params, data))

        def one_chunk(carry: Any, number: jax.Array | int) -> Any:
            sums, totals = carry
            # The last chunk reaches back over instances already done, and must not add them again.
            start = jnp.minimum(number * size, count - size)
            fresh = start + jnp.arange(size) >= number * size
            cut = layout.cut(data, start, size)
            g = gradients(params, cut.x, cut.y, cut.observed_y)
            if origin is not None:
                began = layout.cut(data._replace(x=origin.x, y=origin.y), start, size)
                g = _from_origin(g, cut, began)
            g = _in_noise(g, cut)
            squared = jax.vmap(rules.squared_norm)(g)
            finite = jnp.isfinite(squared) & _finite((g.residual, g.loss))
            if isinstance(g, Linearisation):
                finite &= _finite((g.jacobian_x, g.at_origin))
            usable = _zero_unless(finite, g)
            moves = _from_noise(jax.vmap(rule.move, (None, 0))(hyperparameters, usable), cut)
            finite &= _finite((moves.y, moves.gate) if rule.stays_finite else moves)
            takes_part = cut.valid & finite & fresh
            moves = _zero_unless(takes_part, moves)
            sums = layout.add(sums, start, moves, takes_part, rule.consensus)
            found = Totals(
                jnp.where(takes_part, squared, 0).sum(),
                jnp.where(takes_part, usable.loss, 0).sum(),
                jnp.where(takes_part[:, None], cut.observed_y, False).sum(dtype=data.x.dtype),
                (cut.valid & ~finite & fresh).sum(dtype=jnp.int32),
            )
            kept = _unit(usable, squared) if keep_direction else None
            residual = _zero_unless(cut.valid, g.residual)
            carry = sums, jax.tree.map(jnp.add, totals, found)
            return carry, (residual, moves.gate, cut.valid, kept)

        zero, none = jnp.zeros((), data.x.dtype), jnp.zeros((), jnp.int32)
        carry = layout.empty(data), Totals(zero, zero, zero, none)
        (sums, totals), outputs = scan_chunks(one_chunk, carry, chunks, count)
        return Sweep(sums, totals, *outputs)

    return sweep


def _certain_where_fixed(data: Data) -> Data:
    """What may not move is taken as known exactly, so that other cells make up for it."""

    def noise_of(noise: jax.Array | None, movable: jax.Array) -> jax.Array:
        return jnp.where(movable, data.x.dtype.type(1) if noise is None else noise, 0)

    data = data._replace(noise_x=noise_of(data.noise_x, data.movable_x))
    if data.movable_y is None:
        return data
    return data._replace(noise_y=noise_of(data.noise_y, data.movable_y))


def _from_origin(g: Linearisation, cut: Cut, began: Cut) -> Linearisation:
    """The residual of the linear function where instances began."""
    dx, dy = cut.x - began.x, (cut.y - began.y).astype(cut.x.dtype)
    inputs = tuple(range(1, dx.ndim))
    along_x = jnp.sum(g.jacobian_x * dx[:, None], axis=tuple(axis + 1 for axis in inputs))
    return g._replace(at_origin=g.residual - along_x - g.jacobian_y * dy)


def _in_noise(g: Any, cut: Cut) -> Any:
    """The derivatives by x and y in units of their noise, where that is known."""
    if cut.noise_x is None and cut.noise_y is None:
        return g
    x, y = _times(g.x, cut.noise_x), _times(g.y, cut.noise_y)
    if isinstance(g, Linearisation):
        noise_x = None if cut.noise_x is None else cut.noise_x[:, None]
        jacobian_x = _times(g.jacobian_x, noise_x)
        jacobian_y = _times(g.jacobian_y, cut.noise_y)
        return g._replace(x=x, y=y, jacobian_x=jacobian_x, jacobian_y=jacobian_y)
    return ScaledGradients(g.residual, x, y, g.loss, slope=g.y)


def _from_noise(moves: Move, cut: Cut) -> Move:
    """Moves in units of the noise, in those of the data."""
    return Move(_times(moves.x, cut.noise_x), _times(moves.y, cut.noise_y), moves.gate)


def _times(values: jax.Array, noise: jax.Array | None) -> jax.Array:
    return values if noise is None else values * noise


def _finite(tree: Any) -> jax.Array:
    """Which instances hold finite numbers alone."""
    leaves = [jnp.isfinite(a).reshape(a.shape[0], -1).all(axis=1) for a in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, leaves)


def _zero_unless(kept: jax.Array, tree: _T) -> _T:
    """Zeros for the other instances: replaced, not multiplied, since NaN * 0 is NaN."""
    zeroed: _T = jax.tree.map(lambda a: jnp.where(_column(kept, a), a, 0), tree)
    return zeroed


def _unit(g: Any, squared: jax.Array) -> tuple[jax.Array, jax.Array]:
    inverse = rules.inverse_norm(jnp.where(jnp.isfinite(squared), squared, 0))
    return g.x * _column(inverse, g.x), g.y * _column(inverse, g.y)


def _column(values: jax.Array, like: jax.Array) -> jax.Array:
    """One value per instance, shaped to be broadcast over what an instance holds."""
    shaped: jax.Array = values.reshape(values.shape + (1,) * (like.ndim - 1))
    return shaped


def scan_chunks(one_chunk: Any, carry: Any, chunks: int, count: int) -> Any:
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
