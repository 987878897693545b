"""Estimators with scikit-learn's interface: its own checks, and what ours promise."""

import copy
import dataclasses
import pickle
import subprocess
import sys
import warnings

import jax
import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from flax import nnx
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import denograd_jax
from denograd_jax import Status, refine
from denograd_jax.errors import ColumnError, DataError, UnsupportedError
from denograd_jax.sklearn import DataRefiner, RefineThenFit, _refine_then_fit

TINY = {"max_epochs": 1, "max_steps": 1}
ESTIMATORS = {
    "rows": DataRefiner(**TINY),
    "target": DataRefiner(0, **TINY),
    "window": DataRefiner(window=2, **TINY),
    "regressor": RefineThenFit(LinearRegression(), **TINY),
}
FAILING = {  # what cannot pass, and why
    "rows": {},
    "target": {},
    "window": {
        "check_methods_sample_order_invariance": "the rows of a series have an order in time",
        "check_methods_subset_invariance": "the rows of a series explain each other",
    },
    "regressor": {},
}
SKIPPED = {  # what scikit-learn skips by itself, and why
    "check_array_api_input": "needs SCIPY_ARRAY_API=1 before SciPy is imported",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ESTIMATORS)
def test_scikit_learns_checks(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the regressor: too few rows for R^2, and the like
        results = check_estimator(
            ESTIMATORS[case], expected_failed_checks=FAILING[case], on_skip=None, on_fail=None
        )
    found = {status: {} for status in ("passed", "failed", "xfail", "skipped")}
    for result in results:
        found[result["status"]][result["check_name"]] = result["exception"]
    assert not found["failed"]
    assert set(found["xfail"]) == set(FAILING[case])
    assert set(found["skipped"]) <= set(SKIPPED)


def noisy(rows=40, seed=0):
    """Three columns of unlike units that explain each other."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 2)) @ np.array([[1, 0.5, 1], [0, 1, -1]])
    z += 0.3 * rng.normal(size=z.shape)
    return z * [3, 0.1, 40] + [10, 0, -500]


def frame(rows=40, seed=0):
    table = pd.DataFrame(noisy(rows, seed), columns=["a", "b", "c"])
    kind = np.where(np.arange(rows) % 3, "brick", "wood")
    table.insert(1, "kind", kind)
    return table.set_index(pd.Index(np.arange(rows) + 100, name="house"))


def regression(rows=40, seed=0):
    X = noisy(rows, seed)
    return X, X @ [1, 20, 0.05] + np.random.default_rng(seed + 1).normal(size=rows)


FAST = {"max_epochs": 2, "max_steps": 3}


@pytest.mark.parametrize(
    "options",
    [
        {"target": "c"},
        {"window": 4},
        pytest.param({"target": "c", "window": 4}, marks=pytest.mark.slow),
    ],
)
def test_fit_transform_is_refine(options):
    table = frame()
    refined = DataRefiner(**options, **FAST, random_state=3).fit_transform(table)
    pd.testing.assert_frame_equal(refined, refine(table, **options, **FAST, seed=3).data)
    assert not refined.equals(table)


def test_an_array_names_columns_by_position():
    table = noisy()
    refined = DataRefiner(2, frozen=[0], **FAST).fit_transform(table)
    np.testing.assert_array_equal(refined, refine(table, 2, frozen=[0], **FAST).data)
    np.testing.assert_array_equal(refined[:, 0], table[:, 0])


def test_without_target_each_column_is_refined_as_if_it_were_the_target():
    table = frame()
    refiner = DataRefiner(**FAST).fit(table)
    refined = refiner.transform(table)
    assert [fitted.explained for fitted in refiner.fitted_] == [("a",), ("b",), ("c",)]
    for label in "abc":
        pd.testing.assert_series_equal(refined[label], refine(table, label, **FAST).data[label])
        assert not refined[label].equals(table[label])
    pd.testing.assert_series_equal(refined["kind"], table["kind"])


@pytest.mark.slow
def test_without_target_noise_becomes_less():
    """Two columns that are one and the same but for their noise."""
    rng = np.random.default_rng(0)
    clean = np.repeat(rng.normal(size=(400, 1)), 2, axis=1)
    table = clean + 0.5 * rng.normal(size=clean.shape)
    refined = DataRefiner(max_epochs=20, rule="unit_step").fit_transform(table)
    assert np.linalg.norm(refined - clean) < 0.95 * np.linalg.norm(table - clean)


@pytest.mark.parametrize("target", [None, 2])
def test_transform_learns_nothing(target):
    """Rows of another level are refined in the units of those fitted, each by itself."""
    refiner = DataRefiner(target, **FAST).fit(noisy())
    later = noisy(seed=1) * 2 + 5
    alone = [refiner.transform(later[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(np.concatenate(alone), refiner.transform(later)[:3], rtol=1e-6)


@pytest.mark.slow
def test_a_series_may_be_refined_without_look_ahead():
    later = noisy(seed=1)
    refiner = DataRefiner(window=4, causal=True, **FAST).fit(noisy())
    np.testing.assert_array_equal(refiner.transform(later[:30]), refiner.transform(later)[:30])


def test_limits_hold():
    table = noisy()
    refined = DataRefiner(bounds={0: (9, 12)}, max_change=0.01, **FAST).fit_transform(table)
    assert refined[:, 0].min() >= 9
    assert refined[:, 0].max() <= 12
    assert (np.abs(refined - table)[:, 1:] <= 0.0101 * table.std(axis=0)[1:]).all()


def test_missing_numbers_stay_missing_unless_imputed():
    table = noisy()
    table[3, 1] = np.nan
    assert np.isnan(DataRefiner(**FAST).fit_transform(table)).sum() == 1
    assert np.isfinite(DataRefiner(2, impute=True, **FAST).fit_transform(table)).all()


def test_frames_keep_what_they_are():
    table = frame().astype({"a": "float32"})
    refined = DataRefiner("c", **FAST).fit_transform(table)
    assert refined.index.equals(table.index)
    assert (refined.dtypes == table.dtypes).all()
    refined = DataRefiner("c", **FAST).fit_transform(pl.from_pandas(table))
    assert isinstance(refined, pl.DataFrame)
    assert refined.columns == list(table.columns)


def test_arrays_become_floats_of_their_precision():
    table = noisy()
    whole = np.round(table * 10).astype(int)
    for given, expected in (
        (table, "float64"),
        (table.astype("float32"), "float32"),
        (whole, float),
    ):
        assert DataRefiner(**FAST).fit_transform(given).dtype == expected
    assert isinstance(DataRefiner(**FAST).fit_transform(table.tolist()), np.ndarray)


def test_output_and_names():
    refiner = DataRefiner(**FAST).set_output(transform="pandas")
    refined = refiner.fit_transform(noisy())
    assert list(refined) == list(refiner.get_feature_names_out()) == ["x0", "x1", "x2"]
    refined = refiner.fit_transform(frame())
    assert list(refiner.get_feature_names_out()) == list(refiner.feature_names_in_) == list(refined)
    assert refined.index.equals(frame().index)
    with pytest.raises(ValueError, match="feature names should match"):
        refiner.transform(frame().rename(columns={"a": "A"}))


@pytest.mark.slow
def test_pipeline_clone_and_grid():
    X, y = regression()
    pipeline = make_pipeline(StandardScaler(), DataRefiner(0, **FAST), Ridge())
    search = GridSearchCV(
        clone(pipeline), {"datarefiner__max_steps": [1, 3], "ridge__alpha": [1]}, cv=2
    ).fit(X, y)
    assert set(search.best_params_) == {"datarefiner__max_steps", "ridge__alpha"}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == y.shape


@pytest.mark.slow
def test_a_nested_grid():
    X, y = regression()
    grid = {"regressor__alpha": [0.1, 1000], "step_size": [0.01, 0.1]}
    search = GridSearchCV(RefineThenFit(Ridge(), **FAST), grid, cv=2).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert len(set(scores)) == 4
    assert search.best_params_["regressor__alpha"] == 0.1


@pytest.mark.slow
def test_other_processes():
    """Workers get unfitted estimators, and give fitted ones back."""
    X, y = regression()
    alone = cross_validate(RefineThenFit(Ridge(), **FAST), X, y, cv=2)["test_score"]
    grid = {"regressor__alpha": [1.0]}
    search = GridSearchCV(RefineThenFit(Ridge(), **FAST), grid, cv=2, n_jobs=2).fit(X, y)
    assert search.best_score_ == pytest.approx(alone.mean(), rel=1e-5)
    refiners = [DataRefiner(**FAST), DataRefiner(window=4, **FAST)]
    fitted = joblib.Parallel(n_jobs=2)(joblib.delayed(refiner.fit)(X) for refiner in refiners)
    for refiner, ours in zip(refiners, fitted, strict=True):
        np.testing.assert_allclose(ours.transform(X), refiner.fit_transform(X), rtol=1e-5)


def plus(x):
    return x.sum()


def given_models():
    table = noisy()
    ridge = Ridge().fit(table[:, :2], table[:, 2])
    return {
        "function": plus,
        "flax": nnx.Linear(2, 1, rngs=nnx.Rngs(0)),
        "scikit-learn": FrozenEstimator(ridge),
    }


@pytest.mark.parametrize(
    "options",
    [
        {"target": 2},
        {"target": 2, "model": given_models()["flax"]},
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                {},
                {"window": 4, "model": "dlinear"},
                {"target": 2, "model": given_models()["function"]},
                {"target": 2, "model": given_models()["scikit-learn"]},
            )
        ),
    ],
    ids=lambda options: " ".join(
        str(v) if isinstance(v, int | str) else type(v).__name__ for v in options.values()
    ),
)
def test_fitted_refiners_are_pickled_and_copied(options, tmp_path):
    table = noisy()
    refiner = clone(DataRefiner(**options, **FAST)).fit(table)
    refined = refiner.transform(table)
    assert not np.array_equal(refined, table)
    joblib.dump(refiner, tmp_path / "refiner")
    for other in (
        pickle.loads(pickle.dumps(refiner)),
        copy.deepcopy(refiner),
        joblib.load(tmp_path / "refiner"),
    ):
        np.testing.assert_array_equal(other.transform(table), refined)
        assert all(isinstance(f.model.predict, type(plus)) for f in other.fitted_)
    np.testing.assert_array_equal(refiner.transform(table), refined)


def test_a_pickle_holds_no_device_arrays_and_no_functions():
    refiner = DataRefiner(2, **FAST).fit(noisy())
    (stored,) = refiner.__getstate__()["fitted_"]
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(stored.model.params))
    assert stored.model.predict_batch is None
    with pytest.raises(AssertionError, match="built anew"):
        stored.model.predict(stored.model.params, np.zeros(2))


def test_a_model_that_cannot_be_pickled_is_named():
    refiner = DataRefiner(2, model=lambda x: x.sum(), **FAST).fit(noisy())
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(refiner)


@pytest.mark.slow
def test_random_states():
    table = noisy()

    def refined(state):
        return DataRefiner(2, random_state=state, **FAST).fit_transform(table)

    np.testing.assert_array_equal(refined(0), refined(np.int64(0)))
    assert not np.array_equal(refined(0), refined(1))
    states = [np.random.RandomState(7) for _ in range(2)]
    np.testing.assert_array_equal(refined(states[0]), refined(states[1]))
    assert not np.array_equal(refined(None), refined(None))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"model": plus}, UnsupportedError, "which column of X it explains"),
        ({"impute": True}, UnsupportedError, "impute wants target= or window="),
        ({"target": 7}, ColumnError, "target column 7 is not in the data"),
        ({"window": 60}, ValueError, "no window fits"),
        ({"random_state": "seven"}, ValueError, "cannot be used to seed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_refusals(options, error, says):
    with pytest.raises(error, match=says):
        DataRefiner(**options).fit(noisy())


def test_frames_are_refused_as_refine_refuses_them():
    with pytest.raises(DataError, match="infinite"):
        DataRefiner("c", **FAST).fit(frame().replace({"a": {frame()["a"].iloc[0]: np.inf}}))
    with pytest.raises(NotFittedError):
        DataRefiner().transform(frame())


class Spy(RegressorMixin, BaseEstimator):
    """A regressor that keeps what it is given."""

    def fit(self, X, y, sample_weight=None):
        self.fitted_on_, self.weights_ = (X, y), sample_weight
        return self

    def predict(self, X):
        self.asked_ = X
        return np.zeros(len(X))


def test_the_regressor_is_fitted_on_what_refine_gives():
    X, y = regression()
    model = RefineThenFit(Spy(), **FAST, random_state=3).fit(X, y)
    expected = refine(X, y, **FAST, seed=3)
    for found, given, due in zip(
        model.regressor_.fitted_on_, (X, y), (expected.data, expected.target), strict=True
    ):
        np.testing.assert_array_equal(found, due)
        assert not np.array_equal(found, given)
    assert model.refinement_.summary() == expected.summary()
    assert not hasattr(model.regressor, "fitted_on_")


@pytest.mark.slow
def test_the_training_is_passed_on():
    X, y = regression()
    told = {"training": "ido", "model": "mlp", "rule": "unit_step"} | FAST
    expected = refine(X, y, **told, seed=0)
    model = RefineThenFit(Spy(), **told).fit(X, y)
    np.testing.assert_array_equal(model.regressor_.fitted_on_[0], expected.data)
    table = np.column_stack([X, y])
    refined = DataRefiner(3, **told).fit_transform(table)
    np.testing.assert_array_equal(refined[:, :3], expected.data)
    plain = DataRefiner(3, **told | {"training": "plain"}).fit_transform(table)
    assert not np.array_equal(refined, plain)


def test_predict_passes_x_on_untouched():
    table = frame()
    model = RefineThenFit(Spy(), **FAST).fit(table, table["c"])
    before = table.copy()
    model.predict(table)
    assert model.regressor_.asked_ is table
    pd.testing.assert_frame_equal(table, before)


def test_only_training_rows_are_refined():
    X, y = regression()
    folds = KFold(2)
    fitted = cross_validate(RefineThenFit(Spy(), **FAST), X, y, cv=folds, return_estimator=True)[
        "estimator"
    ]
    for model, (train, test) in zip(fitted, folds.split(X), strict=True):
        np.testing.assert_array_equal(model.regressor_.asked_, X[test])
        alone = refine(X[train], y[train], **FAST)
        np.testing.assert_array_equal(model.regressor_.fitted_on_[0], alone.data)
        np.testing.assert_array_equal(model.regressor_.fitted_on_[1], alone.target)


@pytest.mark.slow
def test_frames_and_targets_of_any_kind():
    table = frame()
    X, y = table.drop(columns="c"), table["c"]
    model = RefineThenFit(Spy(), **FAST).fit(X, y.reset_index(drop=True))
    assert list(model.feature_names_in_) == list(X)
    refined_X, refined_y = model.regressor_.fitted_on_
    assert refined_X.index.equals(X.index)
    pd.testing.assert_series_equal(refined_X["kind"], X["kind"])
    assert refined_y.shape == y.shape
    two = RefineThenFit(LinearRegression(), **FAST).fit(X[["a", "b"]], np.stack([y, -y], axis=1))
    assert two.predict(X[["a", "b"]]).shape == (len(X), 2)
    series = RefineThenFit(Spy(), window=4, **FAST).fit(X, y)
    assert series.refinement_.kind == "series"


def test_weights_reach_the_regressor():
    X, y = regression()
    weights = np.arange(len(y), dtype=float)
    model = RefineThenFit(Spy(), **FAST).fit(X, y, sample_weight=weights)
    assert model.regressor_.weights_ is weights
    with sklearn.config_context(enable_metadata_routing=True):
        spy = Spy().set_fit_request(sample_weight=True)
        model = RefineThenFit(spy, **FAST).fit(X, y, sample_weight=weights)
        assert model.regressor_.weights_ is weights
        scores = cross_val_score(
            RefineThenFit(Ridge().set_fit_request(sample_weight=True), **FAST),
            X,
            y,
            params={"sample_weight": weights},
            cv=2,
        )
        assert np.isfinite(scores).all()


def test_pickles_leave_the_training_data_behind():
    X, y = regression()
    model = RefineThenFit(Ridge(), **FAST).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert not hasattr(again, "refinement_")
    assert model.refinement_.data.shape == X.shape


def test_an_interruption_ends_the_whole(monkeypatch):
    X, y = regression()
    refiner = DataRefiner(2, **FAST).fit(X)

    def interrupted(*args, **options):
        return dataclasses.replace(refine(*args, **options), status=Status.interrupted)

    monkeypatch.setattr(_refine_then_fit, "refine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        RefineThenFit(Ridge(), **FAST).fit(X, y)
    monkeypatch.setattr(
        denograd_jax.Fitted, "refine", lambda fitted, data, **moves: interrupted(data, 2, **FAST)
    )
    with pytest.raises(KeyboardInterrupt):
        refiner.transform(X)


def test_without_scikit_learn_the_extra_is_named():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from denograd_jax.errors import MissingExtraError\n"
        "try:\n"
        "    import denograd_jax.sklearn\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "denograd-jax[sklearn]"' in done.stdout


def test_the_two_packages_called_sklearn_are_two():
    assert denograd_jax.sklearn is not sklearn
    assert denograd_jax.sklearn.__all__ == ["DataRefiner", "RefineThenFit"]
    assert sklearn.__version__
