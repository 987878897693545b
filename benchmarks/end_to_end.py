"""How long does it take to clean a series as well as the PyTorch package 1.1.0 does at its best?

    python benchmarks/end_to_end.py [DATA_FOLDER] [--repeats 5] [--quick]

ETTh1 (`ETTh1.parquet`, 17,420 x 7) with noise of 0.3 standard deviations, a perceptron 128-64-1
trained on it to predict the last channel from 24 steps, the same weights on both sides. The goal
is set by `denograd` 1.1.0 at its published settings in 200 epochs; it is timed for as many epochs
as it needs to reach it, and so are ours. Step sizes and epochs are thus chosen in hindsight,
on both sides. DENOGRAD_DATA names the folder where no argument does.
"""

import argparse
import os
import statistics
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import peers
from speed import Compiled, print_header, print_machine, print_row, work

from denograd_jax import bridges, layouts, refiner, rules, run

PUBLISHED = ("unit_step", 0.05, "visits", "y")
SETTINGS = [
    (rule, step_size, consensus, target)
    for rule, sizes in {"unit_step": (0.05, 0.1, 0.2, 0.5), "gauss_newton": (0.5, 1, 2, 4)}.items()
    for consensus in ("visits", "votes")
    for target in ("y", "column")
    for step_size in sizes
]
"""Rule, step size, consensus, and the target: an array of its own, or a column of x."""


class Series:
    """A series, its noisy copy, and a model of its last channel trained on the copy."""

    def __init__(self, folder, quick):
        frame = pd.read_parquet(Path(folder) / "ETTh1.parquet")[: 1000 if quick else None]
        clean = (frame - frame.mean()) / frame.std(ddof=0)
        noise = 0.3 * np.random.default_rng(0).normal(size=clean.shape)
        self.clean = clean.to_numpy(np.float32)
        self.noisy = (clean + noise).to_numpy(np.float32)
        self.module = peers.trained(self.noisy, 24, epochs=1 if quick else 10)
        self.model = bridges.from_torch(self.module, np.zeros((2, 24, clean.shape[1])))
        self.params = jax.device_put(self.model.params)
        self.noise = self._distance(self.noisy, self.noisy[:, -1])

    def _distance(self, x, y):
        return (((x - self.clean) ** 2).sum() + ((y - self.clean[:, -1]) ** 2).sum()) ** 0.5

    def error(self, x, y):
        """Distance of x and y together to the clean series, over that of the noisy one."""
        return self._distance(x, x[:, -1] if y is None else y) / self.noise

    def hand_to(self, peer):
        """As the package takes it."""
        target = self.noisy[:, -1].copy()
        peer.fit(self.module, self.noisy, target, is_ts=True, window_size=24)

    def refinement(self, setting, tolerance):
        """A refiner and the state it begins with."""
        rule, step_size, consensus, target = setting
        columns = [self.noisy.shape[1] - 1] if target == "column" else None
        layout = layouts.windows(24, consensus=consensus, target_columns=columns)
        r = refiner(self.model, getattr(rules, rule)(step_size, tolerance), layout)
        return r, r.init(self.noisy, None if columns else self.noisy[:, -1])

    def errors(self, setting, tolerance, epochs):
        """The error before the first epoch and after each."""
        r, state = self.refinement(setting, tolerance)

        def epoch(state, _):
            state, _ = r.step(self.params, state)
            return state, self.error(*state.data[:2])

        return np.array([1.0, *jax.jit(lambda s: jax.lax.scan(epoch, s, length=epochs)[1])(state)])

    def contestant(self, setting, tolerance, epochs):
        """A whole run, of which the time can be taken; compiled from nothing."""
        jax.clear_caches()
        r, state = self.refinement(setting, tolerance)
        return Compiled(lambda p, s: run(r, p, s, epochs).state, (self.params,), state, 0)


def end_to_end(options):
    series, epochs = Series(options.folder, options.quick), 20 if options.quick else 200
    with closing(peers.Peer("1.1.0", options.peers)) as peer:
        for tolerance in (0.01, 0.1):
            errors = {s: series.errors(s, tolerance, epochs) for s in SETTINGS}
            best = errors[PUBLISHED].min()
            print(
                f"Tolerance {tolerance}: the published rule brings the error from 1 to {best:.4f}, "
                f"in epoch {errors[PUBLISHED].argmin()} of {epochs}.\n"
            )
            goals = {
                "An error within 5 % of the best": 1.05 * best,
                "95 % of the best gain": 1 - 0.95 * (1 - best),
            }
            for name, goal in goals.items():
                nothing = "is reached by doing nothing: the gain is below 5 %." if goal >= 1 else ""
                print(f"{name}, {goal:.4f}: {nothing}\n")
                if not nothing:
                    sprint(series, peer, tolerance, errors, goal, options.repeats)


def sprint(series, peer, tolerance, errors, goal, repeats):
    """Time each setting, and the package, for as many epochs as it needs to reach the goal."""
    needed = {s: int((e <= goal).argmax()) for s, e in errors.items() if (e <= goal).any()}
    field = {s: series.contestant(s, tolerance, epochs) for s, epochs in needed.items()}
    series.hand_to(peer)
    _, theirs = peers.fastest_batch(peer, {"nrr": 0.05, "nr_threshold": tolerance})
    their_times, before = [], work([peer])
    for _ in range(repeats):
        series.hand_to(peer)  # 1.1.0 goes on where it stopped
        their_times.append(peer.seconds(needed[PUBLISHED], **theirs))
        for contestant in field.values():
            contestant.times.append(contestant.measure())
    elapsed, others = np.subtract(work([peer]), before)
    seconds, error = statistics.median(their_times), series.error(*peer.refined())
    if not abs(error - errors[PUBLISHED][needed[PUBLISHED]]) <= 1e-3 * abs(1 - error):
        raise SystemExit(f"1.1.0 ends at an error of {error:.5f}: not the same refinement")
    print_header(["", "epochs", "error", "s", "s with compilation", "theirs / ours", "compiling"])
    print_row(["1.1.0", str(needed[PUBLISHED]), f"{error:.4f}", f"{seconds:.3g}", "", "", ""])
    for setting, contestant in field.items():
        warm = statistics.median(contestant.times)
        cold = warm + contestant.compilation
        epochs = needed[setting]
        numbers = f"{errors[setting][epochs]:.4f}", f"{warm:.3g}", f"{cold:.3g}"
        ratios = f"{seconds / warm:.3g}", f"{seconds / cold:.3g}"
        print_row([" ".join(map(str, setting)), str(epochs), *numbers, *ratios])
    missed = [
        f"{' '.join(map(str, s))} ({e.min():.4f})" for s, e in errors.items() if s not in needed
    ]
    print(f"\nNot reached (best): {', '.join(missed) or 'none'}.")
    print(f"Cores at other work: {others / elapsed:.2f}.\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=os.environ.get("DENOGRAD_DATA"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="1,000 steps: does it work at all?")
    parser.add_argument("--peers", type=Path, default=peers.HOME, help="folder it is installed in")
    options = parser.parse_args()
    if options.folder is None:
        parser.error("name the folder of the data, or set DENOGRAD_DATA")
    print_machine()
    end_to_end(options)


if __name__ == "__main__":
    main()
