"""One series on the devices of several hosts, by `jax.distributed`.

    python examples/multihost.py

starts two processes here, each with two CPU devices, and compares their result with that of one
device. On a cluster start the same file once per host, with `--worker`:

    python examples/multihost.py --worker                                   (TPU pod, Slurm)
    python examples/multihost.py --worker --coordinator HOST:PORT --processes 4 --id 0   (else)

Every host maps the same file and reads its own blocks of steps only; it writes its own blocks too.
A step sends `length + horizon - 1` steps of the series over each border between two devices, and
the same number of sums back, whatever the length of the series.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

STEPS, CHANNELS, LENGTH = 1003, 3, 8


def refine(series, mesh):
    """Refine by a linear forecaster whose weights every host has."""
    from denograd_jax import layouts, refiner, run

    r = refiner(forecast, layout=layouts.windows(LENGTH, target_columns=range(3)), mesh=mesh)
    weights = np.full((CHANNELS, LENGTH), 1 / LENGTH, np.float32)
    return run(r, weights, r.init(series), max_steps=20)


def forecast(weights, window):
    return (weights * window.T).sum(axis=1)


def work(options):
    """What each host does."""
    import jax

    if options.coordinator:
        jax.distributed.initialize(options.coordinator, options.processes, options.id)
    else:
        jax.distributed.initialize()
    from jax.sharding import Mesh

    devices = np.array(jax.devices())
    print(f"process {jax.process_index()}: {jax.local_device_count()} of {len(devices)} devices")
    series = np.load(options.series, mmap_mode="r")
    solution = refine(series, Mesh(devices, ("time",)))
    refined = np.lib.format.open_memmap(options.out, mode="r+")
    for shard in solution.x.addressable_shards:
        steps = range(*shard.index[0].indices(len(series)))  # without the padding
        refined[steps.start : steps.stop] = shard.data[: len(steps)]
    refined.flush()
    jax.distributed.shutdown()


def main():
    """Two processes on this machine, and one device for comparison."""
    with tempfile.TemporaryDirectory() as folder:
        given, refined = Path(folder, "series.npy"), Path(folder, "refined.npy")
        rng = np.random.default_rng(0)
        wave = np.sin(np.arange(STEPS)[:, None] / 20 + np.arange(CHANNELS))
        np.save(given, np.float32(wave + 0.3 * rng.normal(size=wave.shape)))
        np.save(refined, np.zeros_like(np.load(given)))
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        command = [sys.executable, __file__, "--worker", "--coordinator", address]
        command += ["--processes", "2", "--series", str(given), "--out", str(refined)]
        two_devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
        on_cpu = os.environ | two_devices | {"JAX_PLATFORMS": "cpu"}
        hosts = [subprocess.Popen([*command, "--id", str(i)], env=on_cpu) for i in range(2)]
        if any(host.wait(timeout=300) for host in hosts):
            raise SystemExit("a process failed, see above")
        alone = refine(np.load(given), None).x
        difference = np.abs(np.load(refined) - alone).max()
        move = np.abs(np.load(refined) - np.load(given)).max()
    print(f"largest difference to one device: {difference:.1e}, largest move: {move:.2f}")
    return {"equals one device": difference < 1e-6, "moved": move > 0.1}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", action="store_true", required=True, help="be one host")
    parser.add_argument("--coordinator", help="address of the first process, host:port")
    parser.add_argument("--processes", type=int, help="how many there are")
    parser.add_argument("--id", type=int, help="which of them this is, from 0")
    parser.add_argument("--series", default="series.npy", help="on a disk that all hosts see")
    parser.add_argument("--out", default="refined.npy", help="of the same shape, existing")
    return parser.parse_args()


if __name__ == "__main__":
    work(arguments()) if len(sys.argv) > 1 else main()
