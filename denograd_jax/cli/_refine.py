"""`denograd-jax refine`, `fit` and `apply`: a file in; refined data, changes and report out."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from denograd_jax import Fitted, Refinement, Status, fit, refine
from denograd_jax._frames._folders import refuse_taken
from denograd_jax._frames._saved import FITTED
from denograd_jax.cli._outputs import check_outputs, check_page, written_together
from denograd_jax.cli._screen import StageBar, console, progress_bars
from denograd_jax.cli._tables import (
    TableFile,
    is_parquet,
    read_table,
    split_ending,
    with_levels,
    write_frame,
    write_refined,
)
from denograd_jax.errors import FileError

__all__ = ["Outputs", "apply_file", "beside", "fit_file", "refine_file", "save"]


class Outputs(NamedTuple):
    """The files to write; None for those not wanted."""

    data: Path
    changes: Path | None = None
    report: Path | None = None
    folder: Path | None = None
    soft_labels: Path | None = None

    def check(self, source: Path, *, overwrite: bool) -> None:
        """Refuse, before the work is done, what could not be written after it."""
        for table in (self.data, self.changes, self.soft_labels):
            if table is not None:
                is_parquet(table)  # refuses other endings
        if self.report is not None:
            check_page(self.report)
        if self.folder is not None and self.folder.exists():
            raise FileError(f"{self.folder} exists: choose another name for a new folder.")
        check_outputs(self.paths(), source, overwrite=overwrite)

    def paths(self) -> list[Path]:
        """Those that are wanted."""
        return [path for path in self if path is not None]


def refine_file(
    source: Path,
    outputs: Outputs | None,
    arguments: Mapping[str, Any],
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Read a table, refine it, and write what came of it.

    Args:
        source: The input file.
        outputs: The files to write; None to write nothing.
        arguments: Keyword arguments of `denograd_jax.refine`.
        overwrite: Whether existing outputs may be replaced.
        quiet: Whether to print nothing.
    """
    order = [arguments["time"], *(arguments["groups"] or ())]
    run = functools.partial(refine, **arguments)
    _process(source, outputs, order, run, overwrite=overwrite, quiet=quiet)


def fit_file(
    source: Path,
    folder: Path,
    arguments: Mapping[str, Any],
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Read a table, fit a model to it, and keep that in a folder.

    Args:
        source: The input file.
        folder: Where the model goes.
        arguments: Keyword arguments of `denograd_jax.fit`.
        overwrite: Whether a model that is there may be replaced.
        quiet: Whether to print nothing.
    """
    refuse_taken(folder, FITTED, overwrite=overwrite)
    frame = with_levels(read_table(source).frame, [arguments["time"], *(arguments["groups"] or ())])
    with progress_bars(quiet=quiet) as bars:
        fitted = fit(frame, **arguments, progress=StageBar(bars))
    if fitted.interrupted:
        raise KeyboardInterrupt
    fitted.save(folder, overwrite=overwrite)
    if not quiet:
        settings = ", ".join(f"{name} {value}" for name, value in fitted.settings.items())
        console().print(f"Fitted: {settings}.\nWrote {folder}.", soft_wrap=True)


def apply_file(
    folder: Path,
    source: Path,
    outputs: Outputs | None,
    moves: Mapping[str, Any],
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Read a table, refine it by a model that `fit_file` made, and write what came of it.

    Args:
        folder: Where the model is.
        source: The input file.
        outputs: The files to write; None to write nothing.
        moves: Keyword arguments of `Fitted.refine`.
        overwrite: Whether existing outputs may be replaced.
        quiet: Whether to print nothing.
    """
    fitted = Fitted.load(folder)
    order = [fitted.design.time, *fitted.design.groups]
    names = [None if label is None else str(label) for label in order]
    run = functools.partial(fitted.refine, **moves)
    _process(source, outputs, names, run, overwrite=overwrite, quiet=quiet)


def _process(
    source: Path,
    outputs: Outputs | None,
    order: Sequence[str | None],
    run: Callable[..., Refinement],
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Read, run, write and print; what was interrupted is not written, for it is not whole."""
    if outputs is not None:
        outputs.check(source, overwrite=overwrite)
    table = read_table(source)
    with progress_bars(quiet=quiet) as bars:
        refinement = run(with_levels(table.frame, order), progress=StageBar(bars))
    if refinement.status is Status.interrupted:
        raise KeyboardInterrupt
    if outputs is not None:
        with written_together() as aside:
            save(refinement, table, outputs, aside)
    if not quiet:
        _print_outcome(refinement, outputs)


def save(
    refinement: Refinement, source: TableFile, outputs: Outputs, aside: Callable[[Path], Path]
) -> None:
    """Write the outputs, each to the path that `aside` gives for it."""
    write_refined(refinement.data, source, aside(outputs.data))
    if outputs.changes is not None:
        write_frame(refinement.changes, aside(outputs.changes))
    if outputs.soft_labels is not None:
        probabilities = refinement.probabilities.rename(columns=str)
        write_frame(probabilities, aside(outputs.soft_labels))
    if outputs.report is not None:
        refinement.report(aside(outputs.report))
    if outputs.folder is not None:
        refinement.save(aside(outputs.folder))


def beside(source: Path, word: str = "refined") -> Path:
    """Where an output goes by default: from `houses.csv` to `houses.refined.csv`."""
    stem, ending = split_ending(source)
    return source.with_name(f"{stem}.{word}{ending}")


def _print_outcome(refinement: Refinement, outputs: Outputs | None) -> None:
    screen = console()
    screen.print(refinement.summary(), soft_wrap=not screen.is_terminal)
    if outputs is None:
        screen.print("Dry run: nothing was written.")
    else:
        names = ", ".join(map(str, outputs.paths()))
        screen.print(f"Wrote {names}.", soft_wrap=True)
