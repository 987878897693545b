"""The report: its size, how it is written, and what it leaves as it was."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from denograd_jax.errors import FileError, MissingExtraError
from denograd_jax.report import _figures, write_report
from tests.report_pages import Page, written
from tests.reports import long_refinement, made_refinement, rows_refinement, series_refinement


@pytest.mark.slow
def test_the_page_of_a_million_rows_stays_small(tmp_path):
    before = pd.DataFrame(np.random.default_rng(0).lognormal(size=(1_000_000, 1)), columns=["a"])
    source = written(made_refinement(before, before * 0.99), tmp_path)
    assert len(source.encode()) < 3_000_000


@pytest.mark.slow
def test_wide_data_are_cut_and_said_to_be(tmp_path):
    source = written(rows_refinement(20, [f"c{i}" for i in range(130)]), tmp_path)
    assert "30 more columns" in Page(source).sentences
    assert "The 50 most changed of 130 columns can be picked" in Page(source).sentences
    assert len(source.encode()) < 3_000_000


@pytest.mark.slow
def test_the_page_of_a_long_series_of_six_columns_stays_small(tmp_path):
    assert len(written(long_refinement(), tmp_path).encode()) < 8_000_000


@pytest.mark.slow
def test_matplotlib_is_left_as_it_was(tmp_path):
    code = (
        "import sys, matplotlib; from tests.reports import series_refinement as make\n"
        "from denograd_jax.report import write_report\n"
        "def settings():  # to read the backend is to choose one\n"
        "    return {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}\n"
        "before = settings()\n"
        f"write_report(make(), {str(tmp_path / 'r.html')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert settings() == before"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_importing_the_report_imports_nothing_heavy():
    code = (
        "import sys, denograd_jax.report\n"
        "assert not {'bokeh', 'jinja2', 'matplotlib', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", ["bokeh", "jinja2", "matplotlib"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"denograd-jax\[report\]"):
        write_report(rows_refinement(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_pictures")
def test_an_existing_page_is_replaced_whole_or_kept(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(rows_refinement(), path)
    new = path.read_text("utf-8")
    assert new.startswith("<!DOCTYPE html>")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_report(series_refinement(), path)
    assert path.read_text("utf-8") == new
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("without_pictures")
def test_a_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FileError, match="does not exist"):
        write_report(rows_refinement(), tmp_path / "nowhere" / "report.html")
    with pytest.raises(FileError, match="is a folder"):
        write_report(rows_refinement(), tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_text", full)
    with pytest.raises(FileError, match="No space left"):
        write_report(rows_refinement(), tmp_path / "report.html")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_readme_picture_is_written(tmp_path, suffix):
    truth = np.sin(np.arange(60) / 5)
    noisy = truth + np.random.default_rng(0).normal(size=60) / 4
    path = tmp_path / f"picture{suffix}"
    time = np.datetime64("2013-01-01T00") + np.arange(60).astype("timedelta64[h]")
    _figures.series_picture(
        path, noisy, (noisy + truth) / 2, time=time, truth=truth, label="temp, $°F"
    )
    if suffix == ".png":
        assert path.read_bytes().startswith(b"\x89PNG")
    else:
        drawing = path.read_text("utf-8")
        assert all(word in drawing for word in ("before", "after", "true", "temp, $°F"))
