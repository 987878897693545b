"""The curvature of a density by each cell, against dense precision matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax import Model, as_model, errors, layouts, models
from denograd_jax.calibration import density_of, information_of
from tests import oracle
from tests.models import tanh_net


def autoregression(params, window):
    """The next step of every channel from two: `(2, C)` to `(C,)`."""
    return window.ravel() @ params


def precision_of_series(a, covariance, steps, missing=None):
    """Of all cells, `(T * C, T * C)`: by every window's dense design matrix, in a loop.

    a: `(2 * C, C)`. missing: cells that are no target of any window, `(T, C)`.
    """
    channels = len(covariance)
    total = np.zeros((steps, channels, steps, channels))
    for t in range(2, steps):
        seen = np.ones(channels, bool) if missing is None else ~missing[t]
        design = np.zeros((channels, steps, channels))
        design[:, t - 2 : t] = a.T.reshape(channels, 2, channels)
        design[np.arange(channels), t, np.arange(channels)] = -1
        design = design[seen]
        precision = np.linalg.inv(covariance[np.ix_(seen, seen)])
        total += np.einsum("iab,ij,jcd->abcd", design, precision, design)
    return total.reshape(steps * channels, -1)


def var(rng, channels=3):
    a = 0.3 * rng.normal(size=(2 * channels, channels))
    factor = rng.normal(size=(channels, channels))
    return a, factor @ factor.T + np.eye(channels)


@pytest.mark.parametrize("consensus", [None, "visits"])
@pytest.mark.parametrize("batched", [False, True])
def test_a_vector_autoregression(x64, rng, consensus, batched):
    a, covariance = var(rng)
    z = rng.normal(size=(20, 3))
    batch = jax.vmap(autoregression, (None, 0)) if batched else None
    model = models.gaussian(Model(autoregression, jnp.asarray(a), batch), covariance)
    layout = layouts.windows(2, consensus=consensus, target_columns=(0, 1, 2))
    found = information_of(model, layout, (z,))
    dense = precision_of_series(a, covariance, 20)
    np.testing.assert_allclose(found.x.ravel(), np.diag(dense), rtol=1e-10)
    assert found.y is None
    # Of a Gaussian, score / h is how far all other cells put this one from where it is.
    score = -(dense @ z.ravel())
    cell = 25
    others = np.delete(np.arange(60), cell)
    expected = -dense[cell, others] @ z.ravel()[others] / dense[cell, cell]
    np.testing.assert_allclose((z.ravel() + score / found.x.ravel())[cell], expected, rtol=1e-9)


def test_the_posterior_variance_of_a_noisy_series(x64):
    """Against the Gaussian posterior: a stationary AR(1) seen in noise, by its noisy density."""
    phi, sigma, steps = 0.9, 0.6, 40
    clean = phi ** np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    noisy = clean + sigma**2 * np.eye(steps)
    # The whole series is one target without inputs that matter: its density is that of the noisy.
    model = models.gaussian(as_model(lambda x: jnp.zeros(steps) * x[0]), noisy)
    found = information_of(model, layouts.rows(), (np.zeros((1, 1)), np.zeros((1, steps))))
    posterior = np.linalg.inv(np.linalg.inv(clean) + np.eye(steps) / sigma**2)
    variance = sigma**2 * (1 - sigma**2 * found.y[0])
    np.testing.assert_allclose(variance, np.diag(posterior), rtol=1e-9)


@pytest.mark.parametrize("outputs", [1, 3])
def test_rows_of_a_network(x64, rng, outputs):
    net = oracle.Net(rng, 4, outputs)
    x, y = rng.normal(size=(17, 4)), rng.normal(size=(17, outputs))
    factor = rng.normal(size=(outputs, outputs))
    covariance = factor @ factor.T + np.eye(outputs)
    model = models.gaussian(Model(tanh_net, net.params), covariance)
    y = y[:, 0] if outputs == 1 else y
    found = information_of(model, layouts.rows(), (x, y))
    precision = np.linalg.inv(covariance)
    for i in range(17):
        j = net.jacobian(x[i])
        np.testing.assert_allclose(found.x[i], np.diag(j.T @ precision @ j), rtol=1e-10)
    np.testing.assert_allclose(found.y.reshape(17, -1), np.tile(np.diag(precision), (17, 1)))
    assert found.y.shape == y.shape


def test_missing_targets(x64, rng):
    """Precisions are those of the marginal density of what is observed."""
    a, covariance = var(rng)
    z = rng.normal(size=(25, 3))
    z[rng.random(z.shape) < 0.3] = np.nan
    z[5], z[0] = np.nan, 1.0
    model = models.gaussian(Model(autoregression, jnp.asarray(a)), covariance)
    layout = layouts.windows(2, target_columns=(0, 1, 2))
    found = information_of(model, layout, (z,))
    dense = precision_of_series(a, covariance, 25, np.isnan(z))
    np.testing.assert_allclose(found.x.ravel(), np.diag(dense), rtol=1e-10)

    x, y = rng.normal(size=(9, 6)), rng.normal(size=(9, 3))
    y[rng.random(y.shape) < 0.4] = np.nan
    found = information_of(model, layouts.rows(), (x, y))
    for i in range(9):
        seen = ~np.isnan(y[i])
        precision = np.linalg.inv(covariance[np.ix_(seen, seen)])
        j = a.T[seen]
        np.testing.assert_allclose(found.x[i], np.diag(j.T @ precision @ j), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(found.y[i, seen], np.diag(precision), rtol=1e-10)
        np.testing.assert_array_equal(found.y[i, ~seen], 0)


def test_segments_and_targets_apart(x64, rng):
    """Windows across a border do not exist; precisions of x and y are apart."""
    a, covariance = var(rng, 1)
    x, y = rng.normal(size=(12, 1)), rng.normal(size=(12, 1))
    model = models.gaussian(Model(autoregression, jnp.asarray(a)), covariance)
    segments = np.repeat([0, 1], 6)
    found = information_of(model, layouts.windows(2), (x, y, None, None, None, None, segments))
    h_x, h_y = np.zeros((12, 1)), np.zeros((12, 1))
    for t in range(2, 12):
        if segments[t - 2] == segments[t]:
            h_x[t - 2 : t] += a**2 / covariance
            h_y[t] += 1 / covariance[0]
    np.testing.assert_allclose(found.x, h_x, rtol=1e-10)
    np.testing.assert_allclose(found.y, h_y, rtol=1e-10)


def test_single_precision_and_the_score_of_a_density(rng):
    """On what `density_of` finds: 1 / h is the variance of score / h on average, as it must be."""
    a = np.array([[0.2], [0.7]], np.float32)
    z = np.zeros((6000, 1), np.float32)
    for t in range(2, 6000):
        z[t] = z[t - 2 : t].ravel() @ a + rng.normal()
    layout = layouts.windows(2, target_columns=(0,))
    density = density_of(Model(autoregression, jnp.asarray(a)), layout, (z,))
    found = information_of(density.model, layout, (z,))
    inner = slice(2, -2)
    unexplained = density.score_x[inner] / found.x[inner]
    assert found.x.dtype == np.float32
    assert np.var(unexplained) == pytest.approx(1 / found.x[100, 0], rel=0.1)


def test_a_model_without_a_density_is_refused():
    with pytest.raises(errors.ModelError, match="gaussian"):
        information_of(as_model(lambda x: x[0]), layouts.rows(), (np.ones((3, 1)), np.ones(3)))
