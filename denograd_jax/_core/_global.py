"""Refinement of the whole data set as one optimisation problem."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from denograd_jax._core._instances import InputGradients, batch_gradients
from denograd_jax._core._prepare import init_of
from denograd_jax._core._refiner import Refiner, as_static_model
from denograd_jax._core._sharding import Blocks, blocks_over
from denograd_jax._core._sweep import Sweep, sweep_with
from denograd_jax._losses import as_loss, is_of_labels
from denograd_jax._numbers import nonnegative
from denograd_jax._types import Loss, Model, Params, Predict, Scalar, Targets
from denograd_jax.errors import ShapeError
from denograd_jax.layouts import Data, Layout, Windows
from denograd_jax.rules import Move, Rule

__all__ = ["GlobalInfo", "GlobalState", "global_refiner"]

# The published Adam, but for its epsilon: the gradient of a mean over all cells shrinks with their
# number, and must not fall below it. A root's epsilon keeps derivatives of cells without a gradient
# finite; both change nothing that float32 resolves.
_ADAM = optax.adam(0.05, eps=1e-14, eps_root=1e-36)


class Variables(NamedTuple):
    """What is optimised: x, and y unless it is held fixed or part of x."""

    x: jax.Array
    y: jax.Array | None


class GlobalState(NamedTuple):
    """What the next step needs.

    Attributes:
        data: Values and masks; `data.x` and `data.y` are the refined arrays so far.
        observations: x and y as they were given, which the proximity term holds on to.
        hyperparameters: `proximity` and `tolerance`, traced.
        optimizer: The optimiser's own state.
        objective: Its value at the data before the last step, infinite at first; shape `()`.
        step: Steps taken, shape `()`.
    """

    data: Data
    observations: Variables
    hyperparameters: dict[str, jax.Array]
    optimizer: Any
    objective: Scalar
    step: jax.Array


class GlobalInfo(NamedTuple):
    """What a person wants to know about a step: every field speaks of the data BEFORE it.

    Attributes:
        residual: `f(x) - y` per instance, `(n, q)`; 0 where the target is missing or the instance
            is not valid.
        valid: Which instances there are, `(n,)`.
        objective: `misfit + proximity weight * distance`, shape `()`.
        misfit: Mean loss per observed target, `()`.
        distance: Mean squared distance to the observations per observed cell, in units of the
            noise where that is known, `()`.
        active: 0 where the objective changed by less than the tolerance since the step before,
            else 1, `()`.
        nonfinite: How many instances had a residual or gradient that was not finite; they were left
            out, `()`.
        gradient: Of the objective by `(x, y)`, or None unless asked for.
    """

    residual: Targets
    valid: jax.Array
    objective: Scalar
    misfit: Scalar
    distance: Scalar
    active: jax.Array
    nonfinite: jax.Array
    gradient: Variables | None


class _Found(NamedTuple):
    """The objective at some point, its parts and its gradient."""

    objective: Scalar
    misfit: Scalar
    distance: Scalar
    gradient: Variables
    sweep: Sweep


def global_refiner(
    predict: Predict | Model,
    layout: Layout,
    proximity: float | jax.Array = 1.0,
    optimizer: optax.GradientTransformation = _ADAM,
    tolerance: float | jax.Array = 1e-7,
    *,
    loss: Loss | str = optax.losses.squared_error,
    refine_targets: bool = True,
    chunk_size: int | None = None,
    keep_gradient: bool = False,
    mesh: Mesh | None = None,
    axis: str | None = None,
) -> Refiner[GlobalState, GlobalInfo]:
    r"""Build a refinement that minimises one objective over all cells.

    .. math:: \min_z \; \operatorname{mean} L(f(\text{windows}(z)), \text{targets}(z))
       + \lambda \operatorname{mean} (z - z_\text{observed})^2

    Windows are views of one array, so that the chain rule weighs what overlapping windows want; no
    gate, no averaging. It has the shape of `refiner(...)`: `init`, `step`, for `run`. Read as
    statistics it is the maximum a posteriori estimate of a nonlinear autoregressive model, with
    lambda = (cells / targets) * (process variance / measurement variance); 1 is right by luck only.

    Masks: a cell that was not observed has no proximity term, and stays at its fill unless
    `movable_x` says that it may be imputed. Where the noise is known the proximity term is
    the mean of ((z - z_observed) / noise)^2, and a cell with noise 0 does not move.

    Look-ahead: yes; every cell depends on all others.

    Args:
        predict: As `refiner` takes it.
        layout: How instances are cut; `target_columns` in `layouts.windows` makes targets and
            inputs one variable, `consensus` has no say here.
        proximity: Lambda, the weight of the distance to the observations: one number of at least 0.
        optimizer: Any optax optimiser; Adam with 0.05 as published, but with smaller epsilons: the
            gradient of a mean over many cells is small. `optax.lbfgs()` reaches its objective in
            far fewer passes over the data (benchmarks/RESULTS.md), and is handed what its line
            search needs; it cannot be differentiated through. Keep one object: equal optimisers
            made twice compile twice.
        tolerance: `run` ends after the step whose objective differs by less than this from the
            one before; 0 never ends.
        loss: `loss(prediction, target)`, summed over an instance's targets, or a name, as `refiner`
            takes it.
        refine_targets: Whether targets move too.
        chunk_size: Instances in memory at a time; the gradient does not depend on it beyond
            rounding.
        keep_gradient: Whether `GlobalInfo.gradient` is kept; it is as large as the data.
        mesh: Devices to share the steps out to, as in `refiner`.
        axis: The axis of the mesh to share out along; its first unless given.

    Returns:
        `Refiner(init, step)` with `GlobalState` and `GlobalInfo`; the arguments of `init` are those
        of `refiner`'s.

    Raises:
        ShapeError, DataError: By `init`, for arrays that do not fit or cannot be refined.
        ModelError: By `step`, if the model's output does not match the target.

    Source:
        The description of the PyTorch package denograd 2.0.0; as weak-constraint 4D-Var, Trémolet
        2006.

    Example:
        >>> import jax.numpy as jnp
        >>> from denograd_jax import global_refiner, layouts, run
        >>> r = global_refiner(lambda w, x: w * x[-1], layouts.windows(1, target_columns=[0]))
        >>> state = r.init(jnp.array([[1.0], [1.0], [4.0], [1.0], [1.0]]))
        >>> print(run(r, jnp.array([1.0]), state, 300).x.ravel().round(2))
        [1.31 1.56 2.26 1.56 1.31]
    """
    if chunk_size is not None and chunk_size < 1:
        raise ShapeError(f"chunk_size must be at least 1, not {chunk_size}.")
    given = nonnegative(proximity=proximity, tolerance=tolerance)
    loss = as_loss(loss)
    refine_targets = refine_targets and not is_of_labels(loss)
    model = as_static_model(predict, loss)
    if isinstance(layout, Windows):  # gradients add up, whatever the layout says of moves
        layout = dataclasses.replace(layout, consensus=None)
    blocks = blocks_over(mesh, axis)
    step = _build_step(
        model.predict,
        model.predict_batch,
        layout,  # type: ignore[arg-type]  # layouts are hashable
        optimizer,
        loss,
        refine_targets,
        chunk_size,
        keep_gradient,
        blocks,
    )

    def begin(data: Data) -> GlobalState:
        dtype = data.x.dtype
        numbers = {name: jnp.array(number, dtype) for name, number in given.items()}
        variables = _variables(data, refine_targets)
        return GlobalState(
            data,
            jax.tree.map(jnp.copy, variables),  # apart from the data, which may be donated
            numbers,
            optimizer.init(variables),  # type: ignore[arg-type]  # a tree with None in it
            jnp.array(np.inf, dtype),
            jnp.zeros((), jnp.int32),
        )

    init = init_of(layout, begin, refine_targets=refine_targets, blocks=blocks)
    return Refiner(init, step)


@functools.lru_cache(maxsize=32)
def _build_step(
    predict: Any,
    predict_batch: Any,
    layout: Any,
    optimizer: Any,
    loss: Loss,
    refine_targets: bool,
    chunk_size: int | None,
    keep_gradient: bool,
    blocks: Blocks | None,
) -> Callable[[Params, GlobalState], tuple[GlobalState, GlobalInfo]]:
    """The step of a global refiner; cached as that of a refiner is."""
    gradients = batch_gradients(predict, predict_batch, loss)
    sweep = sweep_with(gradients, _WHOLE_GRADIENT, layout, chunk_size)
    if blocks is not None:
        sweep = blocks.over(sweep, layout)
    optimizer = optax.with_extra_args_support(optimizer)

    @jax.jit
    def step(params: Params, state: GlobalState) -> tuple[GlobalState, GlobalInfo]:
        def evaluate(variables: Variables) -> _Found:
            data = _with_variables(state.data, variables)
            # The noise is in the objective's proximity; the gradient is by the cells themselves.
            found = sweep(params, {}, data._replace(noise_x=None, noise_y=None))
            return _objective(layout, state, data, variables, found)

        variables = _variables(state.data, refine_targets)
        found = evaluate(variables)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes, whatever users forbid
            updates, memory = optimizer.update(
                found.gradient,
                state.optimizer,
                variables,
                value=found.objective,
                grad=found.gradient,
                value_fn=_differentiable(evaluate, found.sweep.totals.nonfinite),
            )
        data = _with_variables(state.data, _moved(state.data, variables, updates))
        change = jnp.abs(found.objective - state.objective)
        info = GlobalInfo(
            found.sweep.residual,
            found.sweep.valid,
            found.objective,
            found.misfit,
            found.distance,
            (~(change < state.hyperparameters["tolerance"])).astype(jnp.int32),
            found.sweep.totals.nonfinite,
            found.gradient if keep_gradient else None,
        )
        state = state._replace(
            data=data, optimizer=memory, objective=found.objective, step=state.step + 1
        )
        return state, info

    return step


def _whole_gradient(hyperparameters: dict[str, jax.Array], g: InputGradients) -> Move:
    """The gradient itself, of every instance."""
    del hyperparameters
    return Move(g.x, g.y, jnp.ones_like(g.loss))


_WHOLE_GRADIENT = Rule({}, _whole_gradient, consensus="sum", stays_finite=True)


def _objective(
    layout: Layout, state: GlobalState, data: Data, variables: Variables, found: Sweep
) -> _Found:
    """Value and gradient, from the sums of the losses and of their gradients."""
    weight = state.hyperparameters["proximity"]
    dtype = data.x.dtype
    targets = jnp.maximum(found.totals.targets, 1)
    fit_x, fit_y = layout.corrections(data, found.sums, "sum")
    observed = Variables(data.observed_x, None if variables.y is None else data.observed_y)
    offset = jax.tree.map(
        lambda seen, value, given: jnp.where(seen, value - given, 0),
        observed,
        variables,
        state.observations,
    )
    offset = _over_noise(offset, data)
    # Whole numbers per column: the sum of all may be beyond 32 bits, and floats would stall.
    columns = [seen.sum(axis=0, dtype=jnp.int32) for seen in jax.tree.leaves(observed)]
    cells = sum(column.astype(dtype).sum() for column in columns)
    distance = sum(jnp.sum(o * o) for o in jax.tree.leaves(offset)) / cells
    misfit = found.totals.loss / targets
    gradient = jax.tree.map(
        lambda free, fit, o: jnp.where(free, fit / targets + 2 * weight * o / cells, 0),
        Variables(data.movable_x, None if variables.y is None else data.movable_y),
        Variables(fit_x, None if variables.y is None else fit_y),
        _over_noise(offset, data),
    )
    return _Found(misfit + weight * distance, misfit, distance, gradient, found)


def _over_noise(values: Variables, data: Data) -> Variables:
    """Values in units of the noise; cells without any never left their observation."""

    def divide(values: jax.Array, noise: jax.Array | None) -> jax.Array:
        return values if noise is None else values / jnp.where(noise > 0, noise, 1)

    x, y = values
    return Variables(divide(x, data.noise_x), None if y is None else divide(y, data.noise_y))


def _differentiable(
    evaluate: Callable[[Variables], _Found], nonfinite: Scalar
) -> Callable[[Variables], Scalar]:
    """The objective alone, with its gradient as `evaluate` finds it, for a line search.

    It is infinite where more instances fail than the `nonfinite` ones here: instances that drop out
    of the mean would look like progress.
    """

    def value_and_gradient(variables: Variables) -> tuple[Scalar, Variables]:
        found = evaluate(variables)
        failed = found.sweep.totals.nonfinite > nonfinite
        return jnp.where(failed, jnp.inf, found.objective), found.gradient

    @jax.custom_vjp
    def value(variables: Variables) -> Scalar:
        return value_and_gradient(variables)[0]

    def forward(variables: Variables) -> tuple[Scalar, Variables]:
        return value_and_gradient(variables)

    def backward(gradient: Variables, cotangent: Scalar) -> tuple[Variables]:
        return (jax.tree.map(lambda g: cotangent * g, gradient),)

    value.defvjp(forward, backward)
    return value


def _variables(data: Data, refine_targets: bool) -> Variables:
    moves = refine_targets and data.y is not None
    return Variables(data.x, data.y if moves else None)


def _with_variables(data: Data, variables: Variables) -> Data:
    y = data.y if variables.y is None else variables.y
    return data._replace(x=variables.x, y=y)


def _moved(data: Data, variables: Variables, updates: Variables) -> Variables:
    """Updates made where they may be, whatever the optimiser does without a gradient."""
    movable = Variables(data.movable_x, None if variables.y is None else data.movable_y)
    moved: Variables = jax.tree.map(
        lambda free, value, update: jnp.where(free, value + update, value),
        movable,
        variables,
        updates,
    )
    return moved
