"""The quality benchmark: noise as stated, measures, the cache, failures; without real data."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

for module in ("matplotlib", "pyarrow", "rich", "scipy", "sklearn"):
    pytest.importorskip(module)

from benchmarks.quality import command, data, grid, kalman, measures, noise, smoothers, summary
from benchmarks.quality.methods import METHODS, Method
from benchmarks.quality.problems import DataSet, Problem

ROOT = Path(__file__).parents[1]
NOISES = {n.name: n for n in noise.NOISES}
SCALES = [1.0, 10.0, 100.0, 0.1]


def made(rows, kind="series", test_rows=40):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows + test_rows, 4)) * SCALES, columns=list("abcy"))
    window = 8 if kind == "series" else None
    return DataSet("made", kind, "y", window, frame.iloc[:rows], frame.iloc[rows:])


def added(name, rows=20_000):
    """Noise in standard deviations, and what it is said to be."""
    clean = made(rows)
    noisy, told = noise.add(NOISES[name], clean, seed=3)
    scale = clean.scale
    return ((noisy - clean.train) / scale).to_numpy(), np.array(list(told.values())) / scale


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("gaussian 0.1", 0.1, 0.1),
        ("gaussian 0.3", 0.3, 0.3),
        ("y only 0.3", 0, 0.3),
        ("x only 0.3", 0.3, 0),
        ("laplace 0.3", 0.3, 0.3),
        ("ar1 0.3", 0.3, 0.3),
        ("spikes", 5 * np.sqrt(0.02), 5 * np.sqrt(0.02)),
        ("10% of rows 0.3", 0.3 * np.sqrt(0.1), 0.3 * np.sqrt(0.1)),
        ("none", 0, 0),
    ],
)
def test_noise_has_its_scale(name, x, y):
    found, told = added(name)
    deviations = np.sqrt((found**2).mean(axis=0))
    np.testing.assert_allclose(deviations, [x, x, x, y], rtol=0.06)
    np.testing.assert_allclose(told, deviations, rtol=1e-6)


def test_noise_in_one_column():
    found, _ = added("one column 0.5")
    np.testing.assert_allclose(sorted(found.std(axis=0)), [0, 0, 0, 0.5], rtol=0.03, atol=1e-9)
    assert found[:, 3].std() < 1e-9  # never the target


def test_noise_has_its_shape():
    ar1, _ = added("ar1 0.3")
    assert np.corrcoef(ar1[:-1, 0], ar1[1:, 0])[0, 1] == pytest.approx(0.8, abs=0.02)
    laplace, _ = added("laplace 0.3")
    assert (laplace**4).mean() / (laplace**2).mean() ** 2 == pytest.approx(6, rel=0.15)
    spikes, _ = added("spikes")
    hit = np.abs(spikes) > 1e-6
    assert hit.mean() == pytest.approx(0.02, rel=0.1)
    np.testing.assert_allclose(np.abs(spikes[hit]), 5, rtol=1e-6)
    some, _ = added("10% of rows 0.3")
    assert (
        (np.abs(some) > 1e-9).all(axis=1).sum() == (np.abs(some) > 1e-9).any(axis=1).sum() == 2000
    )


def test_noise_is_seeded():
    clean = made(50)
    first, again, other = (noise.add(NOISES["gaussian 0.3"], clean, s)[0] for s in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_distances_by_hand():
    train = pd.DataFrame({"x": [-1.0, 0, 1], "y": [-2.0, 0, 2]})
    clean = DataSet("hand", "rows", "y", None, train, train)
    deviation = np.sqrt(2 / 3)  # of x; that of y is twice as large
    noisy = train + pd.DataFrame({"x": [3.0, 0, 0], "y": [0.0, 0, 8]})
    refined = train + pd.DataFrame({"x": [0.0, 1, 0], "y": [0.0, 2, 0]})
    found = {m.part: m for m in measures.distances(clean, noisy, refined)}
    assert found["X"].value == pytest.approx(1 / 3)
    assert found["y"].value == pytest.approx(2 / 8)
    assert found["all"].value == pytest.approx(np.sqrt((1 + 1) / (9 + 16)))
    assert found["column x"] == ("column x", "error ratio", found["X"].value)
    for m in measures.distances(clean, train, refined):
        assert m.measure == "move"
        assert m.value == pytest.approx(np.sqrt(1 / 3) / deviation)


def test_one_step_ahead():
    series = made(30)
    x, y = data.load("seasonal", None, 100, 0), measures.downstream
    assert x.test.shape == (20, 6)
    inputs, targets = y.examples(series, series.train)
    assert inputs.shape == (26, 16)
    last_steps = np.sort(series.train.iloc[:4].to_numpy().ravel())
    np.testing.assert_array_equal(np.sort(inputs[0]), last_steps)
    assert targets[0] == series.train["y"].iloc[4]


@pytest.mark.parametrize("name", data.SYNTHETIC)
def test_synthetic_data(name):
    found = data.load(name, None, 200, seed=1)
    assert len(found.train) == 160
    assert len(found.test) == 40
    assert found.target in found.columns
    assert found.train.equals(data.load(name, None, 200, seed=1).train)


def test_any_file_joins(tmp_path):
    times = pd.date_range("2020-01-01", periods=50, freq="h")
    values = np.arange(50.0) % 7
    series = pd.DataFrame({"when": times, "a": values, "b": values**2, "text": "x"})
    series.loc[3, "b"] = np.nan  # more than one in a hundred: left out
    series.to_parquet(tmp_path / "clock.parquet")
    series.drop(columns="when").to_parquet(tmp_path / "table.parquet")
    assert data.names(tmp_path)[:2] == ["clock", "table"]
    clock, table = (data.load(n, tmp_path, 40, 0) for n in ("clock", "table"))
    assert (clock.kind, clock.columns) == ("series", ("a",))
    assert clock.train["a"].tolist() == values[:32].tolist()
    assert (table.kind, len(table.train), len(table.test)) == ("rows", 32, 8)


@pytest.mark.parametrize("smooth", [smoothers.moving_average, smoothers.whittaker])
def test_smoothers_smooth(smooth):
    t = np.arange(500)
    clean = np.sin(t / 20)
    noisy = clean + 0.3 * np.random.default_rng(0).normal(size=500)
    assert np.square(smooth(noisy) - clean).mean() < 0.3 * np.square(noisy - clean).mean()


def test_kalman_smoother():
    """Against the normal equations of the same model, and on a series with known levels."""
    rng = np.random.default_rng(0)
    n, level_ratio, slope_ratio = 200, 0.04, 0.01
    level = np.cumsum(0.2 * rng.normal(size=n))
    values = (level + rng.normal(size=n))[:, None]
    step, here, no = np.diff(np.eye(n), axis=0), np.eye(n)[:-1], np.zeros((n - 1, n))
    seen = np.hstack([np.eye(n), np.zeros((n, n))])
    moves = np.hstack([step, -here]) / np.sqrt(level_ratio)
    turns = np.hstack([no, step]) / np.sqrt(slope_ratio)
    expected = np.linalg.lstsq(
        np.vstack([seen, moves, turns]), np.pad(values, ((0, 2 * n - 2), (0, 0)))
    )[0][:n]
    found = kalman.smooth(values, np.array([[level_ratio, slope_ratio]]))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.square(kalman.smoothed(values)[:, 0] - level).mean() < 0.3


def counting(calls):
    """A method that notes each call, and one that fails."""

    def shrink(noisy, problem):
        calls.append(problem)
        return noisy * 0.9

    def fail(noisy, problem):
        raise ValueError("cannot do this")

    return [Method("shrink", "practice", shrink), Method("fail", "ours", fail)]


def ran(folder, methods, **more):
    g = grid.Grid(None, 100, folder)
    cells = g.cells(["rank2"], [NOISES["gaussian 0.3"], NOISES["none"]], methods, [0, 1])
    return [g.result(cell, **more) for cell in cells]


def test_second_run_computes_nothing(tmp_path):
    calls = []
    first = ran(tmp_path, counting(calls))
    assert len(first) == 8
    assert len(calls) == 4
    (tmp_path / "half.part").write_text("{")  # what a killed process leaves
    second = ran(tmp_path, counting(calls))
    assert len(calls) == 4
    assert all(result["cached"] for result in second)
    pd.testing.assert_frame_equal(grid.table(first), grid.table(second))
    newer = [Method("shrink", "practice", counting(calls)[0].repair, version="2")]
    assert not any(result["cached"] for result in ran(tmp_path, newer))
    assert ran(tmp_path, counting(calls)[1:], retry=True)[0]["cached"] is False


def test_failure_is_recorded(tmp_path):
    table = grid.table(ran(tmp_path, counting([])))
    failed = table[table["measure"] == "failed"]
    assert set(failed["method"]) == {"fail"}
    assert set(failed["error"]) == {"ValueError: cannot do this"}
    text = summary.markdown(table)
    assert "fail, 4 cells: `ValueError: cannot do this` in rank2 (gaussian 0.3)" in text
    assert "| shrink |" in text


def test_bad_results_are_failures():
    problem = Problem("rows", "y", None, ("a", "y"), {}, 0)
    noisy = pd.DataFrame({"a": [1.0, 2], "y": [3.0, 4]})
    with pytest.raises(ValueError, match="2 values that are not finite"):
        Method("nan", "practice", lambda noisy, problem: noisy.replace([1.0, 4], np.nan))(
            noisy, problem
        )
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        Method("short", "practice", lambda noisy, problem: noisy[:1])(noisy, problem)


@pytest.mark.slow
def test_lacking_package_is_tried_again(tmp_path):
    lacking = Method("lacking", "practice", lambda noisy, problem: noisy, needs=("no_such_module",))
    for _ in range(2):
        result = ran(tmp_path, [lacking])[0]
        assert result["error"].startswith("ModuleNotFoundError")
        assert not result["cached"]


def test_only_the_told_are_told(tmp_path):
    calls = []
    untold = counting(calls)[0]
    told = Method("told", "practice", untold.repair, told=True)
    ran(tmp_path, [untold, told])
    assert [bool(problem.noise_scale) for problem in calls] == [False, True] * 4


def test_whole_command(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "METHODS", [*METHODS[:1], *counting([])])
    out = tmp_path / "out"
    arguments = [str(tmp_path), "--out", str(out), "--rows", "100", "--seeds", "0"]
    command.main([*arguments, "--only-data", "rank2", "--only-noise", "none", "laplace 0.3"])
    table = pd.read_parquet(out / "quality.parquet")
    ratios = table[(table["method"] == "nothing") & (table["measure"] == "error ratio")]
    assert len(ratios) == 3 + 6
    assert (ratios["value"] == 1).all()
    assert "## No harm" in (out / "summary.md").read_text()
    assert len(list(out.glob("*.png"))) == 1  # ours failed everywhere, so that it has no map
    cell = json.loads(next(out.glob("cells/*nothing*.json")).read_text())
    assert cell["rows"] == 80


@pytest.mark.parametrize("unknown", ["--only-data", "--only-noise", "--only-methods"])
def test_unknown_names(tmp_path, capsys, unknown):
    with pytest.raises(SystemExit):
        command.main([str(tmp_path), unknown, "nonsense"])
    assert "no nonsense; there are:" in capsys.readouterr().err


@pytest.mark.slow
def test_says_that_there_is_no_folder():
    script = ROOT / "benchmarks" / "quality.py"
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, env={})
    assert found.returncode == 2
    assert "DENOGRAD_DATA" in found.stderr
