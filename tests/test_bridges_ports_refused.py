"""PyTorch modules that are no backbone, or nearly one: refused, and told what to do instead."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

from denograd_jax import bridges
from denograd_jax.errors import UnsupportedError
from tests.torch_backbones import (
    C,
    D,
    Encoder,
    FeatureTokens,
    JointMaps,
    Recurrent,
    SharedMaps,
    W,
    made,
    perceptron,
)

F, nn = torch.nn.functional, torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's


def softened(slope):
    return lambda: nn.Sequential(nn.Linear(D, 6), nn.LeakyReLU(slope), nn.Linear(6, 2))


def almost_usual_norms():
    """A change far below what a comparison of values would notice."""
    module = FeatureTokens()
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = 1e-6
    return module


REFUSED = {
    "batch norm": (
        lambda: nn.Sequential(nn.Linear(D, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)),
        (D,),
        "it has Linear, BatchNorm1d, Linear, and nothing of these layers",
    ),
    "causal mask": (lambda: Encoder(causal=True), (W, C), "TransformerEncoder, Linear"),
    "average over other steps": (
        lambda: JointMaps(kernel=5),
        (W, C),
        "Linear, Linear, and nothing like it .*output differs",
    ),
    "convolutions that shorten": (
        lambda: nn.Sequential(nn.Conv1d(C, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 1)),
        (C, W),
        "Conv1d, Linear, and nothing of these",
    ),
    "dilated": (
        lambda: nn.Sequential(
            nn.Conv1d(C, 4, 3, dilation=2, padding=2), nn.Tanh(), nn.Flatten(), nn.Linear(28, 1)
        ),
        (C, W),
        "Conv1d, Linear",
    ),
    "PReLU": (
        lambda: nn.Sequential(nn.Linear(D, 6), nn.PReLU(), nn.Linear(6, 2)),
        (D,),
        "PReLU",
    ),
    "leaky ReLU, 0.2": (softened(0.2), (D,), "Linear, Linear"),
    "ELU, 1.5": (
        lambda: nn.Sequential(nn.Linear(D, 6), nn.ELU(1.5), nn.Linear(6, 2)),
        (D,),
        "Linear, Linear",
    ),
    "two activations": (lambda: perceptron(nn.ReLU(), nn.Tanh()), (D,), "Linear, Linear"),
    "layer norm": (
        lambda: nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 2)),
        (D,),
        "LayerNorm, Linear",
    ),
    "norms of 1e-6": (lambda: Encoder(layer_norm_eps=1e-6), (W, C), "TransformerEncoder"),
    "without bias": (
        lambda: nn.Sequential(nn.Linear(D, 6, bias=False), nn.ReLU(), nn.Linear(6, 2)),
        (D,),
        "other parameters",
    ),
    "projected LSTM": (lambda: LSTMProjected(), (W, C), "other parameters"),
    "simple recurrence": (lambda: Recurrent(nn.RNN), (W, C), "RNN, Linear, and nothing of these"),
    "mean of all states": (
        lambda: Recurrent(nn.LSTM, lambda out, last: out.mean(1)),
        (W, C),
        "LSTM, Linear, and nothing like it",
    ),
    "no layers": (nn.Tanh, (D,), "it has no layers"),
}


class LSTMProjected(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(C, 6, proj_size=4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.rnn(x)[0][:, -1])


SLOWLY = ("causal mask", "leaky ReLU, 0.2", "mean of all states")


@pytest.mark.parametrize(
    "name", [n if n not in SLOWLY else pytest.param(n, marks=pytest.mark.slow) for n in REFUSED]
)
def test_what_is_like_no_backbone_is_refused_with_its_layers(name):
    make, shape, message = REFUSED[name]
    module, x = made(make), np.zeros((2, *shape))
    with pytest.raises(UnsupportedError, match=rf"(?s){message}.*method='export'"):
        bridges.flax_from_torch(module, x)


def test_the_same_refusal_by_method():
    with pytest.raises(UnsupportedError, match="BatchNorm1d"):
        bridges.from_torch(made(REFUSED["batch norm"][0]), np.zeros((2, D)), method="port")


NEARLY = {
    "activation of an encoder": (lambda: Encoder(activation=F.mish), (W, C)),
    "one of the channels": (lambda: SharedMaps(1, lambda y: y[:, 0, :1]), (W, C)),
    "leaky ReLU, 0.01001": (softened(0.01001), (D,)),
    "FT-Transformer, norms of 1e-6": (almost_usual_norms, (D,)),
}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "shape"), NEARLY.values(), ids=NEARLY)
def test_what_is_nearly_a_backbone_is_refused(make, shape):
    with pytest.raises(UnsupportedError, match="method='export'"):
        bridges.flax_from_torch(made(make), np.zeros((2, *shape)))


def test_a_perceptron_as_wide_as_the_window():
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(W * C, W * C), nn.ReLU(), nn.Linear(W * C, W * C)
    )
    flax = bridges.flax_from_torch(module, np.zeros((2, W, C)))
    assert bridges.state_dict_from_flax(flax).keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.slow
def test_settings_of_a_registered_class_that_no_backbone_has():
    """Linear attention, with parameters that the backbone lacks."""
    compression = {
        "linformer_kv_compression_ratio": 0.5,
        "linformer_kv_compression_sharing": "headwise",
    }
    bridges.from_torch(made(lambda: FeatureTokens(**compression)), np.zeros((2, D)))


class Repeated(nn.Module):
    """Layers of a backbone, one of them twice."""

    def __init__(self, *layers):
        super().__init__()
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(C, 2)

    def forward(self, x):
        for layer in self.layers:
            found = layer(x)
            x = found[0] if isinstance(found, tuple) else found
        return self.head(x[:, -1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Repeated(*(nn.LSTM(C, C, batch_first=True) for _ in range(2))),
        lambda: Repeated(nn.Linear(C, C), nn.Linear(C, C), nn.GRU(C, C, batch_first=True)),
    ],
)
def test_layers_that_occur_twice_are_refused(make):
    with pytest.raises(UnsupportedError, match="nothing of these layers"):
        bridges.flax_from_torch(made(make), np.zeros((2, W, C)))


def test_unknown_method():
    with pytest.raises(UnsupportedError, match=r"method is 'nonsense'.*'auto', 'export', 'port'"):
        bridges.from_torch(nn.Linear(3, 1), method="nonsense")
