"""The Transformer encoder as a backbone."""

import jax
import jax.numpy as jnp
from flax import nnx

from denograd_jax.backbones._feedforward import per_step

__all__ = ["Encoder", "EncoderLayer", "LayerNorm", "SelfAttention", "positional_encoding"]


def positional_encoding(length: int, width: int, dtype: jax.typing.DTypeLike) -> jax.Array:
    r"""Sines and cosines of geometrically spaced frequencies, `(length, width)`.

    $$P_{t, 2k} = \sin(t / 10000^{2k / width}), \qquad P_{t, 2k+1} = \cos(t / 10000^{2k / width})$$

    Source: Vaswani et al. 2017.
    """
    frequencies = 10_000.0 ** (-jnp.arange(0, width, 2, dtype=dtype) / width)
    angles = jnp.arange(length, dtype=dtype)[:, None] * frequencies[None]
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(length, -1)[:, :width]


class LayerNorm(nnx.Module):
    """Each step scaled to mean 0 and variance 1 over its features, then to a learnt scale and bias.

    `nnx.LayerNorm` does not run in float64 under JAX's strict dtype promotion.
    Source: Ba, Kiros & Hinton 2016.
    """

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        normalised = centred * jax.lax.rsqrt(variance + 1e-5)
        scale, bias = (jnp.broadcast_to(param[...], x.shape) for param in (self.scale, self.bias))
        return normalised * scale + bias


class SelfAttention(nnx.Module):
    """Multi-head scaled dot-product attention of a sequence to itself, without a mask."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.project_in = nnx.Linear(width, 3 * width, rngs=rngs)  # queries, keys, values
        self.project_out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        n, length, width = x.shape
        depth = width // self.heads
        projected = per_step(self.project_in, x).reshape(n, length, 3, self.heads, depth)
        query, key, value = projected.transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(-1, -2) * depth**-0.5
        mixed = (jax.nn.softmax(scores) @ value).swapaxes(1, 2)
        return per_step(self.project_out, mixed.reshape(x.shape))


class EncoderLayer(nnx.Module):
    """Self-attention and a two-layer perceptron, each normalised before and added to its input."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.attention = SelfAttention(width, heads, rngs=rngs)
        self.attention_norm = LayerNorm(width)
        self.widen = nnx.Linear(width, 2 * width, rngs=rngs)
        self.narrow = nnx.Linear(2 * width, width, rngs=rngs)
        self.perceptron_norm = LayerNorm(width)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.attention_norm(x))
        widened = jax.nn.silu(per_step(self.widen, self.perceptron_norm(x)))
        return x + per_step(self.narrow, widened)


class Encoder(nnx.Module):
    """Transformer encoder over the steps of a window, with a linear head on the last step."""

    def __init__(
        self,
        input_shape: tuple[int, int],
        outputs: int,
        *,
        width: int = 32,
        heads: int = 4,
        layers: int = 2,
        rngs: nnx.Rngs,
    ):
        self.embed = nnx.Linear(input_shape[1], width, rngs=rngs)
        self.layers = nnx.List([EncoderLayer(width, heads, rngs=rngs) for _ in range(layers)])
        self.norm = LayerNorm(width)
        self.head = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = per_step(self.embed, x)
        _, length, width = x.shape
        x = x + positional_encoding(length, width, x.dtype)[None]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x[:, -1]))
