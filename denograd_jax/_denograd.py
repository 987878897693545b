"""The published interface of DenoGrad: a thin face over the core, for scripts written for it."""

import contextlib
import operator
from typing import Any, NamedTuple, Self, TypeAlias

import jax
import numpy as np

from denograd_jax import layouts, rules
from denograd_jax._losses import as_loss
from denograd_jax._models import as_model
from denograd_jax._refiner import Info, State, refiner
from denograd_jax._run import History, run
from denograd_jax._types import Model
from denograd_jax.errors import ColumnError, DenogradError, ModelError, ShapeError, UnsupportedError
from denograd_jax.layouts import Rows, Windows

__all__ = ["DenoGrad"]

Denoised: TypeAlias = tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]


class _Fitted(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    layout: Rows | Windows
    target_columns: tuple[int, ...]


class DenoGrad:
    """Input refinement by a frozen model, with the interface of the PyTorch package 1.1.

    A script written for that package runs after changing its import line. Differences: `transform`
    always starts from the data given to `fit`, so it can be swept; nothing is printed; missing
    values (NaN) are left as they are and spread nowhere; `fit_transform` takes `future`; flattened
    series and several targets work. Where X is a data frame that holds its targets, the model may
    take all of its columns (as in that package) or all but the targets.

    Args:
        model: A trained model: a PyTorch module, Flax nnx module, (Linen module, variables),
            Equinox module, function, or whatever else `as_model` takes. It is not changed.
        criterion: Its loss: a `torch.nn` loss, a JAX function `loss(prediction, target)`, or a
            name ("squared_error", "absolute_error", "huber").
        device: Where to compute: a JAX device, "cpu", "gpu", "tpu" or a torch device; JAX's default
            unless given.

    Source:
        Alonso-Ramos et al., "DenoGrad", arXiv 2511.10161.

    Example:
        >>> import numpy as np
        >>> X = np.array([[1.0, 2.0], [3.0, 4.0]]); y = np.array([3.0, 7.5])
        >>> denoiser = DenoGrad(lambda x: x.sum(), "squared_error")
        >>> X_denoised, y_denoised, _, _ = denoiser.fit_transform(X, y, max_epochs=20)
        >>> y_denoised.round(1)
        array([3. , 7.3])
    """

    def __init__(self, model: Any, criterion: Any, device: Any = None) -> None:
        self.model = model
        self.criterion = criterion
        self.device = device

    def fit(
        self,
        X: Any,
        y: Any = None,
        is_ts: bool = False,
        window_size: int | None = None,
        future: int = 1,
        stride: int = 1,
        flattening: bool = False,
    ) -> Self:
        """Take the data and how to cut it; nothing is computed, no device is touched.

        Args:
            X: `(rows, features)` or series `(steps, channels)`: array, tensor or DataFrame.
            y: `(rows,)` or `(rows, targets)`; for a DataFrame also its column name(s).
            is_ts: Whether X is a series, cut into windows.
            window_size: Steps in a window; needed where `is_ts`.
            future: Steps from the window's last to its target.
            stride: Steps from one window to the next.
            flattening: Whether the model takes windows as vectors `(window_size * channels,)`.

        Raises:
            ShapeError: Shapes that do not fit, or no window_size for a series.
            ColumnError: Unknown or non-numeric columns.
        """
        if is_ts and window_size is None:
            raise ShapeError("a series needs window_size: the steps that the model looks back on.")
        x, targets, columns = _arrays(X, y)
        layout: Rows | Windows = layouts.rows()
        if is_ts:
            layout = layouts.windows(window_size or 0, future, stride, flatten=flattening)
        layout.check(x, targets)  # type: ignore[arg-type]  # only shapes are looked at
        self._fitted = _Fitted(x, targets, layout, columns)
        return self

    def transform(
        self,
        nrr: float = 0.05,
        nr_threshold: float = 0.01,
        max_epochs: int = 100,
        denoise_y: bool = True,
        batch_size: int = 1000,
        save_gradients: bool = True,
    ) -> Denoised:
        """Refine the data given to `fit`.

        Look-ahead: for a series yes; a step is corrected by all windows that contain it.

        Args:
            nrr: Noise reduction rate, the step size, in the units of the data.
            nr_threshold: Residual, in the units of y, up to which an instance stays.
            max_epochs: Most steps.
            denoise_y: Whether y is refined too.
            batch_size: Instances in memory at a time; without effect on the result.
            save_gradients: Whether to return every epoch's gradients; they are kept on the host.

        Returns:
            `(X_denoised, y_denoised, grad_x_list, grad_y_list)`: arrays in the shape given to `fit`
            (X without the targets, where the model takes only the other columns) and, per epoch,
            each instance's gradient over its joint norm, `(n, features)` or
            `(n, window_size, channels)` and `(n,)` or `(n, targets)`. The lists are empty where
            gradients are not saved, the second also where y is not refined.

        Raises:
            DenogradError: Before `fit`; or for a model, loss or device that cannot be used.
        """
        if not hasattr(self, "_fitted"):
            raise DenogradError("transform needs data: call fit(X, y) first, or fit_transform.")
        fitted, model = self._fitted, as_model(self.model)
        x = _model_inputs(model, fitted)
        max_epochs, batch_size = operator.index(max_epochs), operator.index(batch_size)
        with _on(self.device):
            r = refiner(
                model,
                rules.unit_step(nrr, nr_threshold),
                fitted.layout,
                as_loss(self.criterion),
                denoise_y,
                chunk_size=batch_size,
                keep_direction=save_gradients,
            )
            history = History(_gradients, capacity=max(max_epochs, 0)) if save_gradients else None
            params = jax.device_put(model.params)
            begin = r.init(x, fitted.y)
            end = run(r, params, begin, max_epochs, history).state
        grads = [] if history is None else list(history.records)
        return (
            _moved(x, begin.data.x, end.data.x),
            _moved(fitted.y, begin.data.y, end.data.y),
            [_unflatten(g[0], x, fitted.layout) for g in grads],
            [g[1].reshape(len(g[1]), *fitted.y.shape[1:]) for g in grads] if denoise_y else [],
        )

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        is_ts: bool = False,
        window_size: int | None = None,
        future: int = 1,
        stride: int = 1,
        flattening: bool = False,
        nrr: float = 0.05,
        nr_threshold: float = 0.01,
        max_epochs: int = 100,
        denoise_y: bool = True,
        batch_size: int = 1000,
        save_gradients: bool = True,
    ) -> Denoised:
        """`fit`, then `transform`; see there."""
        self.fit(X, y, is_ts, window_size, future, stride, flattening)
        return self.transform(nrr, nr_threshold, max_epochs, denoise_y, batch_size, save_gradients)


def _gradients(state: State, info: Info) -> Any:
    del state
    return info.direction


def _arrays(X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """X and y as arrays of their own, and which columns of X are y, if any."""
    if y is None:
        raise ShapeError("y is missing: give the targets, or their column name(s) in a DataFrame.")
    x = _numbers("X", X)
    names = _column_names(X, y)
    if names is None:
        return x, _numbers("y", y), ()
    columns = [list(X.columns).index(name) for name in names]
    single = not isinstance(y, list | tuple) and len(names) == 1 and np.ndim(y) == 0
    return x, x[:, columns[0] if single else columns].copy(), tuple(columns)


def _column_names(X: Any, y: Any) -> list[Any] | None:
    """The columns of a DataFrame that y names; None where y is the target itself."""
    if not hasattr(X, "columns"):
        return None
    names = [y] if isinstance(y, str) or np.ndim(y) == 0 else list(y)
    if len(names) == len(X) and not all(isinstance(name, str) for name in names):
        return None
    if hasattr(y, "iloc"):  # a Series or DataFrame holds values
        return None
    for name in names:
        if list(X.columns).count(name) != 1:
            count = "not" if name not in list(X.columns) else "more than once"
            raise ColumnError(f"target column {name!r} is {count} in X; it has: {list(X.columns)}")
    return names


def _numbers(name: str, values: Any) -> np.ndarray:
    """A copy as a NumPy array; tensors of PyTorch are taken without importing it."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        array = np.array(values)
        if array.dtype == object:  # as of a data frame with nullable columns
            floats = {"dtype": np.float64, "na_value": np.nan}
            array = values.to_numpy(**floats) if hasattr(values, "iloc") else array.astype(float)
    except (TypeError, ValueError) as error:
        raise ColumnError(
            f"{name} holds values that are not numbers ({error}): encode text and categories "
            "first, or use denograd_jax.refine, which passes them through."
        ) from error
    if array.dtype.kind not in "fiub":
        raise ColumnError(f"{name} must hold numbers, not {array.dtype}.")
    return array


def _model_inputs(model: Model, fitted: _Fitted) -> np.ndarray:
    """All columns of X; or, if the model does not take these, all that are not targets."""
    if not fitted.target_columns:
        return fitted.x
    others = np.delete(fitted.x, fitted.target_columns, axis=1)
    for x in (fitted.x, others):
        if _takes(model, x, fitted.layout):
            return x
    raise ModelError(
        f"the model takes neither the {fitted.x.shape[1]} columns of X nor the {others.shape[1]} "
        "that are not targets."
    )


def _takes(model: Model, x: np.ndarray, layout: Rows | Windows) -> bool:
    features = x.shape[1]
    shape: tuple[int, ...] = (features,)
    if isinstance(layout, Windows):
        shape = (layout.length * features,) if layout.flatten else (layout.length, features)
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    try:
        jax.eval_shape(model.predict, model.params, np.zeros(shape, dtype))
    except Exception:  # whatever a model raises on a wrong shape
        return False
    return True


def _on(device: Any) -> Any:
    """A context in which JAX computes on the device."""
    if device is None:
        return contextlib.nullcontext()
    if isinstance(device, jax.Device):
        return jax.default_device(device)
    platform, _, number = str(device).partition(":")
    try:
        devices = jax.devices({"cuda": "gpu"}.get(platform, platform))
        return jax.default_device(devices[int(number or 0)])
    except (RuntimeError, IndexError, ValueError) as error:
        available = ", ".join(sorted({d.platform for d in jax.devices()}))
        raise UnsupportedError(
            f"device {device!r} is not available to JAX, which has: {available}."
        ) from error


def _moved(given: np.ndarray, begin: Any, end: Any) -> np.ndarray:
    """What was given plus its move, so that a value that did not move keeps every bit."""
    dtype = np.result_type(given.dtype, np.float16 if given.dtype.kind == "f" else np.float32)
    moved: np.ndarray = given.astype(dtype) + (np.asarray(end) - np.asarray(begin)).astype(dtype)
    return moved


def _unflatten(gradient: np.ndarray, x: np.ndarray, layout: Rows | Windows) -> np.ndarray:
    """Windows in their own shape, also where the model takes them as vectors."""
    if isinstance(layout, Rows):
        return gradient
    return gradient.reshape(len(gradient), layout.length, x.shape[1])
