"""Transformers as backbones: over the steps of a window, over the features of a row."""

import functools
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from denograd_jax.backbones._activations import Activation, as_function
from denograd_jax.backbones._feedforward import per_step

__all__ = [
    "Encoder",
    "EncoderLayer",
    "FeatureTransformer",
    "FeatureTransformerLayer",
    "LayerNorm",
    "SelfAttention",
    "attend",
    "positional_encoding",
]

Pooling: TypeAlias = Literal["last", "mean"]


def positional_encoding(length: int, width: int, dtype: jax.typing.DTypeLike) -> jax.Array:
    r"""Sines and cosines of geometrically spaced frequencies, `(length, width)`.

    $$P_{t, 2k} = \sin(t / 10000^{2k / width}), \qquad P_{t, 2k+1} = \cos(t / 10000^{2k / width})$$

    Source: Vaswani et al. 2017.
    """
    frequencies = 10_000.0 ** (-jnp.arange(0, width, 2, dtype=dtype) / width)
    angles = jnp.arange(length, dtype=dtype)[:, None] * frequencies[None]
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(length, -1)[:, :width]


@functools.partial(jax.checkpoint, static_argnums=3)
def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    scale: float,
    bias: jax.Array | None = None,
) -> jax.Array:
    r"""Attention $\operatorname{softmax}(s Q K^T + B) V$, by products, over the last axis but one.

    It is divided by the sum after the last product, and computed again in the backward pass, which
    so needs no memory quadratic in the steps, and is faster on a CPU. A query that may see nothing
    (a bias of $-\infty$ throughout) gets 0.

    Source: Vaswani et al. 2017.
    """
    scores = query @ key.mT * scale
    scores = scores if bias is None else scores + bias
    largest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores - jnp.where(jnp.isfinite(largest), largest, 0))
    sums = weights.sum(axis=-1, keepdims=True)
    found: jax.Array = (weights @ value) / jnp.where(sums > 0, sums, 1)
    return found


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
        mixed = attend(query, key, value, depth**-0.5).swapaxes(1, 2)
        return per_step(self.project_out, mixed.reshape(x.shape))


class EncoderLayer(nnx.Module):
    """Self-attention and a two-layer perceptron, each added to its input.

    Each is normalised before (`norm_first`), or its sum after.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        hidden: int | None = None,
        activation: Activation = "silu",
        norm_first: bool = True,
        rngs: nnx.Rngs,
    ):
        hidden = 2 * width if hidden is None else hidden
        self.attention = SelfAttention(width, heads, rngs=rngs)
        self.attention_norm = LayerNorm(width)
        self.widen = nnx.Linear(width, hidden, rngs=rngs)
        self.narrow = nnx.Linear(hidden, width, rngs=rngs)
        self.perceptron_norm = LayerNorm(width)
        self.activation = as_function(activation)
        self.norm_first = norm_first

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.norm_first:
            x = x + self.attention(self.attention_norm(x))
            return x + self._perceptron(self.perceptron_norm(x))
        x = self.attention_norm(x + self.attention(x))
        return self.perceptron_norm(x + self._perceptron(x))

    def _perceptron(self, x: jax.Array) -> jax.Array:
        return per_step(self.narrow, self.activation(per_step(self.widen, x)))


class Encoder(nnx.Module):
    """Transformer encoder over the steps of a window, with a linear head on the last step.

    Or, with `pooling="mean"`, on the mean of all steps.
    """

    def __init__(
        self,
        input_shape: tuple[int, int],
        outputs: int,
        *,
        width: int = 32,
        heads: int = 4,
        layers: int = 2,
        hidden: int | None = None,
        activation: Activation = "silu",
        norm_first: bool = True,
        final_norm: bool = True,
        positions: bool = True,
        pooling: Pooling = "last",
        rngs: nnx.Rngs,
    ):
        self.embed = nnx.Linear(input_shape[1], width, rngs=rngs)
        self.layers = nnx.List(
            [
                EncoderLayer(
                    width,
                    heads,
                    hidden=hidden,
                    activation=activation,
                    norm_first=norm_first,
                    rngs=rngs,
                )
                for _ in range(layers)
            ]
        )
        self.norm = LayerNorm(width) if final_norm else None
        self.head = nnx.Linear(width, outputs, rngs=rngs)
        self.positions = positions
        self.pooling = pooling

    def __call__(self, x: jax.Array) -> jax.Array:
        x = per_step(self.embed, x)
        _, length, width = x.shape
        if self.positions:
            x = x + positional_encoding(length, width, x.dtype)[None]
        for layer in self.layers:
            x = layer(x)
        if self.pooling == "mean":
            normalised = x if self.norm is None else self.norm(x)
            return self.head(normalised.mean(axis=1))
        last = x[:, -1]
        return self.head(last if self.norm is None else self.norm(last))


class FeatureTransformerLayer(nnx.Module):
    """Self-attention and a gated perceptron, each normalised before and added to its input.

    The first layer of a stack takes its tokens as they are (`norm_attention=False`).
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, norm_attention: bool, rngs: nnx.Rngs
    ):
        self.attention_norm = LayerNorm(width) if norm_attention else None
        self.attention = SelfAttention(width, heads, rngs=rngs)
        self.perceptron_norm = LayerNorm(width)
        self.widen = nnx.Linear(width, 2 * hidden, rngs=rngs)
        self.narrow = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        normalised = x if self.attention_norm is None else self.attention_norm(x)
        x = x + self.attention(normalised)
        value, gate = jnp.split(per_step(self.widen, self.perceptron_norm(x)), 2, axis=-1)
        return x + per_step(self.narrow, value * jax.nn.relu(gate))


class FeatureTransformer(nnx.Module):
    """FT-Transformer: a token for each feature of a row, attention between them.

    The head reads an additional token that belongs to no feature.
    Source: Gorishniy et al. 2021, "Revisiting deep learning models for tabular data".
    """

    def __init__(
        self,
        input_shape: tuple[int],
        outputs: int,
        *,
        width: int = 32,
        heads: int = 4,
        layers: int = 2,
        hidden: int | None = None,
        rngs: nnx.Rngs,
    ):
        hidden = 4 * width // 3 if hidden is None else hidden
        bound = width**-0.5

        def uniform(*shape: int) -> nnx.Param[jax.Array]:
            return nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))

        self.token_weight = uniform(input_shape[0], width)
        self.token_bias = uniform(input_shape[0], width)
        self.summary = uniform(width)
        self.layers = nnx.List(
            [
                FeatureTransformerLayer(width, heads, hidden, norm_attention=i > 0, rngs=rngs)
                for i in range(layers)
            ]
        )
        self.norm = LayerNorm(width)
        self.head = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        weight, bias, summary = (p[...] for p in (self.token_weight, self.token_bias, self.summary))
        tokens = x[:, :, None] * weight[None] + bias[None]
        first = jnp.broadcast_to(summary, (len(x), 1, len(summary)))
        tokens = jnp.concatenate([first, tokens], axis=1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(jax.nn.relu(self.norm(tokens[:, 0])))
