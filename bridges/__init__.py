"""Bridges: models and losses of PyTorch as pure JAX functions.

A module is *exported* and its graph run by JAX rules, so that the model can be differentiated,
compiled, vectorised and sharded like any other. Importing this package does not import torch.
"""

from denograd_jax.bridges._callback import from_torch_callback
from denograd_jax.bridges._exported_programs import from_exported_program
from denograd_jax.bridges._files import load, save
from denograd_jax.bridges._from_torch import (
    flax_from_torch,
    from_torch,
    from_torch_on,
    unsupported_ops,
)
from denograd_jax.bridges._registry import register_op, supported_ops
from denograd_jax.bridges._rewrites import register_rewrite
from denograd_jax.bridges._torch_losses import loss_from_torch
from denograd_jax.bridges._torch_tensors import params_to_state_dict
from denograd_jax.bridges.ports import (
    Registration,
    flax_from_state_dict,
    register_port,
    state_dict_from_flax,
)

__all__ = [
    "Registration",
    "flax_from_state_dict",
    "flax_from_torch",
    "from_exported_program",
    "from_torch",
    "from_torch_callback",
    "from_torch_on",
    "load",
    "loss_from_torch",
    "params_to_state_dict",
    "register_op",
    "register_port",
    "register_rewrite",
    "save",
    "state_dict_from_flax",
    "supported_ops",
    "unsupported_ops",
]
