"""Gaps in size: what tells noise that is in some cells or rows only from the tail of the signal."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

__all__ = ["between", "end_of_bulk", "gap_in", "matched", "size_of_rows"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

GAPS = np.array([1.6, 2.5, 4.0, 6.0])
UNLIKELY = 1e-5
UNEVEN = 2.5
ALIKE = 2.5
"""Spikes are up to so many times the median spike: one gross value tells nothing of others."""
NEAR = 1.3
GAPS_OF_SIZES = np.array([1.25, 1.4, 1.6, 2.5])
UNLIKELY_OF_SIZES = 1e-6
MATCHED = 0.5
"""Least number of spikes that point the other way, of about the same size (up to NEAR times), for
each that points one way: else most of these are true peaks."""


def gap_in(apart: Floats, lowest: float, typical: float) -> tuple[float, float]:
    """Least and largest size above the gap that is least likely by chance; inf where none is."""
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


def end_of_bulk(sizes: Floats, lowest: float) -> float:
    """Middle of the gap among sizes without a sign that is least likely; inf where none is."""
    ordered = np.sort(sizes)
    most, end = UNLIKELY_OF_SIZES, np.inf
    for gap in GAPS_OF_SIZES:
        least = ordered[ordered >= lowest * gap]
        many = len(ordered) - np.searchsorted(ordered, least)
        few = between(ordered, least / gap, least)
        chance = binom.sf(many - 1, many + few, 1 / gap)
        if chance.size and chance.min() < most:
            most, end = chance.min(), float(least[chance.argmin()] / np.sqrt(gap))
    return end


def matched(apart: Floats, least: float, most: float) -> Flags:
    """Cells of one column of a size between the two, of which as many point the other way."""
    size = np.abs(apart)
    inside = (size >= least) & (size <= most)
    up, down = np.sort(size[inside & (apart > 0)]), np.sort(size[inside & (apart < 0)])
    above, below = (between(side, size / NEAR, size * NEAR) for side in (up, down))
    same, other = np.where(apart > 0, above, below), np.where(apart > 0, below, above)
    found: Flags = inside & (other + 1 >= MATCHED * same)
    return found


def between(side: Floats, low: Floats, high: Floats) -> NDArray[np.intp]:
    """How many of the sorted sizes are at least `low` and below `high`."""
    return np.searchsorted(side, high) - np.searchsorted(side, low)


def size_of_rows(apart: Floats) -> Floats:
    """What more than half of the columns are off by at least, with the sign of most, `(T,)`."""
    columns = apart.shape[1]
    size = np.sort(np.abs(apart), axis=1)[:, columns - 1 - columns // 2]
    up = np.sign(apart).sum(axis=1)
    furthest = np.take_along_axis(apart, np.abs(apart).argmax(axis=1)[:, None], axis=1)[:, 0]
    signed: Floats = size * np.sign(np.where(up == 0, furthest, up))
    return signed
