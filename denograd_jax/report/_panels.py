"""Pictures of a refinement: of its columns, their past and residuals."""

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from denograd_jax.report import _figures, _summaries
from denograd_jax.report._figures import Figure
from denograd_jax.report._measured import Drift, Floats, Past, Residuals, column_of
from denograd_jax.report._order import STRETCH, Order, busiest_stretch
from denograd_jax.report._text import measure, short, value

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement

__all__ = ["caption", "course_panels", "panel", "residual_panel"]

MOST_DRAWN = 300
"""Summaries in a picture of a whole series."""


def panel(refinement: "Refinement", past: Past | None, drift: Drift, number: int) -> Figure:
    """One column before and after."""
    if past is None:
        return _rows_panel(refinement, drift, number)
    return _series_panel(refinement, past.order, drift, number)


def _series_panel(refinement: "Refinement", order: Order, drift: Drift, number: int) -> Figure:
    """The stretch that changed most, and the whole series that it is from."""
    sizes = np.abs(refinement.sigmas[order.rows, drift.position])
    stretch = busiest_stretch(sizes, order.starts)
    group = int(np.searchsorted(order.starts, stretch.start, side="right")) - 1
    title = short(drift.column)
    if order.labels[group] is not None:
        title += f" · {short(order.labels[group])}"
    draws = [_stretch_picture(refinement, order, stretch, drift.position)]
    span = order.span(group)
    if span.stop - span.start > STRETCH:
        draws.append(_whole_picture(refinement, order, span, stretch, drift.position))
    return Figure(
        title=title,
        caption=caption(drift),
        alt=f"Line charts of {title} before and after: the stretch with the largest changes"
        + (", and the whole series" if len(draws) > 1 else ""),
        pictures=_drawn(draws, f"panel-{number}", [(4.8, 2.1), (4.8, 1.4)]),
    )


def _rows_panel(refinement: "Refinement", drift: Drift, number: int) -> Figure:
    before, after = column_of(refinement, drift.position)
    draws = [
        functools.partial(draw, before=before, after=after)
        for draw in (_figures.histograms, _figures.change_scatter)
    ]
    title = short(drift.column)
    return Figure(
        title=title,
        caption=caption(drift),
        alt=f"Histogram of {title} before and after, and its changes against its values",
        pictures=_drawn(draws, f"panel-{number}", [(3.6, 2.2)] * 2),
    )


def caption(drift: Drift) -> str:
    """What changed in a column, in a line."""
    filled = f", {drift.filled:,} filled" if drift.filled else ""
    return (
        f"{drift.changed:.1%} of its cells changed{filled}; root mean square {drift.typical:.3f} σ"
    )


def _stretch_picture(
    refinement: "Refinement", order: Order, stretch: slice, position: int
) -> _figures.Draw:
    rows = order.rows[stretch]
    before, after = (values[rows] for values in column_of(refinement, position))
    time = _when(order, order.x[stretch])
    return functools.partial(_figures.before_after, before=before, after=after, time=time)


def _whole_picture(
    refinement: "Refinement", order: Order, span: slice, stretch: slice, position: int
) -> _figures.Draw:
    first, last = np.searchsorted(order.breaks, [span.start, span.stop])
    gaps = order.gaps[first:last]
    breaks = order.breaks[first:last] - span.start
    begins = _summaries.borders(span.stop - span.start, MOST_DRAWN, breaks, gaps[:, 1] - gaps[:, 0])
    before, after = (
        _summaries.summarise(values[order.rows[span]], begins)
        for values in column_of(refinement, position)
    )
    return functools.partial(
        _figures.whole_series,
        time=_when(order, order.x[span][begins]),
        before=before,
        after=after,
        breaks=np.flatnonzero(np.isin(begins, breaks)),
        shown=_when(order, order.x[[stretch.start, stretch.stop - 1]]),
    )


def _when(order: Order, x: Floats) -> NDArray[Any]:
    """Moments as Matplotlib knows them."""
    return np.round(x).astype("datetime64[ms]") if order.clock == "time" else x


def _drawn(
    draws: Sequence[_figures.Draw], name: str, sizes: Iterable[tuple[float, float]]
) -> list[str]:
    return [
        _figures.inline_svg(draw, name=f"{name}-{i}", size=size)
        for i, (draw, size) in enumerate(zip(draws, sizes, strict=False))
    ]


def course_panels(past: Past, drifts: Sequence[Drift]) -> list[Figure]:
    """The change of each column over time."""
    panels = []
    for number, drift in enumerate(drifts):
        course = past.courses[drift.position]
        draw = functools.partial(
            _figures.drift_over_time,
            time=_when(past.order, course.x),
            mean=course.mean,
            typical=course.typical,
        )
        title = short(drift.column)
        panels.append(
            Figure(
                title=title,
                caption=f"mean change {measure(drift.mean, '+z.3f')} σ",
                alt=f"Line chart of the mean and the root mean square change of {title} over time",
                pictures=_drawn([draw], f"course-{number}", [(4.8, 1.5)]),
            )
        )
    return panels


def residual_panel(residuals: Residuals, before: Floats, after: Floats, number: int) -> Figure:
    """One target's residuals, and what is left in them."""
    draws: list[_figures.Draw] = [
        functools.partial(_figures.histograms, before=before, after=after)
    ]
    target, white = short(residuals.target), residuals.whiteness
    if white is not None:
        draws.append(functools.partial(_figures.lags, before=white.before, after=white.after))
    return Figure(
        title=target,
        caption=f"root mean square {value(residuals.typical_before)} before, "
        f"{value(residuals.typical_after)} after",
        alt=f"Histogram of the residuals of {target} before and after"
        + (", and their autocorrelation" if white is not None else ""),
        pictures=_drawn(draws, f"residuals-{number}", [(3.6, 2.1)] * 2),
    )
