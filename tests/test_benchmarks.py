"""The benchmarks run, at tiny sizes; what they measure is not looked at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"

CASES = {
    "agreement": [],
    "frames": ["--rows", "500", "--columns", "3", "--series", "4", "--updates", "20"],
    "leakage": [],
    "bridges": ["--batch", "20", "--repeats", "1", "--cases", "mlp", "dlinear"],
    "robust": ["--quick", "--only-data", "digits", "--only-methods", "plain", "IDO"],
    "scaling": ["--steps", "1e4", "2e4", "--repeats", "1", "--devices", "2"],
    "solvers": ["--steps", "300", "--window", "4"],
    "speed": ["--quick", "--no-peers", "--repeats", "1", "--cases", "mlp", "dlinear"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_benchmark(name, tmp_path):
    if name in ("bridges", "speed"):
        pytest.importorskip("torch")
    lenient = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    found = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *CASES[name]],
        capture_output=True,
        text=True,
        env=lenient | {"JAX_PLATFORMS": "cpu"},
        cwd=tmp_path,  # some write their results
        timeout=600,
    )
    assert found.returncode == 0, found.stderr
    rows = [line for line in found.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) > 2
    assert "nan" not in found.stdout
