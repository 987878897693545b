"""Where functions have kinks and ties, the bridge takes the sub-gradients that torch takes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from tests.torch_oracle import compare, converted, on

pytestmark = pytest.mark.slow  # minutes in all; CI runs it

BOUNDS = np.array([0, -0.0, 1, -1, 3, -3, 6, -6, 0.5, -0.5, 20, -20])
TIES = np.array([[1.0, 1, 0, 1], [0, 0, 0, 0], [2, -1, 2, -1]])
ZEROS = np.array([[0.0, 0, 0], [1, 0, 2], [0, 3, 0], [1, 2, 3]])
SERIES = np.array([[[1.0, 1, 1, 0, 0, 2, 2, 1], [0, 0, 0, 0, 0, 0, 0, 0]]])

at_bounds, of_ties = on(BOUNDS, fixed=True), on(TIES, fixed=True)
of_zeros, of_series = on(ZEROS, fixed=True), on(SERIES, fixed=True)
of_equals = on(BOUNDS, BOUNDS.copy(), fixed=True)
of_origins = on(np.array([0, 0, 1, -0.0, 0]), np.array([0, 1, 0, -0.0, -1]), fixed=True)

ELEMENTS = {
    "abs": torch.abs,
    "acosh at 1": lambda x: torch.acosh(x.abs() + 1),
    "ceil": torch.ceil,
    "celu": F.celu,
    "clamp": lambda x: x.clamp(-1, 3),
    "clamp_max": lambda x: x.clamp(max=6),
    "clamp_min": lambda x: x.clamp(min=0),
    "clamp of crossed bounds": lambda x: x.clamp(3, 1),
    "elu": F.elu,
    "erf": torch.erf,
    "expm1": torch.expm1,
    "floor": torch.floor,
    "frac": torch.frac,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "glu": lambda x: F.glu(x, 0),
    "hardshrink": F.hardshrink,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "leaky_relu of a negative slope": lambda x: F.leaky_relu(x, -0.5),
    "log1p": lambda x: torch.log1p(x.abs()),
    "log_sigmoid": F.logsigmoid,
    "logit at its bounds": lambda x: torch.logit(x, 0.5 - 0.25),
    "mish": F.mish,
    "nan_to_num": lambda x: torch.nan_to_num(1 / x),
    "pow 0": lambda x: x**0,
    "pow 1": lambda x: x**1,
    "pow 2": lambda x: x**2,
    "pow 3": lambda x: x**3,
    "pow 1.5": lambda x: x.abs() ** 1.5,
    "pow 0.5": lambda x: x.abs() ** 0.5,
    "pow -1": lambda x: x**-1,
    "0 to the power": lambda x: 0.0 ** x.abs(),
    "relu": F.relu,
    "relu6": F.relu6,
    "remainder": lambda x: x % 3,
    "fmod": lambda x: torch.fmod(x, 3),
    "round": torch.round,
    "rrelu": F.rrelu,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": F.silu,
    "sinc": torch.sinc,
    "softplus": F.softplus,
    "softplus at its threshold": lambda x: F.softplus(x, 2, 6),
    "softshrink": F.softshrink,
    "softsign": F.softsign,
    "sqrt": lambda x: torch.sqrt(x.abs()),
    "tanhshrink": F.tanhshrink,
    "threshold": lambda x: F.threshold(x, 1.0, 0.5),
    "threshold at 0": lambda x: F.threshold(x, 0.0, 0.0),
    "trunc": torch.trunc,
    "where": lambda x: torch.where(x > 0, x, -2 * x),
    "where guarded": lambda x: torch.where(x > 0, torch.log(x.clamp(min=0.1)), x),
    "xlogy": lambda x: torch.xlogy(x, x.abs()),
}
PAIRS = {
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "max": torch.max,
    "fmax": torch.fmax,
    "fmin": torch.fmin,
    "clamp by arrays": lambda x, y: torch.clamp(x, y, y),
    "logaddexp": torch.logaddexp,
    "sub and abs": lambda x, y: (x - y).abs(),
    "copysign": torch.copysign,
    "pow": lambda x, y: x.abs() ** y.abs(),
    "dist": lambda x, y: torch.dist(x, y),
    "huber": lambda x, y: F.huber_loss(x, y + 1, reduction="none"),
    "l1": F.l1_loss,
}
ORIGINS = {"atan2": torch.atan2, "complex": lambda x, y: torch.complex(x, y).abs()}
ROWS = {
    "max": lambda x: (x.max(), x.max(1).values, x.max(0).values),
    "min": lambda x: (x.min(), x.min(1).values, x.min(0).values),
    "amax": lambda x: (x.amax(), x.amax(1), x.amin(0), x.amin((0, 1))),
    "aminmax": lambda x: (*torch.aminmax(x), *torch.aminmax(x, dim=1)),
    "argmax": lambda x: (x.argmax(1), x.argmin(1), x.argmax()),
    "median of all": lambda x: x.median(),
    "sort": lambda x: (*x.sort(stable=True), *x.sort(stable=True, descending=True, dim=0)),
    "cummax": lambda x: (*x.cummax(1), *x.cummin(0)),
    "logsumexp": lambda x: (x.logsumexp(1), x.logcumsumexp(1)),
    "softmax": lambda x: F.softmax(x, 1),
    "std": lambda x: (x.std(1), x.std(), x.std(1, correction=0)),
    "var": lambda x: (x.var(1), x.var(0)),
    "norms": lambda x: [torch.linalg.vector_norm(x, p, 1) for p in (0, 1, 2, 3, 1.5)],
    "infinite norms": lambda x: [torch.linalg.vector_norm(x, p, 1) for p in (np.inf, -np.inf)],
    "norm of 0": lambda x: (x * 0).norm(),
    "normalize": lambda x: F.normalize(x, dim=1),
    "layer_norm": lambda x: F.layer_norm(x, (4,)),
    "rms_norm": lambda x: F.rms_norm(x, (4,)),
    "cosine_similarity": lambda x: F.cosine_similarity(x, x.flip(0), dim=1),
    "cdist": lambda x: [torch.cdist(x, x, p=p) for p in (1, 2, 3, np.inf)],
    "pairwise_distance": lambda x: F.pairwise_distance(x, x),
    "standardised": lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5),
    "fft": lambda x: torch.fft.rfft(x).abs(),
    "phase": lambda x: torch.fft.rfft(x[1]).angle(),
}
PRODUCTS = {
    "prod": lambda x: (x.prod(), x.prod(1), x.prod(0)),
    "cumprod": lambda x: (x.cumprod(1), x.cumprod(0)),
    "nansum": lambda x: (x / x).nansum(1),
}
POOLS = {
    "max_pool1d": lambda x: (F.max_pool1d(x, 2), F.max_pool1d(x, 3, 1, 1)),
    "max_pool2d": lambda x: F.max_pool2d(x[None], 2),
    "adaptive_max": lambda x: (F.adaptive_max_pool1d(x, 3), F.adaptive_max_pool1d(x, 1)),
    "lp_pool": lambda x: F.lp_pool1d(x, 2, 2),
    "instance_norm": lambda x: F.instance_norm(x),
}
FAMILIES = {
    "elements": {name: at_bounds(f) for name, f in ELEMENTS.items()},
    "pairs": {name: of_equals(f) for name, f in PAIRS.items()},
    "origins": {name: of_origins(f) for name, f in ORIGINS.items()},
    "rows": {name: of_ties(f) for name, f in ROWS.items()},
    "products": {name: of_zeros(f) for name, f in PRODUCTS.items()},
    "pools": {name: of_series(f) for name, f in POOLS.items()},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_sub_gradients_are_those_of_torch(family, x64):
    cases = FAMILIES[family]
    found = converted(cases, "float64")
    compare(found, cases, "float64")
    compare(found, cases, "float64", mapped=True)
