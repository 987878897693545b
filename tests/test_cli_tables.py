"""Files as tables: what is read from them, and that what did not change is written as it was."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denograd_jax.cli import _tables

LINES = """zip,size,colour
00501,1.50,"red, dark"
00502,N/A,"say ""blue"" twice"
10503,2.250,
10504,1e1,red
10505,,blue
"""


@pytest.fixture
def source(tmp_path):
    """A file with names that look like numbers, numbers written in their own way, and gaps."""
    path = tmp_path / "houses.csv"
    path.write_text(LINES, "utf-8")
    return path


cell = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5) | st.sampled_from(
    ["007", "1.50", "-0", "1e3", "NA", "nan", "true", " 1 ", "1,5", 'a"b', "2024-01-01", "∞"]
)


@given(st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=6), st.sampled_from(",;\t"))
def test_any_text_comes_back_as_it_was(tmp_path_factory, rows, separator):
    folder = tmp_path_factory.mktemp("text")
    cells = pd.DataFrame(rows, columns=["a", "b", "c"], dtype=str)
    cells.to_csv(folder / "in.csv", index=False, sep=separator, encoding="utf-8")
    table = _tables.read_table(folder / "in.csv")
    _tables.write_refined(table.frame, table, folder / "out.csv")
    assert (folder / "out.csv").read_bytes() == (folder / "in.csv").read_bytes()


def test_numbers_with_leading_zeros_are_names(source):
    frame = _tables.read_table(source).frame
    assert frame["zip"].tolist() == ["00501", "00502", "10503", "10504", "10505"]
    np.testing.assert_array_equal(frame["size"], [1.5, np.nan, 2.25, 10.0, np.nan])


def test_a_column_alone_keeps_its_empty_lines(tmp_path):
    (tmp_path / "in.csv").write_text("level\n1\n\n3\n", "utf-8")
    frame = _tables.read_table(tmp_path / "in.csv").frame
    np.testing.assert_array_equal(frame["level"], [1, np.nan, 3])


def test_a_first_column_without_a_name_is_the_index(tmp_path):
    text = ",x\nfirst,1\nsecond,2\n"
    (tmp_path / "in.csv").write_text(text, "utf-8")
    table = _tables.read_table(tmp_path / "in.csv")
    assert table.frame.columns.tolist() == ["x"]
    assert table.frame.index.tolist() == ["first", "second"]
    _tables.write_refined(table.frame, table, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text("utf-8") == text


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.bz2", ".CSV.XZ", ".parquet", ".pq"])
def test_endings(tmp_path, source, ending):
    table = _tables.read_table(source)
    path = tmp_path / f"copy{ending}"
    _tables.write_refined(table.frame, table, path)
    pd.testing.assert_frame_equal(_tables.read_table(path).frame, table.frame)


def test_gzip_is_gzip(tmp_path, source):
    table = _tables.read_table(source)
    _tables.write_refined(table.frame, table, tmp_path / "copy.csv.gz")
    assert gzip.decompress((tmp_path / "copy.csv.gz").read_bytes()) == source.read_bytes()


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "in.csv").write_bytes(b"\xef\xbb\xbfx,y\r\n1,2\r\n")
    assert _tables.read_table(tmp_path / "in.csv").frame.columns.tolist() == ["x", "y"]


def test_parquet_keeps_types_and_index(tmp_path):
    frame = pd.DataFrame(
        {
            "kind": pd.Categorical(["a", "b"]),
            "small": np.array([1, 2], np.float32),
            "day": pd.to_datetime(["2024-01-01", "2024-01-02"], utc=True),
        },
        index=pd.Index(["p", "q"], name="key"),
    )
    frame.to_parquet(tmp_path / "in.parquet")
    table = _tables.read_table(tmp_path / "in.parquet")
    _tables.write_refined(table.frame, table, tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), frame)
