"""Mixtures of Gaussians: densities against SciPy, posterior means against Kalman, fits against EM.

Independent oracles: `scipy.stats.multivariate_normal`, sums over components in plain NumPy, and for
one component the constrained maximum in closed form (Tipping and Bishop, "Probabilistic principal
component analysis", 1999, with the noise known).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import multivariate_normal

from denograd_jax import Model, input_gradients, layouts, models, refiner, rules, run
from denograd_jax.backbones import LEAST_NOISE, Mixture, fit_mixture, judge, maximise, sort_out
from denograd_jax.errors import ShapeError


def made_up(rng, k, d):
    """Weights, means and covariances of K components that overlap."""
    factor = rng.normal(size=(k, d, d))
    covariances = factor @ factor.transpose(0, 2, 1) / d + 0.3 * np.eye(d)
    return rng.dirichlet(np.full(k, 3.0)), rng.normal(size=(k, d)), covariances


def density(mixture, z):
    """Of rows `(n, d)`, `(n,)`."""
    return sum(w * multivariate_normal(m, c).pdf(z) for w, m, c in zip(*mixture, strict=True))


def shares(mixture, z):
    """Of each component in each row, `(K, n)`."""
    each = np.array(
        [w * multivariate_normal(m, c).pdf(z) for w, m, c in zip(*mixture, strict=True)]
    )
    return each / each.sum(axis=0)


def narrowness(covariances, noise):
    """Eigenvalues in units of the noise, `(K, d)`."""
    unit = np.sqrt(noise)
    return np.linalg.eigvalsh(covariances / np.outer(unit, unit))


def likelihood(mixture, z):
    return judge(mixture, z).log_density.mean()


# The model and its losses


@pytest.mark.parametrize("q", [1, 2])
def test_the_loss_is_the_log_density_of_whole_rows(dtype, rng, q):
    weights, means, covariances = made_up(rng, 3, q + 2)
    model = models.mixture(models.mixture_regression(10 * weights, means, covariances, targets=q))
    z = rng.normal(size=(20, q + 2)).astype(dtype)
    loss = models.mixture_nll(q)

    def nll(x, y):
        return loss(model.predict(model.params, x), y)

    found = jax.jit(jax.vmap(nll))(z[:, :2], z[:, 2:])
    assert found.dtype == dtype
    expected = -np.log(density((weights, means, covariances), z.astype(float)))
    np.testing.assert_allclose(found, expected, rtol=1e-10 if dtype == "float64" else 2e-5)


@pytest.mark.parametrize("q", [1, 2])
def test_its_gradient_is_the_sum_of_the_components_pulls(x64, rng, q):
    mixture = made_up(rng, 4, q + 3)
    model = models.mixture(models.mixture_regression(*mixture, targets=q))
    z = rng.normal(size=(15, q + 3))
    loss = models.mixture_nll(q)

    def nll(x, y):
        return loss(model.predict(model.params, x), y)

    found = jax.jit(jax.vmap(jax.grad(nll, (0, 1))))(z[:, :3], z[:, 3:])
    expected = sum(
        share[:, None] * np.linalg.solve(c, (z - m).T).T
        for share, m, c in zip(shares(mixture, z), *mixture[1:], strict=True)
    )
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_only_its_columns_of_an_instance_count(x64, rng):
    mixture = made_up(rng, 2, 3)
    columns = [4, 1]
    whole = models.mixture_regression(*mixture, columns=columns)
    plain = models.mixture_regression(*mixture)
    x = rng.normal(size=6)
    np.testing.assert_allclose(
        whole.predict(whole.params, x), plain.predict(plain.params, x[columns]), rtol=1e-12
    )
    gradient = jax.jit(jax.grad(lambda v: whole.predict(whole.params, v).sum()))(x)
    assert (np.flatnonzero(gradient) == [1, 4]).all()


@pytest.mark.parametrize("q", [1, 2])
def test_the_regression_is_the_conditional_mean(dtype, rng, q):
    """By the joint density on a grid of y (q = 1), or component by component."""
    mixture = made_up(rng, 3, q + 2)
    weights, means, covariances = mixture
    model = models.mixture_regression(*mixture, targets=q)
    x = rng.normal(size=(9, 2)).astype(dtype)
    found = jax.jit(jax.vmap(model.predict, in_axes=(None, 0)))(model.params, x)
    assert found.shape == (9, q)
    assert found.dtype == dtype
    if q == 1:
        grid = np.linspace(-15, 15, 6001)
        for row, value in zip(x, found, strict=True):
            z = np.column_stack([np.tile(row.astype(float), (grid.size, 1)), grid])
            chance = density(mixture, z)
            assert float(value[0]) == pytest.approx(chance @ grid / chance.sum(), abs=1e-4)
        return
    share = shares((weights, means[:, :2], covariances[:, :2, :2]), x.astype(float))
    expected = sum(
        s[:, None] * (m[2:] + (x - m[:2]) @ np.linalg.solve(c[:2, :2], c[:2, 2:]))
        for s, m, c in zip(share, means, covariances, strict=True)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_residuals_are_taken_from_the_conditional_mean(x64, rng):
    mixture = made_up(rng, 3, 4)
    plain = models.mixture_regression(*mixture, targets=2)
    whole, x = models.mixture(plain), rng.normal(size=2)
    loss = models.mixture_nll(2)
    np.testing.assert_allclose(
        loss.location(whole.predict(whole.params, x)), plain.predict(plain.params, x), rtol=1e-12
    )
    assert models.mixture_nll(2) is loss  # else each call would be compiled anew


def test_far_away_it_stays_finite(dtype):
    mixture = ([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [np.eye(2), 1e-4 * np.eye(2)])
    model = models.mixture(models.mixture_regression(*mixture))
    x, y = np.array([1e4], dtype), np.array([-1e4], dtype)
    loss, slope = jax.jit(
        jax.value_and_grad(lambda v: models.mixture_nll(1)(model.predict(model.params, v), y))
    )(x)
    assert np.isfinite(loss)
    assert float(slope[0]) == pytest.approx(1e4)  # that of the wide one


def test_targets_without_anything_to_explain_them(x64, rng):
    """A table of text and one number has such rows."""
    mixture = made_up(rng, 2, 1)
    plain = models.mixture_regression(*mixture)
    x = rng.normal(size=3)
    model = models.mixture(plain)
    np.testing.assert_allclose(
        plain.predict(plain.params, x[:0]), mixture[0] @ mixture[1], rtol=1e-12
    )
    loss = models.mixture_nll(1)(model.predict(model.params, x[:0]), x[:1])
    assert float(loss) == pytest.approx(-np.log(density(mixture, x[:1])).item())


@pytest.mark.slow
def test_a_model_with_the_density_of_its_inputs(x64, rng):
    mixture, (q, d) = made_up(rng, 3, 5), (2, 3)
    slope = rng.normal(size=(d, q))
    covariance = np.array([[1.0, 0.4], [0.4, 0.5]])
    rows = models.mixture_regression(*mixture, targets=q)
    linear = Model(lambda params, x: x @ params, jnp.asarray(slope), lambda p, x: x @ p)
    model = models.joint(linear, covariance, rows)
    x, y = rng.normal(size=(7, d)), rng.normal(size=(7, q))
    weights, means, covariances = mixture
    of_x = density((weights, means[:, :d], covariances[:, :d, :d]), x)
    miss = y - x @ slope
    of_y = (miss @ np.linalg.inv(covariance) * miss).sum(axis=1) / 2
    single = jax.jit(lambda a, b: models.joint_nll(model.predict(model.params, a), b))
    one = [single(a, b) for a, b in zip(x, y, strict=True)]
    batch = jax.jit(model.predict_batch)(model.params, x)
    np.testing.assert_allclose(one, of_y - np.log(of_x), rtol=1e-10)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(models.joint_nll))(batch, y), of_y - np.log(of_x), rtol=1e-10
    )
    np.testing.assert_allclose(jax.vmap(models.joint_nll.location)(batch), x @ slope, rtol=1e-10)
    assert models.joint(linear, 2 * covariance, rows).predict is model.predict


@pytest.mark.parametrize("apart", [False, True])
def test_one_step_goes_to_the_posterior_mean(x64, rng, apart):
    """Clean rows of a known mixture, blurred by known noise: a Kalman step for each component."""
    k, d, n = 3, 4, 40
    weights, means, clean = made_up(rng, k, d)
    sigma = np.array([0.3, 0.0, 0.7, 0.5])
    blurred = clean + np.diag(sigma**2)
    z = 2 * rng.normal(size=(n, d))
    share = shares((weights, means, blurred), z)
    expected = sum(
        s[:, None] * (m + (z - m) @ np.linalg.solve(c + np.diag(sigma**2), c))
        for s, m, c in zip(share, means, clean, strict=True)
    )
    rows = models.mixture_regression(weights, means, blurred)
    if apart:  # for one Gaussian a linear model with the density of x is the same
        weights, means, blurred = [1.0], means[:1], blurred[:1]
        rows = models.mixture_regression(weights, means, blurred)
        slope = np.linalg.solve(blurred[0, :3, :3], blurred[0, :3, 3:])
        left = blurred[0, 3:, 3:] - blurred[0, 3:, :3] @ slope
        linear = Model(lambda p, x: p[1] + (x - p[0]) @ p[2], (means[0, :3], means[0, 3:], slope))
        model, loss = models.joint(linear, left, rows), models.joint_nll
        expected = means[0] + (z - means[0]) @ np.linalg.solve(blurred[0], clean[0])
    else:
        model, loss = models.mixture(rows), models.mixture_nll(1)
    r = refiner(model, rule=rules.tweedie(), layout=layouts.rows(), loss=loss)
    state = r.init(z[:, :3], z[:, 3], noise_x=sigma[:3], noise_y=sigma[3])
    solution = run(r, model.params, state, max_steps=1)
    np.testing.assert_allclose(solution.x, expected[:, :3], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(solution.y, expected[:, 3], rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(solution.x[:, 1], z[:, 1])


@pytest.mark.parametrize(
    ("weights", "means", "covariances", "targets"),
    [
        ([1.0], [[0.0, 0.0]], [np.eye(3)], 1),
        ([1.0], [0.0, 0.0], [np.eye(2)], 1),
        ([0.5, 0.5], [[0.0, 0.0]], [np.eye(2)], 1),
        ([1.0], [[0.0, 0.0]], [np.eye(2)], -1),
        ([1.0], [[0.0, 0.0]], [np.eye(2)], 3),
    ],
)
def test_shapes_that_do_not_fit(weights, means, covariances, targets):
    with pytest.raises(ShapeError, match=r"are not \(K,\)"):
        models.mixture_regression(weights, means, covariances, targets=targets)


@pytest.mark.parametrize(
    "covariance",
    [
        -np.eye(3),
        np.ones((3, 3)),  # all columns are the same
        np.diag([1.0, 1.0, 0.0]),
        np.diag([0.0, 1.0, 1.0]),
        np.full((3, 3), np.nan),
    ],
)
def test_covariances_that_are_none(covariance):
    with pytest.raises(ShapeError, match="positive definite"):
        models.mixture_regression([1.0], [[0.0, 0.0, 0.0]], [covariance])


# The fit


def clusters(rng, n=900, d=3, noise=0.3):
    """Three Gaussians well apart, blurred; their means, and the rows."""
    centres = np.array([[-4.0, 0, 0], [4, 2, 0], [0, -5, 3]])[:, :d]
    of_row = np.arange(n) % 3
    return centres, centres[of_row] + noise * rng.normal(size=(n, d))


def test_the_likelihood_rises(rng):
    _, z = clusters(rng)
    found = [likelihood(fit_mixture(z, np.full(3, 0.01), 6, steps=s), z) for s in range(1, 30, 2)]
    assert (np.diff(found) > -1e-9).all()
    assert found[-1] > found[0]


def test_a_step_of_expectation_maximisation_is_the_constrained_maximum(rng):
    """No other covariance that is as wide as the noise explains the rows better."""
    z, noise = rng.normal(size=(400, 3)) * [0.1, 1.0, 0.4], np.array([0.04, 0.09, 0.01])
    best = fit_mixture(z, noise, 1)
    unit = np.sqrt(noise)
    for _ in range(200):
        change = 0.1 * rng.normal(size=(3, 3))
        changed = best.covariances[0] / np.outer(unit, unit) + change + change.T
        values, vectors = np.linalg.eigh(changed)
        other = (vectors * np.maximum(values, 1)) @ vectors.T * np.outer(unit, unit)
        assert likelihood(best._replace(covariances=other[None]), z) < likelihood(best, z) + 1e-12


def test_one_component_has_a_closed_form(rng):
    z, noise = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4)) / 2, np.full(4, 0.25)
    found = fit_mixture(z, noise, 1)
    apart = z - z.mean(axis=0)
    values, vectors = np.linalg.eigh(apart.T @ apart / len(z))
    assert (values < 0.25).any()
    assert (values > 0.25).any()
    expected = vectors @ np.diag(np.maximum(values, 0.25)) @ vectors.T
    np.testing.assert_allclose(found.means[0], z.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(found.covariances[0], expected, atol=1e-9)
    np.testing.assert_allclose(found.weights, [1])


def test_clusters_are_found_with_the_noise_that_there_is(rng):
    centres, z = clusters(rng)
    found = fit_mixture(z, np.full(3, 0.3**2), 3)
    order = [np.linalg.norm(found.means - c, axis=1).argmin() for c in centres]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(found.means[order], centres, atol=0.1)
    np.testing.assert_allclose(found.weights, 1 / 3, atol=0.01)
    # All of the spread is noise: no more than sampling is left to the signal.
    spread = np.diagonal(found.covariances, axis1=1, axis2=2)
    np.testing.assert_allclose(spread, 0.09, rtol=0.35)
    assert likelihood(found, z) > likelihood(fit_mixture(z, np.full(3, 0.09), 1), z) + 1


@given(st.integers(2, 60), st.integers(1, 4), st.integers(1, 9), st.integers(0, 99))
def test_no_component_is_narrower_than_the_noise(n, d, components, seed):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d)) * rng.choice([0.0, 1e-3, 1.0, 50.0], size=d)
    z[rng.integers(n)] *= 1e3  # an outlier
    z[: n // 2] = z[0]  # duplicates
    noise = rng.choice([0.0, 1e-4, 0.1, 0.5], size=d)
    found = fit_mixture(z, noise, components, seed=seed)
    assert found.means.shape == (min(components, n // 2), d)
    assert all(np.isfinite(part).all() for part in found)
    assert found.weights.sum() == pytest.approx(1)
    floor = np.maximum(noise, LEAST_NOISE**2)
    assert (narrowness(found.covariances, floor) >= 1 - 1e-6).all()
    seen = judge(found, z)
    np.testing.assert_allclose(seen.shares.sum(axis=0), 1)
    assert np.isfinite(seen.score).all()


@pytest.mark.parametrize("z", [np.zeros((1, 3)), np.zeros(5), np.zeros((0, 2))])
def test_what_is_no_table_to_fit(z):
    with pytest.raises(ShapeError, match="n of at least 2"):
        fit_mixture(z, np.ones(3), 2)


def test_the_same_twice_and_by_the_seed(rng):
    _, z = clusters(rng)
    noise = np.full(3, 0.01)
    one, same, other = (fit_mixture(z, noise, 7, steps=5, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.means, same.means)
    assert np.abs(one.means - other.means).max() > 1e-3


def test_rows_are_judged_by_the_mixture(rng):
    mixture = Mixture(*made_up(rng, 3, 2))
    z = rng.normal(size=(11, 2))
    seen = judge(mixture, z)
    np.testing.assert_allclose(seen.log_density, np.log(density(mixture, z)), rtol=1e-10)
    np.testing.assert_allclose(seen.shares, shares(mixture, z), rtol=1e-8)
    for j in range(2):  # against central differences
        step = 1e-5 * np.eye(2)[j]
        slope = (np.log(density(mixture, z + step)) - np.log(density(mixture, z - step))) / 2e-5
        np.testing.assert_allclose(seen.score[:, j], slope, rtol=1e-5, atol=1e-7)
    expected = shares(mixture, z).T @ [np.diag(np.linalg.inv(c)) for c in mixture.covariances]
    np.testing.assert_allclose(seen.precision, expected, rtol=1e-8)


def test_rows_far_from_all_components_are_still_someones():
    mixture = Mixture(np.array([0.5, 0.5]), np.array([[0.0], [1.0]]), np.full((2, 1, 1), 1e-4))
    seen = judge(mixture, np.array([[1e6], [-1e6]]))
    np.testing.assert_array_equal(seen.shares, [[0, 1], [1, 0]])
    assert np.isfinite(seen.log_density).all()


def test_where_it_begins(rng):
    centres, z = clusters(rng, n=90)
    begin = sort_out(z, 3, rng)
    np.testing.assert_allclose(begin.sum(axis=0), 1)
    clusters_of = begin.argmax(axis=0)
    for c in range(3):
        assert len(set(clusters_of[c::3])) == 1  # every cluster in one component
    assert len(set(clusters_of)) == len(centres)
    single = sort_out(rng.normal(size=(12, 1)), 4, rng)
    assert (np.bincount(single.argmax(axis=0)) == 3).all()  # quantiles of a single column
    equal = sort_out(np.zeros((6, 2)), 3, rng)
    np.testing.assert_allclose(equal.sum(axis=0), 1)


def test_the_step_weighs_rows_by_their_shares(rng):
    z, weight = rng.normal(size=(50, 2)), rng.random(50)
    found = maximise(z, np.stack([weight, 1 - weight]), np.full(2, 1e-6))
    np.testing.assert_allclose(found.weights, [weight.mean(), 1 - weight.mean()], rtol=1e-7)
    for k, w in enumerate((weight, 1 - weight)):
        np.testing.assert_allclose(found.means[k], np.average(z, axis=0, weights=w), rtol=1e-7)
        covariance = np.cov(z.T, aweights=w, ddof=0)
        np.testing.assert_allclose(found.covariances[k], covariance, rtol=1e-6)


def test_many_rows_are_thinned_out(monkeypatch, rng):
    """The fit to a tenth of the rows, evenly spread, is the fit to that tenth."""
    _, z = clusters(rng, n=1000)
    noise = np.full(3, 0.01)
    monkeypatch.setattr("denograd_jax.backbones._mixture.MOST_CELLS", 600)
    thin = fit_mixture(z, noise, 2, steps=5)
    monkeypatch.undo()
    np.testing.assert_allclose(thin.means, fit_mixture(z[::10], noise, 2, steps=5).means)


def test_a_classifier_stands_beside_the_density_of_its_features(x64, rng):
    """Labels have no say: the gradient is that of SciPy's log-density, by central differences."""
    mixture = made_up(rng, 3, 2)
    weights = rng.normal(size=(4, 2))
    classifier = Model(lambda w, x: w @ x, jnp.asarray(weights))
    rows = models.mixture_regression(*mixture, targets=0)
    model = models.beside(classifier, rows)
    x, label = rng.normal(size=2), jnp.array([0.0, 1.0, 0.0, 0.0])
    gradients = jax.jit(input_gradients(model.predict, models.rows_nll))
    found = gradients(model.params, jnp.asarray(x), label)
    steps = 1e-5 * np.eye(2)
    slope = [
        (np.log(density(mixture, x + h)) - np.log(density(mixture, x - h))) / 2e-5 for h in steps
    ]
    np.testing.assert_allclose(found.x, -np.array(slope), rtol=1e-6)
    np.testing.assert_array_equal(found.y, 0)
    np.testing.assert_allclose(found.residual, softmax(weights @ x) - label)
    np.testing.assert_allclose(found.loss, -np.log(density(mixture, x)))
