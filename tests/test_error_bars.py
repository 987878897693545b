"""Error bars: the posterior of a Gaussian law, what is not known, and how often they hold."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denograd_jax import refine
from denograd_jax._frames._uncertainty import Cells, posterior_variance
from denograd_jax.calibration import error_after
from denograd_jax.errors import UnsupportedError

WINDOW = 6


def cells(precision, excess=0.0):
    """Of one row, none replaced."""
    h = np.atleast_2d(precision).astype(float)
    return Cells(h, h, np.zeros(h.shape, bool), np.zeros(h.shape), np.full(h.shape[1], excess))


def test_of_a_gaussian_law_they_are_the_posterior():
    factor = np.random.default_rng(0).normal(size=(5, 5))
    clean, v = factor @ factor.T, 0.3
    noisy = np.linalg.inv(clean + v * np.eye(5))
    expected = np.diag(clean - clean @ noisy @ clean)
    noise = np.full((1, 5), v)
    found = posterior_variance(cells(np.diag(noisy)), noise, noise, doubt=0)
    np.testing.assert_allclose(found[0], expected, rtol=1e-10)


noises = st.floats(1e-4, 10)
parts = st.floats(0, 1)


@given(v=noises, taken=parts, share=parts, excess=parts, doubt=st.floats(0, 0.3))
def test_they_allow_for_another_noise_and_for_a_fitted_density(v, taken, share, excess, doubt):
    t, h = np.array([[taken * v]]), share / v
    noise = np.array([[v]])
    found = posterior_variance(cells(h, excess), t, noise, doubt).item()
    assert found <= v * (1 + 1e-9)
    others = [(v * (1 - doubt), h, h), (v, h * (1 - excess / 2), h * (1 + excess / 2))]
    for variance, slope, square in others:
        expected = error_after(variance, t, slope, square).item()
        assert found >= min(expected, v) * (1 - 1e-9)


def waves(steps=1500):
    """Three channels of a smooth random process, each with a share of the others."""
    rng = np.random.default_rng(5)
    level = np.zeros((steps, 3))
    for k in range(2, steps):
        level[k] = 1.8 * level[k - 1] - 0.85 * level[k - 2] + rng.normal(size=3)
    level = level @ np.array([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]])
    clean = pd.DataFrame(level / level.std(axis=0), columns=list("abc"))
    return clean, clean + 0.3 * rng.normal(size=clean.shape)


@pytest.fixture(scope="module")
def series():
    clean, noisy = waves()
    return clean, noisy, refine(noisy, window=WINDOW)


def covered(clean, refined, level=0.9):
    low, high = refined.interval(level)
    return ((low <= clean) & (clean <= high)).to_numpy().mean()


def test_intervals_hold_as_often_as_they_say(series):
    clean, _, refined = series
    assert 0.85 <= covered(clean, refined) <= 0.95
    assert 0.45 <= covered(clean, refined, 0.5) <= 0.6
    # They are narrower than those of the data as they are.
    assert (refined.standard_errors.mean() < 0.8 * 0.3).all()


@pytest.mark.slow
def test_and_where_the_noise_is_told(series):
    clean, noisy, _ = series
    assert 0.85 <= covered(clean, refine(noisy, window=WINDOW, noise_scale=0.3)) <= 0.95


@pytest.mark.slow
def test_and_in_tables():
    rng = np.random.default_rng(6)
    clean = pd.DataFrame(
        rng.normal(size=(1500, 2)) @ rng.normal(size=(2, 5)), columns=list("abcde")
    )
    noisy = clean + 0.3 * clean.std().to_numpy() * rng.normal(size=clean.shape)
    assert 0.85 <= covered(clean, refine(noisy, "e")) <= 0.95


def test_no_bars_where_only_the_least_noise_is_known(series):
    _, noisy, refined = series
    known = refined.fitted.noise
    bounded = known._replace(likely=known.variance * [1, 2, 1])
    again = refine(noisy, window=WINDOW)
    vars(again.fitted)["noise"] = bounded
    assert again.standard_errors.notna().all().tolist() == [True, False, True]
    assert again.standard_errors["b"].isna().all()


def test_an_interval_is_centred_on_the_refined_value(series):
    _, _, refined = series
    low, high = refined.interval(0.95)
    np.testing.assert_allclose((low + high) / 2, refined.data, atol=1e-12)
    np.testing.assert_allclose((high - low) / refined.standard_errors, 2 * 1.959964, rtol=1e-6)


@pytest.mark.parametrize("level", [0, 1, 1.5, "most", None])
def test_levels_that_are_none(series, level):
    with pytest.raises(UnsupportedError, match="between 0 and 1"):
        series[2].interval(level)
