"""The command of the paper's study: cells that are kept, tables, what it refuses."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

for module in ("matplotlib", "pyarrow", "rich", "scipy", "sklearn"):
    pytest.importorskip(module)

from benchmarks.paper import command, downstream, grid, methods
from tests.paper_data import KINDS, SIGMA, frame

ROOT = Path(__file__).parents[1]


def counting(calls):
    """A method that notes each call, and one that fails."""

    def shrink(copy):
        calls.append(copy.kind.name)
        return lambda rows: 0.9 * rows

    def fail(copy):
        raise ValueError("cannot do this")

    return [
        methods.NOTHING,
        methods.Method("shrink", "baseline", shrink, study="shrink"),
        methods.Method("fail", "baseline", fail),
    ]


def averaging(x, y, training, seed):
    return lambda some: np.full(len(some), y[:training].mean())


REGRESSORS = [
    downstream.Regressor("mean", averaging),
    downstream.Regressor("absent", averaging, needs=("no_such_module",)),
]


@pytest.fixture
def folder(tmp_path):
    """A table and a series under names of the study."""
    frame("rows").to_parquet(tmp_path / "parkinsons.parquet")
    frame("series").rename(columns={"y": "meantemp"}).to_parquet(tmp_path / "daily_climate.parquet")
    return tmp_path


def ran(folder, some, **more):
    found = grid.Grid(folder, folder / "cells")
    kinds = [KINDS["sigma 0.0"], SIGMA]
    cells = found.cells(["parkinsons"], kinds, some, REGRESSORS[:1], [42])
    return [found.result(cell, **more) for cell in cells]


def copies_that_are_complete(folder):
    found = grid.Grid(folder, folder / "cells")
    kinds = [KINDS["sigma 0.0"], SIGMA]
    cells = found.cells(["parkinsons"], kinds, counting([]), REGRESSORS[:1], [42])
    return {cell.kind.name for cell in found.complete(cells)}


def test_second_run_computes_nothing(folder):
    calls = []
    first = ran(folder, counting(calls))
    assert len(first) == 2 * 3 * 2
    assert calls == ["sigma 0.0", "sigma 0.1"]  # once for all cells of a refinement
    second = ran(folder, counting(calls))
    assert len(calls) == 2
    assert all(result["cached"] for result in second)
    pd.testing.assert_frame_equal(grid.table(first), grid.table(second))
    newer = [dataclasses.replace(counting(calls)[1], version="2")]
    assert not any(result["cached"] for result in ran(folder, newer))


def test_one_lost_cell_is_computed_again(folder):
    ran(folder, counting([]))
    lost = next(folder.glob("cells/*sigma_0.1-shrink-mean*.json"))
    kept = json.loads(lost.read_text())
    lost.unlink()
    assert copies_that_are_complete(folder) == {"sigma 0.0"}
    calls = []
    again = [r for r in ran(folder, counting(calls)) if not r["cached"]]
    assert calls == ["sigma 0.1"]
    assert [r["values"] for r in again] == [kept["values"]]
    assert copies_that_are_complete(folder) == {"sigma 0.0", "sigma 0.1"}


def test_failures_are_kept_and_tried_again_on_request(folder):
    table = grid.table(ran(folder, counting([])))
    failed = table[table["measure"] == "failed"]
    assert set(failed["method"]) == {"fail"}
    assert set(failed["error"]) == {"ValueError: cannot do this"}
    assert [r["cached"] for r in ran(folder, counting([])[2:], retry=True)] == [False] * 4


def test_what_moves_nothing_is_not_trained_again(folder):
    trained = []

    def noting(*given):
        trained.append(given)
        return averaging(*given)

    regressor = downstream.Regressor("noting", noting)
    still = methods.Method("still", "baseline", lambda _: lambda rows: rows)
    found = grid.Grid(folder, folder / "cells")
    some = [still, *counting([])[:2]]  # also before there is a result to take
    cells = found.cells(["parkinsons"], [SIGMA], some, [regressor], [42])
    results = {c.method.name: found.result(c) for c in cells if c.part}
    assert len(trained) == 2
    assert results["still"]["values"] == results["no denoising"]["values"]
    assert results["still"]["method"] == "still"
    assert results["shrink"]["values"] != results["still"]["values"]
    assert json.loads(found.path(cells[1]).read_text())["method"] == "still"


def test_whole_command(folder, monkeypatch, capsys):
    some = [*counting([]), methods.Method("lost", "baseline", None, needs=("no_such_module",))]
    monkeypatch.setattr(command, "METHODS", some)
    monkeypatch.setattr(command, "REGRESSORS", REGRESSORS)
    out = folder / "out"
    command.main([str(folder), "--quick", "--out", str(out)])
    text = (out / "summary.md").read_text()
    said = capsys.readouterr().out
    for absent in ("method lost", "regressor absent"):
        assert f"left out: {absent}: not installed: no_such_module" in said
        assert f"- {absent}: not installed: no_such_module" in text
    assert "- data set lattice: its file is not in the folder" in text
    assert text.index("ours: Imp%") < text.index("authors': Imp%")
    assert "## A target of pure noise" in text
    assert "fail, 12 cells: `ValueError: cannot do this` in daily_climate, parkinsons" in text
    assert {p.name for p in out.glob("imp*.png")} == {
        "imp_pure-noise_target.png",
        "imp_sigma_0.0.png",
        "imp_sigma_0.1.png",
    }
    found = pd.read_parquet(out / "scores.parquet")
    assert set(found["copy"]) == {"sigma 0.0", "sigma 0.1", "pure-noise target"}
    assert len(pd.read_parquet(out / "paper.parquet")) > 100


def test_sizes(folder):
    quick, small, whole = (
        command.parsed([str(folder), *size]) for size in (["--quick"], ["--small"], [])
    )
    frame("series").to_parquet(folder / "ETTh1.parquet")
    assert command.parsed([str(folder), "--quick"]).data == quick.data == small.data
    assert command.parsed([str(folder), "--small"]).data == [*small.data, "ETTh1"]
    assert (quick.rows, small.rows, whole.rows) == (1000, 1000, None)
    assert (quick.seeds, small.seeds, whole.seeds) == ([42], [42], [42, 52, 62])
    names = [[k.name for k in options.copies] for options in (small, whole)]
    assert set(names[0]) == {"sigma 0.0", "sigma 0.1", "pure-noise target"} < set(names[1])


@pytest.mark.parametrize("unknown", ["--only-data", "--only-copies", "--only-methods"])
def test_unknown_names(folder, capsys, unknown):
    with pytest.raises(SystemExit):
        command.main([str(folder), unknown, "nonsense"])
    assert "no nonsense; there are:" in capsys.readouterr().err


@pytest.mark.slow
def test_script_says_that_there_is_no_folder():
    script = ROOT / "benchmarks" / "paper.py"
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, env={})
    assert found.returncode == 2
    assert "DENOGRAD_DATA" in found.stderr
