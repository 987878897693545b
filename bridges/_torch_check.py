"""Compares a port with the PyTorch module that it was read from."""

import contextlib
import copy
import functools
import itertools
from typing import Any, NamedTuple

import jax
import numpy as np

from denograd_jax._types import Params, PredictBatch
from denograd_jax.bridges._layers import LSTM, Apply, Layer, flatten
from denograd_jax.bridges._torch_tensors import import_torch
from denograd_jax.errors import UnsupportedError

__all__ = ["evaluation_copies", "mismatch", "probe_input"]

# Far above the rounding of a float32 network (about 1e-6), far below the effect of another layer,
# order of gates or read-out.
_TOLERANCE = 1e-4
_ROWS = 8
_STEPS = 5  # of a window, where the layers leave its length open


def evaluation_copies(module: Any) -> tuple[Any, Any]:
    """Copies a module in evaluation mode, on its own device: in float64 and in its own precision.

    Rounding may carry a unit over its kink, so float64 is better where the forward allows it.
    """
    torch = import_torch()
    try:
        with torch.inference_mode(False):
            wide, own = copy.deepcopy(module).eval().double(), copy.deepcopy(module).eval()
    except Exception as error:  # whatever the attributes of a user's module may raise
        raise UnsupportedError(
            f"cannot port {type(module).__name__} to JAX: it cannot be copied ({error}), and the "
            "port is compared with a copy. Pass the part of it that predicts."
        ) from error
    is_half = _float_tensor(own).dtype in (torch.float16, torch.bfloat16)
    return wide, own.float() if is_half else own


def probe_input(
    layers: tuple[Layer, ...], params: Params, example: Any | None = None
) -> np.ndarray:
    """Draws instances, `(n, ...)`, small ones and large ones, besides those given as examples."""
    given = None if example is None else _as_float64(example)
    shape = _instance_shape(layers, params) if given is None else given.shape[1:]
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(_ROWS) % 2, 5.0, 1.0).reshape(-1, *[1] * len(shape))
    drawn = scale * rng.standard_normal((_ROWS, *shape))
    return drawn if given is None else np.concatenate([given[:_ROWS], drawn])


class Mismatch(NamedTuple):
    """How a port differs from the module; a port of more `likeness` came nearer to it."""

    likeness: int
    message: str


def mismatch(
    predict_batch: PredictBatch,
    params: Params,
    copies: tuple[Any, ...],
    x: np.ndarray,
    *,
    time_major: bool,
) -> Mismatch | None:
    """Says how a port differs from the module in value or input gradient; None if it does not.

    The port runs in float64, so that no accelerator's reduced precision is taken for a difference.
    """
    expected = _expect(copies, x, time_major)
    if isinstance(expected, Exception):
        return Mismatch(0, f"on an input of shape {x.shape} it fails: {expected}")
    if size := _difference(expected.value, expected.row_values):
        return Mismatch(3, f"an instance's output depends on the other instances ({size})")
    with jax.enable_x64(True), _on_host():
        wide = jax.tree.map(lambda weight: np.asarray(weight, np.float64), params)
        try:
            shape = jax.eval_shape(predict_batch, wide, expected.x).shape
        except (TypeError, ValueError):
            return Mismatch(
                1, f"on an input of shape {x.shape} its layers do not fit in that order"
            )
        if shape != expected.value.shape:
            return Mismatch(2, f"its output has shape {expected.value.shape}, not {shape}")
        value, gradient = _value_and_gradient(predict_batch, wide, expected.x, expected.cotangent)
    if size := _difference(expected.value, np.asarray(value)):
        return Mismatch(3, f"its output differs ({size})")
    if size := _difference(expected.gradient, np.asarray(gradient)):
        return Mismatch(4, f"its input gradient differs ({size})")
    return None


class _Expected(NamedTuple):
    """What the module itself computes, as float64."""

    x: np.ndarray
    value: np.ndarray
    row_values: np.ndarray  # the same, from a batch for each instance
    cotangent: np.ndarray
    gradient: np.ndarray


def _expect(copies: tuple[Any, ...], x: np.ndarray, time_major: bool) -> _Expected | Exception:
    """Runs the first copy that can be run; returns the last one's exception if none can."""
    failure = Exception()
    for module in copies:
        try:
            return _run_torch(module, x, time_major)
        except Exception as error:  # whatever a user's forward may raise
            failure = error
    return failure


def _float_tensor(module: Any) -> Any:
    """Some weight or buffer of the module, for its dtype and device."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    floats = (tensor for tensor in tensors if tensor.is_floating_point())
    return next(floats, import_torch().zeros(()))


def _run_torch(module: Any, x: np.ndarray, time_major: bool) -> _Expected:
    torch = import_torch()
    weight = _float_tensor(module)
    # cuDNN has no backward pass for recurrent layers in evaluation mode.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.backends.cudnn.flags(enabled=False),
    ):
        inputs = torch.tensor(x, dtype=weight.dtype, device=weight.device, requires_grad=True)

        def call(inputs: Any) -> Any:
            value = module(inputs.transpose(0, 1) if time_major else inputs)
            if not isinstance(value, torch.Tensor):
                raise TypeError(f"it returns a {type(value).__name__} instead of a tensor")
            return value

        value = call(inputs.clone())  # a copy, for layers that work in place
        # Twice each, for a forward that squeezes every axis of one.
        row_values = torch.cat([call(torch.stack([row, row]))[:1] for row in inputs])
        cotangent = np.random.default_rng(1).standard_normal(tuple(value.shape))
        (gradient,) = torch.autograd.grad(value, inputs, torch.tensor(cotangent).to(value))
    return _Expected(
        x=_as_float64(inputs),
        value=_as_float64(value),
        row_values=_as_float64(row_values),
        cotangent=cotangent,
        gradient=_as_float64(gradient),
    )


@functools.partial(jax.jit, static_argnums=0)
def _value_and_gradient(
    predict_batch: PredictBatch, params: Params, x: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    value, pull_back = jax.vjp(functools.partial(predict_batch, params), x)
    return value, pull_back(cotangent)[0]


def _difference(want: np.ndarray, seen: np.ndarray) -> str | None:
    """Says how far apart two arrays are; None if not beyond the tolerance."""
    if want.shape != seen.shape:
        return f"shape {want.shape} against {seen.shape}"
    largest = np.abs(want).max(initial=0.0) or 1.0
    size = np.abs(want - seen).max(initial=0.0) / largest
    return None if size <= _TOLERANCE else f"by {size:.1g} of the largest"


def _instance_shape(layers: tuple[Layer, ...], params: Params) -> tuple[int, ...]:
    """The shape of one instance, as far as the layers tell."""
    sized = [layer for layer in layers if not isinstance(layer, Apply)]
    if not sized:
        return (4,)
    widths = [layer.widths(params) for layer in sized]
    width = widths[0][0]
    ahead = layers[: layers.index(sized[0])]
    if any(layer.function is flatten for layer in ahead if isinstance(layer, Apply)):
        factor = next((f for f in range(2, width + 1) if width % f == 0), 1)
        return (factor, width // factor)
    # Where the next layer is wider than what it is given, all steps of a window are flattened.
    steps = [into // out for (_, out), (into, _) in itertools.pairwise(widths) if into != out]
    if steps:
        return (steps[0], width)
    return (_STEPS, width) if any(isinstance(layer, LSTM) for layer in sized) else (width,)


def _on_host() -> contextlib.AbstractContextManager[Any]:
    """The CPU, where JAX has one: not every accelerator computes in float64."""
    try:
        host: contextlib.AbstractContextManager[Any]
        host = jax.default_device(jax.local_devices(backend="cpu")[0])
        return host
    except RuntimeError:
        return contextlib.nullcontext()


def _as_float64(array: Any) -> np.ndarray:
    """Copies a tensor or array of any library to the host."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    return np.asarray(array, dtype=np.float64)
