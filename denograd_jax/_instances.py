"""Residuals and input gradients of instances: the one place where `jax.grad` is called."""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from denograd_jax._types import Instance, Loss, Params, Predict, PredictBatch, Scalar, Target
from denograd_jax.errors import ModelError

__all__ = ["GradientFunction", "InputGradients", "batch_gradients", "input_gradients"]


class InputGradients(NamedTuple):
    """How one instance misses its target, and which way it would have to move.

    Attributes:
        residual: `f(x) - y`, shape `(q,)`; for class labels the loss itself, shape `(1,)`;
            0 where the target is missing.
        x: dL/dx, the shape of the instance.
        y: dL/dy, shape `(q,)`; 0 for class labels and missing targets.
    """

    residual: Target
    x: Instance
    y: Target


GradientFunction: TypeAlias = Callable[[Params, jax.Array, jax.Array, jax.Array], InputGradients]


def input_gradients(
    predict: Predict, loss: Loss = optax.losses.squared_error
) -> Callable[[Params, Instance, Target, jax.Array | None], InputGradients]:
    """Residual and gradient of the loss by input and target, for ONE instance.

    `vmap` it over instances, `jit` it, differentiate through it. The loss is summed over targets.

    Args:
        predict: Pure `predict(params, x)`; `(d,)` or `(W, C)` to `()` or `(q,)`.
        loss: `loss(prediction, target)`, element by element or one number. With an integer target
            of another size than the prediction (class labels), it gets `(logits, label)`.

    Returns:
        `gradients(params, x, y, observed_y=None) -> InputGradients`, with `y` of shape `(q,)` and
        `observed_y` a boolean mask of that shape.

    Raises:
        ModelError: When first called, if the prediction's size is not the target's.

    Example:
        >>> import jax.numpy as jnp
        >>> gradients = input_gradients(lambda w, x: w @ x)
        >>> gradients(jnp.array([3.0, 4.0]), jnp.array([1.0, 1.0]), jnp.array([6.0])).x
        Array([6., 8.], dtype=float32)
    """

    def gradients(
        params: Params, x: Instance, y: Target, observed_y: jax.Array | None = None
    ) -> InputGradients:
        mask = jnp.ones(y.shape, bool) if observed_y is None else observed_y

        def misfit(x: Instance, y: Target) -> tuple[Scalar, Target]:
            return _misfit(loss, predict(params, x), y, mask)

        return _differentiate(misfit, x, y)

    return gradients


def batch_gradients(
    predict: Predict, predict_batch: PredictBatch | None, loss: Loss
) -> GradientFunction:
    """`input_gradients` of many instances: by `vmap`, or by one VJP where a batched form exists.

    Instances do not interact, so the gradient of the summed loss holds each one's own gradient.

    Returns:
        `gradients(params, x (n, ...), y (n, q), observed_y (n, q)) -> InputGradients`, each field
        with a leading instance axis.
    """
    if predict_batch is None:
        return jax.vmap(input_gradients(predict, loss), in_axes=(None, 0, 0, 0))

    def gradients(
        params: Params, x: jax.Array, y: jax.Array, observed_y: jax.Array
    ) -> InputGradients:
        def misfit(x: jax.Array, y: jax.Array) -> tuple[Scalar, jax.Array]:
            each = jax.vmap(functools.partial(_misfit, loss))
            losses, residuals = each(predict_batch(params, x), y, observed_y)
            return losses.sum(), residuals

        return _differentiate(misfit, x, y)

    return gradients


def _differentiate(
    misfit: Callable[[jax.Array, jax.Array], tuple[Scalar, jax.Array]], x: jax.Array, y: jax.Array
) -> InputGradients:
    if jnp.issubdtype(y.dtype, jnp.integer):  # labels do not move: there is no dL/dy
        grad_x, residual = jax.grad(misfit, has_aux=True)(x, y)
        return InputGradients(residual, grad_x, jnp.zeros(y.shape, x.dtype))
    (grad_x, grad_y), residual = jax.grad(misfit, argnums=(0, 1), has_aux=True)(x, y)
    return InputGradients(residual, grad_x, grad_y)


def _misfit(
    loss: Loss, prediction: jax.Array, y: Target, observed: jax.Array
) -> tuple[Scalar, Target]:
    """Summed loss and residual of one instance; a missing target adds nothing to either."""
    if prediction.size != y.size:
        return _label_misfit(loss, prediction, y, observed)
    prediction = prediction.reshape(y.shape)
    target = y.astype(prediction.dtype) if jnp.issubdtype(y.dtype, jnp.integer) else y
    residual = jnp.where(observed, prediction - target, 0)
    losses = loss(prediction, target)
    if losses.shape != y.shape:  # a loss over all targets at once needs all of them
        observed = observed.all()
    return jnp.where(observed, losses, 0).sum(), residual


def _label_misfit(
    loss: Loss, logits: jax.Array, label: Target, observed: jax.Array
) -> tuple[Scalar, Target]:
    if not jnp.issubdtype(label.dtype, jnp.integer) or label.size != 1:
        raise ModelError(
            f"the model predicts {logits.size} value(s), shape {logits.shape}, for a target of "
            f"{label.size}: they must be as many. For class labels pass integer y of shape (n,) "
            "with refine_targets=False and a loss that takes (logits, label)."
        )
    value = jnp.where(observed[0], loss(logits, label[0]).sum(), 0)
    return value, value[None]
