"""Targets of classes on the command line: `refine`, `fit`, `apply`, `find-noisy`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denograd_jax import find_noisy
from denograd_jax.cli import main

ROWS = 120
NAMES = np.array(["ant", "bee"])


def insects():
    """Two clusters in the plane; four labels are wrong."""
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 2, ROWS)
    X = (rng.normal(size=(ROWS, 2)) + 4 * codes[:, None]).round(3)
    codes[:4] = 1 - codes[:4]
    return pd.DataFrame(X, columns=["u", "v"]).assign(kind=NAMES[codes], code=codes + 1)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("insects.csv")
    insects().drop(columns="code").to_csv(path, index=False)
    insects().drop(columns="kind").to_csv("codes.csv", index=False)
    return path


def run(line):
    return main(line.split())


def refusal(capsys, line):
    """The one line that is left of a mistake, and nothing written."""
    before = sorted(Path().iterdir())
    assert run(line) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert sorted(Path().iterdir()) == before
    return err.removeprefix("denograd-jax: ")


def test_refine_takes_labels_as_they_are(source, capsys):
    line = f"refine {source} --target kind --max-epochs 2 --max-steps 2 --tolerance 0"
    assert run(f"{line} -o out.csv --soft-labels soft.csv --report page.html") == 0
    out = capsys.readouterr().out
    assert "2 classes of kind: ant" in out
    assert "Wrote out.csv, page.html, soft.csv." in out
    refined, given = pd.read_csv("out.csv"), pd.read_csv(source)
    pd.testing.assert_series_equal(refined["kind"], given["kind"])
    assert (refined["u"] != given["u"]).mean() > 0.9
    soft = pd.read_csv("soft.csv")
    assert list(soft) == ["ant", "bee"]
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    assert "Classes and labels" in Path("page.html").read_text("utf-8")


@pytest.mark.slow
def test_whole_numbers_are_classes_when_told(source, capsys):
    line = "codes.csv --target code --max-epochs 2"
    assert run(f"fit {line} --classes model") == 0
    assert "classes" not in capsys.readouterr().err
    assert run("apply model codes.csv --max-steps 1 -o out.csv --soft-labels soft.parquet") == 0
    assert "2 classes of code: 1 " in capsys.readouterr().out
    refined, given = pd.read_csv("out.csv"), pd.read_csv("codes.csv")
    pd.testing.assert_series_equal(refined["code"], given["code"])
    assert list(pd.read_parquet("soft.parquet")) == ["1", "2"]
    assert run(f"refine {line} --max-steps 1 -o quantities.csv") == 0
    assert "classes of code" not in capsys.readouterr().out
    words = refusal(capsys, f"refine {line} --soft-labels soft.csv")
    assert "soft_labels is for a target of classes" in words


@pytest.mark.slow
def test_find_noisy_ranks_rows(source, capsys):
    line = f"find-noisy {source} --target kind --model linear --rounds 1 --folds 3"
    assert run(f"{line} --corrected better.csv --report page.html") == 0
    out = capsys.readouterr().out
    assert "2 classes: about" in out
    assert "The most suspicious rows, counted from 0:" in out
    assert "Wrote insects.ranked.csv, better.csv, page.html." in out
    ranked, given = pd.read_csv("insects.ranked.csv"), pd.read_csv(source)
    expected = find_noisy(given, "kind", model="linear", rounds=1, folds=3)
    pd.testing.assert_frame_equal(ranked, expected.table.reset_index(drop=True), check_dtype=False)
    assert set(ranked["row"][:4]) == {0, 1, 2, 3}
    assert expected.in_words()[0] in Path("page.html").read_text("utf-8")
    better = pd.read_csv("better.csv")
    np.testing.assert_array_equal(better["kind"], expected.corrected())
    pd.testing.assert_frame_equal(better[["u", "v"]], given[["u", "v"]])
    kept = [line for line in source.read_text().splitlines() if "," in line]
    same = [a == b for a, b in zip(kept, Path("better.csv").read_text().splitlines(), strict=True)]
    assert sum(same) == ROWS + 1 - (better["kind"] != given["kind"]).sum()


@pytest.mark.slow
def test_find_noisy_fills_labels_of_whole_numbers(source):
    codes = pd.read_csv("codes.csv")
    codes["code"] = codes["code"].astype("Int64").where(codes.index != 9)
    codes.to_csv("gaps.csv", index=False)
    line = "find-noisy gaps.csv --target code --model linear --rounds 1 --folds 2 --quiet"
    assert run(f"{line} -o ranked.parquet --corrected better.csv") == 0
    assert pd.read_csv("better.csv")["code"].dtype == np.int64
    assert len(pd.read_parquet("ranked.parquet")) == ROWS


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("find-noisy gone.csv --target kind", "gone.csv does not exist"),
        ("find-noisy insects.csv", "--target"),
        ("find-noisy insects.csv --target weight", "there is no column 'weight'"),
        ("find-noisy insects.csv --target u", "column 'u' holds"),
        ("find-noisy insects.csv --target kind --model forest", "no backbone 'forest' for rows"),
        ("find-noisy insects.csv --target kind --folds 1", "--folds"),
        ("find-noisy insects.csv --target kind -o insects.csv", "is the input, which is never"),
        ("find-noisy insects.csv --target kind -o ranked.txt", "no ending of a table"),
        ("find-noisy insects.csv --target kind -o a.csv --corrected a.csv", "named for two"),
        ("find-noisy insects.csv --target kind --report page.pdf", "let its name end in .html"),
        ("refine insects.csv --target kind --window 4", "holds classes, which are for rows"),
        ("refine insects.csv --target kind --rule gauss_newton", "soft_labels=True"),
        ("refine insects.csv --target u --classes", "column 'u' holds"),
        ("refine insects.csv --target kind --soft-labels soft.txt", "no ending of a table"),
    ],
)
def test_refusals(source, capsys, line, says):
    assert says in refusal(capsys, line)
