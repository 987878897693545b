"""Weighted training and views, which both systems share."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from denograd_jax.errors import DataError, ShapeError
from denograd_jax.robust import fit_weighted, jitter, swap
from denograd_jax.robust._epochs import one_pass, take


def linear(params, x):
    return x @ params


@pytest.fixture
def rows(rng):
    x = rng.normal(size=(50, 3)).astype(np.float32)
    return x, (x @ np.array([1.0, -2.0, 0.5])).astype(np.float32) + rng.normal(size=50)


OPTIONS = {"key": jax.random.key(0), "optimizer": optax.sgd(0.1)}


class TestWeights:
    def test_one_step_by_hand(self, rows, rng):
        """Gradient of the mean of weights, divided by their mean, times squared errors."""
        x, y = rows
        w = rng.random(50)
        fit = fit_weighted(linear, jnp.zeros(3), x, y, w, epochs=1, batch_size=50, **OPTIONS)
        gradient = (w / w.mean() * 2 * (0 - y)) @ x / 50
        np.testing.assert_allclose(fit.params, -0.1 * gradient, rtol=1e-4)
        np.testing.assert_allclose(fit.losses, y**2, rtol=1e-5)

    def test_the_weighted_least_squares_are_reached(self, rows, rng):
        x, y = rows
        w = rng.random(50)
        fit = fit_weighted(linear, jnp.zeros(3), x, y, w, epochs=300, batch_size=50, **OPTIONS)
        root = np.sqrt(w)[:, None]
        expected = np.linalg.lstsq(root * x, root[:, 0] * y)[0]
        np.testing.assert_allclose(fit.params, expected, atol=1e-4)

    def test_none_are_ones(self, rows):
        x, y = rows
        one, other = (
            fit_weighted(linear, jnp.zeros(3), x, y, w, epochs=2, **OPTIONS).params
            for w in (None, np.ones(50))
        )
        np.testing.assert_array_equal(one, other)

    def test_every_epoch_is_told_of(self, rows):
        seen = []
        options = {"epochs": 3, "observe": lambda *told: seen.append(told)} | OPTIONS
        fit = fit_weighted(linear, jnp.zeros(3), *rows, **options)
        assert [epoch for epoch, _ in seen] == [0, 1, 2]
        np.testing.assert_array_equal(seen[-1][1].params, fit.params)
        assert (seen[0][1].params != fit.params).all()

    @pytest.mark.parametrize(
        ("w", "error"),
        [
            (np.ones(49), ShapeError),
            (np.full(50, np.nan), DataError),
            (-np.ones(50), DataError),
            (np.zeros(50), DataError),
        ],
    )
    def test_bad_ones(self, rows, w, error):
        with pytest.raises(error, match="weights"):
            fit_weighted(linear, jnp.zeros(3), *rows, w, **OPTIONS)


@pytest.mark.parametrize(("count", "batch_size"), [(7, 3), (6, 3), (5, 5), (1, 1)])
def test_a_pass_meets_each_instance_once(count, batch_size):
    def step(carry, key, index):
        seen, order = carry
        assert index.shape == (batch_size,)
        return seen.at[index].add(1, mode="drop"), order.at[index].set(take(order, index))

    key = jax.random.key(0)
    start = jnp.zeros(count, jnp.int32), jnp.arange(count, dtype=jnp.int32)
    seen, _ = one_pass(step, start, key, count, batch_size)
    np.testing.assert_array_equal(seen, 1)


class TestViews:
    def test_jitter_is_in_units_of_the_columns(self, rng):
        x = jnp.asarray(rng.normal(size=(4000, 2)) * [1, 100], jnp.float32)
        moved = jitter(0.1)(jax.random.key(0), x) - x
        np.testing.assert_allclose(moved.std(axis=0), [0.1, 10], rtol=0.1)

    def test_swapped_cells_keep_to_their_columns(self, rng):
        numbers = rng.integers(np.array([0, 100]), np.array([9, 109]), size=(4000, 2))
        x = jnp.asarray(numbers, jnp.float32)
        seen = np.asarray(swap(0.3, 0.0)(jax.random.key(0), x))
        assert np.isin(seen[:, 1], np.asarray(x)[:, 1]).all()
        np.testing.assert_allclose((seen != np.asarray(x)).mean(), 0.3 * 8 / 9, atol=0.02)

    def test_what_is_constant_stays(self):
        x = jnp.full((10, 4, 2), 3.0)
        np.testing.assert_array_equal(swap()(jax.random.key(0), x), x)

    def test_equal_views_are_one_object(self):
        assert jitter(0.1) is jitter(0.1)
        assert swap() is swap()
