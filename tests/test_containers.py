"""Whatever comes in goes out as it came: kind, index, labels, order and types."""

import copy
import datetime
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denograd_jax import DenogradError, refine
from denograd_jax._frames._columns import is_number
from denograd_jax._frames._containers import column_labels, column_or_level, open_container
from denograd_jax._frames._writing import write_back
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError

ROWS = 6
INDEXES = {
    "default": pd.RangeIndex(ROWS),
    "steps of 2": pd.RangeIndex(10, 10 + 2 * ROWS, 2),
    "dates": pd.date_range("2021-03-27 23:00", periods=ROWS, freq="h", tz="Europe/Madrid"),
    "periods": pd.period_range("2021-01", periods=ROWS, freq="M", name="month"),
    "levels": pd.MultiIndex.from_product([["u", "v"], [1, 2, 3]], names=["sensor", None]),
    "duplicates": pd.Index(["p", "q", "p", "p", "q", "r"], name="street"),
    "missing": pd.Index([1.5, np.nan, 2, 3, 4, 5]),
}
LABELS = {
    "text": ["b", "a", "y", "other"],
    "numbers": [3, 1, 2, 0],
    "mixed": ["a", 7, datetime.date(2020, 1, 1), 2.5],
    "dates": list(pd.date_range("2020-01-01", periods=4)),
    "levels": [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")],
    "categories": list(pd.CategoricalIndex(["a", "b", "c", "d"])),
}


def total(x):
    """The model of most tests here: any number of inputs."""
    return x.sum()


def last(window):
    return window[-1]


def numbers(rows=ROWS, columns=3, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns))


def moved(frame, cells, whole=()):
    """A frame as `refine` hands it to `close`: `cells` are `{(row, label): number}`."""
    labels = [label for label in frame.columns if is_number(frame[label])]
    values = np.full((len(frame), len(labels)), np.nan)
    for (row, label), number in cells.items():
        values[row, labels.index(label)] = number
    return write_back(frame, labels, values, whole=whole)[0]


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
@pytest.mark.parametrize("apart", [False, True])
def test_any_index(index, apart):
    frame = pd.DataFrame(numbers(), columns=["a", "b", "y"], index=index)
    before = frame.copy()
    if apart:
        target = frame.pop("y")
        before = frame.copy()
        result = refine(frame, target, model=total, max_steps=2)
        pd.testing.assert_index_equal(result.target.index, index)
        assert result.target.name == "y"
        assert not result.target.equals(target)
    else:
        result = refine(frame, "y", model=total, max_steps=2)
    pd.testing.assert_index_equal(result.data.index, index)
    pd.testing.assert_index_equal(result.data.columns, frame.columns)
    assert (result.data != before).to_numpy().all()
    pd.testing.assert_frame_equal(frame, before)
    for table in (result.before, result.after):
        pd.testing.assert_index_equal(table.index, index)
    assert len(result.changes) == 3 * ROWS
    assert result.changes["row"].isin(index.to_flat_index()).all()
    assert result.changes["row"].nunique(dropna=False) == index.nunique(dropna=False)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("apart", [False, True])
def test_any_labels(labels, apart):
    columns = pd.Index(labels, name=None if isinstance(labels[0], tuple) else "quantity")
    frame = pd.DataFrame(numbers(columns=4), columns=columns)
    target = numbers(columns=1, seed=1).ravel() if apart else labels[2]
    result = refine(frame, target, model=total, max_steps=2, frozen=[labels[0]])
    pd.testing.assert_index_equal(result.data.columns, columns)
    pd.testing.assert_series_equal(result.data.iloc[:, 0], frame.iloc[:, 0])
    assert (result.data.iloc[:, 1:] != frame.iloc[:, 1:]).to_numpy().all()
    moved = [*labels[1:], "target"] if apart else labels[1:]
    assert list(result.before.columns) == moved
    assert set(result.changes["column"]) == set(moved)
    assert str(result.residuals["target"].iloc[0]) == str("target" if apart else labels[2])


def test_a_series_keeps_its_name_and_index():
    for name in ("load", None, 3, ("a", "b")):
        series = pd.Series(numbers(12, 1).ravel(), index=[*"abcdefabcdef"], name=name)
        result = refine(series, window=3, model=last, max_steps=2)
        assert isinstance(result.data, pd.Series)
        assert result.data.name == name
        pd.testing.assert_index_equal(result.data.index, series.index)
        assert not result.data.equals(series)
        assert result.target is None


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ">f8", "longdouble", "object"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(dtype, order):
    array = np.asarray(numbers().astype(dtype), order=order)
    array[1, 0] = None
    writeable = refine(array, 2, model=total, max_steps=1, step_size=0.5)
    array.flags.writeable = False
    copied = array.tobytes()
    result = refine(array, 2, model=total, max_steps=1, step_size=0.5)
    assert type(result.data) is np.ndarray
    assert (result.data.dtype, result.data.shape) == (array.dtype, array.shape)
    assert array.tobytes() == copied
    assert result.data[1, 0] is None if dtype == "object" else np.isnan(result.data[1, 0])
    assert (np.delete(result.data, 1, axis=0) != np.delete(array, 1, axis=0)).all()
    np.testing.assert_array_equal(result.target, result.data[:, 2])
    assert result.data.flags.writeable
    assert not np.shares_memory(result.data, array)
    np.testing.assert_array_equal(writeable.target, result.target)
    framed = refine(pd.DataFrame(array, copy=False), 2, model=total, max_steps=1, step_size=0.5)
    np.testing.assert_array_equal(framed.target, result.target)
    assert array.tobytes() == copied


def test_flat_arrays_are_a_series_of_one_column():
    array = numbers(12, 1).ravel()
    result = refine(array, window=3, model=last, max_steps=2)
    assert result.data.shape == (12,)
    column = refine(array[:, None], window=3, model=last, max_steps=2)
    np.testing.assert_array_equal(result.data, column.data[:, 0])


@pytest.mark.parametrize("kind", ["array", "column", "Series", "DataFrame"])
def test_a_target_apart_gives_what_a_column_gives(kind):
    data = pd.DataFrame(numbers(), columns=["a", "b", "y"])
    expected = refine(data, "y", model=total, max_steps=3)
    apart = {
        "array": data["y"].to_numpy(),
        "column": data[["y"]].to_numpy(),
        "Series": data["y"],
        "DataFrame": data[["y"]],
    }[kind]
    result = refine(data[["a", "b"]], apart, model=total, max_steps=3)
    assert type(result.target) is type(apart)
    assert result.target.shape == apart.shape
    np.testing.assert_array_equal(np.ravel(result.target), expected.target)
    pd.testing.assert_frame_equal(result.data, expected.data[["a", "b"]])
    name = "y" if kind in ("Series", "DataFrame") else "target"
    assert set(result.residuals["target"]) == {name}
    assert name in set(result.changes["column"])


def test_several_targets_apart():
    x, y = numbers(8, 2), numbers(8, 2, seed=1)
    result = refine(x, y, model=lambda x: jnp.stack([x[0], x[0] - x[1]]), max_steps=2)
    assert result.target.shape == (8, 2)
    assert (result.target != y).all()
    assert list(result.before.columns) == [0, 1, "target 0", "target 1"]


def test_a_target_apart_may_have_the_name_of_a_column():
    data = pd.DataFrame(numbers(), columns=["y", "target y", "b"])
    result = refine(data, pd.Series(numbers(seed=1)[:, 0], name="y"), model=total, max_steps=2)
    assert list(result.before.columns) == ["y", "target y", "b", "target y'"]
    assert result.target.name == "y"


def test_target_named_by_label_list_or_number():
    data = pd.DataFrame(numbers(), columns=["a", "b", "y"])
    by_label = refine(data, "y", model=total, max_steps=2)
    assert isinstance(by_label.target, pd.Series)
    pd.testing.assert_series_equal(by_label.target, by_label.data["y"])
    by_list = refine(data, ["y"], model=total, max_steps=2)
    pd.testing.assert_frame_equal(by_list.target, by_list.data[["y"]])
    by_number = refine(data.to_numpy(), 2, model=total, max_steps=2)
    np.testing.assert_array_equal(by_number.target, by_label.target)
    np.testing.assert_array_equal(by_number.data, by_label.data)


def test_attributes_of_frames_are_kept():
    data = pd.DataFrame(numbers(), columns=["a", "b", "y"])
    data.attrs = {"unit": "m"}
    assert refine(data, "y", model=total, max_steps=1).data.attrs == {"unit": "m"}
    target = pd.Series(numbers(seed=1)[:, 0], name="t")
    target.attrs = {"unit": "s"}
    apart = refine(data, target, model=total, max_steps=1)
    assert apart.data.attrs == {"unit": "m"}
    assert apart.target.attrs == {"unit": "s"}


@st.composite
def frames(draw):
    """Small frames of any types, labels and index, with a numeric target that has values."""
    floats = st.floats(-1e3, 1e3, width=16)
    kinds = {
        "float64": st.one_of(floats, st.just(np.nan)),
        "float32": st.one_of(floats, st.just(np.nan)),
        "Float64": st.one_of(floats, st.none()),
        "Float32": st.one_of(floats, st.none()),
        "double[pyarrow]": st.one_of(floats, st.none()),
        "int64": st.integers(-9, 9),
        "int8": st.integers(-100, 100),
        "uint8": st.integers(0, 255),
        "Int64": st.one_of(st.integers(-9, 9), st.none()),
        "int64[pyarrow]": st.one_of(st.integers(-9, 9), st.none()),
        "object": st.one_of(floats, st.integers(-9, 9), st.none()),
        "bool": st.booleans(),
        "boolean": st.one_of(st.booleans(), st.none()),
        "str": st.sampled_from(["p", "q", "r"]),
        "string[pyarrow]": st.one_of(st.sampled_from(["p", "q"]), st.none()),
        "category": st.one_of(st.sampled_from(["p", "q"]), st.none()),
        "datetime64[ns, UTC]": st.datetimes(
            datetime.datetime(2000, 1, 1), datetime.datetime(2030, 1, 1)
        ),
    }
    index = draw(st.sampled_from(list(INDEXES.values())))
    chosen = draw(st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=4))
    labels = draw(st.permutations(draw(st.sampled_from(list(LABELS.values())))))
    columns = {}
    for label, kind in zip(labels, chosen, strict=False):
        cells = draw(st.lists(kinds[kind], min_size=ROWS, max_size=ROWS))
        columns[label] = pd.Series(cells, index, dtype=object).astype(kind)
    target = pd.Series(
        draw(st.lists(floats, min_size=ROWS, max_size=ROWS)), index, name="target", dtype=float
    )
    frame = pd.DataFrame(columns, index=index)
    frame.columns = pd.Index(list(columns))
    return frame, target


@settings(max_examples=8)  # each combination of types is compiled anew
@given(frames(), st.booleans(), st.booleans())
def test_any_frame_keeps_its_form_or_is_refused_in_one_line(given_frame, series, round_integers):
    frame, target = given_frame
    copies = copy.deepcopy((frame, target))
    options = {"window": 1, "model": lambda w: w.sum()} if series else {"model": total}
    options |= {"max_steps": 2, "step_size": 0.5, "integer": True if round_integers else ()}
    try:
        result = refine(frame, target, **options)
    except DenogradError as error:
        refusal = str(error)
    else:
        refusal = None
    pd.testing.assert_frame_equal(frame, copies[0])
    pd.testing.assert_series_equal(target, copies[1])
    if refusal is not None:
        assert "\n" not in refusal
        return
    pd.testing.assert_index_equal(result.data.index, frame.index)
    pd.testing.assert_index_equal(result.data.columns, frame.columns)
    pd.testing.assert_frame_equal(result.data.isna(), frame.isna())
    moved = {str(c) for c in result.changes["column"]}
    for j, label in enumerate(frame.columns):
        found, given_column = result.data.iloc[:, j], frame.iloc[:, j]
        if str(label) not in moved:
            pd.testing.assert_series_equal(found, given_column)
        elif not pd.api.types.is_integer_dtype(given_column.dtype) or round_integers:
            assert found.dtype == given_column.dtype
        else:
            assert pd.api.types.is_float_dtype(found.dtype)
    again = refine(frame, target, **options)
    pd.testing.assert_frame_equal(again.data, result.data, check_exact=True)
    pd.testing.assert_series_equal(again.target, result.target, check_exact=True)


TABLE = pd.DataFrame(numbers(), columns=["a", "b", "y"])


@pytest.mark.parametrize(
    ("data", "target", "error", "words"),
    [
        ([[1, 2], [3, 4]], 0, UnsupportedError, "not list: .* np.asarray"),
        (jnp.ones((3, 2)), 0, UnsupportedError, "np.asarray"),
        ({"a": [1]}, "a", UnsupportedError, r"data\['a'\] must be .* not list: .* pd.DataFrame"),
        (np.ma.masked_equal(numbers(), 0), 0, UnsupportedError, "filled"),
        (np.zeros(3, [("a", float)]), "a", UnsupportedError, "structured"),
        (np.ones((2, 2, 2)), 0, ShapeError, r"\(2, 2, 2\) .* list\(data\)"),
        (np.array(1.0), 0, ShapeError, r"not \(\)"),
        (np.ones((0, 2)), 0, DataError, "nothing to refine"),
        (np.ones((2, 0)), 0, DataError, "nothing to refine"),
        (np.ones(0), None, DataError, "nothing to refine"),
        (pd.DataFrame({"a": []}), "a", DataError, "0 rows"),
        (pd.DataFrame(index=range(3)), "a", DataError, "0 columns"),
        (TABLE, "z", ColumnError, "'z' is not in the data; it has: 'a', 'b', 'y'"),
        (TABLE, ["y", "y"], ColumnError, "twice"),
        (TABLE, [["y"]], UnsupportedError, "not list"),
        (TABLE, jnp.ones(ROWS), UnsupportedError, "NumPy array, Series or DataFrame"),
        (TABLE, [0.5] * ROWS, ColumnError, "NumPy array, Series or DataFrame"),
        (TABLE, np.array(1.0), ShapeError, "target must have shape"),
        (TABLE, np.ones((ROWS, 1, 1)), ShapeError, "target must have shape"),
        (TABLE, np.ones(5), ShapeError, "5 rows, the data has 6"),
        (TABLE, TABLE["y"].iloc[::-1], DataError, "different indexes"),
        (TABLE.to_numpy(), "2", ColumnError, "it has: 0, 1, 2"),
        (TABLE.set_axis(["a", "a", "y"], axis=1), "y", ColumnError, "'a' occurs more than once"),
        (TABLE.set_axis(["a", None, "y"], axis=1), "y", ColumnError, "a column has no name"),
        (TABLE.set_axis([1, np.nan, 2], axis=1), 2, ColumnError, "a column has no name"),
        (TABLE.to_numpy(), TABLE.set_axis(["a", "a", "y"], axis=1), ColumnError, "more than once"),
        (TABLE.set_axis([("a", "x"), ("a", "y"), ("b", "y")], axis=1), "a", ColumnError, "not in"),
    ],
)
def test_refusals(data, target, error, words):
    with pytest.raises(error, match=words):
        open_container(data, target)


def test_labels_from_any_collection():
    for given_labels in (["b", "a"], ("b", "a"), np.array(["b", "a"]), pd.Index(["b", "a"])):
        assert column_labels(TABLE, given_labels, "frozen") == ("b", "a")
    assert column_labels(TABLE, {"y", "a"}, "frozen") == ("a", "y")  # in the order of the data
    assert column_labels(TABLE, None, "frozen") == ()
    assert column_labels(TABLE, [], "frozen") == ()
    levels = TABLE.set_axis(pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", "y")]), axis=1)
    assert column_labels(levels, ("a", "y"), "frozen") == (("a", "y"),)
    assert column_labels(levels, [("a", "y")], "frozen") == (("a", "y"),)


def test_levels_of_the_index_by_name():
    frame = TABLE.set_axis(INDEXES["levels"])
    assert column_labels(frame, "sensor", "group", levels=True) == ("sensor",)
    assert column_or_level(frame, "sensor").tolist() == ["u"] * 3 + ["v"] * 3
    with pytest.raises(ColumnError, match="'sensor' is not in the data"):
        column_labels(frame, "sensor", "frozen")


@pytest.mark.parametrize("dtype", ["float32", ">f8", "longdouble", "int8", "uint64", "object"])
def test_an_array_is_closed_with_the_cells_that_changed(dtype):
    array = np.asfortranarray([[1, 2, 3], [4, 5, 6]]).astype(dtype)
    array.flags.writeable = False
    opened = open_container(array, 2)
    same = opened.close(opened.frame)
    assert same.dtype == array.dtype
    assert same.tobytes() == array.tobytes()
    assert same.flags.writeable
    whole = opened.close(moved(opened.frame, {(0, 1): 9, (1, 2): 8}, whole=[1, 2]))
    assert whole.dtype == array.dtype
    assert whole.tolist() == [[1, 9, 3], [4, 5, 8]]
    refined = moved(opened.frame, {(1, 2): 2.5})
    halves = opened.close(refined)
    assert halves.dtype == (array.dtype if array.dtype.kind in "fO" else np.float64)
    assert halves.tolist() == [[1, 2, 3], [4, 5, 2.5]]
    assert opened.close_target(refined).tolist() == [3, 2.5]
    assert array.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_large_integers_keep_every_digit():
    array = np.array([[2**60 + 1, 2**60 + 3], [5, 7]], object)
    frame = pd.DataFrame(array.astype(np.int64), columns=["a", "b"])
    opened = open_container([frame, frame], "b")
    refined = opened.close(moved(opened.frame, {(1, "a"): 6}, whole=["a"]))
    assert refined[0].dtypes.tolist() == [np.int64, np.int64]
    assert refined[0].to_numpy().tolist() == [[2**60 + 1, 2**60 + 3], [6, 7]]
    opened = open_container(array, 1)
    assert opened.close(moved(opened.frame, {(1, 0): 5.5}))[0].tolist() == [2**60 + 1, 2**60 + 3]


def test_a_missing_cell_that_was_filled_comes_back_filled():
    array = np.array([[1.0, np.nan], [np.nan, 4.0]])
    opened = open_container(array)
    filled = opened.close(moved(opened.frame, {(0, 1): 2.5}))
    np.testing.assert_array_equal(filled, [[1, 2.5], [np.nan, 4]])


def test_libraries_are_imported_only_for_their_own_objects():
    code = (
        "import sys, numpy as np, pandas as pd\n"
        "from denograd_jax._frames._containers import open_container\n"
        "for data in (np.ones(3), pd.DataFrame({'a': [1.0]}), [np.ones(3), np.ones(2)]):\n"
        "    opened = open_container(data)\n"
        "    opened.close(opened.frame)\n"
        "print(sorted({'polars', 'xarray', 'pyarrow', 'dask'} & set(sys.modules) - before))\n"
    )
    code = "import sys, pandas\nbefore = set(sys.modules)\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
