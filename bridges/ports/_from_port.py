"""PyTorch modules as Flax backbones with the same weights."""

import math
from typing import NamedTuple

from denograd_jax._types import Model
from denograd_jax.bridges._examples import Call
from denograd_jax.bridges._program import (
    Input,
    Operation,
    Program,
    Value,
    Weight,
    predict_functions,
)
from denograd_jax.bridges._torch_check import mismatch
from denograd_jax.bridges._torch_tensors import import_torch, read_params
from denograd_jax.bridges.ports._blueprints import PORT, skeleton
from denograd_jax.bridges.ports._state_dicts import tensor_names
from denograd_jax.bridges.ports._structures import Candidate, candidates, structure
from denograd_jax.errors import BackboneError, UnsupportedError

__all__ = ["Port", "port_of"]


class Port(NamedTuple):
    """A PyTorch module as a backbone: how that is built, and as a model that calls it."""

    candidate: Candidate
    model: Model


def port_of(call: Call) -> Port:
    """The backbone that computes what a module does; they are compared, by value and gradient.

    Raises:
        UnsupportedError: If there is none.
    """
    params = read_params(call.module)
    shape, output_shape = tuple(call.example.shape[1:]), _output_shape(call)
    difference = None
    for candidate in candidates(call.module, shape, math.prod(output_shape)):
        try:
            names = tensor_names(skeleton(candidate.blueprint)[0], candidate.names)
        except BackboneError as error:
            difference = difference or str(error)
            continue
        if set(names) != {name for name, _ in call.module.named_parameters()}:
            difference = difference or "it has other parameters than the backbone"
            continue
        predict, predict_batch = predict_functions(
            _program(candidate, list(names), shape, output_shape)
        )
        model = Model(predict, {name: params[name] for name in names}, predict_batch)
        told = mismatch(model.predict, model.predict_batch, model.params, call, exact=True)
        if told is None:
            return Port(candidate, model)
        difference = difference or told
    raise UnsupportedError(_refusal(call, difference))


def _program(
    candidate: Candidate, names: list[str], shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> Program:
    """One operation: the backbone, of the input and of all weights."""
    weights = tuple(Value(i) for i in range(1, len(names) + 1))
    settings = candidate.blueprint, candidate.channels_first, output_shape
    operation = Operation(PORT, (Value(0), weights, *settings))
    sources: list[Input | Weight] = [Input(0, (None, *shape)), *map(Weight, names)]
    return Program(tuple(sources), (operation,), Value(len(sources)))


def _output_shape(call: Call) -> tuple[int, ...]:
    torch = import_torch()
    with torch.no_grad():
        return tuple(call.module(call.example.clone()).shape[1:])


def _refusal(call: Call, difference: str | None) -> str:
    name, layers = type(call.module).__name__, ", ".join(structure(call.module)) or "no layers"
    known = "nothing of these layers" if difference is None else f"nothing like it ({difference})"
    return (
        f"cannot convert {name} to a backbone: it has {layers}, and {known} is among "
        "denograd_jax.backbones. Use from_torch(..., method='export')."
    )
