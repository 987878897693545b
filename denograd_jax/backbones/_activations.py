"""Activations by name, as PyTorch computes them."""

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from denograd_jax.errors import BackboneError

__all__ = ["ACTIVATIONS", "Activation", "as_function"]

Function: TypeAlias = Callable[[jax.Array], jax.Array]
Activation: TypeAlias = str | Function
"""A name in `ACTIVATIONS`, or any function of an array."""

ACTIVATIONS: dict[str, Function] = {
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "elu": jax.nn.elu,
    "leaky_relu": jax.nn.leaky_relu,
    "softplus": jax.nn.softplus,
}


def as_function(activation: Activation) -> Function:
    """The function of a name; other functions are themselves."""
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise BackboneError(
            f"There is no activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}, or "
            "pass a function."
        )
    return ACTIVATIONS[activation]
