"""Global refinement against NumPy, closed forms and SciPy, with masks, chunks and optimisers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from denograd_jax import Model, Status, errors, global_refiner, layouts, run
from tests import oracle
from tests.compilations import count_compilations
from tests.models import linear, tanh_net

STEPS = 23


def objective(net, x, y, given, proximity, layout, columns=None, refine_targets=True):
    """The objective by loops; a NaN in `given` is a cell that was not measured."""
    losses = []
    for start in range(0, len(x) - layout.span + 1, layout.stride):
        end = start + layout.span - 1
        target = (y if columns is None else given[0] * 0 + x[:, :])[end]
        seen = ~np.isnan(given[1 if columns is None else 0][end])
        if columns is not None:
            target, seen = target[columns], seen[columns]
        r = net.value(x[start : start + layout.length]) - target
        losses += list(r[seen] ** 2)
    offsets = [(x - given[0])[~np.isnan(given[0])]]
    if columns is None and refine_targets:
        offsets.append((y - given[1])[~np.isnan(given[1])])
    offsets = np.concatenate(offsets)
    return np.mean(losses) + proximity * np.mean(offsets**2)


def numeric_gradient(function, z, cells):
    """Central differences by some cells of an array."""
    slopes = []
    for cell in cells:
        step = np.zeros_like(z)
        step[cell] = 1e-5
        slopes.append((function(z + step) - function(z - step)) / 2e-5)
    return np.array(slopes)


@pytest.fixture
def series(rng):
    return rng.normal(size=(STEPS, 2)), rng.normal(size=(STEPS, 2))


@pytest.mark.parametrize(
    ("horizon", "stride", "chunk_size"),
    [
        (1, 1, None),
        (2, 3, 4),
        pytest.param(1, 1, 1, marks=pytest.mark.slow),
        pytest.param(2, 3, None, marks=pytest.mark.slow),
    ],
)
def test_objective_and_gradient(horizon, stride, chunk_size, series, rng, x64):
    """Away from the observations, with a target apart; any chunk gives the same gradient."""
    x, y = series
    net = oracle.Net(rng, 4 * 2, 2)
    layout = layouts.windows(4, horizon, stride)
    r = global_refiner(tanh_net, layout, 0.7, chunk_size=chunk_size, keep_gradient=True)
    state = r.init(x, y)
    x1, y1 = x + 0.1 * rng.normal(size=x.shape), y + 0.1 * rng.normal(size=y.shape)
    state = state._replace(data=state.data._replace(x=jnp.array(x1), y=jnp.array(y1)))
    _, info = r.step(net.params, state)

    def of_x(x2):
        return objective(net, x2, y1, (x, y), 0.7, layout)

    def of_y(y2):
        return objective(net, x1, y2, (x, y), 0.7, layout)

    assert float(info.objective) == pytest.approx(of_x(x1), rel=1e-12)
    assert float(info.misfit + 0.7 * info.distance) == pytest.approx(of_x(x1), rel=1e-12)
    cells = [(0, 0), (3, 1), (9, 0), (STEPS - 1, 1)]
    for found, function, z in ((info.gradient.x, of_x, x1), (info.gradient.y, of_y, y1)):
        found = [found[cell] for cell in cells]
        np.testing.assert_allclose(found, numeric_gradient(function, z, cells), atol=1e-9)


def test_missing_cells_shared_targets(series, rng, x64):
    """No proximity where nothing was measured; imputed only when asked."""
    x, _ = series
    x[5, 1] = x[12, 0] = np.nan
    net = oracle.Net(rng, 4 * 2, 2)
    layout = layouts.windows(4, target_columns=[0, 1])
    movable = np.ones(x.shape, bool)
    movable[12, 0] = False
    r = global_refiner(tanh_net, layout, 0.7, keep_gradient=True)
    state = r.init(x, movable_x=movable)
    filled = np.asarray(state.data.x)
    assert filled[5, 1] == x[4, 1]
    _, info = r.step(net.params, state)

    def of_x(z):
        return objective(net, z, None, (x, None), 0.7, layout, columns=[0, 1])

    assert float(info.objective) == pytest.approx(of_x(filled), rel=1e-12)
    cells = [(5, 1), (4, 1), (8, 0)]
    found = [info.gradient.x[cell] for cell in cells]
    np.testing.assert_allclose(found, numeric_gradient(of_x, filled, cells), atol=1e-9)
    assert info.gradient.x[12, 0] == 0
    found = run(r, net.params, state, 20)
    assert np.isnan(found.x[12, 0])
    assert found.x[5, 1] != x[4, 1]
    kept = run(r, net.params, r.init(x), 20)
    assert np.isnan(kept.x[5, 1])


@pytest.mark.parametrize(
    "optimizer", [optax.adam(0.05), pytest.param(optax.lbfgs(), marks=pytest.mark.slow)]
)
def test_minimum_of_a_linear_model(optimizer, rng, x64):
    """A linear model has a quadratic objective, whose minimum SciPy finds by least squares."""
    x = rng.normal(size=(STEPS, 1))
    weights, layout = np.array([0.6, 0.3]), layouts.windows(2, target_columns=[0])
    windows = STEPS - 2
    rows = np.zeros((windows, STEPS))
    for w in range(windows):
        rows[w, w : w + 2], rows[w, w + 2] = weights, -1
    system = np.concatenate([rows / np.sqrt(windows), np.sqrt(0.5 / STEPS) * np.eye(STEPS)])
    right = np.concatenate([np.zeros(windows), np.sqrt(0.5 / STEPS) * x.ravel()])
    expected = scipy.optimize.lsq_linear(system, right).x
    r = global_refiner(lambda w, z: w @ z, layout, 0.5, optimizer, tolerance=1e-16)
    found = run(r, weights, r.init(x), 5000)
    assert found.status == Status.converged
    np.testing.assert_allclose(found.x.ravel(), expected, atol=2e-6)


@pytest.mark.slow
def test_lbfgs_needs_fewer_passes(rng):
    """To where 300 steps of Adam end, at least five times fewer gradients of the whole series."""
    x = np.float32(np.sin(np.arange(300) / 9)[:, None] + 0.3 * rng.normal(size=(300, 1)))
    params = np.float32([-0.2, 0.1, 0.4, 0.9])
    layout = layouts.windows(4, target_columns=[0])
    adam = global_refiner(saturating, layout, tolerance=0.0)
    goal = run(adam, params, adam.init(x), 301).info.objective
    lbfgs = global_refiner(saturating, layout, optimizer=optax.lbfgs(), tolerance=0.0)
    state, passes = lbfgs.init(x), 0
    for _ in range(60):
        state, info = lbfgs.step(params, state)
        passes += 1
        if info.objective <= goal:
            break
        passes += int(optax.tree.get(state.optimizer, "num_linesearch_steps"))
    assert info.objective <= goal
    assert passes * 5 <= 300


def saturating(params, window):
    return 1.5 * jnp.tanh(params @ window)


def test_held_targets_and_frozen_cells(series, rng):
    x, y = np.float32(series[0]), np.float32(series[1])
    net = oracle.Net(rng, 4 * 2, 2)
    params = jax.tree.map(np.float32, net.params)
    # An optimiser that moves what has no gradient.
    decay = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))
    r = global_refiner(tanh_net, layouts.windows(4), 1.0, decay, refine_targets=False)
    movable = np.ones(x.shape, bool)
    movable[:, 1] = False
    found = run(r, params, r.init(x, y, movable_x=movable), 5)
    np.testing.assert_array_equal(found.y, y)
    np.testing.assert_array_equal(found.x[:, 1], x[:, 1])
    assert np.abs(found.x[:, 0] - x[:, 0]).max() > 0.01
    shared = layouts.windows(4, target_columns=[0, 1])
    r = global_refiner(tanh_net, shared, refine_targets=False)
    np.testing.assert_array_equal(run(r, params, r.init(x), 5).x, x)


def test_stops_by_tolerance(rng):
    x = np.float32(rng.normal(size=(STEPS, 1)))
    layout = layouts.windows(2, target_columns=[0])
    params = np.float32([0.5, 0.4])
    seen = []
    for tolerance in (0.05, 1e-3, 0.0):
        r = global_refiner(linear_window, layout, tolerance=tolerance)
        found = run(r, params, r.init(x), 200)
        seen.append(int(found.steps))
        assert found.status == (Status.converged if tolerance else Status.max_steps)
    assert seen[0] < seen[1] < seen[2] == 200

    def again():
        r = global_refiner(linear_window, layout, 0.3, tolerance=1e-2)
        run(r, params, r.init(x), 200)

    assert count_compilations(again) == 0


def linear_window(w, x):
    return w @ x


def test_an_instance_that_is_not_finite_is_left_out():
    x = np.ones((9, 1), np.float32)
    x[6] = 0

    def divide(_, window):
        return 1 / window[0]

    r = global_refiner(divide, layouts.windows(1, target_columns=[0]), keep_gradient=True)
    found = run(r, None, r.init(x), 1)
    assert found.status == Status.nonfinite
    assert found.info.nonfinite == 1
    assert np.isfinite(found.x).all()
    assert np.isfinite(found.info.objective)


@pytest.mark.slow
def test_a_loss_by_its_name():
    x = np.random.default_rng(3).normal(size=(20, 1)).astype(np.float32)
    layout = layouts.windows(2, target_columns=[0])
    named, given = (
        global_refiner(lambda w, x: w @ x, layout, loss=loss)
        for loss in ("huber", optax.losses.huber_loss)
    )
    found, expected = (run(r, np.float32([[1, -1]]), r.init(x), 3).x for r in (named, given))
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, x)


@pytest.mark.slow
def test_class_labels_do_not_move():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(12, 2)).astype(np.float32), rng.integers(0, 3, 12)
    r = global_refiner(linear_window, layouts.rows(), loss="cross_entropy")
    w = rng.normal(size=(3, 2)).astype(np.float32)
    found = run(r, w, r.init(x, y), 100)
    np.testing.assert_array_equal(found.y, y)
    before, after = (
        optax.losses.softmax_cross_entropy_with_integer_labels(z @ w.T, y) for z in (x, found.x)
    )
    assert after.mean() < before.mean()


@pytest.mark.slow
def test_a_line_search_does_not_gain_by_breaking_the_model():
    """Instances that leave the model's domain drop out of the mean, which is no progress."""
    r = global_refiner(lambda _, x: jnp.log(x[0]), layouts.rows(), 1e-3, optax.lbfgs())
    state = r.init(np.float32([[0.5], [1.0], [2.0]]), np.float32([-3.0] * 3))
    found = run(r, None, state, 50)
    assert found.status != Status.nonfinite
    assert (found.x > 0).all()


def test_slope_by_the_proximity():
    """Cells whose gradient is 0 (here the last of x) leave it finite, in Adam's roots too."""
    x, y = jnp.sin(jnp.arange(20.0))[:, None], jnp.zeros(20)

    @jax.jit
    def size_after(proximity):
        r = global_refiner(lambda w, window: w * window.mean(), layouts.windows(3), proximity)
        state = r.init(x, y)
        for _ in range(2):
            state, _ = r.step(0.5, state)
        return (state.data.x**2).mean()

    step = 1e-2
    expected = (size_after(1.0 + step) - size_after(1.0 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(size_after))(1.0), expected, rtol=0.05)


@pytest.mark.slow
def test_steps_do_not_depend_on_the_length(rng):
    """The gradient of a mean shrinks with the number of cells; Adam's epsilon must not count."""
    x = np.float32(rng.normal(size=(50, 1)))
    y = np.zeros(50, np.float32)
    r = global_refiner(lambda _, x: jnp.tanh(x).sum(), layouts.rows())
    short, long = (
        run(r, None, r.init(np.tile(x, (n, 1)), np.tile(y, n)), 20).x[:50] for n in (1, 40_000)
    )
    np.testing.assert_allclose(long, short, atol=1e-3)


def test_a_fresh_state_can_be_donated():
    r = global_refiner(lambda _, x: x.sum(), layouts.rows())
    state = r.init(np.ones((4, 2), np.float32), np.zeros(4, np.float32))
    state, _ = jax.jit(r.step, donate_argnums=1)(None, state)
    assert state.step == 1


def test_composes_with_vmap_scan_and_a_batched_model(rng):
    """Proximity weights swept by `vmap`; a scan; and the batched form gives the same."""
    x = np.float32(rng.normal(size=(STEPS, 1)))
    layout = layouts.windows(2, target_columns=[0])
    params = np.float32([0.5, 0.4])
    r = global_refiner(linear_window, layout, tolerance=0.0)
    state = r.init(x)

    def refined(proximity):
        numbers = state.hyperparameters | {"proximity": proximity}
        return run(r, params, state._replace(hyperparameters=numbers), 20).x

    swept = jax.vmap(refined)(jnp.array([0.1, 1.0, 10.0]))
    moves = jnp.abs(swept - x[None]).max(axis=(1, 2))
    assert moves[0] > moves[1] > moves[2] > 0
    chex.assert_trees_all_close(swept[1], refined(jnp.float32(1.0)), atol=1e-6)
    last, infos = jax.lax.scan(lambda s, _: r.step(params, s), state, length=20)
    chex.assert_trees_all_close(last.data.x, swept[1], atol=1e-6)
    assert (jnp.diff(infos.objective) < 0).all()
    model = Model(linear_window, params, lambda w, x: (x[..., 0] @ w)[:, None])
    batched = global_refiner(model, layout, tolerance=0.0)
    found = run(batched, params, batched.init(x), 20)
    chex.assert_trees_all_close(found.x, swept[1], atol=1e-6)


def test_consensus_has_no_say(rng):
    x = np.float32(rng.normal(size=(STEPS, 1)))
    params = np.float32([0.5, 0.4])
    found = []
    for consensus in (None, "visits", "votes"):
        layout = layouts.windows(2, consensus=consensus, target_columns=[0])
        r = global_refiner(linear_window, layout, keep_gradient=True)
        found.append(r.step(params, r.init(x))[1].gradient.x)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_rows_and_segments(rng, x64):
    """Rows are refined too; windows cross no border."""
    x, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    weights = np.array([1.0, -1.0])
    r = global_refiner(linear, layouts.rows(), tolerance=0.0)
    found = run(r, weights, r.init(x, y), 50)
    before, after = (np.abs(a @ weights - b).mean() for a, b in ((x, y), (found.x, found.y)))
    assert after < 0.7 * before
    layout = layouts.windows(2, target_columns=[0])
    r = global_refiner(linear_window, layout, tolerance=0.0)
    whole = run(r, weights, r.init(x[:, :1], segments=np.repeat([0, 1], 10)), 1)
    assert whole.info.valid.sum() == 16


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"proximity": -1.0}, ValueError, "proximity must be a finite number"),
        ({"proximity": jnp.ones(2)}, ValueError, "proximity must be one number"),
        ({"proximity": "1"}, ValueError, "proximity must be a number, not '1'"),
        ({"tolerance": float("nan")}, ValueError, "tolerance must be a finite number"),
        ({"tolerance": np.float32(-1)}, ValueError, "tolerance must be a finite number"),
        ({"chunk_size": 0}, errors.ShapeError, "chunk_size must be at least 1"),
        ({"axis": "time"}, errors.UnsupportedError, "names an axis of a mesh"),
    ],
)
def test_bad_arguments(arguments, error, says):
    with pytest.raises(error, match=says):
        global_refiner(linear, layouts.windows(2), **arguments)
