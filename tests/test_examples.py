"""The examples run, and show what they say."""

import runpy
from pathlib import Path

import jax
import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
QUICK = {"pytorch_drop_in", "training_loop"}


@pytest.mark.parametrize(
    "path",
    [p if p.stem in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_example(path, capsys):
    if "torch" in path.read_text():
        pytest.importorskip("torch")
    with jax.numpy_dtype_promotion("standard"):  # optax.adam itself mixes integers and floats
        shown = runpy.run_path(str(path))["main"]()
    assert all(shown.values()), {k: v for k, v in shown.items() if not v}
    assert capsys.readouterr().out
