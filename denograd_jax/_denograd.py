"""The published interface of DenoGrad: a thin face over the core, for scripts written for it."""

import contextlib
import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import jax
import numpy as np
import optax

from denograd_jax import layouts, rules
from denograd_jax._core._global import GlobalInfo, global_refiner
from denograd_jax._core._refiner import Info, Refiner, refiner
from denograd_jax._core._run import History, run
from denograd_jax._denograd_arrays import Fitted, arrays, model_and_inputs, moved, unflatten
from denograd_jax._losses import as_loss
from denograd_jax._numbers import nonnegative
from denograd_jax._types import Model
from denograd_jax.errors import DenogradError, ShapeError, UnsupportedError
from denograd_jax.layouts import Rows, Windows

__all__ = ["DenoGrad"]

Denoised: TypeAlias = tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]


class _Options(NamedTuple):
    """The arguments of `transform`; None where only the PyTorch package 2.0 has the argument."""

    nrr: float
    nr_threshold: float
    max_epochs: int | None
    denoise_y: bool
    batch_size: int
    save_gradients: bool
    eta_x: float | None
    eta_y: float | None
    ts_strategy: Literal["window", "global"] | None
    lam: float | None
    lr: float | None
    tol: float | None


class DenoGrad:
    """Input refinement by a frozen model, with the interface of the PyTorch package 1.1.

    A script written for that package runs after changing its import line. Differences: `transform`
    always starts from the data given to `fit`, so it can be swept; nothing is printed; missing
    values (NaN) are left as they are and spread nowhere; `fit_transform` takes `future`; flattened
    series and several targets work. Where X is a data frame that holds its targets, the model may
    take all of its columns (as in that package) or all but the targets.

    The arguments of version 2.0 are understood too, but its defaults are not taken over: without
    them the published rule of 1.1 is used. `ts_strategy="global"` and `"window"` are 2.0's two
    ways with a series ("global" is its default), `eta_x=1.0` its Gauss-Newton step for rows (its
    only rule there), to which `nrr=0.5` belongs. One of 2.0's without effect is an error here, a
    warning or nothing there.

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
        target_cols: int | list[int] | None = None,
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
            target_cols: Number(s) of the columns of X that are the targets, in place of y (2.0).
                They stay inputs too: one variable under `ts_strategy="global"`, else a copy that
                drifts apart.

        Raises:
            ShapeError: Shapes that do not fit, or no window_size for a series.
            ColumnError: Unknown or non-numeric columns.
        """
        if is_ts and window_size is None:
            raise ShapeError("a series needs window_size: the steps that the model looks back on.")
        x, targets, columns = arrays(X, y, target_cols)
        layout: Rows | Windows = layouts.rows()
        if is_ts:
            layout = layouts.windows(window_size or 0, future, stride, flatten=flattening)
        layout.check(x, targets)  # type: ignore[arg-type]  # only shapes are looked at
        self._fitted = Fitted(x, targets, layout, columns, target_cols is not None)
        return self

    def transform(
        self,
        nrr: float = 0.05,
        nr_threshold: float = 0.01,
        max_epochs: int | None = None,
        denoise_y: bool = True,
        batch_size: int = 1000,
        save_gradients: bool = True,
        eta_x: float | None = None,
        eta_y: float | None = None,
        ts_strategy: Literal["window", "global"] | None = None,
        lam: float | None = None,
        lr: float | None = None,
        tol: float | None = None,
    ) -> Denoised:
        """Refine the data given to `fit`.

        Look-ahead: for a series yes; a step is corrected by all windows that contain it, and under
        "global" depends on all others.

        Args:
            nrr: Noise reduction rate, the step size, in the units of the data (of a Gauss-Newton
                step, the fraction of the way; 2.0 has 0.5).
            nr_threshold: Residual, in the units of y, up to which an instance stays.
            max_epochs: Most steps; 100 unless given, 300 under "global".
            denoise_y: Whether y is refined too.
            batch_size: Instances in memory at a time; without effect on the result.
            save_gradients: Whether to return every epoch's gradients; they are kept on the host.
            eta_x: Multiplier of x's share of a Gauss-Newton step, which it chooses for rows (2.0).
            eta_y: The same for y.
            ts_strategy: For a series: "window" takes Gauss-Newton steps averaged over the windows
                that vote, "global" minimises one objective (`global_refiner`); None is the
                published rule of 1.1.
            lam: Weight of the distance to the observations under "global"; 1.
            lr: Learning rate of Adam under "global"; 0.05.
            tol: Under "global", stop when the objective changes by less; 1e-7.

        Returns:
            `(X_denoised, y_denoised, grad_x_list, grad_y_list)`: arrays in the shape given to `fit`
            (X without the targets, where the model takes only the other columns; y `(n, targets)`
            with `target_cols`) and, per epoch, each instance's gradient over its joint norm,
            `(n, features)` or `(n, window_size, channels)` and `(n,)` or `(n, targets)`; under
            "global" the objective's own gradient, in the shapes of X and y. The lists are empty
            where gradients are not saved, the second also where y is not refined, or is part of X.

        Raises:
            DenogradError: Before `fit`; or for a model, loss or device that cannot be used.
            UnsupportedError: If an argument of 2.0 is given that has no effect.
            ValueError: If a number is negative, not finite, or no number.
        """
        if not hasattr(self, "_fitted"):
            raise DenogradError("transform needs data: call fit(X, y) first, or fit_transform.")
        options = _Options(
            nrr,
            nr_threshold,
            None if max_epochs is None else operator.index(max_epochs),
            denoise_y,
            operator.index(batch_size),
            save_gradients,
            eta_x,
            eta_y,
            ts_strategy,
            lam,
            lr,
            tol,
        )
        _refuse_numbers(options)
        _refuse_without_effect(options, series=isinstance(self._fitted.layout, Windows))
        if ts_strategy == "global":
            _refuse_reduction(self.criterion)
        refine = _refine_globally if ts_strategy == "global" else _refine_by_instance
        model, x = model_and_inputs(self.model, self._fitted)
        with _on(self.device):
            return refine(model, self.criterion, self._fitted, x, options)

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
        max_epochs: int | None = None,
        denoise_y: bool = True,
        batch_size: int = 1000,
        save_gradients: bool = True,
        *,
        target_cols: int | list[int] | None = None,
        eta_x: float | None = None,
        eta_y: float | None = None,
        ts_strategy: Literal["window", "global"] | None = None,
        lam: float | None = None,
        lr: float | None = None,
        tol: float | None = None,
    ) -> Denoised:
        """`fit`, then `transform`; see there."""
        self.fit(X, y, is_ts, window_size, future, stride, flattening, target_cols)
        old = nrr, nr_threshold, max_epochs, denoise_y, batch_size, save_gradients
        return self.transform(*old, eta_x, eta_y, ts_strategy, lam, lr, tol)


def _refuse_numbers(options: _Options) -> None:
    """Numbers that cannot be meant, under the names that the user knows."""
    names = ("nrr", "nr_threshold", "eta_x", "eta_y", "lam", "lr", "tol")
    nonnegative(**{k: getattr(options, k) for k in names if getattr(options, k) is not None})
    if options.max_epochs is not None and options.max_epochs < 0:
        raise ValueError(f"max_epochs must be at least 0, not {options.max_epochs}.")
    if options.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {options.batch_size}.")


def _refuse_without_effect(options: _Options, *, series: bool) -> None:
    """An argument that changes nothing is a misunderstanding."""
    strategy = options.ts_strategy
    if not (strategy is None or (isinstance(strategy, str) and strategy in ("window", "global"))):
        raise UnsupportedError(f'ts_strategy must be "window" or "global", not {strategy!r}.')
    if strategy is not None and not series:
        raise UnsupportedError("ts_strategy is for a series: fit with is_ts=True.")
    is_global = strategy == "global"
    idle = [] if is_global else [k for k in ("lam", "lr", "tol") if getattr(options, k) is not None]
    if is_global or (series and strategy is None):
        idle += [k for k in ("eta_x", "eta_y") if getattr(options, k) is not None]
    elif options.eta_y is not None and not options.denoise_y:
        raise UnsupportedError("eta_y has no effect with denoise_y=False: leave it out.")
    if is_global:
        defaults = {"nrr": 0.05, "nr_threshold": 0.01}
        idle += [k for k, value in defaults.items() if getattr(options, k) != value]
    if idle:
        where = f"with ts_strategy={strategy!r}" if series else "on rows"
        raise UnsupportedError(
            f"{', '.join(idle)} would have no effect {where}: lam, lr and tol belong to "
            'ts_strategy="global", nrr and nr_threshold to all else, eta_x and eta_y to rows and '
            'ts_strategy="window".'
        )


def _refuse_reduction(criterion: Any) -> None:
    if getattr(criterion, "reduction", "mean") != "mean":
        raise UnsupportedError(
            f'ts_strategy="global" weighs the mean loss against the distance to the data: give '
            f'the criterion reduction="mean", not {criterion.reduction!r}.'
        )


def _refine_by_instance(
    model: Model, criterion: Any, fitted: Fitted, x: np.ndarray, options: _Options
) -> Denoised:
    """The published rule, or the Gauss-Newton step, of every row or window."""
    etas = options.eta_x, options.eta_y
    if options.ts_strategy is None and etas == (None, None):
        rule = rules.unit_step(options.nrr, options.nr_threshold)
    else:
        weights = (1.0 if eta is None else eta for eta in etas)
        rule = rules.gauss_newton(options.nrr, options.nr_threshold, *weights)
    r = refiner(
        model,
        rule,
        fitted.layout,
        as_loss(criterion),
        options.denoise_y,
        chunk_size=options.batch_size,
        keep_direction=options.save_gradients,
    )
    most = 100 if options.max_epochs is None else options.max_epochs
    begin, end, grads = _run(r, model, r.init(x, fitted.y), options, most, _directions)
    return (
        moved(x, begin.x, end.x),
        moved(fitted.y, begin.y, end.y),
        [unflatten(g[0], x, fitted.layout) for g in grads],
        [g[1].reshape(len(g[1]), *fitted.y.shape[1:]) for g in grads] if options.denoise_y else [],
    )


def _refine_globally(
    model: Model, criterion: Any, fitted: Fitted, x: np.ndarray, options: _Options
) -> Denoised:
    """All cells at once; targets that are columns of x are one variable with them."""
    layout, targets = fitted.layout, fitted.y
    assert isinstance(layout, Windows)
    columns = list(fitted.target_columns)
    shared = bool(columns) and x.shape[1] == fitted.x.shape[1]
    if shared:
        layout = dataclasses.replace(layout, target_columns=tuple(columns))
    r = global_refiner(
        model,
        layout,
        1.0 if options.lam is None else options.lam,
        _adam(0.05 if options.lr is None else float(options.lr)),
        1e-7 if options.tol is None else options.tol,
        loss=as_loss(criterion),
        refine_targets=options.denoise_y,
        chunk_size=options.batch_size,
        keep_gradient=options.save_gradients,
    )
    most = 300 if options.max_epochs is None else options.max_epochs
    state = r.init(x, None if shared else targets)
    begin, end, grads = _run(r, model, state, options, most, _gradients)
    denoised = moved(x, begin.x, end.x)
    if shared:
        y = denoised[:, columns].reshape(targets.shape)
        return denoised, y, [g.x for g in grads], []
    moved_y = moved(targets, begin.y, end.y)
    return denoised, moved_y, [g.x for g in grads], [g.y for g in grads if g.y is not None]


@functools.lru_cache(maxsize=32)
def _adam(learning_rate: float) -> optax.GradientTransformation:
    """One object per rate, so that a second call compiles nothing."""
    return optax.adam(learning_rate)


def _run(
    r: Refiner[Any, Any],
    model: Model,
    state: Any,
    options: _Options,
    most: int,
    record: Callable[[Any, Any], Any],
) -> tuple[layouts.Data, layouts.Data, list[Any]]:
    """The data before and after, and what was recorded of each step."""
    history = History(record, capacity=max(most, 0)) if options.save_gradients else None
    end = run(r, jax.device_put(model.params), state, most, history).state
    return state.data, end.data, [] if history is None else list(history.records)


def _directions(state: Any, info: Info) -> Any:
    del state
    return info.direction


def _gradients(state: Any, info: GlobalInfo) -> Any:
    del state
    return info.gradient


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
