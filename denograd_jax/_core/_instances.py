"""Residuals, input gradients and Jacobians of instances: the one place that differentiates."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from denograd_jax._types import Instance, Loss, Params, Predict, PredictBatch, Scalar, Target
from denograd_jax.errors import ModelError, UnsupportedError

__all__ = [
    "GradientFunction",
    "InputGradients",
    "Linearisation",
    "batch_gradients",
    "input_gradients",
]


class InputGradients(NamedTuple):
    """How one instance misses its target, and which way it would have to move.

    Attributes:
        residual: `f(x) - y`, shape `(q,)`; for class labels the loss itself, shape `(1,)`, or
            of a loss with a `location` 1 less the label's probability; 0 where the target is
            missing.
        x: dL/dx, the shape of the instance.
        y: dL/dy, shape `(q,)`; 0 for class labels and missing targets.
        loss: L, summed over targets, shape `()`.
    """

    residual: Target
    x: Instance
    y: Target
    loss: Scalar


class Linearisation(NamedTuple):
    """One instance's residual as a linear function of its cells: what a rule sees that asks for it.

    `residual + jacobian_x . dx + jacobian_y * dy` is the residual after a small move. Where noise
    is known all derivatives are by cells in units of it, as in `rules.ScaledGradients`, and the
    rule's moves are too.

    Attributes:
        residual: `f(x) - y`, in units of y, shape `(q,)`; 0 where the target is missing.
        x: dL/dx, the shape of the instance.
        y: dL/dy, shape `(q,)`.
        loss: L, shape `()`.
        jacobian_x: Derivative of each residual by x, shape `(q, *instance)`; 0 where the target is
            missing.
        jacobian_y: Derivative of each residual by its own target, shape `(q,)`: -1, or minus the
            noise; 0 where the target is missing.
        at_origin: The residual that this linear function has where the instance began, shape
            `(q,)`: `residual` itself unless the rule is `anchored`.
    """

    residual: Target
    x: Instance
    y: Target
    loss: Scalar
    jacobian_x: jax.Array
    jacobian_y: Target
    at_origin: Target


GradientFunction: TypeAlias = Callable[[Params, jax.Array, jax.Array, jax.Array], Any]
"""Of many instances: `InputGradients`, or `Linearisation`, with a leading axis."""

_Found: TypeAlias = tuple[jax.Array, jax.Array]  # residual and loss, of one instance or of each


def input_gradients(
    predict: Predict, loss: Loss = optax.losses.squared_error
) -> Callable[[Params, Instance, Target, jax.Array | None], InputGradients]:
    """Residual and gradient of the loss by input and target, for ONE instance.

    `vmap` it over instances, `jit` it, differentiate through it. The loss is summed over targets.

    Args:
        predict: Pure `predict(params, x)`; `(d,)` or `(W, C)` to `()` or `(q,)`.
        loss: `loss(prediction, target)`, element by element or one number. With an integer target
            of another size than the prediction (class labels), it gets `(logits, label)`. A loss
            of distributions has an attribute `location(prediction)`, from where the residual is
            measured, and gets the prediction as one vector. One with an attribute `of_labels` is
            for targets that are classes, or their probabilities, and has no gradient by them.

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
    one = _gradients_of_one(predict, functools.partial(_misfit, loss, True), _differentiate)

    def gradients(
        params: Params, x: Instance, y: Target, observed_y: jax.Array | None = None
    ) -> InputGradients:
        observed = jnp.ones(y.shape, bool) if observed_y is None else observed_y
        found: InputGradients = one(params, x, y, observed)
        return found

    return gradients


def batch_gradients(
    predict: Predict,
    predict_batch: PredictBatch | None,
    loss: Loss,
    *,
    labels: bool = True,
    jacobian: bool = False,
) -> GradientFunction:
    """`input_gradients` of many instances: by `vmap`, or by one VJP where a batched form exists.

    Instances do not interact, so the gradient of the summed loss holds each one's own gradient. The
    Jacobian takes as many backward passes more as there are targets.

    Args:
        predict: As `input_gradients` takes it.
        predict_batch: Its batched form, or None.
        loss: As `input_gradients` takes it.
        labels: Whether class labels are allowed.
        jacobian: Whether to return `Linearisation`, which holds the Jacobian of the residuals.

    Returns:
        `gradients(params, x (n, ...), y (n, q), observed_y (n, q)) -> InputGradients`, each field
        with a leading instance axis.
    """
    misfit_of_one = functools.partial(_misfit, loss, labels)
    derive = _linearise if jacobian else _differentiate
    if predict_batch is None:
        one = _gradients_of_one(predict, misfit_of_one, derive)
        return jax.vmap(one, in_axes=(None, 0, 0, 0))

    def gradients(params: Params, x: jax.Array, y: jax.Array, observed_y: jax.Array) -> Any:
        def misfit(x: jax.Array, free_y: jax.Array) -> tuple[Scalar, _Found]:
            prediction = predict_batch(params, x)
            losses, residuals = jax.vmap(misfit_of_one)(prediction, y, free_y, observed_y)
            return losses.sum(), (residuals, losses)

        return derive(misfit, x, y)

    return gradients


def _gradients_of_one(
    predict: Predict,
    misfit_of_one: Callable[..., tuple[Scalar, Target]],
    derive: Callable[..., InputGradients | Linearisation],
) -> GradientFunction:
    def gradients(params: Params, x: Instance, y: Target, observed_y: jax.Array) -> Any:
        def misfit(x: Instance, free_y: Target) -> tuple[Scalar, _Found]:
            loss, residual = misfit_of_one(predict(params, x), y, free_y, observed_y)
            return loss, (residual, loss)

        return derive(misfit, x, y)

    return gradients


def _differentiate(
    misfit: Callable[[jax.Array, jax.Array], tuple[Scalar, _Found]], x: jax.Array, y: jax.Array
) -> InputGradients:
    """Gradients by x and by a floating copy of y, which labels do not depend on: theirs is 0."""
    both = jax.grad(misfit, argnums=(0, 1), has_aux=True)
    (grad_x, grad_y), (residual, loss) = both(x, y.astype(x.dtype))
    return InputGradients(residual, grad_x, grad_y, loss)


def _linearise(
    misfit: Callable[[jax.Array, jax.Array], tuple[Scalar, _Found]], x: jax.Array, y: jax.Array
) -> Linearisation:
    """The same with the derivatives of each residual: one forward pass, all backward ones at once.

    Of many instances a cotangent of 1 for every instance's k-th residual gives each one's own row.
    """

    def outputs(x: jax.Array, free_y: jax.Array) -> tuple[tuple[Scalar, jax.Array], jax.Array]:
        total, (residual, loss) = misfit(x, free_y)
        return (total, residual), loss

    (_, residual), pull_back, loss = jax.vjp(outputs, x, y.astype(x.dtype), has_aux=True)
    q = residual.shape[-1]
    of_total, of_residual = jnp.split(jnp.eye(q + 1, dtype=residual.dtype), [1], axis=1)
    spread = (q + 1, *(1,) * (residual.ndim - 1), q)
    of_residual = jnp.broadcast_to(of_residual.reshape(spread), (q + 1, *residual.shape))
    by_x, by_y = jax.vmap(pull_back)((of_total[:, 0], of_residual))
    return Linearisation(
        residual,
        by_x[0],
        by_y[0],
        loss,
        jnp.moveaxis(by_x[1:], 0, residual.ndim - 1),
        jnp.diagonal(by_y[1:], axis1=0, axis2=-1),
        residual,
    )


def _misfit(
    loss: Loss, labels: bool, prediction: Any, y: Target, free_y: Target, observed: jax.Array
) -> tuple[Scalar, Target]:
    """Summed loss and residual of one instance; a missing target adds nothing to either.

    `free_y` are the values of `y` in floating point, by which the loss is differentiated. Integer
    `y` of another size than the prediction are class labels, which cannot be.
    """
    _refuse_prediction(prediction)
    locate = getattr(loss, "location", None)
    of_labels = getattr(loss, "of_labels", False)
    if of_labels and not labels:
        raise _needs_slope()
    if prediction.size != y.size and (locate is None or of_labels):
        return _label_misfit(loss, labels, prediction, y, free_y.dtype, observed)
    prediction = prediction.astype(free_y.dtype)
    prediction = prediction.reshape(y.shape) if locate is None else prediction.ravel()
    centre = prediction if locate is None else _centre(locate(prediction), prediction, y)
    # A stand-in that every loss can take, and that leaves no residual.
    target = jnp.where(observed, free_y, jax.lax.stop_gradient(centre))
    losses = loss(prediction, target)
    if losses.shape == y.shape:
        total = jnp.where(observed, losses, 0).sum()
    else:  # a loss over all targets at once needs all of them
        observed = jnp.broadcast_to(observed.all(), y.shape)
        total = jnp.where(observed.all(), losses.sum(), 0)
    return total, jnp.where(observed, centre - target, 0)


def _centre(centre: jax.Array, prediction: jax.Array, y: Target) -> Target:
    if centre.size != y.size:
        raise ModelError(
            f"the model predicts {prediction.size} value(s), which are distributions of "
            f"{centre.size}, for a target of {y.size}: they must be as many."
        )
    return centre.reshape(y.shape)


def _label_misfit(
    loss: Loss, labels: bool, logits: jax.Array, label: Target, dtype: Any, observed: jax.Array
) -> tuple[Scalar, Target]:
    if not jnp.issubdtype(label.dtype, jnp.integer) or label.size != 1:
        raise ModelError(
            f"the model predicts {logits.size} value(s), shape {logits.shape}, for a target of "
            f"{label.size}: they must be as many. For class labels pass integer y of shape (n,), "
            "hold it fixed (refine_targets=False, in DenoGrad denoise_y=False), and use a loss "
            "that takes (logits, label)."
        )
    if not labels:
        raise _needs_slope()
    value = jnp.where(observed[0], loss(logits, label[0]).sum(), 0).astype(dtype)
    locate = getattr(loss, "location", None)
    if locate is None:
        return value, value[None]
    # Of the distance to a one-hot label this is the largest entry: both are gated alike.
    missing = 1 - locate(logits.ravel())[jnp.clip(label, 0, logits.size - 1)]
    return value, jnp.where(observed, missing.astype(dtype), 0)


def _needs_slope() -> UnsupportedError:
    return UnsupportedError(
        "this rule needs a gradient by the target, which class labels do not have: use "
        "rules.unit_step."
    )


def _refuse_prediction(prediction: Any) -> None:
    dtype = getattr(prediction, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        found = type(prediction).__name__ if dtype is None else f"an array of {dtype}"
        raise ModelError(f"the model must return one floating-point array, not {found}.")
