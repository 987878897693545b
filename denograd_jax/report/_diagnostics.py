"""How a column drifted and what is left in its residuals, in numbers small enough to draw."""

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement
    from denograd_jax.report._order import Order

__all__ = [
    "LAGS",
    "Course",
    "Whiteness",
    "autocorrelation",
    "bin_edges",
    "course",
    "distribution",
    "whiteness",
]

Values: TypeAlias = NDArray[np.float64]

LAGS = 24
MOST_MOMENTS = 200
"""Moments at which the drift over time is shown."""
ROWS_PER_MOMENT = 5
MOST_SORTED = 200_000
"""Values by which bins are chosen; all values are counted in them."""


class Course(NamedTuple):
    """How the changes of a column went over time, in standard deviations.

    Attributes:
        x: Middle of each span of time, `(M,)`.
        mean: Mean change in it, with sign; NaN where nothing was observed.
        typical: Root mean square of the change in it.
    """

    x: Values
    mean: Values
    typical: Values


class Whiteness(NamedTuple):
    """Correlation of residuals with those some rows later.

    Attributes:
        before: At lags of 1 to `LAGS` rows, before the refinement; NaN where not defined.
        after: The same after it.
        bound: What 95 % of lags of white noise stay within.
    """

    before: Values
    after: Values
    bound: float


def course(x: Values, sigmas: Values) -> Course:
    """Mean changes over time.

    Args:
        x: When, `(N,)`, in any order.
        sigmas: Changes in standard deviations, `(N,)`; NaN where missing.
    """
    spans = int(np.clip(len(x) // ROWS_PER_MOMENT, 1, MOST_MOMENTS))
    low, high = x.min(), x.max()
    place = np.clip((x - low) / max(high - low, np.finfo(np.float64).tiny) * spans, 0, spans - 1)
    seen = np.isfinite(sigmas)
    place, sigmas = place.astype(np.int64)[seen], sigmas[seen]
    counts = np.bincount(place, minlength=spans).astype(np.float64)
    counts[counts == 0] = np.nan
    mean = np.bincount(place, sigmas, spans) / counts
    typical = np.sqrt(np.bincount(place, sigmas**2, spans) / counts)
    return Course(low + (np.arange(spans) + 0.5) * (high - low) / spans, mean, typical)


def whiteness(refinement: "Refinement", order: "Order", position: int) -> Whiteness:
    """What structure is left in the residuals that go with a column, within its stretches.

    Args:
        refinement: A refined series.
        order: Its rows in time.
        position: Where the column stands among those that may move.
    """
    shape = refinement.before.shape
    before, after = (
        np.broadcast_to(values, shape)[order.rows, position].astype(np.float64)
        for values in (refinement.evidence.residual_before, refinement.evidence.residual_after)
    )
    stretches = None if len(order.starts) == 2 and not len(order.breaks) else order.stretches
    known = max(int(np.isfinite(before).sum()), 1)
    return Whiteness(
        autocorrelation(before, stretches), autocorrelation(after, stretches), 1.96 / known**0.5
    )


def autocorrelation(
    residuals: Values, stretches: NDArray[np.int32] | None, lags: int = LAGS
) -> Values:
    """Correlation of residuals with those 1 to `lags` rows later in the same stretch.

    Args:
        residuals: `(N,)`; what is not finite is left out.
        stretches: `(N,)` numbers that change where a pair must not reach across; None: nowhere.
        lags: How many lags.

    Returns:
        `(lags,)`; NaN where no pair is that far apart, or all residuals are equal.
    """
    known = np.isfinite(residuals)
    found = np.full(lags, np.nan)
    if not known.any():
        return found
    centred = np.where(known, residuals, 0.0)
    centred = np.where(known, centred - centred.sum() / known.sum(), 0.0)
    variance = centred @ centred / known.sum()
    if not variance > 0 or not np.isfinite(variance):
        return found
    for lag in range(1, min(lags, len(residuals) - 1) + 1):
        first, second, paired = centred[:-lag], centred[lag:], known[:-lag] & known[lag:]
        if stretches is not None:
            paired &= stretches[:-lag] == stretches[lag:]
            first = first * paired
        pairs = int(paired.sum())
        if pairs:
            found[lag - 1] = first @ second / pairs / variance
    return found


def distribution(before: Values, after: Values, bins: int = 48) -> tuple[Values, Values, Values]:
    """Edges of common bins, and how many values before and after lie in each."""
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    edges = bin_edges(np.concatenate([before, after]), bins)
    counts, counts_after = (np.histogram(x, edges)[0].astype(float) for x in (before, after))
    return edges, counts, counts_after


def bin_edges(values: Values, bins: int = 48) -> Values:
    """Edges over the middle 99 % of the values, so that an outlier does not flatten the rest."""
    if len(values) == 0:
        return np.array([0.0, 1.0])
    some = values[:: -(-len(values) // MOST_SORTED)]
    low, high = np.quantile(some, [0.005, 0.995])
    if low == high:
        low, high = values.min() - 0.5, values.max() + 0.5
    edges = np.linspace(low, high, bins + 1)
    if np.all(np.diff(edges) > 0):
        return edges
    # Equal but for a few spacings of floating-point numbers.
    return np.array([low, np.nextafter(high, np.inf)])
