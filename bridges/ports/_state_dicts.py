"""Weights of a Flax backbone as a PyTorch state_dict, and back."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from denograd_jax.bridges._torch_tensors import to_numpy
from denograd_jax.bridges.ports._layouts import layout
from denograd_jax.errors import ModelError

__all__ = ["flax_from_state_dict", "flax_params", "state_dict_from_flax", "tensor_names"]


def state_dict_from_flax(
    module: nnx.Module, names: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """The weights of a backbone, laid out as those of the usual PyTorch module of its architecture.

    PyTorch is not needed. `{name: torch.from_numpy(array)}` is what `load_state_dict` takes there.

    Args:
        module: One of `backbones.build`.
        names: What another module calls its parts: `{"lstm": "rnn", "head": "fc"}`.

    Returns:
        `{name: array}`. What PyTorch has two of (the biases of an LSTM) is in the first, the second
        being zero.

    Raises:
        UnsupportedError: If the module is no backbone of ours.

    Example:
        >>> from flax import nnx
        >>> from denograd_jax import backbones, bridges
        >>> network = backbones.build("mlp", input_shape=(4,), outputs=1, rngs=nnx.Rngs(0))
        >>> sorted(bridges.state_dict_from_flax(network))[:4]
        ['0.bias', '0.weight', '2.bias', '2.weight']
    """
    arrays: dict[str, np.ndarray] = {}
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    for entry in layout(module):
        given = entry.to_torch(jnp.asarray(_at(params, entry.path)))
        for name, value in zip(entry.names, given, strict=True):
            arrays[_renamed(name, names or {})] = np.array(value)
    return arrays


def flax_from_state_dict(
    module: nnx.Module, state_dict: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> nnx.Module:
    """A copy of a backbone with the weights of a PyTorch module of the same architecture.

    Args:
        module: One of `backbones.build`, of the same sizes.
        state_dict: `{name: array or tensor}`. Floating-point buffers that no parameter of the
            backbone needs are left out.
        names: What the PyTorch module calls its parts: `{"lstm": "rnn", "head": "fc"}`.

    Returns:
        The copy; its parameters have the precision of the tensors.

    Raises:
        ModelError: If a tensor is missing, or of another shape than the backbone's.
        UnsupportedError: If the module is no backbone of ours.
    """
    arrays = {name: _to_array(value) for name, value in state_dict.items()}
    wanted = tensor_names(module, names)
    if missing := sorted(set(wanted) - set(arrays)):
        raise ModelError(
            f"the state_dict has no {', '.join(missing)}; it has {', '.join(sorted(arrays))}. "
            "Pass names={ours: theirs} for parts that are called otherwise."
        )
    _refuse_shapes(module, {ours: arrays[theirs].shape for theirs, ours in wanted.items()})
    copy = nnx.clone(module)
    nnx.update(copy, flax_params(module, {ours: arrays[theirs] for theirs, ours in wanted.items()}))
    return copy


def tensor_names(module: nnx.Module, names: Mapping[str, str] | None = None) -> dict[str, str]:
    """The tensors that a backbone is made of: their names in another module to the usual ones."""
    usual = [name for entry in layout(module) for name in entry.names]
    return {_renamed(name, names or {}): name for name in usual}


def flax_params(module: nnx.Module, tensors: Mapping[str, Any]) -> dict[Any, Any]:
    """Nested parameters of a backbone, from tensors under their usual names. Differentiable."""
    params: dict[Any, Any] = {}
    for entry in layout(module):
        inner = params
        for step in entry.path[:-1]:
            inner = inner.setdefault(step, {})
        inner[entry.path[-1]] = entry.to_flax(*(tensors[name] for name in entry.names))
    return params


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """With the longest of the renamed prefixes exchanged."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in names:
            return ".".join(filter(None, [names[prefix], *parts[length:]]))
    return name


def _refuse_shapes(module: nnx.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    for entry in layout(module):
        expected = jax.eval_shape(entry.to_torch, _at(params, entry.path))
        for name, tensor in zip(entry.names, expected, strict=True):
            if shapes[name] != tensor.shape:
                raise ModelError(
                    f"{name} has shape {shapes[name]}, the backbone's is {tensor.shape}: build it "
                    "with the sizes of the PyTorch module."
                )


def _at(params: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        params = params[step]
    return params


def _to_array(value: Any) -> jax.Array:
    return jnp.asarray(to_numpy(value) if hasattr(value, "detach") else value)
