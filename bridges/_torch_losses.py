"""Losses of PyTorch as functions of one prediction and one target."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from denograd_jax._losses import absolute_error
from denograd_jax._types import Loss
from denograd_jax.bridges._exporting import Converted, convert, export
from denograd_jax.bridges._from_torch import evaluation_copy
from denograd_jax.bridges._torch_tensors import forward_kind, import_torch, to_numpy
from denograd_jax.errors import UnsupportedError

__all__ = ["loss_from_torch"]

Numbers: TypeAlias = tuple[float, ...] | None
"""Weights of classes or targets, hashable."""


def loss_from_torch(criterion: Any) -> Loss:
    """Turns a loss module of PyTorch into a JAX function of one prediction and one target.

    The reduction (mean, sum or none) is left out: a loss per instance has no batch to reduce, and
    the rules of refinement do not depend on the loss's scale. Weights of classes and targets stay.
    The criteria named below, with equal settings, give the *same* function object, so nothing is
    compiled twice. Look-ahead: no.

    Args:
        criterion: `MSELoss`, `L1Loss`, `SmoothL1Loss`, `HuberLoss`, `BCEWithLogitsLoss`,
            `CrossEntropyLoss`, `GaussianNLLLoss`; or another module `loss(prediction, target)`,
            which is copied, and exported as `from_torch` does it, once for each shape and type of
            its arguments; it sees a batch of one.

    Returns:
        `loss(prediction, target)`, element by element; for `CrossEntropyLoss` one number from
        logits `(K,)` and an integer label `()` (beyond the classes: NaN) or class probabilities
        `(K,)`; for `GaussianNLLLoss` from a prediction that holds all means and behind them all
        variances, `(2 q,)` or `(2, q)`, and a target `(q,)`; for another module what it returns, or
        one number if that is not of the target's size.

    Raises:
        UnsupportedError: If it is no loss module of two arguments; when first called, if it cannot
            be exported, or its weights do not fit the target.
        MissingExtraError: If PyTorch is not installed.
    """
    torch = import_torch()
    if not isinstance(criterion, torch.nn.Module):
        raise UnsupportedError(
            f"cannot turn {_describe(criterion)} into a JAX loss. Expected an instance of one of "
            f"torch.nn's {', '.join(_READERS)}, of another loss module, or a JAX function "
            "loss(prediction, target)."
        )
    read = _READERS.get(forward_kind(criterion) or "", _exported)
    return read(criterion)


def _read_huber(criterion: Any) -> Loss:
    return _huber(float(criterion.delta))


def _read_smooth_l1(criterion: Any) -> Loss:
    return _smooth_l1(float(criterion.beta)) if criterion.beta else absolute_error


def _read_bce_with_logits(criterion: Any) -> Loss:
    weights = _numbers(criterion, "weight"), _numbers(criterion, "pos_weight")
    plain = weights == (None, None)
    return optax.losses.sigmoid_binary_cross_entropy if plain else _weighted_bce(*weights)


def _read_cross_entropy(criterion: Any) -> Loss:
    smoothing = float(criterion.label_smoothing)
    return _cross_entropy(int(criterion.ignore_index), smoothing, _numbers(criterion, "weight"))


def _read_gaussian(criterion: Any) -> Loss:
    return _gaussian(bool(criterion.full), float(criterion.eps))


# Those whose form here is simpler or faster than the exported one, and shared between instances.
_READERS: dict[str, Callable[[Any], Loss]] = {
    "MSELoss": lambda _: optax.losses.squared_error,
    "L1Loss": lambda _: absolute_error,
    "SmoothL1Loss": _read_smooth_l1,
    "HuberLoss": _read_huber,
    "BCEWithLogitsLoss": _read_bce_with_logits,
    "CrossEntropyLoss": _read_cross_entropy,
    "GaussianNLLLoss": _read_gaussian,
}


def _numbers(criterion: Any, name: str) -> Numbers:
    weight = getattr(criterion, name)
    if weight is None:
        return None
    if weight.dim() > 1 and weight.numel() != weight.shape[-1]:
        raise UnsupportedError(
            f"{type(criterion).__name__} has a {name} of shape {tuple(weight.shape)}: a loss per "
            "instance can have one number for each target or class, not for each instance."
        )
    return tuple(to_numpy(weight).ravel().tolist())


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
def _weighted_bce(weight: Numbers, positive_weight: Numbers) -> Loss:
    def binary_cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
        positives = _spread(positive_weight, logits) * target * jax.nn.log_sigmoid(logits)
        negatives = (1 - target) * jax.nn.log_sigmoid(-logits)
        return -_spread(weight, logits) * (positives + negatives)

    return binary_cross_entropy


def _spread(weight: Numbers, logits: jax.Array) -> jax.Array:
    """One weight for each logit."""
    if weight is None or len(weight) == 1:
        return jnp.full_like(logits, 1.0 if weight is None else weight[0])
    if len(weight) != logits.size:
        raise UnsupportedError(
            f"the loss has {len(weight)} weights, and an instance {logits.size} prediction(s): "
            "they must be as many."
        )
    return jnp.asarray(weight, logits.dtype).reshape(logits.shape)


@functools.lru_cache(maxsize=256)
def _cross_entropy(ignored: int, smoothing: float, weight: Numbers) -> Loss:
    def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
        if logits.ndim != 1 or target.ndim > 1:
            raise UnsupportedError(
                "CrossEntropyLoss is of logits (K,) and one label () or probabilities (K,) of an "
                f"instance, not of {logits.shape} and {target.shape}: write a loss in JAX for "
                "several labels."
            )
        losses = -_spread(weight, logits) * jax.nn.log_softmax(logits)

        def smoothed(loss: jax.Array) -> jax.Array:
            if not smoothing:  # the mean is infinite where a class has no probability
                return loss
            return (1 - smoothing) * loss + smoothing * losses.mean()

        if not jnp.issubdtype(target.dtype, jnp.integer):
            return smoothed((target * losses).sum())
        beyond = (target < 0) | (target >= logits.size)
        loss = smoothed(losses[jnp.where(beyond, 0, target)])
        return jnp.where(target == ignored, 0, jnp.where(beyond, jnp.nan, loss))

    return cross_entropy


@functools.lru_cache(maxsize=256)
def _gaussian(full: bool, epsilon: float) -> Loss:
    def negative_log_likelihood(prediction: jax.Array, target: jax.Array) -> jax.Array:
        mean, variance = prediction.reshape(2, *target.shape)
        # As torch has it, the floor changes the value and not the derivative.
        variance += jax.lax.stop_gradient(jnp.maximum(variance, epsilon) - variance)
        loss: jax.Array = (jnp.log(variance) + (mean - target) ** 2 / variance) / 2
        return loss + math.log(2 * math.pi) / 2 if full else loss

    negative_log_likelihood.location = _mean_of_halves  # type: ignore[attr-defined]
    return negative_log_likelihood


def _mean_of_halves(prediction: jax.Array) -> jax.Array:
    """Where a prediction of means and variances lies: its residual is measured from there."""
    return prediction.ravel()[: prediction.size // 2]


def _exported(criterion: Any) -> Loss:
    """Any other module, exported when the shapes and types of its arguments are known."""
    _refuse_other_arguments(criterion)
    module = evaluation_copy(criterion, None)
    if forward_kind(module) is not None and hasattr(module, "reduction"):
        module.reduction = "none"

    @functools.lru_cache(maxsize=8)
    def converted(*kinds: tuple[tuple[int, ...], str]) -> Converted:
        examples = tuple(_example(module, shape, dtype) for shape, dtype in kinds)
        return convert(export(module, examples, dynamic=()))

    def loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
        program, params = converted(
            *((array.shape, str(array.dtype)) for array in (prediction, target))
        )
        found: jax.Array = program(params, (prediction[None], target[None]))
        return found.reshape(target.shape) if found.size == target.size else found.sum()

    return loss


def _example(module: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """A batch of one, of a type that the module takes: labels are int64 throughout torch."""
    torch = import_torch()
    if jnp.issubdtype(dtype, jnp.integer):
        return torch.zeros((1, *shape), dtype=torch.int64)
    weights = (value for value in module.state_dict().values() if value.is_floating_point())
    own = next((weight.dtype for weight in weights), getattr(torch, dtype))
    return torch.zeros((1, *shape), dtype=own)


def _refuse_other_arguments(criterion: Any) -> None:
    signature = inspect.signature(criterion.forward)
    try:
        signature.bind("prediction", "target")
    except TypeError:
        raise UnsupportedError(
            f"{type(criterion).__name__} is called as {signature}: only a loss of a prediction and "
            "a target, such as torch.nn.MSELoss(), can be refined by."
        ) from None


def _describe(criterion: Any) -> str:
    if isinstance(criterion, type):
        return f"the class {criterion.__name__}"
    return f"a {type(criterion).__name__}"
