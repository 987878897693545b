"""Wrong labels found, in arrays and frames; what is no classification is refused."""

import numpy as np
import pandas as pd
import pytest

from denograd_jax import find_noisy
from denograd_jax.classification import _out_of_fold, fit_label_noise
from denograd_jax.errors import (
    BackboneError,
    ColumnError,
    DataError,
    DenogradError,
    ModelError,
    ShapeError,
    UnsupportedError,
)

NAMES = np.array(["ant", "bee", "cat"])


def clusters(rng, rows=300, wrong=0.1):
    """Three clusters in the plane, their names, and names of which some are wrong."""
    true = rng.integers(0, 3, rows)
    X = rng.normal(size=(rows, 2)) + 6 * np.array([[0, 0], [1, 0], [0, 1]])[true]
    given = np.where(rng.random(rows) < wrong, (true + rng.integers(1, 3, rows)) % 3, true)
    return X, true, given


def by_row(found, column="label_wrong"):
    return found.table.sort_values("row")[column].to_numpy()


@pytest.fixture(scope="module")
def found():
    X, true, given = clusters(np.random.default_rng(1))
    frame = pd.DataFrame(X, index=[f"r{i}" for i in range(len(X))], columns=["u", "v"])
    y = pd.Series(NAMES[given], frame.index, name="animal")
    return find_noisy(frame, y, rounds=2), NAMES[true], y


def test_wrong_labels_come_first(found):
    found, true, y = found
    wrong = (y != true).to_numpy()
    table = found.table
    assert table.index[0] in y.index[wrong]
    likely = by_row(found) > 0.5
    assert (likely == wrong).mean() > 0.95
    assert (by_row(found)[wrong] > 0.5).mean() > 0.8
    assert (found.corrected() == true).mean() > 0.97
    np.testing.assert_array_equal(table["rank"], np.arange(1, len(y) + 1))
    assert table["label_wrong"].is_monotonic_decreasing


def test_the_table_speaks_of_the_rows_as_given(found):
    found, _, y = found
    in_order = found.table.sort_values("row")
    assert list(in_order.index) == list(y.index)
    np.testing.assert_array_equal(in_order["label"], y)
    np.testing.assert_array_equal(in_order["suggested"], found.corrected())
    assert found.corrected().index.equals(y.index)
    assert found.corrected().dtype == y.dtype
    assert found.corrected().name == "animal"
    assert len(found.top(3)) == 3


def test_the_parts_agree(found):
    found, true, y = found
    posterior = found.posterior.to_numpy()
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    codes = found.labels.codes
    np.testing.assert_allclose(by_row(found), 1 - posterior[np.arange(len(y)), codes])
    np.testing.assert_allclose(found.weights, posterior.max(axis=1))
    np.testing.assert_allclose(found.transition.sum(axis=1), 1)
    joint = found.joint.to_numpy()
    np.testing.assert_allclose(joint.sum(), 1)
    np.testing.assert_allclose(joint.sum(axis=0), np.bincount(codes) / len(y))
    np.testing.assert_allclose(1 - np.trace(joint), found.noise_rate)
    assert abs(found.noise_rate - (y != true).mean()) < 0.03
    assert found.least_noise_rate <= found.noise_rate + 1e-6
    assert "of the labels are wrong" in found.summary()
    assert "called" in repr(found)


@pytest.mark.slow
def test_clean_labels_are_believed(rng):
    X, _, given = clusters(rng, wrong=0)
    found = find_noisy(X, given, rounds=2)
    assert found.noise_rate < 0.02


@pytest.mark.slow
def test_the_same_again(rng):
    X, _, given = clusters(rng, rows=90)
    first, again = (find_noisy(X, given, model="linear", rounds=2, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.table, again.table)
    other = find_noisy(X, given, model="linear", rounds=2, seed=4)
    assert not first.table.equals(other.table)


@pytest.mark.slow
def test_nothing_given_is_changed(rng):
    X, _, given = clusters(rng, rows=60)
    frame = pd.DataFrame(X).assign(kind=pd.Categorical(NAMES[given]))
    before = frame.copy()
    find_noisy(frame, "kind", model="linear", rounds=1)
    pd.testing.assert_frame_equal(frame, before)


KINDS = {
    "text": NAMES,
    "objects": NAMES.astype(object),
    "integers": np.array([7, 3, 11]),
    "floats": np.array([0.0, 1.0, 2.0]),
    "categories": pd.Categorical(NAMES, categories=[*NAMES[::-1], "never"]),
    "booleans": np.array([True, False, False]),
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow)
        if kind in ("objects", "floats", "booleans")
        else kind
        for kind in KINDS
    ],
)
def test_kinds_of_labels(rng, kind):
    X, _, given = clusters(rng, rows=150)
    y = pd.Series(KINDS[kind][given])
    found = find_noisy(pd.DataFrame(X), y, model="linear", rounds=1)
    corrected = found.corrected()
    assert set(corrected) <= set(y)
    assert (corrected.astype(str) == y.astype(str)).mean() > 0.8
    if kind != "categories":  # of which one was never used
        assert corrected.dtype == y.dtype
    else:
        assert list(found.posterior.columns) == list(NAMES[::-1])


@pytest.mark.parametrize(
    "missing", [None, *(pytest.param(m, marks=pytest.mark.slow) for m in (np.nan, pd.NA))]
)
def test_a_missing_label_is_suggested(rng, missing):
    X, true, given = clusters(rng, wrong=0)
    y = pd.Series(NAMES[given], dtype=object)
    y[:10] = missing
    found = find_noisy(X, y, model="linear", rounds=2)
    table = found.table
    assert table["label_wrong"].isna().sum() == 10
    assert set(table["row"].tail(10)) == set(range(10))
    assert (by_row(found, "suggested")[:10] == NAMES[true[:10]]).mean() >= 0.9
    assert found.corrected().notna().all()
    np.testing.assert_allclose(found.joint.to_numpy().sum(), 1)
    assert "10 rows have no label" in found.summary()


@pytest.mark.slow
def test_missing_cells_text_and_idle_columns(rng):
    X, true, given = clusters(rng)
    frame = pd.DataFrame(X, columns=["u", "v"])
    frame.loc[rng.random(len(frame)) < 0.1, "u"] = np.nan
    frame["colour"] = np.array(["red", "green", "blue"])[true]
    frame["day"] = pd.date_range("2020", periods=len(frame))
    frame["user_id"] = rng.permutation(len(frame))
    frame["constant"] = 1.0
    found = find_noisy(frame, NAMES[given], model="linear", rounds=2)
    assert (found.corrected() == NAMES[true]).mean() > 0.97


def test_a_spoilt_row_has_odd_features(rng):
    X, true, _ = clusters(rng)
    spoilt = np.arange(0, len(X), 20)
    X[spoilt, 0] += 30
    score = by_row(find_noisy(X, true, model="linear", rounds=1), "feature_score")
    assert set(np.argsort(-score)[: len(spoilt)]) == set(spoilt)
    others = np.delete(score, spoilt)
    assert abs(np.median(others) - 1) < 0.1


@pytest.mark.slow
def test_features_without_numbers_have_no_score(rng):
    colours = np.array(["red", "green", "blue"])
    true = rng.integers(0, 3, 120)
    frame = pd.DataFrame({"colour": colours[true]})
    found = find_noisy(frame, true, model="linear", rounds=1)
    assert found.table["feature_score"].isna().all()


def test_probabilities_of_ones_own(found):
    found, true, y = found
    frame = pd.DataFrame(np.zeros((len(y), 1)), y.index)
    again = find_noisy(frame, y, probabilities=found.out_of_fold)
    array = find_noisy(frame, y, probabilities=found.out_of_fold.to_numpy())
    shuffled = find_noisy(frame, y, probabilities=found.out_of_fold[NAMES[::-1]])
    pd.testing.assert_frame_equal(again.table, array.table)
    pd.testing.assert_frame_equal(again.table, shuffled.table)
    pd.testing.assert_frame_equal(again.out_of_fold, found.out_of_fold)
    assert ((by_row(again) > 0.5) == (y != true)).mean() > 0.94


def test_a_classifier_of_scikit_learn(rng):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, true, given = clusters(rng)
    classifier = linear_model.LogisticRegression()
    found = find_noisy(pd.DataFrame(X), NAMES[given], model=classifier)
    assert not hasattr(classifier, "classes_")
    assert (found.corrected() == NAMES[true]).mean() > 0.95


def test_a_class_that_a_fold_lacks(rng):
    naive_bayes = pytest.importorskip("sklearn.naive_bayes")
    X, _, given = clusters(rng, rows=60)
    given[:2], X[:2] = 3, 50.0
    found = find_noisy(X, given, model=naive_bayes.GaussianNB(), folds=2, seed=1)
    assert found.out_of_fold.shape == (60, 4)
    np.testing.assert_allclose(found.out_of_fold.sum(axis=1), 1)


def simulated(rng, transition, sharpness, rows=20_000):
    """Labels and probabilities drawn from the model that is fitted."""
    classes = len(transition)
    z = rng.normal(size=(rows, classes)) * 4
    clean = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    true = (rng.random((rows, 1)) > np.cumsum(clean, axis=1)).sum(axis=1)
    given = (rng.random((rows, 1)) > np.cumsum(transition[true], axis=1)).sum(axis=1)
    blunt = np.exp(z / sharpness)
    return blunt / blunt.sum(axis=1, keepdims=True), clean, given


@pytest.mark.parametrize(
    "transition",
    [
        np.full((3, 3), 0.1) + 0.7 * np.eye(3),
        np.array([[0.7, 0.3, 0.0], [0.0, 0.9, 0.1], [0.2, 0.2, 0.6]]),
    ],
)
def test_a_known_transition_is_recovered(rng, transition):
    p, clean, given = simulated(rng, transition, sharpness=2.0)
    found = fit_label_noise(p, given, ambiguity=0.0)
    np.testing.assert_allclose(found.transition, transition, atol=0.03)
    np.testing.assert_allclose(found.sharpness, 2.0, rtol=0.1)
    joint = clean * transition[:, given].T
    exact = joint / joint.sum(axis=1, keepdims=True)
    assert np.abs(found.posterior - exact).mean() < 0.01
    np.testing.assert_array_equal(found.clean.argmax(axis=1), p.argmax(axis=1))


def test_the_price_of_ambiguity_tells_noise_from_overlap(rng):
    """The same data: a classifier that says 0.7 of labels that are right 7 times in 10."""
    true = rng.integers(0, 2, 4000)
    p = np.where(np.eye(2)[true] > 0, 0.7, 0.3)
    given = np.where(rng.random(4000) < 0.3, 1 - true, true)
    assert fit_label_noise(p, given).transition[0, 1] == pytest.approx(0.3, abs=0.03)


GOOD = np.arange(12.0).reshape(6, 2) ** 2
LABELS = ["a", "b"] * 3
BAD = [
    ({"X": GOOD[:, 0]}, ShapeError, r"shape \(rows, features\)"),
    ({"X": GOOD[:0], "y": []}, ShapeError, "there must be rows"),
    ({"X": np.array([["x", "y"]] * 6)}, UnsupportedError, "put text and categories"),
    ({"X": np.where(GOOD == 4, np.inf, GOOD)}, DataError, "infinite"),
    ({"X": np.ones((6, 2))}, ColumnError, "no column of X tells"),
    ({"y": LABELS[:5]}, ShapeError, "5 label.* for 6 row"),
    ({"y": np.eye(2)[[0, 1] * 3]}, ShapeError, "argmax"),
    ({"y": ["a"] * 6}, DataError, "two or more"),
    ({"y": [None] * 6}, DataError, "two or more"),
    ({"y": ["a"] * 5 + ["b"]}, DataError, "class 'b' has one row"),
    ({"y": GOOD[:, 0] + 0.5}, DataError, "which is no class"),
    ({"y": pd.date_range("2020", periods=6)}, UnsupportedError, "dates"),
    ({"y": pd.Series([["a"], ["b"]] * 3)}, UnsupportedError, "no classes"),
    ({"y": pd.DataFrame({"a": LABELS, "b": LABELS})}, ShapeError, "one column"),
    ({"X": pd.DataFrame(GOOD), "y": "label"}, ColumnError, "no column 'label'"),
    (
        {"X": pd.DataFrame(GOOD), "y": pd.Series(LABELS, index=range(1, 7))},
        ShapeError,
        "another index",
    ),
    ({"model": "resnet"}, BackboneError, "no backbone 'resnet'"),
    ({"model": 3}, UnsupportedError, "fit and predict_proba"),
    ({"folds": 1}, DataError, "folds must be at least 2"),
    ({"folds": 2.5}, UnsupportedError, "folds must be a whole number"),
    ({"rounds": 0}, DataError, "rounds must be at least 1"),
    ({"probabilities": np.ones((6, 3)) / 3}, ShapeError, r"expected \(6, 2\)"),
    ({"probabilities": np.full((6, 2), 0.6)}, DataError, "sum to 1"),
    ({"probabilities": np.full((6, 2), np.nan)}, DataError, "at least 0"),
    ({"probabilities": np.tile([1.5, -0.5], (6, 1))}, DataError, "at least 0"),
    ({"probabilities": pd.DataFrame(np.ones((6, 2)), columns=["a", "c"])}, ColumnError, "'b'"),
]


@pytest.mark.parametrize(("arguments", "error", "names"), BAD)
def test_bad_input_is_refused(arguments, error, names):
    given = {"X": GOOD, "y": LABELS, **arguments}
    with pytest.raises(error, match=names) as raised:
        find_noisy(given.pop("X"), given.pop("y"), **given)
    assert isinstance(raised.value, DenogradError)


def test_a_classifier_of_the_wrong_shape_is_named():
    class Odd:
        def fit(self, X, y):
            self.classes_ = np.unique(y)

        def predict_proba(self, X):
            return np.ones((len(X), 5)) / 5

    with pytest.raises(ModelError, match="predict_proba of Odd"):
        find_noisy(GOOD, LABELS, model=Odd(), folds=2)


def test_ctrl_c_ends_it_all(monkeypatch):
    """A training that was ended keeps its best epoch; a ranking by it would be none."""
    trained = _out_of_fold.train_classifier
    monkeypatch.setattr(
        _out_of_fold,
        "train_classifier",
        lambda *given, **named: trained(*given, max_epochs=1, **named)._replace(interrupted=True),
    )
    X, _, given = clusters(np.random.default_rng(1), rows=40)
    with pytest.raises(KeyboardInterrupt):
        find_noisy(X, given, model="linear")
