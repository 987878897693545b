"""A causal refinement against plain ones of its buffers, and what it must not see."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denograd_jax import Limits, Model, Status, constrained, layouts, refiner, rules, run
from denograd_jax._core._causal import causal_refiner, missing_before
from denograd_jax.errors import DataError, ShapeError, UnsupportedError
from tests import oracle
from tests.compilations import count_compilations
from tests.models import tanh_net

RULE = rules.unit_step(0.05, 0.1)
ALL_RULES = [
    RULE,
    rules.unit_step(0.5, 0.1, norm="dataset"),
    rules.unit_step(0.1, 0.3, gate=rules.soft_gate(0.2)),
    rules.gauss_newton(0.5, 0.2),
]
EXACT = {"float32": 1e-6, "float64": 1e-12}


def refine(c, params, data, **options):
    """On the host, where slices compile nothing."""
    return jax.device_get(c.refine(params, data, **options))


def net(size, outputs=2, dtype="float32", seed=0):
    plain = oracle.Net(np.random.default_rng(seed), size, outputs, hidden=4)
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), plain.params)


def one_by_one(params, rule, layout, lag, steps, x, y=None, segments=None, **masks):
    """The definition: for each step a plain run of its buffer, as far as the series reaches back.

    Also the residuals of the step's window before and after, from the model alone.
    """
    r = refiner(tanh_net, rule, layout)
    rows, before, after = [], [], []
    for t in range(len(x)):
        end = min(t + lag, len(x) - 1) + 1
        part = slice(max(end - layout.span - lag, 0), end)
        cut = {k: None if m is None else m[part] for k, m in {"y": y, **masks}.items()}
        labels = None if segments is None else segments[part]
        here = t - part.start
        try:
            state = r.init(x[part], segments=labels, **cut)
        except (ShapeError, DataError):  # nothing to refine: every value stays as it is
            rows.append((x[t],) if y is None else (x[t], y[t]))
            before.append(None)
            after.append(None)
            continue
        solution = run(r, params, state, max_steps=steps)
        values = [solution.x[here]] if y is None else [solution.x[here], solution.y[here]]
        rows.append(tuple(np.asarray(v) for v in values))
        window = here - layout.span + 1
        valid = window >= 0 and bool(layout.valid(state.data)[window])
        for kept, data in ((before, state.data), (after, solution.state.data)):
            kept.append(residual(params, layout, data, window) if valid else None)
    return rows, before, after


def residual(params, layout, data, window):
    """NaN where the target is missing."""
    at = window + layout.span - 1
    prediction = tanh_net(params, data.x[window : window + layout.length])
    columns = list(layout.target_columns or ())
    target = data.x[at, jnp.array(columns)] if data.y is None else data.y[at]
    seen = data.observed_x[at, jnp.array(columns)] if data.y is None else data.observed_y[at]
    return np.where(seen, prediction - target, np.nan)


def stack(items, q):
    return np.stack([np.full(q, np.nan) if item is None else item for item in items])


def series(rng, steps, channels, dtype="float32", missing=0.0):
    x = rng.normal(size=(steps, channels)).astype(dtype)
    x[rng.random(x.shape) < missing] = np.nan
    return x


@pytest.mark.parametrize(
    ("rule", "lag", "length", "horizon", "apart"),
    [
        (0, 0, 3, 1, False),
        pytest.param(0, 4, 2, 1, True, marks=pytest.mark.slow),
        pytest.param(1, 2, 3, 2, False, marks=pytest.mark.slow),
        (2, 4, 2, 1, True),
        pytest.param(3, 0, 3, 1, False, marks=pytest.mark.slow),
        pytest.param(3, 2, 3, 2, False, marks=pytest.mark.slow),
    ],
)
def test_every_value_is_that_of_a_plain_run_of_its_buffer(rule, lag, length, horizon, apart):
    dtype = "float64"
    with jax.enable_x64(True):
        rng = np.random.default_rng(rule)
        x = series(rng, 14, 2, dtype, missing=0.15)
        y = series(rng, 14, 2, dtype, missing=0.15) if apart else None
        masks = {"movable_x": rng.random(x.shape) < 0.8}
        if rule % 2:
            masks["noise_x"] = rng.uniform(0.5, 2, x.shape)
        segments = np.repeat([3, 3, 1], [4, 5, 5])
        columns = None if apart else [1, 0]
        layout = layouts.windows(length, horizon, target_columns=columns)
        params = net(length * 2, dtype=dtype)
        rows, before, after = one_by_one(
            params, ALL_RULES[rule], layout, lag, 6, x, y, segments, **masks
        )
        c = causal_refiner(tanh_net, ALL_RULES[rule], layout, lag=lag, max_steps=6, chunk_size=8)
        found = refine(c, params, c.init(x, y, segments=segments, **masks))
        # A cell that is movable but was not seen is imputed in its buffer; one that lies in a
        # buffer without any window holds its fill, which the plain init refuses to give.
        plain = np.stack([row[0] for row in rows])
        refused = np.isnan(plain) & masks["movable_x"]
        values = np.where(refused, np.nan, found.x)
        np.testing.assert_allclose(values, plain, rtol=0, atol=EXACT[dtype])
        if apart:
            np.testing.assert_allclose(
                found.y, np.stack([row[1] for row in rows]), rtol=0, atol=EXACT[dtype]
            )
        for here, expected in ((found.residual_before, before), (found.residual_after, after)):
            np.testing.assert_allclose(here, stack(expected, 2), rtol=0, atol=EXACT[dtype])
        moved = np.nan_to_num(np.abs(np.asarray(found.x) - x)).max()
        assert max(moved, 0 if y is None else np.nanmax(np.abs(np.asarray(found.y) - y))) > 0.01


@pytest.mark.parametrize("lag", [0, 3])
def test_against_numpy_loops(lag, dtype):
    rng = np.random.default_rng(5)
    plain = oracle.Net(rng, 3 * 2, 2)
    rule = {"name": "unit_step", "step_size": 0.05, "tolerance": 0.1}
    x = series(rng, 12, 2, dtype)
    expected = []
    for t in range(len(x)):
        end = min(t + lag, len(x) - 1) + 1
        begin = max(end - 5 - lag, 0)
        buffer, _ = oracle.refine_series(
            plain, x[begin:end].astype(float), None, rule, 4, 3, 2, 1, "visits", [0, 1]
        )
        expected.append(buffer[t - begin])
    params = jax.tree.map(lambda a: jnp.asarray(a, dtype), plain.params)
    layout = layouts.windows(3, 2, target_columns=[0, 1])
    c = causal_refiner(tanh_net, RULE, layout, lag=lag, max_steps=4)
    found = refine(c, params, c.init(x))
    assert found.x.dtype == found.residual_after.dtype == found.gate.dtype == dtype
    np.testing.assert_allclose(found.x, np.stack(expected), rtol=0, atol=20 * EXACT[dtype.name])


CASES = st.fixed_dictionaries(
    {
        "length": st.integers(1, 4),
        "horizon": st.integers(1, 2),
        "lag": st.integers(0, 5),
        "cut": st.integers(6, 15),
        "apart": st.booleans(),
        "missing": st.sampled_from([0.0, 0.3]),
        "border": st.integers(1, 14),
        "seed": st.integers(0, 1000),
    }
)


@pytest.mark.slow
@settings(max_examples=8)
@given(CASES)
def test_later_steps_change_nothing(case):
    """Refining a beginning gives the beginning, but for the steps that were provisional.

    The chunks of both are others, so rounding is.
    """
    with jax.enable_x64(True):
        rng = np.random.default_rng(case["seed"])
        x = series(rng, 15, 2, "float64", case["missing"])
        y = series(rng, 15, 2, "float64", case["missing"]) if case["apart"] else None
        segments = (np.arange(15) >= case["border"]).astype(int)
        columns = None if case["apart"] else [0, 1]
        layout = layouts.windows(case["length"], case["horizon"], target_columns=columns)
        c = causal_refiner(tanh_net, RULE, layout, lag=case["lag"], max_steps=5, chunk_size=6)
        params = net(case["length"] * 2, dtype="float64")
        movable = rng.random(x.shape) < 0.9

        @jax.jit  # so that a beginning too short or too empty for one window is not refused
        def solve(x, y, segments, movable):
            return c.refine(params, c.init(x, y, movable_x=movable, segments=segments))

        arrays = x, y, segments, movable
        whole = jax.device_get(solve(*arrays))
        part = jax.device_get(solve(*jax.tree.map(lambda a: a[: case["cut"]], arrays)))
        settled = slice(max(case["cut"] - case["lag"], 0))
        assert len(part.x) == case["cut"]
        for early, late in zip(jax.tree.leaves(part), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(early[settled], late[settled], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("lag", "horizon"), [(0, 1), (4, 3)])
def test_looks_ahead_by_the_lag_and_no_further(lag, horizon):
    rng = np.random.default_rng(2)
    x = series(rng, 30, 2)
    layout = layouts.windows(4, horizon, target_columns=[0, 1])
    c = causal_refiner(tanh_net, RULE, layout, lag=lag, max_steps=5)
    params = net(8)
    segments = np.zeros(30, int)
    before = refine(c, params, c.init(x, segments=segments))
    for t in (0, 6, 15, 22):
        for label, value in ((0, 50.0), (0, np.nan), (1, -3.0)):
            other, labels = x.copy(), segments.copy()
            other[t + lag + 1 :] = value
            labels[t + lag + 1 :] = label
            after = refine(c, params, jax.jit(c.init)(other, segments=labels))
            for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
                np.testing.assert_array_equal(a[: t + 1], b[: t + 1])
        other = x.copy()
        other[t + lag] += 1
        after = refine(c, params, c.init(other))
        if t >= layout.span:  # a step without a window does not move
            assert np.abs(after.x[t] - before.x[t]).min() > 1e-4
        assert np.abs(after.x[t + lag + 1 :] - before.x[t + lag + 1 :]).max() > 1e-4


@pytest.mark.parametrize("lag", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_depends_on_as_many_steps_as_it_says(lag):
    x = series(np.random.default_rng(3), 24, 2)
    c = causal_refiner(tanh_net, RULE, layouts.windows(4, target_columns=[0, 1]), lag=lag)
    params, t = net(8), 15
    oldest = t + lag - c.memory + 1
    before = refine(c, params, c.init(x))
    x[:oldest] = 9.0
    forgotten = refine(c, params, c.init(x))
    x[oldest] += 1
    remembered = refine(c, params, c.init(x))
    np.testing.assert_array_equal(before.x[t], forgotten.x[t])
    assert np.abs(remembered.x[t] - before.x[t]).max() > 1e-4


@pytest.mark.parametrize(
    ("lag", "news"),
    [
        (0, 4),
        (3, 1),
        pytest.param(0, 1, marks=pytest.mark.slow),
        pytest.param(3, 4, marks=pytest.mark.slow),
    ],
)
def test_steps_one_by_one_are_those_of_the_series(x64, lag, news):
    """What an online refiner does: a memory that begins with nothing, of one shape for ever."""
    rng = np.random.default_rng(4)
    x = series(rng, 20, 2, "float64", missing=0.1)
    segments = np.repeat([0, 1], [12, 8])
    c = causal_refiner(tanh_net, RULE, layouts.windows(3, target_columns=[0, 1]), lag=lag)
    params = net(6, dtype="float64")
    data = c.init(x, segments=segments)
    whole = refine(c, params, data)
    history = c.memory - 1
    known = missing_before(data, history)
    first = history - lag
    settled = []
    for n in range(0, 20, news):
        part = jax.tree.map(lambda a, n=n: a[n : n + history + news], known)
        found = refine(c, params, part, first=first)
        assert len(found.x) == news + lag
        settled.append(jax.tree.map(lambda a: a[:news], found))
    found = jax.tree.map(lambda a: a[news:], found)
    pieces = jax.tree.map(lambda *a: np.concatenate(a), *settled, found)
    for a, b in zip(jax.tree.leaves(pieces), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a[lag:], b, rtol=0, atol=1e-12)
    assert np.isnan(pieces.x[:lag]).all()  # steps before the first


@pytest.mark.parametrize("first", [5, 19])
def test_from_a_step_on(first):
    x = series(np.random.default_rng(6), 20, 2)
    c = causal_refiner(tanh_net, RULE, layouts.windows(3, target_columns=[0, 1]), lag=2)
    params, data = net(6), c.init(x)
    whole, part = refine(c, params, data), refine(c, params, data, first=first)
    for a, b in zip(jax.tree.leaves(part), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b[first:], rtol=0, atol=1e-6)


def test_without_lag_only_targets_move():
    x, y = np.random.default_rng(7).normal(size=(2, 20, 2)).astype(np.float32)
    params = net(6)
    c = causal_refiner(tanh_net, RULE, layouts.windows(3))
    found = refine(c, params, c.init(x, y))
    np.testing.assert_array_equal(found.x, x)
    moved = np.abs(np.asarray(found.y) - y).max(axis=1)
    assert (moved[:3] == 0).all()
    assert (moved[3:][np.asarray(found.gate)[3:] > 0] > 0).all()
    assert np.isnan(found.residual_before[:3]).all()
    size = [np.abs(r[3:]).mean() for r in (found.residual_before, found.residual_after)]
    assert size[1] < 0.9 * size[0]
    held = causal_refiner(tanh_net, RULE, layouts.windows(3), lag=2, refine_targets=False)
    found = refine(held, params, held.init(x, y))
    np.testing.assert_array_equal(found.y, y)
    assert np.abs(np.asarray(found.x) - x).max() > 0.01


@pytest.mark.slow
def test_targets_that_start_as_columns_and_go_their_own_way():
    x = series(np.random.default_rng(8), 20, 2)
    params = net(6)
    apart = layouts.windows(3, target_columns=[1, 0], shared=False)
    c = causal_refiner(tanh_net, RULE, apart, lag=2)
    found = refine(c, params, c.init(x))
    plain = causal_refiner(tanh_net, RULE, layouts.windows(3), lag=2)
    expected = refine(plain, params, plain.init(x, x[:, [1, 0]]))
    np.testing.assert_array_equal(found.x, expected.x)
    np.testing.assert_array_equal(found.y, expected.y)


@pytest.mark.slow
def test_noise_that_all_steps_share():
    x = series(np.random.default_rng(16), 20, 2)
    params = net(6)
    c = causal_refiner(tanh_net, RULE, layouts.windows(3, target_columns=[0, 1]), lag=2)
    none, shared, each = (
        refine(c, params, c.init(x, noise_x=noise))
        for noise in (None, [0.5, 2], np.tile([0.5, 2], (20, 1)))
    )
    for a, b in zip(jax.tree.leaves(shared), jax.tree.leaves(each), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(shared.x - none.x).max() > 0.01


def test_status_and_steps_are_those_of_the_buffer():
    """One step far off: only buffers that hold a window with it take all steps."""
    x = np.zeros((16, 1), np.float32)
    x[8] = 50.0
    layout = layouts.windows(2, target_columns=[0])
    c = causal_refiner(lambda w, x: w * x[-1], RULE, layout, lag=1, max_steps=7)
    found = refine(c, jnp.ones(1), c.init(x))
    busy = np.isin(np.arange(16), [7, 8, 9, 10])  # as target of two windows, or the last input
    busy[10] = False  # its buffer has the window 8..9 -> 10, whose last input is calm
    expected = np.where(found.steps == 7, Status.max_steps, Status.converged)
    np.testing.assert_array_equal(found.status, expected)
    np.testing.assert_array_equal(found.steps == 7, busy)
    x[8] = np.inf
    found = refine(c, jnp.ones(1), jax.jit(c.init)(x))
    np.testing.assert_array_equal(
        found.status == Status.nonfinite, np.isin(np.arange(16), [7, 8, 9])
    )
    assert np.isfinite(np.delete(np.asarray(found.x), 8, axis=0)).all()


@pytest.mark.parametrize(
    "chunk_size",
    [pytest.param(1, marks=pytest.mark.slow), 7, pytest.param(64, marks=pytest.mark.slow)],
)
def test_chunks_have_no_effect(chunk_size):
    x = series(np.random.default_rng(9), 40, 2)
    layout = layouts.windows(3, target_columns=[0, 1])
    params = net(6)
    batched = Model(tanh_net, params, jax.vmap(tanh_net, in_axes=(None, 0)))
    one = causal_refiner(tanh_net, RULE, layout, lag=3)
    some = causal_refiner(batched, RULE, layout, lag=3, chunk_size=chunk_size)
    expected, found = (refine(c, params, c.init(x)) for c in (one, some))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_under_jit_and_vmap(x64):
    x = series(np.random.default_rng(10), 20, 2, "float64", missing=0.1)
    layout = layouts.windows(3, target_columns=[0, 1])
    each = [net(6, dtype="float64", seed=seed) for seed in range(3)]

    def solve(params, step_size, x):
        c = causal_refiner(tanh_net, rules.unit_step(step_size, 0.1), layout, lag=2)
        return c.refine(params, c.init(x))

    sizes = jnp.array([0.02, 0.05, 0.1])
    params = jax.tree.map(lambda *a: jnp.stack(a), *each)
    mapped = jax.jit(jax.vmap(solve, in_axes=(0, 0, None)))(params, sizes, x)
    for i, one in enumerate(each):
        expected = solve(one, float(sizes[i]), x)
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=0, atol=1e-12)


def test_second_call_with_equal_shapes_compiles_nothing():
    x = series(np.random.default_rng(11), 30, 2)
    layout = layouts.windows(3, target_columns=[0, 1])

    def solve(seed, step_size, max_steps):
        rule = rules.unit_step(step_size, 0.1)
        c = causal_refiner(tanh_net, rule, layout, lag=2, max_steps=max_steps)
        return refine(c, net(6, seed=seed), c.init(x + np.float32(seed)))

    solve(0, 0.05, 3)
    net(6, seed=1)
    assert count_compilations(lambda: solve(1, 0.02, 9)) == 0


def test_programs_do_not_grow_with_the_series():
    traces = []

    def predict(params, x):
        traces.append(1)
        return tanh_net(params, x)

    layout = layouts.windows(3, target_columns=[0, 1])
    c = causal_refiner(predict, RULE, layout, lag=2, chunk_size=6)
    counts = []
    for steps in (20, 200):
        traces.clear()
        refine(c, net(6), c.init(series(np.random.default_rng(12), steps, 2)))
        counts.append(len(traces))
    assert counts[1] <= counts[0]


@pytest.mark.parametrize(
    "options",
    [
        {"loss": optax.losses.softmax_cross_entropy_with_integer_labels, "refine_targets": False},
        pytest.param({"loss": "cross_entropy"}, marks=pytest.mark.slow),
    ],
)
def test_class_labels(options):
    rng = np.random.default_rng(13)
    x, y = series(rng, 20, 2), rng.integers(0, 3, 20)
    c = causal_refiner(tanh_net, RULE, layouts.windows(3), lag=3, **options)
    found = refine(c, net(6, outputs=3), c.init(x, y))
    np.testing.assert_array_equal(found.y, y)
    assert (found.residual_after[6:].mean() < found.residual_before[6:].mean() - 0.01).all()


@pytest.mark.slow
def test_a_loss_by_its_name():
    x = series(np.random.default_rng(14), 20, 2)
    layout = layouts.windows(3, target_columns=[0, 1])
    named, given = (
        causal_refiner(tanh_net, RULE, layout, lag=2, loss=loss)
        for loss in ("huber", optax.losses.huber_loss)
    )
    found, expected = (refine(c, net(6), c.init(x)).x for c in (named, given))
    np.testing.assert_array_equal(found, expected)


def test_what_is_refused():
    layout = layouts.windows(3, target_columns=[0, 1])
    x = series(np.random.default_rng(14), 20, 2)
    with pytest.raises(ShapeError, match="lag must be at least 0"):
        causal_refiner(tanh_net, RULE, layout, lag=-1)
    with pytest.raises(TypeError):
        causal_refiner(tanh_net, RULE, layout, lag=1.5)
    with pytest.raises(ShapeError, match="chunk_size"):
        causal_refiner(tanh_net, RULE, layout, chunk_size=0)
    with pytest.raises(UnsupportedError, match="rows have no order"):
        causal_refiner(tanh_net, RULE, layouts.rows())
    with pytest.raises(UnsupportedError, match="stride 1, not 2"):
        causal_refiner(tanh_net, RULE, layouts.windows(3, stride=2))
    with pytest.raises(UnsupportedError, match="pure function"):
        causal_refiner([], RULE, layout)
    c = causal_refiner(tanh_net, RULE, layout)
    with pytest.raises(ShapeError, match="no window fits"):
        c.init(x[:3])
    with pytest.raises(DataError, match="infinite"):
        c.init(np.where(x > 1, np.inf, x))
    with pytest.raises(ShapeError, match="first must be one of the 20 steps, not 20"):
        refine(c, net(6), c.init(x), first=20)
    with pytest.raises(UnsupportedError, match=r"model's params"):
        refine(c, Model(tanh_net, net(6)), c.init(x))


@pytest.mark.parametrize(
    ("lag", "by_step"),
    [
        (2, True),
        pytest.param(0, False, marks=pytest.mark.slow),
        pytest.param(2, False, marks=pytest.mark.slow),
    ],
)
def test_limits_are_kept_after_each_step_of_a_buffer(lag, by_step):
    """As in a constrained run of the slice; with a grid, whose fractions are kept aside."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(4)
        x = series(rng, 12, 2, "float64")
        lower = x - 0.05 if by_step else np.array([[-0.3, -np.inf]])
        spacing = np.array([[0.0, 0.25]])
        layout = layouts.windows(2, target_columns=[0, 1])
        rule = rules.unit_step(0.2, 0.01)
        params = net(4, dtype="float64")
        c = causal_refiner(tanh_net, rule, layout, lag=lag, max_steps=4)
        limits = Limits(lower_x=lower, spacing_x=spacing)
        found = refine(c, params, c.init(x), limits=limits)
        for t in range(layout.span - 1, len(x) - lag):
            part = slice(t - layout.span + 1, t + lag + 1)
            cut = Limits(lower_x=lower[part] if by_step else lower, spacing_x=spacing)
            r = constrained(refiner(tanh_net, rule, layout), cut)
            solution = run(r, params, r.init(x[part]), max_steps=4)
            np.testing.assert_allclose(found.x[t], solution.x[layout.span - 1], rtol=1e-12)
        free = refine(c, params, c.init(x))
        assert (found.x != free.x).any()
        on_grid = found.x[layout.span - 1 :, 1] / 0.25
        np.testing.assert_allclose(on_grid, np.rint(on_grid), atol=1e-9)
