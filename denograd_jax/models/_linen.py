"""Flax Linen: a module and its variables."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax

from denograd_jax._types import Model, Params, Predict
from denograd_jax.errors import UnsupportedError
from denograd_jax.models._functions import inference_arguments, model_of, reuse

__all__ = ["from_linen"]


def from_linen(module: Any, variables: Any, batched: bool) -> Model:
    """A module with what `module.init` returned; the module keeps no arrays of its own."""
    if not isinstance(variables, Mapping) or (variables and "params" not in variables):
        raise UnsupportedError(
            f"expected the variables of {type(module).__name__} as module.init returns them, a "
            f"mapping with the key 'params'; got {variables!r:.200}."
        )
    return model_of(_apply(module), variables, batched)


@reuse
def _apply(module: Any) -> Predict:
    parameters = inspect.signature(type(module).__call__).parameters
    # A default of None announces `flax.linen.merge_param`: the value comes from the call or from
    # the constructor, and Flax raises where both give one.
    inference = {
        name: value
        for name, value in inference_arguments(parameters).items()
        if parameters[name].default is not None or getattr(module, name, None) is None
    }

    def predict(variables: Params, x: jax.Array) -> jax.Array:
        return module.apply(variables, x, **inference)  # type: ignore[no-any-return]

    return predict
