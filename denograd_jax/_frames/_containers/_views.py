"""What every kind of container is turned into: a frame for reading, and the way back."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import pandas as pd

__all__ = ["Close", "Pick", "View", "whole"]

Close: TypeAlias = Callable[[pd.DataFrame], Any]
Pick: TypeAlias = Callable[[Any, int | list[int]], Any]


@dataclasses.dataclass(frozen=True)
class View:
    """A container seen as a frame.

    Attributes:
        kind: What it is, for a person.
        frame: For reading only; it may share memory with the container.
        close: A container of this kind from a refined frame of the same rows and columns.
        pick: One column (an int), or several (a list), of such a container.
        indexed: Whether the rows have labels, not only numbers.
        named: Whether the columns have names, not only numbers.
    """

    kind: str
    frame: pd.DataFrame
    close: Close
    pick: Pick
    indexed: bool
    named: bool


def whole(closed: Any, positions: int | list[int]) -> Any:
    """`Pick` of a container that is a single column."""
    del positions
    return closed
