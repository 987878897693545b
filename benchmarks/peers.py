"""The PyTorch side of the speed benchmark: its models, and the package `denograd` as a black box.

The package (AGPL-3.0, never a dependency) is installed aside and runs in a process of its own,
which imports this module and answers commands, one JSON object a line; see `serve`. The module so
imports neither JAX nor `denograd_jax`.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "denograd-peers"
BATCHES = (1000, 8000)  # 1000 is the package's default
TRIAL = 10_000  # rows or steps on which the batch size is chosen
SILENT = {"TQDM_DISABLE": "1"}
"""No progress bar: it would cost the package time."""


class Recurrent(nn.Module):
    """An LSTM and a linear head on its last state."""

    def __init__(self, channels, units=64):
        super().__init__()
        self.lstm = nn.LSTM(channels, units, batch_first=True)
        self.head = nn.Linear(units, 1)

    def forward(self, x):
        """(n, W, C) to (n, 1)."""
        return self.head(self.lstm(x)[0][:, -1])


class Convolutional(nn.Module):
    """Two convolutions over time, their average, a linear head.

    Takes (batch, time, channel), as 1.1.0 hands it, and (batch, channel, time), as 2.0.0 does
    where a model begins with a convolution.
    """

    def __init__(self, channels, filters=32, size=3):
        super().__init__()
        self.channels = channels
        self.first = nn.Conv1d(channels, filters, size)
        self.second = nn.Conv1d(filters, filters, size)
        self.head = nn.Linear(filters, 1)

    def forward(self, x):
        """Either order to (n, 1)."""
        if x.shape[1] != self.channels:
            x = x.transpose(1, 2)
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(x.mean(2))


class DecompositionLinear(nn.Module):
    """DLinear: a moving average is the trend, the rest the season; a linear map of each.

    The average, of 25 steps at most, repeats the ends of a window. As a matrix it takes PyTorch
    half the time of its `avg_pool1d`.
    """

    def __init__(self, length, channels):
        super().__init__()
        width = min(25, length // 2 * 2 + 1)
        steps = torch.arange(length)[:, None] + torch.arange(width) - width // 2
        average = nn.functional.one_hot(steps.clamp(0, length - 1), length).float().mean(1)
        self.register_buffer("average", average)
        self.trend = nn.Linear(length * channels, 1)
        self.season = nn.Linear(length * channels, 1)

    def forward(self, x):
        """(n, W, C) to (n, 1)."""
        trend = self.average @ x
        return self.trend(trend.flatten(1)) + self.season((x - trend).flatten(1))


def perceptron(inputs):
    """128-64-1 with ReLU; flattens windows itself, as 1.1.0 fails when it is told to do so."""
    layers = nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1)
    return nn.Sequential(nn.Flatten(), *layers)


def installed(version, folder):
    """Folder of the package in this version; pip brings it where it is not there yet."""
    home = Path(folder) / f"denograd-{version}"
    if not (home / f"denograd-{version}.dist-info").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        subprocess.run([*pip, str(home), f"denograd=={version}", "tqdm"], check=True)
    return home


def module_of(case):
    """The model of a case of speed.py, untrained."""
    shape = (case.window or 1, case.channels)
    return {
        "mlp": lambda: perceptron(math.prod(shape)),
        "lstm": lambda: Recurrent(case.channels),
        "cnn": lambda: Convolutional(case.channels),
        "dlinear": lambda: DecompositionLinear(*shape),
    }[case.model]().eval()


def trained(series, window, epochs):
    """A perceptron that predicts the last channel of a series from the window before."""
    torch.manual_seed(0)
    views = np.lib.stride_tricks.sliding_window_view(series[:-1], window, axis=0)
    x = torch.tensor(views.swapaxes(1, 2).copy())
    y = torch.tensor(series[window:, -1:])
    module = perceptron(x[0].numel())
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(256):
            optimizer.zero_grad()
            nn.functional.mse_loss(module(x[batch]), y[batch]).backward()
            optimizer.step()
    return module.eval()


class Peer:
    """The package in one version, warm in a process of its own; it times itself."""

    def __init__(self, version, folder):
        self.version = version
        path = os.pathsep.join([str(installed(version, folder)), str(Path(__file__).parent)])
        self._scratch = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-c", "import peers; peers.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | SILENT | {"PYTHONPATH": path},
            text=True,
        )

    def fit(self, model, x, y, **options):
        """Hand over a model and data."""
        path = Path(self._scratch.name) / "given.pt"
        torch.save({"model": model, "x": x, "y": y, "options": options}, path)
        self._ask("fit", path=str(path))
        path.unlink()

    def seconds(self, epochs, **options):
        """Seconds that `transform` takes for this many epochs."""
        options |= {"max_epochs": epochs, "save_gradients": False}
        return self._ask("transform", options=options)["seconds"]

    def processor_seconds(self):
        """Seconds of processor time that the process has used so far."""
        return self._ask("processor_seconds")["seconds"]

    def refined(self):
        """What the last `transform` returned: x, y."""
        path = Path(self._scratch.name) / "found.npz"
        self._ask("save", path=str(path))
        with np.load(path) as found:
            return found["x"], found["y"]

    def close(self):
        """End the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._scratch.cleanup()

    def _ask(self, command, **arguments):
        print(json.dumps({"do": command} | arguments), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise RuntimeError(f"denograd {self.version}, {command}: {answer['error']}")
        return answer


class BlackBox:
    """The package with some options, as a contestant; `problem` is that of speed.py.

    Its first epochs pay for what is not an epoch, hence the slope between two numbers of them.
    Where an epoch takes longer than `limit` seconds, a run on a prefix is scaled up.
    """

    def __init__(self, peer, problem, options, seconds, limit):
        self.peer, self.problem, self.times = peer, problem, []
        self._fit(TRIAL)
        trial, self.options = fastest_batch(peer, options)
        expected = trial * self.scale
        self.once = expected > limit
        prefix = max(TRIAL, int(problem.case.steps * limit / 2 / expected)) if self.once else None
        self._fit(prefix)
        self.note = f", scaled up from one run on the first {prefix:,}" if self.once else ""
        self.first = 1 if expected < seconds else 0
        self.epochs = math.ceil(seconds / expected)

    def _fit(self, steps):
        problem, span = self.problem, self.problem.case.window or 0
        x, y = problem.x[:steps], problem.y[:steps]
        self.peer.fit(problem.module, x, y, **problem.fit)
        self.scale = (problem.case.steps - span) / (len(x) - span)

    def measure(self):
        """Seconds of one epoch over the whole data."""
        few, many = (
            self.peer.seconds(epochs, **self.options)
            for epochs in (self.first, self.first + self.epochs)
        )
        return (many - few) / self.epochs * self.scale


def fastest_batch(peer, options):
    """Seconds per epoch, once warm, and the options with the batch size that needs the fewest."""
    found = []
    for batch in BATCHES:
        each = options | {"batch_size": batch}
        peer.seconds(1, **each)
        found.append((peer.seconds(1, **each) - peer.seconds(0, **each), batch))
    seconds, batch = min(found)
    return max(seconds, 1e-6), options | {"batch_size": batch}


def serve():
    """Answer the commands of a `Peer`, on the real standard output, which is then silenced."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    commands = _Commands()
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = getattr(commands, arguments.pop("do"))(**arguments)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


class _Commands:
    """What the process can be told to do."""

    def fit(self, path):
        from denograd import DenoGrad

        given = torch.load(path, weights_only=False)
        self._denoiser = DenoGrad(given["model"], nn.MSELoss(), torch.device("cpu"))
        self._denoiser.fit(given["x"], given["y"], **given["options"])
        return {}

    def transform(self, options):
        begin = time.perf_counter()
        self._found = self._denoiser.transform(**options)[:2]
        return {"seconds": time.perf_counter() - begin}

    def processor_seconds(self):
        return {"seconds": time.process_time()}

    def save(self, path):
        np.savez(path, x=self._found[0], y=self._found[1])
        return {}
