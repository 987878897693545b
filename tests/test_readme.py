"""The README says what CI does, and its code runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_ci_runs_the_two_commands_verbatim():
    commands = [line for block in blocks("sh")[:2] for line in block.strip().splitlines()]
    script = (ROOT / ".ci" / "run").read_text()
    marked = re.findall(r"# README command (\d)\n\s*(.+)\n", script)
    assert len(commands) == 2
    assert marked == [("1", commands[0]), ("2", commands[1])]


def test_python_blocks_run_in_order(tmp_path, monkeypatch):
    """One after the other in one namespace, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    code = blocks("python")
    assert len(code) >= 2
    namespace = {}
    for block in code:
        exec(compile(block, "README.md", "exec"), namespace)


def test_linked_files_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_nothing_is_said_of_a_workplace():
    """Paths and hosts of one machine help nobody elsewhere."""
    here = [p for p in ROOT.rglob("*") if p.suffix in {".py", ".md", ".toml", ".html", ".txt"}]
    here = [p for p in here if ".venv" not in p.parts and "tests" not in p.parts]
    for path in [*here, ROOT / ".ci" / "run"]:
        text = path.read_text()
        assert "/work/" not in text, path
        assert "shared/data" not in text, path
