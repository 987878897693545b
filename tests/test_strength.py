"""What parts of a score should count: against a grid, and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denograd_jax.calibration import error_after, excess_of, weights_of_parts


def error(weights, slopes, products):
    """By Stein's estimate, in units of the noise's squared variance; without what is constant."""
    return weights @ products @ weights - 2 * weights @ slopes


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e6))
def test_no_weights_of_a_grid_are_better(seed, scale):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(2, 3))
    products, slopes = scale * factor @ factor.T, scale * rng.uniform(-0.2, 1.5, size=2)
    found = weights_of_parts(slopes, products)
    assert ((found >= 0) & (found <= 1)).all()
    axis = np.linspace(0, 1, 41)
    least = min(error(np.array([a, b]), slopes, products) for a in axis for b in axis)
    assert error(found, slopes, products) <= least + 1e-4 * scale


def test_with_the_right_density_all_count():
    """The products of the parts with their sum are their slopes then."""
    products = np.array([[2.0, 0.3], [0.3, 1.0]])
    slopes = products.sum(axis=1)
    np.testing.assert_allclose(weights_of_parts(slopes, products), 1, rtol=1e-4)
    np.testing.assert_allclose(excess_of(products.sum(axis=1), slopes), 0, atol=1e-12)


def test_parts_that_are_nothing_or_the_same():
    np.testing.assert_array_equal(weights_of_parts([0.0, 0.0], np.zeros((2, 2))), [0, 0])
    np.testing.assert_allclose(weights_of_parts([1.0, 0.0], np.diag([1.0, 0.0])), [1, 0], rtol=1e-5)
    same = weights_of_parts([1.0, 1.0], np.full((2, 2), 2.0))
    assert same.sum() == pytest.approx(0.5, rel=1e-3)


def test_the_weights_lower_the_error_of_noise_beside_channels_that_explain_it():
    """Monte Carlo: of two parts one is the noise, but for little, the other one is astray."""
    rng = np.random.default_rng(0)
    noise = 0.5 * rng.normal(size=200_000)
    parts = np.stack([-noise / 0.26, -0.1 * noise + rng.normal(size=noise.size)])
    slopes = np.array([1 / 0.26, 0.1])
    found = weights_of_parts(slopes, parts @ parts.T / noise.size)
    left = np.mean((noise + 0.25 * found @ parts) ** 2)
    both = np.mean((noise + 0.25 * parts.sum(axis=0)) ** 2)
    assert left < 0.1 * both
    slope, square = found @ slopes, np.mean((found @ parts) ** 2)
    assert error_after(0.25, 0.25, slope, square) == pytest.approx(left, abs=2e-3)


def test_the_excess_is_a_part_from_0_to_1():
    found = excess_of([1.0, 1.5, 5.0, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(found, [0, 0.5, 1, 0, 0])
