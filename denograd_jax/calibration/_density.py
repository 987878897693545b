"""The density of noisy data as a model knows it: the covariance of its residuals, the score."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from denograd_jax import rules
from denograd_jax._core._prepare import prepare, valid_instances
from denograd_jax._core._refiner import refiner
from denograd_jax._types import Model
from denograd_jax.errors import DataError
from denograd_jax.layouts import Data, Layout
from denograd_jax.models import gaussian, gaussian_nll, incomplete_gaussian_nll

__all__ = ["Density", "density_of", "residual_covariance", "score_of"]

JITTER = 1e-6
"""Least eigenvalue of the residuals' correlation: columns that are equal, or sums of others, have a
singular one."""


class Density(NamedTuple):
    """What `density_of` found.

    Attributes:
        model: The model with the covariance of its residuals.
        covariance: That covariance, `(q, q)`.
        score_x: Gradient of the log-density by x, shaped as x; 0 at cells that may not move.
        score_y: The same by y; None where the targets are columns of x.
    """

    model: Model
    covariance: NDArray[np.float64]
    score_x: NDArray[np.floating]
    score_y: NDArray[np.floating] | None


def density_of(model: Model, layout: Layout, arrays: Sequence[Any]) -> Density:
    """The data's density by a model that predicts a mean, its residuals taken as Gaussian.

    The residuals are those on the data itself: where the model was trained on it with many weights,
    they are too small, and the density too narrow.

    Args:
        model: Predicts targets of instances.
        layout: How instances are cut; in a series windows overlap, and their densities multiply.
        arrays: Arguments of `Refiner.init`, without noise.

    Raises:
        DataError: A target is never observed behind a window.
    """
    covariance = residual_covariance(model, layout, arrays)
    whole = gaussian(model, covariance)
    return Density(whole, covariance, *score_of(whole, layout, arrays))


def residual_covariance(model: Model, layout: Layout, arrays: Sequence[Any]) -> NDArray[np.float64]:
    """The covariance of a model's residuals, `(q, q)`; arguments and errors as by `density_of`."""
    plain = refiner(model, rule=rules.tweedie(0.0), layout=layout)
    state = plain.init(*arrays)
    _, info = plain.step(model.params, state)
    observed = np.asarray(_observed(layout, state.data, len(info.valid)) & info.valid[:, None])
    return _covariance(np.asarray(info.residual, np.float64), observed)


def score_of(
    model: Model,
    layout: Layout,
    arrays: Sequence[Any],
    *,
    x_weight: ArrayLike = 1.0,
    y_weight: ArrayLike = 1.0,
) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
    """The gradient of the data's log-density by x and y, shaped as these.

    Args:
        model: Made by `models.gaussian`.
        layout: How instances are cut.
        arrays: Arguments of `Refiner.init`, without noise.
        x_weight: What instances say of their inputs counts so much; see `rules.tweedie`.
        y_weight: The same of their targets.

    Returns:
        Its two parts, 0 at cells that may not move; None for y where the targets are columns of x.
    """
    # The posterior mean with noise of 1 is one score away from the data.
    rule = rules.tweedie(1.0, x_weight=x_weight, y_weight=y_weight)
    incomplete = misses_targets(layout, prepare(layout, *arrays))
    loss = incomplete_gaussian_nll if incomplete else gaussian_nll
    ascent = refiner(model, rule=rule, layout=layout, loss=loss)
    state = ascent.init(*arrays)
    moved, _ = ascent.step(model.params, state)
    x, y = np.asarray(state.data.x), state.data.y
    score_y = None if y is None else np.asarray(moved.data.y) - np.asarray(y)
    return np.asarray(moved.data.x) - x, score_y


def misses_targets(layout: Layout, data: Data) -> bool:
    """Whether an instance has some of its targets, but not all of them."""
    valid = np.asarray(valid_instances(layout, data))
    observed = np.asarray(_observed(layout, data, len(valid)))[valid]
    return bool((observed.any(axis=1) != observed.all(axis=1)).any())


@functools.partial(jax.jit, static_argnums=(0, 2))  # so that no window is cut for it
def _observed(layout: Layout, data: Data, count: int) -> jax.Array:
    """Which targets of which instances are observed, `(n, q)`."""
    return layout.gather(data, jnp.arange(count)).observed_y.reshape(count, -1)


def _covariance(residual: NDArray[np.float64], observed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Each entry from the instances that have both targets; positive definite all the same."""
    observed = observed & np.isfinite(residual)
    if not observed.any(axis=0).all():
        raise DataError("a column that windows predict has no value behind any window.")
    known = np.where(observed, residual, 0)
    weight = observed.astype(np.float64)
    covariance = known.T @ known / np.maximum(weight.T @ weight, 1)
    scale = np.sqrt(np.diag(covariance)) + JITTER
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    correlation = (vectors * np.maximum(values, JITTER)) @ vectors.T
    found: NDArray[np.float64] = correlation * np.outer(scale, scale)
    return (found + found.T) / 2
