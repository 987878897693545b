"""Which epoch's parameters the second stage starts from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from denograd_jax._types import Params

__all__ = ["BaseModel", "first_base", "follow"]


class BaseModel(NamedTuple):
    """The parameters of the epoch before predictions first began to change more.

    As long as fewer predictions change from epoch to epoch, the model learns what instances have
    in common; when more begin to, it is learning their noise.

    Attributes:
        params: Of that epoch.
        epoch: Its index, `()`.
        changed: How many predictions the last epoch changed, `()`.
        found: Whether there was a rise; until then the base is the last epoch, `()`.
    """

    params: Params
    epoch: jax.Array
    changed: jax.Array
    found: jax.Array


def first_base(params: Params, count: int) -> BaseModel:
    """Before the first epoch, which changes the predictions of all `count` instances."""
    return BaseModel(params, jnp.int32(-1), jnp.int32(count), jnp.bool(False))


def follow(base: BaseModel, params: Params, changed: jax.Array) -> BaseModel:
    """The base model after one more epoch, which ended in `params`."""
    changed = changed.astype(jnp.int32)
    found = base.found | (changed > base.changed)
    kept = jax.tree.map(lambda old, new: jnp.where(found, old, new), base.params, params)
    epoch = jnp.where(found, base.epoch, base.epoch + 1)
    return BaseModel(kept, epoch, changed, found)
