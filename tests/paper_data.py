"""Small tables and series in place of those of the paper's study."""

import numpy as np
import pandas as pd
import pytest

for module in ("matplotlib", "pyarrow", "rich", "scipy", "sklearn"):
    pytest.importorskip(module)

from benchmarks.paper import copies

KINDS = {k.name: k for k in copies.KINDS}
SIGMA = KINDS["sigma 0.1"]


def frame(kind, rows=300):
    """Columns a, b, y; the target follows from the others, and a series is smooth."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, rows))
    if kind == "series":
        a, b = np.sin(np.arange(rows) / 9), np.cos(np.arange(rows) / 5)
    return pd.DataFrame({"a": a, "b": 100 * b, "y": 2 * a - b + 0.1 * rng.normal(size=rows)})
