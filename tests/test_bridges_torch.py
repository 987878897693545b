"""Ports of PyTorch modules and losses, with PyTorch itself as the oracle."""

import copy
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax import bridges
from denograd_jax.bridges import _layers, _torch_layers
from denograd_jax.errors import MissingExtraError, ModelError, UnsupportedError

torch = pytest.importorskip("torch")
nn = torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's

TOLERANCE = {"float32": 1e-5, "float64": 1e-11}

ACTIVATIONS = [
    nn.CELU(),
    nn.CELU(0.5),  # torch rounds 1 / alpha to float32
    nn.ELU(),
    nn.ELU(1.3),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.Hardswish(),
    nn.Hardtanh(),
    nn.Hardtanh(-3.0, 6.0),
    nn.Identity(),
    nn.LeakyReLU(),
    nn.LeakyReLU(0.3),
    nn.LogSigmoid(),
    nn.Mish(),
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.ReLU6(),
    nn.SELU(),
    nn.SiLU(),
    nn.Sigmoid(),
    nn.Softmax(dim=-1),
    nn.Softmax(dim=1),
    nn.Softplus(),
    nn.Softplus(beta=2.0, threshold=6.0),  # on the threshold at x = 3
    nn.Softsign(),
    nn.Tanh(),
    nn.Dropout(0.5),
    nn.AlphaDropout(0.5),
]
KINKS = [-100.0, -6.0, -3.0, -1.0, -0.4, 0.0, 0.4, 1.0, 3.0, 6.0, 100.0]


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
    forms = [model.predict_batch]
    if single:
        forms.append(jax.vmap(model.predict, in_axes=(None, 0)))
    for predict_batch in forms:
        got = run_port(jax.jit(predict_batch), model.params, x, cotangent)
        for want, seen in zip(expected, got, strict=True):
            assert seen.dtype == x.dtype
            assert seen.shape == want.shape
            tolerance = TOLERANCE[str(x.dtype)]
            np.testing.assert_allclose(seen, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations_and_their_kinks(activation, dtype, rng):
    model = bridges.from_torch(activation)
    x = np.concatenate([np.array(KINKS), rng.standard_normal(53)]).reshape(8, 8).astype(dtype)
    assert_same(activation, model, x, single=False)


@pytest.mark.parametrize(("make", "shape"), PLAIN.values(), ids=PLAIN)
def test_sequential(make, shape, dtype, rng):
    module = build(make, dtype)
    x = rng.standard_normal((9, *shape)).astype(dtype)
    assert_same(module, bridges.from_torch(module), x)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make", RECURRENT.values(), ids=RECURRENT)
def test_lstm(make, rng):
    module = build(make, "float64")
    assert_same(module, bridges.from_torch(module), rng.standard_normal((4, 7, 3)), single=False)


@pytest.mark.parametrize("name", ["last step", "flattened", "deep head"])
def test_lstm_in_float32(name, rng):
    module = build(RECURRENT[name], "float32")
    assert_same(module, bridges.from_torch(module), rng.standard_normal((4, 7, 3), np.float32))


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
    assert_same(module, model, rng.standard_normal((5, 4, 3), np.float32))
    assert_same(module, model, rng.standard_normal((5, 12), np.float32))


def test_an_example_settles_the_shape(rng):
    def make():
        return nn.Sequential(nn.BatchNorm1d(4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1))

    module = build(make, "float32")
    x = rng.standard_normal((5, 4, 3), np.float32)
    with pytest.raises(UnsupportedError, match="input of shape"):
        bridges.from_torch(module)
    for example in (x, jnp.asarray(x), torch.tensor(x, requires_grad=True)):
        assert_same(module, bridges.from_torch(module, example), x)


class FunctionalActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))


class DataDependent(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 1)

    def forward(self, x):
        return self.net(x) if x.sum() > 0 else self.net(-x)


class ReadsLastOfWindow(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(7, 1)

    def forward(self, x):
        return self.net(x[:, -1])


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def with_hook(module):
    module.register_forward_hook(lambda module, inputs, output: 2 * output)
    return module


REFUSED = {
    "convolution": (lambda: nn.Sequential(nn.Conv1d(3, 4, 2)), "Conv1d.*'0'.*Linear"),
    "two layers": (lambda: Recurrent(read_last, batch_first=True, num_layers=2), "one layer"),
    "two ways": (
        lambda: Recurrent(read_last, batch_first=True, bidirectional=True, head=nn.Linear(12, 2)),
        "one direction",
    ),
    "projection": (
        lambda: Recurrent(read_last, batch_first=True, proj_size=4, head=nn.Linear(4, 2)),
        "no projection",
    ),
    "two LSTMs": (
        lambda: Recurrent(read_last, head=nn.Sequential(nn.LSTM(6, 6)), batch_first=True),
        "the only one",
    ),
    "bare LSTM": (lambda: nn.LSTM(3, 4), "direct child"),
    "maximum over time": (
        lambda: Recurrent(lambda m, x: m.head(m.lstm(x)[0].amax(dim=1)), batch_first=True),
        "output differs.*torch.export",
    ),
    "time as instances": (lambda: Recurrent(read_last), "the other instances"),
    "states returned": (lambda: Recurrent(lambda m, x: m.lstm(x), batch_first=True), "tuple"),
    "functional activation": (FunctionalActivation, "output differs"),
    "data-dependent": (DataDependent, "cannot port DataDependent"),
    "last of the window": (ReadsLastOfWindow, "fails"),
    "own module inside": (lambda: nn.Sequential(DataDependent()), "outermost"),
    "subclass": (lambda: nn.Sequential(Scaled(3, 1)), "forward of its own"),
    "hook": (lambda: nn.Sequential(with_hook(nn.Linear(3, 1))), "0 has hooks"),
    "computed weight": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 1))),
        "remove_parametrizations",
    ),
    "across instances": (lambda: nn.Sequential(nn.Softmax(dim=0)), "the other instances"),
    "batch statistics": (
        lambda: nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)),
        "running statistics",
    ),
    "no module": (lambda: "mlp", "torch.nn.Module, got 'mlp'"),
    "a class": (lambda: nn.Linear, "instance of torch.nn.Module"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(make, message):
    with pytest.raises(UnsupportedError, match=f"(?s){message}"):
        bridges.from_torch(make())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_refused():
    module = torch.jit.trace(nn.Sequential(nn.Linear(3, 1)), torch.ones(2, 3))
    with pytest.raises(UnsupportedError, match="forward of its own"):
        bridges.from_torch(module)


@jax.custom_jvp
def tanh_of_another_slope(x):
    return jnp.tanh(x)


@tanh_of_another_slope.defjvp
def _(primals, tangents):
    return jnp.tanh(primals[0]), tangents[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(jnp.arctan, "output differs"), (tanh_of_another_slope, "input gradient differs")],
)
def test_a_port_that_disagrees_is_not_returned(wrong, message, monkeypatch):
    readers = {"Tanh": lambda module, path: _layers.Apply(wrong)}
    monkeypatch.setattr(_torch_layers, "_READERS", _torch_layers._READERS | readers)
    with pytest.raises(UnsupportedError, match=message):
        bridges.from_torch(nn.Sequential(nn.Linear(3, 2), nn.Tanh()))


def test_a_module_that_cannot_be_copied():
    module = nn.Linear(3, 1)
    module.source = (row for row in [])
    with pytest.raises(UnsupportedError, match="cannot be copied"):
        bridges.from_torch(module)


def test_wide_layers_with_kinks():
    """In float32, rounding would carry some of so many units over their kink."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 4096), nn.ReLU(), nn.Linear(4096, 512), nn.ReLU6())
    bridges.from_torch(nn.Sequential(module, nn.Linear(512, 1)))


def test_diverged_weights():
    module = nn.Sequential(nn.Linear(3, 1))
    module[0].bias.data.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"0\.bias .* not finite"):
        bridges.from_torch(module)


def test_one_input_only(rng):
    x = rng.standard_normal((2, 3))
    with pytest.raises(UnsupportedError, match="one example input, got 2"):
        bridges.from_torch(nn.Linear(3, 1), x, x)


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
    np.testing.assert_allclose(slope, (by_input * direction).sum((1, 2)), rtol=1e-11)
    curvature = jax.jit(jax.jacfwd(jax.grad(first_output, argnums=1), argnums=1))(params, x[0])
    curvature = curvature.reshape(21, 21)
    np.testing.assert_allclose(curvature, curvature.T, atol=1e-12)


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
    assert model.params["0.weight"] is model.params["2.weight"] is model.params["3.weight"]
    assert_same(module, model, rng.standard_normal((4, 3), np.float32))


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
    model = bridges.from_torch(PLAIN["flattened windows"][0]())
    assert model.predict_batch(model.params, jnp.zeros((0, 4, 3))).shape == (0, 2)


def test_supported_modules_are_classes_of_torch():
    names = bridges.supported_modules()
    assert {"Linear", "LSTM", "Sequential", "ReLU"} <= set(names)
    assert all(issubclass(getattr(nn, name), nn.Module) for name in names)
    assert {type(activation).__name__ for activation in ACTIVATIONS} <= set(names)


LOSSES = [
    nn.MSELoss(reduction="sum"),
    nn.L1Loss(reduction="sum"),
    nn.SmoothL1Loss(reduction="sum"),
    nn.SmoothL1Loss(beta=0.5, reduction="sum"),
    nn.SmoothL1Loss(beta=0.0, reduction="sum"),
    nn.HuberLoss(reduction="sum"),
    nn.HuberLoss(delta=0.5, reduction="sum"),
    nn.BCEWithLogitsLoss(reduction="sum"),
    nn.CrossEntropyLoss(reduction="sum"),  # of class probabilities
]


@pytest.mark.parametrize("criterion", LOSSES, ids=lambda c: f"{type(c).__name__}{vars(c)}"[:40])
def test_losses(criterion, dtype):
    """Value and both gradients, at equal values and on the bounds of the Huber losses too."""
    target = np.array([0.0, 0.2, 0.4, 1.0, 0.0, 1.0, 0.5], dtype)
    prediction = target + np.array([0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -0.1], dtype)
    tensors = [torch.tensor(array, requires_grad=True) for array in (prediction, target)]
    want = criterion(*tensors)
    want_gradients = torch.autograd.grad(want, tensors)

    loss = bridges.loss_from_torch(criterion)
    value, gradients = jax.value_and_grad(lambda p, t: loss(p, t).sum(), argnums=(0, 1))(
        jnp.asarray(prediction), jnp.asarray(target)
    )
    tolerance = TOLERANCE[str(dtype)]
    np.testing.assert_allclose(value, want.item(), rtol=tolerance)
    for got, tensor in zip(gradients, want_gradients, strict=True):
        np.testing.assert_allclose(got, tensor.numpy(), rtol=tolerance, atol=tolerance)


def test_cross_entropy_of_labels(rng):
    logits = rng.standard_normal((5, 4), np.float32)
    labels = np.array([0, 3, 1, -100, 2])
    criterion = nn.CrossEntropyLoss(reduction="none")
    want = criterion(torch.tensor(logits), torch.tensor(labels))
    loss = bridges.loss_from_torch(criterion)
    got = jax.vmap(loss)(jnp.asarray(logits), jnp.asarray(labels, jnp.int32))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_equal_criteria_share_functions():
    make = bridges.loss_from_torch
    assert make(nn.HuberLoss(delta=0.3)) is make(nn.HuberLoss(delta=0.3, reduction="sum"))
    assert make(nn.HuberLoss(delta=0.3)) is not make(nn.HuberLoss(delta=0.4))
    assert make(nn.MSELoss()) is make(nn.MSELoss())
    assert make(nn.CrossEntropyLoss()) is make(nn.CrossEntropyLoss())


class WeightedMSE(nn.MSELoss):
    def forward(self, prediction, target):
        return 3 * super().forward(prediction, target)


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (nn.KLDivLoss(), "KLDivLoss.*MSELoss.*CrossEntropyLoss"),
        (WeightedMSE(), "WeightedMSE"),
        (nn.MSELoss, "the class MSELoss"),
        (nn.CrossEntropyLoss(weight=torch.ones(3)), "with weight"),
        (nn.CrossEntropyLoss(label_smoothing=0.1), "label_smoothing=0.1"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(1)), "pos_weight"),
        ("mse", "a str"),
    ],
)
def test_refused_losses(criterion, message):
    with pytest.raises(UnsupportedError, match=message):
        bridges.loss_from_torch(criterion)


def test_missing_torch_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (bridges.from_torch, bridges.loss_from_torch, bridges.params_to_state_dict):
        with pytest.raises(MissingExtraError, match=r"denograd-jax\[torch\]"):
            call({})


def test_importing_the_bridges_imports_no_torch():
    code = "import sys, denograd_jax.bridges; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
