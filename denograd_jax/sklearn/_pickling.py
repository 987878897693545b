"""Fitted models without their functions, which cannot be pickled, and the functions again."""

import dataclasses
from typing import Any

import jax
import numpy as np
from flax import nnx

from denograd_jax import backbones
from denograd_jax._frames._fitted import Fitted
from denograd_jax._frames._frozen_models import between_units
from denograd_jax._types import Instance, Model, Params
from denograd_jax.models import as_model

__all__ = ["with_functions", "without_functions"]


def without_functions(fitted: Fitted) -> Fitted:
    """A copy whose parameters are NumPy arrays and whose functions are left behind."""
    params = jax.device_get(fitted.model.params)
    return dataclasses.replace(fitted, model=Model(_left_behind, params))


def with_functions(stored: Fitted, given: Any) -> Fitted:
    """What `without_functions` was given.

    Args:
        stored: What it made of it.
        given: The model that the user gave, if it was none of the backbones.
    """
    predict, predict_batch = _functions_of(stored, given)
    params = jax.device_put(stored.model.params)
    return dataclasses.replace(stored, model=Model(predict, params, predict_batch))


def _functions_of(stored: Fitted, given: Any) -> tuple[Any, Any]:
    if stored.backbone is not None:
        module = backbones.build(
            stored.backbone,
            input_shape=stored.input_shape,
            outputs=stored.outputs,
            rngs=nnx.Rngs(0),
        )
        predict, _, predict_batch = backbones.as_pure(module)
        return predict, predict_batch
    model = as_model(given, example=np.zeros((2, *stored.input_shape), np.float32))
    return between_units(model)


def _left_behind(params: Params, x: Instance) -> jax.Array:
    raise AssertionError("the functions of a pickled model are built anew when it is loaded")
