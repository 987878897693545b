"""The demo: what it prints is what its files say."""

import functools

import numpy as np
import pandas as pd
import pytest

from denograd_jax import datasets, metrics
from denograd_jax.cli import _demo, main


@functools.cache
def trial_of(name):
    """A small part of a data set, refined for real."""
    with pytest.MonkeyPatch().context() as small:
        small.setattr(_demo, "FAST_ROWS", 150)
        small.setattr(_demo, "FAST_STEPS", 300)
        small.setattr(_demo, "FAST_EPOCHS", 2)
        return _demo.try_out(name, lambda stage, done, total: None, fast=True, seed=1)


@pytest.fixture
def trials():
    return [trial_of(name) for name in datasets.names()]


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow) if name == "lucas_county" else name
        for name in datasets.names()
    ]
)
def trial(request):
    return trial_of(request.param)


def test_errors_agree_with_the_metrics(trial):
    clean, noisy, refined = (
        frame[trial.columns].to_numpy(np.float64)
        for frame in (trial.clean, trial.noisy, trial.refinement.data)
    )
    scale = np.nanstd(clean, axis=0)
    before, after = _demo.errors(trial, trial.columns)
    ratio = metrics.error_ratio(refined, noisy, clean, scale=scale)
    assert after / before == pytest.approx(ratio, rel=1e-9)
    assert before == pytest.approx(0.3, rel=0.1)


def test_noise_is_only_where_it_was_meant_to_be(trial):
    others = [c for c in trial.clean if c not in trial.columns]
    pd.testing.assert_frame_equal(trial.noisy[others], trial.clean[others])
    pd.testing.assert_frame_equal(trial.refinement.data[others], trial.clean[others])
    assert set(trial.columns) == set(trial.refinement.before.columns)


def test_the_part_of_a_panel_has_every_series():
    weather = trial_of("nyc_weather_2013").clean
    assert weather.groupby("origin").size().tolist() == [300, 300, 300]
    assert weather.groupby("origin")["time_hour"].is_monotonic_increasing.all()


@pytest.mark.slow
def test_prints_and_leaves_what_it_found(trials, tmp_path, monkeypatch, capsys):
    ready = {trial.about.name: trial for trial in trials}
    monkeypatch.setattr(_demo, "try_out", lambda name, progress, **options: ready[name])
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "new" / "demo"
    for _ in range(2):  # the second run replaces the files of the first
        assert main(["demo", "--fast", "--out", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "--fast took a part" in printed
    assert "\x1b" not in printed
    assert "…" not in printed  # nothing is cut at 80 columns
    files = ["changes.csv", "noisy.csv", "refined.csv", "report.html"]
    for trial in trials:
        where = folder / trial.about.name
        assert sorted(p.name for p in where.iterdir()) == files
        noisy, refined = (
            pd.read_csv(where / name)[trial.columns].to_numpy() for name in files[1:3]
        )
        clean = trial.clean[trial.columns].to_numpy(np.float64)
        ratio = metrics.error_ratio(refined, noisy, clean, scale=np.nanstd(clean, axis=0))
        verdict = f"{abs(ratio - 1):.1%} {'nearer to' if ratio < 1 else 'further from'}"
        verdict = verdict if abs(ratio - 1) >= 0.0005 else "as far from"
        assert f"{trial.about.name}: the refined copy is {verdict}" in printed
        assert f" {ratio:.3f} " in printed


@pytest.mark.parametrize(
    ("gain", "words"), [(0.2, "20.0% nearer to"), (-0.2, "20.0% further from"), (0, "as far from")]
)
def test_the_verdict_is_honest(gain, words):
    """A refinement made up so that the error is known."""
    trial = trial_of("nyc_weather_2013")
    moved = trial.noisy.copy()
    clean = trial.clean[trial.columns]
    moved[trial.columns] = clean + (1 - gain) * (trial.noisy[trial.columns] - clean)
    refinement = _demo.Trial(*trial[:4], _Refined(moved))
    assert words in _demo._verdict(refinement)


class _Refined:
    def __init__(self, data):
        self.data = data


def test_a_folder_that_cannot_be_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("", "utf-8")
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", datasets.names())
def test_the_default_brings_real_data_nearer_to_the_original(name, seed):
    """As a whole, and the target and the other columns each."""
    trial = _demo.try_out(name, lambda stage, done, total: None, seed=seed)
    target = trial.about.target
    others = [c for c in trial.columns if c != target]
    for columns in (trial.columns, others, *([[target]] if target else [])):
        before, after = _demo.errors(trial, columns)
        print(f"\n{name}, seed {seed}, {len(columns)} columns: ratio {after / before:.4f}", end="")
        assert after < before
