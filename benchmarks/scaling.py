"""How time and memory grow with the length of a series, and what several devices say to each other.

    python benchmarks/scaling.py [--steps 1e5 1e6 1e7] [--repeats 5] [--devices 2 4 8]

Each length runs in a process of its own, so that its resident memory is its own: 4 channels, all of
them targets, windows of 64, a perceptron with 16 hidden units, one consensus epoch. The exponent is
the slope of log time by log steps. Devices are virtual ones of this CPU: they share its cores, so
only what they send is worth reading, not their time.
"""

import argparse
import json
import math
import os
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from denograd_jax import Model, layouts, refiner

CHANNELS, WINDOW, HIDDEN = 4, 64, 16


def predict_batch(params, windows):
    return jnp.tanh(windows.reshape(len(windows), -1) @ params["in"]) @ params["out"]


def predict(params, window):
    return predict_batch(params, window[None])[0]


def weights():
    rng = np.random.default_rng(0)
    return {
        "in": np.float32(rng.normal(size=(WINDOW * CHANNELS, HIDDEN)) / 16),
        "out": np.float32(rng.normal(size=(HIDDEN, CHANNELS))),
    }


def problem(steps, mesh=None):
    """A refiner and the state it begins with."""
    layout = layouts.windows(WINDOW, target_columns=range(CHANNELS))
    r = refiner(Model(predict, None, predict_batch), layout=layout, mesh=mesh)
    series = np.random.default_rng(1).standard_normal((steps, CHANNELS), dtype=np.float32)
    return r, r.init(series)


def measure(steps, repeats):
    """Seconds of a step, and the largest resident memory in GiB, of this process."""
    r, state = problem(steps)
    params, times = weights(), []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(r.step(params, state))
        times.append(time.perf_counter() - begin)
    compiled = r.step.lower(params, state).compile().memory_analysis()
    buffers = sum(
        getattr(compiled, f"{kind}_size_in_bytes") for kind in ("argument", "output", "temp")
    )
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": statistics.median(times[1:]), "resident": resident, "buffers": buffers}


def lengths(options):
    print("| steps | s/epoch | resident, GiB | buffers, bytes per step |\n|---|---|---|---|")
    found = {}
    for steps in (int(float(s)) for s in options.steps):
        command = [sys.executable, __file__, "--measure", str(steps)]
        command += ["--repeats", str(options.repeats)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        row = json.loads(output)
        found[steps] = row["seconds"]
        print(
            f"| {steps:,} | {row['seconds']:.3g} | {row['resident']:.2f} "
            f"| {row['buffers'] / steps:.0f} |",
            flush=True,
        )
    if len(found) > 1:
        slope = np.polyfit(np.log(list(found)), np.log(list(found.values())), 1)[0]
        print(f"\nTime grows with the steps to the power of {slope:.3f}.\n")


def devices(options):
    """Bytes that cross each border in an epoch, read off the compiled program."""
    print("| devices | steps | sent over a border, bytes | largest difference to one device |")
    print("|---|---|---|---|")
    for steps in (10_000, 1_000_000):
        r, state = problem(steps)
        alone = r.step(weights(), state)[0].data.x
        for number in options.devices:
            mesh = Mesh(np.array(jax.devices()[:number]), ("time",))
            r, state = problem(steps, mesh)
            text = r.step.lower(weights(), state).compile().as_text()
            sent = sum(map(bytes_of, re.findall(r"= (.*) collective-permute\(", text)))
            refined = r.step(weights(), state)[0].data.x[:steps]
            print(f"| {number} | {steps:,} | {sent:,} | {jnp.abs(refined - alone).max():.1e} |")


def bytes_of(shape):
    """Bytes of an array as the compiled program writes its shape, such as f32[64,4]{1,0}."""
    kind, sizes = re.match(r"(\w+)\[([\d,]*)\]", shape).groups()
    size = 1 if kind == "pred" else int(re.search(r"\d+", kind)[0]) // 8
    return size * math.prod(int(s) for s in sizes.split(",") if s)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", nargs="+", default=["1e5", "1e6", "1e7"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--devices", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.repeats)))
        return
    jax.config.update("jax_num_cpu_devices", max(options.devices))
    print(
        f"`python {shlex.join(sys.argv)}`: {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, jax {jax.__version__}\n"
    )
    lengths(options)
    devices(options)


if __name__ == "__main__":
    main()
