"""What MkDocs does for this site beyond its settings (`hooks:` in mkdocs.yml).

- Links from a page to a file outside of `docs/`, or to a script, work on GitHub as they are. In the
  site they lead to a page that shows the file: `../benchmarks/RESULTS.md` becomes
  `source/benchmarks/RESULTS.md`, a script a page with its code, a picture stays one.
- `bridges/` stands at the top level and is installed as `denograd_jax.bridges`. The reference reads
  the code from a folder where both lie as they are installed.
"""

import re
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ALWAYS = ("benchmarks/RESULTS.md", "CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
LANGUAGES = {".py": "python", ".toml": "toml"}
PICTURES = (".png", ".svg")

_installed: list[Path] = []
_pages: dict[str, str] = {}  # a file of the repository -> the page that shows it


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config):
    """Lay the package out as it is installed, for the reference to read."""
    folder = Path(tempfile.mkdtemp(prefix="denograd_docs_"))
    _installed.append(folder)
    no_caches = shutil.ignore_patterns("__pycache__", "*.xz")
    shutil.copytree(ROOT / "denograd_jax", folder / "denograd_jax", ignore=no_caches)
    shutil.copytree(ROOT / "bridges", folder / "denograd_jax" / "bridges", ignore=no_caches)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(folder)]
    return config


def on_files(files: Files, config):
    """Add a page for each file of the repository that a page links to."""
    _pages.clear()
    waiting = [(f"docs/{f.src_uri}", f.content_string) for f in files.documentation_pages()]
    waiting.append(("README.md", "".join(f"]({path})" for path in ALWAYS)))
    while waiting:
        path, text = waiting.pop()
        for _, target, _ in LINK.findall(text):
            linked = _linked(path, target)
            if linked is None or linked in _pages:
                continue
            if linked.endswith(PICTURES):
                _pages[linked] = f"source/{linked}"
                picture = str(ROOT / linked)
                files.append(File.generated(config, _pages[linked], abs_src_path=picture))
                continue
            content = _page(linked)
            _pages[linked] = f"source/{linked}" if linked.endswith(".md") else f"source/{linked}.md"
            files.append(File.generated(config, _pages[linked], content=content))
            waiting.append((linked, content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links at the pages that show what they mean."""
    here = page.file.src_uri
    shown = {uri: path for path, uri in _pages.items()}
    path = shown.get(here, f"docs/{here}")

    def moved(match):
        target = _linked(path, match[2])
        if target is not None:
            target = _pages[target]
        elif here in shown and (ROOT / path).parent.joinpath(match[2]).exists():
            target = normpath(PurePosixPath(path).parent / match[2]).removeprefix("docs/")
        else:
            return match[0]
        return f"{match[1]}{relpath(target, PurePosixPath(here).parent)}{match[3] or ''}"

    return LINK.sub(moved, markdown)


def on_post_build(config):
    """Leave nothing behind."""
    while _installed:
        shutil.rmtree(_installed.pop(), ignore_errors=True)


def on_build_error(error):
    """Likewise."""
    on_post_build(None)


def _linked(path: str, target: str) -> str | None:
    """The file of the repository that a link in `path` means, if it needs a page of its own."""
    if ":" in target:
        return None
    linked = normpath(PurePosixPath(path).parent / target)
    in_site = linked.startswith("docs/") and not linked.endswith(".py")
    return linked if not in_site and (ROOT / linked).is_file() else None


def _page(linked: str) -> str:
    text = (ROOT / linked).read_text()
    if linked.endswith(".md"):
        return text
    language = LANGUAGES.get(PurePosixPath(linked).suffix, "text")
    return f"# {PurePosixPath(linked).name}\n\n`{linked}`\n\n````{language}\n{text}````\n"
