"""What a refinement gives back: the data, what changed, and how it went."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._run import Status

__all__ = ["Refinement"]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Refinement:
    """Refined data and its record, as `refine` returns it.

    Attributes:
        data: The refined data, in the container, index, columns and order given.
        target: The refined target, where one was named or given, else None.
        before: Numeric columns that may move, as given: float64, NaN where missing.
        after: The same columns, refined, as far as the types of `data` can hold them.
        residuals: One row per instance and target: the `label` of the row that holds the target,
            the `target`'s name, the residual `before` and `after` (prediction minus value, in the
            target's units). Without those that are missing or not finite.
        scale: Standard deviation of each numeric column, the unit of `sigmas` in `changes`.
        status: Why the refinement ended.
        steps: Steps taken.
        look_ahead: Whether a value may depend on later rows.
        kind: "rows" or "series".
        settings: What was done, with what, in print order.
        notes: What a reader should know, a sentence each.
        time: Time stamps aligned with the rows, or None.
        groups: Group labels aligned with the rows, or None.
        cell_residuals: The residual that goes with each cell of `before`, before and after.
    """

    data: Any
    target: Any
    before: pd.DataFrame
    after: pd.DataFrame
    residuals: pd.DataFrame
    scale: Mapping[Any, float]
    status: Status
    steps: int
    look_ahead: bool
    kind: str
    settings: Mapping[str, object]
    notes: list[str]
    time: NDArray[Any] | None
    groups: NDArray[Any] | None
    cell_residuals: tuple[NDArray[np.float64], NDArray[np.float64]]

    @functools.cached_property
    def changes(self) -> pd.DataFrame:
        """One line per changed cell, largest change first.

        Columns: `row` (index label), `column` (a categorical of labels), `before`, `after`,
        `change` (user's units), `sigmas` (change in standard deviations of the column),
        `residual_before` and `residual_after` (of the cell's own column where that is a target,
        else of its row's target with the largest residual; user's units; NaN where no instance
        ends on the row).
        """
        sigmas = self._sigmas()
        cells = np.flatnonzero(np.nan_to_num(sigmas))
        cells = cells[np.argsort(-np.abs(sigmas.ravel()[cells]), kind="stable")]
        row, column = np.divmod(cells, max(sigmas.shape[1], 1))
        before, after, residual_before, residual_after = (
            np.ravel(values)[cells] for values in (self.before, self.after, *self.cell_residuals)
        )
        return pd.DataFrame(
            {
                "row": self.before.index.to_flat_index().take(row),
                "column": _repeated(self.before.columns, column),
                "before": before,
                "after": after,
                "change": after - before,
                "sigmas": sigmas.ravel()[cells],
                "residual_before": residual_before,
                "residual_after": residual_after,
            },
            copy=False,
        )

    def summary(self) -> str:
        """A few lines for a person: what was done, how much moved, what to know."""
        size = np.abs(self._sigmas())
        changed = size[size > 0]
        typical = np.sqrt(np.mean(changed**2)) if len(changed) else 0.0
        lines = [
            f"Refined {len(self.before):,} rows x {self.before.shape[1]} columns ({self.kind}): "
            f"{self.steps} steps, ended because {self.status.advice}.",
            f"Changed {len(changed):,} of {np.sum(~np.isnan(size)):,} cells; typical change "
            f"{typical:.3f} standard deviations.",
            self._residual_line(),
            f"Look-ahead: {'yes, a value may depend on later rows' if self.look_ahead else 'no'}.",
            *(f"Note: {note}." for note in self.notes),
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Refinement>\n{self.summary()}"

    def report(self, path: str | Path) -> None:
        """Write one self-contained HTML page; needs the extra `[report]`.

        Raises:
            FileError: If the folder does not exist or cannot be written to.
            MissingExtraError: If the extra is not installed.
        """
        from denograd_jax.report import write_report

        write_report(self, path)

    def _sigmas(self) -> NDArray[np.float64]:
        """Change of each cell in standard deviations of its column."""
        scale = np.array([self.scale[label] for label in self.before.columns], np.float64)
        sigmas: NDArray[np.float64] = (self.after.to_numpy() - self.before.to_numpy()) / scale
        return sigmas

    def _residual_line(self) -> str:
        if not len(self.residuals):
            return "No residual of the model is known."
        unit = self.residuals["target"].map({str(k): v for k, v in self.scale.items()})
        before, after = ((self.residuals[when].abs() / unit).mean() for when in ("before", "after"))
        return (
            f"Mean |residual| of the model: {before:.4f} before, {after:.4f} after, in standard "
            "deviations."
        )


def _repeated(labels: pd.Index, position: NDArray[np.intp]) -> pd.Categorical:
    """Labels by position, each held once however many cells there are."""
    return pd.Categorical.from_codes(position, labels.to_flat_index())
