"""Backbones by name."""

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from flax import nnx

from denograd_jax.backbones._attention import Encoder, FeatureTransformer
from denograd_jax.backbones._feedforward import CNN, MLP, DLinear, LinearPath
from denograd_jax.backbones._linear import Linear
from denograd_jax.backbones._recurrent import ConvolutionalLSTM, GRULayer, LSTMLayer, Recurrent
from denograd_jax.backbones._xlstm import XLSTM
from denograd_jax.errors import BackboneError

__all__ = ["Kind", "build", "names"]

Kind: TypeAlias = Literal["rows", "windows"]


def _with_linear_path(network: Callable[..., nnx.Module]) -> Callable[..., nnx.Module]:
    def build_sum(
        input_shape: tuple[int, int],
        outputs: int,
        *,
        linear_path: bool = True,
        rngs: nnx.Rngs,
        **options: Any,
    ) -> nnx.Module:
        module = network(input_shape, outputs, rngs=rngs, **options)
        return LinearPath(module, input_shape, outputs, rngs=rngs) if linear_path else module

    return build_sum


_BACKBONES: dict[Kind, dict[str, Callable[..., nnx.Module]]] = {
    "rows": {"mlp": MLP, "linear": Linear, "ft_transformer": FeatureTransformer},
    "windows": {
        "mlp": _with_linear_path(functools.partial(MLP, widths=(128, 64))),
        "linear": Linear,
        "lstm": _with_linear_path(functools.partial(Recurrent, LSTMLayer)),
        "gru": _with_linear_path(functools.partial(Recurrent, GRULayer)),
        "cnn": _with_linear_path(CNN),
        "cnn_lstm": _with_linear_path(ConvolutionalLSTM),
        "dlinear": DLinear,
        "transformer": _with_linear_path(Encoder),
        "xlstm": _with_linear_path(XLSTM),
    },
}


def names(kind: Kind) -> tuple[str, ...]:
    """Names of the backbones for `"rows"` or for `"windows"`, the default first."""
    return tuple(_BACKBONES[kind])


def build(
    name: str, *, input_shape: tuple[int, ...], outputs: int, rngs: nnx.Rngs, **options: Any
) -> nnx.Module:
    """Builds an untrained backbone, to be called on a batch.

    The networks for windows are added to a linear map of the window, unless
    `linear_path=False`: measured on hourly data, it lowers the error of each of them.

    Args:
        name: One of `names(kind)`.
        input_shape: Shape of one instance: `(d,)` for rows, `(W, C)` for windows.
        outputs: Number q of outputs; a batch gives `(n, q)`.
        rngs: Flax random streams for the parameters.
        **options: Sizes, passed on to the module's class.

    Returns:
        The module. Its parameters are float32; `cast` and `train` change that.

    Raises:
        BackboneError: No backbone of this name serves instances of this shape.

    Example:
        >>> import jax.numpy as jnp
        >>> module = build("gru", input_shape=(24, 7), outputs=2, rngs=nnx.Rngs(0), units=16)
        >>> module(jnp.zeros((5, 24, 7))).shape
        (5, 2)
    """
    if len(input_shape) not in (1, 2):
        raise BackboneError(
            f"Instances have shape {input_shape}; expected (features,) or (length, channels)."
        )
    kind: Kind = "rows" if len(input_shape) == 1 else "windows"
    if name not in _BACKBONES[kind]:
        raise BackboneError(
            f"There is no backbone {name!r} for {kind}; choose one of {', '.join(names(kind))}."
        )
    return _BACKBONES[kind][name](input_shape, outputs, rngs=rngs, **options)
