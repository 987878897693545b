"""Any model of the targets, with the density of what it takes as input."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from denograd_jax._types import Instance, Instances, Model, Params, Predict, PredictBatch, Target
from denograd_jax.models._gaussian import GaussianParams, gaussian, gaussian_nll
from denograd_jax.models._mixture import MixtureParams, log_density_of_x

__all__ = ["JointParams", "beside", "joint", "joint_nll", "rows_nll"]


class JointParams(NamedTuple):
    """Parameters of a model of y with a density of x: of rows, p(x) p(y | x), or beside it.

    Attributes:
        target: Of the model of y.
        rows: Of the mixture, of which the density of x is taken.
    """

    target: GaussianParams | Params
    rows: MixtureParams


def joint(model: Model, covariance: ArrayLike, rows: Model) -> Model:
    """The density of whole rows: of x by a mixture, of y given x by a model, for `joint_nll`.

    Args:
        model: Predicts the mean of y, q numbers, from a row.
        covariance: Of its residuals, as `gaussian` takes it.
        rows: Made by `mixture_regression`; what it says of y is not used.

    Returns:
        A model whose predictions are those of `gaussian`, and behind them log p(x).
    """
    given = gaussian(model, covariance)
    predict, predict_batch = _functions(given.predict, given.predict_batch)
    return Model(predict, JointParams(given.params, rows.params), predict_batch)


def beside(model: Model, rows: Model) -> Model:
    """A classifier with the density of the features beside it, for `rows_nll`.

    Args:
        model: Of the logits of classes, from a row.
        rows: Made by `mixture_regression`, of which the density of x is taken.

    Returns:
        A model whose predictions are the logits, and behind them log p(x).
    """
    predict, predict_batch = _functions(model.predict, model.predict_batch)
    return Model(predict, JointParams(model.params, rows.params), predict_batch)


def rows_nll(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Negative log-density of x alone; one number. Labels have no say in it, and do not move.

    The residual is that of the classifier, in probabilities: it tells how well the labels fit.

    Args:
        prediction: Of a model made by `beside`.
        target: Probabilities of classes, `(classes,)`; not looked at.
    """
    del target
    return -prediction[-1]


def joint_nll(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Negative log-density of x and y, but for a constant; one number.

    Args:
        prediction: Of a model made by `joint`.
        target: `(q,)`.
    """
    return gaussian_nll(prediction[:-1], target).sum() - prediction[-1]


def _location(prediction: jax.Array) -> Target:
    return gaussian_nll.location(prediction[:-1])  # type: ignore[attr-defined,no-any-return]


joint_nll.location = _location  # type: ignore[attr-defined]  # residuals are taken from there


def _probabilities(prediction: jax.Array) -> Target:
    return jax.nn.softmax(prediction[:-1])


rows_nll.location = _probabilities  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=64)
def _functions(
    predict: Predict, predict_batch: PredictBatch | None
) -> tuple[Predict, PredictBatch | None]:
    def one(params: JointParams, x: Instance) -> jax.Array:
        density = log_density_of_x(params.rows, x)
        return jnp.append(predict(params.target, x), density)

    def batch(params: JointParams, x: Instances) -> jax.Array:
        assert predict_batch is not None
        density = jax.vmap(log_density_of_x, in_axes=(None, 0))(params.rows, x)
        return jnp.concatenate([predict_batch(params.target, x), density[:, None]], axis=1)

    return one, None if predict_batch is None else batch
