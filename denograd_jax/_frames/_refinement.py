"""What a refinement gives back: the data, what changed, and how it went."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._core._run import Status
from denograd_jax._frames import _changes
from denograd_jax.errors import ShapeError, UnsupportedError

if TYPE_CHECKING:
    from denograd_jax._frames._calibration import Calibration
    from denograd_jax._frames._classes import Classification
    from denograd_jax._frames._fitted import Fitted
    from denograd_jax._frames._recording import Origin
    from denograd_jax._frames._uncertainty import Cells

__all__ = ["Evidence", "Refinement"]

Floats: TypeAlias = NDArray[np.float64]


class Evidence(NamedTuple):
    """What the model said of each cell of `before`; arrays that broadcast to its shape.

    Attributes:
        residual_before: Prediction minus value, in the target's units: of the cell's own column
            where that is a target, else of its row's target with the largest residual; of classes 1
            less the probability of the row's label. NaN where no instance ends on the row.
        residual_after: The same after the refinement.
        gate: Mean weight, from 0 to 1 and over the steps taken, that the rule's gate gave to the
            instances that the cell belongs to.
        windows: Number of these instances that moved: of a table's row 1 at most; of a series the
            windows that contain the cell, or have it for a target.
    """

    residual_before: Floats
    residual_after: Floats
    gate: NDArray[np.float32]
    windows: NDArray[np.int32]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Refinement:
    """Refined data and its record, as `refine` returns it.

    Attributes:
        data: The refined data, in the container, index, columns and order given; after a dry run
            a copy of the data given.
        target: The refined target, where one was named or given, else None.
        before: Numeric columns that may move, as given: float64, NaN where missing.
        after: The same columns, refined, as far as the types of `data` can hold them.
        unit: Standard deviation of each cell's column (in its group, where groups are scaled
            apart), `(N, columns)` or `(1, columns)`: the unit of `sigmas` in `changes`.
        residuals: One row per instance and target: the `label` of the row that holds the target,
            the `target`'s name, the residual `before` and `after` (prediction minus value, in the
            target's units; of classes 1 less the probability of the label), the `unit` of the
            target. Without those that are missing or not finite.
        evidence: What the model said of each cell.
        status: Why the refinement ended.
        steps: Steps taken.
        kind: "rows" or "series".
        look_ahead: Whether a value may depend on later rows.
        lag: How many later rows, where that is bounded; 0 for a causal refinement; None where any
            later row may have a say, and for rows, which have no order.
        settings: What was done, with what, in print order.
        provenance: Versions, device, precision, seed and a hash of the input.
        notes: What a reader should know, a sentence each.
        time: Time stamps aligned with the rows, or None.
        groups: Group labels aligned with the rows, or None.
        gaps: Where windows were kept from crossing: `group`, the times `after` and `before` which
            there is a gap, and its length in `steps` (1 would be none).
        origin: The data as it was read, from which `accept` and `save` work.
        fitted: The model that was trusted, with its scaling; refines other data, saves, loads.
        dry_run: Whether `data` was left as given.
        classification: What the model says of the labels, where the target is of classes:
            `counts`, `accuracy`, `cross_entropy`, `by_class`, `least_likely()`; else None.
    """

    data: Any
    target: Any
    before: pd.DataFrame
    after: pd.DataFrame
    unit: Floats
    residuals: pd.DataFrame
    evidence: Evidence
    status: Status
    steps: int
    kind: str
    look_ahead: bool
    lag: int | None
    settings: Mapping[str, object]
    provenance: Mapping[str, object]
    notes: list[str]
    time: NDArray[Any] | None
    groups: NDArray[Any] | None
    gaps: pd.DataFrame
    origin: "Origin"
    fitted: "Fitted"
    dry_run: bool = False
    classification: "Classification | None" = None

    @property
    def probabilities(self) -> pd.DataFrame:
        """Soft labels after a refinement that moved them, rows as given, a column a class.

        NaN where a row has no label. (What the model says of the rows is in `classification`.)

        Raises:
            UnsupportedError: Labels did not move: set soft_labels=True.
        """
        if self.classification is None or self.classification.labels is None:
            raise UnsupportedError(
                "labels did not move: a target of classes and soft_labels=True make them do so."
            )
        return self.classification.labels

    @functools.cached_property
    def changes(self) -> pd.DataFrame:
        """One line per changed cell, largest change first.

        Columns: `row` (index label), `column` (a categorical of labels), `before`, `after`,
        `change` (user's units; NaN where a missing cell was filled), `sigmas` (change in standard
        deviations of the column), and the `Evidence`: `residual_before`, `residual_after`, `gate`,
        `windows`. About 60 bytes per changed cell; `top` takes less.
        """
        return self.top(None)

    def top(self, k: int | None = 20) -> pd.DataFrame:
        """The `k` largest changes, as in `changes`, without building the rest.

        Raises:
            UnsupportedError: If k is no whole number, 0 or more.
        """
        if k is not None and (isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0):
            raise UnsupportedError(f"k must be a whole number, 0 or more, not {k!r}.")
        cells = _changes.largest(self.sigmas, self.filled, k)
        return _changes.frame(cells, self.before, self.after, self.sigmas, self.evidence)

    def accept(self, mask: Any) -> "Refinement":
        """The refinement with only those changes that the mask chooses.

        Residuals and evidence stay those of the whole refinement, which explain each change; those
        of the accepted data would have to be computed anew.

        Args:
            mask: Booleans, one per line of `changes`, or one per cell of `before` (its shape); of a
                Series or DataFrame the labels count, not the order.

        Returns:
            A new `Refinement`; the other cells hold the values given.

        Raises:
            UnsupportedError: What is no boolean mask.
            ShapeError: A mask of another shape.
        """
        chosen = self._cells_of(mask)
        kept = self.after.where(chosen, self.before)
        data, target, after, _ = self.origin.put_back(kept.to_numpy())
        if self.dry_run:
            data, target = self.data, self.target
        note = f"only {int((chosen & self.changed).sum()):,} of the changes were accepted"
        return dataclasses.replace(
            self, data=data, target=target, after=after, notes=[*self.notes, note]
        )

    def reject(self, mask: Any) -> "Refinement":
        """The refinement without those changes that the mask chooses; else as `accept`."""
        return self.accept(~self._cells_of(mask))

    def summary(self) -> str:
        """A few lines for a person: what was done, how much moved, what to know."""
        size = np.abs(self.sigmas)
        moved = size[size > 0]
        typical = np.sqrt(np.mean(moved**2)) if len(moved) else 0.0
        filled = int(self.filled.sum())
        lines = [
            f"Refined {len(self.before):,} rows x {self.before.shape[1]} columns ({self.kind}): "
            f"{self.steps} steps, ended because {self.advice}.",
            f"Changed {len(moved):,} of {np.sum(~np.isnan(size)):,} cells; typical change "
            f"{typical:.3f} standard deviations."
            + (f" Filled {filled:,} missing cells." if filled else ""),
            *self._of_the_model(),
            f"Look-ahead: {self.reach}.",
            *(["Dry run: the data is as it was given."] if self.dry_run else []),
            *(f"Note: {note}." for note in self.notes),
        ]
        return "\n".join(lines)

    @property
    def advice(self) -> str:
        """Why it ended, and what that means."""
        if self.settings.get("rule") == "auto" and self.status is Status.converged:
            return f"the rule auto takes one, by the noise ({self.settings['noise']})"
        return self.status.advice

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

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write all of it into a folder of arrays, Parquet and JSON; needs the extra `[cli]`.

        The folder is made whole or not at all, and holds no pickles. A backbone that was trained
        here is in it, a model given is not.

        Args:
            folder: Its name.
            overwrite: Whether to replace a refinement that was saved there.

        Raises:
            FileError: If the folder exists or cannot be written.
            UnsupportedError: For labels or values that no file can hold.
        """
        from denograd_jax._frames._saved import save_refinement

        save_refinement(self, folder, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Refinement":
        """Read what `save` wrote.

        Raises:
            FileError: If it is missing, damaged, or of a newer version.
        """
        from denograd_jax._frames._saved import load_refinement

        return load_refinement(folder)

    @property
    def reach(self) -> str:
        """Which rows a value may depend on, in words."""
        if not self.look_ahead:
            return "no" if self.kind == "rows" else "no, a value depends on rows up to its own"
        if self.lag is None:
            return "yes, a value may depend on later rows"
        rows = "row" if self.lag == 1 else "rows"
        return (
            f"yes, a value may depend on the {self.lag} {rows} behind it, and on none after those"
        )

    @functools.cached_property
    def standard_errors(self) -> pd.DataFrame:
        """Standard deviation of each refined cell around its clean value, for the rule "auto".

        In the user's units, with the columns of `before`; NaN where no more is known of the noise
        than its least size, and in missing and frozen cells. They hold as far as the noise is
        Gaussian and was found, or told, aright; values cut off by bounds, `max_change` or whole
        numbers are farther off.

        Look-ahead: as the refinement's.

        Raises:
            UnsupportedError: After another rule, a causal refinement, or one that was loaded
                without its model.

        Source:
            Second-order form of Tweedie's formula: Robbins 1956, Efron 2011.
        """
        from denograd_jax._frames._uncertainty import standard_errors

        return standard_errors(self)

    @functools.cached_property
    def calibration(self) -> "Calibration":
        """How noisy each column was found, and what other strengths would leave; see `calibrate`.

        Raises:
            UnsupportedError: After another rule than "auto".
        """
        from denograd_jax._frames._calibration import calibration_of

        if self.settings.get("rule") != "auto":
            raise UnsupportedError('a calibration comes with the rule "auto".')
        return calibration_of(self.fitted, self.origin.reading, self.origin.noise, self.cells)

    @functools.cached_property
    def cells(self) -> "Cells":
        """Score and precision of each cell, for the rule "auto": `_frames/_uncertainty.py`."""
        from denograd_jax._frames._uncertainty import seen_by

        if self.fitted.noise is None:
            raise UnsupportedError("the model was fitted, or saved, without a look at the noise.")
        return seen_by(self.fitted.model, self.fitted.noise, self.origin.reading)

    def interval(self, level: float = 0.9) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Least and largest values between which the clean ones lie with this probability.

        By `standard_errors`, as if errors were Gaussian.

        Raises:
            UnsupportedError: As `standard_errors`; or a level that is not between 0 and 1.
        """
        if not isinstance(level, float | int) or not 0 < level < 1:
            raise UnsupportedError(f"level must be between 0 and 1, not {level!r}.")
        reach = NormalDist().inv_cdf((1 + level) / 2) * self.standard_errors
        return self.after - reach, self.after + reach

    @functools.cached_property
    def sigmas(self) -> Floats:
        """Change of each cell of `before` in standard deviations; NaN where it was missing."""
        sigmas: Floats = (self.after.to_numpy() - self.before.to_numpy()) / self.unit
        return sigmas

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Cells of `before` that were missing and have a value now."""
        filled: NDArray[np.bool_] = (self.before.isna() & self.after.notna()).to_numpy(bool)
        return filled

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Cells of `before` that have another value now."""
        changed: NDArray[np.bool_] = (np.nan_to_num(self.sigmas) != 0) | self.filled
        return changed

    def _cells_of(self, mask: Any) -> NDArray[np.bool_]:
        """A mask of changes or of cells as one of cells."""
        lines: NDArray[np.bool_] = np.asarray(self._in_order(mask))
        if lines.dtype != bool:
            raise UnsupportedError(
                f"the mask must be of booleans, not {lines.dtype}: for example "
                "changes['sigmas'].abs() < 1."
            )
        if lines.shape == self.before.shape:
            return lines
        cells = _changes.largest(self.sigmas, self.filled, None)
        if lines.shape != cells.shape:
            raise ShapeError(
                f"the mask has shape {lines.shape}: give one boolean per line of `changes`, "
                f"{cells.shape}, or per cell of `before`, {self.before.shape}."
            )
        chosen = np.zeros(self.before.size, bool)
        chosen[cells[lines]] = True
        of_cells: NDArray[np.bool_] = chosen.reshape(self.before.shape)
        return of_cells

    def _in_order(self, mask: Any) -> Any:
        """A mask with labels in the order of `changes`, or of `before`; any other as it is."""
        if isinstance(mask, pd.Series) and set(mask.index) == set(range(len(mask))):
            return mask.sort_index()
        like = self.before
        if isinstance(mask, pd.DataFrame) and mask.shape == like.shape:
            if set(mask.columns) == set(like.columns):
                mask = mask[list(like.columns)]
            if like.index.is_unique and mask.index.isin(like.index).all():
                return mask.loc[like.index]
        return mask

    def _of_the_model(self) -> list[str]:
        if self.classification is not None:
            return self.classification.in_words()
        if not len(self.residuals):
            return ["No residual of the model is known."]
        sizes = self.residuals[["before", "after"]].abs().div(self.residuals["unit"], axis=0)
        before, after = sizes.mean()
        return [
            f"Mean |residual| of the model: {before:.4f} before, {after:.4f} after, in standard "
            "deviations."
        ]
