"""Spikes: found where they are, and nowhere else."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denograd_jax import datasets, errors, refine
from denograd_jax.calibration import spikes

COLUMNS = ["temp", "dewp", "humid", "pressure"]


@pytest.fixture(scope="module")
def weather():
    """Real, hourly, complete; in standard deviations."""
    frame = datasets.load("nyc_weather_2013")
    frame = frame[frame["origin"] == "EWR"].reset_index(drop=True)[COLUMNS].ffill().astype(float)
    return ((frame - frame.mean()) / frame.std(ddof=0)).iloc[:2000]


def spiked(clean, size, share=0.02, seed=0, signs=(-1.0, 1.0)):
    """A copy with spikes, and where they are."""
    rng = np.random.default_rng(seed)
    hit = rng.random(clean.shape) < share
    return clean + size * hit * rng.choice(signs, size=clean.shape), hit


def waves(steps=2000, seed=0):
    rng = np.random.default_rng(seed)
    clean = np.sin(np.arange(steps)[:, None] / [20, 31, 43])
    return clean + 0.02 * rng.normal(size=clean.shape)


def rms(values):
    return np.sqrt((np.asarray(values) ** 2).mean())


@pytest.mark.parametrize("size", [2.0, 5.0])
def test_spikes_are_found_and_replaced(weather, size):
    clean = weather.to_numpy()
    noisy, hit = spiked(clean, size)
    result = spikes(noisy)
    assert (result.found & hit).sum() > 0.95 * hit.sum()
    assert (result.found & ~hit).sum() < 0.1 * hit.sum()
    assert rms(result.values - clean) < 0.2 * rms(noisy - clean)
    np.testing.assert_array_equal(result.values[~result.found], noisy[~result.found])


def test_spikes_of_all_sizes():
    """The small ones among them are no more than noise."""
    clean = waves()
    rng = np.random.default_rng(1)
    hit = rng.random(clean.shape) < 0.03
    noisy = clean + hit * rng.normal(size=clean.shape)
    assert rms(spikes(noisy).values - clean) < 0.7 * rms(noisy - clean)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("kind", ["normal", "laplace"])
def test_neither_clean_data_nor_noise_are_spikes(weather, noise, kind):
    draw = getattr(np.random.default_rng(0), kind)
    assert not spikes(weather.to_numpy() + noise * draw(size=weather.shape)).found.any()


def test_peaks_that_point_one_way_are_no_spikes():
    noisy, _ = spiked(waves(), 5.0, signs=[1.0])
    assert not spikes(noisy).found.any()


def test_jumps_and_shocks_that_last_are_no_spikes():
    rng = np.random.default_rng(0)
    shocks = 5.0 * rng.choice([-1.0, 1.0], size=3000) * (rng.random(3000) < 0.02)
    decay, jumps = np.zeros((2, 3000))
    for t in range(1, 3000):
        decay[t] = 0.8 * decay[t - 1] + shocks[t] + 0.1 * rng.normal()
        jumps[t] = 0.99 * jumps[t - 1] + shocks[t] + 0.1 * rng.normal()
    assert spikes(decay).found.mean() < 0.002
    assert spikes(jumps).found.mean() < 0.002


def test_a_single_gross_error_is_not_judged():
    noisy = waves()
    noisy[1000, 1] = 50.0
    assert not spikes(noisy).found.any()


def test_a_column_of_two_levels_has_no_spikes():
    levels = (np.random.default_rng(0).random(3000) < 0.5).astype(float)
    assert not spikes(levels).found.any()


def test_ends_missing_cells_and_segments():
    clean = waves()
    noisy = clean.copy()
    where = np.r_[0, 100, 104, 108:1400:100, 1499, 1500, 1999]
    noisy[where, 0] += 3 * np.resize([1, -1], len(where))
    noisy[500:520, 1] = np.nan
    noisy[1500:, :] += 4  # another level behind a gap
    result = spikes(noisy, np.repeat([0, 1], [1500, 500]))
    wrong = result.values - clean - 4 * (np.arange(2000) >= 1500)[:, None]
    np.testing.assert_array_equal(np.flatnonzero(result.found[:, 0]), where)
    assert not result.found[:, 1:].any()
    assert np.nanmax(np.abs(wrong)) < 0.3
    np.testing.assert_array_equal(np.isnan(result.values), np.isnan(noisy))


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 9))
def test_units(scale, shift, seed):
    noisy, _ = spiked(waves(600, seed), 3.0, seed=seed)
    plain, other = spikes(noisy), spikes(scale * noisy + shift)
    np.testing.assert_array_equal(plain.found, other.found)
    np.testing.assert_allclose((other.values - shift) / scale, plain.values, atol=1e-4)


def test_too_short_empty_constant_and_no_series():
    for short in (np.zeros((0, 2)), np.ones((3, 1)), np.full((200, 2), np.nan), np.ones((200, 3))):
        result = spikes(short)
        np.testing.assert_array_equal(result.values, short)
        assert not result.found.any()
    pieces = spikes(waves(300), np.arange(300) // 2)  # nothing has a past
    assert not pieces.found.any()
    with pytest.raises(errors.ShapeError, match="series"):
        spikes(np.zeros((3, 3, 3)))


def test_refine_replaces_spikes_and_tells(weather):
    noisy, hit = spiked(weather, 5.0)
    before = noisy.copy()
    refined = refine(noisy, window=24, rule="auto")
    assert rms(refined.data - weather) < 0.2 * rms(noisy - weather)
    assert "cells stand out as spikes" in refined.settings["noise"]
    assert len(refined.changes) >= 0.95 * hit.sum()
    pd.testing.assert_frame_equal(noisy, before)
    assert refined.changes["change"].abs().max() > 4


@pytest.mark.slow
def test_refine_keeps_limits_and_frozen_cells(weather):
    noisy, hit = spiked(weather, 5.0)
    rows = np.arange(len(noisy)) < 1000
    limited = refine(
        noisy, window=24, rule="auto", max_change=0.5, frozen_rows=rows, frozen=["dewp"]
    )
    assert limited.changes["sigmas"].abs().max() <= 0.5 + 1e-9
    pd.testing.assert_frame_equal(limited.data[rows], noisy[rows])
    pd.testing.assert_series_equal(limited.data["dewp"], noisy["dewp"])
    moved = (limited.data != noisy).to_numpy()
    open_cells = hit & ~rows[:, None] & (np.array(COLUMNS) != "dewp")
    assert moved[open_cells].mean() > 0.95


def test_noise_that_is_told_has_no_spikes(weather):
    noisy, _ = spiked(weather, 5.0)
    told = refine(noisy, window=24, rule="auto", noise_scale=0.1)
    assert told.changes["change"].abs().max() <= 0.3 + 1e-6


def noisy_rows(clean, share, size, seed=0):
    """A copy with Gaussian noise in all cells of some rows, and which."""
    rng = np.random.default_rng(seed)
    hit = rng.random(len(clean)) < share
    return clean + size * hit[:, None] * rng.normal(size=clean.shape), hit


def test_rows_that_are_noisy_are_found_and_drawn_back():
    clean = waves()
    clean[:, 1] += clean[:, 0]
    noisy, hit = noisy_rows(clean, 0.1, 0.5)
    found = spikes(noisy)
    rows = found.found.all(axis=1)
    assert (rows & ~hit).sum() <= 2
    assert (rows & hit).sum() > 0.5 * hit.sum()
    assert rms(found.values - clean) < 0.65 * rms(noisy - clean)


def test_a_column_without_the_noise_stays_where_it_is():
    """In rows that are noisy otherwise."""
    clean = np.c_[waves(), waves(seed=1)[:, 0]]
    noisy, hit = noisy_rows(clean, 0.1, 0.5)
    noisy[:, 3] = clean[:, 3]
    found = spikes(noisy)
    assert found.found[hit].mean() > 0.3
    assert rms((found.values - clean)[:, 3]) < 0.02


@pytest.mark.parametrize("tail", [3, 5, 1000])
def test_common_shocks_of_all_sizes_are_no_noisy_rows(tail):
    """Returns of several shares: the market moves all at once, up and down, at times far."""
    rng = np.random.default_rng(0)
    market = rng.standard_t(tail, size=(3000, 1))
    returns = market * [1.0, 0.7, 1.3, 0.9] + 0.2 * rng.normal(size=(3000, 4))
    assert not spikes(returns).found.any()
    assert not spikes(returns.cumsum(axis=0)).found.any()
