"""Steps of recurrent layers, our backbones' and PyTorch's, and the scan that repeats one.

A step projects its input itself, and the backward pass computes it again, all of it or all but its
matrix products: on XLA's CPU backend faster, for value and gradient, than projecting all inputs
before the scan or storing what the step found (docs/design.md).
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

__all__ = ["Step", "gru_step", "lstm_step", "rnn_step", "scan_steps"]

Step: TypeAlias = Callable[[Any, jax.Array], Any]
"""State `(n, units)`, or a tuple whose first array is the output, and input `(n, inputs)` to the
next state."""


def scan_steps(
    step: Step, state: Any, x: jax.Array, *, reverse: bool = False, keep_products: bool = False
) -> tuple[Any, Any]:
    """Last state, and outputs `(W, n, units)`, of a time-major sequence `(W, n, inputs)`.

    The backward pass computes all of a step again, or with `keep_products` all but its matrix
    products: fewer multiplications, more memory traffic. On a CPU the former is faster for a GRU,
    the latter for an LSTM, within the loop of a refinement (docs/design.md).
    """

    def body(state: Any, x_t: jax.Array) -> tuple[Any, jax.Array]:
        state = step(state, x_t)
        return state, state[0] if isinstance(state, tuple) else state

    policies = jax.checkpoint_policies
    kept = policies.dots_saveable if keep_products else policies.nothing_saveable
    body = jax.checkpoint(body, policy=kept, prevent_cse=False)
    # A sum with nothing, so that under `shard_map` the state varies over the mesh as x does.
    state = jax.tree.map(lambda s: s + jnp.zeros_like(x, shape=()) * 0, state)
    return jax.lax.scan(body, state, x, reverse=reverse)


def lstm_step(
    weight: jax.Array, bias: jax.Array, state: tuple[jax.Array, jax.Array], x_t: jax.Array
) -> tuple[jax.Array, jax.Array]:
    r"""Long short-term memory: $(h_{t-1}, c_{t-1})$ and $x_t$ to $(h_t, c_t)$.

    $$i, f, g, o = [x_t, h_{t-1}] W + b$$
    $$c_t = \sigma(f) c_{t-1} + \sigma(i) \tanh(g), \qquad h_t = \sigma(o) \tanh(c_t)$$

    Source: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000; the order of
    gates is that of `torch.nn.LSTM`.
    """
    h, c = state
    gates = jnp.concatenate([x_t, h], axis=-1) @ weight + bias[None]
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_step(
    input_weight: jax.Array,
    input_bias: jax.Array,
    hidden_weight: jax.Array,
    hidden_bias: jax.Array,
    h: jax.Array,
    x_t: jax.Array,
) -> jax.Array:
    r"""Gated recurrent unit: $h_{t-1}$ and $x_t$ to $h_t$.

    $$r, z = \sigma(x_t W_x + b_x + h_{t-1} W_h + b_h) \quad \text{(their columns)}$$
    $$m = \tanh(x_t W_x + b_x + r (h_{t-1} W_h + b_h)) \quad \text{(its columns)}$$
    $$h_t = (1 - z) m + z h_{t-1}$$

    Source: Cho et al. 2014, with the reset gate after the product as in cuDNN, which is why the
    hidden state has a bias of its own.
    """
    from_x = jnp.split(x_t @ input_weight + input_bias[None], 3, axis=-1)
    from_h = jnp.split(h @ hidden_weight + hidden_bias[None], 3, axis=-1)
    r = jax.nn.sigmoid(from_x[0] + from_h[0])
    z = jax.nn.sigmoid(from_x[1] + from_h[1])
    m = jnp.tanh(from_x[2] + r * from_h[2])
    return (1 - z) * m + z * h


def rnn_step(
    activation: Callable[[jax.Array], jax.Array],
    weight: jax.Array,
    bias: jax.Array,
    h: jax.Array,
    x_t: jax.Array,
) -> jax.Array:
    r"""Elman's network: $h_t = a([x_t, h_{t-1}] W + b)$."""
    return activation(jnp.concatenate([x_t, h], axis=-1) @ weight + bias[None])
