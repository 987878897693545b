"""A file that the command line refuses, and what its cases have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.bad_inputs.good import table

LONG = "x" * 300
"""Longer than the name of a file may be."""


class File(NamedTuple):
    """A file that `denograd-jax refine FILE --target y` refuses.

    Attributes:
        name: Of the case.
        file: The file's name.
        content: What it holds, or a function that puts it at a path.
        says: The message.
    """

    name: str
    file: str
    content: bytes | Callable[[Path], object]
    says: str


GOOD_LINES = table().to_csv(index=False, lineterminator="\n").splitlines()
TEXT = "\n".join(GOOD_LINES) + "\n"
CSV = TEXT.encode()
NO_TABLE = "{path} is not a table that can be read:"
