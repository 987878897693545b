"""How long is an epoch, beside the PyTorch package `denograd` and beside the bare gradient?

    python benchmarks/speed.py [--cases mlp-17420 lstm ...] [--repeats 5] [--no-peers] [--quick]

Prints seconds per epoch over synthetic data (medians; the contestants take turns, warmed
up; in brackets the least and the most, and the ratio of the least):

- theirs: `denograd` 1.1.0, and 2.0.0 by window (rows: as it is) and global, each in a process of
  its own (see peers.py), without gradient lists or progress bar, at the faster of two batch sizes;
  the slope between two numbers of epochs, so that what is not an epoch is free (where an epoch
  takes longer than --peer-limit, one run on a prefix is scaled up, and the table says so);
- ours: one jitted `step`; compilation has a column of its own;
- cores at other work: must be near 0, or torch's threads wait for each other at every step, and
  "theirs" is many times too long;
- floor: value and input gradient of the same JAX model over windows cut beforehand, and nothing
  else, at the fastest of CHUNKS.

All have the same weights, and both sides must refine the same before the clock runs.
"""

import argparse
import math
import os
import platform
import shlex
import statistics
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import peers
import torch

from denograd_jax import Model, bridges, global_refiner, layouts, refiner, rules

CHUNKS = (256, 512, 1024, 2048, 4096, 8192, 16384)
FLOOR_TRIAL = 20_000  # rows or steps on which the floor's chunk size is chosen
OPEN_GATE = 0.0  # a tolerance that lets every instance in, so that no epoch is left out
PAIRS = {"unit_step": "1.1.0", "gauss_newton": "2.0.0 window", "global": "2.0.0 global"}


# Cases: a model, data, and what both sides call them.


class Case(NamedTuple):
    """A model on a series of `steps` x `channels` cut into windows, or on rows (window None)."""

    model: str
    steps: int
    channels: int
    window: int | None

    @property
    def name(self):
        """As `--cases` knows it."""
        return f"{self.model}-{self.steps}"


def crossed(*sizes):
    return [Case(model, *size) for size in sizes for model in ("mlp", "lstm", "cnn", "dlinear")]


CASES = [
    *crossed((17_420, 7, 24), (35_064, 12, 96), (1_000_000, 4, 24)),
    Case("mlp", 117_915, 82, None),
]
QUICK_CASES = [*crossed((600, 3, 8)), Case("mlp", 500, 6, None)]


class Problem:
    """A case made ready for both sides."""

    def __init__(self, case):
        torch.manual_seed(0)
        self.case = case
        self.module = peers.module_of(case)
        self.model = jax_model(case, self.module)
        self.params = jax.device_put(self.model.params)
        self.x, self.y = random_walk(case.steps, case.channels)
        self.layout = layouts.windows(case.window) if case.window else layouts.rows()
        self.fit = {"is_ts": True, "window_size": case.window} if case.window else {}
        refuse_different(self.model, self.module, self.cut(2 * (case.window or 0) + 64)[0])

    def cut(self, steps=None):
        """Inputs and targets of the instances of the first steps, materialised."""
        x, y, length = self.x[:steps], self.y[:steps], self.case.window
        if length is None:
            return x, y
        views = np.lib.stride_tricks.sliding_window_view(x[:-1], length, axis=0)
        return np.ascontiguousarray(views.swapaxes(1, 2)), y[length:]


def jax_model(case, module):
    batched = {"cnn": convolutional, "dlinear": decomposition_linear}.get(case.model)
    if batched is None:
        shape = (case.window, case.channels) if case.window else (case.channels,)
        return bridges.from_torch(module, np.zeros((2, *shape), np.float32))
    params = {k: v.detach().numpy() for k, v in module.state_dict().items()}
    return Model(lambda params, x: batched(params, x[None])[0], params, batched)


def convolutional(p, x):
    """As `peers.Convolutional`; a convolution is one matrix product, XLA's own is slower."""
    for layer in ("first", "second"):
        weight = p[f"{layer}.weight"]  # (filters, channels, size)
        size = weight.shape[2]
        taps = [x[:, i : x.shape[1] - size + 1 + i] for i in range(size)]
        kernel = weight.transpose(2, 1, 0).reshape(-1, weight.shape[0])
        x = jax.nn.relu(jnp.concatenate(taps, axis=2) @ kernel + p[f"{layer}.bias"])
    return x.mean(axis=1) @ p["head.weight"].T + p["head.bias"]


def decomposition_linear(p, x):
    """As `peers.DecompositionLinear`."""
    trend = p["average"] @ x

    def linear(name, part):
        return part.reshape(len(x), -1) @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    return linear("trend", trend) + linear("season", x - trend)


def random_walk(steps, channels):
    """Standardised series that forget slowly, and a target among them; values do not matter."""
    rng = np.random.default_rng(0)
    series = rng.normal(size=(steps, channels + 1)).astype(np.float32).cumsum(axis=0)
    series -= series.mean(axis=0)
    series /= series.std(axis=0)
    return series[:, :channels].copy(), series[:, channels].copy()


def refuse_different(model, module, windows):
    theirs = module(torch.tensor(windows)).detach().numpy()
    difference = np.abs(model.predict_batch(model.params, windows) - theirs).max()
    if not difference < 1e-5:
        raise SystemExit(f"{type(module).__name__}: torch and JAX differ by {difference:.1e}")


# Contestants: each measures the seconds of one epoch, over and over.


class Compiled:
    """`advance(*arguments, state) -> state` of ours, compiled once, then run warm."""

    def __init__(self, advance, arguments, state, seconds):
        begin = time.perf_counter()
        self.advance = jax.jit(advance).lower(*arguments, state).compile()
        self.compilation = time.perf_counter() - begin
        self.arguments, self.state, self.epochs = arguments, state, 1
        warm_up = self.measure()
        self.epochs = 1 if warm_up > seconds else math.ceil(seconds / self.measure())
        self.times, self.once, self.note = [], False, ""

    def measure(self):
        """Seconds of one epoch."""
        begin = time.perf_counter()
        state = self.state
        for _ in range(self.epochs):
            state = self.advance(*self.arguments, state)
        jax.block_until_ready(state)
        return (time.perf_counter() - begin) / self.epochs


def floor(problem, seconds):
    """The bare gradient at its fastest chunk size, found on the beginning of the data."""
    x, y = problem.cut(FLOOR_TRIAL)
    chunks = sorted({min(chunk, len(x)) for chunk in CHUNKS})
    trials = [bare_gradient(problem, x, y, chunk, seconds).measure() for chunk in chunks]
    chunk = chunks[int(np.argmin(trials))]
    whole = bare_gradient(problem, *problem.cut(), chunk, seconds)
    whole.note = f", chunks of {chunk:,}"
    return whole


def bare_gradient(problem, x, y, chunk, seconds):
    """Summed squared error and its input gradient, chunk by chunk; only a sum of it is kept."""

    def error(x, params, y):
        return jnp.sum((problem.model.predict_batch(params, x).reshape(y.shape) - y) ** 2)

    def one_chunk(params, x, y):
        value, gradient = jax.value_and_grad(error)(x, params, y)
        return jnp.stack([value, gradient.sum()])

    def whole(params, chunks, rest, sums):
        sums += jax.lax.map(lambda chunk: one_chunk(params, *chunk), chunks).sum(axis=0)
        return sums + one_chunk(params, *rest) if rest[0].size else sums

    count = len(x) // chunk
    chunks = [a[: count * chunk].reshape(count, chunk, *a.shape[1:]) for a in (x, y)]
    rest = [a[count * chunk :] for a in (x, y)]
    arguments = jax.device_put((problem.params, chunks, rest))
    return Compiled(whole, arguments, jnp.zeros(2), seconds)


def our_refiners(problem):
    r = {
        "unit_step": refiner(problem.model, rules.unit_step(0.01, OPEN_GATE), problem.layout),
        "gauss_newton": refiner(problem.model, rules.gauss_newton(0.01, OPEN_GATE), problem.layout),
    }
    if problem.case.window:
        adam = optax.adam(0.05)  # 2.0's; ours divides by smaller numbers
        r["global"] = global_refiner(problem.model, problem.layout, optimizer=adam, tolerance=0.0)
    return r


def their_options(rule, problem):
    if rule == "global":
        return {"ts_strategy": "global", "tol": 0.0}
    strategy = {"ts_strategy": "window"} if rule == "gauss_newton" and problem.case.window else {}
    return {"nrr": 0.01, "nr_threshold": OPEN_GATE} | strategy


def refuse_disagreement(problem, rule, r, peer):
    """Both sides must do the same to the beginning of the data."""
    x, y = problem.x[:500], problem.y[:500]
    peer.fit(problem.module, x, y, **problem.fit)
    peer.seconds(2, **their_options(rule, problem))
    state = r.init(x, y)
    for _ in range(2):
        state, _ = r.step(problem.params, state)
    for before, ours, theirs in zip((x, y), state.data[:2], peer.refined(), strict=True):
        if not np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs - before):
            raise SystemExit(f"{problem.case.name}, {rule}: the two sides do not refine the same")


def line_up(problem, options, boxes):
    """All contestants of a case, by name; `boxes` are the packages' processes, by rule."""
    field = {"floor": floor(problem, options.seconds)}
    for rule, r in our_refiners(problem).items():
        if rule in boxes:
            refuse_disagreement(problem, rule, r, boxes[rule])
            theirs = their_options(rule, problem)
            limits = options.seconds, options.peer_limit
            field[PAIRS[rule]] = peers.BlackBox(boxes[rule], problem, theirs, *limits)
        state = r.init(problem.x, problem.y)
        field[rule] = Compiled(
            lambda params, state, r=r: r.step(params, state)[0],
            (problem.params,),
            state,
            options.seconds,
        )
    return field


# The table.

HEADER = [
    "case, rule (theirs)",
    "theirs, s/epoch",
    "batch",
    "ours, s/epoch",
    "theirs / ours",
    "floor, s/epoch",
    "ours / floor",
    "compilation, s",
    "cores at other work",
]


def print_row(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def print_header(names):
    print_row(names)
    print("|" + "---|" * len(names), flush=True)


def print_machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")
    print(
        f"`python {shlex.join(sys.argv)}`: {os.cpu_count()} cores, "
        f"{model or platform.processor()}, Python {platform.python_version()}, "
        f"jax {jax.__version__} on {jax.default_backend()}, torch {torch.__version__} "
        f"({torch.get_num_threads()} threads)\n"
    )


def work(boxes):
    """Seconds of the clock, and of the machine's processors on anything else than us (Linux)."""
    if sys.platform != "linux":
        return time.perf_counter(), math.nan
    user, nice, system, _, _, *rest = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = sum(map(int, (user, nice, system, *rest)))
    ours = time.process_time() + sum(box.processor_seconds() for box in boxes)
    return time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK") - ours


def measured(contestant):
    times = contestant.times
    span = "" if contestant.once else f" ({min(times):.3g} to {max(times):.3g})"
    return f"{statistics.median(times):.3g}{span}{contestant.note}"


def ratio(above, below):
    """Of the medians, and in brackets of the least."""
    medians = statistics.median(above.times) / statistics.median(below.times)
    return f"{medians:.3g} ({min(above.times) / min(below.times):.3g})"


def race(case, options, boxes):
    field = line_up(Problem(case), options, boxes)
    before = work(boxes.values())
    for turn in range(options.repeats):
        for contestant in field.values():
            if turn == 0 or not contestant.once:
                contestant.times.append(contestant.measure())
    elapsed, others = np.subtract(work(boxes.values()), before)
    for rule, version in PAIRS.items():
        if rule not in field:
            continue
        ours, theirs, bare = field[rule], field.get(version), field["floor"]
        versus = [measured(theirs), str(theirs.options["batch_size"])] if theirs else ["", ""]
        print_row(
            [
                f"{case.name}, {rule} ({version if case.window else version.split()[0]})",
                *versus,
                measured(ours),
                ratio(theirs, ours) if theirs else "",
                measured(bare),
                ratio(ours, bare),
                f"{ours.compilation:.2f}",
                f"{others / elapsed:.2f}",
            ]
        )


def races(options):
    known = QUICK_CASES if options.quick else CASES
    cases = [c for c in known if not options.cases or any(n in c.name for n in options.cases)]
    if not cases:
        raise SystemExit(f"no such case; there are {', '.join(c.name for c in known)}")
    print_header(HEADER)
    with ExitStack() as stack:
        boxes = {
            rule: stack.enter_context(closing(peers.Peer(version.split()[0], options.peers)))
            for rule, version in PAIRS.items()
            if not options.no_peers
        }
        for case in cases:
            race(case, options, boxes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", help="parts of their names")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    parser.add_argument("--no-peers", action="store_true", help="without the PyTorch package")
    parser.add_argument("--peers", type=Path, default=peers.HOME, help="folder it is installed in")
    parser.add_argument(
        "--peer-limit",
        type=float,
        default=120,
        help="seconds; where an epoch of the package takes longer, one on a prefix is scaled up",
    )
    options = parser.parse_args()
    options.seconds = 0.05 if options.quick else 1.0
    print_machine()
    races(options)


if __name__ == "__main__":
    main()
