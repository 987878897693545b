"""Backbones without recurrence or attention: perceptrons, convolutions, decomposed linear maps."""

import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from denograd_jax.backbones._activations import Activation, as_function
from denograd_jax.errors import BackboneError

__all__ = ["CNN", "MLP", "Convolution", "DLinear", "LinearPath", "per_step"]


def per_step(layer: nnx.Linear, x: jax.Array) -> jax.Array:
    """Applies `layer` to every step as one matrix product, whose gradient XLA computes faster."""
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


class LinearPath(nnx.Module):
    """The sum of a network and of one linear map of the whole window.

    The map, zero at first, follows the level of a series beyond the range seen in training, where
    networks flatten out. Source: the autoregressive component of Lai et al. 2018 (LSTNet).
    """

    def __init__(
        self,
        network: Callable[[jax.Array], jax.Array],
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        rngs: nnx.Rngs,
    ):
        self.network = network
        zeros = nnx.initializers.zeros_init()
        self.linear = nnx.Linear(math.prod(input_shape), outputs, kernel_init=zeros, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.network(x) + self.linear(_flatten(x))


class MLP(nnx.Module):
    """Multi-layer perceptron on rows, or on flattened windows.

    The activation is smooth, since refinement follows the gradient of the network at its input.
    With ReLU that gradient is constant on polyhedra and jumps between them; on Friedman's first
    function, 2,000 noisy rows, its mean square error is four times that of SiLU (GELU: twice).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        widths: Sequence[int] = (128, 64, 32),
        activation: Activation = "silu",
        rngs: nnx.Rngs,
    ):
        widths = (math.prod(input_shape), *widths)
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(widths)])
        self.head = nnx.Linear(widths[-1], outputs, rngs=rngs)
        self.activation = as_function(activation)

    def features(self, x: jax.Array) -> jax.Array:
        """Activations of the last hidden layer, which the head reads."""
        x = _flatten(x)
        for layer in self.layers:
            x = self.activation(layer(x))
        return x

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.features(x))


class Convolution(nnx.Module):
    """One-dimensional convolution over time that keeps the length of the window.

    It is computed as one matrix product over all steps: within a scan, XLA's CPU backend takes
    some 40 times longer for the weight gradient of its own convolution.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, rngs: nnx.Rngs):
        self.size = size
        self.kernel = nnx.Linear(size * inputs, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        before = (self.size - 1) // 2
        padded = jnp.pad(x, ((0, 0), (before, self.size - 1 - before), (0, 0)))
        taps = [padded[:, first : first + x.shape[1]] for first in range(self.size)]
        return per_step(self.kernel, jnp.concatenate(taps, axis=-1))


class CNN(nnx.Module):
    """Convolutions over time, then a linear head on all their outputs."""

    def __init__(
        self,
        input_shape: tuple[int, int],
        outputs: int,
        *,
        widths: Sequence[int] = (64, 64),
        kernel_size: int = 3,
        activation: Activation = "silu",
        rngs: nnx.Rngs,
    ):
        length, channels = input_shape
        pairs = itertools.pairwise((channels, *widths))
        self.layers = nnx.List([Convolution(a, b, kernel_size, rngs=rngs) for a, b in pairs])
        self.head = nnx.Linear(length * widths[-1], outputs, rngs=rngs)
        self.activation = as_function(activation)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.head(_flatten(x))


class DLinear(nnx.Module):
    """A window split into moving-average trend and remainder, with one linear map for each.

    The maps act on all steps and channels at once, so that the outputs need not be the channels.
    With `shared_channels` they act on the steps of one channel, the same for all channels: the
    outputs are then the next steps of all channels, `(steps, C)` made flat.

    Source: Zeng et al. 2023, "Are Transformers effective for time series forecasting?", which
    shares the maps.
    """

    def __init__(
        self,
        input_shape: tuple[int, int],
        outputs: int,
        *,
        kernel_size: int = 25,
        shared_channels: bool = False,
        rngs: nnx.Rngs,
    ):
        length, channels = input_shape
        if shared_channels and outputs % channels:
            raise BackboneError(
                f"{outputs} outputs are no whole number of steps of {channels} channels; expected "
                "a multiple, or shared_channels=False."
            )
        self.kernel_size = kernel_size
        self.shared_channels = shared_channels
        mapped = (length, outputs // channels) if shared_channels else (length * channels, outputs)
        self.trend = nnx.Linear(*mapped, rngs=rngs)
        self.remainder = nnx.Linear(*mapped, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        trend = moving_average(x, self.kernel_size)
        if not self.shared_channels:
            return self.trend(_flatten(trend)) + self.remainder(_flatten(x - trend))
        parts = (self.trend, trend), (self.remainder, x - trend)
        mapped = [per_step(linear, part.swapaxes(1, 2)) for linear, part in parts]
        return _flatten(sum(mapped[1:], mapped[0]).swapaxes(1, 2))


def moving_average(x: jax.Array, size: int) -> jax.Array:
    """Centred mean over `size` steps of the second axis, the ends repeated beyond the edges."""
    before = (size - 1) // 2
    padded = jnp.pad(x, ((0, 0), (before, size - 1 - before), (0, 0)), mode="edge")
    sums: jax.Array = jax.lax.reduce_window(
        padded, 0.0, jax.lax.add, (1, size, 1), (1, 1, 1), "VALID"
    )
    return sums / size


def _flatten(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)
