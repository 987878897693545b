"""Frames at size: memory of the record of changes, compilations of a panel, speed of updates.

    python benchmarks/frames.py [--rows 117915] [--columns 82] [--series 1000] [--updates 100000]

Each part runs in a process of its own, as its peak memory (resident, from the system) is that of a
process. Data are made up: what is measured does not depend on the values.
"""

import argparse
import multiprocessing
import os
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def now() -> float:
    """Memory that this process has, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def total(x):
    """The simplest model, under which every cell moves."""
    return x.sum()


def change_report(rows: int, columns: int) -> None:
    from denograd_jax import refine

    values = np.random.default_rng(0).normal(size=(rows, columns))
    frame = pd.DataFrame(values, columns=[f"c{j}" for j in range(columns)])
    del values
    size = frame.memory_usage(deep=True).sum() / 2**20
    print(f"| the frame, {rows:,} x {columns} | {size:.0f} MB | | |")
    refine(frame.head(1000), "c0", model=total, max_steps=1)  # libraries are loaded and warm

    def stage(name, call):
        start = time.perf_counter()
        found = call()
        seconds = time.perf_counter() - start
        print(f"| {name} | {now():.0f} MB | {peak():.0f} MB | {seconds:.1f} s |")
        return found

    print(f"| before refine | {now():.0f} MB | {peak():.0f} MB | |")
    refined = stage("refine, 3 steps", lambda: refine(frame, "c0", model=total, max_steps=3))
    stage("`.top(1000)`", lambda: refined.top(1000))
    changes = stage("`.changes`", lambda: refined.changes)
    print(f"| lines of `.changes` | {len(changes):,} | | |")
    held = changes.memory_usage(deep=False).sum() / 2**20
    print(f"| the table of changes itself | {held:.0f} MB | | |")
    stage("`.reject(mask)`", lambda: refined.reject((changes["sigmas"].abs() > 0.05).to_numpy()))


def panel(series: int) -> None:
    import jax

    from denograd_jax import refine

    compiled = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    rng = np.random.default_rng(0)

    def make(count, seed):
        lengths = np.random.default_rng(seed).integers(30, 81, count)
        lengths[-1] += 55 * count - lengths.sum() if count > 50 else 0  # rows together
        lengths = np.maximum(lengths, 30)
        return [pd.DataFrame(rng.normal(size=(n, 2)).cumsum(axis=0)) for n in lengths]

    whole = pd.concat(make(series, 0), ignore_index=True)
    for name, data in (
        ("one series of as many rows", whole),
        (f"{series:,} series", make(series, 1)),
        (f"{series:,} series, other lengths, again", make(series, 2)),
    ):
        rows = len(data) if isinstance(data, pd.DataFrame) else sum(map(len, data))
        compiled.clear()
        start = time.perf_counter()
        refine(data, window=12, rule="unit_step", max_epochs=3)
        seconds = time.perf_counter() - start
        print(f"| {name}, {rows:,} rows | {len(compiled)} compilations | | {seconds:.1f} s |")


def updates(count: int) -> None:
    from denograd_jax import OnlineRefiner, fit

    rng = np.random.default_rng(0)
    fitted = fit(rng.normal(size=(500, 3)).cumsum(axis=0), window=24, max_epochs=3)
    online = OnlineRefiner(fitted, rule="unit_step", lag=2)
    rows = rng.normal(size=(1000, 1, 3))
    for row in rows[:100]:
        online.update(row)
    begin, start = now(), time.perf_counter()
    for number in range(count):
        online.update(rows[number % 1000])
    seconds = time.perf_counter() - start
    each = 1000 * seconds / count
    print(f"| {count:,} updates of one row | {now() - begin:+.1f} MB | | {each:.2f} ms each |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=117_915)
    parser.add_argument("--columns", type=int, default=82)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--updates", type=int, default=100_000)
    given = parser.parse_args()
    print("| | | peak | time |\n|---|---|---|---|", flush=True)
    parts = (
        (change_report, (given.rows, given.columns)),
        (panel, (given.series,)),
        (updates, (given.updates,)),
    )
    context = multiprocessing.get_context("spawn")
    for part, arguments in parts:
        process = context.Process(target=part, args=arguments)
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
