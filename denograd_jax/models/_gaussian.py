"""A model's prediction as a Gaussian distribution, and its likelihood as a loss."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from denograd_jax._types import Instance, Instances, Model, Params, Predict, PredictBatch, Target
from denograd_jax.errors import ModelError, ShapeError

__all__ = ["GaussianParams", "gaussian", "gaussian_nll", "incomplete_gaussian_nll"]


class GaussianParams(NamedTuple):
    """Parameters of a model whose predictions are distributions.

    Attributes:
        mean: Parameters of the model of the mean.
        covariance: Of the residuals, `(q, q)`.
        precision: Its inverse.
    """

    mean: Params
    covariance: jax.Array
    precision: jax.Array


def gaussian(model: Model, covariance: ArrayLike) -> Model:
    """The same model with the covariance of its residuals, for the losses of this module.

    Args:
        model: Predicts the mean, q numbers.
        covariance: Of `y - f(x)`, `(q, q)`, symmetric and positive definite, in units of y; the
            same for all instances. With that of held-out residuals the likelihood is honest.

    Returns:
        A model whose predictions are distributions, `(q + 2 * q * q,)`: mean, covariance and its
        inverse. Its `params` are `GaussianParams`. Equal models give the same function objects.

    Raises:
        ShapeError: The covariance is no square matrix, or not positive definite.
        ModelError: When called, if the model predicts another number of values.
    """
    matrix = np.asarray(covariance, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(f"covariance must be a square matrix, not of shape {matrix.shape}.")
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        factor = np.full_like(matrix, np.nan)
    if not np.isfinite(factor).all():
        raise ShapeError("covariance must be positive definite.")
    whitening = np.linalg.inv(factor)
    matrices = (jnp.asarray(m, jnp.result_type(float)) for m in (matrix, whitening.T @ whitening))
    predict, predict_batch = _functions(model.predict, model.predict_batch)
    return Model(predict, GaussianParams(model.params, *matrices), predict_batch)


def gaussian_nll(prediction: jax.Array, target: jax.Array) -> Target:
    """Negative log-likelihood of a target but for its constant, `1/2 r' P r`, as q parts of a sum.

    An instance that misses a target is judged as if that had been predicted exactly; where targets
    are missing use `incomplete_gaussian_nll`.

    Args:
        prediction: Of a model made by `gaussian`.
        target: `(q,)`.
    """
    mean, _, precision = _parts(prediction)
    residual = mean - target
    return 0.5 * residual * (precision @ residual)


def incomplete_gaussian_nll(prediction: jax.Array, target: jax.Array) -> Target:
    """The same by the density of those targets alone that are observed.

    It inverts the covariance of each instance's targets. Those that are not observed are known by
    residuals of exactly 0, which refiners put in their place.

    Args:
        prediction: Of a model made by `gaussian`.
        target: `(q,)`.
    """
    mean, covariance, _ = _parts(prediction)
    residual = mean - target
    observed = residual != 0
    both = observed[:, None] & observed[None, :]
    marginal = jnp.where(both, covariance, jnp.eye(mean.size, dtype=mean.dtype))
    # No residual's derivative goes through the inverse; a constant spares the work.
    precision = jax.lax.stop_gradient(jnp.linalg.inv(marginal))
    losses: Target = 0.5 * residual * (precision @ residual)
    return losses


def _parts(prediction: jax.Array) -> tuple[Target, jax.Array, jax.Array]:
    mean = _mean(prediction)
    covariance, precision = prediction[mean.size :].reshape(2, mean.size, mean.size)
    return mean, covariance, precision


def _mean(prediction: jax.Array) -> jax.Array:
    """The first q of `q + 2 * q * q` numbers."""
    return prediction[: (math.isqrt(1 + 8 * prediction.size) - 1) // 4]


for _loss in (gaussian_nll, incomplete_gaussian_nll):
    _loss.location = _mean  # type: ignore[attr-defined]  # residuals are taken from there


@functools.lru_cache(maxsize=64)
def _functions(
    predict: Predict, predict_batch: PredictBatch | None
) -> tuple[Predict, PredictBatch | None]:
    def one(params: GaussianParams, x: Instance) -> jax.Array:
        return _joined(predict(params.mean, x).reshape(1, -1), params)[0]

    def batch(params: GaussianParams, x: Instances) -> jax.Array:
        assert predict_batch is not None
        return _joined(predict_batch(params.mean, x).reshape(x.shape[0], -1), params)

    return one, None if predict_batch is None else batch


def _joined(means: jax.Array, params: Any) -> jax.Array:
    if means.shape[1] != len(params.covariance):
        raise ModelError(
            f"the model predicts {means.shape[1]} value(s), the covariance is one of "
            f"{len(params.covariance)}: they must be as many."
        )
    flat = jnp.stack([params.covariance, params.precision]).astype(means.dtype).reshape(1, -1)
    return jnp.concatenate([means, jnp.broadcast_to(flat, (len(means), flat.size))], axis=1)
