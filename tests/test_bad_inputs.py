"""Bad input through the API and the command line: one line that helps, and nothing else happens."""

import copy
import hashlib
import os
import random
import re
import tempfile
import tracemalloc
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denograd_jax import refine
from denograd_jax.cli import _sources, main
from denograd_jax.errors import FileError
from tests.bad_inputs import CALLS, COMMANDS, FILES
from tests.bad_inputs.commands import TABLE
from tests.bad_inputs.files import CSV, LONG
from tests.bad_inputs.good import ROWS, table

OPTIONS = {"frozen": "freeze", "groups": "group"}
"""Options of the command line that have other names than the arguments of `refine`."""


def named(cases):
    """Cases as pytest's parameters."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])


def made(data):
    return data() if callable(data) else data


def unchanged(data, before):
    """Whether data still is what its copy is."""
    if isinstance(data, pd.DataFrame | pd.Series):
        assert data.equals(before)
    elif isinstance(data, np.ndarray):
        np.testing.assert_array_equal(data, before)
    elif isinstance(data, list | tuple):
        for part, part_before in zip(data, before, strict=True):
            unchanged(part, part_before)
    else:
        assert data is before or data == before


def refuse_odd_message(message, says):
    pattern = ".*".join(map(re.escape, says.split("…")))
    assert re.fullmatch(pattern, message), message
    assert message.endswith(".")
    assert message.isprintable()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The current folder, with a place for temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    """Every name below a folder, and what is there."""
    return {
        str(path): path.readlink()
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else path.stat().st_mode
        for path in folder.rglob("*")
    }


def refused(capsys, *arguments):
    """The message with which the command line refuses, and leaves everything as it was."""
    here = Path.cwd()
    before = contents(here)
    assert main(list(map(str, arguments))) == 2
    assert contents(here) == before
    output = capsys.readouterr()
    assert output.out == ""
    first, *others = output.err.splitlines()
    assert not others
    assert output.err == f"denograd-jax: {first.removeprefix('denograd-jax: ')}\n"
    return first.removeprefix("denograd-jax: ")


def options(given):
    """The arguments of `refine` as those of the command line."""
    for name, value in given.items():
        option = "--" + OPTIONS.get(name, name).replace("_", "-")
        several = not isinstance(value, str) and isinstance(value, Iterable)
        for one in value if several else [value]:
            yield f"{option}={one}"


def test_names_are_told_apart():
    for cases in (CALLS, FILES, COMMANDS):
        names = [case.name for case in cases]
        assert len(set(names)) == len(names)


def test_the_good_table_is_good(home):
    """What the cases spoil is refined as it is."""
    (home / "h.csv").write_bytes(CSV)
    command = f"{TABLE} --max-epochs 1 --max-steps 1 --quiet"
    assert main(command.split()) == 0
    assert (home / "h.refined.csv").exists()


@named(CALLS)
def test_calls(case):
    data, given = made(case.data), dict(case.given)
    before = copy.deepcopy((data, given))
    with pytest.raises(case.error) as caught:
        refine(data, **given)
    assert isinstance(caught.value, ValueError | TypeError)
    refuse_odd_message(str(caught.value), case.says)
    unchanged(data, before[0])
    for value, old in zip(given.values(), before[1].values(), strict=True):
        unchanged(value, old)


@named([case for case in CALLS if case.in_file])
def test_calls_on_the_command_line(case, home, capsys):
    made(case.data).to_csv("h.csv", index=False)
    message = refused(capsys, "refine", "h.csv", *options(case.given))
    refuse_odd_message(message, case.says)


@named(FILES)
def test_files(case, home, capsys):
    path = Path(case.file)
    if callable(case.content):
        case.content(path)
    else:
        path.write_bytes(case.content)
    message = refused(capsys, "refine", path, "--target", "y")
    refuse_odd_message(message, case.says.replace("{path}", str(path)))


@named(COMMANDS)
def test_commands(case, home, capsys):
    Path("h.csv").write_bytes(CSV)
    Path("link.csv").symlink_to("h.csv")
    Path("same.csv").hardlink_to("h.csv")
    Path("taken.csv").write_bytes(b"mine")
    Path("nowhere.csv").symlink_to("gone.csv")
    Path("folder.csv").mkdir()
    refuse_odd_message(refused(capsys, *case.line.split()), case.says)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do all")
def test_files_of_others(home, capsys):
    Path("h.csv").write_bytes(CSV)
    Path("h.csv").chmod(0)
    message = refused(capsys, "refine", "h.csv", "--target", "y")
    assert message == "h.csv may not be read: check its permissions."
    Path("h.csv").chmod(0o400)
    Path("locked").mkdir(mode=0o500)
    message = refused(capsys, "refine", "h.csv", "--target", "y", "--out", "locked/n.csv")
    assert message == "locked may not be written to: choose another folder."


def test_a_disk_that_is_full(home, capsys):
    """After the work: the outputs are as they were, and nothing lies about."""
    resource = pytest.importorskip("resource")
    Path("h.csv").write_bytes(CSV)
    Path("h.refined.csv").write_bytes(b"mine")
    arguments = "refine h.csv --target y --max-epochs 1 --max-steps 1 --overwrite"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CSV) // 2, limits[1]))
    try:
        message = refused(capsys, *arguments.split())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert message == "the output could not be written: File too large."


def test_a_folder_that_cannot_be_made(home, capsys):
    message = refused(capsys, "demo", "--fast", "--out", LONG)
    assert message == f"{LONG} cannot be made: File name too long."


def one_line(path, mebibytes, header=b"a,b,y\n"):
    block = b"0.25," * (2**20 // 5)
    with path.open("wb") as file:
        file.write(header)
        for _ in range(mebibytes):
            file.write(block)


def one_line_compressed(path, mebibytes):
    packer = zlib.compressobj(1, wbits=31)
    block = b"0.25," * (2**20 // 5)
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(packer.compress(block))
        file.write(packer.flush())


@pytest.mark.parametrize(
    ("name", "write", "mebibytes"),
    [
        ("h.csv.gz", one_line_compressed, 200),
        pytest.param("h.csv", one_line, 1024, marks=pytest.mark.slow),
    ],
)
def test_an_endless_line_is_refused_in_little_memory(home, capsys, name, write, mebibytes):
    path = Path(name)
    write(path, mebibytes)
    tracemalloc.start()
    try:
        assert main(["refine", name, "--target", "y"]) == 2
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        path.unlink()
    assert most < 4 * _sources.LONGEST_LINE
    says = f"{name} has a line of more than 16 MiB: end each row of the table by a line break."
    assert capsys.readouterr().err == f"denograd-jax: {says}\n"


def test_lines_may_be_long_but_not_endless(home, monkeypatch):
    """The limit counts from one line's end to the next, whatever the blocks that are read."""
    monkeypatch.setattr(_sources, "LONGEST_LINE", 50)
    monkeypatch.setattr(_sources, "_BLOCK", 7)
    for length, ends in ((44, b"\n"), (49, b"\r\n"), (49, b"\r"), (50, b"\n")):
        content = b"x" * length + ends + b"y" * length
        Path("h.csv").write_bytes(content)
        assert _sources.read_text(Path("h.csv"))[0] == content.decode()
    Path("h.csv").write_bytes(b"x\n" + b"y" * 60 + b"\n")
    with pytest.raises(FileError, match="a line of more than"):
        _sources.read_text(Path("h.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h.csv", "h.csv.gz", "h.parquet"])
def test_bytes_that_are_wrong_by_chance(home, name):
    """A table is read from the file, or the file is refused in one line."""
    from denograd_jax.cli import _tables

    text = table(t="some text", d=pd.date_range("2024", periods=ROWS).strftime("%d/%m/%y"))
    _tables.write_frame(text, Path(name))
    good = Path(name).read_bytes()
    dice = random.Random(11)
    outcomes = set()
    for _ in range(150):
        content = bytearray(good[: dice.choice([len(good), dice.randrange(len(good))])])
        for _ in range(dice.randint(0, 4)):
            if content:
                content[dice.randrange(len(content))] = dice.choice(b'\0\n\r",;\xff 0')
        Path(name).write_bytes(content)
        try:
            frame = _tables.read_table(Path(name)).frame
            assert isinstance(frame, pd.DataFrame)
            outcomes.add("read")
        except FileError as error:
            refuse_odd_message(str(error), "….")
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        (b"a,b,y\n1,2,3\n\n   \n4,5,6\n\n", ["a", "b", "y"]),
        (b"\n \na,b,y\n1,2,3\n4,5,6\n", ["a", "b", "y"]),
        (b"\n\ny\n1\n4\n", ["y"]),
        (b"\ty\nfirst\t1\nsecond\t4\n", ["y"]),
        (b'"a, in m";"b, in s";y\n1;2;3\n4;5;6\n', ["a, in m", "b, in s", "y"]),
        (b"a,b,y,\n1,2,3,\n4,5,6,\n", ["a", "b", "y", ""]),
        (b"PAR1,PAR2\n1,2\n4,5\n", ["PAR1", "PAR2"]),
        (b"2019,2020\n1,2\n4,5\n", ["2019", "2020"]),
        (b"level in m\n1\n4\n", ["level in m"]),
        (b"<a,[b],{y}\n1,2,3\n4,5,6\n", ["<a", "[b]", "{y}"]),
        (b'a,b,y\r1,"2\r,5",3\r4,,6\r', ["a", "b", "y"]),
        (b'a,y\n1,3\n4,"' + b"x" * 200_000 + b'"\n', ["a", "y"]),
    ],
)
def test_what_looks_odd_and_is_a_table(home, content, columns):
    from denograd_jax.cli import _tables

    Path("h.csv").write_bytes(content)
    frame = _tables.read_table(Path("h.csv")).frame
    assert frame.columns.tolist() == columns
    assert frame.iloc[:, 0].tolist() == [1, 4]


@pytest.mark.parametrize(
    "values",
    [
        ["12 345", "12a"],
        ["0171 123 456", "0172 999 888"],
        ["1,5", "several"],
        ["a,b", "c"],
        ["10 20", "30 40"],
    ],
)
def test_text_with_digits_stays_text(home, values):
    from denograd_jax.cli import _tables

    pd.DataFrame({"t": values, "y": [1, 2]}).to_csv("h.csv", index=False)
    assert _tables.read_table(Path("h.csv")).frame["t"].tolist() == values


def test_labels_that_parquet_has_no_type_for_are_written_as_text(home):
    from denograd_jax.cli import _tables

    rows = pd.Index([("p", 1), ("q", 2)], tupleize_cols=False)
    changes = pd.DataFrame({"row": rows, "before": [1.0, 2.0]})
    _tables.write_frame(changes, Path("c.parquet"))
    written = _tables.read_table(Path("c.parquet")).frame
    assert written["row"].tolist() == ["('p', 1)", "('q', 2)"]
    assert written["before"].tolist() == [1, 2]
