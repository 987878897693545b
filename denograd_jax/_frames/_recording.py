"""The record of a refinement: what was done, in the user's containers and words."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._frames._classes import Classification
from denograd_jax._frames._columns import Floats, listed
from denograd_jax._frames._constraints import Constraints
from denograd_jax._frames._planning import Plan
from denograd_jax._frames._provenance import provenance
from denograd_jax._frames._reading import Reading
from denograd_jax._frames._refinement import Evidence, Refinement
from denograd_jax._frames._solving import Outcome
from denograd_jax._frames._writing import write_back

if TYPE_CHECKING:
    from denograd_jax._frames._fitted import Fitted

__all__ = ["Origin", "assemble", "record"]


class Origin(NamedTuple):
    """Where a refinement comes from: all that it takes to put values back, or to save it.

    Attributes:
        reading: The data as it was given and read.
        constraints: What its values obey.
        outcome: What the steps came to.
        noise: Standard deviation of the noise in standardised units, where it was told, `(N, n)` or
            `(1, n)`.
    """

    reading: Reading
    constraints: Constraints
    outcome: Outcome
    noise: Floats | None = None

    @property
    def shown(self) -> NDArray[np.intp]:
        """Positions in the table of the columns that may move."""
        return np.flatnonzero(self.reading.table.movable)

    def put_back(self, values: Floats) -> tuple[Any, Any, pd.DataFrame, list[str]]:
        """Values `(N, m)` of the columns that may move, in the user's containers.

        Returns:
            Data; target; the same values as far as the types of the data hold them; notes.
        """
        opened, shown = self.reading.opened, self.shown
        labels = [self.reading.table.labels[j] for j in shown]
        limits = self.constraints
        refined, after, notes = write_back(
            opened.frame,
            labels,
            values,
            whole=[self.reading.table.labels[j] for j in np.flatnonzero(limits.whole)],
            limits=(
                limits.reach(self.reading.table, shown),
                (limits.lower[shown], limits.upper[shown]),
            ),
        )
        frame = pd.DataFrame(after, index=opened.frame.index, columns=_labels(labels))
        return opened.close(refined), opened.close_target(refined), frame, notes

    def as_given(self) -> tuple[Any, Any]:
        """Copies of the data and the target."""
        opened = self.reading.opened
        frame = opened.frame.copy()
        return opened.close(frame), opened.close_target(frame)


def record(
    fitted: "Fitted", reading: Reading, plan: Plan, outcome: Outcome, notes: Sequence[str]
) -> Refinement:
    """Say in the user's words what came out."""
    if reading.table.one_hot is not None:
        notes = [*notes, *_without_label(reading.table.one_hot, automatic=plan.automatic)]
    return assemble(
        fitted,
        Origin(reading, plan.constraints, outcome, plan.noise),
        lag=plan.lag if plan.causal else None,
        dry_run=plan.dry_run,
        settings=_settings(fitted, reading, plan),
        provenance=provenance(reading.opened.frame, "float32", fitted.seed),
        notes=[
            *fitted.schema.notes,
            *([] if reading.timeline is None else reading.timeline.notes),
            *notes,
        ],
    )


def _without_label(one_hot: NDArray[np.float32], *, automatic: bool) -> list[str]:
    """What became of the rows without a label; nothing where there is none."""
    count = int(np.isnan(one_hot[:, 0]).sum())
    if not count:
        return []
    rows = "row has" if count == 1 else "rows have"
    how = "refined by the features alone" if automatic else "left as they are"
    return [f"{count:,} {rows} no label: {how}"]


def assemble(
    fitted: "Fitted",
    origin: Origin,
    *,
    lag: int | None,
    dry_run: bool,
    settings: Mapping[str, object],
    provenance: Mapping[str, object],
    notes: Sequence[str],
) -> Refinement:
    """A `Refinement` of what came out, put back into the user's rows and containers."""
    reading, outcome, shown = origin.reading, origin.outcome, origin.shown
    table, timeline, index = reading.table, reading.timeline, reading.opened.frame.index
    data, target, after, of_types = origin.put_back(outcome.values[:, shown])
    if dry_run:
        data, target = origin.as_given()
    targets = [] if reading.design.classes else table.positions(fitted.explained)
    columns = _labels([table.labels[j] for j in shown])
    return Refinement(
        data=data,
        target=target,
        before=pd.DataFrame(table.values[:, shown], index=index, columns=columns),
        after=after,
        unit=table.scale[:, shown],
        residuals=_residual_frame(reading, fitted.explained, outcome),
        evidence=_evidence(targets, shown, outcome),
        status=outcome.status,
        steps=outcome.steps,
        kind="rows" if timeline is None else "series",
        look_ahead=timeline is not None and lag != 0,
        lag=lag,
        settings=settings,
        provenance=provenance,
        notes=list(dict.fromkeys([*notes, *of_types])),
        time=None if timeline is None else timeline.time,
        groups=reading.groups,
        gaps=_no_gaps() if timeline is None else timeline.gaps,
        origin=origin,
        fitted=fitted,
        dry_run=dry_run,
        classification=_classification(fitted, reading, outcome),
    )


def _classification(fitted: "Fitted", reading: Reading, outcome: Outcome) -> Classification | None:
    classes, judgement, one_hot = fitted.schema.classes, outcome.judgement, reading.table.one_hot
    if classes is None or judgement is None or one_hot is None:
        return None
    index, names = reading.opened.frame.index, _labels(list(classes.names))
    before, after, labels = (
        None if of is None else pd.DataFrame(of, index, names) for of in judgement
    )
    assert before is not None
    assert after is not None
    given = np.where(np.isnan(one_hot[:, 0]), -1, np.nan_to_num(one_hot).argmax(axis=1))
    return Classification(classes.label, given, before, after, labels)


def _labels(labels: list[Hashable]) -> pd.Index:
    return pd.Index(labels, tupleize_cols=False)


def _residual_frame(
    reading: Reading, explained: Sequence[Hashable], outcome: Outcome
) -> pd.DataFrame:
    table = reading.table
    unit = np.broadcast_to(table.scale, table.values.shape)
    parts = [
        pd.DataFrame(
            {
                "label": reading.opened.frame.index,
                "target": str(label),
                "before": outcome.residuals[0][:, number],
                "after": outcome.residuals[1][:, number],
                "unit": 1.0 if reading.design.classes else unit[:, table.labels.index(label)],
            }
        )
        for number, label in enumerate(explained)
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=["before"], ignore_index=True)


def _evidence(targets: list[int], shown: NDArray[np.intp], outcome: Outcome) -> Evidence:
    """For each cell the residual of its own column, else the largest of its row."""
    of_cells = []
    for residuals in outcome.residuals:
        scaled = np.abs(residuals)
        largest = np.nan_to_num(scaled, nan=-1).argmax(axis=1)
        cells = np.empty((len(residuals), len(shown)))
        cells[:] = residuals[np.arange(len(residuals)), largest][:, None]
        for number, j in enumerate(targets):
            cells[:, shown == j] = residuals[:, [number]]
        of_cells.append(cells)
    return Evidence(of_cells[0], of_cells[1], outcome.gate[:, shown], outcome.windows[:, shown])


def _settings(fitted: "Fitted", reading: Reading, plan: Plan) -> Mapping[str, object]:
    table, timeline, layout = reading.table, reading.timeline, reading.design.layout
    settings: dict[str, object] = {
        "rows": len(table.values),
        "columns moved": int(table.movable.sum()),
        "targets": listed(fitted.explained),
    }
    if fitted.schema.classes is not None:
        settings["classes"] = fitted.schema.classes.told
    if timeline is not None and layout is not None:
        settings |= {
            "window": layout.length,
            "horizon": layout.horizon,
            "stride": layout.stride,
            "stretches without a gap": int(timeline.segments[-1]) + 1,
            "gaps": len(timeline.gaps),
        }
    if reading.design.scale == "group":
        settings["scaling"] = "in each group"
    return {**settings, **fitted.settings, **plan.settings}


def _no_gaps() -> pd.DataFrame:
    return pd.DataFrame({"group": [], "after": [], "before": [], "steps": []})
