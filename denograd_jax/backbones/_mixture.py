"""A mixture of Gaussians with a known share of noise, fitted by expectation-maximisation."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denograd_jax.errors import ShapeError

__all__ = ["Judged", "Mixture", "fit_mixture", "judge", "maximise", "sort_out"]

Floats = NDArray[np.float64]

LEAST_NOISE = 0.01
"""Standard deviation that every column's components have at least, in units of the column: what
repeats exactly would have a density without bound."""
STEPS = 60
MOST_CELLS = 20_000_000
"""Rows x components x columns that are fitted to; more rows than that are thinned out."""


class Mixture(NamedTuple):
    """A density of rows.

    Attributes:
        weights: Of its K components, `(K,)`; their sum is 1.
        means: `(K, d)`.
        covariances: `(K, d, d)`.
    """

    weights: Floats
    means: Floats
    covariances: Floats


class Judged(NamedTuple):
    """Rows as a mixture sees them.

    Attributes:
        shares: Of each component in each row, `(K, n)`; a row's sum is 1.
        pulls: Gradient of each component's log-density, `(K, n, d)`.
        precisions: Diagonals of the components' precisions, `(K, d)`.
        log_density: `(n,)`.
    """

    shares: Floats
    pulls: Floats
    precisions: Floats
    log_density: Floats

    @property
    def score(self) -> Floats:
        """Gradient of the log-density, `(n, d)`."""
        found: Floats = np.einsum("kn,knd->nd", self.shares, self.pulls)
        return found

    @property
    def precision(self) -> Floats:
        """Expected precision of each cell given the others of its row, `(n, d)`."""
        found: Floats = self.shares.T @ self.precisions
        return found


def fit_mixture(
    z: ArrayLike,
    noise: ArrayLike,
    components: int,
    *,
    steps: int = STEPS,
    beginnings: int = 1,
    seed: int = 0,
) -> Mixture:
    r"""The density of noisy rows, as one of clean rows that noise has blurred.

    Each component's covariance is :math:`S_k + \Sigma` with a positive semidefinite S_k, the part
    that is no noise: of all such mixtures expectation-maximisation finds one of locally greatest
    likelihood. Where the noise is known few numbers are left to be learnt from it.

    Args:
        z: Rows `(n, d)` without missing values, standardised.
        noise: Variance of each column's noise, `(d,)`, in squared units of z; 0 stands for 1e-4.
        components: Number K; at most one for two rows.
        steps: Of expectation-maximisation.
        beginnings: How often it begins anew. The density is the mean of what is found, a mixture
            with that many times the components: where each ends hangs on where it began.
        seed: Of where it begins.

    Raises:
        ShapeError: z is no table, or has less than two rows.

    Source:
        Dempster, Laird and Rubin 1977; with known noise: Bovy, Hogg and Roweis, "Extreme
        deconvolution", 2011.
    """
    z = np.asarray(z, np.float64)
    if z.ndim != 2 or len(z) < 2:
        raise ShapeError(f"rows have shape (n, d) with n of at least 2, not {z.shape}.")
    components = min(components, len(z) // 2)
    z = z[:: -(-z.size * components // MOST_CELLS)]
    floor = np.maximum(np.asarray(noise, np.float64), LEAST_NOISE**2)
    rng = np.random.default_rng(seed)
    found = [_fitted(z, floor, sort_out(z, components, rng), steps) for _ in range(beginnings)]
    weights, means, covariances = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Mixture(weights / beginnings, means, covariances)


def _fitted(z: Floats, floor: Floats, shares: Floats, steps: int) -> Mixture:
    mixture = maximise(z, shares, floor)
    for _ in range(steps - 1):
        mixture = maximise(z, judge(mixture, z).shares, floor)
    return mixture


def maximise(z: Floats, shares: Floats, noise: Floats) -> Mixture:
    """The mixture of greatest likelihood, given the share of each component in each row.

    In units of the noise no eigenvalue of a covariance is below 1: those that would be are set to
    it, which is the constrained maximum (Anderson 1963; Tipping and Bishop 1999).
    """
    counts = shares.sum(axis=1) + 1e-9
    means = shares @ z / counts[:, None]
    unit = np.sqrt(noise)
    apart = (z - means[:, None]) / unit
    covariances = (apart * shares[..., None]).transpose(0, 2, 1) @ apart / counts[:, None, None]
    values, vectors = np.linalg.eigh(covariances)
    covariances = (vectors * np.maximum(values, 1)[:, None]) @ vectors.transpose(0, 2, 1)
    return Mixture(counts / counts.sum(), means, covariances * np.outer(unit, unit))


def judge(mixture: Mixture, z: Floats) -> Judged:
    """What a mixture says of rows `(n, d)`."""
    precisions = np.linalg.inv(mixture.covariances)
    apart = z - mixture.means[:, None]
    pulls = -apart @ precisions
    _, log_determinants = np.linalg.slogdet(mixture.covariances)
    constant = np.log(mixture.weights) - (log_determinants + z.shape[1] * np.log(2 * np.pi)) / 2
    logs = constant[:, None] + (apart * pulls).sum(axis=-1) / 2
    largest = logs.max(axis=0)
    shares = np.exp(logs - largest)
    total = shares.sum(axis=0)
    diagonals = np.diagonal(precisions, axis1=1, axis2=2)
    return Judged(shares / total, pulls, diagonals, largest + np.log(total))


def sort_out(z: Floats, components: int, rng: np.random.Generator) -> Floats:
    """Shares to begin with, `(K, n)`: mostly in the cluster of the row's nearest centre.

    Centres are rows drawn far apart (k-means++) and moved to their clusters' means ten times; of a
    single column quantiles, without a draw.
    """
    if z.shape[1] == 1:
        ranks = z[:, 0].argsort(kind="stable").argsort(kind="stable")
        nearest = ranks * components // len(z)
    else:
        centres = _far_apart(z, components, rng)
        for _ in range(10):
            nearest = _squared_distances(z, centres).argmin(axis=0)
            counts = np.bincount(nearest, minlength=components)
            sums = np.array([z[nearest == k].sum(axis=0) for k in range(components)])
            centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    mostly = np.full((components, len(z)), 0.1 / components)
    mostly[nearest, np.arange(len(z))] += 0.9
    return mostly


def _far_apart(z: Floats, components: int, rng: np.random.Generator) -> Floats:
    """Rows of z, each drawn with a chance that rises with its distance to those before it."""
    centres = z[rng.integers(len(z))][None]
    while len(centres) < components:
        distance = _squared_distances(z, centres).min(axis=0)
        total = distance.sum()
        chance = distance / total if total > 0 else None
        centres = np.concatenate([centres, z[rng.choice(len(z), p=chance)][None]])
    found: Floats = centres
    return found


def _squared_distances(z: Floats, centres: Floats) -> Floats:
    """`(K, n)`, by the binomial theorem, so that no array of `(K, n, d)` is made."""
    squares = (centres**2).sum(axis=1)[:, None] - 2 * centres @ z.T + (z**2).sum(axis=1)
    distances: Floats = np.maximum(squares, 0)
    return distances
