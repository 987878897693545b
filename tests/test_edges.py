"""Unusual input to the core: the right result, or an error that says what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from denograd_jax import History, Model, Status, errors, layouts, refiner, rules, run
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


@pytest.mark.slow
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
    r = refiner(lambda w, x: w @ x, rules.gauss_newton(), loss=loss, refine_targets=False)
    state = r.init(x, labels)
    with pytest.raises(errors.UnsupportedError, match="class labels do not have"):
        r.step(jnp.asarray(w), state)


@pytest.mark.parametrize("refine_targets", [True, False])
def test_integer_targets_of_a_regression_are_numbers(rng, refine_targets):
    """Also where they are held fixed, dL/dy counts in the norm."""
    x, y = rng.normal(size=(6, 2)), rng.integers(-3, 3, 6)
    w = jnp.array([1.0, -1.0])
    r = refiner(linear, refine_targets=refine_targets)
    found = run(r, w, r.init(x, y), max_steps=3)
    floats = run(r, w, r.init(x, y.astype(np.float32)), max_steps=3)
    np.testing.assert_array_equal(found.x, floats.x)
    np.testing.assert_array_equal(found.y, floats.y)
    assert (np.abs(np.asarray(found.y) - y).max() > 0) == refine_targets


def test_parameters_wider_than_the_data(rng, x64):
    """float64 weights and float32 data: refined in the data's precision."""
    with jax.numpy_dtype_promotion("standard"):
        r = refiner(linear, layout=layouts.rows())
        x, y = np.float32(rng.normal(size=(6, 2))), np.float32(rng.normal(size=6))
        found = run(r, jnp.array([1.0, -1.0], jnp.float64), r.init(x, y), max_steps=3)
    assert found.x.dtype == jnp.float32
    assert found.steps == 3


def test_a_move_that_is_not_finite_is_not_made(rng):
    """A rule that divides by zero for one window spoils neither it nor its neighbours."""

    def explode(numbers, g):
        blow_up = jnp.where(g.residual[0] > 2, jnp.inf, 0.1)
        return rules.Move(blow_up * g.x, 0 * g.y, jnp.ones_like(g.residual[0]))

    x, y = np.zeros((9, 1), np.float32), np.zeros(9, np.float32)
    y[5] = -3
    r = refiner(lambda _, x: x.sum() + 1, rules.Rule({}, explode), layouts.windows(2))
    state, info = r.step(None, r.init(x, y))
    assert info.nonfinite == 1
    assert np.isfinite(state.data.x).all()


def test_a_loss_that_divides_by_the_target():
    """A missing target is not put through the loss as zero."""
    r = refiner(lambda _, x: x, rules.unit_step(0.1, 0.0), loss=lambda p, t: ((p - t) / t) ** 2)
    x, y = np.ones((1, 2), np.float32), np.array([[2.0, np.nan]], np.float32)
    state, info = r.step(None, r.init(x, y))
    assert info.nonfinite == 0
    assert state.data.x[0, 0] > 1
    assert state.data.x[0, 1] == 1


def test_integers_beyond_32_bits_are_rounded_and_not_wrapped():
    """Milliseconds since 1970, say; JAX's integers have 32 bits unless told otherwise."""
    x = np.array([[2**40, 1], [2**40 + 5, 7]])
    state = refiner(linear).init(x, np.zeros(2))
    np.testing.assert_array_equal(state.data.x, x.astype(np.float32))


def test_a_joint_loss_needs_all_targets():
    r = refiner(lambda _, x: x, rules.unit_step(0.1, 0.0), loss=lambda p, t: jnp.sum((p - t) ** 2))
    x, y = np.ones((2, 2), np.float32), np.array([[2.0, np.nan], [2.0, 3.0]], np.float32)
    found = run(r, None, r.init(x, y), max_steps=2)
    np.testing.assert_array_equal(found.x[0], x[0])
    assert (found.x[1] > 1).all()


def test_a_label_of_a_segment_that_comes_back_is_another_segment():
    r = refiner(sum_of, rules.unit_step(0.1, 0.0), layouts.windows(2))
    x, y = np.ones((8, 1), np.float32), np.zeros(8, np.float32)
    _, info = r.step(None, r.init(x, y, segments=np.array([0, 0, 0, 1, 0, 0, 0, 0])))
    assert info.valid.tolist() == [True, False, False, False, True, True]
    with pytest.raises(errors.ShapeError, match="no instance to refine"):
        r.init(x, y, segments=np.arange(8) // 2)
    with pytest.raises(errors.ShapeError, match="integers"):
        r.init(x, y, segments=["a"] * 8)


def test_targets_that_drift_apart_from_their_column(rng, x64):
    """`shared=False` is the published behaviour: y is a copy of the column."""
    net = oracle.Net(rng, 4 * 2)
    x = rng.normal(size=(20, 2))
    params = {k: jnp.asarray(v) for k, v in net.params.items()}
    layout = layouts.windows(4, target_columns=[1], shared=False)
    r = refiner(tanh_net, layout=layout)
    found = run(r, params, r.init(x), max_steps=4)
    expected = oracle.refine_series(net, x, x[:, [1]], UNIT, 4, 4, 1, 1, "visits")
    np.testing.assert_allclose(found.x, expected[0], atol=1e-10)
    np.testing.assert_allclose(found.y, expected[1], atol=1e-10)


def test_a_missing_target_is_not_invented():
    x, y = np.ones((3, 2), np.float32), np.array([1.0, np.nan, 2.0], np.float32)
    r = refiner(sum_of)
    found = run(r, None, r.init(x, y, movable_y=True), max_steps=2)
    assert np.isnan(found.y[1])


def test_a_state_of_another_rule_is_refused():
    state = refiner(sum_of).init(np.ones((3, 2)), np.ones(3))
    with pytest.raises(errors.UnsupportedError, match="begin with this refiner's own init"):
        refiner(sum_of, rules.gauss_newton()).step(None, state)


def test_donated_state_leaves_the_callers_numbers_alone():
    step_size = jnp.float32(0.05)
    r = refiner(sum_of, rules.unit_step(step_size))
    jax.jit(r.step, donate_argnums=1)(None, r.init(np.ones((3, 2)), np.ones(3)))
    assert not step_size.is_deleted()


def test_refiners_that_are_gone_free_what_they_held():
    """A sweep over many models does not fill the memory: the caches are small."""
    alive = len(jax.live_arrays())
    for i in range(70):
        weights = jnp.full(2, float(i))
        r = refiner(lambda _, x, weights=weights: weights @ x)
        r.init(np.ones((3, 2)), np.ones(3))
    assert len(jax.live_arrays()) - alive < 40 + 40


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


@pytest.mark.parametrize("prediction", [1, (jnp.ones(1),), jnp.ones(1, int), None])
def test_a_model_that_returns_no_floating_point_array(prediction):
    r = refiner(lambda _, x: prediction)
    with pytest.raises(errors.ModelError, match="one floating-point array"):
        r.step(None, r.init(np.zeros((4, 3)), np.zeros(4)))


def test_what_is_no_function_is_refused():
    class Unhashable:
        __hash__ = None

        def __call__(self, params, x):
            return x.sum()

    with pytest.raises(errors.UnsupportedError, match="must be a pure function"):
        refiner(Unhashable())
    r = refiner(sum_of)
    state = r.init(np.ones((3, 2)), np.ones(3))
    with pytest.raises(errors.UnsupportedError, match=r"model\.params"):
        run(r, Model(sum_of, None), state)
    with pytest.raises(errors.UnsupportedError, match="outside jit and vmap"):
        jax.jit(lambda s: run(r, None, s, history=History()))(state)


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
        (lambda: rules.unit_step(-0.1), "step_size must be a finite number"),
        (lambda: rules.gauss_newton(tolerance=float("nan")), "tolerance"),
        (lambda: rules.unit_step(jnp.ones(3)), "one number"),
    ],
)
def test_bad_settings(call, says):
    with pytest.raises(ValueError, match=says):
        call()
