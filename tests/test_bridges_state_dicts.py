"""Weights of Flax backbones in plain PyTorch twins, and what is wrong with a state_dict."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

from denograd_jax import backbones, bridges
from denograd_jax.errors import BackboneError, ModelError, UnsupportedError

F, nn = torch.nn.functional, torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's

D, W, C, Q = 5, 7, 3, 2


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](C, 64, batch_first=True)
        self.kind = kind
        self.add_module(kind, layer)
        self.head = nn.Linear(64, Q)

    def forward(self, x):
        return self.head(self.get_submodule(self.kind)(x)[0][:, -1])


class Convolutions(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv1d(C, 64, 3, padding="same"),
            nn.SiLU(),
            nn.Conv1d(64, 64, 3, padding="same"),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * W, Q),
        )

    def forward(self, x):
        return super().forward(x.mT)


class ConvolutionalLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(C, 64, 3, padding="same")
        self.lstm, self.head = nn.LSTM(64, 64, batch_first=True), nn.Linear(64, Q)

    def forward(self, x):
        return self.head(self.lstm(F.silu(self.conv(x.mT)).mT)[0][:, -1])


class DLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.Linear_Trend, self.Linear_Seasonal = nn.Linear(W * C, Q), nn.Linear(W * C, Q)

    def forward(self, x):
        trend = F.avg_pool1d(F.pad(x.mT, (12, 12), mode="replicate"), 25, 1).mT
        return self.Linear_Trend(trend.flatten(1)) + self.Linear_Seasonal((x - trend).flatten(1))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(C, 32), nn.Linear(32, Q)
        layer = nn.TransformerEncoderLayer(
            32, 4, 64, activation=F.silu, norm_first=True, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(32), enable_nested_tensor=False)

    def forward(self, x):
        angles = [[t / 10_000 ** (k // 2 * 2 / 32) for k in range(32)] for t in range(W)]
        waves = [[(math.sin, math.cos)[k % 2](a) for k, a in enumerate(row)] for row in angles]
        return self.head(self.encoder(self.embed(x) + torch.tensor(waves, dtype=x.dtype))[:, -1])


def feature_tokens():
    """The authors' FT-Transformer, of numbers alone."""
    rtdl = pytest.importorskip("rtdl_revisiting_models")

    class OfNumbers(rtdl.FTTransformer):
        def forward(self, x):
            return super().forward(x, None)

    return OfNumbers(
        n_cont_features=D,
        cat_cardinalities=[],
        d_out=Q,
        n_blocks=2,
        d_block=32,
        attention_n_heads=4,
        attention_dropout=0.0,
        ffn_d_hidden=42,
        ffn_d_hidden_multiplier=None,
        ffn_dropout=0.0,
        residual_dropout=0.0,
    )


class OnWindows(nn.Module):
    """A network and a linear map of the whole window."""

    def __init__(self, network):
        super().__init__()
        self.network, self.linear = network, nn.Linear(W * C, Q)

    def forward(self, x):
        return self.network(x) + self.linear(x.flatten(1))


def perceptron(*widths):
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return layers[:-1]


class Flat(nn.Sequential):
    def forward(self, x):
        return super().forward(x.flatten(1))


TWINS = {
    ("rows", "mlp"): lambda: nn.Sequential(*perceptron(D, 128, 64, 32, Q)),
    ("rows", "linear"): lambda: nn.Sequential(nn.Linear(D, Q)),
    ("rows", "ft_transformer"): feature_tokens,
    ("windows", "mlp"): lambda: OnWindows(Flat(*perceptron(W * C, 128, 64, Q))),
    ("windows", "linear"): lambda: Flat(nn.Linear(W * C, Q)),
    ("windows", "lstm"): lambda: OnWindows(Recurrent("lstm")),
    ("windows", "gru"): lambda: OnWindows(Recurrent("gru")),
    ("windows", "cnn"): lambda: OnWindows(Convolutions()),
    ("windows", "cnn_lstm"): lambda: OnWindows(ConvolutionalLSTM()),
    ("windows", "dlinear"): DLinear,
    ("windows", "transformer"): lambda: OnWindows(Encoder()),
}
FAST = (("windows", "mlp"), ("windows", "lstm"), ("windows", "dlinear"), ("windows", "transformer"))
ELSEWHERE = {("windows", "xlstm")}  # whose twin is a package: test_bridges_xlstm.py


def built(name, shape, dtype=np.float32, seed=0, **options):
    """A backbone with random weights."""
    rng = np.random.default_rng(seed)
    given = {"input_shape": shape, "outputs": Q} | options
    module = nnx.eval_shape(lambda: backbones.build(name, rngs=nnx.Rngs(0), **given))
    state = nnx.state(module, nnx.Param)
    drawn = jax.tree.map(lambda a: jnp.asarray(0.3 * rng.standard_normal(a.shape), dtype), state)
    nnx.update(module, drawn)
    return module


def tensors(state):
    return {name: torch.from_numpy(array) for name, array in state.items()}


def test_every_backbone_has_a_twin():
    every = {(kind, name) for kind in ("rows", "windows") for name in backbones.names(kind)}
    assert every == TWINS.keys() | ELSEWHERE


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("kind", "name"),
    [twin if twin in FAST else pytest.param(*twin, marks=pytest.mark.slow) for twin in TWINS],
)
def test_a_plain_twin_computes_the_same_with_the_weights(kind, name, rng):
    shape = (D,) if kind == "rows" else (W, C)
    module, twin = built(name, shape, np.float64), TWINS[kind, name]().double().eval()
    twin.load_state_dict(tensors(bridges.state_dict_from_flax(module)))
    x = rng.standard_normal((4, *shape))
    with torch.no_grad():
        expected = twin(torch.tensor(x)).numpy()
    found = jax.jit(lambda x: module(x))(jnp.asarray(x))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_there_and_back_without_pytorch():
    """For what has no twin here."""
    module = built("xlstm", (W, C), width=8, heads=2)
    state = bridges.state_dict_from_flax(module)
    other = built("xlstm", (W, C), seed=1, width=8, heads=2)
    back = bridges.flax_from_state_dict(other, state)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(back), nnx.state(module))
    again = bridges.state_dict_from_flax(back)
    assert again.keys() == state.keys()
    for key, array in state.items():
        np.testing.assert_array_equal(again[key], array)


def test_the_second_bias_of_an_lstm_is_zero_and_both_are_read():
    module = built("lstm", (W, C), units=4, linear_path=False)
    state = bridges.state_dict_from_flax(module)
    assert not state["lstm.bias_hh_l0"].any()
    assert state["lstm.bias_ih_l0"].any()
    state["lstm.bias_hh_l0"] = np.float32(2.5) - state["lstm.bias_ih_l0"]
    bias = bridges.flax_from_state_dict(module, state).layers[0].bias[...]
    np.testing.assert_allclose(bias, 2.5, rtol=1e-6)


def test_arrays_are_copies():
    module = built("mlp", (D,), widths=(4,))
    before = np.array(module.head.kernel[...])
    for array in bridges.state_dict_from_flax(module).values():
        array[...] = 0
    np.testing.assert_array_equal(module.head.kernel[...], before)
    state = bridges.state_dict_from_flax(module)
    copy = bridges.flax_from_state_dict(module, {k: 0 * v for k, v in state.items()})
    assert copy is not module
    assert not np.asarray(copy.head.kernel[...]).any()
    np.testing.assert_array_equal(module.head.kernel[...], before)


def test_other_names_with_and_without_a_prefix():
    module = built("lstm", (W, C), units=4, linear_path=False)
    names = {"lstm": "net.rnn", "lstm.bias_hh_l0": "net.extra", "head": ""}
    state = bridges.state_dict_from_flax(module, names)
    own = {"net.rnn.weight_ih_l0", "net.rnn.weight_hh_l0", "net.rnn.bias_ih_l0", "net.extra"}
    assert state.keys() == own | {"weight", "bias"}
    back = bridges.flax_from_state_dict(module, state, names)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(back), nnx.state(module))


def test_buffers_that_no_parameter_needs():
    module = built("mlp", (D,), widths=(4,))
    state = bridges.state_dict_from_flax(module)
    more = {"scale": np.ones(3), "count": torch.tensor(3), "mask": torch.ones(2, dtype=torch.bool)}
    back = bridges.flax_from_state_dict(module, state | more)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(back), nnx.state(module))


def test_parameters_that_need_a_gradient():
    module = built("mlp", (D,), widths=(4,))
    state = tensors(bridges.state_dict_from_flax(module))
    wanting = {name: nn.Parameter(tensor) for name, tensor in state.items()}
    back = bridges.flax_from_state_dict(module, wanting)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(back), nnx.state(module))


def test_tensors_of_half_precision():
    module = built("mlp", (D,), widths=(4,))
    state = {k: t.bfloat16() for k, t in tensors(bridges.state_dict_from_flax(module)).items()}
    assert bridges.flax_from_state_dict(module, state).head.kernel.dtype == jnp.bfloat16


def test_missing_tensors_are_named():
    module = built("gru", (W, C), units=4, linear_path=False)
    state = bridges.state_dict_from_flax(module, {"gru": "rnn"})
    with pytest.raises(
        ModelError, match=r"no gru\.bias_hh_l0, .*gru\.weight_ih_l0; it has .*rnn\..*names=\{"
    ):
        bridges.flax_from_state_dict(module, state)
    del state["head.bias"]
    with pytest.raises(ModelError, match=r"the state_dict has no head\.bias; it has head\.weight"):
        bridges.flax_from_state_dict(module, state, {"gru": "rnn"})


SMALL = {"mlp": {"widths": (4,)}, "cnn": {"widths": (4,)}, "lstm": {"units": 4}}
OTHER_SIZES = {
    "MLP, width": ("mlp", {"widths": (6,)}, r"0\.weight .*\(4, 21\).* \(6, 21\)"),
    "LSTM, units": ("lstm", {"units": 5}, r"lstm\.weight_ih_l0.*\(16, 3\).* \(20, 3\)"),
    "CNN, kernel": (
        "cnn",
        {"widths": (4,), "kernel_size": 5},
        r"0\.weight .*\(4, 3, 3\).*\(4, 3, 5\)",
    ),
}


@pytest.mark.parametrize("case", OTHER_SIZES)
def test_other_sizes_are_explained(case):
    name, options, message = OTHER_SIZES[case]
    state = bridges.state_dict_from_flax(built(name, (W, C), linear_path=False, **SMALL[name]))
    module = built(name, (W, C), linear_path=False, **options)
    with pytest.raises(ModelError, match=f"{message}.*sizes of the PyTorch module"):
        bridges.flax_from_state_dict(module, state)


MALFORMED = {
    "CNN, filters": ("cnn", {"widths": (5,)}, {}),
    "CNN, kernel of two axes": ("cnn", {"widths": (4,)}, {"0.weight": np.zeros((4, 3))}),
    "LSTM, one of two": ("lstm", {"units": 4}, {"lstm.weight_hh_l0": np.zeros((20, 5))}),
    "LSTM, columns exchanged": (
        "lstm",
        {"units": 4},
        {"lstm.weight_ih_l0": np.zeros((16, 4)), "lstm.weight_hh_l0": np.zeros((16, 3))},
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_tensors_of_other_shapes_are_explained(case):
    name, options, wrong = MALFORMED[case]
    state = bridges.state_dict_from_flax(built(name, (W, C), linear_path=False, **SMALL[name]))
    module = built(name, (W, C), linear_path=False, **options)
    with pytest.raises(ModelError, match="shape"):
        bridges.flax_from_state_dict(module, state | wrong)


class Foreign(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(3, 1, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.layer(x)


def test_foreign_modules_are_refused():
    for convert in (
        bridges.state_dict_from_flax,
        lambda module: bridges.flax_from_state_dict(module, {}),
    ):
        with pytest.raises(UnsupportedError, match=r"no PyTorch layout is known for Foreign"):
            convert(Foreign())


def test_activations_are_known_by_name():
    with pytest.raises(BackboneError, match="no activation 'nonsense'; choose one of silu, relu"):
        built("mlp", (D,), activation="nonsense")
