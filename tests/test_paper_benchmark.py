"""The benchmark of the paper's study: cuts without leakage, measures, ranks, cells, the command."""

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

from benchmarks.paper import (
    bars,
    baselines,
    command,
    copies,
    data,
    denograd,
    downstream,
    examples,
    figures,
    grid,
    measures,
    methods,
    networks,
    ranks,
    raw,
    scores,
    sources,
)

ROOT = Path(__file__).parents[1]
KINDS = {k.name: k for k in copies.KINDS}
SIGMA = KINDS["sigma 0.1"]
PAGE = "https://archive.ics.uci.edu/dataset/880"


def frame(kind, rows=300):
    """Columns a, b, y; the target follows from the others, and a series is smooth."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, rows))
    if kind == "series":
        a, b = np.sin(np.arange(rows) / 9), np.cos(np.arange(rows) / 5)
    return pd.DataFrame({"a": a, "b": 100 * b, "y": 2 * a - b + 0.1 * rng.normal(size=rows)})


@pytest.fixture(scope="module", params=["rows", "series"])
def copy(request):
    """A noisy copy of a small table, and of a small series."""
    made = data.cut("made", request.param, "y", frame(request.param), 42)
    return copies.make(made, SIGMA, 42)


def test_tables_are_cut_at_random():
    numbered = frame("rows", 1000).assign(number=np.arange(1000.0))
    found = data.cut("made", "rows", "y", numbered, 42)
    train = found.learnt["number"][: found.training]
    validation = found.learnt["number"][found.training :]
    assert (len(train), len(validation), len(found.test)) == (700, 100, 200)
    parts = train, validation, found.test["number"]
    assert sorted(pd.concat(parts)) == list(range(1000))
    assert all(part.is_monotonic_increasing for part in parts)
    assert train.max() > 900
    assert not found.test.equals(data.cut("made", "rows", "y", numbered, 52).test)


def test_series_are_cut_in_time():
    numbered = frame("series", 1000).assign(number=np.arange(1000.0))
    found = data.cut("made", "series", "y", numbered, 42)
    assert found.training == 700
    assert found.learnt["number"].tolist() == list(range(800))
    assert found.test["number"].tolist() == list(range(800, 1000))


def test_units_are_those_of_the_training_rows():
    table = frame("series", 100).assign(late=np.arange(100.0) > 75)
    found = data.cut("made", "series", "y", table, 42)
    assert "late" not in found.learnt  # does not vary in them
    expected = table[["a", "b", "y"]][:70]
    np.testing.assert_allclose(found.mean, expected.mean())
    np.testing.assert_allclose(found.scale, expected.std(ddof=0))
    scaled = found.scaled(found.test)
    pd.testing.assert_frame_equal(found.unscaled(scaled), found.test)


def test_windows_do_not_reach_into_another_part():
    found = data.cut("made", "series", "y", frame("series"), 42)
    x, y, training = examples.learnt(found, found.learnt)
    values = found.scaled(found.learnt).astype(np.float32)
    assert (training, len(x)) == (210 - 24, 210 - 24 + 30 - 24)
    assert x.shape[1:] == (24, 3)
    np.testing.assert_array_equal(x[training - 1], values[185:209])
    assert y[training - 1] == values[209, 2]
    np.testing.assert_array_equal(x[training], values[210:234])
    assert y[training] == values[234, 2]


def test_rows_do_not_hold_their_target():
    found = data.cut("made", "rows", "y", frame("rows"), 42)
    x, y = examples.cut(found, found.test)
    np.testing.assert_allclose(np.column_stack([x, y]), found.scaled(found.test), rtol=1e-6)


def test_noise_has_its_scale_and_seed():
    clean = data.cut("made", "rows", "y", frame("rows", 20_000), 42)
    some, again, other = (copies.make(clean, SIGMA, s) for s in (42, 42, 52))
    for noisy, part in ((some.learnt, clean.learnt), (some.test, clean.test)):
        deviations = (noisy - part).std() / clean.scale
        np.testing.assert_allclose(deviations, 0.1, rtol=0.05)
    assert some.learnt.equals(again.learnt)
    assert not some.learnt.equals(other.learnt)
    stronger = copies.make(clean, KINDS["sigma 0.3"], 42)
    np.testing.assert_allclose(
        clean.scaled(stronger.learnt) - clean.scaled(clean.learnt),
        3 * (clean.scaled(some.learnt) - clean.scaled(clean.learnt)),
        atol=1e-9,
    )
    assert copies.make(clean, KINDS["sigma 0.0"], 42).test.equals(clean.test)


def test_pure_noise_for_target():
    clean = data.cut("made", "rows", "y", frame("rows", 2000), 42)
    control = copies.make(clean, copies.PURE_NOISE, 42)
    assert control.data.test.equals(control.test)
    assert control.learnt[["a", "b"]].equals(clean.learnt[["a", "b"]])
    assert abs(control.learnt.corr().loc["a", "y"]) < 0.1


def test_what_the_protocols_measure():
    """A target of pure noise that is made flat: useless in ours, all but perfect in the other."""
    clean = data.cut("made", "rows", "y", frame("rows", 2000), 42)
    control = copies.make(clean, copies.PURE_NOISE, 42)
    flat = methods.Method("flat", "control", lambda _: lambda f: f.assign(y=0.1 * f["y"]))
    ridge = next(r for r in downstream.REGRESSORS if r.name == "Ridge")
    before, after = (downstream.errors(control, m(control), ridge) for m in (methods.NOTHING, flat))
    ours, theirs = (
        measures.improvement(before[k], after[k]) for k in ("mse untouched", "mse refined")
    )
    assert abs(ours) < 2
    assert theirs == pytest.approx(99, abs=0.1)


def test_kalman_filter():
    """Each value against weighted least squares on those up to it."""
    values = np.random.default_rng(0).normal(size=40).cumsum()
    found = baselines.kalman(values)
    steps = np.diff(np.eye(len(values)), axis=0)
    for t in (0, 1, 7, 39):
        n = t + 1
        rows = [
            np.eye(n)[:1] / 0.1,  # the prior, from the first value, with the measurement's variance
            np.eye(n) / 0.1,
            steps[:t, :n] / np.sqrt(1e-5),
        ]
        seen = np.concatenate([values[:1] / 0.1, values[:n] / 0.1, np.zeros(t)])
        assert found[t] == pytest.approx(np.linalg.lstsq(np.vstack(rows), seen)[0][-1])


def test_trailing_mean():
    values = np.random.default_rng(0).normal(size=50)
    expected = pd.Series(values).rolling(7, min_periods=1).mean()
    np.testing.assert_allclose(baselines.trailing_mean(values), expected)


def test_principal_components():
    made = data.cut("made", "rows", "y", frame("rows"), 42)
    noisy = copies.make(made, SIGMA, 42)
    refined = baselines.principal_components(noisy)(noisy.test)
    learnt = made.scaled(noisy.learnt)
    _, s, v = np.linalg.svd(learnt - learnt.mean(axis=0), full_matrices=False)
    kept = int(np.searchsorted(np.cumsum(s**2) / np.sum(s**2), 0.95)) + 1
    shifted = made.scaled(noisy.test) - learnt.mean(axis=0)
    expected = shifted @ v[:kept].T @ v[:kept] + learnt.mean(axis=0)
    np.testing.assert_allclose(made.scaled(refined), expected, atol=1e-9)


def test_fastest_modes_go():
    pytest.importorskip("PyEMD")
    t = np.arange(600)
    slow, fast = np.sin(t / 60), np.sin(t / 2) + np.sin(t / 8)
    apart = baselines.without_first_modes(slow + fast) - slow
    assert np.abs(apart[50:-50]).max() < 0.3


def test_divergence():
    from scipy.stats import entropy

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=500), 1 + rng.normal(size=500)
    edges = np.linspace(min(x.min(), y.min()), max(x.max(), y.max()), 51)
    counts = [np.histogram(v, edges)[0] + 0.5 for v in (x, y)]
    both = np.column_stack([x, x]), np.column_stack([y, x])
    assert measures.divergence(*both) == pytest.approx(entropy(*counts) / 2)
    constant = np.ones((9, 1))
    assert measures.divergence(constant, constant) == 0


def test_distances(copy):
    unchanged = measures.distances(copy, methods.NOTHING(copy))
    assert (unchanged["move"], unchanged["SWD to noisy"], unchanged["KL"]) == (0, 0, 0)
    assert unchanged["rho"] == pytest.approx(1)
    assert unchanged["error ratio to clean"] == pytest.approx(1)
    perfect = methods.Refined(copy.data.learnt, copy.data.test)
    found = measures.distances(copy, perfect)
    assert found["SWD to clean"] == found["error ratio to clean"] == 0
    assert found["SWD to noisy"] > 0


def lines(values):
    """A table of mean square errors: {(method, part): (untouched, refined)}."""
    cell = {"data": "made", "form": "rows", "copy": "sigma 0.0", "seed": 42, "rows": 9}
    return pd.DataFrame(
        [
            cell | {"method": m, "part": p, "measure": f"mse {k}", "value": v, "error": None}
            for (m, p), both in values.items()
            for k, v in zip(("untouched", "refined"), both, strict=True)
        ]
    )


def test_scores_by_hand():
    table = lines(
        {
            ("no denoising", "Ridge"): (4.0, 10.0),
            ("no denoising", "kNN"): (2.0, 5.0),
            ("PCA", "Ridge"): (1.0, 2.0),
            ("PCA", "kNN"): (2.0, 6.0),
        }
    )
    found = scores.scored(table).set_index("method")
    assert found.loc["PCA", scores.OURS] == pytest.approx((75 + 0) / 2)
    assert found.loc["PCA", scores.AUTHORS] == pytest.approx((80 - 20) / 2)
    assert found.loc["PCA", scores.RATIO] == pytest.approx((0.5 + 1) / 2)
    assert found.loc["no denoising", scores.OURS] == 0
    assert bars.harmless(scores.scored(table)) == ["no denoising", "PCA"]


def test_ranks():
    values = pd.DataFrame({"a": [1.0, 1, 3, 4], "b": [2.0, 2, 3, 1], "c": [3.0, 4, 5, 5]})
    found = ranks.mean_ranks(values, higher=False)
    assert found.to_dict() == {"a": 1.375, "b": 1.625, "c": 3.0}
    assert ranks.mean_ranks(values, higher=True)["c"] == 1.0
    # Demsar 2006, table 5: 3.031 for eight classifiers.
    assert ranks.critical_difference(8, 10) == pytest.approx(3.031 * np.sqrt(72 / 60), abs=2e-3)
    assert np.isnan(ranks.friedman(values[["a", "b"]]))


def test_friedman_by_its_formula():
    from scipy.stats import chi2

    values = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 4)))
    n, k = values.shape
    means = ranks.mean_ranks(values, higher=True)
    statistic = 12 * n / (k * (k + 1)) * (np.sum(means**2) - k * (k + 1) ** 2 / 4)
    assert ranks.friedman(values) == pytest.approx(chi2.sf(statistic, k - 1))


def test_nemenyi_agrees_with_the_critical_difference():
    pytest.importorskip("scikit_posthocs")
    shift = np.array([0, 0.5, 1, 3])
    values = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 4)) + shift)
    means, found = ranks.mean_ranks(values, higher=True), ranks.nemenyi(values)
    limit = ranks.critical_difference(4, 12)
    for a in values:
        for b in values:
            assert (found.loc[a, b] < 0.05) == (abs(means[a] - means[b]) > limit)


def test_methods_without_a_result_are_not_ranked():
    both = lines({("no denoising", "Ridge"): (4.0, 4.0), ("PCA", "Ridge"): (1.0, 1.0)})
    one = lines({("no denoising", "Ridge"): (4.0, 4.0)}).assign(data="other")
    found = scores.scored(pd.concat([both, one]))
    values = scores.blocks(found, scores.OURS, "sigma 0.0", ["no denoising", "PCA"])
    assert list(values) == ["no denoising"]


def ranked():
    """Scores of five methods on three data sets; the order of the methods is always the same."""
    errors = {"no denoising": 4.0, "unit_step": 3.0, "auto": 2.0, "PCA": 3.5, "KF": 9.0}
    some = lines({(m, "Ridge"): (e, 10 - e) for m, e in errors.items()})
    return scores.scored(pd.concat([some.assign(data=name) for name in "abc"]))


def test_bars():
    found = bars.lines(ranked())
    assert found == [
        "sigma 0.0, Imp% refined: mean rank of unit_step 3.00 of 3 (published: 3.10 of 8); "
        "best: KF 1.00",
        "sigma 0.0, error ratio: mean rank of auto 1.00 of 4 (among the harmless); best: auto 1.00",
    ]


def test_diagrams(tmp_path):
    pytest.importorskip("scikit_posthocs")
    found = {path.name for path in figures.draw(ranked(), tmp_path)}
    ranks_of = {f"ranks_{m}.png" for m in ("Imp_untouched", "Imp_refined", "error_ratio")}
    assert found == {"imp_sigma_0.0.png", *ranks_of}


def quickly(monkeypatch):
    """Networks and rules that hardly begin."""
    monkeypatch.setattr(networks, "EPOCHS", 1)
    for name in ("PUBLISHED", "HALF_WAY", "GLOBAL"):
        monkeypatch.setitem(getattr(denograd, name), "max_epochs", 2)


@pytest.mark.slow
@pytest.mark.parametrize("method", methods.METHODS, ids=lambda m: m.name)
def test_every_method_runs(copy, method, monkeypatch):
    if copy.data.kind not in method.kinds:
        pytest.skip("not for such data")
    if why := methods.lacking(method.needs):
        pytest.skip(why)
    quickly(monkeypatch)
    refined = method(copy)
    for part, given in ((refined.learnt, copy.learnt), (refined.test, copy.test)):
        assert part.shape == given.shape
        assert list(part) == list(given)
        assert np.abs(copy.data.scaled(part)).max() < 20


@pytest.mark.parametrize("name", ["PCA", "WTD", "KF", "MA"])
def test_test_rows_are_not_learnt_from(copy, name):
    method = next(m for m in methods.METHODS if m.name == name)
    if why := methods.lacking(method.needs):
        pytest.skip(why)
    other = dataclasses.replace(copy, test=copy.test * 7)
    assert method(copy).learnt.equals(method(other).learnt)


@pytest.mark.slow
@pytest.mark.parametrize("regressor", downstream.REGRESSORS, ids=lambda r: r.name)
def test_every_regressor_runs(copy, regressor, monkeypatch):
    if copy.data.kind not in regressor.kinds:
        pytest.skip("not for such data")
    if why := regressor.lacks():
        pytest.skip(why)
    quickly(monkeypatch)
    found = downstream.errors(copy, methods.NOTHING(copy), regressor)
    assert set(found) == {"mse untouched", "mse refined"}
    assert all(0 < v < 20 for v in found.values())


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


def test_bad_results_are_failures(copy):
    for spoil, message in ((lambda f: f[:1], "returned"), (lambda f: f * np.nan, "not finite")):
        method = methods.Method("bad", "control", lambda _, spoil=spoil: spoil)
        with pytest.raises(ValueError, match=message):
            method(copy)


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


def test_script_says_that_there_is_no_folder():
    script = ROOT / "benchmarks" / "paper.py"
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, env={})
    assert found.returncode == 2
    assert "DENOGRAD_DATA" in found.stderr


def test_fetch(tmp_path, capsys, monkeypatch):
    published = tmp_path / "published.csv"
    published.write_text("date,HUFL,OT\n2016-07-01 00:00:00,1.5,2\n2016-07-01 01:00:00,3,4\n")
    here = dataclasses.replace(sources.SOURCES["ETTh1"], addresses=(published.as_uri(),))
    gone = dataclasses.replace(
        sources.SOURCES["parkinsons"], addresses=((tmp_path / "gone.csv").as_uri(),)
    )
    monkeypatch.setitem(sources.SOURCES, "ETTh1", here)
    monkeypatch.setitem(sources.SOURCES, "parkinsons", gone)
    folder = tmp_path / "data"
    folder.mkdir()
    wanted = ["ETTh1", "parkinsons", "house_prices"]
    for _ in range(2):
        with pytest.raises(SystemExit, match="1"):
            command.main(["fetch", str(folder), "--only-data", *wanted])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ETTh1: 2 rows of 2 columns"
    assert said[4] == "ETTh1: already there"
    assert said[1].startswith("parkinsons: not to be had: file:")
    assert said[2].startswith("house_prices: not to be had: no program may download it: get kc_")
    assert said[3] == f"1 of 3 in {folder}"
    assert data.names(folder) == ["ETTh1"]
    command.main(["fetch", str(folder), "--only-data", "ETTh1"])


def test_fetch_without_a_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nothing listens
    with pytest.raises(SystemExit, match="1"):
        command.main(["fetch", str(tmp_path), "--only-data", "support2"])
    said, summed = capsys.readouterr().out.splitlines()
    assert said.startswith("support2: not to be had: https://archive.ics.uci.edu/static/public/880")
    assert said.endswith(f"get support2.csv at {PAGE} into {tmp_path / 'raw'}")
    assert summed == f"0 of 1 in {tmp_path}"
    assert not list(tmp_path.rglob("*.csv"))


def written(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_preparation_of_tables(tmp_path):
    path = tmp_path / "raw.csv"
    sales = {"id": [7, 7, 8], "date": ["20150102", "20140102", "20140505"]}
    found = raw.house_prices(written(path, **sales, price=[2.0, 1, 3], grade=[5, 4, 6]))
    assert found.to_dict("list") == {"grade": [4, 6], "y": [1.0, 3.0]}

    sick = {"age": [50.0, 60, 70], "sex": ["f", "m", "m"], "hrt": [1.0, np.nan, 3]}
    found = raw.support2(written(path, **sick))
    assert found.to_dict("list") == {"hrt": [1.0, 3.0], "sex_m": [0, 1], "y": [50.0, 70.0]}

    assembly = {"Fuel 1": [1, 2], "K-inf.": [1.1, 1.2], "PPPF": [3, 4]}
    assert list(raw.lattice(written(path, **assembly))) == ["Fuel 1", "k-inf"]
    with pytest.raises(ValueError, match="no k-inf among a"):
        raw.lattice(written(path, a=[1]))


def test_preparation_of_flows(tmp_path):
    flows = {"no": [0, 1, 2], "proto": ["icmp", "tcp", "tcp"], "service": ["-", "dns", "dns"]}
    flows |= {"a": [1, 2, 2], "same": [2, 2, 2], "active.avg": [1.0, 2, 2], "active.max": [1, 2, 4]}
    flows |= {"idle.avg": [1, 2, 4], "Attack_type": ["x", "y", "y"]}
    found = raw.rt_iot2022(written(tmp_path / "raw.csv", **flows))
    assert list(found) == ["a", "proto_tcp", "service_dns", "y", "attack_type"]
    assert found["a"].tolist() == [1, 2]


def test_preparation_of_series(tmp_path):
    path = tmp_path / "raw.csv"
    written(path, Date=["4/2/2015 16:00:00", "4/4/2015 16:00:00"], Close=[1.0, 3])
    assert raw.microsoft_stock(path)["y"].tolist() == [1, 2, 3]

    import zipfile

    archive = tmp_path / "raw.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.tsf", "@relation x\n@data\nT1:2012-01-01 00-00-01:1,2\nT2:2012:3,4\n")
    assert raw.ecl(archive).to_dict("list") == {"MT_000": [1, 2], "MT_001": [3, 4]}
