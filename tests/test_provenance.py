"""The record of a result: what tells two inputs apart, and one machine's bits."""

import copy
import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import denograd_jax
from denograd_jax import refine
from denograd_jax._frames._provenance import fingerprint

HASH = "SHA-256 of the input"


def total(x):
    return x.sum()


def frame():
    return pd.DataFrame(
        {
            "f": [0.5, np.nan, -1.0, 2.0],
            "i": pd.array([1, None, 3, 4], dtype="Int64"),
            "s": ["p", None, "q", "p"],
            "o": pd.Series([1, "x", None, (1, 2)], dtype=object),
            "c": pd.Categorical(["p", "q", None, "p"]),
            "t": pd.date_range("2020-01-01", periods=4, tz="UTC"),
            "l": [[1], [2, 3], [], [4]],
        },
        index=pd.Index([3, 1, 2, 7], name="row"),
    )


def with_cell(row, column, value):
    changed = frame()
    values = changed[column].astype(object).tolist()
    values[row] = value
    kind = changed[column].dtype
    changed[column] = pd.Series(values, changed.index, dtype=kind)
    return changed


CHANGES = {
    "a cell": lambda: with_cell(0, "f", 0.5 + 1e-16 * 2),
    "a cell that is missing now": lambda: with_cell(0, "f", np.nan),
    "a missing cell with a value": lambda: with_cell(1, "f", 0.0),
    "a nullable cell": lambda: with_cell(1, "i", 1),
    "text": lambda: with_cell(0, "s", "P"),
    "missing text": lambda: with_cell(1, "s", "None"),
    "an object of another type": lambda: with_cell(0, "o", "1"),
    "an object of another number type": lambda: with_cell(0, "o", 1.0),
    "a tuple": lambda: with_cell(3, "o", (1, 3)),
    "a list": lambda: with_cell(1, "l", [2, 4]),
    "a category": lambda: with_cell(0, "c", "q"),
    "more categories": lambda: frame().assign(c=frame()["c"].cat.add_categories("r")),
    "an order of categories": lambda: frame().assign(c=frame()["c"].cat.as_ordered()),
    "categories renamed": lambda: frame().assign(c=frame()["c"].cat.rename_categories(["q", "p"])),
    "a time": lambda: with_cell(0, "t", pd.Timestamp("2020-01-01 00:00:00.000001", tz="UTC")),
    "a time zone": lambda: frame().assign(t=frame()["t"].dt.tz_convert("Asia/Tokyo")),
    "a type": lambda: frame().astype({"f": "float32"}),
    "a nullable type": lambda: frame().astype({"f": "Float64"}),
    "a column's label": lambda: frame().rename(columns={"f": "g"}),
    "the type of a label": lambda: frame().rename(columns={"f": 0}),
    "the order of columns": lambda: frame()[["i", "f", "s", "o", "c", "t", "l"]],
    "a column less": lambda: frame().drop(columns="l"),
    "a row less": lambda: frame().iloc[:3],
    "the order of rows": lambda: frame().iloc[::-1],
    "a row's label": lambda: frame().rename(index={3: 4}),
    "the type of the index": lambda: frame().set_axis(frame().index.astype("int32")),
    "text as index": lambda: frame().set_axis(frame().index.astype(str)),
    "the name of the index": lambda: frame().rename_axis("rows"),
    "another level": lambda: frame().set_index("f", append=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_another_input(change):
    assert fingerprint(CHANGES[change]()) != fingerprint(frame())


@pytest.mark.parametrize(
    "same",
    [
        frame,
        lambda: frame().copy(),
        lambda: copy.deepcopy(frame()),
        lambda: frame().iloc[::-1].iloc[::-1],
        lambda: pd.concat([frame()[:2], frame()[2:]]),
    ],
)
def test_a_copy_is_the_same_input(same):
    assert fingerprint(same()) == fingerprint(frame())


@given(st.data())
@settings(max_examples=60)
def test_any_number_counts(data):
    cells = st.floats(-1e6, 1e6).map(lambda x: x + 0.0)  # no -0
    values = data.draw(st.lists(cells, min_size=6, max_size=6))
    table = np.array(values).reshape(3, 2)
    row, column, cell = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 1), cells))
    other = table.copy()
    other[row, column] = cell
    equal = fingerprint(pd.DataFrame(table)) == fingerprint(pd.DataFrame(other))
    assert equal == np.array_equal(table, other)


@pytest.mark.parametrize(
    "cells",
    [
        [decimal.Decimal("1.5"), None],
        [datetime.date(2020, 1, 1), None],
        [{"k": 1}, {}],
        [b"p", b"q"],
        [1 + 2j, 3j],
        list(pd.period_range("2020-01", periods=2, freq="M")),
        list(pd.interval_range(0, 2)),
        list(np.array([1, 2], np.longdouble)),
    ],
)
def test_cells_of_any_kind(cells):
    one, other = (pd.DataFrame({"a": pd.Series(part)}) for part in (cells, cells[::-1]))
    assert fingerprint(one) == fingerprint(one.copy()) != fingerprint(other)


def test_levels_of_one_name():
    index = pd.MultiIndex.from_tuples([(1, 2), (3, 4)], names=["k", "k"])
    assert len(fingerprint(pd.DataFrame({"a": [1.0, 2.0]}, index))) == 64


def table(seed=0):
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(40, 3)), columns=["a", "b", "y"])


def test_the_record_says_with_what():
    result = refine(table(), "y", model=total, max_steps=1)
    record = result.provenance
    assert record["denograd-jax"] == denograd_jax.__version__
    assert record["numpy"] == np.__version__
    assert record["precision"] == "float32"
    assert record["seed"] == "none: the model was given"
    assert "cpu" in record["device"]
    assert record[HASH] == fingerprint(table())
    assert set(map(type, record.values())) <= {str, int}
    later = result.fitted.refine(table(1), max_steps=1).provenance
    assert later == record | {HASH: fingerprint(table(1))}


def test_the_same_seed_gives_the_same_bits_and_another_another_model():
    options = {"target": "y", "max_epochs": 2, "max_steps": 3, "tolerance": 0.0}
    first, again, other = (refine(table(), **options, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first.data, again.data, check_exact=True)
    pd.testing.assert_frame_equal(first.changes, again.changes, check_exact=True)
    assert first.provenance == again.provenance
    assert first.settings == again.settings
    assert first.provenance["seed"] == 3
    assert other.provenance == first.provenance | {"seed": 4}
    assert not other.data.equals(first.data)


def test_every_container_of_a_table_has_one_record():
    """What is in it counts, not the kind of the container."""
    polars, xarray = pytest.importorskip("polars"), pytest.importorskip("xarray")
    options = {"target": "y", "model": total, "max_steps": 1}
    plain = refine(table(), **options).provenance[HASH]
    assert refine(polars.from_pandas(table()), **options).provenance[HASH] == plain
    dataset = xarray.Dataset.from_dataframe(table())
    assert refine(dataset, **options).provenance[HASH] != plain  # its index has a name
    apart = refine(table()[["a", "b"]], table()["y"], model=total, max_steps=1)
    assert apart.provenance[HASH] == plain
