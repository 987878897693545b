"""Measures of the paper's study: errors, distances, ranks and their tests, pictures."""

import numpy as np
import pandas as pd
import pytest

for module in ("matplotlib", "pyarrow", "rich", "scipy", "sklearn"):
    pytest.importorskip(module)

from benchmarks.paper import (
    bars,
    copies,
    data,
    downstream,
    figures,
    measures,
    methods,
    ranks,
    scores,
    summary,
)
from tests.paper_data import frame


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
    """Scores of five methods and the yardstick on three data sets; PCA does harm on one of them."""
    errors = {"no denoising": 4.0, "unit_step": 3.0, "auto": 2.0, "KF": 9.0, "clean data": 1.0}
    found = []
    for name, pca in {"a": 3.5, "b": 3.5, "c": 4.2}.items():
        some = {(m, "Ridge"): (e, 10 - e) for m, e in (errors | {"PCA": pca}).items()}
        found.append(lines(some).assign(data=name))
    return scores.scored(pd.concat(found))


def test_bars():
    found = bars.lines(ranked())
    assert found == [
        "sigma 0.0, Imp% refined: mean rank of unit_step 3.00 of 3 (published: 3.10 of 8); "
        "best: KF 1.00",
        "sigma 0.0, error ratio: mean rank of auto 1.00 of 4 (among the harmless); best: auto 1.00",
        "sigma 0.0, error ratio: mean rank of auto 1.00 of 3 (among the harmless on each data "
        "set); best: auto 1.00",
        "sigma 0.0, error ratio: mean rank of auto 1.00 of 5 (of all); best: auto 1.00",
    ]


def test_error_ratios_by_data_set():
    text = summary.by_data_set(ranked(), "sigma 0.0")
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines()}
    assert rows["method"][1:] == ["a", "b", "c", "mean", "mean rank |"]
    assert rows["PCA"][1:] == ["0.935", "0.935", "1.025", "0.965", "3.333 |"]
    assert rows["clean data"][1:] == ["0.500", "0.500", "0.500", "0.500", " |"]


def test_diagrams(tmp_path):
    pytest.importorskip("scikit_posthocs")
    found = {path.name for path in figures.draw(ranked(), tmp_path)}
    ranks_of = {f"ranks_{m}.png" for m in ("Imp_untouched", "Imp_refined", "error_ratio")}
    assert found == {"imp_sigma_0.0.png", *ranks_of}
