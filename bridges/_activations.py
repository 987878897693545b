"""Activations of `torch.nn` with torch's choice of sub-gradient where they have a kink.

One-hot and standardised data sit exactly on kinks, so these choices are seen in practice.
Functions of `jax.nn` are used where they agree with torch there too.
"""

import jax
import jax.numpy as jnp

__all__ = [
    "celu",
    "elu",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "mish",
    "selu",
    "softplus",
    "softsign",
]


def leaky_relu(x: jax.Array, negative_slope: float) -> jax.Array:
    """`x` above 0, `negative_slope x` elsewhere, 0 included."""
    return jnp.where(x > 0, x, negative_slope * x)


def elu(x: jax.Array, alpha: float) -> jax.Array:
    """`x` above 0, `alpha (e^x - 1)` elsewhere, 0 included."""
    return jnp.where(x > 0, x, alpha * jnp.expm1(_non_positive(x)))


def selu(x: jax.Array) -> jax.Array:
    """Scaled ELU of Klambauer et al. 2017."""
    return 1.0507009873554804934193349852946 * elu(x, 1.6732632423543772848170429916717)


def celu(x: jax.Array, alpha: float) -> jax.Array:
    """`x` above 0, `alpha (e^(x / alpha) - 1)` elsewhere."""
    return jnp.where(x > 0, x, alpha * jnp.expm1(_non_positive(x) / alpha))


def softplus(x: jax.Array, beta: float, threshold: float) -> jax.Array:
    """`log(1 + e^(beta x)) / beta`, and `x` itself once `beta x` is above the threshold."""
    return jnp.where(beta * x > threshold, x, jax.nn.softplus(beta * x) / beta)


def hardtanh(x: jax.Array, low: float, high: float) -> jax.Array:
    """`x` clipped to `[low, high]`; the derivative is 0 at the bounds."""
    inside = (x > low) & (x < high)
    return jnp.where(inside, x, jnp.clip(jax.lax.stop_gradient(x), low, high))


def hardswish(x: jax.Array) -> jax.Array:
    """`x clip(x + 3, 0, 6) / 6`; the derivative is 0 at -3 and 1 at 3."""
    curved = jnp.where(x > -3, x * (x + 3) / 6, 0)
    return jnp.where(x < 3, curved, x)


def mish(x: jax.Array) -> jax.Array:
    """`x tanh(log(1 + e^x))`."""
    return x * jnp.tanh(jax.nn.softplus(x))


def softsign(x: jax.Array) -> jax.Array:
    """`x / (1 + |x|)`."""
    return x / (1 + jnp.abs(x))


def _non_positive(x: jax.Array) -> jax.Array:
    """Keeps e^x from overflowing in the branch that is not taken: its gradient would be NaN."""
    return jnp.where(x > 0, 0, x)
