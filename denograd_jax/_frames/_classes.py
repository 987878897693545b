"""A target of classes: which columns are one, its labels as numbers, what a model says of them."""

import dataclasses
from collections.abc import Collection, Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._frames._columns import Floats, listed
from denograd_jax.classification._labels import codes_of
from denograd_jax.errors import ColumnError, DataError, UnsupportedError

__all__ = ["Classes", "Classification", "Judgement", "is_of_classes", "learn_classes"]

SURE = 1e-12
"""Least probability whose logarithm is taken."""
MOST_LETTERS = 40
"""Of a label in a sentence."""


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes that a column tells apart.

    Attributes:
        label: Of the column.
        names: The classes in order: of a categorical its own, else sorted.
        notes: What a user should know of them.
    """

    label: Hashable
    names: tuple[Hashable, ...]
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """How many classes there are, and what the first are called."""
        return f"{len(self.names)} ({listed([_brief(name) for name in self.names])})"

    def one_hot(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """The labels of a frame, `(N, classes)`: 1 for the class of the row, NaN where missing.

        Raises:
            ColumnError: The column is missing.
            DataError: A label that is none of the classes.
        """
        if self.label not in frame.columns:
            raise ColumnError(f"the data lacks the target column {self.label!r}.")
        codes, found = pd.factorize(frame[self.label])
        position = {name: code for code, name in enumerate(self.names)}
        unknown = [label for label in found if label not in position]
        if unknown:
            raise DataError(
                f"target column {self.label!r} holds {unknown[0]!r}, which is none of the classes "
                f"that the model was fitted to: {listed(self.names)}."
            )
        codes = np.array([position[label] for label in found] + [-1])[codes]
        hot = np.eye(len(self.names), dtype=np.float32)[codes]
        hot[codes < 0] = np.nan
        return hot


class Judgement(NamedTuple):
    """What a model says of the class of each row.

    Attributes:
        before: P(class | features as given), `(N, classes)`.
        after: P(class | features refined).
        labels: Labels that moved on the simplex, `(N, classes)`, NaN where there is none; else
            None.
    """

    before: Floats
    after: Floats
    labels: Floats | None


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Classification:
    """Of a target of classes: what the model says of the labels, before and after.

    A model that was trained on these very rows is surer of them than of others, also of wrong
    labels.

    Attributes:
        target: Label of the column.
        given: The labels as given, by their numbers, `(N,)`; -1 where missing.
        before: P(class | features as given) by the model, rows as given, a column a class.
        after: The same for the refined features.
        labels: Soft labels after the refinement, likewise; None where labels did not move.
    """

    target: Hashable
    given: NDArray[np.intp]
    before: pd.DataFrame
    after: pd.DataFrame
    labels: pd.DataFrame | None

    @property
    def counts(self) -> pd.Series:
        """How many rows are called by each class."""
        counts = np.bincount(self.given[self.given >= 0], minlength=self.before.shape[1])
        return pd.Series(counts, self.before.columns, name="rows")

    @property
    def accuracy(self) -> tuple[float, float]:
        """Share of the labels that the model finds likeliest, before and after."""
        return _mean(self._hits(self.before)), _mean(self._hits(self.after))

    @property
    def cross_entropy(self) -> tuple[float, float]:
        """Mean of -log P(label), before and after."""
        return _mean(self._surprise(self.before)), _mean(self._surprise(self.after))

    @property
    def by_class(self) -> pd.DataFrame:
        """One line a class: `rows`, and of these `accuracy` and `cross_entropy`, before, after."""
        parts: dict[str, Any] = {}
        for when, of in (("before", self.before), ("after", self.after)):
            parts[f"accuracy_{when}"] = self._hits(of)
            parts[f"cross_entropy_{when}"] = self._surprise(of)
        codes = self.given[self._rows()]
        means = pd.DataFrame(parts).groupby(codes).mean().reindex(range(self.before.shape[1]))
        means.index = self.before.columns
        return pd.concat([self.counts, means], axis=1)

    def least_likely(self, k: int | None = 20) -> pd.DataFrame:
        """The rows whose label the model finds least likely, the refined features considered.

        Columns: `row` (position), `label`, its probability `before` and `after`, the class that is
        `likeliest` and its `probability`, both after; the index is that of the data.
        """
        rows = self._rows()
        before, after = (of.to_numpy()[rows, self.given[rows]] for of in (self.before, self.after))
        order = np.argsort(after, kind="stable")[:k]
        chosen = self.after.to_numpy()[rows[order]]
        names = self.before.columns
        return pd.DataFrame(
            {
                "row": rows[order],
                "label": names.take(self.given[rows[order]]),
                "before": before[order],
                "after": after[order],
                "likeliest": names.take(chosen.argmax(axis=1)),
                "probability": chosen.max(axis=1),
            },
            index=self.before.index[rows[order]],
        )

    def in_words(self) -> list[str]:
        """How many classes there are and how well the model knows them, a sentence each."""
        counts = self.counts
        shown = listed([f"{_brief(name)} {rows:,}" for name, rows in counts.items()])
        missing = int((self.given < 0).sum())
        without = f"; {missing:,} row{'s' * (missing > 1)} without a label" if missing else ""
        sentences = [f"{len(counts)} classes of {_brief(self.target)}: {shown}{without}."]
        if missing < len(self.given):
            (right, right_after), (loss, loss_after) = self.accuracy, self.cross_entropy
            sentences.append(
                f"The model finds the given label the likeliest in {right:.1%} of the rows before, "
                f"{right_after:.1%} after; cross-entropy {loss:.4f} before, {loss_after:.4f} after."
            )
        return sentences

    def _hits(self, of: pd.DataFrame) -> NDArray[np.bool_]:
        rows = self._rows()
        hits: NDArray[np.bool_] = of.to_numpy()[rows].argmax(axis=1) == self.given[rows]
        return hits

    def _surprise(self, of: pd.DataFrame) -> Floats:
        rows = self._rows()
        surprise: Floats = -np.log(np.maximum(of.to_numpy()[rows, self.given[rows]], SURE))
        return surprise

    def _rows(self) -> NDArray[np.intp]:
        """Rows with a label, of which the model says anything finite."""
        known = np.isfinite(self.before.to_numpy() + self.after.to_numpy()).all(axis=1)
        return np.flatnonzero((self.given >= 0) & known)


def _brief(label: Hashable) -> str:
    text = str(label)
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else np.nan


def is_of_classes(
    frame: pd.DataFrame, targets: Collection[Hashable], classes: Any, *, series: bool
) -> bool:
    """Whether the target is of classes: what the user says, else by the type of its column.

    Raises:
        UnsupportedError: `classes` is no truth value, or classes are asked for in a series.
        ColumnError: Classes and another target, or no target that could be of classes.
    """
    if classes is not None and not isinstance(classes, bool | np.bool_):
        raise UnsupportedError(f"classes must be True, False or None, not {classes!r}.")
    told = bool(classes) or (
        classes is None and any(_holds_classes(frame[label]) for label in targets)
    )
    if not told:
        return False
    if len(targets) != 1:
        raise ColumnError(
            f"classes are the labels in one target column, not in {len(targets)}"
            f"{f' ({listed(targets)})' if targets else ''}: name the one that holds them; of "
            "one-hot columns make one with .idxmax(axis=1)."
        )
    if series:
        raise UnsupportedError(
            f"target column {next(iter(targets))!r} holds classes, which are for rows: leave the "
            "window out, or name a column of numbers."
        )
    return True


def learn_classes(frame: pd.DataFrame, label: Hashable) -> Classes:
    """The classes of a column.

    Raises:
        DataError: No label, one class only, too many, or numbers that are no classes.
        UnsupportedError: Labels of another kind.
    """
    column = frame[label]
    if column.isna().all():
        raise DataError(
            f"target column {label!r} has no value at all: there is nothing to learn from."
        )
    codes, names = codes_of(column, f"target column {label!r}")
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    alone = [name for name, rows in zip(names, counts, strict=True) if rows == 1]
    note = f"classes of one row, of which a model knows next to nothing: {listed(alone)}"
    return Classes(label, tuple(names.tolist()), (note,) if alone else ())


def _holds_classes(column: pd.Series) -> bool:
    """Whether a column is one of booleans, of categories, or of text that is repeated.

    Text of which half the values are different, or half are numbers, holds quantities with a unit
    or a word among them, or names of rows.
    """
    kind: Any = column.dtype
    if isinstance(kind, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(kind):
        return True
    text = pd.api.types.is_string_dtype(kind)
    if pd.api.types.is_object_dtype(kind):
        inferred = pd.api.types.infer_dtype(column, skipna=True)
        if inferred == "boolean":
            return True
        text = inferred == "string"
    if not text:
        return False
    labels = column.dropna()
    levels = labels.unique()
    numbers = pd.to_numeric(pd.Series(levels, dtype=object), errors="coerce").notna().sum()
    return 0 < 2 * len(levels) <= len(labels) and 2 * numbers < len(levels)
