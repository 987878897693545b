"""PyTorch modules as JAX models, by reading their layers and weights."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from denograd_jax._types import Model
from denograd_jax.bridges._layers import Apply, Layer, flatten, predict_functions
from denograd_jax.bridges._torch_check import evaluation_copies, mismatch, probe_input
from denograd_jax.bridges._torch_layers import ADVICE, read_chain, read_layers, read_lstm
from denograd_jax.bridges._torch_tensors import forward_kind, import_torch, read_params
from denograd_jax.errors import ModelError, UnsupportedError

__all__ = ["from_torch"]


def from_torch(module: Any, *example_inputs: Any) -> Model:
    """Ports a PyTorch module to JAX, in evaluation mode.

    Understood are the layers that `supported_modules()` names, alone or in a `Sequential`, nested
    or not; and a module of one's own that runs such children one after the other. One of these
    children may be an `LSTM` of one layer and one direction, whose states the module reads out at
    the last step, averages over time, flattens, or hands on whole. What a `forward` really does is
    found by trial: every port is compared with the module, in value and input gradient on random
    instances, and one that disagrees is never returned. JAX compiles it for that, on the CPU, once
    per architecture.

    With `batch_first=False`, a module may turn its input around itself or expect `(T, n, C)`; the
    model returned takes `(n, T, C)` in both cases.

    The module is left as it was: weights, buffers, mode, hooks and torch's random state. Modules
    of equal architecture get the *same* function objects, so nothing is compiled twice.
    Look-ahead: no, beyond the module's own.

    Args:
        module: Called on a batch, `(n, d)` or `(n, W, C)` to `(n, q)` or `(n,)`.
        *example_inputs: At most one array of instances, `(n, ...)`; needed only where the layers
            leave the shape of an instance open.

    Returns:
        The model; `params` is `{name as in state_dict: NumPy array}` in the module's own dtype
        (float64 computes as such only with `jax_enable_x64`). Tied weights appear under each name.

    Raises:
        UnsupportedError: If the module is not understood, or does something else with its layers.
        ModelError: If its weights are not finite.
        MissingExtraError: If PyTorch is not installed.
    """
    torch = import_torch()
    if not isinstance(module, torch.nn.Module):
        raise UnsupportedError(f"expected an instance of torch.nn.Module, got {module!r}.")
    if len(example_inputs) > 1:
        raise UnsupportedError(
            f"expected at most one example input, got {len(example_inputs)}: only a model of one "
            "input can be refined against."
        )
    _refuse_hooks(module)
    params = read_params(module)
    _refuse_nonfinite(params)
    readings = list(_readings(module))
    copies = evaluation_copies(module)
    mismatches = []
    for reading in readings:
        predict, predict_batch = predict_functions(reading.layers)
        x = probe_input(reading.layers, params, *example_inputs)
        difference = mismatch(predict_batch, params, copies, x, time_major=reading.time_major)
        if difference is None:
            return Model(predict, params, predict_batch)
        mismatches.append(difference)
    nearest = max(mismatches, key=lambda difference: difference.likeness)
    raise UnsupportedError(
        f"cannot port {type(module).__name__} to JAX: it does something else than run its layers "
        f"in the order in which they are defined: {nearest.message}. {ADVICE}"
    )


class _Reading(NamedTuple):
    """One way to understand a module; `time_major` if it must be called on `(T, n, C)`."""

    layers: tuple[Layer, ...]
    time_major: bool = False


_FLATTEN = Apply(flatten, (("start", 1), ("end", -1)))
_MEAN_OVER_TIME = Apply(jnp.mean, (("axis", 1),))
_SQUEEZE = Apply(jnp.squeeze, (("axis", -1),))


def _readings(module: Any) -> Iterator[_Reading]:
    """Yields the ways to understand a module, the likeliest first."""
    if forward_kind(module) is not None:
        yield _Reading(read_layers(module, ""))
        return
    children = [(name, child) for name, child in module._modules.items() if child is not None]
    lstms = [i for i, (_, child) in enumerate(children) if forward_kind(child) == "LSTM"]
    readings = _lstm_readings(children, lstms[0]) if lstms else _chain_readings(children)
    for reading in readings:
        yield reading
        yield reading._replace(layers=(*reading.layers, _SQUEEZE))


def _chain_readings(children: Sequence[tuple[str, Any]]) -> Iterator[_Reading]:
    """Layers one after the other; the forward may flatten its input first."""
    layers = read_chain(children)
    yield _Reading((_FLATTEN, *layers))
    yield _Reading(layers)


def _lstm_readings(children: Sequence[tuple[str, Any]], index: int) -> Iterator[_Reading]:
    """Layers with one LSTM among them, by what the forward may hand on from its states."""
    name, lstm = children[index]
    before, after = read_chain(children[:index]), read_chain(children[index + 1 :])
    last_state = read_lstm(lstm, f"{name}.")
    states = dataclasses.replace(last_state, every_step=True)
    for time_major in (False,) if lstm.batch_first else (False, True):
        for read_out in ((last_state,), (states, _MEAN_OVER_TIME), (states, _FLATTEN), (states,)):
            yield _Reading((*before, *read_out, *after), time_major)


def _refuse_hooks(module: Any) -> None:
    """A hook may change what a module computes, and cannot be carried over."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    for name, submodule in module.named_modules():
        if any(getattr(submodule, kind) for kind in kinds):
            raise UnsupportedError(
                f"cannot port {type(module).__name__} to JAX: {name or 'it'} has hooks, and they "
                "would be lost. Remove them first (weight and spectral norm are hooks too: "
                "torch.nn.utils.remove_weight_norm, remove_spectral_norm)."
            )


def _refuse_nonfinite(params: dict[str, np.ndarray]) -> None:
    for name, value in params.items():
        if not np.isfinite(value).all():
            raise ModelError(
                f"{name} of the PyTorch module holds values that are not finite (its training "
                "diverged?): train it again, with a smaller learning rate or scaled data."
            )
