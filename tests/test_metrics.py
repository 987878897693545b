"""Metrics against POT, SciPy, pandas, NumPy and closed forms."""

import jax
import numpy as np
import ot
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from denograd_jax import metrics
from denograd_jax.errors import DataError, ShapeError

KEY = jax.random.key(3)


def directions_of(key, count, columns):
    """The documented draw: normalised Gaussians."""
    normal = np.asarray(jax.random.normal(key, (count, columns), "float32"), np.float64)
    return normal / np.sqrt((normal**2).sum(axis=1, keepdims=True))


def step_quantile(sample, level):
    """Q(level) of the empirical measure: the smallest x with F(x) >= level."""
    ordered = np.sort(sample)
    return ordered[min(int(np.ceil(level * len(ordered) - 1e-12)), len(ordered)) - 1]


@pytest.mark.parametrize("sizes", [(40, 40), (40, 25), (7, 90), (1, 13)])
def test_sliced_wasserstein_agrees_with_pot(rng, sizes):
    a, b = rng.normal(size=(sizes[0], 4)), 1 + 2 * rng.normal(size=(sizes[1], 4))
    ours = metrics.sliced_wasserstein(a, b, directions=60, key=KEY)
    projections = directions_of(KEY, 60, 4).T
    assert ours == pytest.approx(
        ot.sliced_wasserstein_distance(a, b, projections=projections, p=2), rel=1e-9
    )


def test_sliced_wasserstein_of_one_column_is_the_sorted_difference(rng):
    a, b = rng.normal(size=200), rng.gamma(2.0, size=200)
    expected = np.sqrt(np.mean((np.sort(a) - np.sort(b)) ** 2))
    assert metrics.sliced_wasserstein(a, b, key=KEY) == pytest.approx(expected, rel=1e-12)
    assert metrics.wasserstein_1d(a, b) == pytest.approx([expected], rel=1e-12)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection(rng):
    a, shift = rng.normal(size=(300, 3)), np.array([2.0, -1.0, 0.5])
    along = directions_of(KEY, 100, 3) @ shift
    assert metrics.sliced_wasserstein(a, a + shift, key=KEY) == pytest.approx(
        np.sqrt(np.mean(along**2)), rel=1e-9
    )
    many = metrics.sliced_wasserstein(a, a + shift, directions=4000, key=KEY)
    assert many == pytest.approx(np.linalg.norm(shift) / np.sqrt(3), rel=0.03)


def test_sliced_wasserstein_of_gaussians_is_their_closed_form(rng):
    """W_2 of N(0,1) and N(2,3^2) is sqrt(2^2 + (3-1)^2)."""
    levels = (np.arange(20_000) + 0.5) / 20_000
    a, b = scipy.stats.norm.ppf(levels), 2 + 3 * scipy.stats.norm.ppf(levels[::2])
    assert metrics.sliced_wasserstein(a, b, key=KEY) == pytest.approx(np.sqrt(8), rel=2e-3)


def test_sliced_wasserstein_does_not_depend_on_order_scale_of_repeats_or_x64(rng):
    a, b = rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    distance = metrics.sliced_wasserstein(a, b, key=KEY)
    assert metrics.sliced_wasserstein(rng.permutation(a), b, key=KEY) == pytest.approx(distance)
    assert metrics.sliced_wasserstein(np.tile(a, (3, 1)), b, key=KEY) == pytest.approx(distance)
    assert metrics.sliced_wasserstein(b, a, key=KEY) == pytest.approx(distance)
    assert metrics.sliced_wasserstein(a, rng.permutation(a), key=KEY) == pytest.approx(0, abs=1e-9)
    assert metrics.sliced_wasserstein(a, b, key=jax.random.key(4)) != distance
    with jax.enable_x64(True):
        assert metrics.sliced_wasserstein(a, b, key=KEY) == distance


def test_sliced_wasserstein_leaves_incomplete_samples_out(rng):
    a, b = rng.normal(size=(30, 3)), rng.normal(size=(30, 3))
    holed = np.vstack([a, [[np.nan, 1e9, 0.0], [1e9, 0.0, np.nan]]])
    assert metrics.sliced_wasserstein(holed, b, key=KEY) == metrics.sliced_wasserstein(
        a, b, key=KEY
    )


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10_000))
def test_transport_between_unequal_sizes_integrates_the_quantile_functions(n, m, seed):
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=n), draw.normal(size=m)
    levels = (np.arange(n * m) + 0.5) / (n * m)  # both quantile functions are constant in between
    squares = [(step_quantile(a, u) - step_quantile(b, u)) ** 2 for u in levels]
    assert metrics.sliced_wasserstein(a, b, key=KEY) == pytest.approx(
        np.sqrt(np.mean(squares)), rel=1e-9, abs=1e-12
    )


def test_wasserstein_1d_agrees_with_scipy_and_leaves_pairs_out(rng):
    before, after = rng.normal(size=(50, 3)), rng.gamma(2.0, size=(50, 3))
    before[:4, 0], after[2:9, 0] = np.nan, np.nan
    before[:, 2] = np.nan
    ours = metrics.wasserstein_1d(before, after, order=1)
    expected = scipy.stats.wasserstein_distance(before[9:, 0], after[9:, 0])
    assert ours[0] == pytest.approx(expected)
    assert ours[1] == pytest.approx(scipy.stats.wasserstein_distance(before[:, 1], after[:, 1]))
    assert np.isnan(ours[2])


def test_correlation_consistency_is_the_mean_of_numpy_correlations(rng):
    before = rng.normal(size=(80, 3))
    after = before + rng.normal(size=(80, 3)) * [0.1, 1.0, 3.0]
    expected = [np.corrcoef(before[:, j], after[:, j])[0, 1] for j in range(3)]
    assert metrics.column_correlation(before, after) == pytest.approx(expected)
    assert metrics.correlation_consistency(before, after) == pytest.approx(np.mean(expected))
    assert metrics.correlation_consistency(before, before) == pytest.approx(1)
    assert metrics.correlation_consistency(before, 3 - 2 * before) == pytest.approx(-1)


def test_correlation_consistency_leaves_constant_columns_and_missing_pairs_out(rng):
    before = rng.normal(size=(30, 3))
    after = before**3
    before[:, 1] = 0.1  # not exact in binary: its computed deviation is not exactly zero
    before[:5, 2], after[5:9, 2] = np.nan, np.nan
    correlation = metrics.column_correlation(before, after)
    assert np.isnan(correlation[1])
    assert correlation[2] == pytest.approx(np.corrcoef(before[9:, 2], after[9:, 2])[0, 1])
    assert metrics.correlation_consistency(before, after) == pytest.approx(
        correlation[[0, 2]].mean()
    )


def test_correlation_distance_is_the_frobenius_norm_per_column(rng):
    a = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4))
    b = rng.normal(size=(45, 4))
    expected = np.linalg.norm(np.corrcoef(a.T) - np.corrcoef(b.T)) / 4
    assert metrics.correlation_distance(a, b) == pytest.approx(expected)
    assert metrics.correlation_distance(a, 5 * a - 2) == pytest.approx(0, abs=1e-12)


def test_correlation_distance_takes_pairwise_complete_samples(rng):
    a = rng.normal(size=(60, 3))
    b = a + rng.normal(size=(60, 3))
    b[:7, 0], b[50:, 1], a[:, 2] = np.nan, np.nan, 0.1
    both = ~np.isnan(b[:, 0]) & ~np.isnan(b[:, 1])
    difference = np.corrcoef(a[:, 0], a[:, 1])[0, 1] - np.corrcoef(b[both, 0], b[both, 1])[0, 1]
    assert metrics.correlation_distance(a, b) == pytest.approx(np.sqrt(2) * abs(difference) / 3)


def test_error_ratio_is_the_quotient_of_root_mean_squares(rng):
    clean = rng.normal(size=(40, 2)) * [1.0, 100.0]
    noisy = clean + rng.normal(size=(40, 2)) * [0.3, 30.0]
    refined = clean + 0.5 * (noisy - clean) * [1.0, 3.0]

    def root_mean_square(x):
        return np.sqrt(np.mean(x**2))

    assert metrics.error_ratio(refined, noisy, clean) == pytest.approx(
        root_mean_square(refined - clean) / root_mean_square(noisy - clean)
    )
    assert metrics.error_ratio_by_column(refined, noisy, clean) == pytest.approx([0.5, 1.5])
    scale = np.array([1.0, 100.0])
    assert metrics.error_ratio(refined, noisy, clean, scale=scale) == pytest.approx(
        metrics.error_ratio(refined / scale, noisy / scale, clean / scale)
    )
    assert metrics.error_ratio(noisy, noisy, clean) == 1
    assert metrics.error_ratio(clean, noisy, clean) == 0


def test_error_ratio_leaves_out_cells_missing_in_any(rng):
    clean, noise = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    noisy, refined = clean + noise, clean + 0.25 * noise
    noisy[0, 0], clean[1, 0], refined[2, 0] = np.nan, np.nan, np.nan
    noisy[3:, 1] = np.nan
    clean[:3, 1] = np.nan
    assert metrics.error_ratio(refined, noisy, clean) == pytest.approx(0.25)
    by_column = metrics.error_ratio_by_column(refined, noisy, clean)
    assert by_column[0] == pytest.approx(0.25)
    assert np.isnan(by_column[1])


def test_error_ratio_against_data_that_were_clean_already():
    clean = np.array([1.0, 2.0])
    assert np.isnan(metrics.error_ratio(clean, clean, clean))
    assert metrics.error_ratio(clean + 1, clean, clean) == np.inf


def test_data_frames_integers_and_jax_arrays_are_taken(rng):
    frame = pd.DataFrame(rng.integers(0, 9, (20, 2)), columns=["u", "v"])
    array = jax.numpy.asarray(frame.to_numpy(np.float32))
    assert metrics.correlation_consistency(frame, array) == pytest.approx(1)
    assert metrics.wasserstein_1d(frame, array) == pytest.approx([0, 0])


SQUARE = np.ones((3, 2)) * [[1.0], [2.0], [4.0]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: metrics.sliced_wasserstein(SQUARE, SQUARE[:, :1], key=KEY),
            ShapeError,
            "2 and 1 columns",
        ),
        (lambda: metrics.sliced_wasserstein(SQUARE[None], SQUARE, key=KEY), ShapeError, "shape"),
        (
            lambda: metrics.sliced_wasserstein(SQUARE, SQUARE, directions=0, key=KEY),
            DataError,
            "at least 1",
        ),
        (
            lambda: metrics.sliced_wasserstein(SQUARE, SQUARE * np.nan, key=KEY),
            DataError,
            "missing value",
        ),
        (lambda: metrics.wasserstein_1d(SQUARE, SQUARE[:2]), ShapeError, "must be the same"),
        (lambda: metrics.wasserstein_1d(SQUARE, SQUARE, order=0), DataError, "order"),
        (lambda: metrics.wasserstein_1d(SQUARE, SQUARE / 0.0), DataError, "infinite"),
        (lambda: metrics.column_correlation(SQUARE[:0], SQUARE[:0]), DataError, "at least one"),
        (lambda: metrics.correlation_consistency([1, 1], [1, 2]), DataError, "constant"),
        (lambda: metrics.correlation_distance(SQUARE, SQUARE[:, :1]), ShapeError, "columns"),
        (lambda: metrics.error_ratio(SQUARE[:2], SQUARE, SQUARE), ShapeError, "refined"),
        (lambda: metrics.error_ratio(SQUARE, SQUARE[:2], SQUARE), ShapeError, "noisy"),
        (lambda: metrics.error_ratio(SQUARE, SQUARE * np.nan, SQUARE), DataError, "No cell"),
        (
            lambda: metrics.error_ratio(SQUARE, SQUARE, SQUARE, scale=[1.0]),
            ShapeError,
            "scale",
        ),
        (
            lambda: metrics.error_ratio(SQUARE, SQUARE, SQUARE, scale=[1.0, 0.0]),
            DataError,
            "positive",
        ),
    ],
)
def test_bad_input_is_refused_with_advice(call, error, message):
    with np.errstate(divide="ignore"), pytest.raises(error, match=message):
        call()
