"""`refine`: a noisy table or series in, the same with less noise out."""

import functools
import platform
import time as clock
from collections.abc import Hashable
from importlib.metadata import version
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np
import pandas as pd

from denograd_jax import layouts, rules
from denograd_jax._containers import Opened, column_labels, open_container
from denograd_jax._frozen_models import in_user_units, train_backbone
from denograd_jax._problems import Problem, pose_rows, pose_series
from denograd_jax._refinement import Refinement
from denograd_jax._refiner import Info, Refiner, prepare, refiner
from denograd_jax._run import Solution, Status, run
from denograd_jax._tables import Table, read_table, write_back
from denograd_jax._timeline import Timeline, read_timeline
from denograd_jax._types import Model
from denograd_jax.errors import ColumnError, UnsupportedError
from denograd_jax.layouts import Data, Rows
from denograd_jax.rules import Rule

__all__ = ["Progress", "refine"]

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
            target, for a series all numeric columns, in the user's units and the data's order.
        window: Steps that the model looks back on; makes the data a series.
        horizon: Steps from the window's last to its target.
        stride: Steps from one window to the next, counted from the first row.
        time: Column of time stamps: checked for order; windows do not cross gaps. Not moved.
        groups: Column(s) that tell the series of a panel apart. Windows do not cross them.
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
    opened = open_container(data, target)
    roles = _read_roles(opened, time, groups, frozen)
    table = read_table(opened.frame, opened.targets, roles.frozen, roles.aside)
    timeline = None
    if window is None:
        problem = pose_rows(table, opened.targets)
    else:
        timeline = read_timeline(opened.frame, roles.time, roles.groups)
        layout = layouts.windows(window, horizon, stride)
        problem = pose_series(table, opened.targets, timeline, layout, apart=opened.apart)
    chosen, steps, rule_settings = _choose_rule(rule, step_size, tolerance, max_steps, problem.kind)
    prepared = prepare(problem.layout, *problem.arrays)
    frozen_model, model_settings = _freeze(
        model, table, problem, prepared, seed, max_epochs, progress
    )
    r = refiner(frozen_model, rule=chosen, layout=problem.layout)
    solution, infos = _solve(r, frozen_model, problem, steps, progress)
    settings = {
        **_data_settings(table, problem, timeline),
        **model_settings,
        **rule_settings,
        "seed": seed,
        **_provenance(clock.perf_counter() - started),
    }
    return _record(
        opened,
        table,
        problem,
        timeline,
        solution,
        infos,
        settings,
        prepared=prepared,
        round_integers=round_integers,
    )


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
    stamps = column_labels(frame, time, "time")
    roles = Roles(
        stamps[0] if stamps else None,
        column_labels(frame, groups, "group"),
        column_labels(frame, frozen, "frozen"),
    )
    for label in roles.aside:
        if label in opened.targets:
            raise ColumnError(f"column {label!r} cannot be the target and tell time or group too.")
    return roles


def _freeze(
    model: Any,
    table: Table,
    problem: Problem,
    prepared: Data,
    seed: int,
    max_epochs: int | None,
    progress: Progress | None,
) -> tuple[Model, dict[str, object]]:
    """The model to trust, and how it came about."""
    if model is not None and not isinstance(model, str):
        return in_user_units(model, table, problem), {"model": f"given: {type(model).__name__}"}
    name = model or "mlp"
    trained = train_backbone(
        name,
        problem,
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


def _choose_rule(
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
    if (kind, name) not in _DEFAULTS:
        raise UnsupportedError(f'rule must be "unit_step", "gauss_newton" or a Rule, not {rule!r}.')
    given = {"step_size": step_size, "tolerance": tolerance, "max_steps": max_steps}
    chosen = _DEFAULTS[kind, name]._replace(**{k: v for k, v in given.items() if v is not None})
    _refuse_numbers(chosen)
    build = {"unit_step": rules.unit_step, "gauss_newton": rules.gauss_newton}[name]
    settings = {"rule": name, **chosen._asdict()}
    return build(chosen.step_size, chosen.tolerance), chosen.max_steps, settings


def _refuse_numbers(chosen: Defaults) -> None:
    """Also NaN fails these comparisons."""
    if not 0 < chosen.step_size < np.inf:
        raise UnsupportedError(f"step_size must be a positive number, not {chosen.step_size}.")
    if not 0 <= chosen.tolerance < np.inf:
        raise UnsupportedError(f"tolerance must be 0 or more, not {chosen.tolerance}.")
    if chosen.max_steps < 0:
        raise UnsupportedError(f"max_steps must be 0 or more, not {chosen.max_steps}.")


def _solve(
    r: Refiner, model: Model, problem: Problem, max_steps: int, progress: Progress | None
) -> tuple[Solution, tuple[Info, Info]]:
    """Run, and look at the residuals before the first and after the last step."""
    state = r.init(*problem.arrays)
    _, before = r.step(model.params, state)
    solution = run(
        r,
        model.params,
        state,
        max_steps,
        progress=None
        if progress is None
        else lambda step, total, _: progress("refine", step, total),
    )
    _, after = r.step(model.params, solution.state)
    return solution, (before, after)


def _record(
    opened: Opened,
    table: Table,
    problem: Problem,
    timeline: Timeline | None,
    solution: Solution,
    infos: tuple[Info, Info],
    settings: dict[str, object],
    *,
    prepared: Data,
    round_integers: bool,
) -> Refinement:
    """Put what came out back into the user's units, rows and containers."""
    data = solution.state.data
    moved_x = np.asarray(data.x, np.float64) - np.asarray(prepared.x)
    moved_y = None if data.y is None else np.asarray(data.y, np.float64) - np.asarray(prepared.y)
    change = problem.to_table(moved_x, moved_y, len(table.labels)) * table.scale
    refined, notes = write_back(opened.frame, table, change, round_integers=round_integers)
    shown = np.flatnonzero(table.movable)
    labels = pd.Index([table.labels[j] for j in shown], tupleize_cols=False)
    frames = [
        pd.DataFrame(values[:, shown], index=opened.frame.index, columns=labels)
        for values in (table.values, table.values + change)
    ]
    residuals = [_residual_table(info, table, problem) for info in infos]
    return Refinement(
        data=opened.close(refined),
        target=opened.close_target(refined),
        before=frames[0],
        after=frames[1],
        residuals=_residual_frame(opened.frame, table, problem, residuals),
        scale=dict(zip(labels, table.scale[shown], strict=True)),
        status=Status(int(solution.status)),
        steps=int(solution.steps),
        look_ahead=timeline is not None,
        kind=problem.kind,
        settings=settings,
        notes=[*table.notes, *notes],
        time=None if timeline is None else timeline.time,
        groups=None if timeline is None else timeline.groups,
        cell_residuals=(
            _cell_residuals(residuals[0], problem)[:, shown],
            _cell_residuals(residuals[1], problem)[:, shown],
        ),
    )


def _residual_table(info: Info, table: Table, problem: Problem) -> np.ndarray:
    """Residuals `(N, n)` in the user's units, in the row and column of each target; else NaN."""
    found = np.full((len(table.values), len(table.labels)), np.nan)
    residual = np.asarray(info.residual, np.float64) * table.scale[problem.targets]
    residual[~np.asarray(info.valid)] = np.nan
    rows = problem.target_rows(len(residual))
    found[rows[:, None], problem.targets] = residual
    found[np.isnan(table.values)] = np.nan
    return found


def _cell_residuals(residuals: np.ndarray, problem: Problem) -> np.ndarray:
    """For each cell the residual of its own column, else the largest one of its row."""
    of_targets = residuals[:, problem.targets]
    largest = np.nan_to_num(np.abs(of_targets), nan=-1).argmax(axis=1)
    of_row = of_targets[np.arange(len(residuals)), largest]
    is_target = np.isin(np.arange(residuals.shape[1]), problem.targets)
    return np.where(is_target, residuals, of_row[:, None])


def _residual_frame(
    frame: pd.DataFrame, table: Table, problem: Problem, residuals: list[np.ndarray]
) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "label": frame.index,
                "target": str(table.labels[j]),
                "before": residuals[0][:, j],
                "after": residuals[1][:, j],
            }
        )
        for j in problem.targets
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=["before"], ignore_index=True)


def _data_settings(table: Table, problem: Problem, timeline: Timeline | None) -> dict[str, object]:
    settings: dict[str, object] = {
        "rows": len(table.values),
        "columns moved": int(table.movable.sum()),
        "targets": ", ".join(str(table.labels[j]) for j in problem.targets),
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
        "versions": f"denograd-jax {version('denograd-jax')}, jax {jax.__version__}, "
        f"Python {platform.python_version()}",
    }
