"""The report in headless Chromium: loads without complaint, explores, fits a telephone."""

import functools
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from denograd_jax.report import write_report
from tests.devtools import Browser
from tests.reports import (
    long_refinement,
    made_refinement,
    noise_refinement,
    rows_refinement,
    series_refinement,
)

pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
READY = "document.getElementById('explorer')?.dataset.ready === 'yes'"
PHONE = {"size": (390, 844), "touch": True}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("DENOGRAD_REQUIRE_BROWSER") == "1":
        pytest.fail(f"DENOGRAD_REQUIRE_BROWSER=1, but none of {', '.join(BROWSERS)} is installed")
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with Browser(found, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page each of a table, of one refined by "auto", of a panel with gaps, of a long series."""
    folder = tmp_path_factory.mktemp("pages")
    return Pages(
        folder,
        {
            "table": rows_refinement,
            "auto": noise_refinement,
            "panel": series_refinement,
            "series": functools.partial(long_refinement, 60_000, 2),
        },
    )


class Pages:
    """Paths by name; a page is written when it is first asked for."""

    def __init__(self, folder, makers):
        self._folder, self._makers = folder, makers

    def __getitem__(self, name):
        page = self._folder / f"{name}.html"
        if not page.exists():
            write_report(self._makers[name](), page)
        return page


def text(tab, name):
    return tab.evaluate(f"document.getElementById({name!r}).textContent")


def choose(tab, name, label):
    """Pick an option by its text, as a person does."""
    tab.evaluate(
        f"""(() => {{
        const select = document.getElementById({name!r});
        select.value = [...select.options].find(o => o.text === {label!r}).value;
        select.dispatchEvent(new Event("change", {{bubbles: true}}));
        }})()"""
    )


def drawn(tab, name="entries"):
    """The data of a source that the charts are drawn from; NaN where there is none."""
    data = tab.evaluate(
        f"""(() => {{
        const source = Bokeh.documents.map(d => d.get_model_by_name({name!r})).find(m => m);
        const lists = Object.entries(source.data).map(([k, v]) =>
            [k, Array.from(v, n => Number.isFinite(n) ? n : null)]);
        return Object.fromEntries(lists);
        }})()"""
    )
    return {key: np.array(values, float) for key, values in data.items()}


def in_view(tab):
    """How many rows are in view, and how many of them a point stands for."""
    told = text(tab, "range")
    rows = int(re.search(r"([\d,]+) rows", told).group(1).replace(",", ""))
    points = re.search(r"drawn as ([\d,]+) points", told)
    return rows, 1.0 if points is None else rows / int(points.group(1).replace(",", ""))


def middle_of_charts(tab):
    """A point in the uppermost chart, scrolled into view."""
    left, top, width = tab.evaluate(
        """(() => {
        const charts = document.getElementById("charts");
        charts.scrollIntoView({behavior: "instant"});
        const box = charts.getBoundingClientRect();
        return [box.left, box.top, box.width];
        })()"""
    )
    return left + width / 2, top + 120


@pytest.mark.parametrize(
    ("name", "dark"),
    [
        ("panel", False),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in ("table", "auto", "series")),
    ],
)
def test_the_page_loads_without_complaint(browser, pages, name, dark):
    with browser.tab(pages[name], dark=dark) as tab:
        tab.wait_until(READY)
        assert tab.complaints == []
        assert tab.requests == []
        assert tab.evaluate("document.getElementById('static-only').hidden")
        canvases = """(function count(root) {
            return [...root.querySelectorAll("*")].reduce((n, e) =>
                n + (e.tagName === "CANVAS") + (e.shadowRoot ? count(e.shadowRoot) : 0), 0);
        })(document)"""
        assert tab.evaluate(canvases) >= (7 if name in ("panel", "series") else 3)


def test_complaints_are_seen(browser, pages, tmp_path):
    """The check above would notice: a page that breaks its own policy is complained of."""
    page = tmp_path / "report.html"
    source = pages["panel"].read_text("utf-8")
    page.write_text(source.replace("</body>", "<script>1</script></body>"), "utf-8")
    with browser.tab(page) as tab:
        assert any("Content Security Policy" in str(complaint) for complaint in tab.complaints)


@pytest.mark.slow
def test_a_zoom_shows_fewer_rows_in_more_detail(browser, pages):
    with browser.tab(pages["series"]) as tab:
        tab.wait_until(READY)
        rows, rows_per_point = in_view(tab)
        assert rows == 60_000
        assert rows_per_point > 20
        x, y = middle_of_charts(tab)
        tab.drag((x, y), (x + 100, y + 10))
        tab.wait_until(f"!document.getElementById('range').textContent.includes('{rows:,} rows')")
        nearer, nearer_per_point = in_view(tab)
        assert 3000 < nearer < 9000
        assert nearer_per_point < rows_per_point
        entries = drawn(tab)
        assert np.nansum(entries["rows"]) < 1.1 * nearer + 200
        before = text(tab, "range")
        tab.mouse("mouseWheel", x, y, deltaX=0, deltaY=-240)
        tab.wait_until(f"document.getElementById('range').textContent !== {before!r}")
        assert in_view(tab)[0] < nearer
        tab.evaluate("document.getElementById('go-whole').click()")
        tab.wait_until(f"document.getElementById('range').textContent.includes('{rows:,} rows')")
        assert tab.complaints == []


@pytest.mark.slow
def test_the_most_changed_stretch_is_there_row_by_row(browser, pages):
    with browser.tab(pages["series"]) as tab:
        tab.wait_until(READY)
        tab.evaluate("document.getElementById('go-busiest').click()")
        tab.wait_until("!document.getElementById('range').textContent.includes('60,000 rows')")
        for _ in range(3):
            before = text(tab, "range")
            tab.evaluate("document.getElementById('go-closer').click()")
            tab.wait_until(f"document.getElementById('range').textContent !== {before!r}")
        assert "each drawn." in text(tab, "range")
        assert set(drawn(tab)["rows"][1:-1]) == {1}


@pytest.mark.slow
def test_buttons_move_the_view(browser, pages):
    with browser.tab(pages["panel"]) as tab:
        tab.wait_until(READY)
        seen = [text(tab, "range")]
        for name in ("closer", "earlier", "later", "wider"):
            tab.evaluate(f"document.getElementById('go-{name}').click()")
            tab.wait_until(f"document.getElementById('range').textContent !== {seen[-1]!r}")
            seen.append(text(tab, "range"))
        assert seen[2] < seen[1]  # it begins earlier
        assert seen[4] == seen[0]


@pytest.mark.slow
def test_another_column_and_group_are_drawn(browser, pages):
    refinement = series_refinement()
    with browser.tab(pages["panel"]) as tab:
        tab.wait_until(READY)

        def expect(column, group):
            rows = np.flatnonzero(refinement.groups == group)
            given = refinement.before[column].to_numpy()[rows]
            found = drawn(tab)
            told = found["rows"] > 0  # the rest breaks the line at the gap
            assert told.sum() == len(rows)
            assert (~told).sum() == 2
            np.testing.assert_allclose(found["before"][told], given, rtol=1e-5, atol=1e-6)

        expect("temp", "JFK")
        choose(tab, "group", "EWR")
        expect("temp", "EWR")
        choose(tab, "column", "wind")
        expect("wind", "EWR")
        assert np.flatnonzero(~np.isnan(drawn(tab)["filled"])).tolist() == [10]
        assert "1 filled" in text(tab, "caption")
        assert tab.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["panel", "table"])
def test_values_are_read_where_one_points(browser, pages, name):
    with browser.tab(pages[name]) as tab:
        tab.wait_until(READY)
        hint = text(tab, "reading")
        x, y = middle_of_charts(tab)
        if name == "table":
            x /= 2  # two charts side by side
        tab.mouse("mouseMoved", x, y)
        tab.mouse("mouseMoved", x + 3, y)
        tab.wait_until(f"document.getElementById('reading').textContent !== {hint!r}")
        pattern = r"before [−\-\d.]+, after [−\-\d.]+, change [+−]\d\.\d{3} σ, residual "
        assert re.search(pattern, text(tab, "reading"))
        assert tab.complaints == []


@pytest.mark.slow
def test_points_of_a_table_are_those_of_the_column(browser, pages):
    refinement = rows_refinement()
    with browser.tab(pages["table"]) as tab:
        tab.wait_until(READY)
        choose(tab, "column", "area")
        found, missing = drawn(tab, "points"), refinement.before["area"].isna()
        np.testing.assert_allclose(found["at"], refinement.before["area"], rtol=1e-5)
        sigmas = refinement.sigmas[:, 1]
        np.testing.assert_allclose(found["change"], sigmas, rtol=1e-5)
        assert np.isnan(found["change"]).sum() == missing.sum() == 1


@pytest.mark.slow
def test_corrections_are_searched(browser, pages):
    lines = "document.querySelectorAll('#corrections-body tr').length"
    with browser.tab(pages["panel"]) as tab:
        tab.wait_until(READY)
        assert tab.evaluate(lines) == 50
        assert "50 of 959 shown" in text(tab, "found")
        tab.evaluate("document.getElementById('more').click()")
        assert tab.evaluate(lines) == 100
        tab.evaluate("document.getElementById('search').focus()")
        tab.send("Input.insertText", text="ewr · 2013-01-01")
        assert tab.evaluate(lines) == 47  # 24 hours of two columns, one of them missing
        columns = "[...document.querySelectorAll('#corrections-body th')].map(e => e.textContent)"
        assert all("EWR · 2013-01-01" in name for name in tab.evaluate(columns))
        tab.send("Input.insertText", text="nowhere")
        assert tab.evaluate(lines) == 0
        assert "0 of 0 shown" in text(tab, "found")
        assert tab.evaluate("document.getElementById('more').hidden")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pictures"), [("table", 7), ("auto", 6), ("panel", 8)])
def test_without_scripts_the_figures_and_tables_are_read(browser, pages, name, pictures):
    with browser.tab(pages[name], scripts=False) as tab:
        seen = """[...document.querySelectorAll("svg")].filter(e => e.clientWidth > 100).length"""
        assert tab.evaluate(seen) == pictures
        assert tab.evaluate("document.querySelectorAll('#corrections-body tr').length") == 50
        assert tab.evaluate("document.getElementById('static-only').checkVisibility()")
        for hidden in ("explorer", "search-form"):
            assert not tab.evaluate(f"document.getElementById({hidden!r}).checkVisibility()")
        assert tab.complaints == []


@pytest.mark.slow
def test_charts_follow_the_colours_of_the_page(browser, pages):
    colour = """[getComputedStyle(document.body).backgroundColor,
        Bokeh.documents.at(-1).roots()[0].below[0].major_label_text_color]"""
    with browser.tab(pages["panel"]) as tab:
        tab.wait_until(READY)
        assert tab.evaluate(colour) == ["rgb(255, 255, 255)", "#1c2127"]
        dark = {"name": "prefers-color-scheme", "value": "dark"}
        tab.send("Emulation.setEmulatedMedia", features=[dark])
        tab.wait_until(f"{colour}[1] === '#e4e8ec'")
        assert tab.evaluate(colour) == ["rgb(20, 24, 29)", "#e4e8ec"]
        assert tab.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("make", [rows_refinement, noise_refinement])
def test_the_page_fits_a_telephone(browser, tmp_path, make):
    """At 390 pixels tables are scrolled sideways in their own boxes, the page is not."""
    page = tmp_path / "report.html"
    write_report(make(names=("a_column_of_a_very_long_name" * 3, "b", "c")), page)
    with browser.tab(page, **PHONE) as tab:
        tab.wait_until(READY)
        wider = "e => e.scrollWidth > e.clientWidth"
        assert tab.evaluate("innerWidth") == 390
        assert not tab.evaluate(f"({wider})(document.documentElement)")
        assert tab.evaluate(f"[...document.querySelectorAll('.scroll')].some({wider})")


@pytest.mark.slow
def test_two_fingers_zoom_and_one_scrolls_the_page(browser, pages):
    with browser.tab(pages["series"], **PHONE) as tab:
        tab.wait_until(READY)
        x, y = middle_of_charts(tab)
        rows, _ = in_view(tab)
        tab.send("Input.synthesizePinchGesture", x=x, y=y, scaleFactor=3)
        tab.wait_until(f"!document.getElementById('range').textContent.includes('{rows:,} rows')")
        nearer, _ = in_view(tab)
        assert rows / 10 < nearer < rows / 2  # the fingers moved apart by a factor of 3
        top = tab.evaluate("scrollY")
        tab.swipe((x, y + 180), (x, y - 80))
        tab.wait_until(f"scrollY > {top} + 100")
        assert in_view(tab)[0] == nearer
        assert tab.complaints == []


@pytest.mark.slow
def test_names_that_look_like_markup_are_shown_as_they_are(browser, tmp_path):
    evil = '</script><script>document.title = "broken"</script>$$x$$\u2028'
    before = pd.DataFrame(np.eye(4)[:, :2], columns=[evil, "b"], index=[evil, "b", "c", "d"])
    groups = np.array([evil, evil, "g", "g"], object)
    page = tmp_path / "report.html"
    write_report(made_refinement(before, before + 0.5, kind="series", groups=groups), page)
    with browser.tab(page) as tab:
        tab.wait_until(READY)
        assert tab.evaluate("document.title") == "Refinement report"
        options = "[...document.querySelectorAll('option')].map(e => e.textContent)"
        assert evil in tab.evaluate(options)
        choose(tab, "column", "b")
        assert evil in tab.evaluate("document.querySelector('#corrections-body').textContent")
        assert tab.complaints == []
