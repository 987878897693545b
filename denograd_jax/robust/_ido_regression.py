"""IDO for numbers: a row is suspect that the models of other rows go on missing by far."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from denograd_jax._types import Params, PredictBatch
from denograd_jax.errors import DataError
from denograd_jax.robust import _checks
from denograd_jax.robust._beta_mixture import (
    FIRST_ITERATIONS,
    LATER_ITERATIONS,
    BetaMixture,
    improve,
    starting_mixture,
    unit_range,
)
from denograd_jax.robust._epochs import (
    adam,
    begin,
    check_losses,
    decaying_adam,
    descend,
    loss_of,
    mean_over,
    one_pass,
    take,
)

__all__ = ["IdoRegressionFit", "IdoRegressionState", "ido_regression", "thresholds"]

DEVIATIONS = 2 * 1.4826
"""Of medians: two standard deviations, where residuals are Gaussian."""


class IdoRegressionState(NamedTuple):
    """The state of a training after an epoch, on the device; K models of folds, then that of all.

    Attributes:
        params: Of the K + 1 models, stacked.
        optimizer: States of the optimizer, stacked.
        residuals: Prediction less target of each row, by the model that has not seen it, `(n, q)`.
        exceedances: How often each row's residual was large so far, `(n,)` integers.
        threshold: From where on residuals were large in this epoch, `(q,)`.
        base_params: Stacked parameters of the epoch with the least mean threshold so far.
        least: Its mean threshold, `()`.
        mixture: Of exceedances; where it starts from, as long as the first stage lasts.
    """

    params: Params
    optimizer: optax.OptState
    residuals: jax.Array
    exceedances: jax.Array
    threshold: jax.Array
    base_params: Params
    least: jax.Array
    mixture: BetaMixture


class IdoRegressionFit(NamedTuple):
    """A model trained on noisy rows, and what it says of them.

    Attributes:
        params: After the second stage.
        base_params: That the second stage started from.
        base_epoch: Index of the epoch of the first stage that they are of.
        exceedances: How often each row was missed by far, `(n,)` integers.
        p_clean: Probability that each row is clean, `(n,)`.
        mixture: Of the exceedances, over `unit_range(exceedances)`.
        thresholds: From where on residuals were large, in each epoch, `(epochs of both, q)`.
    """

    params: Params
    base_params: Params
    base_epoch: int
    exceedances: jax.Array
    p_clean: jax.Array
    mixture: BetaMixture
    thresholds: jax.Array

    @property
    def p_noisy(self) -> jax.Array:
        """Probability that each row is noisy, `(n,)`: a gate for its refinement.

        It takes the place of the published hard gate: multiply the move of each row by it. Rows
        that are hard to predict but clean so stay where they are, though their residual is large.
        """
        return 1 - self.p_clean


Observe = Callable[[int, IdoRegressionState], object]


def ido_regression(
    apply: PredictBatch,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    key: jax.Array,
    folds: int = 4,
    warm_epochs: int = 30,
    epochs: int = 10,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 128,
    observe: Observe | None = None,
) -> IdoRegressionFit:
    r"""Trains a model of numbers on rows of which a part is noisy.

    Each row is judged by a model that has not been trained on it: K models that each leave out a
    fold, and one of all rows, are trained side by side on the same minibatches, so that residuals
    come out of the forward pass that trains the others. An exceedance is counted where any output
    is off by more than

    .. math:: q_e = 2 \cdot 1.4826 \cdot \mathrm{MAD}(r_e)

    with the residuals of the epoch. The mixture of `ido` over exceedances gives the probability
    that a row is clean, which in the second stage is the weight of its squared error; that stage
    starts from the epoch with the least q, before noise was learnt. All takes K + 1 times as long
    as plain training. The same key gives the same result.

    Args:
        apply: `apply(params, x)`, a batch of rows `(n, ...)` to numbers of the shape of y. Pure.
        params: Pytree of arrays that all models start from; it is not changed.
        x: Rows `(n, d)` or windows `(n, W, C)`, finite; standardise them.
        y: Targets `(n,)` or `(n, q)`, finite; standardise them.
        key: JAX random key of folds and shuffling.
        folds: Number K of folds, at least 2.
        warm_epochs: Of the first stage, all rows alike.
        epochs: Of the second stage, weighted; with 0 it only tells clean from noisy.
        optimizer: Of optax, for both stages; unless given Adam with a learning rate of 1e-3, which
            in the second stage falls to 0 along a cosine.
        batch_size: Rows per step.
        observe: `observe(epoch, state)` is called after every epoch, counted from 0 through both
            stages; what it looks at is waited for.

    Returns:
        `IdoRegressionFit`.

    Raises:
        ShapeError: Arrays do not fit each other.
        DataError: Values are not finite, there are fewer rows than folds, or a number is too small.
        BackboneError: A stage ends in residuals that are not finite.

    Source:
        The counting of IDO, arXiv 2505.00812, carried over to residuals.
    """
    _checks.at_least(1, warm_epochs=warm_epochs, batch_size=batch_size)
    _checks.at_least(2, folds=folds)
    _checks.at_least(0, epochs=epochs)
    x = _checks.instances(x, params)
    y = _checks.targets(apply, params, x, y)
    if len(x) < folds:
        raise DataError(f"There are {len(x)} rows for {folds} folds; give more rows.")
    batch_size = min(batch_size, len(x))
    steps = max(epochs, 1) * -(-len(x) // batch_size)
    first = _Task(apply, optimizer or adam(), batch_size)
    second = dataclasses.replace(first, optimizer=optimizer or decaying_adam(steps))
    folding, training = jax.random.split(key)
    fold = jax.random.permutation(folding, jnp.arange(len(x), dtype=jnp.int32) % folds)
    rows = _Rows(x, y, fold)

    state, found = _begin(first, params, rows, folds), []
    for epoch in range(warm_epochs + epochs):
        if epoch == warm_epochs:
            check_losses(state.residuals)
            state = _second_begin(second, state)
        task, run_epoch = (first, _warm_epoch) if epoch < warm_epochs else (second, _second_epoch)
        state = run_epoch(task, state, jax.random.fold_in(training, epoch), rows)
        found.append(state.threshold)
        if observe is not None:
            observe(epoch, state)
    if epochs == 0:
        state = _second_begin(second, state)
    check_losses(state.residuals)
    return IdoRegressionFit(
        params=_of_all(state.params),
        base_params=_of_all(state.base_params),
        base_epoch=int(jnp.stack(found[:warm_epochs]).mean(axis=1).argmin()),
        exceedances=state.exceedances,
        p_clean=jax.jit(_p_clean)(state),
        mixture=state.mixture,
        thresholds=jnp.stack(found),
    )


def thresholds(residuals: jax.Array) -> jax.Array:
    """From where on residuals `(n, q)` are large: 2 * 1.4826 * MAD of each column, `(q,)`."""
    centred = residuals - jnp.median(residuals, axis=0, keepdims=True)
    return DEVIATIONS * jnp.median(jnp.abs(centred), axis=0)


@dataclasses.dataclass(frozen=True)
class _Task:
    """What a compiled epoch depends on besides the shapes and dtypes of its arguments."""

    apply: PredictBatch
    optimizer: optax.GradientTransformation
    batch_size: int


class _Rows(NamedTuple):
    """What is trained on, and the fold of each row: the model that has not seen it."""

    x: jax.Array
    y: jax.Array
    fold: jax.Array


def _begin(task: _Task, params: Params, rows: _Rows, folds: int) -> IdoRegressionState:
    x, y, _ = rows
    stacked = jax.tree.map(lambda p: jnp.repeat(jnp.asarray(p)[None], folds + 1, axis=0), params)
    outputs = y.reshape(len(y), -1).shape[1]
    return IdoRegressionState(
        params=stacked,
        optimizer=jax.vmap(functools.partial(begin, task.optimizer))(stacked),
        residuals=jnp.zeros((len(x), outputs), x.dtype),
        exceedances=jnp.zeros(len(x), jnp.int32),
        threshold=jnp.zeros(outputs, x.dtype),
        base_params=stacked,
        least=jnp.asarray(jnp.inf, x.dtype),
        mixture=starting_mixture(),
    )


@functools.partial(jax.jit, static_argnums=0)
def _warm_epoch(
    task: _Task, state: IdoRegressionState, key: jax.Array, rows: _Rows
) -> IdoRegressionState:
    state = _pass(task, state, key, rows, jnp.ones(len(rows.x), rows.x.dtype))
    mean = state.threshold.mean()
    newer = functools.partial(jnp.where, mean < state.least)
    return state._replace(
        base_params=jax.tree.map(newer, state.params, state.base_params),
        least=jnp.minimum(mean, state.least),
    )


@functools.partial(jax.jit, static_argnums=0)
def _second_begin(task: _Task, state: IdoRegressionState) -> IdoRegressionState:
    """The base models, new optimizers and a mixture of the exceedances so far."""
    return _improved(state, FIRST_ITERATIONS)._replace(
        params=state.base_params,
        optimizer=jax.vmap(functools.partial(begin, task.optimizer))(state.base_params),
    )


@functools.partial(jax.jit, static_argnums=0)
def _second_epoch(
    task: _Task, state: IdoRegressionState, key: jax.Array, rows: _Rows
) -> IdoRegressionState:
    weights = _p_clean(state).astype(rows.x.dtype)
    state = _pass(task, state, key, rows, weights / weights.mean())
    return _improved(state, LATER_ITERATIONS)


def _pass(
    task: _Task, state: IdoRegressionState, key: jax.Array, rows: _Rows, weights: jax.Array
) -> IdoRegressionState:
    """One epoch of all models side by side, and the exceedances that it adds."""
    count = len(rows.x)
    models = jnp.arange(len(jax.tree.leaves(state.params)[0]), dtype=jnp.int32)

    def step(state: IdoRegressionState, key: jax.Array, index: jax.Array) -> IdoRegressionState:
        x, y, left_out = (take(part, index) for part in rows)
        weight = take(weights, index)

        def update(
            model: jax.Array, params: Params, optimizer: optax.OptState
        ) -> tuple[Params, optax.OptState, jax.Array]:
            def objective(params: Params) -> tuple[jax.Array, Any]:
                prediction = task.apply(params, x)
                losses = jnp.where(left_out == model, 0, weight * loss_of(prediction, y))
                return mean_over(losses, index, count), prediction - y

            gradient, residual = jax.grad(objective, has_aux=True)(params)
            return *descend(task.optimizer, gradient, params, optimizer), residual

        params, optimizer, residuals = jax.vmap(update)(models, state.params, state.optimizer)
        unseen = residuals.reshape(*residuals.shape[:2], -1)[left_out, jnp.arange(len(index))]
        kept = state.residuals.at[index].set(unseen, mode="drop")
        return state._replace(params=params, optimizer=optimizer, residuals=kept)

    state = one_pass(step, state, key, count, task.batch_size)
    threshold = thresholds(state.residuals)
    exceeds = (jnp.abs(state.residuals) > threshold[None]).any(axis=1)
    exceedances = state.exceedances + exceeds.astype(jnp.int32)
    return state._replace(exceedances=exceedances, threshold=threshold)


def _improved(state: IdoRegressionState, iterations: int) -> IdoRegressionState:
    u = unit_range(state.exceedances)
    return state._replace(mixture=improve(state.mixture, u, None, iterations))


def _p_clean(state: IdoRegressionState) -> jax.Array:
    return state.mixture.posterior(unit_range(state.exceedances))[:, 0]


def _of_all(stacked: Params) -> Params:
    return jax.tree.map(lambda p: p[-1], stacked)
