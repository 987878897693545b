"""Estimators that know no gradients: central differences of their predictions, on the host."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from denograd_jax._types import Instances, Model, Params, Predict
from denograd_jax.errors import ModelError, ShapeError, UnsupportedError
from denograd_jax.models._functions import model_of, reuse

__all__ = ["finite_differences", "from_estimator", "is_estimator"]

_NUMBERS = 2**22  # most that are given to the estimator at a time: 32 MiB
_LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)  # its logarithm is finite


def finite_differences(
    estimator: Any, *, step: float | None = None, scale: ArrayLike | None = None
) -> Model:
    """Wrap a fitted estimator so that JAX can differentiate it: slow, by central differences.

    The slope along input j is `(f(x + h_j e_j) - f(x - h_j e_j)) / 2 h_j`, computed in float64 on
    the host. The gradients of n instances of d inputs are 2 n d predictions, handed to the
    estimator in pieces of at most 32 MiB. `jit` and `vmap` work; derivatives are of first order and
    reverse mode alone. The estimator is neither copied nor changed, and must not be fitted anew
    while the model is in use. Look-ahead: no, beyond the estimator's own.

    Trees, and whatever else is piecewise constant, have slope 0 almost everywhere: under the
    published rule with the default step the inputs then stay where they are and the target alone
    moves, and with targets held fixed nothing does. A step of the size of the noise, say `step=0.5`
    with the standard deviations as `scale`, measures the slope over several leaves instead.

    Args:
        estimator: Fitted, with scikit-learn's `predict` of rows `(n, d)`. With `predict_proba` it
            counts as a classifier, and the model predicts the logarithms of the probabilities
            (at least 1e-38), `(n, classes)` in the order of `classes_`: logits for a loss of class
            labels. One fitted on a data frame gets a data frame with the names it knows, whose
            columns must come in its order. Or a function of a NumPy array, `(n, d)` to `(n,)` or
            `(n, q)`, for whatever has another interface. A window `(W, C)` reaches it as one row,
            step by step. Rows that are not finite are not shown to it: their prediction is NaN.
        step: h_j over the scale of input j; unless given 6e-6 where the predictions come in
            float64, 5e-3 where they come in float32.
        scale: What a small change is measured against, `(d,)` or one number, in the units of the
            inputs: best their standard deviations. Unless given it is max(|x_j|, 1), cell by cell,
            which suits inputs that spread over 1e-3 or more.

    Returns:
        The model, without parameters.

    Raises:
        UnsupportedError: If it is no estimator or function; if it is a classifier without
            `predict_proba`; or, when first called, if it predicts no floating-point numbers.
        ModelError: When first called, if the instances have another number of inputs, or the
            estimator fails on a row of zeros (as one that is not fitted does).
        ShapeError: If `step` or `scale` is not positive; when first called, if the scale does not
            fit the instances.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = finite_differences(lambda rows: rows[:, 0] * rows[:, 1])
        >>> jax.grad(lambda x: model.predict((), x))(jnp.array([2.0, 3.0]))
        Array([3., 2.], dtype=float32)
    """
    scales = None if scale is None else np.atleast_1d(np.asarray(scale, np.float64))
    for name, values in (("step", step), ("scale", scales)):
        if values is not None and not np.all(np.isfinite(values) & (np.asarray(values) > 0)):
            raise ShapeError(f"{name} must be positive and finite, not {values}.")
    if scales is not None and scales.ndim != 1:
        raise ShapeError(f"scale must have shape (inputs,), not {scales.shape}.")
    host = _Host(*_interface(estimator), step, None if scales is None else tuple(scales.tolist()))
    return model_of(_on_host(host), (), batched=True)


def is_estimator(obj: Any) -> bool:
    """Whether the object has scikit-learn's interface, fitted or not."""
    if inspect.isclass(obj) or not callable(getattr(obj, "predict", None)):
        return False
    return hasattr(obj, "n_features_in_") or (hasattr(obj, "fit") and not callable(obj))


def from_estimator(estimator: Any) -> Model:
    """`finite_differences` with its default settings, of what is fitted."""
    if not hasattr(estimator, "n_features_in_"):
        raise UnsupportedError(
            f"{type(estimator).__name__} has no n_features_in_: it is not fitted (call its fit "
            "first), or not of scikit-learn's interface (pass models.finite_differences(f) of a "
            "function f(rows) that calls it)."
        )
    return finite_differences(estimator)


_Interface = tuple[Callable[[Any], Any], bool, int | None, tuple[str, ...] | None]


def _interface(estimator: Any) -> _Interface:
    """What is called on rows, whether it gives probabilities, number and names of its inputs."""
    features = getattr(estimator, "n_features_in_", None)
    known = getattr(estimator, "feature_names_in_", None)
    names = None if known is None else tuple(known)
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba, True, features, names
    if hasattr(estimator, "classes_"):
        raise UnsupportedError(
            f"the classifier {type(estimator).__name__} has no predict_proba, and labels have no "
            "slope: calibrate it (sklearn.calibration.CalibratedClassifierCV), or pass "
            "models.finite_differences(classifier.decision_function)."
        )
    if hasattr(estimator, "predict"):
        return estimator.predict, False, features, names
    if callable(estimator) and not inspect.isclass(estimator):
        return estimator, False, None, None
    raise UnsupportedError(
        f"expected a fitted estimator or a function of a NumPy array, not {estimator!r:.200}."
    )


@dataclasses.dataclass(frozen=True)
class _Host:
    """An estimator in NumPy and float64. Nothing here may call JAX, which waits for it.

    Two are equal if they call the same estimator, since its methods are.
    """

    call: Callable[[Any], Any]
    gives_probabilities: bool
    features: int | None
    names: tuple[str, ...] | None
    step: float | None
    scale: tuple[float, ...] | None

    def output_shape(self, inputs: int) -> tuple[int, ...]:
        """Shape of one row's prediction, found by trying."""
        if self.features not in (None, inputs):
            raise ModelError(
                f"the estimator was fitted on {self.features} inputs, an instance has {inputs}."
            )
        if self.scale is not None and len(self.scale) not in (1, inputs):
            raise ShapeError(
                f"scale has {len(self.scale)} numbers, an instance has {inputs} inputs."
            )
        try:
            with np.errstate(all="ignore"):
                found = self._call(np.zeros((1, inputs)))
        except Exception as error:
            raise ModelError(f"the estimator fails on a row of {inputs} zeros: {error}") from error
        if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or found.ndim not in (1, 2):
            described = (
                f"{found.dtype} of shape {found.shape}"
                if isinstance(found, np.ndarray)
                else type(found).__name__
            )
            raise UnsupportedError(
                "the estimator must predict floating-point numbers, (n,) or (n, q), for n rows; "
                f"for one row it returned {described}."
            )
        shape: tuple[int, ...] = found.shape[1:]
        return shape

    def predict(self, x: Any) -> NDArray[Any]:
        """Predictions `(..., q)` or `(...)` of rows `(..., d)`."""
        rows, finite = _finite_rows(x)
        found = self._predict_rows(rows)
        found[~finite] = np.nan
        return _cast(found, x.dtype).reshape(*x.shape[:-1], *found.shape[1:])

    def pull_back(self, x: Any, cotangent: Any) -> NDArray[Any]:
        """Gradient `(..., d)` of predictions weighted by the cotangent, by rows `(..., d)`."""
        rows, finite = _finite_rows(x)
        weights = np.asarray(cotangent).astype(np.float64).reshape(len(rows), -1)
        most = max(1, _NUMBERS // (2 * rows.shape[1] ** 2))
        gradient = np.empty(rows.shape)
        for begin in range(0, len(rows), most):
            piece = slice(begin, begin + most)
            slopes = self._slopes(rows[piece])
            with np.errstate(over="ignore", invalid="ignore"):
                gradient[piece] = np.einsum("ndq,nq->nd", slopes, weights[piece])
        gradient[~finite] = np.nan
        return _cast(gradient, x.dtype).reshape(x.shape)

    def _slopes(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Derivatives `(n, d, q)` of the predictions of rows `(n, d)`."""
        count, inputs = rows.shape
        scale = np.maximum(np.abs(rows), 1) if self.scale is None else np.array(self.scale)
        step = _default_step(self._call(rows[:1]).dtype) if self.step is None else self.step
        above, below = rows + step * scale, rows - step * scale
        shifted = np.tile(rows[:, None, None], (1, 2, inputs, 1))
        each = np.arange(inputs)
        shifted[:, 0, each, each], shifted[:, 1, each, each] = above, below
        found = self._predict_rows(shifted.reshape(-1, inputs)).reshape(count, 2, inputs, -1)
        # Divided by the distance as it came out after rounding, not as it was meant to be.
        with np.errstate(divide="ignore", invalid="ignore"):  # a step lost in the spacing
            slopes: NDArray[Any] = (found[:, 0] - found[:, 1]) / (above - below)[..., None]
        return slopes

    def _predict_rows(self, rows: NDArray[Any]) -> NDArray[Any]:
        most = max(1, _NUMBERS // rows.shape[1])
        pieces = [self._call(rows[begin : begin + most]) for begin in range(0, len(rows), most)]
        return np.concatenate(pieces).astype(np.float64)

    def _call(self, rows: NDArray[Any]) -> Any:
        if self.names is None:
            found = self.call(rows)
        else:
            import pandas as pd

            found = self.call(pd.DataFrame(rows, columns=list(self.names)))
        if isinstance(found, list | tuple):
            return found  # several targets' probabilities: refused
        found = np.asarray(found)
        return np.log(np.maximum(found, _LEAST_PROBABILITY)) if self.gives_probabilities else found


def _default_step(dtype: Any) -> float:
    """The cube root of the spacing.

    The error of a central difference by truncation grows with the step's square, that by rounding
    with its inverse; here they are alike.
    """
    return float(np.cbrt(np.finfo(dtype).eps))


def _finite_rows(x: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Rows `(n, d)` in float64, zeros in place of those that are not finite; and which are."""
    rows = np.asarray(x).astype(np.float64).reshape(-1, x.shape[-1])
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    return np.where(finite[:, None], rows, 0), finite


def _cast(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        return values.astype(dtype)


@reuse
def _on_host(host: _Host) -> Predict:
    def predict_batch(params: Params, x: Instances) -> jax.Array:
        x = jnp.asarray(x)
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)
        return _predict(host, x.reshape(x.shape[0], -1))

    return predict_batch


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _predict(host: _Host, x: jax.Array) -> jax.Array:
    shape = (*x.shape[:-1], *host.output_shape(x.shape[-1]))
    output = jax.ShapeDtypeStruct(shape, x.dtype)  # type: ignore[no-untyped-call]
    return jax.pure_callback(host.predict, output, x, vmap_method="broadcast_all")  # type: ignore[no-any-return]


def _predict_forward(host: _Host, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _predict(host, x), x


def _predict_backward(host: _Host, x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    output = jax.ShapeDtypeStruct(x.shape, x.dtype)  # type: ignore[no-untyped-call]
    return (jax.pure_callback(host.pull_back, output, x, cotangent, vmap_method="broadcast_all"),)


_predict.defvjp(_predict_forward, _predict_backward)
