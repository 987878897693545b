"""`refine`: a noisy table or series in, the same with less noise out."""

import functools
import platform
import time as clock
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax import __version__, layouts, rules
from denograd_jax._containers import Opened, column_labels, open_container
from denograd_jax._frozen_models import in_user_units, train_backbone
from denograd_jax._prepare import prepare
from denograd_jax._problems import Problem, pose_rows, pose_series
from denograd_jax._refinement import Refinement
from denograd_jax._refiner import Info, State, refiner
from denograd_jax._run import Solution, Status, run
from denograd_jax._tables import Table, listed, read_table, write_back
from denograd_jax._timeline import Timeline, read_timeline
from denograd_jax._types import Model
from denograd_jax.errors import ColumnError, UnsupportedError
from denograd_jax.layouts import Data, Rows
from denograd_jax.rules import Rule

__all__ = ["Progress", "choose_rule", "refine"]

ROUNDING = 4 * np.finfo(np.float32).eps

Floats: TypeAlias = NDArray[np.float64]
RuleName: TypeAlias = Literal["unit_step", "gauss_newton"]


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


_RULES: dict[str, Callable[[float, float], Rule]] = {
    "unit_step": rules.unit_step,
    "gauss_newton": rules.gauss_newton,
}


class Progress(Protocol):
    """Called as work goes on: the stage ("train", "refine"), how much is done, and of how much."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def refine(
    data: Any,
    target: Any = None,
    *,
    model: Any = None,
    window: int | None = None,
    horizon: int = 1,
    stride: int = 1,
    time: Hashable | None = None,
    groups: Any = None,
    frozen: Any = (),
    rule: RuleName | Rule | None = None,
    step_size: float | None = None,
    tolerance: float | None = None,
    max_steps: int | None = None,
    max_epochs: int | None = None,
    seed: int = 0,
    round_integers: bool = False,
    progress: Progress | None = None,
) -> Refinement:
    """Reduce the noise of a table, or with `window` of a series, by a frozen model's gradients.

    Columns are standardised, a backbone is trained unless a model is given, every row or window
    is moved toward what the model has learnt, and the result comes back in the user's units, in
    the container given. NaN stays NaN; text, categories, booleans, 0/1 indicators and dates stay
    as they are. The caller's data and model are not changed.

    Look-ahead: for rows no; for series yes, a value is corrected by windows that reach past it.

    Args:
        data: DataFrame; Series; NumPy array `(rows, columns)` or `(rows,)`.
        target: Column(s) that the others explain; or an array or Series of as many rows. Rows
            need one. A series without one predicts every movable column from the window before.
        model: What to trust: the name of a backbone to train (`backbones.names`); or a trained
            model (whatever `as_model` takes), which gets the numeric columns other than the
            target, for a series all numeric columns, in the user's units and the data's order; but
            integers that number the rows only if they are named in `frozen`.
        window: Steps that the model looks back on; makes the data a series.
        horizon: Steps from the window's last to its target.
        stride: Steps from one window to the next, counted from the first row.
        time: Column, or named level of the index, of time stamps. Not moved, unseen by the model.
            For a series they are checked for order, and windows do not cross gaps.
        groups: Column(s), or level(s) of the index, that tell the series of a panel apart. Windows
            do not cross them.
        frozen: Column(s) that inform the model but are not moved.
        rule: How instances move; a name, or a rule from `denograd_jax.rules`.
        step_size: The rule's step size, in standard deviations (`unit_step`) or as a fraction.
        tolerance: Residual, in standard deviations of the target, that is left as it is.
        max_steps: Most refinement steps.
        max_epochs: Most training epochs of the backbone.
        seed: Of the backbone's initial weights and the order of its batches.
        round_integers: Whether integer columns stay integer; else those that moved become float.
        progress: Called as training and refinement go on.

    Returns:
        `Refinement`: `.data`, `.changes`, `.summary()`, `.report(path)`.

    Raises:
        DenogradError: For data, columns or models that cannot be used; the message says why.

    Example:
        >>> import numpy as np
        >>> t = np.arange(300.0)
        >>> noisy = np.sin(t / 8) + 0.2 * np.random.default_rng(0).normal(size=300)
        >>> refine(noisy, window=16, max_epochs=3).data.shape
        (300,)
    """
    started = clock.perf_counter()
    counts = {"window": window, "max_steps": max_steps, "max_epochs": max_epochs}
    _refuse_fractions(
        {"horizon": horizon, "stride": stride, "seed": seed}
        | {name: count for name, count in counts.items() if count is not None}
    )
    opened = open_container(data, target)
    roles = _read_roles(opened, time, groups, frozen)
    task = _read_task(opened, roles, window, horizon, stride)
    chosen, steps, rule_settings = choose_rule(
        rule, step_size, tolerance, max_steps, task.problem.kind
    )
    prepared = prepare(task.problem.layout, *task.problem.arrays)
    frozen_model, model_settings = _freeze(model, task, prepared, seed, max_epochs, progress)
    solution, infos = _solve(chosen, frozen_model, task.problem, steps, progress)
    settings = {
        **_data_settings(task),
        **model_settings,
        **rule_settings,
        "seed": seed,
        **_provenance(clock.perf_counter() - started),
    }
    return _record(task, prepared, solution, infos, settings, round_integers=round_integers)


class Roles(NamedTuple):
    """What the user said of columns other than the target."""

    time: Hashable | None
    groups: tuple[Hashable, ...]
    frozen: tuple[Hashable, ...]

    @property
    def aside(self) -> tuple[Hashable, ...]:
        """Columns that neither move nor inform."""
        return self.groups if self.time is None else (*self.groups, self.time)


def _read_roles(opened: Opened, time: Any, groups: Any, frozen: Any) -> Roles:
    frame = opened.frame
    stamps = column_labels(frame, time, "time", levels=True)
    if len(stamps) > 1:
        raise ColumnError(f"time must be one column, not {len(stamps)}: {list(stamps)}")
    roles = Roles(
        stamps[0] if stamps else None,
        column_labels(frame, groups, "group", levels=True),
        column_labels(frame, frozen, "frozen"),
    )
    tasks = (*opened.targets, *roles.aside)
    for label in tasks:
        if tasks.count(label) > 1:
            raise ColumnError(f"column {label!r} can be only one of these: target, time, or group.")
    return roles


class Task(NamedTuple):
    """The data as given, as numbers, in time, and as arrays to refine."""

    opened: Opened
    table: Table
    timeline: Timeline | None
    problem: Problem


def _read_task(opened: Opened, roles: Roles, window: int | None, horizon: int, stride: int) -> Task:
    table = read_table(opened.frame, opened.targets, roles.frozen, roles.aside)
    if window is None:
        if (horizon, stride) != (1, 1):
            raise UnsupportedError("horizon and stride are for a series: give window= as well.")
        return Task(opened, table, None, pose_rows(table, opened.targets))
    timeline = read_timeline(opened.frame, roles.time, roles.groups)
    layout = layouts.windows(window, horizon, stride)
    problem = pose_series(table, opened.targets, timeline, layout, apart=opened.apart)
    return Task(opened, table, timeline, problem)


def _freeze(
    model: Any,
    task: Task,
    prepared: Data,
    seed: int,
    max_epochs: int | None,
    progress: Progress | None,
) -> tuple[Model, dict[str, object]]:
    """The model to trust, and how it came about."""
    if model is not None and not isinstance(model, str):
        settings: dict[str, object] = {"model": f"given: {type(model).__name__}"}
        return in_user_units(model, task.table, task.problem), settings
    name = model or "mlp"
    trained = train_backbone(
        name,
        task.problem,
        prepared,
        seed=seed,
        max_epochs=max_epochs,
        progress=None if progress is None else functools.partial(progress, "train"),
    )
    return trained.model, {
        "model": f"{name} backbone, trained on this data",
        "epochs": f"{trained.epochs}, best {trained.best_epoch + 1}",
        "validation loss": round(float(trained.validation_loss[trained.best_epoch]), 4),
    }


def choose_rule(
    rule: RuleName | Rule | None,
    step_size: float | None,
    tolerance: float | None,
    max_steps: int | None,
    kind: str,
) -> tuple[Rule, int, dict[str, object]]:
    """The rule, the most steps to take, and the settings to print."""
    if isinstance(rule, Rule):
        if step_size is not None or tolerance is not None:
            raise UnsupportedError(
                "give step_size and tolerance to the rule itself, not beside it."
            )
        steps = _DEFAULTS[kind, "unit_step"].max_steps if max_steps is None else max_steps
        numbers = {k: float(v) for k, v in rule.hyperparameters.items()}
        return rule, steps, {"rule": "given", **numbers, "max_steps": steps}
    name = "unit_step" if rule is None else rule
    if name not in list(_RULES):  # a list compares what has no hash
        raise UnsupportedError(f'rule must be "unit_step", "gauss_newton" or a Rule, not {rule!r}.')
    given: dict[str, Any] = {"step_size": step_size, "tolerance": tolerance, "max_steps": max_steps}
    chosen = _DEFAULTS[kind, name]._replace(**{k: v for k, v in given.items() if v is not None})
    _refuse_numbers(chosen.step_size, chosen.tolerance)
    settings = {"rule": name, **chosen._asdict()}
    return _RULES[name](chosen.step_size, chosen.tolerance), chosen.max_steps, settings


def _refuse_fractions(counts: Mapping[str, Any]) -> None:
    for name, count in counts.items():
        whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
        if not whole or not 0 <= count < 2**31:
            raise UnsupportedError(f"{name} must be a whole number, 0 or more, not {count!r}.")


def _refuse_numbers(step_size: Any, tolerance: Any) -> None:
    """Also NaN fails these comparisons."""
    number = int | float | np.number
    if not isinstance(step_size, number) or not 0 < step_size < np.inf:
        raise UnsupportedError(f"step_size must be a positive number, not {step_size!r}.")
    if not isinstance(tolerance, number) or not 0 <= tolerance < np.inf:
        raise UnsupportedError(f"tolerance must be a number, 0 or more, not {tolerance!r}.")


def _solve(
    rule: Rule, model: Model, problem: Problem, max_steps: int, progress: Progress | None
) -> tuple[Solution[State, Info], tuple[Info, Info]]:
    """Run, and look at the residuals before the first and after the last step.

    Always with a report, hence step by step: the step is compiled for the residuals anyway.
    """
    r = refiner(model, rule, problem.layout)
    state = r.init(*problem.arrays)
    _, before = r.step(model.params, state)

    def report(step: int, max_steps: int, info: Info) -> None:
        del info
        if progress is not None:
            progress("refine", step, max_steps)

    solution = run(r, model.params, state, max_steps, progress=report)
    _, after = r.step(model.params, solution.state)
    return solution, (before, after)


def _record(
    task: Task,
    prepared: Data,
    solution: Solution[State, Info],
    infos: tuple[Info, Info],
    settings: dict[str, object],
    *,
    round_integers: bool,
) -> Refinement:
    """Put what came out back into the user's units, rows and containers."""
    opened, table, timeline, problem = task
    index = opened.frame.index
    data = solution.state.data
    moved_x = _moved(prepared.x, data.x)
    moved_y = None if prepared.y is None or data.y is None else _moved(prepared.y, data.y)
    change = problem.to_table(moved_x, moved_y, len(table.labels))
    refined, after, notes = write_back(
        opened.frame, table, change * table.scale, round_integers=round_integers
    )
    shown = np.flatnonzero(table.movable)
    labels = pd.Index([table.labels[j] for j in shown], tupleize_cols=False)
    residuals = [_residual_table(info, table, problem) for info in infos]
    of_cells = [problem.residuals_of_cells(r)[:, shown] for r in residuals]
    return Refinement(
        data=opened.close(refined),
        target=opened.close_target(refined),
        before=pd.DataFrame(table.values[:, shown], index=index, columns=labels),
        after=pd.DataFrame(after[:, shown], index=index, columns=labels),
        residuals=_residual_frame(index, table, problem, residuals),
        scale=dict(zip(table.labels, table.scale, strict=True)),
        status=Status(int(solution.status)),
        steps=int(solution.steps),
        look_ahead=timeline is not None,
        kind=problem.kind,
        settings=settings,
        notes=[*table.notes, *([] if timeline is None else timeline.notes), *notes],
        time=None if timeline is None else timeline.time,
        groups=None if timeline is None else timeline.groups,
        cell_residuals=(of_cells[0], of_cells[1]),
    )


def _moved(before: jax.Array, after: jax.Array) -> Floats:
    """How far cells moved; those that came back but for rounding did not."""
    start = np.asarray(before, np.float64)
    moved: Floats = np.asarray(after) - start
    moved[np.abs(moved) <= ROUNDING * np.maximum(np.abs(start), 1)] = 0
    return moved


def _residual_table(info: Info, table: Table, problem: Problem) -> Floats:
    """Residuals `(N, n)` in the user's units; NaN where there is no target or none is finite."""
    residual = np.asarray(info.residual, np.float64) * table.scale[problem.targets]
    residual[~np.asarray(info.valid)[:, None] | ~np.isfinite(residual)] = np.nan
    found = problem.residuals_to_table(residual, len(table.labels))
    found[np.isnan(table.values)] = np.nan
    return found


def _residual_frame(
    index: pd.Index, table: Table, problem: Problem, residuals: list[Floats]
) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "label": index,
                "target": str(table.labels[j]),
                "before": residuals[0][:, j],
                "after": residuals[1][:, j],
            }
        )
        for j in problem.targets
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=["before"], ignore_index=True)


def _data_settings(task: Task) -> dict[str, object]:
    _, table, timeline, problem = task
    settings: dict[str, object] = {
        "rows": len(table.values),
        "columns moved": int(table.movable.sum()),
        "targets": listed([table.labels[j] for j in problem.targets]),
    }
    if isinstance(problem.layout, Rows) or timeline is None:
        return settings
    return settings | {
        "window": problem.layout.length,
        "horizon": problem.layout.horizon,
        "stride": problem.layout.stride,
        "stretches without a gap": int(timeline.segments[-1]) + 1,
        "gaps": timeline.gaps,
    }


def _provenance(seconds: float) -> dict[str, object]:
    return {
        "seconds": round(seconds, 1),
        "device": jax.devices()[0].device_kind,
        "versions": f"denograd-jax {__version__}, jax {jax.__version__}, "
        f"Python {platform.python_version()}",
    }
