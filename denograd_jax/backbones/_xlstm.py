"""The extended LSTM as a backbone: blocks of matrix and of scalar memories.

Source: Beck et al. 2024, "xLSTM: extended long short-term memory", appendix A. Both blocks look
back only. The layouts are those of the authors' package, so that weights go both ways.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from denograd_jax.backbones._cells import scan_steps
from denograd_jax.backbones._feedforward import per_step

__all__ = ["XLSTM", "CausalConvolution", "MLSTMBlock", "SLSTMBlock", "XLSTMBlocks"]

_EPSILON = 1e-5  # of the norms


class ScaleNorm(nnx.Module):
    """Each head of each step scaled to mean 0 and variance 1, then by 1 + a learnt scale."""

    def __init__(self, width: int, heads: int = 1):
        self.heads = heads
        self.scale = nnx.Param(jnp.zeros(width, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        by_head = x.reshape(*x.shape[:-1], self.heads, -1)
        centred = by_head - by_head.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        normalised = (centred * jax.lax.rsqrt(variance + _EPSILON)).reshape(x.shape)
        return normalised * jnp.broadcast_to(1 + self.scale[...], x.shape)


class HeadwiseLinear(nnx.Module):
    """A linear map within each of some equal parts of the features."""

    def __init__(self, width: int, parts: int, *, rngs: nnx.Rngs):
        size = width // parts
        draw = nnx.initializers.normal(math.sqrt(2 / (5 * size)))
        self.kernel = nnx.Param(draw(rngs.params(), (parts, size, size), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...]
        by_part = x.reshape(*x.shape[:-1], *kernel.shape[:2])
        return jnp.einsum("...pi,poi->...po", by_part, kernel).reshape(x.shape)


class CausalConvolution(nnx.Module):
    """A convolution over the steps up to now, for each feature by itself."""

    def __init__(self, width: int, size: int, *, rngs: nnx.Rngs):
        bound = size**-0.5
        uniform = jax.random.uniform(rngs.params(), (size, width), jnp.float32, -bound, bound)
        self.kernel = nnx.Param(uniform)
        self.bias = nnx.Param(jnp.zeros(width, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = self.kernel[...], self.bias[...]
        size, length = len(kernel), x.shape[1]
        padded = jnp.pad(x, ((0, 0), (size - 1, 0), (0, 0)))
        taps = [padded[:, i : i + length] * kernel[None, i : i + 1] for i in range(size)]
        return sum(taps[1:], taps[0]) + bias[None, None]


class MLSTMBlock(nnx.Module):
    """A residual block with a matrix as memory, in its parallel form, quadratic in the steps."""

    def __init__(
        self,
        width: int,
        heads: int = 4,
        *,
        inner: int | None = None,
        convolution_size: int = 4,
        projection_size: int = 4,
        rngs: nnx.Rngs,
    ):
        inner = 2 * width if inner is None else inner
        self.heads = heads
        self.norm = ScaleNorm(width)
        self.project_in = nnx.Linear(width, 2 * inner, use_bias=False, rngs=rngs)
        self.convolution = CausalConvolution(inner, convolution_size, rngs=rngs)
        parts = inner // projection_size
        self.query = HeadwiseLinear(inner, parts, rngs=rngs)
        self.key = HeadwiseLinear(inner, parts, rngs=rngs)
        self.value = HeadwiseLinear(inner, parts, rngs=rngs)
        self.input_gate = nnx.Linear(3 * inner, heads, kernel_init=_ZEROS, rngs=rngs)
        self.forget_gate = nnx.Linear(
            3 * inner, heads, kernel_init=_ZEROS, bias_init=_from_three_to_six, rngs=rngs
        )
        self.cell_norm = ScaleNorm(inner, heads)
        self.skip = nnx.Param(jnp.ones(inner, jnp.float32))
        self.project_out = nnx.Linear(inner, width, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        inner, gate = jnp.split(per_step(self.project_in, self.norm(x)), 2, axis=-1)
        convolved = jax.nn.silu(self.convolution(inner))
        query, key, value = self.query(convolved), self.key(convolved), self.value(inner)
        together = jnp.concatenate([query, key, value], axis=-1)
        gates = per_step(self.input_gate, together), per_step(self.forget_gate, together)
        by_head = (_by_head(a, self.heads) for a in (query, key, value))
        read = _read_memory(*by_head, *(g.swapaxes(1, 2) for g in gates))
        read = read.swapaxes(1, 2).reshape(inner.shape)
        skipped = self.cell_norm(read) + jnp.broadcast_to(self.skip[...], read.shape) * convolved
        return x + per_step(self.project_out, skipped * jax.nn.silu(gate))


def _by_head(x: jax.Array, heads: int) -> jax.Array:
    """`(n, W, width)` to `(n, heads, W, width / heads)`."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def _read_memory(
    query: jax.Array, key: jax.Array, value: jax.Array, into: jax.Array, forget: jax.Array
) -> jax.Array:
    r"""What the queries find in the memory of all steps so far, without stepping through them.

    $$D_{ts} = \sum_{r=s+1}^{t} \log \sigma(f_r) + i_s \quad (s \le t), \qquad
    C_{ts} = \frac{q_t \cdot k_s}{\sqrt d} e^{D_{ts} - m_t}, \quad m_t = \max_s D_{ts}$$
    $$h_t = \sum_s C_{ts} v_s / \max(|\textstyle\sum_s C_{ts}|, e^{-m_t})$$
    """
    kept = jnp.cumsum(jax.nn.log_sigmoid(forget), axis=-1)
    logs = kept[..., :, None] - kept[..., None, :] + into[..., None, :]
    length = logs.shape[-1]
    seen = jnp.broadcast_to(jnp.tril(jnp.ones((length, length), bool)), logs.shape)
    logs = jnp.where(seen, logs, -jnp.inf)
    largest = logs.max(axis=-1, keepdims=True)
    weights = query @ key.mT * query.shape[-1] ** -0.5 * jnp.exp(logs - largest)
    size = jnp.maximum(jnp.abs(weights.sum(axis=-1, keepdims=True)), jnp.exp(-largest))
    found: jax.Array = weights @ value / (size + 1e-6)
    return found


class SLSTMBlock(nnx.Module):
    """A residual block with scalar memories, step by step, then a gated perceptron."""

    def __init__(
        self,
        width: int,
        heads: int = 4,
        *,
        hidden: int | None = None,
        convolution_size: int = 4,
        rngs: nnx.Rngs,
    ):
        hidden = 4 * width // 3 if hidden is None else hidden
        depth = width // heads
        self.heads = heads
        self.norm = ScaleNorm(width)
        self.convolution = CausalConvolution(width, convolution_size, rngs=rngs)
        self.gates = nnx.List([HeadwiseLinear(width, heads, rngs=rngs) for _ in range(4)])
        self.recurrent = nnx.Param(jnp.zeros((heads, 4, depth, depth), jnp.float32))
        forgetting = (
            jnp.zeros((4, heads, depth), jnp.float32)
            .at[1]
            .set(jnp.linspace(3, 6, depth, dtype=jnp.float32))
        )
        self.bias = nnx.Param(forgetting)
        self.cell_norm = ScaleNorm(width, heads)
        self.perceptron_norm = ScaleNorm(width)
        self.widen = nnx.Linear(width, 2 * hidden, use_bias=False, rngs=rngs)
        self.narrow = nnx.Linear(hidden, width, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.cell_norm(self._memories(self.norm(x)))
        gate, value = jnp.split(per_step(self.widen, self.perceptron_norm(x)), 2, axis=-1)
        return x + per_step(self.narrow, jax.nn.gelu(gate, approximate=False) * value)

    def _memories(self, x: jax.Array) -> jax.Array:
        """Hidden states of all steps, `(n, W, width)`."""
        n, length, width = x.shape
        convolved = jax.nn.silu(self.convolution(x))
        seen = (convolved, convolved, x, x)  # by input gate, forget gate, new value, output gate
        from_x = jnp.stack([gate(a) for gate, a in zip(self.gates, seen, strict=True)])
        by_head = from_x.reshape(4, n, length, self.heads, -1).transpose(2, 0, 3, 1, 4)
        recurrent, bias = self.recurrent[...].transpose(1, 0, 3, 2), self.bias[...][:, :, None]

        def step(memory: _Memory, x_t: jax.Array) -> _Memory:  # x_t: (4, heads, n, depth)
            return _remember(memory, x_t + memory.h[None] @ recurrent + bias)

        zeros = jnp.zeros(by_head.shape[2:], x.dtype)
        # The stabiliser starts below any logarithm of a gate, so that the first step sets it.
        start = _Memory(zeros, zeros, zeros, jnp.full_like(zeros, -_FAR))
        hidden: jax.Array = scan_steps(step, start, by_head)[1]
        return hidden.transpose(2, 0, 1, 3).reshape(n, length, width)


class _Memory(NamedTuple):
    """Output, memory, normaliser and stabiliser of every cell, each `(heads, n, depth)`."""

    h: jax.Array
    c: jax.Array
    n: jax.Array
    m: jax.Array


def _remember(memory: _Memory, gates: jax.Array) -> _Memory:
    r"""One step of the sLSTM.

    $$m' = \max(\log \sigma(f) + m, i), \quad a = \sigma(f) e^{m - m'}, \quad b = e^{i - m'}$$
    $$c' = a c + b \tanh z, \quad n' = a n + b, \quad h' = \sigma(o) c' / n'$$
    """
    into, forget, value, out = gates
    kept = jax.nn.log_sigmoid(forget) + memory.m
    m = jnp.maximum(kept, into)
    keep, add = jnp.exp(kept - m), jnp.exp(into - m)
    c = keep * memory.c + add * jnp.tanh(value)
    n = keep * memory.n + add
    return _Memory(jax.nn.sigmoid(out) * c / n, c, n, m)


class XLSTMBlocks(nnx.Module):
    """Blocks of matrix and scalar memories (`kinds="ms"`) and a norm, on `(n, W, width)`."""

    def __init__(
        self,
        kinds: str,
        width: int,
        *,
        heads: int = 4,
        inner: int | None = None,
        hidden: int | None = None,
        convolution_size: int = 4,
        projection_size: int = 4,
        rngs: nnx.Rngs,
    ):
        def build(kind: str) -> nnx.Module:
            if kind == "s":
                return SLSTMBlock(
                    width, heads, hidden=hidden, convolution_size=convolution_size, rngs=rngs
                )
            return MLSTMBlock(
                width,
                heads,
                inner=inner,
                convolution_size=convolution_size,
                projection_size=projection_size,
                rngs=rngs,
            )

        self.blocks = nnx.List([build(kind) for kind in kinds])
        self.norm = ScaleNorm(width)

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class XLSTM(nnx.Module):
    """Blocks of matrix and scalar memories, with a linear head on the last step.

    The options are those of `XLSTMBlocks`.
    """

    def __init__(
        self,
        input_shape: tuple[int, int],
        outputs: int,
        *,
        kinds: str = "ms",
        width: int = 32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        self.embed = nnx.Linear(input_shape[1], width, rngs=rngs)
        self.blocks = XLSTMBlocks(kinds, width, rngs=rngs, **options)
        self.head = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.blocks(per_step(self.embed, x))[:, -1])


_ZEROS = nnx.initializers.zeros_init()
_FAR = 1e30


def _from_three_to_six(
    key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike
) -> jax.Array:
    """Biases of forget gates that let heads remember for differently long, from the first."""
    return jnp.linspace(3, 6, shape[0], dtype=dtype)
