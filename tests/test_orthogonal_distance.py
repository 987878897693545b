"""The iterated Kalman update against NumPy loops, closed forms and ODRPACK."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.sharding import Mesh
from scipy.optimize import minimize

from denograd_jax import (
    Model,
    as_model,
    causal_refiner,
    errors,
    layouts,
    models,
    refine,
    refiner,
    rules,
    run,
    stream,
)
from denograd_jax._core._constrained import Limits, constrained
from denograd_jax.calibration import density_of
from tests import oracle
from tests.models import linear, tanh_net
from tests.precision import float64_first

BAR = {"float32": 2e-4, "float64": 1e-9}
SCALE, MISFIT = 0.7, 0.3


def typed(tree, dtype):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


# The oracle: Sigma and S are dense matrices, nothing is scaled, one instance after another.


def from_origin(net, z, z0, shape, sigma, misfit, dirty=1.0):
    """How far one instance goes from z0 = (x, y), linearised at z, and the gate."""
    q = z.size - np.prod(shape)
    x, y = z[:-q].reshape(shape), z[-q:]
    g = np.hstack([net.jacobian(x), -np.eye(q)])
    covariance = np.diag(sigma**2)
    s = misfit**2 * np.eye(q)
    at_origin = net.value(x) - y - g @ (z - z0)
    v1 = g @ covariance @ g.T + s
    dz = -covariance @ g.T @ np.linalg.pinv(v1) @ at_origin
    if dirty == 1:
        return dz, 1.0
    densities = []
    for v in (v1, s):
        normal = np.exp(-0.5 * at_origin @ np.linalg.solve(v, at_origin))
        densities.append(normal / np.sqrt(np.linalg.det(2 * np.pi * v)))
    p = dirty * densities[0] / (dirty * densities[0] + (1 - dirty) * densities[1])
    return p * dz, p


def solve_rows(net, x, y, noise_x, noise_y, steps, misfit=MISFIT, dirty=1.0):
    """Noise is that of the cells times the scale; 0 holds a cell."""
    z0 = np.column_stack([x, y])
    sigma = np.column_stack([noise_x, noise_y])
    z, gates = z0.copy(), np.zeros(len(x))
    for _ in range(steps):
        for i in range(len(z)):
            dz, gates[i] = from_origin(net, z[i], z0[i], x.shape[1:], sigma[i], misfit, dirty)
            z[i] = z0[i] + dz
    return z[:, : x.shape[1]], z[:, x.shape[1] :], gates


def solve_series(net, x, y, noise_x, noise_y, steps, layout, columns=None, misfit=MISFIT):
    """y is None where the target is columns of x; each cell goes to the mean of all proposals."""
    x0, y0 = x, y
    for _ in range(steps):
        sum_x, count_x = np.zeros(x0.shape), np.zeros(x0.shape)
        q = len(columns) if y is None else y.shape[1]
        sum_y, count_y = np.zeros((len(x), q)), np.zeros((len(x), 1))
        for s in range(0, len(x) - layout.span + 1, layout.stride):
            here, t = slice(s, s + layout.length), s + layout.span - 1

            def joined(xs, ys, here=here, t=t):
                target = xs[t, columns] if columns is not None else ys[t]
                return np.append(xs[here].ravel(), target)

            shape = (layout.length, x.shape[1])
            sigma = joined(noise_x, noise_y)
            dz, _ = from_origin(net, joined(x, y), joined(x0, y0), shape, sigma, misfit)
            sum_x[here] += dz[:-q].reshape(shape)
            count_x[here] += 1
            sum_y[t] += dz[-q:]
            count_y[t] += 1
        if columns is not None:
            sum_x[:, columns] += sum_y
            count_x[:, columns] += count_y
        x = x0 + sum_x / np.maximum(count_x, 1)
        y = None if y0 is None else y0 + sum_y / np.maximum(count_y, 1)
    return x, y


def noise_of(rng, shape):
    """Standard deviations of cells, of which some are 0."""
    return rng.uniform(0.1, 2.0, shape) * (rng.random(shape) > 0.1)


@float64_first
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("batched", [False, True])
def test_rows(rng, dtype, outputs, batched):
    net = oracle.Net(rng, 4, outputs)
    x, y = rng.normal(size=(21, 4)), rng.normal(size=(21, outputs))
    noise_x, noise_y = noise_of(rng, x.shape), noise_of(rng, y.shape)
    expected = solve_rows(net, x, y, SCALE * noise_x, SCALE * noise_y, 3)
    model = Model(tanh_net, None, jax.vmap(tanh_net, (None, 0)) if batched else None)
    r = refiner(model, rules.orthogonal_distance(SCALE, MISFIT), chunk_size=8)
    state = r.init(x.astype(dtype), y.astype(dtype), noise_x=noise_x, noise_y=noise_y)
    solution = run(r, typed(net.params, dtype), state, max_steps=3)
    np.testing.assert_allclose(solution.x, expected[0], rtol=BAR[dtype.name], atol=BAR[dtype.name])
    np.testing.assert_allclose(solution.y, expected[1], rtol=BAR[dtype.name], atol=BAR[dtype.name])
    assert solution.x.dtype == dtype
    assert solution.steps == 3
    for after, before, noise in ((solution.x, x, noise_x), (solution.y, y, noise_y)):
        np.testing.assert_array_equal(after[noise == 0], before.astype(dtype)[noise == 0])


SERIES = [
    layouts.windows(4, 2, 1),
    layouts.windows(3, 1, 2, flatten=True),
    layouts.windows(3, 1, 5),
]


@float64_first
@pytest.mark.parametrize("layout", SERIES)
@pytest.mark.parametrize("outputs", [1, 2])
def test_series(rng, dtype, layout, outputs):
    net = oracle.Net(rng, layout.length * 2, outputs)
    x, y = rng.normal(size=(31, 2)), rng.normal(size=(31, outputs))
    noise = noise_of(rng, x.shape), noise_of(rng, y.shape)
    expected = solve_series(net, x, y, *(SCALE * n for n in noise), 3, layout)
    r = refiner(tanh_net, rules.orthogonal_distance(SCALE, MISFIT), layout, chunk_size=4)
    state = r.init(x.astype(dtype), y.astype(dtype), noise_x=noise[0], noise_y=noise[1])
    solution = run(r, typed(net.params, dtype), state, max_steps=3)
    np.testing.assert_allclose(solution.x, expected[0], rtol=BAR[dtype.name], atol=BAR[dtype.name])
    np.testing.assert_allclose(solution.y, expected[1], rtol=BAR[dtype.name], atol=BAR[dtype.name])


@pytest.mark.parametrize("shared", [True, False])
def test_targets_that_are_columns(rng, x64, shared):
    layout = layouts.windows(3, 2, 1, target_columns=[2, 0], shared=shared)
    net = oracle.Net(rng, 9, 2)
    x = rng.normal(size=(31, 3))
    noise = noise_of(rng, x.shape)
    arguments = (None, SCALE * noise, None, 2, layout, [2, 0])
    if not shared:
        arguments = (x[:, [2, 0]], SCALE * noise, SCALE * noise[:, [2, 0]], 2, layout)
    expected = solve_series(net, x, *arguments)
    r = refiner(tanh_net, rules.orthogonal_distance(SCALE, MISFIT), layout)
    solution = run(r, net.params, r.init(x, noise_x=noise), max_steps=2)
    np.testing.assert_allclose(solution.x, expected[0], rtol=0, atol=1e-9)
    if not shared:
        np.testing.assert_allclose(solution.y, expected[1], rtol=0, atol=1e-9)


def test_a_linear_model_gives_the_conditional_mean_in_one_step(x64, rng):
    """Dense: z clean given z observed and 0 = w x - y + misfit, all jointly Gaussian.

    The clean z has a flat prior, so that z given z observed is N(z observed, Sigma).
    """
    w = rng.normal(size=(2, 3))
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    noise_x, noise_y = rng.uniform(0.1, 2, x.shape), rng.uniform(0.1, 2, y.shape)
    r = refiner(linear, rules.orthogonal_distance(1.0, MISFIT))
    one = run(r, w, r.init(x, y, noise_x=noise_x, noise_y=noise_y), max_steps=1)
    many = run(r, w, r.init(x, y, noise_x=noise_x, noise_y=noise_y), max_steps=4)
    for i in range(9):
        g = np.hstack([w, -np.eye(2)])
        precision = np.diag(np.append(noise_x[i], noise_y[i]) ** -2.0)
        information = precision + g.T @ g / MISFIT**2
        expected = np.linalg.solve(information, precision @ np.append(x[i], y[i]))
        np.testing.assert_allclose(np.append(one.x[i], one.y[i]), expected, rtol=1e-9)
    np.testing.assert_allclose(many.x, one.x, rtol=1e-9)


def curve(params, x):
    return params[0] * jnp.exp(params[1] * x[0]) + jnp.sin(x[0])


def test_steps_lead_to_the_nearest_point_of_a_curve(x64):
    """Against orthogonal distance regression: its points, given the parameters that it found."""
    odrpack = pytest.importorskip("odrpack")
    rng = np.random.default_rng(0)
    given = np.array([1.2, 0.4])
    clean = np.linspace(-2, 2, 15)
    x = clean + 0.1 * rng.normal(size=15)
    y = given[0] * np.exp(given[1] * clean) + np.sin(clean) + 0.2 * rng.normal(size=15)
    noise_x, noise_y = rng.uniform(0.05, 0.15, 15), rng.uniform(0.1, 0.3, 15)
    found = odrpack.odr_fit(
        lambda x, beta: beta[0] * np.exp(beta[1] * x) + np.sin(x),
        x,
        y,
        beta0=given,
        weight_x=noise_x**-2,
        weight_y=noise_y**-2,
        sstol=1e-15,
        partol=1e-15,
    )
    r = refiner(curve, rules.orthogonal_distance())
    state = r.init(x[:, None], y, noise_x=noise_x[:, None], noise_y=noise_y)
    params = jnp.asarray(found.beta)
    solution = run(r, params, state, max_steps=40)
    np.testing.assert_allclose(solution.x[:, 0] - x, found.delta, atol=1e-6)
    np.testing.assert_allclose(solution.y - y, found.eps, atol=1e-6)
    few = run(r, params, state, max_steps=4)
    np.testing.assert_allclose(few.x, solution.x, atol=1e-4)


def test_steps_lead_to_the_mode_of_the_posterior(x64):
    """Against a general minimiser of the sum of squares over noise and misfit."""
    net = oracle.Net(np.random.default_rng(3), 2, 2)
    net.w2 *= 0.3  # without a line search the steps need a curvature that is small over the noise
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    r = refiner(tanh_net, rules.orthogonal_distance(0.1, 0.3))
    solution = run(r, net.params, r.init(x, y), max_steps=60)
    for i in range(5):
        z0 = np.append(x[i], y[i])

        def cost(z, z0=z0):
            r = net.value(z[:2]) - z[2:]
            return np.sum((z - z0) ** 2) / 0.1**2 + np.sum(r**2) / 0.3**2

        mode = minimize(cost, z0, method="BFGS", options={"gtol": 1e-9}).x
        np.testing.assert_allclose(np.append(solution.x[i], solution.y[i]), mode, atol=1e-6)


# The three harms of gauss_newton and unit_step.


def test_where_y_alone_is_noisy_x_stays_and_y_shrinks(x64, rng):
    x, y, w = rng.normal(size=(50, 3)), rng.normal(size=50), rng.normal(size=3)
    sigma, s = 0.5, 0.2
    r = refiner(linear, rules.orthogonal_distance(1.0, s))
    solution = run(r, w, r.init(x, y, noise_x=0.0, noise_y=sigma), max_steps=3)
    np.testing.assert_array_equal(solution.x, x)
    share = sigma**2 / (sigma**2 + s**2)
    np.testing.assert_allclose(solution.y, y + share * (x @ w - y), rtol=1e-12)


def test_what_no_model_could_know_is_left_in_y(x64):
    """Monte Carlo: the error of y falls, where a full projection lets it rise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2))
    w, s, sigma = np.array([1.0, -0.5]), 0.3, 0.1
    clean = x @ w + s * rng.normal(size=len(x))
    y = clean + sigma * rng.normal(size=len(x))
    errors_of = {}
    for name, rule in {
        "ours": rules.orthogonal_distance(1.0, s),
        "projection": rules.gauss_newton(1.0, 0.0),
    }.items():
        r = refiner(linear, rule)
        state = r.init(x, y, noise_x=0.0, noise_y=sigma)
        errors_of[name] = np.mean((run(r, w, state, max_steps=1).y - clean) ** 2)
    assert errors_of["ours"] == pytest.approx(1 / (1 / sigma**2 + 1 / s**2), rel=0.03)
    assert errors_of["projection"] > 8 * sigma**2


def test_there_is_nothing_to_tune_and_further_steps_change_nothing(x64):
    net = oracle.Net(np.random.default_rng(1), 3)
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    r = refiner(tanh_net, rules.orthogonal_distance(0.1, 0.2))
    many, more = (run(r, net.params, r.init(x, y), steps) for steps in (60, 61))
    np.testing.assert_allclose(more.x, many.x, atol=1e-10)
    assert np.abs(many.x - x).max() > 0.01


# Masks, missing values.


def test_what_is_held_fixed_leaves_the_whole_correction_to_others(x64, rng):
    """The same as noise of 0, by NumPy; a held target is exact too."""
    net = oracle.Net(rng, 4, 2)
    x, y = rng.normal(size=(21, 4)), rng.normal(size=(21, 2))
    movable = rng.random(x.shape) > 0.4, rng.random(y.shape) > 0.4
    r = refiner(tanh_net, rules.orthogonal_distance(SCALE, 0.0))
    state = r.init(x, y, movable_x=movable[0], movable_y=movable[1])
    solution = run(r, net.params, state, max_steps=1)
    expected = solve_rows(net, x, y, SCALE * movable[0], SCALE * movable[1], 1, misfit=0.0)
    np.testing.assert_allclose(solution.x, expected[0], atol=1e-9)
    np.testing.assert_allclose(solution.y, expected[1], atol=1e-9)
    np.testing.assert_array_equal(solution.x[~movable[0]], x[~movable[0]])

    kept = refiner(tanh_net, rules.orthogonal_distance(SCALE, 0.1), refine_targets=False)
    solution = run(kept, net.params, kept.init(x, y), max_steps=3)
    expected = solve_rows(net, x, y, SCALE * np.ones_like(x), 0 * y, 3, misfit=0.1)
    np.testing.assert_allclose(solution.x, expected[0], atol=1e-9)
    np.testing.assert_array_equal(solution.y, y)


def test_missing_targets_say_nothing(x64, rng):
    """Each instance is that of its observed targets alone."""
    x, y, w = rng.normal(size=(12, 4)), rng.normal(size=(12, 3)), rng.normal(size=(3, 4))
    y[rng.random(y.shape) < 0.4] = np.nan
    y[0] = np.nan
    for dirty in (1.0, 0.3):
        rule = rules.orthogonal_distance(SCALE, MISFIT, dirty=dirty)
        r = refiner(linear, rule)
        solution = run(r, w, r.init(x, y), max_steps=1)
        np.testing.assert_array_equal(solution.x[0], x[0])
        for i in range(1, 12):
            seen = ~np.isnan(y[i])
            if not seen.any():
                continue
            one = refiner(linear, rule)
            alone = run(one, w[seen], one.init(x[i : i + 1], y[i : i + 1, seen]), max_steps=1)
            np.testing.assert_allclose(solution.x[i], alone.x[0], rtol=1e-10)
            np.testing.assert_allclose(solution.y[i, seen], alone.y[0], rtol=1e-10)


def test_an_imputed_cell_is_held_to_its_fill_by_its_noise(x64):
    x = np.array([[1.0, 4.0], [np.nan, 5.0], [3.0, 6.0]])
    w, y = np.array([1.0, 1.0]), np.array([5.0, 10.0, 9.0])
    r = refiner(linear, rules.orthogonal_distance())
    noise = np.where(np.isnan(x), 1.0, 0.0)
    state = r.init(x, y, movable_x=np.ones_like(x, bool), noise_x=noise, noise_y=0.5)
    solution = run(r, w, state, max_steps=2)
    fill, residual = 2.0, 2.0 + 5.0 - 10.0
    np.testing.assert_allclose(solution.x[1], [fill - residual / 1.25, 5.0])
    np.testing.assert_allclose(solution.y[1], 10 + 0.25 * residual / 1.25)
    still = run(r, w, r.init(x, y), max_steps=2)  # else a missing cell stays missing
    assert np.isnan(still.x[1, 0])


def test_what_is_not_finite_stays_where_it_began():
    def log(params, x):
        return params * jnp.log(x[0])

    x, y = np.float32([[1.0], [-1.0], [2.0]]), np.float32([0.5, 0.5, 0.5])
    r = refiner(log, rules.orthogonal_distance())
    solution = run(r, jnp.array(1.0), r.init(x, y), max_steps=3)
    assert solution.x[1, 0] == -1
    assert solution.y[1] == 0.5
    assert solution.info.nonfinite == 1
    assert (solution.x[::2] != x[::2]).all()


# The soft gate.


@float64_first
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_soft_gate(rng, dtype, outputs):
    net = oracle.Net(rng, 4, outputs)
    x, y = rng.normal(size=(21, 4)), rng.normal(size=(21, outputs))
    ones = SCALE * np.ones_like(x), SCALE * np.ones_like(y)
    for dirty in (0.05, 0.5):
        expected = solve_rows(net, x, y, *ones, 3, dirty=dirty)
        r = refiner(tanh_net, rules.orthogonal_distance(SCALE, MISFIT, dirty=dirty))
        state = r.init(x.astype(dtype), y.astype(dtype))
        solution = run(r, typed(net.params, dtype), state, max_steps=3)
        bar = BAR[dtype.name]
        np.testing.assert_allclose(solution.x, expected[0], rtol=bar, atol=bar)
        np.testing.assert_allclose(solution.info.gate, expected[2], rtol=50 * bar, atol=bar)
    assert expected[2].min() < 0.9


def test_without_a_misfit_all_is_noisy_that_is_off_the_surface():
    x, w = np.float32([[1, 1], [1, 2]]), jnp.array([1.0, 1.0])
    y = np.float32([2, 2])
    found = []
    for dirty in (1.0, 0.01, 0.0):
        r = refiner(linear, rules.orthogonal_distance(1.0, 0.0, dirty=dirty))
        solution = run(r, w, r.init(x, y), max_steps=2)
        found.append(solution)
        assert np.isfinite(solution.x).all()
    np.testing.assert_array_equal(found[1].info.gate, [0, 1])
    np.testing.assert_array_equal(found[2].info.gate, [0, 1])
    np.testing.assert_allclose(found[0].x, found[1].x)


def test_a_share_of_all_is_no_gate_whether_it_is_traced_or_not(rng):
    net = oracle.Net(rng, 4)
    params = typed(net.params, np.float32)
    x, y = rng.normal(size=(21, 4)).astype(np.float32), rng.normal(size=21).astype(np.float32)
    found = []
    for dirty in (1.0, jnp.array(1.0)):
        r = refiner(tanh_net, rules.orthogonal_distance(SCALE, MISFIT, dirty=dirty))
        found.append(run(r, params, r.init(x, y), max_steps=2))
        np.testing.assert_array_equal(found[-1].info.gate, 1)
    np.testing.assert_allclose(found[0].x, found[1].x, rtol=1e-6)


# Numbers at the edges.

HARD = [
    (1.0, 0.0),
    (0.0, 0.0),  # nothing may be moved, nothing is unknown
    (0.0, 1e-20),
    (1e-20, 1e-20),
    (1e4, 1e-4),
    (1e-15, 1e5),
]


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_all_is_finite_and_so_are_derivatives(outputs, gated):
    """Rows on the surface, rows where the model is level, equal targets, far ones."""
    w = jnp.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])[:outputs]
    x = jnp.array([[0.0, 0.0], [1.0, 1.0], [1.0, -0.5], [1e4, 1e4]])
    y = jnp.array([[0.0, 0.0, 0.0], [5.0, 6.0, 1.0], [0.0, 0.0, 0.0], [1e5, -1e5, 1.0]])
    y = y[:, :outputs]

    def predict(w, x):
        return jnp.tanh(w @ x)

    def refined(numbers, x, y, noise):
        r = refiner(predict, rules.orthogonal_distance(**numbers))
        state = r.init(x, y, noise_x=noise[0], noise_y=noise[1])
        for _ in range(2):
            state, _ = r.step(w, state)
        return state.data.x, state.data.y

    slopes_of = jax.jit(jax.jacrev(refined, (0, 1, 2, 3)))
    for (scale, misfit), dirty, noise in itertools.product(
        HARD, [0.0, 0.5, 1.0] if gated else [None], [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0)]
    ):
        numbers = {"noise_scale": scale, "misfit": misfit} | ({"dirty": dirty} if gated else {})
        arguments = jax.tree.map(jnp.array, numbers), x, y, jnp.array(noise)
        chex.assert_tree_all_finite(refined(*arguments))
        chex.assert_tree_all_finite(slopes_of(*arguments))


def test_more_exact_targets_than_cells_are_met_as_closely_as_can_be():
    """Two targets that contradict each other: least squares, in single precision."""
    w = jnp.array([[1.0, 2.0], [1.0, 2.0]])
    r = refiner(linear, rules.orthogonal_distance())
    state = r.init(np.float32([[0, 0]]), np.float32([[4, 6]]), noise_y=0.0)
    solution = run(r, w, state, max_steps=2)
    np.testing.assert_allclose(solution.x, [[1, 2]], rtol=1e-5)


def test_units_of_targets_do_not_matter(rng):
    """One in thousandths, one in millions: in single precision an inverse would lose the first."""
    w = rng.normal(size=(2, 3)).astype(np.float32)
    x, y = rng.normal(size=(9, 3)).astype(np.float32), rng.normal(size=(9, 2)).astype(np.float32)
    r = refiner(linear, rules.orthogonal_distance())
    plain = run(r, w, r.init(x, y), max_steps=2)
    units = np.float32([1e-6, 1e6])
    scaled = run(r, units[:, None] * w, r.init(x, units * y, noise_y=units), max_steps=2)
    np.testing.assert_allclose(scaled.x, plain.x, atol=1e-5)
    np.testing.assert_allclose(np.asarray(scaled.y) / units, plain.y, atol=1e-5)


@pytest.mark.parametrize(
    "numbers", [{"noise_scale": -1.0}, {"misfit": -0.1}, {"dirty": 1.5}, {"dirty": -0.1}]
)
def test_refused_numbers(numbers):
    with pytest.raises(ValueError, match=next(iter(numbers))):
        rules.orthogonal_distance(**numbers)


# Transformations.


def problem(layout, steps=24, dtype=np.float32):
    rng = np.random.default_rng(7)
    size = 2 * getattr(layout, "length", 1)
    params = typed(oracle.Net(rng, size, 2).params, dtype)
    x, y = rng.normal(size=(steps, 2)).astype(dtype), rng.normal(size=(steps, 2)).astype(dtype)
    return params, x, y


LAYOUTS = [layouts.rows(), layouts.windows(3, 1, 2)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vmap_jit_scan_and_grad(layout, x64):
    params, x, y = problem(layout, dtype=np.float64)
    r = refiner(tanh_net, rules.orthogonal_distance(0.5, MISFIT), layout)
    state = r.init(x, y)

    def refined(scale, x=x):
        state = r.init(x, y)
        state = state._replace(hyperparameters={**state.hyperparameters, "noise_scale": scale})
        state, _ = jax.lax.scan(lambda s, _: (r.step(params, s)[0], None), state, length=3)
        return state.data.x

    scales = jnp.array([0.2, 0.5, 1.1])
    swept = jax.jit(jax.vmap(refined))(scales)
    for scale, found in zip(scales, swept, strict=True):
        np.testing.assert_allclose(found, refined(scale), rtol=1e-10)
    np.testing.assert_allclose(swept[1], run(r, params, state, max_steps=3).x, rtol=1e-10)
    chex.assert_numerical_grads(
        lambda scale: jnp.sum(refined(scale) ** 2), (jnp.array(0.5),), order=1, atol=1e-5
    )
    slope = jax.grad(lambda x: jnp.sum(refined(0.5, x) ** 2))(jnp.asarray(x))
    assert np.isfinite(slope).all()

    several = jax.vmap(lambda x: run(r, params, r.init(x, y), max_steps=2).x)(np.stack([x, 2 * x]))
    np.testing.assert_allclose(several[0], run(r, params, state, max_steps=2).x, rtol=1e-10)


def test_it_can_go_on_and_other_numbers_compile_nothing():
    from tests.compilations import count_compilations

    layout = LAYOUTS[1]
    params, x, y = problem(layout)
    r = refiner(tanh_net, rules.orthogonal_distance(0.5, MISFIT), layout)
    whole = run(r, params, r.init(x, y), max_steps=4)
    parts = run(r, params, run(r, params, r.init(x, y), max_steps=1).state, max_steps=3)
    np.testing.assert_allclose(parts.x, whole.x, atol=1e-6)
    other = refiner(tanh_net, rules.orthogonal_distance(0.2, 0.1), layout)
    assert count_compilations(lambda: run(other, params, other.init(x, y), max_steps=4)) == 0
    state = r.init(x, y)
    jax.jit(r.step, donate_argnums=1)(params, state)  # nothing is donated twice


def test_other_rules_carry_no_origin_and_states_are_not_mixed_up():
    params, x, y = problem(LAYOUTS[0])
    plain, ours = (refiner(tanh_net, rule) for rule in (None, rules.orthogonal_distance()))
    assert plain.init(x, y).origin is None
    mixed = ours.init(x, y)._replace(origin=None)
    with pytest.raises(errors.UnsupportedError, match="anchored"):
        ours.step(params, mixed)


def test_labels_are_refused():
    r = refiner(lambda w, x: w @ x, rules.orthogonal_distance(), refine_targets=False)
    with pytest.raises(errors.UnsupportedError):
        r.step(jnp.ones((3, 2)), r.init(np.ones((4, 2), np.float32), np.array([0, 1, 2, 1])))


def test_direction_is_the_loss_gradient_as_ever():
    params, x, y = problem(LAYOUTS[1])
    directions = []
    for rule in (rules.unit_step(), rules.orthogonal_distance()):
        r = refiner(tanh_net, rule, LAYOUTS[1], keep_direction=True)
        directions.append(r.step(params, r.init(x, y))[1].direction)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *directions)


def test_a_model_with_a_density(x64):
    """The residual is from its mean; the covariance has no say in this rule."""
    params, x, y = problem(LAYOUTS[0], dtype=np.float64)
    whole = models.gaussian(Model(tanh_net, params), np.diag([1.0, 2.0]))
    rule = rules.orthogonal_distance(0.5, MISFIT)
    found = []
    for model, loss in ((Model(tanh_net, params), None), (whole, models.gaussian_nll)):
        r = refiner(model, rule, **({} if loss is None else {"loss": loss}))
        found.append(run(r, model.params, r.init(x, y), max_steps=2).x)
    np.testing.assert_allclose(*found, rtol=1e-10)


def test_a_model_without_gradients():
    """Finite differences on the host, all rows of the Jacobian in one call."""
    pytest.importorskip("sklearn")
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(30, 3)).astype(np.float32), rng.normal(size=(3, 2))
    y = (x @ w + 0.1 * rng.normal(size=(30, 2))).astype(np.float32)
    ridge = Ridge(1e-6, fit_intercept=False).fit(x, y)
    model = as_model(ridge, example=x[:2])
    rule = rules.orthogonal_distance(1.0, 0.1)
    r = refiner(model, rule)
    found = run(r, model.params, r.init(x, y), max_steps=2)
    exact = refiner(linear, rule)
    expected = run(exact, jnp.asarray(ridge.coef_, jnp.float32), exact.init(x, y), max_steps=2)
    np.testing.assert_allclose(found.x, expected.x, atol=2e-3)


# Other refiners.


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dirty", [1.0, 0.4])
def test_on_several_devices(layout, dirty, x64):
    params, x, y = problem(layout, 41, np.float64)
    x[5, 1], y[7, 0] = np.nan, np.nan
    rule = rules.orthogonal_distance(0.5, MISFIT, dirty=dirty)
    mesh = Mesh(np.array(jax.devices()[:4]), ("time",))
    one, many = refiner(tanh_net, rule, layout), refiner(tanh_net, rule, layout, mesh=mesh)
    noise = np.random.default_rng(0).uniform(0, 1, x.shape)
    expected = run(one, params, one.init(x, y, noise_x=noise), max_steps=3)
    found = run(many, params, many.init(x, y, noise_x=noise), max_steps=3)
    np.testing.assert_allclose(found.x[:41], expected.x, atol=1e-10)
    np.testing.assert_allclose(found.y[:41], expected.y, atol=1e-10)
    assert found.state.origin.x.sharding == found.state.data.x.sharding


def test_within_limits():
    """A box is a projection of what each step finds, which starts from the observation."""
    params, x, y = problem(LAYOUTS[1])
    r = refiner(tanh_net, rules.orthogonal_distance(0.5, MISFIT), LAYOUTS[1])
    c = constrained(r, Limits(lower_x=-0.5, upper_x=0.5))
    free = r.init(np.clip(x, -0.5, 0.5), y)._replace(origin=r.init(x, y).origin)
    for _ in range(3):
        free, _ = r.step(params, free)
        data = free.data
        free = free._replace(data=data._replace(x=jnp.clip(data.x, -0.5, 0.5)))
    found = run(c, params, c.init(x, y), max_steps=3)
    np.testing.assert_allclose(found.x, free.data.x, atol=1e-6)


def test_on_a_grid():
    """What rounding took back is not added to the next step, which starts from the observation."""
    w = jnp.array([1.0])
    r = refiner(linear, rules.orthogonal_distance())
    limits = Limits(spacing_x=1.0)
    for c in (constrained(r, limits), constrained(constrained(r, limits), Limits(upper_y=9.0))):
        state = c.init(np.float32([[2.0]]), np.float32([4.8]), noise_x=1.0, noise_y=1.0)
        found = run(c, w, state, max_steps=4)  # a linear model: each step finds x = y = 3.4
        np.testing.assert_allclose(found.x, [[3.0]])
        np.testing.assert_allclose(found.y, [3.4], rtol=1e-5)


@pytest.mark.parametrize("lag", [0, 2])
def test_without_look_ahead(lag, x64):
    layout = layouts.windows(3)
    params, x, y = problem(layout, 20, np.float64)
    rule = rules.orthogonal_distance(0.5, MISFIT, dirty=0.4)
    c = causal_refiner(tanh_net, rule, layout, lag=lag, max_steps=3)
    found = c.refine(params, c.init(x, y))
    r = refiner(tanh_net, rule, layout)
    for t in range(c.memory - 1, 20):
        buffer = slice(t - c.memory + 1, t + 1)
        state = r.init(x[buffer], y[buffer])
        alone = run(r, params, state, max_steps=3)
        np.testing.assert_allclose(found.x[t - lag], alone.x[-1 - lag], rtol=1e-9)
        np.testing.assert_allclose(found.y[t - lag], alone.y[-1 - lag], rtol=1e-9)
        _, info = r.step(params, state)
        np.testing.assert_allclose(found.gate[t - lag], info.gate[-1 - lag], rtol=1e-9)


def test_a_series_on_disk_is_refused(tmp_path):
    np.save(tmp_path / "noisy.npy", np.ones((20, 2), np.float32))
    with pytest.raises(errors.UnsupportedError, match="where the data began"):
        stream(
            tanh_net,
            tmp_path / "noisy.npy",
            tmp_path / "refined.npy",
            layout=layouts.windows(3),
            rule=rules.orthogonal_distance(),
        )
    assert not (tmp_path / "refined.npy").exists()


def test_a_data_frame_with_a_rule_of_ones_own():
    """Steps in standardised units, within bounds and on a grid; and without look-ahead."""
    rng = np.random.default_rng(0)
    t = np.arange(200)
    frame = pd.DataFrame(
        {"a": np.sin(t / 9) + 0.1 * rng.normal(size=200), "b": np.round(20 * np.cos(t / 9))}
    )
    rule = rules.orthogonal_distance(0.2, 0.3)
    options = {"rule": rule, "window": 4, "max_steps": 3, "model": lambda w: w[-1]}
    found = refine(frame, bounds={"a": (-1, 1)}, integer="b", **options).data
    assert found["a"].between(-1, 1).all()
    assert (found["b"] == found["b"].round()).all()
    assert (found["a"] != frame["a"]).any()
    delayed = refine(frame, causal=True, warm_up=100, **options).data
    assert np.isfinite(delayed["a"]).all()


# The rank-2 toy: 5 columns of two factors, y a linear function of them, exact.

NOISE = 0.3


def toy(rng, rows=40_000, apart=0.0, within=0.4):
    """Clean x, noisy x, y and its weights w, of length sqrt(0.6).

    Args:
        apart: Deviation of what each column has for itself.
        within: Share of w that lies in the plane of the two factors.
    """
    basis = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    loadings = np.sqrt(2.5) * basis[:, :2]  # columns of variance 1 on average
    clean = rng.normal(size=(rows, 2)) @ loadings.T + apart * rng.normal(size=(rows, 5))
    w = np.sqrt(0.6) * (np.sqrt(within) * basis[:, 0] + np.sqrt(1 - within) * basis[:, 2])
    return clean, clean + NOISE * rng.normal(size=clean.shape), clean @ w, w


def constant(params, row):
    """A model that knows no column: the density of all of them is that of its residuals."""
    return params + 0 * row[0]


def one_row_step(rule, model, x, y, loss=None, **noise):
    r = refiner(model, rule, **({} if loss is None else {"loss": loss}))
    return run(r, model.params, r.init(x, y, **noise), max_steps=1)


def by_density(columns, noise):
    """The posterior mean by a Gaussian density learnt from the noisy columns, each a target."""
    dummy = np.zeros((len(columns), 1))
    model = Model(constant, jnp.asarray(columns.mean(axis=0)))
    whole = density_of(model, layouts.rows(), (dummy, columns)).model
    rule = rules.tweedie()
    return one_row_step(rule, whole, dummy, columns, models.gaussian_nll, noise_x=0, noise_y=noise)


def mean_square(found, clean):
    return np.mean((np.asarray(found) - clean) ** 2)


def test_the_rank_two_toy(x64):
    """One target takes a fifth of the noise away, the columns' correlations three, both four."""
    clean, x, y, w = toy(np.random.default_rng(0))
    exact = {"noise_x": NOISE, "noise_y": 0.0}
    model = Model(linear, jnp.asarray(w))
    ours = one_row_step(rules.orthogonal_distance(), model, x, y, **exact)
    untold = one_row_step(rules.gauss_newton(1.0, 0.0), model, x, y)
    assert mean_square(x, clean) == pytest.approx(0.090, rel=0.02)
    assert mean_square(ours.x, clean) == pytest.approx(0.072, rel=0.02)
    assert mean_square(untold.x, clean) == pytest.approx(0.079, rel=0.02)
    np.testing.assert_array_equal(ours.y, y)
    assert mean_square(untold.y, y) > 0.005

    covariance = np.cov(clean.T)
    alone = by_density(x, NOISE)
    bound = NOISE**2 - NOISE**4 * np.trace(np.linalg.inv(covariance + NOISE**2 * np.eye(5))) / 5
    assert mean_square(alone.y, clean) == pytest.approx(bound, rel=0.02)
    assert bound < 0.036

    both = by_density(np.column_stack([x, y]), np.append(np.full(5, NOISE), 0.0))
    design = np.vstack([np.eye(5), w])
    seen = design @ covariance @ design.T + np.diag(np.append(np.full(5, NOISE**2), 0.0))
    gain = covariance @ design.T @ np.linalg.inv(seen)
    bound = np.trace(covariance - gain @ design @ covariance) / 5
    assert mean_square(both.y[:, :5], clean) == pytest.approx(bound, rel=0.02)
    assert bound < 0.0185
    np.testing.assert_array_equal(both.y[:, 5], y)


def test_the_figures_of_the_toy(x64):
    """.090, .079, .072, .043, .038: where columns have something of their own, too.

    `apart` and `within` were fitted to the figures. The last is the sum of both parts with the true
    f, which takes some noise away twice; the joint density does better.
    """
    clean, x, y, w = toy(np.random.default_rng(1), apart=0.13, within=0.6)
    model = Model(linear, jnp.asarray(w))
    found = {
        "noisy": x,
        "rule 3": one_row_step(rules.gauss_newton(1.0, 0.0), model, x, y).x,
        "rule 5": one_row_step(rules.orthogonal_distance(NOISE), model, x, y, noise_y=0.0).x,
        "score": by_density(x, NOISE).y,
    }
    given_x = models.gaussian(model, [[np.var(x @ w - y)]])
    pull = one_row_step(
        rules.tweedie(), given_x, x, y, models.gaussian_nll, noise_x=NOISE, noise_y=0.0
    )
    found["both"] = found["score"] + (pull.x - x)
    joint = by_density(np.column_stack([x, y]), np.append(np.full(5, NOISE), 0.0)).y[:, :5]
    figures = [mean_square(z, clean) for z in found.values()]
    np.testing.assert_allclose(figures, [0.090, 0.079, 0.072, 0.043, 0.038], rtol=0.03)
    assert mean_square(joint, clean) < 0.032


def test_x_is_let_alone_where_the_noise_is_told_to_be_in_y(x64):
    """x: 0, y: .30 to .095, in root mean squares; s = .1."""
    rng = np.random.default_rng(2)
    x, _, y, w = toy(rng)
    clean = y + 0.1 * rng.normal(size=len(y))
    noisy = clean + NOISE * rng.normal(size=len(y))
    model = Model(linear, jnp.asarray(w))
    rule = rules.orthogonal_distance(1.0, 0.1)
    found = one_row_step(rule, model, x, noisy, noise_x=0.0, noise_y=NOISE)
    assert mean_square(found.x, x) == 0
    assert np.sqrt(mean_square(found.y, clean)) == pytest.approx(0.095, rel=0.02)
