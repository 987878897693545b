"""Types of numbers, by the names that programs hold."""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["as_dtype", "as_real", "default_dtype", "is_floating"]


def as_dtype(name: str | None) -> Any:
    """JAX's dtype of that name; narrower where 64-bit types are not enabled."""
    return None if name is None else jax.dtypes.canonicalize_dtype(jnp.dtype(name))


def default_dtype(value: Any) -> Any:
    """What torch makes of a Python number: float32, int64, bool."""
    if isinstance(value, bool):
        return jnp.dtype(bool)
    return as_dtype("float32" if isinstance(value, float) else "int64")


def is_floating(x: Any) -> bool:
    """Whether an array holds real or complex numbers rather than whole ones."""
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.inexact))


def as_real(x: Any) -> Any:
    """Whole numbers as floats of torch's default type, float32; NumPy's would have 64 bits."""
    return x if is_floating(x) else jnp.asarray(x, "float32")
