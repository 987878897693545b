"""What the report says of a target of classes: how well they are known, and which labels hardly."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement

__all__ = ["ClassLine", "Classes", "classes_of"]

MOST_DOUBTED = 50


class ClassLine(NamedTuple):
    """One class: its rows, and how well the model knows them; NaN where it has no row."""

    name: Any
    rows: int
    accuracy_before: float
    cross_entropy_before: float
    accuracy_after: float
    cross_entropy_after: float


class Doubted(NamedTuple):
    """A row whose label the model finds unlikely; `before` and `after` are the label's chances."""

    row: str
    label: Any
    before: float
    after: float
    likeliest: Any
    probability: float


class Classes(NamedTuple):
    """A section of the page.

    Attributes:
        told: What the classes are and how well they are known, in sentences.
        lines: The largest classes first.
        all_lines: How many classes there are.
        doubted: Rows whose label the model finds least likely.
        labelled: How many rows have a label.
        soft: Whether labels moved too.
    """

    told: list[str]
    lines: list[ClassLine]
    all_lines: int
    doubted: list[Doubted]
    labelled: int
    soft: bool


def classes_of(
    refinement: "Refinement", most: int, row_names: Callable[[NDArray[np.intp]], list[str]]
) -> Classes | None:
    """The section of a refinement whose target is of classes; else None.

    Args:
        refinement: Its classification is told.
        most: Lines of the table of classes.
        row_names: Names of rows by their positions.
    """
    found = refinement.classification
    if found is None:
        return None
    by_class = found.by_class.sort_values("rows", ascending=False, kind="stable")
    lines = by_class.head(most)[list(ClassLine._fields[1:])].itertuples(name=None)
    doubted = found.least_likely(MOST_DOUBTED)
    names = row_names(doubted["row"].to_numpy())
    cells = doubted[list(Doubted._fields[1:])].itertuples(index=False, name=None)
    return Classes(
        told=found.in_words(),
        lines=[ClassLine(*line) for line in lines],
        all_lines=len(by_class),
        doubted=[Doubted(name, *line) for name, line in zip(names, cells, strict=True)],
        labelled=int((found.given >= 0).sum()),
        soft=found.labels is not None,
    )
