"""The examples run, and show what they say."""

import runpy
from pathlib import Path

import jax
import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SLOW = {
    "cross_validation",
    "houses",
    "learn_tolerance",
    "multihost",
    "pytorch_frame",
    "pytorch_series",
    "weather",
}


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow) if p.stem in SLOW else p for p in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_example(path, capsys):
    if "torch" in path.read_text():
        pytest.importorskip("torch")
    with jax.numpy_dtype_promotion("standard"):  # optax.adam itself mixes integers and floats
        shown = runpy.run_path(str(path))["main"]()
    assert all(shown.values()), {k: v for k, v in shown.items() if not v}
    assert capsys.readouterr().out
