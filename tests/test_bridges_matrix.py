"""Every module of the zoo, through every transformation, in both precisions."""

import pytest

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

from denograd_jax import bridges
from denograd_jax.errors import UnsupportedError
from tests.bridge_checks import CHECKS
from tests.torch_zoo import REFUSED, ZOO, build

torch.set_num_threads(1)  # its idle threads spin beside XLA's

BAR = {"float32": 1e-5, "float64": 1e-11}


# What everyone runs; CI runs all of them.
SOME = (
    ("MLP, batch norm", "float64"),
    ("LSTM", "float32"),
    ("operations in place, buffers", "float32"),
)
CASES = [
    pytest.param(name, dtype, marks=() if (name, dtype) in SOME else pytest.mark.slow)
    for name in ZOO
    if name not in REFUSED
    for dtype in BAR
]


@pytest.mark.parametrize(("name", "dtype"), CASES, indirect=["dtype"])
def test_module(name, dtype):
    if "Hugging Face" in name:
        pytest.importorskip("transformers")
    _, shape = ZOO[name]
    module = build(name, str(dtype))
    model = bridges.from_torch(module, torch.zeros(2, *shape), check=False)
    for check in CHECKS:
        error = check(model, module, shape, str(dtype))
        assert error < BAR[str(dtype)], f"{check.__name__}: {error:.1e}"


@pytest.mark.parametrize("name", REFUSED)
def test_refusal(name):
    _, shape = ZOO[name]
    with pytest.raises(UnsupportedError, match=REFUSED[name]):
        bridges.from_torch(build(name), torch.zeros(2, *shape))
