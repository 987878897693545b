"""What a column of a frame is: a number, a choice among levels, or neither."""

import re
from collections.abc import Collection, Hashable
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "Floats",
    "counts_rows",
    "indicators",
    "is_identifier",
    "is_integer",
    "is_number",
    "levels_of",
    "listed",
    "never_repeats",
    "to_floats",
]

MOST_LEVELS = 50
"""A text or category column with more levels keeps the most frequent; the rest share none."""

IDENTIFIERS = frozenset({"id", "ids", "uid", "uuid", "guid", "identifier"})

Floats: TypeAlias = NDArray[np.float64]


def is_number(column: pd.Series) -> bool:
    """Whether a column holds real numbers, also as objects with None among them."""
    kind: Any = column.dtype
    if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_complex_dtype(kind):
        return False
    if pd.api.types.is_object_dtype(kind):
        inferred = pd.api.types.infer_dtype(column, skipna=True)
        return inferred in ("floating", "integer", "mixed-integer-float")
    if isinstance(kind, pd.ArrowDtype) and kind.kind == "O":  # decimals
        return False
    return bool(pd.api.types.is_numeric_dtype(kind))


def is_integer(column: pd.Series) -> bool:
    """Whether a column holds whole numbers by its type, or as objects."""
    if pd.api.types.is_object_dtype(column.dtype):
        return bool(pd.api.types.infer_dtype(column, skipna=True) == "integer")
    return bool(pd.api.types.is_integer_dtype(column.dtype))


def to_floats(column: pd.Series) -> Floats:
    """A numeric column as float64, NaN where missing."""
    try:
        floats: Floats = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except OverflowError:  # Python's integers know no bounds
        floats = np.array([_nearest(value) for value in column])
    return floats


def _nearest(value: Any) -> float:
    try:
        return np.nan if pd.isna(value) else float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def counts_rows(column: pd.Series) -> bool:
    """Whether whole numbers go up (or down) by the same step from the first row to the last."""
    if not is_integer(column) or len(column) < MOST_LEVELS or column.isna().any():
        return False
    try:
        steps = np.diff(column.to_numpy(np.int64))
    except OverflowError:  # Python's integers know no bounds
        return False
    return bool(steps[0] != 0 and (steps == steps[0]).all())


def is_identifier(column: pd.Series) -> bool:
    """Whether whole numbers are names of things, as the column's own name says: "id", "user_id"."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+", str(column.name))
    return is_integer(column) and not IDENTIFIERS.isdisjoint(word.lower() for word in words)


def never_repeats(column: pd.Series) -> bool:
    """Whether whole numbers, one a row, might name the rows though the column is not called so."""
    return is_integer(column) and len(column) >= MOST_LEVELS and column.is_unique


def levels_of(column: pd.Series) -> tuple[Hashable, ...] | None:
    """The levels that tell a model something, the most frequent first and at most `MOST_LEVELS`.

    None for dates and other objects, and for names and identifiers, which tell a model nothing.
    """
    if not _has_levels(column):
        return None
    try:
        codes, levels = pd.factorize(column)
    except TypeError:  # lists, dicts
        return None
    if len(levels) > MOST_LEVELS and len(levels) > len(column) / 2:
        return None
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    names = [str(level) for level in levels]  # tells ties apart whatever the order of the rows
    ranking = sorted(range(len(levels)), key=lambda code: (-counts[code], names[code]))
    return tuple(levels[code] for code in ranking[:MOST_LEVELS])


def indicators(column: pd.Series, levels: tuple[Hashable, ...]) -> NDArray[np.float32]:
    """One column per level, 1 where the row has it, `(N, levels)`; other and missing ones none."""
    position = {level: rank for rank, level in enumerate(levels)}
    try:
        codes, found = pd.factorize(column)
        ranks = np.array([position.get(level, -1) for level in found] + [-1])
    except TypeError:  # lists, dicts
        return np.zeros((len(column), len(levels)), np.float32)
    hot: NDArray[np.float32] = (ranks[codes][:, None] == np.arange(len(levels))).astype(np.float32)
    return hot


def _has_levels(column: pd.Series) -> bool:
    kind = column.dtype
    if pd.api.types.is_object_dtype(kind):
        inferred = pd.api.types.infer_dtype(column, skipna=True)
        return inferred in ("string", "boolean", "bytes", "categorical", "mixed", "mixed-integer")
    return (
        isinstance(kind, pd.CategoricalDtype)
        or pd.api.types.is_bool_dtype(kind)
        or pd.api.types.is_string_dtype(kind)
    )


def listed(labels: Collection[Hashable], separator: str = ", ") -> str:
    """The first of these labels, and how many more there are."""
    more = f" and {len(labels) - 8} more" if len(labels) > 8 else ""
    return separator.join(str(label) for label in list(labels)[:8]) + more
