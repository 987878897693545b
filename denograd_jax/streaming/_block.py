"""One block of a series: the say of the windows that begin in it, and the moves of its steps."""

import functools
import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from denograd_jax._core._instances import batch_gradients
from denograd_jax._core._sweep import sweep_with
from denograd_jax._types import Loss, Model, Params
from denograd_jax.layouts import Data, Windows
from denograd_jax.rules import Rule

__all__ = ["BlockFunctions", "Counts", "block_functions", "digest_of_params", "fingerprint"]

_TRACED: Any = ()  # stands in a cached rule for the numbers that are handed in


class Counts(NamedTuple):
    """How many windows moved, and how many could not because something was not finite: `()`."""

    active: jax.Array
    nonfinite: jax.Array


class BlockFunctions(NamedTuple):
    """What is compiled, for blocks of one size.

    Attributes:
        move: `move(params, numbers, data, carry, factor) -> (moves, carry, Counts)`. `data` holds
            the block and the halo behind it, `carry` what windows of the blocks before say about
            its first steps. `moves` is `(block, columns)`, those of y behind those of x.
        squared_norm: `squared_norm(params, numbers, data)`: of all gradients of the block, `()`.
    """

    move: Any
    squared_norm: Any


def block_functions(model: Model, rule: Rule, layout: Windows, loss: Loss) -> BlockFunctions:
    """Functions of a refinement; equal ones share their compilation, whatever the numbers."""
    traced = rule._replace(hyperparameters=_TRACED)
    return _build(model.predict, model.predict_batch, traced, layout, loss)


@functools.lru_cache(maxsize=32)
def _build(
    predict: Any, predict_batch: Any, rule: Rule, layout: Windows, loss: Loss
) -> BlockFunctions:
    gradients = batch_gradients(
        predict, predict_batch, loss, labels=rule.takes_labels, jacobian=rule.jacobian
    )
    sweep = sweep_with(gradients, rule, layout)
    halo = layout.halo

    @jax.jit
    def move(
        params: Params, numbers: dict[str, jax.Array], data: Data, carry: Any, factor: jax.Array
    ) -> tuple[jax.Array, Any, Counts]:
        found = sweep(params, numbers, data)
        sums = jax.tree.map(lambda total, before: total.at[:halo].add(before), found.sums, carry)
        block: Data = jax.tree.map(lambda a: a[:-halo], data)
        dx, dy = layout.corrections(block, jax.tree.map(lambda a: a[:-halo], sums), rule.consensus)
        moves = jnp.where(block.movable_x, factor * dx, 0)
        if dy is not None:
            assert block.movable_y is not None
            moves = jnp.concatenate([moves, jnp.where(block.movable_y, factor * dy, 0)], axis=1)
        carry = jax.tree.map(lambda a: a[-halo:], sums)
        active = (found.gate > 0).sum(dtype=jnp.int32)
        return moves, carry, Counts(active, found.totals.nonfinite)

    @jax.jit
    def squared_norm(params: Params, numbers: dict[str, jax.Array], data: Data) -> jax.Array:
        return sweep(params, numbers, data).totals.squared_norm

    return BlockFunctions(move, squared_norm)


def fingerprint(*programs: jax.stages.Lowered) -> str:
    """A digest of programs, in which model, rule, layout and loss went."""
    text = "".join(program.as_text() for program in programs)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digest_of_params(params: Params) -> str:
    """A digest of all arrays of a model."""
    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(params):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
