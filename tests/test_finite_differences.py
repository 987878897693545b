"""Estimators without gradients, differentiated by differences on the host."""

import gc
import pickle
import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from denograd_jax import as_model, layouts, refine, refiner, rules, run
from denograd_jax.errors import ModelError, ShapeError, UnsupportedError
from denograd_jax.models import _finite_differences as module
from denograd_jax.models import finite_differences

pytestmark = pytest.mark.slow  # minutes in all; CI runs it


@pytest.fixture
def data(rng):
    x = rng.standard_normal((60, 3))
    return x, np.tanh(x) @ [1.0, -2.0, 0.5] + 0.1 * rng.standard_normal(60)


def refined(model, x, y, *, refine_targets=True, rule=None):
    rule = rules.unit_step(0.05, 0.05) if rule is None else rule
    r = refiner(model, rule, refine_targets=refine_targets)
    x, y = x.astype(np.float32), y.astype(np.float32)
    return run(r, model.params, r.init(x, y), max_steps=5)


def mlp(x, y):
    with warnings.catch_warnings(action="ignore"):  # it has not converged, nor need it
        estimator = MLPRegressor(
            hidden_layer_sizes=(8,), activation="tanh", max_iter=200, random_state=0
        )
        return estimator.fit(x, y)


def linear_in_jax(estimator, x):
    return x @ jnp.asarray(estimator.coef_.T, x.dtype) + float(estimator.intercept_)


def mlp_in_jax(estimator, x):
    (w1, w2), (b1, b2) = estimator.coefs_, estimator.intercepts_
    w1, w2, b1, b2 = (jnp.asarray(a, x.dtype) for a in (w1, w2, b1, b2))
    return jnp.tanh(x @ w1 + b1) @ w2 + b2


@pytest.mark.parametrize(
    ("fit", "in_jax"),
    [(lambda x, y: LinearRegression().fit(x, y), linear_in_jax), (mlp, mlp_in_jax)],
    ids=["linear", "mlp"],
)
def test_the_refinement_is_that_of_exact_gradients(fit, in_jax, data):
    """The differences are in float64, so what remains is the rounding of float32."""
    x, y = data
    estimator = fit(x, y)
    want = refined(as_model(lambda x: in_jax(estimator, x)), x, y)
    got = refined(as_model(estimator), x, y)
    assert np.abs(got.x - x).max() > 0.05
    np.testing.assert_allclose(got.x, want.x, rtol=0, atol=1e-5)
    np.testing.assert_allclose(got.y, want.y, rtol=0, atol=1e-5)


def test_slopes_are_exact_to_the_cube_root_of_the_spacing_squared(data, x64):
    x, y = data
    estimator = mlp(x, y)
    model = as_model(estimator)
    got = jax.grad(lambda x: model.predict_batch((), x).sum())(jnp.asarray(x))
    want = jax.vmap(jax.grad(lambda x: mlp_in_jax(estimator, x)[0]))(jnp.asarray(x))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, atol=1e-9)


def test_several_targets(rng):
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((30, 2))
    estimator = LinearRegression().fit(x, y)
    model = as_model(estimator)
    found = model.predict_batch((), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, estimator.predict(x), atol=1e-5)
    jacobian = jax.jacrev(lambda x: model.predict((), x))(jnp.ones(3))
    np.testing.assert_allclose(jacobian, estimator.coef_, atol=1e-5)


def counting(calls):
    def predict(rows):
        calls.append(rows)
        return np.sin(rows).sum(axis=1)

    return predict


def test_a_batch_is_one_call_under_jit_and_vmap():
    calls = []
    model = finite_differences(counting(calls), step=1e-4)
    x = jnp.linspace(-1, 1, 15).reshape(5, 3)
    for gradient in (
        jax.grad(lambda x: model.predict_batch((), x).sum()),
        jax.vmap(jax.grad(lambda x: model.predict((), x))),
    ):
        compiled = jax.jit(gradient).lower(x).compile()
        calls.clear()
        np.testing.assert_allclose(compiled(x), jnp.cos(x), atol=1e-6)
        assert [rows.shape for rows in calls if len(rows) > 5] == [(5 * 2 * 3, 3)]
        assert len(calls) <= 2  # the value, if it is computed at all, and the slopes
        assert calls[-1].dtype == np.float64


def test_a_large_batch_goes_in_pieces(monkeypatch, rng):
    calls = []
    model = finite_differences(counting(calls), step=1e-4)
    x = jnp.asarray(rng.standard_normal((50, 3)), jnp.float32)
    gradient = jax.grad(lambda x: model.predict_batch((), x).sum())
    want = gradient(x)
    monkeypatch.setattr(module, "_NUMBERS", 100)
    calls.clear()
    assert np.array_equal(gradient(x), want)
    assert max(rows.size for rows in calls) <= 100
    assert len(calls) > 10


def test_a_batch_of_many_thousands_does_not_wait_for_itself():
    """A callback that waits for its arguments on the thread that should bring them would hang."""
    model = finite_differences(lambda rows: np.tanh(rows).sum(axis=1))
    x = jnp.full((100_000, 12), 0.5)
    gradient = jax.jit(jax.grad(lambda x: model.predict_batch((), x * 2.0).sum()))(x)
    np.testing.assert_allclose(gradient, 2 / np.cosh(1.0) ** 2, rtol=1e-5)


def test_columns_of_any_scale(x64):
    """Unless told, a step is a part of the value; a small column around 0 needs its scale."""
    scale = np.array([1e-9, 1.0, 1e9])

    def sines(rows):
        return np.sin(rows / scale).sum(axis=1)

    position = np.array([0.0, 1.0, 2.0])  # in units of the scale

    def slopes(model):
        gradient = jax.grad(lambda x: model.predict((), x))(jnp.asarray(position * scale))
        return np.asarray(gradient) * scale

    np.testing.assert_allclose(
        slopes(finite_differences(sines, scale=scale)), np.cos(position), rtol=1e-8
    )
    untold = slopes(finite_differences(sines))
    np.testing.assert_allclose(untold[1:], np.cos(position[1:]), rtol=1e-8)
    assert abs(untold[0]) < 0.1  # 1 is right: as documented, such a column needs its scale


def test_the_default_step_suits_the_precision_of_the_predictions():
    x = jnp.linspace(-1, 1, 20)[:, None]
    for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 1e-6)):

        def predict(rows, dtype=dtype):
            return np.sin(rows[:, 0].astype(dtype))

        model = finite_differences(predict)
        got = jax.grad(lambda x, m=model: m.predict_batch((), x).sum())(x)
        np.testing.assert_allclose(got, np.cos(x), atol=tolerance)


def test_trees_move_the_target_alone(data):
    """As documented: their slope is 0 almost everywhere."""
    x, y = data
    estimator = DecisionTreeRegressor(max_depth=3).fit(x, y)
    model = as_model(estimator)
    gradient = jax.grad(lambda x: model.predict_batch((), x).sum())(jnp.asarray(x, jnp.float32))
    assert not gradient.any()
    solution = refined(model, x, y)
    assert np.array_equal(solution.x, x.astype(np.float32))
    assert np.abs(solution.y - y).max() > 0.04
    fixed = refined(model, x, y, refine_targets=False)
    assert np.array_equal(fixed.x, x.astype(np.float32))
    assert np.array_equal(fixed.y, y.astype(np.float32))
    wide = refined(finite_differences(estimator, step=0.5, scale=x.std(axis=0)), x, y)
    assert np.abs(wide.x - x).max() > 0.02


def test_a_wide_step_gives_a_forest_the_slope_of_what_it_learnt(rng):
    x = rng.uniform(-2, 2, (400, 2))
    estimator = RandomForestRegressor(20, random_state=0).fit(x, x @ [1.0, -1.0])
    model = finite_differences(estimator, step=0.5)
    inside = jnp.asarray(rng.uniform(-1, 1, (50, 2)), jnp.float32)
    slopes = jax.grad(lambda x: model.predict_batch((), x).sum())(inside)
    np.testing.assert_allclose(slopes.mean(axis=0), [1.0, -1.0], atol=0.1)


def test_classifiers_predict_log_probabilities(data):
    x, y = data
    labels = (y > 0).astype(np.int32)
    estimator = LogisticRegression().fit(x, labels)
    model = as_model(estimator)
    logits = model.predict_batch((), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(logits, estimator.predict_log_proba(x), atol=1e-5)
    r = refiner(
        model,
        loss=optax.losses.softmax_cross_entropy_with_integer_labels,
        refine_targets=False,
    )
    solution = run(r, (), r.init(x.astype(np.float32), labels), max_steps=5)
    assert estimator.score(solution.x, labels) > estimator.score(x, labels)


def test_impossible_classes_stay_finite():
    class Certain:
        n_features_in_ = 2

        def predict(self, rows):
            return np.zeros(len(rows), int)

        def predict_proba(self, rows):
            return np.tile([1.0, 0.0], (len(rows), 1))

    found = as_model(Certain()).predict((), jnp.ones(2))
    assert found[0] == 0
    assert np.isfinite(found).all()
    assert found[1] < -80


def test_an_estimator_of_a_data_frame_gets_its_names(data):
    """Without them scikit-learn warns at each call, and warnings are errors here."""
    x, y = data
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    named = make_pipeline(StandardScaler(), LinearRegression()).fit(frame, y)
    plain = make_pipeline(StandardScaler(), LinearRegression()).fit(x, y)
    want, got = (refined(as_model(m), x, y) for m in (plain, named))
    assert np.array_equal(got.x, want.x)


def test_windows_reach_it_as_rows(rng):
    series = rng.standard_normal((50, 2)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series[:-1], 4, axis=0)
    flat = windows.transpose(0, 2, 1).reshape(46, 8)  # step by step
    target = rng.standard_normal(50).astype(np.float32)
    estimator = LinearRegression().fit(flat, target[4:])
    coefficients = jnp.asarray(estimator.coef_, jnp.float32)

    def in_jax(window):
        return window.ravel() @ coefficients + float(estimator.intercept_)

    found = []
    for model in (as_model(estimator), as_model(in_jax)):
        r = refiner(model, layout=layouts.windows(4))
        found.append(run(r, model.params, r.init(series, target), max_steps=4).x)
    assert np.abs(found[1] - series).max() > 0.02
    np.testing.assert_allclose(*found, atol=1e-5)


def test_a_table_is_refined(data):
    x, y = data
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    estimator = LinearRegression().fit(frame, y)
    result = refine(frame.assign(y=y), "y", model=estimator, rule="unit_step")
    before = y - estimator.predict(frame)
    after = result.data["y"] - estimator.predict(result.data[["a", "b", "c"]])
    assert np.square(after).mean() < 0.7 * np.square(before).mean()


def test_rows_that_are_not_finite_are_not_shown(data):
    x, y = data
    model = as_model(LinearRegression().fit(x, y))  # which refuses what is not finite
    rows = x[:4].astype(np.float32)
    rows[1, 0], rows[2, 2] = np.nan, np.inf
    rows = jnp.asarray(rows)
    for found in (
        model.predict_batch((), rows),
        jax.grad(lambda x: model.predict_batch((), x).sum())(rows).sum(axis=1),
    ):
        assert np.isfinite(found).tolist() == [True, False, False, True]


def test_integers_are_numbers():
    model = finite_differences(lambda rows: rows.sum(axis=1) / 2)
    assert model.predict((), jnp.array([1, 2])) == 1.5
    assert model.predict_batch((), np.array([[1, 2]])).tolist() == [1.5]


def test_the_estimator_is_left_alone(data):
    x, y = data
    estimator = mlp(x, y)
    before = pickle.dumps(estimator)
    refined(as_model(estimator), x, y)
    assert pickle.dumps(estimator) == before


def test_functions_are_shared_with_the_estimator_itself_and_let_go(data):
    estimator = LinearRegression().fit(*data)
    first, second = as_model(estimator), as_model(estimator)
    assert first.predict is second.predict
    assert first.predict_batch is second.predict_batch
    assert finite_differences(estimator, step=0.1).predict is not first.predict
    assert as_model(LinearRegression().fit(*data)).predict is not first.predict
    gone = weakref.ref(estimator)
    del estimator, first, second
    gc.collect()
    assert gone() is None


REFUSED = {
    "not fitted": (lambda x, y: as_model(LinearRegression()), "not fitted"),
    "classifier of labels": (
        lambda x, y: as_model(RidgeClassifier().fit(x, y > 0)),
        "decision_function",
    ),
    "no estimator": (lambda x, y: finite_differences(3), "expected a fitted estimator"),
    "class": (lambda x, y: as_model(LinearRegression), "cannot use"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(make, message, data):
    with pytest.raises(UnsupportedError, match=message):
        make(*data)


@pytest.mark.parametrize("option", [{"step": 0.0}, {"step": np.nan}, {"scale": [1.0, -1.0]}])
def test_steps_must_be_positive(option):
    with pytest.raises(ShapeError, match="must be positive"):
        finite_differences(np.sum, **option)


def test_a_scale_has_one_axis():
    with pytest.raises(ShapeError, match="shape"):
        finite_differences(np.sum, scale=np.ones((2, 2)))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x, y: as_model(LinearRegression().fit(x[:, :2], y)), ModelError, "on 2 inputs"),
        (lambda x, y: finite_differences(np.sum, scale=[1.0, 2.0]), ShapeError, "has 2 numbers"),
        (lambda x, y: finite_differences(LinearRegression()), ModelError, "not fitted"),
        (lambda x, y: finite_differences(lambda r: 1 / 0), ModelError, "fails on a row of 3 zeros"),
        (lambda x, y: as_model(KMeans(2, n_init=1).fit(x)), UnsupportedError, "int32"),
        (lambda x, y: finite_differences(np.sum), UnsupportedError, r"shape \(\)"),
        (lambda x, y: finite_differences(list), UnsupportedError, "expected a fitted"),
    ],
)
def test_refusals_when_first_called(make, error, message, data):
    with pytest.raises(error, match=message):
        make(*data).predict((), jnp.ones(3))
