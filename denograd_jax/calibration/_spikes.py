"""Cells of a series that are spikes, not signal: found by a robust autoregression, and replaced."""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denograd_jax.errors import ShapeError

__all__ = ["Spikes", "spikes"]

ORDER = 3
RIDGE = 1.0
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
GAPS = np.array([1.6, 2.5, 4.0, 6.0])
UNLIKELY = 1e-5
UNEVEN = 2.5
ALIKE = 2.5
"""Spikes are up to so many times the median spike: one gross value tells nothing of others."""
NEAR = 1.3
MATCHED = 0.5
"""Least number of spikes that point the other way, of about the same size (up to NEAR times), for
each that points one way: else most of these are true peaks."""


class Spikes(NamedTuple):
    """What `spikes` found.

    Attributes:
        values: The series with spikes replaced, in the units given, `(T, C)`; NaN is missing still.
        found: Cells that are spikes, `(T, C)`.
    """

    values: NDArray[np.float64]
    found: NDArray[np.bool_]


class _Process(NamedTuple):
    """A vector autoregression.

    Attributes:
        bias: `(C,)`.
        weights: Of the values k + 1 steps before, `(K, C, C)`: input, output.
        precision: Of the residuals, `(C, C)`.
        usable: Steps that have all the values before them in their segment, `(T,)`.
    """

    bias: NDArray[np.float64]
    weights: NDArray[np.float64]
    precision: NDArray[np.float64]
    usable: NDArray[np.bool_]


_Pair: TypeAlias = tuple[_Process, _Process]
"""Of a series, and of it in reverse: each knows nothing of where the other ends."""


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
    usable = _usable(labels)
    weights = 1 + ORDER * z.shape[1]
    if usable.sum() < FEWEST_ROWS_PER_WEIGHT * weights:
        return Spikes(given.copy(), np.zeros(given.shape, bool))
    start, apart, spread = _robust(z, usable)
    least, most = _sizes(apart, spread, _median_steps(z, labels))
    found = np.stack([matched(*column) for column in zip(apart.T, least, most, strict=True)]).T
    if not found.any():
        return Spikes(given.copy(), found)
    cleaned = _replaced(z, start, found, usable)
    return Spikes(np.where(found, cleaned * scale + mean, given), found)


def _moments(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column; 0 and 1 where there are none."""
    seen = ~np.isnan(z)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, z, 0).sum(axis=0) / count
    scale = np.sqrt((np.where(seen, z - mean, 0) ** 2).sum(axis=0) / count)
    return mean, np.where(scale > 0, scale, 1)


def _usable(segments: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Steps with ORDER of them before in the same segment; of one, all neighbours are equal."""
    changes = np.r_[True, segments[1:] != segments[:-1]]
    begins = np.maximum.accumulate(np.where(changes, np.arange(len(segments)), 0))
    return np.arange(len(segments)) - begins >= ORDER


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
        x = _filled(pair, np.where(suspect | missing, guess, z), suspect | missing, steps=10)
    _, three = _differences(z, x, usable)
    return x, _apart(three), _spread(three[0])


def _differences(
    z: NDArray[np.float64], x: NDArray[np.float64], usable: NDArray[np.bool_]
) -> tuple[_Pair, NDArray[np.float64]]:
    """Processes fitted to x; z less its expectation given all others, past, and future of x.

    The latter `(3, T, C)`. At the ends of a segment, where there is no past or no future, the other
    one counts twice; where there is neither, they are 0.
    """
    pair = _fit_both(x, usable)
    forward, backward = pair
    has_past, has_future = usable[:, None], backward.usable[::-1, None]
    given_all = np.where(has_past, _alone(forward, x), _alone(backward, x[::-1])[::-1])
    past, future = _residual(forward, x), _residual(backward, x[::-1])[::-1]
    past, future = np.where(has_past, past, future), np.where(has_future, future, past)
    three = z - x + np.stack([given_all, past, future])
    return pair, np.where(has_past | has_future, three, 0)


def _alone(process: _Process, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each cell of x, less its expectation given all others, `(T, C)`."""
    information = _information(process)
    score = _score(process, _residual(process, x))
    return -np.where(information > 0, score, 0) / np.where(information > 0, information, 1)


def _apart(three: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least of the differences, `(T, C)`; 0 where they have not one sign, or do not agree."""
    size = np.abs(three)
    least = size.min(axis=0)
    alike = (three > 0).all(axis=0) | (three < 0).all(axis=0)
    alike &= least >= AGREEING * size.max(axis=0)
    return np.where(alike, np.sign(three[0]) * least, 0)


def _backward(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same of the series in reverse: a step is usable if the one ORDER behind it is."""
    reverse: NDArray[np.bool_] = np.r_[usable[ORDER:], np.zeros(ORDER, bool)][::-1]
    return reverse


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
        _gap(column, low, STEPS * step)
        for column, low, step in zip(apart.T, lowest, steps, strict=True)
    ]
    least, most = np.array(pairs).T
    return least, most


def _gap(apart: NDArray[np.float64], lowest: float, typical: float) -> tuple[float, float]:
    """Least and largest size above the gap that is least likely by chance; inf where none is."""
    from scipy.stats import binom

    up, down = np.sort(apart[apart > 0]), np.sort(-apart[apart < 0])
    sizes = np.sort(np.abs(apart))
    least = sizes[sizes >= lowest * GAPS[0]]
    if not least.size:
        return np.inf, np.inf
    median = sizes[(len(sizes) + np.searchsorted(sizes, least)) // 2]
    most = ALIKE * median
    above = np.stack([between(side, least, most) for side in (up, down)])
    spiky = (median >= typical) & (above.min(axis=0) > 0)
    spiky &= np.abs(above[0] - above[1]) <= UNEVEN * np.sqrt(above.sum(axis=0))
    chance = np.ones((len(GAPS), len(least)))
    for row, gap in zip(chance, GAPS, strict=True):
        below = np.stack([between(side, least / gap, least) for side in (up, down)])
        # One side may have true peaks of all sizes; the emptier one tells of the spikes.
        side = below.argmin(axis=0)[None]
        few, many = (np.take_along_axis(n, side, axis=0)[0] for n in (below, above))
        tested = spiky & (least / gap >= lowest)
        row[tested] = binom.sf(many - 1, many + few, 1 / gap)[tested]
    best = int(chance.min(axis=0).argmin())
    if chance[:, best].min() >= UNLIKELY:
        return np.inf, np.inf
    return float(least[best] / np.sqrt(GAPS[0])), float(most[best])


def matched(apart: NDArray[np.float64], least: float, most: float) -> NDArray[np.bool_]:
    """Cells of one column of a size between the two, of which as many point the other way."""
    size = np.abs(apart)
    inside = (size >= least) & (size <= most)
    up, down = np.sort(size[inside & (apart > 0)]), np.sort(size[inside & (apart < 0)])
    above, below = (between(side, size / NEAR, size * NEAR) for side in (up, down))
    same, other = np.where(apart > 0, above, below), np.where(apart > 0, below, above)
    found: NDArray[np.bool_] = inside & (other + 1 >= MATCHED * same)
    return found


def between(
    side: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.intp]:
    """How many of the sorted sizes are at least `low` and below `high`."""
    return np.searchsorted(side, high) - np.searchsorted(side, low)


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
        x = _filled(_fit_both(x, usable), x, unknown, steps=30)
    return x


def _fit_both(x: NDArray[np.float64], usable: NDArray[np.bool_]) -> _Pair:
    return _fit(x, usable), _fit(x[::-1], _backward(usable))


def _fit(x: NDArray[np.float64], usable: NDArray[np.bool_]) -> _Process:
    """By least squares."""
    rows, channels = np.flatnonzero(usable), x.shape[1]
    inputs = np.concatenate(
        [np.ones((len(rows), 1)), *(x[rows - lag] for lag in range(1, ORDER + 1))], axis=1
    )
    gram = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ x[rows])
    residual = x[rows] - inputs @ weights
    covariance = residual.T @ residual / len(rows)
    scale = np.sqrt(np.diag(covariance)) + 1e-6
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    # Equal columns have a singular covariance.
    precision = (vectors / np.maximum(values, 1e-6)) @ vectors.T / np.outer(scale, scale)
    return _Process(weights[0], weights[1:].reshape(ORDER, channels, channels), precision, usable)


def _residual(
    process: _Process, x: NDArray[np.float64], *, bias: bool = True
) -> NDArray[np.float64]:
    """`(T, C)`; 0 at steps that are not usable."""
    residual = x - process.bias if bias else x.copy()
    for lag, weights in enumerate(process.weights, 1):
        residual[lag:] -= x[:-lag] @ weights
    residual[~process.usable] = 0
    return residual


def _score(process: _Process, residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient of the log-density, `(T, C)`."""
    pull = residual @ process.precision
    score = -pull
    for lag, weights in enumerate(process.weights, 1):
        score[:-lag] += pull[lag:] @ weights.T
    return score


def _information(process: _Process) -> NDArray[np.float64]:
    """Diagonal of the precision of all cells together, `(T, C)`; 0 where no step has a say."""
    usable = process.usable[:, None].astype(np.float64)
    information = usable * np.diag(process.precision)
    for lag, weights in enumerate(process.weights, 1):
        each = np.einsum("io,op,ip->i", weights, process.precision, weights)
        information[:-lag] += usable[lag:] * each
    return information


def _filled(
    pair: _Pair, x: NDArray[np.float64], unknown: NDArray[np.bool_], steps: int
) -> NDArray[np.float64]:
    """Unknown cells by their joint expectation given all others: conjugate gradients."""
    forward, backward = pair
    information = _information(forward) + _information(backward)[::-1]
    unknown = unknown & (information > 0)
    if not unknown.any():
        return x

    def pull(values: NDArray[np.float64], *, bias: bool) -> NDArray[np.float64]:
        score = _score(forward, _residual(forward, values, bias=bias))
        score += _score(backward, _residual(backward, values[::-1], bias=bias))[::-1]
        return np.where(unknown, score, 0)

    scale = np.where(unknown, information, 1)
    left = pull(x, bias=True)
    direction = left / scale
    size = first = float((left * direction).sum())
    x = x.copy()
    for _ in range(steps):
        if size <= 1e-8 * first:
            break
        change = -pull(direction, bias=False)
        length = size / float((direction * change).sum())
        x += length * direction
        left -= length * change
        size, before = float((left * left / scale).sum()), size
        direction = left / scale + size / before * direction
    return x
