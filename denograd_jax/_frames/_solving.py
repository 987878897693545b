"""A plan carried out: steps of a refinement, with or without look-ahead, down to the table."""

import dataclasses
import logging
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray
from scipy.special import softmax

from denograd_jax import rules
from denograd_jax._core._causal import causal_refiner
from denograd_jax._core._constrained import constrained
from denograd_jax._core._prepare import prepare
from denograd_jax._core._refiner import Refiner, refiner
from denograd_jax._core._run import Status, run
from denograd_jax._frames._classes import Judgement
from denograd_jax._frames._imputation import predictions
from denograd_jax._frames._noise_found import FoundNoise, without_spikes
from denograd_jax._frames._planning import Plan
from denograd_jax._frames._problems import Problem
from denograd_jax._frames._reading import Reading
from denograd_jax._frames._row_density import RowDensity
from denograd_jax._losses import brier, cross_entropy
from denograd_jax._types import Loss, Model
from denograd_jax.classification import simplex_targets
from denograd_jax.errors import UnsupportedError
from denograd_jax.layouts import Data, Rows, Windows
from denograd_jax.models import gaussian, gaussian_nll, incomplete_gaussian_nll

__all__ = ["Latest", "Outcome", "solve"]

ROUNDING = 4 * np.finfo(np.float32).eps
FARTHEST = 3.0
"""Most that the rule "auto" moves a cell, in standard deviations of its column's noise (of the
largest, where cells differ). Gaussian noise is hardly ever more; what would move further is no such
noise, or stands beside a gross error."""

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

logger = logging.getLogger("denograd_jax")


class Outcome(NamedTuple):
    """What came of a refinement, in the table's rows and columns.

    Attributes:
        values: The numbers `(N, n)` in the user's units; NaN where a cell is missing still.
        residuals: Prediction minus value before and after, `(N, q)` each, in the user's units; of
            classes 1 less the probability of the label, `(N, 1)`; NaN where no instance ends on the
            row.
        gate: Mean weight of the instances that each cell belongs to, `(N, n)`.
        windows: How many of them moved, `(N, n)`.
        status: Why it ended.
        steps: Steps taken.
        judgement: What the model says of the classes, where the target is of such.
    """

    values: Floats
    residuals: tuple[Floats, Floats]
    gate: NDArray[np.float32]
    windows: NDArray[np.int32]
    status: Status
    steps: int
    judgement: Judgement | None = None


class _Found(NamedTuple):
    """Refined arrays, what the instances said, and the data that the steps began with."""

    x: Any
    y: Any
    residuals: tuple[Any, Any]
    valid: Any
    gate: Any
    status: Status
    steps: int
    prepared: Data


class Latest(NamedTuple):
    """Of a series that is still coming in: what to refine, and what to keep.

    Attributes:
        rows: How many of its last rows to refine; those before them are history.
        memory: The least length to pad it to, so that one program serves from the first row on.
    """

    rows: int
    memory: int


def solve(
    model: Model,
    reading: Reading,
    plan: Plan,
    movable: Flags,
    noise: FoundNoise | RowDensity | None = None,
    latest: Latest | None = None,
) -> Outcome:
    """Refine the cells of a reading that may move.

    Args:
        model: The frozen model, in standardised units.
        reading: The data.
        plan: What to do with it.
        movable: Cells that steps may move, `(N, n)`; a part of those of the plan.
        noise: What is known of the noise, for an automatic plan.
        latest: Of a series that is still coming in; it may have no window yet.
    """
    loss = _loss(reading, plan)
    given, asked, trusted = reading, plan, model
    if plan.automatic:
        model, plan, loss = _by_noise(model, plan, noise, reading)
        if noise is not None and asked.noise is None and not plan.causal:
            # a spike of a series is told by what comes after it
            reading = _spikes_replaced(reading, asked, movable, noise)
    front = 0 if latest is None else latest.memory
    problem = reading.pose(movable, labels=plan.labels, front=front if plan.causal else None)
    if plan.automatic and isinstance(noise, RowDensity):
        problem = noise.without_gaps(problem, reading)
    elif plan.automatic and isinstance(noise, FoundNoise):
        x_weight, y_weight = noise.weights(problem)
        rule = rules.tweedie(x_weight=x_weight, y_weight=y_weight)
        plan = dataclasses.replace(plan, rule=rule)
    before = problem
    if plan.causal:
        found = _in_time(model, problem, reading, plan, loss, latest)
    else:
        before = problem if reading is given else given.pose(movable)
        if reading is not given and isinstance(noise, RowDensity):
            before = noise.without_gaps(before, given)
        found = _at_once(model, problem, reading, plan, loss, before)
    if plan.automatic and found.status == Status.max_steps:
        found = found._replace(status=Status.converged)  # its one step is all there is to do
    logger.info("refined in %d steps: %s", found.steps, found.status.advice)
    outcome = _in_table(found, model, problem, reading, plan, movable)
    if reading.table.one_hot is not None:
        outcome = _with_judgement(outcome, trusted, found, before, reading.table.one_hot, plan)
    if reading is given:
        return outcome
    # Of the given values, not of those that stood in for spikes.
    return outcome._replace(values=asked.constraints.keep(outcome.values, given.table, movable))


def _loss(reading: Reading, plan: Plan) -> Loss:
    """What steps descend, unless they go by a density."""
    if not reading.design.classes:
        return optax.losses.squared_error
    return cross_entropy if plan.labels is None else brier


def _spikes_replaced(
    reading: Reading, plan: Plan, movable: Flags, noise: FoundNoise | RowDensity
) -> Reading:
    """The data with spikes replaced, as far as the plan allows; itself where there is none."""
    if isinstance(noise, RowDensity):
        table = noise.without_spikes(reading, movable).table
    else:
        table = without_spikes(reading, movable).table
    values = np.where(
        np.nan_to_num(table.values) == np.nan_to_num(reading.table.values),
        reading.table.values,
        plan.constraints.keep(table.values, reading.table, movable),
    )
    if np.array_equal(values, reading.table.values, equal_nan=True):
        return reading
    return reading._replace(table=dataclasses.replace(table, values=values))


def _by_noise(
    model: Model, plan: Plan, found: FoundNoise | RowDensity | None, reading: Reading
) -> tuple[Model, Plan, Loss]:
    """The model of a density, the plan with the noise that was found, and the density's loss."""
    if found is None:
        raise UnsupportedError(
            'this model was fitted without a look at the noise, which rule="auto" needs: fit it '
            'anew, or choose another rule, such as rule="unit_step".'
        )
    told = plan.noise is not None
    noise = found.scale if plan.noise is None else plan.noise
    most = np.minimum(plan.constraints.most, FARTHEST * noise.max(axis=0))
    constraints = dataclasses.replace(plan.constraints, most=most)
    plan = dataclasses.replace(plan, noise=noise, constraints=constraints)
    if isinstance(found, RowDensity):
        found = found.blurred(noise) if told else found
        model, loss = found.around(model)
        return model, plan, loss
    incomplete = reading.misses_targets()
    loss = incomplete_gaussian_nll if incomplete else gaussian_nll
    return gaussian(model, found.covariance), plan, loss


def _at_once(
    model: Model, problem: Problem, reading: Reading, plan: Plan, loss: Loss, given: Problem
) -> _Found:
    """Steps with the residuals before the first and after the last of them.

    Always on the host: the step is compiled for the residuals anyway, and Ctrl-C gets through.
    Those before are of the problem `given`, which is the same one unless spikes were replaced.
    """
    r: Refiner[Any, Any] = refiner(model, plan.rule, problem.layout, loss)
    limits = plan.constraints.limits(reading.table, problem)
    if limits is not None:
        r = constrained(r, limits)
    if plan.labels is not None:
        r = simplex_targets(r)
    _, before = r.step(model.params, r.init(*given.arrays, *_noise(plan, given)))
    state = r.init(*problem.arrays, *_noise(plan, problem))
    gates = jnp.zeros_like(before.gate)

    def report(step: int, max_steps: int, info: Any) -> None:
        nonlocal gates
        gates = gates + info.gate
        logger.debug("step %d of %d: %d instances move", step, max_steps, info.active)
        if plan.progress is not None:
            plan.progress("refine", step, max_steps)

    solution = run(r, model.params, state, plan.max_steps, progress=report)
    _, after = r.step(model.params, solution.state)
    data, steps = solution.state.data, int(solution.steps)
    return _Found(
        data.x,
        data.y,
        (before.residual, after.residual),
        before.valid,
        gates / max(steps, 1),
        Status(int(solution.status)),
        steps,
        prepare(problem.layout, *problem.arrays),
    )


# Under jit nothing is refused: a series that is still coming in may have no window yet.
_prepare_anything = jax.jit(prepare, static_argnums=0)


def _in_time(
    model: Model,
    problem: Problem,
    reading: Reading,
    plan: Plan,
    loss: Loss,
    latest: Latest | None,
) -> _Found:
    """Each step from those before it, and from `lag` behind it."""
    assert isinstance(problem.layout, Windows)
    causal = causal_refiner(
        model, plan.rule, problem.layout, lag=plan.lag, max_steps=plan.max_steps, loss=loss
    )
    arrays = (*problem.arrays, *_noise(plan, problem))
    if latest is None:
        data, start = causal.init(*arrays), 0
    else:
        data = _prepare_anything(problem.layout, *arrays)
        start = max(len(problem.order) - latest.rows, 0)
    limits = plan.constraints.limits(reading.table, problem)
    found = causal.refine(model.params, data, first=start, limits=limits)
    steps = len(problem.order)

    def put(values: Any, before: Any) -> Any:
        """Values of the steps refined, behind those of the history."""
        values = np.asarray(values)
        whole = np.broadcast_to(np.asarray(before, values.dtype), (steps, *values.shape[1:])).copy()
        whole[start:] = values
        return whole

    # The window of a step is the one that predicts it: from the first target on.
    instances = slice(problem.layout.span - 1, None)
    before = put(found.residual_before, np.nan)[instances]
    valid = ~np.isnan(before).all(axis=1)
    statuses, taken = (put(v, 0)[instances][valid] for v in (found.status, found.steps))
    if plan.progress is not None:
        plan.progress("refine", plan.max_steps, plan.max_steps)
    return _Found(
        put(found.x, data.x),
        None if found.y is None else put(found.y, data.y),
        (before, put(found.residual_after, np.nan)[instances]),
        valid,
        put(found.gate, 0)[instances],
        Status(int(statuses.max(initial=0))),
        int(taken.max(initial=0)),
        data,
    )


def _noise(plan: Plan, problem: Problem) -> tuple[Any, Any]:
    if plan.noise is None:
        return None, None
    return problem.arrange(plan.noise.astype(np.float32), 1.0)


def _in_table(
    found: _Found,
    model: Model,
    problem: Problem,
    reading: Reading,
    plan: Plan,
    movable: Flags,
) -> Outcome:
    """What was found, in the user's units, rows and columns."""
    table = reading.table
    columns = len(table.labels)
    prepared = found.prepared
    x, y = np.asarray(found.x), None if found.y is None else np.asarray(found.y)
    if plan.impute and y is not None and problem.targets:
        y = _imputed(y, model, problem, prepared, x)
    moved_y = None if y is None else _moved(prepared.y, y)
    change = problem.to_table(_moved(prepared.x, x), moved_y, columns) * table.scale
    values = table.values + change
    if plan.impute:
        refined = problem.to_table(x, y, columns) * table.scale + table.mean
        values = np.where(np.isnan(table.values) & movable, refined, values)
    values = plan.constraints.keep(values, table, plan.movable)
    residuals = [_residuals(r, found.valid, problem, reading) for r in found.residuals]
    gate, windows = problem.say(np.asarray(found.gate), np.asarray(found.valid), columns)
    return Outcome(values, (residuals[0], residuals[1]), gate, windows, found.status, found.steps)


def _with_judgement(
    outcome: Outcome,
    model: Model,
    found: _Found,
    given: Problem,
    one_hot: NDArray[np.float32],
    plan: Plan,
) -> Outcome:
    """The outcome with what the classifier says of the rows as given, and of those refined."""
    rows = np.flatnonzero(given.order >= 0)
    data = prepare(given.layout, *given.arrays)
    refined = data._replace(x=jnp.asarray(found.x))
    logits = [predictions(model, given.layout, of, rows) for of in (data, refined)]
    before, after = (softmax(of.astype(np.float64), axis=1) for of in logits)
    labels = None
    if plan.labels is not None:
        labels = np.where(np.isnan(one_hot), np.nan, np.asarray(found.y, np.float64)[rows])
        labels /= labels.sum(axis=1, keepdims=True)  # they were projected in single precision
    missing = [1 - (of * one_hot).sum(axis=1, keepdims=True) for of in (before, after)]
    return outcome._replace(
        residuals=(missing[0], missing[1]), judgement=Judgement(before, after, labels)
    )


def _moved(before: Any, after: NDArray[Any]) -> Floats:
    """How far cells moved; those that came back but for rounding, or are missing, did not."""
    start = np.asarray(before, np.float64)
    moved: Floats = np.asarray(after, np.float64) - start
    moved[~(np.abs(moved) > ROUNDING * np.maximum(np.abs(start), 1))] = 0
    return moved


def _imputed(
    y: NDArray[Any], model: Model, problem: Problem, prepared: Data, x: NDArray[Any]
) -> NDArray[Any]:
    """Targets with the model's prediction where they are missing; NaN where there is none."""
    assert problem.y is not None
    stride = problem.layout.stride
    first = 0 if isinstance(problem.layout, Rows) else problem.layout.span - 1
    behind = np.flatnonzero(np.isnan(problem.y).any(axis=1)) - first
    instances = behind[(behind >= 0) & (behind % stride == 0)] // stride
    filled = np.where(np.isnan(problem.y), np.nan, y)
    if len(instances):
        refined = prepared._replace(x=jnp.asarray(np.nan_to_num(x)))
        rows = first + instances * stride
        found = predictions(model, problem.layout, refined, instances)
        filled[rows] = np.where(np.isnan(problem.y[rows]), found, filled[rows])
    return filled


def _residuals(residual: Any, valid: Any, problem: Problem, reading: Reading) -> Floats:
    """Residuals `(N, q)` in the user's units; NaN where there is no target or none is finite."""
    residual = np.asarray(residual, np.float64)[:, : len(problem.targets)].copy()
    residual[~np.asarray(valid)[:, None] | ~np.isfinite(residual)] = np.nan
    found = problem.to_rows(residual)
    found[np.isnan(reading.table.values[:, problem.targets])] = np.nan
    scaled: Floats = found * reading.table.scale[:, problem.targets]
    return scaled
