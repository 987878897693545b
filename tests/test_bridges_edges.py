"""Modules on which a conversion might be wrong without a word, or refused without need.

Found by reviewers who tried to break the bridges.
"""

import pytest

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from denograd_jax import as_model, bridges
from denograd_jax.bridges import _registry
from denograd_jax.errors import ModelError, UnsupportedError

nn = torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's
F = nn.functional

ROWS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
WINDOWS = np.random.default_rng(1).normal(size=(6, 8, 3)).astype(np.float32)


class Applied(nn.Module):
    """A function of the module and its input; tensors become buffers."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def agrees(module, x, **options):
    """The model, whose value and input gradient are the module's on x."""
    model = bridges.from_torch(module, x, **options)
    forward = model.predict_batch or jax.vmap(model.predict, (None, 0))
    inputs = torch.tensor(x, requires_grad=True)
    value = module.eval()(inputs.clone())
    (slope,) = torch.autograd.grad(value.sum(), inputs)
    found, gradient = jax.value_and_grad(lambda x: forward(model.params, x).sum())(jnp.asarray(x))
    np.testing.assert_allclose(found, value.sum().item(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-5)
    return model


# Sizes


BY_LENGTH = {
    "last step": lambda s, x: x[:, x.shape[1] - 1],
    "mean": lambda s, x: x.sum(1) / x.shape[1],
    "second half": lambda s, x: x[:, x.shape[1] // 2 :].sum((1, 2)),
    "loop": lambda s, x: sum(x[:, t] * (t + 1) for t in range(x.shape[1])),
    "encoding": lambda s, x: (x + s.encoding[:, : x.size(1)]).sum(1),
}


@pytest.mark.parametrize("function", BY_LENGTH.values(), ids=BY_LENGTH)
def test_sizes_of_the_example_are_those_of_the_model(function, tmp_path):
    module = Applied(function, encoding=torch.arange(30.0).reshape(1, 30, 1))
    model = agrees(module, WINDOWS)
    bridges.save(model, tmp_path / "model.npz")
    longer = jnp.ones((2, 20, 3))
    for one in (model, bridges.load(tmp_path / "model.npz")):
        with pytest.raises(ModelError, match=r"\(2, 20, 3\): it was converted for \(any, 8, 3\)"):
            one.predict_batch(one.params, longer)
        with pytest.raises(ModelError, match=r"\(20, 3\): it was converted for \(8, 3\)"):
            jax.vmap(one.predict, (None, 0))(one.params, longer)


@pytest.mark.slow
def test_sizes_that_the_module_leaves_open_stay_open_without_an_example():
    module = Applied(lambda s, x: s.layer(x)[0][:, -1], layer=nn.GRU(3, 2, batch_first=True))
    model = bridges.from_torch(module)
    for x in (WINDOWS, WINDOWS[:, :5], WINDOWS[:1, :1]):
        expected = module(torch.tensor(x)).detach()
        got = model.predict_batch(model.params, x)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_branch_on_the_number_of_instances_is_refused():
    module = Applied(lambda s, x: x * 2 if x.shape[0] > 100 else x * 3)
    with pytest.raises(UnsupportedError, match="depends on the number of instances"):
        bridges.from_torch(module, ROWS)


# Rules


@pytest.fixture
def i0e_rule():
    name = "aten.special_i0e"
    before = _registry._RULES.get(name)
    yield lambda rule: bridges.register_op(name)(rule)
    if before is None:
        del _registry._RULES[name]
    else:
        bridges.register_op(name)(before)


def test_a_rule_that_is_exchanged_is_taken_at_once(i0e_rule):
    module = Applied(lambda s, x: torch.special.i0e(x))
    i0e_rule(lambda x: 7 * x)
    with pytest.raises(UnsupportedError, match="its output differs"):
        bridges.from_torch(module, ROWS)
    i0e_rule(jax.scipy.special.i0e)
    agrees(module, ROWS)
    i0e_rule(lambda x: 0 * x)
    with pytest.raises(UnsupportedError, match="its output differs"):
        bridges.from_torch(module, ROWS)


def test_a_rule_has_a_name():
    with pytest.raises(UnsupportedError, match="takes names"):
        bridges.register_op(lambda x: x)


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted_at_ties(side):
    def function(s, x):
        return x + torch.searchsorted(s.borders, x.detach().contiguous(), side=side)

    ties = np.array([[0, 1, 2], [2, 0, 1]], np.float32)
    agrees(Applied(function, borders=torch.tensor([0.0, 1, 2])), ties)


@pytest.mark.parametrize(
    "function", [torch.std_mean, pytest.param(torch.var_mean, marks=pytest.mark.slow)]
)
def test_deviations_of_constant_rows(function):
    agrees(Applied(lambda s, x: function(x, 1)[0]), np.ones((4, 3), np.float32))


# Precision


COMPLEX = torch.tensor([1j, 1 + 1j, 2j])


@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
def test_complex_buffers_stay_complex(dtype):
    def function(s, x):
        return torch.view_as_real(torch.complex(x, x) * s.turned)[..., 0]

    model = bridges.from_torch(Applied(function, turned=COMPLEX), ROWS, dtype=dtype)
    expected = -ROWS * COMPLEX.imag.numpy() + ROWS * COMPLEX.real.numpy()
    np.testing.assert_allclose(model.predict_batch(model.params, ROWS), expected, rtol=1e-5)


def test_whole_numbers_of_64_bits_are_not_cut_off():
    model = bridges.from_torch(Applied(lambda s, x: x * s.large, large=torch.tensor(3 * 10**9)))
    with pytest.raises(ModelError, match=r"3000000000.*jax_enable_x64"):
        model.predict_batch(model.params, jnp.ones((2, 4)))


@pytest.mark.slow
def test_a_module_that_runs_in_float32_only():
    agrees(Applied(lambda s, x: F.conv1d(x[:, None], torch.ones(1, 1, 2))[:, 0]), ROWS)


# Weights and memory


def test_buffers_that_share_memory_in_another_order():
    square = torch.arange(9.0).reshape(3, 3)
    module = Applied(lambda s, x: x @ s.one + 2 * (x @ s.other), one=square, other=square.t())
    agrees(module, ROWS)


def test_a_mask_of_infinities():
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    agrees(Applied(lambda s, x: torch.softmax(x[:, None] + s.mask, -1)[:, :, 0], mask=mask), ROWS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weight_norm_of_old():
    agrees(nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 2))), ROWS)


class Keeps(nn.Module):
    """Keeps what it found, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.found = self.net(x)
        return self.found


@pytest.mark.slow
def test_a_module_that_keeps_results_and_counts():
    module = Keeps()
    module(torch.tensor(ROWS))
    bridges.from_torch(module, ROWS)
    assert module.calls == 1
    agrees(module, ROWS)


@pytest.mark.slow
def test_a_first_layer_in_place():
    agrees(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 1)), ROWS)


# Inputs that a module does not take


@pytest.mark.slow
def test_a_feature_that_is_looked_up():
    def function(s, x):
        return s.head(torch.cat([x[:, :2], s.table(x[:, 2].long())], 1))

    rows = ROWS.copy()
    rows[:, 2] = np.arange(6) % 4
    agrees(Applied(function, table=nn.Embedding(4, 2), head=nn.Linear(4, 1)), rows)


def test_features_that_are_positive():
    agrees(Applied(lambda s, x: torch.log(x).sum(1)), np.abs(ROWS) + 1)


def test_not_a_number_on_both_sides():
    """The gradient of the branch not taken is infinite, in both."""
    bridges.from_torch(Applied(lambda s, x: torch.where(x > 0, torch.sqrt(x), x)), ROWS)


# Kinds of modules


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_decoder_with_a_mask():
    mask = nn.Transformer.generate_square_subsequent_mask(8)
    whole = nn.Transformer(3, 1, 1, 1, 4, batch_first=True)
    agrees(Applied(lambda s, x: s.whole(x, x, tgt_mask=mask), whole=whole), WINDOWS)


def test_a_module_of_torchscript_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(nn.Linear(3, 1))
    for call in (bridges.from_torch, bridges.unsupported_ops, as_model):
        with pytest.raises(UnsupportedError, match="TorchScript cannot be exported"):
            call(module)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_lazy_module_is_refused():
    with pytest.raises(UnsupportedError, match="call it once first"):
        bridges.from_torch(nn.LazyLinear(2), ROWS)


class TurnsItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(8, 4, 3, padding=1), nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.conv(x.transpose(1, 2)).mean(-1))


class ChannelsFirst(TurnsItself):
    def forward(self, x):
        return self.head(self.conv(x).mean(-1))


@pytest.mark.slow
@pytest.mark.parametrize("make", [TurnsItself, ChannelsFirst])
def test_windows_as_long_as_wide_are_turned_once(make, tmp_path):
    module = make()
    x = np.random.default_rng(2).normal(size=(5, 8, 8)).astype(np.float32)
    model = as_model(module, example=x)
    given = x.swapaxes(1, 2) if make is ChannelsFirst else x
    expected = module(torch.tensor(given)).detach()
    got = model.predict_batch(model.params, x)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    bridges.save(model, tmp_path / "model.npz")
    loaded = bridges.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(
        loaded.predict_batch(loaded.params, x), model.predict_batch(model.params, x)
    )


def test_a_callback_without_a_gradient_is_refused():
    module = Applied(lambda s, x: s.net(x).detach(), net=nn.Linear(3, 1))
    with pytest.raises(UnsupportedError, match="gives no gradient by its input"):
        bridges.from_torch_callback(module, ROWS)


def test_what_is_no_model_is_not_saved(tmp_path):
    with pytest.raises(UnsupportedError, match="expected a Model"):
        bridges.save(lambda x: x, tmp_path / "model.npz")


# Losses


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_cross_entropy_of_certain_probabilities(target):
    loss = bridges.loss_from_torch(nn.BCELoss())
    for p in (0.0, 0.25, 1.0):
        tensor = torch.tensor([p], requires_grad=True)
        value = nn.BCELoss()(tensor, torch.tensor([target]))
        value.backward()
        found, slope = jax.value_and_grad(lambda z: loss(z, jnp.full(1, target)).sum())(
            jnp.full(1, p)
        )
        np.testing.assert_allclose(found, value.item(), rtol=1e-6)
        np.testing.assert_allclose(slope, tensor.grad, rtol=1e-6)


def test_a_hook_on_a_loss_is_part_of_it():
    criterion = nn.MSELoss()
    criterion.register_forward_hook(lambda module, given, found: found.clamp(max=1))
    assert bridges.loss_from_torch(criterion)(jnp.array([5.0]), jnp.array([0.0])) == 1


def test_cross_entropy_of_several_labels_is_refused():
    loss = bridges.loss_from_torch(nn.CrossEntropyLoss())
    with pytest.raises(UnsupportedError, match=r"not of \(3, 4\) and \(4,\)"):
        loss(jnp.ones((3, 4)), jnp.zeros(4, int))
