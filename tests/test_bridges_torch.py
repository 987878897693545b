"""PyTorch modules converted by export, with PyTorch itself as the oracle."""

import copy
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax import bridges
from denograd_jax.errors import MissingExtraError, UnsupportedError
from tests.precision import float64_first

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")
nn = torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's

TOLERANCE = {"float32": 1e-5, "float64": 1e-11}


class Recurrent(nn.Module):
    """An LSTM and a head, as people write them; `forward_` says how its states are read out."""

    def __init__(self, forward, *, head=None, **settings):
        super().__init__()
        self.lstm = nn.LSTM(3, 6, **settings)
        self.head = nn.Linear(6, 2) if head is None else head
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def read_last(model, x):
    out, _ = model.lstm(x)
    return model.head(out[:, -1])


def read_last_of_time_major(model, x):
    out, _ = model.lstm(x)
    return model.head(out[-1])


def read_last_with_zero_state(model, x):
    zeros = torch.zeros(1, x.shape[0], 6, dtype=x.dtype)
    out, _ = model.lstm(x, (zeros, zeros))
    return model.head(out[:, -1, :])


RECURRENT = {
    "last step": lambda: Recurrent(read_last, batch_first=True),
    "without bias": lambda: Recurrent(read_last, batch_first=True, bias=False),
    "zero state": lambda: Recurrent(read_last_with_zero_state, batch_first=True),
    "hidden state": lambda: Recurrent(lambda m, x: m.head(m.lstm(x)[1][0][-1]), batch_first=True),
    "mean": lambda: Recurrent(lambda m, x: m.head(m.lstm(x)[0].mean(dim=1)), batch_first=True),
    "every step": lambda: Recurrent(lambda m, x: m.head(m.lstm(x)[0]), batch_first=True),
    "squeezed": lambda: Recurrent(
        lambda m, x: read_last(m, x).squeeze(), batch_first=True, head=nn.Linear(6, 1)
    ),
    "flattened": lambda: Recurrent(
        lambda m, x: m.head(m.lstm(x)[0].reshape(len(x), -1)),
        batch_first=True,
        head=nn.Linear(7 * 6, 2),
    ),
    "turned around": lambda: Recurrent(
        lambda m, x: read_last_of_time_major(m, x.transpose(0, 1)), batch_first=False
    ),
    "deep head": lambda: Recurrent(
        read_last,
        batch_first=True,
        head=nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.GELU(), nn.Linear(5, 2)),
    ),
}

PLAIN = {
    "linear": (lambda: nn.Linear(5, 2), (5,)),
    "without bias": (lambda: nn.Linear(5, 2, bias=False), (5,)),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 2)), (5,)),
    "layer norm, not affine": (
        lambda: nn.Sequential(nn.LayerNorm(5, elementwise_affine=False), nn.Linear(5, 2)),
        (5,),
    ),
    "batch norm": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU()), (5,)),
    "batch norm, not affine": (lambda: nn.Sequential(nn.BatchNorm1d(5, affine=False)), (5,)),
    "nested": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.3)),
            nn.Sequential(nn.Sequential(nn.Linear(8, 1))),
        ),
        (5,),
    ),
    "flattened windows": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ELU(), nn.Linear(4, 2)),
        (4, 3),
    ),
    "flattened late": (
        lambda: nn.Sequential(nn.Linear(3, 2), nn.SiLU(), nn.Flatten(), nn.Linear(8, 1)),
        (4, 3),
    ),
    "softmax": (lambda: nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1)), (5,)),
    "no weights": (lambda: nn.Sequential(nn.Tanh()), (5,)),
}


def with_statistics(module):
    """Gives running statistics that are not those of a fresh module, and sets training mode."""
    for submodule in module.modules():
        if isinstance(submodule, nn.BatchNorm1d):
            submodule.running_mean.normal_()
            submodule.running_var.uniform_(0.5, 2.0)
    return module.train()


def build(make, dtype):
    torch.manual_seed(0)
    return with_statistics(make()).to(getattr(torch, str(dtype)))


def run_torch(module, x, cotangent):
    """The module's value and input gradient, in evaluation mode."""
    module = copy.deepcopy(module).eval()
    x = torch.tensor(x, requires_grad=True)
    value = module(x * 1)  # a copy, so that modules that work in place can be differentiated
    (gradient,) = torch.autograd.grad(value, x, torch.tensor(cotangent(value.shape)))
    return value.detach().numpy(), gradient.numpy()


def run_port(predict_batch, params, x, cotangent):
    value, pull_back = jax.vjp(lambda x: predict_batch(params, x), jnp.asarray(x))
    return value, pull_back(jnp.asarray(cotangent(value.shape)))[0]


def assert_same(module, model, x, *, call=None, single=True):
    """Value and gradient of the batched, and of the single form, are the module's."""

    def cotangent(shape):
        return np.random.default_rng(5).standard_normal(shape).astype(x.dtype)

    expected = run_torch(module if call is None else call, x, cotangent)
    forms = [] if model.predict_batch is None else [model.predict_batch]
    if single or not forms:
        forms.append(jax.vmap(model.predict, in_axes=(None, 0)))
    for predict_batch in forms:
        got = run_port(jax.jit(predict_batch), model.params, x, cotangent)
        for want, seen in zip(expected, got, strict=True):
            assert seen.dtype == x.dtype
            assert seen.shape == want.shape
            tolerance = TOLERANCE[str(x.dtype)]
            np.testing.assert_allclose(seen, want, rtol=tolerance, atol=tolerance)


QUICK = {"layer norm", "batch norm", "nested", "flattened windows", "softmax"}


@float64_first
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        pytest.param(*case, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, case in PLAIN.items()
    ],
)
def test_sequential(make, shape, dtype, rng):
    module = build(make, dtype)
    x = rng.standard_normal((9, *shape)).astype(dtype)
    assert_same(module, bridges.from_torch(module, x), x)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "name",
    [
        "turned around",
        *(pytest.param(n, marks=pytest.mark.slow) for n in RECURRENT if n != "turned around"),
    ],
)
def test_lstm(name, rng):
    module = build(RECURRENT[name], "float64")
    x = rng.standard_normal((4, 7, 3))
    assert_same(module, bridges.from_torch(module, x), x, single=False)


@pytest.mark.parametrize("name", [pytest.param("flattened", marks=pytest.mark.slow), "deep head"])
def test_lstm_in_float32(name, rng):
    module = build(RECURRENT[name], "float32")
    x = rng.standard_normal((4, 7, 3), np.float32)
    assert_same(module, bridges.from_torch(module, x), x)


@pytest.mark.slow
def test_the_length_of_a_window_is_left_open(rng):
    """Without an example, where the layers allow it."""
    module = build(RECURRENT["mean"], "float32")
    model = bridges.from_torch(module)
    for steps in (2, 9):
        assert_same(module, model, rng.standard_normal((4, steps, 3), np.float32))


@pytest.mark.slow
def test_lstm_that_expects_time_first(rng):
    module = build(lambda: Recurrent(read_last_of_time_major), "float32")

    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x.transpose(0, 1))

    x = rng.standard_normal((4, 7, 3), np.float32)
    assert_same(module, bridges.from_torch(module), x, call=TimeFirst(), single=False)


@pytest.mark.slow
def test_own_module_that_runs_its_layers_in_order(rng):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(12, 8)
            self.activation = nn.ReLU()
            self.out = nn.Linear(8, 1)

        def forward(self, x):
            x = x.view(x.shape[0], -1)
            return self.out(self.activation(self.hidden(x))).squeeze(-1)

    module = build(Network, "float32")
    model = bridges.from_torch(module)
    assert_same(module, model, rng.standard_normal((5, 12), np.float32))


@pytest.mark.slow
def test_an_example_settles_the_shape(rng):
    def make():
        return nn.Sequential(nn.BatchNorm1d(4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1))

    module = build(make, "float32")
    x = rng.standard_normal((5, 4, 3), np.float32)
    with pytest.raises(UnsupportedError, match="it runs on no input that was tried"):
        bridges.from_torch(module)
    for example in (x, jnp.asarray(x), torch.tensor(x, requires_grad=True)):
        assert_same(module, bridges.from_torch(module, example), x)


def with_hook(module):
    module.register_forward_hook(lambda module, inputs, output: 2 * output)
    return module


@pytest.mark.slow
def test_hooks_are_part_of_the_graph(rng):
    module = nn.Sequential(
        with_hook(nn.Linear(3, 2)), nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))
    )
    assert_same(module, bridges.from_torch(module), rng.standard_normal((4, 3), np.float32))


@pytest.mark.slow
def test_literals_of_another_type_make_another_program():
    whole, broken = (bridges.from_torch(Times(n), np.zeros((2, 3))) for n in (2, 2.0))
    assert whole.predict is not broken.predict
    assert whole.predict is bridges.from_torch(Times(2), np.zeros((2, 3))).predict


class Times(nn.Module):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, x):
        return x.pow(self.number)


@pytest.mark.slow
def test_wide_layers_with_kinks():
    """In float32, rounding would carry some of so many units over their kink."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 4096), nn.ReLU(), nn.Linear(4096, 512), nn.ReLU6())
    bridges.from_torch(nn.Sequential(module, nn.Linear(512, 1)))


def test_the_module_is_left_alone():
    module = build(RECURRENT["deep head"], "float32")
    module.head[0].eval().requires_grad_(False)
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    needs_gradient = [parameter.requires_grad for parameter in module.parameters()]
    random_state = torch.get_rng_state()

    model = bridges.from_torch(module)
    for value in model.params.values():
        value[...] = 0  # the params are copies

    assert torch.equal(torch.get_rng_state(), random_state)
    assert [(submodule, submodule.training) for submodule in module.modules()] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == needs_gradient
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.state_dict().keys() == weights.keys()
    for name, value in module.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.slow
def test_works_where_torch_records_no_gradients():
    with torch.no_grad():
        assert bridges.from_torch(nn.Linear(3, 1)).params.keys() == {"weight", "bias"}
    module = RECURRENT["last step"]()
    with torch.inference_mode():
        bridges.from_torch(module)


def test_equal_architectures_share_functions():
    make = RECURRENT["deep head"]
    first, second = bridges.from_torch(make()), bridges.from_torch(make())
    assert first.predict is second.predict
    assert first.predict_batch is second.predict_batch
    other = bridges.from_torch(nn.Sequential(nn.ELU(0.5), nn.Linear(2, 1)))
    assert other.predict is not bridges.from_torch(nn.Sequential(nn.ELU(), nn.Linear(2, 1))).predict

    chex.clear_trace_counter()
    traced_once = jax.jit(chex.assert_max_traces(first.predict_batch, n=1))
    x = jnp.ones((2, 5, 3))
    assert not np.allclose(traced_once(first.params, x), traced_once(second.params, x))


@pytest.mark.usefixtures("x64")
def test_composes_with_transformations(rng):
    model = bridges.from_torch(build(RECURRENT["last step"], "float64"))
    x = jnp.asarray(rng.standard_normal((4, 7, 3)))
    params = jax.tree.map(jnp.asarray, model.params)

    def first_output(params, x):
        return model.predict(params, x)[0]

    by_weight, by_input = jax.jit(jax.vmap(jax.grad(first_output, argnums=(0, 1)), (None, 0)))(
        params, x
    )
    assert by_weight["lstm.weight_ih_l0"].shape == (4, 24, 3)
    direction = jnp.asarray(rng.standard_normal(x.shape))
    _, slope = jax.jvp(lambda x: jax.vmap(first_output, (None, 0))(params, x), (x,), (direction,))
    want = (by_input * direction).sum((1, 2))
    np.testing.assert_allclose(slope, want, rtol=1e-11, atol=1e-13)
    curvature = jax.jit(jax.jacfwd(jax.grad(first_output, argnums=1), argnums=1))(params, x[0])
    curvature = curvature.reshape(21, 21)
    np.testing.assert_allclose(curvature, curvature.T, atol=1e-12)


@pytest.mark.slow
def test_runs_on_shards(rng):
    """The state of the LSTM varies over the mesh as its input does."""
    model = bridges.from_torch(RECURRENT["last step"]())
    mesh = jax.make_mesh((4,), ("instance",), axis_types=(jax.sharding.AxisType.Auto,))
    part = jax.sharding.PartitionSpec
    sharded = jax.shard_map(
        model.predict_batch,
        mesh=mesh,
        in_specs=(part(), part("instance")),
        out_specs=part("instance"),
    )
    x = jnp.asarray(rng.standard_normal((8, 5, 3), np.float32))
    whole = model.predict_batch(model.params, x)
    np.testing.assert_allclose(jax.jit(sharded)(model.params, x), whole, atol=1e-6)


def test_params_are_named_as_in_state_dict_and_go_back():
    module = build(RECURRENT["deep head"], "float64")
    params = bridges.from_torch(module).params
    state = module.state_dict()
    assert params.keys() == {name for name, value in state.items() if value.is_floating_point()}
    assert all(type(value) is np.ndarray for value in params.values())
    for name, value in bridges.params_to_state_dict(params).items():
        assert torch.equal(value, state[name])
        assert value.dtype == state[name].dtype
    scaled = {name: 2 * value for name, value in params.items()}
    module.load_state_dict(bridges.params_to_state_dict(scaled))
    np.testing.assert_array_equal(module.head[0].weight.detach().numpy(), scaled["head.0.weight"])


def test_tied_weights(rng):
    hidden = nn.Linear(3, 3)
    module = nn.Sequential(hidden, nn.Tanh(), hidden, nn.Linear(3, 3))
    module[3].weight = hidden.weight
    model = bridges.from_torch(module)
    assert model.params.keys() == {"0.weight", "0.bias", "3.bias"}
    assert_same(module, model, rng.standard_normal((4, 3), np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision(name, rng):
    module = build(RECURRENT["deep head"], "float32").to(getattr(torch, name))
    model = bridges.from_torch(module)
    assert {str(value.dtype) for value in model.params.values()} == {name}
    x = jnp.asarray(rng.standard_normal((4, 7, 3), np.float32)).astype(name)
    wide = bridges.from_torch(module.float())
    value = model.predict_batch(model.params, x)
    assert value.dtype == x.dtype
    want = wide.predict_batch(wide.params, x.astype("float32"))
    np.testing.assert_allclose(value.astype("float32"), want, atol=0.05)
    back = bridges.params_to_state_dict(model.params)
    assert torch.equal(back["lstm.weight_hh_l0"].float(), module.lstm.weight_hh_l0)


def test_empty_batch():
    model = bridges.from_torch(PLAIN["flattened windows"][0](), np.zeros((2, 4, 3)))
    assert model.predict_batch(model.params, jnp.zeros((0, 4, 3))).shape == (0, 2)


def test_missing_torch_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (bridges.from_torch, bridges.loss_from_torch, bridges.params_to_state_dict):
        with pytest.raises(MissingExtraError, match=r"denograd-jax\[torch\]"):
            call({})


@pytest.mark.slow
def test_importing_the_bridges_imports_no_torch():
    code = "import sys, denograd_jax.bridges; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
