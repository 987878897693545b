"""Datasets and DataArrays of xarray: coordinates, attributes, dimensions and types stay."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from denograd_jax import refine
from denograd_jax._frames._columns import is_number
from denograd_jax._frames._containers import open_container
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError
from tests.test_containers import ROWS, TABLE, last, moved, numbers, total

TIME = pd.date_range("2021-03-27 22:00", periods=ROWS, freq="h")


def read_only(values):
    values = np.array(values)
    values.flags.writeable = False
    return values


def dataset():
    """Variables of many types along one dimension, with all that may lie beside them."""
    data = xr.Dataset(
        {
            "load": ("time", read_only(numbers()[:, 0]), {"units": "MW"}),
            "single": ("time", read_only(np.float32([0.1, np.nan, 3, 4, 5, 6]))),
            "count": ("time", read_only([2**60 + 1, 2, 3, 4, 5, 6])),
            "flag": ("time", read_only([True, False] * 3)),
            "text": ("time", read_only(["p", "q"] * 3)),
            "object": ("time", np.array(["p", None] * 3, object)),
            "seen": ("time", TIME.to_numpy()),
            "phase": ("time", read_only(np.arange(ROWS) * 1j)),
            "crs": ((), 4326, {"name": "WGS 84"}),
        },
        coords={
            "time": TIME,
            "local": ("time", read_only(np.arange(ROWS) % 24)),
            "place": "Soria",
            "corner": ("corner", [1.5, 2.5]),
        },
        attrs={"title": "test", "list": [1, 2]},
    )
    data["load"].encoding = {"zlib": True, "scale_factor": 0.1}
    data["count"].encoding = {"dtype": "int64", "_FillValue": -1}
    return data


def same(left, right):
    """Identical to the last cell, attribute and type."""
    xr.testing.assert_identical(left, right)
    if isinstance(left, xr.Dataset):
        assert list(left.variables) == list(right.variables)
        pairs = [(left.variables[name], right.variables[name]) for name in left.variables]
    else:
        pairs = [(left.variable, right.variable)]
        pairs += [(left.coords[name], right.coords[name]) for name in left.coords]
    for one, other in pairs:
        assert (one.dtype, one.dims, one.encoding) == (other.dtype, other.dims, other.encoding)


def test_a_dataset_comes_back_as_it_was():
    data = dataset()
    opened = open_container(data, "load")
    assert opened.frame.index.name == "time"
    assert opened.frame.index.equals(TIME)
    assert list(opened.frame) == [name for name in data.data_vars if name != "crs"]
    assert [c for c in opened.frame if is_number(opened.frame[c])] == ["load", "single", "count"]
    closed = opened.close(opened.frame.copy())
    same(closed, dataset())
    assert not any(np.shares_memory(closed[n].values, data[n].values) for n in data.data_vars)
    same(opened.close_target(opened.frame), data["load"])
    same(
        open_container(data, ["load", "count"]).close_target(opened.frame), data[["load", "count"]]
    )


def test_only_the_cells_that_changed_change():
    data = dataset()
    opened = open_container(data)
    refined = opened.close(
        moved(opened.frame, {(1, "load"): 9.5, (0, "single"): 0.75, (5, "count"): 6.5})
    )
    expected = dataset()
    load, single = expected["load"].values.copy(), expected["single"].values.copy()
    load[1], single[0] = 9.5, 0.75
    counts = expected["count"].values.astype(float)
    counts[5] = 6.5
    for name, values in {"load": load, "single": single, "count": counts}.items():
        expected[name] = expected[name].copy(data=values)
    expected["count"].encoding = {}  # else a file would hold integers
    same(refined, expected)
    whole = opened.close(moved(opened.frame, {(5, "count"): 7}, whole=["count"]))
    assert whole["count"].values.tolist() == [2**60 + 1, 2, 3, 4, 5, 7]
    assert whole["count"].encoding == data["count"].encoding
    same(whole.drop_vars("count"), data.drop_vars("count"))
    same(data, dataset())


def test_extension_arrays():
    frame = pd.DataFrame(
        {"n": pd.array([1, None, 3], "Int64"), "c": pd.Categorical(["p", None, "q"])},
        index=pd.Index([5, 7, 9], name="step"),
    )
    data = xr.Dataset.from_dataframe(frame)
    opened = open_container(data)
    same(opened.close(opened.frame.copy()), data)
    refined = opened.close(moved(opened.frame, {(2, "n"): 2.5}))
    expected = frame.assign(n=pd.array([1.0, None, 2.5], "Float64"))
    pd.testing.assert_frame_equal(refined.to_dataframe(), expected)


def test_rows_by_a_multiindex_or_by_number():
    levels = pd.MultiIndex.from_product([["u", "v"], [1, 2, 3]], names=["sensor", "step"])
    coords = xr.Coordinates.from_pandas_multiindex(levels, "row")
    data = xr.Dataset({"a": ("row", numbers()[:, 0])}, coords=coords)
    opened = open_container(data)
    assert opened.frame.index.names == ["sensor", "step"]
    same(opened.close(opened.frame.copy()), data)
    bare = xr.Dataset({"a": ("row", numbers()[:, 0])})
    opened = open_container(bare, TABLE["y"].set_axis(TIME))
    assert opened.frame.index.name == "row"
    same(opened.close(opened.frame.copy()), bare)


@pytest.mark.parametrize("name", ["load", None])
def test_one_dimension(name):
    data = xr.DataArray(
        read_only([1, 2, 3]),
        dims="time",
        coords={"time": TIME[:3], "local": ("time", [7, 8, 9])},
        name=name,
        attrs={"units": "MW"},
    )
    opened = open_container(data)
    assert list(opened.frame) == [name or "value"]
    same(opened.close(opened.frame.copy()), data)
    refined = opened.close(moved(opened.frame, {(1, name or "value"): 2.5}))
    same(refined, data.copy(data=[1.0, 2.5, 3.0]))
    assert data.values.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("dims", "coords", "rows"),
    [
        (("time", "place"), {"time": TIME}, "time"),
        (("place", "time"), {"time": TIME}, "time"),
        (("place", "when"), {"when": TIME - TIME[0]}, "when"),
        (("place", "time"), {"time": np.arange(ROWS)}, "time"),
        (("step", "place"), {}, "step"),
    ],
)
def test_two_dimensions(dims, coords, rows):
    table = read_only(numbers(columns=2).astype(np.float32))
    data = xr.DataArray(
        table if dims[0] == rows else table.T,
        dims=dims,
        coords={"place": ["u", "v"], "height": ("place", [1.0, 2.0])} | coords,
        attrs={"units": "m"},
        name="level",
    )
    opened = open_container(data, "v")
    assert list(opened.frame) == ["u", "v"]
    assert opened.frame.index.name == rows
    same(opened.close(opened.frame.copy()), data)
    refined = moved(opened.frame, {(4, "v"): 2.5})
    expected = table.copy()
    expected[4, 1] = 2.5
    closed = opened.close(refined)
    same(closed, data.copy(data=expected if dims[0] == rows else expected.T))
    same(opened.close_target(refined), closed.isel(place=1))
    same(open_container(data, ["v"]).close_target(refined), closed.isel(place=[1]))
    assert not np.shares_memory(closed.values, data.values)


def test_integers_in_two_dimensions():
    data = xr.DataArray(read_only([[1, 2], [3, 4]]), dims=("x", "y"))
    opened = open_container(data)
    assert opened.close(moved(opened.frame, {(0, 1): 9}, whole=[1])).dtype == np.int64
    assert opened.close(moved(opened.frame, {(0, 1): 2.5})).values.tolist() == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize("kind", ["name", "DataArray", "Dataset", "array", "Series"])
def test_refined_as_pandas_would_be(kind):
    table = TABLE.set_axis(TIME)
    expected = refine(table, "y", model=total, max_steps=2)
    data = xr.Dataset({name: ("time", table[name].to_numpy()) for name in table}, {"time": TIME})
    target = {
        "name": "y",
        "DataArray": data["y"],
        "Dataset": data[["y"]],
        "array": data["y"].values,
        "Series": table["y"],
    }[kind]
    x = data if kind == "name" else data.drop_vars("y")
    result = refine(x, target, model=total, max_steps=2)
    assert list(result.data) == list(x)
    np.testing.assert_array_equal(result.data["b"], expected.data["b"])
    assert type(result.target) is type(data["y"] if kind == "name" else target)
    found = result.target["y"] if kind == "Dataset" else result.target
    np.testing.assert_array_equal(found, expected.target)


def test_time_is_the_dimension():
    stamps = TIME.delete(3)
    data = xr.DataArray(numbers(5, 1).ravel(), {"time": stamps}, "time", "load")
    result = refine(data, time="time", window=1, model=last, max_steps=2)
    assert len(result.gaps) == 1
    same(result.data.copy(data=data.values), data)


class DuckArray:
    """An array of another library, as of dask: not in memory."""

    def __init__(self, values):
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __array_function__(self, *_):
        raise AssertionError("computed")

    def __array_ufunc__(self, *_):
        raise AssertionError("computed")


LINE = xr.DataArray(numbers()[:, 0], {"time": TIME}, "time")


@pytest.mark.parametrize(
    ("data", "target", "error", "words"),
    [
        (xr.Dataset({"a": ("x", [1.0]), "b": ("y", [1.0])}), None, ShapeError, r"2: \('x', 'y'\)"),
        (xr.Dataset({"a": (("x", "y"), [[1.0]])}), None, ShapeError, r"data\['name'\]"),
        (xr.Dataset({"a": 1.0}), None, ShapeError, "not none"),
        (xr.Dataset(), None, ShapeError, "not none"),
        (xr.Dataset({"a": ("x", [])}), None, DataError, "0 rows"),
        (xr.DataArray(1.0), None, ShapeError, "one or two dimensions"),
        (xr.DataArray(np.ones((1, 2, 3))), None, ShapeError, "'dim_2'"),
        (xr.DataArray(np.ones((2, 2)), {"y": [1, 1]}, ("x", "y")), 1, ColumnError, "1 occurs more"),
        (xr.DataArray(np.zeros(3, [("a", float)])), None, UnsupportedError, "structured"),
        (xr.DataArray(DuckArray(np.ones(3))), None, UnsupportedError, r"DuckArray.*as_numpy\(\)"),
        (LINE.variable, None, UnsupportedError, "not Variable"),
        (xr.DataTree(LINE.to_dataset(name="a")), None, UnsupportedError, "not DataTree"),
        (LINE, "load", ColumnError, "it has: 'value'"),
        (LINE, LINE.isel(time=slice(3)), ShapeError, "3 rows, the data has 6"),
        (LINE, LINE.assign_coords(time=TIME[::-1]), DataError, "different indexes"),
        (LINE, TABLE["y"], DataError, "different indexes"),
    ],
)
def test_refusals(data, target, error, words):
    with pytest.raises(error, match=words) as caught:
        open_container(data, target)
    assert "\n" not in str(caught.value)


KINDS = {
    "float64": st.floats(-1e6, 1e6) | st.just(np.nan),
    "float32": st.floats(-1e6, 1e6, width=32) | st.just(np.nan),
    ">f8": st.floats(-1e6, 1e6),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint8": st.integers(0, 255),
    "bool": st.booleans(),
    "U2": st.text("pq", max_size=2),
    "datetime64[ns]": st.integers(0, 2**62),
}


@given(st.data(), st.integers(1, 4), st.booleans())
def test_any_dataset_keeps_what_did_not_change(data, rows, whole):
    kinds = data.draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=4))
    columns = {
        f"c{j}": read_only(
            np.array(data.draw(st.lists(KINDS[kind], min_size=rows, max_size=rows))).astype(kind)
        )
        for j, kind in enumerate(kinds)
    }
    given_data = xr.Dataset({name: ("row", values) for name, values in columns.items()})
    opened = open_container(given_data)
    same(opened.close(opened.frame.copy()), given_data)
    labels = [name for name, values in columns.items() if values.dtype.kind in "fiu"]
    places = st.tuples(st.integers(0, rows - 1), st.sampled_from(labels or ["none"]))
    chosen = data.draw(st.sets(places, max_size=3)) if labels else set()
    number = 100 if whole else 0.5
    refined = moved(opened.frame, dict.fromkeys(chosen, number), labels if whole else ())
    closed = opened.close(refined)
    for name, values in columns.items():
        hit = [row for row, column in chosen if column == name]
        widened = bool(hit) and not whole and values.dtype.kind in "iu"
        expected = values.astype(float) if widened else values.copy()
        if hit:
            expected[hit] = number
        assert closed[name].dtype == expected.dtype
        np.testing.assert_array_equal(closed[name].values, expected)
