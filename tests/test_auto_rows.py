"""The rule "auto" for rows: noise is found in a table, taken off, and nothing gets worse."""

import numpy as np
import pandas as pd
import pytest

from denograd_jax import Status, datasets, fit, refine
from tests.rank_two import CLEAN, COLUMNS, NOISY, X, ratio, rms

slow = pytest.mark.slow


def test_noise_becomes_less_in_every_column(refined_rows):
    assert ratio(refined_rows.data, NOISY) < 0.75
    after, before = refined_rows.data - CLEAN, NOISY - CLEAN
    for column in COLUMNS:
        assert rms(after[column]) < 0.85 * rms(before[column])
    assert refined_rows.status is Status.converged
    assert refined_rows.steps == 1
    assert refined_rows.kind == "rows"
    assert not refined_rows.look_ahead
    assert "standard deviations found" in refined_rows.settings["noise"]
    assert "in 6 of 6 columns" in refined_rows.settings["noise"]
    assert refined_rows.settings["model"] == "mixture of Gaussians, fitted to this data"
    assert refined_rows.settings["rule"] == "auto"
    assert "because the rule auto takes one, by the noise (" in refined_rows.summary()
    pd.testing.assert_frame_equal(refined_rows.before, NOISY)


def test_residuals_are_those_of_the_mixtures_prediction(refined_rows):
    """The columns explain the target better than noise in both would let the best linear model."""
    before, after = refined_rows.residuals["before"], refined_rows.residuals["after"]
    linear = np.linalg.lstsq(NOISY[X], NOISY["y"], rcond=None)[0]
    assert rms(before) == pytest.approx(rms(NOISY[X] @ linear - NOISY["y"]), rel=0.1)
    assert rms(after) < 0.7 * rms(before)


@slow
def test_little_noise_becomes_less():
    given = CLEAN + 0.1 * np.random.default_rng(1).normal(size=CLEAN.shape)
    assert ratio(refine(given, "y", rule="auto").data, given) < 0.75


def test_clean_rows_hardly_move_and_the_summary_says_why():
    refined = refine(CLEAN, "y", rule="auto")
    assert rms(refined.data - CLEAN) < 0.02
    assert "none that could be told from the signal" in refined.summary()


@slow
@pytest.mark.parametrize(
    "kind",
    ["lattice", "circle", "clusters", "tails", "curved"],
)
def test_other_clean_rows_hardly_move(kind):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 6, size=1200)
    x = rng.normal(size=(1200, 3))
    rows = {
        "lattice": lambda: np.clip(np.round(CLEAN[["a", "b", "y"]]), -1, 2),
        "circle": lambda: np.column_stack([np.sin(angle), np.cos(angle), angle]),
        "clusters": lambda: 9.0 * (rng.integers(3, size=(1200, 1)) == [0, 1, 2]) + 0.1 * x,
        "tails": lambda: rng.standard_t(2, size=(1200, 1)) * [1, 2, -1],
        "curved": lambda: np.column_stack([x[:, :2], x[:, 0] ** 2 + x[:, 1]]),
    }[kind]()
    frame = pd.DataFrame(np.asarray(rows), columns=["a", "b", "y"])
    refined = refine(frame, "y", rule="auto").data
    assert rms((refined - frame) / frame.std()) < 0.05


@slow
def test_a_column_that_was_recorded_exactly_does_not_move():
    """Three levels of a hidden number, among noisy columns."""
    given = NOISY.assign(b=np.clip(np.round(CLEAN["b"]), -1, 1))
    refined = refine(given, "y", rule="auto").data
    pd.testing.assert_series_equal(refined["b"], given["b"])
    others = [c for c in COLUMNS if c != "b"]
    assert ratio(refined[others], given[others], CLEAN[others]) < 0.85


@slow
@pytest.mark.parametrize("scale", [0.1, 0.3])
def test_real_rows(scale):
    """Houses: noise on all numbers but codes and dates, in the logarithm of the price as well."""
    about, frame = datasets.describe("lucas_county"), datasets.load("lucas_county")
    frame = frame.sample(4000, random_state=0, ignore_index=True)
    columns = [c for c in frame.select_dtypes("number") if c not in about.frozen]
    clean = frame[columns].astype(float)
    clean = (clean - clean.mean()) / clean.std()
    given = clean + scale * np.random.default_rng(0).normal(size=clean.shape)
    refined = refine(given, about.target, rule="auto").data
    assert ratio(refined, given, clean) < 1
    still = refine(clean, about.target, rule="auto").data
    assert rms(still - clean) < 0.1


# Missing cells, other columns, several targets


def test_missing_cells_stay_missing_and_their_rows_still_move():
    rng = np.random.default_rng(2)
    holed = NOISY.mask(rng.random(NOISY.shape) < 0.1)
    holed.loc[3] = np.nan
    holed.loc[4, X] = np.nan
    refined = refine(holed, "y", rule="auto")
    pd.testing.assert_frame_equal(refined.data.isna(), holed.isna())
    assert ratio(refined.data, holed) < 0.8
    gaps = holed.isna().any(axis=1) & (holed.notna().sum(axis=1) > 3)
    assert ratio(refined.data[gaps], holed[gaps], CLEAN[gaps]) < 0.8
    untold = holed["y"].isna() & (holed.notna().sum(axis=1) > 3)
    assert ratio(refined.data.loc[untold, X], holed.loc[untold, X], CLEAN.loc[untold, X]) < 0.85
    assert refined.residuals["label"].isin(holed.index[holed["y"].notna()]).all()


@slow
@pytest.mark.parametrize(
    "kind",
    ["whole rows", "the target", "beside a lattice"],
)
def test_many_missing_cells_do_not_hide_the_noise(kind):
    """What is filled in repeats, and would look like values that were recorded exactly."""
    rng = np.random.default_rng(2)
    gone = rng.random(len(NOISY)) < 0.25
    given = NOISY.copy()
    if kind == "whole rows":
        given.loc[gone] = np.nan
    else:
        given.loc[gone, "y"] = np.nan
    if kind == "beside a lattice":
        given["a"] = np.round(given["a"] * 3) / 3
    refined = refine(given, "y", rule="auto")
    assert ratio(refined.data, given) < 0.8
    assert np.isfinite(refined.data[~gone]).all(axis=None)


@pytest.mark.slow
def test_a_missing_cell_informs_no_other_beyond_its_expectation(mixture):
    """Its place is taken by the conditional mean: the row moves as if that had been observed."""
    holed = NOISY[1000:].copy()
    holed["c"] = np.nan
    filled = holed.copy()
    z = (holed[COLUMNS] - mixture.schema.scaling.mean[0]) / mixture.schema.scaling.scale[0]
    spread, seen = mixture.noise.spread, [0, 1, 3, 4, 5]
    expected = z.to_numpy()[:, seen] @ np.linalg.solve(
        spread[np.ix_(seen, seen)], spread[np.ix_(seen, [2])]
    )
    filled["c"] = expected[:, 0] * mixture.schema.scaling.scale[0, 2]
    filled["c"] += mixture.schema.scaling.mean[0, 2]
    others = ["a", "b", "d", "e", "y"]
    pd.testing.assert_frame_equal(
        mixture.refine(holed, "y", rule="auto").data[others],
        mixture.refine(filled, "y", rule="auto").data[others],
        atol=1e-5,
    )


def test_other_columns_inform_and_stay():
    given = NOISY.assign(
        kind=np.where(CLEAN["a"] > 0, "high", "low"),
        flag=CLEAN["b"] > 0,
        one=(CLEAN["c"] > 0).astype(int),
        two=np.where(CLEAN["c"] > 1, 7.5, 2.5),
        when=pd.date_range("2024-01-01", periods=1200),
        same=4.0,
        empty=np.nan,
    )
    refined = refine(given, "y", rule="auto")
    assert ratio(refined.data[COLUMNS], NOISY) < 0.75
    rest = ["kind", "flag", "one", "two", "when", "same", "empty"]
    pd.testing.assert_frame_equal(refined.data[rest], given[rest])
    assert "of 7 columns" in refined.settings["noise"]  # `two` was asked


@slow
def test_indicators_with_gaps_are_none_the_less_no_columns_of_the_density():
    one = pd.Series((CLEAN["c"] > 0).astype(float)).mask(CLEAN["a"] > 1)
    found = fit(NOISY.assign(one=one), "y", model="mixture").noise
    assert found.columns.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.variance[6] == 0


@slow
def test_several_targets(told_rows):
    several = refine(NOISY, ["y", "b"], rule="auto", noise_scale=0.3)
    # The density is the same, whatever of it is a target, but for where the fit ended.
    assert ratio(several.data, NOISY) < 0.7
    assert rms(several.data - told_rows.data) < 0.1
    assert set(several.residuals["target"]) == {"y", "b"}
    holed = NOISY.assign(y=NOISY["y"].mask(CLEAN["a"] > 1))
    again = refine(holed, ["y", "b"], rule="auto", noise_scale=0.3).data
    pd.testing.assert_frame_equal(again.isna(), holed.isna())
    assert ratio(again, holed) < 0.75


@pytest.mark.parametrize(
    "columns",
    [["kind", "flag", "y"], *(pytest.param([name, "y"], marks=slow) for name in ("one", "two"))],
    ids=["text", "0/1", "2 levels"],
)
def test_tables_without_another_number(columns):
    """The target's own distribution is all there is, and the rest stays."""
    rng = np.random.default_rng(0)
    given = pd.DataFrame(
        {
            "kind": rng.choice(["p", "q", "r"], size=400),
            "flag": rng.random(400) < 0.5,
            "one": rng.integers(0, 2, size=400),
            "two": rng.choice([1.0, 5.0], size=400),
            "y": rng.choice([-3.0, 3.0], size=400) + 0.2 * rng.normal(size=400),
        }
    )[columns]
    told = {"y": 0.2, "two": 0.0} if "two" in columns else {"y": 0.2}
    refined = refine(given, "y", rule="auto", noise_scale=told).data
    rest = columns[:-1]
    pd.testing.assert_frame_equal(refined[rest], given[rest])
    assert rms(refined["y"].abs() - 3) < 0.3 * rms(given["y"].abs() - 3)
    refine(given, "y", rule="auto")  # noise not told


# Noise that is told


def test_told_noise_goes_before_what_is_found(refined_rows, told_rows):
    assert ratio(told_rows.data, NOISY) < ratio(refined_rows.data, NOISY)
    assert told_rows.settings["noise"] == "given"
    cells = refine(NOISY, "y", rule="auto", noise_scale=np.full(NOISY.shape, 0.3))
    pd.testing.assert_frame_equal(cells.data, told_rows.data, atol=1e-5)


def test_columns_and_cells_without_noise_do_not_move():
    known = {**dict.fromkeys(COLUMNS, 0.3), "b": 0}
    given = NOISY.assign(b=CLEAN["b"])
    refined = refine(given, "y", rule="auto", noise_scale=known).data
    pd.testing.assert_series_equal(refined["b"], given["b"])
    others = [c for c in COLUMNS if c != "b"]
    exact = ratio(refined[others], given[others], CLEAN[others])
    assert exact < 0.6  # what is known for certain helps the others
    cells = np.full(NOISY.shape, 0.3)
    cells[::2] = 0
    half = refine(NOISY, "y", rule="auto", noise_scale=cells).data
    pd.testing.assert_frame_equal(half[::2], NOISY[::2])
    assert ratio(half[1::2], NOISY[1::2], CLEAN[1::2]) < 0.8


def test_no_cell_moves_further_than_noise_could():
    given = NOISY.copy()
    given.loc[7, "a"] = 80.0
    refined = refine(given, "y", rule="auto", noise_scale=0.3)
    assert refined.changes["change"].abs().max() <= 0.9 + 1e-5
    assert rms(refined.data.drop(index=7) - CLEAN.drop(index=7)) < 0.75 * 0.3
