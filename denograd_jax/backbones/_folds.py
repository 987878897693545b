"""Training of several copies of a backbone at once, each on instances of its own."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from denograd_jax._types import Model
from denograd_jax.backbones import _training as training
from denograd_jax.backbones._pure import cast
from denograd_jax.errors import BackboneError

__all__ = ["TrainedFolds", "train_folds"]


class TrainedFolds(NamedTuple):
    """K trained copies of a backbone.

    Attributes:
        model: Its `params` have a leading axis of K: each copy's of its best epoch.
        validation_loss: Mean loss of each copy over its validation targets, in its best epoch,
            `(K,)`; of the training targets where there are none to validate on.
        epochs: Number of epochs that ran.
        interrupted: Whether Ctrl-C ended the training; an epoch or more was done.
    """

    model: Model
    validation_loss: NDArray[np.float64]
    epochs: int
    interrupted: bool = False


def train_folds(
    modules: Sequence[Any],
    gather: training.Gather,
    data: Any,
    train_indices: Sequence[ArrayLike],
    validation_indices: Sequence[ArrayLike],
    *,
    key: jax.Array,
    learning_rate: float = training.LEARNING_RATE,
    max_epochs: int = training.MAX_EPOCHS,
    progress: training.Progress | None = None,
) -> TrainedFolds:
    """Trains K Flax modules of one architecture as `train` does one, under `jax.vmap`.

    Each has its own instances, shuffling and best epoch; they share the schedule of the largest,
    and stop together, when none has got better for as long as `train` waits.

    Args:
        modules: K of them, with initial weights of their own.
        gather: As `train` takes it.
        data: As `train` takes it.
        train_indices: Of each copy, K times `(n,)`.
        validation_indices: Likewise; all empty, or none.
        key: JAX random key of the shuffling.
        learning_rate: Peak learning rate.
        max_epochs: Epochs over which the learning rate decays to zero.
        progress: Called after every epoch, with mean losses.

    Raises:
        BackboneError: As `train`, for any copy.
    """
    trains, validates = (
        [np.asarray(index, np.int32) for index in indices]
        for indices in (train_indices, validation_indices)
    )
    fewest, most = min(map(len, trains)), max(map(len, trains))
    if fewest == 0:
        raise BackboneError(
            "There is no training instance outside of one of the folds; give more rows, a longer "
            "series, a shorter window or fewer folds."
        )
    training.refuse_epochs(max_epochs)
    size = training.fitting_batch_size(most)
    train_batches, validation_batches = _stacked(trains, size), _stacked(validates, size)
    models = [training.trainable(module) for module in modules]
    assert models[0].predict_batch is not None  # as_pure always gives one
    task = training.Task(
        predict=models[0].predict_batch,
        gather=gather,
        loss=optax.losses.squared_error,
        steps=max_epochs * train_batches.shape[1],
        learning_rate=learning_rate,
        weight_decay=training.WEIGHT_DECAY,
        warmup_fraction=training.WARMUP_FRACTION,
    )
    data = jax.device_put(data)
    instances, _, _ = jax.eval_shape(gather, data, train_batches[0, 0])
    dtype = jnp.float64 if instances.dtype == jnp.float64 else jnp.float32
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(m.params for m in models))
    state = _begin_all(task, cast(params, dtype))
    best, least = state.params, np.full(len(models), np.inf)
    epochs, waited, interrupted = 0, 0, False
    try:
        while epochs < max_epochs and waited < training.PATIENCE:
            keys = jax.random.split(jax.random.fold_in(key, epochs), len(models))
            state, losses = _epoch_of_all(
                task, state, keys, data, train_batches, validation_batches
            )
            training_loss, validation_loss = np.asarray(losses, np.float64).T
            decisive = np.where(np.isnan(validation_loss), training_loss, validation_loss)
            if epochs == 0:
                training.refuse_infinite(decisive.sum())
            better = decisive < least
            best = _choose(jnp.asarray(better), state.params, best)
            least = np.where(better, decisive, least)
            epochs, waited = epochs + 1, 0 if better.any() else waited + 1
            if progress is not None:
                progress(epochs, max_epochs, training_loss.mean(), validation_loss.mean())
    except KeyboardInterrupt:
        if epochs == 0:
            raise
        interrupted = True
    return TrainedFolds(models[0]._replace(params=best), least, epochs, interrupted)


def _stacked(indices: Sequence[NDArray[np.int32]], size: int) -> NDArray[np.int32]:
    """Batches of each copy, `(K, batches, size)`, padded to as many as the largest needs."""
    found = [training.in_batches(index, size) for index in indices]
    most = max(map(len, found))
    filled = []
    for one in found:
        padding = np.where(one < 0, one, ~one)
        filled.append(np.concatenate([one, np.resize(padding, (most - len(one), size))]))
    return np.stack(filled)


@functools.partial(jax.jit, static_argnums=0)
def _begin_all(task: training.Task, params: Any) -> training.State:
    state: training.State = jax.vmap(functools.partial(training.begin, task))(params)
    return state


@functools.partial(jax.jit, static_argnums=0)
def _epoch_of_all(
    task: training.Task, state: Any, keys: Any, data: Any, trains: Any, validates: Any
) -> tuple[training.State, jax.Array]:
    run = jax.vmap(functools.partial(training.one_epoch, task), in_axes=(0, 0, None, 0, 0))
    found: tuple[training.State, jax.Array] = run(state, keys, data, trains, validates)
    return found


@jax.jit
def _choose(better: jax.Array, new: Any, old: Any) -> Any:
    """Parameters of the copies that got better, `(K,)`, and the old ones of the others."""

    def of_leaf(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(better.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(of_leaf, new, old)
