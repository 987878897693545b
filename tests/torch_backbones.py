"""PyTorch modules of common architectures, and the backbones that they are."""

import copy
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

F, nn = torch.nn.functional, torch.nn
D, W, C = 5, 7, 3  # features of a row; steps and channels of a window


class FunctionCalled(nn.Module):
    """A perceptron whose forward calls its activation as a function."""

    def __init__(self, inputs, activation, outputs=2):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(inputs, 6), nn.Linear(6, 4)
        self.out = nn.Linear(4, outputs)
        self.activation = activation

    def forward(self, x):
        x = self.activation(self.fc1(x.flatten(1)))
        return self.out(self.activation(self.fc2(x))).squeeze(-1)


def last_step(out, last):
    return out[:, -1]


def last_step_of_time_major(out, last):
    return out[-1]


def last_states(out, last):
    """Of both directions, side by side."""
    h = last[0] if isinstance(last, tuple) else last
    return torch.cat([h[-2], h[-1]], dim=-1)


class Recurrent(nn.Module):
    def __init__(self, layer, read=last_step, *, batch_first=True, **settings):
        super().__init__()
        self.rnn = layer(C, 4, batch_first=batch_first, **settings)
        self.fc = nn.Linear(8 if self.rnn.bidirectional else 4, 2)
        self.read = read

    def forward(self, x):
        return self.fc(self.read(*self.rnn(x)))


class TimesInMiddle(nn.Module):
    """A layer that expects time first, within a module that does not."""

    def __init__(self):
        super().__init__()
        self.gru, self.fc = nn.GRU(C, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.gru(x.transpose(0, 1))[0][-1])


def convolutions(kernel=3, padding=1):
    return nn.Sequential(
        nn.Conv1d(C, 4, kernel, padding=padding),
        nn.ReLU(),
        nn.Conv1d(4, 5, kernel, padding="same"),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * W, 2),
    )


class Transposing(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv1d(C, 4, 5, padding=2), nn.Conv1d(4, 4, 5, padding="same")
        self.dropout, self.fc = nn.Dropout(0.3), nn.Linear(4 * W, 2)

    def forward(self, x):
        x = torch.tanh(self.first(x.transpose(1, 2)))
        return self.fc(self.dropout(torch.tanh(self.second(x))).flatten(1))


class ConvolutionalLSTM(nn.Module):
    def __init__(self, layers=1):
        super().__init__()
        self.features = nn.Conv1d(C, 4, 3, padding="same")
        self.memory = nn.LSTM(4, 5, layers, batch_first=True)
        self.fc = nn.Linear(5, 2)

    def forward(self, x):
        x = F.relu(self.features(x.transpose(1, 2))).transpose(1, 2)
        return self.fc(self.memory(x)[0][:, -1])


class SharedMaps(nn.Module):
    """DLinear, one pair of maps over time for all channels: `(n, steps, C)`, or less of it."""

    def __init__(self, steps, read=lambda y: y, kernel=5):
        super().__init__()
        self.average = nn.AvgPool1d(kernel, stride=1)
        self.trend, self.season = nn.Linear(W, steps), nn.Linear(W, steps)
        self.kernel, self.read = kernel, read

    def forward(self, x):
        trend = self.average(padded(x, self.kernel))
        return self.read((self.season(x.mT - trend) + self.trend(trend)).mT)


class JointMaps(nn.Module):
    """DLinear, two maps of the whole window; its kernel is known to the forward only."""

    def __init__(self, kernel=25):
        super().__init__()
        self.season, self.trend = nn.Linear(W * C, 2), nn.Linear(W * C, 2)
        self.kernel = kernel

    def forward(self, x):
        trend = F.avg_pool1d(padded(x, self.kernel), self.kernel, 1).mT
        return self.season((x - trend).flatten(1)) + self.trend(trend.flatten(1))


def padded(x, kernel):
    """`(n, C, W)`, the ends repeated."""
    return F.pad(x.mT, (kernel // 2, kernel // 2), mode="replicate")


class Encoder(nn.Module):
    def __init__(self, *, mean=False, positions=False, norm=False, causal=False, **settings):
        super().__init__()
        self.embedding = nn.Linear(C, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, **settings)
        final = nn.LayerNorm(8) if norm else None
        self.blocks = nn.TransformerEncoder(layer, 2, final, enable_nested_tensor=False)
        self.fc = nn.Linear(8, 2)
        self.mean, self.causal = mean, causal
        waves = sinusoids(W, 8) if positions else torch.zeros(W, 8)
        self.register_buffer("waves", waves, persistent=False)

    def forward(self, x):
        x = self.embedding(x) + self.waves
        seen = torch.ones(W, W, dtype=torch.bool).tril() if self.causal else None
        x = self.blocks(x, mask=None if seen is None else ~seen)
        return self.fc(x.mean(1) if self.mean else x[:, -1])


def sinusoids(length, width):
    steps, pairs = (torch.arange(*a, dtype=torch.float64) for a in ((length,), (0, width, 2)))
    angles = steps[:, None] * torch.exp(-np.log(10_000) * pairs / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, width)


class FeatureTokens(nn.Module):
    """The authors' FT-Transformer, which takes numbers and categories."""

    def __init__(self, **settings):
        super().__init__()
        rtdl = pytest.importorskip("rtdl_revisiting_models")
        self.net = rtdl.FTTransformer(
            n_cont_features=D,
            cat_cardinalities=[],
            d_out=2,
            n_blocks=2,
            d_block=8,
            attention_n_heads=2,
            attention_dropout=0.2,
            ffn_d_hidden=None,
            ffn_d_hidden_multiplier=4 / 3,
            ffn_dropout=0.1,
            residual_dropout=0.0,
            **settings,
        )

    def forward(self, x):
        return self.net(x, None)


class Case(NamedTuple):
    """A PyTorch module, and the backbone that it is.

    Attributes:
        make: Makes the module.
        shape: Of an instance that it takes.
        backbone: Name of the backbone.
        options: What that is built with.
        names: What the module calls the parts of the usual one.
        turn: Whether the module takes `(W, n, C)`.
        channels_first: Whether the module takes `(n, C, W)`.
    """

    make: Any
    shape: tuple[int, ...]
    backbone: str
    options: dict[str, Any]
    names: Mapping[str, str] = MappingProxyType({})
    turn: bool = False
    channels_first: bool = False


PERCEPTRON = {"widths": (6, 4)}
CALLED = {"0": "fc1", "2": "fc2", "4": "out"}


def perceptron(*activations, first=()):
    """With its activations as layers."""
    inputs = W * C if first else D
    one, other = activations
    return nn.Sequential(
        *first, nn.Linear(inputs, 6), one, nn.Linear(6, 4), nn.Dropout(0.5), other, nn.Linear(4, 2)
    )


def recurrent(backbone, *args, turn=False, **settings):
    layer = {"lstm": nn.LSTM, "gru": nn.GRU}[backbone]
    options = {"units": 4, "layers": settings.get("num_layers", 1)}
    options["bidirectional"] = settings.get("bidirectional", False)
    options["summary"] = "last_state" if last_states in args else "last_step"
    make = functools.partial(Recurrent, layer, *args, **settings)
    return Case(make, (W, C), backbone, options, {backbone: "rnn", "head": "fc"}, turn)


def encoder(**settings):
    options = {
        "width": 8,
        "heads": 2,
        "hidden": 12,
        "activation": settings.get("activation", "relu"),
        "norm_first": settings.get("norm_first", False),
        "final_norm": settings.get("norm", False),
        "positions": settings.get("positions", False),
        "pooling": "mean" if settings.get("mean") else "last",
    }
    names = {"embed": "embedding", "encoder": "blocks", "head": "fc"}
    return Case(functools.partial(Encoder, **settings), (W, C), "transformer", options, names)


def shared_maps(steps, read=lambda y: y, outputs=None):
    options = {"kernel_size": 5, "shared_channels": True, "outputs": outputs or steps * C}
    names = {"Linear_Trend": "trend", "Linear_Seasonal": "season"}
    return Case(functools.partial(SharedMaps, steps, read), (W, C), "dlinear", options, names)


CASES = {
    "MLP, SiLU": Case(
        lambda: perceptron(nn.SiLU(), nn.SiLU()),
        (D,),
        "mlp",
        PERCEPTRON,
        {"4": "5", "2": "2"},
    ),
    "MLP, GELU of tanh": Case(
        lambda: perceptron(nn.GELU("tanh"), nn.GELU("tanh")),
        (D,),
        "mlp",
        PERCEPTRON | {"activation": "gelu_tanh"},
        {"4": "5"},
    ),
    "MLP, leaky ReLU on windows": Case(
        lambda: perceptron(nn.LeakyReLU(), nn.LeakyReLU(), first=(nn.Flatten(),)),
        (W, C),
        "mlp",
        PERCEPTRON | {"activation": "leaky_relu"},
        {"0": "1", "2": "3", "4": "6"},
    ),
    "MLP, tanh called": Case(
        lambda: FunctionCalled(D, torch.tanh),
        (D,),
        "mlp",
        PERCEPTRON | {"activation": "tanh"},
        CALLED,
    ),
    "MLP, GELU called on windows": Case(
        lambda: FunctionCalled(W * C, F.gelu, outputs=1),
        (W, C),
        "mlp",
        PERCEPTRON | {"activation": "gelu", "outputs": 1},
        CALLED,
    ),
    "LSTM": recurrent("lstm"),
    "LSTM, 2 layers": recurrent("lstm", num_layers=2, dropout=0.2),
    "LSTM, bidirectional, last step": recurrent("lstm", bidirectional=True),
    "LSTM, bidirectional, last states": recurrent("lstm", last_states, bidirectional=True),
    "LSTM, 2 layers, last states": recurrent("lstm", last_states, bidirectional=True, num_layers=2),
    "LSTM, time first": recurrent("lstm", last_step_of_time_major, turn=True, batch_first=False),
    "GRU": recurrent("gru"),
    "GRU, 2 layers, last states": recurrent("gru", last_states, bidirectional=True, num_layers=2),
    "GRU, bidirectional, last step": recurrent("gru", bidirectional=True),
    "GRU, time first within": Case(
        TimesInMiddle, (W, C), "gru", {"units": 4, "summary": "last_step"}, {"head": "fc"}
    ),
    "CNN, channels first": Case(
        convolutions,
        (C, W),
        "cnn",
        {"widths": (4, 5), "activation": "relu"},
        channels_first=True,
    ),
    "CNN, transposing": Case(
        Transposing,
        (W, C),
        "cnn",
        {"widths": (4, 4), "kernel_size": 5, "activation": "tanh"},
        {"0": "first", "2": "second", "5": "fc"},
    ),
    "CNN-LSTM": Case(
        ConvolutionalLSTM,
        (W, C),
        "cnn_lstm",
        {"filters": 4, "units": 5, "activation": "relu"},
        {"conv": "features", "lstm": "memory", "head": "fc"},
    ),
    "CNN-LSTM, 2 layers": Case(
        lambda: ConvolutionalLSTM(2),
        (W, C),
        "cnn_lstm",
        {"filters": 4, "units": 5, "layers": 2, "activation": "relu"},
        {"conv": "features", "lstm": "memory", "head": "fc"},
    ),
    "DLinear, shared, 2 steps": shared_maps(2),
    "DLinear, shared, squeezed": shared_maps(1, lambda y: y.squeeze(1)),
    "DLinear, of all": Case(
        JointMaps,
        (W, C),
        "dlinear",
        {},
        {"Linear_Trend": "trend", "Linear_Seasonal": "season"},
    ),
    "Transformer, post-norm": encoder(),
    "Transformer, post-norm, GELU, mean": encoder(activation="gelu", mean=True),
    "Transformer, pre-norm, positions": encoder(norm_first=True, norm=True, positions=True),
    "Transformer, pre-norm, no final": encoder(norm_first=True, activation="gelu", positions=True),
    "Transformer, post-norm, final, mean": encoder(norm=True, mean=True, positions=True),
    "FT-Transformer": Case(
        FeatureTokens,
        (D,),
        "ft_transformer",
        {"width": 8, "heads": 2, "hidden": 10},
        {part: f"net.{part}" for part in ("cls_embedding", "cont_embeddings", "backbone")},
    ),
}


def made(make, seed=0):
    """The module in evaluation mode and float64, with weights of some size, norms' included."""
    torch.manual_seed(seed)
    module = make().double().eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, dtype=torch.float64))
    return module


def as_called(case, module):
    """The module on batches as the model takes them."""
    if not case.turn:
        return module
    turned = copy.copy(module)
    turned.forward = lambda x: module(x.transpose(0, 1))
    return turned
