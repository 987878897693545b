"""Columns of every type: which move, which only inform the model, and what comes back of them."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from denograd_jax import refine
from denograd_jax._frames._columns import listed
from denograd_jax._frames._schema import learn_schema
from denograd_jax._frames._writing import write_back
from denograd_jax.errors import ColumnError, DataError, ModelError

ROWS = 24


def total(x):
    return x.sum()


def table(**columns):
    """Two numeric inputs and a target, with further columns between."""
    rng = np.random.default_rng(4)
    a, b, y = rng.normal(size=(3, ROWS))
    return pd.DataFrame({"a": a, **columns, "b": b, "y": y})


def cycle(*values, dtype=None):
    return pd.Series([values[i % len(values)] for i in range(ROWS)], dtype=dtype)


def solved(frame, **options):
    """One step with the simplest model, which moves every cell."""
    defaults = {"model": total, "max_steps": 1, "step_size": 0.3, "tolerance": 0.0}
    return refine(frame, "y", **defaults | options)


def read(frame, targets=("y",), frozen=(), aside=()):
    return learn_schema(frame, targets, frozen, aside).read(frame)


@pytest.mark.parametrize(
    ("kind", "returned"),
    [
        ("float64", "float64"),
        ("float32", "float32"),
        ("float16", "float16"),
        ("Float64", "Float64"),
        ("Float32", "Float32"),
        ("double[pyarrow]", "double[pyarrow]"),
        ("float[pyarrow]", "float[pyarrow]"),
        ("Sparse[float64]", "Sparse[float64]"),
        ("object", "object"),
        ("int64", "float64"),
        ("uint8", "float64"),
        ("Int64", "Float64"),
        ("UInt8", "Float64"),
        ("int64[pyarrow]", "double[pyarrow]"),
        ("Sparse[int64]", "Sparse[float64]"),
    ],
)
def test_numbers_move_and_keep_their_type(kind, returned):
    frame = table(c=cycle(3, 5, 9, 4).astype(kind))
    result = solved(frame)
    expected = solved(table(c=cycle(3.0, 5.0, 9.0, 4.0)))
    assert str(result.data["c"].dtype) == str(pd.Series(dtype=returned).dtype)
    found = result.data["c"].to_numpy(np.float64)
    np.testing.assert_allclose(found, expected.data["c"], rtol=2e-3 if "16" in kind else 1e-6)
    assert (found != frame["c"].to_numpy(np.float64)).all()
    np.testing.assert_array_equal(found, result.after["c"])  # as the type can hold it
    note = "(integer=True, on the command line --integers, keeps them integer)"
    noted = any(note in n and n.endswith(": c") for n in result.notes)
    assert noted == (kind not in returned or kind == "object")


@pytest.mark.parametrize("kind", ["int64", "int8", "uint8", "Int64", "UInt8", "int64[pyarrow]"])
def test_integers_stay_integer_on_request(kind):
    frame = table(c=cycle(0, 120, 3, 2).astype(kind))
    free = solved(table(c=cycle(0.0, 120.0, 3.0, 2.0)), step_size=6.0)
    result = solved(frame, step_size=6.0, integer=True)
    assert result.data["c"].dtype == frame["c"].dtype
    limits = {"int8": (-128, 127), "uint8": (0, 255), "UInt8": (0, 255)}.get(kind, (-1e9, 1e9))
    expected = np.clip(np.rint(free.data["c"]), *limits)
    np.testing.assert_array_equal(result.data["c"].to_numpy(float), expected)
    assert free.data["c"].min() < -128
    np.testing.assert_array_equal(result.after["c"], expected)
    changed = result.changes.query("column == 'c'")
    np.testing.assert_array_equal(changed["change"], np.rint(changed["change"]))
    assert not result.notes


def test_an_integer_column_too_wide_for_floats_is_rounded_without_overflow():
    frame = table(c=cycle(2**63 - 1, -(2**63), 5, 7))
    result = solved(frame, integer=True)
    assert result.data["c"].dtype == np.int64
    assert result.data["c"].iloc[0] > 2**62


def test_objects_of_numbers():
    frame = table(c=cycle(1, None, 2.5, np.nan, 4, dtype=object), d=cycle(1, 2, None, dtype=object))
    result = solved(frame)
    assert pd.api.types.is_object_dtype(result.data["c"])
    kept = frame["c"].isna()
    assert all(a is b for a, b in zip(result.data["c"][kept], frame["c"][kept], strict=True))
    assert {type(v) for v in result.data["c"][~kept]} == {float}
    rounded = solved(frame, integer=True)
    assert {type(v) for v in rounded.data["d"][frame["d"].notna()]} == {int}


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_cells_stay_and_do_not_spread(missing):
    kinds = {"f": "float64", "n": "Float64", "i": "Int64", "p": "double[pyarrow]", "o": "object"}
    if missing is pd.NA:
        kinds.pop("f")
    columns = {name: cycle(1, 2, missing, 4, 7).astype(kind) for name, kind in kinds.items()}
    result = solved(table(**columns))
    for name in kinds:
        np.testing.assert_array_equal(result.data[name].isna(), columns[name].isna())
    assert result.data[["a", "b", "y"]].notna().all(axis=None)
    assert result.after.isna().to_numpy().sum() == result.before.isna().to_numpy().sum()
    assert result.changes.drop(columns=["residual_before", "residual_after"]).notna().all(axis=None)


def test_a_missing_cell_weighs_as_much_as_the_mean_of_its_column():
    """One step: the other cells go where they go with the mean of the observed in its place."""
    frame = table()
    frame.loc[5, "a"] = np.nan
    frame.loc[7, "y"] = np.nan
    filled = frame.assign(a=frame["a"].fillna(frame["a"].mean()))
    stretch = np.sqrt((ROWS - 1) / ROWS)  # the filled column is narrower
    result, other = (solved(given) for given in (frame, filled))
    np.testing.assert_allclose(result.unit[0, 0] * stretch, other.unit[0, 0])
    others = np.arange(ROWS) != 7
    change, expected = (r.after - r.before for r in (result, other))
    np.testing.assert_allclose(change["b"][others], expected["b"][others], rtol=0.03)
    assert (change.loc[7, ["a", "b"]] == 0).all()  # no target, no move
    assert np.isnan(result.data.loc[7, "y"])


def test_a_row_and_a_column_without_any_value():
    frame = table(empty=np.nan, nothing=cycle(None, dtype=object))
    frame.loc[3] = np.nan
    frame["nothing"] = None
    result = solved(frame)
    assert result.data.loc[3].isna().all()
    assert result.data["empty"].isna().all()
    assert result.data["nothing"].isna().all()
    moved = result.data.drop(index=3)[["a", "b", "y"]]
    assert moved.notna().all(axis=None)
    assert (moved != frame.drop(index=3)[["a", "b", "y"]]).all(axis=None)
    assert any("without values" in note and "empty" in note for note in result.notes)


PASSED_THROUGH = {
    "text": cycle("p", "q", None),
    "str": cycle("p", "q", "r").astype("str"),
    "arrow text": cycle("p", "q", None).astype("string[pyarrow]"),
    "category": cycle("p", "q", None).astype("category"),
    "ordered": pd.Series(pd.Categorical(cycle(3, 1, 2), [1, 2, 3, 4], ordered=True)),
    "bool": cycle(True, False),
    "boolean": cycle(True, None, False).astype("boolean"),
    "arrow bool": cycle(True, None, False).astype("bool[pyarrow]"),
    "object bool": cycle(True, None, dtype=object),
    "mixed": cycle("p", 1, 2.5, dtype=object),
    "bytes": cycle(b"p", b"q", dtype=object),
}
UNSEEN = {
    "dates": pd.Series(pd.date_range("2020-01-01", periods=ROWS, tz="Asia/Tokyo")),
    "days": cycle(datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), dtype=object),
    "durations": pd.Series(pd.to_timedelta(range(ROWS), unit="h")),
    "periods": pd.Series(pd.period_range("2020-01", periods=ROWS, freq="M")),
    "intervals": pd.Series(pd.interval_range(0, ROWS)),
    "complex": cycle(1 + 2j, 3j),
    "decimals": cycle(decimal.Decimal("1.1"), decimal.Decimal("2.2"), dtype=object),
    "lists": cycle([1], [2, 3], dtype=object),
    "dictionaries": cycle({"k": 1}, {}, dtype=object),
}


@pytest.mark.parametrize("column", [*PASSED_THROUGH, *UNSEEN])
def test_what_is_no_number_passes_through_untouched(column):
    values = (PASSED_THROUGH | UNSEEN)[column]
    frame = table(c=values)
    result = solved(frame)
    pd.testing.assert_series_equal(result.data["c"], values.rename("c"))
    pd.testing.assert_frame_equal(result.data.drop(columns="c"), solved(table()).data)
    unseen = any("unseen by the model" in note for note in result.notes)
    assert unseen == (column in UNSEEN)


def test_one_column_per_level_the_most_frequent_first():
    found = read(table(c=cycle("p", "q", None, "q", "r"), d=cycle(True, False))).indicators
    c, d = cycle("p", "q", None, "q", "r"), cycle(True, False)
    expected = np.column_stack([c == "q", c == "p", c == "r", ~d, d])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_levels_do_not_depend_on_the_order_of_the_rows():
    levels = pd.Series([*"ccbbaa", *"zzzyyyxxxwwwvvvuuu"])
    found = read(table(c=levels)).indicators
    back = np.arange(ROWS)[::-1]
    reversed_rows = read(table(c=levels).iloc[back]).indicators
    np.testing.assert_array_equal(reversed_rows, found[back])


def test_unused_categories_and_many_levels():
    few = pd.Series(pd.Categorical(cycle("p", "q"), ["p", "q", *map(str, range(500))]))
    assert read(table(c=few)).indicators.shape[1] == 2
    rows = 400
    frame = pd.DataFrame({"x": np.arange(rows) ** 2.0, "y": np.sin(np.arange(rows))})
    many = read(frame.assign(c=[f"level {i % 60:02d}" for i in range(rows)]))
    assert many.indicators.shape[1] == 50
    assert (many.indicators.sum(axis=1) == 0).sum() == 60  # the last ten levels, six rows each
    named = frame.assign(c=[f"name {i}" for i in range(rows)])
    assert read(named).indicators.shape[1] == 0
    assert "unseen by the model: c" in learn_schema(named, ("y",), (), ()).notes[0]


def test_frozen_constant_and_binary_columns_do_not_move():
    frame = table(
        constant=np.full(ROWS, 0.1),
        binary=cycle(0, 1, 1),
        gaps=cycle(0.0, 1.0, None),
        empty=np.full(ROWS, np.nan),
        frozen=cycle(1.5, 2.5, 9.0),
    )
    result = solved(frame, frozen=["frozen", "b"])
    still = ["constant", "binary", "gaps", "empty", "frozen", "b"]
    pd.testing.assert_frame_equal(result.data[still], frame[still], check_exact=True)
    assert list(result.before.columns) == ["a", "y"]
    assert set(result.changes["column"]) == {"a", "y"}
    assert result.notes == [
        "constant columns are left as they are: constant",
        "columns without values are left as they are: empty",
        "columns of 0 and 1 are taken as indicators and left as they are: binary, gaps",
    ]


@pytest.mark.parametrize("kind", ["int64", "Int64", "uint16", "int64[pyarrow]", "object"])
def test_columns_that_number_the_rows_stand_aside(kind):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "y"])
    numbered = frame.assign(nth=pd.Series(range(200, 80, -2)).astype(kind))
    result = solved(numbered)
    pd.testing.assert_frame_equal(result.data, solved(frame).data.assign(nth=numbered["nth"]))
    assert result.notes[0].endswith("are passed through unseen (frozen= shows them): nth")
    shown = solved(numbered, frozen="nth", model=lambda x: x[0] + 0 * x[1])
    pd.testing.assert_frame_equal(shown.data[["a", "y"]], result.data[["a", "y"]])
    assert "nth" in read(numbered, targets=["nth"]).labels
    assert "nth" in read(numbered.assign(nth=numbered["nth"].where(frame.index != 7, 0))).labels
    assert "nth" in read(numbered.assign(nth=numbered["nth"].astype(float))).labels
    assert "nth" in read(numbered.iloc[:40]).labels  # too few to tell


def test_a_frozen_or_binary_target_stays_and_the_rest_moves_toward_it():
    for frame, options in (
        (table(), {"frozen": "y"}),
        (table().assign(y=cycle(0, 1)), {}),
    ):
        result = solved(frame, **options)
        pd.testing.assert_series_equal(result.data["y"], frame["y"])
        pd.testing.assert_series_equal(result.target, frame["y"])
        assert (result.data[["a", "b"]] != frame[["a", "b"]]).any(axis=None)
        assert result.residuals["after"].abs().mean() < result.residuals["before"].abs().mean()


def test_a_column_that_only_goes_there_and_back_keeps_every_bit():
    """Two opposite steps leave rounding of float32, which is no correction."""
    frame = table(n=cycle(5, 7, 8)).assign(y=cycle(-1.1, 1.3, 0.7, 2.9))
    result = solved(frame, model=lambda x: 0 * x.sum(), step_size=3.0, max_steps=2)
    assert result.steps == 2
    pd.testing.assert_frame_equal(result.data, frame, check_exact=True)
    assert result.changes.empty


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-3, 1e12, 1e30])
def test_units_do_not_matter(scale):
    """With a linear model in the same units the corrections scale along."""
    frame, scaled = table(), table() * scale
    result, other = solved(frame), solved(scaled)
    np.testing.assert_allclose(other.data / scale, result.data, rtol=1e-4, atol=1e-5)
    assert len(other.changes) == len(result.changes) == 3 * ROWS


@pytest.mark.parametrize("scale", [1e-305, 1e-150, 1e150, 1e290])
def test_extreme_units_there_and_back(scale):
    plain, scaled = read(table()), read(table() * scale)
    np.testing.assert_allclose(scaled.standardised(), plain.standardised(), rtol=1e-3, atol=1e-3)
    assert scaled.movable.all()
    change = np.full(plain.values.shape, 0.5)
    values = scaled.values + change * scaled.scale
    refined, after, _ = write_back(table() * scale, scaled.labels, values)
    expected = (table() + 0.5 * plain.scale[0]) * scale
    np.testing.assert_allclose(refined, expected, rtol=1e-3, atol=1e-2 * scale)
    np.testing.assert_array_equal(after, refined)


def test_a_large_offset_is_no_constant():
    with_offset = read(table() + 1e12)
    np.testing.assert_allclose(with_offset.mean, read(table()).mean + 1e12)
    np.testing.assert_allclose(with_offset.scale, read(table()).scale, rtol=1e-3)
    assert with_offset.movable.all()


def test_moments_are_those_of_numpy():
    frame = table()
    frame.loc[2, "a"] = np.nan
    found = read(frame)
    np.testing.assert_allclose(found.mean[0], np.nanmean(frame, axis=0))
    np.testing.assert_allclose(found.scale[0], np.nanstd(frame, axis=0))
    z = found.standardised()
    np.testing.assert_allclose(np.nanmean(z, axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(z, axis=0), 1)


def test_a_constant_of_many_rows_is_constant():
    """A sum of 0.1 over many rows is off by more than one rounding."""
    rows = 300_000
    frame = pd.DataFrame({"c": np.full(rows, 0.1), "y": np.arange(rows) / 7})
    frame.loc[::3, "c"] = np.nan
    assert read(frame).movable.tolist() == [False, True]


def test_write_back_touches_only_what_changed():
    frame = table(i=cycle(1, 2, 3), big=np.full(ROWS, 2**60 + 1) + np.arange(ROWS))
    found = read(frame)
    values = np.full(found.values.shape, np.nan)  # nothing new
    values[3, 0], values[4, 0] = found.values[3, 0], found.values[4, 0] + 0.5
    refined, after, notes = write_back(frame, found.labels, values)
    expected = frame.copy()
    expected.loc[4, "a"] += 0.5
    pd.testing.assert_frame_equal(refined, expected, check_exact=True)
    np.testing.assert_array_equal(after[:, 0], expected["a"])
    assert notes == []


def test_long_lists_are_cut():
    assert listed("abc") == "a, b, c"
    assert listed(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7 and 4 more"


@pytest.mark.parametrize(
    ("frame", "target", "error", "words"),
    [
        (table(t=cycle("u", "v")), "t", ModelError, "a logit for each class of 't', .* u, v"),
        (table(t=cycle(decimal.Decimal(1), dtype=object)), "t", ColumnError, "astype"),
        (table()[["y"]].astype(str), "y", ColumnError, "only numbers"),
        (table(t=np.nan), "t", DataError, "'t' has no value at all"),
        (table(t=cycle(1.0, np.inf)), "y", DataError, "'t' has 12 infinite"),
        (table(t=cycle(1.0, -1e308)), "y", DataError, "beyond 1e"),
        (table(t=cycle(1.0, np.inf)), "t", DataError, "leave them empty"),
        (table()[["y"]], "y", ColumnError, "no column besides the target"),
        (table().iloc[:1], "y", ColumnError, "no column can move"),
        (table() * 0, "y", ColumnError, "no column can move"),
        (table(c=cycle("u", "v"))[["c", "y"]], "y", ColumnError, "no numeric column besides"),
        (table() * 1e-200, "y", DataError, "'a' .* cannot be given to a model in float32"),
        (table() * 1e100, "y", DataError, "leave model= out"),
        (table() + 1e12, "y", DataError, "scale or shift it"),
    ],
)
def test_refusals(frame, target, error, words):
    with pytest.raises(error, match=words) as caught:
        refine(frame, target, model=total)
    assert "\n" not in str(caught.value)


def test_everything_frozen_is_refused():
    with pytest.raises(ColumnError, match="no column can move"):
        solved(table(), frozen=["a", "b", "y"])
    with pytest.raises(ColumnError, match="no column is numeric"):
        read(table(c="p")[["c"]], targets=())


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "houseId",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("user_id", "ID 2", "row.uuid")),
    ],
)
def test_identifiers_stand_aside(name):
    """Though they repeat, and though they are in no order."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(80, 2)), columns=["a", "c"])
    frame[name] = rng.integers(1000, 9000, 80)
    refined = refine(frame, "c", model=total)
    pd.testing.assert_series_equal(refined.data[name], frame[name])
    assert any(name in note and "identifiers" in note for note in refined.notes)
    shown = refine(frame, "c", model=total, frozen=[name])
    pd.testing.assert_series_equal(shown.data[name], frame[name])


def test_whole_numbers_that_might_be_identifiers_are_named():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"idle": rng.permutation(500)[:80], "a": rng.normal(size=80)})
    frame["c"] = frame["a"] + frame["idle"] / 200
    refined = refine(frame, "c", model=lambda x: x.sum() / 200, tolerance=0)
    assert (refined.data["idle"] != frame["idle"]).any()
    assert any("never repeat" in note and "idle" in note for note in refined.notes)
