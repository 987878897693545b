"""Layers of `torch.nn` in JAX: hashable descriptions that run on a dictionary of weights.

A layer knows the *names* of its weights, not their values: equal architectures are equal keys, and
share what has been compiled for the first of them. All layers take a batch on the first axis.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from denograd_jax._types import Instance, Instances, Params, Predict, PredictBatch

__all__ = [
    "LSTM",
    "Apply",
    "BatchNorm",
    "Layer",
    "LayerNorm",
    "Linear",
    "flatten",
    "predict_functions",
]


@dataclass(frozen=True)
class Apply:
    """A function without weights: `function(x, **options)`."""

    function: Callable[..., jax.Array]
    options: tuple[tuple[str, Any], ...] = ()

    def __call__(self, params: Params, x: jax.Array) -> jax.Array:
        return self.function(x, **dict(self.options))


def flatten(x: jax.Array, start: int, end: int) -> jax.Array:
    """Joins the axes from `start` to `end`, both included."""
    start, end = start % x.ndim, end % x.ndim
    joined = math.prod(x.shape[start : end + 1])
    return x.reshape(*x.shape[:start], joined, *x.shape[end + 1 :])


@dataclass(frozen=True)
class Linear:
    """`x W^T + b` along the last axis."""

    weight: str
    bias: str | None

    def widths(self, params: Params) -> tuple[int, int]:
        out, into = params[self.weight].shape
        return into, out

    def __call__(self, params: Params, x: jax.Array) -> jax.Array:
        y = jnp.matmul(x, params[self.weight].T)
        return y if self.bias is None else y + jnp.broadcast_to(params[self.bias], y.shape)


@dataclass(frozen=True)
class LayerNorm:
    """Standardises each instance over its last axes."""

    weight: str | None
    bias: str | None
    shape: tuple[int, ...]
    epsilon: float

    def widths(self, params: Params) -> tuple[int, int]:
        return self.shape[-1], self.shape[-1]

    def __call__(self, params: Params, x: jax.Array) -> jax.Array:
        axes = tuple(range(-len(self.shape), 0))
        centred = x - x.mean(axes, keepdims=True)
        variance = jnp.square(centred).mean(axes, keepdims=True)
        y = centred * jax.lax.rsqrt(variance + self.epsilon)
        if self.weight is not None:
            y = y * jnp.broadcast_to(params[self.weight], y.shape)
        return y if self.bias is None else y + jnp.broadcast_to(params[self.bias], y.shape)


@dataclass(frozen=True)
class BatchNorm:
    """Standardises each channel, axis 1, by its running statistics."""

    weight: str | None
    bias: str | None
    mean: str
    variance: str
    epsilon: float

    def widths(self, params: Params) -> tuple[int, int]:
        (channels,) = params[self.mean].shape
        return channels, channels

    def __call__(self, params: Params, x: jax.Array) -> jax.Array:
        def per_channel(name: str) -> jax.Array:
            vector = jnp.asarray(params[name])
            return vector.reshape(1, -1, *[1] * (x.ndim - 2))

        scale = jax.lax.rsqrt(per_channel(self.variance) + self.epsilon)
        y = (x - per_channel(self.mean)) * scale
        if self.weight is not None:
            y = y * per_channel(self.weight)
        return y if self.bias is None else y + per_channel(self.bias)


@dataclass(frozen=True)
class LSTM:
    r"""Long short-term memory over axis 1, from a zero state; `(n, T, C)` to `(n, H)`.

    $$i, f, g, o = [x_t, h_{t-1}] W + b$$
    $$c_t = \sigma(f) c_{t-1} + \sigma(i) \tanh(g), \qquad h_t = \sigma(o) \tanh(c_t)$$

    One matrix product per step, kept for the backward pass, which recomputes the rest of the step:
    on XLA's CPU backend that is faster than projecting all inputs before the scan.

    Attributes:
        every_step: Whether to return `h` of every step, `(n, T, H)`, instead of the last.
    """

    input_weight: str
    hidden_weight: str
    biases: tuple[str, ...]
    every_step: bool = False

    def widths(self, params: Params) -> tuple[int, int]:
        return params[self.input_weight].shape[1], params[self.hidden_weight].shape[1]

    def __call__(self, params: Params, x: jax.Array) -> jax.Array:
        weights = [params[self.input_weight], params[self.hidden_weight]]
        weight = jnp.concatenate(weights, axis=1).T
        bias = sum(params[name] for name in self.biases)

        def step(
            state: tuple[jax.Array, jax.Array], x_t: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array | None]:
            h, c = state
            gates = jnp.concatenate([x_t, h], axis=-1) @ weight
            if self.biases:
                gates += jnp.broadcast_to(bias, gates.shape)
            i, f, g, o = jnp.split(gates, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h if self.every_step else None

        hidden = params[self.hidden_weight].shape[1]
        # `zeros_like` x, so that under `shard_map` the state varies over the mesh as x does.
        zeros = jnp.zeros_like(x, shape=(x.shape[0], hidden))
        keep_products = jax.checkpoint_policies.dots_saveable
        step = jax.checkpoint(step, policy=keep_products, prevent_cse=False)
        (h, _), states = jax.lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(states, 0, 1) if self.every_step else h


Layer: TypeAlias = Apply | Linear | LayerNorm | BatchNorm | LSTM


@functools.lru_cache(maxsize=256)
def predict_functions(layers: tuple[Layer, ...]) -> tuple[Predict, PredictBatch]:
    """Returns `predict` and `predict_batch` of layers run one after the other.

    Equal layers give the *same* function objects.
    """

    def predict_batch(params: Params, x: Instances) -> jax.Array:
        for layer in layers:
            x = layer(params, x)
        return x

    def predict(params: Params, x: Instance) -> jax.Array:
        return predict_batch(params, x[None])[0]

    return predict, predict_batch
