"""Training of a backbone: AdamW, warm-up, cosine decay, early stopping on the best parameters."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import ArrayLike, NDArray

from denograd_jax._types import Loss, Model, Params, PredictBatch
from denograd_jax.backbones._pure import as_pure, cast
from denograd_jax.errors import BackboneError

__all__ = ["Gather", "Progress", "State", "Task", "Trained", "begin", "fitting_batch_size"]
__all__ += ["in_batches", "one_epoch", "refuse_epochs", "refuse_infinite", "train", "trainable"]

logger = logging.getLogger("denograd_jax")

LEARNING_RATE, WEIGHT_DECAY, WARMUP_FRACTION = 3e-3, 1e-2, 0.05
BATCH_SIZE, MAX_EPOCHS, PATIENCE = 256, 60, 10

Data: TypeAlias = Any  # any pytree of arrays
Gather: TypeAlias = Callable[[Data, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]
"""`gather(data, index)`: instances `(n, ...)`, targets `(n, q)`, observed `(n, q)`. Pure."""
Progress: TypeAlias = Callable[[int, int, float, float], object]
"""`progress(epoch, max_epochs, train_loss, validation_loss)`, the epoch counted from 1."""


class Trained(NamedTuple):
    """A trained backbone and how it got there.

    Attributes:
        model: The model with the parameters of its best epoch.
        train_loss: Mean loss over the observed training targets, taken while the parameters
            changed, `(epochs,)`.
        validation_loss: Mean loss over the observed validation targets after each epoch,
            `(epochs,)`; NaN where there are none.
        best_epoch: Index of the epoch whose parameters were kept.
        epochs: Number of epochs that ran.
        interrupted: Whether Ctrl-C ended the training; an epoch or more was done.
        p_clean: Probability that each instance trained on is clean, `(n,)`; None where nobody asked
            for it.
    """

    model: Model
    train_loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    best_epoch: int
    epochs: int
    interrupted: bool = False
    p_clean: NDArray[np.float64] | None = None


def train(
    module: nnx.Module,
    gather: Gather,
    data: Data,
    train_index: ArrayLike,
    validation_index: ArrayLike,
    *,
    key: jax.Array,
    loss: Loss = optax.losses.squared_error,
    learning_rate: float = LEARNING_RATE,
    weight_decay: float = WEIGHT_DECAY,
    batch_size: int = BATCH_SIZE,
    max_epochs: int = MAX_EPOCHS,
    patience: int = PATIENCE,
    warmup_fraction: float = WARMUP_FRACTION,
    progress: Progress | None = None,
) -> Trained:
    """Trains a Flax module on the instances that `gather` cuts from `data`.

    AdamW with linear warm-up and cosine decay, gradients clipped to norm 1. An epoch is one
    compiled scan over shuffled minibatches; a second training with the same architecture, shapes
    and functions compiles nothing. The same key gives the same parameters. Ctrl-C behind the first
    epoch ends the training with the best one so far.

    Args:
        module: Called on a batch; all its variables are `nnx.Param`. It is not changed.
        gather: Pure function of `data` and an index `(n,)` that returns instances `(n, ...)`,
            targets `(n, q)` and which of these are observed, `(n, q)`. Those that are not may
            hold anything, NaN included.
        data: Pytree of arrays handed to `gather`, so that only one minibatch of windows exists
            at a time.
        train_index: What `gather` turns into the training instances: integers from 0, `(n,)`.
        validation_index: The same for the validation instances. Where none of their targets is
            observed, the training loss decides when to stop.
        key: JAX random key of the shuffling.
        loss: Loss of one instance, `(q,)` and `(q,)` to `(q,)` or to `()`.
        learning_rate: Peak learning rate.
        weight_decay: Decoupled weight decay, relative to the learning rate.
        batch_size: Instances per step, fewer where there would be too few steps in an epoch.
        max_epochs: Epochs over which the learning rate decays to zero.
        patience: Epochs without a better validation loss after which training stops.
        warmup_fraction: Share of all steps in which the learning rate rises.
        progress: Called after every epoch.

    Returns:
        The model with its best parameters, float64 where the instances are and otherwise float32,
        and the losses.

    Raises:
        BackboneError: There is no training instance or no epoch, the module has variables other
            than parameters, its output does not have the shape of the targets, or the first
            epoch ends in a loss that is not finite.
    """
    train_index = np.asarray(train_index, np.int32)
    if train_index.size == 0:
        raise BackboneError(
            "There is no training instance; give more rows, a longer series or a shorter window."
        )
    refuse_epochs(max_epochs)
    batch_size = fitting_batch_size(train_index.size, batch_size)
    train_batches = in_batches(train_index, batch_size)
    validation_batches = in_batches(np.asarray(validation_index, np.int32), batch_size)
    model = trainable(module)
    assert model.predict_batch is not None  # as_pure always gives one
    task = Task(
        predict=model.predict_batch,
        gather=gather,
        loss=loss,
        steps=max_epochs * len(train_batches),
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_fraction=warmup_fraction,
    )
    data = jax.device_put(data)
    instances, _, _ = jax.eval_shape(gather, data, train_batches[0])
    dtype = jnp.float64 if instances.dtype == jnp.float64 else jnp.float32

    def run_epoch(epoch: int, state: State) -> tuple[State, float, float]:
        shuffling = jax.random.fold_in(key, epoch)
        state, losses = one_epoch(task, state, shuffling, data, train_batches, validation_batches)
        training, validation = np.asarray(losses).tolist()  # to index on the device costs as much
        return state, training, validation

    state = begin(task, cast(model.params, dtype))
    best, best_epoch, losses, interrupted = _stop_early(
        run_epoch, state, max_epochs, patience, progress
    )
    model = model._replace(params=best.params)
    return Trained(model, losses[:, 0], losses[:, 1], best_epoch, len(losses), interrupted)


class State(NamedTuple):
    """What an epoch begins with."""

    params: Params
    optimizer: optax.OptState


@dataclasses.dataclass(frozen=True)
class Task:
    """What a compiled epoch depends on besides the shapes and dtypes of its arguments."""

    predict: PredictBatch
    gather: Gather
    loss: Loss
    steps: int
    learning_rate: float
    weight_decay: float
    warmup_fraction: float

    def optimizer(self) -> optax.GradientTransformation:
        schedule = optax.schedules.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=self.learning_rate,
            warmup_steps=round(self.warmup_fraction * self.steps),
            decay_steps=self.steps,
        )
        return optax.chain(
            optax.clip_by_global_norm(1.0),  # an outlier must not throw the parameters away
            optax.adamw(schedule, weight_decay=self.weight_decay),
        )


def _stop_early(
    run_epoch: Callable[[int, State], tuple[State, float, float]],
    state: State,
    max_epochs: int,
    patience: int,
    progress: Progress | None,
) -> tuple[State, int, NDArray[np.float64], bool]:
    """Runs epochs until the loss has not improved for `patience` of them; keeps the best state.

    Also the best epoch, the losses, and whether Ctrl-C was pressed after the first epoch.
    """
    best, best_epoch, best_loss = state, 0, math.inf
    history: list[tuple[float, float]] = []
    for epoch in range(max_epochs):
        try:
            state, train_loss, validation_loss = run_epoch(epoch, state)
        except KeyboardInterrupt:
            if not history:
                raise
            return best, best_epoch, np.array(history), True
        history.append((train_loss, validation_loss))
        decisive = train_loss if math.isnan(validation_loss) else validation_loss
        if epoch == 0:
            refuse_infinite(decisive)
        if decisive < best_loss:
            best, best_epoch, best_loss = state, epoch, decisive
        logger.debug("epoch %d: %g in training, %g in validation", epoch + 1, *history[-1])
        try:
            if progress is not None:
                progress(epoch + 1, max_epochs, train_loss, validation_loss)
        except KeyboardInterrupt:
            return best, best_epoch, np.array(history), True
        if epoch - best_epoch >= patience:
            break
    return best, best_epoch, np.array(history), False


@functools.partial(jax.jit, static_argnums=0)
def begin(task: Task, params: Params) -> State:
    return State(params, task.optimizer().init(params))


@functools.partial(jax.jit, static_argnums=0)
def one_epoch(
    task: Task,
    state: State,
    key: jax.Array,
    data: Data,
    train_batches: jax.Array,
    validation_batches: jax.Array,
) -> tuple[State, jax.Array]:
    """One pass over the training instances; the mean training and validation losses, `(2,)`."""

    def descend(state: State, index: jax.Array) -> tuple[State, tuple[jax.Array, jax.Array]]:
        def mean_loss(params: Params) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            total, count = _total_loss(task, params, data, index)
            return total / jnp.maximum(count, 1), (total, count)

        gradient, sums = jax.grad(mean_loss, has_aux=True)(state.params)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with floats
            updates, optimizer = task.optimizer().update(gradient, state.optimizer, state.params)
        return State(optax.apply_updates(state.params, updates), optimizer), sums

    def evaluate(_: None, index: jax.Array) -> tuple[None, tuple[jax.Array, jax.Array]]:
        return None, _total_loss(task, state.params, data, index)

    shuffled = jax.random.permutation(key, train_batches.ravel()).reshape(train_batches.shape)
    state, training = jax.lax.scan(descend, state, shuffled)
    _, validation = jax.lax.scan(evaluate, None, validation_batches)
    means = [totals.sum() / counts.sum() for totals, counts in (training, validation)]
    return state, jnp.stack(means)


def _total_loss(
    task: Task, params: Params, data: Data, index: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sum of the losses of a batch over its observed targets, and how many these are."""
    padding = index < 0
    x, y, observed = task.gather(data, jnp.where(padding, ~index, index))
    x = x.astype(jax.tree.leaves(params)[0].dtype)
    prediction = task.predict(params, x)
    _check_shapes(prediction, y, observed)
    observed = observed & ~padding[:, None]
    # A target that is missing must not enter the loss: NaN * 0 is NaN, in the gradient as well.
    filled = jnp.where(observed, y.astype(x.dtype), jax.lax.stop_gradient(prediction))
    losses = jax.vmap(task.loss)(prediction, filled)
    counted = observed if losses.ndim == 2 else observed.any(axis=1)
    return jnp.where(counted, losses, 0).sum(), counted.sum().astype(x.dtype)


def _check_shapes(prediction: jax.Array, y: jax.Array, observed: jax.Array) -> None:
    if prediction.ndim != 2 or not prediction.shape == y.shape == observed.shape:
        raise BackboneError(
            f"Predictions have shape {prediction.shape}, targets {y.shape} and their observed "
            f"mask {observed.shape}; expected all three to be (instances, outputs)."
        )


def trainable(module: nnx.Module) -> Model:
    others = nnx.state(module, nnx.Not(nnx.Param))
    if jax.tree.leaves(others):
        raise BackboneError(
            "The module has variables that are not parameters (batch statistics, random keys): "
            f"{', '.join(map(str, others))}. Train it yourself and give the trained module."
        )
    return as_pure(module)


def refuse_epochs(max_epochs: int) -> None:
    """Refuse to train for no epoch."""
    if max_epochs < 1:
        raise BackboneError(f"max_epochs is {max_epochs}; expected at least 1.")


def refuse_infinite(loss: float) -> None:
    """Refuse a first epoch that led nowhere."""
    if not math.isfinite(loss):
        raise BackboneError(
            f"The loss is {loss} after the first epoch; expected a finite number. Check "
            "that instances and observed targets are finite and standardised, that any target "
            "is observed at all, and that the learning rate is not too high."
        )


def fitting_batch_size(instances: int, batch_size: int = BATCH_SIZE) -> int:
    """A power of two that leaves about 16 steps in an epoch, from 16 up to `batch_size`."""
    return min(batch_size, 1 << max(4, (instances // 16).bit_length() - 1))


def in_batches(index: NDArray[np.int32], batch_size: int) -> NDArray[np.int32]:
    """Cuts an index into batches, `(batches, batch_size)`.

    The last is filled up with the complement of entries of the index: negative, so that they are
    told apart, and leading to instances that are as sound as the others.
    """
    padding = np.resize(~index, -index.size % batch_size)
    return np.concatenate([index, padding]).reshape(-1, batch_size)
