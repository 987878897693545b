"""Which tensors of a PyTorch module each parameter of a Flax module is made of, and back.

The names are those of the usual PyTorch module of each architecture: as `nn.Sequential`, `nn.LSTM`
and `nn.TransformerEncoder` give them; as the authors' packages do for xLSTM (`xlstm`) and
FT-Transformer (`rtdl_revisiting_models`). docs/bridges.md shows them.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from denograd_jax.backbones._attention import (
    Encoder,
    EncoderLayer,
    FeatureTransformer,
    FeatureTransformerLayer,
    LayerNorm,
    SelfAttention,
)
from denograd_jax.backbones._feedforward import CNN, MLP, Convolution, DLinear, LinearPath
from denograd_jax.backbones._linear import Linear
from denograd_jax.backbones._recurrent import ConvolutionalLSTM, GRULayer, LSTMLayer, Recurrent
from denograd_jax.backbones._xlstm import XLSTM, MLSTMBlock, SLSTMBlock, XLSTMBlocks
from denograd_jax.errors import UnsupportedError

__all__ = ["Entry", "layout"]

Path: TypeAlias = tuple[str | int, ...]


class Entry(NamedTuple):
    """One parameter of a Flax module.

    Attributes:
        path: Where it is in the module, by attribute and position.
        names: The tensors that it is made of.
        to_flax: Their values to its value.
        to_torch: Its value to theirs.
    """

    path: Path
    names: tuple[str, ...]
    to_flax: Callable[..., jax.Array]
    to_torch: Callable[[jax.Array], tuple[jax.Array, ...]]


@functools.singledispatch
def layout(module: nnx.Module) -> Iterator[Entry]:
    """The entries of all parameters of a module.

    Raises:
        UnsupportedError: If no layout is known for its class.
    """
    raise UnsupportedError(
        f"no PyTorch layout is known for {type(module).__name__}: expected one of the backbones of "
        "denograd_jax.backbones."
    )


def _path(attribute: str) -> Path:
    return tuple(int(part) if part.isdigit() else part for part in attribute.split("."))


def _part(module: nnx.Module, attribute: str, name: str) -> Iterator[Entry]:
    """The entries of a part of a module, as entries of the module."""
    part: Any = module
    for step in _path(attribute):
        part = part[step] if isinstance(step, int) else getattr(part, step)
    if part is not None:
        yield from _within(layout(part), attribute, name)


def _within(entries: Iterable[Entry], attribute: str, name: str) -> Iterator[Entry]:
    for entry in entries:
        names = tuple(f"{name}.{given}" for given in entry.names)
        yield entry._replace(path=(*_path(attribute), *entry.path), names=names)


def _same(attribute: str, name: str) -> Entry:
    return Entry(_path(attribute), (name,), lambda a: a, lambda a: (a,))


def _transposed(attribute: str, name: str) -> Entry:
    return Entry(_path(attribute), (name,), lambda a: a.T, lambda a: (a.T,))


@layout.register
def _(module: nnx.Linear) -> Iterator[Entry]:
    yield _transposed("kernel", "weight")
    if module.use_bias:
        yield _same("bias", "bias")


@layout.register
def _(module: LayerNorm) -> Iterator[Entry]:
    yield _same("scale", "weight")
    yield _same("bias", "bias")


@layout.register
def _(module: LinearPath) -> Iterator[Entry]:
    yield from _part(module, "network", "network")
    yield from _part(module, "linear", "linear")


@layout.register
def _(module: Linear) -> Iterator[Entry]:
    yield from _part(module, "linear", "0")  # a perceptron without a hidden layer


@layout.register
def _(module: MLP) -> Iterator[Entry]:
    for i in range(len(module.layers)):
        yield from _part(module, f"layers.{i}", str(2 * i))  # activations in between
    yield from _part(module, "head", str(2 * len(module.layers)))


@layout.register
def _(module: Convolution) -> Iterator[Entry]:
    size = module.size

    def to_flax(weight: jax.Array) -> jax.Array:  # (out, in, size)
        return weight.transpose(2, 1, 0).reshape(-1, weight.shape[0])

    def to_torch(kernel: jax.Array) -> tuple[jax.Array, ...]:
        return (kernel.reshape(size, -1, kernel.shape[-1]).transpose(2, 1, 0),)

    yield Entry(("kernel", "kernel"), ("weight",), to_flax, to_torch)
    yield _same("kernel.bias", "bias")


@layout.register
def _(module: CNN) -> Iterator[Entry]:
    count = len(module.layers)
    for i in range(len(module.layers)):
        yield from _part(module, f"layers.{i}", str(2 * i))
    filters = module.layers[count - 1].kernel.out_features
    yield _flat_head(filters, f"{2 * count + 1}.weight")  # after the last activation and flattening
    yield _same("head.bias", f"{2 * count + 1}.bias")


def _flat_head(filters: int, name: str) -> Entry:
    """A linear map of all steps, flattened step by step here, channel by channel there."""

    def to_flax(weight: jax.Array) -> jax.Array:
        return weight.reshape(len(weight), filters, -1).transpose(2, 1, 0).reshape(-1, len(weight))

    def to_torch(kernel: jax.Array) -> tuple[jax.Array, ...]:
        outputs = kernel.shape[-1]
        by_step = kernel.reshape(-1, filters, outputs)
        return (by_step.transpose(2, 1, 0).reshape(outputs, -1),)

    return Entry(("head", "kernel"), (name,), to_flax, to_torch)


@layout.register
def _(module: DLinear) -> Iterator[Entry]:
    yield from _part(module, "trend", "Linear_Trend")
    yield from _part(module, "remainder", "Linear_Seasonal")


@layout.register
def _(module: Recurrent) -> Iterator[Entry]:
    for i, layer in enumerate(module.layers):
        number, backward = divmod(i, module.directions)
        end = f"_l{number}{'_reverse' if backward else ''}"
        kind, entries = _cell(layer, end)
        yield from _within(entries, f"layers.{i}", kind)
    yield from _part(module, "head", "head")


def _cell(layer: LSTMLayer | GRULayer, end: str) -> tuple[str, list[Entry]]:
    if isinstance(layer, LSTMLayer):
        return "lstm", [_lstm_weight(layer.units, end), _lstm_bias(end)]
    kinds = ("input_weight", "weight_ih"), ("hidden_weight", "weight_hh")
    biases = ("input_bias", "bias_ih"), ("hidden_bias", "bias_hh")
    weights = [_transposed(path, name + end) for path, name in kinds]
    return "gru", [*weights, *(_same(path, name + end) for path, name in biases)]


def _lstm_weight(units: int, end: str) -> Entry:
    """Input and state are projected by one matrix here."""

    def to_flax(of_input: jax.Array, of_state: jax.Array) -> jax.Array:
        return jnp.concatenate([of_input, of_state], axis=1).T

    def to_torch(weight: jax.Array) -> tuple[jax.Array, ...]:
        return weight[:-units].T, weight[-units:].T

    return Entry(("weight",), (f"weight_ih{end}", f"weight_hh{end}"), to_flax, to_torch)


def _lstm_bias(end: str) -> Entry:
    """Only the sum of the two biases there matters."""
    names = (f"bias_ih{end}", f"bias_hh{end}")
    return Entry(("bias",), names, lambda a, b: a + b, lambda a: (a, jnp.zeros_like(a)))


@layout.register
def _(module: ConvolutionalLSTM) -> Iterator[Entry]:
    yield from _part(module, "convolution", "conv")
    for entry in layout(module.recurrent):
        yield entry._replace(path=("recurrent", *entry.path))


@layout.register
def _(module: SelfAttention) -> Iterator[Entry]:
    yield _transposed("project_in.kernel", "in_proj_weight")
    yield _same("project_in.bias", "in_proj_bias")
    yield from _part(module, "project_out", "out_proj")


@layout.register
def _(module: EncoderLayer) -> Iterator[Entry]:
    for attribute, name in (
        ("attention", "self_attn"),
        ("attention_norm", "norm1"),
        ("widen", "linear1"),
        ("narrow", "linear2"),
        ("perceptron_norm", "norm2"),
    ):
        yield from _part(module, attribute, name)


@layout.register
def _(module: Encoder) -> Iterator[Entry]:
    yield from _part(module, "embed", "embed")
    for i in range(len(module.layers)):
        yield from _part(module, f"layers.{i}", f"encoder.layers.{i}")
    if module.norm is not None:
        yield from _part(module, "norm", "encoder.norm")
    yield from _part(module, "head", "head")


@layout.register
def _(module: FeatureTransformerLayer) -> Iterator[Entry]:
    for attribute, name in (("kernel", "weight"), ("bias", "bias")):
        names = tuple(f"attention.W_{part}.{name}" for part in "qkv")
        yield _side_by_side(f"attention.project_in.{attribute}", names)
    for attribute, name in (
        ("attention.project_out", "attention.W_out"),
        ("attention_norm", "attention_normalization"),
        ("perceptron_norm", "ffn_normalization"),
        ("widen", "ffn.linear1"),
        ("narrow", "ffn.linear2"),
    ):
        yield from _part(module, attribute, name)


def _side_by_side(attribute: str, names: tuple[str, ...]) -> Entry:
    """Several matrices, or biases, there that are one here."""
    return Entry(
        _path(attribute),
        names,
        lambda *parts: jnp.concatenate(parts).T,
        lambda a: tuple(part.T for part in jnp.split(a, len(names), axis=-1)),
    )


@layout.register
def _(module: FeatureTransformer) -> Iterator[Entry]:
    yield _same("summary", "cls_embedding.weight")
    yield _same("token_weight", "cont_embeddings.weight")
    yield _same("token_bias", "cont_embeddings.bias")
    for i in range(len(module.layers)):
        yield from _part(module, f"layers.{i}", f"backbone.blocks.{i}")
    yield from _part(module, "norm", "backbone.output.normalization")
    yield from _part(module, "head", "backbone.output.linear")


@layout.register
def _(module: XLSTM) -> Iterator[Entry]:
    yield from _part(module, "embed", "embed")
    yield from _part(module, "blocks", "xlstm")
    yield from _part(module, "head", "head")


@layout.register
def _(module: XLSTMBlocks) -> Iterator[Entry]:
    for i in range(len(module.blocks)):
        yield from _part(module, f"blocks.{i}", f"blocks.{i}")
    yield _same("norm.scale", "post_blocks_norm.weight")


def _causal_convolution(name: str) -> Iterator[Entry]:
    def to_torch(kernel: jax.Array) -> tuple[jax.Array, ...]:
        return (kernel.T[:, None],)

    weight = f"{name}.conv.weight"  # (width, 1, size)
    yield Entry(("convolution", "kernel"), (weight,), lambda a: a[:, 0].T, to_torch)
    yield _same("convolution.bias", f"{name}.conv.bias")


@layout.register
def _(module: MLSTMBlock) -> Iterator[Entry]:
    yield _same("norm.scale", "xlstm_norm.weight")
    yield _same("cell_norm.scale", "xlstm.mlstm_cell.outnorm.weight")
    yield _same("skip", "xlstm.learnable_skip")
    yield from _causal_convolution("xlstm.conv1d")
    for attribute in ("query", "key", "value"):
        yield _same(f"{attribute}.kernel", f"xlstm.{attribute[0]}_proj.weight")
    for attribute, name in (
        ("project_in", "proj_up"),
        ("project_out", "proj_down"),
        ("input_gate", "mlstm_cell.igate"),
        ("forget_gate", "mlstm_cell.fgate"),
    ):
        yield from _part(module, attribute, f"xlstm.{name}")


@layout.register
def _(module: SLSTMBlock) -> Iterator[Entry]:
    yield _same("norm.scale", "xlstm_norm.weight")
    yield _same("cell_norm.scale", "xlstm.group_norm.weight")
    yield _same("perceptron_norm.scale", "ffn_norm.weight")
    yield from _causal_convolution("xlstm.conv1d")
    # What the package calls the gate f feeds its input gate, and i its forget gate.
    for i, name in enumerate("fizo"):
        yield _same(f"gates.{i}.kernel", f"xlstm.{name}gate.weight")
    heads, gates, depth, _ = module.recurrent.shape
    yield Entry(
        ("recurrent",),
        ("xlstm.slstm_cell._recurrent_kernel_",),
        lambda a: a.reshape(heads, gates, depth, depth),
        lambda a: (a.reshape(heads, gates * depth, depth),),
    )
    yield Entry(
        ("bias",),
        ("xlstm.slstm_cell._bias_",),
        lambda a: a.reshape(gates, heads, depth),
        lambda a: (a.ravel(),),
    )
    yield from _part(module, "widen", "ffn.proj_up")
    yield from _part(module, "narrow", "ffn.proj_down")
