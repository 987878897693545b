"""The model that `refine` trusts: a backbone trained on the data, or the user's own."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from denograd_jax import backbones
from denograd_jax._models import as_model
from denograd_jax._problems import Problem
from denograd_jax._tables import Table
from denograd_jax._types import Instance, Instances, Model, Params, Predict, PredictBatch
from denograd_jax.errors import ShapeError
from denograd_jax.layouts import Data, Rows, Windows

__all__ = ["in_user_units", "train_backbone"]


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
    seed: int,
    max_epochs: int | None,
    progress: Callable[[int, int], None] | None,
) -> backbones.Trained:
    """Train a registered backbone on prepared data, holding the end of it out to stop early.

    Raises:
        ShapeError: No window fits in any segment.
        BackboneError: An unknown name, or training that fails.
    """
    key_model, key_split, key_train = jax.random.split(jax.random.key(seed), 3)
    train_index, validation_index = _split(problem, data, key_split)
    features = problem.x.shape[1]
    shape = (features,) if isinstance(problem.layout, Rows) else (problem.layout.length, features)
    module = backbones.build(
        name, input_shape=shape, outputs=len(problem.targets), rngs=nnx.Rngs(key_model)
    )
    options: dict[str, Any] = {} if max_epochs is None else {"max_epochs": max_epochs}
    report = None if progress is None else (lambda epoch, total, *_: progress(epoch, total))
    return backbones.train(
        module,
        _gather(problem.layout),
        data,
        train_index,
        validation_index,
        key=key_train,
        progress=report,
        **options,
    )


def in_user_units(model: Any, table: Table, problem: Problem) -> Model:
    """The user's model seen from standardised units; it gets the numeric inputs alone."""
    model = as_model(model)
    predict, predict_batch = _between_units(model.predict, model.predict_batch)
    scales = UnitScales(
        model.params,
        *(
            jnp.asarray(values[columns], jnp.float32)
            for columns in (problem.inputs, problem.targets)
            for values in (table.mean, table.scale)
        ),
    )
    return Model(predict, scales, predict_batch)


@functools.lru_cache(maxsize=64)
def _between_units(
    predict: Predict, predict_batch: PredictBatch | None
) -> tuple[Predict, PredictBatch | None]:
    def to_user(u: UnitScales, x: jax.Array) -> jax.Array:
        x = x[..., : u.x_scale.size]
        return x * jnp.broadcast_to(u.x_scale, x.shape) + jnp.broadcast_to(u.x_mean, x.shape)

    def from_user(u: UnitScales, prediction: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        prediction = prediction.reshape(shape)
        mean, scale = (jnp.broadcast_to(a, prediction.shape) for a in (u.y_mean, u.y_scale))
        return (prediction - mean) / scale

    def one(u: UnitScales, x: Instance) -> jax.Array:
        prediction = predict(u.params, to_user(u, x))
        return from_user(u, prediction, (prediction.size,))

    def batch(u: UnitScales, x: Instances) -> jax.Array:
        assert predict_batch is not None
        prediction = predict_batch(u.params, to_user(u, x))
        return from_user(u, prediction, (x.shape[0], -1))

    return one, None if predict_batch is None else batch


@functools.lru_cache(maxsize=64)
def _gather(layout: Rows | Windows) -> Any:
    def gather(data: Data, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        cut = layout.gather(data, index)
        return cut.x, cut.y, cut.observed_y

    return gather


def _split(problem: Problem, data: Data, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Instances to train and to validate on, of those that have a target."""
    layout = problem.layout
    count = layout.count(data)
    valid = np.flatnonzero(jax.jit(_valid, static_argnums=(0, 2))(layout, data, count))
    if len(valid) == 0:
        raise ShapeError(
            "no window fits between the gaps and group borders, or every target is missing: use a "
            "shorter window, or leave out time= to take the rows as evenly spaced."
        )
    if isinstance(layout, Rows):
        train, validation = backbones.split_rows(len(valid), key=key)
    else:
        starts = valid * layout.stride
        segments = None if problem.segments is None else problem.segments[starts]
        train, validation = backbones.split_windows(starts, layout.span, segments=segments)
    return valid[train], valid[validation]


def _valid(layout: Rows | Windows, data: Data, count: int) -> jax.Array:
    return layout.gather(data, jnp.arange(count)).valid
