"""The page of `find_noisy`: its numbers, hostile names, missing labels, no such folder."""

import re

import numpy as np
import pandas as pd
import pytest

from denograd_jax import find_noisy
from denograd_jax.errors import FileError
from tests.report_pages import EVIL, Page

ROWS = 200
CLASSES = ["ant", "bee", "cat"]


def judged(given, probabilities, index=None):
    """What is found with probabilities that are told, so that no model is trained."""
    X = pd.DataFrame({"u": np.random.default_rng(0).normal(size=len(given))}, index=index)
    y = pd.Series(given, X.index)
    return find_noisy(X, y, probabilities=probabilities)


def mistaken(rows=ROWS, wrong=20, names=CLASSES):
    """Given labels, of which the first few call a "bee" an "ant", and sure probabilities."""
    true = np.arange(rows) % 3
    true[:wrong] = 1
    probabilities = 0.96 * np.eye(3)[true] + 0.02 * (1 - np.eye(3)[true])
    given = true.copy()
    given[:wrong] = 0
    return np.array(names, object)[given], probabilities


def written(found, tmp_path):
    path = tmp_path / "page.html"
    found.report(path)
    source = path.read_text("utf-8")
    return source, Page(source)


def test_the_page_says_what_was_found(tmp_path):
    found = judged(*mistaken())
    _, page = written(found, tmp_path)
    assert found.in_words()[0] in page.text
    first = found.table.iloc[0]
    line = page.row(str(first["row"]))
    assert line[1:4] == ["ant", "bee", f"{first['label_wrong']:.1%}"]
    counts = found.joint.to_numpy() * ROWS
    pair = next(row for row in page.table_rows if row[:2] == ["ant", "bee"])
    assert pair[2:] == [f"{counts[1, 0]:,.1f}", f"{counts[1, 0] / counts[:, 0].sum():.1%}"]
    of_ants = page.row("ant")  # the first table that begins a line so is that of the mistakes
    assert of_ants == pair
    of_bees = next(row for row in page.table_rows if row[0] == "bee" and len(row) == 5)
    assert of_bees[1] == f"{(found.labels.codes == 1).sum()}"
    assert of_bees[3] == f"{counts[1].sum():,.1f}"
    assert page.count("svg") == 2


def test_reading_as_far_as_told_finds_half_and_most(tmp_path):
    found = judged(*mistaken())
    _, page = written(found, tmp_path)
    half, most = map(int, re.search(r"first (\d+) rows.*first (\d+)\.", page.text).groups())
    wrong = found.table["label_wrong"].to_numpy()
    for rows, share in ((half, 0.5), (most, 0.9)):
        assert wrong[:rows].sum() >= share * wrong.sum() > wrong[: rows - 1].sum()


def test_it_runs_nothing_and_asks_for_nothing(tmp_path):
    source, page = written(judged(*mistaken()), tmp_path)
    assert page.count("script") == 0
    policy = next(given for tag, given in page.tags if "http-equiv" in given)
    assert "script-src 'none'" in policy["content"]
    assert not re.search(r"""(?:src|href)=["'](?!#)""", source)
    assert len(source) < 200_000


def test_names_stay_text(tmp_path):
    names = [EVIL, "bee", "cat"]
    given, probabilities = mistaken(names=names)
    index = [f"{EVIL}{i}" for i in range(ROWS)]
    probabilities = pd.DataFrame(probabilities, columns=names)
    found = judged(given, probabilities.to_numpy()[:, np.argsort(names)], index)
    _, page = written(found, tmp_path)
    assert page.count("script") == 0
    assert any(row[0].startswith("0 · </script>") for row in page.table_rows)


def test_missing_labels_and_clean_ones(tmp_path):
    given, probabilities = mistaken(wrong=0)
    given[5] = None
    _, page = written(judged(given, probabilities), tmp_path)
    assert "1 row has no label" in page.text
    assert "No kind of mistake is expected" in page.text


def test_a_page_that_cannot_be_written(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        judged(*mistaken()).report(tmp_path / "none" / "page.html")
