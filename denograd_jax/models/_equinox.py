"""Equinox: a module that holds its own arrays."""

import inspect
import sys
from typing import Any

import jax
import numpy as np

from denograd_jax._types import Model, Params, Predict
from denograd_jax.errors import UnsupportedError
from denograd_jax.models._functions import model_of, reuse

__all__ = ["from_equinox"]


def from_equinox(module: Any, batched: bool) -> Model:
    """The module's arrays are the parameters; all else is static."""
    equinox = sys.modules["equinox"]

    def is_state(leaf: Any) -> bool:
        return isinstance(leaf, equinox.nn.StateIndex)

    if any(map(is_state, jax.tree.leaves(module, is_leaf=is_state))):
        raise UnsupportedError(
            f"the Equinox module {type(module).__name__} has state (batch statistics?), which is "
            "kept beside it: pass the pair (predict, params) of a function predict(params, x) "
            "that calls the module with its state, in inference mode."
        )
    params, static = equinox.partition(equinox.nn.inference_mode(module), _is_array)
    leaves, structure = jax.tree.flatten(static)  # hashable even where the module holds lists
    return model_of(_call((structure, *leaves)), params, batched)


@reuse
def _call(flat_static: tuple[Any, ...]) -> Predict:
    equinox = sys.modules["equinox"]
    structure, *leaves = flat_static
    static = jax.tree.unflatten(structure, leaves)
    key = inspect.signature(type(static).__call__).parameters.get("key")
    # A key without a default must be given, though nothing is drawn in inference mode.
    required = {"key": None} if key is not None and key.default is key.empty else {}

    def predict(params: Params, x: jax.Array) -> jax.Array:
        return equinox.combine(params, static)(x, **required)  # type: ignore[no-any-return]

    return predict


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)
