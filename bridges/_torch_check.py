"""Compares a converted model with the PyTorch module that it was made from."""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from denograd_jax._types import Params, Predict, PredictBatch
from denograd_jax.bridges._examples import Call
from denograd_jax.bridges._torch_tensors import cast, import_torch

__all__ = ["mismatch"]

# Far above rounding (1e-6 in a float32 network), far below the effect of another layer, order of
# gates or read-out.
_TOLERANCE = {"float64": 1e-4, "float32": 1e-4}
_COARSE = 3e-2
_ROWS = 8


def mismatch(
    predict: Predict,
    predict_batch: PredictBatch | None,
    params: Params,
    call: Call,
    *,
    exact: bool = False,
) -> str | None:
    """Say how a model differs from the module in value or input gradient; None if it does not.

    With `exact` float64 may differ by rounding only, so that no setting is taken for its neighbour.

    Both run in float64 where the module can, so that no rounding carries a unit over its kink, and
    no accelerator's reduced precision is taken for a difference.
    """
    torch = import_torch()
    with torch.inference_mode(False), torch.enable_grad():
        expected = _expected(call)
    if isinstance(expected, Exception):
        return f"on an input of shape {tuple(call.example.shape)} it fails: {expected}"
    tolerance = _TOLERANCE.get(expected.dtype, _COARSE)
    tolerance = 1e-9 if exact and expected.dtype == "float64" else tolerance
    if size := _difference(expected.value, expected.row_values, tolerance):
        return f"an instance's output depends on the other instances ({size})"
    forward = predict_batch or jax.vmap(predict, in_axes=(None, 0))
    with jax.enable_x64(True), _on_host():
        if expected.dtype == "float64":
            params = jax.tree.map(_widened, params)
        try:
            x = jnp.asarray(expected.x, expected.dtype)
            value, gradient = _value_and_gradient(forward, params, x, expected.cotangent)
        except (TypeError, ValueError) as error:
            return f"in JAX it fails on an input of shape {expected.x.shape}: {error}"
    if size := _difference(expected.value, np.asarray(value), tolerance):
        return f"in JAX its output differs ({size})"
    if size := _difference(expected.gradient, np.asarray(gradient), tolerance):
        return f"in JAX its input gradient differs ({size})"
    return None


def _widened(weight: np.ndarray) -> np.ndarray:
    return np.asarray(weight, np.complex128 if np.iscomplexobj(weight) else np.float64)


class _Expected(NamedTuple):
    """What the module itself computes, as float64; and in which precision it did."""

    x: np.ndarray
    value: np.ndarray
    row_values: np.ndarray  # the same, from a batch for each instance
    cotangent: np.ndarray
    gradient: np.ndarray
    dtype: str


def _expected(call: Call) -> _Expected | Exception:
    """In float64 if the module runs so, else in its own precision; or why it runs in neither.

    On random instances, unless it takes or gives finite numbers on such only as the example has.
    """
    torch = import_torch()
    unsound: _Expected | Exception = ValueError("it runs on no input that was tried")
    for dtype in (torch.float64, call.example.dtype):
        for instances in _instances(call, dtype):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter(
                        "ignore"
                    )  # torch's; the user has seen them, or never will
                    cast(call.module, dtype)
                    found = _run(call, instances)
            except Exception as error:  # whatever a user's forward may raise
                unsound = error if isinstance(unsound, Exception) else unsound
                continue
            finally:
                cast(call.module, call.example.dtype)
            if np.isfinite(found.value).all() and np.isfinite(found.gradient).all():
                return found
            unsound = found if isinstance(unsound, Exception) else unsound
    return unsound


def _instances(call: Call, dtype: Any) -> Iterator[Any]:
    """The example, and beside it random numbers; numbers near it; nothing else."""
    torch = import_torch()
    example = call.example[:_ROWS].to(dtype).clone()
    shape = example.shape[1:]
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(_ROWS) % 2, 5.0, 1.0).reshape(-1, *[1] * len(shape))
    yield torch.cat([example, torch.tensor(scale * rng.standard_normal((_ROWS, *shape))).to(dtype)])
    noise = torch.tensor(rng.standard_normal(example.shape)).to(dtype)
    yield torch.cat([example, example + 0.01 * example.abs() * noise])
    yield example


def _run(call: Call, instances: Any) -> _Expected:
    torch = import_torch()
    inputs = instances.requires_grad_()
    value = call.module(inputs.clone())  # a copy, for layers that work in place
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"it returns a {type(value).__name__} instead of a tensor")
    # Twice each, for a forward that squeezes every axis of one.
    row_values = torch.cat([call.module(torch.stack([row, row]))[:1] for row in inputs])
    cotangent = np.random.default_rng(1).standard_normal(tuple(value.shape))
    (gradient,) = torch.autograd.grad(value, inputs, torch.tensor(cotangent).to(value))
    arrays = [a.detach().to(torch.float64).numpy() for a in (inputs, value, row_values, gradient)]
    x, found, rows, slope = arrays
    return _Expected(x, found, rows, cotangent, slope, str(inputs.dtype).removeprefix("torch."))


@functools.partial(jax.jit, static_argnums=0)
def _value_and_gradient(
    predict_batch: PredictBatch, params: Params, x: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    value, pull_back = jax.vjp(functools.partial(predict_batch, params), x)
    return value, pull_back(cotangent.astype(value.dtype))[0]


def _difference(want: np.ndarray, seen: np.ndarray, tolerance: float) -> str | None:
    """Says how far apart two arrays are; None if not beyond the tolerance. NaN is like NaN."""
    if want.shape != seen.shape:
        return f"shape {want.shape} against {seen.shape}"
    seen = np.asarray(seen, np.float64)
    largest = np.abs(want[np.isfinite(want)]).max(initial=0.0) or 1.0
    other = (want != seen) & ~(np.isnan(want) & np.isnan(seen))
    size = np.abs(want[other] - seen[other]).max(initial=0.0) / largest
    return None if size <= tolerance else f"by {size:.1g} of the largest"


def _on_host() -> contextlib.AbstractContextManager[Any]:
    """The CPU, where JAX has one: not every accelerator computes in float64."""
    try:
        host: contextlib.AbstractContextManager[Any]
        host = jax.default_device(jax.local_devices(backend="cpu")[0])
        return host
    except RuntimeError:
        return contextlib.nullcontext()
