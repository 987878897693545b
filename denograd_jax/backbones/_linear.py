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
ORDERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 72, 96, 144, 168)


class Linear(nnx.Module):
    """One linear map of a row, or of all steps of a window: a vector autoregression."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, *, rngs: nnx.Rngs):
        zeros = nnx.initializers.zeros_init()
        self.linear = nnx.Linear(math.prod(input_shape), outputs, kernel_init=zeros, rngs=rngs)

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
    """Sums over the instances, in float64: of `(1, x)` and y squared and multiplied."""

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
    """Fits the backbone "linear" to standardised instances, with all its targets or none observed.

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
    affordable = min(MOST_WEIGHTS, index.size // 5) // width
    orders = [k for k in ORDERS if k <= min(steps, max(affordable, 1))]
    largest = orders[-1]
    moments = _moments(gather, data, index, largest * width, outputs)
    if moments.instances <= width:
        raise BackboneError(
            f"There are {moments.instances} instances with a target for {width} weights of a "
            "linear backbone; give more rows or fewer columns."
        )
    order, weights = _best(moments, orders, width)
    kernel = np.zeros((steps * width, outputs))
    kernel[(steps - order) * width :] = weights[1:]
    module = Linear(input_shape, outputs, rngs=nnx.Rngs(0))
    module.linear.kernel = nnx.Param(jnp.asarray(kernel, jnp.float32))
    module.linear.bias = nnx.Param(jnp.asarray(weights[0], jnp.float32))
    return LinearFit(as_pure(module), order)


def _best(moments: _Moments, orders: Sequence[int], width: int) -> tuple[int, NDArray[np.float64]]:
    """The order of least criterion, and its weights, `(1 + order * width, q)`."""
    found = []
    for order in orders:
        kept = np.r_[0, np.arange(len(moments.xx) - order * width, len(moments.xx))]
        xx, xy = moments.xx[np.ix_(kept, kept)], moments.xy[kept]
        weights = np.linalg.solve(xx + RIDGE * np.eye(len(xx)), xy)
        squares = moments.yy - weights.T @ xy - xy.T @ weights + weights.T @ xx @ weights
        covariance = squares / moments.instances
        # Equal columns have a residual of rounding; its logarithm must not decide.
        covariance += 1e-6 * np.diag(np.diag(covariance)) + 1e-9 * np.eye(len(covariance))
        criterion = moments.instances * np.linalg.slogdet(covariance)[1]
        criterion += np.log(moments.instances) * weights.size
        found.append((criterion, order, weights))
    _, order, weights = min(found, key=lambda one: one[0])
    return order, weights


def _moments(
    gather: Any, data: Any, index: NDArray[np.int32], inputs: int, outputs: int
) -> _Moments:
    """Of the last `inputs` numbers of each instance; those without all targets are left out."""
    whole = np.zeros((1 + inputs + outputs,) * 2)
    count = 0
    for start in range(0, index.size, CHUNK):
        part = index[start : start + CHUNK]
        cut = _cut(gather, inputs, data, np.resize(part, CHUNK))
        x, y, complete = (np.asarray(a)[: part.size] for a in cut)
        rows = np.concatenate([np.ones((part.size, 1)), x, y], axis=1)[complete]
        whole += rows.T @ rows
        count += len(rows)
    first = 1 + inputs
    return _Moments(whole[:first, :first], whole[:first, first:], whole[first:, first:], count)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _cut(
    gather: Any, inputs: int, data: Any, index: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, y, observed = gather(data, index)
    y = y.reshape(index.size, -1)
    complete = observed.reshape(y.shape).all(axis=1)
    x = x.reshape(index.size, -1)[:, -inputs:]
    return x, jnp.where(complete[:, None], y, 0), complete
