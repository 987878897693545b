"""PyTorch modules of common architectures as Flax backbones, with PyTorch itself as the oracle."""

import copy
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax import nnx

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

from denograd_jax import backbones, bridges
from denograd_jax.bridges import _rewrites
from denograd_jax.errors import UnsupportedError
from tests.bridge_checks import forward, input_gradient, scan, vmap, weight_gradient
from tests.test_bridges_jaxpr import equations_of_gradient

F, nn = torch.nn.functional, torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's

TOLERANCE = 1e-11
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
FAST = (
    "MLP, tanh called",
    "LSTM, time first",
    "CNN, channels first",
    "DLinear, shared, 2 steps",
)
"""What everyone converts; CI converts all of them."""

every_case = pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)


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


@functools.cache
def converted(name):
    """A module, and the Flax module that it becomes."""
    case = CASES[name]
    module = made(case.make)
    return module, bridges.flax_from_torch(module, np.zeros((3, *case.shape)))


@functools.cache
def ported(name):
    """A module, and the model that it becomes."""
    case = CASES[name]
    module = made(case.make)
    return module, bridges.from_torch(module, np.zeros((3, *case.shape)), method="port")


def built(case):
    """The backbone, untrained, by its public name."""
    options = {"outputs": 2} | case.options
    shape = case.shape[::-1] if case.channels_first else case.shape
    if len(shape) == 2 and case.backbone != "dlinear":
        options["linear_path"] = False
    return backbones.build(case.backbone, input_shape=shape, rngs=nnx.Rngs(1), **options)


def torch_value_and_gradient(module, x, cotangent):
    x = torch.tensor(x, requires_grad=True)
    value = module(x)
    value = value.reshape(len(x), -1)
    (gradient,) = torch.autograd.grad(value, x, torch.tensor(cotangent))
    return value.detach().numpy(), gradient.numpy()


@functools.partial(jax.jit, static_argnums=0)
def flax_value_and_gradient(graphdef, state, x, cotangent):
    value, pull_back = jax.vjp(lambda x: nnx.merge(graphdef, state)(x), x)
    return value, pull_back(cotangent)[0]


def assert_same_function(case, module, flax, rng):
    x = rng.standard_normal((4, *case.shape))
    cotangent = rng.standard_normal((4, ({"outputs": 2} | case.options)["outputs"]))
    value, gradient = torch_value_and_gradient(as_called(case, module), x, cotangent)
    x = x.swapaxes(1, 2) if case.channels_first else x
    gradient = gradient.swapaxes(1, 2) if case.channels_first else gradient
    found = flax_value_and_gradient(*nnx.split(flax), x, cotangent)
    for want, seen in zip((value, gradient), found, strict=True):
        assert seen.dtype == np.float64
        np.testing.assert_allclose(seen, want, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.usefixtures("x64")
class TestArchitectures:
    @every_case
    def test_flax_has_value_and_gradient_of_torch(self, name, rng):
        assert_same_function(CASES[name], *converted(name), rng)

    @every_case
    def test_weights_go_back_into_a_fresh_module(self, name, rng):
        case = CASES[name]
        _, flax = converted(name)
        fresh = made(case.make, seed=1)
        state = bridges.state_dict_from_flax(flax, case.names)
        assert all(type(array) is np.ndarray for array in state.values())
        fresh.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
        assert_same_function(case, fresh, flax, rng)

    @every_case
    @pytest.mark.parametrize("kind", ["tensors", "arrays"])
    def test_a_state_dict_makes_the_same_flax_function(self, name, kind):
        case = CASES[name]
        module, flax = converted(name)
        state = module.state_dict()
        if kind == "arrays":
            state = {key: tensor.numpy().copy() for key, tensor in state.items()}
        found = backbones.as_pure(bridges.flax_from_state_dict(built(case), state, case.names))
        expected = backbones.as_pure(flax)
        assert found.predict_batch is expected.predict_batch
        jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)


CHECKS = (forward, input_gradient, weight_gradient, vmap, scan)
CHECKED = ("MLP, tanh called", "CNN, channels first")


@pytest.mark.usefixtures("x64")
class TestPortedModels:
    @pytest.mark.parametrize(
        "name", [n if n in CHECKED else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
    )
    def test_transformations(self, name):
        case = CASES[name]
        module, model = ported(name)
        for check in CHECKS:
            error = check(model, as_called(case, module), case.shape, "float64")
            assert error < TOLERANCE, f"{check.__name__}: {error:.1e}"

    @every_case
    def test_saved_and_loaded(self, name, tmp_path, rng):
        _, model = ported(name)
        bridges.save(model, tmp_path / "model.npz")
        loaded = bridges.load(tmp_path / "model.npz")
        x = rng.standard_normal((4, *CASES[name].shape))
        value, again = (m.predict_batch(m.params, x) for m in (model, loaded))
        np.testing.assert_array_equal(value, again)

    @every_case
    def test_equal_architectures_share_functions(self, name):
        case = CASES[name]
        module, model = ported(name)
        other = made(case.make, seed=1)
        again = bridges.from_torch(other, np.zeros((2, *case.shape)), method="port")
        assert again.predict is model.predict
        assert again.predict_batch is model.predict_batch
        key = next(iter(dict(module.named_parameters())))
        assert not np.array_equal(again.params[key], model.params[key])

    def test_loaded_ones_too(self, tmp_path):
        _, model = ported("CNN, channels first")
        bridges.save(model, tmp_path / "model.npz")
        assert bridges.load(tmp_path / "model.npz").predict is model.predict


def test_parameters_are_named_as_in_torch():
    module, model = ported("LSTM, time first")
    assert model.params.keys() == dict(module.named_parameters()).keys()
    assert all(type(value) is np.ndarray for value in model.params.values())


def test_the_precision_is_the_modules_or_the_one_asked_for():
    module = made(lambda: perceptron(nn.SiLU(), nn.SiLU())).float()
    kinds = {p.dtype.name for p in bridges.from_torch(module, method="port").params.values()}
    assert kinds == {"float32"}
    with jax.enable_x64(True):
        wide = bridges.flax_from_torch(module, dtype="float64")
    assert wide.head.kernel.dtype == np.float64


def test_the_module_is_left_alone():
    module = perceptron(nn.ReLU(), nn.ReLU()).train()
    module[0].eval()
    weights = copy.deepcopy(module.state_dict())
    modes = [part.training for part in module.modules()]
    random_state = torch.get_rng_state()
    for convert in (
        bridges.flax_from_torch,
        functools.partial(bridges.from_torch, method="port"),
    ):
        convert(module)
        assert torch.equal(torch.get_rng_state(), random_state)
        assert [part.training for part in module.modules()] == modes
        assert all("forward" not in vars(part) for part in module.modules())
        assert all(parameter.grad is None for parameter in module.parameters())
        for name, value in module.state_dict().items():
            assert torch.equal(value, weights[name])


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


class LoopedLSTM(nn.Module):
    """An LSTM as a loop over time."""

    def __init__(self, units=4):
        super().__init__()
        self.cell, self.read_out = nn.LSTMCell(C, units), nn.Linear(units, 2)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], self.cell.hidden_size)
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
        return self.read_out(h)


class Halved(LoopedLSTM):
    def forward(self, x):
        return super().forward(x) / 2


class Renamed(LoopedLSTM):
    """The same forward."""


class Within(nn.Module):
    """Parts before and after, and the recurrence twice."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(C)
        self.parts = nn.ModuleList([LoopedLSTM(), Renamed()])
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        x = self.norm(x)
        return self.head(torch.cat([part(x) for part in self.parts], dim=-1)).squeeze(-1)


LOOPED = f"{__name__}.LoopedLSTM"
KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
NAMES = {f"lstm.{kind}_l0": f"cell.{kind}" for kind in KINDS} | {"head": "read_out"}


def registration(module, **options):
    sizes = {"input_shape": (W, C), "outputs": 2, "units": module.cell.hidden_size}
    return bridges.Registration("lstm", sizes | options, NAMES)


@pytest.fixture
def register(monkeypatch):
    """`register_port` for the test only."""
    monkeypatch.setattr(_rewrites, "_PORTS", dict(_rewrites._PORTS))
    return bridges.register_port(LOOPED)


def equations_and_scans(module, **settings):
    """How many are in the gradient."""
    model = bridges.from_torch(module, np.zeros((2, W, C)), check=False, **settings)
    found = equations_of_gradient(model, (W, C))
    return len(found), sum(equation.primitive.name == "scan" for equation in found)


@pytest.mark.usefixtures("x64")
class TestRegistration:
    @pytest.mark.parametrize(
        "make", [LoopedLSTM, pytest.param(Within, marks=pytest.mark.slow)], ids=["alone", "within"]
    )
    def test_a_backbone_runs_in_place_of_the_module(self, register, make):
        register(registration)
        module = made(make)
        model = bridges.from_torch(module, np.zeros((2, W, C)), check=False)
        for check in (forward, input_gradient, weight_gradient):
            assert check(model, module, (W, C), "float64") < TOLERANCE

    def test_the_loop_is_not_written_out(self, register):
        register(registration)
        written_out, without = equations_and_scans(made(LoopedLSTM), method="export")
        found, scans = equations_and_scans(made(LoopedLSTM))
        assert without == 0
        assert scans >= 2  # there and back
        assert found < written_out / 2

    def test_saved_and_loaded(self, register, tmp_path, rng):
        register(registration)
        model = bridges.from_torch(made(Within), np.zeros((2, W, C)), check=False)
        bridges.save(model, tmp_path / "model.npz")
        loaded = bridges.load(tmp_path / "model.npz")
        x = rng.standard_normal((4, W, C))
        values = (m.predict_batch(m.params, x) for m in (model, loaded))
        np.testing.assert_array_equal(*values)

    def test_settings_that_no_backbone_has(self, register):
        seen = []
        register(lambda module: seen.append(module))
        assert equations_and_scans(made(LoopedLSTM))[1] == 0
        assert [type(module) for module in seen] == [LoopedLSTM]

    def test_a_subclass_with_its_own_forward_is_traced(self, register):
        register(registration)
        assert equations_and_scans(made(Halved))[1] == 0

    def test_another_computation_is_told(self, register):
        bridges.register_port(f"{__name__}.Halved")(registration)
        with pytest.raises(UnsupportedError, match="in JAX its output differs"):
            bridges.from_torch(made(Halved), np.zeros((2, W, C)))

    def test_parameters_that_the_module_lacks(self, register):
        register(lambda module: registration(module)._replace(names={}))
        with pytest.raises(UnsupportedError, match=r"LoopedLSTM.*lstm"):
            bridges.from_torch(made(LoopedLSTM), np.zeros((2, W, C)))

    def test_the_module_is_left_alone(self, register):
        register(registration)
        module = Within().train()
        bridges.from_torch(module, np.zeros((2, W, C)), check=False)
        assert all(part.training for part in module.modules())
        assert all("forward" not in vars(part) for part in module.modules())
        assert module(torch.zeros(2, W, C)).shape == (2,)
