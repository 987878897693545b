"""Losses of `torch.nn` as functions of one prediction and one target."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from denograd_jax._losses import absolute_error
from denograd_jax._types import Loss
from denograd_jax.bridges._torch_tensors import forward_kind, import_torch
from denograd_jax.errors import UnsupportedError

__all__ = ["loss_from_torch"]


def loss_from_torch(criterion: Any) -> Loss:
    """Turns a loss module of `torch.nn` into a JAX function of one prediction and one target.

    The reduction (mean, sum or none) is left out: a loss per instance has no batch to reduce, and
    the rules of refinement do not depend on the loss's scale. Criteria with equal settings give
    the *same* function object, so nothing is compiled twice. Look-ahead: no.

    Args:
        criterion: `MSELoss`, `L1Loss`, `SmoothL1Loss`, `HuberLoss`, `BCEWithLogitsLoss` without
            weights, or `CrossEntropyLoss` without weights or label smoothing.

    Returns:
        `loss(prediction, target)`, element by element; for `CrossEntropyLoss` one number from
        logits `(K,)` and an integer label `()` or class probabilities `(K,)`.

    Raises:
        UnsupportedError: If the criterion, or one of its settings, is not among these.
        MissingExtraError: If PyTorch is not installed.
    """
    import_torch()
    read = _READERS.get(forward_kind(criterion) or "")
    if read is None:
        raise UnsupportedError(
            f"cannot turn {_describe(criterion)} into a JAX loss. Expected an instance of one of "
            f"torch.nn's {', '.join(_READERS)}, or a JAX function loss(prediction, target)."
        )
    return read(criterion)


def _read_huber(criterion: Any) -> Loss:
    return _huber(float(criterion.delta))


def _read_smooth_l1(criterion: Any) -> Loss:
    return _smooth_l1(float(criterion.beta)) if criterion.beta else absolute_error


def _read_bce_with_logits(criterion: Any) -> Loss:
    _require(criterion, weight=None, pos_weight=None)
    return optax.losses.sigmoid_binary_cross_entropy


def _read_cross_entropy(criterion: Any) -> Loss:
    _require(criterion, weight=None, label_smoothing=0.0)
    return _cross_entropy(int(criterion.ignore_index))


_READERS: dict[str, Callable[[Any], Loss]] = {
    "MSELoss": lambda _: optax.losses.squared_error,
    "L1Loss": lambda _: absolute_error,
    "SmoothL1Loss": _read_smooth_l1,
    "HuberLoss": _read_huber,
    "BCEWithLogitsLoss": _read_bce_with_logits,
    "CrossEntropyLoss": _read_cross_entropy,
}


@functools.lru_cache(maxsize=256)
def _huber(delta: float) -> Loss:
    def huber(prediction: jax.Array, target: jax.Array) -> jax.Array:
        return optax.losses.huber_loss(prediction, target, delta=delta)

    return huber


@functools.lru_cache(maxsize=256)
def _smooth_l1(beta: float) -> Loss:
    def smooth_l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
        return optax.losses.huber_loss(prediction, target, delta=beta) / beta

    return smooth_l1


@functools.lru_cache(maxsize=256)
def _cross_entropy(ignored: int) -> Loss:
    def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
        if not jnp.issubdtype(target.dtype, jnp.integer):
            return optax.losses.softmax_cross_entropy(logits, target)
        label = jnp.where(target == ignored, 0, target)
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, label)
        return jnp.where(target == ignored, 0, loss)

    return cross_entropy


def _require(criterion: Any, **settings: Any) -> None:
    """Refuses settings other than those that can be ported."""
    for name, expected in settings.items():
        if (seen := getattr(criterion, name)) is not expected and seen != expected:
            raise UnsupportedError(
                f"cannot port {type(criterion).__name__} with {name}={seen}: only "
                f"{name}={expected} is supported. Write the loss as a JAX function instead."
            )


def _describe(criterion: Any) -> str:
    if isinstance(criterion, type):
        return f"the class {criterion.__name__}"
    return f"a {type(criterion).__name__}"
