"""How sharply a density of the data pins each cell down: the diagonal of its curvature."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from denograd_jax._core._instances import Linearisation, batch_gradients
from denograd_jax._core._prepare import prepare
from denograd_jax._core._sweep import sweep_with
from denograd_jax._types import Model
from denograd_jax.calibration._density import misses_targets
from denograd_jax.errors import ModelError
from denograd_jax.layouts import Data, Layout, Windows
from denograd_jax.models import GaussianParams, gaussian_nll
from denograd_jax.rules import Move, Rule

__all__ = ["Information", "information_of"]


class Information(NamedTuple):
    """What `information_of` found: precisions of cells given all others, in inverse squared units.

    Attributes:
        x: Shaped as x; 0 where no instance holds the cell.
        y: Shaped as y; None where the targets are columns of x.
    """

    x: NDArray[np.floating]
    y: NDArray[np.floating] | None


def information_of(
    model: Model,
    layout: Layout,
    arrays: Sequence[Any],
    *,
    x_weight: ArrayLike = 1.0,
    y_weight: ArrayLike = 1.0,
) -> Information:
    r"""The second derivative of -log p of the whole data by each cell, as Gauss-Newton takes it.

    .. math:: h = \sum_w \operatorname{diag}(G_w^T P G_w), \qquad G_w = (f'(x_w), -I)

    over all instances that hold the cell, as input or as target, P being the inverse covariance of
    the residuals (of those targets alone that are observed). It is exact where f is linear. With
    the score g = d log p / dz, as `density_of` finds it, `z + g / h` is what the model expects of a
    cell from all others, and in noise of variance `v` the posterior variance of the clean cell is
    `v * (1 - v * h)`.

    It covers every cell, also those that may not move; at a missing one it is taken at the fill,
    and says how well the others would tell it. An instance that is not finite says nothing.

    Look-ahead: as the layout's.

    Args:
        model: Made by `models.gaussian`.
        layout: How instances are cut.
        arrays: Arguments of `Refiner.init`, without noise.
        x_weight: What instances say of their inputs counts so much; see `rules.tweedie`.
        y_weight: The same of their targets.

    Raises:
        ModelError: The model is of no density, or does not fit the targets.
        ShapeError, DataError: As by `Refiner.init`.

    Source:
        Leaving one cell out: Besag 1975. Posterior variance by the curvature of the noisy density:
        Robbins 1956, Efron 2011.

    Example:
        A random walk in steps of variance 1/4; inside, both neighbours tell of a value:

        >>> from denograd_jax import as_model, layouts, models
        >>> walk = models.gaussian(as_model(lambda x: x[-1]), [[0.25]])
        >>> series = np.zeros((4, 1), np.float32)
        >>> layout = layouts.windows(1, target_columns=[0])
        >>> print(information_of(walk, layout, (series,)).x.ravel())
        [4. 8. 8. 4.]
    """
    if not isinstance(model.params, GaussianParams):
        raise ModelError(
            "a density needs a covariance of the residuals: models.gaussian(model, ...)."
        )
    if isinstance(layout, Windows):  # densities multiply, whatever the layout says of moves
        layout = dataclasses.replace(layout, consensus=None)
    data = prepare(layout, *arrays)
    x, y = _curvature(
        model.predict,
        model.predict_batch,
        layout,
        misses_targets(layout, data),
        model.params,
        {"x": x_weight, "y": y_weight},
        data,
    )
    return Information(np.asarray(x), None if y is None else np.asarray(y))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _curvature(
    predict: Any,
    predict_batch: Any,
    layout: Any,
    incomplete: bool,
    params: GaussianParams,
    weights: dict[str, ArrayLike],
    data: Data,
) -> tuple[jax.Array, jax.Array | None]:
    """Every instance's share, added up as moves are."""
    gradients = batch_gradients(predict, predict_batch, gaussian_nll, labels=False, jacobian=True)
    share = _share_of_observed if incomplete else _share
    rule = Rule({}, share, consensus="sum", takes_labels=False, jacobian=True)
    numbers = {name: getattr(params, name) for name in _MATRICES} | weights
    numbers = {name: jnp.asarray(number, data.x.dtype) for name, number in numbers.items()}
    found = sweep_with(gradients, rule, layout)(params, numbers, data)
    curvature: tuple[jax.Array, jax.Array | None] = layout.corrections(data, found.sums, "sum")
    return curvature


_MATRICES = "covariance", "precision"


def _share(numbers: dict[str, jax.Array], g: Linearisation) -> Move:
    """`diag(G' P G)`, by input and by target."""
    return _diagonal(numbers["precision"], numbers, g)


def _share_of_observed(numbers: dict[str, jax.Array], g: Linearisation) -> Move:
    """The same; what is missing has zeros in the Jacobian, and is made to have no correlation."""
    observed = g.jacobian_y != 0
    both = observed[:, None] & observed[None, :]
    covariance = numbers["covariance"]
    marginal = jnp.where(both, covariance, jnp.eye(len(covariance), dtype=covariance.dtype))
    return _diagonal(jnp.linalg.inv(marginal), numbers, g)


def _diagonal(precision: jax.Array, weights: dict[str, jax.Array], g: Linearisation) -> Move:
    by_x = g.jacobian_x.reshape(len(precision), -1)
    weighted = jnp.matmul(precision, by_x, precision=jax.lax.Precision.HIGHEST)
    x = jnp.sum(by_x * weighted, axis=0).reshape(g.x.shape)
    y = jnp.diag(precision) * g.jacobian_y**2
    of_x, of_y = (jnp.broadcast_to(weights[k], v.shape) for k, v in (("x", x), ("y", y)))
    return Move(of_x * x, of_y * y, jnp.ones_like(g.loss))
