"""Losses from what people have: a name, a JAX function, a PyTorch criterion."""

import inspect
import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax

from denograd_jax._types import Loss
from denograd_jax.errors import UnsupportedError

__all__ = ["absolute_error", "as_loss"]


def absolute_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """`|prediction - target|`, element by element; its derivative is 0 where both are equal."""
    residual = prediction - target
    return residual * jnp.sign(residual)  # the derivative of jnp.abs at 0 is 1


_NAMED: dict[str, Loss] = {
    "squared_error": optax.losses.squared_error,
    "absolute_error": absolute_error,
    "huber": optax.losses.huber_loss,
}


def as_loss(criterion: Any) -> Loss:
    """Recognises a loss of one prediction and one target.

    PyTorch is not imported: a criterion of its can only be given where it is imported already.

    Args:
        criterion: One of the names "squared_error", "absolute_error" and "huber" (`optax`'s, with
            its delta of 1); a JAX function `loss(prediction, target)`, returned as it is; or a
            loss module of `torch.nn`, see `bridges.loss_from_torch`.

    Returns:
        `loss(prediction, target)`. Equal criteria give the same function object.

    Raises:
        UnsupportedError: If the criterion is none of these.

    Example:
        >>> import jax.numpy as jnp
        >>> as_loss("absolute_error")(jnp.array([1.0, 2.0]), jnp.array([3.0, 2.0]))
        Array([2., 0.], dtype=float32)
    """
    if isinstance(criterion, str) and criterion in _NAMED:
        return _NAMED[criterion]
    torch_nn = sys.modules.get("torch.nn")
    if torch_nn is not None and isinstance(criterion, torch_nn.Module):
        from denograd_jax.bridges import loss_from_torch

        return loss_from_torch(criterion)
    if callable(criterion) and not inspect.isclass(criterion) and not _is_from_torch(criterion):
        return criterion  # type: ignore[no-any-return]
    raise UnsupportedError(
        f"cannot use {criterion!r} as a loss. Expected one of the names {', '.join(_NAMED)}, "
        "a JAX function loss(prediction, target), or an instance of a torch.nn loss such as "
        "torch.nn.MSELoss()."
    )


def _is_from_torch(function: Any) -> bool:
    """Whether the function is one of `torch.nn.functional`, which take no JAX arrays."""
    return (getattr(function, "__module__", None) or "").split(".")[0] == "torch"
