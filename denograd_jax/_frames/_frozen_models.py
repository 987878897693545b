"""The model that `refine` trusts: a backbone trained on the data, or the user's own."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from denograd_jax import backbones
from denograd_jax._core._prepare import valid_instances
from denograd_jax._frames._classes import Classes
from denograd_jax._frames._columns import listed
from denograd_jax._frames._problems import Problem
from denograd_jax._frames._schema import Schema, Table
from denograd_jax._types import Instance, Instances, Model, Params, Predict, PredictBatch
from denograd_jax.classification._training import train_classifier
from denograd_jax.errors import (
    ColumnError,
    DataError,
    DenogradError,
    ModelError,
    UnsupportedError,
)
from denograd_jax.layouts import Data, Rows, Windows
from denograd_jax.models import as_model, by_fold
from denograd_jax.robust._policies import POLICIES, Task, TrainingName

__all__ = [
    "between_units",
    "cross_fit_backbone",
    "fit_linear_backbone",
    "in_user_units",
    "refuse_training",
    "train_backbone",
]

FITTED_AT_ONCE = "linear", "mixture"
"""Models of closed form or expectation-maximisation: no epochs, hence no policy."""
COARSE = 1e-6
"""A standard deviation below this fraction of the values is lost in the rounding of float32."""


class UnitScales(NamedTuple):
    """A user's model with what it takes to speak to it in the user's units."""

    params: Params
    x_mean: jax.Array
    x_scale: jax.Array
    y_mean: jax.Array
    y_scale: jax.Array


def train_backbone(
    name: str,
    problem: Problem,
    data: Data,
    *,
    training: TrainingName = "plain",
    seed: int,
    max_epochs: int | None,
    progress: Callable[[int, int], None] | None,
) -> backbones.Trained:
    """Train a registered backbone on prepared data, holding some of it out to stop early.

    Of classes it gives the logits, and is trained by cross-entropy.

    Raises:
        UnsupportedError: A backbone that cannot be trained that way.
        BackboneError: An unknown name, or training that fails.
    """
    if problem.y is not None and not problem.targets:
        real = problem.order >= 0
        labels, key = problem.y[real], jax.random.key(seed)
        labelled = np.flatnonzero(~np.isnan(labels).any(axis=1))
        return train_classifier(
            name,
            problem.x[real],
            labels,
            labelled,
            key=key,
            training=training,
            max_epochs=max_epochs,
            progress=progress,
        )
    key_model, key_split, key_train = jax.random.split(jax.random.key(seed), 3)
    usable = np.flatnonzero(valid_instances(problem.layout, data))
    train_index, validation_index = _split(problem, usable, key_split)
    module = backbones.build(
        name,
        input_shape=problem.instance_shape,
        outputs=problem.outputs,
        rngs=nnx.Rngs(key_model),
    )
    gather = _gather(problem.layout)
    report = None if progress is None else (lambda epoch, total, *_: progress(epoch, total))
    return POLICIES[training](
        Task(module, gather, data, train_index, validation_index, key_train, max_epochs, report)
    )


def cross_fit_backbone(
    name: str,
    problem: Problem,
    data: Data,
    folds: int,
    *,
    seed: int,
    max_epochs: int | None,
    progress: Callable[[int, int], None] | None,
) -> backbones.TrainedFolds:
    """Train a registered backbone once for each fold, on instances that share no cell with it.

    Of a series, neither with anything that a window of the fold looks at: models are asked for
    whole windows.

    Args:
        name: Of the backbone.
        problem: Its instances end in their fold; the backbones are trained without that number.
        data: Its arrays, prepared.
        folds: How many there are.
        seed: Of weights, batches and what is held out to stop early.
        max_epochs: Most training epochs.
        progress: Called as it goes on.

    Returns:
        The backbones as one model of the problem's instances.

    Raises:
        BackboneError: An unknown name, or training that fails.
    """
    outside = [_outside(problem, data, fold) for fold in range(folds)]
    if name == "linear":
        found = _linear_by_fold(problem, data, outside)
    else:
        found = _trained_by_fold(name, problem, data, outside, seed, max_epochs, progress)
    return found._replace(model=by_fold(found.model))


def _linear_by_fold(
    problem: Problem, data: Data, outside: list[NDArray[np.intp]]
) -> backbones.TrainedFolds:
    fits = [
        backbones.fit_linear(
            _gather_inputs(problem.layout),
            data,
            index,
            input_shape=_without_fold(problem),
            outputs=len(problem.targets),
        )
        for index in outside
    ]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(f.model.params for f in fits))
    model = fits[0].model._replace(params=params)
    return backbones.TrainedFolds(model, np.full(len(fits), np.nan), 0)


def _trained_by_fold(
    name: str,
    problem: Problem,
    data: Data,
    outside: list[NDArray[np.intp]],
    seed: int,
    max_epochs: int | None,
    progress: Callable[[int, int], None] | None,
) -> backbones.TrainedFolds:
    key_model, key_split, key_train = jax.random.split(jax.random.key(seed), 3)
    splits = [
        _split(problem, index, key)
        for index, key in zip(outside, jax.random.split(key_split, len(outside)), strict=True)
    ]
    modules = [
        backbones.build(
            name,
            input_shape=_without_fold(problem),
            outputs=len(problem.targets),
            rngs=nnx.Rngs(key),
        )
        for key in jax.random.split(key_model, len(outside))
    ]
    options: dict[str, Any] = {} if max_epochs is None else {"max_epochs": max_epochs}
    return backbones.train_folds(
        modules,
        _gather_inputs(problem.layout),
        data,
        [train for train, _ in splits],
        [validation for _, validation in splits],
        key=key_train,
        progress=None if progress is None else (lambda epoch, total, *_: progress(epoch, total)),
        **options,
    )


def refuse_training(training: Any, model: Any, schema: Schema) -> None:
    """Refuse a way of training that is unknown, or that the model is not trained in."""
    if training not in list(POLICIES):  # a list compares what has no hash
        raise UnsupportedError(f'training must be "plain", "ido" or "rlap", not {training!r}.')
    if training == "plain" or model is None:
        return
    at_once = FITTED_AT_ONCE if schema.classes is None else ("mixture",)
    if not isinstance(model, str) or model in at_once:
        which = f'the model "{model}" is' if isinstance(model, str) else "a model given is"
        raise UnsupportedError(
            f'training="{training}" is for backbones trained here by stochastic gradients, an '
            f'"mlp" unless another is named; {which} not: leave one of the two out.'
        )


def fit_linear_backbone(problem: Problem, data: Data) -> backbones.LinearFit:
    """Fit the backbone "linear" to prepared data, to all instances that there are.

    Raises:
        BackboneError: Too few of them.
    """
    return backbones.fit_linear(
        _gather(problem.layout),
        data,
        np.flatnonzero(valid_instances(problem.layout, data)),
        input_shape=problem.instance_shape,
        outputs=len(problem.targets),
    )


def in_user_units(
    model: Any, table: Table, problem: Problem, classes: Classes | None = None
) -> Model:
    """The user's model seen from standardised units; it gets the numeric inputs alone.

    Of `classes` it gives the logits, which have no unit.

    Raises:
        UnsupportedError: What `as_model` does not recognise, or groups that are scaled apart.
        ModelError: A model that fails on one instance, or whose output does not fit the targets.
        ColumnError: No numeric input.
        DataError: Columns that float32 cannot hold in the user's units.
    """
    if len(table.mean) > 1:
        raise UnsupportedError(
            'scale="group" is for backbones trained here: a model given sees the user\'s units.'
        )
    if not problem.inputs:
        raise ColumnError(
            "there is no numeric column besides the target to give to the model: text, categories "
            "and booleans are seen by backbones alone."
        )
    model = as_model(model, example=np.zeros((2, *_instance_shape(problem)), np.float32))
    _refuse_units(table)
    expected = [table.labels[j] for j in problem.targets]
    explained = f"as many values as there are targets ({listed(expected)})"
    if classes is not None:
        names = listed(classes.names)
        explained = f"a logit for each class of {classes.label!r}, in the order {names}"
    _try_model(model, table, problem, explained)
    predict, predict_batch = between_units(model)
    of_x, of_y = (
        [jnp.asarray(values[0, columns].astype(np.float32)) for values in (table.mean, table.scale)]
        for columns in (problem.inputs, problem.targets)
    )
    if classes is not None:
        of_y = [of((problem.outputs,), jnp.float32) for of in (jnp.zeros, jnp.ones)]
    return Model(predict, UnitScales(model.params, *of_x, *of_y), predict_batch)


def _refuse_units(table: Table) -> None:
    """Refuse numbers that would overflow in the user's units, or vary by no more than rounding."""
    limits = np.finfo(np.float32)
    largest = np.nan_to_num(np.abs(table.values)).max(axis=0)
    farthest = np.nan_to_num(np.abs(table.values - table.mean)).max(axis=0)
    varies = farthest > 1e-12 * largest
    mean, scale = table.mean[0], table.scale[0]
    beyond = (largest > limits.max) | (scale < limits.tiny)
    for j in np.flatnonzero(beyond | (varies & (scale < COARSE * largest))):
        raise DataError(
            f"column {table.labels[j]!r} (mean {mean[j]:.6g}, standard deviation "
            f"{scale[j]:.3g}) cannot be given to a model in float32: scale or shift it, and "
            "train the model on such values, or leave model= out."
        )


def _instance_shape(problem: Problem) -> tuple[int, ...]:
    inputs = len(problem.inputs)
    if isinstance(problem.layout, Windows):
        return problem.layout.length, inputs
    return (inputs,)


def _try_model(model: Model, table: Table, problem: Problem, explained: str) -> None:
    """Refuse, before any work is done, a model that does not fit the data."""
    shape = _instance_shape(problem)
    inputs = listed([table.labels[j] for j in problem.inputs])
    for function, lead in ((model.predict, ()), (model.predict_batch, (2,))):
        if function is None:
            continue
        given = f"an input of shape {(*lead, *shape)} (columns {inputs})"
        try:
            x = np.broadcast_to(np.float32(0), (*lead, *shape))
            prediction = jax.eval_shape(function, model.params, x)
        except DenogradError:
            raise
        except Exception as error:
            raise ModelError(f"the model fails on {given}: {_first_line(error)}") from error
        found = getattr(prediction, "shape", None)
        expected = (*lead, problem.outputs)
        if found is None or math.prod(found) != math.prod(expected):
            raise ModelError(
                f"for {given} the model returns {_described(prediction)}, not one of shape "
                f"{expected}: {explained}."
            )


def _described(prediction: Any) -> str:
    shape = getattr(prediction, "shape", None)
    return f"a {type(prediction).__name__}" if shape is None else f"an array of shape {shape}"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0].rstrip('.')}."


def between_units(model: Model) -> tuple[Predict, PredictBatch | None]:
    """The functions of a model as functions of standardised units, given `UnitScales`."""
    try:
        return _between_units(model.predict, model.predict_batch)
    except TypeError:  # functions without a hash: compiled anew each time
        return _between_units.__wrapped__(model.predict, model.predict_batch)


@functools.lru_cache(maxsize=64)
def _between_units(
    predict: Predict, predict_batch: PredictBatch | None
) -> tuple[Predict, PredictBatch | None]:
    def to_user(u: UnitScales, x: jax.Array) -> jax.Array:
        x = x[..., : u.x_scale.size]
        return x * jnp.broadcast_to(u.x_scale, x.shape) + jnp.broadcast_to(u.x_mean, x.shape)

    def from_user(u: UnitScales, prediction: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        prediction = jnp.asarray(prediction, u.y_mean.dtype).reshape(shape)
        mean, scale = (jnp.broadcast_to(a, prediction.shape) for a in (u.y_mean, u.y_scale))
        return (prediction - mean) / scale

    def one(u: UnitScales, x: Instance) -> jax.Array:
        prediction = predict(u.params, to_user(u, x))
        return from_user(u, prediction, (u.y_mean.size,))

    def batch(u: UnitScales, x: Instances) -> jax.Array:
        assert predict_batch is not None
        prediction = predict_batch(u.params, to_user(u, x))
        return from_user(u, prediction, (x.shape[0], u.y_mean.size))

    return one, None if predict_batch is None else batch


@functools.lru_cache(maxsize=64)
def _gather(layout: Rows | Windows) -> Any:
    def gather(data: Data, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        cut = layout.gather(data, index)
        return cut.x, cut.y, cut.observed_y

    return gather


@functools.lru_cache(maxsize=64)
def _gather_inputs(layout: Rows | Windows) -> Any:
    """As `_gather`, without the number of the fold."""

    def gather(data: Data, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        x, y, observed = _gather(layout)(data, index)
        return x[..., :-1], y, observed

    return gather


def _without_fold(problem: Problem) -> tuple[int, ...]:
    """Shape of an instance as backbones see it that are trained by folds."""
    return (*problem.instance_shape[:-1], problem.instance_shape[-1] - 1)


def _outside(problem: Problem, data: Data, fold: int) -> NDArray[np.intp]:
    """Usable instances that share no cell with any instance that lies in a fold."""
    layout = problem.layout
    usable: NDArray[np.intp] = np.flatnonzero(valid_instances(layout, data))
    inside = (problem.order >= 0) & (problem.x[:, -1] == fold)
    if isinstance(layout, Rows):
        apart: NDArray[np.intp] = usable[~inside[usable]]
        return apart
    # A window lies where its last input does: it reaches less than a span to either side.
    first = usable * layout.stride
    reach = layout.span - 1
    begin = np.maximum(first - reach, 0)
    end = np.minimum(first + layout.span + reach, len(inside))
    sums = np.concatenate([[0], np.cumsum(inside)])
    clear: NDArray[np.intp] = usable[sums[end] == sums[begin]]
    return clear


def _split(
    problem: Problem, usable: NDArray[np.intp], key: jax.Array
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Instances to train and to validate on, of these."""
    layout = problem.layout
    if isinstance(layout, Rows):
        train, validation = backbones.split_rows(len(usable), key=key)
    else:
        starts = usable * layout.stride
        segments = None if problem.segments is None else problem.segments[starts]
        train, validation = backbones.split_windows(starts, layout.span, segments=segments)
    return usable[train], usable[validation]
