"""Methods of the paper's study: baselines by their equations, all of them on small data."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

for module in ("matplotlib", "pyarrow", "rich", "scipy", "sklearn"):
    pytest.importorskip(module)

from benchmarks.paper import (
    baselines,
    copies,
    data,
    denograd,
    downstream,
    measures,
    methods,
    networks,
)
from tests.paper_data import SIGMA, frame


@pytest.fixture(scope="module", params=["rows", "series"])
def copy(request):
    """A noisy copy of a small table, and of a small series."""
    made = data.cut("made", request.param, "y", frame(request.param), 42)
    return copies.make(made, SIGMA, 42)


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


def test_the_truth_is_the_clean_data(copy):
    refined = methods.TRUTH(copy)
    assert refined.learnt.equals(copy.data.learnt)
    assert refined.test.equals(copy.data.test)


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


def test_bad_results_are_failures(copy):
    for spoil, message in ((lambda f: f[:1], "returned"), (lambda f: f * np.nan, "not finite")):
        method = methods.Method("bad", "control", lambda _, spoil=spoil: spoil)
        with pytest.raises(ValueError, match=message):
            method(copy)


def test_distances(copy):
    unchanged = measures.distances(copy, methods.NOTHING(copy))
    assert (unchanged["move"], unchanged["SWD to noisy"], unchanged["KL"]) == (0, 0, 0)
    assert unchanged["rho"] == pytest.approx(1)
    assert unchanged["error ratio to clean"] == pytest.approx(1)
    perfect = methods.Refined(copy.data.learnt, copy.data.test)
    found = measures.distances(copy, perfect)
    assert found["SWD to clean"] == found["error ratio to clean"] == 0
    assert found["SWD to noisy"] > 0
