"""The step and the run under every transformation that researchers use."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from denograd_jax import History, Model, Status, layouts, refiner, rules, run
from tests.compilations import count_compilations
from tests.models import linear, tanh_net
from tests.precision import float64_first

RULES = {
    "unit_step": rules.unit_step(),
    "dataset": rules.unit_step(norm="dataset"),
    "soft": rules.unit_step(gate=rules.soft_gate(0.2)),
    "gauss_newton": rules.gauss_newton(),
}
LOSSES = {
    "squared": optax.losses.squared_error,
    "huber": optax.losses.huber_loss,
    "absolute": lambda p, t: jnp.abs(p - t),
}


def net(dtype, size, outputs=1, hidden=5):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {"w1": (hidden, size), "b1": (hidden,), "w2": (outputs, hidden), "b2": (outputs,)}
    return {
        name: jax.random.normal(key, shape, dtype)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def problems(dtype):
    rng = np.random.default_rng(1)
    series = rng.normal(size=(20, 2)).astype(dtype), rng.normal(size=20).astype(dtype)
    rows = rng.normal(size=(20, 3)).astype(dtype), rng.normal(size=20).astype(dtype)
    return {
        "rows": (layouts.rows(), 3, rows),
        "windows": (layouts.windows(3, 2, 2), 6, series),
        "shared": (layouts.windows(3, target_columns=[1]), 6, series[:1]),
    }


@float64_first
@pytest.mark.parametrize(
    ("rule", "layout", "loss"),
    [
        ("unit_step", "rows", "squared"),
        ("unit_step", "windows", "huber"),
        ("gauss_newton", "windows", "squared"),
        ("dataset", "shared", "squared"),
        ("soft", "rows", "absolute"),
        *(
            pytest.param(rule, layout, "squared", marks=pytest.mark.slow)
            for rule in RULES
            for layout in ("windows", "shared")
            if (rule, layout) not in {("gauss_newton", "windows"), ("dataset", "shared")}
        ),
    ],
)
def test_every_rule_layout_and_loss(dtype, rule, layout, loss):
    """One table: scan, vmap, grad, dtype kept, chunks and batched form without effect."""
    cut, size, arrays = problems(dtype)[layout]
    params = net(dtype, size)
    r = refiner(tanh_net, RULES[rule], cut, LOSSES[loss])
    state = r.init(*arrays)
    expected, info = r.step(params, state)
    assert expected.data.x.dtype == dtype
    assert info.active > 0
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12}

    scanned, _ = jax.lax.scan(lambda s, _: (r.step(params, s)[0], None), state, length=1)
    chex.assert_trees_all_close(scanned, expected, **tolerance)
    twice = jax.tree.map(lambda a: jnp.stack([a, a]), state)
    mapped, _ = jax.vmap(r.step, in_axes=(None, 0))(params, twice)
    chex.assert_trees_all_close(jax.tree.map(lambda a: a[1], mapped), expected, **tolerance)

    chunked = refiner(tanh_net, RULES[rule], cut, LOSSES[loss], chunk_size=4)
    found, chunked_info = chunked.step(params, state)
    chex.assert_trees_all_close(found, expected, **tolerance)
    chex.assert_trees_all_close(chunked_info.residual, info.residual, **tolerance)
    np.testing.assert_array_equal(chunked_info.active, info.active)

    batched = Model(tanh_net, params, jax.vmap(tanh_net, in_axes=(None, 0)))
    found, _ = refiner(batched, RULES[rule], cut, LOSSES[loss]).step(params, state)
    chex.assert_trees_all_close(found, expected, **tolerance)

    slope = jax.grad(lambda p: r.step(p, state)[0].data.x.sum())(params)
    chex.assert_tree_all_finite(slope)


@pytest.mark.slow
def test_without_jit():
    layout, size, arrays = problems(np.dtype("float32"))["windows"]
    r = refiner(tanh_net, layout=layout)
    params, state = net("float32", size), r.init(*arrays)
    expected, _ = r.step(params, state)
    with jax.disable_jit():
        chex.assert_trees_all_close(r.step(params, state)[0], expected, rtol=1e-5, atol=1e-6)


def test_gradient_through_a_run_of_fixed_length(x64):
    """Against central differences, for the step size and for the tolerance of a soft gate."""
    layout, size, arrays = problems(np.dtype("float64"))["windows"]
    params = net(np.dtype("float64"), size)

    @jax.jit
    def end(step_size, tolerance):
        rule = rules.unit_step(step_size, tolerance, gate=rules.soft_gate(0.3))
        r = refiner(tanh_net, rule, layout)
        state, _ = jax.lax.scan(
            lambda s, _: (r.step(params, s)[0], None), r.init(*arrays), length=4
        )
        return jnp.sum(state.data.x**2) + jnp.sum(state.data.y**3)

    at, h = (0.05, 0.4), 1e-6
    slopes = jax.jit(jax.grad(end, argnums=(0, 1)))(*at)
    for i, slope in enumerate(slopes):
        up, down = (tuple(v + s * h * (j == i) for j, v in enumerate(at)) for s in (1, -1))
        numeric = (end(*up) - end(*down)) / (2 * h)
        np.testing.assert_allclose(slope, numeric, rtol=1e-5)
        assert abs(slope) > 1e-3


def test_vmap_over_step_sizes_and_tolerances_equals_single_runs():
    layout, size, arrays = problems(np.dtype("float32"))["rows"]
    params = net("float32", size)

    def solve(step_size, tolerance):
        r = refiner(tanh_net, rules.unit_step(step_size, tolerance), layout)
        return run(r, params, r.init(*arrays), max_steps=30)

    sizes, tolerances = jnp.array([0.01, 0.05, 0.3]), jnp.array([10.0, 0.3, 0.01])
    swept = jax.vmap(solve)(sizes, tolerances)
    for i in range(3):
        single = solve(sizes[i], tolerances[i])
        np.testing.assert_allclose(swept.x[i], single.x, rtol=1e-5, atol=1e-6)
        assert swept.status[i] == single.status
        assert swept.steps[i] == single.steps
    assert swept.steps[0] == 1
    assert swept.status[0] == Status.converged
    assert swept.status[2] == Status.max_steps


def test_second_call_with_equal_shapes_compiles_nothing():
    """Also with a new refiner, another step size, other data and other parameters."""
    layout, size, arrays = problems(np.dtype("float32"))["windows"]
    traces = []

    def predict(params, x):
        traces.append(1)
        return tanh_net(params, x)

    def solve(rule, scale):
        r = refiner(predict, rule, layout)
        params = jax.tree.map(lambda a: scale * a, net("float32", size))
        return run(r, params, r.init(*(scale * a for a in arrays)), max_steps=5)

    solve(rules.unit_step(0.05, 0.01), 1.0)
    first = len(traces)
    count = count_compilations(lambda: solve(rules.unit_step(0.01, 0.1), 0.5))
    assert len(traces) == first
    assert count == 0


def test_the_counter_of_compilations_counts():
    assert count_compilations(lambda: jax.jit(lambda a: a * 3 + 1)(jnp.arange(3.0))) >= 1


@pytest.mark.parametrize(("chunk_size", "traces"), [(7, 1), (None, 2)])
def test_traced_once(chunk_size, traces):
    """Once for the program; and once before, where the model decides on the size of a chunk."""
    layout, size, arrays = problems(np.dtype("float32"))["rows"]
    params = net("float32", size)
    chex.clear_trace_counter()
    model = chex.assert_max_traces(tanh_net, n=traces)
    r = refiner(model, layout=layout, chunk_size=chunk_size)
    state = r.init(*arrays)
    for _ in range(3):
        state, _ = r.step(params, state)


def test_a_refinement_step_inside_a_jitted_training_step():
    """Model step and data step alternate in one program; the loss of both falls."""
    rng = np.random.default_rng(2)
    w = np.array([1.0, -2.0, 0.5], np.float32)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    y = x @ w + rng.normal(0, 0.3, 200).astype(np.float32)
    r = refiner(linear, rules.gauss_newton(0.01))
    optimizer = optax.sgd(0.05)

    def loss(params, data):
        return jnp.mean((jax.vmap(linear, (None, 0))(params, data.x) - data.y) ** 2)

    @jax.jit
    def step(params, memory, state):
        updates, memory = optimizer.update(jax.grad(loss)(params, state.data), memory)
        params = optax.apply_updates(params, updates)
        state, _ = r.step(params, state)
        return params, memory, state

    params, state = jnp.zeros(3), r.init(x, y)
    memory = optimizer.init(params)
    for _ in range(300):
        params, memory, state = step(params, memory, state)
    np.testing.assert_allclose(params, w, atol=0.25)
    assert loss(params, state.data) < 0.01


def test_init_inside_jit():
    layout, size, arrays = problems(np.dtype("float32"))["rows"]
    params = net("float32", size)
    r = refiner(tanh_net, layout=layout)
    inside = jax.jit(lambda x, y: run(r, params, r.init(x, y), max_steps=3).x)(*arrays)
    np.testing.assert_allclose(
        inside, run(r, params, r.init(*arrays), max_steps=3).x, rtol=1e-5, atol=1e-6
    )


def test_rows_sharded_over_devices():
    layout, _, _ = problems(np.dtype("float32"))["rows"]
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(64, 3)).astype(np.float32), rng.normal(size=64).astype(np.float32)
    params = net("float32", 3)
    r = refiner(tanh_net, layout=layout)
    expected, _ = r.step(params, r.init(x, y))
    mesh = Mesh(np.array(jax.devices()), ("row",))
    spread = NamedSharding(mesh, PartitionSpec("row"))
    state = r.init(jax.device_put(x, spread), jax.device_put(y, spread))
    found, _ = r.step(params, state)
    np.testing.assert_allclose(found.data.x, expected.data.x, rtol=1e-5, atol=1e-6)


def test_history_and_progress_see_every_step_and_change_nothing():
    layout, size, arrays = problems(np.dtype("float32"))["rows"]
    params = net("float32", size)
    r = refiner(tanh_net, layout=layout)
    state = r.init(*arrays)
    seen = []
    history = History(lambda state, info: (state.data.x, info.active), capacity=3)
    found = run(r, params, state, 5, history, lambda step, total, info: seen.append((step, total)))
    plain = run(r, params, state, 5)
    np.testing.assert_allclose(found.x, plain.x, rtol=1e-6, atol=1e-6)
    assert seen == [(i, 5) for i in range(1, 6)]
    assert len(history.records) == 3  # the oldest two are dropped
    assert all(isinstance(x, np.ndarray) for x, _ in history.records)
    third, _ = jax.lax.scan(lambda s, _: (r.step(params, s)[0], None), state, length=2)
    np.testing.assert_allclose(history.records[0][0], third.data.x, rtol=1e-6, atol=1e-6)
    summary = History()
    run(r, params, state, 2, summary)
    assert set(summary.records[0]) == {"active", "mean_abs_residual"}


def test_a_run_can_go_on_from_its_state():
    layout, size, arrays = problems(np.dtype("float32"))["rows"]
    params = net("float32", size)
    r = refiner(tanh_net, layout=layout)
    half = run(r, params, r.init(*arrays), 4)
    whole = run(r, params, half.state, 3)
    np.testing.assert_allclose(whole.x, run(r, params, r.init(*arrays), 7).x, rtol=1e-5, atol=1e-6)
    assert whole.steps == 3
    assert whole.state.step == 7


def test_no_steps_at_all():
    layout, size, arrays = problems(np.dtype("float32"))["rows"]
    r = refiner(tanh_net, layout=layout)
    found = run(r, net("float32", size), r.init(*arrays), max_steps=0)
    np.testing.assert_array_equal(found.x, arrays[0])
    assert found.steps == 0
    assert found.status == Status.max_steps


def test_direction_is_the_unit_gradient_whatever_the_gate():
    layout, size, arrays = problems(np.dtype("float32"))["windows"]
    for rule in RULES.values():
        r = refiner(tanh_net, rule, layout, keep_direction=True, chunk_size=2)
        _, info = r.step(net("float32", size), r.init(*arrays))
        squares = [np.sum(np.asarray(a).reshape(len(a), -1) ** 2, axis=1) for a in info.direction]
        np.testing.assert_allclose(np.sqrt(sum(squares)), 1, atol=1e-5)
