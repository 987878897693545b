"""Layers, products and control flow of the bridge against torch, and that no rule is untried."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
F, nn = torch.nn.functional, torch.nn

from denograd_jax.bridges._registry import supported_ops
from denograd_jax.bridges.aten import _products
from tests import test_bridges_ops as ops
from tests.torch_oracle import compare, converted, names_of_operations, on

pytestmark = pytest.mark.slow  # minutes in all; CI runs it


def _used(layer):
    """With other running statistics than those it began with."""
    with torch.no_grad():
        for buffer in layer.buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return layer


class _SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.layer(x, x, x)


class _Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x):
        return self.layer(x, x[:, :2])


MATRIX, SERIES, IMAGE = on((3, 4)), on((3, 4, 10)), on((3, 4, 6, 7))
SQUARE, PAIR, ROW = on((3, 4, 4)), on((3, 4), (3, 4), fixed=True), on((3, 4), (4,))
FIXED = on((3, 4), fixed=True)
FAMILIES = {}
FAMILIES["products"] = {
    "linear": on((3, 4), (5, 4), (5,))(F.linear),
    "linear of steps": on((3, 7, 4), (5, 4))(F.linear),
    "linear of one": on((3, 4), (4,))(lambda x, w: F.linear(x, w)),
    "linear permuted": on((3, 4, 7), (5, 4), (5,))(lambda x, w, b: F.linear(x.mT, w, b)),
    "matmul": on((3, 5, 4), (4, 2))(torch.matmul),
    "matmul of vectors": on((3, 4), (4,))(lambda x, y: (x @ y, y @ y, y @ x.T)),
    "mm": on((3, 4), (4, 2))(lambda x, y: (torch.mm(x, y), torch.mv(y.T, x[0]))),
    "bmm": SQUARE(lambda x: torch.bmm(x, x.mT)),
    "dot": on((4,), (4,), fixed=True)(lambda x, y: (x.dot(y), x.vdot(y), x.outer(y), x.ger(y))),
    "inner": ROW(lambda x, y: (x.inner(y), torch.kron(x[0], y), torch.tensordot(x, x, 2))),
    "addmm": on((3, 4), (4, 2), (2,))(lambda x, y, b: torch.addmm(b, x, y, beta=0.5, alpha=2)),
    "addmv": on((3, 4), (4,))(lambda x, y: torch.addmv(x[:, 0], x, y)),
    "baddbmm": SQUARE(lambda x: (torch.baddbmm(x, x, x, beta=0), torch.baddbmm(x, x, x))),
    "chain": SQUARE(lambda x: torch.chain_matmul(x[0], x[1])),
    "einsum": on((3, 5, 4), (4, 2))(
        lambda x, w: (
            torch.einsum("btc,cd->btd", x, w),
            torch.einsum("b t c, b s c -> b t s", x, x),
            torch.einsum("...c,cd", x, w),
            torch.einsum("btc->b", x),
        )
    ),
    "einsum capital": SQUARE(lambda x: torch.einsum("bTC,bCS->bTS", x, x)),
    "bilinear": on((3, 4), (5, 4, 4), (5,))(lambda x, w, b: F.bilinear(x, 2 * x, w, b)),
    "cdist": on((3, 5, 4), (6, 4))(
        lambda x, y: [torch.cdist(x, y, p=p) for p in (1, 2, 3, np.inf)]
    ),
    "weight_norm": nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    "spectral_norm": nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)).eval(),
    "fft": SERIES(
        lambda x: (torch.fft.rfft(x).abs(), torch.fft.fft(x, norm="ortho"), torch.fft.rfft2(x))
    ),
    "inverse fft": SERIES(
        lambda x: (
            torch.fft.irfft(torch.fft.rfft(x)[..., :3], n=10),
            torch.fft.ifft(torch.fft.fft(x, dim=1), dim=1),
            torch.fft.irfft(torch.fft.rfft(x, norm="forward"), norm="ortho"),
            torch.fft.irfft2(torch.fft.rfft2(x)),
            torch.fft.hfft(torch.fft.ihfft(x)),
        )
    ),
    "fft of two axes": SERIES(lambda x: (torch.fft.fft2(x), torch.fft.fftshift(x))),
}
FAMILIES["layers"] = {
    "conv1d": on((3, 4, 10), (6, 4, 3), (6,))(
        lambda x, w, b: (F.conv1d(x, w, b), F.conv1d(x, w, stride=2, padding=1, dilation=2))
    ),
    "conv1d groups": on((3, 4, 10), (8, 2, 3))(lambda x, w: F.conv1d(x, w, groups=2, padding=2)),
    "conv1d depthwise": on((3, 4, 10), (4, 1, 4))(
        lambda x, w: F.conv1d(x, w, groups=4, padding="same", dilation=3)
    ),
    "conv1d named": on((3, 4, 10), (6, 4, 4))(
        lambda x, w: (F.conv1d(x, w, padding="same"), F.conv1d(x, w, padding="valid", stride=3))
    ),
    "conv1d of one": on((3, 4, 10), (6, 4, 3))(lambda x, w: F.conv1d(x[0], w)),
    "conv2d": on((3, 4, 6, 7), (2, 4, 3, 2), (2,))(
        lambda x, w, b: F.conv2d(x, w, b, stride=(2, 1), padding=(1, 0), dilation=(1, 2))
    ),
    "conv2d named": on((3, 4, 6, 7), (4, 2, 3, 2))(
        lambda x, w: F.conv2d(x, w, padding="same", groups=2)
    ),
    "conv3d": on((3, 2, 3, 4, 5), (3, 2, 2, 2, 2))(
        lambda x, w: (F.conv3d(x, w), F.conv3d(x, w, padding="same"))
    ),
    "circular": SERIES(nn.Conv1d(4, 2, 3, padding=1, padding_mode="circular")),
    "cell": nn.LSTMCell(4, 3),
    "conv_transpose1d": on((3, 4, 10), (4, 3, 4), (3,))(
        lambda x, w, b: (
            F.conv_transpose1d(x, w, b),
            F.conv_transpose1d(x, w, stride=3, padding=1, output_padding=2, dilation=2),
        )
    ),
    "conv_transpose1d groups": on((3, 4, 10), (4, 3, 4))(
        lambda x, w: F.conv_transpose1d(x, w, groups=2, padding=5)
    ),
    "conv_transpose2d": on((3, 4, 6, 7), (4, 2, 3, 2))(
        lambda x, w: F.conv_transpose2d(x, w, stride=(2, 1), padding=(1, 0), groups=2)
    ),
    "conv_transpose3d": on((3, 2, 3, 4, 5), (2, 3, 2, 2, 2))(F.conv_transpose3d),
    "layer_norm": on((3, 5, 4), (4,), (4,))(
        lambda x, w, b: (F.layer_norm(x, (4,), w, b), F.layer_norm(x, (5, 4)))
    ),
    "rms_norm": on((3, 5, 4), (4,))(
        lambda x, w: (F.rms_norm(x, (4,), w), F.rms_norm(x, (5, 4), eps=1e-3))
    ),
    "group_norm": on((3, 4, 10), (4,), (4,))(
        lambda x, w, b: (F.group_norm(x, 2, w, b), F.group_norm(x, 4, eps=1e-3))
    ),
    "batch_norm": SERIES(_used(nn.BatchNorm1d(4))),
    "batch_norm2d": IMAGE(_used(nn.BatchNorm2d(4, affine=False))),
    "instance_norm": SERIES(lambda x: F.instance_norm(x)),
    "instance_norm affine": SERIES(nn.InstanceNorm1d(4, affine=True)),
    "instance_norm tracked": SERIES(_used(nn.InstanceNorm1d(4, track_running_stats=True))),
    "local response": IMAGE(nn.LocalResponseNorm(2)),
    "embedding": lambda x: F.embedding(x.argsort(1), x.T.contiguous() @ x),
    "upsample": SERIES(lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
    "interpolate linear": SERIES(lambda x: F.interpolate(x, 7, mode="linear")),
    "huber": ROW(lambda x, y: (F.huber_loss(x, y.expand_as(x)), F.mse_loss(x, y.expand_as(x)))),
}
FAMILIES["pools"] = {
    "max_pool1d": SERIES(
        lambda x: (
            F.max_pool1d(x, 3),
            F.max_pool1d(x, 3, 2, 1, 2),
            F.max_pool1d(x, 4, 3, ceil_mode=True),
        )
    ),
    "max_pool1d with indices": SERIES(lambda x: F.max_pool1d(x, 2, return_indices=True)[0]),
    "max_pool2d": IMAGE(
        lambda x: (F.max_pool2d(x, 2), F.max_pool2d(x, (3, 2), (2, 3), (1, 1), ceil_mode=True))
    ),
    "max_pool3d": on((3, 2, 3, 4, 5))(lambda x: F.max_pool3d(x, 2, 1)),
    "avg_pool1d": SERIES(
        lambda x: (
            F.avg_pool1d(x, 3),
            F.avg_pool1d(x, 4, 3, 2, ceil_mode=True),
            F.avg_pool1d(x, 3, 1, 1, count_include_pad=False),
        )
    ),
    "avg_pool1d both": SERIES(
        lambda x: F.avg_pool1d(x, 4, 3, 2, ceil_mode=True, count_include_pad=False)
    ),
    "avg_pool2d": IMAGE(
        lambda x: (F.avg_pool2d(x, (3, 2), padding=1), F.avg_pool2d(x, 2, divisor_override=3))
    ),
    "avg_pool2d ceil": IMAGE(lambda x: F.avg_pool2d(x, 3, 2, 1, True, False)),
    "avg_pool3d": on((3, 2, 3, 4, 5))(lambda x: F.avg_pool3d(x, 2, 1, 1)),
    "lp_pool": SERIES(lambda x: F.lp_pool1d(x.abs(), 2, 3)),
    "adaptive_avg": SERIES(lambda x: [F.adaptive_avg_pool1d(x, n) for n in (1, 3, 10, 13)]),
    "adaptive_avg 2d": IMAGE(
        lambda x: (F.adaptive_avg_pool2d(x, (2, 3)), F.adaptive_avg_pool2d(x, 1))
    ),
    "adaptive_avg 2d kept": IMAGE(lambda x: F.adaptive_avg_pool2d(x, (None, 2))),
    "adaptive_avg 3d": on((3, 2, 3, 4, 5))(lambda x: F.adaptive_avg_pool3d(x, (2, 3, 2))),
    "adaptive_max": SERIES(lambda x: [F.adaptive_max_pool1d(x, n) for n in (1, 3, 10)]),
    "adaptive_max 2d": IMAGE(lambda x: F.adaptive_max_pool2d(x, (2, 3))),
    "pool of one": SERIES(lambda x: (F.max_pool1d(x[0], 3), F.avg_pool1d(x[0], 2))),
}
QKV = on((3, 2, 5, 4), (2, 6, 4), (2, 6, 3))
attend = F.scaled_dot_product_attention
FAMILIES["attention"] = {
    "plain": QKV(
        lambda q, k, v: attend(q, k.expand(q.shape[0], 2, 6, 4), v.expand(q.shape[0], 2, 6, 3))
    ),
    "causal": SERIES(lambda x: attend(x, x, x, is_causal=True, scale=0.3)),
    "causal of two lengths": SERIES(lambda x: attend(x[:, :3], x, x, is_causal=True)),
    "boolean mask": SERIES(lambda x: attend(x, x, x, torch.ones(4, 4).tril().bool())),
    "nothing to see": SERIES(lambda x: attend(x, x, x, torch.ones(4, 4).tril(-1).bool())),
    "added mask": on((3, 2, 5, 4), (5, 5))(lambda x, m: attend(x, x, x, m)),
    "infinite mask": SERIES(lambda x: attend(x, x, x, torch.ones(4, 4).mul(-np.inf).triu(1))),
    "groups of queries": on((3, 4, 5, 4))(lambda x: attend(x, x[:, :2], x[:, 2:], enable_gqa=True)),
    "multi-head": on((3, 5, 4))(_SelfAttention()),
    "encoder layer": on((3, 5, 4))(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)),
    "decoder layer": on((3, 5, 4))(_Decoder()),
}
FAMILIES["recurrent"] = {
    name: on((3, 5, 4))(layer)
    for name, layer in {
        "lstm": nn.LSTM(4, 3, batch_first=True),
        "lstm of layers": nn.LSTM(4, 3, 2, bidirectional=True),
        "lstm projected": nn.LSTM(4, 5, proj_size=2, batch_first=True, bias=False),
        "gru": nn.GRU(4, 3, 2, batch_first=True),
        "gru of two directions": nn.GRU(4, 3, bidirectional=True, bias=False),
        "rnn": nn.RNN(4, 3, 2, batch_first=True),
        "rnn relu": nn.RNN(4, 3, nonlinearity="relu"),
    }.items()
}
FAMILIES["recurrent functions"] = {
    "lstm": on((3, 5, 4), (1, 3, 2), (1, 3, 2), (8, 4), (8, 2), (8,), (8,), fixed=True)(
        lambda x, h, c, *w: torch.lstm(x, (h, c), w, True, 1, 0.0, False, False, True)
    ),
    "gru": on((3, 5, 4), (1, 3, 2), (6, 4), (6, 2), fixed=True)(
        lambda x, h, *w: torch.gru(x, h, w, False, 1, 0.0, False, False, True)
    ),
    "rnn": on((3, 5, 4), (1, 3, 2), (2, 4), (2, 2), fixed=True)(
        lambda x, h, *w: (
            *torch.rnn_tanh(x, h, w, False, 1, 0.0, False, False, True),
            *torch.rnn_relu(x, h, w, False, 1, 0.0, False, False, True),
        )
    ),
}
FAMILIES["branches"] = {
    "cond": FIXED(lambda x: torch.cond(x.sum() > 0, lambda a: a.sin(), lambda a: a * 2, (x,))),
    "cond of two": PAIR(
        lambda x, y: torch.cond(
            x[0, 0] > 0, lambda a, b: (a * b, a + 1), lambda a, b: (a.sin(), b * 2), (x, y)
        )
    ),
    "while a size": lambda x: x * x.shape[0] + x.numel() / 2,
}

# What torch's own decomposition changes, or for which there is no rule after it.
NOT_IN_CORE = (
    "bilinear",  # _trilinear
    "nothing to see",  # a row of softmax without a number: NaN in torch's gradient, too
)


@functools.cache
def program(family, dtype):
    return converted(FAMILIES[family], dtype)


@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients_are_those_of_torch(family, dtype):
    found = program(family, dtype.name)
    compare(found, FAMILIES[family], dtype.name, mapped=dtype == np.float64)


@functools.cache
def core_program(family):
    cases = {n: c for n, c in FAMILIES[family].items() if n not in NOT_IN_CORE}
    return converted(cases, "float64", core=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_of_graphs_of_core_operations_too(family, x64):
    cases = {n: c for n, c in FAMILIES[family].items() if n not in NOT_IN_CORE}
    compare(core_program(family), cases, "float64")


@pytest.mark.parametrize("most", [0, 2**22])
@pytest.mark.parametrize(
    "settings",
    [{}, {"stride": 3, "padding": 2, "dilation": 2}, {"padding": "same"}, {"stride": 2}],
    ids=str,
)
def test_convolutions_by_products_and_by_xla(most, settings, x64, monkeypatch):
    monkeypatch.setattr(_products, "_TAPS", most)
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=size) for size in ((3, 4, 11), (6, 4, 3), (6,)))
    named = isinstance(settings.get("padding"), str)
    rule = _products.conv_with_named_padding if named else _products.conv
    given = {k: v if isinstance(v, str) else (v,) for k, v in settings.items()}

    def total(x):
        return (rule(x, jnp.asarray(w), jnp.asarray(b), **given) ** 2).sum()

    inputs = torch.tensor(x, requires_grad=True)
    expected = F.conv1d(inputs, torch.tensor(w), torch.tensor(b), **settings)
    (expected**2).sum().backward()
    with jax.numpy_rank_promotion("allow"):  # as programs run
        found, slope = rule(jnp.asarray(x), w, b, **given), jax.grad(total)(jnp.asarray(x))
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(slope, inputs.grad, rtol=1e-10, atol=1e-12)


# This version of PyTorch decomposes them itself wherever a gradient may be asked, others need not.
UNTRIED = {
    "aten._conj_physical",
    "aten._convolution",
    "aten._fused_rms_norm",
    "aten._prelu_kernel",
    "aten._reshape_alias",
    "aten._safe_softmax",
    "aten._weight_norm_interface",
    "aten.binary_cross_entropy",  # tests/test_bridges_edges.py
    "aten.detach_",
    "aten.empty_permuted",
    "aten.hardshrink",
    "aten.lift_fresh",
    "aten.lift_fresh_copy",
    "aten.log_sigmoid_forward",
    "aten.native_dropout",
    "aten.reflection_pad1d",
    "aten.reflection_pad2d",
    "aten.reflection_pad3d",
    "aten.replication_pad1d",
    "aten.replication_pad2d",
    "aten.replication_pad3d",
    "aten.softshrink",
    "aten.sym_numel.default",
}


def test_no_rule_is_untried(x64):
    rules = {name for name in supported_ops() if name.startswith("aten.")}
    called = set()
    for family in ops.FAMILIES:
        called |= names_of_operations(ops.program(family, "float64").program)
        called |= names_of_operations(ops.core_program(family).program)
    for family in FAMILIES:
        called |= names_of_operations(program(family, "float64").program)
        called |= names_of_operations(core_program(family).program)
    tried = {name if name in rules else name.rpartition(".")[0] for name in called}
    assert rules - tried == UNTRIED
