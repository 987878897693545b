"""How much of a series is noise, channel by channel, by several bounds that must all hold."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from denograd_jax.calibration._nugget import Nugget, nugget_bounds

__all__ = ["SeriesNoise", "series_noise"]

BLOCK = 24
QUIET = 0.1
"""Noise is there in quiet times too: in the quietest tenth of all blocks it is all there is."""
TWICE = 2.0
"""Taking off less than twice the noise does no harm: so much of what is there for sure is taken,
if the best guess is that much."""
FIRM = 0.35
"""Least share of the best guess that is there for sure, in a channel noisy unlike the others."""
FIRM_IN_HALF = 0.5
"""The same of a guess from the quieter half of the blocks alone."""
LEFT_IN_HALF = 0.7675
"""Of the variance of white noise, in the half of all blocks where it varies least."""
ENOUGH_BLOCKS = 32
"""Of which the quieter half is looked at."""
STEADY = 0.8
"""Least share of it that is there in quiet times."""
MOSTLY_NOISE = 0.5
"""Share of a channel's variance beyond which there is too little left to repair."""
IDENTIFIED = 1e-4


class SeriesNoise(NamedTuple):
    """What `series_noise` found, in squared units of the series.

    Attributes:
        variance: What may be taken off as the noise's, `(C,)`; 0 where nothing tells it from the
            signal.
        likely: Best guess of what there is of it, `(C,)`: at least as much.
    """

    variance: NDArray[np.float64]
    likely: NDArray[np.float64]


def series_noise(
    z: NDArray[np.float64],
    score: NDArray[np.floating],
    precision: NDArray[np.float64],
    segments: NDArray[np.generic],
    span: int,
) -> SeriesNoise:
    r"""The variance of each channel's noise, or 0 where nothing tells it from the signal.

    White noise has no part that is not seen in two places, so that both are bounds: the channel's
    nugget; and what all other cells, before, behind and beside, leave unexplained of a cell,
    score / precision (for a Gaussian density), in the series' quietest tenth. The nugget is taken
    of the whole channel, or of the half of its blocks of 24 steps that varies least, whichever says
    more for sure: where a channel moves in bursts, as rain does, the whole says nothing.
    Of the nugget the best guess is taken, but no more than twice what it is at least. Beyond the
    median channel that counts only if the guess is nearly certain, and about as large in quiet
    times: else a channel that changes from step to step by itself would be taken for a noisy one.

    Look-ahead: yes, one number for the whole series.

    Args:
        z: Standardised series `(T, C)` in order of time; NaN is missing.
        score: Gradient of its log-density, `(T, C)`.
        precision: Minus the score's derivative by its own cell, on average, `(C,)`.
        segments: `(T,)`; equal ones have no gap.
        span: Steps of a window with its target; as many at either end of a segment, but a quarter
            of it at most, are not judged.

    Returns:
        `SeriesNoise`, in squared units of z.

    Source:
        The nugget: see `nugget`. Quiet times: Martin 2001, "Noise power spectral density estimation
        based on optimal smoothing and minimum statistics". Leaving one cell out: Besag 1975. Why
        less than twice: risk by Stein's unbiased estimate, 1981.
    """
    (best, least, firm), of_half = _nuggets(z, segments)
    quiet = _quiet(z, score, precision, segments, span)
    guess = np.minimum(np.where(of_half, best / LEFT_IN_HALF, best), quiet)
    bound = np.minimum(guess, TWICE * least)
    bound[(bound < IDENTIFIED) | (best > MOSTLY_NOISE * _variance(z))] = 0
    certain = (firm >= np.where(of_half, FIRM_IN_HALF, FIRM) * best) & (quiet >= STEADY * best)
    variance = np.where(certain, bound, np.minimum(bound, np.median(bound)))
    return SeriesNoise(variance, np.clip(guess, variance, TWICE * variance))


def _nuggets(
    z: NDArray[np.float64], segments: NDArray[np.generic]
) -> tuple[Nugget, NDArray[np.bool_]]:
    """The nuggets, and which of them are of the quieter half of the blocks, `(C,)`."""
    whole = np.array(nugget_bounds(z, segments))
    blocks = _blocks(segments)
    if len(blocks) < ENOUGH_BLOCKS:
        return Nugget(*whole), np.zeros(z.shape[1], bool)
    quiet = np.stack([_of_quieter_half(channel[blocks]) for channel in z.T], axis=1)
    more = quiet[1] > whole[1]
    return Nugget(*np.where(more, quiet, whole)), more


def _blocks(segments: NDArray[np.generic]) -> NDArray[np.intp]:
    """Rows of the blocks that segments are cut into, without what is left over, `(n, BLOCK)`."""
    borders = np.flatnonzero(segments[1:] != segments[:-1]) + 1
    pieces = np.split(np.arange(len(segments)), borders)
    cut = [piece[: len(piece) // BLOCK * BLOCK].reshape(-1, BLOCK) for piece in pieces]
    return np.concatenate(cut)


def _of_quieter_half(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bounds of one channel's nugget, `(3,)`, from the blocks `(n, BLOCK)` that vary least."""
    blocks = blocks[(~np.isnan(blocks)).sum(axis=1) > BLOCK // 2]
    order = np.argsort(np.nanvar(blocks, axis=1), kind="stable")
    half = blocks[np.sort(order[: len(blocks) // 2])]
    found: NDArray[np.float64] = np.array(
        nugget_bounds(half.ravel(), np.repeat(np.arange(len(half)), BLOCK))
    )[:, 0]
    return found


def _variance(z: NDArray[np.float64]) -> NDArray[np.float64]:
    seen = ~np.isnan(z)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, z, 0).sum(axis=0) / count
    variance: NDArray[np.float64] = np.where(seen, (z - mean) ** 2, 0).sum(axis=0) / count
    return variance


def _quiet(
    z: NDArray[np.float64],
    score: NDArray[np.floating],
    precision: NDArray[np.float64],
    segments: NDArray[np.generic],
    span: int,
) -> NDArray[np.float64]:
    """Mean square of what others leave unexplained of a cell, in the quietest blocks, `(C,)`."""
    from scipy.stats import chi2

    inner = _inner(segments, span)
    found = np.zeros(z.shape[1])
    for channel in range(z.shape[1]):
        g = score[inner & ~np.isnan(z[:, channel]), channel].astype(np.float64)
        blocks = g.size // BLOCK
        if not blocks or not (g != 0).any() or precision[channel] <= 0:
            continue
        # With the right density E[score^2] is the precision; beside gaps both are smaller.
        unexplained = g / min(precision[channel], np.mean(g * g))
        squares = (unexplained[: blocks * BLOCK].reshape(blocks, BLOCK) ** 2).mean(axis=1)
        found[channel] = np.quantile(squares, QUIET) / (chi2.ppf(QUIET, BLOCK) / BLOCK)
    return found


def _inner(segments: NDArray[np.generic], span: int) -> NDArray[np.bool_]:
    """Steps as far as a window, or a quarter of their segment, from either end of it.

    Nearer to an end fewer windows have a say, and less of a cell is explained.
    """
    steps = np.arange(len(segments))
    borders = np.flatnonzero(segments[1:] != segments[:-1]) + 1
    begins, ends = np.r_[0, borders], np.r_[borders, len(segments)]
    piece = np.searchsorted(borders, steps, side="right")
    margin = np.minimum(span, (ends - begins) // 4)[piece]
    inner: NDArray[np.bool_] = (steps - begins[piece] >= margin) & (ends[piece] - steps > margin)
    return inner
