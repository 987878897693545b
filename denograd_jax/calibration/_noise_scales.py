"""How much of a series is noise, channel by channel, by several bounds that must all hold."""

import numpy as np
from numpy.typing import NDArray

from denograd_jax.calibration._nugget import nugget

__all__ = ["series_noise"]

BLOCK = 24
QUIET = 0.1
"""Noise is there in quiet times too: in the quietest tenth of all blocks it is all there is."""
BELIEVED = 0.8
"""Share of a channel's bound that is taken off, up to the median bound. Too little costs little:
half of the variance brings three quarters of the gain; more than twice of it does harm."""
BELIEVED_ALONE = 0.35
"""The same of a bound that is larger than the median: of a channel that is noisy unlike all others,
or that changes from step to step by itself."""
IDENTIFIED = 1e-4


def series_noise(
    z: NDArray[np.float64],
    score: NDArray[np.floating],
    segments: NDArray[np.generic],
    span: int,
) -> NDArray[np.float64]:
    r"""The variance of each channel's noise, or 0 where nothing tells it from the signal.

    White noise has no part that is not seen in two places, so that both are bounds: the channel's
    nugget; and what all other cells, before, behind and beside, leave unexplained of a cell,
    :math:`1 / \operatorname{Var}(score)` (for a Gaussian density), in the series' quietest tenth. A
    conservative share of the lesser one is taken, and a smaller one of what exceeds the median
    channel's.

    Look-ahead: yes, one number for the whole series.

    Args:
        z: Standardised series `(T, C)` in order of time; NaN is missing.
        score: Gradient of its log-density, `(T, C)`.
        segments: `(T,)`; equal ones have no gap.
        span: Steps of a window with its target; as many at either end of a segment, but a quarter
            of it at most, are not judged.

    Returns:
        Variances `(C,)`, in squared units of z.

    Source:
        The nugget: see `nugget`. Quiet times: Martin 2001, "Noise power spectral density estimation
        based on optimal smoothing and minimum statistics". Leaving one cell out: Besag 1975.
    """
    bound = np.minimum(nugget(z, segments), _quiet(z, score, segments, span))
    identified = bound > IDENTIFIED
    if not identified.any():
        return np.zeros_like(bound)
    typical = np.median(bound[identified])
    taken = np.maximum(BELIEVED * np.minimum(bound, typical), BELIEVED_ALONE * bound)
    return np.where(identified, taken, 0)


def _quiet(
    z: NDArray[np.float64],
    score: NDArray[np.floating],
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
        if not blocks or not (g != 0).any():
            continue
        unexplained = g / np.mean(g * g)  # E[score^2] is the precision given all other cells
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
