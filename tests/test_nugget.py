"""Noise read off a variogram, against processes whose noise is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from denograd_jax import calibration, datasets, errors
from denograd_jax.calibration import nugget, series_noise
from denograd_jax.calibration._nugget import nugget_bounds


def autoregression(rng, steps, phi):
    """First order, variance 1."""
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], rng.normal(size=(steps + 500)))[500:]


@pytest.mark.parametrize("phi", [0.9, 0.99])
@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.3, 1.0])
def test_of_an_autoregression_in_noise_it_is_no_more_than_the_truth(phi, sigma):
    """Its variogram is of the family that is fitted."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found.append(nugget(autoregression(rng, 8000, phi) + sigma * rng.normal(size=8000))[0])
    assert np.mean(found) < 1.05 * sigma**2 + 0.005


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
def test_of_a_smooth_series_in_noise_it_is_nearly_all(sigma):
    rng = np.random.default_rng(0)
    wave = np.sin(np.arange(8000) / 30) + np.sin(np.arange(8000) / 47)
    found = nugget(wave + sigma * rng.normal(size=8000))[0]
    assert 0.8 * sigma**2 < found < 1.05 * sigma**2


def test_of_smooth_series_there_is_none():
    steps = np.arange(4000)
    clean = np.stack([np.sin(steps / 20), np.cos(steps / 7), steps / 4000.0], axis=1)
    assert np.sqrt(nugget(clean)).max() < 0.02 * clean.std()


def test_of_noise_alone_it_is_all():
    noise = np.random.default_rng(0).normal(size=(20_000, 2)) * [1.0, 30.0]
    found = nugget(noise) / [1.0, 900.0]
    assert (found > 0.9).all()
    assert (found < 1.02).all()


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 99))
def test_units(scale, shift, seed):
    z = np.random.default_rng(seed).normal(size=300).cumsum()
    np.testing.assert_allclose(nugget(scale * z + shift), scale**2 * nugget(z), rtol=1e-5, atol=0)


def test_the_bounds_are_in_order():
    rng = np.random.default_rng(0)
    z = np.stack([autoregression(rng, 3000, phi) for phi in (0.5, 0.9, 0.99)], axis=1)
    bounds = nugget_bounds(z + 0.2 * rng.normal(size=z.shape))
    assert (bounds.firm <= bounds.least).all()
    assert (bounds.least <= bounds.best).all()


def test_segments_and_missing_cells_are_not_crossed():
    """Two stretches at different levels are no noise, nor is what stands where nothing was seen."""
    rng = np.random.default_rng(1)
    z = np.sin(np.arange(4000) / 20) + 0.2 * rng.normal(size=4000)
    joined = np.r_[z[:2000], z[2000:] + 50]
    segments = np.repeat([0, 1], 2000)
    np.testing.assert_allclose(nugget(joined, segments), nugget(z, segments), rtol=1e-9)
    holed = np.where(rng.random(4000) < 0.2, np.nan, z)
    np.testing.assert_allclose(nugget(holed), nugget(z), atol=0.02)


def test_too_short_to_tell():
    z = np.random.default_rng(0).normal(size=(35, 2))
    np.testing.assert_array_equal(nugget(z), 0)
    np.testing.assert_array_equal(nugget(np.full((100, 1), np.nan)), 0)
    np.testing.assert_array_equal(nugget(np.ones((100, 1))), 0)
    with pytest.raises(errors.ShapeError, match="series"):
        nugget(np.zeros((3, 3, 3)))


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_of_real_weather(noise):
    """Known noise on real series: most of it is found, and hardly more than it."""
    frame = datasets.load("nyc_weather_2013")
    frame = frame[frame["origin"] == "EWR"][["temp", "dewp", "humid", "pressure"]].ffill()
    z = ((frame - frame.mean()) / frame.std()).to_numpy()
    z = z + noise * np.random.default_rng(0).normal(size=z.shape)
    found = nugget(z)
    assert (found < 1.2 * noise**2 + 0.06**2).all()
    assert (found >= 0.5 * noise**2).all()


def judged(z, score, segments, span):
    """What may be taken off, with the precision of the right density."""
    return series_noise(z, score, (score**2).mean(axis=0), segments, span).variance


def linear_score(z):
    """Of autoregressions of first order fitted to each channel, in plain NumPy."""
    phi = (z[1:] * z[:-1]).sum(axis=0) / (z**2).sum(axis=0)
    residual = z[1:] - phi * z[:-1]
    residual /= residual.var(axis=0)
    score = np.zeros_like(z)
    score[1:] -= residual
    score[:-1] += phi * residual
    return score


def test_a_channel_unlike_all_others_is_believed_if_it_is_certain():
    """Smooth in noise it is; one that is rough by itself, as gusts are, has none for certain."""
    rng = np.random.default_rng(0)
    z = np.sin(np.arange(6000)[:, None] / [20, 30, 40])
    z += rng.normal(size=z.shape) * [0.1, 0.1, 0.5]
    found = judged(z, linear_score(z), np.zeros(6000, int), 2)
    assert (found > [0.004, 0.004, 0.18]).all()
    assert (found < [0.012, 0.012, 0.27]).all()
    z[:, 2] = autoregression(rng, 6000, 0.5)
    rough = judged(z, linear_score(z), np.zeros(6000, int), 2)
    assert rough[2] < 0.02


def test_a_channel_that_is_mostly_noise_is_left():
    rng = np.random.default_rng(0)
    z = np.sin(np.arange(6000)[:, None] / [20, 30, 40])
    z += rng.normal(size=z.shape) * [0.1, 0.1, 2.0]
    found = judged(z, linear_score(z), np.zeros(6000, int), 2)
    assert found[2] == 0
    assert (found[:2] > 0.005).all()


def test_quiet_times_tell_noise_from_a_process_that_is_often_wild():
    """White bursts in every second day are no noise: on the other days there is none."""
    rng = np.random.default_rng(0)
    wild = np.repeat(np.arange(250) % 2 == 1, 24)[:, None]
    z = np.stack([np.sin(np.arange(6000) / 30)] * 2, axis=1)
    z += wild * rng.normal(size=z.shape) + 0.01 * rng.normal(size=z.shape)
    assert (nugget(z) > 0.2).all()
    found = judged(z, linear_score(z), np.zeros(6000, int), 2)
    assert (found < 0.05).all()


def test_nothing_is_found_where_there_is_no_score_or_no_block():
    z = np.random.default_rng(0).normal(size=(200, 1))
    np.testing.assert_array_equal(judged(z, np.zeros_like(z), np.zeros(200, int), 3), 0)
    pieces = np.arange(200) // 5
    np.testing.assert_array_equal(judged(z, z, pieces, 3), 0)
    assert set(calibration.__all__) <= set(dir(calibration))


def test_a_channel_that_moves_in_bursts_is_judged_in_its_quiet_times():
    """Rain, say: noise is all there is of it most of the time, and tells nothing of the storms."""
    rng = np.random.default_rng(0)
    z = np.sin(np.arange(4800)[:, None] / [20, 30, 40])
    storms = rng.random(4800) < 0.01
    z[:, 2] = 8 * np.convolve(storms * rng.exponential(size=4800), np.ones(6))[:4800]
    clean = z.copy()
    z += rng.normal(size=z.shape) * 0.3
    assert nugget(z)[2] < 0.02
    variance, likely = series_noise(
        z, linear_score(z), (linear_score(z) ** 2).mean(axis=0), np.zeros(4800, int), 2
    )
    assert 0.04 < variance[2] <= likely[2] < 0.13
    clean[:, :2] += rng.normal(size=(4800, 2)) * 0.3
    assert judged(clean, linear_score(clean), np.zeros(4800, int), 2)[2] < 0.01
