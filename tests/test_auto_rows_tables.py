"""The rule "auto" for rows in tables as they come, and where cells may not move."""

import numpy as np
import pandas as pd
import pytest

from denograd_jax import refine
from denograd_jax.errors import BackboneError, ColumnError, DenogradError, UnsupportedError
from tests.rank_two import CLEAN, COLUMNS, NOISY, X, ratio, rms

slow = pytest.mark.slow


# What may not move


def test_frozen_columns_and_rows_bounds_and_largest_changes():
    rows = (np.arange(1200) < 300) & NOISY["a"].between(-1, 1).to_numpy()
    refined = refine(
        NOISY,
        "y",
        rule="auto",
        noise_scale=0.3,
        frozen=["b"],
        frozen_rows=rows,
        bounds={"a": (-1.0, 1.0)},
        max_change={"c": 0.1, "d": 5.0},
    )
    moved = refined.data != NOISY
    pd.testing.assert_series_equal(refined.data["b"], NOISY["b"])
    pd.testing.assert_frame_equal(
        refined.data.loc[rows, ["c", "d", "e", "y"]], NOISY.loc[rows, ["c", "d", "e", "y"]]
    )
    assert moved.loc[~rows, ["c", "d", "e", "y"]].to_numpy().mean() > 0.99
    assert refined.data.loc[~rows, "a"].between(-1, 1).all()
    change = (refined.data - NOISY).abs()
    assert change["c"].max() <= 0.1 * NOISY["c"].std() * 1.01
    assert change["d"].max() > 0.2
    free = ["d", "e", "y"]
    assert ratio(refined.data.loc[~rows, free], NOISY[~rows], CLEAN[~rows]) < 0.9


@slow
def test_whole_numbers():
    given = (10 * NOISY).round().astype(int)
    options = {"rule": "auto", "noise_scale": 3.1}
    floats = refine(given, "y", **options).data
    whole = refine(given, "y", integer=True, **options).data
    assert floats.dtypes.eq(np.float64).all()
    pd.testing.assert_series_equal(whole.dtypes, given.dtypes)
    assert ratio(floats, given, 10 * CLEAN) < 0.75
    assert ratio(whole, given, 10 * CLEAN) < 0.8
    assert np.abs(whole - floats).max(axis=None) <= 0.5 + 1e-4


@pytest.mark.slow
def test_the_same_twice_dry_or_not(refined_rows, told_rows):
    again = refine(NOISY, "y", rule="auto", seed=0)
    pd.testing.assert_frame_equal(again.data, refined_rows.data)
    dry = refine(NOISY, "y", rule="auto", noise_scale=0.3, dry_run=True)
    pd.testing.assert_frame_equal(dry.data, NOISY)
    pd.testing.assert_frame_equal(dry.changes, told_rows.changes)


@slow
def test_another_seed_is_hardly_another_result(refined_rows):
    other = refine(NOISY, "y", rule="auto", seed=3)
    assert 0 < rms(other.data - refined_rows.data) < 0.1


# Containers and units


@slow
def test_no_unit_matters(refined_rows):
    scale, shift = np.array([40.0, 1e-3, 1.0, 1e5, 7.0, 1e200]), np.array([0, 5.0, -3, 1e6, 1, 0])
    other = refine(NOISY * scale + shift, "y", rule="auto").data
    # Sums are rounded otherwise, and expectation-maximisation carries that on.
    np.testing.assert_allclose((other - shift) / scale, refined_rows.data, atol=1e-3)


def test_arrays_polars_and_a_target_apart(told_rows):
    options = {"rule": "auto", "noise_scale": 0.3}
    values = refine(NOISY.to_numpy(), 5, **options).data
    np.testing.assert_allclose(values, told_rows.data, atol=1e-6)
    apart = refine(NOISY[X], NOISY["y"].to_numpy(), **options)
    np.testing.assert_allclose(apart.target, told_rows.data["y"], atol=1e-6)
    np.testing.assert_allclose(apart.data, told_rows.data[X], atol=1e-6)
    polars = pytest.importorskip("polars")
    frame = refine(polars.from_pandas(NOISY), "y", **options).data
    assert isinstance(frame, polars.DataFrame)
    np.testing.assert_allclose(frame.to_numpy(), told_rows.data, atol=1e-6)


@slow
def test_groups_in_units_of_their_own():
    """Of two groups in other units each is refined by the density of both in its own."""
    group = np.where(np.arange(1200) % 3 == 0, "p", "q")
    unit = np.where(group == "p", 1.0, 50.0)[:, None]
    given = (NOISY * unit + unit).assign(g=group)
    clean = CLEAN * unit + unit
    refined = refine(given, "y", rule="auto", groups="g", scale="group").data
    pd.testing.assert_series_equal(refined["g"], given["g"])
    for name in "pq":
        members = group == name
        assert ratio(refined.loc[members, COLUMNS], given[COLUMNS][members], clean[members]) < 0.75


# Tables as they come


TABLES = {
    "five rows": lambda: NOISY[:5],
    "two rows": lambda: NOISY[:2],
    "a constant target": lambda: NOISY.assign(y=3.0),
    "duplicate columns": lambda: NOISY.assign(a2=NOISY["a"], y2=NOISY["y"]),
    "each row twenty times": lambda: pd.concat([NOISY[:60]] * 20, ignore_index=True),
    "more columns than components": lambda: pd.DataFrame(
        np.random.default_rng(0).normal(size=(150, 60))
    ).rename(columns={0: "y"}),
    "mostly zeros": lambda: NOISY.assign(a=NOISY["a"].where(CLEAN["b"] > 1.3, 0.0)),
    "heavy tails": lambda: pd.DataFrame(
        np.random.default_rng(0).standard_t(2, size=(1200, 3)), columns=["a", "b", "y"]
    ),
    "huge": lambda: NOISY * 1e200,
    "tiny": lambda: NOISY * 1e-200,
    "one cell that is huge": lambda: NOISY.assign(a=NOISY["a"].where(NOISY.index != 3, 1e200)),
    "a column with two values": lambda: NOISY.assign(z=NOISY["a"].where(NOISY.index < 2)),
    "one column and the target": lambda: NOISY[["a", "y"]],
    "single precision": lambda: NOISY.astype("float32"),
}


QUICK = {"five rows", "a constant target"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=slow) for name in TABLES]
)
def test_tables_as_they_come(name):
    """No error, no new gap, and no cell that goes further than noise found could take it."""
    given = TABLES[name]()
    refined = refine(given, "y", rule="auto")
    pd.testing.assert_frame_equal(refined.data.isna(), given.isna())
    assert refined.changes["sigmas"].abs().max() < 3 * 0.5 or refined.changes.empty
    moved = refined.data.ne(given) & given.notna()
    assert not moved.loc[:, given.nunique() < 3].any(axis=None)
    assert np.isfinite(refined.residuals[["before", "after"]]).all(axis=None)
    refined.summary()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": None}, "rows need a target"),
        ({"impute": True}, "fills no missing cell"),
        ({"causal": True}, "rows have no order"),
        ({"step_size": 0.1}, "leave step_size out"),
        ({"max_steps": 3}, "leave max_steps out"),
        ({"target": COLUMNS}, "no column besides the target"),
        ({"noise_scale": 0.0}, "nothing to refine"),
        ({"model": "mixtures"}, "no backbone 'mixtures'"),
        ({"model": "mixture", "window": 4}, "no backbone 'mixture' for windows"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(DenogradError, match=words) as caught:
        refine(NOISY[:100], **{"target": "y", "rule": "auto", **options})
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UnsupportedError | ColumnError | BackboneError | DenogradError)


def test_all_rows_equal():
    with pytest.raises(ColumnError, match="no column can move"):
        refine(pd.DataFrame(np.ones((50, 3)), columns=["a", "b", "y"]), "y", rule="auto")
