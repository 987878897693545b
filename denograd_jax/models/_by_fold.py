"""Models trained without a part of the data each, as one model that knows which to ask."""

import functools

import jax
import jax.numpy as jnp

from denograd_jax._types import Instance, Instances, Model, Params, Predict, PredictBatch

__all__ = ["by_fold"]


def by_fold(model: Model) -> Model:
    """K models of one architecture as one, for cross-fitting.

    The last number of an instance (of a window: of its last step) is the fold that it lies in, from
    0 on, and it is predicted by the model of that number, which should have been trained without
    that fold. -1 stands for no fold: all models are asked, and their mean is taken.

    Args:
        model: Its `params` are those of K models, stacked: each leaf has a leading axis of K.

    Returns:
        A model of instances one number wider, `(d + 1,)` or `(W, C + 1)`; its gradient by that
        number is 0. All K models are evaluated at every instance.

    Source:
        Cross-fitting: Chernozhukov et al. 2018.

    Example:
        >>> slopes = Model(lambda slope, x: slope * x, jnp.array([1.0, 10.0]))
        >>> model = by_fold(slopes)
        >>> [model.predict(model.params, jnp.array([2.0, fold])).item() for fold in (0, 1, -1)]
        [2.0, 20.0, 11.0]
    """
    try:
        predict, predict_batch = _shared_functions(model.predict, model.predict_batch)
    except TypeError:  # functions without a hash: compiled anew each time
        predict, predict_batch = _functions(model.predict, model.predict_batch)
    return Model(predict, model.params, predict_batch)


def _functions(
    predict: Predict, predict_batch: PredictBatch | None
) -> tuple[Predict, PredictBatch | None]:
    def one(params: Params, x: Instance) -> jax.Array:
        found = jax.vmap(predict, in_axes=(0, None))(params, x[..., :-1])
        fold = x.reshape(-1)[-1]
        return (_shares(fold, found)[:, None] * found.reshape(len(found), -1)).sum(axis=0)

    def batch(params: Params, x: Instances) -> jax.Array:
        assert predict_batch is not None
        found = jax.vmap(predict_batch, in_axes=(0, None))(params, x[..., :-1])
        folds = x.reshape(len(x), -1)[:, -1]
        shares = jax.vmap(_shares, in_axes=(0, None))(folds, found)
        return jnp.einsum("nk,knq->nq", shares, found.reshape(*found.shape[:2], -1))

    return one, None if predict_batch is None else batch


def _shares(fold: jax.Array, found: jax.Array) -> jax.Array:
    """What each model's prediction counts, `(K,)`."""
    models = len(found)
    own = (jnp.arange(models) == fold.astype(jnp.int32)).astype(found.dtype)
    return jnp.where(fold < 0, jnp.full_like(own, 1 / models), own)


_shared_functions = functools.lru_cache(maxsize=64)(_functions)
