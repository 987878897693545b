"""The soft gate of the iterated Kalman update, and its numbers at the edges."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax import refiner, rules, run
from tests import oracle
from tests.kalman_oracle import MISFIT, SCALE, solve_rows
from tests.models import linear, tanh_net
from tests.precision import BAR, float64_first, typed


@float64_first
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_soft_gate(rng, dtype, outputs):
    net = oracle.Net(rng, 4, outputs)
    x, y = rng.normal(size=(21, 4)), rng.normal(size=(21, outputs))
    ones = SCALE * np.ones_like(x), SCALE * np.ones_like(y)
    for dirty in (0.05, 0.5):
        expected = solve_rows(net, x, y, *ones, 3, dirty=dirty)
        r = refiner(tanh_net, rules.orthogonal_distance(SCALE, MISFIT, dirty=dirty))
        state = r.init(x.astype(dtype), y.astype(dtype))
        solution = run(r, typed(net.params, dtype), state, max_steps=3)
        bar = BAR[dtype.name]
        np.testing.assert_allclose(solution.x, expected[0], rtol=bar, atol=bar)
        np.testing.assert_allclose(solution.info.gate, expected[2], rtol=50 * bar, atol=bar)
    assert expected[2].min() < 0.9


def test_without_a_misfit_all_is_noisy_that_is_off_the_surface():
    x, w = np.float32([[1, 1], [1, 2]]), jnp.array([1.0, 1.0])
    y = np.float32([2, 2])
    found = []
    for dirty in (1.0, 0.01, 0.0):
        r = refiner(linear, rules.orthogonal_distance(1.0, 0.0, dirty=dirty))
        solution = run(r, w, r.init(x, y), max_steps=2)
        found.append(solution)
        assert np.isfinite(solution.x).all()
    np.testing.assert_array_equal(found[1].info.gate, [0, 1])
    np.testing.assert_array_equal(found[2].info.gate, [0, 1])
    np.testing.assert_allclose(found[0].x, found[1].x)


def test_a_share_of_all_is_no_gate_whether_it_is_traced_or_not(rng):
    net = oracle.Net(rng, 4)
    params = typed(net.params, np.float32)
    x, y = rng.normal(size=(21, 4)).astype(np.float32), rng.normal(size=21).astype(np.float32)
    found = []
    for dirty in (1.0, jnp.array(1.0)):
        r = refiner(tanh_net, rules.orthogonal_distance(SCALE, MISFIT, dirty=dirty))
        found.append(run(r, params, r.init(x, y), max_steps=2))
        np.testing.assert_array_equal(found[-1].info.gate, 1)
    np.testing.assert_allclose(found[0].x, found[1].x, rtol=1e-6, atol=1e-6)


# Numbers at the edges.

HARD = [
    (1.0, 0.0),
    (0.0, 0.0),  # nothing may be moved, nothing is unknown
    (0.0, 1e-20),
    (1e-20, 1e-20),
    (1e4, 1e-4),
    (1e-15, 1e5),
]


@pytest.mark.parametrize("gated", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("outputs", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_all_is_finite_and_so_are_derivatives(outputs, gated):
    """Rows on the surface, rows where the model is level, equal targets, far ones."""
    w = jnp.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])[:outputs]
    x = jnp.array([[0.0, 0.0], [1.0, 1.0], [1.0, -0.5], [1e4, 1e4]])
    y = jnp.array([[0.0, 0.0, 0.0], [5.0, 6.0, 1.0], [0.0, 0.0, 0.0], [1e5, -1e5, 1.0]])
    y = y[:, :outputs]

    def predict(w, x):
        return jnp.tanh(w @ x)

    def refined(numbers, x, y, noise):
        r = refiner(predict, rules.orthogonal_distance(**numbers))
        state = r.init(x, y, noise_x=noise[0], noise_y=noise[1])
        for _ in range(2):
            state, _ = r.step(w, state)
        return state.data.x, state.data.y

    slopes = jax.jacrev(refined, (0, 1, 2, 3))
    both = jax.jit(lambda *arguments: (refined(*arguments), slopes(*arguments)))
    for (scale, misfit), dirty, noise in itertools.product(
        HARD, [0.0, 0.5, 1.0] if gated else [None], [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0)]
    ):
        numbers = {"noise_scale": scale, "misfit": misfit} | ({"dirty": dirty} if gated else {})
        arguments = jax.tree.map(jnp.array, numbers), x, y, jnp.array(noise)
        chex.assert_tree_all_finite(both(*arguments))


def test_more_exact_targets_than_cells_are_met_as_closely_as_can_be():
    """Two targets that contradict each other: least squares, in single precision."""
    w = jnp.array([[1.0, 2.0], [1.0, 2.0]])
    r = refiner(linear, rules.orthogonal_distance())
    state = r.init(np.float32([[0, 0]]), np.float32([[4, 6]]), noise_y=0.0)
    solution = run(r, w, state, max_steps=2)
    np.testing.assert_allclose(solution.x, [[1, 2]], rtol=1e-5)


def test_units_of_targets_do_not_matter(rng):
    """One in thousandths, one in millions: in single precision an inverse would lose the first."""
    w = rng.normal(size=(2, 3)).astype(np.float32)
    x, y = rng.normal(size=(9, 3)).astype(np.float32), rng.normal(size=(9, 2)).astype(np.float32)
    r = refiner(linear, rules.orthogonal_distance())
    plain = run(r, w, r.init(x, y), max_steps=2)
    units = np.float32([1e-6, 1e6])
    scaled = run(r, units[:, None] * w, r.init(x, units * y, noise_y=units), max_steps=2)
    np.testing.assert_allclose(scaled.x, plain.x, atol=1e-5)
    np.testing.assert_allclose(np.asarray(scaled.y) / units, plain.y, atol=1e-5)


@pytest.mark.parametrize(
    "numbers", [{"noise_scale": -1.0}, {"misfit": -0.1}, {"dirty": 1.5}, {"dirty": -0.1}]
)
def test_refused_numbers(numbers):
    with pytest.raises(ValueError, match=next(iter(numbers))):
        rules.orthogonal_distance(**numbers)
