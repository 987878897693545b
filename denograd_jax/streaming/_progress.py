"""Who is told how far the work is."""

from typing import Protocol

__all__ = ["Progress"]


class Progress(Protocol):
    """Called after each block: the stage ("read", "refine"), blocks done, and of how many.

    A step of refinement goes through all blocks; as many steps as may be taken make the total.
    """

    def __call__(self, stage: str, done: int, total: int) -> None: ...
