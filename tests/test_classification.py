"""Class targets in the core: gate and gradient of cross-entropy, soft labels on the simplex."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax import input_gradients, layouts, refiner, rules, run
from denograd_jax._losses import as_loss
from denograd_jax._types import Model
from denograd_jax.classification import simplex_targets
from denograd_jax.errors import DataError, ModelError, ShapeError, UnsupportedError
from tests.precision import float64_first

ROWS, FEATURES, CLASSES = 12, 4, 3


def logits(params, x):
    return params["w"] @ x + params["b"]


def logit(params, x):
    return params["w"][0] @ x + params["b"][0]


@pytest.fixture
def problem(rng, dtype):
    params = {"w": rng.normal(size=(CLASSES, FEATURES)), "b": rng.normal(size=CLASSES)}
    x = rng.normal(size=(ROWS, FEATURES))
    labels = rng.integers(0, CLASSES, ROWS)
    return jax.tree.map(lambda a: a.astype(dtype), params), x.astype(dtype), labels


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def simplex(v):
    """The projection by sorting, as Duchi et al. 2008 write it."""
    u = np.sort(v)[::-1]
    sums = np.cumsum(u) - 1
    last = np.flatnonzero(u - sums / (np.arange(len(v)) + 1) > 0)[-1]
    return np.maximum(v - sums[last] / (last + 1), 0)


def softmax_regression(params, x, labels, step, tolerance, epochs):
    """The published rule by the closed-form gradient W'(p - e_label), in float64."""
    w, b = (np.asarray(params[name], np.float64) for name in "wb")
    x = x.astype(np.float64)
    for _ in range(epochs):
        moved = x.copy()
        for i, label in enumerate(labels):
            p = softmax(w @ x[i] + b)
            gradient = w.T @ (p - np.eye(CLASSES)[label])
            if 1 - p[label] > tolerance:
                moved[i] -= step * gradient / np.linalg.norm(gradient)
        x = moved
    return x


def brier_regression(params, x, y, step, tolerance, epochs):
    """Input and soft label together: gradients W'(diag(p) - pp')(p - y) and y - p, one norm."""
    w, b = (np.asarray(params[name], np.float64) for name in "wb")
    x, y = x.astype(np.float64), y.astype(np.float64)
    for _ in range(epochs):
        for i in range(len(x)):
            p = softmax(w @ x[i] + b)
            by_x = w.T @ ((np.diag(p) - np.outer(p, p)) @ (p - y[i]))
            by_y = y[i] - p
            if np.abs(p - y[i]).max() > tolerance:
                norm = np.sqrt(by_x @ by_x + by_y @ by_y)
                x[i] -= step * by_x / norm
                y[i] = simplex(y[i] - step * by_y / norm)
    return x, y


@pytest.mark.parametrize("form", ["integers", "one-hot", "a batched model"])
def test_the_published_rule_on_softmax_regression(problem, dtype, form):
    params, x, labels = problem
    model = logits
    if form == "a batched model":
        model = Model(logits, params, jax.vmap(logits, (None, 0)))
    r = refiner(model, rules.unit_step(0.1, 0.2), loss="cross_entropy")
    y = np.eye(CLASSES, dtype=dtype)[labels] if form == "one-hot" else labels
    found = run(r, params, r.init(x, y), max_steps=30)
    expected = softmax_regression(params, x, labels, 0.1, 0.2, 30)
    np.testing.assert_allclose(found.x, expected, atol=1e-12 if dtype == "float64" else 2e-5)
    np.testing.assert_array_equal(found.y, y)
    assert found.x.dtype == dtype


def test_the_residual_is_a_probability(problem):
    params, x, labels = problem
    r = refiner(logits, rules.unit_step(0.1, 0.5), loss="cross_entropy")
    state = r.init(x, labels)
    for _ in range(3):
        before = state.data.x
        state, info = r.step(params, state)
        p = np.array([softmax(params["w"] @ np.asarray(row) + params["b"]) for row in before])
        missing = 1 - p[np.arange(ROWS), labels]
        np.testing.assert_allclose(info.residual[:, 0], missing, atol=1e-5)
        np.testing.assert_array_equal(info.gate, missing > 0.5)
    assert info.active > 0


def test_binary_labels_with_one_logit(problem, dtype):
    params, x, labels = problem
    y = (labels > 0).astype(int)
    r = refiner(logit, rules.unit_step(0.1, 0.2), loss="binary_cross_entropy")
    state, info = r.step(params, r.init(x, y))
    p = 1 / (1 + np.exp(-(x @ params["w"][0] + params["b"][0])))
    np.testing.assert_allclose(info.residual[:, 0], p - y, atol=1e-6)
    direction = params["w"][0] / np.linalg.norm(params["w"][0])
    steps = 0.1 * np.sign(y - p) * (np.abs(p - y) > 0.2)
    np.testing.assert_allclose(state.data.x, x + steps[:, None] * direction, atol=1e-6)
    np.testing.assert_array_equal(state.data.y, y)


def test_soft_labels_move_on_the_simplex(problem, dtype):
    params, x, labels = problem
    y = np.eye(CLASSES, dtype=dtype)[labels]
    r = simplex_targets(refiner(logits, rules.unit_step(0.1, 0.05), loss="brier"))
    found = run(r, params, r.init(x, y), max_steps=10)
    expected_x, expected_y = brier_regression(params, x, y, 0.1, 0.05, 10)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(found.x, expected_x, atol=tolerance)
    np.testing.assert_allclose(found.y, expected_y, atol=tolerance)
    np.testing.assert_allclose(found.y.sum(axis=1), 1, rtol=1e-6)
    assert (found.y >= 0).all()
    assert np.abs(np.asarray(found.y) - y).max() > 0.1


def test_soft_labels_that_may_not_move_keep_every_bit(problem, dtype):
    params, x, _ = problem
    y = np.full((ROWS, CLASSES), 1 / 3, dtype)  # sums to 1 but for rounding
    movable = np.arange(ROWS)[:, None] % 2 == 0
    r = simplex_targets(refiner(logits, rules.unit_step(0.1, 0.05), loss="brier"))
    found = run(r, params, r.init(x, y, movable_y=movable), max_steps=5)
    np.testing.assert_array_equal(found.y[1::2], y[1::2])
    assert (np.asarray(found.y[::2]) != y[::2]).any(axis=1).all()


def test_a_missing_label_moves_nothing(problem, dtype):
    params, x, labels = problem
    r = refiner(logits, loss="cross_entropy")
    state, _ = r.step(params, r.init(x, labels, observed_y=np.arange(ROWS) > 0))
    np.testing.assert_array_equal(state.data.x[0], x[0])
    assert (np.asarray(state.data.x[1:]) != x[1:]).any(axis=1).all()
    soft = np.eye(CLASSES, dtype=dtype)[labels]
    soft[0, 1] = np.nan
    r = simplex_targets(refiner(logits, loss="brier"))
    found = run(r, params, r.init(x, soft), max_steps=3)
    np.testing.assert_array_equal(found.x[0], x[0])
    np.testing.assert_array_equal(np.isnan(found.y), np.isnan(soft))


@pytest.mark.parametrize("y", [[0, CLASSES], [0, -1], [[1, 0, 0], [0.5, 0, 0]]])
def test_what_is_no_class_stays_and_is_counted(problem, dtype, y):
    params, x, _ = problem
    r = refiner(logits, loss="cross_entropy")
    y = np.array(y) if np.ndim(y) == 1 else np.array(y, dtype)
    state, info = r.step(params, r.init(x[:2], y))
    assert info.nonfinite == 1
    np.testing.assert_array_equal(state.data.x[1], x[1])
    assert np.isfinite(state.data.x).all()


@float64_first
def test_vmap_jit_and_grad(problem):
    """A sweep of step sizes, and the derivative by one of them against differences."""
    params, x, labels = problem

    def mean_loss(step):
        r = refiner(logits, rules.unit_step(step, 0.0), loss="cross_entropy")
        state = r.init(x, labels)
        for _ in range(2):
            state, _ = r.step(params, state)
        predictions = jax.vmap(logits, (None, 0))(params, state.data.x)
        return jax.vmap(as_loss("cross_entropy"))(predictions, labels).mean()

    steps = jnp.array([0.05, 0.1, 0.2], x.dtype)
    swept = jax.jit(jax.vmap(mean_loss))(steps)
    np.testing.assert_allclose(swept, [mean_loss(step) for step in steps], rtol=1e-5)
    assert (np.diff(swept) < 0).all()
    h = 1e-2 if x.dtype == np.float32 else 1e-4
    difference = (mean_loss(steps[1] + h) - mean_loss(steps[1] - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(mean_loss)(steps[1]), difference, rtol=2e-2)


def test_a_step_of_tweedie_is_the_score_of_the_label(problem):
    params, x, labels = problem
    r = refiner(logits, rules.tweedie(0.3), loss="cross_entropy")
    state, _ = r.step(params, r.init(x, labels))
    p = np.array([softmax(params["w"] @ row + params["b"]) for row in x])
    score = (np.eye(CLASSES)[labels] - p) @ params["w"]
    np.testing.assert_allclose(state.data.x, x + 0.09 * score, atol=1e-5)


def test_windows_of_a_series_with_a_label_a_step(rng):
    """Each window of two steps has the label of the step behind it."""
    w = rng.normal(size=(CLASSES, 2 * FEATURES)).astype(np.float32)
    series = rng.normal(size=(6, FEATURES)).astype(np.float32)
    labels = rng.integers(0, CLASSES, 6)
    r = refiner(
        lambda w, x: w @ x.ravel(),
        rules.unit_step(0.1, 0.0),
        layouts.windows(2),
        loss="cross_entropy",
    )
    state, _ = r.step(w, r.init(series, labels))
    sums, counts = np.zeros((6, FEATURES)), np.zeros((6, 1))
    for start in range(4):
        window = series[start : start + 2].ravel()
        gradient = w.T @ (softmax(w @ window) - np.eye(CLASSES)[labels[start + 2]])
        sums[start : start + 2] += (gradient / np.linalg.norm(gradient)).reshape(2, -1)
        counts[start : start + 2] += 1
    np.testing.assert_allclose(state.data.x, series - 0.1 * sums / np.maximum(counts, 1), atol=1e-5)


def test_labels_have_no_gradient():
    gradients = input_gradients(lambda w, x: w @ x, as_loss("cross_entropy"))
    w = jnp.eye(2)
    found = gradients(w, jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(found.y, 0)
    p = softmax(np.array([1.0, 0.0]))
    np.testing.assert_allclose(found.x, p - [0, 1], rtol=1e-6)
    np.testing.assert_allclose(found.residual, p - [0, 1], rtol=1e-6)


@pytest.mark.parametrize("rule", [rules.gauss_newton(), rules.orthogonal_distance()])
@pytest.mark.parametrize("one_hot", [False, True])
def test_rules_that_need_a_gradient_by_the_target_refuse_labels(rule, one_hot):
    r = refiner(lambda w, x: w @ x, rule, loss="cross_entropy")
    y = np.eye(2, dtype=np.float32) if one_hot else np.arange(2)
    with pytest.raises(UnsupportedError, match="which class labels do not have"):
        r.step(jnp.eye(2), r.init(np.ones((2, 2), np.float32), y))


def test_wrong_models_and_losses_are_refused():
    x, y = np.ones((2, 2), np.float32), np.array([0, 1])
    for loss, model, names in (
        ("cross_entropy", lambda w, x: x.sum(), "a logit for each of two or more classes"),
        ("binary_cross_entropy", lambda w, x: x, "one logit for each label"),
    ):
        r = refiner(model, loss=loss)
        with pytest.raises(ModelError, match=names):
            r.step(None, r.init(x, y))
    r = refiner(lambda w, x: x, loss="cross_entropy")
    with pytest.raises(ModelError, match="pass integer y"):
        r.step(None, r.init(x, y.astype(np.float32)))
    with pytest.raises(UnsupportedError, match="one of the names squared_error"):
        refiner(lambda w, x: x, loss="crossentropy")


@pytest.mark.parametrize(
    ("y", "error", "names"),
    [
        (np.zeros(2, np.float32), ShapeError, r"shape \(rows, classes\)"),
        (np.array([[0.5, 0.5], [0.9, 0.3]], np.float32), DataError, "1 row.*row 1"),
        (np.array([[1.5, -0.5], [0.5, 0.5]], np.float32), DataError, "row 0"),
    ],
)
def test_what_is_no_distribution_is_refused(y, error, names):
    r = simplex_targets(refiner(lambda w, x: x, loss="brier"))
    with pytest.raises(error, match=names):
        r.init(np.ones((2, 2), np.float32), y)
