"""PyTorch on the host: values, derivatives, batches, and that nothing waits for ever."""

import pytest

pytest.importorskip("torch", reason="the bridges need PyTorch")

import copy

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.sharding import Mesh
from torch import nn

from denograd_jax import layouts, refiner, rules, run
from denograd_jax.bridges import from_torch, from_torch_callback, save
from denograd_jax.errors import ModelError, UnsupportedError

pytestmark = pytest.mark.slow  # minutes in all; CI runs it

torch.set_num_threads(1)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


class Branching(nn.Module):
    """Which of two models answers depends on the values; `calls` are counted on the class."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.second = nn.Linear(8, 2)
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("count", torch.tensor(7))

    def forward(self, x):
        type(self).calls += 1
        h = torch.tanh(self.first(x))
        return self.second(h) if x.sum() > 0 else -self.scale * self.second(h) ** 2


class Plain(Branching):
    def forward(self, x):
        type(self).calls += 1
        return self.scale * self.second(torch.tanh(self.first(x)))


def calls(module, function, *args):
    type(module).calls = 0
    found = jax.block_until_ready(function(*args))
    return type(module).calls, found


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Branching()


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return Plain()


def instances(dtype, n=6):
    return np.random.default_rng(1).standard_normal((n, 3)).astype(dtype)


def test_the_module_is_one_that_cannot_be_exported(module):
    with pytest.raises(UnsupportedError, match="from_torch_callback"):
        from_torch(module, instances("float32"))


@pytest.mark.parametrize("compiled", [False, True])
def test_value_and_derivatives(module, compiled, dtype):
    """Value, gradients by input and weights, and the gradient of a gradient, are PyTorch's own."""
    model = from_torch_callback(module, instances(dtype))
    assert model.predict_batch is None
    maybe_jit = jax.jit if compiled else lambda f: f
    reference = copy.deepcopy(module).to(getattr(torch, str(dtype)))
    tolerance = {"rtol": TOLERANCE[str(dtype)], "atol": TOLERANCE[str(dtype)]}

    def total(params, x):
        return model.predict(params, x).sum()

    params = jax.tree.map(lambda w: w.astype(dtype), model.params)  # a gradient has its type

    def slope_norm(params, x):
        return (jax.grad(total, argnums=1)(params, x) ** 2).sum()

    for row in instances(dtype):
        x = torch.tensor(row[None], requires_grad=True)
        want = reference(x)
        (slope,) = torch.autograd.grad(want.sum(), x, create_graph=True)
        weights = [reference.second.weight, reference.first.bias]
        by_weights = torch.autograd.grad(want.sum(), weights, retain_graph=True)
        (second,) = torch.autograd.grad((slope**2).sum(), x)

        value = maybe_jit(model.predict)(params, row)
        assert value.dtype == dtype
        np.testing.assert_allclose(value, want.detach()[0], **tolerance)
        by_params, by_x = maybe_jit(jax.grad(total, argnums=(0, 1)))(params, row)
        np.testing.assert_allclose(by_x, slope.detach()[0], **tolerance)
        for name, expected in zip(("second.weight", "first.bias"), by_weights, strict=True):
            np.testing.assert_allclose(by_params[name], expected, **tolerance)
        again = maybe_jit(jax.grad(slope_norm, argnums=1))(params, row)
        np.testing.assert_allclose(again, second[0], **tolerance)


def test_mixed_derivatives(plain, x64):
    """By weights and input, in either order; against the exported model."""
    x = instances("float64")
    slow, fast = from_torch_callback(plain, x), from_torch(plain, x)

    def mixed(model, outer):
        def total(params, x):
            return (model.predict(params, x) ** 2).sum()

        inner = jax.grad(total, argnums=1 - outer)
        return jax.grad(lambda *a: sum(map(jnp.sum, jax.tree.leaves(inner(*a)))), argnums=outer)

    for outer in (0, 1):
        got, want = (mixed(m, outer)(m.params, x[0]) for m in (slow, fast))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, want)


@pytest.mark.parametrize("compiled", [False, True])
def test_vmap_calls_the_module_for_each_instance(module, compiled):
    x = instances("float32")
    model = from_torch_callback(module, x)
    maybe_jit = jax.jit if compiled else lambda f: f
    each = [model.predict(model.params, row) for row in x]
    number, batch = calls(module, maybe_jit(jax.vmap(model.predict, (None, 0))), model.params, x)
    assert number == len(x)
    np.testing.assert_array_equal(batch, each)

    slope = jax.grad(lambda p, x: model.predict(p, x).sum(), argnums=1)
    want = [slope(model.params, row) for row in x]
    number, got = calls(module, maybe_jit(jax.vmap(slope, (None, 0))), model.params, x)
    # Forward, and forward again to go back; compiled, the first is left out as nobody needs it.
    assert number == (1 if compiled else 2) * len(x)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("compiled", [False, True])
def test_vmap_of_independent_rows_is_one_batch(plain, compiled):
    x = instances("float32")
    model = from_torch_callback(plain, x, rows_independent=True)
    maybe_jit = jax.jit if compiled else lambda f: f

    def total(params, x):
        return model.predict(params, x).sum()

    slope = jax.grad(total, argnums=1)
    curvature = jax.grad(lambda p, x: (slope(p, x) ** 2).sum(), argnums=1)
    expected = (1, 1, 2) if compiled else (1, 2, 3)
    for one, batches in zip((model.predict, slope, curvature), expected, strict=True):
        want = [one(model.params, row) for row in x]
        mapped = maybe_jit(jax.vmap(one, (None, 0)))
        number, got = calls(plain, mapped, model.params, x)
        assert number == batches
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    number, got = calls(plain, maybe_jit(model.predict_batch), model.params, x)
    assert number == 1
    want = jax.vmap(model.predict, (None, 0))(model.params, x)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_vmap_over_weights_too(plain):
    """Weights of each instance, gradients by weights of each, and maps inside maps."""
    x = instances("float32", 4)
    model = from_torch_callback(plain, x, rows_independent=True)
    params = jax.tree.map(lambda w: np.stack([w, 2 * w, 3 * w, 4 * w]), model.params)
    at = lambda i: jax.tree.map(lambda w: w[i], params)  # noqa: E731
    got = jax.vmap(model.predict)(params, x)
    want = [model.predict(at(i), x[i]) for i in range(4)]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)

    by_params = jax.grad(lambda p, x: model.predict(p, x).sum())
    got = jax.vmap(by_params, (None, 0))(model.params, x)
    for i in range(4):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6, atol=1e-6),
            got,
            by_params(model.params, x[i]),
        )
    nested = jax.vmap(jax.vmap(model.predict, (None, 0)), (0, None))(params, x)
    assert nested.shape == (4, 4, 2)
    want = model.predict(at(2), x[1])
    np.testing.assert_allclose(nested[2, 1], want, rtol=1e-6, atol=1e-6)


def test_a_sweep_of_weights_inside_jit_and_scan(module):
    x = jnp.asarray(instances("float32"))
    model = from_torch_callback(module, x)

    @jax.jit
    def descend(x):
        def step(x, _):
            slope = jax.grad(lambda x: (model.predict(model.params, x) ** 2).sum())
            return x - 0.1 * jax.vmap(slope)(x), None

        return jax.lax.scan(step, x, None, length=5)[0]

    by_hand = x
    for _ in range(5):
        slope = jax.grad(lambda x: (model.predict(model.params, x) ** 2).sum())
        by_hand = by_hand - 0.1 * jnp.stack([slope(row) for row in by_hand])
    np.testing.assert_allclose(descend(x), by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows_independent", [False, True])
def test_refining(module, plain, rows_independent):
    """As with the exported model where there is one; the branching module repairs too."""
    x = instances("float32", 20)
    y = np.zeros((20, 2), np.float32)

    def refined(model):
        r = refiner(model, rule=rules.unit_step(0.05, 0.01), layout=layouts.rows())
        return run(r, model.params, r.init(x, y), max_steps=4).x

    host = from_torch_callback(plain, x, rows_independent=rows_independent)
    np.testing.assert_allclose(refined(host), refined(from_torch(plain, x)), rtol=1e-4, atol=1e-5)
    if not rows_independent:
        model = from_torch_callback(module, x)
        after = refined(model)
        miss = lambda x: np.abs(jax.vmap(model.predict, (None, 0))(model.params, x)).mean()  # noqa: E731
        assert miss(after) < miss(x)


def test_refining_a_series_on_many_devices(plain):
    class Window(Plain):
        def forward(self, x):
            return super().forward(x.flatten(1))[:, :1]

    model = from_torch_callback(Window(), np.zeros((2, 3, 1)), rows_independent=True)
    series = np.sin(np.arange(200, dtype=np.float32))[:, None]
    found = []
    for mesh in (None, Mesh(jax.devices(), ("time",))):
        r = refiner(model, layout=layouts.windows(3, target_columns=(0,)), mesh=mesh)
        found.append(run(r, model.params, r.init(series), max_steps=3).x)
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [2_000, 20_000])
def test_large_arrays_in_a_scan_do_not_deadlock(rows):
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(50, 16), nn.Tanh(), nn.Linear(16, 1))
    x = np.random.default_rng(0).standard_normal((rows, 50), np.float32)
    model = from_torch_callback(wide, x[:2], rows_independent=True)

    @jax.jit
    def descend(params, x):
        def step(x, _):
            return x - 0.1 * jax.grad(lambda x: model.predict_batch(params, x).sum())(x), None

        return jax.lax.scan(step, x, None, length=10)[0]

    want = torch.tensor(x[:5])
    for _ in range(10):
        want = want.requires_grad_()
        (slope,) = torch.autograd.grad(wide(want).sum(), want)
        want = (want - 0.1 * slope).detach()
    np.testing.assert_allclose(descend(model.params, x)[:5], want, rtol=1e-4, atol=1e-5)


def test_the_module_is_left_as_it_was(module):
    module.train()
    before = copy.deepcopy(module.state_dict())
    threads = torch.get_num_threads()
    state = torch.get_rng_state()
    model = from_torch_callback(module, instances("float32"))
    jax.grad(lambda x: model.predict(model.params, x).sum())(jnp.ones(3))
    assert module.training
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in module.parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        module.second.weight.zero_()  # a copy was taken
    assert np.abs(model.predict(model.params, jnp.ones(3))).max() > 0


def test_half_precision_and_integers_are_widened(plain):
    model = from_torch_callback(plain, instances("float32"))
    for dtype in (jnp.bfloat16, jnp.int32):
        x = jnp.array([1, -2, 3], dtype)
        got = model.predict(model.params, x)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, model.predict(model.params, x.astype(jnp.float32)))


def test_forward_mode_gives_the_error_of_jax(module):
    model = from_torch_callback(module, instances("float32"))
    x = jnp.ones(3)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: model.predict(model.params, x), (x,), (x,))


class Failing(nn.Module):
    def forward(self, x):
        if x.abs().max() > 100:
            raise RuntimeError("too far away")
        return x.sum(1)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_errors(tmp_path):
    model = from_torch_callback(Failing(), np.zeros((2, 3)))
    assert model.predict(model.params, jnp.ones(3)) == 3
    with pytest.raises(jax.errors.JaxRuntimeError, match="too far away"):
        model.predict(model.params, jnp.full(3, 1e3)).block_until_ready()
    assert model.predict(model.params, jnp.ones(3)) == 3  # the lock is free again
    with pytest.raises(UnsupportedError, match="Pair returns a tuple"):
        from_torch_callback(Pair(), np.zeros((2, 3)))
    with pytest.raises(ModelError, match=r"fails on an input of shape \(2, 4\)"):
        from_torch_callback(nn.Linear(3, 1), np.zeros((2, 4)))
    with pytest.raises(UnsupportedError, match="can be saved"):
        save(model, tmp_path / "model.npz")
