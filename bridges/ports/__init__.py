"""Ports: PyTorch modules of common architectures as our Flax backbones, and their weights back."""

from denograd_jax.bridges.ports._blueprints import build
from denograd_jax.bridges.ports._from_port import Port, port_of
from denograd_jax.bridges.ports._registered import Registration, register_port
from denograd_jax.bridges.ports._state_dicts import flax_from_state_dict, state_dict_from_flax

__all__ = [
    "Port",
    "Registration",
    "build",
    "flax_from_state_dict",
    "port_of",
    "register_port",
    "state_dict_from_flax",
]
