"""What the report says: numbers, sentences and pictures drawn from a refinement."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._frames import _changes
from denograd_jax.report import _classes, _diagnostics, _explorer, _noise
from denograd_jax.report._figures import Figure
from denograd_jax.report._measured import (
    Drift,
    Past,
    Residuals,
    column_of,
    drifts_of,
    overall_drift,
    past_of,
    whiteness_of,
)
from denograd_jax.report._panels import caption, course_panels, panel, residual_panel
from denograd_jax.report._text import listed, measure, short, value

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement

__all__ = ["contents"]

MOST_PANELS = 6
MOST_SHOWN = 50
"""Lines of a table that are read without JavaScript."""
MOST_CORRECTIONS = 1000
MOST_COLUMNS = 100
MOST_EXPLORED = 50
DATA_BUDGET = 3_000_000
"""Bytes of JSON that the page holds for its explorer and its search, whatever the data's size."""


def contents(refinement: "Refinement") -> dict[str, Any]:
    """Everything that the page's template shows, by name."""
    rows = len(refinement.before)
    drifts = sorted(drifts_of(refinement), key=lambda drift: -np.nan_to_num(drift.typical))
    explored = drifts[:MOST_EXPLORED] if rows else []
    past = past_of(refinement, explored) if refinement.kind == "series" and rows else None
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
        "provenance": listed(refinement.provenance),
        "kind": refinement.kind,
        "panels": [panel(refinement, past, drift, i) for i, drift in enumerate(most_changed)],
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
        "overall": overall_drift(refinement),
        "course_panels": [] if past is None else course_panels(past, most_changed),
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
    return listed(
        {
            **refinement.settings,
            "steps taken": refinement.steps,
            "status": refinement.status.name.replace("_", " "),
            "look-ahead": refinement.reach,
            "dry run": refinement.dry_run,
        }
    )


def _residuals(refinement: "Refinement", past: Past | None) -> tuple[list[Residuals], list[Figure]]:
    """What is left of the residuals of each target, and pictures for the first of them."""
    found, panels = [], []
    targets = refinement.residuals.groupby("target", sort=False, observed=True)
    for number, (target, lines) in enumerate(targets):
        before, after = lines["before"].to_numpy(float), lines["after"].to_numpy(float)
        typical = [float(np.sqrt(np.mean(r**2))) for r in (before, after)]
        whiteness = whiteness_of(refinement, past, target, len(targets))
        residuals = Residuals(target, len(before), typical[0], typical[1], whiteness)
        found.append(residuals)
        if number < MOST_PANELS:
            panels.append(residual_panel(residuals, before, after, number))
    return found, panels


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
    edges, before, after = _diagnostics.distribution(*column_of(refinement, drift.position))
    data: dict[str, Any] = {
        "caption": caption(drift),
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
