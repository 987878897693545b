"""How much of the columns of a table is noise, and what stands in for cells that are missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denograd_jax.calibration import covariance_of_rows, expected_cells, row_noise
from denograd_jax.calibration._row_noise import EVEN, FEWEST_ROWS, mixture_size, repeats


def standardised(a):
    a = np.asarray(a, float)
    return (a - a.mean(axis=0)) / a.std(axis=0)


def rank_two(n=1200, d=6, seed=0):
    """Two hidden numbers explain all columns; each has a standard deviation of 1."""
    rng = np.random.default_rng(seed)
    return standardised(rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)))


def noisy(clean, scale, seed=1):
    return clean + scale * np.random.default_rng(seed).normal(size=clean.shape)


def found(rows, **options):
    """Standard deviations, in units of the rows given."""
    return np.sqrt(row_noise(standardised(rows), **options).variance) * np.std(rows, axis=0)


@pytest.mark.parametrize("scale", [0.1, 0.3])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_noise_is_found_and_not_more_than_there_is(scale, seed):
    """Four tenths of the variance are taken at least; no column gets a tenth more than it has."""
    sizes = found(noisy(rank_two(seed=seed), scale), seed=seed)
    assert (sizes > 0.6 * scale).all()
    assert (sizes < 1.1 * scale).all()


def test_the_ceiling_is_about_the_noise():
    rows = noisy(rank_two(), 0.3)
    noise = row_noise(standardised(rows))
    np.testing.assert_allclose(np.sqrt(noise.ceiling) * rows.std(axis=0), 0.3, rtol=0.2)


@pytest.mark.slow
def test_columns_of_different_noise():
    scales = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.0])
    sizes = found(noisy(rank_two(), scales))
    assert (sizes < 1.1 * scales + 0.02).all()
    assert (sizes > 0.2 * scales).sum() >= 4


@pytest.mark.slow
def test_noise_on_one_column_is_seen_on_no_other():
    scales = np.array([0.5, 0, 0, 0, 0, 0])
    sizes = found(noisy(rank_two(), scales))
    assert sizes[0] < 0.6
    assert (sizes[1:] < 0.02).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["counts", "few levels"])
def test_noise_on_columns_of_whole_numbers(kind):
    clean = rank_two()
    steps = {"counts": 4, "few levels": 1}[kind]
    lattice = np.round(clean * steps) / steps
    sizes = found(noisy(lattice, 0.3))
    rounding = 1 / steps / np.sqrt(12)  # which is noise as well
    assert kind == "few levels" or (sizes > 0.15).all()
    assert (sizes < 1.1 * np.hypot(0.3, rounding)).all()


def exact(kind):
    rng = np.random.default_rng(3)
    clean = rank_two()
    angle = rng.uniform(0, 6, size=1200)
    return {
        "rank 2": lambda: clean,
        "circle": lambda: np.column_stack([np.sin(angle), np.cos(angle), angle]),
        "few levels": lambda: np.clip(np.round(clean), -1, 2),
        "mostly zero": lambda: np.where(rng.random(clean.shape) < 0.9, 0, np.exp(clean)),
        "duplicates": lambda: np.repeat(rng.normal(size=(60, 4)), 20, axis=0),
        "duplicate columns": lambda: np.tile(rng.normal(size=(400, 1)), 4),
        "curved": lambda: np.column_stack([clean[:, :2], clean[:, :2] ** 2, clean[:, 0] ** 3]),
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "rank 2",
        "few levels",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("circle", "mostly zero", "duplicates", "duplicate columns", "curved")
        ),
    ],
)
def test_clean_rows_have_none(kind):
    assert (np.sqrt(row_noise(standardised(exact(kind))).variance) < 0.03).all()


@pytest.mark.slow
def test_a_target_that_is_nothing_but_noise_hides_no_other_column():
    rng = np.random.default_rng(0)
    x = noisy(rank_two()[:, :5], 0.3)
    sizes = found(np.column_stack([x, rng.normal(size=len(x))]))
    assert (sizes[:5] > 0.15).all()
    assert (sizes[:5] < 0.33).all()


@pytest.mark.slow
@pytest.mark.parametrize("digits", [1, 2])
def test_rounding_does_not_hide_the_noise(digits):
    rows = noisy(rank_two(), 0.3)
    np.testing.assert_allclose(found(np.round(rows, digits)), found(rows), rtol=0.25)


def test_too_few_rows_say_nothing():
    few = row_noise(standardised(noisy(rank_two(n=FEWEST_ROWS - 1), 0.3)))
    assert not few.variance.any()
    assert not few.ceiling.any()
    enough = row_noise(standardised(noisy(rank_two(n=2 * FEWEST_ROWS), 0.3)))
    assert (enough.variance > 0.03).all()


@pytest.mark.slow
def test_the_same_twice_and_nearly_the_same_by_another_seed():
    """What is taken may be .45 or .7 of it: a column at the edge of being told to be noise."""
    z = standardised(noisy(rank_two(), 0.3))
    one, same, other = (row_noise(z, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.variance, same.variance)
    np.testing.assert_allclose(np.sqrt(one.ceiling), np.sqrt(other.ceiling), rtol=0.2)
    np.testing.assert_allclose(np.sqrt(one.variance), np.sqrt(other.variance), rtol=0.3)


@pytest.mark.slow
def test_no_unit_and_no_order_matters_much():
    rows = noisy(rank_two(), np.array([0.1, 0.3, 0.3, 0.2, 0.2, 0.1]))
    order = np.random.default_rng(5).permutation(6)
    np.testing.assert_allclose(found(rows[:, order]), found(rows)[order], rtol=0.5)
    np.testing.assert_allclose(found(rows[::-1]), found(rows), rtol=0.5)
    np.testing.assert_allclose(found(rows * 1e6 + 1), 1e6 * found(rows), rtol=1e-6)


@settings(max_examples=12)
@given(st.integers(100, 400), st.integers(1, 3), st.integers(0, 99), st.sampled_from("ntzie"))
def test_what_is_found_is_a_variance(n, d, seed, kind):
    rng = np.random.default_rng(seed)
    z = {
        "n": lambda: rng.normal(size=(n, d)),
        "t": lambda: rng.standard_t(1.5, size=(n, d)),
        "z": lambda: np.where(rng.random((n, d)) < 0.95, 0, rng.normal(size=(n, d))),
        "i": lambda: rng.integers(0, 9, size=(n, d)).astype(float),
        "e": lambda: np.tile(rng.normal(size=(n, 1)), d) ** 3,
    }[kind]()
    noise = row_noise(z / np.maximum(z.std(axis=0), 1e-9), seed=seed)
    assert noise.variance.shape == noise.ceiling.shape == (d,)
    assert np.isfinite(noise.ceiling).all()
    assert (noise.variance >= 0).all()
    assert (noise.variance <= noise.ceiling).all()


def test_cells_that_were_filled_are_no_values_that_repeat():
    """A fifth of a column at its mean would look like values recorded exactly."""
    z = standardised(noisy(rank_two(), 0.3))
    observed = np.random.default_rng(0).random(z.shape) > 0.2
    filled = np.where(observed, z, 0)
    assert repeats(filled[:, 0]) > EVEN
    assert row_noise(filled, observed=observed).ceiling.all()
    assert not row_noise(filled).ceiling.any()


# Values that repeat


def test_repeats_of_smooth_and_of_exact_values():
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=4000)
    assert repeats(smooth) == 0
    assert repeats(np.round(smooth, 2)) == pytest.approx(1, abs=0.1)
    assert repeats(np.round(smooth, 1)) == pytest.approx(1, abs=0.1)
    assert repeats(np.zeros(9)) == np.inf
    heaped = np.where(rng.random(4000) < 0.5, np.round(smooth, 1), np.round(smooth, 3))
    assert repeats(heaped) > 10
    assert repeats(np.repeat(rng.normal(size=40), 20)) > 5  # rows given many times
    # 3 values, 2 each: 3 pairs; 2 x 4 neighbours at 1, 4 at 2, none at 3.
    assert repeats(np.array([0.0, 0, 1, 1, 2, 2])) == pytest.approx(3 / (12 / 3 / 2))
    assert repeats(np.array([5.0])) == np.inf


def test_as_many_components_as_rows_allow():
    assert [mixture_size(n, 5) for n in (1, 79, 80, 200, 479, 480, 10**6)] == [
        1,
        1,
        2,
        5,
        11,
        12,
        12,
    ]


# Missing cells


def correlated(n, d, seed=0):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(d, d)) + np.eye(d)
    covariance = factor @ factor.T
    return covariance, rng.multivariate_normal(np.zeros(d), covariance, size=n)


def test_missing_cells_are_their_conditional_mean():
    covariance, z = correlated(30, 4)
    holed = np.where(np.random.default_rng(1).random(z.shape) < 0.4, np.nan, z)
    holed[0] = np.nan
    holed[1] = z[1]
    filled = expected_cells(holed, covariance)
    for given_row, row in zip(holed, filled, strict=True):
        gone = np.isnan(given_row)
        expected = given_row.copy()
        inverse = np.linalg.pinv(covariance[np.ix_(~gone, ~gone)])
        expected[gone] = covariance[np.ix_(gone, ~gone)] @ inverse @ given_row[~gone]
        np.testing.assert_allclose(row, expected, rtol=1e-8, atol=1e-10)
    assert not filled[0].any()
    np.testing.assert_array_equal(filled[1], z[1])


def test_the_covariance_of_complete_rows():
    _, z = correlated(50, 3)
    np.testing.assert_allclose(covariance_of_rows(z), z.T @ z / 50, rtol=1e-4)


def test_the_covariance_of_rows_with_gaps_is_the_likeliest():
    """Its likelihood, row by row over the observed cells, has no slope."""
    _, z = correlated(400, 3)
    holed = np.where(np.random.default_rng(1).random(z.shape) < 0.2, np.nan, z)
    holed[5] = np.nan
    found_covariance = covariance_of_rows(holed)

    def likelihood(covariance):
        total = 0.0
        for row in holed:
            seen = ~np.isnan(row)
            c = covariance[np.ix_(seen, seen)]
            total -= np.linalg.slogdet(c)[1] + row[seen] @ np.linalg.solve(c, row[seen])
        return total / 2

    rng = np.random.default_rng(2)
    best = likelihood(found_covariance)
    for _ in range(50):
        change = 1 + 0.05 * rng.normal(size=(3, 3))
        assert likelihood(found_covariance * (change + change.T) / 2) < best + 0.05
    deleted = np.nan_to_num(holed).T @ np.nan_to_num(holed) / 400  # gaps taken for 0
    assert likelihood(deleted) < best - 5


def test_gaps_that_leave_nothing_to_tell():
    z = np.full((20, 3), np.nan)
    z[:, 0] = np.random.default_rng(0).normal(size=20)
    covariance = covariance_of_rows(z)
    assert np.isfinite(covariance).all()
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    filled = expected_cells(z, covariance)
    np.testing.assert_array_equal(filled[:, 0], z[:, 0])
    np.testing.assert_allclose(filled[:, 1:], 0, atol=1e-6)
    same = np.repeat(z[:, :1], 3, axis=1)  # duplicates, of which one is missing now and then
    same[::4, 1] = np.nan
    filled = expected_cells(same, covariance_of_rows(same))
    np.testing.assert_allclose(filled[:, 1], same[:, 0], atol=0.01)
