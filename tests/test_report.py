"""The report: what it says, that nothing in the data can break out of it, and how it is written."""

import html.parser
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from denograd_jax import metrics
from denograd_jax.errors import FileError, MissingExtraError
from denograd_jax.report import _content, _figures, write_report
from tests.reports import made_refinement, rows_refinement, series_refinement


class Page(html.parser.HTMLParser):
    """Tags with their attributes, the text of each table row, and all text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.table_rows, self.text = [], [], ""
        self._cell = False
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.text += " "
        if tag == "tr":
            self.table_rows.append([])
        if tag in ("td", "th"):
            self.table_rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.table_rows[-1][-1] += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)

    def row(self, label):
        return next(row for row in self.table_rows if row[0] == label)


def written(refinement, folder):
    path = folder / "report.html"
    write_report(refinement, path)
    return path.read_text("utf-8")


def test_the_page_is_one_accessible_document(tmp_path):
    page = Page(written(rows_refinement(), tmp_path))
    assert ("html", {"lang": "en"}) in page.tags
    assert page.count("title") == page.count("h1") == page.count("main") == 1
    assert page.count("h2") == 5
    assert page.count("svg") == 2 * 3 + 1  # two pictures per changed column, one of residuals
    images = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(images) == 3 + 1
    assert all(image["aria-label"] for image in images)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = [a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a]
    assert set(labels) <= set(ids)


@pytest.mark.parametrize("make", [rows_refinement, series_refinement])
def test_the_page_needs_no_network_and_runs_no_script(tmp_path, make):
    source = written(make(), tmp_path)
    assert not re.search(r"https?:|//|@import|<script|<link|<img|\bsrc=|url\((?!#)", source)
    assert "default-src 'none'" in source
    references = set(re.findall(r'(?:href="|url\()#([^")]+)', source))
    assert references
    assert references <= set(re.findall(r'id="([^"]+)"', source))


def test_the_verdict_counts_what_changed(tmp_path):
    text = Page(written(rows_refinement(), tmp_path)).text
    assert "899 of 1,199 cells (75.0%) in 3 of 4 columns" in text
    assert "residuals fell by 50.0%" in text
    assert "after 7 steps: every residual is within the tolerance" in text
    assert "look-ahead)" not in text


def test_the_verdict_warns_of_look_ahead_and_of_residuals_that_rose(tmp_path):
    residuals = pd.DataFrame(
        {"label": [0, 1], "target": "temp", "before": 1.0, "after": [2.0, 2.0]}
    )
    text = Page(written(series_refinement(residuals=residuals), tmp_path)).text
    assert "may depend on later rows (look-ahead)" in text
    assert "residuals rose by 100.0%" in text


def test_settings_and_notes_are_listed(tmp_path):
    settings = {"rule": "unit_step", "tolerance": None, "shared": True, "columns": ["a", "b"]}
    page = Page(written(rows_refinement(settings=settings, notes=["Mind the gap"]), tmp_path))
    text = " ".join(page.text.split())
    for line in (
        "rule unit_step",
        "tolerance none",
        "shared yes",
        "columns a, b",
        "look-ahead no",
        "status converged",
        "Mind the gap",
    ):
        assert line in text


def test_the_largest_corrections_come_first_and_are_cut_at_fifty(tmp_path):
    before = pd.DataFrame({"a": np.arange(80.0)}, index=[f"r{i}" for i in range(80)])
    after = before + np.arange(80)[:, None] / 1000
    page = Page(written(made_refinement(before, after), tmp_path))
    assert "The 50 largest of 79" in page.text
    rows = [row for row in page.table_rows if row[0].startswith("r") and row[0] != "row"]
    assert [row[0] for row in rows] == [f"r{i}" for i in range(79, 29, -1)]
    sigmas = 0.079 / before["a"].std(ddof=0)
    assert rows[0] == ["r79", "a", "79", "79.079", "0.079", f"{sigmas:+.2f}", "1.5", "0.25"]


def test_corrections_of_a_series_are_named_by_group_and_time(tmp_path):
    page = Page(written(series_refinement(), tmp_path))
    first = series_refinement().changes.iloc[0]
    row = f"{first['row']} · JFK · 2013-01-0"
    assert any(cells[0].startswith(row) for cells in page.table_rows if cells)


def test_drift_is_measured_in_standard_deviations(tmp_path):
    refinement = rows_refinement()
    page = Page(written(refinement, tmp_path))
    before, after = refinement.before["price"], refinement.after["price"]
    unit = before.std(ddof=0)
    change = (after - before) / unit
    distance = np.sqrt(np.mean((np.sort(before) - np.sort(after)) ** 2)) / unit
    assert page.row("price")[2:] == [
        "100.0%",
        f"{change.mean():+.3f}",
        f"{np.sqrt((change**2).mean()):.3f}",
        f"{distance:.3f}",
        "1.0000",
    ]
    assert page.row("idle")[2:] == ["0.0%", "+0.000", "0.000", "0.000", "1.0000"]
    consistency = metrics.correlation_consistency(refinement.before, refinement.after)
    assert f"{consistency:.4f}" in page.text


def test_names_and_labels_cannot_break_out_of_the_page(tmp_path):
    evil = '<script>alert("1")</script>'
    quotes = "\"' onmouseover=alert(1) $x^2$ & 温度"
    before = pd.DataFrame(np.eye(4)[:, :2], columns=[evil, quotes], index=[evil, "b", "c", "d"])
    refinement = made_refinement(
        before,
        before + 0.5,
        settings={evil: evil},
        notes=[evil],
        groups=np.array([evil] * 4, object),
        kind="series",
    )
    source = written(refinement, tmp_path)
    page = Page(source)
    assert page.count("script") == 0
    assert not any("onmouseover" in attributes for _, attributes in page.tags)
    assert evil in page.text
    assert quotes in page.text


def test_nothing_changed_is_said(tmp_path):
    before = pd.DataFrame({"a": [1.0, 2.0, 4.0]})
    page = Page(written(made_refinement(before, before), tmp_path))
    assert "Nothing was changed. The run ended after 7 steps" in page.text
    assert page.count("svg") == 1


@pytest.mark.parametrize(
    "values",
    [
        {"a": [1.0, np.nan, 2.0], "b": [np.nan] * 3},  # no complete row
        {"a": [5.0]},  # one row
        {("a", 1): [1.0, 2.0], 3: [2.0, 1.0]},  # labels that are no text
        {"a": [1.0, 1e12, -1e12, 2.0]},
        {},  # nothing may move
    ],
    ids=["missing", "one row", "labels", "outliers", "no column"],
)
def test_odd_data_make_a_page(tmp_path, values):
    labels = pd.Index(list(values), tupleize_cols=False)
    before = pd.DataFrame(dict(enumerate(values.values())), dtype=float).set_axis(labels, axis=1)
    residuals = pd.DataFrame({"label": [0], "target": "y", "before": [0.0], "after": [np.nan]})
    scale = dict.fromkeys(values, 1.0)
    refinement = made_refinement(before, before + 1, residuals=residuals, scale=scale)
    assert Page(written(refinement, tmp_path)).count("h2") == 5


def test_a_panel_shows_the_stretch_that_changed_most():
    sizes = np.zeros(1000)
    groups = np.arange(1000) % 2
    sizes[601:641:2] = 1.0  # in group 1
    sizes[100:130:2] = 1.0  # in group 0, shorter
    rows = _content._busiest_stretch(sizes, groups)
    assert len(rows) == _content.STRETCH
    assert set(rows % 2) == {1}
    assert set(range(601, 641, 2)) <= set(rows)
    assert len(_content._busiest_stretch(sizes[:9], None)) == 9


def test_a_line_is_broken_where_time_jumps():
    time = np.array([0, 1, 2, 10, 11], "datetime64[h]")
    x, y = _figures._broken_at_gaps(time, np.arange(5.0))
    assert len(x) == len(y) == 6
    assert np.isnan(y[3])
    assert y[~np.isnan(y)].tolist() == [0, 1, 2, 3, 4]


def test_the_page_of_a_million_rows_stays_small(tmp_path):
    before = pd.DataFrame(np.random.default_rng(0).lognormal(size=(1_000_000, 1)), columns=["a"])
    source = written(made_refinement(before, before * 0.99), tmp_path)
    assert len(source.encode()) < 3_000_000


def test_wide_data_are_cut_and_said_to_be(tmp_path):
    source = written(rows_refinement(20, [f"c{i}" for i in range(130)]), tmp_path)
    assert "30 more columns" in " ".join(Page(source).text.split())
    assert len(source.encode()) < 3_000_000


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


def test_a_users_own_style_does_not_get_into_the_page(tmp_path):
    source = written(rows_refinement(), tmp_path)
    with mpl.rc_context({"text.usetex": True, "axes.facecolor": "red", "font.size": 30}):
        assert written(rows_refinement(), tmp_path) == source


def test_importing_the_report_imports_nothing_heavy():
    code = (
        "import sys, denograd_jax.report\n"
        "assert not {'jinja2', 'matplotlib', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"denograd-jax\[report\]"):
        write_report(rows_refinement(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


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


def test_a_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FileError, match="does not exist"):
        write_report(rows_refinement(), tmp_path / "nowhere" / "report.html")
    with pytest.raises(FileError, match="is a folder"):
        write_report(rows_refinement(), tmp_path)

    def full(*_):
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
