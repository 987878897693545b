"""Measure what the bridges convert, and write docs/conversion_matrix.md.

    python docs/conversion_matrix.py

Run from the repository's root: the modules and checks are those of the tests.
"""

import platform
import sys
from pathlib import Path

import jax
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from denograd_jax import bridges
from denograd_jax.errors import UnsupportedError
from tests.bridge_checks import CHECKS
from tests.torch_zoo import ZOO, build

PAGE = Path(__file__).with_suffix(".md")
INTRODUCTION = """# What the bridges convert

`python docs/conversion_matrix.py` wrote this page ({versions}). Each module of
[tests/torch_zoo.py](../tests/torch_zoo.py) was exported and converted by `bridges.from_torch`; the
numbers are the largest difference to PyTorch relative to the largest value, for forward and input
gradient in batches of 1, 3 and 17. `tests/test_bridges_matrix.py` holds 1e-5 in float32 and 1e-11
in float64.

"""


def row(name, dtype):  # noqa: D103
    module = build(name, dtype)
    shape = ZOO[name][1]
    try:
        model = bridges.from_torch(module, torch.zeros(2, *shape), check=False)
    except UnsupportedError as error:
        return f"| {name} | {dtype} | refused: {str(error).partition('(')[0].strip()} |" + " |" * 6
    errors = [f"{check(model, module, shape, dtype):.0e}" for check in CHECKS]
    return f"| {name} | {dtype} | " + " | ".join(errors) + " |"


def main():  # noqa: D103
    torch.set_num_threads(1)
    versions = (
        f"Python {platform.python_version()}, jax {jax.__version__}, torch {torch.__version__}"
    )
    titles = [check.__name__.replace("_", " ") for check in CHECKS]
    lines = [
        "| module | precision | " + " | ".join(titles) + " |",
        "|---" * (len(titles) + 2) + "|",
    ]
    for name in ZOO:
        for dtype in ("float32", "float64"):
            with jax.enable_x64(dtype == "float64"):
                lines.append(row(name, dtype))
            print(lines[-1], flush=True)
    PAGE.write_text(INTRODUCTION.format(versions=versions) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
