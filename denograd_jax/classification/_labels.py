"""Labels as they come, as numbers from 0 on, and back."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax.errors import DataError, ShapeError, UnsupportedError

__all__ = ["Labels", "codes_of", "read_labels"]

Codes = NDArray[np.intp]

MOST_CLASSES = 1000


class Labels(NamedTuple):
    """The given labels.

    Attributes:
        codes: Number of each row's class, `(n,)`; -1 where the label is missing.
        classes: The classes in order: of a categorical its own, else sorted.
        given: The labels as a Series, in the caller's type.
    """

    codes: Codes
    classes: pd.Index
    given: pd.Series

    def of(self, codes: Codes) -> pd.Series:
        """Other labels for the same rows, in the type of those given."""
        labels = self.classes.take(codes)
        return pd.Series(labels, self.given.index, self.given.dtype, name=self.given.name)


def read_labels(y: Any, rows: int, index: pd.Index, called: str = "y") -> Labels:
    """Strings, whole numbers, booleans or a categorical as codes.

    Args:
        y: Labels, `(n,)` or `(n, 1)`.
        rows: How many there must be.
        index: Of the features, for labels that have none.
        called: What the labels are called in errors.

    Raises:
        ShapeError: Not one label a row.
        DataError: No label, one class only, a class of one row, or numbers that are no classes.
        UnsupportedError: Labels of another kind.
    """
    given = _as_series(y, index)
    if len(given) != rows:
        raise ShapeError(f"y has {len(given)} label(s) for {rows} row(s) of X.")
    codes, classes = codes_of(given, called)
    _refuse_alone(codes, classes)
    return Labels(codes, classes, given)


def codes_of(given: pd.Series, called: str) -> tuple[Codes, pd.Index]:
    """The number of each row's class, `(n,)`, -1 where the label is missing; the classes in order.

    Args:
        given: Labels.
        called: What they are called in errors.

    Raises:
        DataError: One class or none, too many, or numbers that are no classes.
        UnsupportedError: Labels of another kind.
    """
    _refuse_quantities(given, called)
    if isinstance(given.dtype, pd.CategoricalDtype):
        given = given.cat.remove_unused_categories()
        numbers, classes = given.cat.codes.to_numpy(), given.cat.categories
    else:
        try:
            numbers, found = pd.factorize(given, sort=True)
        except TypeError as error:
            raise UnsupportedError(
                f"{called} holds objects that are no classes ({error}): labels are text, whole "
                "numbers, booleans or categories."
            ) from error
        classes = pd.Index(found)
    _refuse_number_of(classes, called)
    return np.asarray(numbers, np.intp), classes


def _as_series(y: Any, index: pd.Index) -> pd.Series:
    if isinstance(y, pd.Series):
        return y
    if isinstance(y, pd.DataFrame):
        if y.shape[1] != 1:
            raise ShapeError(f"y must be one column of labels, not {y.shape[1]} columns.")
        return y.iloc[:, 0]
    if isinstance(y, pd.Categorical | pd.Index):
        array: Any = y
    else:
        array = np.asarray(y)
        array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        if array.ndim != 1:
            raise ShapeError(
                f"y must be labels of shape (rows,), not {array.shape}: of one-hot labels give "
                "y.argmax(axis=1)."
            )
    return pd.Series(array, index if len(array) == len(index) else None)


def _refuse_quantities(given: pd.Series, called: str) -> None:
    if pd.api.types.is_float_dtype(given.dtype):
        fractional = given.dropna() % 1 != 0
        if fractional.any():
            example = given.dropna()[fractional].iloc[0]
            raise DataError(
                f"{called} holds {example}, which is no class: labels are text, whole numbers, "
                "booleans or categories. A quantity is refined by refine(frame, target)."
            )
    elif pd.api.types.is_datetime64_any_dtype(given.dtype):
        raise UnsupportedError(f"{called} holds dates ({given.dtype}), which are no classes.")


def _refuse_number_of(classes: pd.Index, called: str) -> None:
    if len(classes) < 2:
        seen: list[Hashable] = list(classes)
        raise DataError(
            f"{called} has {len(classes)} class(es), {seen}: there must be two or more."
        )
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"{called} has {len(classes)} classes, more than {MOST_CLASSES}: are these labels, or "
            "names of rows?"
        )


def _refuse_alone(codes: Codes, classes: pd.Index) -> None:
    counts = np.bincount(codes[codes >= 0], minlength=len(classes))
    if counts.min() < 2:
        alone = classes[counts < 2][0]
        raise DataError(
            f"class {alone!r} has one row, which no model could know without having seen it: give "
            "two or more of each class, or merge or leave out those that are rarer."
        )
