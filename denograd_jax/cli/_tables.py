"""Tables read from files and written back with every unchanged cell as it was."""

import bz2
import codecs
import dataclasses
import gzip
import io
import lzma
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from denograd_jax.cli._extras import require
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
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_IDENTIFIER = r"[+-]?0\d+"
"""Whole numbers with leading zeros, as in ZIP codes, are names, not quantities."""


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
    try:
        table = read(path)
    except FileNotFoundError:
        raise FileError(f"{path} does not exist: check the path.") from None
    except IsADirectoryError:
        raise FileError(f"{path} is a folder: name a file in it.") from None
    except PermissionError:
        raise FileError(f"{path} may not be read: check its permissions.") from None
    except UnicodeDecodeError as error:
        raise FileError(
            f"{path} is not UTF-8 text (byte {error.start} is not): save it as CSV UTF-8."
        ) from None
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        reason = str(error).rpartition("C error: ")[2]
        raise FileError(f"{path} is not a table that can be read: {reason}") from error
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
    """Write a frame, as CSV or Parquet by the path's ending."""
    if is_parquet(path):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=_has_index(frame))


def _has_index(frame: pd.DataFrame) -> bool:
    return not isinstance(frame.index, pd.RangeIndex)


def _read_parquet(path: Path) -> TableFile:
    return TableFile(pd.read_parquet(path))


def _read_csv(path: Path) -> TableFile:
    with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
        content = file.read()
    text = content.decode("utf-8-sig")
    if not text.strip():
        raise FileError(f"{path} is empty.")
    header = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=header.count)
    alone = separator not in header  # then an empty line is a missing value

    def parse(**options: object) -> pd.DataFrame:
        file = io.StringIO(text)
        return pd.read_csv(file, sep=separator, skip_blank_lines=not alone, **options)  # type: ignore[call-overload,no-any-return]

    cells = parse(header=None, dtype=str, keep_default_na=False)
    names = cells.iloc[0].tolist()
    _refuse_repeated(path, names)
    cells = cells.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)
    frame = parse(header=0, names=names, low_memory=False)
    for label in frame.select_dtypes("number"):
        if cells[label].str.fullmatch(_IDENTIFIER).any():
            frame[label] = cells[label].where(frame[label].notna())
    _refuse_decimal_commas(path, frame)
    return TableFile(
        _index_unnamed(frame),
        _index_unnamed(cells),
        separator,
        newline="\r\n" if header.endswith("\r") else "\n",
        encoding="utf-8-sig" if content.startswith(codecs.BOM_UTF8) else "utf-8",
    )


def _refuse_decimal_commas(path: Path, frame: pd.DataFrame) -> None:
    """Numbers such as 1,5 would be taken for text, and left out without a word."""
    texts = [label for label in frame.columns if pd.api.types.is_string_dtype(frame[label])]
    for label in texts:
        written = frame[label].dropna()
        with_comma = written[written.str.contains(",", regex=False)]
        if len(with_comma) and written.str.fullmatch(r"[+-]?\d+(,\d+)*").all():
            raise FileError(
                f"{path} writes numbers with commas (column {label!r}: {with_comma.iloc[0]}): save "
                "it with decimal points, and nothing between thousands."
            )


def _refuse_repeated(path: Path, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise FileError(f"{path} has more than one column {name!r}: rename them.")


def _index_unnamed(frame: pd.DataFrame) -> pd.DataFrame:
    """A first column without a name is the index, as pandas writes it: not data."""
    if frame.columns[0] == "" and frame.shape[1] > 1:
        return frame.set_index("").rename_axis(None)
    return frame
