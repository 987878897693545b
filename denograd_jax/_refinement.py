"""What a refinement gives back: the data, what changed, and how it went."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from denograd_jax._run import Status

__all__ = ["Refinement"]


@dataclasses.dataclass(frozen=True)
class Refinement:
    """Refined data and its record, as `refine` returns it.

    Attributes:
        data: The refined data, in the container, index, columns and order given.
        target: The refined target, where one was named or given, else None.
        before: Numeric columns that may move, as given: float64, NaN where missing.
        after: The same columns, refined.
        residuals: One row per instance: its `label`, then for every target its name, the residual
            `before` and `after` (prediction minus value, in the target's units).
        scale: Standard deviation of each movable column, the unit of `sigmas` in `changes`.
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
    time: np.ndarray | None
    groups: np.ndarray | None
    cell_residuals: tuple[np.ndarray, np.ndarray] = dataclasses.field(repr=False)

    @functools.cached_property
    def changes(self) -> pd.DataFrame:
        """One line per changed cell, largest change first.

        Columns: `row` (index label), `column`, `before`, `after`, `change` (user's units),
        `sigmas` (change in standard deviations of the column), `residual_before` and
        `residual_after` (of the cell's own column where that is a target, else of its row's target
        with the largest residual; user's units; NaN where no instance ends on the row).
        """
        before, after = self.before.to_numpy(), self.after.to_numpy()
        row, column = np.nonzero((before != after) & ~(np.isnan(before) & np.isnan(after)))
        scale = np.array([self.scale[c] for c in self.before.columns])
        residual_before, residual_after = (r[row, column] for r in self.cell_residuals)
        change = after[row, column] - before[row, column]
        labels = np.empty(len(self.before.columns), object)
        labels[:] = list(self.before.columns)
        table = pd.DataFrame(
            {
                "row": self.before.index.take(row),
                "column": labels[column],
                "before": before[row, column],
                "after": after[row, column],
                "change": change,
                "sigmas": change / scale[column] if len(scale) else change,
                "residual_before": residual_before,
                "residual_after": residual_after,
            }
        )
        largest = np.argsort(-np.abs(table["sigmas"].to_numpy()), kind="stable")
        return table.iloc[largest].reset_index(drop=True)

    def summary(self) -> str:
        """A few lines for a person: what was done, how much moved, what to know."""
        size = np.abs(self.after.to_numpy() - self.before.to_numpy()) / np.array(
            [self.scale[c] for c in self.before.columns]
        )
        known = ~np.isnan(size)
        changed = known & (size > 0)
        mean = [np.nanmean(np.abs(self.residuals[w])) for w in ("before", "after")]
        lines = [
            f"Refined {len(self.before):,} rows x {self.before.shape[1]} columns ({self.kind}): "
            f"{self.steps} steps, ended because {self.status.advice}.",
            f"Changed {changed.sum():,} of {known.sum():,} cells; typical change "
            f"{_typical(size[changed]):.3f} standard deviations.",
            f"Mean |residual| of the model: {mean[0]:.4g} before, {mean[1]:.4g} after.",
            f"Look-ahead: {'yes, a value may depend on later rows' if self.look_ahead else 'no'}.",
            *(f"Note: {note}." for note in self.notes),
        ]
        return "\n".join(lines)

    def report(self, path: str | Path) -> None:
        """Write one self-contained HTML page; needs the extra `[report]`.

        Raises:
            FileError: If the folder does not exist or cannot be written to.
            MissingExtraError: If the extra is not installed.
        """
        from denograd_jax.report import write_report

        write_report(self, path)


def _typical(sizes: np.ndarray) -> float:
    return float(np.sqrt(np.mean(sizes**2))) if len(sizes) else 0.0
