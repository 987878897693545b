"""Converted PyTorch models against PyTorch: value and input gradient of a batch, on the CPU.

    python benchmarks/bridges.py [--batch 1000] [--repeats 9] [--cases mlp lstm]

Export, port and torch take turns in one process, a dozen calls each, the first half untimed: the
idle threads of the one before spin a while. Medians. Ratios are ours over torch's: below 1 is
faster. Seconds to export (unchecked) and to compile stand beside them.
"""

import argparse
import os
import platform
import shlex
import statistics
import sys
import time

import jax
import numpy as np
import torch
from torch import nn

from denograd_jax import bridges

STEPS, CHANNELS, UNITS = 24, 7, 64
CALLS = 12  # in a turn


class LastStep(nn.Module):
    """A recurrent layer, after convolutions perhaps, and a head on its last step."""

    def __init__(self, layer, convolution=False):
        super().__init__()
        self.convolution = nn.Conv1d(CHANNELS, UNITS, 3, padding=1) if convolution else None
        self.layer = layer(UNITS if convolution else CHANNELS, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, 1)

    def forward(self, x):
        if self.convolution is not None:
            x = torch.relu(self.convolution(x.transpose(1, 2))).transpose(1, 2)
        return self.head(self.layer(x)[0][:, -1])


class DecompositionLinear(nn.Module):
    def __init__(self, kernel=25):
        super().__init__()
        self.reach = kernel // 2
        self.average = nn.AvgPool1d(kernel, stride=1)
        self.trend, self.rest = nn.Linear(STEPS, 1), nn.Linear(STEPS, 1)

    def forward(self, x):
        ends = (end.repeat(1, self.reach, 1) for end in (x[:, :1], x[:, -1:]))
        first, last = ends
        trend = self.average(torch.cat([first, x, last], dim=1).transpose(1, 2))
        return (self.trend(trend) + self.rest(x.transpose(1, 2) - trend)).squeeze(-1)


class ConvolutionStack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(CHANNELS, UNITS, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(UNITS, UNITS, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(UNITS * STEPS, 1),
        )

    def forward(self, x):
        return self.layers(x.transpose(1, 2))


class Encoder(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Linear(CHANNELS, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x))[:, -1])


def perceptron():
    inputs = STEPS * CHANNELS
    layers = nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1)
    return nn.Sequential(nn.Flatten(), *layers)


CASES = {
    "mlp": (perceptron, 1.1),
    "lstm": (lambda: LastStep(nn.LSTM), 0.8),
    "gru": (lambda: LastStep(nn.GRU), 1.0),
    "cnn-lstm": (lambda: LastStep(nn.LSTM, convolution=True), 1.1),
    "dlinear": (DecompositionLinear, 0.3),
    "conv": (ConvolutionStack, 1.3),
    "transformer": (Encoder, 1.5),
}


def converted(module, x, method):
    """A call of the model in JAX; what is timed ends with the result in memory."""
    model = bridges.from_torch(module, x[:2], method=method, check=False)

    @jax.jit
    def value_and_gradient(params, x):
        return jax.value_and_grad(lambda x: model.predict_batch(params, x).sum())(x)

    params = jax.tree.map(jax.numpy.asarray, model.params)
    given = jax.numpy.asarray(x)
    return lambda: jax.block_until_ready(value_and_gradient(params, given))


def original(module, x):
    """The same of torch."""
    tensor = torch.tensor(x, requires_grad=True)
    for parameter in module.parameters():
        parameter.requires_grad_(False)  # the model is frozen

    def value_and_gradient():
        value = module(tensor).sum()
        (gradient,) = torch.autograd.grad(value, tensor)
        return value.detach(), gradient

    return value_and_gradient


def seconds(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def turn(call):
    """Seconds of a call, when the threads of others are at rest."""
    return statistics.median([seconds(call) for _ in range(CALLS)][CALLS // 2 :])


def measure(make, batch, repeats):
    torch.manual_seed(0)
    module = make().eval()
    x = np.random.default_rng(0).standard_normal((batch, STEPS, CHANNELS)).astype(np.float32)
    begin = time.perf_counter()
    exported = converted(module, x, "export")
    converting = time.perf_counter() - begin
    compiling = seconds(exported)
    calls = [exported, converted(module, x, "port"), original(module, x)]
    *found, expected = [call() for call in calls]
    difference = max(
        float(np.abs(np.asarray(a) - b.numpy()).max() / np.abs(b.numpy()).max())
        for ours in found
        for a, b in zip(ours, expected, strict=True)
    )
    times = []
    for i in range(repeats):
        order = slice(None, None, -1 if i % 2 else 1)  # none always follows torch
        times.append([turn(call) for call in calls[order]][order])
    medians = [statistics.median(of_one) for of_one in zip(*times, strict=True)]
    return medians, converting, compiling, difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    print(
        f"`python {shlex.join(sys.argv)}`: {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, jax {jax.__version__}, torch {torch.__version__} "
        f"({torch.get_num_threads()} threads)\n"
    )
    heads = "model", "export, ms", "port, ms", "torch, ms", "export / torch", "port / torch", "bar"
    heads = *heads, "converting, s", "compiling, s", "largest difference"
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name in options.cases:
        make, bar = CASES[name]
        medians, *times, difference = measure(make, options.batch, options.repeats)
        exported, port, torchs = medians
        cells = [
            name,
            *(f"{1e3 * median:.3g}" for median in medians),
            *(f"{ours / torchs:.2f}" for ours in (exported, port)),
            str(bar),
            *(f"{seconds:.1f}" for seconds in times),
            f"{difference:.0e}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
