"""What is measured of a refinement: drift of columns, residuals, the past of a series."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import numpy as np
from numpy.typing import NDArray

from denograd_jax import metrics
from denograd_jax.errors import DataError
from denograd_jax.report import _diagnostics
from denograd_jax.report._order import Order, read_order
from denograd_jax.report._text import measure, value

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement

__all__ = [
    "Drift",
    "Past",
    "Residuals",
    "column_of",
    "drifts_of",
    "overall_drift",
    "past_of",
    "whiteness_of",
]

Floats: TypeAlias = NDArray[np.float64]

MOST_SLICED_ROWS = 50_000
"""Rows that the sliced Wasserstein distance is taken over; more would only cost time."""


class Drift(NamedTuple):
    """How far one column moved; sizes in standard deviations of the column.

    Attributes:
        column: Label.
        position: Where it stands among the columns that may move.
        unit: Smallest and largest standard deviation, in the column's own unit; they differ
            where groups are scaled apart.
        changed: Share of its observed cells that changed.
        filled: How many missing cells were filled.
        mean: Mean change, with sign.
        typical: Root mean square of the change.
        wasserstein: 2-Wasserstein distance between before and after.
        correlation: Pearson correlation of before and after; NaN for a constant column.
    """

    column: Hashable
    position: int
    unit: tuple[float, float]
    changed: float
    filled: int
    mean: float
    typical: float
    wasserstein: float
    correlation: float

    @property
    def one_sigma(self) -> str:
        """The unit, or its range."""
        low, high = self.unit
        if np.isnan(low) or low == high:
            return value(low)
        return f"{value(low)} to {value(high)}, by group"


class Residuals(NamedTuple):
    """Residuals of one target: how many, root mean squares in its unit, what is left in them."""

    target: Hashable
    known: int
    typical_before: float
    typical_after: float
    whiteness: _diagnostics.Whiteness | None

    @property
    def left(self) -> float:
        """Share of the residual that is left; NaN where there was none."""
        return self.typical_after / self.typical_before if self.typical_before > 0 else np.nan


class Past(NamedTuple):
    """What only a series has: an order, and by position what went on in time in its columns."""

    order: Order
    courses: dict[int, _diagnostics.Course]
    whiteness: dict[int, _diagnostics.Whiteness]


def drifts_of(refinement: "Refinement") -> list[Drift]:
    """One of each column that may move."""
    return [_drift(refinement, j) for j in range(refinement.before.shape[1])]


def _drift(refinement: "Refinement", position: int) -> Drift:
    before, after = column_of(refinement, position)
    sigmas, unit = refinement.sigmas[:, position], refinement.unit[:, position]
    known = unit[np.isfinite(unit)]
    observed = max(int((~np.isnan(sigmas)).sum()), 1)  # 0 of 1 where nothing is observed
    return Drift(
        column=refinement.before.columns[position],
        position=position,
        unit=(float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan),
        changed=float((np.abs(sigmas) > 0).sum()) / observed,
        filled=int((np.isnan(before) & ~np.isnan(after)).sum()),
        mean=float(np.nansum(sigmas)) / observed,
        typical=float(np.sqrt(np.nansum(sigmas**2) / observed)),
        wasserstein=_defined(
            metrics.wasserstein_1d, (before / unit)[:, None], (after / unit)[:, None]
        ),
        correlation=_defined(metrics.column_correlation, before[:, None], after[:, None]),
    )


def column_of(refinement: "Refinement", position: int) -> tuple[Floats, Floats]:
    """Before and after."""
    frames = refinement.before, refinement.after
    before, after = (frame.iloc[:, position].to_numpy() for frame in frames)
    return before, after


def overall_drift(refinement: "Refinement") -> dict[str, str]:
    """Of all columns together, by what is measured."""
    before, after = refinement.before.to_numpy(), refinement.after.to_numpy()
    whole = np.flatnonzero(~np.isnan(before + after).any(axis=1))
    rows = whole[np.linspace(0, len(whole) - 1, min(len(whole), MOST_SLICED_ROWS)).astype(int)]
    unit = np.broadcast_to(refinement.unit, before.shape)[rows]
    key = jax.random.key(0)
    sliced = _defined(metrics.sliced_wasserstein, before[rows] / unit, after[rows] / unit, key=key)
    consistency = _defined(metrics.correlation_consistency, before, after)
    distance = _defined(metrics.correlation_distance, before, after)
    return {
        "sliced Wasserstein distance": f"{measure(sliced, '.4f')} σ",
        "rows compared for it": f"{len(rows):,}",
        "correlation consistency": measure(consistency, ".4f"),
        "correlation distance": measure(distance, ".4f"),
    }


def _defined(metric: Any, before: Any, after: Any, **options: Any) -> float:
    """The metric, or NaN where the data do not define it (no complete row, all constant)."""
    try:
        return float(np.squeeze(metric(before, after, **options)))
    except DataError:
        return np.nan


def past_of(refinement: "Refinement", drifts: Sequence[Drift]) -> Past:
    """Of the columns of these drifts."""
    order = read_order(refinement)
    positions = [drift.position for drift in drifts]
    return Past(
        order,
        {j: _diagnostics.course(order.x, refinement.sigmas[order.rows, j]) for j in positions},
        {j: _diagnostics.whiteness(refinement, order, j) for j in positions},
    )


def whiteness_of(
    refinement: "Refinement", past: Past | None, target: Hashable, targets: int
) -> _diagnostics.Whiteness | None:
    """By the residuals that go with the cells of a column, which stand in time."""
    if past is None:
        return None
    names = {str(refinement.before.columns[j]): of for j, of in past.whiteness.items()}
    if targets == 1 and str(target) not in names:
        # Of a column that is no target these are the residuals of its row's target.
        return next(iter(names.values()), None)
    return names.get(str(target))
