"""What a person sees: progress bars on stderr, results on stdout."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

__all__ = ["StageBar", "console", "progress_bars"]

_WORDS = {"read": "reading", "train": "training", "refine": "refining"}


def console() -> Console:
    """Standard output; without colours when it is not a terminal."""
    return Console(highlight=False, markup=False)


class StageBar:
    """The progress of `refine` or `stream` as one bar, which starts anew at each stage.

    Args:
        bars: Where to draw it.
        title: What is written before the stage.
    """

    def __init__(self, bars: Progress, title: str = "") -> None:
        self._bars = bars
        self._title = title
        self._stage = ""
        self._task = bars.add_task(f"{title}preparing", total=None)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of the stage are done."""
        if stage != self._stage:
            self._stage = stage
            words = f"{self._title}{_WORDS.get(stage, stage)}"
            self._bars.reset(self._task, description=words, total=total)
        self._bars.update(self._task, completed=done, total=total)


@contextlib.contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Progress]:
    """Live bars on stderr; nothing when quiet or when stderr is not a terminal."""
    screen = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=screen,
        disable=quiet or not screen.is_terminal,
        transient=True,
    ) as bars:
        yield bars
