"""Small JAX models for the core's tests."""

import jax.numpy as jnp


def tanh_net(params, x):
    """The oracle's network, of one instance of any shape."""
    hidden = jnp.tanh(params["w1"] @ x.ravel() + params["b1"])
    return params["w2"] @ hidden + params["b2"]


def linear(params, x):
    return params @ x
