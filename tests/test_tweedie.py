"""The posterior mean against closed forms of Gaussian series and rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import toeplitz

from denograd_jax import Model, as_model, errors, layouts, models, refiner, rules, run


def autoregression(params, window):
    """The next step of every channel from the last one: `(1, C)` to `(C,)`."""
    return window[0] @ params


def one_step(predict, params, covariance, layout, arrays, rule=None, **noise):
    model = models.gaussian(Model(predict, params), covariance)
    rule = rules.tweedie() if rule is None else rule
    r = refiner(model, rule=rule, layout=layout, loss=models.gaussian_nll)
    return run(r, model.params, r.init(*arrays, **noise), max_steps=1)


def test_an_autoregressive_series(x64, rng):
    """Against `z - sigma^2 S^-1 z`, S being the covariance matrix of the whole noisy series."""
    phi, steps = 0.8, 60
    covariance = toeplitz(phi ** np.arange(steps)) / (1 - phi**2)
    z = np.linalg.cholesky(covariance) @ rng.normal(size=steps)
    layout = layouts.windows(1, target_columns=(0,))
    solution = one_step(
        autoregression, jnp.array([[phi]]), [[1.0]], layout, (z[:, None],), noise_x=0.5
    )
    expected = z - 0.5**2 * np.linalg.solve(covariance, z)
    # The density of the first step is none of the windows'.
    np.testing.assert_allclose(solution.x[1:, 0], expected[1:], rtol=1e-10)
    assert solution.steps == 1


def test_several_channels_whose_residuals_are_correlated(x64, rng):
    """Against the same, the density's matrix put together from its blocks."""
    steps, channels = 30, 3
    a = 0.3 * rng.normal(size=(channels, channels))
    factor = rng.normal(size=(channels, channels))
    covariance = factor @ factor.T + np.eye(channels)
    sigma = np.array([0.1, 0.0, 0.4])
    z = rng.normal(size=(steps, channels))
    solution = one_step(
        autoregression,
        jnp.asarray(a),
        covariance,
        layouts.windows(1, target_columns=(0, 1, 2)),
        (z,),
        noise_x=sigma,
    )
    residuals = np.zeros((steps - 1, channels, steps, channels))  # of every step by every cell
    for t in range(steps - 1):
        residuals[t, :, t] -= a.T
        residuals[t, :, t + 1] += np.eye(channels)
    design = residuals.reshape((steps - 1) * channels, -1)
    weights = np.kron(np.eye(steps - 1), np.linalg.inv(covariance))
    score = -(design.T @ weights @ design @ z.ravel()).reshape(z.shape)
    np.testing.assert_allclose(solution.x, z + sigma**2 * score, rtol=1e-9)
    np.testing.assert_array_equal(solution.x[:, 1], z[:, 1])


def test_rows_with_a_target(x64, rng):
    """Against the equation: x moves by the residual over its variance, y the other way."""
    x, y, w = rng.normal(size=(20, 3)), rng.normal(size=20), rng.normal(size=3)

    def linear(params, row):
        return row @ params

    s_x, s_y, variance = 0.3, 0.2, 1.7
    solution = one_step(
        linear,
        jnp.asarray(w),
        [[variance]],
        layouts.rows(),
        (x, y),
        noise_x=s_x,
        noise_y=s_y,
    )
    residual = x @ w - y
    np.testing.assert_allclose(
        solution.x, x - s_x**2 * residual[:, None] * w / variance, rtol=1e-12
    )
    np.testing.assert_allclose(solution.y, y + s_y**2 * residual / variance, rtol=1e-12)


def test_the_mean_square_error_is_that_of_the_posterior(x64):
    """Monte Carlo: a known signal of variance 4 in noise of variance 1 leaves 4/5."""
    rng = np.random.default_rng(0)
    clean = 2 * rng.normal(size=40_000)
    noisy = clean + rng.normal(size=clean.size)
    solution = one_step(
        lambda _, x: 0 * x[0],
        None,
        [[5.0]],
        layouts.rows(),
        (np.zeros((clean.size, 1)), noisy),
        noise_y=1.0,
        noise_x=0.0,
    )
    assert np.mean((np.asarray(solution.y) - clean) ** 2) == pytest.approx(0.8, rel=0.02)


def test_the_noise_scale_is_a_multiple_of_the_known_noise_and_is_traced(x64, rng):
    z = rng.normal(size=(12, 1))
    layout = layouts.windows(1, target_columns=(0,))
    phi = jnp.array([[0.5]])
    both = [
        one_step(autoregression, phi, [[1.0]], layout, (z,), rules.tweedie(0.6)).x,
        one_step(autoregression, phi, [[1.0]], layout, (z,), rules.tweedie(2.0), noise_x=0.3).x,
    ]
    np.testing.assert_allclose(*both, rtol=1e-12)

    model = models.gaussian(Model(autoregression, phi), [[1.0]])
    r = refiner(model, rule=rules.tweedie(0.6), layout=layout, loss=models.gaussian_nll)
    state = r.init(z)
    numbers = state.hyperparameters

    def refined(scale):
        moved, _ = r.step(
            model.params, state._replace(hyperparameters=numbers | {"noise_scale": scale})
        )
        return moved.data.x

    np.testing.assert_allclose(jax.jit(refined)(0.6), both[0], rtol=1e-12)
    slope = jax.jvp(refined, (0.6,), (1.0,))[1]
    np.testing.assert_allclose(slope, 2 * (both[0] - z) / 0.6, rtol=1e-9)


def test_a_batched_model_and_equal_models():
    def batch(params, windows):
        return windows[:, 0] @ params

    a = 0.5 * jnp.eye(2)
    plain = Model(autoregression, a)
    z = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    found = []
    for model in (plain, plain._replace(predict_batch=batch)):
        whole = models.gaussian(model, np.eye(2))
        assert whole.predict is models.gaussian(model, 2 * np.eye(2)).predict
        layout = layouts.windows(1, target_columns=(0, 1))
        r = refiner(whole, rule=rules.tweedie(0.4), layout=layout, loss=models.gaussian_nll)
        state, info = r.step(whole.params, r.init(z))
        found.append(state.data.x)
        np.testing.assert_allclose(info.residual, z[:-1] @ a - z[1:], atol=1e-6)
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)


def test_targets_that_are_missing_are_left_out_of_the_density(x64, rng):
    """Against the marginal density of those observed, row by row in NumPy."""
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 3))
    w = rng.normal(size=(4, 3))
    factor = rng.normal(size=(3, 3))
    covariance = factor @ factor.T + 0.5 * np.eye(3)
    y[rng.random(y.shape) < 0.3] = np.nan
    y[0] = np.nan
    model = models.gaussian(Model(lambda params, row: row @ params, jnp.asarray(w)), covariance)
    r = refiner(model, rule=rules.tweedie(), loss=models.incomplete_gaussian_nll)
    state, _ = r.step(model.params, r.init(x, y, noise_x=0.3, noise_y=0.2))
    expected_x, expected_y = x.copy(), y.copy()
    for i in range(30):
        seen = np.flatnonzero(~np.isnan(y[i]))
        residual = x[i] @ w[:, seen] - y[i, seen]
        pull = np.linalg.solve(covariance[np.ix_(seen, seen)], residual)
        expected_x[i] -= 0.3**2 * w[:, seen] @ pull
        expected_y[i, seen] += 0.2**2 * pull
    np.testing.assert_allclose(state.data.x, expected_x, rtol=1e-10)
    known = ~np.isnan(y)
    np.testing.assert_allclose(np.asarray(state.data.y)[known], expected_y[known], rtol=1e-10)


def test_both_losses_agree_where_nothing_is_missing(x64, rng):
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    model = models.gaussian(Model(autoregression, jnp.asarray(rng.normal(size=(2, 2)))), covariance)
    layout = layouts.windows(1, target_columns=(0, 1))
    z, found = rng.normal(size=(40, 2)), []
    for loss in (models.gaussian_nll, models.incomplete_gaussian_nll):
        r = refiner(model, rule=rules.tweedie(0.4), layout=layout, loss=loss)
        found.append(r.step(model.params, r.init(z))[0].data.x)
    np.testing.assert_allclose(*found, rtol=1e-12)


@pytest.mark.parametrize(
    ("covariance", "words"),
    [
        (np.ones(3), "square matrix"),
        (np.ones((2, 3)), "square matrix"),
        (-np.eye(2), "positive definite"),
        (np.full((2, 2), np.nan), "positive definite"),
    ],
)
def test_no_covariance(covariance, words):
    with pytest.raises(errors.ShapeError, match=words):
        models.gaussian(as_model(lambda x: x), covariance)


def test_a_covariance_of_another_size_than_the_target():
    model = models.gaussian(Model(autoregression, jnp.eye(2)), np.eye(3))
    layout = layouts.windows(1, target_columns=(0, 1))
    r = refiner(model, rule=rules.tweedie(), layout=layout, loss=models.gaussian_nll)
    with pytest.raises(errors.ModelError):
        r.step(model.params, r.init(np.zeros((9, 2), np.float32)))


def test_what_cells_say_as_inputs_and_as_targets_may_count_differently(x64, rng):
    """Each part alone, against NumPy; by column, and their sum as before."""
    steps, channels = 30, 2
    a, z = 0.3 * rng.normal(size=(channels, channels)), rng.normal(size=(steps, channels))
    arguments = (autoregression, jnp.asarray(a), np.eye(channels))
    layout = layouts.windows(1, target_columns=(0, 1))
    residual = z[:-1] @ a - z[1:]
    as_input, as_target = np.zeros((2, *z.shape))
    as_input[:-1], as_target[1:] = -residual @ a.T, residual
    weights = np.array([0.5, 0.0]), np.array([1.0, 0.25])
    rule = rules.tweedie(0.3, x_weight=weights[0], y_weight=weights[1])
    expected = z + 0.09 * (weights[0] * as_input + weights[1] * as_target)
    np.testing.assert_allclose(one_step(*arguments, layout, (z,), rule).x, expected, rtol=1e-10)
    whole = one_step(*arguments, layout, (z,), rules.tweedie(0.3)).x
    np.testing.assert_allclose(whole, z + 0.09 * (as_input + as_target), rtol=1e-10)


@pytest.mark.parametrize("weight", [-0.1, np.array([1.0, -1.0]), np.inf, "much"])
def test_weights_that_mean_nothing(weight):
    with pytest.raises(ValueError, match="y_weight"):
        rules.tweedie(y_weight=weight)
