"""How a backbone is trained: plainly, or by IDO or RLAP, as for data of which some is noisy."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from denograd_jax import backbones
from denograd_jax._types import Instances, Loss, Model, Params, PredictBatch, Targets
from denograd_jax.backbones import Gather, Progress, Trained
from denograd_jax.backbones._feedforward import MLP, LinearPath
from denograd_jax.backbones._training import PATIENCE, fitting_batch_size, refuse_epochs
from denograd_jax.errors import BackboneError, UnsupportedError
from denograd_jax.robust._attribution import Features, Head
from denograd_jax.robust._epochs import WeightedFit
from denograd_jax.robust._ido import IdoFit, IdoState, ido
from denograd_jax.robust._ido_regression import (
    IdoRegressionFit,
    IdoRegressionState,
    ido_regression,
)
from denograd_jax.robust._rlap import rlap

__all__ = ["POLICIES", "Policy", "Task", "TrainingName"]

TrainingName: TypeAlias = Literal["plain", "ido", "rlap"]

PLAIN_EPOCHS = 60
IDO_EPOCHS = 40
"""Of both stages, of which the first has three quarters."""
TUNING_EPOCHS = 30
"""Of RLAP, behind those of plain training."""


class Task(NamedTuple):
    """A backbone and what it is trained on, as `backbones.train` takes them.

    Where `max_epochs` is None a policy has a number of its own. Targets are numbers, or of
    `classes` labels that are one-hot, which the backbone has logits for.
    """

    module: nnx.Module
    gather: Gather
    data: Any
    train_index: NDArray[np.intp]
    validation_index: NDArray[np.intp]
    key: jax.Array
    max_epochs: int | None = None
    progress: Progress | None = None
    classes: bool = False
    loss: Loss = optax.losses.squared_error
    patience: int = PATIENCE


Policy: TypeAlias = Callable[[Task], Trained]
"""Trains a backbone; errors, and what Ctrl-C does, are those of `backbones.train`."""


def _plain(task: Task) -> Trained:
    """All instances alike, until those held out are predicted no better."""
    return backbones.train(
        task.module,
        task.gather,
        task.data,
        task.train_index,
        task.validation_index,
        key=task.key,
        loss=task.loss,
        max_epochs=PLAIN_EPOCHS if task.max_epochs is None else task.max_epochs,
        patience=task.patience,
        progress=task.progress,
    )


def _ido(task: Task) -> Trained:
    """`ido_regression`, or `ido` of classes; they see when noise is learnt: none is held out.

    What validates elsewhere is only told of. Instances that lack a target are left out, and all
    others are in memory at once.
    """
    total = IDO_EPOCHS if task.max_epochs is None else task.max_epochs
    refuse_epochs(total)
    warm = max(3 * total // 4, 1)
    model = backbones.as_pure(task.module)
    assert model.predict_batch is not None  # as_pure always gives one
    x, y = _complete(task)
    log = _Log(task, model, total)
    options: dict[str, Any] = {
        "key": task.key,
        "warm_epochs": warm,
        "epochs": total - warm,
        "batch_size": fitting_batch_size(len(x)),
    }

    def observe_classes(_: int, state: IdoState) -> None:
        log.add(state.params, float(state.losses.mean()))

    def observe(_: int, state: IdoRegressionState) -> None:
        of_all = jax.tree.map(lambda p: p[-1], state.params)
        log.add(of_all, float(jnp.square(state.residuals).mean()))

    given = model.predict_batch, model.params, x
    fit: IdoFit | IdoRegressionFit
    try:
        if task.classes:
            fit = ido(*given, y.argmax(axis=1), observe=observe_classes, **options)
        else:
            fit = ido_regression(*given, y, observe=observe, **options)
    except KeyboardInterrupt:
        return log.trained(interrupted=True)
    return log.trained(p_clean=np.asarray(fit.p_clean, np.float64))


def _rlap(task: Task) -> Trained:
    """Plain training, then `rlap` at the last hidden layer of a perceptron.

    A linear path beside the perceptron stays as it is; the perceptron is tuned to what that leaves.
    Perceptrons that tell classes have none.
    """
    features, head, layer = _halves(task.module)
    first = PLAIN_EPOCHS if task.max_epochs is None else task.max_epochs
    tuning = min(first, TUNING_EPOCHS)
    progress = None if task.progress is None else _of_more(task.progress, tuning)
    plain = _plain(task._replace(max_epochs=first, progress=progress))
    if plain.interrupted:
        return plain
    x, y = _complete(task)
    log = _Log(task, plain.model, first + tuning, first, plain)

    def observe(_: int, fit: WeightedFit) -> None:
        log.add(fit.params, float(fit.losses.mean()))

    try:
        fit = rlap(
            features,
            head,
            plain.model.params,
            x,
            y.argmax(axis=1) if task.classes else y - _beside(features, head, plain.model, x),
            key=task.key,
            layer=layer,
            epochs=tuning,
            batch_size=fitting_batch_size(len(x)),
            observe=observe,
        )
    except KeyboardInterrupt:
        return log.trained(interrupted=True)
    return log.trained(p_clean=fit.p_clean)


POLICIES: Mapping[TrainingName, Policy] = {"plain": _plain, "ido": _ido, "rlap": _rlap}


@dataclasses.dataclass
class _Log:
    """A training as it goes on: its model and losses. Tells `task.progress`."""

    task: Task
    model: Model
    total: int
    done: int = 0
    before: Trained | None = None
    losses: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def add(self, params: Params, train_loss: float) -> None:
        task, predict_batch = self.task, self.model.predict_batch
        assert predict_batch is not None
        self.model = self.model._replace(params=params)
        index = jnp.asarray(task.validation_index, jnp.int32)
        loss = _mean_loss(predict_batch, task.gather, task.loss, params, task.data, index)
        self.losses.append((train_loss, float(loss)))
        self.done += 1
        if task.progress is not None:
            task.progress(self.done, self.total, *self.losses[-1])

    def trained(
        self, *, interrupted: bool = False, p_clean: NDArray[np.float64] | None = None
    ) -> Trained:
        """What it came to; an interrupt before there is anything is passed on."""
        train, validation = np.array(self.losses).reshape(-1, 2).T
        if self.before is not None:
            train = np.append(self.before.train_loss, train)
            validation = np.append(self.before.validation_loss, validation)
        if not len(train):
            raise KeyboardInterrupt
        last = len(train) - 1
        return Trained(self.model, train, validation, last, last + 1, interrupted, p_clean)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _mean_loss(
    predict_batch: PredictBatch,
    gather: Gather,
    loss: Loss,
    params: Params,
    data: Any,
    index: jax.Array,
) -> jax.Array:
    """Mean over the observed targets; NaN where there are none."""
    x, y, observed = gather(data, index)
    losses = jax.vmap(loss)(predict_batch(params, x), jnp.where(observed, y, 0))
    counted = observed if losses.ndim == 2 else observed.any(axis=1)
    return jnp.where(counted, losses, 0).sum() / counted.sum().astype(losses.dtype)


def _complete(task: Task) -> tuple[Instances, Targets]:
    """The training instances that lack no target, and their targets."""
    if len(task.train_index):
        index = jnp.asarray(task.train_index, jnp.int32)
        x, y, observed = jax.jit(task.gather)(task.data, index)
        kept = np.flatnonzero(np.asarray(observed).all(axis=1))
        if len(kept):
            return x[kept], y[kept]
    raise BackboneError(
        "There is no training instance whose targets are all observed; give more rows, a longer "
        "series, fewer targets, or train plainly."
    )


def _of_more(progress: Progress, more: int) -> Progress:
    """The same training as the first part of a longer one."""
    return lambda epoch, total, *losses: progress(epoch, total + more, *losses)


def _halves(module: nnx.Module) -> tuple[Features, Head, tuple[str | int, ...]]:
    """A perceptron up to its last hidden layer and from there on, and where that layer lies."""
    network = module.network if isinstance(module, LinearPath) else module
    if not isinstance(network, MLP):
        raise UnsupportedError(
            'training="rlap" prunes the neurons of a hidden layer with a linear head behind it: '
            'of the backbones "mlp" has one. Choose that, or training="ido".'
        )
    path = ("network",) if network is not module else ()
    return *_functions(nnx.split(module)[0]), (*path, "layers", len(network.layers) - 1)


@functools.lru_cache(maxsize=64)  # the same functions, so that they are compiled once
def _functions(graphdef: Any) -> tuple[Features, Head]:
    def network(params: Params) -> Any:
        module = nnx.merge(graphdef, params)
        return module.network if isinstance(module, LinearPath) else module

    return (
        lambda params, x: network(params).features(x),
        lambda params, h: network(params).head(h),
    )


def _beside(features: Features, head: Head, model: Model, x: Instances) -> jax.Array:
    """What a model predicts besides the output of its perceptron, `(n, q)`."""
    batch = model.predict_batch
    assert batch is not None
    of_perceptron = jax.jit(head)(model.params, jax.jit(features)(model.params, x))
    rest: jax.Array = jax.jit(batch)(model.params, x) - of_perceptron
    return rest
