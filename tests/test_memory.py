"""Memory: the buffers of the series and one chunk, however long the windows are."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax import Model, global_refiner, layouts, refiner

CHANNELS = 4


def predict_batch(params, windows):
    return jnp.tanh(windows.reshape(len(windows), -1) @ params["in"]) @ params["out"]


def predict(params, window):
    return predict_batch(params, window[None])[0]


def buffers(build, steps, length, chunk_size=None):
    """Bytes of arguments, results and everything between, of one compiled step."""
    model = Model(predict, None, predict_batch)
    layout = layouts.windows(length, target_columns=range(CHANNELS))
    r = build(model, layout=layout, chunk_size=chunk_size)
    params = {"in": jnp.zeros((length * CHANNELS, 8)), "out": jnp.zeros((8, CHANNELS))}
    state = jax.eval_shape(r.init, np.zeros((steps, CHANNELS), np.float32))
    found = r.step.lower(params, state).compile().memory_analysis()
    kinds = "argument", "output", "temp"
    return sum(getattr(found, f"{kind}_size_in_bytes") for kind in kinds)


@pytest.mark.parametrize(("build", "most"), [(refiner, 35), (global_refiner, 49)])
@pytest.mark.parametrize("length", [16, 64])
def test_bytes_per_cell(build, most, length):
    """What a cell of the series adds does not depend on the window: docs/long_series.md."""
    few, many = (buffers(build, steps, length) for steps in (200_000, 400_000))
    assert (many - few) / (200_000 * CHANNELS) < most


def test_chunk_size_bounds_the_rest():
    """Of a short series with long windows almost all memory is the chunk's."""
    small, large = (buffers(refiner, 20_000, 256, chunk_size) for chunk_size in (16, 4096))
    assert small < 8e6
    assert large - small > 4096 * 256 * CHANNELS * 4  # at least one copy of the windows


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_ten_million_steps_in_three_gib():
    script = """
import re, pathlib
import jax, numpy as np
from denograd_jax import Model, layouts, refiner, run
from tests.test_memory import predict, predict_batch
series = np.random.default_rng(0).standard_normal((10_000_000, 4), dtype=np.float32)
params = {"in": np.full((64 * 4, 16), 0.01, np.float32), "out": np.ones((16, 4), np.float32)}
layout = layouts.windows(64, target_columns=range(4))
r = refiner(Model(predict, params, predict_batch), layout=layout)
solution = run(r, params, r.init(series), max_steps=1)
assert 1e-3 < abs(np.asarray(solution.x[5_000_000]) - series[5_000_000]).max() < 0.05
# Of this program alone; getrusage also counts the process that it was forked from.
status = pathlib.Path("/proc/self/status").read_text()
print(int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 2**20)
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=600
    )
    assert found.returncode == 0, found.stderr
    print(f"\n10,000,000 steps x 4, W = 64: {float(found.stdout):.2f} GiB resident", end="")
    assert float(found.stdout) < 3
