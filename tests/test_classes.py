"""A target of classes in `refine`: against NumPy, what stays, what is told, and its manners."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax

from denograd_jax import (
    Fitted,
    OnlineRefiner,
    Refinement,
    Status,
    calibrate,
    find_noisy,
    fit,
    refine,
    rules,
)
from denograd_jax.errors import DataError, ShapeError, UnsupportedError

ROWS = 60
NAMES = np.array(["ant", "bee", "cat"])
WEIGHTS = np.array([[1.0, -0.3, 0.02], [-0.5, 1.0, 0.0], [0.2, 0.1, -0.03]])
UNITS, OFFSETS = np.array([2.0, 1.0, 40.0]), np.array([1.0, -1.0, 5.0])
FEATURES = ["u", "v", "w"]


def linear(params, x):
    return params @ x


CLASSIFIER = (linear, WEIGHTS.astype(np.float32))


def insects(rows=ROWS, seed=0):
    """Three features of unlike units, and labels of which a tenth is wrong."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 3)) * UNITS + OFFSETS
    codes = (X @ WEIGHTS.T).argmax(axis=1)
    wrong = rng.random(rows) < 0.1
    codes = np.where(wrong, (codes + 1) % 3, codes)
    frame = pd.DataFrame(X, index=[f"r{i}" for i in range(rows)], columns=FEATURES)
    return frame.assign(kind=NAMES[codes])


FRAME = insects()


def codes_of(frame):
    return frame["kind"].map({name: code for code, name in enumerate(NAMES)}).to_numpy()


def steps_by_hand(frame, step_size, tolerance, steps):
    """Unit steps on the cross-entropy of a linear classifier, in standardised units."""
    X = frame[FEATURES].to_numpy()
    mean, std = X.mean(axis=0), X.std(axis=0)
    z, hot = (X - mean) / std, np.eye(3)[codes_of(frame)]
    for _ in range(steps):
        residual = softmax((z * std + mean) @ WEIGHTS.T, axis=1) - hot
        gradient = residual @ (WEIGHTS * std)
        gate = (np.abs(residual) > tolerance).any(axis=1, keepdims=True)
        z = z - step_size * gate * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    return z * std + mean


def on_simplex(y):
    """The nearest probabilities: all less the same number, and none below 0."""
    lower, upper = y.min() - 1, y.max()
    shift = brentq(lambda t: np.maximum(y - t, 0).sum() - 1, lower, upper, xtol=1e-14)
    return np.maximum(y - shift, 0)


def soft_steps_by_hand(frame, step_size, tolerance, steps):
    """The same on the Brier loss, with labels that move."""
    X = frame[FEATURES].to_numpy()
    mean, std = X.mean(axis=0), X.std(axis=0)
    z, y = (X - mean) / std, np.eye(3)[codes_of(frame)]
    for _ in range(steps):
        p = softmax((z * std + mean) @ WEIGHTS.T, axis=1)
        residual = p - y
        of_logits = p * (residual - (p * residual).sum(axis=1, keepdims=True))
        gradient = np.concatenate([of_logits @ (WEIGHTS * std), -residual], axis=1)
        gate = (np.abs(residual) > tolerance).any(axis=1, keepdims=True)
        move = -step_size * gate * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
        z = z + move[:, :3]
        y = np.stack([on_simplex(row) for row in y + move[:, 3:]])
    return z * std + mean, y


@pytest.fixture(scope="module")
def stepped():
    return refine(
        FRAME, "kind", model=CLASSIFIER, rule="unit_step", step_size=0.1, tolerance=0.2, max_steps=3
    )


@pytest.fixture(scope="module")
def soft():
    return refine(
        FRAME, "kind", model=CLASSIFIER, soft_labels=True, step_size=0.1, tolerance=0.2, max_steps=3
    )


def test_steps_are_those_of_numpy(stepped):
    expected = steps_by_hand(FRAME, 0.1, 0.2, 3)
    np.testing.assert_allclose(stepped.data[FEATURES], expected, rtol=2e-5, atol=1e-5)
    assert 0 < (stepped.data["u"] != FRAME["u"]).sum() < ROWS  # the gate leaves the certain rows
    pd.testing.assert_series_equal(stepped.data["kind"], FRAME["kind"])
    assert stepped.status == Status.max_steps


def test_gauss_newton_is_that_of_numpy_with_soft_labels():
    """One step: the length of the residual over that of the joint slope (rules.gauss_newton)."""
    found = refine(
        FRAME, "kind", model=CLASSIFIER, soft_labels=True, rule="gauss_newton", max_steps=1,
        step_size=0.2, tolerance=0.0,
    )  # fmt: skip
    X = FRAME[FEATURES].to_numpy()
    p = softmax(X @ WEIGHTS.T, axis=1)
    y = np.eye(3)[codes_of(FRAME)]
    residual = p - y
    of_logits = p * (residual - (p * residual).sum(axis=1, keepdims=True))
    gradient = np.concatenate([of_logits @ (WEIGHTS * X.std(axis=0)), -residual], axis=1)
    squared = (residual**2).sum(axis=1, keepdims=True)
    move = -0.2 * squared * gradient / (gradient**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        found.data[FEATURES], X + move[:, :3] * X.std(axis=0), rtol=2e-5, atol=1e-5
    )
    expected = np.stack([on_simplex(row) for row in y + move[:, 3:]])
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)


def test_soft_labels_are_those_of_numpy_and_stay_probabilities(soft):
    X, y = soft_steps_by_hand(FRAME, 0.1, 0.2, 3)
    np.testing.assert_allclose(soft.data[FEATURES], X, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(soft.probabilities, y, atol=2e-6)
    np.testing.assert_allclose(soft.probabilities.sum(axis=1), 1, atol=1e-12)
    assert (soft.probabilities >= 0).all(axis=None)
    assert list(soft.probabilities.columns) == list(NAMES)
    assert soft.probabilities.index.equals(FRAME.index)
    pd.testing.assert_series_equal(soft.data["kind"], FRAME["kind"])


def test_labels_that_do_not_move_have_no_probabilities_of_their_own(stepped):
    with pytest.raises(UnsupportedError, match="soft_labels=True"):
        _ = stepped.probabilities


def test_frozen_rows_keep_their_labels_and_cells():
    frozen = np.arange(ROWS) % 2 == 0
    found = refine(
        FRAME, "kind", model=CLASSIFIER, soft_labels=True, frozen_rows=frozen, tolerance=0.0
    )
    pd.testing.assert_frame_equal(found.data[frozen], FRAME[frozen])
    hot = np.eye(3)[codes_of(FRAME)]
    np.testing.assert_array_equal(found.probabilities[frozen], hot[frozen])
    assert (found.probabilities[~frozen].to_numpy() != hot[~frozen]).any()


def test_what_is_told_of_the_model_is_what_it_says(stepped):
    told, codes = stepped.classification, codes_of(FRAME)
    for which, frame in enumerate((FRAME, stepped.data)):
        logs = log_softmax(frame[FEATURES].to_numpy() @ WEIGHTS.T, axis=1)
        of_model = (told.before, told.after)[which]
        np.testing.assert_allclose(of_model, np.exp(logs), atol=1e-5)
        right = logs.argmax(axis=1) == codes
        surprise = -logs[np.arange(ROWS), codes]
        assert told.accuracy[which] == pytest.approx(right.mean())
        assert told.cross_entropy[which] == pytest.approx(surprise.mean(), rel=1e-4)
        when = ("before", "after")[which]
        for code, name in enumerate(NAMES):
            line = told.by_class.loc[name]
            assert line["rows"] == told.counts[name] == (codes == code).sum()
            assert line[f"accuracy_{when}"] == pytest.approx(right[codes == code].mean())
            expected = surprise[codes == code].mean()
            assert line[f"cross_entropy_{when}"] == pytest.approx(expected, rel=1e-4)
    assert told.cross_entropy[1] < told.cross_entropy[0]
    doubted = told.least_likely(5)
    assert list(doubted["after"]) == sorted(told.after.to_numpy()[np.arange(ROWS), codes])[:5]
    row = doubted.iloc[0]
    assert (row["label"], doubted.index[0]) == (FRAME["kind"].iloc[row["row"]], f"r{row['row']}")
    assert row["likeliest"] == told.after.iloc[row["row"]].idxmax()


def test_residuals_are_what_a_label_lacks_of_certainty(stepped):
    given = np.arange(ROWS), codes_of(FRAME)
    for when in ("before", "after"):
        lacks = 1 - getattr(stepped.classification, when).to_numpy()[given]
        np.testing.assert_allclose(stepped.residuals[when], lacks)
    assert set(stepped.residuals["target"]) == {"kind"}
    change = stepped.changes.iloc[0]
    of_row = stepped.residuals.set_index("label").loc[change["row"]]
    assert change["residual_before"] == of_row["before"]


def test_the_summary_speaks_of_classes(stepped):
    counts = FRAME["kind"].value_counts()
    words = stepped.summary()
    assert f"3 classes of kind: {', '.join(f'{name} {counts[name]}' for name in NAMES)}." in words
    assert f"likeliest in {stepped.classification.accuracy[0]:.1%} of the rows before" in words
    assert "standard deviations." in words
    assert "residual|" not in words
    assert stepped.settings["classes"] == "3 (ant, bee, cat)"


# --- labels of all types --------------------------------------------------------------------------


def kinds():
    codes = codes_of(FRAME)
    return {
        "objects": pd.Series(NAMES[codes], dtype=object),
        "strings": pd.Series(NAMES[codes], dtype="string"),
        "integers": pd.Series(codes * 10),
        "nullable integers": pd.Series(codes, dtype="Int64"),
        "whole floats": pd.Series(codes.astype(float)),
        "categories": pd.Series(pd.Categorical(NAMES[codes], ["ant", "bee", "cat", "dog"])),
        "numeric categories": pd.Series(pd.Categorical(codes)),
    }


@pytest.mark.parametrize("name", kinds())
def test_labels_of_every_type_mean_the_same(name, stepped):
    labels = kinds()[name].set_axis(FRAME.index)
    options = {"rule": "unit_step", "step_size": 0.1, "tolerance": 0.2, "max_steps": 3}
    found = refine(FRAME.assign(kind=labels), "kind", model=CLASSIFIER, classes=True, **options)
    pd.testing.assert_frame_equal(found.data[FEATURES], stepped.data[FEATURES])
    pd.testing.assert_series_equal(found.data["kind"], labels, check_names=False)


def test_the_order_of_categories_is_that_of_the_logits(stepped):
    backwards = pd.Categorical(FRAME["kind"], NAMES[::-1])
    model = (linear, WEIGHTS[::-1].astype(np.float32))
    options = {"rule": "unit_step", "step_size": 0.1, "tolerance": 0.2, "max_steps": 3}
    found = refine(FRAME.assign(kind=backwards), "kind", model=model, **options)
    assert list(found.classification.before.columns) == list(NAMES[::-1])
    np.testing.assert_allclose(found.data[FEATURES], stepped.data[FEATURES], rtol=1e-6)


@pytest.mark.slow
def test_truth_values_are_classes():
    frame = FRAME.assign(kind=FRAME["kind"] == "ant")
    model = (linear, WEIGHTS[[1, 0]].astype(np.float32))  # False comes first
    found = refine(frame, "kind", model=model, rule="unit_step", tolerance=0.0)
    assert list(found.classification.before.columns) == [False, True]
    p = softmax(FRAME[FEATURES].to_numpy() @ WEIGHTS[[1, 0]].T, axis=1)
    np.testing.assert_allclose(found.classification.before, p, atol=1e-5)
    assert found.data["kind"].dtype == bool


def test_whole_numbers_are_quantities_unless_told():
    frame = FRAME.assign(kind=codes_of(FRAME))
    model = (lambda w, x: w @ x, np.ones(3, np.float32))
    assert refine(frame, "kind", model=model, rule="unit_step").classification is None


def test_labels_given_beside_the_data(stepped):
    options = {"rule": "unit_step", "step_size": 0.1, "tolerance": 0.2, "max_steps": 3}
    X, y = FRAME[FEATURES], FRAME["kind"]
    for target in (y, y.to_numpy(object)):
        found = refine(X, target, model=CLASSIFIER, **options)
        pd.testing.assert_frame_equal(found.data, stepped.data[FEATURES])
        np.testing.assert_array_equal(found.target, y)


def test_polars_in_and_out(stepped):
    options = {"rule": "unit_step", "step_size": 0.1, "tolerance": 0.2, "max_steps": 3}
    plain = pl.DataFrame({c: FRAME[c].to_list() for c in FRAME})
    for kind in (pl.String, pl.Categorical, pl.Enum(list(NAMES))):
        frame = plain.with_columns(pl.col("kind").cast(kind))
        found = refine(frame, "kind", model=CLASSIFIER, **options)
        assert isinstance(found.data, pl.DataFrame)
        assert found.data["kind"].equals(frame["kind"])
        np.testing.assert_allclose(found.data["u"], stepped.data["u"], rtol=1e-6)


# --- labels that are missing, rare, unknown -------------------------------------------------------


def test_rows_without_a_label_are_left_alone_by_steps():
    frame = FRAME.assign(kind=FRAME["kind"].where(np.arange(ROWS) % 5 > 0))
    missing = frame["kind"].isna()
    options = {"model": CLASSIFIER, "tolerance": 0.0, "step_size": 0.1, "max_steps": 2}
    found = refine(frame, "kind", soft_labels=True, **options)
    pd.testing.assert_frame_equal(found.data[missing], frame[missing])
    assert found.probabilities[missing].isna().all(axis=None)
    assert found.probabilities[~missing].notna().all(axis=None)
    assert f"{missing.sum()} rows have no label: left as they are" in found.notes
    assert f"; {missing.sum()} rows without a label" in found.summary()
    # What labelled rows do does not hang on the others.
    whole = refine(FRAME, "kind", soft_labels=True, **options)
    np.testing.assert_allclose(found.data[~missing][FEATURES], whole.data[~missing][FEATURES])


@pytest.mark.slow
def test_a_class_of_one_row_is_told():
    frame = FRAME.assign(kind=FRAME["kind"].where(np.arange(ROWS) > 0, "dodo"))
    found = refine(frame, "kind", model="linear", max_epochs=1, max_steps=1)
    assert found.classification.counts["dodo"] == 1
    assert any("one row" in note and "dodo" in note for note in found.notes)


def test_missing_numbers_stay_missing_or_are_filled():
    frame = FRAME.copy()
    frame.iloc[::7, 0] = np.nan
    options = {"model": CLASSIFIER, "rule": "unit_step", "tolerance": 0.0}
    assert refine(frame, "kind", **options).data["u"].isna().sum() == frame["u"].isna().sum()
    assert refine(frame, "kind", impute=True, **options).data["u"].notna().all()


def test_limits_hold():
    found = refine(
        FRAME, "kind", model=CLASSIFIER, soft_labels=True, step_size=0.5, max_steps=4,
        non_negative=["u"], max_change={"v": 0.1},
    )  # fmt: skip
    assert (found.data["u"] >= 0).all()
    assert (found.data["v"] - FRAME["v"]).abs().max() <= 0.1 * FRAME["v"].std(ddof=0) * 1.0001
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-12)


# --- trained here, kept, given again --------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    """With features of every kind; the noise is not looked for."""
    frame = FRAME.assign(colour=np.where(FRAME["u"] > 0, "red", "blue"))
    return fit(frame, "kind", max_epochs=20), frame


def test_a_backbone_learns_the_classes(fitted):
    model, frame = fitted
    found = model.refine(frame, rule="unit_step")
    assert found.classification.accuracy[0] > 0.7
    again = refine(frame, "kind", max_epochs=20, rule="unit_step")
    pd.testing.assert_frame_equal(again.data, found.data)
    assert "mlp backbone, trained on this data" in repr(model)


def test_fitted_models_keep_their_classes(fitted, tmp_path):
    model, frame = fitted
    model.save(tmp_path / "model")
    loaded = Fitted.load(tmp_path / "model")
    assert loaded.schema.classes.names == ("ant", "bee", "cat")
    given = model.refine(frame, soft_labels=True)
    again = loaded.refine(frame, soft_labels=True)
    pd.testing.assert_frame_equal(given.data, again.data)
    pd.testing.assert_frame_equal(given.probabilities, again.probabilities)


@pytest.mark.parametrize("labels", ["text", "integers", "truth values"])
def test_refinements_keep_their_classes(labels, tmp_path, stepped):
    kind = {
        "text": FRAME["kind"],
        "integers": pd.Series(codes_of(FRAME), FRAME.index),
        "truth values": FRAME["kind"] == "ant",
    }[labels]
    count = kind.nunique()
    model = (linear, WEIGHTS[:count].astype(np.float32))
    found = refine(FRAME.assign(kind=kind), "kind", classes=True, model=model, soft_labels=True)
    found.save(tmp_path / "kept")
    loaded = Refinement.load(tmp_path / "kept")
    assert loaded.summary() == found.summary()
    pd.testing.assert_frame_equal(loaded.probabilities, found.probabilities)
    pd.testing.assert_frame_equal(loaded.residuals, found.residuals)
    assert loaded.classification.accuracy == found.classification.accuracy
    stepped.save(tmp_path / "without")
    with pytest.raises(UnsupportedError):
        _ = Refinement.load(tmp_path / "without").probabilities


def test_labels_that_were_not_learnt_are_refused(fitted):
    model, frame = fitted
    odd = frame.assign(kind=frame["kind"].replace("bee", "wasp"))
    with pytest.raises(DataError, match=r"'wasp', which is none of the classes .* ant, bee, cat"):
        model.refine(odd)
    nothing = frame.assign(kind=pd.Series(None, frame.index, dtype=object))
    with pytest.raises((DataError, ShapeError), match="missing"):
        model.refine(nothing, rule="unit_step")
    assert model.refine(nothing).classification.counts.sum() == 0


def test_a_row_by_row_refinement_is_refused(fitted):
    with pytest.raises(UnsupportedError, match="a target of classes is for rows"):
        OnlineRefiner(fitted[0])


def test_the_data_given_is_not_changed(stepped):
    before = FRAME.copy()
    refine(FRAME, "kind", model=CLASSIFIER, soft_labels=True)
    pd.testing.assert_frame_equal(FRAME, before)


def test_a_rule_of_the_users_own():
    found = refine(FRAME, "kind", model=CLASSIFIER, rule=rules.unit_step(0.1, 0.2), max_steps=3)
    expected = steps_by_hand(FRAME, 0.1, 0.2, 3)
    np.testing.assert_allclose(found.data[FEATURES], expected, rtol=2e-5, atol=1e-5)


# --- the rule auto --------------------------------------------------------------------------------


def two_factors(rows=300):
    """Four columns of two hidden numbers, with noise of 0.3 standard deviations."""
    rng = np.random.default_rng(3)
    clean = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, 4))
    clean = (clean - clean.mean(axis=0)) / clean.std(axis=0)
    noisy = clean + 0.3 * rng.normal(size=clean.shape)
    return pd.DataFrame(clean, columns=list("abcd")), pd.DataFrame(noisy, columns=list("abcd"))


CLEAN, NOISY = two_factors()
SIDES = pd.Series(np.where(CLEAN["a"] > 0, "left", "right"))
SIDED = (lambda w, x: w @ x, np.float32([[1, 0, 0, 0], [-1, 0, 0, 0]]))


@pytest.fixture(scope="module")
def automatic():
    return refine(NOISY.assign(side=SIDES), "side", model=SIDED, noise_scale=0.3)


def test_auto_is_that_of_the_features_alone(automatic):
    """The density of a row's cells is the same whichever of them is called the target."""
    of_numbers = refine(NOISY, "d", noise_scale=0.3)
    np.testing.assert_allclose(automatic.data[list("abcd")], of_numbers.data, atol=2e-5)
    np.testing.assert_allclose(
        automatic.standard_errors, of_numbers.standard_errors[list("abcd")], atol=1e-6
    )
    pd.testing.assert_series_equal(automatic.data["side"], SIDES, check_names=False)
    error = np.sqrt(((automatic.data[list("abcd")] - CLEAN) ** 2).mean(axis=None))
    assert error < 0.8 * np.sqrt(((NOISY - CLEAN) ** 2).mean(axis=None))


def test_auto_asks_neither_labels_nor_model(automatic):
    """Wrong labels, missing ones and another classifier: the features move alike."""
    wrong = SIDES.map({"left": "right", "right": "left"}).where(np.arange(len(SIDES)) % 4 > 0)
    other = (SIDED[0], 3 * SIDED[1])
    found = refine(NOISY.assign(side=wrong), "side", model=other, noise_scale=0.3)
    np.testing.assert_allclose(found.data[list("abcd")], automatic.data[list("abcd")], atol=2e-5)
    assert f"{wrong.isna().sum()} rows have no label: refined by the features alone" in found.notes
    assert automatic.classification.accuracy[0] > 0.8 > 0.2 > found.classification.accuracy[0]


@pytest.mark.slow
def test_auto_finds_the_noise_of_real_features_and_leaves_clean_ones_alone():
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_wine(return_X_y=True, as_frame=True)
    label = pd.Series(NAMES[y], name="cultivar")
    noise = 0.5 * X.std(ddof=0).to_numpy() * np.random.default_rng(1).normal(size=X.shape)
    found = refine(pd.concat([X + noise, label], axis=1), "cultivar", max_epochs=3)
    clean = (X - X.mean()) / X.std(ddof=0)
    of = [
        (frame - X.mean()) / X.std(ddof=0) - clean for frame in (X + noise, found.data[X.columns])
    ]
    before, after = (np.sqrt((apart**2).mean(axis=None)) for apart in of)
    assert after <= 1.01 * before
    assert found.standard_errors.shape == X.shape
    told = calibrate(pd.concat([X, label], axis=1), "cultivar", max_epochs=3)
    assert told.noise.index.equals(X.columns)
    left = told.refine(pd.concat([X, label], axis=1))
    moved = np.abs(left.sigmas).max(axis=0)
    assert (moved > 0).mean() <= 0.5


@pytest.mark.slow
def test_digits_come_nearer_to_their_labels():
    """Steps by the labels of a classifier: it finds them likelier, and they stay."""
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_digits(return_X_y=True, as_frame=True)
    frame = X.assign(digit=y).iloc[:600]
    found = refine(frame, "digit", classes=True, max_epochs=15, rule="unit_step")
    (right, right_after), (loss, loss_after) = (
        found.classification.accuracy,
        found.classification.cross_entropy,
    )
    assert right > 0.9
    assert right_after >= right
    assert loss_after < loss
    pd.testing.assert_series_equal(found.data["digit"], frame["digit"])
    ranked = find_noisy(frame, "digit", model="linear", rounds=1)
    assert ranked.posterior.columns.equals(found.classification.before.columns)
