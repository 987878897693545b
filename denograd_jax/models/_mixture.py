"""Rows as a mixture of Gaussians: a model of their targets, and the density of all their cells."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from denograd_jax._types import Instance, Loss, Model, Target
from denograd_jax.errors import ShapeError

__all__ = [
    "MixtureParams",
    "log_density_of_x",
    "mixture",
    "mixture_nll",
    "mixture_regression",
]


class MixtureParams(NamedTuple):
    """Parameters of a mixture of K Gaussians over `(x, y)`, each as p(x) p(y | x).

    Attributes:
        log_weights: With the constant of each component's density of x, `(K,)`.
        mean_x: `(K, d)`.
        whitening_x: Lower triangular L with `L' L` the precision of x, `(K, d, d)`.
        mean_y: `(K, q)`.
        slope: Of the mean of y by x, `(K, q, d)`.
        whitening_y: As `whitening_x`, of y given x, `(K, q, q)`.
        columns: Which numbers of an instance are x, `(d,)` integers.
    """

    log_weights: jax.Array
    mean_x: jax.Array
    whitening_x: jax.Array
    mean_y: jax.Array
    slope: jax.Array
    whitening_y: jax.Array
    columns: jax.Array


def mixture_regression(
    weights: ArrayLike,
    means: ArrayLike,
    covariances: ArrayLike,
    *,
    targets: int = 1,
    columns: ArrayLike | None = None,
) -> Model:
    """The last columns of rows, as a mixture of Gaussians over all columns lets expect them.

    Args:
        weights: Of K components, `(K,)`, positive; divided by their sum.
        means: `(K, d + q)`, of x and behind it y.
        covariances: `(K, d + q, d + q)`, symmetric and positive definite.
        targets: Number q of columns that are y; of all of them, where d is 0, the model is their
            mean, and of none it predicts nothing, but has the density of x.
        columns: Which numbers of an instance are x, `(d,)`; the first d unless given.

    Returns:
        A model of rows that predicts the mean of y, `(q,)`; its `params` are `MixtureParams`.

    Raises:
        ShapeError: For shapes that do not fit, or a covariance that is not positive definite.

    Source:
        Ghahramani and Jordan, "Supervised learning from incomplete data via an EM approach", 1994.

    Example:
        >>> line = mixture_regression([1.0], [[0.0, 1.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> print(line.predict(line.params, jnp.array([2.0])))
        [2.]
    """
    w, m, c = (np.asarray(a, np.float64) for a in (weights, means, covariances))
    whole = m.shape[-1] if m.ndim == 2 else 0
    if (
        (w.shape, c.shape) != (m.shape[:1], (*m.shape, whole))
        or not 0 <= targets <= whole
        or whole == 0
    ):
        raise ShapeError(
            f"weights {w.shape}, means {m.shape} and covariances {c.shape} of {targets} targets "
            "are not (K,), (K, d + q) and (K, d + q, d + q)."
        )
    split = whole - targets
    xx, xy, yy = c[:, :split, :split], c[:, :split, split:], c[:, split:, split:]
    whitening_x = _whitening(xx)
    slope = np.linalg.solve(xx, xy).transpose(0, 2, 1)
    whitening_y = _whitening(yy - slope @ xy)
    determinants = np.log(np.diagonal(whitening_x, axis1=1, axis2=2)).sum(axis=1)
    params = (
        np.log(w / w.sum()) + determinants - split / 2 * np.log(2 * np.pi),
        m[:, :split],
        whitening_x,
        m[:, split:],
        slope,
        whitening_y,
    )
    floats = [jnp.asarray(p, jnp.result_type(float)) for p in params]
    places = np.arange(split) if columns is None else np.asarray(columns)
    return Model(_expected, MixtureParams._make([*floats, jnp.asarray(places, jnp.int32)]))


def mixture(model: Model) -> Model:
    """The same mixture with the density of whole rows, for the loss `mixture_nll`.

    Args:
        model: Made by `mixture_regression`.

    Returns:
        A model whose predictions are distributions, `(K * (1 + q + q * q),)`: for each component
        its log-density at x, the mean of y given x, and the whitening matrix of y given x.
    """
    return Model(_distribution, model.params)


def _whitening(covariances: Any) -> Any:
    try:
        found = np.linalg.inv(np.linalg.cholesky(covariances))
    except np.linalg.LinAlgError:
        found = np.full_like(covariances, np.nan)
    if not np.isfinite(found).all():
        raise ShapeError("covariances must be positive definite.")
    return found


def _expected(params: MixtureParams, x: Instance) -> Target:
    return _located(_distribution(params, x), len(params.mean_y[0]))


def _distribution(params: MixtureParams, x: Instance) -> jax.Array:
    apart = x[params.columns][None] - params.mean_x
    white = jnp.einsum("kij,kj->ki", params.whitening_x, apart)
    logs = params.log_weights - (white**2).sum(axis=-1) / 2
    means = params.mean_y + jnp.einsum("kqj,kj->kq", params.slope, apart)
    return jnp.concatenate([logs, means.ravel(), params.whitening_y.ravel()])


def log_density_of_x(params: MixtureParams, x: Instance) -> jax.Array:
    """The logarithm of p(x), `()`."""
    return jax.nn.logsumexp(_distribution(params, x)[: len(params.log_weights)])


@functools.cache
def mixture_nll(targets: int = 1) -> Loss:
    """Negative log-density of x AND y of a row, for a model made by `mixture` with `targets`.

    The density of the whole row moves x by what its other columns make likely, not by y alone.

    Returns:
        A loss of its prediction and a target `(q,)`, one number; the same object for the same q.
    """

    def loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
        logs, means, whitening = _parts(prediction, targets)
        white = jnp.einsum("kij,kj->ki", whitening, target[None] - means)
        of_y = jnp.log(jnp.diagonal(whitening, axis1=1, axis2=2)).sum(axis=-1)
        constant = targets / 2 * math.log(2 * math.pi)
        return -jax.nn.logsumexp(logs + of_y - constant - (white**2).sum(axis=-1) / 2)

    location = functools.partial(_located, q=targets)
    loss.location = location  # type: ignore[attr-defined]  # residuals are taken from there
    return loss


def _located(prediction: jax.Array, q: int) -> Target:
    logs, means, _ = _parts(prediction, q)
    return jax.nn.softmax(logs) @ means


def _parts(prediction: jax.Array, q: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log-densities at x `(K,)`, means `(K, q)` and whitening matrices `(K, q, q)` of y."""
    k = prediction.size // (1 + q + q * q)
    return (
        prediction[:k],
        prediction[k : k + k * q].reshape(k, q),
        prediction[k + k * q :].reshape(k, q, q),
    )
