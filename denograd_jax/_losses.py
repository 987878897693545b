"""Losses from what people have: a name, a JAX function, a PyTorch criterion."""

import inspect
import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax

from denograd_jax._types import Loss
from denograd_jax.errors import ModelError, UnsupportedError

__all__ = [
    "absolute_error",
    "as_loss",
    "binary_cross_entropy",
    "brier",
    "cross_entropy",
    "is_distribution",
    "is_of_labels",
]

UNSURE = 1e-3
"""By how much probabilities may miss a sum of 1 and still be a distribution."""


def absolute_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """`|prediction - target|`, element by element; its derivative is 0 where both are equal."""
    residual = prediction - target
    return residual * jnp.sign(residual)  # the derivative of jnp.abs at 0 is 1


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    r"""`-sum_k label_k log softmax(logits)_k` of one instance; labels are held fixed.

    For the number of a class, or for probabilities of all classes (one-hot, or soft), with the same
    result. dL/d(label) is 0 by definition: a published rule then moves the input alone, by its own
    norm. Refiners measure the residual in probabilities: of soft labels `softmax(logits) - label`,
    of the number of a class 1 less its probability, which is the largest of them. So a tolerance
    of 0.1 leaves alone what the model calls by its label with a probability of 0.9.

    Args:
        logits: `(classes,)`.
        label: An integer from 0, `()`; or probabilities `(classes,)`.

    Returns:
        `()`; NaN, so that refiners leave the instance alone and count it, where there is no such
        class or the probabilities are none.

    Raises:
        ModelError: When traced, for fewer than two logits.
    """
    if logits.size < 2:
        raise ModelError(
            f"cross_entropy needs a logit for each of two or more classes, not {logits.size}: for "
            'one logit, that of class 1, use "binary_cross_entropy".'
        )
    label = jax.lax.stop_gradient(label)
    log_probabilities = jax.nn.log_softmax(logits.ravel())
    if label.ndim == 0:
        sound = (label >= 0) & (label < logits.size)
        loss = -log_probabilities[jnp.where(sound, label, 0)]
    else:
        sound = is_distribution(label)
        loss = -jnp.sum(label * log_probabilities)
    return jnp.where(sound, loss, jnp.nan)


def binary_cross_entropy(logit: jax.Array, label: jax.Array) -> jax.Array:
    """Cross-entropy of the probability of class 1, element by element; labels are held fixed.

    As `cross_entropy`; also for several classes that do not exclude each other. The residual is
    `sigmoid(logit) - label`.

    Args:
        logit: Of class 1, `(q,)`.
        label: 0, 1 or a probability, `(q,)`.

    Returns:
        `(q,)`; NaN where the label is no probability.

    Raises:
        ModelError: When traced, for more logits than labels.
    """
    if logit.shape != label.shape:
        raise ModelError(
            f"binary_cross_entropy needs one logit for each label, not {logit.size} for "
            f'{label.size}: for a logit per class use "cross_entropy".'
        )
    label = jax.lax.stop_gradient(label)
    loss = jax.nn.softplus(logit) - label * logit
    return jnp.where((label >= 0) & (label <= 1), loss, jnp.nan)


def brier(logits: jax.Array, label: jax.Array) -> jax.Array:
    """`1/2 |softmax(logits) - label|^2` of one instance: for soft labels that move.

    Its gradient by the label is `label - softmax(logits)`, bounded, and along the simplex, as the
    residual is: a rule shares the correction out between input and label. (That of the cross-
    entropy, `-log softmax(logits)`, is dominated by the classes that are out of the question.)
    Where the model is certain, its gradient by the input vanishes and the label moves alone.

    Args:
        logits: `(classes,)`.
        label: Probabilities of all classes, `(classes,)`; `simplex_targets` keeps them so.

    Source:
        Brier 1950.
    """
    residual = jax.nn.softmax(logits.ravel()) - label
    return 0.5 * jnp.sum(residual * residual)


def is_distribution(label: jax.Array) -> jax.Array:
    """Whether entries along the last axis are at least 0 and sum to 1, up to `UNSURE`."""
    return (label >= -UNSURE).all(axis=-1) & (jnp.abs(label.sum(axis=-1) - 1) <= UNSURE)


# Residuals are taken from there; `of_labels`: the target is a class, or classes, that do not move.
cross_entropy.location = jax.nn.softmax  # type: ignore[attr-defined]
binary_cross_entropy.location = jax.nn.sigmoid  # type: ignore[attr-defined]
brier.location = jax.nn.softmax  # type: ignore[attr-defined]
cross_entropy.of_labels = True  # type: ignore[attr-defined]
binary_cross_entropy.of_labels = True  # type: ignore[attr-defined]

_NAMED: dict[str, Loss] = {
    "squared_error": optax.losses.squared_error,
    "absolute_error": absolute_error,
    "huber": optax.losses.huber_loss,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "brier": brier,
}


def as_loss(criterion: Any) -> Loss:
    """Recognises a loss of one prediction and one target.

    PyTorch is not imported: a criterion of its can only be given where it is imported already.

    Args:
        criterion: One of the names "squared_error", "absolute_error" and "huber" (`optax`'s, with
            its delta of 1), or for models of logits "cross_entropy", "binary_cross_entropy" and
            "brier"; a JAX function `loss(prediction, target)`, returned as it is; or a
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


def is_of_labels(loss: Loss) -> bool:
    """Whether the target is a class, or probabilities of classes, that do not move."""
    return getattr(loss, "of_labels", False)


def _is_from_torch(function: Any) -> bool:
    """Whether the function is one of `torch.nn.functional`, which take no JAX arrays."""
    return (getattr(function, "__module__", None) or "").split(".")[0] == "torch"
