"""What a Flax backbone is built from, as text: a port is one operation of a program."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from denograd_jax import backbones
from denograd_jax.backbones._xlstm import XLSTMBlocks
from denograd_jax.bridges._registry import register_op
from denograd_jax.bridges.ports._state_dicts import flax_params, tensor_names

__all__ = ["PORT", "blueprint", "build", "port", "skeleton"]

PORT = "denograd_jax.port"

_PARTS = {"xlstm_blocks": XLSTMBlocks}  # of backbones, that have a port by themselves
_PLAIN = ("dlinear", "ft_transformer")  # have no linear path


def blueprint(backbone: str, **options: Any) -> str:
    """Text that `build` makes a module of; equal for equal architectures."""
    if "input_shape" in options:
        if len(options["input_shape"]) == 2 and backbone not in _PLAIN:
            options["linear_path"] = False
        options["input_shape"] = tuple(options["input_shape"])
    return json.dumps({"backbone": backbone, **options}, sort_keys=True)


def build(blueprint: str) -> nnx.Module:
    """A module with its first weights."""
    options = json.loads(blueprint)
    backbone = options.pop("backbone")
    if backbone in _PARTS:
        part: nnx.Module = _PARTS[backbone](**options, rngs=nnx.Rngs(0))
        return part
    options["input_shape"] = tuple(options["input_shape"])
    return backbones.build(backbone, **options, rngs=nnx.Rngs(0))


@functools.lru_cache(maxsize=256)
def skeleton(blueprint: str) -> tuple[nnx.Module, Any]:
    """A module without weights, and its graph."""
    module = nnx.eval_shape(lambda: build(blueprint))
    return module, nnx.graphdef(module)


@register_op(PORT)
def port(
    x: jax.Array,
    weights: Sequence[jax.Array],
    blueprint: str,
    channels_first: bool = False,
    output_shape: Sequence[int] | None = None,
) -> jax.Array:
    """A backbone on a batch.

    Args:
        x: `(n, d)` or `(n, W, C)`; `(n, C, W)` with `channels_first`.
        weights: PyTorch's, in the order of `tensor_names`.
        blueprint: Of the backbone.
        channels_first: Whether the PyTorch module takes channels before time.
        output_shape: Of one instance, in place of the backbone's `(q,)`.
    """
    module, graph = skeleton(blueprint)
    tensors = dict(zip(tensor_names(module).values(), weights, strict=True))
    x = x.swapaxes(1, 2) if channels_first else x
    network = nnx.merge(graph, flax_params(module, tensors))
    found: jax.Array = network(x)
    return found if output_shape is None else found.reshape(x.shape[0], *output_shape)
