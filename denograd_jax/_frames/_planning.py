"""What is to be done with the data: rule, cells that may move, limits, noise, look-ahead."""

import dataclasses
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax import rules
from denograd_jax._core._causal import visits
from denograd_jax._frames._columns import Floats, is_number, to_floats
from denograd_jax._frames._constraints import (
    Bounds,
    Constraints,
    cells_of,
    is_real,
    read_constraints,
)
from denograd_jax._frames._containers import Opened
from denograd_jax._frames._reading import Reading
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError
from denograd_jax.rules import Rule

__all__ = [
    "Moves",
    "Plan",
    "Progress",
    "RuleName",
    "choose_rule",
    "make_plan",
    "refuse_fractions",
    "refuse_progress",
    "refuse_unknown",
    "refuse_words",
]

RuleName: TypeAlias = Literal["auto", "unit_step", "gauss_newton"]
Flags: TypeAlias = NDArray[np.bool_]


class Progress(Protocol):
    """Called as work goes on: the stage ("train", "refine"), how much is done, and of how much."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


class Moves(TypedDict, total=False):
    """How the cells of data may move; `refine` says what each of these is."""

    rule: RuleName | Rule | None
    step_size: float | None
    tolerance: float | None
    max_steps: int | None
    impute: bool
    frozen_rows: Any
    bounds: Bounds | None
    non_negative: Any
    integer: Any
    max_change: Any
    noise_scale: Any
    soft_labels: bool
    causal: bool
    lag: int
    dry_run: bool
    progress: Progress | None


class Defaults(NamedTuple):
    """Numbers of a rule that the user did not give, and how many steps to take."""

    step_size: float
    tolerance: float
    max_steps: int


# Chosen on data with noise of 0.1 and 0.3 standard deviations (benchmarks/RESULTS.md): total travel
# is what matters. Rows have one residual to pay for d + 1 cells, and soon overshoot; a step of a
# series is judged by many windows, whose consensus is far smaller than a single window's step.
_DEFAULTS = {
    ("rows", "unit_step"): Defaults(0.02, 0.1, 5),
    ("series", "unit_step"): Defaults(0.05, 0.1, 50),
    ("rows", "gauss_newton"): Defaults(0.1, 0.01, 5),
    ("series", "gauss_newton"): Defaults(0.1, 0.01, 5),
}

# In units of the noise, where that is known: 0.02 and 0.05 standard deviations at a noise of
# 0.2 and 0.1. More is better at higher noise, as it should be (docs/design.md has the figures).
_STEPS_OF_NOISE = {"rows": 0.1, "series": 0.5}

# Without look-ahead few windows have a say in a step, to hold back the one whose target it is. What
# does good in a plain refinement does harm here, up to four times the noise (docs/design.md).
_CAUSAL = Defaults(0.02, 0.1, 5)
"""For one window; its step size is multiplied by the number of windows."""

ANCHORED_STEPS = 3
"""Each begins at the observation again, with the model's slope where the last one came to."""

_LEAST = {"window": 1, "horizon": 1, "stride": 1, "warm_up": 1}
"""Other counts may be 0."""

_RULES: dict[str, Callable[[float, float], Rule]] = {
    "unit_step": rules.unit_step,
    "gauss_newton": rules.gauss_newton,
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done with a reading.

    Attributes:
        rule: How instances move.
        automatic: Whether that is by the noise found in the data.
        max_steps: Most steps.
        settings: The rule and other choices, to print.
        movable: Cells that may change at all, `(N, n)`.
        impute: Whether missing cells among them are filled.
        constraints: What values must obey.
        noise: Standard deviation of each cell's noise in standardised units, `(N, n)` or `(1, n)`.
        labels: Rows whose label of a class moves on the simplex, `(N,)`; None where labels stay.
        causal: Whether a value depends on no row behind the next `lag` ones.
        lag: See there.
        dry_run: Whether the data is left as it is.
        progress: Called with each step.
    """

    rule: Rule
    automatic: bool
    max_steps: int
    settings: Mapping[str, object]
    movable: Flags
    impute: bool
    constraints: Constraints
    noise: Floats | None
    labels: Flags | None
    causal: bool
    lag: int
    dry_run: bool
    progress: Progress | None


def make_plan(
    reading: Reading,
    *,
    rule: RuleName | Rule | None = None,
    step_size: float | None = None,
    tolerance: float | None = None,
    max_steps: int | None = None,
    impute: bool = False,
    frozen_rows: Any = None,
    bounds: Bounds | None = None,
    non_negative: Any = (),
    integer: Any = (),
    max_change: Any = None,
    noise_scale: Any = None,
    soft_labels: bool = False,
    causal: bool = False,
    lag: int = 0,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """Check all that the user asked for, before any work is done.

    Raises:
        DenogradError: The message says what cannot be done, and what to do.
    """
    refuse_fractions({"lag": lag})
    refuse_fractions({"max_steps": max_steps}, optional=True)
    refuse_words(impute=impute, soft_labels=soft_labels, causal=causal, dry_run=dry_run)
    refuse_progress(progress)
    table, frame = reading.table, reading.opened.frame
    kind = "rows" if reading.timeline is None else "series"
    if causal and kind == "rows":
        raise UnsupportedError(
            "causal is for a series: rows have no order in time; give window= as well."
        )
    if lag and not causal:
        raise UnsupportedError("lag is for a causal refinement: set causal=True as well.")
    noise = _noise(noise_scale, reading)
    numbers = (step_size, tolerance, max_steps)
    steps_asked_for = impute or soft_labels or any(number is not None for number in numbers)
    if rule is None and not steps_asked_for:
        rule = "auto"
    chosen, steps, settings = choose_rule(
        rule,
        step_size,
        tolerance,
        max_steps,
        kind,
        noise_known=noise is not None,
        voices=_voices(reading, causal=causal, lag=lag),
    )
    if soft_labels:
        _refuse_soft_labels(reading, rule, noise)
    elif reading.design.classes and not chosen.takes_labels:
        raise UnsupportedError(
            'this rule needs a target that moves, which classes are not: take rule="auto" or '
            '"unit_step", or let labels move by soft_labels=True.'
        )
    frozen = _frozen_rows(frozen_rows, reading.opened)
    movable = table.movable & ~frozen[:, None]
    constraints = read_constraints(
        frame,
        table,
        bounds=bounds,
        non_negative=non_negative,
        integer=integer,
        max_change=max_change,
    )
    constraints.refuse_frozen(table, movable)
    movable &= impute | ~np.isnan(table.values)
    if not movable.any():
        raise DataError("no cell may move: every row is frozen, or every cell of it is missing.")
    options: dict[str, object] = {
        "missing cells": "filled" if impute else None,
        "noise": None if noise_scale is None else "given",
        "constraints": constraints.describe(table.labels),
        "labels": "moved on the simplex" if soft_labels else None,
        "lag": lag if causal else None,
    }
    automatic = isinstance(rule, str) and rule == "auto"
    if automatic and impute:
        raise UnsupportedError(
            'rule="auto" fills no missing cell: leave impute out, or choose another rule.'
        )
    return Plan(
        chosen,
        automatic,
        steps,
        settings | {name: option for name, option in options.items() if option is not None},
        movable,
        impute,
        constraints,
        noise,
        ~frozen if soft_labels else None,
        causal,
        lag,
        dry_run,
        progress,
    )


def _refuse_soft_labels(
    reading: Reading, rule: RuleName | Rule | None, noise: Floats | None
) -> None:
    design = reading.design
    if not design.classes:
        raise UnsupportedError(
            "soft_labels is for a target of classes: leave it out, or set classes=True."
        )
    if isinstance(rule, str) and rule == "auto":
        raise UnsupportedError(
            'rule="auto" moves no label: leave soft_labels out, or choose another rule, such as '
            'rule="unit_step".'
        )
    if noise is not None:
        raise UnsupportedError("noise_scale says nothing of labels: leave it out, or soft_labels.")
    if not set(design.targets).isdisjoint(design.frozen):
        raise ColumnError(f"target {design.targets[0]!r} is frozen: soft_labels cannot move it.")


def choose_rule(
    rule: RuleName | Rule | None,
    step_size: float | None,
    tolerance: float | None,
    max_steps: int | None,
    kind: str,
    *,
    noise_known: bool = False,
    voices: int | None = None,
) -> tuple[Rule, int, dict[str, object]]:
    """The rule, the most steps to take, and the settings to print.

    `voices` is the number of windows that have a say in a step, where that is not all.
    """
    if isinstance(rule, Rule):
        if step_size is not None or tolerance is not None:
            raise UnsupportedError(
                "give step_size and tolerance to the rule itself, not beside it."
            )
        defaults = _DEFAULTS[kind, "unit_step"] if voices is None else _CAUSAL
        usual = ANCHORED_STEPS if rule.anchored else defaults.max_steps
        steps = usual if max_steps is None else max_steps
        numbers = {k: float(v) for k, v in rule.hyperparameters.items()}
        return rule, steps, {"rule": "given", **numbers, "max_steps": steps}
    name = "unit_step" if rule is None else rule
    if isinstance(name, str) and name == "auto":
        return _automatic(step_size, tolerance, max_steps)
    if name not in list(_RULES):  # a list compares what has no hash
        raise UnsupportedError(
            f'rule must be "auto", "unit_step", "gauss_newton" or a Rule, not {rule!r}.'
        )
    given: dict[str, Any] = {"step_size": step_size, "tolerance": tolerance, "max_steps": max_steps}
    defaults = _default_numbers(name, kind, noise_known=noise_known, voices=voices)
    chosen = defaults._replace(**{k: v for k, v in given.items() if v is not None})
    _refuse_numbers(chosen.step_size, chosen.tolerance)
    settings = {"rule": name, **chosen._asdict()}
    return _RULES[name](chosen.step_size, chosen.tolerance), chosen.max_steps, settings


def _automatic(
    step_size: float | None, tolerance: float | None, max_steps: int | None
) -> tuple[Rule, int, dict[str, object]]:
    given = {"step_size": step_size, "tolerance": tolerance, "max_steps": max_steps}
    for name, number in given.items():
        if number is not None:
            raise UnsupportedError(f'rule="auto" takes one step of its own: leave {name} out.')
    return rules.tweedie(), 1, {"rule": "auto"}


def _default_numbers(name: str, kind: str, *, noise_known: bool, voices: int | None) -> Defaults:
    defaults = _DEFAULTS[kind, name]
    if name == "gauss_newton":  # a fraction of the way, whatever the noise
        cautious = defaults.step_size if voices is None else 0.02 * voices
        return defaults._replace(step_size=min(cautious, defaults.step_size))
    if voices is None:
        return defaults._replace(step_size=_STEPS_OF_NOISE[kind]) if noise_known else defaults
    size = _STEPS_OF_NOISE["rows"] if noise_known else _CAUSAL.step_size
    return _CAUSAL._replace(step_size=size * voices)


def refuse_fractions(counts: Mapping[str, Any], *, optional: bool = False) -> None:
    """Refuse what is no whole number, 0 or more, of 31 bits; None too, unless it is optional."""
    for name, count in counts.items():
        if optional and count is None:
            continue
        least = _LEAST.get(name, 0)
        whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
        if not whole or not least <= count < 2**31:
            raise UnsupportedError(
                f"{name} must be a whole number, {least} or more, not {count!r}."
            )


def refuse_unknown(moves: Mapping[str, Any], *, but: Collection[str] = ()) -> None:
    """Refuse options that `Moves` does not have, or that are among `but`."""
    known = [name for name in Moves.__annotations__ if name not in but]
    for name in moves:
        if name not in Moves.__annotations__:
            raise UnsupportedError(
                f"there is no option {name!r} here: choose from {', '.join(known)}."
            )
        if name in but:
            raise UnsupportedError(f"{name} has no meaning here: leave it out.")


def refuse_progress(progress: Any) -> None:
    """Refuse what could not be called in the middle of the work."""
    if progress is not None and not callable(progress):
        raise UnsupportedError(
            f"progress must be a function of a stage and two numbers, not {progress!r}."
        )


def refuse_words(**flags: Any) -> None:
    """Refuse what is neither True nor False: "no" would be taken for yes."""
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise UnsupportedError(f"{name} must be True or False, not {flag!r}.")


def _refuse_numbers(step_size: Any, tolerance: Any) -> None:
    """Also NaN fails these comparisons."""
    if not is_real(step_size) or not 0 < step_size < np.inf:
        raise UnsupportedError(f"step_size must be a positive number, not {step_size!r}.")
    if not is_real(tolerance) or not 0 <= tolerance < np.inf:
        raise UnsupportedError(f"tolerance must be a number, 0 or more, not {tolerance!r}.")


def _voices(reading: Reading, *, causal: bool, lag: int) -> int | None:
    if not causal or reading.design.layout is None:
        return None
    return visits(reading.design.layout, lag)


def _frozen_rows(given: Any, opened: Opened) -> Flags:
    rows = len(opened.frame)
    if given is None:
        return np.zeros(rows, bool)
    try:
        mask = np.asarray(given)
    except ValueError:  # lists of several lengths
        mask = np.asarray(given, object)
    if mask.dtype != bool:
        raise UnsupportedError(
            f"frozen_rows must be booleans, one per row, not {mask.dtype}: for example "
            "frame.index.isin([...]) or frame['kind'] == 'reference'."
        )
    if mask.shape != (rows,):
        raise ShapeError(f"frozen_rows must have shape ({rows},), not {mask.shape}.")
    labelled = isinstance(given, pd.Series) and opened.series is None  # a list has no index
    if labelled and not given.index.equals(opened.frame.index):
        raise DataError(
            "frozen_rows has another index than the data: align it, for example with "
            "frozen_rows.reindex(data.index, fill_value=False), or give an array."
        )
    return mask


def _noise(given: Any, reading: Reading) -> Floats | None:
    """The noise of each cell in standardised units."""
    if given is None:
        return None
    table, frame = reading.table, reading.opened.frame
    if isinstance(given, pd.Series) and set(given.index) <= set(frame.columns):
        given = given.to_dict()
    if isinstance(given, pd.DataFrame | np.ndarray):
        noise = _noise_of_cells(given, reading)
    else:
        noise = cells_of(given, frame, table, "noise_scale", all_named=True)
    noise = noise / table.scale
    if not (noise > 0).any():
        raise DataError("noise_scale is 0 for every cell: there is nothing to refine.")
    return noise


def _noise_of_cells(given: pd.DataFrame | NDArray[Any], reading: Reading) -> Floats:
    table, frame = reading.table, reading.opened.frame
    if isinstance(given, np.ndarray):
        series = reading.opened.series
        given = _labelled(given, frame if series is None else frame.drop(columns=[series]))
    elif not given.index.equals(frame.index):
        raise DataError(
            "noise_scale has another index than the data: align it, for example with "
            "noise_scale.loc[data.index], or give an array."
        )
    noise = np.zeros(table.values.shape)
    for j in np.flatnonzero(table.movable):
        label = table.labels[j]
        if label not in given.columns:
            raise ColumnError(
                f"noise_scale does not name column {label!r}: give 0 for one that is without "
                "noise, and does not move."
            )
        if not is_number(given[label]):
            raise UnsupportedError(f"noise_scale of column {label!r} is not numeric.")
        noise[:, j] = to_floats(given[label])
    observed = ~np.isnan(table.values) & table.movable
    if not (np.isfinite(noise) & (noise >= 0))[observed].all():
        raise DataError("noise_scale must be 0 or more in every cell, and not missing or infinite.")
    return np.where(np.isfinite(noise) & (noise >= 0), noise, 0)


def _labelled(noise: NDArray[Any], frame: pd.DataFrame) -> pd.DataFrame:
    """An array of the frame's shape as a frame."""
    if noise.ndim == 1 and frame.shape[1] == 1:
        noise = noise[:, None]
    if noise.shape != frame.shape:
        raise ShapeError(
            f"noise_scale has shape {noise.shape}, the data {frame.shape}: give one number, one "
            "per column by name, or one per cell (with the target, where that is apart, as a "
            "column of a DataFrame)."
        )
    columns: list[Hashable] = list(frame.columns)
    return pd.DataFrame(dict(zip(columns, noise.T, strict=True)), index=frame.index)
