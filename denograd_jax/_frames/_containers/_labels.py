"""Columns by the labels that a user gives."""

from collections.abc import Collection, Hashable
from typing import Any

import numpy as np
import pandas as pd

from denograd_jax.errors import ColumnError, UnsupportedError

__all__ = ["column_labels", "column_or_level", "flat", "free_label", "refuse_labels"]


def column_labels(
    frame: pd.DataFrame, given: Any, role: str, *, levels: bool = False
) -> tuple[Hashable, ...]:
    """One label, or several, or None, as a tuple of labels that the frame has.

    Args:
        frame: Has the columns.
        given: A label, a collection of labels, or None.
        role: What the columns are for, to be named in errors.
        levels: Whether a named level of the index will do as well.
    """
    if given is None:
        return ()
    known: list[Hashable] = list(frame.columns)
    if levels:
        known += [name for name in frame.index.names if name is not None and name not in known]
    one_label = isinstance(given, tuple) and given in known  # as of several levels
    several = isinstance(given, list | tuple | set | frozenset | np.ndarray | pd.Index | pd.Series)
    labels = list(given) if several and not one_label else [given]
    hint = ""
    if role == "target" and not all(isinstance(label, str) for label in labels):
        hint = "; the values of a target go in a NumPy array, Series or DataFrame"
    elif levels and None in frame.index.names and not isinstance(frame.index, pd.RangeIndex):
        hint = "; an index without a name must be given one first, as by frame.rename_axis('time')"
    _refuse_unknown(labels, known, role, hint)
    if len(set(labels)) < len(labels):
        raise ColumnError(f"{role} names a column twice: {labels}.")
    return tuple(sorted(labels, key=known.index) if isinstance(given, set | frozenset) else labels)


def _refuse_unknown(labels: list[Any], known: list[Hashable], role: str, hint: str) -> None:
    known_labels = set(known)
    for label in labels:
        try:
            unknown = label not in known_labels
        except TypeError as error:
            raise UnsupportedError(
                f"{role} must be a column's label or a list of labels, not "
                f"{type(label).__name__}{hint}."
            ) from error
        if unknown:
            more = f" and {len(known) - 30} more" if len(known) > 30 else ""
            raise ColumnError(
                f"{role} column {label!r} is not in the data; it has: "
                f"{', '.join(map(repr, known[:30]))}{more}{hint}."
            )


def column_or_level(frame: pd.DataFrame, label: Hashable) -> pd.Series:
    """A column, or a named level of the index, numbered from 0."""
    if label in frame.columns:
        return frame[label].reset_index(drop=True)
    level = frame.index.get_level_values(frame.index.names.index(label))
    return level.to_series(index=pd.RangeIndex(len(frame)))


def refuse_labels(columns: pd.Index) -> None:
    """Columns that cannot be told apart, or not be named."""
    repeated = columns[columns.duplicated()].tolist()
    if repeated:
        raise ColumnError(f"column {repeated[0]!r} occurs more than once: rename the columns.")
    if columns.nlevels == 1 and columns.hasnans:
        raise ColumnError("a column has no name (its label is None or NaN): name the columns.")


def free_label(label: str, taken: Collection[Hashable]) -> str:
    """The label, with as many primes as make it one that nothing else has."""
    while label in taken:
        label = f"{label}'"
    return label


def flat(labels: Collection[Hashable]) -> pd.Index:
    """Labels of any kind beside each other; tuples stay labels."""
    return pd.Index(list(labels), dtype=object, tupleize_cols=False)
