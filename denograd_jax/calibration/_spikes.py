"""Cells and rows of a series that are off, not signal: found by a robust autoregression."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denograd_jax.calibration._autoregression import (
    ORDER,
    Pair,
    alone,
    filled,
    fit_both,
    residual_of,
    usable_steps,
    variance_of_rows,
)
from denograd_jax.calibration._gaps import gap_in, matched, size_of_rows
from denograd_jax.errors import ShapeError

__all__ = ["Spikes", "spikes"]

FEWEST_ROWS_PER_WEIGHT = 5
WIDE = (10.0, 5.0, 5.0, 5.0)
"""Robust standard deviations from which on a cell is left out of the fit, round by round."""
POLISH = 3
FARTHEST = 6.0
"""No replacement is further from the mean, in standard deviations: it starts from a rough fit."""

AGREEING = 0.6
"""Least ratio of the differences to past and future: a shock that decays, or a jump, is far from
the one but near the other. One that has decayed to half within a step looks like a spike."""
DISTINCT = 5.0
"""Least size of a spike, in robust standard deviations of what is not explained of a column."""
NEGLIGIBLE = 0.05
"""The same in standard deviations of the column; smaller ones do no harm."""
STEPS = 3.0
"""Least typical size of spikes, in median steps of the column: of a column of few levels, as a
count, every change is as large as a spike would be."""
ROWS_APART = 1.0
"""Least size of what most columns of a noisy row are off by, in robust standard deviations."""
ROUNDS = 6
"""Of looking for noisy rows: beside those known by then others are seen to be off."""


class Spikes(NamedTuple):
    """What `spikes` found.

    Attributes:
        values: The series with spikes replaced, in the units given, `(T, C)`; NaN is missing still.
        found: Cells that are spikes, or stand in noisy rows, `(T, C)`.
    """

    values: NDArray[np.float64]
    found: NDArray[np.bool_]


def spikes(series: ArrayLike, segments: ArrayLike | None = None) -> Spikes:
    r"""Single cells that stand out from all others, and what those say in their place.

    A cell stands out by the least of three differences: to its expectation given all other cells,
    given the past, and given the future. They must have one sign, and be of about one size: so a
    shock that decays, a jump, or a wave does not stand out. True peaks of one step do, as spikes of
    noise do; hence spikes must, column by column, (1) be apart from all smaller differences: sizes
    just below theirs occur so seldom as a tail like Cauchy's, :math:`P(|e| > t) \propto 1 / t`,
    leaves them empty once in 100,000 times; (2) point up about as often as down, since peaks of
    rain, wind or prices point one way; so (3) there are seven or more on either side: a single
    gross error is not judged. What is found is replaced by its joint expectation given all others.

    Rows are judged too, by what most of their columns are off by at least, in units of what is
    usual there, by the same three rules: noise that is in some rows only leaves the others between
    nothing and a size that hardly varies, since it is a median. A column of such a row goes to its
    expectation only as far as the rows found are further off it than others would be:
    :math:`1 - u / d`, d being the mean square of how far they are, and u the variance of a row
    given all others.

    The autoregression is refitted with what stands out left out, four times.

    Look-ahead: yes, in both directions, and the thresholds come from the whole series.

    Args:
        series: `(T, C)` or `(T,)` in order of time, in any unit; NaN is missing.
        segments: `(T,)`; equal neighbours have no gap between them.

    Returns:
        `Spikes`, `(T, C)`; none where rows are fewer than five for each weight.

    Raises:
        ShapeError: It is no series.

    Source:
        Additive outliers: Fox 1972; refitting on cleaned data: Martin and Thomson 1982, "Robust-
        resistant spectrum estimation"; interpolation by the inverse covariance: Peña and Maravall
        1991, "Interpolation, outliers, and inverse autocorrelations".

    Example:
        >>> rng = np.random.default_rng(0)
        >>> wave = np.sin(np.arange(500) / 20) + 0.01 * rng.normal(size=500)
        >>> where, sign = np.arange(9, 500, 25), np.tile([-1.0, 1.0], 10)
        >>> noisy = wave.copy()
        >>> noisy[where] += 2 * sign
        >>> print(spikes(noisy).found.sum(), np.abs(spikes(noisy).values[:, 0] - wave).max() < 0.1)
        20 True
    """
    given = np.asarray(series, np.float64)
    given = given[:, None] if given.ndim == 1 else given
    if given.ndim != 2:
        raise ShapeError(f"a series has shape (T, C) or (T,), not {given.shape}.")
    labels = np.zeros(len(given), int) if segments is None else np.asarray(segments)
    mean, scale = _moments(given)
    z = (given - mean) / scale
    usable = usable_steps(labels)
    weights = 1 + ORDER * z.shape[1]
    if usable.sum() < FEWEST_ROWS_PER_WEIGHT * weights:
        return Spikes(given.copy(), np.zeros(given.shape, bool))
    start, apart, spread = _robust(z, usable)
    least, most = _sizes(apart, spread, _median_steps(z, labels))
    cells = np.stack([matched(*column) for column in zip(apart.T, least, most, strict=True)]).T
    rows = _noisy_rows(z, start, apart / spread, usable)
    found = (cells | rows[:, None]) & ~np.isnan(z)
    if not found.any():
        return Spikes(given.copy(), found)
    cleaned = _replaced(z, start, found, usable)
    if rows.any():
        part = _noise_of(rows, z, cleaned, usable)
        cleaned = np.where(rows[:, None] & ~cells, z + part * (cleaned - z), cleaned)
    return Spikes(np.where(found, cleaned * scale + mean, given), found)


def _moments(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column; 0 and 1 where there are none."""
    seen = ~np.isnan(z)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, z, 0).sum(axis=0) / count
    scale = np.sqrt((np.where(seen, z - mean, 0) ** 2).sum(axis=0) / count)
    return mean, np.where(scale > 0, scale, 1)


def _robust(
    z: NDArray[np.float64], usable: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The series with all that stands out replaced; by how much each cell does; usual differences.

    Missing cells are filled as well, and do not stand out.
    """
    missing = np.isnan(z)
    x = _interpolated(z)
    for wide in WIDE:
        pair, three = _differences(z, x, usable)
        suspect = np.abs(_apart(three)) > wide * _spread(three[0])
        guess = np.clip(np.where(missing, x, z - three[0]), -FARTHEST, FARTHEST)
        x = filled(pair, np.where(suspect | missing, guess, z), suspect | missing, steps=10)
    _, three = _differences(z, x, usable)
    return x, _apart(three), _spread(three[0])


def _differences(
    z: NDArray[np.float64], x: NDArray[np.float64], usable: NDArray[np.bool_]
) -> tuple[Pair, NDArray[np.float64]]:
    """Processes fitted to x; z less its expectation given all others, past, and future of x.

    The latter `(3, T, C)`. At the ends of a segment, where there is no past or no future, the other
    one counts twice; where there is neither, they are 0.
    """
    pair = fit_both(x, usable)
    forward, backward = pair
    has_past, has_future = usable[:, None], backward.usable[::-1, None]
    given_all = np.where(has_past, alone(forward, x), alone(backward, x[::-1])[::-1])
    past, future = residual_of(forward, x), residual_of(backward, x[::-1])[::-1]
    past, future = np.where(has_past, past, future), np.where(has_future, future, past)
    three = z - x + np.stack([given_all, past, future])
    return pair, np.where(has_past | has_future, three, 0)


def _apart(three: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least of the differences, `(T, C)`; 0 where they have not one sign, or do not agree."""
    size = np.abs(three)
    least = size.min(axis=0)
    alike = (three > 0).all(axis=0) | (three < 0).all(axis=0)
    alike &= least >= AGREEING * size.max(axis=0)
    return np.where(alike, np.sign(three[0]) * least, 0)


def _spread(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Robust standard deviation of each column."""
    size = np.where(np.isnan(difference).all(axis=0), 0, np.abs(difference))
    return np.maximum(np.nanmedian(size, axis=0) / 0.6745, 1e-6)


def _interpolated(z: NDArray[np.float64]) -> NDArray[np.float64]:
    steps, x = np.arange(len(z)), np.zeros(z.shape)
    for channel in range(z.shape[1]):
        seen = ~np.isnan(z[:, channel])
        if seen.any():
            x[:, channel] = np.interp(steps, steps[seen], z[seen, channel])
    return x


def _median_steps(z: NDArray[np.float64], segments: NDArray[np.generic]) -> NDArray[np.float64]:
    """Median size of the changes of each column, those of 0 left out; inf where it has none."""
    changes = np.abs(np.diff(z, axis=0))[segments[1:] == segments[:-1]]
    found = np.full(z.shape[1], np.inf)
    for channel in range(z.shape[1]):
        some = changes[changes[:, channel] > 1e-9, channel]
        found[channel] = np.median(some) if some.size else np.inf
    return found


def _sizes(
    apart: NDArray[np.float64], spread: NDArray[np.float64], steps: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and largest size of each column's spikes, `(C,)`; inf where it has none."""
    lowest = np.maximum(DISTINCT * spread, NEGLIGIBLE)
    pairs = [
        gap_in(column, low, STEPS * step)
        for column, low, step in zip(apart.T, lowest, steps, strict=True)
    ]
    least, most = np.array(pairs).T
    return least, most


def _noisy_rows(
    z: NDArray[np.float64],
    x: NDArray[np.float64],
    size: NDArray[np.float64],
    usable: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Rows of which most columns are off, `(T,)`.

    Args:
        z: The series.
        x: The same with all that stands out replaced.
        size: By how much each cell stands out, in units of what is usual, `(T, C)`.
        usable: See `Process`.
    """
    rows = np.zeros(len(z), bool)
    if z.shape[1] == 1:
        return rows  # a row is a cell
    for _ in range(ROUNDS):
        of_rows = size_of_rows(size)
        more = rows | matched(of_rows, *gap_in(of_rows, ROWS_APART, 0))
        if (more == rows).all():
            break
        rows = more
        x = filled(fit_both(x, usable), x, rows[:, None] | np.isnan(z), steps=10)
        _, three = _differences(z, x, usable)
        size = _apart(three) / _spread(three[0])
    return rows


def _noise_of(
    rows: NDArray[np.bool_],
    z: NDArray[np.float64],
    expected: NDArray[np.float64],
    usable: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Part of what these rows are off by that is noise, `(C,)`."""
    off = (z - expected)[rows]
    known = ~np.isnan(off)
    squares = np.where(known, off, 0) ** 2
    mean = squares.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    usual = variance_of_rows(fit_both(expected, usable)[0])
    part: NDArray[np.float64] = np.clip(1 - usual / np.maximum(mean, 1e-12), 0, 1)
    return part


def _replaced(
    z: NDArray[np.float64],
    start: NDArray[np.float64],
    found: NDArray[np.bool_],
    usable: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Spikes, and missing cells, by their expectation given the others of a refitted process."""
    unknown = found | np.isnan(z)
    x = np.where(unknown, start, z)
    for _ in range(POLISH):
        x = filled(fit_both(x, usable), x, unknown, steps=30)
    return x
