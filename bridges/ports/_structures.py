"""Which backbones a PyTorch module may be, judging by its layers.

What its forward does with these layers is not known: candidates are to be compared with the module.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from denograd_jax.backbones._activations import ACTIVATIONS
from denograd_jax.bridges.ports._blueprints import blueprint

__all__ = ["Candidate", "candidates", "ft_transformer_options", "structure", "xlstm_options"]


class Candidate(NamedTuple):
    """A backbone that a module may be.

    Attributes:
        blueprint: What it is built from.
        names: What the module calls the parts of the usual one.
        channels_first: Whether the module takes windows as `(n, C, W)`.
    """

    blueprint: str
    names: dict[str, str]
    channels_first: bool = False


class _Layers(NamedTuple):
    """The layers of a module, by name, in order of definition; and what it maps to what."""

    named: dict[str, Any]
    shape: tuple[int, ...]  # of an instance
    outputs: int

    def of(self, kind: str) -> list[tuple[str, Any]]:
        return [(name, layer) for name, layer in self.named.items() if _kind(layer) == kind]


_Reader: TypeAlias = Callable[[_Layers], Iterator[Candidate]]
_WHOLE = ("LSTM", "GRU", "RNN", "TransformerEncoder", "xLSTMBlockStack", "FTTransformer")
_ACTIVATION_LAYERS = {
    "ReLU": "relu",
    "SiLU": "silu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
    "Softplus": "softplus",
}
_SILENT = (*_ACTIVATION_LAYERS, "GELU", "Flatten", "Identity", "Dropout", "Dropout1d", "AvgPool1d")


def _kind(layer: Any) -> str:
    return type(layer).__name__


def structure(module: Any) -> tuple[str, ...]:
    """The kinds of the layers with weights, in order of definition."""
    return tuple(k for k in map(_kind, _leaves(module).values()) if k not in _SILENT)


def candidates(module: Any, shape: tuple[int, ...], outputs: int) -> Iterator[Candidate]:
    """Yield what a module may be, the likeliest first.

    Args:
        module: A PyTorch module.
        shape: Of one instance that it takes.
        outputs: How many numbers it gives for one.
    """
    kinds = structure(module)
    read = _READERS.get(_pattern(kinds))
    if read is not None:
        yield from read(_Layers(_leaves(module), shape, outputs))


def _pattern(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Any number of convolutions in a row, or of linear maps alone but for two, count as one."""
    if set(kinds) == {"Linear"} and len(kinds) != 2:
        return ("Linear",)
    runs = [(kind, list(run)) for kind, run in itertools.groupby(kinds)]
    return tuple(k for kind, run in runs for k in (run[:1] if kind == "Conv1d" else run))


def _leaves(module: Any, name: str = "") -> dict[str, Any]:
    children = dict(module.named_children())
    if not children or _kind(module) in _WHOLE:
        return {name: module}
    found: dict[str, Any] = {}
    for child_name, child in children.items():
        found |= _leaves(child, f"{name}.{child_name}".strip("."))
    return found


def _activations(layers: _Layers) -> list[str]:
    """Their name, if they are layers; else all that a forward may call."""
    found = {
        _activation_name(layer)
        for layer in layers.named.values()
        if _kind(layer) in (*_ACTIVATION_LAYERS, "GELU")
    }
    if found:
        return [name for name in found if name is not None] if len(found) == 1 else []
    return ["relu", "tanh", "silu", "gelu", "leaky_relu", "elu", "sigmoid"]


def _activation_name(layer: Any) -> str | None:
    """None for other layers, and for settings that no activation of ours has."""
    if _kind(layer) == "GELU":
        return "gelu" if layer.approximate == "none" else "gelu_tanh"
    usual = {"alpha": 1.0, "negative_slope": 0.01, "beta": 1, "threshold": 20}
    settings = {key: value for key, value in vars(layer).items() if key in usual}
    if any(usual[key] != value for key, value in settings.items()):
        return None
    return _ACTIVATION_LAYERS.get(_kind(layer))


def _perceptron(layers: _Layers) -> Iterator[Candidate]:
    linear = layers.of("Linear")
    widths = [layer.out_features for _, layer in linear[:-1]]
    names = {str(2 * i): name for i, (name, _) in enumerate(linear)}
    for activation in _activations(layers):
        yield Candidate(
            blueprint(
                "mlp",
                input_shape=layers.shape,
                outputs=layers.outputs,
                widths=widths,
                activation=activation,
            ),
            names,
        )


def _recurrent(layers: _Layers) -> Iterator[Candidate]:
    (rnn_name, rnn), (head_name, _) = *layers.of("LSTM"), *layers.of("GRU"), *layers.of("Linear")
    kind = _kind(rnn).lower()
    for summary in ("last_step", "last_state")[: 2 if rnn.bidirectional else 1]:
        options = {
            "units": rnn.hidden_size,
            "layers": rnn.num_layers,
            "bidirectional": rnn.bidirectional,
            "summary": summary,
        }
        text = blueprint(kind, input_shape=layers.shape, outputs=layers.outputs, **options)
        yield Candidate(text, {kind: rnn_name, "head": head_name})


def _oriented(layers: _Layers, channels: int) -> Iterator[tuple[tuple[int, int], bool]]:
    """Shapes `(W, C)` of windows whose channels a convolution takes; and if they come first."""
    if len(layers.shape) == 2:
        rows, columns = layers.shape
        if columns == channels:
            yield (rows, columns), False
        if rows == channels:
            yield (columns, rows), True


def _keeps_length(convolution: Any) -> bool:
    (size,), (stride,), (dilation,) = (
        getattr(convolution, name) for name in ("kernel_size", "stride", "dilation")
    )
    padding = convolution.padding
    same = padding == "same" or (size % 2 == 1 and tuple(padding) == (size // 2,))
    plain = convolution.groups == 1 and convolution.padding_mode == "zeros"
    return same and stride == dilation == 1 and plain


def _convolutional(layers: _Layers) -> Iterator[Candidate]:
    convolutions, heads = layers.of("Conv1d"), layers.of("Linear")
    sizes = {layer.kernel_size[0] for _, layer in convolutions}
    if len(heads) > 1 or len(sizes) > 1 or not all(_keeps_length(c) for _, c in convolutions):
        return
    last = 2 * len(convolutions) + 1
    names = {str(2 * i): name for i, (name, _) in enumerate(convolutions)}
    options = {
        "widths": [layer.out_channels for _, layer in convolutions],
        "kernel_size": sizes.pop(),
        "outputs": layers.outputs,
    }
    shapes = _oriented(layers, convolutions[0][1].in_channels)
    for (shape, first), activation in itertools.product(shapes, _activations(layers)):
        text = blueprint("cnn", input_shape=shape, activation=activation, **options)
        yield Candidate(text, {**names, str(last): heads[0][0]}, channels_first=first)


def _convolutional_recurrent(layers: _Layers) -> Iterator[Candidate]:
    convolutions, ((lstm_name, lstm),) = layers.of("Conv1d"), layers.of("LSTM")
    (conv_name, conv), *more = convolutions
    if more or not _keeps_length(conv) or lstm.bidirectional:
        return
    options = {
        "filters": conv.out_channels,
        "kernel_size": conv.kernel_size[0],
        "units": lstm.hidden_size,
        "layers": lstm.num_layers,
        "outputs": layers.outputs,
    }
    names = {"conv": conv_name, "lstm": lstm_name, "head": layers.of("Linear")[0][0]}
    shapes = _oriented(layers, conv.in_channels)
    for (shape, first), activation in itertools.product(shapes, _activations(layers)):
        text = blueprint("cnn_lstm", input_shape=shape, activation=activation, **options)
        yield Candidate(text, names, channels_first=first)


def _two_linear(layers: _Layers) -> Iterator[Candidate]:
    """A perceptron with one hidden layer, or the two maps of DLinear."""
    (first, one), (second, other) = layers.of("Linear")
    alike = (one.in_features, one.out_features) == (other.in_features, other.out_features)
    if one.out_features == other.in_features:
        yield from _perceptron(layers)
    if not alike or len(layers.shape) != 2:
        return
    sizes = [_first(layer.kernel_size) for _, layer in layers.of("AvgPool1d")] or [25]
    options = {
        "input_shape": layers.shape,
        "outputs": layers.outputs,
        "kernel_size": sizes[0],
        "shared_channels": one.in_features == layers.shape[0],
    }
    for trend, rest in ((first, second), (second, first)):
        names = {"Linear_Trend": trend, "Linear_Seasonal": rest}
        yield Candidate(blueprint("dlinear", **options), names)


def _first(size: Any) -> int:
    return int(size[0] if isinstance(size, tuple) else size)


def _encoder(layers: _Layers) -> Iterator[Candidate]:
    ((encoder_name, encoder),) = layers.of("TransformerEncoder")
    (embed_name, embed), (head_name, _) = layers.of("Linear")
    layer = encoder.layers[0]
    activation = getattr(layer.activation, "__name__", None) or _activation_name(layer.activation)
    if activation not in ACTIVATIONS or not _usual_norms(encoder):
        return
    options = {
        "input_shape": layers.shape,
        "outputs": layers.outputs,
        "width": embed.out_features,
        "heads": layer.self_attn.num_heads,
        "layers": len(encoder.layers),
        "hidden": layer.linear1.out_features,
        "activation": activation,
        "norm_first": layer.norm_first,
        "final_norm": encoder.norm is not None,
    }
    names = {"embed": embed_name, "encoder": encoder_name, "head": head_name}
    for pooling, positions in itertools.product(("last", "mean"), (False, True)):
        yield Candidate(
            blueprint("transformer", pooling=pooling, positions=positions, **options), names
        )


def _usual_norms(module: Any) -> bool:
    norms = [child for child in module.modules() if _kind(child).endswith("LayerNorm")]
    return all(getattr(norm, "eps", None) == 1e-5 for norm in norms)


def _feature_transformer(layers: _Layers) -> Iterator[Candidate]:
    ((name, network),) = layers.of("FTTransformer")
    options = ft_transformer_options(network)
    if options is not None:
        parts = ("cls_embedding", "cont_embeddings", "backbone")
        names = {part: f"{name}.{part}".strip(".") for part in parts}
        yield Candidate(blueprint("ft_transformer", **options), names)


def ft_transformer_options(network: Any) -> dict[str, Any] | None:
    """What the backbone is built from; None if the network has settings that it does not know."""
    blocks = network.backbone.blocks
    attention = blocks[0]["attention"]
    heads = getattr(attention, "_n_heads", None)  # that no weight tells
    output = getattr(network.backbone, "output", None)
    compressed = getattr(attention, "key_compression", None) is not None
    if network.cat_embeddings is not None or heads is None or output is None or compressed:
        return None
    if not _usual_norms(network):
        return None
    features, width = network.cont_embeddings.weight.shape
    return {
        "input_shape": (features,),
        "outputs": output.linear.out_features,
        "width": width,
        "heads": heads,
        "layers": len(blocks),
        "hidden": blocks[0]["ffn"].linear2.in_features,
    }


def _extended_lstm(layers: _Layers) -> Iterator[Candidate]:
    ((stack_name, stack),) = layers.of("xLSTMBlockStack")
    options = xlstm_options(stack)
    if options is None or len(layers.of("Linear")) != 2:
        return
    (embed_name, _), (head_name, _) = layers.of("Linear")
    text = blueprint("xlstm", input_shape=layers.shape, outputs=layers.outputs, **options)
    yield Candidate(text, {"embed": embed_name, "xlstm": stack_name, "head": head_name})


def xlstm_options(stack: Any) -> dict[str, Any] | None:
    """What `XLSTMBlocks` is built from; None if the stack has settings that it does not know."""
    kinds = [_kind(block)[0] for block in stack.blocks]
    if set(kinds) - {"m", "s"} or stack.config.bias or not stack.config.add_post_blocks_norm:
        return None
    layers = [block.xlstm for block in stack.blocks]
    if not _usual_norms(stack) or not all(hasattr(layer, "conv1d") for layer in layers):
        return None
    heads = {int(layer.config.num_heads) for layer in layers}
    sizes = {layer.conv1d.conv.kernel_size[0] for layer in layers}
    perceptrons = [block.ffn for block in stack.blocks if _kind(block) == "sLSTMBlock"]
    if len(heads) != 1 or len(sizes) != 1 or None in perceptrons:
        return None
    if any(ffn.config.act_fn != "gelu" for ffn in perceptrons):
        return None
    matrices = [layer for layer in layers if _kind(layer) == "mLSTMLayer"]
    options: dict[str, Any] = {
        "kinds": "".join(kinds),
        "width": stack.config.embedding_dim,
        "heads": heads.pop(),
        "convolution_size": sizes.pop(),
    }
    if matrices:
        options["inner"] = matrices[0].proj_down.in_features
        options["projection_size"] = matrices[0].q_proj.weight.shape[-1]
    if perceptrons:
        options["hidden"] = perceptrons[0].proj_down.in_features
    return options


_READERS: Mapping[tuple[str, ...], _Reader] = {
    ("Linear",): _perceptron,
    ("Linear", "Linear"): _two_linear,
    ("LSTM", "Linear"): _recurrent,
    ("GRU", "Linear"): _recurrent,
    ("Conv1d", "Linear"): _convolutional,
    ("Conv1d", "LSTM", "Linear"): _convolutional_recurrent,
    ("Linear", "TransformerEncoder", "Linear"): _encoder,
    ("Linear", "xLSTMBlockStack", "Linear"): _extended_lstm,
    ("FTTransformer",): _feature_transformer,
}
