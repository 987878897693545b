"""What the bridges refuse, and what they say then; more of it beside what each test file is about.

Damaged, foreign, hostile and newer files: test_bridges_files.py, test_bridges_programs.py.
"""

import pytest

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

import sys

import jax
import jax.numpy as jnp
import numpy as np

from denograd_jax import bridges
from denograd_jax.bridges import _registry
from denograd_jax.errors import MissingExtraError, ModelError, UnsupportedError

nn = torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's


class Applied(nn.Module):
    """A function after a layer with weights."""

    def __init__(self, function):
        super().__init__()
        self.net = nn.Linear(3, 2)
        self.function = function

    def forward(self, x):
        return self.function(self.net(x))


class LastStep(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.layer = nn.LSTM(3, 2, batch_first=batch_first)

    def forward(self, x):
        return self.layer(x)[0][:, -1]


# Modules


class DataDependent(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 1)

    def forward(self, x):
        return self.net(x) if x.sum() > 0 else self.net(-x)


class PartlyFrozen(nn.Module):
    """Normalises by statistics that are no part of the gradient."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 1)

    def forward(self, x):
        with torch.no_grad():
            mean, size = x.mean(1, keepdim=True), x.std(1, keepdim=True)
        return self.net((x - mean) / size)


REFUSED = {
    "time as instances": (lambda: LastStep(batch_first=False), "the other instances"),
    "states returned": (lambda: nn.Sequential(nn.LSTM(3, 4, batch_first=True)), "a tuple"),
    "bare LSTM": (lambda: nn.LSTM(3, 4, batch_first=True), "a tuple instead of a tensor: wrap it"),
    "data-dependent": (DataDependent, "values of a tensor.*torch.cond.*from_torch_callback"),
    "shape unknown": (lambda: nn.Sequential(nn.Unflatten(1, (2, 7))), "Pass the example input"),
    "across instances": (lambda: nn.Sequential(nn.Softmax(dim=0)), "the other instances"),
    "batch statistics": (
        lambda: nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)),
        "batch norm without running statistics|the other instances",
    ),
    "flattened": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 1)), "Pass the example input"),
    "no_grad within": (PartlyFrozen, r"torch.no_grad\(\) within the forward.*detach"),
    "no module": (lambda: "mlp", "torch.nn.Module, got 'mlp'"),
    "a class": (lambda: nn.Linear, "instance of torch.nn.Module"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(make, message):
    with pytest.raises(UnsupportedError, match=f"(?s){message}"):
        bridges.from_torch(make())


def test_a_module_that_cannot_be_copied():
    module = nn.Linear(3, 1)
    module.source = (row for row in [])
    with pytest.raises(UnsupportedError, match="cannot be copied"):
        bridges.from_torch(module)


def test_diverged_weights():
    module = nn.Sequential(nn.Linear(3, 1))
    module[0].bias.data.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"0\.bias .* not finite"):
        bridges.from_torch(module)


# Operations


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


class Airy(nn.Module):
    def forward(self, x):
        return torch.special.airy_ai(x)


def test_a_rule_that_disagrees_is_told(monkeypatch):
    monkeypatch.setitem(_registry._RULES, "aten.tanh", lambda self: jnp.arctan(self))
    with pytest.raises(UnsupportedError, match="in JAX its output differs"):
        bridges.from_torch(nn.Sequential(nn.Linear(3, 2), nn.Tanh()))


def test_operations_without_a_rule_are_named_and_can_be_given_one(monkeypatch, rng):
    monkeypatch.setattr(_registry, "_RULES", dict(_registry._RULES))
    module = nn.Sequential(nn.Linear(3, 2), Bessel(), Airy())
    missing = ("aten.special_airy_ai.default", "aten.special_bessel_j0.default")
    assert bridges.unsupported_ops(module) == missing
    with pytest.raises(UnsupportedError, match=f"{missing[0]}, {missing[1]}.*register_op"):
        bridges.from_torch(module)
    bridges.register_op(missing[0])(lambda x: x)
    bridges.register_op("aten.special_bessel_j0")(lambda x: 2 * x)
    model = bridges.from_torch(module, check=False)
    x = rng.standard_normal((4, 3), np.float32)
    want = 2 * module[0](torch.tensor(x)).detach().numpy()
    got = model.predict_batch(model.params, x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


# What dynamo, by which torch.cond runs, warns itself of.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_operations_of_a_branch_are_named_with_the_others():
    def function(y):
        y = torch.special.bessel_j0(y)
        branches = torch.special.bessel_j1, torch.special.airy_ai
        return torch.cond(y.sum() > 0, *branches, (y,))

    names = [f"aten.special_{name}.default" for name in ("airy_ai", "bessel_j0", "bessel_j1")]
    with pytest.raises(UnsupportedError, match=rf"{', '.join(names)}: .*@register_op\('aten.*"):
        bridges.from_torch(Applied(function))


def test_a_loop_on_values_is_refused():
    def halved(y):
        while y.abs().max() > 1:
            y = y / 2
        return y

    advice = "depends on the values of a tensor.*torch.cond or torch.where.*from_torch_callback"
    with pytest.raises(UnsupportedError, match=advice):
        bridges.from_torch(Applied(halved))


# Inputs


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 1), LastStep])
@pytest.mark.parametrize("shape", [(2, 4), (2, 5, 4)])
def test_an_example_that_the_module_does_not_take_is_shown(make, shape):
    with pytest.raises(ModelError, match=rf"fails on an input of shape \({str(shape)[1:-1]}\): \w"):
        bridges.from_torch(make(), np.zeros(shape))


@pytest.mark.parametrize("example", [1.0, np.zeros((0, 3))])
def test_an_example_of_no_instance_is_refused(example):
    shape = str(np.shape(example))[1:-1]
    message = rf"must be instances, \(n, ...\), not of shape \({shape}\)"
    with pytest.raises(UnsupportedError, match=message):
        bridges.from_torch(nn.Linear(3, 1), example)


def test_a_recurrent_model_refuses_rows():
    model = bridges.from_torch(LastStep())
    with pytest.raises(ModelError, match=r"shape \(4, 3\): it was converted for \(any, any, 3\)"):
        model.predict_batch(model.params, jnp.zeros((4, 3)))


@pytest.mark.parametrize("dtype", [int, bool, np.uint8])
def test_an_example_of_whole_numbers_is_an_example_of_their_shape(dtype):
    module = nn.Linear(3, 1)
    model = bridges.from_torch(module, np.ones((2, 3), dtype))
    assert model.predict is bridges.from_torch(module, np.ones((2, 3))).predict
    assert model.predict(model.params, np.ones(3, dtype)).dtype == jnp.float32


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 1), LastStep])
def test_a_model_called_on_another_width_says_so(make):
    model = bridges.from_torch(make())
    shape = (4, 7) if make is not LastStep else (4, 5, 7)
    with pytest.raises(ModelError, match=rf"fails on an input of shape \({str(shape)[1:-1]}\)"):
        jax.jit(model.predict_batch)(model.params, jnp.zeros(shape))
    with pytest.raises(ModelError, match=rf"fails on an input of shape \({str(shape[1:])[1:-1]}"):
        jax.vmap(model.predict, (None, 0))(model.params, jnp.zeros(shape))


def test_a_recurrent_model_called_on_whole_numbers_says_so():
    model = bridges.from_torch(LastStep())
    with pytest.raises(ModelError, match=r"input of shape \(4, 5, 3\) and type int32"):
        model.predict_batch(model.params, jnp.zeros((4, 5, 3), int))


@pytest.mark.parametrize("dtype", ["int32", "float31", np.int8])
def test_a_module_is_cast_to_floating_point_only(dtype):
    with pytest.raises(UnsupportedError, match="expected one of float32, float64"):
        bridges.from_torch(nn.Linear(3, 1), dtype=dtype)


def test_numbers_read_from_tensors_are_refused():
    """They decide what is computed."""
    with pytest.raises(UnsupportedError, match=r"item\(\).*torch.where.*from_torch_callback"):
        bridges.from_torch(Applied(lambda y: y * y.abs().sum().item()))


def test_a_module_of_whole_numbers_is_refused():
    """Nothing could be moved along its gradient."""
    module = nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(6, 1))
    with pytest.raises(ModelError, match=r"fails on an input of shape \(2, 3\): .*FloatTensor"):
        bridges.from_torch(module, np.zeros((2, 3), int))


@pytest.mark.parametrize("example", [np.array([["a", "b", "c"]]), "mlp", [[1, 2, 3], [1, 2]]])
def test_an_example_that_is_no_array_of_numbers_is_refused(example):
    with pytest.raises(UnsupportedError, match="example input"):
        bridges.from_torch(nn.Linear(3, 1), example)


def test_one_input_only(rng):
    x = rng.standard_normal((2, 3))
    with pytest.raises(UnsupportedError, match="one example input, got 2"):
        bridges.from_torch(nn.Linear(3, 1), x, x)


# Outputs


OUTPUTS = {
    "tuple of one": (lambda y: (y,), "returns a tuple instead of a tensor: wrap it"),
    "dictionary of one": (lambda y: {"mean": y}, "returns a dict instead of a tensor: wrap it"),
    "nested": (lambda y: {"of all": [y, (y, y)]}, "returns a dict instead of a tensor: wrap it"),
    "nothing": (lambda y: None, "returns a NoneType instead of a tensor: wrap it"),
    "classes": (lambda y: y.argmax(-1), "returns torch.int64, which has no gradient: wrap it"),
    "signs": (lambda y: y > 0, "returns torch.bool, which has no gradient: wrap it"),
    "one number": (lambda y: y.sum(), "one number for the whole batch; expected one prediction"),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(("function", "message"), OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_other_than_one_tensor_are_refused(function, message, check):
    with pytest.raises(UnsupportedError, match=message):
        bridges.from_torch(Applied(function), check=check)


@pytest.mark.parametrize("name", ["dictionary of one", "nothing"])
def test_outputs_other_than_one_tensor_are_refused_on_the_host_too(name):
    function, _ = OUTPUTS[name]
    with pytest.raises(UnsupportedError, match=r"returns a (dict|NoneType) .*: wrap it"):
        bridges.from_torch_callback(Applied(function), np.zeros((2, 3)))


# PyTorch that is missing


@pytest.mark.parametrize(
    "call",
    [
        bridges.from_exported_program,
        bridges.unsupported_ops,
        lambda what: bridges.from_torch_callback(what, np.zeros((2, 3))),
    ],
)
def test_where_torch_is_missing_the_extra_is_named(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r'pip install "denograd-jax\[torch\]"'):
        call("model.pt2")
