"""A series refined as it comes in: a few rows at a time, in constant memory, without look-ahead."""

from typing import Any, NamedTuple, Unpack

import numpy as np
import pandas as pd

from denograd_jax._frames._columns import listed
from denograd_jax._frames._containers import column_labels, open_container
from denograd_jax._frames._fitted import Fitted
from denograd_jax._frames._planning import Moves, make_plan, refuse_fractions, refuse_unknown
from denograd_jax._frames._reading import read
from denograd_jax._frames._recording import Origin
from denograd_jax._frames._solving import Latest, solve
from denograd_jax._frames._timeline import time_column, time_stamps
from denograd_jax.errors import ColumnError, DataError, UnsupportedError

__all__ = ["OnlineRefiner", "Update"]


class Update(NamedTuple):
    """What new rows brought: frames, or arrays if arrays came in.

    Attributes:
        final: Rows that no later row will change: those of this update, and of earlier ones, that
            have `lag` rows behind them now. May be empty.
        provisional: The last `lag` rows as they are judged so far.
    """

    final: Any
    provisional: Any


class OnlineRefiner:
    """Refines a series row by row, by a model that was fitted before.

    It keeps the last `window + horizon + lag` rows, and nothing else. What becomes final is what
    `fitted.refine(all_rows, causal=True, lag=lag)` gives, but for rounding.

    Look-ahead: `lag` rows.

    Args:
        fitted: What `fit(data, window=...)` returned, or `Fitted.load(folder)`; its target among
            the columns, its series one. For a panel make one refiner for each series; they share
            what is compiled.
        **moves: `lag`, rows to wait before a row is judged, 0 unless given; `rule`, `step_size`,
            `tolerance`, `max_steps`, `impute`, `bounds`, `non_negative`, `integer`, `max_change`
            and `noise_scale`, as `denograd_jax.refine` takes them.

    Raises:
        UnsupportedError: A model of rows, of several series, or with its target apart; options
            that need all of the data.

    Example:
        >>> import numpy as np
        >>> from denograd_jax import fit
        >>> yesterday, today = np.random.default_rng(0).normal(size=(2, 200, 2)).cumsum(axis=1)
        >>> online = OnlineRefiner(fit(yesterday, window=8, max_epochs=2), lag=1)
        >>> online.update(today[:5]).final.shape
        (4, 2)
        >>> online.update(today[5:6]).final.shape
        (1, 2)
    """

    def __init__(self, fitted: Fitted, **moves: Unpack[Moves]) -> None:
        lag = moves.get("lag", 0)
        design = fitted.design
        if design.classes:
            raise UnsupportedError(
                "an online refiner takes a series, and a target of classes is for rows: refine new "
                "rows by fitted.refine(rows)."
            )
        if design.layout is None:
            raise UnsupportedError("an online refiner needs a series: fit with window=.")
        if design.apart or design.groups:
            raise UnsupportedError(
                "an online refiner takes one series, with its target among the columns: fit "
                "without groups= and with target= as a label, and make one for each series."
            )
        refuse_unknown(moves, but=("frozen_rows", "causal", "dry_run", "soft_labels"))
        refuse_fractions({"lag": lag})
        self._fitted = fitted
        self._moves = moves | {"causal": True}
        self._memory = design.layout.span + lag
        self._lag = lag
        self._rows: pd.DataFrame | None = None

    def update(self, rows: Any) -> Update:
        """Take new rows, and tell what they make final.

        Args:
            rows: One or more rows in the order of time, with the columns that the model was fitted
                on: a DataFrame, or an array `(rows, columns)`.

        Returns:
            `Update(final, provisional)`: frames, or arrays.

        Raises:
            DataError: A row that is not later than those before it, or unusable values; nothing is
                taken then.
            ColumnError: Other columns than the rows before had.
            UnsupportedError: Another kind of container.
        """
        new = self._as_frame(rows)
        known = 0 if self._rows is None else len(self._rows)
        frame = new if self._rows is None else pd.concat([self._rows, new])
        self._refuse_late(frame, known)
        refined = self._refined(frame, len(frame) - known)
        self._rows = frame.iloc[-self._memory :].copy()  # the caller may fill theirs anew
        first, settled = max(known - self._lag, 0), max(len(frame) - self._lag, 0)
        parts = refined.iloc[first:settled], refined.iloc[max(settled, first) :]
        return Update(
            *(part.to_numpy() if isinstance(rows, np.ndarray) else part for part in parts)
        )

    def _as_frame(self, rows: Any) -> pd.DataFrame:
        if isinstance(rows, np.ndarray) and rows.ndim == 2:
            rows = pd.DataFrame(rows)
        if not isinstance(rows, pd.DataFrame):
            raise UnsupportedError(
                "rows must be a pandas DataFrame or an array of shape (rows, columns), not "
                f"{_kind(rows)}: convert them first."
            )
        if self._rows is not None and set(rows.columns) != set(self._rows.columns):
            raise ColumnError(
                f"the rows have the columns {listed(rows.columns)}, those before them had "
                f"{listed(self._rows.columns)}: give the same."
            )
        return rows

    def _refuse_late(self, frame: pd.DataFrame, known: int) -> None:
        time = self._fitted.design.time
        if known == 0 or len(frame) == known:
            return
        column_labels(frame, None if time is None else [time], "time", levels=True)
        column, called = time_column(frame, time)
        if column is None:
            return
        stamps = time_stamps(column, called)
        if not stamps[known - 1] < stamps[known]:
            raise DataError(
                f"a row of time {column.iloc[known]} came late: rows up to "
                f"{column.iloc[known - 1]} are there already. Sort rows before they are given, or "
                "drop late ones."
            )

    def _refined(self, frame: pd.DataFrame, new: int) -> pd.DataFrame:
        """The rows, the `new` ones and what is provisional refined, where a window reaches them."""
        fitted, design = self._fitted, self._fitted.design
        opened = open_container(frame, list(design.targets) or None)
        reading = read(fitted.schema, opened, design, partial=True)
        table = reading.table
        if not self._moves.get("impute") and np.isnan(table.values[:, table.movable]).all():
            return frame
        plan = make_plan(reading, **self._moves)
        latest = Latest(new + self._lag, self._memory + new)
        outcome = solve(fitted.model, reading, plan, plan.movable, fitted.noise, latest)
        origin = Origin(reading, plan.constraints, outcome)
        refined: pd.DataFrame = origin.put_back(outcome.values[:, origin.shown])[0]
        return refined


def _kind(rows: Any) -> str:
    """What was given, in words: types of several libraries share their names."""
    if isinstance(rows, np.ndarray):
        return f"one of shape {rows.shape}"
    library, name = type(rows).__module__.partition(".")[0], type(rows).__name__
    return f"a {name}" if library == "builtins" else f"a {library} {name}"
