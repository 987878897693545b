"""The documentation: nothing public is left out, no link is broken, and its code runs."""

import ast
import html.parser
import os
import re
import runpy
import subprocess
import sys
import tomllib
import urllib.parse
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NOT_A_LIBRARY = {"cli"}  # its page is reference/command_line.md

LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
DECLARED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def public_modules():
    """Name to the file that says `__all__`."""
    found = {"denograd_jax": ROOT / "denograd_jax/__init__.py"}
    for path in [*(ROOT / "denograd_jax").iterdir(), ROOT / "bridges"]:
        file = path / "__init__.py" if path.is_dir() else path
        public = not path.name.startswith("_") and path.stem not in NOT_A_LIBRARY
        if public and file.suffix == ".py" and file.exists():
            found[f"denograd_jax.{path.stem}"] = file
    return found


def names_of(file):
    for line in ast.parse(file.read_text()).body:
        if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "__all__":
            return ast.literal_eval(line.value)
    raise AssertionError(f"{file} says no __all__")


MODULES = public_modules()


def declared():
    """What stands behind `:::`; a module there stands for all of its `__all__`."""
    pages = sorted((DOCS / "reference").glob("*.md"))
    return [name for page in pages for name in DECLARED.findall(page.read_text())]


def test_every_public_name_is_in_the_reference():
    """A new module wants a page in docs/reference and in mkdocs.yml; a new name of the package
    itself a line in docs/reference/denograd_jax.md."""
    there = declared()
    assert len(there) == len(set(there))
    modules = set(MODULES) - {"denograd_jax"}
    assert {name for name in there if name in modules} == modules
    of_package = {f"denograd_jax.{name}" for name in names_of(MODULES["denograd_jax"])}
    assert {name for name in there if name not in modules} == of_package - modules


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_work_on_github(page):
    text = page.read_text()
    for link in LINK.findall(re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)):
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        assert file.exists(), link
        generated = "reference" in file.parts  # its anchors are looked at in the built site
        if anchor and not generated:
            assert anchor in anchors(file.read_text()), link


def anchors(text):
    """Of the headings, as GitHub and MkDocs agree on them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", t.lower()).strip().replace(" ", "-") for t in titles}


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text())
    pages = {str(page.relative_to(DOCS)) for page in PAGES}
    assert {name for name in listed if not name.startswith("source/")} == pages


def test_nothing_is_loaded_from_elsewhere():
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in settings
    assert "http" not in settings
    assert not re.search(r"url\(|@import", (DOCS / "assets/site.css").read_text())


def test_the_wheel_knows_all_packages():
    """Otherwise a module in the reference would be missing where it is installed."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = settings["tool"]["setuptools"]["packages"]
    assert {m for m, file in MODULES.items() if file.name == "__init__.py"} <= set(packages)


# ---------------------------------------------------------------- the code in pages

PREPARED = {
    "data": """
from denograd_jax import refine
import numpy as np
refined = refine(np.sin(np.arange(300.0) / 8), window=8, max_epochs=2, max_steps=2)
""",
    "bridges": """
import numpy as np
import torch
torch.manual_seed(0)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = torch.nn.LSTM(3, 4, batch_first=True), torch.nn.Linear(4, 1)
    def forward(self, x):
        return self.fc(self.rnn(x)[0][:, -1])
module, x = Net().eval(), np.zeros((2, 6, 3), np.float32)
""",
    "long_series": """
import jax
import jax.numpy as jnp
import numpy as np
from denograd_jax import layouts, refiner, run
def predict(params, window):
    return jnp.tanh(window.ravel() @ params)
params = np.full(48, 0.01, np.float32)
series = np.sin(np.arange(600, dtype=np.float32)).reshape(300, 2)
target = series[:, 0]
""",
}
"""What a page's code takes for granted."""

SLOW = {"bridges", "classification", "data", "getting_started", "index", "rules", "time_series"}


def blocks(page):
    """Its Python; what is included from examples, tests/test_examples.py runs."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def pages_with_code():
    for page in PAGES:
        if blocks(page):
            marks = pytest.mark.slow if page.stem in SLOW else ()
            yield pytest.param(page, marks=marks, id=page.stem)


@pytest.mark.parametrize("page", list(pages_with_code()))
def test_code_of_a_page(page, tmp_path, monkeypatch):
    """One block after the other in one namespace, as a reader would paste them."""
    if page.stem == "bridges":
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page.stem}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(PREPARED.get(page.stem, ""), f"before {page.name}", "exec"), namespace)
        for block in blocks(page):
            exec(compile(block, str(page), "exec"), namespace)


def test_included_files_exist():
    """Their fences say `{ .python }`, since ruff would format the line in a fence of python."""
    included = [f for p in PAGES for f in re.findall(r'--8<-- "([^"]+)"', p.read_text())]
    assert included
    assert [f for f in included if not (ROOT / f).is_file()] == []
    assert {Path(f).parent.name for f in included} == {"examples"}


@pytest.mark.slow
def test_figures_are_those_of_the_script(tmp_path):
    pytest.importorskip("matplotlib")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        runpy.run_path(str(DOCS / "figures.py"))["main"](tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in (DOCS / "figures").iterdir()}
    shown = set(re.findall(r"figures/([\w.]+\.svg)", (DOCS / "how_it_works.md").read_text()))
    assert shown == drawn


# ---------------------------------------------------------------- the built site


class Page(html.parser.HTMLParser):
    """What a page links to, what it loads, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "link" and attrs.get("rel") not in {"canonical", "next", "prev"}:
            self.loads.append(attrs["href"])
        if tag in {"script", "img", "iframe", "source"} and attrs.get("src"):
            self.loads.append(attrs["src"])


@pytest.fixture(scope="module")
def site_folder(tmp_path_factory):
    """The site that DENOGRAD_SITE says was built; else built here, where MkDocs is installed."""
    if "DENOGRAD_SITE" in os.environ:
        return Path(os.environ["DENOGRAD_SITE"])
    pytest.importorskip("mkdocs", reason="pip install -r requirements-docs.txt")
    pytest.importorskip("mkdocstrings", reason="pip install -r requirements-docs.txt")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def site(site_folder):
    pages = site_folder.rglob("*.html")
    return {path.relative_to(site_folder).as_posix(): Page(path) for path in pages}


@pytest.mark.slow
def test_links_of_the_site(site, site_folder):
    broken = []
    for here, page in site.items():
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or here == "404.html":
                continue
            path = urllib.parse.unquote(url.path)
            there = os.path.normpath(Path(here).parent / path) if path else here
            there = "index.html" if there == "." else there
            if not there.endswith(".html") and not url.fragment and (site_folder / there).is_file():
                continue
            target = site.get(Path(there).as_posix())
            if target is None or urllib.parse.unquote(url.fragment) not in target.anchors:
                broken.append((here, link))
    assert not broken


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    outside = [(here, load) for here, page in site.items() for load in page.loads if "//" in load]
    assert not outside


@pytest.mark.slow
def test_the_built_reference_has_every_public_name(site):
    there = set().union(*(page.anchors for page in site.values()))
    wanted = {f"{m}.{name}" for m, file in MODULES.items() for name in names_of(file)}
    assert not wanted - there - set(MODULES)
