"""The iterated Kalman update against NumPy loops, closed forms and ODRPACK."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from denograd_jax import Model, layouts, refiner, rules, run
from tests import oracle
from tests.kalman_oracle import MISFIT, SCALE, noise_of, solve_rows, solve_series
from tests.models import linear, tanh_net
from tests.precision import BAR, float64_first, typed


@float64_first
@pytest.mark.parametrize(
    ("outputs", "batched"), [(2, False), (1, True), pytest.param(1, False, marks=pytest.mark.slow)]
)
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_missing_targets_say_nothing(x64, rng):
    """Each instance is that of its observed targets alone."""
    x, y, w = rng.normal(size=(12, 4)), rng.normal(size=(12, 3)), rng.normal(size=(3, 4))
    y[rng.random(y.shape) < 0.4] = np.nan
    y[0] = np.nan
    for dirty in (1.0, 0.3):
        rule = rules.orthogonal_distance(SCALE, MISFIT, dirty=dirty)
        r = refiner(linear, rule)
        solution = run(r, w, r.init(x, y), max_steps=1)
        found_x, found_y = np.asarray(solution.x), np.asarray(solution.y)
        np.testing.assert_array_equal(found_x[0], x[0])
        for i in range(1, 12):
            seen = ~np.isnan(y[i])
            if not seen.any() or seen.all():
                continue
            one = refiner(linear, rule)
            alone = run(one, w[seen], one.init(x[i : i + 1], y[i : i + 1, seen]), max_steps=1)
            np.testing.assert_allclose(found_x[i], alone.x[0], rtol=1e-10)
            np.testing.assert_allclose(found_y[i, seen], alone.y[0], rtol=1e-10)


@pytest.mark.slow
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
