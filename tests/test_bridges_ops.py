"""Every rule of `bridges.aten` against torch: values, gradients, and both under vmap.

The functions of a family are exported together: an export takes a good part of a second.
"""

import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from tests.torch_oracle import compare, converted, on

pytestmark = pytest.mark.slow  # minutes in all; CI runs it


def _after(first, name):
    return lambda x: getattr(torch, name)(first(x))


def _assigned(x):
    y = x.clone()
    y[:, 1] = 2 * x[:, 0]
    y[..., 2:5] *= 3
    y[:, :, -1] += x[:, :, 0]
    return y


def _put(x):
    y = x.clone()
    y[[0, 1], [2, 3]] = x[2, :2]
    y[[0, -1]] += 1
    return y, x.index_put((torch.tensor([0, 0]),), x[:2], accumulate=True)


def _masked(x):
    y = x.clone()
    y[x > 0.5] = 0.25
    return y


SERIES, IMAGE = on((3, 4, 10)), on((3, 4, 6, 7))
SQUARE, PAIR, ROW = on((3, 4, 4)), on((3, 4), (3, 4), fixed=True), on((3, 4), (4,))
FIXED = on((3, 4), fixed=True)

UNARY = """abs angle asinh atan ceil conj_physical cos cosh deg2rad erf erfc exp exp2 expm1 floor
    frac neg positive rad2deg reciprocal round sgn sigmoid sign sin sinc sinh square tan tanh
    trunc"""
OF_POSITIVE = "lgamma log log10 log1p log2 rsqrt sqrt"
WITHIN_ONE = "acos asin atanh erfinv"
BINARY = """add sub mul div maximum minimum fmax fmin fmod hypot logaddexp logaddexp2 remainder
    atan2 copysign eq ne lt le gt ge logical_and logical_or logical_xor rsub isclose"""

FAMILIES = {}

FAMILIES["activations"] = {
    "relu": F.relu,
    "silu": F.silu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "prelu": on((3, 4), (1,))(F.prelu),
    "prelu of channels": on((3, 4, 2), (4,))(F.prelu),
    "rrelu": F.rrelu,
    "elu": lambda x: F.elu(x, 1.3),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.5),
    "gelu": lambda x: (F.gelu(x), F.gelu(x, approximate="tanh")),
    "mish": F.mish,
    "softplus": lambda x: F.softplus(3 * x, 2, 3),
    "softsign": F.softsign,
    "log_sigmoid": F.logsigmoid,
    "hardtanh": lambda x: F.hardtanh(x, -0.3, 0.6),
    "relu6": lambda x: F.relu6(5 * x),
    "hardsigmoid": on((3, 4), rough=True)(lambda x: F.hardsigmoid(3 * x)),
    "hardswish": lambda x: F.hardswish(3 * x),
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "tanhshrink": F.tanhshrink,
    "threshold": lambda x: F.threshold(x, 0.1, 20.0),
    "glu": lambda x: F.glu(x, 1),
    "softmax": lambda x: (F.softmax(x, 1), F.softmin(x, -1), F.log_softmax(x, -1)),
    "softmax of a type": lambda x: F.softmax(x, 1, dtype=torch.float64),
    "dropout": lambda x: F.alpha_dropout(F.dropout(x, training=False), training=False),
    "feature dropout": SERIES(
        lambda x: F.feature_alpha_dropout(F.dropout1d(x, training=False), training=False)
    ),
}
FAMILIES["elements"] = {
    **{name: getattr(torch, name) for name in UNARY.split()},
    **{name: _after(lambda x: x * x + 0.1, name) for name in OF_POSITIVE.split()},
    **{name: _after(lambda x: 0.9 * torch.tanh(x), name) for name in WITHIN_ONE.split()},
    "digamma": on((3, 4), rough=True)(lambda x: torch.digamma(x * x + 0.1)),
    "acosh": lambda x: torch.acosh(x * x + 1.1),
    "round decimals": lambda x: torch.round(x, decimals=1),
    "logit": lambda x: (torch.logit(torch.sigmoid(x)), torch.logit(torch.sigmoid(x), 0.3)),
    "nan_to_num": lambda x: torch.nan_to_num(torch.log(x), 0.5, 2.0, -2.0),
    "predicates": lambda x: [f(torch.log(x)) for f in (torch.isnan, torch.isinf, torch.isfinite)],
    "clamp": lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=-0.5), x.clamp(max=0.2), x.clip(0.1)),
    "clamp_min": lambda x: (torch.clamp_min(x, 0.1), torch.clamp_max(x, 0.2)),
    "clamp by arrays": on((3, 4), (4,), (4,))(torch.clamp),
    "in place": lambda x: (x + 0).mul_(2).add_(1).clamp_(max=2),
    "pow": lambda x: (x**2, x**3, x**-1, x.abs() ** 0.5, x**0, 2.0**x),
    "pow of arrays": ROW(lambda x, y: x.abs() ** y),
    "float_power": lambda x: torch.float_power(x.abs(), 1.5),
    "types": lambda x: (x.double(), x.half().float(), x.long(), x.bool(), x.to(torch.int32)),
    "type of another": ROW(lambda x, y: (x.double().type_as(y), x.to(y))),
    "device": lambda x: x.to("cpu", torch.float64),
    "bits": lambda x: x.float().view(torch.int32),
    "copies": lambda x: x.clone().contiguous() + x.detach() + torch.empty_like(x).copy_(x),
    "whole numbers": lambda x: [f(x.argsort(1)) for f in (torch.sqrt, torch.exp, torch.sigmoid)],
    "signs": lambda x: [f(x.argsort(1)) for f in (torch.abs, torch.neg, torch.bitwise_not)],
    "shifts": lambda x: (
        x.argsort(1) << 2,
        x.argsort(1) >> 1,
        torch.bitwise_left_shift(x.argsort(1), 2),
        torch.bitwise_right_shift(x.argsort(1), 1),
    ),
    "quotients": lambda x: (x.argsort(1) / 3, x.argsort(1) // 2, x.detach() // 0.3),
    "not": lambda x: torch.logical_not(x > 0),
}
FAMILIES["pairs"] = {
    **{name: ROW(getattr(torch, name)) for name in BINARY.split()},
    **{f"{name} of equal shapes": PAIR(getattr(torch, name)) for name in ("add", "mul", "fmod")},
    "scalars": lambda x: (x + 1, 2 - x, x * 3, x / 4, 5 / x, x - 0.5, x % 0.7, -x),
    "scalars compared": lambda x: (x == 0, x != 0, x < 0.5, x <= 0, x > 0, x >= 1),
    "alpha": ROW(lambda x, y: (x.add(y, alpha=2), x.sub(y, alpha=0.5), torch.rsub(x, 2, alpha=3))),
    "other names": ROW(lambda x, y: (x.divide(y), x.true_divide(y), x.arctan2(y))),
    "rounded": ROW(lambda x, y: [x.div(y, rounding_mode=m) for m in ("floor", "trunc", None)]),
    "fmod of a number": lambda x: (torch.fmod(x, 0.7), torch.remainder(x, -0.7)),
    "masks": ROW(lambda x, y: ((x > 0) & (y > 0), (x > 0) | (y > 0), (x > 0) ^ (y > 0), ~(x > 0))),
    "where": ROW(lambda x, y: (torch.where(x > 0, x, y), torch.where(x > 0, x, 0.5))),
    "masked_fill": ROW(lambda x, y: (x.masked_fill(x > 0, -1.5), x.masked_fill(y > 0, 2))),
    "lerp": ROW(lambda x, y: (torch.lerp(x, y, 0.3), torch.lerp(x, y, x))),
    "addcmul": ROW(lambda x, y: torch.addcmul(x, x, y, value=0.5)),
    "addcdiv": ROW(lambda x, y: torch.addcdiv(x, x, y, value=0.5)),
    "xlogy": ROW(lambda x, y: (torch.xlogy(x, y.abs()), torch.special.xlogy(2.0, y.abs()))),
    "complex": PAIR(lambda x, y: (torch.complex(x, y).abs(), torch.polar(x.abs(), y))),
    "complex parts": PAIR(
        lambda x, y: (
            (torch.complex(x, y).conj() * torch.complex(y, x)).real + torch.complex(x, y).imag
        )
    ),
    "complex views": on((3, 4, 2))(lambda x: torch.view_as_real(torch.view_as_complex(x) ** 2)),
    "angle of complex": PAIR(lambda x, y: (torch.complex(x, y).angle(), torch.complex(x, y).sgn())),
    "mixed types": ROW(lambda x, y: (x * y.double(), x + (y > 0), x.argsort(1) * 0.5)),
}
AXES = ((), 1, (0, 1), -1)
FAMILIES["reductions"] = {
    "sum": lambda x: [x.sum(dim=a, keepdim=True) for a in AXES],
    "sum of all": lambda x: (x.sum(), x.sum(dtype=torch.float64), (x > 0).sum(), (x > 0).sum(1)),
    "mean": lambda x: (x.mean(), *(x.mean(dim=a) for a in AXES)),
    "nansum": lambda x: (torch.log(x).nansum(), torch.log(x).nansum(1)),
    "prod": lambda x: (x.prod(), x.prod(1), x.prod(-1, keepdim=True)),
    "var": lambda x: (x.var(), x.var(1), x.var((0, 1), unbiased=False), x.var(1, correction=0)),
    "std": lambda x: (x.std(), x.std(1), x.std((0, 1), unbiased=False), x.std(1, correction=2)),
    "var_mean": lambda x: (*torch.var_mean(x, 1), *torch.std_mean(x, (0, 1), correction=0)),
    "amax": lambda x: (x.amax(), x.amax(1), x.amin((0, 1), keepdim=True), x.amin(-1)),
    "aminmax": lambda x: (*torch.aminmax(x), *torch.aminmax(x, dim=1, keepdim=True)),
    "max": lambda x: (x.max(), x.min(), *x.max(1), *x.min(1, keepdim=True)),
    "max of two": ROW(lambda x, y: (torch.max(x, y), torch.min(x, y))),
    "median": lambda x: (x.median(), *x.median(1), *x.median(0, keepdim=True)),
    "kthvalue": lambda x: x.kthvalue(2, 1),
    "quantile": lambda x: (x.quantile(0.3, dim=1), x.quantile(0.5)),
    "argmax": lambda x: (x.argmax(), x.argmax(1), x.argmin(), x.argmin(-1, keepdim=True)),
    "all": lambda x: ((x > 0).all(), (x > 0).all(1), (x > 1).any(), (x > 1).any(1, keepdim=True)),
    "all of axes": lambda x: (torch.all(x > 0, (0, 1)), torch.any(x > 1, (0, 1))),
    "logsumexp": lambda x: (x.logsumexp(1), x.logsumexp((0, 1), keepdim=True)),
    "norm": lambda x: [torch.linalg.vector_norm(x, p, 1) for p in (0, 1, 2, 3, 0.5, -1)],
    "norm of all": lambda x: (x.norm(), torch.linalg.vector_norm(x), x.norm(3), x.norm(p=1, dim=1)),
    "norm infinite": lambda x: [torch.linalg.vector_norm(x, p, 1) for p in (np.inf, -np.inf)],
    "matrix norm": on((3, 4, 5), fixed=True)(
        lambda x: (torch.linalg.matrix_norm(x), torch.linalg.matrix_norm(x, 1))
    ),
    "normalize": lambda x: (F.normalize(x, dim=1), F.normalize(x, p=1, dim=1)),
    "dist": PAIR(lambda x, y: (torch.dist(x, y), F.pairwise_distance(x, y))),
    "cosine_similarity": ROW(lambda x, y: F.cosine_similarity(x, y, dim=1)),
    "cumsum": lambda x: (x.cumsum(1), x.cumsum(0, dtype=torch.float64), (x > 0).cumsum(1)),
    "cumprod": lambda x: x.cumprod(1),
    "logcumsumexp": lambda x: x.logcumsumexp(1),
    "cummax": lambda x: (*x.cummax(1), *x.cummin(-1)),
    "sort": lambda x: (*x.sort(1), *x.sort(0, descending=True), *x.sort(dim=-1, stable=True)),
    "argsort": lambda x: (x.argsort(1), x.argsort(-1, descending=True)),
    "topk": lambda x: (*x.topk(2, 1), *x.topk(2, 1, largest=False)),
    "count_nonzero": lambda x: (torch.count_nonzero(x > 0, 1), torch.count_nonzero(x > 0)),
    "diff": lambda x: (x.diff(dim=1), torch.trapezoid(x, dim=1), x.trace()),
    "standardised": lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-6),
}
FAMILIES["views"] = {
    "view": SERIES(lambda x: (x.view(-1, 5), x.reshape(x.shape[0], -1), x.view(x.size(0), 2, 20))),
    "view_as": on((3, 4), (2, 6), fixed=True)(lambda x, y: x.view_as(y) + x.reshape_as(y)),
    "flatten": SERIES(lambda x: (x.flatten(), x.flatten(1), x.unflatten(2, (2, 5)), x.ravel())),
    "permute": SERIES(lambda x: (x.permute(2, 0, 1), x.transpose(1, 2), x.swapaxes(0, 1), x.mT)),
    "swapdims": lambda x: (x.swapdims(0, 1), x.t(), x.T, x.adjoint()),
    "movedim": SERIES(lambda x: (x.movedim(1, 2), x.moveaxis((0, 1), (1, 2)))),
    "unsqueeze": lambda x: (x.unsqueeze(1), x.unsqueeze(-1), x[:, None], x[..., None, :]),
    "squeeze": on((3, 1, 4, 1))(lambda x: (x.squeeze(), x.squeeze(1), x.squeeze((1, 3, 2)))),
    "expand": ROW(lambda x, y: (y.expand(3, -1), y.expand_as(x), y.broadcast_to((2, 4)))),
    "broadcast_tensors": ROW(torch.broadcast_tensors),
    "repeat": lambda x: (
        x.repeat(2, 3),
        x.tile((2,)),
        x.repeat_interleave(2, 1),
        x.repeat(2, 1, 1),
    ),
    "cat": ROW(
        lambda x, y: (torch.cat([x, x * 2], 1), torch.concat([x, y[None]]), torch.hstack([x, x]))
    ),
    "cat with nothing": FIXED(lambda x: torch.cat([x, x.new_zeros(0), torch.concatenate([x])], 0)),
    "stack": lambda x: (torch.stack([x, x * 2], 1), torch.stack([x, x], -1), torch.vstack([x, x])),
    "split": SERIES(lambda x: (x.split(4, -1)[2], x.split([3, 3, 4], 2)[1], x.chunk(3, 2)[2])),
    "tensor_split": SERIES(lambda x: (x.tensor_split(4, -1)[1], x.tensor_split((2, 5), 2)[1])),
    "unsafe_split": SERIES(
        lambda x: (
            torch.unsafe_chunk(x, 2, 1)[1],
            torch.unsafe_split(x, 3, 2)[3],
            torch.unsafe_split_with_sizes(x, [4, 6], 2)[1],
        )
    ),
    "unbind": SERIES(lambda x: (x.unbind(1)[2], x.unbind(-1)[3])),
    "flip": SERIES(lambda x: (x.flip(1), x.flip((1, -1)), x.fliplr(), x.rot90(1, (1, 2)))),
    "roll": SERIES(lambda x: (x.roll(2, 2), x.roll((1, -2), (1, 2)), x.roll(3))),
    "unfold": SERIES(lambda x: (x.unfold(2, 3, 2), x.unfold(-1, 4, 1), x.unfold(1, 2, 2))),
    "im2col": IMAGE(lambda x: F.unfold(x, (2, 3), padding=1, stride=2)),
    "col2im": on((3, 8, 6))(lambda x: F.fold(x, (3, 4), (2, 2))),
    "pad": SERIES(
        lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, 0, 2, 1), value=0.5), F.pad(x, (-2, 1)))
    ),
    "pad by itself": SERIES(
        lambda x: [F.pad(x, (2, 3), m) for m in ("reflect", "replicate", "circular")]
    ),
    "pad images": IMAGE(
        lambda x: [F.pad(x, (2, 1, 0, 3), m) for m in ("reflect", "replicate", "circular")]
    ),
    "pad cut": SERIES(lambda x: [F.pad(x, (-2, 3), m) for m in ("reflect", "replicate")]),
    "pad volumes": on((3, 2, 3, 4, 3))(
        lambda x: [F.pad(x, (1, 1, 2, 0, 1, 1), m) for m in ("reflect", "replicate")]
    ),
    "diagonal": SQUARE(lambda x: (x.diagonal(dim1=1, dim2=2), x.diagonal(1, -1, -2))),
    "diag_embed": lambda x: (x.diag_embed(), x.diag_embed(1, 0, 2), x.diag_embed(-2), x[0].diag()),
    "tril": SQUARE(lambda x: (x.tril(), x.triu(1), x.tril(-1))),
    "tril_indices": FIXED(
        lambda x: (x[tuple(torch.tril_indices(3, 4, 1))], x[tuple(torch.triu_indices(3, 4))])
    ),
    "meshgrid": ROW(lambda x, y: torch.meshgrid(x[0], y, indexing="ij")),
    "meshgrid xy": ROW(lambda x, y: torch.meshgrid(x[1], y, indexing="xy")),
    "pixel_shuffle": IMAGE(lambda x: (F.pixel_shuffle(x, 2), F.channel_shuffle(x, 2))),
    "block_diag": FIXED(lambda x: (torch.block_diag(x, x), torch.cross(x[:, :3], x[:, 1:], dim=1))),
}
FAMILIES["made"] = {
    "arange": lambda x: (torch.arange(4) * x, torch.arange(1, 5.0) * x, torch.arange(8, 0, -2) + x),
    "arange of a size": lambda x: torch.arange(x.shape[0])[:, None] * x,
    "linspace": lambda x: x * torch.linspace(0, 1, 4, dtype=x.dtype),
    "full": lambda x: (
        x * torch.full((4,), 2.5),
        torch.full_like(x, 2) * x,
        x.new_full((4,), 3) * x,
    ),
    "zeros": lambda x: (x + torch.zeros(4), torch.zeros_like(x) + x, x.new_zeros(4) + x),
    "ones": lambda x: (x * torch.ones(4), torch.ones_like(x) + x, x.new_ones(x.shape[0], 1) * x),
    "empty": lambda x: (torch.empty(4).fill_(2) * x, x.new_empty(4).fill_(0.5) * x),
    "empty_strided": lambda x: torch.empty_strided((4,), (1,)).fill_(2) * x,
    "scalar_tensor": lambda x: x * torch.tensor(2.5) + torch.scalar_tensor(0.5),
    "constant": lambda x: x * torch.tensor([1.0, 2.0, 0.5, -1.0], dtype=x.dtype),
    "eye": lambda x: (x @ torch.eye(4, dtype=x.dtype), x @ torch.eye(4, 2, dtype=x.dtype)),
    "one_hot": lambda x: F.one_hot(x.argmax(1), 4) * x,
    "mask of windows": SQUARE(lambda x: x.masked_fill(torch.ones(4, 4).triu(1).bool(), 0.0)),
}
FAMILIES["parts"] = {
    "select": SERIES(lambda x: (x[:, 1], x[:, -1], x[..., 0], x[0], x.select(2, 3))),
    "slice": SERIES(lambda x: (x[:, 1:3], x[..., ::2], x[:, :, -3:], x[:, :2, 1:-1], x[1:])),
    "narrow": SERIES(lambda x: x.narrow(2, 3, 4)),
    "written": SERIES(_assigned),
    "select_scatter": SERIES(lambda x: x.select_scatter(x[:, 0] * 2, 1, 2)),
    "slice_scatter": SERIES(lambda x: x.slice_scatter(x[:, :, :3] * 2, 2, 1, 7, 2)),
    "index": SERIES(lambda x: (x[:, [0, 2, 2]], x[:, [0, 1], [2, -3]], x[:, :, torch.tensor([3])])),
    "index by two": FIXED(lambda x: (x[[0, 1], [2, 3]], x[:, [[0, 1], [2, 3]]])),
    "index around": SERIES(lambda x: x[[0, 1], :, [2, 3]]),
    "index_put": FIXED(_put),
    "masked assignment": _masked,
    "index_select": lambda x: x.index_select(1, torch.tensor([2, 0, 2])),
    "take_along_dim": FIXED(lambda x: x.take_along_dim(x.argsort(1), 1)),
    "embedding": ROW(lambda x, y: F.embedding(x.argsort(1), y[:, None] * x[:1])),
    "embedding padded": ROW(lambda x, y: F.embedding(x.argsort(1), y[:, None], padding_idx=1)),
    "gather": lambda x: x.gather(1, x.argsort(1)[:, :2]),
    "scatter": lambda x: (
        torch.zeros_like(x).scatter(1, x.argsort(1)[:, :3], x[:, :3] * 2),
        x.scatter(1, x.argmax(1, keepdim=True), -1.5),
    ),
    "scatter_add": lambda x: x.scatter_add(1, x.argsort(1) // 2, x * 2),
    "index_add": lambda x: x.index_add(1, torch.tensor([0, 2, 2]), x[:, :3], alpha=0.5),
    "index_copy": lambda x: x.index_copy(1, torch.tensor([2, 0]), x[:, :2] * 3),
    "index_fill": lambda x: x.index_fill(1, torch.tensor([0, 2]), 1.5),
    "searchsorted": ROW(lambda x, y: torch.searchsorted(y.sort().values, x)),
    "searchsorted rows": lambda x: torch.searchsorted(x.sort(1).values, x.flip(1), right=True),
    "bucketize": ROW(
        lambda x, y: (
            torch.bucketize(x, y.sort().values),
            torch.bucketize(x, y.sort().values, right=True),
        )
    ),
    "take": FIXED(lambda x: x.take(torch.tensor([0, 7, 3]))),
}

# What torch's own decomposition changes, or for which there is no rule after it.
NOT_IN_CORE = ("copies", "rrelu")  # detach is left out; the noise of training has an operation


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
