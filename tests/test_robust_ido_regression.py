"""The regression form of IDO: thresholds, exceedances of unseen rows, and weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import roc_auc_score

from denograd_jax.errors import BackboneError, DataError, ShapeError
from denograd_jax.robust import fit_weighted, ido_regression, unit_range
from denograd_jax.robust._ido_regression import thresholds
from tests.precision import float64_first


def linear(params, x):
    return x @ params["w"] + params["b"]


@pytest.fixture
def start():
    return {"w": jnp.zeros(2), "b": jnp.zeros(())}


@pytest.fixture
def rows(rng):
    """A plane with little noise; every tenth of 120 targets is off by 3."""
    x = rng.normal(size=(120, 2)).astype(np.float32)
    y = x @ np.array([1.0, -0.5]) + 0.05 * rng.normal(size=120)
    noisy = np.arange(120) % 10 == 0
    return x, (y + 3 * noisy).astype(np.float32), noisy


OPTIONS = {
    "key": jax.random.key(0),
    "folds": 3,
    "warm_epochs": 8,
    "epochs": 6,
    "batch_size": 40,
    "optimizer": optax.adam(0.05),
}


def test_thresholds_by_hand(rng):
    r = rng.normal(size=(31, 2))
    centre = np.median(r, axis=0)
    expected = 2 * 1.4826 * np.median(np.abs(r - centre), axis=0)
    np.testing.assert_allclose(thresholds(jnp.array(r)), expected, rtol=1e-5)


class TestExceedances:
    @pytest.mark.slow
    def test_of_a_model_that_never_moves(self, rows, start):
        """Its residuals are minus the targets in every epoch."""
        x, y, _ = rows
        found = ido_regression(linear, start, x, y, **OPTIONS | {"optimizer": optax.set_to_zero()})
        q = 2 * 1.4826 * np.median(np.abs(y - np.median(y)))
        np.testing.assert_array_equal(found.exceedances, 14 * (np.abs(y) > q))
        np.testing.assert_allclose(found.thresholds, np.full((14, 1), q), rtol=1e-5)
        assert found.base_epoch == 0

    def test_rows_are_judged_by_models_that_have_not_seen_them(self, rng):
        """Gradient descent on one weight per row: a row's own residual stays unless it is seen."""
        y = rng.normal(size=12).astype(np.float32)
        x = np.eye(12, dtype=np.float32)
        seen = []
        ido_regression(
            lambda w, x: x @ w,
            jnp.zeros(12),
            x,
            y,
            observe=lambda e, state: seen.append(state),
            **OPTIONS | {"batch_size": 12, "optimizer": optax.sgd(1.0), "epochs": 0},
        )
        np.testing.assert_allclose(seen[-1].residuals[:, 0], -y, rtol=1e-6)
        weights = np.asarray(seen[-1].params)  # three models of folds, and that of all rows
        np.testing.assert_array_equal((weights == 0).sum(axis=1), [4, 4, 4, 0])
        np.testing.assert_array_equal((weights[:3] == 0).sum(axis=0), 1)

    @pytest.mark.slow
    def test_an_output_that_is_off_is_enough(self, rows):
        x, y, noisy = rows
        both = np.stack([x[:, 0], y], axis=1)
        params = {"w": jnp.zeros((2, 2)), "b": jnp.zeros((1, 2))}
        found = ido_regression(linear, params, x, both, **OPTIONS)
        assert roc_auc_score(noisy, found.exceedances) > 0.9
        assert found.thresholds.shape == (14, 2)


class TestFit:
    def test_noisy_rows_are_found_and_weigh_less(self, rows, start):
        x, y, noisy = rows
        found = ido_regression(linear, start, x, y, **OPTIONS)
        assert roc_auc_score(noisy, found.exceedances) > 0.95
        assert found.p_noisy[noisy].mean() > 0.9
        assert found.p_noisy[~noisy].mean() < 0.1
        plain = fit_weighted(
            linear, start, x, y, key=OPTIONS["key"], epochs=14, optimizer=OPTIONS["optimizer"]
        )
        assert abs(found.params["b"]) < abs(plain.params["b"]) / 2  # it was 0.3 of noise

    @pytest.mark.slow
    def test_what_it_returns_fits_together(self, rows, start):
        x, y, _ = rows
        seen = []
        found = ido_regression(linear, start, x, y, observe=lambda e, s: seen.append(s), **OPTIONS)
        assert len(seen) == 14
        assert found.base_epoch == np.asarray(found.thresholds)[:8].mean(axis=1).argmin()
        base = seen[found.base_epoch].params["w"][-1]
        np.testing.assert_array_equal(found.base_params["w"], base)
        u = unit_range(found.exceedances)
        np.testing.assert_allclose(found.p_clean, found.mixture.posterior(u)[:, 0], rtol=1e-5)
        np.testing.assert_allclose(found.p_noisy, 1 - found.p_clean)

    def test_the_same_key_gives_the_same_result(self, rows, start):
        x, y, _ = rows
        one, same = (ido_regression(linear, start, x, y, **OPTIONS) for _ in range(2))
        other = ido_regression(linear, start, x, y, **OPTIONS | {"key": jax.random.key(1)})
        jax.tree.map(np.testing.assert_array_equal, one, same)
        assert (one.params["w"] != other.params["w"]).any()

    @float64_first
    def test_both_precisions(self, rows, start, dtype):
        x, y, _ = rows
        params = jax.tree.map(lambda p: p.astype(dtype), start)
        found = ido_regression(linear, params, x, y, **OPTIONS)
        assert found.params["w"].dtype == dtype


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"y": np.zeros((120, 1))}, ShapeError, "y has shape"),
        ({"y": np.full(120, np.nan)}, DataError, "y holds NaN"),
        ({"x": np.full((120, 2), np.inf)}, DataError, "x holds NaN"),
        ({"folds": 1}, DataError, "folds is 1"),
        ({"folds": 121}, DataError, "120 rows for 121 folds"),
        ({"warm_epochs": 0}, DataError, "warm_epochs"),
        ({"optimizer": optax.sgd(1e38)}, BackboneError, "not finite"),
    ],
)
def test_bad_input(rows, start, change, error, match):
    x, y, _ = rows
    given = {"apply": linear, "params": start, "x": x, "y": y} | OPTIONS | change
    with pytest.raises(error, match=match):
        ido_regression(**given)
