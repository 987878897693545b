"""Rows of a table of which most cells are off, and what is known of them all the same."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from denograd_jax.calibration._cellwise import Law, deviations, robust_law, spread_of
from denograd_jax.calibration._gaps import gap_in, matched, size_of_rows
from denograd_jax.calibration._placement import DEPENDENT, dependence, places

__all__ = ["Repaired", "noisy_rows", "repaired_rows"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEWEST_COLUMNS = 3
"""Of two columns both are off where one is."""
APART = 2.0
"""Least size of what most cells of a noisy row are off by, in robust standard deviations."""
ROUNDS = 4
"""Beside the noisy rows known by then others are seen to be off."""
MOST = 0.2
"""Of all rows; more are a population of their own."""
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

    Rows are judged by what more than half of their cells are off by at least: noise that is in
    some rows only leaves the others of a size that hardly varies, since it is a median. They are
    noisy if that is apart from all others, points up as often as down (see `spikes`), and rows
    have it wherever they lie, by rank in each column.

    Args:
        z: Rows `(n, d)` without missing values, standardised.
        observed: Cells that were not filled in, `(n, d)`.
        every: One row in so many is learnt from.

    Returns:
        Flags `(n,)`, and the law without these rows.
    """
    rows = np.zeros(len(z), bool)
    law = everything = robust_law(z[::every])
    if z.shape[1] < FEWEST_COLUMNS:
        return rows, law
    for _ in range(ROUNDS):
        apart = np.where(observed, deviations(z, law)[0], 0)
        size = size_of_rows(apart / spread_of(apart[~rows]))
        more = rows | matched(size, *gap_in(size[::every], APART, 0))
        if (more == rows).all():
            break
        rows = more
        law = robust_law(z[~rows][::every])
    if rows.mean() > MOST or dependence(rows[::every], places(z[::every])[0]) > DEPENDENT:
        return np.zeros(len(z), bool), everything
    return rows, law


def repaired_rows(z: Floats, law: Law) -> Repaired:
    r"""Noisy rows `(m, d)` where their signal is expected to be, given all of their cells.

    With covariance S of the signal and T of the noise, a diagonal, that is
    :math:`z - T (S + T)^{-1} (z - \mu)`. T is what makes these rows most likely.

    Source:
        Expectation-maximisation for a factor model with known loadings: Rubin and Thayer 1982.
    """
    if not len(z):
        return Repaired(z, np.zeros(z.shape[1]))
    signal: Floats = np.linalg.inv(law.precision)
    deviation = z - law.mean
    noise = np.maximum((deviation**2).mean(axis=0) - np.diag(signal), 0.1 * np.diag(signal))
    for _ in range(STEPS):
        gain = noise[:, None] * np.linalg.inv(signal + np.diag(noise))
        error = deviation @ gain.T
        left = noise - np.diag(gain) * noise
        noise = (error**2).mean(axis=0) + left
    return Repaired(z - error, left)
