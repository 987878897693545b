"""PyTorch modules of common architectures as Flax backbones, with PyTorch itself as the oracle."""

import copy
import functools

import jax
import numpy as np
import pytest
from flax import nnx

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

from denograd_jax import backbones, bridges
from tests.bridge_checks import forward, input_gradient, scan, vmap, weight_gradient
from tests.torch_backbones import CASES, as_called, made, perceptron

nn = torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's

TOLERANCE = 1e-11
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
