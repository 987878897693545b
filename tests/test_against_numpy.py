"""Every rule on every layout against plain NumPy loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax import layouts, refiner, rules, run
from tests import oracle
from tests.models import tanh_net

RULES = {
    "unit_step": (
        rules.unit_step(0.05, 0.2),
        {"name": "unit_step", "step_size": 0.05, "tolerance": 0.2},
    ),
    "dataset_norm": (
        rules.unit_step(0.5, 0.2, norm="dataset"),
        {"name": "dataset_norm", "step_size": 0.5, "tolerance": 0.2},
    ),
    "gauss_newton": (
        rules.gauss_newton(0.5, 0.2, 0.8, 1.3),
        {
            "name": "gauss_newton",
            "step_size": 0.5,
            "tolerance": 0.2,
            "x_weight": 0.8,
            "y_weight": 1.3,
        },
    ),
}
TOLERANCE = {"float32": 2e-5, "float64": 1e-10}


def solve(net, dtype, rule, layout, x, y, epochs, **options):
    params = jax.tree.map(lambda a: jnp.asarray(a, dtype), net.params)
    segments = options.pop("segments", None)
    r = refiner(tanh_net, rule=rule, layout=layout, **options)
    state = r.init(x.astype(dtype), None if y is None else y.astype(dtype), segments=segments)
    return run(r, params, state, max_steps=epochs)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("outputs", "refine_targets"), [(1, True), (3, False)])
def test_rows(rng, dtype, name, outputs, refine_targets):
    rule, plain = RULES[name]
    net = oracle.Net(rng, 5, outputs)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, outputs))
    expected_x, expected_y = oracle.refine_rows(net, x, y, plain, 7, refine_targets)
    found = solve(
        net, dtype, rule, layouts.rows(), x, y, 7, refine_targets=refine_targets, chunk_size=16
    )
    np.testing.assert_allclose(found.x, expected_x, rtol=0, atol=TOLERANCE[dtype.name])
    np.testing.assert_allclose(found.y, expected_y, rtol=0, atol=TOLERANCE[dtype.name])


SERIES = [
    ("unit_step", "visits", 6, 1, 1),
    ("unit_step", "votes", 4, 2, 3),
    ("unit_step", "sum", 3, 1, 5),
    ("dataset_norm", "sum", 4, 2, 3),
    ("dataset_norm", "visits", 1, 4, 2),
    ("gauss_newton", "votes", 6, 1, 1),
    ("gauss_newton", "visits", 3, 1, 5),
    ("gauss_newton", "sum", 1, 4, 2),
]


@pytest.mark.parametrize(("name", "consensus", "length", "horizon", "stride"), SERIES)
def test_series(rng, dtype, name, consensus, length, horizon, stride):
    rule, plain = RULES[name]
    net = oracle.Net(rng, length * 3, 2)
    x, y = rng.normal(size=(45, 3)), rng.normal(size=(45, 2))
    layout = layouts.windows(length, horizon, stride, consensus)
    expected_x, expected_y = oracle.refine_series(
        net, x, y, plain, 5, length, horizon, stride, consensus
    )
    found = solve(net, dtype, rule, layout, x, y, 5, chunk_size=4)
    np.testing.assert_allclose(found.x, expected_x, rtol=0, atol=TOLERANCE[dtype.name])
    np.testing.assert_allclose(found.y, expected_y, rtol=0, atol=TOLERANCE[dtype.name])


@pytest.mark.parametrize(("name", "stride"), [("unit_step", 1), ("gauss_newton", 2)])
def test_series_whose_target_is_a_column(rng, dtype, name, stride):
    rule, plain = RULES[name]
    net = oracle.Net(rng, 5 * 3, 2)
    x = rng.normal(size=(45, 3))
    layout = layouts.windows(5, 2, stride, "visits", target_columns=[2, 0])
    expected, _ = oracle.refine_series(net, x, None, plain, 5, 5, 2, stride, "visits", [2, 0])
    found = solve(net, dtype, rule, layout, x, None, 5, chunk_size=7)
    np.testing.assert_allclose(found.x, expected, rtol=0, atol=TOLERANCE[dtype.name])
    assert found.y is None


def test_default_consensus_is_the_rules(rng, x64):
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(30, 1))
    net = oracle.Net(rng, 8)
    for name, consensus in [
        ("unit_step", "visits"),
        ("dataset_norm", "sum"),
        ("gauss_newton", "votes"),
    ]:
        rule, plain = RULES[name]
        expected, _ = oracle.refine_series(net, x, y, plain, 3, 4, 1, 1, consensus)
        found = solve(net, np.dtype("float64"), rule, layouts.windows(4), x, y, 3)
        np.testing.assert_allclose(found.x, expected, rtol=0, atol=1e-10)


def test_no_window_crosses_a_segment(rng, x64):
    """A panel refined at once equals its series refined one by one."""
    rule, plain = RULES["unit_step"]
    net = oracle.Net(rng, 4 * 2, 1)
    lengths = [12, 5, 4, 20]  # 4 < length + horizon: that series has no window
    x, y = rng.normal(size=(41, 2)), rng.normal(size=(41, 1))
    segments = np.repeat(np.arange(4), lengths)
    found = solve(
        net, np.dtype("float64"), rule, layouts.windows(4), x, y, 6, segments=segments, chunk_size=5
    )
    for label in range(4):
        part = segments == label
        expected_x, expected_y = oracle.refine_series(
            net, x[part], y[part], plain, 6, 4, 1, 1, "visits"
        )
        np.testing.assert_allclose(found.x[part], expected_x, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.y[part], expected_y, rtol=0, atol=1e-10)


def test_gauss_newton_lands_on_the_linear_surface(rng, x64):
    """Closed form: the orthogonal projection of (x, y) on the plane f(x) = w.x."""
    w = rng.normal(size=4)
    x, y = rng.normal(size=(9, 4)), rng.normal(size=9)
    r = refiner(lambda w, x: w @ x, rule=rules.gauss_newton(step_size=1.0, tolerance=0.0))
    state, _ = r.step(jnp.asarray(w), r.init(x, y))
    normal = np.append(w, -1.0)
    z = np.column_stack([x, y])
    projected = z - np.outer(z @ normal, normal) / (normal @ normal)
    np.testing.assert_allclose(state.data.x, projected[:, :-1], atol=1e-12)
    np.testing.assert_allclose(state.data.y, projected[:, -1], atol=1e-12)


@pytest.mark.parametrize(
    "loss", [lambda p, t: jnp.abs(p - t) ** 3, lambda p, t: 7e-3 * (p - t) ** 2]
)
def test_gauss_newton_does_not_depend_on_the_loss(rng, x64, loss):
    w, x, y = rng.normal(size=4), rng.normal(size=(9, 4)), rng.normal(size=9)
    states = []
    for each in (loss, lambda p, t: (p - t) ** 2):
        r = refiner(lambda w, x: jnp.tanh(w @ x), rule=rules.gauss_newton(), loss=each)
        states.append(run(r, jnp.asarray(w), r.init(x, y), max_steps=5))
    np.testing.assert_allclose(states[0].x, states[1].x, atol=1e-12)
