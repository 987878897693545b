"""Which instances a hidden layer sees as noisy, and which of its neurons carry the noise."""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from denograd_jax._types import Instances, Params, PredictBatch
from denograd_jax.backbones import LEAST_NOISE, Mixture, judge, maximise
from denograd_jax.errors import DataError, ModelError, ShapeError
from denograd_jax.robust import _checks

__all__ = [
    "Features",
    "Head",
    "Partition",
    "attribution",
    "most_sensitive",
    "partition",
    "sensitivity",
]

Features: TypeAlias = PredictBatch
"""`features(params, x)`: activations of a hidden layer, `(n, m)`, of a batch `(n, ...)`. Pure."""
Head: TypeAlias = Callable[[Params, jax.Array], jax.Array]
"""`head(params, h)`: logits `(n, C)`, or numbers `(n,)` or `(n, q)`, of activations `(n, m)`."""

CHUNK = 256
"""Instances whose Jacobians are in memory at the same time."""
STEPS = 60
"""Of expectation-maximisation."""
SMALLEST = 1e-6
"""Standard deviation, relative to the largest of all columns, below which one is constant."""


class Partition(NamedTuple):
    """Instances told apart by their attributions.

    Attributes:
        p_noisy: Probability that each instance is noisy, `(n,)`.
        mixture: Of two Gaussians over the standardised columns that are not constant; the clean
            component comes first.
    """

    p_noisy: NDArray[np.float64]
    mixture: Mixture

    @property
    def p_clean(self) -> NDArray[np.float64]:
        """Probability that each instance is clean, `(n,)`."""
        return 1 - self.p_noisy


def attribution(features: Features, head: Head, params: Params, x: ArrayLike) -> jax.Array:
    r"""How much each neuron of a hidden layer has to do with each prediction; labels are not used.

    .. math:: A_{ij} = \left| \max_c \frac{\partial z_c}{\partial h_j}(x_i) \, h_{ij} \right|

    with the logits z, or for numbers :math:`|\partial f / \partial h_j \, h_j|`.

    Args:
        features: `features(params, x)`, a batch `(n, ...)` to activations `(n, m)`.
        head: `head(params, h)`, activations `(n, m)` to logits `(n, C)`, or numbers.
        params: Handed to both.
        x: Instances, `(n, d)` or `(n, W, C)`, finite.

    Returns:
        `(n, m)`, at least 0.

    Raises:
        ShapeError: x is no batch of instances.
        DataError: x is not finite.
        ModelError: The activations are no table of one line per instance.

    Source:
        RLAP, arXiv 2506.11615 (MAKE 7(3):95, 2025); written from its equations.
    """
    x = _checks.instances(x, params)
    hidden = jax.eval_shape(features, params, x)
    if hidden.ndim != 2 or hidden.shape[0] != len(x):
        raise ModelError(
            f"features make {hidden.shape} of {x.shape}; expected ({len(x)}, neurons): flatten "
            "what has more axes, or average it over them."
        )
    found: jax.Array = _attribution(features, head, params, x)
    return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def _attribution(features: Features, head: Head, params: Params, x: Instances) -> jax.Array:
    def of_one(x: jax.Array) -> jax.Array:
        h = features(params, x[None])[0]
        slopes = jax.jacrev(lambda h: head(params, h[None])[0])(h)
        return jnp.abs(slopes.reshape(-1, len(h)).max(axis=0) * h)

    found: jax.Array = jax.lax.map(of_one, x, batch_size=min(CHUNK, len(x)))
    return found


def partition(attribution: ArrayLike, losses: ArrayLike) -> Partition:
    """Tells clean instances from noisy ones, by two Gaussians over their attributions.

    The columns are standardised, constant ones (dead neurons) left out. Covariances are full.
    Expectation-maximisation starts from the halves with the smaller and with the larger losses:
    from clusters it ends at a partition of the classes, which differ more than noise does. The
    clean component is the one whose instances have the lower mean loss. Where the network has
    fitted all of its data, losses tell little, and the two may be mistaken for each other.

    Args:
        attribution: `(n, m)`, of `attribution`.
        losses: Training loss of each instance, `(n,)`.

    Raises:
        ShapeError: Arrays do not fit each other, or there are less than four instances.
        DataError: Values are not finite, or all columns are constant.

    Source:
        RLAP, arXiv 2506.11615. There the component is chosen by ground truth.
    """
    A = np.asarray(attribution, np.float64)
    if A.ndim != 2 or len(A) < 4:
        raise ShapeError(f"attribution has shape {A.shape}; expected (n, m), n at least 4.")
    if not np.isfinite(A).all():
        raise DataError("attribution holds NaN or infinite numbers.")
    loss = _checks.vector("losses", losses, len(A))
    z, _ = _standardised(A)
    if z.shape[1] == 0:
        raise DataError("All attributions are constant: no neuron tells one instance from another.")
    smaller = np.argsort(np.argsort(loss, kind="stable")) < len(loss) // 2
    shares = np.where([smaller, ~smaller], 0.9, 0.1)
    least = np.full(z.shape[1], LEAST_NOISE**2)
    for _ in range(STEPS):
        mixture = maximise(z, shares, least)
        shares = judge(mixture, z).shares
    order = np.argsort(shares @ loss / np.maximum(shares.sum(axis=1), 1e-9))
    return Partition(shares[order[1]], Mixture(*(part[order] for part in mixture)))


def sensitivity(
    p_noisy: ArrayLike, hidden: ArrayLike, *, ridge: float = 1e-3
) -> NDArray[np.float64]:
    r"""How each neuron's activation tells noisy instances from clean ones.

    The coefficients of the probability of being noisy regressed on the standardised activations:

    .. math:: \min_{\beta} \frac{1}{n} \| p - \bar p - H \beta \|^2 + \lambda \| \beta \|^2

    Args:
        p_noisy: Probability that each instance is noisy, `(n,)`.
        hidden: Activations `(n, m)`.
        ridge: lambda; the activations have variance 1.

    Returns:
        `(m,)`; positive where activity goes with noise, 0 for constant neurons.

    Raises:
        ShapeError: Arrays do not fit each other.
        DataError: Values are not finite, or lambda is not positive.

    Source:
        RLAP, arXiv 2506.11615.
    """
    h = np.asarray(hidden, np.float64)
    if h.ndim != 2 or len(h) == 0:
        raise ShapeError(f"hidden has shape {h.shape}; expected activations (n, m).")
    if not np.isfinite(h).all():
        raise DataError("hidden holds NaN or infinite numbers.")
    if not ridge > 0:
        raise DataError(f"ridge is {ridge}; expected a positive number, or neurons may be copies.")
    p = _checks.vector("p_noisy", p_noisy, len(h))
    H, alive = _standardised(h)
    found = np.zeros(h.shape[1])
    gram = H.T @ H / len(H) + ridge * np.eye(H.shape[1])
    found[alive] = np.linalg.solve(gram, H.T @ (p - p.mean()) / len(H))
    return found


def most_sensitive(
    coefficients: ArrayLike, count: int, *, positive_only: bool = False
) -> NDArray[np.intp]:
    """The `count` neurons that carry most noise, most of it first.

    Args:
        coefficients: Of `sensitivity`, `(m,)`.
        count: How many at most, from 0.
        positive_only: Whether only neurons that are active for noise are meant, instead of such as
            are active for its absence too.

    Returns:
        Indices of neurons whose coefficient is not 0.
    """
    found = np.asarray(coefficients, np.float64)
    size = found if positive_only else np.abs(found)
    order = np.argsort(-size, kind="stable")[:count]
    return order[size[order] > 0]


def _standardised(columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The columns that vary, with mean 0 and standard deviation 1, and which they are."""
    deviation = columns.std(axis=0)
    alive = deviation > SMALLEST * max(deviation.max(initial=0), np.finfo(np.float64).tiny)
    kept = columns[:, alive]
    return (kept - kept.mean(axis=0)) / deviation[alive], alive
