"""Refinements held within boxes and on grids, against NumPy loops and as properties."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import Mesh

from denograd_jax import History, Status, errors, global_refiner, layouts, refiner, rules, run
from denograd_jax._core._constrained import Limits, constrained, within
from denograd_jax._core._refiner import Refiner
from tests import oracle
from tests.compilations import count_compilations
from tests.models import linear, tanh_net
from tests.precision import float64_first

BAR = {"float32": 2e-5, "float64": 1e-10}
RULES = {
    "unit_step": (rules.unit_step(0.07, 0.1), {"step_size": 0.07}),
    "gauss_newton": (
        rules.gauss_newton(0.5, 0.1),
        {"step_size": 0.5, "x_weight": 1, "y_weight": 1},
    ),
}
LAYOUTS = {
    "rows": (layouts.rows(), 1, {}),
    "windows": (layouts.windows(4, 2, 1, "visits"), 4, {}),
    "shared": (layouts.windows(4, 1, 2, "votes", target_columns=[1]), 4, {"columns": [1]}),
}


def typed(tree, dtype):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def nearest(values, lower, upper, origin, spacing):
    """The grid point nearest to each value, within the box; by trying the neighbours of it."""
    shown = values.copy()
    for i in np.ndindex(values.shape):
        low, high, start, gap = (
            np.broadcast_to(a, values.shape)[i] for a in (lower, upper, origin, spacing)
        )
        if gap > 0:
            points = start + gap * np.arange(-40, 41)
            points = points[(points >= low - 1e-9) & (points <= high + 1e-9)]
            shown[i] = points[np.argmin(np.abs(points - values[i]))]
    return shown


def step_of(net, x, y, name, layout, columns=None):
    """One step of the plain refinement, from the oracle of the published rules."""
    plain = {"name": name, "tolerance": 0.1, **RULES[name][1]}
    if layout == layouts.rows():
        return oracle.refine_rows(net, x, y, plain, 1)
    cut = layout.length, layout.horizon, layout.stride, layout.consensus
    return oracle.refine_series(net, x, None if columns else y, plain, 1, *cut, columns)


def by_loops(net, x, y, name, layout, limits_x, limits_y, steps, columns=None):
    lower, upper, origin, spacing = limits_x
    free, free_y = np.clip(x, lower, upper), np.clip(y, *limits_y)
    shown, y = nearest(free, *limits_x), free_y
    for _ in range(steps):
        moved, moved_y = step_of(net, shown, y, name, layout, columns)
        free = np.clip(free + moved - shown, lower, upper)
        shown = nearest(free, lower, upper, origin, spacing)
        y = y if moved_y is None else np.clip(moved_y, *limits_y)
    return shown, y, free


@float64_first
@pytest.mark.parametrize("spacing", [None, [0.0, 0.25]])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("case", LAYOUTS)
def test_against_loops(rng, dtype, case, name, spacing):
    layout, length, options = LAYOUTS[case]
    net = oracle.Net(rng, 2 * length)
    x, y = rng.normal(size=(26, 2)), rng.normal(size=(26, 1))
    box = [-0.8, -np.inf], [0.9, 1.1]
    limits = Limits(*box, -0.5, 0.6, 0.1, spacing)
    if options:
        limits = limits._replace(lower_y=None, upper_y=None)
    plain = (*(np.array(b) for b in box), 0.1, np.array(spacing or [0.0, 0.0]))
    expected = by_loops(net, x, y, name, layout, plain, (-0.5, 0.6), 6, **options)
    r = constrained(refiner(tanh_net, RULES[name][0], layout, chunk_size=7), limits)
    arrays = (x.astype(dtype),) if options else (x.astype(dtype), y.astype(dtype))
    found = run(r, typed(net.params, dtype), r.init(*arrays), max_steps=6)
    assert found.steps == 6
    assert found.x.dtype == dtype
    np.testing.assert_allclose(found.x, expected[0], rtol=0, atol=BAR[dtype.name])
    if not options:
        np.testing.assert_allclose(found.y, expected[1], rtol=0, atol=BAR[dtype.name])
    if spacing:
        unrounded = found.state.held_x.grid.unrounded
        np.testing.assert_allclose(unrounded, expected[2], rtol=0, atol=BAR[dtype.name])
        assert np.abs(unrounded[:, 1] - found.x[:, 1]).max() > 0.05


SHAPE = (16, 2)
VALUE = st.floats(-3, 3, width=32, allow_subnormal=False)  # XLA takes those for 0
CELLS = hnp.arrays(np.float32, SHAPE, elements=VALUE)
MASK = hnp.arrays(bool, SHAPE)
PARAMS = typed(oracle.Net(np.random.default_rng(3), 6).params, np.float32)
SERIES = np.float32(np.random.default_rng(4).normal(size=SHAPE))
TARGET = np.float32(np.random.default_rng(5).normal(size=16))
PLAIN = refiner(tanh_net, rules.unit_step(0.2, 0.0), layouts.windows(3))
WHOLE = global_refiner(tanh_net, layouts.windows(3), optimizer=optax.sgd(5.0), tolerance=0.0)


@pytest.mark.parametrize("plain", [PLAIN, WHOLE])
@given(edges=st.tuples(CELLS, CELLS), movable=MASK, seen=MASK, steps=st.integers(0, 3))
def test_movable_cells_keep_the_box_and_others_their_bits(plain, edges, movable, seen, steps):
    """To the last bit; a cell that is neither seen nor movable stays unknown."""
    seen[0] = True
    lower, upper = np.minimum(*edges), np.maximum(*edges)
    r = constrained(plain, Limits(lower, upper, 0.1, 0.5))
    state = r.init(SERIES, TARGET, seen, movable_x=movable)
    found = run(r, PARAMS, state, steps)
    x, y = np.asarray(found.x), np.asarray(found.y)
    assert (lower[movable] <= x[movable]).all()
    assert (x[movable] <= upper[movable]).all()
    assert (np.float32(0.1) <= y).all()
    assert (y <= np.float32(0.5)).all()
    frozen = ~movable & seen
    np.testing.assert_array_equal(x[frozen].view(np.int32), SERIES[frozen].view(np.int32))
    assert np.isnan(x[~movable & ~seen]).all()
    assert not np.isnan(x[movable]).any()


@given(
    numbers=hnp.arrays(np.int32, SHAPE, elements=st.integers(-20, 20)),
    mean=st.floats(-30, 30),
    deviation=st.floats(0.5, 20),
    bounds=st.one_of(st.none(), st.tuples(st.integers(-20, 0), st.integers(0, 20))),
    movable=MASK,
)
def test_standardised_integers_stay_integers(numbers, mean, deviation, bounds, movable):
    """Also where the bounds are grid points up to rounding: none is lost, none is left."""
    edges = (None, None) if bounds is None else ((b - mean) / deviation for b in bounds)
    limits = Limits(*edges, origin_x=-mean / deviation, spacing_x=1 / deviation)
    x = np.float32((numbers - mean) / deviation)
    r = constrained(PLAIN, limits)
    found = run(r, PARAMS, r.init(x, TARGET, movable_x=movable), 3)
    np.testing.assert_array_equal(np.asarray(found.x)[~movable], x[~movable])
    whole = np.float64(found.x) * deviation + mean
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-3)
    begun = np.asarray(r.init(x, TARGET, movable_x=movable).data.x)
    if bounds is None:
        np.testing.assert_array_equal(begun, x)  # not even rounded
    else:
        assert (np.round(whole[movable]) >= bounds[0]).all()
        assert (np.round(whole[movable]) <= bounds[1]).all()
        begun = np.round(np.float64(begun) * deviation + mean)
        np.testing.assert_array_equal(begun[movable], np.clip(numbers, *bounds)[movable])


def test_small_steps_add_up_on_a_grid():
    """Steps of 0.2 on integers: rounding after each would go nowhere."""
    r = constrained(
        refiner(linear, rules.unit_step(0.2, 0.6), refine_targets=False), Limits(spacing_x=1.0)
    )
    state = r.init(np.float32([[0.0]]), np.float32([3.0]))
    shown = []
    for _ in range(14):
        state, info = r.step(jnp.array([1.0]), state)
        shown.append(float(state.data.x[0, 0]))
    # The move is 0.2 * g_x / norm = 0.2 / sqrt(2) a step; 0.5 is passed in the fourth.
    assert shown == [round(0.2 / np.sqrt(2) * min(n, 18)) for n in range(1, 15)]
    assert info.residual == -1.0  # of the rounded value that the model was shown: 2 - 3
    found = run(r, jnp.array([1.0]), state, 50)
    assert found.x == 3.0
    assert found.status == Status.converged


def test_an_unrounded_value_does_not_run_away():
    """It is clipped to the box, so that it turns back at once."""
    r = constrained(
        refiner(linear, rules.unit_step(0.2, 0.0), refine_targets=False),
        Limits(upper_x=2.0, spacing_x=1.0),
    )
    state = run(r, jnp.array([1.0]), r.init(np.float32([[0.0]]), np.float32([9.0])), 100).state
    assert state.data.x == 2.0
    assert state.held_x.grid.unrounded == 2.0


def test_cells_without_a_grid_go_as_they_would_alone(rng):
    net = typed(oracle.Net(rng, 3).params, np.float32)
    x, y = np.float32(rng.normal(size=(9, 3))), np.float32(rng.normal(size=9))
    plain = refiner(tanh_net, rules.unit_step(0.01, 0.0))
    expected, _ = plain.step(net, plain.init(x, y))
    for limits in (Limits(), Limits(spacing_x=0.0), Limits(-9.0, 9.0, spacing_x=[0, 0, 1e-9])):
        r = constrained(plain, limits)
        found, _ = r.step(net, r.init(x, y))
        np.testing.assert_allclose(found.data.x, expected.data.x, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.data.y, expected.data.y, rtol=1e-6, atol=1e-7)


@given(most=st.floats(0, 1, width=32), lower=CELLS, missing=MASK, movable=MASK)
def test_no_cell_goes_further_than_it_may(most, lower, missing, movable):
    """Unless the bounds, which win, are further away; an imputed cell has the bounds alone."""
    missing[0] = False
    x = np.where(missing, np.float32(np.nan), SERIES)
    limits = within(x, most, limits=Limits(lower_x=lower))
    r = constrained(PLAIN, limits)
    found = np.asarray(run(r, PARAMS, r.init(x, TARGET, movable_x=movable), 4).x)
    here = movable & ~missing
    assert (found[movable] >= lower[movable]).all()
    beyond = np.maximum(lower - SERIES, 0)
    allowed = np.maximum(most, beyond) + 1e-6
    assert (np.abs(found - SERIES)[here] <= allowed[here]).all()
    np.testing.assert_array_equal(found[~movable & ~missing], SERIES[~movable & ~missing])


def test_a_largest_change_of_y_and_on_a_grid():
    limits = within([[1.0, 5.0]], [0.4, 1.2], [2.0], 0.5, limits=Limits(spacing_x=1.0, upper_y=2.2))
    np.testing.assert_allclose(limits.lower_x, [[0.6, 3.8]])
    np.testing.assert_allclose(limits.upper_y, [2.2])
    r = constrained(refiner(linear, rules.gauss_newton(1.0, 0.0)), limits)
    found = run(r, jnp.array([1.0, -1.0]), r.init(np.float32([[1, 5]]), np.float32([2])), 20)
    np.testing.assert_array_equal(found.x, [[1, 4]])
    np.testing.assert_allclose(found.y, [1.5])


def test_an_imputed_cell_begins_within_its_limits():
    x = np.array([[1.0, np.nan], [3.0, 0.5]], np.float32)
    r = constrained(refiner(linear), Limits([-1, 0.6], [2, 2]))
    state = r.init(x, np.zeros(2, np.float32), movable_x=np.array([True, True]))
    np.testing.assert_allclose(state.data.x, [[1, 0.6], [2, 0.6]])


def test_labels_and_targets_held_fixed_are_not_limited():
    x, labels = np.zeros((3, 2), np.float32), np.array([0, 2, 1])
    loss = optax.losses.softmax_cross_entropy_with_integer_labels
    plain = refiner(lambda w, x: w @ x, loss=loss, refine_targets=False)
    r = constrained(plain, Limits(upper_x=0.01, lower_y=0, upper_y=1, spacing_y=1))
    found = run(r, jnp.eye(3, 2), r.init(x, labels), 3)
    np.testing.assert_array_equal(found.y, labels)
    assert found.x.max() == np.float32(0.01)


def test_projected_gradient_finds_the_constrained_minimum(rng, x64):
    """A linear model in a box is bounded least squares, which SciPy solves."""
    steps = 15
    x = rng.normal(size=(steps, 1))
    weights, layout = np.array([0.6, 0.3]), layouts.windows(2, target_columns=[0])
    windows = steps - 2
    rows = np.zeros((windows, steps))
    for w in range(windows):
        rows[w, w : w + 2], rows[w, w + 2] = weights, -1
    system = np.concatenate([rows / np.sqrt(windows), np.sqrt(0.5 / steps) * np.eye(steps)])
    right = np.concatenate([np.zeros(windows), np.sqrt(0.5 / steps) * x.ravel()])
    expected = scipy.optimize.lsq_linear(system, right, (-0.1, 0.2), tol=1e-14).x
    plain = global_refiner(lambda w, z: w @ z, layout, 0.5, optax.sgd(2.0), tolerance=1e-17)
    r = constrained(plain, Limits(-0.1, 0.2))
    found = run(r, weights, r.init(x), 5000)
    assert found.status == Status.converged
    np.testing.assert_allclose(found.x.ravel(), expected, atol=1e-6)
    assert (np.asarray(found.state.inner.observations.x) == x).all()


def test_of_two_the_outer_one_wins():
    inner = constrained(PLAIN, within(SERIES, 0.1))
    r = constrained(inner, Limits(lower_x=0.5))
    found = np.asarray(run(r, PARAMS, r.init(SERIES, TARGET), 4).x)
    assert found.min() >= 0.5
    assert (found <= np.maximum(SERIES, 0.5) + 0.1001).all()
    assert (np.abs(found - np.maximum(SERIES, 0.5)) > 0.01).any()


def test_a_state_that_is_a_dataclass():
    """What `constrained` needs of a refinement is its data, in a state that can be replaced."""

    @chex.dataclass(frozen=True)
    class Drift:
        data: object
        step: jax.Array

    def init(x):
        start = PLAIN.init(x, TARGET).data
        return Drift(data=start, step=jnp.zeros((), jnp.int32))

    def step(params, state):
        data = state.data._replace(x=state.data.x + params)
        _, info = PLAIN.step(PARAMS, PLAIN.init(SERIES, TARGET))
        return Drift(data=data, step=state.step + 1), info

    r = constrained(Refiner(init, step), Limits(upper_x=0.25))
    found = run(r, jnp.float32(0.1), r.init(SERIES), 3)
    assert isinstance(found.state.inner, Drift)
    assert found.steps == 3
    expected = np.minimum(np.minimum(SERIES, np.float32(0.25)) + np.float32(0.3), np.float32(0.25))
    np.testing.assert_allclose(found.x, expected, atol=1e-6)


GRID = Limits([-0.5, -1.0], [0.6, 1.2], -0.5, 0.5, 0.0, [0.1, 0.0])


def test_run_in_the_loop_and_on_the_host():
    r = constrained(PLAIN, GRID)
    state = r.init(SERIES, TARGET)
    compiled = run(r, PARAMS, state, 5)
    history = History(lambda state, info: (state.data.x, info.active))
    seen = []
    hosted = run(r, PARAMS, state, 5, history, lambda step, total, info: seen.append(step))
    chex.assert_trees_all_close(hosted.x, compiled.x, atol=1e-6)
    chex.assert_trees_all_close(hosted.state, compiled.state, atol=1e-6)
    assert seen == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(history.records[0][0], state.data.x)
    again = run(r, PARAMS, run(r, PARAMS, state, 2).state, 3)
    chex.assert_trees_all_close(again.x, compiled.x, atol=1e-6)
    assert again.state.step == 5
    summary = History()
    run(r, PARAMS, state, 1, summary)
    assert set(summary.records[0]) == {"active", "mean_abs_residual"}


@pytest.mark.slow
def test_transformations_agree():
    """jit with init inside, scan, vmap over limits and over states, and a gradient."""

    def refined(upper):
        r = constrained(PLAIN, GRID._replace(upper_x=upper))
        return run(r, PARAMS, r.init(SERIES, TARGET), 3).x

    uppers = jnp.array([[0.6, 1.2], [0.1, 0.3]])
    expected = jnp.stack([refined(upper) for upper in uppers])
    chex.assert_trees_all_close(jax.vmap(refined)(uppers), expected, atol=1e-6)
    chex.assert_trees_all_close(jax.jit(refined)(uppers[1]), expected[1], atol=1e-6)
    assert (expected[1] <= uppers[1][None]).all()
    r = constrained(PLAIN, GRID)
    state = r.init(SERIES, TARGET)
    scanned, _ = jax.lax.scan(lambda s, _: (r.step(PARAMS, s)[0], None), state, length=3)
    chex.assert_trees_all_close(scanned.data.x, expected[0], atol=1e-6)
    twice = jax.tree.map(lambda a: jnp.stack([a, a]), state)
    once, _ = r.step(PARAMS, state)
    mapped, _ = jax.vmap(r.step, (None, 0))(PARAMS, twice)
    chex.assert_trees_all_close(jax.tree.map(lambda a: a[1], mapped), once, atol=1e-6)
    slope = jax.grad(lambda p: r.step(p, state)[0].data.x.sum())(PARAMS)
    chex.assert_tree_all_finite(slope)


def test_other_limits_of_equal_shapes_compile_nothing():
    assert constrained(PLAIN, GRID).step is constrained(PLAIN, Limits()).step

    def solve(scale):
        limits = Limits(*(limit if limit is None else scale * np.asarray(limit) for limit in GRID))
        r = constrained(PLAIN, limits)
        run(r, PARAMS, r.init(SERIES, TARGET), 3)

    solve(1.0)
    assert count_compilations(lambda: solve(0.5)) == 0


@pytest.mark.parametrize("make", [refiner, pytest.param(global_refiner, marks=pytest.mark.slow)])
def test_a_mesh_gives_the_same(make):
    """Limits per column; the padding stays missing. Limits per step are refused."""
    layout = layouts.windows(3)
    mesh = Mesh(np.array(jax.devices()[:4]), ("time",))
    one, many = (make(tanh_net, layout=layout, mesh=m) for m in (None, mesh))
    found = []
    for plain in (one, many):
        r = constrained(plain, GRID)
        found.append(run(r, PARAMS, r.init(SERIES[:15], TARGET[:15]), 3))
    np.testing.assert_allclose(found[1].x[:15], found[0].x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[1].y[:15], found[0].y, rtol=0, atol=1e-6)
    assert np.isnan(found[1].x[15:]).all()
    assert len(found[1].x.sharding.device_set) == 4
    with pytest.raises(errors.UnsupportedError, match="upper_x differs between rows or steps"):
        constrained(many, Limits(upper_x=SERIES + 1)).init(SERIES, TARGET)


@pytest.mark.parametrize(
    ("limits", "error", "says"),
    [
        (Limits(1.0, 0.5), errors.DataError, "lower_x exceeds upper_x in 1 place"),
        (Limits(lower_y=np.nan), errors.DataError, "lower_y exceeds upper_y .* or one of them is"),
        (Limits(lower_x=np.zeros(3)), errors.ShapeError, r"lower_x of shape \(3,\) does not"),
        (Limits(upper_y=np.zeros((16, 1))), errors.ShapeError, "upper_y of shape"),
        (Limits(upper_x="high"), errors.UnsupportedError, "upper_x must be an array of numbers"),
        (Limits(spacing_x=-1.0), errors.DataError, "origin_x and spacing_x make no grid"),
        (Limits(spacing_y=np.inf), errors.DataError, "origin_y and spacing_y make no grid"),
        (Limits(origin_x=np.nan, spacing_x=1.0), errors.DataError, "make no grid"),
        (Limits(0.2, 0.8, spacing_x=1.0), errors.DataError, "32 movable cell.* of x have no point"),
    ],
)
def test_limits_that_cannot_be_kept(limits, error, says):
    with pytest.raises(error, match=says):
        constrained(PLAIN, limits).init(SERIES, TARGET)


def test_a_frozen_cell_needs_no_grid_point():
    r = constrained(PLAIN, Limits(0.2, 0.8, spacing_x=1.0))
    state = r.init(SERIES, TARGET, movable_x=False)
    np.testing.assert_array_equal(run(r, PARAMS, state, 2).x, SERIES)


def test_what_within_refuses():
    with pytest.raises(errors.DataError, match="most_x, the largest change, must be at least 0"):
        within(SERIES, -0.1)
    with pytest.raises(errors.DataError, match="most_y, the largest change"):
        within(SERIES, None, TARGET, np.nan)
    with pytest.raises(errors.ShapeError, match=r"most_x of shape \(5,\)"):
        within(SERIES, np.ones(5))
    with pytest.raises(errors.ShapeError, match="most_y is measured from the start: pass y too"):
        within(SERIES, 0.1, None, 0.1)


def test_limits_of_targets_that_are_columns_are_refused():
    r = constrained(refiner(tanh_net, layout=layouts.windows(3, target_columns=[0])), GRID)
    with pytest.raises(errors.ShapeError, match="targets are columns of x, so limit those"):
        r.init(SERIES)
