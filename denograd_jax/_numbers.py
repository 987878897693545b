"""Numbers that a user sets: step sizes, tolerances, weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["nonnegative", "nonnegative_array"]


def nonnegative(**numbers: Any) -> dict[str, Any]:
    """Refuse what is no single number, negative or not finite; traced values are taken on trust.

    Raises:
        ValueError: It is refused; the message names it.
    """
    for name, number in numbers.items():
        kinds = int, float, np.number, np.ndarray, jax.Array
        if isinstance(number, bool) or not isinstance(number, kinds):
            raise ValueError(f"{name} must be a number, not {number!r}.")
        if jnp.ndim(number) > 0:
            raise ValueError(
                f"{name} must be one number, not an array of shape {jnp.shape(number)}: freeze "
                "columns by masks, sweep values by vmap."
            )
        if not isinstance(number, jax.core.Tracer) and not 0 <= float(number) < float("inf"):
            raise ValueError(f"{name} must be a finite number of at least 0, not {number}.")
    return numbers


def nonnegative_array(**arrays: Any) -> dict[str, Any]:
    """Refuse what holds negative or infinite numbers; traced values are taken on trust.

    Raises:
        ValueError: It is refused; the message names it.
    """
    for name, array in arrays.items():
        if isinstance(array, jax.core.Tracer):
            continue
        values = np.asarray(array)
        if values.dtype.kind not in "fiu":
            raise ValueError(f"{name} must be a number or an array of numbers, not {array!r}.")
        if not ((values >= 0) & np.isfinite(values)).all():
            raise ValueError(f"{name} must be finite and at least 0 everywhere, not {array}.")
    return arrays
