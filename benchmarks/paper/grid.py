"""The cells of the study, each computed once and kept in a small file.

A cell is one measured part of one refinement: its distances, or one downstream model. Cells of the
same refinement follow each other, so that it is computed once; after a stop it is computed again.
"""

import hashlib
import json
import time
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import pandas as pd

from benchmarks.quality.grid import keep

from . import copies, data, downstream, measures
from .copies import CONTROLS, Kind
from .methods import NOTHING, Method

DISTANCES = "distances"


@dataclass(frozen=True)
class Cell:
    """One measured part of what one method makes of one copy; `part` is None for distances."""

    data: str
    kind: Kind
    method: Method
    part: downstream.Regressor | None
    seed: int

    @property
    def part_name(self) -> str:
        return self.part.name if self.part else DISTANCES

    @property
    def name(self) -> str:
        """For people and for file names."""
        parts = self.data, self.kind.name, self.method.name, self.part_name, f"seed{self.seed}"
        return "-".join(part.replace(" ", "_") for part in parts)


class Grid:
    """Cells over the data sets of a folder, and the files that their results are kept in.

    Args:
        folder: Where Parquet files lie.
        cache: Folder of the results; made where there is none.
        rows: Most rows of each data set.
        full: Whether data sets are taken whole of which a subset is usual.
    """

    def __init__(self, folder, cache, rows=None, full=False):
        self.cache = Path(cache)
        self.cache.mkdir(parents=True, exist_ok=True)
        load = lru_cache(maxsize=1)(lambda *which: data.load(*which, rows, full))
        self._load = lambda name, seed: load(name, folder, seed)
        self._digest = lru_cache(maxsize=None)(lambda *which: self._load(*which).digest())
        self._copy = lru_cache(maxsize=1)(
            lambda name, kind, seed: copies.make(self._load(name, seed), kind, seed)
        )
        self._refined = lru_cache(maxsize=2)(self._refine)  # that of no denoising, too

    def cells(self, names, kinds, methods, regressors, seeds) -> list[Cell]:
        """All that apply, those of one copy after each other."""
        found = []
        for seed in seeds:
            for name in names:
                form = data.FILES[name].kind
                fitting = [m for m in methods if form in m.kinds]
                parts = [None, *(r for r in regressors if form in r.kinds)]
                wanted = [k for k in kinds if not k.pure_noise or name in CONTROLS]
                found += [
                    Cell(name, kind, method, part, seed)
                    for kind in wanted
                    for method in fitting
                    for part in parts
                ]
        return found

    def result(self, cell: Cell, retry: bool = False) -> dict:
        """What came of a cell, from its file or computed now.

        Args:
            cell: One of `cells`.
            retry: Whether it is computed again where it failed.

        Returns:
            What the cell is, its `values`, `error` (None unless it failed), `times`, and `cached`.
        """
        path = self.path(cell)
        if path.exists():
            kept = json.loads(path.read_text())
            if not (kept["error"] and retry):
                return kept | {"cached": True}
        found = self._measured(cell)
        keep(found, path)
        return found | {"cached": False}

    def complete(self, cells: list[Cell]) -> list[Cell]:
        """Those of copies of which no cell is to be computed any more."""
        lacking = {(c.data, c.kind, c.seed) for c in cells if not self.path(c).exists()}
        return [c for c in cells if (c.data, c.kind, c.seed) not in lacking]

    def path(self, cell: Cell) -> Path:
        """File of a cell; its name holds a digest of all that determines the result."""
        key = [
            self._digest(cell.data, cell.seed),
            cell.kind.name,
            cell.method.name,
            cell.method.version,
            cell.part_name,
            cell.part.version if cell.part else measures.VERSION,
            cell.seed,
            copies.VERSION,
        ]
        code = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        return self.cache / f"{cell.name}-{code}.json"

    def _measured(self, cell: Cell) -> dict:
        copy = self._copy(cell.data, cell.kind, cell.seed)
        refined, error, times = self._refined(cell.data, cell.kind, cell.method, cell.seed)
        if error is None and cell.part and cell.method != NOTHING and untouched(copy, refined):
            before = self.result(replace(cell, method=NOTHING))
            return before | {"method": cell.method.name}
        values = None
        if error is None and cell.part is None:
            values, error, _ = attempt(measures.distances, copy, refined)
        elif error is None:
            values, error, times = attempt(downstream.errors, copy, refined, cell.part)
        return {
            "data": cell.data,
            "form": copy.data.kind,
            "copy": cell.kind.name,
            "method": cell.method.name,
            "part": cell.part_name,
            "seed": cell.seed,
            "rows": len(copy.learnt) + len(copy.test),
            "error": error,
            "values": values or {},
            "times": times,
        }

    def _refine(self, name, kind, method, seed):
        return attempt(method, self._copy(name, kind, seed))


def untouched(copy, refined):
    """Whether nothing moved: models of these rows are those of the rows without refinement."""
    return copy.learnt.equals(refined.learnt) and copy.test.equals(refined.test)


def attempt(function, *arguments):
    """What it returns, its error as text (one of the two is None), and the seconds it took.

    Whatever a method does, the study goes on and tells.
    """
    begin, found, error = clocks(), None, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = function(*arguments)
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    return found, error, {name: now - begin[name] for name, now in clocks().items()}


def clocks():
    """Of the wall, and of all processors together."""
    return {"seconds": time.perf_counter(), "cpu seconds": time.process_time()}


WHAT = ["data", "form", "copy", "method", "part", "seed", "rows"]
"""Columns of the table that say which cell it is."""


def table(results) -> pd.DataFrame:
    """One line per cell and measured number; a failed cell has one line with its error."""
    lines = []
    for result in results:
        cell = {name: result[name] for name in WHAT}
        values = result["values"] | result["times"]
        values = {"failed": float("nan")} if result["error"] else values
        for measure, value in values.items():
            lines.append(cell | {"measure": measure, "value": value, "error": result["error"]})
    return pd.DataFrame(lines, columns=[*WHAT, "measure", "value", "error"])
