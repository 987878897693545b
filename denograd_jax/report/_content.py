"""What the report says: numbers, sentences and pictures drawn from a refinement."""

import functools
from collections.abc import Hashable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax import metrics
from denograd_jax.errors import DataError
from denograd_jax.report import _figures

if TYPE_CHECKING:
    from denograd_jax._refinement import Refinement

__all__ = ["contents", "measure", "value"]

Moves: TypeAlias = Annotated[NDArray[np.float64], "row column"]
"""Changes in standard deviations of the column; NaN where a cell is missing."""

MOST_PANELS = 6
MOST_CORRECTIONS = 50
MOST_COLUMNS = 100
STRETCH = 120
"""Rows of a series that a panel shows: five days of hours."""
MOST_SLICED_ROWS = 50_000
"""Rows that the sliced Wasserstein distance is taken over; more would only cost time."""


class Drift(NamedTuple):
    """How far one column moved; sizes in standard deviations of the column.

    Attributes:
        column: Label.
        position: Where it stands among the columns that may move.
        unit: Standard deviation of the column, in its own unit.
        changed: Share of its observed cells that changed.
        mean: Mean change, with sign.
        typical: Root mean square of the change.
        wasserstein: 2-Wasserstein distance between before and after.
        correlation: Pearson correlation of before and after; NaN for a constant column.
    """

    column: Hashable
    position: int
    unit: float
    changed: float
    mean: float
    typical: float
    wasserstein: float
    correlation: float


class Figure(NamedTuple):
    """One or two pictures of one thing, with a caption."""

    title: str
    caption: str
    alt: str
    pictures: list[str]


class Residuals(NamedTuple):
    """Residuals of one target, in its unit, and their root mean squares."""

    target: Hashable
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    typical_before: float
    typical_after: float

    @property
    def left(self) -> float:
        """Share of the residual that is left; NaN where there was none."""
        return self.typical_after / self.typical_before if self.typical_before > 0 else np.nan


def contents(refinement: "Refinement") -> dict[str, Any]:
    """Everything that the page's template shows, by name."""
    moves = (refinement.after - refinement.before).to_numpy() / _units(refinement)
    drifts = sorted(_drifts(refinement, moves), key=lambda drift: -drift.typical)
    residuals = _residuals(refinement)
    most_changed = [drift for drift in drifts if drift.changed > 0][:MOST_PANELS]
    panel = _series_panel if refinement.kind == "series" else _rows_panel
    return {
        "verdict": _verdict(refinement, moves, residuals),
        "settings": _settings(refinement),
        "kind": refinement.kind,
        "panels": [panel(refinement, moves, drift, i) for i, drift in enumerate(most_changed)],
        "corrections": _corrections(refinement),
        "all_corrections": len(refinement.changes),
        "drifts": drifts[:MOST_COLUMNS],
        "all_columns": len(drifts),
        "overall": _overall_drift(refinement),
        "residuals": residuals[:MOST_COLUMNS],
        "residual_panels": [_residual_panel(r, i) for i, r in enumerate(residuals[:MOST_PANELS])],
        "notes": refinement.notes,
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


def _units(refinement: "Refinement") -> NDArray[np.float64]:
    """Standard deviation of each column that may move."""
    return np.array([refinement.scale[label] for label in refinement.before.columns], float)


def _verdict(refinement: "Refinement", moves: Moves, residuals: list[Residuals]) -> list[str]:
    sizes = np.abs(moves)
    observed, changed = int((~np.isnan(sizes)).sum()), int((sizes > 0).sum())
    if changed == 0:
        return [f"Nothing was changed. {_ending(refinement)}"]
    columns = int((sizes > 0).any(axis=0).sum())
    typical = np.sqrt(np.mean(sizes[sizes > 0] ** 2))
    sentences = [
        f"{changed:,} of {observed:,} cells ({changed / observed:.1%}) in {columns} of "
        f"{sizes.shape[1]} columns were moved toward what the model has learnt, typically by "
        f"{typical:.3f} and at most by {np.nanmax(sizes):.3f} standard deviations of their column."
    ]
    if left := [r.left for r in residuals if not np.isnan(r.left)]:
        change = sum(left) / len(left) - 1
        verb = "rose" if change > 0 else "fell"
        sentences.append(f"The model's residuals {verb} by {abs(change):.1%}.")
    sentences.append(_ending(refinement))
    if refinement.look_ahead:
        sentences.append(
            "A value may depend on later rows (look-ahead), so forecasts must not be tested on it."
        )
    return sentences


def _ending(refinement: "Refinement") -> str:
    steps = f"{refinement.steps:,} step{'s' * (refinement.steps != 1)}"
    return f"The run ended after {steps}: {refinement.status.advice}."


def _settings(refinement: "Refinement") -> dict[str, str]:
    settings = {
        **refinement.settings,
        "steps taken": refinement.steps,
        "status": refinement.status.name.replace("_", " "),
        "look-ahead": refinement.look_ahead,
    }
    return {name.replace("_", " "): _printable(setting) for name, setting in settings.items()}


def _printable(setting: object) -> str:
    if isinstance(setting, bool):
        return "yes" if setting else "no"
    if isinstance(setting, list | tuple | set | frozenset):
        return ", ".join(map(str, setting)) or "none"
    return "none" if setting is None else value(setting)


def _drifts(refinement: "Refinement", moves: Moves) -> list[Drift]:
    if moves.size == 0:
        return []
    unit = _units(refinement)
    before, after = refinement.before.to_numpy(), refinement.after.to_numpy()
    distance = metrics.wasserstein_1d(before, after) / unit
    correlation = metrics.column_correlation(before, after)
    observed = np.maximum((~np.isnan(moves)).sum(axis=0), 1)  # 0 of 1 where nothing is observed
    changed = (np.abs(moves) > 0).sum(axis=0) / observed
    mean = np.nansum(moves, axis=0) / observed
    typical = np.sqrt(np.nansum(moves**2, axis=0) / observed)
    numbers = np.stack([unit, changed, mean, typical, distance, correlation], axis=1)
    labels = refinement.before.columns
    return [Drift(labels[j], j, *row) for j, row in enumerate(numbers.tolist())]


def _overall_drift(refinement: "Refinement") -> dict[str, str]:
    before, after = (
        frame.to_numpy() / _units(refinement) for frame in (refinement.before, refinement.after)
    )
    whole = np.flatnonzero(~np.isnan(before + after).any(axis=1))
    rows = whole[np.linspace(0, len(whole) - 1, min(len(whole), MOST_SLICED_ROWS)).astype(int)]
    key = jax.random.key(0)
    sliced = _defined(metrics.sliced_wasserstein, before[rows], after[rows], key=key)
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
        return float(metric(before, after, **options))
    except DataError:
        return np.nan


def _corrections(refinement: "Refinement") -> list[dict[Hashable, Any]]:
    """The largest changes; the rows of a series are named by group and time as well."""
    largest = refinement.changes.head(MOST_CORRECTIONS)
    where = [[str(row)] for row in largest["row"]]
    if refinement.before.index.is_unique:
        positions = refinement.before.index.get_indexer(pd.Index(largest["row"]))
        for more in (refinement.groups, refinement.time):
            if more is not None:
                where = [[*w, _moment(m)] for w, m in zip(where, more[positions], strict=True)]
    # The index may be the time already: say it once.
    return largest.assign(row=[" · ".join(dict.fromkeys(w)) for w in where]).to_dict("records")


def _moment(label: Any) -> str:
    """A time stamp to the second, or any other label as it is."""
    return str(pd.Timestamp(label).floor("s") if isinstance(label, np.datetime64) else label)


def _residuals(refinement: "Refinement") -> list[Residuals]:
    residuals = []
    for target, group in refinement.residuals.groupby("target", sort=False):
        before, after = group["before"].to_numpy(float), group["after"].to_numpy(float)
        typical = (float(np.sqrt(np.mean(r**2))) for r in (before, after))
        residuals.append(Residuals(target, before, after, *typical))
    return residuals


def _series_panel(refinement: "Refinement", moves: Moves, drift: Drift, number: int) -> Figure:
    rows = _busiest_stretch(np.abs(moves[:, drift.position]), refinement.groups)
    before, after = (values[rows] for values in _column(refinement, drift))
    time = None if refinement.time is None else refinement.time[rows]
    title = str(drift.column)
    if refinement.groups is not None:
        title += f" · {refinement.groups[rows[0]]}"
    draw = functools.partial(_figures.before_after, before=before, after=after, time=time)
    return Figure(
        title=title,
        caption=_caption(drift),
        alt=f"Line chart of {title} before and after, over the stretch with the largest changes",
        pictures=[_figures.inline_svg(draw, name=f"panel-{number}", size=(4.8, 2.1))],
    )


def _column(refinement: "Refinement", drift: Drift) -> tuple[NDArray[Any], NDArray[Any]]:
    before, after = refinement.before, refinement.after
    return before.iloc[:, drift.position].to_numpy(), after.iloc[:, drift.position].to_numpy()


def _caption(drift: Drift) -> str:
    return f"{drift.changed:.1%} of its cells changed; root mean square {drift.typical:.3f} σ"


def _busiest_stretch(sizes: NDArray[np.float64], groups: Any) -> NDArray[np.intp]:
    """Rows of the `STRETCH` neighbours within one group whose changes sum up to the most."""
    codes = np.zeros(len(sizes), int) if groups is None else pd.factorize(groups)[0]
    candidates = []
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(sizes[rows]))])
        length = min(STRETCH, len(rows))
        sums = total[length:] - total[:-length]
        start = int(np.argmax(sums))
        candidates.append((sums[start], rows[start : start + length]))
    return max(candidates, key=lambda candidate: candidate[0])[1]


def _rows_panel(refinement: "Refinement", moves: Moves, drift: Drift, number: int) -> Figure:
    before, after = _column(refinement, drift)
    draws = [
        functools.partial(draw, before=before, after=after)
        for draw in (_figures.histograms, _figures.change_scatter)
    ]
    return Figure(
        title=str(drift.column),
        caption=_caption(drift),
        alt=f"Histogram of {drift.column} before and after, and its changes against its values",
        pictures=[
            _figures.inline_svg(draw, name=f"panel-{number}-{i}", size=(3.6, 2.2))
            for i, draw in enumerate(draws)
        ],
    )


def _residual_panel(residuals: Residuals, number: int) -> Figure:
    draw = functools.partial(_figures.histograms, before=residuals.before, after=residuals.after)
    return Figure(
        title=str(residuals.target),
        caption=f"root mean square {value(residuals.typical_before)} before, "
        f"{value(residuals.typical_after)} after",
        alt=f"Histogram of the residuals of {residuals.target} before and after",
        pictures=[_figures.inline_svg(draw, name=f"residuals-{number}", size=(5.0, 2.1))],
    )
