"""A missing cell changes no other cell; a frozen cell never moves."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from denograd_jax import layouts, refiner, rules, run
from tests import oracle
from tests.models import tanh_net

STEPS, CHANNELS = 24, 3
GARBAGE = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=32),
    st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e-45]),
)
MASK = hnp.arrays(bool, (STEPS, CHANNELS), elements=st.sampled_from([True, True, True, False]))
TARGET_MASK = hnp.arrays(bool, (STEPS,), elements=st.sampled_from([True, True, False]))
CASES = {
    "rows": (layouts.rows(), CHANNELS, rules.unit_step(0.1, 0.05)),
    "windows": (layouts.windows(4, 1, 1), 4 * CHANNELS, rules.unit_step(0.1, 0.05)),
    "votes": (layouts.windows(4, 2, 3), 4 * CHANNELS, rules.gauss_newton()),
    "dataset": (layouts.windows(4), 4 * CHANNELS, rules.unit_step(0.1, 0.05, norm="dataset")),
}


def problem(case, seed=0):
    layout, size, rule = CASES[case]
    rng = np.random.default_rng(seed)
    net = oracle.Net(rng, size)
    params = {k: jnp.asarray(v, jnp.float32) for k, v in net.params.items()}
    x = rng.normal(size=(STEPS, CHANNELS)).astype(np.float32)
    y = rng.normal(size=STEPS).astype(np.float32)
    return refiner(tanh_net, rule=rule, layout=layout, chunk_size=7), params, x, y


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=10)
@given(data=st.data())
def test_garbage_under_the_mask_changes_nothing(case, data):
    r, params, x, y = problem(case)
    seen_x, seen_y = data.draw(MASK), data.draw(TARGET_MASK)
    seen_x[0, 0] = seen_y[-1] = True  # something must be seen
    garbage = data.draw(st.tuples(GARBAGE, GARBAGE))
    results = []
    for fill in ((0.0, 0.0), garbage):
        filled_x = np.where(seen_x, x, np.float32(fill[0]))
        filled_y = np.where(seen_y, y, np.float32(fill[1]))
        solution = run(r, params, r.init(filled_x, filled_y, seen_x, seen_y), max_steps=4)
        results.append((np.asarray(solution.x), np.asarray(solution.y)))  # JAX compiles each index
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    for found, seen in zip(results[1], (seen_x, seen_y), strict=True):
        assert np.isfinite(found[seen]).all()
        assert np.isnan(found[~seen]).all()


@pytest.mark.parametrize("case", CASES)
@given(data=st.data())
def test_nan_is_the_same_as_the_mask(case, data):
    r, params, x, y = problem(case)
    seen = data.draw(MASK)
    seen[0, 0] = True
    masked = run(r, params, r.init(x, y, seen), max_steps=3)
    with_nan = run(r, params, r.init(np.where(seen, x, np.nan), y), max_steps=3)
    np.testing.assert_array_equal(masked.x, with_nan.x)


@pytest.mark.parametrize("case", CASES)
@given(data=st.data())
def test_a_frozen_cell_never_moves(case, data):
    r, params, x, y = problem(case)
    movable_x, movable_y = data.draw(MASK), data.draw(TARGET_MASK)
    state = r.init(x, y, movable_x=movable_x, movable_y=movable_y)
    found = run(r, params, state, max_steps=6)
    np.testing.assert_array_equal(np.asarray(found.x)[~movable_x], x[~movable_x])
    np.testing.assert_array_equal(np.asarray(found.y)[~movable_y], y[~movable_y])
    free = run(r, params, r.init(x, y), max_steps=1).x
    first = run(r, params, state, max_steps=1).x
    np.testing.assert_array_equal(np.asarray(first)[movable_x], np.asarray(free)[movable_x])


def test_a_missing_target_moves_nothing_of_its_row():
    r, params, x, y = problem("rows")
    y[5] = np.nan
    found = run(r, params, r.init(x, y), max_steps=5)
    np.testing.assert_array_equal(found.x[5], x[5])
    assert np.isnan(found.y[5])
    assert np.isfinite(np.delete(np.asarray(found.y), 5)).all()


def test_a_window_without_a_target_has_no_say(x64):
    """Also in the count of "visits": the others' corrections are as if it did not exist."""
    rng = np.random.default_rng(3)
    net = oracle.Net(rng, 4)
    x, y = rng.normal(size=(6, 1)), rng.normal(size=(6, 1))
    y[5] = np.nan  # leaves one window, of steps 0 to 3 and target 4
    r = refiner(tanh_net, rule=rules.unit_step(0.1, 0.0), layout=layouts.windows(4))
    found = run(r, {k: jnp.asarray(v) for k, v in net.params.items()}, r.init(x, y), max_steps=1)
    dx, dy, _, _ = oracle.move(
        net, x[:4], y[4], {"name": "unit_step", "step_size": 0.1, "tolerance": 0.0}
    )
    np.testing.assert_allclose(found.x[:4], x[:4] + dx, atol=1e-12)
    np.testing.assert_allclose(found.y[4], y[4] + dy, atol=1e-12)


def test_a_missing_target_among_several_leaves_the_others_at_work(x64):
    rng = np.random.default_rng(4)
    net = oracle.Net(rng, 3, outputs=2)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    y[2, 1] = np.nan
    r = refiner(tanh_net, rule=rules.unit_step(0.1, 0.0))
    found = run(r, {k: jnp.asarray(v) for k, v in net.params.items()}, r.init(x, y), max_steps=1)
    seen = np.array([True, False])
    dx, dy, _, _ = oracle.move(
        net,
        x[2],
        np.nan_to_num(y[2]),
        {"name": "unit_step", "step_size": 0.1, "tolerance": 0.0},
        seen,
    )
    np.testing.assert_allclose(found.x[2], x[2] + dx, atol=1e-12)
    np.testing.assert_allclose(found.y[2, 0], y[2, 0] + dy[0], atol=1e-12)
    assert np.isnan(found.y[2, 1])


def test_a_movable_missing_cell_is_imputed():
    """A linear model knows the missing value: Gauss-Newton finds it when only that cell moves."""
    w = jnp.array([1.0, 2.0])
    x = np.array([[1.0, np.nan], [0.5, 1.0]], np.float32)
    y = np.array([5.0, 2.5], np.float32)
    r = refiner(lambda w, x: w @ x, rule=rules.gauss_newton(1.0, 1e-6))
    state = r.init(x, y, movable_x=np.isnan(x), movable_y=False)
    found = run(r, w, state, max_steps=60)
    np.testing.assert_allclose(found.x, [[1.0, 2.0], [0.5, 1.0]], atol=1e-5)


def test_series_fill_carries_the_last_value_within_its_segment():
    x = np.array([[np.nan], [2.0], [np.nan], [np.nan], [np.nan], [6.0]], np.float32)
    r = refiner(tanh_net, layout=layouts.windows(1, target_columns=[0]))
    state = r.init(x, segments=np.array([0, 0, 0, 1, 1, 1]))
    np.testing.assert_array_equal(state.data.x.ravel(), [4, 2, 2, 4, 4, 6])  # 4 is the mean


def test_shared_targets_held_fixed_do_not_move():
    r, params, x, _ = problem("windows")
    layout = layouts.windows(4, target_columns=[1])
    r = refiner(tanh_net, rule=rules.unit_step(0.1, 0.0), layout=layout, refine_targets=False)
    found = np.asarray(run(r, params, r.init(x), max_steps=3).x)
    np.testing.assert_array_equal(found[:, 1], x[:, 1])
    assert (found[:-1, [0, 2]] != x[:-1, [0, 2]]).all()
