"""Cells of a table's rows that are spikes, not signal: apart from what the rest of the row says."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from denograd_jax.calibration._spikes import Spikes, between, matched

__all__ = ["row_spikes"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEWEST_ROWS = 300
MOST_ROWS = 8192
"""Spread evenly; the expectations and the gaps are learnt from as many."""
ROUNDS = 2
"""More would let what was filled in confirm itself."""
WIDE = 3.5
"""Deviations, in robust standard deviations, from which on a cell is left out of the fit."""
MOST_SUSPECTS = 0.08
"""Of a column's cells; of a heavy tail no more is left out."""
FLANK, MARGIN = 0.025, 0.3
"""A column's usual range: without this share of cells on either side, and wider by this share."""
RIDGE = 1e-3
MOST_OF_ROW = 3
"""At most one cell in so many of a row is a spike, and eight: else the whole row is off."""
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
DEPENDENT = 4.0
"""Correlation of the spikes of a column with where the others lie, in its standard errors, above
which they are part of the signal."""
MOST_LEVELS, ALMOST_ALL = 64, 0.95


class _Law(NamedTuple):
    """What rows say of each other's cells, as if they were Gaussian.

    Attributes:
        mean: `(d,)`.
        precision: `(d, d)`.
        unit: Deviation of a cell from the rest of its row that counts as 1, `(d,)`.
    """

    mean: Floats
    precision: Floats
    unit: Floats


class _Gap(NamedTuple):
    """Least and largest size of a column's spikes, and whether those that point up tell more."""

    least: float
    most: float
    up: bool


def row_spikes(z: Floats, *, observed: Flags | None = None) -> Spikes:
    r"""Single cells that stand out from what the rest of their row lets expect.

    The expectation is that of a Gaussian whose mean and covariance are fitted with the cells that
    deviate most left out, one after another in each row; so a spike does not make the others of
    its row stand out. Deviations of a column are spikes if (1) they are apart from all smaller
    ones: sizes just below theirs occur so seldom as a tail like Cauchy's, :math:`P(|e| > t) \propto
    1 / t`, leaves them empty once in a hundred million times; (2) they point up about as often as
    down, since the tails of clean tables mostly point one way; (3) there are seven or more on
    either side; and (4) they hit rows wherever these lie, with other suspicious cells or without:
    true extremes depend on the other columns. Values that a column of few levels takes are none.

    Args:
        z: Rows `(n, d)` without missing values, standardised.
        observed: Cells that were not filled in, `(n, d)`; all unless given.

    Returns:
        `Spikes`, `(n, d)`, with the expectation in their place; none for fewer than 300 rows.

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
    rows = len(z)
    found = np.zeros(z.shape, bool)
    if rows < FEWEST_ROWS:
        return Spikes(z.copy(), found)
    every = -(-rows // MOST_ROWS)
    apart, suspect = _deviations(z, _robust(z[::every]))
    judged = apart if observed is None else np.where(observed, apart, 0)
    places = _places(z[::every])
    for j in range(z.shape[1]):
        free = ~_at_levels(z[:, j], suspect[:, j])
        beside = np.delete(suspect[::every], j, axis=1).any(axis=1)
        others = np.column_stack([*np.delete(places, j, axis=2), _unit(np.asarray(beside))])
        gap = _gap(judged[::every, j], free[::every])
        if gap is not None and _may_be_noise(judged[::every, j], free[::every], gap, others):
            found[:, j] = free & matched(np.where(free, judged[:, j], 0), gap.least, gap.most)
    low, high = (
        end(np.where(found, empty, z), axis=0)
        for end, empty in ((np.min, np.inf), (np.max, -np.inf))
    )
    return Spikes(np.where(found, np.clip(z - apart, low, high), z), found)


def _robust(z: Floats) -> _Law:
    """Fitted to rows of which suspicious cells are filled in by the fit before."""
    low, high = np.asarray(np.quantile(z, [FLANK, 1 - FLANK], axis=0), np.float64)
    margin = MARGIN * (high - low)
    usual = np.clip(z, low - margin, high + margin)
    x, doubt = usual, np.zeros(z.shape[1])
    for _ in range(ROUNDS):
        covariance = np.cov(x.T).reshape(2 * x.shape[1:]) + np.diag(doubt + RIDGE)
        precision: Floats = np.linalg.inv(covariance.astype(np.float64))
        law = _with_unit(z, x.mean(axis=0), precision)
        apart, suspect = _deviations(z, law)
        x = np.where(suspect, np.clip(z - apart, low - margin, high + margin), usual)
        doubt = suspect.mean(axis=0) / np.diag(law.precision)
    return law


def _with_unit(z: Floats, mean: Floats, precision: Floats) -> _Law:
    """Tails that are heavier than a Gaussian's have a larger unit."""
    h = np.diag(precision)
    size = np.abs((z - mean) @ precision) / h
    tail = np.quantile(size, 1 - MOST_SUSPECTS, axis=0) / WIDE
    return _Law(mean, precision, np.maximum.reduce([h**-0.5, _spread(size), tail]))


def _spread(apart: Floats) -> Floats:
    found: Floats = np.maximum(np.median(np.abs(apart), axis=0) / 0.6745, 1e-6)
    return found


def _deviations(z: Floats, law: _Law) -> tuple[Floats, Flags]:
    """Of each cell from the expectation given the rest of its row, and what is suspicious.

    Both `(n, d)`. In each row what deviates most becomes suspicious, and is put where the others
    expect it, until nothing else deviates. Of a row that still does nothing is suspicious.
    """
    x, suspect = z.copy(), np.zeros(z.shape, bool)
    h = np.diag(law.precision)
    pull = (z - law.mean) @ law.precision
    rows, order = np.arange(len(z)), list[tuple[NDArray[np.intp], NDArray[np.intp]]]()
    most = min(8, -(-z.shape[1] // MOST_OF_ROW))
    for turn in range(most + 1):
        size = np.abs(pull[rows]) / h
        wide = (size > WIDE * law.unit) & ~suspect[rows]
        # In units of the law a spike deviates more than all that it makes deviate.
        columns = np.where(wide, size * np.sqrt(h), 0).argmax(axis=1)
        hit = wide.any(axis=1)
        rows, columns = rows[hit], columns[hit]
        if turn == most:
            break
        suspect[rows, columns] = True
        order.append((rows, columns))
        _fill(x, pull, law.precision, order)
    suspect[rows] = False
    pull[rows] = (z[rows] - law.mean) @ law.precision
    return np.where(suspect, z - x, pull / h), suspect


def _fill(
    x: Floats,
    pull: Floats,
    precision: Floats,
    order: list[tuple[NDArray[np.intp], NDArray[np.intp]]],
) -> None:
    """Move the suspicious cells of rows that still have new ones to their joint expectation.

    Two turns of coordinate descent (Gauss and Seidel), in place; pull is `(x - mean) @ precision`.
    """
    active = np.zeros(len(x), bool)
    active[order[-1][0]] = True
    for _ in range(2):
        for all_rows, all_columns in order:
            some = active[all_rows]
            rows, columns = all_rows[some], all_columns[some]
            change = -pull[rows, columns] / precision[columns, columns]
            x[rows, columns] += change
            pull[rows] += change[:, None] * precision[columns]


def _places(z: Floats) -> Floats:
    """Where rows lie in each column: rank, and distance from the middle; `(2, n, d)`.

    Ranks know no outliers.
    """
    ranks = z.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable") + 0.5
    return np.stack([_unit(ranks), _unit(np.abs(ranks - len(z) / 2))])


def _unit(values: NDArray[Any]) -> Floats:
    """With mean 0 and standard deviation 1 in each column, or 0 where all are equal."""
    apart = np.asarray(values, np.float64) - values.mean(axis=0)
    found: Floats = apart / np.maximum(apart.std(axis=0), 1e-12)
    return found


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
    telling = _unit(cells & ((apart > 0) == gap.up))
    together = np.abs(telling @ others).max(initial=0) / np.sqrt(len(apart))
    return bool(cells.mean() <= MOST_SPIKES and together <= DEPENDENT)


def _gap(apart: Floats, free: Flags) -> _Gap | None:
    """The gap in size that is least likely by chance, if it is unlikely enough.

    Sizes are counted within it, and, of cells that are free to be spikes, in a band above it. Of
    two sides the one with less in the gap tells, since the other may have a tail of true extremes;
    or both together.
    """
    everything, some = _sides(apart), _sides(apart[free])
    sizes = np.sort(np.abs(apart[free]))
    lowest = max(LOWEST * float(_spread(apart)), NEGLIGIBLE)
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
