"""Keras 3 on its JAX backend."""

import inspect
import sys
from typing import Any

import jax
import jax.numpy as jnp

from denograd_jax._types import Model, Params, Predict
from denograd_jax.errors import UnsupportedError
from denograd_jax.models._functions import model_of, reuse

__all__ = ["from_keras"]


def from_keras(model: Any, batched: bool) -> Model:
    """Copies of the model's variables are the parameters: Keras gives its own away in training."""
    _refuse_backend()
    if not model.built:
        raise UnsupportedError(
            f"the Keras model {model.name!r} has no weights yet: call it on a batch once, or begin "
            "it with keras.Input(shape)."
        )
    groups = model.trainable_variables, model.non_trainable_variables
    params = tuple([jnp.array(variable.value) for variable in group] for group in groups)
    return model_of(_stateless_call(model), params, batched)


def _refuse_backend() -> None:
    keras = sys.modules["keras"]
    backend = keras.backend.backend()
    if int(keras.__version__.partition(".")[0]) < 3:
        raise UnsupportedError(
            f"Keras {keras.__version__} cannot run on JAX: load the model with Keras 3."
        )
    if backend != "jax":
        raise UnsupportedError(
            f"Keras runs on {backend!r} in this process, which JAX cannot differentiate: set the "
            "environment variable KERAS_BACKEND=jax before keras is imported, and load the model "
            "from its .keras file."
        )


@reuse
def _stateless_call(model: Any) -> Predict:
    takes_training = "training" in inspect.signature(model.call).parameters
    inference = {"training": False} if takes_training else {}

    def predict(params: Params, x: jax.Array) -> jax.Array:
        prediction, _ = model.stateless_call(*params, x, **inference)
        return prediction  # type: ignore[no-any-return]

    return predict
