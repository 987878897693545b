"""The report: what its page says, and that nothing in the data can break out of it."""

import base64
import gzip
import hashlib
import json
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from denograd_jax import metrics
from tests.report_pages import EVIL, Page, written
from tests.reports import gap_table, made_refinement, rows_refinement, series_refinement


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The pages of a table and of a series, which many tests read."""
    folder = tmp_path_factory.mktemp("pages")
    made = {"rows": rows_refinement(), "series": series_refinement()}
    return {kind: written(refinement, folder) for kind, refinement in made.items()}


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


@pytest.mark.parametrize("kind", [pytest.param("rows", marks=pytest.mark.slow), "series"])
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


@pytest.mark.slow
def test_a_users_own_style_does_not_get_into_the_page(tmp_path, sources):
    with mpl.rc_context({"text.usetex": True, "axes.facecolor": "red", "font.size": 30}):
        assert written(rows_refinement(), tmp_path) == sources["rows"]
