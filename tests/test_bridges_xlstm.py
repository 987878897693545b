"""Parity with the PyTorch package xlstm 2.0.6, installed aside: its stacks as our backbone."""

import functools
import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

from denograd_jax import backbones, bridges
from denograd_jax.errors import UnsupportedError
from tests.bridge_checks import forward, input_gradient, vmap, weight_gradient
from tests.test_bridges_jaxpr import equations_of_gradient

nn = torch.nn
pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("x64")]
torch.set_num_threads(1)  # its idle threads spin beside XLA's

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
TOLERANCE = 1e-11
W, C, WIDTH = 9, 3, 16
NAMES = {"embed": "inputs", "xlstm": "body", "head": "out"}


@functools.cache
def xlstm():
    """The package; pip brings it where it is not there yet. Its kernels for GPUs are not needed."""
    home = CACHE / "denograd-peers" / "xlstm-2.0.6"
    if not (home / "xlstm-2.0.6.dist-info").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        subprocess.run([*pip, str(home), "xlstm==2.0.6"], check=True)
    sys.path.append(str(home))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        return importlib.import_module("xlstm")


def stack(kinds, *, scalar=(), matrix=(), perceptron=(), **settings):
    """An `xLSTMBlockStack`, with settings of its sLSTM, mLSTM and perceptrons."""
    package = xlstm()
    both = {"num_heads": 4, "conv1d_kernel_size": 4}
    inner = {"round_proj_up_to_multiple_of": 8}
    given = {"backend": "vanilla", "dtype": "float32"} | both | dict(scalar)
    feedforward = None
    if perceptron is not None:
        feedforward = package.FeedForwardConfig(**inner | {"act_fn": "gelu"} | dict(perceptron))
    scalar_block = package.sLSTMBlockConfig(package.sLSTMLayerConfig(**given), feedforward)
    matrix_block = package.mLSTMBlockConfig(
        package.mLSTMLayerConfig(**both | inner | {"qkv_proj_blocksize": 4} | dict(matrix))
    )
    config = package.xLSTMBlockStackConfig(
        mlstm_block=matrix_block,
        slstm_block=scalar_block,
        context_length=W,
        num_blocks=len(kinds),
        embedding_dim=WIDTH,
        slstm_at=[i for i, kind in enumerate(kinds) if kind == "s"],
        **settings,
    )
    return package.xLSTMBlockStack(config)


class Forecaster(nn.Module):
    def __init__(self, body, *, mean=False):
        super().__init__()
        self.inputs, self.body, self.out = nn.Linear(C, WIDTH), body, nn.Linear(WIDTH, 2)
        self.mean = mean

    def forward(self, x):
        y = self.body(self.inputs(x))
        return self.out(y.mean(1) if self.mean else y[:, -1])


def made(*args, mean=False, seed=0, **settings):
    """In float64 and evaluation mode, with random weights."""
    torch.manual_seed(seed)
    module = Forecaster(stack(*args, **settings), mean=mean).double().eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.4)
    return module


def example():
    return np.zeros((3, W, C))


def assert_same(model, module):
    for check in (forward, input_gradient):
        error = check(model, module, (W, C), "float64")
        assert error < TOLERANCE, f"{check.__name__}: {error:.1e}"


KINDS = ("ms", "mm", "ss")


@pytest.mark.parametrize("kinds", KINDS)
def test_a_stack_within_a_module(kinds):
    module = made(kinds, mean=True)
    model = bridges.from_torch(module, example())
    assert model.params.keys() == dict(module.named_parameters()).keys()
    assert_same(model, module)


@pytest.mark.parametrize("kinds", KINDS)
def test_a_whole_module(kinds):
    module = made(kinds)
    model = bridges.from_torch(module, example(), method="port")
    assert_same(model, module)


def test_mapped_and_by_weight():
    module = made("ms", mean=True)
    model = bridges.from_torch(module, example(), check=False)
    for check in (weight_gradient, vmap):
        assert check(model, module, (W, C), "float64") < TOLERANCE


def test_the_scalar_memory_is_one_scan():
    model = bridges.from_torch(made("ms", mean=True), example(), check=False)
    found = equations_of_gradient(model, (W, C))
    assert sum(equation.primitive.name == "scan" for equation in found) == 2  # there and back


@pytest.mark.parametrize("kinds", KINDS)
def test_weights_go_both_ways(kinds, rng):
    module = made(kinds)
    flax = bridges.flax_from_torch(module, example())
    fresh = made(kinds, seed=1)
    state = bridges.state_dict_from_flax(flax, NAMES)
    fresh.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    x = rng.standard_normal((4, W, C))
    with torch.no_grad():
        expected = fresh(torch.tensor(x)).numpy()
        np.testing.assert_array_equal(expected, module(torch.tensor(x)).numpy())
    again = bridges.flax_from_state_dict(flax, module.state_dict(), NAMES)
    for network in (flax, again):
        found = jax.jit(lambda x, network=network: network(x))(jnp.asarray(x))
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_our_backbone_in_a_plain_twin(rng):
    """With its linear path, as it is trained; its hidden sizes need not be the package's."""
    sizes = {"width": WIDTH, "inner": 32, "hidden": 24}
    built = functools.partial(backbones.build, "xlstm", input_shape=(W, C), outputs=2)
    with jax.enable_x64(False):
        module = built(rngs=nnx.Rngs(0), **sizes)
    nnx.update(
        module,
        jax.tree.map(
            lambda a: jnp.asarray(np.asarray(a) + 0.3 * rng.standard_normal(a.shape)),
            nnx.state(module, nnx.Param),
        ),
    )
    network, linear = made("ms"), nn.Linear(W * C, 2).double()
    names = {f"network.{ours}": f"0.{theirs}" for ours, theirs in NAMES.items()} | {"linear": "1"}
    state = bridges.state_dict_from_flax(module, names)
    twin = nn.ModuleList([network, linear])
    twin.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    x = rng.standard_normal((4, W, C))
    with torch.no_grad():
        inputs = torch.tensor(x)
        expected = (network(inputs) + linear(inputs.flatten(1))).numpy()
    found = jax.jit(lambda x: module(x))(jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


UNKNOWN = {
    "biases": ("ms", {"bias": True}),
    "no last norm": ("mm", {"add_post_blocks_norm": False}),
    "another activation": ("ss", {"perceptron": {"act_fn": "relu"}}),
    "no perceptrons": ("ss", {"perceptron": None}),
    "two numbers of heads": ("ms", {"matrix": {"num_heads": 2}}),
    "another recurrence": ("ss", {"scalar": {"function": "lstm"}}),
    "cell norm without a scale": ("ss", {"scalar": {"group_norm_weight": False}}),
    "no convolution": ("ss", {"scalar": {"conv1d_kernel_size": 0}}),
}


@pytest.mark.parametrize(
    "case",
    UNKNOWN,
)
def test_unknown_settings_are_not_ported_wrongly(case):
    kinds, settings = UNKNOWN[case]
    module = made(kinds, **settings)
    with pytest.raises(UnsupportedError):
        bridges.flax_from_torch(module, example())
    try:
        model = bridges.from_torch(module, example())
    except UnsupportedError:
        assert "s" in kinds  # whose loop branches on values
    else:
        assert_same(model, module)


@pytest.mark.parametrize(
    ("kinds", "settings"),
    [
        ("mm", {"matrix": {"proj_factor": 1.5, "qkv_proj_blocksize": 8}}),
        ("ss", {"scalar": {"conv1d_kernel_size": 2}, "perceptron": {"proj_factor": 2.0}}),
        # What stands in these three changes nothing where no kernel for GPUs is used.
        ("s", {"scalar": {"forward_clipval": 0.1, "initial_val": 0.5, "dtype": "bfloat16"}}),
        ("sm", {"scalar": {"num_heads": 2}, "matrix": {"num_heads": 2}, "dropout": 0.3}),
    ],
)
def test_other_settings(kinds, settings):
    module = made(kinds, **settings)
    assert_same(bridges.from_torch(module, example(), method="port"), module)
