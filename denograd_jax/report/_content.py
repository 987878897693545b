"""What the report says: numbers, sentences and pictures drawn from a refinement."""

import functools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax import metrics
from denograd_jax._frames import _changes
from denograd_jax.errors import DataError
from denograd_jax.report import _classes, _diagnostics, _explorer, _figures, _noise, _summaries
from denograd_jax.report._figures import Figure
from denograd_jax.report._order import STRETCH, Order, busiest_stretch, read_order

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement

__all__ = ["contents", "measure", "short", "value"]

Floats: TypeAlias = NDArray[np.float64]

MOST_PANELS = 6
MOST_SHOWN = 50
"""Lines of a table that are read without JavaScript."""
MOST_CORRECTIONS = 1000
MOST_COLUMNS = 100
MOST_EXPLORED = 50
MOST_LETTERS = 80
"""Of a label, so that none makes the page large."""
MOST_SLICED_ROWS = 50_000
"""Rows that the sliced Wasserstein distance is taken over; more would only cost time."""
MOST_DRAWN = 300
"""Summaries in a picture of a whole series."""
DATA_BUDGET = 3_000_000
"""Bytes of JSON that the page holds for its explorer and its search, whatever the data's size."""


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


def contents(refinement: "Refinement") -> dict[str, Any]:
    """Everything that the page's template shows, by name."""
    rows = len(refinement.before)
    drifts = sorted(_drifts(refinement), key=lambda drift: -np.nan_to_num(drift.typical))
    explored = drifts[:MOST_EXPLORED] if rows else []
    past = _past(refinement, explored) if refinement.kind == "series" and rows else None
    of_classes = refinement.classification is not None
    residuals, residual_panels = ([], []) if of_classes else _residuals(refinement, past)
    most_changed = [d for d in drifts if d.changed > 0 or d.filled][:MOST_PANELS]
    corrections, all_corrections = _corrections(refinement)
    taken = len(_explorer.as_json(corrections).encode("utf-8", "replace"))
    data = _data(refinement, past, explored, DATA_BUDGET - taken)
    return {
        "verdict": _verdict(refinement, residuals),
        "reach": refinement.reach,
        "look_ahead": refinement.look_ahead,
        "dry_run": refinement.dry_run,
        "settings": _settings(refinement),
        "provenance": _listed(refinement.provenance),
        "kind": refinement.kind,
        "panels": [_panel(refinement, past, drift, i) for i, drift in enumerate(most_changed)],
        "corrections": corrections,
        "shown": MOST_SHOWN,
        "all_corrections": all_corrections,
        "gaps": _gaps(refinement.gaps),
        "all_gaps": len(refinement.gaps),
        "noise": _noise.noise_of(refinement, MOST_COLUMNS),
        "classes": _classes.classes_of(
            refinement, MOST_COLUMNS, functools.partial(_row_names, refinement)
        ),
        "drifts": drifts[:MOST_COLUMNS],
        "all_columns": len(drifts),
        "overall": _overall_drift(refinement),
        "course_panels": [] if past is None else _course_panels(past, most_changed),
        "residuals": residuals[:MOST_COLUMNS],
        "all_targets": len(residuals),
        "residual_panels": residual_panels,
        "notes": refinement.notes,
        "explored": [short(drift.column) for drift in explored],
        "explored_groups": _group_names(data),
        "grouped": refinement.groups is not None,
        "filled": any(drift.filled for drift in drifts),
        "series": data.get("series"),
        "data": data,
    }


def value(number: Any) -> str:
    """A value in the user's unit, short but with enough digits to see a correction."""
    if not isinstance(number, float | np.floating):
        return str(number)
    if np.isnan(number):
        return "–"
    return f"{number:,.0f}" if 1e5 <= abs(float(number)) < 1e15 else f"{number:,.6g}"


def measure(number: float, pattern: str = ".3f") -> str:
    """A computed number, a dash where it is not defined."""
    return "–" if np.isnan(number) else format(number, pattern)


def short(label: Any) -> str:
    """A label as text of bounded length; a time stamp to the second."""
    if isinstance(label, np.datetime64 | pd.Timestamp):
        label = pd.Timestamp(label).floor("s")
    text = str(label)
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"


def _verdict(refinement: "Refinement", residuals: list[Residuals]) -> list[str]:
    columns = [np.abs(sizes) for sizes in refinement.sigmas.T]
    observed = sum(int((~np.isnan(sizes)).sum()) for sizes in columns)
    moved = [sizes[sizes > 0] for sizes in columns]
    changed, filled = sum(map(len, moved)), int(refinement.filled.sum())
    cells = f"{filled:,} missing cell{'s were' if filled > 1 else ' was'} filled."
    if changed == 0:
        unchanged = cells if filled else "Nothing was changed."
        return [unchanged, *_labels_known(refinement), _ending(refinement)]
    typical = np.sqrt(sum(float(sizes @ sizes) for sizes in moved) / changed)
    largest = max(sizes.max() for sizes in moved if len(sizes))
    sentences = [
        f"{changed:,} of {observed:,} cells ({changed / observed:.1%}) in "
        f"{sum(map(bool, map(len, moved)))} of {len(moved)} columns were moved toward what the "
        f"model has learnt, typically by {typical:.3f} and at most by {largest:.3f} standard "
        "deviations of their column."
    ]
    if filled:
        sentences.append(cells)
    if left := [r.left for r in residuals if not np.isnan(r.left)]:
        change = sum(left) / len(left) - 1
        verb = "rose" if change > 0 else "fell"
        sentences.append(f"The model's residuals {verb} by {abs(change):.1%}.")
    return [*sentences, *_labels_known(refinement), _ending(refinement)]


def _labels_known(refinement: "Refinement") -> list[str]:
    """How well a model of classes knows the labels."""
    return [] if refinement.classification is None else refinement.classification.in_words()[1:]


def _ending(refinement: "Refinement") -> str:
    steps = f"{refinement.steps:,} step{'s' * (refinement.steps != 1)}"
    return f"The run ended after {steps}: {refinement.advice}."


def _settings(refinement: "Refinement") -> dict[str, str]:
    return _listed(
        {
            **refinement.settings,
            "steps taken": refinement.steps,
            "status": refinement.status.name.replace("_", " "),
            "look-ahead": refinement.reach,
            "dry run": refinement.dry_run,
        }
    )


def _listed(settings: Mapping[str, object]) -> dict[str, str]:
    return {name.replace("_", " "): _printable(setting) for name, setting in settings.items()}


def _printable(setting: object) -> str:
    if isinstance(setting, bool):
        return "yes" if setting else "no"
    if isinstance(setting, list | tuple | set | frozenset):
        return ", ".join(map(str, setting)) or "none"
    if isinstance(setting, Mapping):
        return ", ".join(f"{name}: {_printable(of)}" for name, of in setting.items()) or "none"
    return "none" if setting is None else value(setting)


def _drifts(refinement: "Refinement") -> list[Drift]:
    return [_drift(refinement, j) for j in range(refinement.before.shape[1])]


def _drift(refinement: "Refinement", position: int) -> Drift:
    before, after = _column(refinement, position)
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


def _column(refinement: "Refinement", position: int) -> tuple[Floats, Floats]:
    frames = refinement.before, refinement.after
    before, after = (frame.iloc[:, position].to_numpy() for frame in frames)
    return before, after


def _overall_drift(refinement: "Refinement") -> dict[str, str]:
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


def _corrections(refinement: "Refinement") -> tuple[list[list[str]], int]:
    """The largest changes as the table shows them, and how many changes there are."""
    # As `Refinement.top`, which does not tell where the rows stand.
    filled = refinement.filled.astype(bool)  # of no columns they are objects
    cells = _changes.largest(refinement.sigmas, filled, MOST_CORRECTIONS)
    frame = _changes.frame(
        cells, refinement.before, refinement.after, refinement.sigmas, refinement.evidence
    )
    names = _row_names(refinement, cells // max(refinement.before.shape[1], 1))
    printed = [
        [
            name,
            short(cell["column"]),
            *(value(cell[of]) for of in ("before", "after", "change")),
            measure(cell["sigmas"], "+.2f"),
            *(value(cell[of]) for of in ("residual_before", "residual_after")),
            measure(cell["gate"], ".2f"),
            f"{cell['windows']:,}",
        ]
        for name, cell in zip(names, frame.to_dict("records"), strict=True)
    ]
    return printed, int(np.count_nonzero(np.nan_to_num(refinement.sigmas))) + int(filled.sum())


def _row_names(refinement: "Refinement", rows: NDArray[np.intp]) -> list[str]:
    """Rows by label; those of a series by group and time as well, unless the label says it."""
    index = refinement.before.index.to_flat_index().take(rows)
    where = [list(label) if isinstance(label, tuple) else [label] for label in index]
    for more in (refinement.groups, refinement.time):
        if more is not None:
            where = [[*parts, part] for parts, part in zip(where, more[rows], strict=True)]
    return [" · ".join(dict.fromkeys(map(short, parts))) for parts in where]


def _gaps(gaps: pd.DataFrame) -> list[list[str]]:
    first = gaps.head(MOST_SHOWN)
    moments = [map(short, first[name]) for name in ("after", "before")]
    groups = ["" if group is None else short(group) for group in first["group"]]
    steps = [value(float(steps)) for steps in first["steps"]]
    return [list(line) for line in zip(groups, *moments, steps, strict=True)]


def _past(refinement: "Refinement", drifts: Sequence[Drift]) -> Past:
    order = read_order(refinement)
    positions = [drift.position for drift in drifts]
    return Past(
        order,
        {j: _diagnostics.course(order.x, refinement.sigmas[order.rows, j]) for j in positions},
        {j: _diagnostics.whiteness(refinement, order, j) for j in positions},
    )


def _panel(refinement: "Refinement", past: Past | None, drift: Drift, number: int) -> Figure:
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
        caption=_caption(drift),
        alt=f"Line charts of {title} before and after: the stretch with the largest changes"
        + (", and the whole series" if len(draws) > 1 else ""),
        pictures=_drawn(draws, f"panel-{number}", [(4.8, 2.1), (4.8, 1.4)]),
    )


def _drawn(
    draws: Sequence[_figures.Draw], name: str, sizes: Iterable[tuple[float, float]]
) -> list[str]:
    return [
        _figures.inline_svg(draw, name=f"{name}-{i}", size=size)
        for i, (draw, size) in enumerate(zip(draws, sizes, strict=False))
    ]


def _when(order: Order, x: Floats) -> NDArray[Any]:
    """Moments as Matplotlib knows them."""
    return np.round(x).astype("datetime64[ms]") if order.clock == "time" else x


def _stretch_picture(
    refinement: "Refinement", order: Order, stretch: slice, position: int
) -> _figures.Draw:
    rows = order.rows[stretch]
    before, after = (values[rows] for values in _column(refinement, position))
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
        for values in _column(refinement, position)
    )
    return functools.partial(
        _figures.whole_series,
        time=_when(order, order.x[span][begins]),
        before=before,
        after=after,
        breaks=np.flatnonzero(np.isin(begins, breaks)),
        shown=_when(order, order.x[[stretch.start, stretch.stop - 1]]),
    )


def _caption(drift: Drift) -> str:
    filled = f", {drift.filled:,} filled" if drift.filled else ""
    return (
        f"{drift.changed:.1%} of its cells changed{filled}; root mean square {drift.typical:.3f} σ"
    )


def _rows_panel(refinement: "Refinement", drift: Drift, number: int) -> Figure:
    before, after = _column(refinement, drift.position)
    draws = [
        functools.partial(draw, before=before, after=after)
        for draw in (_figures.histograms, _figures.change_scatter)
    ]
    title = short(drift.column)
    return Figure(
        title=title,
        caption=_caption(drift),
        alt=f"Histogram of {title} before and after, and its changes against its values",
        pictures=_drawn(draws, f"panel-{number}", [(3.6, 2.2)] * 2),
    )


def _course_panels(past: Past, drifts: Sequence[Drift]) -> list[Figure]:
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


def _residuals(refinement: "Refinement", past: Past | None) -> tuple[list[Residuals], list[Figure]]:
    """What is left of the residuals of each target, and pictures for the first of them."""
    found, panels = [], []
    targets = refinement.residuals.groupby("target", sort=False, observed=True)
    for number, (target, lines) in enumerate(targets):
        before, after = lines["before"].to_numpy(float), lines["after"].to_numpy(float)
        typical = [float(np.sqrt(np.mean(r**2))) for r in (before, after)]
        whiteness = _whiteness(refinement, past, target, len(targets))
        residuals = Residuals(target, len(before), typical[0], typical[1], whiteness)
        found.append(residuals)
        if number < MOST_PANELS:
            panels.append(_residual_panel(residuals, before, after, number))
    return found, panels


def _whiteness(
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


def _residual_panel(residuals: Residuals, before: Floats, after: Floats, number: int) -> Figure:
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


def _data(
    refinement: "Refinement",
    past: Past | None,
    drifts: Sequence[Drift],
    budget: int,
) -> dict[str, Any]:
    """What the explorer reads, in about so many bytes."""
    data: dict[str, Any] = {"columns": [_column_data(refinement, past, drift) for drift in drifts]}
    budget -= len(_explorer.as_json(data).encode("utf-8", "replace"))
    columns = [drift.position for drift in drifts]
    if past is not None and columns:
        names = [None if label is None else short(label) for label in past.order.labels]
        data["series"] = _explorer.series_data(refinement, past.order, names, columns, budget)
    elif columns:
        names_of = functools.partial(_row_names, refinement)
        data["table"] = _explorer.rows_data(refinement, columns, names_of, budget)
    return data


def _column_data(refinement: "Refinement", past: Past | None, drift: Drift) -> dict[str, Any]:
    """Diagnostics of one column, and what is said of it."""
    edges, before, after = _diagnostics.distribution(*_column(refinement, drift.position))
    data: dict[str, Any] = {
        "caption": _caption(drift),
        "edges": _explorer.encoded(edges, "<f8"),
        "before": _explorer.encoded(before),
        "after": _explorer.encoded(after),
    }
    if past is None:
        return data
    course, white = past.courses[drift.position], past.whiteness[drift.position]
    return data | {
        "when": _explorer.encoded(course.x, "<f8"),
        "mean": _explorer.encoded(course.mean),
        "typical": _explorer.encoded(course.typical),
        "lags_before": _explorer.encoded(white.before),
        "lags_after": _explorer.encoded(white.after),
        "bound": white.bound,
    }


def _group_names(data: dict[str, Any]) -> list[str]:
    """Names of the groups that the explorer has, if there are groups."""
    groups = data.get("series", {"groups": []})["groups"]
    return [group["name"] for group in groups if group["name"] is not None]
