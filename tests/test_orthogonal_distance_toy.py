"""The rank-2 toy: 5 columns of two factors, y a linear function of them, exact."""

import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax import Model, layouts, models, refiner, rules, run
from denograd_jax.calibration import density_of
from tests.models import linear

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


@pytest.mark.slow
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


@pytest.mark.slow
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
