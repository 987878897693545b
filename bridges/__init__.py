"""Bridges: models and losses of other libraries as pure JAX functions.

PyTorch modules are *ported*: their weights are read into a pytree of arrays and their layers run
by JAX, so that they can be differentiated, compiled, vectorised and sharded like any other model.
Importing this package does not import torch.
"""

from denograd_jax.bridges._torch_layers import supported_modules
from denograd_jax.bridges._torch_losses import loss_from_torch
from denograd_jax.bridges._torch_modules import from_torch
from denograd_jax.bridges._torch_tensors import params_to_state_dict

__all__ = ["from_torch", "loss_from_torch", "params_to_state_dict", "supported_modules"]
