"""Activations, with torch's choice of sub-gradient where they have a kink.

Functions of `jax.nn` are used where they agree with torch there too.
"""

from typing import Any

import jax
import jax.numpy as jnp

from denograd_jax.bridges._registry import register_op
from denograd_jax.bridges.aten._dtypes import as_dtype

__all__: list[str] = []


@register_op("aten.relu")
def relu(self: jax.Array) -> jax.Array:
    return jax.nn.relu(self)


@register_op("aten.silu")
def silu(self: jax.Array) -> jax.Array:
    return jax.nn.silu(self)


@register_op("aten.leaky_relu")
def leaky_relu(self: jax.Array, negative_slope: float = 0.01) -> jax.Array:
    """The derivative at 0 is that below."""
    return jnp.where(self > 0, self, negative_slope * self)


@register_op("aten.prelu", "aten._prelu_kernel")
def prelu(self: jax.Array, weight: jax.Array) -> jax.Array:
    """One slope, or one per channel of axis 1; the derivative at 0 is that below."""
    if weight.ndim == 1 and weight.size > 1 and self.ndim > 1:
        weight = weight.reshape(-1, *[1] * (self.ndim - 2))
    return jnp.where(self > 0, self, weight * self)


@register_op("aten.rrelu")
def rrelu(
    self: jax.Array, lower: float = 1 / 8, upper: float = 1 / 3, *_: Any, **__: Any
) -> jax.Array:
    """In evaluation mode the slope is the mean of those drawn in training."""
    return leaky_relu(self, (lower + upper) / 2)


@register_op("aten.elu")
def elu(self: jax.Array, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> jax.Array:
    """`x` above 0, `alpha (e^x - 1)` elsewhere, 0 included."""
    curved = alpha * jnp.expm1(_non_positive(self) * input_scale)
    return scale * jnp.where(self > 0, self, curved)


@register_op("aten.selu")
def selu(self: jax.Array) -> jax.Array:
    """Scaled ELU of Klambauer et al. 2017."""
    return elu(self, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


@register_op("aten.celu")
def celu(self: jax.Array, alpha: float = 1.0) -> jax.Array:
    """`x` above 0, `alpha (e^(x / alpha) - 1)` elsewhere."""
    return jnp.where(self > 0, self, alpha * jnp.expm1(_non_positive(self) / alpha))


@register_op("aten.gelu")
def gelu(self: jax.Array, *, approximate: str = "none") -> jax.Array:
    return jax.nn.gelu(self, approximate=approximate == "tanh")


@register_op("aten.mish")
def mish(self: jax.Array) -> jax.Array:
    """`x tanh(log(1 + e^x))`."""
    return self * jnp.tanh(jax.nn.softplus(self))


@register_op("aten.softplus")
def softplus(self: jax.Array, beta: float = 1, threshold: float = 20) -> jax.Array:
    """`log(1 + e^(beta x)) / beta`, and `x` itself once `beta x` is above the threshold."""
    return jnp.where(beta * self > threshold, self, jax.nn.softplus(beta * self) / beta)


@register_op("aten.log_sigmoid", "aten.log_sigmoid_forward")
def log_sigmoid(self: jax.Array) -> jax.Array:
    return jax.nn.log_sigmoid(self)


@register_op("aten.hardtanh")
def hardtanh(self: jax.Array, min_val: float = -1, max_val: float = 1) -> jax.Array:
    """`x` clipped; the derivative is 0 at the bounds."""
    inside = (self > min_val) & (self < max_val)
    return jnp.where(inside, self, jnp.clip(jax.lax.stop_gradient(self), min_val, max_val))


@register_op("aten.relu6")
def relu6(self: jax.Array) -> jax.Array:
    return hardtanh(self, 0, 6)


@register_op("aten.hardsigmoid")
def hardsigmoid(self: jax.Array) -> jax.Array:
    """`clip(x + 3, 0, 6) / 6`; the derivative is 0 at the bounds."""
    return hardtanh(self + 3, 0, 6) / 6


@register_op("aten.hardswish")
def hardswish(self: jax.Array) -> jax.Array:
    """`x clip(x + 3, 0, 6) / 6`; the derivative is 0 at -3 and 1 at 3."""
    curved = jnp.where(self > -3, self * (self + 3) / 6, 0)
    return jnp.where(self < 3, curved, self)


@register_op("aten.hardshrink")
def hardshrink(self: jax.Array, lambd: float = 0.5) -> jax.Array:
    """0 within the bounds, which belong to them."""
    return jnp.where((self >= -lambd) & (self <= lambd), 0, self)


@register_op("aten.softshrink")
def softshrink(self: jax.Array, lambd: float = 0.5) -> jax.Array:
    return jnp.where(self > lambd, self - lambd, jnp.where(self < -lambd, self + lambd, 0))


@register_op("aten.threshold")
def threshold(self: jax.Array, threshold: float, value: float) -> jax.Array:
    return jnp.where(self > threshold, self, jnp.asarray(value, self.dtype))


@register_op("aten.glu")
def glu(self: jax.Array, dim: int = -1) -> jax.Array:
    value, gate = jnp.split(self, 2, axis=dim)
    return value * jax.nn.sigmoid(gate)


@register_op("aten.softmax", "aten._softmax")
def softmax(self: jax.Array, dim: int, dtype: Any = None) -> jax.Array:
    """`dtype` is a type, or for `_softmax` whether half precision is widened."""
    return jax.nn.softmax(_widened(self, dtype), axis=dim)


@register_op("aten._safe_softmax")
def safe_softmax(self: jax.Array, dim: int, dtype: Any = None) -> jax.Array:
    """0 where there is nothing but minus infinity, as in rows of a mask that hide everything."""
    hidden = (self == -jnp.inf).all(dim, keepdims=True)
    return jnp.where(hidden, 0, softmax(jnp.where(hidden, 0, self), dim, dtype))


@register_op("aten.log_softmax", "aten._log_softmax")
def log_softmax(self: jax.Array, dim: int, dtype: Any = None) -> jax.Array:
    return jax.nn.log_softmax(_widened(self, dtype), axis=dim)


def _widened(x: jax.Array, dtype: Any) -> jax.Array:
    if isinstance(dtype, str):
        return x.astype(as_dtype(dtype))
    return x.astype("float32") if dtype else x


def _non_positive(x: jax.Array) -> jax.Array:
    """Keeps e^x from overflowing in the branch that is not taken: its gradient would be NaN."""
    return jnp.where(x > 0, 0, x)
