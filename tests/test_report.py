"""The report: what it says, that nothing in the data can break out of it, and how it is written."""

import base64
import gzip
import hashlib
import html.parser
import json
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from denograd_jax import Refinement, metrics, refine
from denograd_jax.errors import FileError, MissingExtraError
from denograd_jax.report import (
    _content,
    _diagnostics,
    _explorer,
    _figures,
    _noise,
    _order,
    _summaries,
    write_report,
)
from tests.reports import (
    classes_refinement,
    gap_table,
    long_refinement,
    made_refinement,
    noise_refinement,
    rows_refinement,
    series_refinement,
)

EVIL = '</script><script>alert("1")</script><!--<script>\u2028\0'


class Page(html.parser.HTMLParser):
    """Tags with their attributes, the text of each table row and script, and all other text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.table_rows, self.scripts, self.text = [], [], [], ""
        self._cell, self._within = False, None
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.text += " "
        self._within = tag
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.table_rows.append([])
        if tag in ("td", "th"):
            self.table_rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        self._within = None
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within != "style":
            self.text += data
        if self._cell:
            self.table_rows[-1][-1] += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)

    def row(self, label):
        return next(row for row in self.table_rows if row[0] == label)

    def script(self, **attributes):
        """The text of the first script element with these attributes."""
        scripts = [given for tag, given in self.tags if tag == "script"]
        return self.scripts[scripts.index(attributes)]

    @property
    def data(self):
        """What the explorer reads."""
        return json.loads(self.script(type="application/json", id="explorer-data"))

    @property
    def heading_ids(self):
        return [attributes["id"] for tag, attributes in self.tags if tag == "h2"]

    @property
    def sentences(self):
        return " ".join(self.text.split())


def written(refinement, folder):
    path = folder / "report.html"
    write_report(refinement, path)
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The pages of a table and of a series, which many tests read."""
    folder = tmp_path_factory.mktemp("pages")
    made = {"rows": rows_refinement(), "series": series_refinement()}
    return {kind: written(refinement, folder) for kind, refinement in made.items()}


@pytest.fixture
def without_pictures(monkeypatch):
    """For what a page says: nearly all of its time goes into its pictures."""
    monkeypatch.setattr(_figures, "inline_svg", lambda draw, **_: "")


def test_the_page_is_one_accessible_document(sources):
    page = Page(sources["rows"])
    assert ("html", {"lang": "en"}) in page.tags
    assert page.count("title") == page.count("h1") == page.count("main") == 1
    assert page.heading_ids == [
        *("done", "explore", "panels", "corrections", "drift", "residuals", "provenance")
    ]
    assert page.count("svg") == 2 * 3 + 1  # two pictures per changed column, one of residuals
    images = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(images) == 3 + 1
    assert all(image["aria-label"] for image in images)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = [a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a]
    assert set(labels) <= set(ids)
    inputs = {a["id"] for tag, a in page.tags if tag in ("select", "input")}
    assert inputs == {"column", "search"}
    assert inputs <= {attributes.get("for") for _, attributes in page.tags}
    assert all(a.get("scope") for tag, a in page.tags if tag == "th")


def test_the_page_of_a_series_has_groups_and_gaps(sources):
    page = Page(sources["series"])
    assert page.heading_ids[3:5] == ["corrections", "gaps"]
    # Per changed column a stretch, the whole series and its course; residuals and their lags.
    assert page.count("svg") == 2 * 3 + 2
    assert {a["id"] for tag, a in page.tags if tag == "select"} == {"column", "group"}
    assert "All 2 groups can be picked" in page.sentences


@pytest.mark.parametrize("kind", ["rows", "series"])
def test_the_page_needs_no_network(sources, kind):
    page = re.sub(r"(<script[^>]*>).*?</script>", r"\1", sources[kind], flags=re.DOTALL)
    assert not re.search(r"https?:|//|@import|<link|<img|\bsrc=|url\((?!#)", page)
    references = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert references
    assert references <= set(re.findall(r'id="([^"]+)"', page))


def digest(script):
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@pytest.mark.parametrize("kind", ["rows", "series"])
def test_the_policy_lets_only_the_pages_own_scripts_run(sources, kind):
    page = Page(sources[kind])
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv"))
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    scripts = [
        text
        for text, (_, attributes) in zip(
            page.scripts, (t for t in page.tags if t[0] == "script"), strict=True
        )
        if not attributes
    ]
    assert len(scripts) == 2
    assert rules.pop("default-src") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    allowed = rules.pop("script-src").split()
    assert allowed[:2] == list(map(digest, scripts))
    packed = base64.b64decode(page.script(type="text/plain", id="bokeh"))
    assert allowed[2:] == [digest(gzip.decompress(packed).decode())]
    assert rules == {"style-src": "'unsafe-inline'", "img-src": "data:"}


def test_the_verdict_counts_what_changed(sources):
    text = Page(sources["rows"]).text
    assert "899 of 1,199 cells (75.0%) in 3 of 4 columns" in text
    assert "residuals fell by 50.0%" in text
    assert "after 7 steps: every residual is within the tolerance" in text
    assert "filled" not in text
    assert "Look-ahead: no." in text
    assert "Dry run:" not in text


def test_filled_cells_are_counted(tmp_path, sources):
    page = Page(sources["series"])
    assert "958 of 958 cells (100.0%) in 2 of 2 columns" in page.sentences
    assert "1 missing cell was filled." in page.sentences
    assert page.row("wind")[3] == "1"
    before = pd.DataFrame({"a": [1.0, np.nan, 2.0]})
    page = Page(written(made_refinement(before, before.fillna(1.5)), tmp_path))
    assert "1 missing cell was filled. The run ended" in page.sentences
    assert page.row("1") == ["1", "a", "–", "1.5", "–", "–", "1.5", "0.25", "0.50", "3"]
    assert page.count("svg") == 2 + 1


@pytest.mark.usefixtures("without_pictures")
def test_a_dry_run_says_so_at_the_top(tmp_path):
    text = Page(written(rows_refinement(dry_run=True), tmp_path)).sentences
    assert text.index("Dry run: the data is as it was given") < text.index("What was done")


@pytest.mark.usefixtures("without_pictures")
def test_provenance_stands_apart(tmp_path):
    text = Page(written(rows_refinement(provenance={"input": "sha256:ab"}), tmp_path)).sentences
    assert "Provenance input sha256:ab" in text


@pytest.mark.usefixtures("without_pictures")
def test_gaps_are_listed_and_cut_at_fifty(tmp_path):
    time = np.datetime64("2020-01-01") + 2 * np.arange(140).astype("timedelta64[D]")
    before = pd.DataFrame({"a": np.arange(140.0)})
    gaps = gap_table(None, time[:60], time[1:61], np.full(60, 2.0))
    refinement = made_refinement(before, before + 1, kind="series", time=time, gaps=gaps)
    page = Page(written(refinement, tmp_path))
    assert "these 60 gaps in time; the first 50 of them" in page.sentences
    lines = [row for row in page.table_rows if row[-1] == "2" and len(row) == 3]
    assert lines[0] == ["2020-01-01 00:00:00", "2020-01-03 00:00:00", "2"]
    assert len(lines) == 50
    text = Page(written(made_refinement(before, before + 1, kind="series"), tmp_path)).sentences
    assert "Gaps There are none." in text


@pytest.mark.usefixtures("without_pictures")
def test_units_that_differ_by_group_are_shown_as_a_range(tmp_path):
    before = pd.DataFrame({"a": np.arange(4.0)})
    unit = np.array([[0.5], [0.5], [2.0], [2.0]])
    refinement = made_refinement(before, before + 1, unit=unit)
    assert Page(written(refinement, tmp_path)).row("a")[1] == "0.5 to 2, by group"


@pytest.mark.usefixtures("without_pictures")
def test_the_verdict_warns_of_look_ahead_and_of_residuals_that_rose(tmp_path):
    residuals = pd.DataFrame(
        {"label": [0, 1], "target": "temp", "before": 1.0, "after": [2.0, 2.0], "unit": 1.0}
    )
    text = Page(written(series_refinement(residuals=residuals, lag=3), tmp_path)).sentences
    reach = "yes, a value may depend on the 3 rows behind it, and on none after those"
    assert f"Look-ahead: {reach}. Forecasts must not be tested on it." in text
    assert "residuals rose by 100.0%" in text


@pytest.mark.usefixtures("without_pictures")
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


@pytest.mark.usefixtures("without_pictures")
def test_the_largest_corrections_come_first_and_are_cut_at_fifty(tmp_path):
    before = pd.DataFrame({"a": np.arange(80.0)}, index=[f"r{i}" for i in range(80)])
    after = before + np.arange(80)[:, None] / 1000
    page = Page(written(made_refinement(before, after), tmp_path))
    assert "The 50 largest of 79" in page.text
    rows = [row for row in page.table_rows if row[0].startswith("r") and row[0] != "row"]
    assert [row[0] for row in rows] == [f"r{i}" for i in range(79, 29, -1)]
    sigmas = 0.079 / before["a"].std(ddof=0)
    assert rows[0][:6] == ["r79", "a", "79", "79.079", "0.079", f"{sigmas:+.2f}"]
    assert rows[0][6:] == ["1.5", "0.25", "0.50", "3"]
    embedded = json.loads(page.script(type="application/json", id="corrections-data"))
    assert len(embedded) == 79
    assert embedded[:50] == rows


@pytest.mark.usefixtures("without_pictures")
def test_a_thousand_corrections_are_there_to_be_searched(tmp_path):
    page = Page(written(rows_refinement(2000), tmp_path))
    embedded = json.loads(page.script(type="application/json", id="corrections-data"))
    assert len(embedded) == 1000
    assert "Searched are the 1,000 largest." in page.sentences


def test_corrections_of_a_series_are_named_by_group_and_time(sources):
    page = Page(sources["series"])
    first = series_refinement().changes.iloc[0]
    row = f"{first['row']} · JFK · 2013-01-0"
    assert any(cells[0].startswith(row) for cells in page.table_rows if cells)


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("unique", [True, False], ids=["by group and time", "by time"])
def test_what_the_index_says_is_not_said_again(tmp_path, unique):
    refinement = series_refinement()
    levels = [refinement.groups, refinement.time] if unique else [refinement.time]
    for frame in (refinement.before, refinement.after):
        frame.index = pd.MultiIndex.from_arrays(levels) if unique else pd.Index(levels[0])
    page = Page(written(refinement, tmp_path))
    names = [cells[0].split(" · ") for cells in page.table_rows if "temp" in cells[1:2]]
    assert {frozenset(name) & {"JFK", "EWR"} for name in names} == {frozenset(["JFK"])}
    assert {len(name) for name in names} == {2}


def test_drift_is_measured_in_standard_deviations(sources):
    refinement = rows_refinement()
    page = Page(sources["rows"])
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


@pytest.mark.parametrize("kind", ["rows", "series"])
def test_names_and_labels_cannot_break_out_of_the_page(tmp_path, sources, kind):
    quotes = "\"' onmouseover=alert(1) $$x^2$$ & 温度 \ud800"
    labels = pd.Index([EVIL, quotes], dtype=object)  # pandas' own text holds no half of a pair
    before = pd.DataFrame(np.eye(4)[:, :2], columns=labels, index=[EVIL, "b", "c", "d"])
    refinement = made_refinement(
        before,
        before + 0.5,
        settings={EVIL: EVIL},
        provenance={EVIL: [EVIL]},
        notes=[EVIL],
        groups=np.array([EVIL] * 4, object),
        kind=kind,
    )
    source = written(refinement, tmp_path)
    page, plain = Page(source), Page(sources["rows"])
    assert page.count("script") == plain.count("script") == 5
    assert "</html>" in source[source.rindex("</script>") :]
    assert not any("onmouseover" in attributes for _, attributes in page.tags)
    assert EVIL in page.text
    shown = quotes.replace("\ud800", "?")
    assert shown in page.text
    embedded = json.loads(page.script(type="application/json", id="corrections-data"))
    assert {line[1] for line in embedded} == {EVIL, shown}
    for script in page.scripts[:2]:
        assert not re.search("[<>&\u2028\u2029]", script)


def test_long_labels_are_cut(tmp_path):
    before = pd.DataFrame(np.arange(20.0)[:, None], columns=["c" * 10_000])
    before.index = [f"{row}{'r' * 10_000}" for row in range(20)]
    source = written(made_refinement(before, before + 1), tmp_path)
    assert "c" * 81 not in source
    assert "r" * 81 not in source


def test_nothing_changed_is_said(tmp_path):
    before = pd.DataFrame({"a": [1.0, 2.0, 4.0]})
    page = Page(written(made_refinement(before, before), tmp_path))
    assert "Nothing was changed. The run ended after 7 steps" in page.text
    assert page.count("svg") == 1
    assert "search" not in {attributes.get("id") for _, attributes in page.tags}


@pytest.mark.parametrize("kind", ["rows", "series"])
@pytest.mark.parametrize(
    "values",
    [
        {"a": [1.0, np.nan, 2.0], "b": [np.nan] * 3},  # no complete row
        {"a": [5.0]},  # one row
        {"a": [5.0] * 9},
        {"a": [np.nan] * 9},
        {"a": [1e17, 1e17, 1e17 + 32]},
        {("a", 1): [1.0, 2.0], 3: [2.0, 1.0]},  # labels that are no text
        {"a": [1.0, 1e12, -1e12, 2.0]},
        {"a": [1.0, 1e300, np.inf, -np.inf]},
        {},  # nothing may move
        {"a": []},
    ],
    ids=[
        *("missing", "one row", "constant", "all missing", "a few spacings", "labels"),
        *("outliers", "infinite", "no column", "no row"),
    ],
)
def test_odd_data_make_a_page(tmp_path, values, kind):
    labels = pd.Index(list(values), tupleize_cols=False)
    before = pd.DataFrame(dict(enumerate(values.values())), dtype=float).set_axis(labels, axis=1)
    residuals = pd.DataFrame(
        {"label": [0], "target": "y", "before": [0.0], "after": [np.nan], "unit": 1.0}
    )
    unit = np.ones((1, len(values)))
    with np.errstate(invalid="ignore"):
        after = before + 1
        refinement = made_refinement(before, after, kind=kind, residuals=residuals, unit=unit)
        refinement.sigmas  # noqa: B018 - computed once, where infinities may meet
    page = Page(written(refinement, tmp_path))
    assert page.heading_ids[-1] == "provenance"
    assert ("explore" in page.heading_ids) == (before.size > 0)


@pytest.mark.usefixtures("without_pictures")
def test_no_residual_is_said(tmp_path):
    residuals = rows_refinement().residuals.iloc[:0]
    text = Page(written(rows_refinement(residuals=residuals), tmp_path)).sentences
    assert "No residual of the model is known." in text


def test_a_panel_shows_the_stretch_that_changed_most():
    sizes = np.zeros(1000)
    sizes[800:821] = 1.0  # in group 1
    sizes[100:116] = 1.0  # in group 0, shorter
    sizes[490:510] = 0.9  # across both
    stretch = _order.busiest_stretch(sizes, np.array([0, 500, 1000]))
    assert stretch.stop - stretch.start == _order.STRETCH
    assert stretch.start <= 800
    assert stretch.stop >= 821
    assert _order.busiest_stretch(sizes[:9], np.array([0, 9])) == slice(0, 9)


def test_rows_are_brought_in_order_and_gaps_found():
    order = _order.read_order(series_refinement(12))
    assert order.labels == ["EWR", "JFK"]
    assert order.rows.tolist() == [*range(0, 24, 2), *range(1, 24, 2)]
    assert order.clock == "time"
    hours = (order.x - order.x[0]) / 3.6e6
    assert hours.tolist() == [*range(6), *range(1006, 1012)] * 2
    assert order.breaks.tolist() == [6, 18]
    assert order.stretches.tolist() == np.repeat([0, 1, 2, 3], 6).tolist()


def test_rows_without_a_time_are_counted():
    before = pd.DataFrame({"a": np.arange(4.0)})
    order = _order.read_order(made_refinement(before, before, kind="series"))
    assert order.clock == "row"
    assert order.x.tolist() == [0, 1, 2, 3]


def test_a_summary_keeps_spikes_and_leaves_out_what_is_missing():
    values = np.array([1.0, 3.0, np.nan, 9.0, np.nan, np.inf, 2.0])
    summary = _summaries.summarise(values, np.array([0, 2, 4, 6]))
    np.testing.assert_equal(summary.mean, [2, 9, np.nan, 2])
    np.testing.assert_equal(summary.low, [1, 9, np.nan, 2])
    np.testing.assert_equal(summary.high, [3, 9, np.nan, 2])


def test_no_bucket_reaches_across_the_longest_gaps():
    breaks = np.array([5, 33, 71, 90])
    begins = _summaries.borders(100, 8, breaks, np.array([1.0, 9.0, 8.0, 2.0]))
    assert len(begins) <= 8
    assert begins[0] == 0
    assert {33, 71} <= set(begins.tolist())
    assert not {5, 90} & set(begins.tolist())


def test_autocorrelation_against_plain_loops():
    rng = np.random.default_rng(0)
    residuals = np.cumsum(rng.normal(size=60))
    residuals[[7, 30]] = np.nan
    stretches = np.repeat([0, 1, 2], 20).astype(np.int32)
    found = _diagnostics.autocorrelation(residuals, stretches, lags=25)
    centred = residuals - np.nanmean(residuals)
    for lag in range(1, 26):
        products = [
            centred[i] * centred[i + lag]
            for i in range(60 - lag)
            if stretches[i] == stretches[i + lag]
        ]
        expected = np.nan
        if lag < 20:
            expected = np.nanmean(products) / np.nanmean(centred**2)
        np.testing.assert_allclose(found[lag - 1], expected)
    assert np.isnan(_diagnostics.autocorrelation(np.full(9, 2.0), None)).all()


def test_the_course_of_a_drift():
    x, sigmas = np.arange(100.0), np.repeat([0.0, 2.0], 50)
    sigmas[::2] *= -1
    sigmas[:10] = np.nan
    course = _diagnostics.course(x, sigmas)
    assert len(course.x) == 20
    np.testing.assert_allclose(course.x[[0, -1]], [2.475, 96.525])
    assert np.isnan(course.mean[:2]).all()
    np.testing.assert_allclose(course.mean[-4:].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(course.typical[2:], np.repeat([0.0, 2.0], [8, 10]))


def numbers(text, kind="<f4"):
    return np.frombuffer(base64.b64decode(text), kind)


def data_size(page):
    """Bytes of JSON in the page."""
    ids = ("corrections-data", "explorer-data")
    return sum(len(page.script(type="application/json", id=name).encode()) for name in ids)


def told(track, name, part="mean"):
    """A signal as the page tells it."""
    parts = [numbers(piece.get(part, piece["mean"])) for piece in track[name]]
    return np.concatenate(parts).astype(float)


@pytest.mark.usefixtures("without_pictures")
def test_a_short_series_is_told_row_by_row(tmp_path):
    refinement = series_refinement()
    data = Page(written(refinement, tmp_path)).data
    groups = data["series"]["groups"]
    assert [group["name"] for group in groups] == ["JFK", "EWR"]
    rows = np.flatnonzero(refinement.groups == "EWR")
    milliseconds = refinement.time[rows].astype("datetime64[ms]").astype(float)
    np.testing.assert_array_equal(numbers(groups[1]["pieces"][0]["x"], "<f8"), milliseconds)
    assert numbers(groups[1]["gaps"], "<f8").tolist() == milliseconds[[119, 120]].tolist()
    track = groups[1]["tracks"][1]
    wind = refinement.before["wind"].to_numpy()[rows]
    np.testing.assert_allclose(told(track, "before") + track["offset"], wind, rtol=1e-5)
    sigmas = refinement.sigmas[rows, 1]
    np.testing.assert_allclose(told(track, "change"), sigmas, rtol=1e-5)
    residual = refinement.evidence.residual_after[rows, 1]
    np.testing.assert_allclose(told(track, "residual_after"), residual, rtol=1e-5)
    assert np.flatnonzero(told(track, "filled")).tolist() == [10]


@pytest.mark.slow
def test_a_long_series_is_summarised_within_the_budget(tmp_path):
    refinement = long_refinement(120_000, 3)
    page = Page(written(refinement, tmp_path))
    assert "The series is told in summaries" in page.sentences
    assert 0.7 * _content.DATA_BUDGET < data_size(page) <= _content.DATA_BUDGET
    (group,) = page.data["series"]["groups"]
    rows = np.concatenate(
        [
            numbers(p["rows"], "<u4") if "rows" in p else np.ones(len(numbers(p["x"], "<f8")))
            for p in group["pieces"]
        ]
    )
    assert rows.sum() == 120_000
    assert (rows == 1).sum() > 100  # the stretches that changed most
    for track, position in zip(
        group["tracks"], np.argsort(-(refinement.sigmas**2).sum(axis=0)), strict=True
    ):
        values = refinement.before.iloc[:, position].to_numpy()
        high, low = (told(track, "before", part) + track["offset"] for part in ("high", "low"))
        np.testing.assert_allclose([high.max(), low.min()], [values.max(), values.min()], rtol=1e-5)
        mean = np.average(told(track, "before"), weights=rows) + track["offset"]
        np.testing.assert_allclose(mean, values.mean(), atol=1e-5)
        start, end = track["busiest"]
        single = np.concatenate(
            [numbers(p["x"], "<f8") for p in group["pieces"] if "rows" not in p]
        )
        assert {start, end} <= set(single.tolist())


@pytest.mark.usefixtures("without_pictures")
def test_a_small_correction_of_large_values_is_told(tmp_path):
    before = pd.DataFrame({"a": 1.6e9 + np.arange(50.0)})
    refinement = made_refinement(before, before + 1e-3, kind="series", unit=np.ones((1, 1)))
    (group,) = Page(written(refinement, tmp_path)).data["series"]["groups"]
    (track,) = group["tracks"]
    np.testing.assert_allclose(told(track, "change"), 1e-3, rtol=1e-3)
    np.testing.assert_array_equal(told(track, "before") + track["offset"], before["a"])


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_of_many_groups_the_most_changed_are_told_fully(tmp_path):
    groups, rows = 1000, 100
    rng = np.random.default_rng(0)
    before = pd.DataFrame(rng.normal(size=(groups * rows, 3)), columns=list("abc"))
    labels = np.tile(np.arange(groups), rows)  # interleaved
    after = before + 0.001 * labels[:, None]
    refinement = made_refinement(before, after, kind="series", groups=labels)
    page = Page(written(refinement, tmp_path))
    assert data_size(page) <= _content.DATA_BUDGET
    series = page.data["series"]
    assert series["all_groups"] == 1000
    names = [group["name"] for group in series["groups"]]
    assert names == [str(999 - i) for i in range(len(names))]
    assert 200 < len(names) == series["whole_groups"] < 1000
    assert f"Of 1,000 groups the {len(names)} most changed can be picked" in page.sentences
    assert "the most changed first; all row by row." in page.sentences
    assert data_size(page) > 0.7 * _content.DATA_BUDGET


def test_long_groups_share_the_budget_the_most_changed_first():
    lengths = [900, 5000, 800, 70_000, 700, 100_000]
    signals, budget = 15, 400_000
    row, bucket = _explorer.ROW + signals, _explorer.BUCKET + 3 * signals
    plans = _explorer._plans(enumerate(lengths), signals, budget)
    assert [plan.group for plan in plans] == [0, 1, 2, 3, 4, 5]
    whole = [plan.buckets is None for plan in plans]
    assert whole == [True, True, True, False, True, False]
    assert plans[3].buckets > plans[5].buckets >= _explorer.FEWEST_BUCKETS
    assert plans[3].detail > 500
    spent = sum(
        length * row if plan.buckets is None else plan.buckets * bucket + plan.detail * row
        for length, plan in zip(lengths, plans, strict=True)
    )
    assert 0.99 * budget < spent <= budget
    many = _explorer._plans(((group, 10_000) for group in range(1000)), signals, budget)
    assert 50 < len(many) < 200
    assert all((plan.buckets or 99) >= _explorer.FEWEST_BUCKETS for plan in many)


@pytest.mark.usefixtures("without_pictures")
def test_of_many_rows_those_that_changed_most_are_told(tmp_path):
    before = pd.DataFrame(np.random.default_rng(0).normal(size=(20_000, 2)), columns=list("ab"))
    after = before.copy()
    after.iloc[12_345, 1] += 5
    table = Page(written(made_refinement(before, after), tmp_path)).data["table"]
    assert table["rows"] == 20_000
    assert len(table["names"]) <= _explorer.MOST_POINTS
    place = table["names"].index("12345")
    change = told(table["tracks"][0], "change")
    assert change[place] == change.max() > 4


@pytest.fixture(scope="module")
def noisy_table():
    """Four columns of one signal, with more noise in each than in the one before."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(600, 1))
    values = 100 * common + [20, 25, 30, 35] * rng.normal(size=(600, 4))
    return pd.DataFrame(values, columns=["a", "b", "c", "d"])


@pytest.fixture(scope="module")
def automatic(noisy_table):
    return refine(noisy_table, target="d", rule="auto")


@pytest.fixture(scope="module")
def by_given_model(noisy_table):
    return refine(noisy_table, "d", model=lambda x: x.sum(axis=-1, keepdims=True) / 3, rule="auto")


@pytest.mark.usefixtures("without_pictures")
def test_what_a_model_has_seen_is_told_of_one_that_was_given(tmp_path, by_given_model):
    text = Page(written(by_given_model, tmp_path)).sentences
    assert "Where the model has seen these very rows" in text


def cells_of_noise(page):
    """Lines of the table of noise; the page has no other of five columns."""
    first = next(i for i, row in enumerate(page.table_rows) if row[1:2] == ["noise"])
    lines = page.table_rows[first + 1 :]
    end = next(i for i, row in enumerate(lines) if row[1] == "one σ")
    return lines[:end]


def test_the_noise_that_auto_found_is_told(tmp_path, automatic):
    page = Page(written(automatic, tmp_path))
    assert page.heading_ids[3:6] == ["corrections", "noise", "drift"]
    calibration = automatic.calibration
    sizes = calibration.noise["sigmas"]
    assert f"Noise of {sizes.min():.2g} to {sizes.max():.2g} standard" in page.sentences
    assert f"about {calibration.gain:.0%} of it should come off. That part is Stein's" in (
        page.sentences
    )
    assert "these very rows" not in page.sentences
    errors = np.sqrt((automatic.standard_errors**2).mean())
    assert (errors < calibration.noise["noise"]).all()
    lines = cells_of_noise(page)
    assert [line[0] for line in lines] == sizes.sort_values(ascending=False).index.tolist()
    for column, *told in lines:
        found = calibration.noise.loc[column]
        size, error = (float(told[i].replace(",", "")) for i in (0, 3))
        np.testing.assert_allclose([size, error], [found["noise"], errors[column]], rtol=5e-3)
        assert told[1:3] == [f"{found['sigmas']:.3f}", f"{found['off']:.1%}"]


def test_the_error_left_is_drawn_from_nought(tmp_path):
    refinement = noise_refinement()
    source = written(refinement, tmp_path)
    section = source[source.index('<h2 id="noise">') : source.index('<h2 id="drift">')]
    assert section.count("<svg") == 1
    # sqrt(1 - 1 + 0.75 / 2) of the error at strength 1
    assert "61.2% at strength 1, which is what auto did" in section
    assert all(f">{text}</text>" in section for text in ("0%", "what auto did", "left as it is"))
    assert "var(--after)" in section
    drawn = []
    curve = refinement.calibration.curve

    def draw(axes):
        _figures.error_left(axes, strength=curve["strength"].values, error=curve["error"].values)
        drawn.append((axes.get_ylim(), [line.get_xydata() for line in axes.lines]))

    _figures.inline_svg(draw, name="x", size=(4, 2))
    (lowest, highest), (line, at_rest, chosen) = drawn[0]
    assert lowest == 0
    assert highest > line[:, 1].max()
    np.testing.assert_array_equal(line, curve)
    np.testing.assert_allclose([*at_rest[0], *chosen[0]], [0, 1, 1, np.sqrt(0.375)])


@pytest.mark.usefixtures("without_pictures")
def test_noise_that_is_not_known_is_said_to_be(tmp_path):
    page = Page(written(noise_refinement(), tmp_path))
    assert "Noise of 0.05 to 0.2 standard deviations was found in 2 of 3 columns" in page.sentences
    assert cells_of_noise(page) == [
        ["price", "2.00", "0.200", "50.0%", "1.00"],
        ["area", "0.500", "0.050", "50.0%", "0.250"],
        ["idle", "not known", "not known", "0.0%", "not known"],
    ]


@pytest.mark.usefixtures("without_pictures")
def test_no_noise_found_is_said(tmp_path):
    page = Page(written(noise_refinement([np.nan] * 3), tmp_path))
    left = "No noise could be told from the signal, so the data was left as it is"
    assert f"Noise {left}. This was judged without clean data. How far" in page.sentences
    page = Page(written(noise_refinement([np.nan] * 3, spikes=2), tmp_path))
    assert f"{left}, but for 2 cells that stood out as spikes." in page.sentences
    told = ["idle", "not known", "not known", "0.0%", "3.00 (2 spikes)"]
    assert cells_of_noise(page) == [told]
    assert "2 more columns have less noise, or none that is known." in page.sentences


@pytest.mark.usefixtures("without_pictures")
def test_noise_that_was_given_is_said_to_be(tmp_path, noisy_table):
    told = dict.fromkeys("abc", 0.0) | {"d": 30.0}
    page = Page(written(refine(noisy_table, target="d", rule="auto", noise_scale=told), tmp_path))
    assert re.search(r"Noise of 0.2\d standard deviations was given for 1 of 4", page.sentences)
    d, *others = cells_of_noise(page)
    assert d[:2] == ["d", "30.0"]
    assert {tuple(line[1:]) for line in others} == {("none", "none", "0.0%", "0")}


def test_labels_in_the_table_of_noise_cannot_break_out(tmp_path):
    labels = [EVIL, ("a", 1), "c" * 10_000]
    refinement = noise_refinement(names=labels)
    source = written(refinement, tmp_path)
    page = Page(source)
    assert page.count("script") == 5
    cut = "c" * 79 + "…"
    assert [line[0] for line in cells_of_noise(page)] == [EVIL, "('a', 1)", cut]
    assert "c" * 81 not in source


@pytest.mark.usefixtures("without_pictures")
def test_the_table_of_noise_is_cut(tmp_path):
    names = [f"c{i}" for i in range(130)]
    page = Page(written(noise_refinement(np.linspace(1, 2, 130), names), tmp_path))
    lines = cells_of_noise(page)
    assert [line[0] for line in lines] == names[:-101:-1]
    assert "30 more columns have less noise" in page.sentences


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    "fields",
    [
        {"settings": {"rule": "unit_step"}},
        {"settings": {"rule": "given"}},
        {"lag": 2, "kind": "series"},
        {"lag": 0, "kind": "series"},
    ],
    ids=["unit step", "given rule", "lag", "causal"],
)
def test_no_noise_is_told_of_other_refinements(tmp_path, fields):
    page = Page(written(noise_refinement(**fields), tmp_path))
    assert "noise" not in page.heading_ids


def test_a_loaded_refinement_tells_noise_if_it_has_its_model(
    tmp_path, automatic, by_given_model, noisy_table
):
    def reloaded(refinement):
        refinement.save(tmp_path / "saved", overwrite=True)
        return Refinement.load(tmp_path / "saved")

    found, again = (_noise.noise_of(r, 9) for r in (automatic, reloaded(automatic)))
    assert again.told == found.told
    numbers = [[line[1:] for line in noise.lines] for noise in (found, again)]
    np.testing.assert_allclose(*numbers, rtol=1e-6)
    assert _noise.noise_of(by_given_model, 9) is not None
    assert _noise.noise_of(reloaded(by_given_model), 9) is None
    told = refine(noisy_table, target="d", rule="auto", noise_scale=30.0)
    assert _noise.noise_of(reloaded(told), 9) is None


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (np.nan, "not known"),
        (99.96, "100"),
        (123_456.0, "123,000"),
        (5.999, "6.00"),
        (0.0123456, "0.0123"),
        (1.5e-7, "1.50e-07"),
        (1e20, "1.00e+20"),
    ],
)
def test_estimates_have_three_digits(number, text):
    assert _noise.estimate(number) == text


def test_a_line_is_broken_where_time_jumps():
    time = np.array([0, 1, 2, 10, 11], "datetime64[h]")
    x, y = _figures._broken_at_gaps(time, np.arange(5.0))
    assert len(x) == len(y) == 6
    assert np.isnan(y[3])
    assert y[~np.isnan(y)].tolist() == [0, 1, 2, 3, 4]


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


@pytest.mark.slow
def test_a_users_own_style_does_not_get_into_the_page(tmp_path, sources):
    with mpl.rc_context({"text.usetex": True, "axes.facecolor": "red", "font.size": 30}):
        assert written(rows_refinement(), tmp_path) == sources["rows"]


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


def test_classes_stand_where_residuals_would(tmp_path):
    refinement = classes_refinement()
    page = Page(written(refinement, tmp_path))
    assert page.heading_ids == [
        *("done", "explore", "panels", "corrections", "drift", "classes", "provenance")
    ]
    assert page.count("svg") == 2 * 3  # two pictures per changed column, none of residuals
    surprise = refinement.classification.cross_entropy
    known = (
        "The model finds the given label the likeliest in 98.3% of the rows before, 98.3% after; "
        f"cross-entropy {surprise[0]:.4f} before, {surprise[1]:.4f} after."
    )
    assert page.sentences.count(known) == 2  # at the top, and with the classes
    assert "3 classes of kind: ant 19, bee 20, cat 20; 1 row without a label." in page.sentences
    assert "residuals fell" not in page.sentences
    assert "the probability that the model gives to the row's label. Gate" in page.sentences
    cat = [-np.log(0.8), -np.log(0.64 / (0.64 + 2 * 0.01))]
    assert page.row("cat") == ["cat", "20", "100.0%", "100.0%", *(f"{of:.3f}" for of in cat)]
    bee = 19 / 20
    assert page.row("bee")[:4] == ["bee", "20", f"{bee:.1%}", f"{bee:.1%}"]
    doubted = next(row for row in page.table_rows if row[0] == "1" and len(row) == 6)
    assert doubted == ["1", "bee", "0.100", f"{0.01 / 0.66:.3f}", "cat", f"{0.64 / 0.66:.3f}"]
    assert "The 50 least likely of 59, by the probability" in page.sentences
    assert "simplex" not in page.sentences
    assert (
        "Labels moved on the simplex"
        in Page(written(classes_refinement(soft=True), tmp_path)).sentences
    )


def test_names_of_classes_cannot_break_out(tmp_path):
    source = written(classes_refinement((EVIL, "c" * 10_000, ("b", 1))), tmp_path)
    page = Page(source)
    assert page.count("script") == 5
    assert page.row(EVIL)[1] == "19"
    assert page.row("('b', 1)")[1] == "20"
    assert "c" * 81 not in source


@pytest.mark.slow
def test_a_report_of_a_real_refinement_of_classes(tmp_path, noisy_table):
    labels = np.where(noisy_table["a"] > noisy_table["a"].median(), "high", "low")
    frame = noisy_table.assign(kind=labels)
    model = (lambda w, x: w * x[0], np.float32([1.0, -1.0]))
    noise = dict.fromkeys("abcd", 0.0) | {"d": 30.0}
    page = Page(written(refine(frame, "kind", model=model, noise_scale=noise), tmp_path))
    assert {"classes", "noise"} <= set(page.heading_ids)
    assert "2 classes of kind: high" in page.sentences
    assert "has seen these very rows, its residuals" not in page.sentences
