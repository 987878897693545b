"""Unusual input to the core: the right result, or an error that says what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from denograd_jax import Status, errors, layouts, refiner, rules, run
from tests import oracle
from tests.models import linear, tanh_net

UNIT = {"name": "unit_step", "step_size": 0.05, "tolerance": 0.01}


def sum_of(_, x):
    return x.sum()


@pytest.mark.parametrize("given", ["float16", "bfloat16", "int8", "int32", "bool"])
def test_narrow_types_are_refined_in_float32(rng, given):
    """As if the same values had been given in float32: nothing is lost in half precision."""
    x = jnp.asarray(10 * rng.normal(size=(12, 3))).astype(given)
    y = jnp.asarray(10 * rng.normal(size=12)).astype(given)
    r = refiner(linear)
    w = jnp.array([0.3, -1.0, 0.5], jnp.float32)
    found = run(r, w, r.init(x, y), max_steps=5)
    wide = run(r, w, r.init(x.astype(jnp.float32), y.astype(jnp.float32)), max_steps=5)
    assert found.x.dtype == found.y.dtype == jnp.float32
    np.testing.assert_array_equal(found.x, wide.x)
    np.testing.assert_array_equal(found.y, wide.y)


def test_float64_without_64_bit_types_is_refined_in_float32(rng):
    x, y = rng.normal(size=(6, 2)), rng.normal(size=6)
    r = refiner(linear)
    found = run(r, jnp.array([1.0, 2.0]), r.init(x, y), max_steps=3)
    assert found.x.dtype == jnp.float32
    net = oracle.Net(rng, 2)
    net.value = lambda x: np.array([[1.0, 2.0]]) @ x
    net.jacobian = lambda x: np.array([[1.0, 2.0]])
    expected, _ = oracle.refine_rows(net, x, y[:, None], UNIT, 3)
    np.testing.assert_allclose(found.x, expected, atol=1e-6)


def test_one_row_and_one_window(rng):
    w = jnp.array([1.0, 2.0])
    for layout, x, y in (
        (layouts.rows(), [[1.0, 1.0]], [4.0]),
        (layouts.windows(2), [[1.0], [1.0], [0.0]], [0.0, 0.0, 4.0]),
    ):
        r = refiner(lambda w, x: w @ x.ravel(), rules.gauss_newton(1.0), layout)
        found = run(r, w, r.init(np.array(x), np.array(y)), max_steps=3)
        assert found.status == Status.converged
        np.testing.assert_allclose(w @ found.x[:2].ravel(), found.y[-1], atol=1e-5)


def test_a_zero_gradient_gives_a_zero_step():
    """A model that is flat, and a residual of zero with no tolerance at all."""
    x, y = np.ones((3, 2), np.float32), np.array([0.0, 1.0, 5.0], np.float32)
    for rule in (
        rules.unit_step(0.1, 0.0),
        rules.gauss_newton(0.5, 0.0),
        rules.unit_step(0.1, 0.0, norm="dataset"),
    ):
        r = refiner(lambda _, x: 0 * x.sum() + 1, rule, refine_targets=False)
        found = run(r, None, r.init(x, y), max_steps=2)
        np.testing.assert_array_equal(found.x, x)
        slope = jax.grad(lambda x, r=r: run_fixed(r, x, y).sum())(jnp.asarray(x))
        assert np.isfinite(slope).all()


def run_fixed(r, x, y):
    state, _ = jax.lax.scan(lambda s, _: (r.step(None, s)[0], None), r.init(x, y), length=2)
    return state.data.x


def test_constant_columns_move_like_any_other(rng, x64):
    net = oracle.Net(rng, 3)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    x[:, 1] = 7.0
    r = refiner(tanh_net)
    found = run(r, {k: jnp.asarray(v) for k, v in net.params.items()}, r.init(x, y), max_steps=4)
    expected, _ = oracle.refine_rows(net, x, y[:, None], UNIT, 4)
    np.testing.assert_allclose(found.x, expected, atol=1e-10)


def test_instances_of_any_rank(rng):
    """Rows may be images: the layout does not look inside an instance."""
    x, y = rng.normal(size=(5, 2, 3, 4)), rng.normal(size=5)
    r = refiner(sum_of)
    found = run(r, None, r.init(x, y), max_steps=2)
    flat = run(r, None, r.init(x.reshape(5, 24), y), max_steps=2)
    np.testing.assert_allclose(found.x.reshape(5, 24), flat.x, atol=1e-6)


def test_class_labels_move_the_features_alone(rng, x64):
    """Cross-entropy: the step is the unit gradient of x, the labels stay integers."""
    w = rng.normal(size=(3, 4))
    x, labels = rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
    loss = optax.losses.softmax_cross_entropy_with_integer_labels
    r = refiner(lambda w, x: w @ x, rules.unit_step(0.05, 0.0), loss=loss, refine_targets=False)
    state, info = r.step(jnp.asarray(w), r.init(x, labels))
    for i in range(10):
        logits = w @ x[i]
        p = np.exp(logits) / np.exp(logits).sum()
        g = w.T @ (p - np.eye(3)[labels[i]])
        np.testing.assert_allclose(state.data.x[i], x[i] - 0.05 * g / np.linalg.norm(g), atol=1e-12)
        np.testing.assert_allclose(info.residual[i], -np.log(p[labels[i]]), atol=1e-12)
    np.testing.assert_array_equal(state.data.y, labels)
    with pytest.raises(errors.UnsupportedError, match="class labels do not have"):
        refiner(linear, rules.gauss_newton(), refine_targets=False).init(x, labels)


def test_integer_targets_of_a_regression_are_numbers(rng):
    x, y = rng.normal(size=(6, 2)), rng.integers(-3, 3, 6)
    w = jnp.array([1.0, -1.0])
    for refine_targets in (True, False):
        r = refiner(linear, refine_targets=refine_targets)
        found = run(r, w, r.init(x, y), max_steps=3)
        floats = run(r, w, r.init(x, y.astype(np.float32)), max_steps=3)
        moved = np.abs(np.asarray(found.y) - y).max()
        assert (moved > 0) == refine_targets
        if refine_targets:
            np.testing.assert_array_equal(found.x, floats.x)


def test_an_instance_that_is_not_finite_is_left_and_counted():
    """Also its window's neighbours: what the model cannot judge has no say in the consensus."""
    x = np.arange(12, dtype=np.float32)[:, None] / 10
    y = np.zeros(12, np.float32)

    def breaks(_, x):
        return jnp.where(x[0, 0] == 0.3, jnp.inf, x.sum())  # the window that starts at step 3

    r = refiner(breaks, rules.unit_step(0.05, 0.0), layouts.windows(3))
    found = run(r, None, r.init(x, y), max_steps=1)
    assert found.info.nonfinite == 1
    assert found.status == Status.nonfinite
    assert np.isfinite(found.x).all()
    assert found.y[6] == 0
    assert "not finite" in Status(int(found.status)).advice

    rows = refiner(lambda _, x: jnp.log(x).sum(), rules.unit_step(0.05, 0.0))
    found = run(rows, None, rows.init(np.array([[-1.0], [2.0]]), np.zeros(2)), max_steps=3)
    assert found.x[0] == -1
    assert found.x[1] < 2


def test_what_the_statuses_say():
    assert all(status.advice for status in Status)


@pytest.mark.parametrize(
    ("layout", "x", "y", "error", "says"),
    [
        (layouts.rows(), np.zeros(4), np.zeros(4), errors.ShapeError, r"not \(4,\): reshape"),
        (layouts.rows(), np.zeros((0, 3)), np.zeros(0), errors.ShapeError, "no rows"),
        (
            layouts.rows(),
            np.zeros((4, 3)),
            np.zeros(3),
            errors.ShapeError,
            r"\(4,\) or \(4, targets\)",
        ),
        (layouts.rows(), np.zeros((4, 3)), np.zeros((4, 1, 1)), errors.ShapeError, "y must have"),
        (layouts.rows(), np.zeros((4, 3)), None, errors.ShapeError, "need a target"),
        (layouts.windows(3), np.zeros((3, 2)), np.zeros(3), errors.ShapeError, "at least 4"),
        (layouts.windows(3, 5), np.zeros((7, 2)), np.zeros(7), errors.ShapeError, "at least 8"),
        (layouts.windows(3), np.zeros(9), np.zeros(9), errors.ShapeError, "reshape"),
        (layouts.windows(3), np.zeros((9, 2)), None, errors.ShapeError, "neither was given"),
        (
            layouts.windows(3, target_columns=[0]),
            np.zeros((9, 2)),
            np.zeros(9),
            errors.ShapeError,
            "both were given",
        ),
        (
            layouts.windows(3, target_columns=[2]),
            np.zeros((9, 2)),
            None,
            errors.ShapeError,
            "column 2 is not among 2",
        ),
        (
            layouts.rows(),
            np.full((4, 3), np.nan),
            np.zeros(4),
            errors.DataError,
            "cell of x is miss",
        ),
        (
            layouts.rows(),
            np.zeros((4, 3)),
            np.full(4, np.nan),
            errors.DataError,
            "cell of y is miss",
        ),
        (
            layouts.rows(),
            np.full((4, 3), np.inf),
            np.zeros(4),
            errors.DataError,
            "x has 12 infinite",
        ),
        (layouts.rows(), np.full((4, 3), 1e300), np.zeros(4), errors.DataError, "too large"),
        (
            layouts.rows(),
            np.array([["a"]]),
            np.zeros(1),
            errors.UnsupportedError,
            "array of numbers",
        ),
        (layouts.rows(), np.array([[1j]]), np.zeros(1), errors.UnsupportedError, "must be real"),
    ],
)
def test_bad_arrays(layout, x, y, error, says):
    with pytest.raises(error, match=says):
        refiner(sum_of, layout=layout).init(x, y)


@pytest.mark.parametrize(
    ("masks", "error", "says"),
    [
        ({"observed_x": np.ones((4, 3))}, errors.UnsupportedError, "boolean mask, not float"),
        ({"movable_x": np.ones((5, 3), bool)}, errors.ShapeError, "does not broadcast"),
        ({"movable_y": np.ones((4, 2), bool)}, errors.ShapeError, "movable_y of shape"),
        ({"segments": np.zeros(3, int)}, errors.ShapeError, r"integers of shape \(4,\)"),
        ({"segments": np.zeros(4)}, errors.ShapeError, "integers"),
    ],
)
def test_bad_masks(masks, error, says):
    with pytest.raises(error, match=says):
        refiner(sum_of).init(np.zeros((4, 3)), np.zeros(4), **masks)


def test_masks_broadcast():
    state = refiner(sum_of).init(
        np.zeros((4, 3)),
        np.zeros(4),
        movable_x=np.array([True, False, True]),
        movable_y=False,
        observed_x=np.array([[True], [True], [False], [True]]),
    )
    assert state.data.movable_x.tolist() == [[True, False, True]] * 4
    assert not state.data.movable_y.any()
    assert state.data.observed_x.sum() == 9


def test_a_model_that_does_not_fit_its_target():
    r = refiner(lambda _, x: x)
    with pytest.raises(errors.ModelError, match=r"predicts 3 value\(s\)"):
        r.step(None, r.init(np.zeros((4, 3)), np.zeros(4)))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_single_prediction_may_have_any_shape(shape):
    r = refiner(lambda _, x: x.sum().reshape(shape))
    state, _ = r.step(None, r.init(np.ones((4, 3)), np.zeros((4, 1))))
    assert state.data.y.shape == (4, 1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: layouts.windows(0), "length must be at least 1"),
        (lambda: layouts.windows(3, 0), "horizon"),
        (lambda: layouts.windows(3, 1, 0), "stride"),
        (lambda: layouts.windows(3, consensus="mean"), "consensus"),
        (lambda: rules.unit_step(norm="rows"), "norm"),
        (lambda: refiner(sum_of, chunk_size=0), "chunk_size"),
    ],
)
def test_bad_settings(call, says):
    with pytest.raises(ValueError, match=says):
        call()
