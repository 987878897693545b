"""Recurrent backbones, with the equations and the gate order of `torch.nn.LSTM` and `GRU`."""

import functools
import itertools
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from denograd_jax.backbones._activations import Activation, as_function
from denograd_jax.backbones._cells import gru_step, lstm_step, scan_steps
from denograd_jax.backbones._feedforward import Convolution

__all__ = ["ConvolutionalLSTM", "GRULayer", "LSTMLayer", "Recurrent", "Summary"]

Summary: TypeAlias = Literal["last_state", "last_step"]


def _uniform(rngs: nnx.Rngs, shape: tuple[int, ...], units: int) -> nnx.Param[jax.Array]:
    bound = units**-0.5
    return nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))


class LSTMLayer(nnx.Module):
    """Long short-term memory over a time-major sequence, `(W, n, inputs)` to `(W, n, units)`."""

    def __init__(self, inputs: int, units: int, *, rngs: nnx.Rngs):
        self.units = units
        self.weight = _uniform(rngs, (inputs + units, 4 * units), units)
        self.bias = _uniform(rngs, (4 * units,), units)

    def __call__(self, x: jax.Array, *, reverse: bool = False) -> jax.Array:
        step = functools.partial(lstm_step, self.weight[...], self.bias[...])
        zeros = jnp.zeros((x.shape[1], self.units), x.dtype)
        scanned = scan_steps(step, (zeros, zeros), x, reverse=reverse, keep_products=True)
        outputs: jax.Array = scanned[1]
        return outputs


class GRULayer(nnx.Module):
    """Gated recurrent unit over a time-major sequence, `(W, n, inputs)` to `(W, n, units)`."""

    def __init__(self, inputs: int, units: int, *, rngs: nnx.Rngs):
        self.units = units
        self.input_weight = _uniform(rngs, (inputs, 3 * units), units)
        self.input_bias = _uniform(rngs, (3 * units,), units)
        self.hidden_weight = _uniform(rngs, (units, 3 * units), units)
        self.hidden_bias = _uniform(rngs, (3 * units,), units)

    def __call__(self, x: jax.Array, *, reverse: bool = False) -> jax.Array:
        params = self.input_weight, self.input_bias, self.hidden_weight, self.hidden_bias
        step = functools.partial(gru_step, *(param[...] for param in params))
        zeros = jnp.zeros((x.shape[1], self.units), x.dtype)
        outputs: jax.Array = scan_steps(step, zeros, x, reverse=reverse)[1]
        return outputs


class Recurrent(nnx.Module):
    """A stack of recurrent layers, then a linear head on what they say of the whole window.

    With `bidirectional` each layer also runs backwards in time; the outputs of both directions go
    side by side into the next. The head reads the last state of each direction, which for the
    backward one is at the first step (`summary="last_state"`), or both outputs at the last step
    (`"last_step"`), where the backward direction has seen that step only.
    """

    def __init__(
        self,
        layer: type[LSTMLayer] | type[GRULayer],
        input_shape: tuple[int, int],
        outputs: int,
        *,
        units: int = 64,
        layers: int = 1,
        bidirectional: bool = False,
        summary: Summary = "last_state",
        rngs: nnx.Rngs,
    ):
        self.directions = 2 if bidirectional else 1
        self.summary = summary
        widths = (input_shape[1], *[self.directions * units] * layers)
        self.layers = nnx.List(  # the directions of a layer follow each other
            [
                layer(inputs, units, rngs=rngs)
                for inputs, _ in itertools.pairwise(widths)
                for _ in range(self.directions)
            ]
        )
        self.head = nnx.Linear(self.directions * units, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.swapaxes(0, 1)  # time first
        for forward in range(0, len(self.layers), self.directions):
            directions = self.layers[forward : forward + self.directions]
            found = [layer(x, reverse=i == 1) for i, layer in enumerate(directions)]
            x = jnp.concatenate(found, axis=-1)
        if self.summary == "last_step":
            return self.head(x[-1])
        last = [outputs[-1 if i == 0 else 0] for i, outputs in enumerate(found)]
        return self.head(jnp.concatenate(last, axis=-1))


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
        activation: Activation = "silu",
        rngs: nnx.Rngs,
    ):
        length, channels = input_shape
        self.convolution = Convolution(channels, filters, kernel_size, rngs=rngs)
        self.recurrent = Recurrent(
            LSTMLayer, (length, filters), outputs, units=units, layers=layers, rngs=rngs
        )
        self.activation = as_function(activation)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.recurrent(self.activation(self.convolution(x)))
