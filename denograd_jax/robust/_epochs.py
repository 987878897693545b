"""Epochs over shuffled minibatches, and training with a weight for each instance."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from denograd_jax._types import Params, PredictBatch
from denograd_jax.errors import BackboneError
from denograd_jax.robust import _checks
from denograd_jax.robust._views import View

__all__ = [
    "ObserveFit",
    "WeightedFit",
    "adam",
    "begin",
    "check_losses",
    "decaying_adam",
    "descend",
    "fit_weighted",
    "loss_of",
    "mean_over",
    "one_pass",
    "take",
]

Carry = TypeVar("Carry")


class WeightedFit(NamedTuple):
    """A model trained with a weight for each instance.

    Attributes:
        params: What it was trained to.
        losses: Loss of each instance when it was last trained on, `(n,)`; its weight left out.
    """

    params: Params
    losses: jax.Array


ObserveFit = Callable[[int, WeightedFit], object]


def fit_weighted(
    apply: PredictBatch,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    key: jax.Array,
    epochs: int = 30,
    view: View | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 128,
    observe: ObserveFit | None = None,
) -> WeightedFit:
    """Trains a model by the weighted mean of its losses: plain training where no weights are given.

    The loss is the cross-entropy where y are integers, class labels, and the squared error where
    they are numbers. The same key gives the same parameters.

    Args:
        apply: `apply(params, x)`, instances `(n, ...)` to logits `(n, C)`, or to numbers of the
            shape of y. Pure.
        params: Pytree of arrays that training starts from; it is not changed.
        x: Instances, `(n, d)` or `(n, W, C)`, finite.
        y: Class labels `(n,)`, or numbers `(n,)` or `(n, q)`.
        weights: Weight of each instance, `(n,)`, at least 0; `p_clean`, say.
        key: JAX random key of shuffling and views.
        epochs: Passes over the instances.
        view: Random copy of each batch that is trained on; the batch itself unless given.
        optimizer: Of optax; Adam with a learning rate of 1e-3 unless given.
        batch_size: Instances per step.
        observe: `observe(epoch, fit)` is called after every epoch, counted from 0; what it looks at
            is waited for.

    Raises:
        ShapeError: Arrays do not fit each other.
        DataError: Values are not finite, labels unknown to the model or all the same, no weight is
            above 0, or a number of epochs or instances is too small.
        ModelError: The model makes no logits.
        BackboneError: Training ends in losses that are not finite.
    """
    _checks.at_least(1, epochs=epochs, batch_size=batch_size)
    x = _checks.instances(x, params)
    labelled = np.issubdtype(np.asarray(y).dtype, np.integer)
    y = (_checks.labels if labelled else _checks.targets)(apply, params, x, y)
    w = _checks.weights(weights, x)
    task = _Task(apply, view, optimizer or adam(), min(batch_size, len(x)))
    state = _State(params, begin(task.optimizer, params), jnp.zeros(len(x), x.dtype))
    for epoch in range(epochs):
        state = _epoch(task, state, jax.random.fold_in(key, epoch), x, y, w)
        if observe is not None:
            observe(epoch, WeightedFit(state.params, state.losses))
    check_losses(state.losses)
    return WeightedFit(state.params, state.losses)


def one_pass(
    step: Callable[[Carry, jax.Array, jax.Array], Carry],
    carry: Carry,
    key: jax.Array,
    count: int,
    batch_size: int,
) -> Carry:
    """Scans `step(carry, key, index)` over shuffled minibatches of `count` instances.

    The last index is filled up with `count`, which leads to no instance: `take` repeats the last
    one there, `mean_over` leaves it out, and so do updates `.at[index]` with the mode "drop".
    """
    shuffling, stepping = jax.random.split(key)
    order = jax.random.permutation(shuffling, count)
    padding = jnp.full(-count % batch_size, count, order.dtype)
    batches = jnp.concatenate([order, padding]).reshape(-1, batch_size)
    keys = jax.random.split(stepping, len(batches))
    return jax.lax.scan(lambda c, batch: (step(c, *batch), None), carry, (keys, batches))[0]


def take(array: jax.Array, index: jax.Array) -> jax.Array:
    """The instances of a minibatch."""
    return jnp.take(array, index, axis=0, mode="clip")


def mean_over(losses: jax.Array, index: jax.Array, count: int) -> jax.Array:
    """Mean over the instances of a minibatch, padding left out."""
    there = index < count
    return jnp.where(there, losses, 0).sum() / there.sum().astype(losses.dtype)


def loss_of(prediction: jax.Array, y: jax.Array) -> jax.Array:
    """Cross-entropy by labels, or the mean squared error over outputs, of each instance `(n,)`."""
    if jnp.issubdtype(y.dtype, jnp.integer):
        return optax.losses.softmax_cross_entropy_with_integer_labels(prediction, y)
    return jnp.square(prediction - y).reshape(len(y), -1).mean(axis=1)


def begin(optimizer: optax.GradientTransformation, params: Params) -> optax.OptState:
    """The optimizer's state before the first step."""
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.init(params)


def descend(
    optimizer: optax.GradientTransformation,
    gradient: Params,
    params: Params,
    state: optax.OptState,
) -> tuple[Params, optax.OptState]:
    """One step of the optimizer: parameters and its state after it."""
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with floats
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state


def check_losses(losses: jax.Array) -> None:
    """Refuses a training that has left the finite numbers."""
    if not np.isfinite(np.asarray(losses)).all():
        raise BackboneError(
            "Training ended in losses that are not finite. Standardise x, and y where it holds "
            "numbers, or lower the learning rate."
        )


@functools.cache  # equal optimizers are one object, and share what has been compiled
def adam(learning_rate: float = 1e-3) -> optax.GradientTransformation:
    """Adam with a constant learning rate."""
    return optax.adam(learning_rate)


@functools.lru_cache(maxsize=32)
def decaying_adam(steps: int, learning_rate: float = 1e-3) -> optax.GradientTransformation:
    """Adam with a learning rate that falls to 0 along a cosine."""
    return optax.adam(optax.schedules.cosine_decay_schedule(learning_rate, steps))


class _State(NamedTuple):
    params: Params
    optimizer: optax.OptState
    losses: jax.Array


@dataclasses.dataclass(frozen=True)
class _Task:
    apply: PredictBatch
    view: View | None
    optimizer: optax.GradientTransformation
    batch_size: int


@functools.partial(jax.jit, static_argnums=0)
def _epoch(
    task: _Task, state: _State, key: jax.Array, x: jax.Array, y: jax.Array, weights: jax.Array
) -> _State:
    def step(state: _State, key: jax.Array, index: jax.Array) -> _State:
        batch = take(x, index)
        view = batch if task.view is None else task.view(key, batch)

        def objective(params: Params) -> tuple[jax.Array, Any]:
            losses = loss_of(task.apply(params, view), take(y, index))
            return mean_over(take(weights, index) * losses, index, len(x)), losses

        gradient, losses = jax.grad(objective, has_aux=True)(state.params)
        params, optimizer = descend(task.optimizer, gradient, state.params, state.optimizer)
        return _State(params, optimizer, state.losses.at[index].set(losses, mode="drop"))

    return one_pass(step, state, key, len(x), task.batch_size)
