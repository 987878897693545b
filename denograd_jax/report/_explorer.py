"""The data of the page's explorer: as many numbers as fit into a budget, few of them lists.

A series is cut into pieces, each of single rows or of summaries of rows (`_summaries`). Where all
rows fit, they are all there. Else the groups that changed most are there row by row, the
others in summaries, but for the stretches of each column that changed most.
"""

import base64
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from denograd_jax.report import _summaries
from denograd_jax.report._order import STRETCH, Order, busiest_stretch

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement

__all__ = ["as_json", "encoded", "rows_data", "series_data"]

Values: TypeAlias = NDArray[np.float64]
Packed: TypeAlias = dict[str, Any]

SIGNALS = ("before", "after", "change", "residual_before", "residual_after")
BYTES = 16 / 3 * 1.1
"""What a 32-bit number takes in base64, and a tenth for the names around."""
ROW, BUCKET = 2, 5
"""Numbers that a row and a bucket of rows take besides their signals."""
FEWEST_BUCKETS = 48
"""A group with fewer would not be worth choosing."""
DETAIL = 0.3
"""Share of a summarised group's budget for its stretches that changed most, row by row."""
MOST_GAPS = 2000
"""Gaps that are drawn in all groups together, the longest of each group."""
MOST_POINTS = 5000
BYTES_OF_NAME = 240
"""What a row's name takes at most, more or less."""


class Plan(NamedTuple):
    """What is told of a group.

    Attributes:
        group: Its number.
        buckets: How many summaries; None where all rows are told.
        detail: Rows told as they are besides, in the stretches that changed most.
    """

    group: int
    buckets: int | None
    detail: int = 0


def encoded(values: NDArray[Any], kind: str = "<f4") -> str:
    """Numbers as base64 text; what a 32-bit number cannot hold becomes infinite or missing."""
    with np.errstate(over="ignore", invalid="ignore"):
        return base64.b64encode(np.asarray(values, np.dtype(kind)).tobytes()).decode()


def series_data(
    refinement: "Refinement",
    order: Order,
    names: Sequence[str | None],
    columns: Sequence[int],
    budget: float,
) -> Packed:
    """The series of a refinement, by group and column.

    Args:
        refinement: A refined series.
        order: Its rows in time.
        names: Of the groups, to be shown.
        columns: Positions of the columns to tell of.
        budget: Bytes of base64 that the numbers may take.

    Returns:
        What the explorer reads: `clock`, `groups` (each with `name`, `rows`, `pieces`, `gaps`,
        `tracks` by column), how many groups there are and how many are told row by row.
    """
    signals = len(SIGNALS) + bool(refinement.filled.any())
    plans = _plans(_by_change(refinement, order, columns), signals * len(columns), budget / BYTES)
    return {
        "clock": order.clock,
        "all_groups": len(order.labels),
        "whole_groups": sum(plan.buckets is None for plan in plans),
        "groups": [
            {"name": names[plan.group]}
            | _group(refinement, order, columns, plan, MOST_GAPS // len(plans))
            for plan in plans
        ],
    }


def rows_data(
    refinement: "Refinement", columns: Sequence[int], names: Any, budget: float
) -> Packed:
    """Rows of a table: half those that changed most, half evenly picked.

    Args:
        refinement: A refined table.
        columns: Positions of the columns to tell of.
        names: Called with row numbers, gives their names.
        budget: Bytes that numbers and names may take.

    Returns:
        What the explorer reads: `rows` (how many there are), `names`, `tracks` by column.
    """
    count = len(refinement.before)
    most = int(budget / (len(columns) * (len(SIGNALS) + 1) * BYTES + BYTES_OF_NAME))
    rows = _picked(refinement, columns, max(1, min(count, MOST_POINTS, most)))
    return {
        "rows": count,
        "names": names(rows),
        "tracks": [_track(refinement, rows, column, [None]) for column in columns],
    }


def as_json(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or opens another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _picked(refinement: "Refinement", columns: Sequence[int], most: int) -> NDArray[np.intp]:
    count = len(refinement.before)
    if count <= most:
        return np.arange(count)
    largest = np.zeros(count)
    for column in columns:
        np.fmax(largest, np.abs(refinement.sigmas[:, column]), out=largest)
    changed = np.argpartition(-largest, most // 2)[: most // 2]
    evenly = np.linspace(0, count - 1, most - len(changed)).astype(np.intp)
    return np.union1d(changed, evenly)


def _by_change(
    refinement: "Refinement", order: Order, columns: Sequence[int]
) -> Iterable[tuple[int, int]]:
    """Group and length, the group with the largest mean change first."""
    total = np.zeros(len(order.labels))
    lengths = np.diff(order.starts)
    for column in columns:
        sizes = np.abs(np.nan_to_num(refinement.sigmas[:, column]))[order.rows]
        total += np.add.reduceat(sizes, order.starts[:-1])
    ranked = np.argsort(-total / lengths, kind="stable")
    return zip(ranked.tolist(), lengths[ranked].tolist(), strict=True)


def _plans(groups: Iterable[tuple[int, int]], signals: int, budget: float) -> list[Plan]:
    """Share a budget of numbers: something for every group that is told of, the rest in turn."""
    row, bucket = ROW + signals, BUCKET + 3 * signals
    least: list[tuple[int, int, int]] = []
    spent = 0
    for group, length in groups:
        floor = min(length * row, FEWEST_BUCKETS * bucket)
        # Half is left for detail, where groups are not told row by row already.
        if least and spent + floor > (budget if floor == length * row else budget / 2):
            break
        least.append((group, length, floor))
        spent += floor
    left = max(budget - spent, 0.0)
    plans: list[Plan] = []
    for place, (group, length, floor) in enumerate(least):
        if length * row <= floor + left:
            left -= length * row - floor
            plans.append(Plan(group, None))
            continue
        # What does not fit takes half of what is left, the last group all of it.
        share = left if place == len(least) - 1 else left / 2
        left -= share
        detail = int(DETAIL * share / row)
        buckets = int((floor + share - detail * row) / bucket)
        plans.append(Plan(group, max(buckets, 1), detail))
    return plans


def _group(
    refinement: "Refinement", order: Order, columns: Sequence[int], plan: Plan, most_gaps: int
) -> Packed:
    span = order.span(plan.group)
    rows, x = order.rows[span], order.x[span]
    first, last = np.searchsorted(order.breaks, [span.start, span.stop])
    breaks, gaps = order.breaks[first:last] - span.start, order.gaps[first:last]
    sizes = gaps[:, 1] - gaps[:, 0]
    width = STRETCH
    if plan.buckets is not None:  # whole buckets, of which one may stick out at either end
        width = plan.detail // len(columns) - 2 * -(-len(rows) // plan.buckets)
    busiest = [_busiest(refinement, rows, column, width) for column in columns]
    pieces: list[NDArray[np.intp] | None] = [None]
    cuts = [0, len(rows)]
    if plan.buckets is not None:
        begins = _summaries.borders(len(rows), plan.buckets, breaks, sizes)
        pieces, cuts = _pieces(begins, len(rows), busiest, plan.detail)
    shown = np.sort(np.argsort(-sizes, kind="stable")[:most_gaps])
    return {
        "rows": len(rows),
        "pieces": [
            _clock(x[start:stop], begins)
            for begins, start, stop in zip(pieces, cuts[:-1], cuts[1:], strict=True)
        ],
        "gaps": encoded(gaps[shown], "<f8"),
        "tracks": [
            _track(refinement, rows, column, pieces, cuts)
            | {"busiest": [float(x[stretch.start]), float(x[stretch.stop - 1])]}
            for column, stretch in zip(columns, busiest, strict=True)
        ],
    }


def _busiest(refinement: "Refinement", rows: NDArray[np.intp], column: int, width: int) -> slice:
    sizes = np.abs(refinement.sigmas[rows, column])
    return busiest_stretch(sizes, np.array([0, len(rows)]), max(width, STRETCH))


def _pieces(
    begins: NDArray[np.intp], rows: int, busiest: Iterable[slice], detail: int
) -> tuple[list[NDArray[np.intp] | None], list[int]]:
    """Summaries between whole buckets whose rows are told as they are.

    Returns:
        For each piece where its buckets begin, or None for single rows; and where pieces begin.
    """
    ends = np.append(begins[1:], rows)
    whole = np.zeros(len(begins), bool)
    for stretch in busiest:
        inside = (ends > stretch.start) & (begins < stretch.stop) & ~whole
        room = np.cumsum(np.where(inside, ends - begins, 0)) <= detail
        whole |= inside & room
        detail -= int((ends - begins)[inside & room].sum())
    changes = np.flatnonzero(np.diff(whole)) + 1
    firsts = [0, *changes.tolist(), len(begins)]
    cuts = [int(begins[first]) for first in firsts[:-1]] + [rows]
    pieces = [
        None if whole[first] else begins[first:last] - begins[first]
        for first, last in itertools.pairwise(firsts)
    ]
    return pieces, cuts


def _clock(x: Values, begins: NDArray[np.intp] | None) -> Packed:
    """When the rows are; or when each bucket begins and ends, and its rows."""
    if begins is None:
        return {"x": encoded(x, "<f8")}
    ends = np.append(begins[1:], len(x))
    return {
        "x": encoded(x[begins], "<f8"),
        "end": encoded(x[ends - 1], "<f8"),
        "rows": encoded(ends - begins, "<u4"),
    }


def _track(
    refinement: "Refinement",
    rows: NDArray[np.intp],
    column: int,
    pieces: Sequence[NDArray[np.intp] | None],
    cuts: Sequence[int] | None = None,
) -> Packed:
    """One column of some rows, in pieces.

    Values are told as distance from `offset`, and changes apart from values: 32 bits would not
    tell a small correction of a large value.
    """
    cuts = [0, len(rows)] if cuts is None else cuts
    shape = refinement.before.shape
    before = refinement.before.iloc[:, column].to_numpy()[rows]
    after = refinement.after.iloc[:, column].to_numpy()[rows]
    finite = before[np.isfinite(before)] if np.isfinite(before).any() else after[np.isfinite(after)]
    offset = float(finite[0]) if len(finite) else 0.0
    residual_before, residual_after = (
        np.broadcast_to(values, shape)[rows, column]
        for values in (refinement.evidence.residual_before, refinement.evidence.residual_after)
    )
    change = refinement.sigmas[rows, column]
    values = (before - offset, after - offset, change, residual_before, residual_after)
    filled = (np.isnan(before) & np.isfinite(after)).astype(np.float64)
    told = [(name, v) for name, v in zip(SIGNALS, values, strict=True) if np.isfinite(v).any()]
    if filled.any():
        told.append(("filled", filled))
    return {"offset": offset} | {
        name: [
            _piece(v[start:stop], begins)
            for begins, start, stop in zip(pieces, cuts[:-1], cuts[1:], strict=True)
        ]
        for name, v in told
    }


def _piece(values: Values, begins: NDArray[np.intp] | None) -> Packed:
    if begins is None:
        return {"mean": encoded(values)}
    with np.errstate(over="ignore", invalid="ignore"):
        summary = _summaries.summarise(values, begins)
    return {name: encoded(part) for name, part in summary._asdict().items()}
