"""The report in headless Chromium: it loads, complains of nothing and fits a telephone."""

import html
import os
import re
import shutil
import subprocess

import pytest

from denograd_jax.report import write_report
from tests.reports import rows_refinement, series_refinement

pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("DENOGRAD_REQUIRE_BROWSER") == "1":
        pytest.fail(f"DENOGRAD_REQUIRE_BROWSER=1, but none of {', '.join(BROWSERS)} is installed")
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


def load(browser, page, profile, *options):
    """The document as the browser has built it, and what the browser wrote about it."""
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--disable-sync",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--v=0",
        *options,
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


def complaints(log):
    return [line for line in log.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize(
    ("make", "pictures"), [(rows_refinement, 2 * 3 + 1), (series_refinement, 2 + 1)]
)
def test_the_page_loads_without_complaint(browser, tmp_path, make, pictures):
    page = tmp_path / "report.html"
    write_report(make(), page)
    document, log = load(browser, page, tmp_path / "profile")
    assert complaints(log) == []
    assert "<title>Refinement report</title>" in document
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", document) == [
        "What was done, and with what",
        "The columns that changed most",
        "The largest corrections",
        "How far the distributions drifted",
        "Residuals before and after",
    ]
    assert len(re.findall(r"<svg ", document)) == pictures
    assert not re.search(r"https?://", document)


def test_complaints_are_seen(browser, tmp_path):
    """The check above would notice: a page that breaks its own policy is complained of."""
    page = tmp_path / "report.html"
    write_report(rows_refinement(), page)
    page.write_text(
        page.read_text("utf-8").replace("</body>", "<script>1</script></body>"), "utf-8"
    )
    assert complaints(load(browser, page, tmp_path / "profile")[1])


MEASURE = """<script>
const wider = element => element.scrollWidth > element.clientWidth;
addEventListener("load", () => {
  const tables = [...document.querySelectorAll(".scroll")].some(wider);
  parent.postMessage(`${innerWidth} ${wider(document.documentElement)} ${tables}`, "*");
});
</script>"""


def test_the_page_fits_a_telephone(browser, tmp_path):
    """At 390 pixels tables are scrolled sideways in their own boxes, the page is not."""
    report, phone = tmp_path / "report.html", tmp_path / "phone.html"
    write_report(rows_refinement(names=("a_column_of_a_very_long_name" * 3, "b", "c")), report)
    source = re.sub(r"<meta http-equiv=[^>]*>", MEASURE, report.read_text("utf-8"))
    phone.write_text(
        "<p id=seen></p><script>onmessage = e => seen.textContent = e.data</script>"
        f'<iframe width=390 height=800 frameborder=0 srcdoc="{html.escape(source)}"></iframe>',
        "utf-8",
    )
    document, _ = load(browser, phone, tmp_path / "profile", "--virtual-time-budget=5000")
    assert re.search(r'<p id="seen">(.*?)</p>', document).group(1) == "390 false true"
