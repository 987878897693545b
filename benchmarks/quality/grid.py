"""The cells of the grid, each computed once and kept in a small file."""

import hashlib
import json
import time
import warnings
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import pandas as pd

from . import downstream, measures, noise
from .data import load
from .methods import Method
from .problems import DataSet, Problem


@dataclass(frozen=True)
class Cell:
    """One method on one noisy copy of one data set."""

    data: str
    noise: noise.Noise
    method: Method
    seed: int

    @property
    def name(self) -> str:
        """For people and for file names."""
        parts = self.data, self.noise.name, self.method.name, f"seed{self.seed}"
        return "-".join(part.replace(" ", "_").replace("/", "_") for part in parts)


class Grid:
    """Cells over the data sets of a folder, and the files that their results are kept in.

    Args:
        folder: Where Parquet files lie, or None.
        rows: How many rows of each data set are taken.
        cache: Folder of the results; made where there is none.
    """

    def __init__(self, folder, rows: int, cache):
        self.folder, self.rows, self.cache = folder, rows, Path(cache)
        self.cache.mkdir(parents=True, exist_ok=True)
        # Cells of the same noisy copy follow each other; the last few are kept.
        self._data = lru_cache(maxsize=2)(lambda name, seed: load(name, folder, rows, seed))
        self._copy = lru_cache(maxsize=1)(self._make_copy)
        self._digest = lru_cache(maxsize=None)(lambda name, seed: digest(self._data(name, seed)))

    def cells(self, names, noises, methods, seeds) -> list[Cell]:
        """All that apply, in an order in which those of one noisy copy follow each other."""
        found = []
        for seed in seeds:
            for name in names:
                data = self._data(name, seed)
                fitting = [m for m in methods if m.applies(data.kind, len(data.columns))]
                kinds = [n for n in noises if n.applies(data)]
                found += [Cell(name, n, m, seed) for n in kinds for m in fitting]
        return found

    def result(self, cell: Cell, retry: bool = False) -> dict:
        """What came of a cell, from its file or computed now.

        Args:
            cell: One of `cells`.
            retry: Whether it is computed again where it failed.

        Returns:
            What the cell is, its `measures`, `error` (None unless it failed), and `cached`.
        """
        return self.known(cell, retry) or self.computed(cell)

    def known(self, cell: Cell, retry: bool = False) -> dict | None:
        """The result of a cell if there is one."""
        path = self.path(cell)
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        return None if result["error"] and retry else result | {"cached": True}

    def computed(self, cell: Cell) -> dict:
        """The result of a cell; it is kept, unless all that it lacks is a package."""
        result = self._measured(cell)
        keep(result, self.path(cell))
        return result | {"cached": False}

    def path(self, cell: Cell) -> Path:
        """File of a cell; its name holds a digest of all that determines the result."""
        key = [
            self._digest(cell.data, cell.seed),
            cell.noise.name,
            cell.method.name,
            cell.method.version,
            cell.seed,
            noise.VERSION,
            measures.VERSION,
        ]
        code = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        return self.cache / f"{cell.name}-{code}.json"

    def _measured(self, cell: Cell) -> dict:
        data = self._data(cell.data, cell.seed)
        noisy, problem, baseline = self._copy(cell.data, cell.noise, cell.seed)
        if not cell.method.told:
            problem = replace(problem, noise_scale={})
        result = {
            "data": data.name,
            "kind": data.kind,
            "noise": cell.noise.name,
            "method": cell.method.name,
            "family": cell.method.family,
            "seed": cell.seed,
            "rows": len(data.train),
            "error": None,
            "measures": [],
        }
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                refined = cell.method(noisy.copy(), problem)
            seconds = time.perf_counter() - begin
            found = measures.all_measures(data, noisy, baseline, refined)
        except Exception as error:  # whatever a method does, the grid goes on and tells
            result["error"] = f"{type(error).__name__}: {error}"
            return result
        found.append(measures.Measure("all", "seconds", seconds))
        result["measures"] = [m._asdict() for m in found]
        return result

    def _make_copy(self, name, kind, seed):
        """The noisy frame, the problem that it poses, and what models make of it as it is."""
        data = self._data(name, seed)
        noisy, scale = noise.add(kind, data, seed)
        problem = Problem(data.kind, data.target, data.window, data.columns, scale, seed)
        return noisy, problem, downstream.errors(data, noisy)


def keep(result: dict, path: Path) -> None:
    """Write the result of a cell to its file, unless all that it lacked is a package."""
    if not (result["error"] or "").startswith(("ModuleNotFoundError", "ImportError")):
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(result, indent=1))
        draft.replace(path)  # a file is there whole, or not at all


def digest(data: DataSet) -> str:
    """Of all that a data set holds."""
    fields = asdict(replace(data, train=None, test=None))
    found = hashlib.sha256(json.dumps(fields).encode())
    for frame in (data.train, data.test):
        found.update(json.dumps([str(c) for c in frame.columns]).encode())
        found.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return found.hexdigest()


WHAT = ["data", "kind", "noise", "method", "family", "seed", "rows"]
"""Columns of the table that say which cell it is."""


def table(results) -> pd.DataFrame:
    """One line per cell and measured part; a failed cell has one line with its error."""
    lines = []
    for result in results:
        cell = {name: result[name] for name in WHAT}
        failure = {"part": "all", "measure": "failed", "value": float("nan")}
        for measured in result["measures"] or [failure]:
            lines.append(cell | measured | {"error": result["error"]})
    return pd.DataFrame(lines, columns=[*WHAT, "part", "measure", "value", "error"])
