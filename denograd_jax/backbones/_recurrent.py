"""Recurrent backbones, with the equations and the gate order of `torch.nn.LSTM` and `GRU`.

Both cells project their input inside the scanned step, and keep only its matrix products for the
backward pass: on XLA's CPU backend faster, for value and gradient, than projecting all inputs
before the scan or storing everything.
"""

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from denograd_jax.backbones._feedforward import Convolution

__all__ = ["ConvolutionalLSTM", "GRULayer", "LSTMLayer", "Recurrent"]

_Step: TypeAlias = Callable[[Any, jax.Array], tuple[Any, jax.Array]]


def _uniform(rngs: nnx.Rngs, shape: tuple[int, ...], units: int) -> nnx.Param[jax.Array]:
    bound = units**-0.5
    return nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))


def _scan(step: _Step, carry: Any, x: jax.Array) -> jax.Array:
    """All but the matrix products is computed again in the backward pass, which is faster."""
    keep_products = jax.checkpoint_policies.dots_saveable
    step = jax.checkpoint(step, policy=keep_products, prevent_cse=False)
    hidden: jax.Array = jax.lax.scan(step, carry, x)[1]
    return hidden


class LSTMLayer(nnx.Module):
    r"""Long short-term memory over a time-major sequence, `(W, n, inputs)` to `(W, n, units)`.

    $$i, f, g, o = [x_t, h_{t-1}] W + b$$
    $$c_t = \sigma(f) c_{t-1} + \sigma(i) \tanh(g), \qquad h_t = \sigma(o) \tanh(c_t)$$

    Source: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """

    def __init__(self, inputs: int, units: int, *, rngs: nnx.Rngs):
        self.units = units
        self.weight = _uniform(rngs, (inputs + units, 4 * units), units)
        self.bias = _uniform(rngs, (4 * units,), units)

    def __call__(self, x: jax.Array) -> jax.Array:
        weight, bias = self.weight[...], self.bias[...]

        def step(
            carry: tuple[jax.Array, jax.Array], x_t: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            h, c = carry
            gates = jnp.concatenate([x_t, h], axis=-1) @ weight + bias[None]
            i, f, g, o = jnp.split(gates, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[1], self.units), x.dtype)
        return _scan(step, (zeros, zeros), x)


class GRULayer(nnx.Module):
    r"""Gated recurrent unit over a time-major sequence, `(W, n, inputs)` to `(W, n, units)`.

    $$r, z = \sigma(x_t W_x + b_x + h_{t-1} W_h + b_h) \quad \text{(their columns)}$$
    $$m = \tanh(x_t W_x + b_x + r (h_{t-1} W_h + b_h)) \quad \text{(its columns)}$$
    $$h_t = (1 - z) m + z h_{t-1}$$

    Source: Cho et al. 2014, with the reset gate after the product as in cuDNN, which is why the
    hidden state has a bias of its own.
    """

    def __init__(self, inputs: int, units: int, *, rngs: nnx.Rngs):
        self.units = units
        self.input_weight = _uniform(rngs, (inputs, 3 * units), units)
        self.input_bias = _uniform(rngs, (3 * units,), units)
        self.hidden_weight = _uniform(rngs, (units, 3 * units), units)
        self.hidden_bias = _uniform(rngs, (3 * units,), units)

    def __call__(self, x: jax.Array) -> jax.Array:
        input_weight, input_bias = self.input_weight[...], self.input_bias[...]
        hidden_weight, hidden_bias = self.hidden_weight[...], self.hidden_bias[...]

        def step(h: jax.Array, x_t: jax.Array) -> tuple[jax.Array, jax.Array]:
            from_x = jnp.split(x_t @ input_weight + input_bias[None], 3, axis=-1)
            from_h = jnp.split(h @ hidden_weight + hidden_bias[None], 3, axis=-1)
            r = jax.nn.sigmoid(from_x[0] + from_h[0])
            z = jax.nn.sigmoid(from_x[1] + from_h[1])
            m = jnp.tanh(from_x[2] + r * from_h[2])
            h = (1 - z) * m + z * h
            return h, h

        zeros = jnp.zeros((x.shape[1], self.units), x.dtype)
        return _scan(step, zeros, x)


class Recurrent(nnx.Module):
    """A stack of recurrent layers, then a linear head on the last hidden state."""

    def __init__(
        self,
        layer: type[LSTMLayer] | type[GRULayer],
        input_shape: tuple[int, int],
        outputs: int,
        *,
        units: int = 64,
        layers: int = 1,
        rngs: nnx.Rngs,
    ):
        widths = (input_shape[1], *[units] * layers)
        self.layers = nnx.List([layer(a, b, rngs=rngs) for a, b in itertools.pairwise(widths)])
        self.head = nnx.Linear(units, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.swapaxes(0, 1)  # time first
        for layer in self.layers:
            x = layer(x)
        return self.head(x[-1])


class ConvolutionalLSTM(nnx.Module):
    """Convolutions over time, then an LSTM on their outputs."""

    def __init__(
        self,
        input_shape: tuple[int, int],
        outputs: int,
        *,
        filters: int = 64,
        kernel_size: int = 3,
        units: int = 64,
        layers: int = 1,
        rngs: nnx.Rngs,
    ):
        length, channels = input_shape
        self.convolution = Convolution(channels, filters, kernel_size, rngs=rngs)
        self.recurrent = Recurrent(
            LSTMLayer, (length, filters), outputs, units=units, layers=layers, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.recurrent(jax.nn.silu(self.convolution(x)))
