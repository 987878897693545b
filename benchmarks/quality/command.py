"""The command: arguments, progress, Ctrl-C."""

import argparse
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from . import data, figures, summary
from .grid import Grid, table
from .methods import METHODS
from .noise import NOISES

ROWS = 8000
QUICK = {
    "data": ["ETTh1", "seasonal", "california_housing", "rank2"],
    "noise": ["gaussian 0.3", "spikes", "none"],
    "rows": 2000,
}


def main(arguments=None):
    """Run the grid and write what came out.

    Args:
        arguments: Of the command line; those of the process unless given.

    Raises:
        SystemExit: For arguments that cannot be used, and with 130 after Ctrl-C.
    """
    options = parsed(arguments)
    grid = Grid(options.folder, options.rows, options.cache or options.out / "cells")
    cells = grid.cells(options.data, options.noises, options.methods, options.seeds)
    results, stopped = collected(grid, cells, options.retry_failed)
    if results:
        write(table(results), options.out)
    if stopped:
        print(f"stopped at {len(results)} of {len(cells)}; the same command goes on from there")
        sys.exit(130)


def parsed(arguments):
    parser = argparse.ArgumentParser(prog="quality.py", description=main.__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=os.environ.get("DENOGRAD_DATA"))
    parser.add_argument("--quick", action="store_true", help="a small part, under five minutes")
    parser.add_argument("--only-data", nargs="+", metavar="NAME")
    parser.add_argument("--only-noise", nargs="+", metavar="NAME")
    parser.add_argument("--only-methods", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--rows", type=int, help=f"of each data set; {ROWS} unless given")
    parser.add_argument("--out", type=Path, default=Path("quality"), help="folder of the results")
    parser.add_argument("--cache", type=Path, help="folder of the cells; `cells` in that of --out")
    parser.add_argument("--retry-failed", action="store_true", help="compute failed cells again")
    options = parser.parse_args(arguments)
    if not options.folder:
        parser.error("name the folder of the data, or set DENOGRAD_DATA")
    if not Path(options.folder).is_dir():
        parser.error(f"{options.folder} is no folder")
    return chosen(options, parser)


def chosen(options, parser):
    """The options with what they select, the quick subset where nothing else is asked for."""
    quick = options.quick
    there = data.names(options.folder)
    usual = [n for n in QUICK["data"] if n in there] if quick else there
    options.data = named(options.only_data or usual, there, parser)
    noises = {n.name: n for n in NOISES}
    usual = QUICK["noise"] if quick else list(noises)
    options.noises = [noises[n] for n in named(options.only_noise or usual, noises, parser)]
    methods = {m.name: m for m in METHODS}
    usual = [m.name for m in METHODS if m.quick or not quick]
    options.methods = [methods[n] for n in named(options.only_methods or usual, methods, parser)]
    options.seeds = options.seeds or ([0] if quick else [0, 1, 2])
    options.rows = options.rows or (QUICK["rows"] if quick else ROWS)
    return options


def named(wanted, there, parser):
    """The wanted names, which must be there."""
    if unknown := [name for name in wanted if name not in there]:
        parser.error(f"no {', '.join(unknown)}; there are: {', '.join(there)}")
    return list(wanted)


def collected(grid, cells, retry):
    """Results of the cells, as far as they came, and whether Ctrl-C stopped it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    clocks = TimeElapsedColumn(), TimeRemainingColumn()
    results = []
    with interruptible() as interrupts, Progress(*columns, *clocks) as progress:
        bar = progress.add_task("", total=len(cells))
        for cell in cells:
            if interrupts:
                break
            progress.update(bar, description=cell.name)
            results.append(grid.result(cell, retry))
            progress.advance(bar)
    return results, bool(interrupts)


@contextmanager
def interruptible():
    """A list of the Ctrl-Cs so far; the second one ends the process.

    After the first one the current cell is finished: `refine` takes Ctrl-C as a wish for what it
    has by then, which would be kept as the cell's result.
    """
    interrupts = []

    def note(*_):
        interrupts.append(None)
        if len(interrupts) > 1:
            os._exit(130)  # what is kept is whole files; an orderly end would wait for JAX

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def write(found, out):
    """The table, the summary and the figures."""
    out.mkdir(parents=True, exist_ok=True)
    found.to_parquet(out / "quality.parquet", index=False)
    text = summary.markdown(found)
    (out / "summary.md").write_text(text)
    paths = figures.draw(found, out)
    print(text)
    print(f"written to {out}: quality.parquet, summary.md, {', '.join(p.name for p in paths)}")
