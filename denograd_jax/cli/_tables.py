"""Tables read from files and written back with every unchanged cell as it was."""

import codecs
import contextlib
import csv
import dataclasses
import io
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from denograd_jax.cli._extras import require
from denograd_jax.cli._sources import read_text, reason, refuse_missing, refuse_no_parquet
from denograd_jax.errors import FileError

__all__ = [
    "TableFile",
    "is_parquet",
    "read_table",
    "split_ending",
    "with_levels",
    "write_frame",
    "write_refined",
]

_ENDING = re.compile(r"(?<=.)(\.csv(\.gz|\.bz2|\.xz)?|\.parquet|\.pq)$", re.IGNORECASE)
_IDENTIFIER = r"[+-]?0\d+"
"""Whole numbers with leading zeros, as in ZIP codes, are names, not quantities."""
_GAPS = " '\u00a0\u2009\u202f"
"""What stands between thousands, if no comma does: spaces of all widths, or an apostrophe."""
_OTHER_NUMBER = rf"(?:[+-]?\d+(?:[.,]\d+)*|[+-]?[1-9]\d{{0,2}}(?:[{_GAPS}]\d{{3}})+(?:[.,]\d+)?)"
"""Numbers such as 1,5 and 1.234,5 and 1 234 that pandas takes for text."""
_SEPARATORS = ",;\t"
_LINES_TO_TRY = 20
_TOO_MANY_CELLS = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")
_OPEN_QUOTE = re.compile(r"EOF inside string starting at row (\d+)")
"""How pandas words what is wrong with a line."""


@dataclasses.dataclass(frozen=True)
class TableFile:
    """A table as it was read.

    Attributes:
        frame: The values, with the types that they have or seem to have.
        cells: The same cells as text, exactly as in the file; None for Parquet.
        separator: What stands between the cells of a CSV line.
        newline: What ends it.
        encoding: UTF-8, with or without the mark that some spreadsheets want.
    """

    frame: pd.DataFrame
    cells: pd.DataFrame | None = None
    separator: str = ","
    newline: str = "\n"
    encoding: str = "utf-8"


def split_ending(path: Path) -> tuple[str, str]:
    """A file's name without and with only its ending: `("houses", ".csv.xz")`.

    Raises:
        FileError: An ending that stands for no table.
    """
    found = _ENDING.search(path.name)
    if found is None:
        raise FileError(
            f"{path} has no ending of a table: use .csv, .csv.gz, .csv.bz2, .csv.xz or .parquet."
        )
    return path.name[: found.start()], found.group()


def is_parquet(path: Path) -> bool:
    """Whether a table's file is Parquet, else CSV, by its ending.

    Raises:
        FileError: An ending that stands for no table.
        MissingExtraError: Parquet without pyarrow.
    """
    _, ending = split_ending(path)
    if "csv" in ending.lower():
        return False
    require("Parquet", "pyarrow")
    return True


def read_table(path: Path) -> TableFile:
    """Read a CSV (UTF-8; separated by comma, semicolon or tab) or Parquet file.

    Raises:
        FileError: The file is missing, unreadable, empty or not a table.
        MissingExtraError: Parquet without pyarrow.
    """
    read = _read_parquet if is_parquet(path) else _read_csv
    refuse_missing(path)
    try:
        table = read(path)
    except FileError:
        raise
    except IsADirectoryError:
        raise FileError(f"{path} is a folder: name a file in it.") from None
    except PermissionError:
        raise FileError(f"{path} may not be read: check its permissions.") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path} is not a table that can be read: {reason(error)}") from error
    if not table.frame.shape[1]:
        raise FileError(f"{path} has no columns: there is nothing to refine.")
    if table.frame.empty:
        raise FileError(f"{path} has a header but no rows: there is nothing to refine.")
    return table


def with_levels(frame: pd.DataFrame, labels: Collection[str | None]) -> pd.DataFrame:
    """The frame with those levels of its index that are among `labels` as columns too."""
    unseen = set(frame.index.names) - set(frame.columns)
    levels = [name for name in labels if name is not None and name in unseen]
    if not levels:
        return frame
    widened = frame.rename_axis([None] * frame.index.nlevels)
    for name in levels:
        widened[name] = frame.index.get_level_values(name)
    return widened


def write_refined(refined: pd.DataFrame, source: TableFile, path: Path) -> None:
    """Write the source's columns; from CSV to CSV, cells that did not change keep their text."""
    refined = refined[source.frame.columns].set_axis(source.frame.index, axis=0)
    if source.cells is None or is_parquet(path):
        write_frame(refined, path)
        return
    cells = source.cells.copy()
    for j, label in enumerate(refined.columns):
        before, after = source.frame[label], refined[label]
        rows = np.flatnonzero(before.ne(after) & ~(before.isna() & after.isna()))
        cells.iloc[rows, j] = after.iloc[rows].astype(str).to_numpy()
    cells.to_csv(
        path,
        sep=source.separator,
        index=_has_index(cells),
        lineterminator=source.newline,
        encoding=source.encoding,
    )


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame, as CSV or Parquet by the path's ending.

    Objects for which Parquet has no type, such as the labels of a MultiIndex, go in as text.
    """
    if not is_parquet(path):
        frame.to_csv(path, index=_has_index(frame))
        return
    try:
        frame.to_parquet(path)
    except _arrow_exception():
        objects = [label for label in frame.columns if frame[label].dtype == object]
        frame.astype(dict.fromkeys(objects, str)).to_parquet(path)


def _has_index(frame: pd.DataFrame) -> bool:
    return not isinstance(frame.index, pd.RangeIndex)


def _read_parquet(path: Path) -> TableFile:
    if not path.is_dir():  # else one of many files, as distributed programs write it
        refuse_no_parquet(path)
    try:
        return TableFile(pd.read_parquet(path))
    except (_arrow_exception(), KeyError, TypeError) as error:
        raise ValueError(reason(error)) from error


def _arrow_exception() -> type[Exception]:
    """Root of what pyarrow raises, which is imported where it is needed."""
    from pyarrow import ArrowException  # type: ignore[import-untyped]

    exception: type[Exception] = ArrowException
    return exception


def _read_csv(path: Path) -> TableFile:
    text, mark = read_text(path)
    content = text.lstrip("\r\n ")
    if not content.strip():
        raise FileError(f"{path} is empty.")
    header = content.partition("\n")[0]
    separator = max(_SEPARATORS, key=re.sub(r'"[^"]*"', "", header).count)
    alone = separator not in header  # then an empty line is a missing value
    if alone:
        _refuse_separator(path, content)
    blank = text[: len(text) - len(content)].count("\n")

    def parse(**options: object) -> pd.DataFrame:
        file = io.StringIO(text)
        return pd.read_csv(  # type: ignore[call-overload,no-any-return]
            file, sep=separator, skiprows=blank, skip_blank_lines=not alone, **options
        )

    try:
        cells = parse(header=None, dtype=str, keep_default_na=False)
    except pd.errors.ParserError as error:
        raise FileError(_malformed(path, separator, error)) from error
    names = cells.iloc[0].tolist()
    _refuse_names(path, names)
    cells = cells.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)
    _refuse_short_rows(path, text, separator, cells.shape)
    frame = parse(header=0, names=names, low_memory=False)
    for label in frame.select_dtypes("number"):
        if cells[label].str.fullmatch(_IDENTIFIER).any():
            frame[label] = cells[label].where(frame[label].notna())
    _refuse_other_numbers(path, frame)
    return TableFile(
        _index_unnamed(frame),
        _index_unnamed(cells),
        separator,
        newline="\r\n" if header.endswith("\r") else "\n",
        encoding="utf-8-sig" if mark == codecs.BOM_UTF8 else "utf-8",
    )


def _malformed(path: Path, separator: str, error: Exception) -> str:
    """What to tell a person about lines that pandas cannot take apart."""
    if found := _TOO_MANY_CELLS.search(str(error)):
        expected, line, seen = found.groups()
        return (
            f"{path} has {seen} cell(s) in line {line}, but {expected} in its header: name every "
            f"column, quote text that contains {separator!r}, and delete what stands above the "
            "header."
        )
    if found := _OPEN_QUOTE.search(str(error)):
        return (
            f"{path} has a quotation mark in line {int(found[1]) + 1} that is never closed: close "
            "or delete it."
        )
    return f"{path} is not a table that can be read: {reason(error)}"


def _refuse_separator(path: Path, content: str) -> None:
    """A line that falls into as many pieces as the header by another sign is no single cell."""
    lines = [line for line in content[: 2**16].splitlines() if line.strip()][:_LINES_TO_TRY]
    for name, sign in (("'|'", "|"), ("spaces", None), ("':'", ":")):
        pieces = {len(line.split(sign)) for line in lines}
        if len(lines) > 1 and len(pieces) == 1 and pieces.pop() > 1:
            raise FileError(
                f"{path} seems to separate its cells by {name}: save it with commas, semicolons "
                "or tabs."
            )


def _refuse_names(path: Path, names: list[str]) -> None:
    if names.count("") > 1:
        raise FileError(
            f"{path} has {names.count('')} columns without a name: name them in its first line."
        )
    if _are_fractions(names):
        raise FileError(
            f"{path} has numbers in its first line ({names[0]}), which should name the columns: "
            "add a header."
        )
    for name in names:
        if names.count(name) > 1:
            raise FileError(f"{path} has more than one column {name!r}: rename them.")


def _are_fractions(names: list[str]) -> bool:
    """Whether all are numbers, and not just whole ones, as which columns and years are known."""
    try:
        return not all(float(name).is_integer() for name in names)
    except (ValueError, OverflowError):
        return False


def _refuse_short_rows(path: Path, text: str, separator: str, shape: tuple[int, int]) -> None:
    """Rows with too few cells, which pandas fills up: what follows a lost cell has moved left."""
    rows, width = shape
    if '"' not in text and text.count(separator) == (rows + 1) * (width - 1):
        return  # without a look at each line
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    with contextlib.suppress(csv.Error):  # cells too long for this module, not for pandas
        for cells in lines:
            blank = len(cells) < 2 and not "".join(cells).strip()
            if len(cells) < width and not blank:
                raise FileError(
                    f"{path} has {len(cells)} cell(s) in line {lines.line_num}, but {width} in its "
                    "header: complete or delete that line (was the file cut off?)."
                )


def _refuse_other_numbers(path: Path, frame: pd.DataFrame) -> None:
    """Numbers such as 1,5 would be taken for text, and left out without a word."""
    texts = [label for label in frame.columns if pd.api.types.is_string_dtype(frame[label])]
    for label in texts:
        written = frame[label].dropna()
        marked = written[written.str.contains(f"[,{_GAPS}]")]
        if len(marked) and written.str.fullmatch(_OTHER_NUMBER).all():
            number = " ".join(marked.iloc[0].split())
            sign = "commas" if "," in number else "spaces" if " " in number else "apostrophes"
            raise FileError(
                f"{path} writes numbers with {sign} (column {label!r}: {number}): save it with "
                "decimal points, and nothing between thousands."
            )


def _index_unnamed(frame: pd.DataFrame) -> pd.DataFrame:
    """A first column without a name is the index, as pandas writes it: not data."""
    if frame.columns[0] == "" and frame.shape[1] > 1:
        return frame.set_index("").rename_axis(None)
    return frame
