"""Frames and series of polars: what did not move is the caller's, nulls and types included."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal, assert_series_equal

from denograd_jax import refine
from denograd_jax._frames._columns import is_number
from denograd_jax._frames._containers import open_container
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError
from tests.test_containers import moved, numbers, total

NAN = float("nan")
DAY = datetime.datetime(2021, 3, 27, 23)
COLUMNS = {
    "f64": pl.Series([1.5, None, NAN, 4.0], dtype=pl.Float64),
    "f32": pl.Series([0.1, 0.2, None, NAN], dtype=pl.Float32),
    "i64": pl.Series([2**60 + 1, None, -3, 4], dtype=pl.Int64),
    "u8": pl.Series([0, 255, 7, 8], dtype=pl.UInt8),
    "i128": pl.Series([2**100, None, 1, 2], dtype=pl.Int128),
    "bool": pl.Series([True, None, False, True]),
    "text": pl.Series(["p", None, "q", ""]),
    "category": pl.Series(["p", None, "q", "p"], dtype=pl.Categorical),
    "enum": pl.Series(["q", "p", None, "p"], dtype=pl.Enum(["p", "q"])),
    "decimal": pl.Series([Decimal("1.10"), None, Decimal("2.20"), Decimal("3.30")]),
    "date": pl.Series([DAY.date(), None, DAY.date(), DAY.date()]),
    "time": pl.Series([DAY.time(), None, DAY.time(), DAY.time()]),
    "duration": pl.Series([datetime.timedelta(seconds=k) for k in range(4)]),
    "zoned": pl.Series([DAY + datetime.timedelta(hours=k) for k in range(4)]).dt.replace_time_zone(
        "Europe/Madrid", non_existent="null"
    ),
    "nanoseconds": pl.Series([DAY, None, DAY, DAY], dtype=pl.Datetime("ns")),
    "binary": pl.Series([b"a", None, b"b", b""]),
    "list": pl.Series([[1.5], None, [], [NAN, None]]),
    "struct": pl.Series([{"a": 1}, None, {"a": 2}, {"a": None}]),
    "array": pl.Series([[1, 2]] * 4, dtype=pl.Array(pl.Int64, 2)),
    "object": pl.Series([object()] * 4, dtype=pl.Object),
    "null": pl.Series([None] * 4),
}
FRAME = pl.DataFrame({name: column.alias(name) for name, column in COLUMNS.items()})


def same(left, right):
    """Equal to the last cell, order of columns and types included, a null being no NaN."""
    plain = [name for name in left.columns if name != "object"]  # which polars does not compare
    assert left.schema == right.schema
    assert_frame_equal(left.select(plain), right.select(plain), check_exact=True)
    if "object" in left.columns:
        assert left["object"].to_list() == right["object"].to_list()


def test_a_frame_of_all_types_comes_back_as_it_was():
    opened = open_container(FRAME, "f64")
    assert [label for label in opened.frame if is_number(opened.frame[label])] == [
        *("f64", "f32", "i64", "u8", "i128")
    ]
    assert opened.frame["f32"].dtype == np.float32
    assert opened.frame["zoned"].dt.tz is not None
    assert list(opened.frame.columns) == FRAME.columns
    same(opened.close(opened.frame.copy()), FRAME)
    assert_series_equal(opened.close_target(opened.frame), FRAME["f64"])


def test_only_the_cells_that_changed_change():
    opened = open_container(FRAME)
    cells = {(0, "f64"): 1.25, (0, "f32"): 0.75, (2, "i64"): -2.5, (3, "i128"): 5.5}
    refined = opened.close(moved(opened.frame, cells))
    kinds = {"i64": pl.Float64(), "i128": pl.Float64()}
    expected = FRAME.cast(kinds).with_columns(
        pl.Series("f64", [1.25, None, NAN, 4.0]),
        pl.Series("f32", [0.75, 0.2, None, NAN], dtype=pl.Float32),
        pl.Series("i64", [float(2**60), None, -2.5, 4.0]),
        pl.Series("i128", [float(2**100), None, 1.0, 5.5]),
    )
    same(refined, expected)
    whole = opened.close(moved(opened.frame, {(2, "i64"): 9, (1, "u8"): 7, (3, "i128"): 6}, FRAME))
    expected = FRAME.with_columns(
        pl.Series("i64", [2**60 + 1, None, 9, 4]),
        pl.Series("u8", [0, 7, 7, 8], dtype=pl.UInt8),
        pl.Series("i128", [2**100, None, 1, 6], dtype=pl.Int128),
    )
    same(whole, expected)


def test_nulls_that_were_filled_come_back_filled():
    opened = open_container(FRAME.select("f64", "i64"))
    filled = opened.close(moved(opened.frame, {(1, "f64"): 2.5, (1, "i64"): 0}, ["i64"]))
    assert filled["f64"].to_list()[:2] == [1.5, 2.5]
    assert filled["i64"].to_list() == [2**60 + 1, 0, -3, 4]


def test_series():
    for name in ("load", ""):
        series = pl.Series(name, [1, None, 3])
        opened = open_container(series)
        assert list(opened.frame.columns) == [name or "value"]
        assert_series_equal(opened.close(opened.frame), series)
        refined = opened.close(moved(opened.frame, {(2, name or "value"): 2.5}))
        assert_series_equal(refined, pl.Series(name, [1.0, None, 2.5]))
    text = pl.Series(["a"])
    assert_series_equal(open_container(text).close(open_container(text).frame), text)


def test_memory_that_must_not_be_written_to():
    array = numbers().ravel()
    array.flags.writeable = False
    frame = pl.DataFrame({"a": pl.from_numpy(array[:, None])["column_0"], "b": array})
    copied = array.tobytes()
    opened = open_container(frame)
    opened.close(moved(opened.frame, {(0, "a"): 9.0, (1, "b"): 9.0}))
    assert array.tobytes() == copied
    same(frame, pl.DataFrame({"a": array, "b": array}))


@pytest.mark.parametrize("kind", ["label", "list", "Series", "DataFrame", "array", "pandas"])
def test_refined_as_pandas_would_be(kind):
    table = pd.DataFrame(numbers(), columns=["a", "b", "y"])
    expected = refine(table, "y", model=total, max_steps=2)
    data = pl.DataFrame({name: table[name].to_numpy() for name in table})
    x = data if kind in ("label", "list") else data.drop("y")
    target = {
        "label": "y",
        "list": ["y"],
        "Series": data["y"],
        "DataFrame": data.select("y"),
        "array": data["y"].to_numpy(),
        "pandas": table["y"].set_axis(pd.date_range("2020", periods=len(table))),
    }[kind]
    result = refine(x, target, model=total, max_steps=2)
    assert isinstance(result.data, pl.DataFrame)
    assert result.data.columns == x.columns
    np.testing.assert_array_equal(result.data["b"], expected.data["b"])
    shapes = {"label": data["y"], "list": data.select("y")}
    assert type(result.target) is type(shapes.get(kind, target))
    np.testing.assert_array_equal(np.ravel(result.target), expected.target)
    if kind in ("label", "Series"):
        assert result.target.name == "y"


def test_time_with_a_zone_and_groups():
    hours = pl.datetime_range(DAY, DAY + datetime.timedelta(hours=11), "1h", eager=True)
    data = pl.DataFrame(
        {
            "when": hours.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Madrid"),
            "where": pl.Series(["u", "v"] * 6, dtype=pl.Categorical),
            "load": numbers(12, 1).ravel(),
        }
    )
    result = refine(data, window=2, time="when", groups="where", model=lambda w: w[-1], max_steps=2)
    assert result.data.schema == data.schema
    assert_frame_equal(result.data.drop("load"), data.drop("load"))
    assert (result.data["load"] != data["load"]).sum() > 6
    assert result.groups.tolist() == ["u", "v"] * 6


@pytest.mark.parametrize(
    ("data", "target", "error", "words"),
    [
        (FRAME.lazy(), None, UnsupportedError, r"data is a polars LazyFrame: .*\.collect\(\)"),
        (pl.col("a"), None, UnsupportedError, "not Expr"),
        (FRAME, FRAME.lazy(), UnsupportedError, r"target is a polars LazyFrame"),
        (FRAME, pl.col("f64"), UnsupportedError, "target must be .* not Expr"),
        (FRAME.clear(), None, DataError, "0 rows"),
        (pl.DataFrame(), None, DataError, "0 columns"),
        (FRAME, "f", ColumnError, "'f' is not in the data"),
        (FRAME, FRAME["f64"].head(2), ShapeError, "2 rows, the data has 4"),
    ],
)
def test_refusals(data, target, error, words):
    with pytest.raises(error, match=words) as caught:
        open_container(data, target)
    assert "\n" not in str(caught.value)


KINDS = {
    pl.Float64: st.floats(-1e6, 1e6) | st.just(NAN),
    pl.Float32: st.floats(-1e6, 1e6, width=32) | st.just(NAN),
    pl.Int64: st.integers(-(2**63), 2**63 - 1),
    pl.Int8: st.integers(-128, 127),
    pl.UInt64: st.integers(0, 2**64 - 1),
    pl.Boolean: st.booleans(),
    pl.String: st.text(max_size=2),
    pl.Enum(["p", "q"]): st.sampled_from("pq"),
    pl.Datetime("ms", "Asia/Tokyo"): st.datetimes(
        datetime.datetime(1950, 1, 1), datetime.datetime(2050, 1, 1)
    ).map(lambda stamp: stamp.replace(microsecond=0, tzinfo=datetime.UTC)),
}


@st.composite
def frames(draw):
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=5))
    rows = draw(st.integers(1, 4))
    return pl.DataFrame(
        [
            pl.Series(
                f"c{j}",
                draw(st.lists(KINDS[kind] | st.none(), min_size=rows, max_size=rows)),
                dtype=kind,
            )
            for j, kind in enumerate(kinds)
        ]
    )


@given(frames(), st.data())
def test_any_frame_keeps_what_did_not_change(frame, data):
    opened = open_container(frame)
    same(opened.close(opened.frame.copy()), frame)
    labels = [label for label in frame.columns if frame[label].dtype.is_numeric()]
    places = st.tuples(st.integers(0, frame.height - 1), st.sampled_from(labels or ["none"]))
    chosen = data.draw(st.sets(places, max_size=3)) if labels else set()
    whole = data.draw(st.booleans())
    number = 100 if whole else 0.5
    cells = dict.fromkeys(chosen, number)
    refined = opened.close(moved(opened.frame, cells, labels if whole else ()))
    for label in frame.columns:
        rows = {row for row, column in chosen if column == label}
        own, found = frame[label], refined[label]
        widened = rows and not whole and own.dtype.is_integer()
        assert found.dtype == (pl.Float64 if widened else own.dtype)
        expected = own.cast(found.dtype).to_list()
        for row in rows:
            expected[row] = number if found.dtype.is_integer() else float(number)
        assert_series_equal(found, pl.Series(label, expected, dtype=found.dtype), check_exact=True)
