"""A linear map of the instance, fitted by least squares in closed form."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import ArrayLike, NDArray

from denograd_jax._types import Model
from denograd_jax.backbones._pure import as_pure
from denograd_jax.errors import BackboneError

__all__ = ["Linear", "LinearFit", "fit_linear"]

CHUNK = 4096
RIDGE = 1.0
"""Prior precision of a weight, in units of residual variance; stands against columns that are equal
or constant, and is nothing beside hundreds of standardised instances."""
MOST_WEIGHTS = 1024
MOST_INSTANCES = 65_536
"""Evenly spread; more would only take memory."""
ORDERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 72, 96, 144, 168)


class Linear(nnx.Module):
    """One linear map of a row, or of all steps of a window: a vector autoregression."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(math.prod(input_shape), outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear(x.reshape(x.shape[0], -1))


class LinearFit(NamedTuple):
    """A linear model, and how it came about.

    Attributes:
        model: The model.
        order: Steps of the window, counted from its last, whose weights are not 0; of rows 1.
    """

    model: Model
    order: int


class _Moments(NamedTuple):
    """Sums over the instances that observe some targets, in float64.

    Attributes:
        targets: Which targets, `(k,)`.
        xx: Of `(1, x)` squared, `(1 + p, 1 + p)`.
        xy: Of `(1, x)` and the targets multiplied, `(1 + p, k)`.
        yy: Of the targets squared, `(k, k)`.
        instances: How many.
    """

    targets: NDArray[np.intp]
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]
    yy: NDArray[np.float64]
    instances: int


def fit_linear(
    gather: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array, jax.Array]],
    data: Any,
    index: ArrayLike,
    *,
    input_shape: tuple[int, ...],
    outputs: int,
) -> LinearFit:
    """Fits the backbone "linear" to standardised instances, each target by those that observe it.

    Of windows it takes the last steps alone, as many as Schwarz's criterion (BIC) says: a longer
    autoregression of a noisy series predicts no better, and its gradient is noisier.

    Args:
        gather: As `train` takes it.
        data: As `train` takes it.
        index: What `gather` turns into instances: integers from 0, `(n,)`.
        input_shape: Shape of one instance.
        outputs: Number q of targets.

    Raises:
        BackboneError: There are fewer instances than weights.

    Source:
        Schwarz 1978; for the order of vector autoregressions Luetkepohl 2005, chapter 4.
    """
    steps, width = (1, *input_shape) if len(input_shape) == 1 else input_shape
    index = np.asarray(index, np.int32)
    index = index[:: -(-index.size // MOST_INSTANCES) or 1]
    affordable = min(MOST_WEIGHTS, index.size // 5) // width
    orders = [k for k in ORDERS if k <= min(steps, max(affordable, 1))]
    largest = orders[-1]
    groups = _moments(gather, data, index, largest * width)
    fewest = min(group.instances for group in groups)
    if fewest <= width:
        raise BackboneError(
            f"There are {fewest} instances with a target for {width} weights of a linear backbone; "
            "give more rows or fewer columns."
        )
    order, weights = _best(groups, orders, width, outputs)
    kernel = np.zeros((steps * width, outputs))
    kernel[(steps - order) * width :] = weights[1:]
    module = Linear(input_shape, outputs, rngs=nnx.Rngs(0))
    module.linear.kernel = nnx.Param(jnp.asarray(kernel, jnp.float32))
    module.linear.bias = nnx.Param(jnp.asarray(weights[0], jnp.float32))
    return LinearFit(as_pure(module), order)


def _best(
    groups: Sequence[_Moments], orders: Sequence[int], width: int, outputs: int
) -> tuple[int, NDArray[np.float64]]:
    """The order of least criterion, and its weights, `(1 + order * width, q)`."""
    found = []
    for order in orders:
        weights, criterion = np.zeros((1 + order * width, outputs)), 0.0
        for group in groups:
            weights[:, group.targets], part = _solved(group, order * width)
            criterion += part
        found.append((criterion, order, weights))
    _, order, weights = min(found, key=lambda one: one[0])
    return order, weights


def _solved(moments: _Moments, inputs: int) -> tuple[NDArray[np.float64], float]:
    """Weights of the last inputs, and Schwarz's criterion."""
    kept = np.r_[0, np.arange(len(moments.xx) - inputs, len(moments.xx))]
    xx, xy = moments.xx[np.ix_(kept, kept)], moments.xy[kept]
    weights = np.linalg.solve(xx + RIDGE * np.eye(len(xx)), xy)
    squares = moments.yy - weights.T @ xy - xy.T @ weights + weights.T @ xx @ weights
    covariance = squares / moments.instances
    # Equal columns have a residual of rounding; its logarithm must not decide.
    covariance += 1e-6 * np.diag(np.diag(covariance)) + 1e-9 * np.eye(len(covariance))
    criterion = moments.instances * np.linalg.slogdet(covariance)[1]
    return weights, float(criterion + np.log(moments.instances) * weights.size)


def _moments(gather: Any, data: Any, index: NDArray[np.int32], inputs: int) -> list[_Moments]:
    """Of the last `inputs` numbers of each instance, for each group of targets seen together."""
    chunks = [index[start : start + CHUNK] for start in range(0, index.size, CHUNK)]
    cuts = [
        [np.asarray(a)[: part.size] for a in _cut(gather, inputs, data, np.resize(part, CHUNK))]
        for part in chunks
    ]
    observed = np.concatenate([seen for _, _, seen in cuts])
    patterns, group_of = np.unique(observed, axis=1, return_inverse=True)
    sums = []
    for group in range(patterns.shape[1]):
        targets = np.flatnonzero(group_of.ravel() == group)
        size = 1 + inputs + len(targets)
        whole, count = np.zeros((size, size)), 0
        for x, y, seen in cuts:
            rows = np.concatenate([np.ones((len(x), 1)), x, y[:, targets]], axis=1)
            rows = rows[seen[:, targets[0]]].astype(np.float64)
            whole += rows.T @ rows
            count += len(rows)
        first = 1 + inputs
        parts = whole[:first, :first], whole[:first, first:], whole[first:, first:]
        sums.append(_Moments(targets, *parts, count))
    return sums


@functools.partial(jax.jit, static_argnums=(0, 1))
def _cut(
    gather: Any, inputs: int, data: Any, index: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, y, observed = gather(data, index)
    y = y.reshape(index.size, -1)
    observed = observed.reshape(y.shape)
    return x.reshape(index.size, -1)[:, -inputs:], jnp.where(observed, y, 0), observed
