"""The mixture of two Betas against maximum likelihood, and at its edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from denograd_jax.errors import DataError, ShapeError
from denograd_jax.robust import BetaMixture, beta_mixture, unit_range

TRUE = {"weight": 0.7, "clean": (2.0, 8.0), "noisy": (6.0, 2.0)}


@pytest.fixture
def drawn(rng):
    """Numbers of both components, and which of them are of the noisy one."""
    noisy = rng.random(4000) > TRUE["weight"]
    u = np.where(noisy, rng.beta(*TRUE["noisy"], 4000), rng.beta(*TRUE["clean"], 4000))
    return u, noisy


def most_likely(u):
    """Weight and shapes that maximise the likelihood, by SciPy."""

    def minus_log_likelihood(theta):
        w, (a, b, c, d) = 1 / (1 + np.exp(-theta[0])), np.exp(theta[1:])
        return -np.log(w * stats.beta.pdf(u, a, b) + (1 - w) * stats.beta.pdf(u, c, d)).sum()

    start = np.array([0, np.log(1), np.log(2), np.log(2), np.log(1)])
    theta = optimize.minimize(minus_log_likelihood, start, method="L-BFGS-B").x
    return 1 / (1 + np.exp(-theta[0])), np.exp(theta[1:])


class TestAgainstMaximumLikelihood:
    def test_of_simulated_numbers(self, drawn):
        u, _ = drawn
        found = beta_mixture(u, iterations=200)
        weight, (a, b, c, d) = most_likely(u)
        np.testing.assert_allclose(found.weights, [weight, 1 - weight], atol=0.03)
        means = found.a / (found.a + found.b)
        np.testing.assert_allclose(means, [a / (a + b), c / (c + d)], atol=0.02)
        np.testing.assert_allclose(found.a, [a, c], rtol=0.25)
        np.testing.assert_allclose(found.b, [b, d], rtol=0.25)

    def test_the_posterior_and_distribution_function_are_scipys(self, drawn):
        u, _ = drawn
        found = beta_mixture(u)
        a, b, w = (np.asarray(part, float) for part in (found.a, found.b, found.weights))
        densities = w * stats.beta.pdf(u[:, None], a, b)
        expected = densities / densities.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found.posterior(u), expected, atol=2e-5)
        np.testing.assert_allclose(found.cdf(u), stats.beta.cdf(u[:, None], a, b), atol=2e-5)

    def test_it_tells_the_components_apart(self, drawn):
        u, noisy = drawn
        said = np.asarray(beta_mixture(u, iterations=50).posterior(u))[:, 1] > 0.5
        best = stats.beta.pdf(u, *TRUE["noisy"]) * 0.3 > stats.beta.pdf(u, *TRUE["clean"]) * 0.7
        assert (said == noisy).mean() > (best == noisy).mean() - 0.01


def test_one_iteration_by_hand():
    """Expectation and moments, in NumPy."""
    u = np.array([0.1, 0.2, 0.25, 0.7, 0.8])
    r = stats.beta.pdf(u[:, None], [1, 2], [2, 1])
    r /= r.sum(axis=1, keepdims=True)
    m = (r * u[:, None]).sum(axis=0) / r.sum(axis=0)
    v = (r * (u[:, None] - m) ** 2).sum(axis=0) / r.sum(axis=0)
    a = m * (m * (1 - m) / v - 1)
    b = a * (1 - m) / m
    found = beta_mixture(u, iterations=1)
    np.testing.assert_allclose(found.weights, r.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.a, a, rtol=1e-4)  # both guards are met
    np.testing.assert_allclose(found.b, b, rtol=1e-4)


class TestGroups:
    def test_each_group_has_the_mixture_that_it_would_have_alone(self, drawn, rng):
        u, _ = drawn
        u = u[:1800]
        groups = rng.permutation(np.arange(1800) % 3)  # of one size, which is compiled once
        u = np.where(groups == 1, u**2, u)
        together = beta_mixture(u, groups=groups)
        for g in range(3):
            alone = beta_mixture(u[groups == g])
            for part, expected in zip(together, alone, strict=True):
                np.testing.assert_allclose(part[g], expected, rtol=1e-3)
        said = together.posterior(u, groups)
        alone = beta_mixture(u[groups == 1]).posterior(u[groups == 1])
        np.testing.assert_allclose(said[groups == 1], alone, atol=1e-3)

    def test_a_group_without_rows_stays_as_it_began(self, drawn):
        u = drawn[0][:50]
        found = beta_mixture(u, groups=np.where(np.arange(50) % 2, 2, 0))
        np.testing.assert_array_equal(found.a[1], [1, 2])
        assert all(np.isfinite(part).all() for part in found)


class TestEdges:
    @pytest.mark.parametrize(
        "u",
        [
            np.zeros(10),
            np.ones(10),
            np.full(10, 0.5),
            np.repeat([0.0, 1.0], 5),
            pytest.param(np.array([0.3]), marks=pytest.mark.slow),
        ],
        ids=["zeros", "ones", "halves", "both ends", "one"],
    )
    def test_everything_stays_finite(self, u, dtype):
        found = beta_mixture(u.astype(dtype))
        for part in (*found, found.posterior(u), found.cdf(u)):
            assert np.isfinite(part).all()
        np.testing.assert_allclose(found.posterior(u).sum(axis=1), 1, rtol=1e-5)
        assert found.b[0] >= 1.02
        assert found.a[1] >= 1.02 - 1e-6

    def test_rows_at_the_ends_are_what_the_ends_mean(self):
        u = np.repeat([0.0, 0.1, 0.9, 1.0], [60, 10, 5, 25])
        p_noisy = np.asarray(beta_mixture(u).posterior(u))[:, 1]
        assert (p_noisy[:60] < 0.05).all()
        assert (p_noisy[-25:] > 0.95).all()

    def test_nothing_is_differentiated_or_compiled_by_value(self, drawn):
        """The fit works under jit and vmap: the mixture is a pytree."""
        u = jnp.asarray(drawn[0][:100])
        mixture = beta_mixture(u)
        np.testing.assert_allclose(
            jax.jit(BetaMixture.posterior)(mixture, u), mixture.posterior(u), rtol=1e-5
        )


class TestUnitRange:
    def test_counts(self):
        found = np.asarray(unit_range(np.array([3, 5, 13])))
        np.testing.assert_allclose(found, [0, 0.2, 1], atol=2e-6)
        assert found.min() > 0
        assert found.max() < 1

    def test_equal_counts_are_at_the_lower_end(self):
        np.testing.assert_allclose(unit_range(np.full(4, 7)), 0, atol=2e-6)


@pytest.mark.parametrize(
    ("u", "groups", "error", "match"),
    [
        (np.zeros((2, 2)), None, ShapeError, "shape"),
        (np.zeros(0), None, ShapeError, "at least 1"),
        (np.array([0.1, np.nan]), None, DataError, "NaN"),
        (np.array([0.1, 1.1]), None, DataError, "outside"),
        (np.zeros(2), np.zeros(3, int), ShapeError, "groups"),
        (np.zeros(2), np.zeros(2), DataError, "integers"),
        (np.zeros(2), np.array([0, -1]), DataError, "at least 0"),
    ],
)
def test_bad_input(u, groups, error, match):
    with pytest.raises(error, match=match):
        beta_mixture(u, groups=groups)
