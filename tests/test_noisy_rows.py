"""Rows of a table that are off as a whole: found, drawn back, and no others are."""

import functools

import numpy as np
import pandas as pd
import pytest

from denograd_jax import refine
from denograd_jax.calibration import row_spikes
from denograd_jax.calibration._cellwise import Law
from denograd_jax.calibration._noisy_rows import repaired_rows
from tests import test_row_spikes
from tests.test_row_spikes import rms, standardised

hidden = functools.partial(test_row_spikes.hidden, own=0.1)


def with_noisy_rows(clean, size=0.5, part=0.1, seed=1):
    rng = np.random.default_rng(seed)
    rows = rng.random(len(clean)) < part
    return clean + size * rng.normal(size=clean.shape) * rows[:, None], rows


@pytest.mark.parametrize(("size", "part"), [(0.5, 0.1), (1.0, 0.05), (3.0, 0.1)])
@pytest.mark.parametrize("seed", range(3))
def test_they_are_found_and_drawn_back(size, part, seed):
    clean = hidden(seed=seed)
    noisy, rows = with_noisy_rows(clean, size, part, seed + 10)
    found = row_spikes(standardised(noisy))
    values = found.values * noisy.std(axis=0) + noisy.mean(axis=0)
    assert (found.rows & rows).sum() > 0.8 * rows.sum()
    assert (found.rows & ~rows).sum() < 0.02 * len(rows)
    # Projected to the plane of the two numbers, noise in six columns is sqrt(2 / 6) = .58 of it.
    assert rms(values - clean) < 0.75 * rms(noisy - clean)
    others = ~found.found
    np.testing.assert_array_equal(found.values[others], standardised(noisy)[others])


def test_noise_in_all_rows_or_in_a_population_of_its_own_is_none_of_them():
    rng = np.random.default_rng(3)
    clean = hidden()
    everywhere = clean + 0.3 * rng.normal(size=clean.shape)
    own = clean + 0.5 * rng.normal(size=clean.shape) * (clean[:, :1] > 1.2)
    for rows in (clean, everywhere, own):
        assert not row_spikes(standardised(rows)).rows.any()


def test_of_two_columns_no_row_is_and_cells_that_were_filled_in_stay():
    noisy = standardised(with_noisy_rows(hidden(), 2.0)[0])
    assert not row_spikes(noisy[:, :2]).rows.any()
    assert not row_spikes(np.zeros((400, 3))).found.any()
    observed = np.ones(noisy.shape, bool)
    observed[:, 4] = False
    found = row_spikes(noisy, observed=observed)
    assert found.rows.any()
    assert found.found[found.rows][:, [0, 1, 2, 3, 5]].all()
    assert not found.found[:, 4].any()
    np.testing.assert_array_equal(found.values[:, 4], noisy[:, 4])


def test_what_stands_in_for_them_is_the_posterior_mean_with_its_error():
    """Of a Gaussian signal with Gaussian noise, of which only the signal's law is told."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    covariance, mean = root @ root.T, rng.normal(size=4)
    noise = np.array([0.2, 0.5, 1.0, 2.0])
    clean = mean + rng.normal(size=(20_000, 4)) @ root.T
    noisy = clean + np.sqrt(noise) * rng.normal(size=clean.shape)
    law = Law(mean, np.linalg.inv(covariance), np.ones(4))
    values, variance = repaired_rows(noisy, law)
    gain = np.diag(noise) @ np.linalg.inv(covariance + np.diag(noise))
    np.testing.assert_allclose(values, noisy - (noisy - mean) @ gain.T, atol=0.15)
    np.testing.assert_allclose(((values - clean) ** 2).mean(axis=0), variance, rtol=0.1)


@pytest.fixture(scope="module")
def days():
    """Two days of one system: clean, noisy, and which rows are, of each."""
    clean = pd.DataFrame(hidden(n=6000), columns=[*"abcdey"])
    values, rows = with_noisy_rows(clean.to_numpy())
    noisy = pd.DataFrame(values, columns=clean.columns)
    noisy.iloc[5, 2] = np.nan
    return [(clean[part], noisy[part], rows[part]) for part in (slice(3000), slice(3000, None))]


@pytest.fixture(scope="module")
def refined(days):
    return refine(days[0][1], "y")


def test_refine_draws_them_back_with_error_bars_that_know_the_whole_row_is_off(days, refined):
    clean, noisy, rows = days[0]
    pd.testing.assert_frame_equal(refined.before, noisy)
    error, before = (rms((f - clean).fillna(0)) for f in (refined.data, noisy))
    assert error < 0.8 * before
    found = refined.cells.of_noisy_rows > 0
    assert (found.any(axis=1) & rows).sum() > 0.8 * rows.sum()
    missed = ((refined.data - clean) / refined.standard_errors).to_numpy()[found]
    assert 0.85 < (np.abs(missed) < 1.645).mean() < 0.95


def test_yesterdays_model_finds_those_of_today(days, refined):
    clean, noisy, _ = days[1]
    data = refined.fitted.refine(noisy).data
    assert rms(data - clean) < 0.8 * rms(noisy - clean)
