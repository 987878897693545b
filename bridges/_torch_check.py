"""Compares a converted model with the PyTorch module that it was made from."""

import contextlib
import functools
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np

from denograd_jax._types import Params, Predict, PredictBatch
from denograd_jax.bridges._examples import Call
from denograd_jax.bridges._torch_tensors import import_torch

__all__ = ["mismatch"]

# Far above the rounding of a float32 network (about 1e-6), far below the effect of another layer,
# order of gates or read-out.
_TOLERANCE = 1e-4
_ROWS = 8


def mismatch(
    predict: Predict, predict_batch: PredictBatch | None, params: Params, call: Call
) -> str | None:
    """Say how a model differs from the module in value or input gradient; None if it does not.

    Both run in float64 where the module can, so that no rounding carries a unit over its kink, and
    no accelerator's reduced precision is taken for a difference.
    """
    expected = _expected(call)
    if isinstance(expected, Exception):
        return f"on an input of shape {tuple(call.example.shape)} it fails: {expected}"
    if size := _difference(expected.value, expected.row_values):
        return f"an instance's output depends on the other instances ({size})"
    forward = predict_batch or jax.vmap(predict, in_axes=(None, 0))
    with jax.enable_x64(True), _on_host():
        wide = jax.tree.map(lambda weight: np.asarray(weight, np.float64), params)
        try:
            value, gradient = _value_and_gradient(forward, wide, expected.x, expected.cotangent)
        except (TypeError, ValueError) as error:
            return f"in JAX it fails on an input of shape {expected.x.shape}: {error}"
    if size := _difference(expected.value, np.asarray(value)):
        return f"in JAX its output differs ({size})"
    if size := _difference(expected.gradient, np.asarray(gradient)):
        return f"in JAX its input gradient differs ({size})"
    return None


class _Expected(NamedTuple):
    """What the module itself computes, as float64."""

    x: np.ndarray
    value: np.ndarray
    row_values: np.ndarray  # the same, from a batch for each instance
    cotangent: np.ndarray
    gradient: np.ndarray


def _expected(call: Call) -> _Expected | Exception:
    """In float64 if the module runs so, else in its own precision; or why it runs in neither."""
    torch = import_torch()
    failure = Exception()
    for dtype in (torch.float64, call.example.dtype):
        try:
            with warnings.catch_warnings(), torch.inference_mode(False), torch.enable_grad():
                warnings.simplefilter("ignore")  # of torch; the user has seen them, or never will
                call.module.to(dtype)
                return _run(call, dtype)
        except Exception as error:  # whatever a user's forward may raise
            failure = error
        finally:
            call.module.to(call.example.dtype)
    return failure


def _run(call: Call, dtype: Any) -> _Expected:
    torch = import_torch()
    shape = call.example.shape[1:]
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(_ROWS) % 2, 5.0, 1.0).reshape(-1, *[1] * len(shape))
    drawn = torch.tensor(scale * rng.standard_normal((_ROWS, *shape)), dtype=dtype)
    inputs = torch.cat([call.example[:_ROWS].to(dtype), drawn]).requires_grad_()
    value = call.module(inputs.clone())  # a copy, for layers that work in place
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"it returns a {type(value).__name__} instead of a tensor")
    # Twice each, for a forward that squeezes every axis of one.
    row_values = torch.cat([call.module(torch.stack([row, row]))[:1] for row in inputs])
    cotangent = rng.standard_normal(tuple(value.shape))
    (gradient,) = torch.autograd.grad(value, inputs, torch.tensor(cotangent).to(value))
    arrays = (inputs, value, row_values, gradient)
    x, found, rows, slope = (np.asarray(a.detach(), dtype=np.float64) for a in arrays)
    return _Expected(x, found, rows, cotangent, slope)


@functools.partial(jax.jit, static_argnums=0)
def _value_and_gradient(
    predict_batch: PredictBatch, params: Params, x: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    value, pull_back = jax.vjp(functools.partial(predict_batch, params), x)
    return value, pull_back(cotangent.astype(value.dtype))[0]


def _difference(want: np.ndarray, seen: np.ndarray) -> str | None:
    """Says how far apart two arrays are; None if not beyond the tolerance."""
    if want.shape != seen.shape:
        return f"shape {want.shape} against {seen.shape}"
    largest = np.abs(want).max(initial=0.0) or 1.0
    size = np.abs(want - seen).max(initial=0.0) / largest
    return None if size <= _TOLERANCE else f"by {size:.1g} of the largest"


def _on_host() -> contextlib.AbstractContextManager[Any]:
    """The CPU, where JAX has one: not every accelerator computes in float64."""
    try:
        host: contextlib.AbstractContextManager[Any]
        host = jax.default_device(jax.local_devices(backend="cpu")[0])
        return host
    except RuntimeError:
        return contextlib.nullcontext()
