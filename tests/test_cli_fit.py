"""`denograd-jax fit` and `apply`: yesterday's model on today's table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denograd_jax import Fitted, Refinement, fit
from denograd_jax.cli import main

STEPS = 60


def series(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(STEPS, 2)).cumsum(axis=0)
    hours = pd.date_range("2020-01-01", periods=STEPS, freq="h") + pd.Timedelta(days=seed * 10)
    return pd.DataFrame({"t": hours, "u": values[:, 0], "v": values[:, 1], "n": range(3, 63)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two days in files, and the model of the first."""
    path = tmp_path_factory.mktemp("days")
    for day in (0, 1):
        series(day).to_csv(path / f"{day}.csv", index=False)
    options = ["--window", "4", "--time", "t", "--max-epochs", "2", "--quiet"]
    assert main(["fit", str(path / "0.csv"), str(path / "model"), *options]) == 0
    return path


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return folder


def test_apply_refines_as_the_fitted_model_does(here, capsys):
    arguments = "--out out.csv --changes changes.csv --save all --max-steps 3 --bound u=-1:1"
    assert main(["apply", str(here / "model"), str(here / "1.csv"), *arguments.split()]) == 0
    assert "Wrote out.csv, changes.csv, all." in capsys.readouterr().out
    given = pd.read_csv(here / "1.csv")
    yesterday = pd.read_csv(here / "0.csv")
    fitted = fit(yesterday, window=4, time="t", max_epochs=2)
    expected = fitted.refine(given, max_steps=3, bounds={"u": (-1, 1)})
    written = pd.read_csv("out.csv")
    pd.testing.assert_frame_equal(written, expected.data)
    assert written["u"].between(-1, 1).all()
    assert len(pd.read_csv("changes.csv")) == len(expected.changes)
    pd.testing.assert_frame_equal(Refinement.load("all").data, expected.data)


def test_the_model_has_no_pickle_in_it(here):
    files = {path.name for path in (here / "model").iterdir()}
    assert files == {"about.json", "arrays.npz", "SHA256SUMS"}
    about = json.loads((here / "model" / "about.json").read_text())
    assert (about["version"], about["backbone"]) == (1, "mlp")
    with np.load(here / "model" / "arrays.npz", allow_pickle=False) as arrays:
        assert all(not arrays[name].dtype.hasobject for name in arrays.files)
    assert Fitted.load(here / "model").explained == ("u", "v")


def refusal(capsys, *arguments):
    assert main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_refusals(here, capsys):
    model, today = here / "model", here / "1.csv"
    assert "exists" in refusal(capsys, "fit", today, model, "--window", 4)
    assert "no folder" in refusal(capsys, "apply", here / "other", today)
    Path("empty").mkdir()
    assert "about.json is missing" in refusal(capsys, "apply", "empty", today, "--out", "o.csv")
    assert "exists and holds no" in refusal(
        capsys, "fit", today, "empty", "--window", 4, "--overwrite"
    )
    series(1).drop(columns="v").to_csv("narrow.csv", index=False)
    assert "lacks column(s)" in refusal(capsys, "apply", model, "narrow.csv")
    series(1).assign(v="x").to_csv("text.csv", index=False)
    assert "'v' is not numeric" in refusal(capsys, "apply", model, "text.csv")
    series(1).iloc[::-1].to_csv("back.csv", index=False)
    assert "not increasing" in refusal(capsys, "apply", model, "back.csv")
    assert "exists" in refusal(capsys, "apply", model, today, "--save", "empty")
    assert sorted(path.name for path in Path().iterdir()) == [
        "back.csv",
        "empty",
        "narrow.csv",
        "text.csv",
    ]
