"""How much of a table's columns is noise: as much as leaves its density as likely as before."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from denograd_jax.backbones import judge, maximise, sort_out

__all__ = ["RowNoise", "mixture_size", "row_noise"]

Floats = NDArray[np.float64]

FEWEST_ROWS = 300
FEWEST_EVEN = 1000
"""Rows from which kurtosis and correlations are known well enough to tell noise by them."""
MOST_ROWS = 8192
"""Spread evenly; the variance of a Gaussian is known to 1.6 % from as many."""
COMPONENTS = 12
COMPONENTS_OF_COLUMN = 20
STEPS_OF_COLUMN, STEPS = 40, 80
BEGINNINGS = 3
"""Of the mixtures of whole rows. Where they end hangs on where they began; medians are taken."""
LEAST = 1e-4
"""Variance below which nothing is taken for noise."""
EVEN = 1.5
"""Values that repeat this much more often than their neighbours on the grid of the column's
resolution were recorded exactly: noise would have spread them."""
LITTLE = 0.1
"""Share of its noise that would come off a column, below which it is left alone: with more noise
taken for granted than there is, more harm than good could be done."""
HEAVY, UNEVEN = 0.3, 0.22
"""Deviations count as noise would with a kurtosis of 3 and no correlation of their squares with
anything, but for this much. No column of five clean real tables passes."""
MUCH = 0.4
"""The same share, above which deviations are looked at for whether they are noise alone: of a
column that others hardly explain they are the column itself."""
CERTAIN = 0.7
"""Share that is taken of what is told to be noise by that."""
CAUTIOUS = 0.45
"""Share that is taken of other noise: seven tenths of the gain of all of it, and no harm as long
as there is a quarter of what it is taken for."""
QUIETEST = 0.25
SMOOTH = 0.2
"""Ceiling of a column that has nothing sharp to it, as a Gaussian one has not. Where most columns
are such, noise can show only in that few factors explain all that they have in common."""


class RowNoise(NamedTuple):
    """What a table says of its noise, in squared units of its columns.

    Attributes:
        variance: Of each column's noise, `(d,)`, as far as it is to be believed; 0 where nothing
            tells it from the signal.
        likely: Best guess of that, `(d,)`, of which the variance is a cautious part.
        ceiling: The most that it could be, `(d,)`.
    """

    variance: Floats
    likely: Floats
    ceiling: Floats


def mixture_size(rows: int, columns: int) -> int:
    """Number of components that so many rows allow."""
    return int(np.clip(rows // (8 * columns), 1, COMPONENTS))


def row_noise(z: Floats, *, observed: NDArray[np.bool_] | None = None, seed: int = 0) -> RowNoise:
    r"""The variance of each column's noise, or 0 where nothing tells it from the signal.

    Noise blurs all that is sharp: the density of noisy rows is one of clean rows, convolved with
    that of the noise, so that no component of a Gaussian mixture can be narrower than the noise is.
    The ceiling of a column is where half of the rows, to which none of the components were fitted,
    are most likely, going down from more (in each column alone, then in all together):

    .. math:: \sigma_j^2 \leftarrow \sigma_j^2 \, \overline{(\partial_j \log p)^2} /
       \overline{P_{jj}}

    Where that ends hangs on where the mixtures begin, so that medians of three are taken.

    A column whose values were recorded exactly has none (see `EVEN`). Smooth clean data may have a
    ceiling too: where most columns are as smooth as a Gaussian one, nothing is believed unless few
    factors explain all that they have in common. Of columns in which what the others do not explain
    is Gaussian, and as large everywhere, it is believed, and seven tenths of it are taken; of the
    others up to the lower quartile of all, since what lies lower in many columns is hardly
    smoothness, and nearly half of that.

    Args:
        z: Rows `(n, d)` without missing values, standardised.
        observed: Cells that were not filled in, `(n, d)`; all unless given.
        seed: Of the halves, and where the mixtures begin.

    Returns:
        `RowNoise`; all 0 for fewer than 300 rows.

    Source:
        Extreme deconvolution: Bovy, Hogg and Roweis 2011. Fixed point of a variance: MacKay 1992.
    """
    rows, columns = z.shape
    if rows < FEWEST_ROWS:
        return RowNoise(*np.zeros((3, columns)))
    every = -(-rows // MOST_ROWS)
    z, seen = z[::every], (np.ones(z.shape, bool) if observed is None else observed)[::every]
    rng = np.random.default_rng(seed)
    exact = np.array([repeats(z[seen[:, j], j]) > EVEN for j in range(columns)])
    of_column = min(COMPONENTS_OF_COLUMN, len(z) // 40)
    alone = [
        _ceiling(z[:, [j]], np.full(1, 0.25), of_column, STEPS_OF_COLUMN, rng)
        for j in range(columns)
    ]
    ceiling = np.where(exact, 0, np.concatenate([found.variance for found in alone]))
    if np.quantile(ceiling, QUIETEST) > SMOOTH and not few_factors(z):
        return RowNoise(np.zeros(columns), np.zeros(columns), ceiling)
    most = np.minimum(ceiling, 0.25)
    joint = [_ceiling(z, most, mixture_size(*z.shape), STEPS, rng) for _ in range(BEGINNINGS)]
    ceiling = np.where(exact, 0, np.median([found.variance for found in joint], axis=0))
    precision = np.median([found.precision for found in joint], axis=0)
    heavy, uneven = np.median([_unlike_noise(found.deviations, z) for found in joint], axis=0)
    even = (heavy < HEAVY) & (uneven < UNEVEN) & (len(z) >= FEWEST_EVEN)
    even &= CERTAIN * ceiling * precision > MUCH
    share = np.where(even, CERTAIN, CAUTIOUS)
    likely = np.where(even, ceiling, np.minimum(ceiling, np.quantile(ceiling, QUIETEST)))
    told = (ceiling > LEAST) & (share * likely * precision > LITTLE)
    likely = np.where(told, likely, 0)
    return RowNoise(share * likely, likely, ceiling)


class _Ceiling(NamedTuple):
    variance: Floats
    precision: Floats
    """Of a cell given the rest of its row, on average, `(d,)`."""
    deviations: Floats
    """Of each cell from what the rest of its row lets expect, `(n, d)`."""


def _ceiling(
    z: Floats, most: Floats, components: int, steps: int, rng: np.random.Generator
) -> _Ceiling:
    """Variances `(d,)`, at most `most`, at which either half is most likely under the other's fit.

    They go down while the mixtures are fitted, which begins with wide components.
    """
    halves = rng.permutation(len(z)) % 2
    learn, look = ([z[halves == part] for part in order] for order in ((0, 1), (1, 0)))
    shares = [sort_out(part, components, rng) for part in learn]
    most = np.maximum(most, LEAST)
    variance = most
    deviations = np.zeros_like(z)
    for step in range(steps):
        squares, precision = np.zeros((2, z.shape[1]))
        for half in (0, 1):
            mixture = maximise(learn[half], shares[half], variance)
            shares[half] = judge(mixture, learn[half]).shares
            seen = judge(mixture, look[half])
            squares += np.einsum("kn,knd,knd->d", seen.shares, seen.pulls, seen.pulls)
            precision += seen.precision.sum(axis=0)
            if step == steps - 1:
                deviations[halves == 1 - half] = -seen.score / seen.precision
        variance = np.clip(variance * squares / precision, LEAST, most)
    return _Ceiling(variance, precision / len(z), deviations)


def _unlike_noise(deviations: Floats, z: Floats) -> tuple[Floats, Floats]:
    """How far deviations `(n, d)` are from Gaussian ones, as large wherever the row lies.

    Returns:
        Distance of the kurtosis from 3; greatest correlation of the squares with any column or its
        square. `(d,)` each.
    """
    u = deviations / np.maximum(deviations.std(axis=0), 1e-12)
    heavy = np.abs((u**4).mean(axis=0) - 3)
    places = np.concatenate([z, z**2], axis=1)
    places = (places - places.mean(axis=0)) / np.maximum(places.std(axis=0), 1e-12)
    sizes = u**2 - 1
    sizes /= np.maximum(sizes.std(axis=0), 1e-12)
    uneven = np.abs(sizes.T @ places / len(z)).max(axis=1)
    return heavy, uneven


def repeats(column: Floats, reach: int = 3) -> float:
    """How much more often values repeat than they have a neighbour, 1 to 3 grid steps away.

    The grid is that of the column's resolution, its least difference. About 1 for smooth values
    that were rounded, 0 where none repeats.
    """
    values, counts = np.unique(np.round(column, 10), return_counts=True)
    if len(values) < 2 or (counts == 1).all():
        return 0.0 if len(values) > 1 else np.inf
    step = np.diff(values).min()
    places = np.round((values - values[0]) / step)
    near = 0.0
    for distance in range(1, reach + 1):
        at = np.minimum(np.searchsorted(places, places + distance), len(places) - 1)
        near += (counts * counts[at])[places[at] == places + distance].sum()
    return float((counts * (counts - 1) / 2).sum() / max(near / reach / 2, 0.5))


def few_factors(z: Floats) -> bool:
    """Whether few common factors and a part of each column's own explain the correlations.

    At least one, and so few that the covariance has fewer free numbers than any one has, and
    Schwarz's criterion prefers it: noise on columns that depend on each other looks like that, and
    hardly anything else that is Gaussian does.

    Source:
        Maximum likelihood of factor analysis by its concentrated form: Joereskog 1967.
    """
    rows, columns = z.shape
    # Columns that are sums of others have a singular one: then each gets a little of its own.
    correlation = np.corrcoef(z.T).reshape(columns, columns) + LEAST * np.eye(columns)
    for factors in range(columns):
        spared = ((columns - factors) ** 2 - columns - factors) / 2
        if spared < 1:
            return False
        if rows * _misfit(correlation, factors) < np.log(rows) * spared:
            return factors > 0
    return False


def _misfit(correlation: Floats, factors: int) -> float:
    """Twice the loss of log-likelihood per row, against a covariance without structure."""
    if factors == 0:
        return -float(np.linalg.slogdet(correlation)[1])
    own = 1 / np.diag(np.linalg.inv(correlation))

    def loss(log_own: Floats) -> float:
        unit = np.exp(-log_own / 2)
        left = np.linalg.eigvalsh(correlation * np.outer(unit, unit))[: len(unit) - factors]
        return float((left - 1 - np.log(left)).sum())

    bounds = [(np.log(LEAST / 2), 0.0)] * len(own)
    begin = np.log(np.clip(own, LEAST / 2, 1))
    return float(minimize(loss, begin, bounds=bounds, method="L-BFGS-B").fun)
