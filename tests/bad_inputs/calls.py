"""A call of `refine` that is refused, and what is said in several of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from denograd_jax.errors import DenogradError


class Call(NamedTuple):
    """A call of `refine` that is refused.

    Attributes:
        name: Of the case.
        data: The data, or a function that makes it.
        given: Further arguments.
        error: The class of the error.
        says: The message.
        in_file: Whether a CSV file of the data and the same options get the same answer.
    """

    name: str
    data: Any
    given: Mapping[str, Any]
    error: type[DenogradError]
    says: str
    in_file: bool = False


KNOWN = "is not in the data; it has: 'a', 'b', 'y'"
CONVERT = (
    "only numbers can be refined. Convert it, for example with .astype(float). If it holds "
    "classes, say classes=True (--classes)."
)
NO_MOVE = "no column can move: every numeric column is frozen, constant or holds only 0 and 1."
