"""Cells of a table's rows that are noise, not signal: apart from what the rest of the row says."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from denograd_jax.calibration._cellwise import Law, deviations, spread_of
from denograd_jax.calibration._gaps import between, matched
from denograd_jax.calibration._noisy_rows import noisy_rows, repaired_rows
from denograd_jax.calibration._placement import DEPENDENT, dependence, places, unit

__all__ = ["RowSpikes", "row_spikes"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEWEST_ROWS = 300
MOST_ROWS = 8192
"""Spread evenly; the expectations and the gaps are learnt from as many."""
LOWEST = 1.5
"""Least size below a gap, in robust standard deviations: values of an even distribution end so
soon. The gap has to be empty for a tail like Cauchy's, which no smooth distribution leaves so."""
NEGLIGIBLE = 0.05
"""The same in standard deviations of the column; smaller ones do no harm."""
GAPS = np.array([1.25, 1.4, 1.6, 2.5, 4.0])
BANDS = np.array([1.35, 1.6, 2.5])
UNLIKELY = 1e-8
"""Columns of few levels that noise has blurred have gaps down to 1e-6; of 80 of Cauchy's one has
1e-5."""
BOTH_UNLIKELY, EITHER_UNLIKELY = 1e-11, 1e-2
"""Chance of a gap on both sides together, and on each of them at least, that is as telling."""
FEWEST = 7
UNEVEN = 2.5
ALIKE, BEYOND = 2.5, 1.2
"""Spikes are up to so many times the median of what is above the gap, or the end of the band."""
MOST_SPIKES = 0.1
"""Of a column's cells; more are one of its clusters."""
MOST_LEVELS, ALMOST_ALL = 64, 0.95


class RowSpikes(NamedTuple):
    """What `row_spikes` found.

    Attributes:
        values: The rows with spikes replaced, `(n, d)`.
        found: Cells that are spikes, or stand in noisy rows, `(n, d)`.
        rows: Noisy rows, `(n,)`.
        variance: Mean square error that is left of the cells of noisy rows, `(d,)`.
    """

    values: Floats
    found: Flags
    rows: Flags
    variance: Floats


class _Gap(NamedTuple):
    """Least and largest size of a column's spikes, and whether those that point up tell more."""

    least: float
    most: float
    up: bool


def row_spikes(z: Floats, *, observed: Flags | None = None) -> RowSpikes:
    r"""Cells that stand out from what the rest of their row lets expect, and rows that are off.

    The expectation is that of a Gaussian whose mean and covariance are fitted with the cells that
    deviate most left out, one after another in each row; so a spike does not make the others of
    its row stand out. Deviations of a column are spikes if (1) they are apart from all smaller
    ones: sizes just below theirs occur so seldom as a tail like Cauchy's, :math:`P(|e| > t) \propto
    1 / t`, leaves them empty once in a hundred million times; (2) they point up about as often as
    down, since the tails of clean tables mostly point one way; (3) there are seven or more on
    either side; and (4) they hit rows wherever these lie, with other suspicious cells or without:
    true extremes depend on the other columns. Values that a column of few levels takes are none.

    Rows of which most cells are off are found before (`_noisy_rows.py`), and all their cells are
    replaced by what these and the other rows let expect.

    Args:
        z: Rows `(n, d)` without missing values, standardised.
        observed: Cells that were not filled in, `(n, d)`; all unless given.

    Returns:
        `RowSpikes`, with expectations in their place; none for fewer than 300 rows.

    Source:
        Cells rather than rows that are outliers: Rousseeuw and Van den Bossche, "Detecting
        deviating data cells", 2018; a covariance fitted without them: Raymaekers and Rousseeuw,
        "The cellwise minimum covariance determinant estimator", 2023.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> rows = rng.normal(size=(1000, 2)) @ rng.normal(size=(2, 4))
        >>> noisy = rows.copy()
        >>> noisy[::25, 0] += np.tile([-9.0, 9.0], 20)
        >>> repaired = row_spikes(noisy / noisy.std(axis=0)).values * noisy.std(axis=0)
        >>> print(np.abs(noisy - rows).max().round(), np.abs(repaired - rows).max() < 0.5)
        9.0 True
    """
    if len(z) < FEWEST_ROWS:
        nothing = np.zeros(z.shape, bool)
        return RowSpikes(z.copy(), nothing, nothing[:, 0], np.zeros(z.shape[1]))
    seen = np.ones(z.shape, bool) if observed is None else observed
    every = -(-len(z) // MOST_ROWS)
    rows, law = noisy_rows(z, seen, every)
    found, apart = _noisy_cells(z, law, seen & ~rows[:, None], every)
    low, high = (
        end(np.where(found, empty, z), axis=0)
        for end, empty in ((np.min, np.inf), (np.max, -np.inf))
    )
    values = np.where(found, np.clip(z - apart, low, high), z)
    repaired = repaired_rows(z[rows], law)
    values[rows] = np.where(seen[rows], repaired.values, z[rows])
    return RowSpikes(values, found | (seen & rows[:, None]), rows, repaired.variance)


def _noisy_cells(z: Floats, law: Law, judged: Flags, every: int) -> tuple[Flags, Floats]:
    """Cells that are spikes, and how far each is off what the others of its row let expect.

    Args:
        z: Rows, `(n, d)`.
        law: Of them.
        judged: Cells that may be spikes, `(n, d)`.
        every: One row in so many is learnt from.
    """
    found = np.zeros(z.shape, bool)
    apart, suspect = deviations(z, law)
    judgeable = np.where(judged, apart, 0)
    placed = places(z[::every])
    for j in range(z.shape[1]):
        free = ~_at_levels(z[:, j], suspect[:, j])
        beside = np.delete(suspect[::every], j, axis=1).any(axis=1)
        others = np.column_stack([*np.delete(placed, j, axis=2), unit(np.asarray(beside))])
        gap = _gap(judgeable[::every, j], free[::every])
        if gap is not None and _may_be_noise(judgeable[::every, j], free[::every], gap, others):
            found[:, j] = free & matched(np.where(free, judgeable[:, j], 0), gap.least, gap.most)
    return found, apart


def _at_levels(column: Floats, suspect: Flags) -> Flags:
    """Cells `(n,)` at values that a column of few levels takes, or on the grid of these.

    True extremes of a count are as far from its other values as spikes are, and as sudden.
    """
    column = np.round(column, 10)
    values, counts = np.unique(column[~suspect], return_counts=True)
    common = counts >= 3
    levels = values[common]
    if not 0 < len(levels) < MOST_LEVELS or counts[common].sum() < ALMOST_ALL * counts.sum():
        return np.zeros(len(column), bool)
    if len(levels) == 1:
        return np.ones(len(column), bool)
    place = (column - levels[0]) / np.diff(levels).min()
    found: Flags = (np.abs(place - np.round(place)) < 1e-3) | np.isin(column, levels)
    return found


def _may_be_noise(apart: Floats, free: Flags, gap: _Gap, others: Floats) -> bool:
    """Whether what is beyond the gap is seldom, and knows nothing of the rest of its row.

    Args:
        apart: Of a column's cells, `(n,)`.
        free: Those that are at no level, `(n,)`.
        gap: Between its spikes and the rest.
        others: Where the rows lie in other columns, and whether other cells of theirs are
            suspicious, `(n, m)`.
    """
    cells = matched(np.where(free, apart, 0), gap.least, gap.most)
    telling = cells & ((apart > 0) == gap.up)
    return bool(cells.mean() <= MOST_SPIKES and dependence(telling, others) <= DEPENDENT)


def _gap(apart: Floats, free: Flags) -> _Gap | None:
    """The gap in size that is least likely by chance, if it is unlikely enough.

    Sizes are counted within it, and, of cells that are free to be spikes, in a band above it. Of
    two sides the one with less in the gap tells, since the other may have a tail of true extremes;
    or both together.
    """
    everything, some = _sides(apart), _sides(apart[free])
    sizes = np.sort(np.abs(apart[free]))
    lowest = max(LOWEST * float(spread_of(apart)), NEGLIGIBLE)
    least = sizes[-max(int(MOST_SPIKES * len(apart)), 1) :]
    least = least[least >= lowest * GAPS[0]]
    best, found = UNLIKELY, None
    for band, gap in ((b, g) for b in BANDS for g in GAPS):
        start = least[least >= lowest * gap]
        above = np.stack([between(side, start, start * band) for side in some])
        below = np.stack([between(side, start / gap, start) for side in everything])
        chance = _chance(above, below, float((1 - 1 / band) / (gap - 1 / band)))
        i = int(chance.argmin()) if chance.size else 0
        if chance.size and chance[i] < best:
            best = float(chance[i])
            median = float(np.median(sizes[sizes >= start[i]]))
            most = min(ALIKE * median, float(start[i] * band * BEYOND))
            found = _Gap(float(start[i] / np.sqrt(gap)), most, bool(below[0, i] <= below[1, i]))
    return found


def _sides(apart: Floats) -> tuple[Floats, Floats]:
    """Sorted sizes of those that point up, and down."""
    return np.sort(apart[apart > 0]), np.sort(-apart[apart < 0])


def _chance(above: NDArray[np.intp], below: NDArray[np.intp], share: float) -> Floats:
    """That so many are above and so few below, of which `share` should be above; `(m,)`.

    1 where spikes are few or point one way. Both counts are `(2, m)`, of either side.
    """
    even = np.abs(above[0] - above[1]) <= UNEVEN * np.sqrt(above.sum(axis=0))
    even &= above.min(axis=0) >= FEWEST
    of_side = binom.sf(above - 1, above + below, share)
    emptier = np.take_along_axis(of_side, below.argmin(axis=0)[None], axis=0)[0]
    both = of_side.prod(axis=0) * (UNLIKELY / BOTH_UNLIKELY)
    both = np.where(of_side.max(axis=0) < EITHER_UNLIKELY, both, 1)
    found: Floats = np.where(even, np.minimum(emptier, both), 1)
    return found
