"""The command: arguments, what is left out, progress, Ctrl-C."""

import argparse
import os
import sys
from pathlib import Path

from benchmarks.quality.command import collected, named

from . import copies, data, figures, sources, summary
from .downstream import REGRESSORS
from .grid import Grid, table
from .methods import METHODS, NOTHING, lacking
from .scores import scored

SEEDS = [42, 52, 62]
SMALL = {"copies": ["sigma 0.0", "sigma 0.1", "pure-noise target"], "rows": 1000}
QUICK = SMALL | {"data": ["parkinsons", "daily_climate"]}
"""Both of them with one seed, and with the models of any data that are fast."""
DIAGRAMS = "critical-difference diagrams"


def main(arguments=None):
    """The DenoGrad study again, in the authors' protocol and tested on untouched rows.

    Args:
        arguments: Of the command line; those of the process unless given.

    Raises:
        SystemExit: For arguments that cannot be used, and with 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["fetch"]:
        return fetch(arguments[1:])
    options = parsed(arguments)
    for name, why in options.left_out.items():
        print(f"left out: {name}: {why}")
    grid = Grid(options.folder, options.cache or options.out / "cells", options.rows, options.full)
    cells = grid.cells(
        options.data, options.copies, options.methods, options.regressors, options.seeds
    )
    if options.kept:
        cells = grid.complete(cells)
    results, stopped = collected(grid, cells, options.retry_failed)
    found = table(results)
    if (found["measure"] == "mse untouched").any():
        write(found, options.left_out, options.out)
    if stopped:
        print(f"stopped at {len(results)} of {len(cells)}; the same command goes on from there,")
        print("and with --kept it tells of the copies that are complete, which ranks need")
        sys.exit(130)
    return None


def fetch(arguments):
    """Data sets into the folder, from where they are published; 1 if any is not there then."""
    parser = argparse.ArgumentParser(prog="paper.py fetch", description=fetch.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only-data", nargs="+", metavar="NAME")
    options = parser.parse_args(arguments)
    wanted = named(options.only_data or data.FILES, data.FILES, parser)
    for name in wanted:
        print(f"{name}: {sources.fetched(name, options.folder)}", flush=True)
    there = [name for name in wanted if name in data.names(options.folder)]
    print(f"{len(there)} of {len(wanted)} in {options.folder}")
    if len(there) < len(wanted):
        sys.exit(1)


def parsed(arguments):
    parser = argparse.ArgumentParser(
        prog="paper.py",
        description=main.__doc__.splitlines()[0],
        epilog="paper.py fetch FOLDER: the data sets from where they are published",
    )
    parser.add_argument("folder", nargs="?", default=os.environ.get("DENOGRAD_DATA"))
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a part of two data sets, in minutes")
    size.add_argument("--small", action="store_true", help="the same part of every data set")
    parser.add_argument("--full", action="store_true", help=f"all of RT-IoT, not {data.SUBSET:,}")
    parser.add_argument("--only-data", nargs="+", metavar="NAME")
    parser.add_argument("--only-copies", nargs="+", metavar="NAME", help='such as "sigma 0.1"')
    parser.add_argument("--only-methods", nargs="+", metavar="NAME")
    parser.add_argument("--only-regressors", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--rows", type=int, help="of each data set; all unless given")
    parser.add_argument("--out", type=Path, default=Path("paper"), help="folder of the results")
    parser.add_argument("--cache", type=Path, help="folder of the cells; `cells` in that of --out")
    parser.add_argument("--kept", action="store_true", help="tell of complete copies, add none")
    parser.add_argument("--retry-failed", action="store_true", help="compute failed cells again")
    options = parser.parse_args(arguments)
    if not options.folder:
        parser.error("name the folder of the data, or set DENOGRAD_DATA")
    if not Path(options.folder).is_dir():
        parser.error(f"{options.folder} is no folder")
    return chosen(options, parser)


def chosen(options, parser):
    """The options with what they select, the part that a size has where nothing else is asked."""
    there = data.names(options.folder)
    if not there:
        parser.error(f"none of {', '.join(data.FILES)} in {options.folder}; try: paper.py fetch")
    part = QUICK if options.quick else SMALL if options.small else {}
    usual = [n for n in part.get("data", there) if n in there]
    options.data = named(options.only_data or usual or there, there, parser)
    kinds = {k.name: k for k in copies.KINDS}
    wanted = options.only_copies or part.get("copies", kinds)
    options.copies = [kinds[n] for n in named(wanted, kinds, parser)]
    options.methods = picked(METHODS, options.only_methods, METHODS, parser)
    if NOTHING not in options.methods:
        options.methods.insert(0, NOTHING)  # what Imp% is measured against
    usual = [r for r in REGRESSORS if r.quick or not part]
    options.regressors = picked(REGRESSORS, options.only_regressors, usual, parser)
    options.seeds = options.seeds or SEEDS[: 1 if part else None]
    options.rows = options.rows or part.get("rows")
    return without_what_is_missing(options)


def picked(every, wanted, usual, parser):
    """Those of the wanted names, or the usual ones."""
    by_name = {each.name: each for each in every}
    return [by_name[n] for n in named(wanted or [each.name for each in usual], by_name, parser)]


def without_what_is_missing(options):
    """The options less what cannot be run here; `left_out` names it and says why."""
    left_out = {
        f"data set {n}": "its file is not in the folder" for n in data.missing(options.folder)
    }
    for method in options.methods:
        if why := lacking(method.needs):
            left_out[f"method {method.name}"] = why
    for regressor in options.regressors:
        if why := regressor.lacks():
            left_out[f"regressor {regressor.name}"] = why
    if why := lacking(["scikit_posthocs"]):
        left_out[DIAGRAMS] = why
    options.methods = [m for m in options.methods if f"method {m.name}" not in left_out]
    options.regressors = [r for r in options.regressors if f"regressor {r.name}" not in left_out]
    options.left_out = left_out
    return options


def write(found, left_out, out):
    """The table, the scores, the summary and the figures."""
    out.mkdir(parents=True, exist_ok=True)
    scores = scored(found)
    found.to_parquet(out / "paper.parquet", index=False)
    scores.to_parquet(out / "scores.parquet", index=False)
    text = summary.markdown(found, left_out)
    (out / "summary.md").write_text(text)
    paths = figures.draw(scores, out)
    print(text)
    files = "paper.parquet", "scores.parquet", "summary.md", *(p.name for p in paths)
    print(f"written to {out}: {', '.join(files)}")
