"""What the bridges refuse, and what they say then; more of it beside what each test file is about.

Operations without a rule, branches on values: test_bridges_torch.py. Damaged, foreign, hostile and
newer files: test_bridges_files.py, test_bridges_programs.py.
"""

import pytest

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

import sys

import jax
import jax.numpy as jnp
import numpy as np

from denograd_jax import bridges
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
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(3, 2, batch_first=True)

    def forward(self, x):
        return self.layer(x)[0][:, -1]


# Operations


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
