"""A model's prediction as a Gaussian distribution, and its likelihood as a loss."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from denograd_jax._types import Instance, Instances, Model, Params, Predict, PredictBatch, Scalar
from denograd_jax.errors import ModelError, ShapeError

__all__ = ["GaussianParams", "gaussian", "gaussian_nll"]


class GaussianParams(NamedTuple):
    """Parameters of a model whose predictions are distributions.

    Attributes:
        mean: Parameters of the model of the mean.
        whitening: Matrix `(q, q)` that gives residuals unit covariance: the inverse of the lower
            Cholesky factor of their covariance.
    """

    mean: Params
    whitening: jax.Array


def gaussian(model: Model, covariance: ArrayLike) -> Model:
    """The same model with the covariance of its residuals, for the loss `gaussian_nll`.

    Args:
        model: Predicts the mean, q numbers.
        covariance: Of `y - f(x)`, `(q, q)`, symmetric and positive definite, in units of y; the
            same for all instances. With that of held-out residuals the likelihood is honest.

    Returns:
        A model whose predictions are distributions, `(q + q * q,)`: mean, then whitening matrix.
        Its `params` are `GaussianParams`. Equal models give the same function objects.

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
    whitening = jnp.asarray(np.linalg.inv(factor), jnp.result_type(float))
    predict, predict_batch = _functions(model.predict, model.predict_batch)
    return Model(predict, GaussianParams(model.params, whitening), predict_batch)


def gaussian_nll(prediction: jax.Array, target: jax.Array) -> Scalar:
    """Negative log-likelihood of a target but for its constant: half the whitened residual squared.

    Args:
        prediction: Of a model made by `gaussian`, `(q + q * q,)`.
        target: `(q,)`.
    """
    mean = _mean(prediction)
    whitening = prediction[mean.size :].reshape(mean.size, mean.size)
    whitened = whitening @ (mean - target)
    return 0.5 * jnp.sum(whitened * whitened)


def _mean(prediction: jax.Array) -> jax.Array:
    return prediction[: (math.isqrt(1 + 4 * prediction.size) - 1) // 2]


gaussian_nll.location = _mean  # type: ignore[attr-defined]  # residuals are taken from there


@functools.lru_cache(maxsize=64)
def _functions(
    predict: Predict, predict_batch: PredictBatch | None
) -> tuple[Predict, PredictBatch | None]:
    def one(params: GaussianParams, x: Instance) -> jax.Array:
        return _joined(predict(params.mean, x).reshape(1, -1), params.whitening)[0]

    def batch(params: GaussianParams, x: Instances) -> jax.Array:
        assert predict_batch is not None
        return _joined(predict_batch(params.mean, x).reshape(x.shape[0], -1), params.whitening)

    return one, None if predict_batch is None else batch


def _joined(means: jax.Array, whitening: Any) -> jax.Array:
    if means.shape[1] != len(whitening):
        raise ModelError(
            f"the model predicts {means.shape[1]} value(s), the covariance is one of "
            f"{len(whitening)}: they must be as many."
        )
    flat = whitening.astype(means.dtype).reshape(1, -1)
    return jnp.concatenate([means, jnp.broadcast_to(flat, (len(means), flat.size))], axis=1)
