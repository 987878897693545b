"""IDO: classification under noisy labels, by how often the model was wrong about each instance."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from denograd_jax._types import Params, PredictBatch
from denograd_jax.robust import _checks
from denograd_jax.robust._base_model import BaseModel, first_base, follow
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
from denograd_jax.robust._ido_loss import SampleWeights, ido_loss, sample_weights
from denograd_jax.robust._views import View, jitter, swap

__all__ = ["IdoFit", "IdoState", "ido"]


class IdoState(NamedTuple):
    """The state of a training by IDO after an epoch, on the device.

    Attributes:
        params: Of the model.
        optimizer: State of the optimizer.
        wrong_events: How often the model was wrong about each instance so far, `(n,)` integers.
        predictions: Last predicted class of each instance, `(n,)`; -1 before the first epoch.
        losses: Last cross-entropy of each instance (of its weak view), `(n,)`.
        base: The base model so far.
        mixture: Of wrong events; where it starts from, as long as the first stage lasts.
    """

    params: Params
    optimizer: optax.OptState
    wrong_events: jax.Array
    predictions: jax.Array
    losses: jax.Array
    base: BaseModel
    mixture: BetaMixture


class IdoFit(NamedTuple):
    """A classifier trained on noisy labels, and what it says of them.

    Attributes:
        params: After the second stage.
        base_params: That the second stage started from.
        base_epoch: Index of the epoch of the first stage that they are of.
        wrong_events: How often the model was wrong about each instance, `(n,)` integers.
        p_clean: Probability that each label is clean, `(n,)`.
        mixture: Of the wrong events, over `unit_range(wrong_events)`.
        changed: How many predictions each epoch of the first stage changed, `(warm_epochs,)`; the
            first changes all.
    """

    params: Params
    base_params: Params
    base_epoch: int
    wrong_events: jax.Array
    p_clean: jax.Array
    mixture: BetaMixture
    changed: jax.Array

    @property
    def p_noisy(self) -> jax.Array:
        """Probability that each label is noisy, `(n,)`."""
        return 1 - self.p_clean


Observe = Callable[[int, IdoState], object]


def ido(
    apply: PredictBatch,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    key: jax.Array,
    warm_epochs: int = 30,
    epochs: int = 10,
    per_class: bool = False,
    weak: View | None = None,
    strong: View | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 128,
    observe: Observe | None = None,
) -> IdoFit:
    """Trains a classifier on labels of which a part is wrong.

    The first stage trains on all labels and counts wrong events: in how many epochs the predicted
    class was not the given one. They are counted on the forward pass that updates the weights, so
    that nothing is computed twice. A mixture of two Beta distributions over them tells clean labels
    from noisy ones, and both from such as are clean but hard. The second stage starts from the base
    model, of the epoch before the number of predictions that change first rose, and trains each
    instance according to its probabilities (`ido_loss`); events go on being counted, one for each
    view, and the mixture follows. The same key gives the same result.

    Args:
        apply: `apply(params, x)`, a batch of instances `(n, ...)` to logits `(n, C)`. Pure.
        params: Pytree of arrays that training starts from; it is not changed.
        x: Instances, `(n, d)` or `(n, W, C)`, finite; standardise them.
        y: Class labels `(n,)`, integers from 0, some of them wrong.
        key: JAX random key of shuffling and views.
        warm_epochs: Of the first stage: about 30 from scratch, 5 for a pretrained model.
        epochs: Of the second stage; with 0 it only tells clean from noisy.
        per_class: Whether each given label has a mixture of its own: better where there are enough
            instances of each (some hundred), and noise is not the same for all.
        weak: Random copy of a batch; `jitter()` unless given, of use for tables and series.
        strong: The same, further away; `swap()` unless given.
        optimizer: Of optax, for both stages; unless given Adam with a learning rate of 1e-3, which
            in the second stage falls to 0 along a cosine.
        batch_size: Instances per step.
        observe: `observe(epoch, state)` is called after every epoch, counted from 0 through both
            stages; what it looks at is waited for.

    Returns:
        `IdoFit`.

    Raises:
        ShapeError: Arrays do not fit each other.
        DataError: x is not finite, labels are unknown to the model or all the same, or a number of
            epochs or instances is too small.
        ModelError: The model makes no logits.
        BackboneError: A stage ends in losses that are not finite.

    Source:
        IDO, arXiv 2505.00812, NeurIPS 2025; written from its equations.
    """
    _checks.at_least(1, warm_epochs=warm_epochs, batch_size=batch_size)
    _checks.at_least(0, epochs=epochs)
    x = _checks.instances(x, params)
    y = _checks.labels(apply, params, x, y)
    batch_size = min(batch_size, len(x))
    steps = max(epochs, 1) * -(-len(x) // batch_size)
    groups = int(y.max()) + 1 if per_class else None
    task = _Task(
        apply, weak or jitter(), strong or swap(), optimizer or adam(), batch_size, per_class
    )
    second = dataclasses.replace(task, optimizer=optimizer or decaying_adam(steps))

    state, changed = _begin(task, params, x, groups), []
    for epoch in range(warm_epochs):
        state = _warm_epoch(task, state, jax.random.fold_in(key, epoch), x, y)
        changed.append(state.base.changed)
        if observe is not None:
            observe(epoch, state)
    check_losses(state.losses)
    state = _second_begin(second, state, y)
    for epoch in range(warm_epochs, warm_epochs + epochs):
        state = _second_epoch(second, state, jax.random.fold_in(key, epoch), x, y)
        if observe is not None:
            observe(epoch, state)
    check_losses(state.losses)
    return IdoFit(
        params=state.params,
        base_params=state.base.params,
        base_epoch=int(state.base.epoch),
        wrong_events=state.wrong_events,
        p_clean=_final_weights(task, state, y).clean,
        mixture=state.mixture,
        changed=jnp.stack(changed),
    )


@dataclasses.dataclass(frozen=True)
class _Task:
    """What a compiled epoch depends on besides the shapes and dtypes of its arguments."""

    apply: PredictBatch
    weak: View
    strong: View
    optimizer: optax.GradientTransformation
    batch_size: int
    per_class: bool

    def groups(self, y: jax.Array) -> jax.Array | None:
        return y if self.per_class else None


def _begin(task: _Task, params: Params, x: jax.Array, groups: int | None) -> IdoState:
    count = len(x)
    return IdoState(
        params=params,
        optimizer=begin(task.optimizer, params),
        wrong_events=jnp.zeros(count, jnp.int32),
        predictions=jnp.full(count, -1, jnp.int32),
        losses=jnp.zeros(count, x.dtype),
        base=first_base(params, count),
        mixture=starting_mixture(groups),
    )


@functools.partial(jax.jit, static_argnums=0)
def _warm_epoch(
    task: _Task, state: IdoState, key: jax.Array, x: jax.Array, y: jax.Array
) -> IdoState:
    """Plain training, in which wrong events and changed predictions are counted."""

    def step(state: IdoState, key: jax.Array, index: jax.Array) -> IdoState:
        view, labels = task.weak(key, take(x, index)), take(y, index)

        def objective(params: Params) -> tuple[jax.Array, Any]:
            logits = task.apply(params, view)
            losses = loss_of(logits, labels)
            return mean_over(losses, index, len(x)), (logits, losses)

        gradient, (logits, losses) = jax.grad(objective, has_aux=True)(state.params)
        params, optimizer = descend(task.optimizer, gradient, state.params, state.optimizer)
        counted = _count(state, index, labels, losses, logits)
        return counted._replace(params=params, optimizer=optimizer)

    after = one_pass(step, state, key, len(x), task.batch_size)
    changed = (after.predictions != state.predictions).sum()
    return after._replace(base=follow(state.base, after.params, changed))


@functools.partial(jax.jit, static_argnums=0)
def _second_begin(task: _Task, state: IdoState, y: jax.Array) -> IdoState:
    """The base model, a new optimizer and a mixture of the events so far."""
    u = unit_range(state.wrong_events)
    mixture = improve(state.mixture, u, task.groups(y), FIRST_ITERATIONS)
    params = state.base.params
    return state._replace(params=params, optimizer=begin(task.optimizer, params), mixture=mixture)


@functools.partial(jax.jit, static_argnums=0)
def _second_epoch(
    task: _Task, state: IdoState, key: jax.Array, x: jax.Array, y: jax.Array
) -> IdoState:
    """Training by what each instance is likely to be, as events tell before the epoch."""
    weights = _weights(task, state, y)

    def step(state: IdoState, key: jax.Array, index: jax.Array) -> IdoState:
        weak_key, strong_key = jax.random.split(key)
        batch, labels = take(x, index), take(y, index)
        views = task.weak(weak_key, batch), task.strong(strong_key, batch)
        of_batch = SampleWeights(*(take(w, index).astype(x.dtype) for w in weights))

        def objective(params: Params) -> tuple[jax.Array, Any]:
            # One batch of both views: one pass through the model instead of two.
            weak, strong = jnp.split(task.apply(params, jnp.concatenate(views)), 2)
            losses = ido_loss(weak, strong, labels, of_batch)
            return mean_over(losses, index, len(x)), (weak, strong)

        gradient, (weak, strong) = jax.grad(objective, has_aux=True)(state.params)
        params, optimizer = descend(task.optimizer, gradient, state.params, state.optimizer)
        counted = _count(state, index, labels, loss_of(weak, labels), weak, strong)
        return counted._replace(params=params, optimizer=optimizer)

    state = one_pass(step, state, key, len(x), task.batch_size)
    u = unit_range(state.wrong_events)
    return state._replace(mixture=improve(state.mixture, u, task.groups(y), LATER_ITERATIONS))


def _count(
    state: IdoState,
    index: jax.Array,
    labels: jax.Array,
    losses: jax.Array,
    *logits: jax.Array,
) -> IdoState:
    """One event for each view whose predicted class is not the label; padding is dropped."""
    predicted = [view.argmax(axis=1).astype(jnp.int32) for view in logits]
    wrong = sum((classes != labels).astype(jnp.int32) for classes in predicted)
    return state._replace(
        wrong_events=state.wrong_events.at[index].add(wrong, mode="drop"),
        predictions=state.predictions.at[index].set(predicted[0], mode="drop"),
        losses=state.losses.at[index].set(losses, mode="drop"),
    )


def _weights(task: _Task, state: IdoState, y: jax.Array) -> SampleWeights:
    return sample_weights(state.mixture, unit_range(state.wrong_events), task.groups(y))


_final_weights = jax.jit(_weights, static_argnums=0)
