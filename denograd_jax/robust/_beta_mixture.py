"""A mixture of two Beta distributions: how often rows were wrong, of clean and of noisy ones."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betainc
from jax.scipy.stats import beta
from jax.typing import ArrayLike

from denograd_jax.errors import DataError, ShapeError

__all__ = [
    "FIRST_ITERATIONS",
    "LATER_ITERATIONS",
    "BetaMixture",
    "beta_mixture",
    "improve",
    "starting_mixture",
    "unit_range",
]

FIRST_ITERATIONS, LATER_ITERATIONS = 20, 2
"""Of expectation-maximisation in IDO: before its second stage, and after each epoch of that."""
EDGE = 1e-6
"""Distance from 0 and 1, where a Beta density may have a pole."""
LEAST_SHAPE = 1.02
"""Of b of the clean and a of the noisy component: the density of clean rows falls to 0 at 1, that
of noisy rows at 0, so that neither claims the other's end."""
CONCENTRATION = 1e-2, 1e4
"""Range of a + b: it would be unbounded where all values agree, 0 where all lie at the two ends."""
FEWEST = 1e-3
"""Rows that a component must account for; with less its shape stays as it is."""


class BetaMixture(NamedTuple):
    """Two Beta components, the clean one first; one mixture, or one for each of G groups.

    Attributes:
        weights: `(2,)` or `(G, 2)`; the sum of each pair is 1.
        a: First shape parameters, likewise.
        b: Second shape parameters, likewise.
    """

    weights: jax.Array
    a: jax.Array
    b: jax.Array

    def posterior(self, u: ArrayLike, groups: ArrayLike | None = None) -> jax.Array:
        """Probabilities that rows are clean and that they are noisy, `(n, 2)`.

        Args:
            u: Numbers between 0 and 1, `(n,)`.
            groups: Group of each row, `(n,)` integers, where there is one mixture per group.
        """
        chances: jax.Array = _posterior(self, jnp.asarray(u), _as_array(groups))
        return chances

    def cdf(self, u: ArrayLike, groups: ArrayLike | None = None) -> jax.Array:
        """Each component's distribution function, `(n, 2)`; arguments as of `posterior`."""
        chances: jax.Array = _cdf(self, jnp.asarray(u), _as_array(groups))
        return chances


def beta_mixture(
    u: ArrayLike, iterations: int = 20, groups: ArrayLike | None = None
) -> BetaMixture:
    r"""Fits two Beta components to numbers between 0 and 1 by expectation-maximisation.

    The E-step takes responsibilities
    :math:`r_{ik} \propto \pi_k \, \mathrm{Beta}(u_i; a_k, b_k)`, the M-step fits moments:

    .. math:: a_k = m_k \left( \frac{m_k (1 - m_k)}{v_k} - 1 \right), \quad
       b_k = a_k \frac{1 - m_k}{m_k}

    with the mean m and the variance v by r. It starts from Beta(1, 2), clean, and Beta(2, 1),
    noisy, of equal weight; b of the clean and a of the noisy one are at least 1.02. Fitting moments
    is not quite maximum likelihood, and does not need its derivatives.

    Args:
        u: Numbers between 0 and 1, `(n,)`, such as `unit_range` of counts.
        iterations: Of expectation-maximisation.
        groups: Group of each row, `(n,)` integers from 0: one mixture is fitted to each.

    Returns:
        The mixture; its arrays are `(2,)`, or `(G, 2)` with G one more than the largest group.

    Raises:
        ShapeError: u is no vector, is empty, or groups have another shape.
        DataError: u holds something outside of [0, 1], or groups are no integers from 0.

    Source:
        IDO, arXiv 2505.00812.

    Example:
        >>> mixture = beta_mixture([0.05, 0.1, 0.1, 0.15, 0.2, 0.85, 0.9, 0.95])
        >>> mixture.posterior([0.1, 0.9])[:, 0].round(2).tolist()
        [1.0, 0.0]
    """
    values = np.asarray(u)
    if values.ndim != 1 or values.size == 0:
        raise ShapeError(f"u has shape {values.shape}; expected (n,) with n of at least 1.")
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError("u holds numbers outside of [0, 1] or NaN; scale it, see unit_range.")
    members = None if groups is None else _members(groups, values.shape)
    start = starting_mixture(None if members is None else int(members.max()) + 1)
    found: BetaMixture = _fit(start, jnp.asarray(values), members, iterations)
    return found


def starting_mixture(groups: int | None = None) -> BetaMixture:
    """Beta(1, 2) and Beta(2, 1) of equal weight, in each of the groups."""
    shape = (2,) if groups is None else (groups, 2)
    rows = jnp.array([[0.5, 0.5], [1.0, 2.0], [2.0, 1.0]])
    return BetaMixture(*(jnp.broadcast_to(row, shape) for row in rows))


def improve(
    mixture: BetaMixture, u: jax.Array, groups: jax.Array | None, iterations: int
) -> BetaMixture:
    """So many more steps of expectation-maximisation."""
    found: BetaMixture = jax.lax.fori_loop(
        0, iterations, lambda _, m: _improve_once(m, u, groups), mixture
    )
    return found


@jax.jit  # else each operation of theirs is compiled for itself, dozens for each number of rows
def _posterior(mixture: BetaMixture, u: jax.Array, groups: jax.Array | None) -> jax.Array:
    u = _within(u, mixture.a.dtype)
    weights, a, b = (_of_each(p, groups) for p in mixture)
    return jax.nn.softmax(jnp.log(weights) + beta.logpdf(u[:, None], a, b), axis=1)


@jax.jit
def _cdf(mixture: BetaMixture, u: jax.Array, groups: jax.Array | None) -> jax.Array:
    u = _within(u, mixture.a.dtype)
    return betainc(*jnp.broadcast_arrays(*(_of_each(p, groups) for p in mixture[1:]), u[:, None]))


def _as_array(groups: ArrayLike | None) -> jax.Array | None:
    return None if groups is None else jnp.asarray(groups)


def _members(groups: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    members = np.asarray(groups)
    if members.shape != shape:
        raise ShapeError(f"groups have shape {members.shape}, u has {shape}.")
    if not np.issubdtype(members.dtype, np.integer) or members.min() < 0:
        raise DataError("groups must be integers of at least 0.")
    return jnp.asarray(members)


@functools.partial(jax.jit, static_argnums=3)
def _fit(
    mixture: BetaMixture, u: jax.Array, groups: jax.Array | None, iterations: int
) -> BetaMixture:
    return improve(mixture, u, groups, iterations)


def _improve_once(mixture: BetaMixture, u: jax.Array, groups: jax.Array | None) -> BetaMixture:
    u = _within(u, mixture.a.dtype)
    shares = mixture.posterior(u, groups)
    total = _sum_of_each(shares, groups, mixture)
    known = total > FEWEST
    safe = jnp.where(known, total, 1)
    mean = _sum_of_each(shares * u[:, None], groups, mixture) / safe
    squares = (u[:, None] - _of_each(mean, groups)) ** 2
    variance = _sum_of_each(shares * squares, groups, mixture) / safe

    # a = m (m (1 - m) / v - 1), b = a (1 - m) / m
    concentration = mean * (1 - mean) / jnp.maximum(variance, EDGE**2) - 1
    concentration = jnp.clip(concentration, *CONCENTRATION)
    clean, noisy = jnp.array([True, False]), jnp.array([False, True])
    a = _at_least(concentration * mean, noisy)
    b = _at_least(concentration * (1 - mean), clean)

    rows = total.sum(axis=-1, keepdims=True)
    weights = jnp.where(rows > FEWEST, total / jnp.maximum(rows, FEWEST), mixture.weights)
    return BetaMixture(weights, jnp.where(known, a, mixture.a), jnp.where(known, b, mixture.b))


def unit_range(counts: ArrayLike) -> jax.Array:
    """Counts `(n,)` as numbers within (0, 1): the fewest at its lower end, the most at its upper.

    Where all counts are equal nothing tells one row from another, and all are put at the lower end.
    """
    w = jnp.asarray(counts).astype(jnp.result_type(float))
    spread = w.max() - w.min()
    return _within((w - w.min()) / jnp.where(spread > 0, spread, 1), w.dtype)


def _within(u: ArrayLike, dtype: jax.typing.DTypeLike) -> jax.Array:
    return jnp.clip(jnp.asarray(u).astype(dtype), EDGE, 1 - EDGE)


def _of_each(parameter: jax.Array, groups: jax.Array | None) -> jax.Array:
    """What applies to each row: `(n, 2)`, or `(1, 2)` for all."""
    return parameter[None] if groups is None else parameter[groups]


def _sum_of_each(values: jax.Array, groups: jax.Array | None, mixture: BetaMixture) -> jax.Array:
    """Sums `(n, 2)` over all rows or over those of each group: memory does not grow with groups."""
    if groups is None:
        return values.sum(axis=0)
    return jax.ops.segment_sum(values, groups, num_segments=len(mixture.a))


def _at_least(shape: jax.Array, guarded: jax.Array) -> jax.Array:
    guarded = jnp.broadcast_to(guarded, shape.shape)
    return jnp.where(guarded, jnp.maximum(shape, LEAST_SHAPE), shape)
