"""Rows of a table of which most cells are off, and what is known of them all the same."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from denograd_jax.calibration._cellwise import Law, deviations, robust_law, spread_of
from denograd_jax.calibration._gaps import end_of_bulk, gap_in, matched, size_of_rows
from denograd_jax.calibration._placement import DEPENDENT, dependence, farther_out, places

__all__ = ["Repaired", "noisy_rows", "repaired_rows"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEWEST_COLUMNS = 3
"""Of two columns both are off where one is."""
ROUNDS = 4
"""Beside the noisy rows known by then others are seen to be off."""
MOST = 0.2
"""Of all rows; more are a population of their own."""
CENTRAL = 0.8
"""Part of the rows, in the middle, from which the law of all of them is learnt."""
FAR = 1.5
"""Least distance below a gap, in medians."""
USUAL, MOSTLY = 0.75, 0.6
"""Most cells of so many of them are off by more than those of so many others: else single cells
are off, however far."""
RIDGE = 1e-3
APART = 2.0
"""Least size of what most cells of a noisy row are off by, in robust standard deviations."""
STEPS = 100


class Repaired(NamedTuple):
    """Noisy rows as the others let expect them.

    Attributes:
        values: `(m, d)`.
        variance: Mean square error that they have, `(d,)`.
    """

    values: Floats
    variance: Floats


def noisy_rows(z: Floats, observed: Flags, every: int) -> tuple[Flags, Law]:
    """Rows with noise that the others do not have, and the law of the others.

    They have it wherever they lie, by rank in each column; else they are another population.

    Args:
        z: Rows `(n, d)` without missing values, standardised.
        observed: Cells that were not filled in, `(n, d)`.
        every: One row in so many is learnt from.

    Returns:
        Flags `(n,)`, and the law without these rows.
    """
    if z.shape[1] >= FEWEST_COLUMNS:
        place = places(z[::every])[0]
        for search in (_by_distance, _by_columns):
            rows, law = search(z, observed, every)
            if 0 < rows.mean() <= MOST and dependence(rows[::every], place) <= DEPENDENT:
                return rows, law
    return np.zeros(len(z), bool), robust_law(z[::every])


def _by_distance(z: Floats, observed: Flags, every: int) -> tuple[Flags, Law]:
    """Rows beyond a gap in the distance from the middle, of which most cells are off.

    What is far from the middle as signal is so too when it has been repaired: then none is noisy.

    Source:
        The law of the central rows: Rousseeuw, "Multivariate estimation with high breakdown
        point", 1985 (the minimum covariance determinant).
    """
    rows, law = np.zeros(len(z), bool), _central_law(z[::every])
    for _ in range(ROUNDS):
        distance = _distance(z, law)
        distance /= max(np.median(distance[~rows]), RIDGE)
        more = distance >= end_of_bulk(distance[::every], FAR)
        if (more == rows).all():
            break
        rows, law = more, _law_of(z[~more][::every])
    if not 0 < rows.mean() <= MOST:
        return np.zeros(len(z), bool), law
    apart = np.where(observed, deviations(z, law)[0], 0)
    size = np.abs(size_of_rows(apart / spread_of(apart[~rows])))
    off = (size[rows] > np.quantile(size[~rows], USUAL)).mean()
    x = z.copy()
    x[rows] = repaired_rows(z[rows], law).values
    out = farther_out(rows[::every], x[::every])
    return rows & (off >= MOSTLY) & (out <= DEPENDENT), law


def _by_columns(z: Floats, observed: Flags, every: int) -> tuple[Flags, Law]:
    """Rows beyond a gap in what more than half of their cells are off by at least.

    Noise that is in some rows only leaves the others of a size that hardly varies, since it is a
    median. It points up as often as down (see `spikes`).
    """
    rows, law = np.zeros(len(z), bool), robust_law(z[::every])
    for _ in range(ROUNDS):
        apart = np.where(observed, deviations(z, law)[0], 0)
        size = size_of_rows(apart / spread_of(apart[~rows]))
        more = rows | matched(size, *gap_in(size[::every], APART, 0))
        if (more == rows).all():
            break
        rows = more
        law = robust_law(z[~rows][::every])
    return rows, law


def _central_law(z: Floats) -> Law:
    """Of the rows nearest to the middle, as of a Gaussian of which the others were cut off."""
    columns = z.shape[1]
    cut = CENTRAL / chi2.cdf(chi2.ppf(CENTRAL, columns), columns + 2)
    law = robust_law(z)
    for _ in range(STEPS):
        distance = _distance(z, law)
        law = _law_of(z[distance <= np.quantile(distance, CENTRAL)], cut)
        if np.allclose(_distance(z, law), distance, rtol=1e-6):
            break
    return law


def _law_of(z: Floats, cut: float = 1.0) -> Law:
    """By moments, the covariance times what cutting rows off has made it smaller."""
    mean, covariance = z.mean(axis=0), cut * np.cov(z.T) + RIDGE * np.eye(z.shape[1])
    precision = np.linalg.inv(covariance.astype(np.float64))
    apart = (z - mean) @ precision / np.diag(precision)
    return Law(mean, precision, np.maximum(np.diag(precision) ** -0.5, spread_of(apart)))


def _distance(z: Floats, law: Law) -> Floats:
    """Of Mahalanobis, `(n,)`."""
    deviation = z - law.mean
    found: Floats = np.sqrt(np.einsum("nd,nd->n", deviation @ law.precision, deviation))
    return found


def repaired_rows(z: Floats, law: Law) -> Repaired:
    r"""Noisy rows `(m, d)` where their signal is expected to be, given all of their cells.

    With covariance S of the signal and T of the noise, a diagonal, that is
    :math:`z - T (S + T)^{-1} (z - \mu)`. T is what makes these rows most likely.

    Source:
        Expectation-maximisation for a factor model with known loadings: Rubin and Thayer 1982.
    """
    if not len(z):
        return Repaired(z, np.zeros(z.shape[1]))
    signal = np.linalg.inv(law.precision.astype(np.float64))
    deviation = z - law.mean
    noise = np.maximum((deviation**2).mean(axis=0) - np.diag(signal), 0.1 * np.diag(signal))
    for _ in range(STEPS):
        gain = noise[:, None] * np.linalg.inv(signal + np.diag(noise))
        error = deviation @ gain.T
        left = noise - np.diag(gain) * noise
        noise = (error**2).mean(axis=0) + left
    return Repaired(z - error, left)
