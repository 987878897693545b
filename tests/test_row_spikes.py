"""Spikes in the cells of rows: found, replaced, and nothing else is."""

import numpy as np
import pandas as pd
import pytest

from denograd_jax import refine
from denograd_jax.calibration import row_spikes


def standardised(a):
    return (a - a.mean(axis=0)) / a.std(axis=0)


def hidden(n=3000, d=6, seed=0, own=0.3):
    """Two hidden numbers explain most of each column, but for some of its own."""
    rng = np.random.default_rng(seed)
    return standardised(
        rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + own * rng.normal(size=(n, d))
    )


def spiky(clean, size=5.0, part=0.02, seed=1, signs=(-1.0, 1.0)):
    rng = np.random.default_rng(seed)
    hit = rng.random(clean.shape) < part
    return clean + size * rng.choice(signs, size=clean.shape) * hit, hit


def rms(a):
    return float(np.sqrt(np.mean(np.square(a))))


def repaired(noisy):
    """In the units given, and what was found."""
    found = row_spikes(standardised(noisy))
    return found.values * noisy.std(axis=0) + noisy.mean(axis=0), found.found


@pytest.mark.parametrize(("size", "part"), [(5.0, 0.02), (10.0, 0.01), (5.0, 0.05)])
def test_spikes_are_found_and_replaced(size, part):
    clean = hidden()
    noisy, hit = spiky(clean, size, part)
    values, found = repaired(noisy)
    assert (found & hit).sum() > 0.9 * hit.sum()
    assert (found & ~hit).sum() < 0.1 * hit.sum()
    assert rms(values - clean) < 0.4 * rms(noisy - clean)
    np.testing.assert_array_equal(row_spikes(standardised(noisy)).found, found)


def test_what_was_not_found_does_not_move():
    z = standardised(spiky(hidden())[0])
    values, found, *_ = row_spikes(z)
    assert found.any()
    np.testing.assert_array_equal(values[~found], z[~found])


@pytest.mark.parametrize(
    "kind", ["hidden", "t1", "t2", "t3", "lognormal", "products", "even", "levels", "clusters"]
)
def test_clean_rows_have_none(kind):
    """Heavy tails, on both sides alike too, end in no gap; true extremes stand in their rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 4))
    rows = {
        "hidden": hidden,
        "t1": lambda: rng.standard_t(1, size=x.shape),
        "t2": lambda: rng.standard_t(2, size=x.shape) @ rng.normal(size=(4, 4)),
        "t3": lambda: x / np.sqrt(rng.chisquare(3, size=(3000, 1))),
        "lognormal": lambda: np.exp(2 * x),
        "products": lambda: np.column_stack([x, x[:, 0] * x[:, 1], x[:, 2] ** 3]),
        "even": lambda: rng.uniform(size=x.shape),
        "levels": lambda: np.column_stack([x, rng.poisson(0.1, 3000) - rng.poisson(0.1, 3000)]),
        "clusters": lambda: 9.0 * (rng.integers(5, size=(3000, 1)) == range(4)) + 0.1 * x,
    }[kind]()
    assert not row_spikes(standardised(rows)).found.any()


def test_what_points_one_way_is_left():
    assert not row_spikes(standardised(spiky(hidden(), signs=(1.0,))[0])).found.any()


def test_rows_that_are_off_as_a_whole_have_none():
    clean = hidden()
    rng = np.random.default_rng(2)
    off = rng.random(len(clean)) < 0.02
    found = row_spikes(standardised(clean + 5 * rng.normal(size=clean.shape) * off[:, None]))
    np.testing.assert_array_equal(found.found, np.tile(found.rows[:, None], 6))
    assert (found.rows == off).mean() > 0.995


def test_in_a_column_of_few_levels_only_what_is_at_none_of_them_is_a_spike():
    clean = hidden()
    clean[:, 0] = np.round(clean[:, 0])
    noisy, hit = spiky(clean, 4.7)
    found = repaired(noisy)[1]
    assert (found & hit)[:, 0].sum() > 0.8 * hit[:, 0].sum()
    rounded = noisy.copy()
    rounded[:, 0] = np.round(noisy[:, 0])
    assert not repaired(rounded)[1][:, 0].any()


def test_cells_that_were_filled_in_are_no_spikes_and_few_rows_have_none():
    z = standardised(spiky(hidden())[0])
    observed = np.ones(z.shape, bool)
    observed[:, 1] = False
    assert not row_spikes(z, observed=observed).found[:, 1].any()
    assert row_spikes(z, observed=observed).found[:, 0].any()
    assert not row_spikes(z[:299]).found.any()


def test_one_column_is_judged_by_itself():
    rng = np.random.default_rng(0)
    values, hit = spiky(standardised(rng.uniform(size=(3000, 1))))
    found = repaired(values)[1]
    assert (found == hit).mean() > 0.998


@pytest.fixture(scope="module")
def refined():
    clean = pd.DataFrame(hidden(), columns=[*"abcdey"])
    noisy = pd.DataFrame(spiky(clean.to_numpy())[0], columns=clean.columns)
    noisy.iloc[5, 2] = np.nan
    return clean, noisy, refine(noisy, "y", rule="auto")


def test_refine_replaces_them(refined):
    clean, noisy, found = refined
    assert "cells stand out as spikes" in found.settings["noise"]
    pd.testing.assert_frame_equal(found.before, noisy)
    error, before = (rms((f - clean).fillna(0)) for f in (found.data, noisy))
    assert error < 0.5 * before
    residuals = found.residuals
    assert rms(residuals["after"].dropna()) < 0.7 * rms(residuals["before"].dropna())


def test_a_replaced_cell_is_as_uncertain_as_its_row_leaves_it(refined):
    clean, noisy, found = refined
    errors = found.standard_errors
    moved = ((found.data - noisy).abs() > 2) & noisy.notna()
    assert moved.to_numpy().sum() > 50
    missed = ((found.data - clean) / errors).to_numpy()[moved]
    # A Gaussian's is 0.67; far off are rows of which another spike was not found.
    assert 0.5 < np.median(np.abs(missed)) < 0.9
    assert (np.abs(missed) < 3).mean() > 0.95


@pytest.mark.slow
def test_where_the_noise_is_told_none_is_looked_for(refined):
    noisy = refined[1][:1000]
    told = refine(noisy, "y", rule="auto", noise_scale=0.1)
    assert "spikes" not in str(told.settings["noise"])
    assert float((told.data - noisy).abs().max().max()) < 0.5


def test_columns_that_are_frozen_and_largest_changes_are_kept(refined):
    noisy = refined[1][:1000]
    frozen = refine(noisy, "y", rule="auto", frozen=["a"], max_change=1.0)
    pd.testing.assert_series_equal(frozen.data["a"], noisy["a"])
    assert float(((frozen.data - noisy) / noisy.std()).abs().max().max()) < 1.001
