"""Known noise: steps in its units, against NumPy loops and closed forms."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import Mesh

from denograd_jax import errors, global_refiner, layouts, refiner, rules, run
from tests import oracle
from tests.compilations import count_compilations
from tests.models import linear, tanh_net
from tests.precision import float64_first

BAR = {"float32": 2e-5, "float64": 1e-10}
ETA, TAU = 0.3, 0.2
RULES = {
    "unit_step": rules.unit_step(ETA, TAU),
    "dataset_norm": rules.unit_step(ETA, TAU, norm="dataset"),
    "gauss_newton": rules.gauss_newton(ETA, TAU),
}


def move(net, x, y, noise_x, noise_y, name):
    """One instance's move, its gate and the squared norm of its gradient in units of the noise."""
    r = net.value(x) - y
    gate = float(np.any(np.abs(r) > TAU))
    slope = net.jacobian(x).reshape(y.size, *x.shape)
    gx, gy = np.tensordot(2 * r, slope, axes=1), -2 * r
    squared = np.sum((noise_x * gx) ** 2) + np.sum((noise_y * gy) ** 2)
    if gate == 0 or squared == 0:
        return 0 * x, 0 * y, gate, squared
    if name == "dataset_norm":
        factor = ETA
    elif name == "unit_step":
        factor = ETA / np.sqrt(squared)
    elif y.size == 1:  # the projection in the metric of the noise, in closed form
        spread = np.sum(noise_y**2) + np.sum(noise_x**2 * slope[0] ** 2)
        return -ETA * r * noise_x**2 * slope[0] / spread, ETA * r * noise_y**2 / spread, gate, 0.0
    else:
        factor = ETA * np.linalg.norm(r) * np.linalg.norm(gy) / squared
    return -factor * noise_x**2 * gx, -factor * noise_y**2 * gy, gate, squared


def solve_rows(net, x, y, noise_x, noise_y, name, steps):
    x, y = x.copy(), y.copy()
    for _ in range(steps):
        moves = [move(net, x[i], y[i], noise_x[i], noise_y[i], name) for i in range(len(x))]
        scale = 1 / np.sqrt(sum(m[3] for m in moves)) if name == "dataset_norm" else 1.0
        for i, (dx, dy, _, _) in enumerate(moves):
            x[i] += scale * dx
            y[i] += scale * dy
    return x, y


def solve_series(net, x, y, noise_x, noise_y, name, steps, layout, columns=None):
    """y is None where the target is columns of x, one variable with it."""
    x, y = x.copy(), None if y is None else y.copy()
    consensus = {"gauss_newton": "votes", "unit_step": "visits", "dataset_norm": "sum"}[name]
    if columns is not None:
        noise_y = noise_x[:, columns]
    for _ in range(steps):
        sum_x, count_x = np.zeros_like(x), np.zeros_like(x)
        sum_y, count_y = np.zeros_like(noise_y), np.zeros_like(noise_y)
        total = 0.0
        for s in range(0, len(x) - layout.span + 1, layout.stride):
            here, t = slice(s, s + layout.length), s + layout.span - 1
            target = x[t, columns] if y is None else y[t]
            dx, dy, gate, squared = move(net, x[here], target, noise_x[here], noise_y[t], name)
            voice = gate if consensus == "votes" else 1.0
            total += squared
            sum_x[here] += dx
            count_x[here] += voice
            sum_y[t] += dy
            count_y[t] += voice
        if y is None:
            sum_x[:, columns] += sum_y
            count_x[:, columns] += count_y
        if consensus == "sum":
            sum_x, sum_y = sum_x / np.sqrt(total), sum_y / np.sqrt(total)
            count_x, count_y = np.ones_like(count_x), np.ones_like(count_y)
        x += sum_x / np.maximum(count_x, 1)
        if y is not None:
            y += sum_y / np.maximum(count_y, 1)
    return x, y


def noise_of(rng, kind, shape):
    """Standard deviations, of which some are 0."""
    sizes = {"columns": (1, *shape[1:]), "one per column": shape[1:], "steps": (shape[0], 1)}
    noise = rng.uniform(0.1, 2.0, sizes.get(kind, shape))
    return 0.7 if kind == "number" else noise * (rng.random(noise.shape) > 0.1)


def typed(tree, dtype):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def solve(net, dtype, rule, layout, arrays, noise, steps, **options):
    r = refiner(tanh_net, rule, layout, **options)
    state = r.init(*(a.astype(dtype) for a in arrays), **noise)
    for _ in range(steps):
        state, _ = r.step(typed(net.params, dtype), state)
    return state.data


@float64_first
@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("cells", 3),
        ("one per column", 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("cells", 1), ("steps", 3), ("number", 1))
        ),
    ],
)
@pytest.mark.parametrize("name", RULES)
def test_rows(rng, dtype, name, outputs, kind):
    net = oracle.Net(rng, 4, outputs)
    x, y = rng.normal(size=(21, 4)), rng.normal(size=(21, outputs))
    noise = {"noise_x": noise_of(rng, kind, x.shape), "noise_y": noise_of(rng, kind, y.shape)}
    full = (np.broadcast_to(n, a.shape) for n, a in zip(noise.values(), (x, y), strict=True))
    expected = solve_rows(net, x, y, *full, name, 4)
    found = solve(net, dtype, RULES[name], layouts.rows(), (x, y), noise, 4, chunk_size=8)
    np.testing.assert_allclose(found.x, expected[0], rtol=BAR[dtype.name], atol=BAR[dtype.name])
    np.testing.assert_allclose(found.y, expected[1], rtol=BAR[dtype.name], atol=BAR[dtype.name])
    assert found.x.dtype == dtype


@float64_first
@pytest.mark.parametrize(
    "kind",
    ["cells", *(pytest.param(k, marks=pytest.mark.slow) for k in ("one per column", "steps"))],
)
@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("unit_step", layouts.windows(4, 2, 1)),
        ("unit_step", layouts.windows(3, 1, 2, flatten=True)),
        ("gauss_newton", layouts.windows(3, 1, 5)),
        ("dataset_norm", layouts.windows(1, 3, 2)),
    ],
)
def test_series(rng, dtype, name, layout, kind):
    net = oracle.Net(rng, layout.length * 2, 2)
    x, y = rng.normal(size=(31, 2)), rng.normal(size=(31, 2))
    noise = {"noise_x": noise_of(rng, kind, x.shape), "noise_y": noise_of(rng, kind, y.shape)}
    full = (np.broadcast_to(n, a.shape) for n, a in zip(noise.values(), (x, y), strict=True))
    expected = solve_series(net, x, y, *full, name, 3, layout)
    found = solve(net, dtype, RULES[name], layout, (x, y), noise, 3, chunk_size=4)
    np.testing.assert_allclose(found.x, expected[0], rtol=BAR[dtype.name], atol=BAR[dtype.name])
    np.testing.assert_allclose(found.y, expected[1], rtol=BAR[dtype.name], atol=BAR[dtype.name])


@pytest.mark.parametrize(
    ("shared", "name", "kind"),
    [
        (True, "unit_step", "cells"),
        (False, "gauss_newton", "columns"),
        pytest.param(True, "gauss_newton", "columns", marks=pytest.mark.slow),
        pytest.param(False, "unit_step", "cells", marks=pytest.mark.slow),
    ],
)
def test_targets_that_are_columns_have_their_noise(rng, x64, shared, name, kind):
    net = oracle.Net(rng, 5 * 3, 2)
    x = rng.normal(size=(31, 3))
    noise = noise_of(rng, kind, x.shape)
    full = np.broadcast_to(noise, x.shape)
    layout = layouts.windows(5, 2, 2, target_columns=[2, 0], shared=shared)
    arguments = (None, full, None, name, 3, layout, [2, 0])
    if not shared:
        arguments = (x[:, [2, 0]], full, full[:, [2, 0]], name, 3, layout)
    expected = solve_series(net, x, *arguments)
    found = solve(net, x.dtype, RULES[name], layout, (x,), {"noise_x": noise}, 3, chunk_size=7)
    np.testing.assert_allclose(found.x, expected[0], rtol=0, atol=1e-10)
    if not shared:
        np.testing.assert_allclose(found.y, expected[1], rtol=0, atol=1e-10)


DEVIATION = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))


@given(
    noise_x=hnp.arrays(float, (6, 3), elements=DEVIATION),
    noise_y=hnp.arrays(float, 6, elements=DEVIATION),
    loss=st.sampled_from([lambda p, t: (p - t) ** 2, lambda p, t: 7 * jnp.abs(p - t) ** 3]),
)
def test_gauss_newton_finds_the_most_likely_point_of_a_plane(noise_x, noise_y, loss):
    """Closed form: z - S n (n' z) / (n' S n), n = (w, -1), S = diag(noise^2); by any loss of r."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(5)
        w, x, y = rng.normal(size=3), rng.normal(size=(6, 3)), rng.normal(size=6)
        r = refiner(linear, rules.gauss_newton(1.0, 0.0), loss=loss)
        state, _ = r.step(jnp.asarray(w), r.init(x, y, noise_x=noise_x, noise_y=noise_y))
    normal, z = np.append(w, -1.0), np.column_stack([x, y])
    variance = np.column_stack([noise_x, noise_y]) ** 2
    for i in range(6):
        spread = normal @ (variance[i] * normal)
        if spread > 0:
            z[i] -= variance[i] * normal * (normal @ z[i]) / spread
    np.testing.assert_allclose(np.column_stack([state.data.x, state.data.y]), z, atol=1e-10)


def problem(layout, dtype=np.float32, steps=24):
    rng = np.random.default_rng(7)
    size = 2 * getattr(layout, "length", 1)
    params = typed(oracle.Net(rng, size, 2).params, dtype)
    x, y = rng.normal(size=(steps, 2)).astype(dtype), rng.normal(size=(steps, 2)).astype(dtype)
    return params, x, y


@float64_first
@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("unit_step", layouts.windows(3)),
        ("gauss_newton", layouts.rows()),
        pytest.param("dataset_norm", layouts.windows(3), marks=pytest.mark.slow),
        pytest.param("gauss_newton", layouts.windows(3), marks=pytest.mark.slow),
    ],
)
def test_noise_of_one_is_no_noise(dtype, name, layout):
    """To the last places: another program may round differently. None counts as 1."""
    params, x, y = problem(layout, dtype)
    r = refiner(tanh_net, RULES[name], layout)
    plain, info = r.step(params, r.init(x, y))
    for noise in (
        {"noise_x": 1, "noise_y": np.ones_like(y)},
        {"noise_y": 1.0},
        {"noise_x": [1, 1]},
    ):
        found, found_info = r.step(params, r.init(x, y, **noise))
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(found.data.x, plain.data.x, rtol=4 * eps, atol=eps)
        np.testing.assert_allclose(found.data.y, plain.data.y, rtol=4 * eps, atol=eps)
        np.testing.assert_array_equal(found_info.gate, info.gate)


@given(scale=st.floats(0.01, 100), seed=st.integers(0, 5))
def test_only_noise_times_step_size_counts(scale, seed):
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        layout = layouts.windows(3)
        params, x, y = problem(layout, np.float64)
        noise = {"noise_x": rng.uniform(0.1, 2, x.shape), "noise_y": rng.uniform(0.1, 2, y.shape)}
        larger = {name: scale * n for name, n in noise.items()}
        one = refiner(tanh_net, rules.unit_step(0.1), layout)
        other = refiner(tanh_net, rules.unit_step(0.1 / scale), layout)
        expected = run(one, params, one.init(x, y, **noise), 3)
        found = run(other, params, other.init(x, y, **larger), 3)
    np.testing.assert_allclose(found.x, expected.x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.y, expected.y, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", RULES)
@given(data=st.data())
def test_a_cell_without_noise_keeps_its_bits(name, data):
    layout = layouts.windows(3)
    params, x, y = problem(layout)
    x[::3] = -0.0
    x[5, 1] = np.nan
    noisy_x, noisy_y = (data.draw(hnp.arrays(bool, a.shape)) for a in (x, y))
    r = refiner(tanh_net, RULES[name], layout)
    found = run(r, params, r.init(x, y, noise_x=0.5 * noisy_x, noise_y=0.5 * noisy_y), 4)
    for after, before, noisy in ((found.x, x, noisy_x), (found.y, y, noisy_y)):
        still = ~noisy & ~np.isnan(before)
        bits = np.asarray(after)[still].view(np.int32)
        np.testing.assert_array_equal(bits, before[still].view(np.int32))
    assert np.isnan(found.x[5, 1])


def test_the_gate_and_residuals_stay_in_units_of_y(rng):
    params, x, y = problem(layouts.rows())
    r = refiner(tanh_net, rules.unit_step(0.1, 2.5))
    _, plain = r.step(params, r.init(x, y))
    _, info = r.step(params, r.init(x, y, noise_x=30, noise_y=0.01))
    np.testing.assert_array_equal(info.gate, plain.gate)
    np.testing.assert_array_equal(info.residual, plain.residual)
    assert 0 < info.active < len(x)


def test_a_target_known_exactly_pulls_all_the_same():
    """Noise 0 is not an absent target: x alone goes all the way."""
    r = refiner(linear, rules.gauss_newton(1.0, 0.0))
    state, info = r.step(
        jnp.array([1.0, 2.0]),
        r.init(np.float32([[1, 1]]), np.float32([0]), noise_x=[1, 0.5], noise_y=0),
    )
    np.testing.assert_allclose(state.data.x, [[-0.5, 0.25]], atol=1e-6)
    assert state.data.y == 0
    assert info.residual == 3


def test_a_rule_of_ones_own_sees_units_of_the_noise():
    def descend(numbers, g):
        assert isinstance(g, rules.ScaledGradients)
        return rules.Move(-g.x, -0.5 * g.slope, jnp.ones_like(g.loss))

    r = refiner(linear, rules.Rule({}, descend))
    x, y = np.float32([[1, 1]]), np.float32([0])
    state, _ = r.step(jnp.array([1.0, 2.0]), r.init(x, y, noise_x=[0.5, 1], noise_y=2))
    # r = 3: dL/dx = (6, 12), dL/dy = -6
    np.testing.assert_allclose(state.data.x, [[1 - 6 / 4, 1 - 12]])
    np.testing.assert_allclose(state.data.y, [3 * 2])


def test_an_infinite_gradient_is_left_out_even_where_noise_is_0():
    def predict(_, x):
        return jnp.sqrt(x[0]) + x[1]

    r = refiner(predict, chunk_size=2)
    x, y = np.float32([[0, 1], [1, 1]]), np.float32([5, 5])
    found = run(r, None, r.init(x, y, noise_x=[0, 1]), 2)
    assert found.info.nonfinite == 1
    np.testing.assert_array_equal(found.x[0], x[0])
    assert found.x[1, 1] > 1


def test_instances_of_any_rank(rng):
    x, y = np.float32(rng.normal(size=(5, 2, 3, 4))), np.float32(rng.normal(size=5))
    noise = np.float32(rng.uniform(0.5, 1, size=(3, 1)))
    r = refiner(lambda _, x: x.sum())
    found = run(r, None, r.init(x, y, noise_x=noise), max_steps=2)
    flat_noise = np.broadcast_to(noise, (2, 3, 4)).reshape(24)
    flat = run(r, None, r.init(x.reshape(5, 24), y, noise_x=flat_noise), max_steps=2)
    np.testing.assert_allclose(found.x.reshape(5, 24), flat.x, atol=1e-6)


def test_noise_per_column_is_not_copied_to_windows():
    """One window stands for all: nothing of the size of all windows is made of it."""
    layout = layouts.windows(5)
    data = refiner(tanh_net, layout=layout).init(*problem(layout)[1:], noise_x=[1, 2]).data
    assert data.noise_x.shape == (1, 2)
    cut = layout.cut(data, 0, 10)
    assert cut.noise_x.shape == (1, 5, 2)
    assert cut.noise_y is None


@pytest.mark.slow
def test_transformations_agree(rng):
    """jit, vmap over noise, scan and a gradient by the noise."""
    layout = layouts.windows(3)
    params, x, y = problem(layout)
    r = refiner(tanh_net, rules.gauss_newton(), layout)

    def refined(noise):
        return run(r, params, r.init(x, y, noise_x=noise), 3).x

    sweep = jnp.array([[0.1, 1.0], [2.0, 0.3]])
    expected = jnp.stack([refined(noise) for noise in sweep])
    np.testing.assert_allclose(jax.vmap(refined)(sweep), expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(refined)(sweep[1]), expected[1], atol=1e-6)

    def size_after(noise):
        state = r.init(x, y, noise_x=noise)
        state, _ = jax.lax.scan(lambda s, _: (r.step(params, s)[0], None), state, length=3)
        return jnp.sum(state.data.x**2)

    value, slope = jax.jit(jax.value_and_grad(size_after))(sweep[1])
    np.testing.assert_allclose(value, jnp.sum(expected[1] ** 2), rtol=1e-5)
    h = jnp.array([0.0, 1e-2])
    numeric = (jnp.sum(refined(sweep[1] + h) ** 2) - jnp.sum(refined(sweep[1] - h) ** 2)) / 2e-2
    np.testing.assert_allclose(slope[1], numeric, rtol=0.05)


def test_other_noise_of_equal_shape_compiles_nothing():
    layout = layouts.windows(3)
    params, x, y = problem(layout)
    r = refiner(tanh_net, layout=layout)

    def solve(scale):
        run(r, params, r.init(x, y, noise_x=scale * np.ones(2), noise_y=scale * np.ones_like(y)), 3)

    solve(1.0)
    assert count_compilations(lambda: solve(0.3)) == 0


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (refiner, "cells"),
        pytest.param(refiner, "one per column", marks=pytest.mark.slow),
        pytest.param(global_refiner, "cells", marks=pytest.mark.slow),
    ],
)
def test_a_mesh_gives_the_same(rng, x64, make, kind):
    layout = layouts.windows(4, 2, 3)
    params, x, y = problem(layout, np.float64, 47)
    noise = {"noise_x": noise_of(rng, kind, x.shape), "noise_y": noise_of(rng, kind, y.shape)}
    mesh = Mesh(np.array(jax.devices()[:4]), ("time",))
    one, many = (make(tanh_net, layout=layout, mesh=m) for m in (None, mesh))
    single, shared = (run(r, params, r.init(x, y, **noise), 4) for r in (one, many))
    assert shared.state.data.noise_x.sharding.spec == shared.state.data.x.sharding.spec
    np.testing.assert_allclose(shared.x[:47], single.x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(shared.y[:47], single.y, rtol=0, atol=1e-10)
    assert np.abs(single.x - x).max() > 0.01


def test_global_objective_and_gradient(rng, x64):
    layout = layouts.windows(4)
    params, x, y = problem(layout, np.float64)
    noise_x, noise_y = (noise_of(rng, "cells", a.shape) for a in (x, y))
    r = global_refiner(tanh_net, layout, 0.7, keep_gradient=True)
    state = r.init(x, y, noise_x=noise_x, noise_y=noise_y)
    moved_x, moved_y = (
        a + 0.1 * n * rng.normal(size=a.shape) for a, n in ((x, noise_x), (y, noise_y))
    )
    state = state._replace(data=state.data._replace(x=jnp.asarray(moved_x), y=jnp.asarray(moved_y)))
    _, info = r.step(params, state)

    def objective(x1, y1):
        residuals = [tanh_net(params, x1[s : s + 4]) - y1[s + 4] for s in range(len(x) - 4)]
        offsets = np.concatenate([(x1 - x).ravel(), (y1 - y).ravel()])
        noise = np.concatenate([noise_x.ravel(), noise_y.ravel()])
        safe = np.where(noise > 0, noise, 1)
        return np.mean(np.square(residuals)) + 0.7 * np.mean((offsets / safe) ** 2)

    assert float(info.objective) == pytest.approx(objective(moved_x, moved_y), rel=1e-12)
    for cell in [(0, 0), (7, 1), (23, 1)]:
        for found, noise, by in ((info.gradient.x, noise_x, 0), (info.gradient.y, noise_y, 1)):
            step = np.zeros_like(x)
            step[cell] = 1e-5
            up, down = (
                objective(*(a + s * step * (i == by) for i, a in enumerate((moved_x, moved_y))))
                for s in (1, -1)
            )
            expected = (up - down) / 2e-5 if noise[cell] > 0 else 0
            np.testing.assert_allclose(found[cell], expected, atol=1e-8)


@pytest.mark.parametrize(
    "optimizer", [optax.adam(0.05), pytest.param(optax.lbfgs(), marks=pytest.mark.slow)]
)
def test_global_without_noise_or_with_noise_of_one_or_none(optimizer):
    layout = layouts.windows(3, target_columns=[0, 1])
    params, x, _ = problem(layout)
    r = global_refiner(tanh_net, layout, optimizer=optimizer)
    plain = run(r, params, r.init(x), 5)
    chex.assert_trees_all_equal(run(r, params, r.init(x, noise_x=1.0), 5).x, plain.x)
    noise = np.ones_like(x)
    noise[::2] = 0
    found = run(r, params, r.init(x, noise_x=noise), 5)
    np.testing.assert_array_equal(found.x[::2], x[::2])
    assert (found.x[1::2] != x[1::2]).any()
    certain = run(r, params, r.init(x, noise_x=[1e-3, 1.0]), 30)
    moves = np.abs(certain.x - x).max(axis=0)
    assert moves[0] < 0.2 * moves[1]


BAD = "is NaN, infinite or negative somewhere: it must be the standard"


@pytest.mark.parametrize(
    ("noise", "error", "says"),
    [
        ({"noise_x": np.nan}, errors.DataError, f"noise_x {BAD}"),
        ({"noise_x": [1, -1]}, errors.DataError, f"noise_x {BAD}"),
        ({"noise_y": np.full((9, 2), np.inf)}, errors.DataError, f"noise_y {BAD}"),
        ({"noise_x": np.ones(3)}, errors.ShapeError, r"noise_x of shape \(3,\) does not broadcast"),
        ({"noise_y": np.ones((1, 9, 2))}, errors.ShapeError, "does not broadcast"),
        ({"noise_x": "loud"}, errors.UnsupportedError, "noise_x must be an array of numbers"),
        ({"noise_x": 1j}, errors.UnsupportedError, "noise_x must be real"),
    ],
)
@pytest.mark.parametrize("devices", [1, 4])
def test_bad_noise(noise, error, says, devices):
    mesh = None if devices == 1 else Mesh(np.array(jax.devices()[:devices]), ("time",))
    r = refiner(tanh_net, layout=layouts.windows(2), mesh=mesh)
    with pytest.raises(error, match=says):
        r.init(np.zeros((9, 2)), np.zeros((9, 2)), **noise)


def test_noise_of_targets_that_are_columns_is_refused():
    r = refiner(tanh_net, layout=layouts.windows(2, target_columns=[0]))
    with pytest.raises(errors.ShapeError, match="their noise is that of noise_x"):
        r.init(np.zeros((9, 2)), noise_y=1.0)
