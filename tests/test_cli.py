"""The command line: files in and out, exit codes, and no half-written file."""

import codecs
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denograd_jax import Status, backbones
from denograd_jax.cli import _outputs, _refine, main
from denograd_jax.errors import FileError

LINES = [
    "id,zip,day,size,price,colour",
    'a,00501,2024-01-01,1.50,3.1,"red, dark"',
    'b,00502,2024-01-02,N/A,2.90,"say ""blue"""',
    "c,10503,2024-01-03,2.250,5.0,",
    "d,10504,2024-01-04,1e1,19.75,red",
    "e,10505,2024-01-05,,7,blue",
]


class FakeRefinement:
    """Stands for what `refine` gives back: 0.125 is added to every price."""

    def __init__(self, frame):
        self.data = frame.assign(price=frame["price"] + 0.125)
        self.changes = pd.DataFrame({"row": frame.index, "column": "price"})

    status = Status.max_steps

    def summary(self):
        return "Refined."

    def report(self, path):
        Path(path).write_text("<html></html>", "utf-8")


@pytest.fixture
def fake_refine(monkeypatch):
    """`refine` replaced; gives the list of the calls' arguments."""
    calls = []

    def refine(frame, progress, **arguments):
        progress("train", 1, 2)
        progress("refine", 1, 1)
        calls.append(arguments)
        return FakeRefinement(frame)

    monkeypatch.setattr(_refine, "refine", refine)
    return calls


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A small table, alone in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = Path("houses.csv")
    path.write_text("\n".join(LINES) + "\n", "utf-8")
    return path


def listing():
    return sorted(str(p) for p in Path().rglob("*"))


def refusal(capsys, *arguments):
    """The one line that is left of a mistake."""
    assert main([str(a) for a in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("denograd-jax: ")
    return output.err


def test_repairs_a_real_file(tmp_path, capsys, rng):
    x = rng.normal(size=80)
    frame = pd.DataFrame({"x": x.round(3), "name": "a", "y": (2 * x).round(3)})
    frame.loc[5, "x"] = np.nan
    source, out = tmp_path / "in.csv", tmp_path / "out.parquet"
    frame.to_csv(source, index=False)
    outputs = {"--out": out, "--changes": tmp_path / "c.csv", "--report": tmp_path / "r.html"}
    arguments = ["--target", "y", "--max-epochs", 2, "--max-steps", 3, "--freeze", "x"]
    command = ["refine", source, *arguments, *(p for pair in outputs.items() for p in pair)]
    assert main([str(a) for a in command]) == 0
    refined, changes = pd.read_parquet(out), pd.read_csv(tmp_path / "c.csv")
    pd.testing.assert_frame_equal(refined[["x", "name"]], pd.read_csv(source)[["x", "name"]])
    moved = refined["y"] - frame["y"]
    assert (moved != 0).sum() == len(changes) > 0
    np.testing.assert_allclose(moved[changes["row"]], changes["change"], atol=1e-12)
    assert (tmp_path / "r.html").read_text("utf-8").lower().startswith("<!doctype html")
    assert "Wrote" in capsys.readouterr().out


@pytest.mark.slow
def test_repairs_a_real_panel_of_series(tmp_path, capsys):
    steps = np.arange(60)
    frame = pd.DataFrame(
        {
            "time_hour": pd.date_range("2024", periods=60, freq="h").strftime("%d/%b/%Y %H:%M"),
            "origin": np.repeat(["A", "B"], 30),
            "temp": np.sin(steps / 3).round(3),
        }
    )
    source = tmp_path / "in.csv"
    frame.to_csv(source, index=False)
    command = f"refine {source} --window 6 --time time_hour --group origin --model dlinear"
    assert main([*command.split(), "--max-epochs", "2", "--max-steps", "2"]) == 0
    refined = pd.read_csv(tmp_path / "in.refined.csv")
    assert refined[["time_hour", "origin"]].equals(frame[["time_hour", "origin"]])
    assert (refined["temp"] != frame["temp"]).any()
    assert "series" in capsys.readouterr().out


def test_unchanged_cells_keep_their_text(source, fake_refine):
    assert main(["refine", "houses.csv", "--target", "price"]) == 0
    expected = [line.split(",") for line in LINES]
    for cells, price in zip(expected[1:], [3.225, 3.025, 5.125, 19.875, 7.125], strict=True):
        cells[LINES[0].split(",").index("price")] = str(price)
    expected[1][-2:] = ["3.225", '"red', ' dark"']  # the comma inside the quotes
    written = Path("houses.refined.csv").read_text("utf-8").splitlines()
    assert written[0] == LINES[0]
    assert written[2:] == [",".join(cells) for cells in expected[2:]]
    assert written[1] == 'a,00501,2024-01-01,1.50,3.225,"red, dark"'


def test_options_reach_refine(source, fake_refine):
    options = (
        "--series --time day --group colour --group zip --freeze size --horizon 2 --stride 3 "
        "--model lstm --rule gauss_newton --step-size 0.2 --tolerance 0 --max-steps 7 "
        "--training ido --max-epochs 9 --seed 5 --integers --irregular --scale-groups "
        "--causal --lag 2 --warm-up 99 --noise-scale size=0.5 --noise-scale a=b=1 --impute "
        "--bound size=0:9.5 "
        "--bound price=:7 --non-negative id --max-change 1.5 --dry-run --folds 3"
    )
    assert main(["refine", "houses.csv", "--target", "price", *options.split()]) == 0
    assert fake_refine == [
        {
            "target": ["price"],
            "frozen": ["size"],
            "window": 24,
            "horizon": 2,
            "stride": 3,
            "time": "day",
            "groups": ["colour", "zip"],
            "model": "lstm",
            "rule": "gauss_newton",
            "step_size": 0.2,
            "tolerance": 0.0,
            "max_steps": 7,
            "training": "ido",
            "max_epochs": 9,
            "folds": 3,
            "classes": None,
            "soft_labels": False,
            "seed": 5,
            "irregular": "segment",
            "scale": "group",
            "causal": True,
            "lag": 2,
            "warm_up": 99,
            "noise_scale": {"size": 0.5, "a=b": 1.0},
            "impute": True,
            "bounds": {"size": (0.0, 9.5), "price": (None, 7.0)},
            "non_negative": ["id"],
            "integer": True,
            "max_change": 1.5,
        }
    ]


def test_a_window_makes_a_series(source, fake_refine):
    assert main(["refine", "houses.csv", "--window", "3", "--dry-run"]) == 0
    assert fake_refine[0]["window"] == 3


def test_dry_run_prints_and_writes_nothing(source, fake_refine, capsys):
    assert main(["refine", "houses.csv", "--target", "price", "--dry-run"]) == 0
    assert capsys.readouterr().out == "Refined.\nDry run: nothing was written.\n"
    assert listing() == ["houses.csv"]


def test_quiet_prints_nothing(source, fake_refine, capsys):
    assert main(["refine", "houses.csv", "--target", "price", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_help_lists_every_backbone(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["refine", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in backbones.names("windows"):
        assert name in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("houses.csv --target prize", "'prize'"),
        ("houses.csv --target colour", "not numeric"),
        ("houses.csv", "--target"),
        ("houses.csv --target price --horizon 2", "--series"),
        ("houses.csv --target price --bound size", "COLUMN=LOW:HIGH"),
        ("houses.csv --target price --bound size=3", "COLUMN=LOW:HIGH"),
        ("houses.csv --target price --bound size=a:3", "'a' is no number"),
        ("houses.csv --target price --bound sizes=1:3", "'sizes'"),
        ("houses.csv --target price --bound size=3:1", "leave no value"),
        ("houses.csv --target price --noise-scale 0.5", "COLUMN=NUMBER"),
        ("houses.csv --target price --noise-scale size=x", "'x' is no number"),
        ("houses.csv --target price --max-change -1", "--max-change"),
        ("houses.csv --target price --causal", "causal is for a series"),
        ("houses.csv --target price --window 0", "--window"),
        ("houses.csv --target price --step-size -1", "--step-size"),
        ("houses.csv --target price --rule magic", "--rule"),
        ("houses.csv --target price --model magic", "'magic'"),
        ("houses.csv --target price --colour red", "--colour"),
        ("houses.csv --target price --window 9 --time id", "'id'"),
        ("missing.csv --target price", "does not exist"),
        (". --target price", "ending"),
        ("folder.csv --target price", "is a folder"),
        ("houses.csv --target price --out houses.csv --overwrite", "is the input"),
        ("houses.csv --target price --out link.csv --overwrite", "is the input"),
        ("houses.csv --target price --out no/where.csv", "folder no does not exist"),
        ("houses.csv --target price --out taken.csv", "--overwrite"),
        ("houses.csv --target price --out folder.csv", "is a folder"),
        ("houses.csv --target price --out refined.xlsx", "ending"),
        ("houses.csv --target price --changes refined.xlsx", "ending"),
        ("houses.csv --target price --report page.pdf", ".html"),
        ("houses.csv --target price --out a.csv --changes ./a.csv", "two outputs"),
    ],
)
def test_a_mistake_is_one_line(source, capsys, arguments, words):
    Path("folder.csv").mkdir()
    Path("taken.csv").write_text("mine", "utf-8")
    Path("link.csv").symlink_to("houses.csv")
    before = listing()
    assert words in refusal(capsys, "refine", *arguments.split())
    assert listing() == before
    assert Path("taken.csv").read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n", "no rows"),
        ("a,b\n1,Käse\n".encode("latin-1"), "UTF-8"),
        (b"a,b\n1,2\n1,2,3\n", "3 cell(s) in line 3, but 2 in its header"),
        (b"a,b,a\n1,2,3\n", "more than one column 'a'"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(tmp_path, capsys, content, words):
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    assert words in refusal(capsys, "refine", path, "--target", "a")


@pytest.mark.parametrize("name", ["odd.csv.gz", "odd.csv.xz", "odd.csv.bz2", "odd.parquet"])
def test_a_file_that_belies_its_ending_is_one_line(tmp_path, capsys, name):
    path = tmp_path / name
    path.write_bytes(b"a,b\n1,2\n")
    assert "not a table" in refusal(capsys, "refine", path, "--target", "a")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_that_may_not_be_written_to(source, capsys):
    Path("locked").mkdir(mode=0o500)
    arguments = ["refine", "houses.csv", "--target", "price", "--out", "locked/a.csv"]
    assert "may not be written to" in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("typer", "--help"),
        ("rich", "--help"),
        ("pyarrow", "refine houses.csv --target price --out a.parquet"),
        ("jinja2", "refine houses.csv --target price --report a.html"),
    ],
)
def test_a_missing_extra_is_named(source, capsys, monkeypatch, module, arguments):
    monkeypatch.setitem(sys.modules, module, None)
    message = refusal(capsys, *arguments.split())
    assert module in message
    assert 'pip install "denograd-jax[cli]"' in message


def test_overwrite_replaces(source, fake_refine):
    Path("taken.csv").write_text("mine", "utf-8")
    arguments = "refine houses.csv --target price --out taken.csv --overwrite"
    assert main(arguments.split()) == 0
    assert Path("taken.csv").read_text("utf-8").startswith("id,zip")


def test_when_one_output_fails_none_is_written(source, fake_refine, monkeypatch, capsys):
    def fail(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FakeRefinement, "report", fail)
    arguments = "refine houses.csv --target price --changes c.csv --report r.html"
    assert "No space left" in refusal(capsys, *arguments.split())
    assert listing() == ["houses.csv"]


def test_ctrl_c_while_writing_leaves_nothing(source, fake_refine, monkeypatch, capsys):
    def interrupt(self, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeRefinement, "report", interrupt)
    assert main(["refine", "houses.csv", "--target", "price", "--report", "r.html"]) == 130
    assert capsys.readouterr() == ("", "Interrupted; nothing was written.\n")
    assert listing() == ["houses.csv"]


INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from denograd_jax.cli import _screen, entry_point
def announce(self, stage, done, total):
    print(stage, flush=True)
_screen.StageBar.__call__ = announce
entry_point()
"""


@pytest.mark.slow
def test_ctrl_c_while_training(source):
    """A process of its own, interrupted as soon as it says that it trains."""
    arguments = "refine houses.csv --target price --max-epochs 100000 --max-steps 100000000"
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *arguments.split(), "--tolerance", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        stage = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (stage, process.returncode, errors) == (
        "train\n",
        130,
        "Interrupted; nothing was written.\n",
    )
    assert listing() == ["houses.csv"]


def test_the_process_exits_with_the_code(source):
    command = [sys.executable, "-m", "denograd_jax", "refine", "missing.csv", "--target", "price"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "denograd-jax: missing.csv does not exist: check the path.\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["refine", "--help"], []])
def test_help_loads_neither_jax_nor_pandas(arguments):
    call = (
        "import sys; from denograd_jax.cli import main; code = main(); "
        "sys.exit(code or bool({'jax', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", call, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "denograd-jax" in done.stdout


def test_time_may_be_the_index_of_a_parquet_file(tmp_path, monkeypatch):
    frame = pd.DataFrame(
        {"price": [1.0, 2.0]},
        index=pd.DatetimeIndex(["2024-01-01", "2024-01-02"], name="day"),
    )
    frame.to_parquet(tmp_path / "in.parquet")
    seen = []

    def refine(given, **arguments):
        seen.append(given)
        return FakeRefinement(given)

    monkeypatch.setattr(_refine, "refine", refine)
    command = ["refine", str(tmp_path / "in.parquet"), "--series", "--time", "day"]
    assert main(command) == 0
    assert seen[0]["day"].tolist() == frame.index.tolist()
    written = pd.read_parquet(tmp_path / "in.refined.parquet")
    pd.testing.assert_frame_equal(written, frame + 0.125)


def test_default_output_lies_beside_the_input():
    assert _refine.beside(Path("a/b.csv.xz")) == Path("a/b.refined.csv.xz")
    assert _refine.beside(Path("b.c.parquet")) == Path("b.c.refined.parquet")


def test_outputs_appear_together(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    with _outputs.written_together() as aside:
        aside(first).write_text("1", "utf-8")
        aside(second).write_text("2", "utf-8")
        assert not first.exists()
    assert [p.name for p in tmp_path.iterdir()] in (["a", "b"], ["b", "a"])


def test_a_folder_can_be_checked_before_it_is_made(tmp_path):
    _outputs.check_folder(tmp_path / "new" / "newer")
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(FileError, match="is a file"):
        _outputs.check_folder(tmp_path / "file" / "new")


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_line_ends_and_the_mark_of_utf8_are_kept(source, mark, newline):
    """A dry copy by way of zero steps: the file comes back byte by byte."""
    content = Path("houses.csv").read_bytes().replace(b"\n", newline)
    Path("windows.csv").write_bytes(mark + content)
    arguments = "refine windows.csv --target price --max-steps 0 --max-epochs 1 --out same.csv"
    assert main(arguments.split()) == 0
    assert Path("same.csv").read_bytes() == mark + content


def test_decimal_commas_are_refused(source, capsys):
    Path("german.csv").write_text("a;price\n1,5;2\n2,25;3\n")
    assert main(["refine", "german.csv", "--target", "price"]) == 2
    assert "writes numbers with commas (column 'a': 1,5)" in capsys.readouterr().err


def test_time_without_series_is_a_mistake(source, capsys):
    assert main(["refine", "houses.csv", "--target", "price", "--time", "id"]) == 2
    assert "add --series" in capsys.readouterr().err
