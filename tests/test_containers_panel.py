"""A panel is a collection of containers, and comes back as one: each with its rows and types."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from denograd_jax import refine
from denograd_jax._frames._containers import open_container
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError
from tests.test_containers import INDEXES, ROWS, last, moved, numbers, total

MEMBERS = [
    pd.DataFrame(numbers(), columns=["a", "b", "y"]),
    pd.DataFrame(numbers(4, seed=1), columns=["a", "b", "y"]),
    pd.DataFrame(numbers(5, seed=2), columns=["a", "b", "y"]),
]
STAMPED = [
    member.set_axis(pd.date_range(f"202{k}-03-01", periods=len(member), name="time", tz="UTC"))
    for k, member in enumerate(MEMBERS)
]


def same(left, right):
    """Equal to the last cell, with labels, types and attributes."""
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert list(left) == list(right)
        left, right = left.values(), right.values()
    for one, other in zip(left, right, strict=True):
        assert type(one) is type(other)
        match one:
            case pd.DataFrame():
                pd.testing.assert_frame_equal(one, other, check_exact=True)
                assert one.attrs == other.attrs
            case pd.Series():
                pd.testing.assert_series_equal(one, other, check_exact=True)
            case pl.DataFrame():
                assert_frame_equal(one, other, check_exact=True)
            case np.ndarray():
                assert (one.dtype, one.shape) == (other.dtype, other.shape)
                assert one.tolist() == other.tolist()
            case _:
                xr.testing.assert_identical(one, other)


def arrays(*lengths):
    made = [np.arange(n * 2.0).reshape(n, 2) for n in lengths]
    for array in made:
        array.flags.writeable = False
    return made


COLLECTIONS = {
    "frames": MEMBERS,
    "tuple": tuple(MEMBERS),
    "stamped": dict(zip("uvw", STAMPED, strict=True)),
    "one": MEMBERS[:1],
    "keys of any type": {("a", 1): MEMBERS[0], 2.5: MEMBERS[1], "c": MEMBERS[2]},
    "indexes": {
        name: pd.DataFrame(numbers(), columns=["a", "b", "y"], index=index)
        for name, index in INDEXES.items()
    },
    "other order": [MEMBERS[0], MEMBERS[1][["y", "a", "b"]]],
    "levels": [
        member.set_axis(pd.MultiIndex.from_tuples([("p", "q"), ("p", "r"), ("s", "q")]), axis=1)
        for member in MEMBERS
    ],
    "types": [
        pd.DataFrame({"n": np.array([2**60 + 1, 2]), "t": ["p", "q"], "m": [1.5, 2.5]}),
        pd.DataFrame({"n": np.float32([0.1]), "t": pd.Categorical(["p"]), "m": [np.nan]}),
        pd.DataFrame({"n": pd.array([1, None], "Int8"), "t": [None] * 2, "m": [None] * 2}),
        pd.DataFrame(
            {"n": pd.array([1, 2], "int64[pyarrow]"), "t": pd.array(["p"] * 2), "m": [1, 2]}
        ),
    ],
    "Series": [member["a"] for member in STAMPED],
    "Series without a name": [member["a"].rename(None) for member in MEMBERS],
    "arrays": arrays(3, 1, 5),
    "byte orders": [np.ones((2, 2), ">f8"), np.ones((1, 2), "<f4"), np.ones((1, 2), ">i2")],
    "flat arrays": [np.arange(3), np.arange(2.0), np.float32([1])],
    "polars": [pl.DataFrame(member.to_dict("list")) for member in MEMBERS],
    "polars types": {
        1: pl.DataFrame({"a": [1, None], "c": pl.Series(["p", "q"], dtype=pl.Categorical)}),
        2: pl.DataFrame({"a": [float("nan")], "c": ["p"]}),
    },
    "DataArrays": [xr.DataArray(numbers(n), dims=("time", "place")) for n in (3, 2)],
    "Datasets": tuple(
        xr.Dataset(
            {"a": ("time", numbers(n)[:, 0]), "k": ("time", ["p"] * n)},
            {"time": pd.date_range("2020", periods=n), "place": "here"},
            {"n": n},
        )
        for n in (3, 2)
    ),
}


@pytest.mark.parametrize("data", COLLECTIONS.values(), ids=COLLECTIONS)
def test_a_collection_comes_back_as_it_was(data):
    opened = open_container(data)
    same(opened.close(opened.frame.copy()), data)
    assert opened.series == "series"
    assert opened.frame.columns[-1] == "series"
    members = data if isinstance(data, dict) else dict(enumerate(data))
    expected = [key for key, member in members.items() for _ in range(len(rows_of(member)))]
    assert opened.frame["series"].tolist() == expected
    assert opened.frame.index.get_level_values("series").tolist() == expected
    assert opened.close_target(opened.frame) is None


def rows_of(member):
    return range(len(next(iter(member.values())))) if isinstance(member, xr.Dataset) else member


def test_rows_are_found_again():
    opened = open_container(dict(zip("uvw", STAMPED, strict=True)))
    assert opened.frame.index.names == ["series", "time"]
    assert opened.frame.index.to_list()[6] == ("v", STAMPED[1].index[0])
    assert opened.frame.loc[("v", STAMPED[1].index[0]), "y"] == MEMBERS[1]["y"].iloc[0]
    levels = [
        MEMBERS[0].set_axis(INDEXES["levels"]),
        MEMBERS[1].set_axis(pd.Index([*"pqrs"], name="step")),
    ]
    opened = open_container(levels)
    assert opened.frame.index.to_list()[0] == (0, "u", 1)
    assert opened.frame.index.to_list()[6][:2] == (1, "p")
    same(opened.close(opened.frame.copy()), levels)


def test_the_label_of_the_series_is_one_that_nothing_else_has():
    data = [member.rename(columns={"a": "series"}) for member in MEMBERS]
    opened = open_container([member.rename_axis("series'") for member in data], "series")
    assert opened.series == "series''"
    assert opened.targets == ("series",)
    target = [member["y"].rename("series'") for member in MEMBERS]
    assert open_container(data, target).series == "series''"


def test_only_the_cells_that_changed_change():
    data = COLLECTIONS["types"]
    opened = open_container(data, "n")
    rows = [0, 2, 3, 6]  # one of each
    refined = moved(opened.frame, {(row, "n"): 2.5 for row in rows} | {(1, "m"): 7.0})
    closed = opened.close(refined)
    expected = [
        data[0].assign(n=[2.5, 2.0], m=[1.5, 7.0]),
        data[1].assign(n=np.float32([2.5])),
        data[2].assign(n=pd.array([2.5, None], "Float64")),
        data[3].assign(n=pd.array([1, 2.5], "double[pyarrow]")),
    ]
    same(closed, expected)
    same(opened.close_target(refined), [member["n"] for member in expected])
    same(open_container(data, ["n"]).close_target(refined), [m[["n"]] for m in expected])


def test_whole_numbers_stay_whole_where_all_members_have_them():
    data = [pd.DataFrame({"n": np.int64([5, 2**60 + 1])}), pd.DataFrame({"n": np.int8([1, 2])})]
    opened = open_container(data)
    closed = opened.close(moved(opened.frame, {(0, "n"): 300, (3, "n"): 300}, whole=["n"]))
    same(closed, [data[0].assign(n=[300, 2**60 + 1]), data[1].assign(n=np.int8([1, 127]))])


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_a_target_for_each_series(kind):
    x = [member[["a", "b"]] for member in STAMPED]
    y = [member["y"] for member in STAMPED]
    if kind == "dict":
        x, y = dict(zip("uvw", x, strict=True)), dict(zip("wvu", y[::-1], strict=True))
    elif kind == "tuple":
        y = tuple(y)
    opened = open_container(x, y)
    assert (opened.targets, opened.apart) == (("y",), True)
    assert list(opened.frame) == ["a", "b", "y", "series"]
    refined = moved(opened.frame, {(6, "y"): 9.5, (0, "a"): 8.5})
    closed, target = opened.close(refined), opened.close_target(refined)
    assert type(target) is type(y)
    first, second = ("u", "v") if kind == "dict" else (0, 1)
    assert (closed[first]["a"].iloc[0], target[second].iloc[0]) == (8.5, 9.5)
    pd.testing.assert_series_equal(target[first], y[first])
    pd.testing.assert_frame_equal(closed[second], x[second])


def test_targets_in_arrays():
    targets = [member["y"].to_numpy() for member in STAMPED]
    opened = open_container([member[["a"]] for member in STAMPED], targets)
    assert opened.targets == ("target",)
    same(opened.close_target(opened.frame), targets)


def test_refined_as_one_frame_with_groups_would_be():
    frame = pd.concat(STAMPED, keys=[*"uvw"], names=["which"])
    options = {"window": 2, "time": "time", "model": last, "max_steps": 3}
    expected = refine(frame, groups="which", **options)
    result = refine(dict(zip("uvw", STAMPED, strict=True)), **options)
    assert list(result.data) == [*"uvw"]
    for key, member in zip("uvw", STAMPED, strict=True):
        pd.testing.assert_frame_equal(result.data[key], expected.data.loc[key], check_freq=False)
        assert result.data[key].index.freq == member.index.freq
    assert len(result.changes) == len(expected.changes)
    assert result.changes["row"].tolist() == expected.changes["row"].tolist()
    assert set(result.groups) == {*"uvw"}


def test_rows_of_several_tables():
    expected = refine(pd.concat(MEMBERS), "y", model=total, max_steps=2)
    result = refine(MEMBERS, "y", model=total, max_steps=2)
    pd.testing.assert_frame_equal(pd.concat(result.data), expected.data)
    pd.testing.assert_series_equal(pd.concat(result.target), expected.target)
    apart = refine(
        [member[["a", "b"]] for member in MEMBERS],
        [member["y"].to_numpy() for member in MEMBERS],
        model=total,
        max_steps=2,
    )
    np.testing.assert_array_equal(np.concatenate(apart.target), expected.target)


def test_the_callers_objects_are_not_changed():
    data = arrays(3, 2)
    frames = [pd.DataFrame(array, copy=False) for array in arrays(3, 2)]
    for members in (data, frames):
        opened = open_container(members, 1)
        closed = opened.close(moved(opened.frame, {(0, 0): 9.5, (4, 1): 8.5}))
        assert [np.asarray(part)[j, j] for j, part in enumerate(closed)] == [9.5, 8.5]
        for part, member, array in zip(closed, members, arrays(3, 2), strict=True):
            assert np.array_equal(member, array)
            assert not np.shares_memory(np.asarray(part), np.asarray(member))


A, B = MEMBERS[:2]


@pytest.mark.parametrize(
    ("data", "target", "error", "words"),
    [
        ([], None, DataError, "data is an empty collection"),
        ({}, None, DataError, "data is an empty collection"),
        ([1.0, 2.0], None, UnsupportedError, r"data\[0\] must be .* not float: .* np.asarray"),
        ([[1.0], [2.0]], None, UnsupportedError, r"data\[0\] must be .* not list: .* np.asarray"),
        ([[A], [B]], None, UnsupportedError, "not list"),
        ([A, None], None, UnsupportedError, r"data\[1\] must be .* not NoneType"),
        ({"u": A, "v": B.iloc[:0]}, None, DataError, r"data\['v'\] has 0 rows"),
        (arrays(2, 0), None, DataError, r"data\[1\] has shape \(0, 2\)"),
        ({"u": A, None: B}, None, DataError, "the key None"),
        ({"u": A, np.nan: B}, None, DataError, "the key nan"),
        ([A, B["y"]], None, UnsupportedError, r"\[1\] is a pandas Series, data\[0\] a pandas Data"),
        ([A, pl.DataFrame({"a": [1]})], None, UnsupportedError, "polars DataFrame"),
        ([A, B.to_numpy()], None, UnsupportedError, "NumPy array"),
        ([pl.LazyFrame({"a": [1]})], None, UnsupportedError, r"data\[0\].*\.collect\(\)"),
        (
            [A, B.rename(columns={"b": "c"})],
            None,
            ColumnError,
            r"data\[1\] and data\[0\] .* \(only in the former: c; only in the latter: b\)",
        ),
        ([A, B.drop(columns="b")], None, ColumnError, "in the former: none; .* latter: b"),
        ([np.ones((2, 2)), np.ones((2, 3))], None, ColumnError, "former: 2; .* latter: none"),
        ([A["a"], B["b"]], None, ColumnError, "former: b; .* latter: a"),
        ([A, B.assign(a="x")], None, ColumnError, r"'a' holds numbers in data\[0\], but not in"),
        ([A.assign(a=True), B], None, ColumnError, r"in data\[1\], but not in data\[0\]"),
        ([A, B], "z", ColumnError, "'z' is not in the data"),
        ([A, B], "series", ColumnError, "'series' is not in the data"),
        ([A, B], A["y"], UnsupportedError, "a panel of 2 series, the target a Series"),
        ([A, B], [A["y"]], ShapeError, "target has the series 0, the data has 0, 1"),
        ([A, B], {"u": A["y"], "v": B["y"]}, ShapeError, "target has the series u, v"),
        ({"u": A, "v": B}, [A["y"], B["y"]], ShapeError, "the data has u, v"),
        ([A, B], [B["y"], A["y"]], ShapeError, r"target\[0\] has 4 rows, data\[0\] has 6"),
        ([A, B], [A["y"], B["y"].iloc[::-1]], DataError, "different indexes"),
        ([A, B], [A["y"], B["y"].to_numpy()], UnsupportedError, r"target\[1\] is a NumPy array"),
        ([A, B], [A["y"], "y"], UnsupportedError, r"target\[1\] must be .* not str"),
        (A, [A["y"]], UnsupportedError, "not Series"),
    ],
)
def test_refusals(data, target, error, words):
    with pytest.raises(error, match=words) as caught:
        open_container(data, target)
    assert "\n" not in str(caught.value)


KINDS = {
    "float64": st.floats(-1e6, 1e6) | st.just(np.nan),
    "float32": st.floats(-1e6, 1e6, width=32) | st.just(np.nan),
    "Float64": st.floats(-1e6, 1e6) | st.none(),
    "double[pyarrow]": st.floats(-1e6, 1e6) | st.none(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "int8": st.integers(-128, 127),
    "Int64": st.integers(-(2**63), 2**63 - 1) | st.none(),
    "uint8[pyarrow]": st.integers(0, 255) | st.none(),
    "object": st.floats(-9, 9) | st.integers(-9, 9) | st.none(),
}
OTHERS = {
    "bool": st.booleans(),
    "boolean": st.booleans() | st.none(),
    "str": st.sampled_from("pq"),
    "string[pyarrow]": st.sampled_from("pq") | st.none(),
    "category": st.sampled_from("pq") | st.none(),
    "datetime64[ns, UTC]": st.datetimes(pd.Timestamp(1980, 1, 1), pd.Timestamp(2050, 1, 1)),
}
FLOATS = {
    "Int64": "Float64",
    "uint8[pyarrow]": "double[pyarrow]",
    "int64": "float64",
    "int8": "float64",
}


@st.composite
def panels(draw):
    """Frames whose columns agree in being numbers, and in nothing else; and their types."""
    families = draw(st.lists(st.sampled_from([KINDS, OTHERS]), min_size=1, max_size=3))
    members, kinds = [], []
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.sampled_from(list(INDEXES.values())))[: draw(st.integers(1, ROWS))]
        chosen = {f"c{j}": draw(st.sampled_from(list(f))) for j, f in enumerate(families)}
        columns = {
            label: pd.Series(
                draw(st.lists(family[kind], min_size=len(index), max_size=len(index))),
                index,
                dtype=object,
            ).astype(kind)
            for family, (label, kind) in zip(families, chosen.items(), strict=True)
        }
        members.append(pd.DataFrame(columns, index=index))
        kinds.append(chosen)
    labels = [f"c{j}" for j, family in enumerate(families) if family is KINDS]
    return members, kinds, labels


@given(panels(), st.data())
def test_any_panel_keeps_what_did_not_change(panel, data):
    members, kinds, labels = panel
    opened = open_container(members)
    same(opened.close(opened.frame.copy()), members)
    observed = opened.frame.notna()
    places = [
        (row, label)
        for label in labels
        for row in range(len(opened.frame))
        if observed[label].iloc[row]
    ]
    chosen = data.draw(st.sets(st.sampled_from(places), max_size=4)) if places else set()
    closed = opened.close(moved(opened.frame, dict.fromkeys(chosen, 0.5)))
    start = 0
    for member, kind, found in zip(members, kinds, closed, strict=True):
        pd.testing.assert_index_equal(found.index, member.index)
        for label in member:
            rows = [r - start for r, c in chosen if c == label and 0 <= r - start < len(member)]
            expected = member[label].copy()
            if rows:
                expected = expected.astype(FLOATS.get(kind[label], kind[label]))
                expected.iloc[rows] = 0.5
            pd.testing.assert_series_equal(found[label], expected, check_exact=True)
        start += len(member)
