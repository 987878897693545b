"""Reads single layers of `torch.nn`: their settings and the names of their weights."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax

from denograd_jax.bridges import _activations
from denograd_jax.bridges._layers import LSTM, Apply, BatchNorm, Layer, LayerNorm, Linear, flatten
from denograd_jax.bridges._torch_tensors import forward_kind
from denograd_jax.errors import UnsupportedError

__all__ = ["ADVICE", "read_chain", "read_layers", "read_lstm", "supported_modules"]

Children: TypeAlias = Iterable[tuple[str, Any]]
"""Pairs of a name and a module, as `module._modules.items()`."""


def read_layers(module: Any, path: str) -> tuple[Layer, ...]:
    """Reads a layer, or a list of layers, whose weights' names begin with `path`."""
    kind = forward_kind(module)
    if kind in ("Sequential", "ModuleList"):
        return read_chain((f"{path}{name}", child) for name, child in module._modules.items())
    if kind is None:
        raise _refusal(module, path, "only the outermost module may have a forward of its own")
    if kind == "LSTM":
        raise _refusal(
            module, path, "an LSTM must be the only one, and a direct child of a module of your own"
        )
    if kind not in _READERS:
        raise _refusal(module, path, "layers of this kind are not supported")
    layer = _READERS[kind](module, path)
    return () if layer is None else (layer,)


def read_chain(children: Children) -> tuple[Layer, ...]:
    """Reads layers that run one after the other."""
    return tuple(layer for name, child in children for layer in read_layers(child, f"{name}."))


def read_lstm(module: Any, path: str) -> LSTM:
    """Reads an LSTM of one layer and one direction."""
    if module.num_layers > 1 or module.bidirectional or module.proj_size:
        raise _refusal(module, path, "only LSTMs of one layer, one direction and no projection are")
    biases = ("bias_ih_l0", "bias_hh_l0") if module.bias else ()
    weights = [_weight(module, path, name) for name in ("weight_ih_l0", "weight_hh_l0", *biases)]
    return LSTM(weights[0], weights[1], tuple(weights[2:]))


def supported_modules() -> tuple[str, ...]:
    """Names the classes of `torch.nn` that `from_torch` understands."""
    return tuple(sorted([*_READERS, "LSTM", "ModuleList", "Sequential"]))


def _read_linear(module: Any, path: str) -> Linear:
    return Linear(_weight(module, path, "weight"), _optional_weight(module, path, "bias"))


def _read_layer_norm(module: Any, path: str) -> LayerNorm:
    weight, bias = (_optional_weight(module, path, name) for name in ("weight", "bias"))
    return LayerNorm(weight, bias, tuple(module.normalized_shape), module.eps)


def _read_batch_norm(module: Any, path: str) -> BatchNorm:
    if module.running_mean is None:
        raise _refusal(module, path, "it has no running statistics: its instances interact")
    weight, bias = (_optional_weight(module, path, name) for name in ("weight", "bias"))
    mean, variance = (_weight(module, path, f"running_{name}") for name in ("mean", "var"))
    return BatchNorm(weight, bias, mean, variance, module.eps)


def _read_gelu(module: Any, path: str) -> Apply:
    return Apply(jax.nn.gelu, (("approximate", module.approximate == "tanh"),))


def _nothing(module: Any, path: str) -> None:
    """Layers that do nothing in evaluation mode."""


def _apply(function: Callable[..., jax.Array], **attributes: str) -> Callable[[Any, str], Apply]:
    """Reads a layer without weights: `function(x, option=module.attribute, ...)`."""

    def read(module: Any, path: str) -> Apply:
        options = [(option, getattr(module, name)) for option, name in attributes.items()]
        return Apply(function, tuple(options))

    return read


_READERS: dict[str, Callable[[Any, str], Layer | None]] = {
    "AlphaDropout": _nothing,
    "BatchNorm1d": _read_batch_norm,
    "CELU": _apply(_activations.celu, alpha="alpha"),
    "Dropout": _nothing,
    "ELU": _apply(_activations.elu, alpha="alpha"),
    "Flatten": _apply(flatten, start="start_dim", end="end_dim"),
    "GELU": _read_gelu,
    "Hardswish": _apply(_activations.hardswish),
    "Hardtanh": _apply(_activations.hardtanh, low="min_val", high="max_val"),
    "Identity": _nothing,
    "LayerNorm": _read_layer_norm,
    "LeakyReLU": _apply(_activations.leaky_relu, negative_slope="negative_slope"),
    "Linear": _read_linear,
    "LogSigmoid": _apply(jax.nn.log_sigmoid),
    "Mish": _apply(_activations.mish),
    "ReLU": _apply(jax.nn.relu),
    "ReLU6": _apply(_activations.hardtanh, low="min_val", high="max_val"),
    "SELU": _apply(_activations.selu),
    "SiLU": _apply(jax.nn.silu),
    "Sigmoid": _apply(jax.nn.sigmoid),
    "Softmax": _apply(jax.nn.softmax, axis="dim"),
    "Softplus": _apply(_activations.softplus, beta="beta", threshold="threshold"),
    "Softsign": _apply(_activations.softsign),
    "Tanh": _apply(jax.nn.tanh),
}


def _weight(module: Any, path: str, name: str) -> str:
    """The full name of a weight that is stored, not computed on the fly."""
    if name not in module._parameters and name not in module._buffers:
        raise _refusal(
            module,
            path,
            f"its {name} is computed from other weights: make it permanent first, for instance by "
            "torch.nn.utils.parametrize.remove_parametrizations",
        )
    return f"{path}{name}"


def _optional_weight(module: Any, path: str, name: str) -> str | None:
    return None if getattr(module, name) is None else _weight(module, path, name)


def _refusal(module: Any, path: str, reason: str) -> UnsupportedError:
    place = f" (submodule {path[:-1]!r})" if path else ""
    return UnsupportedError(
        f"cannot port {type(module).__name__}{place} to JAX: {reason}. {ADVICE}"
    )


ADVICE = (
    f"Supported so far, one after the other: {', '.join(supported_modules())}. A bridge for every "
    "module that torch.export accepts is to come; until then write the forward pass as a "
    "JAX function and pass (predict, params)."
)
