"""Flax modules as pure functions."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from denograd_jax._types import Instance, Instances, Model, Params, Predict, PredictBatch

__all__ = ["as_pure", "cast"]


def as_pure(module: nnx.Module) -> Model:
    """Makes a Flax module, in evaluation mode, a pure `Model`.

    The module is copied and the copy put into evaluation mode (dropout off, running averages in
    use): the caller's module keeps its mode and its weights. Every variable of the module, batch
    statistics and random keys included, is a leaf of `params`.

    Modules of the same architecture give the *same* function objects, so whatever `jax.jit` has
    compiled for the first serves the others too.

    Args:
        module: Called on a batch, `(n, d)` or `(n, W, C)` to `(n, q)` or `(n,)`.

    Returns:
        The model, with `params` nested dictionaries of arrays, keyed by attribute and by position.
    """
    frozen = nnx.clone(module)
    frozen.eval()  # type: ignore[no-untyped-call]
    graphdef, state = nnx.split(frozen)
    try:
        predict, predict_batch = _shared_functions(graphdef)
    except TypeError:  # an attribute without a hash, a dictionary say: nothing can be shared
        predict, predict_batch = _functions(graphdef)
    return Model(predict, nnx.to_pure_dict(state), predict_batch)


def cast(params: Params, dtype: jax.typing.DTypeLike) -> Params:
    """Casts the floating-point leaves of `params`; integers and random keys stay as they are."""

    def cast_leaf(leaf: jax.Array) -> jax.Array:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast_leaf, params)


def _functions(graphdef: nnx.GraphDef[nnx.Module]) -> tuple[Predict, PredictBatch]:
    def predict_batch(params: Params, x: Instances) -> jax.Array:
        module: Callable[[jax.Array], jax.Array] = nnx.merge(graphdef, params)
        return module(x)

    def predict(params: Params, x: Instance) -> jax.Array:
        return predict_batch(params, x[None])[0]

    return predict, predict_batch


_shared_functions = functools.lru_cache(maxsize=256)(_functions)
