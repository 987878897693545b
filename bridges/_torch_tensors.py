"""PyTorch itself, loaded on first use, and its tensors as NumPy arrays and back."""

import importlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from denograd_jax.errors import MissingExtraError

__all__ = [
    "cast",
    "forward_kind",
    "import_torch",
    "params_to_state_dict",
    "read_params",
    "to_numpy",
]


def import_torch() -> Any:
    """Returns the module `torch`, or raises a `MissingExtraError` that says how to install it."""
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "PyTorch is not installed, and modules of torch.nn cannot be read without it. "
            'Install it with: pip install "denograd-jax[torch]"'
        ) from error


def forward_kind(module: Any) -> str | None:
    """Names the class of `torch.nn` whose `forward` the module runs; None where it has its own.

    Also None where hooks may change what it computes.
    """
    forward = getattr(type(module), "forward", None)  # TorchScript's classes have none
    if module._forward_hooks or module._forward_pre_hooks:
        return None
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.nn.modules."):
            inherited = forward is getattr(cls, "forward", None) and "forward" not in vars(module)
            return cls.__name__ if inherited else None
    return None


def read_params(module: Any) -> dict[str, np.ndarray]:
    """Copies a module's floating-point weights and buffers to the host.

    Returns:
        `{name as in state_dict: array}`; tied weights share one array.
    """
    torch = import_torch()
    copies: dict[int, np.ndarray] = {}
    params = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            if id(value) not in copies:
                copies[id(value)] = to_numpy(value)
            params[name] = copies[id(value)]
    return params


def cast(module: Any, dtype: Any) -> Any:
    """The module itself, in another precision; complex tensors stay complex, unlike by `.to`."""
    torch = import_torch()
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64

    def cast_tensor(tensor: Any) -> Any:
        if tensor.is_floating_point():
            return tensor.to(dtype)
        return tensor.to(complex_dtype) if tensor.is_complex() else tensor

    return module._apply(cast_tensor)


def params_to_state_dict(params: Mapping[str, Any]) -> dict[str, Any]:
    """Turns the parameters of a ported module back into tensors.

    Args:
        params: `{name: array}` as `from_torch` returned them, or trained further since.

    Returns:
        `{name: torch.Tensor}`, copied, on the CPU: `module.load_state_dict(..., strict=False)`
        takes it. Whole numbers, and the second name of tied weights, are not in it.

    Raises:
        MissingExtraError: If PyTorch is not installed.
    """
    torch = import_torch()

    def to_tensor(value: Any) -> Any:
        array = np.array(value)
        if array.dtype == jnp.bfloat16:  # NumPy has no such type of its own: pass the bits
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    return {name: to_tensor(value) for name, value in params.items()}


def to_numpy(tensor: Any) -> np.ndarray:
    """A copy of a tensor on the host; bfloat16 as JAX's type of that name."""
    torch = import_torch()
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return np.array(tensor.view(torch.int16).numpy()).view(jnp.bfloat16)
    return np.array(tensor.numpy())
