"""Converted PyTorch models against PyTorch: value and input gradient of a batch, on the CPU.

    python benchmarks/bridges.py [--batch 1000] [--repeats 15] [--cases mlp lstm]

Both take turns in one process, warmed up; medians. Ratios are ours over torch's: below 1 is faster.
Conversion and compilation are stated beside them.
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


def contestants(module, x):
    """A call of each; what is timed ends with the result in memory."""
    model = bridges.from_torch(module, x[:2], check=False)

    @jax.jit
    def value_and_gradient(params, x):
        return jax.value_and_grad(lambda x: model.predict_batch(params, x).sum())(x)

    params = jax.tree.map(jax.numpy.asarray, model.params)
    given = jax.numpy.asarray(x)
    tensor = torch.tensor(x, requires_grad=True)
    for parameter in module.parameters():
        parameter.requires_grad_(False)  # the model is frozen

    def ours():
        return jax.block_until_ready(value_and_gradient(params, given))

    def theirs():
        value = module(tensor).sum()
        (gradient,) = torch.autograd.grad(value, tensor)
        return value.detach(), gradient

    return ours, theirs


def seconds(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measure(make, batch, repeats):
    torch.manual_seed(0)
    module = make().eval()
    x = np.random.default_rng(0).standard_normal((batch, STEPS, CHANNELS)).astype(np.float32)
    begin = time.perf_counter()
    ours, theirs = contestants(module, x)
    converting = time.perf_counter() - begin
    compiling = seconds(ours)
    difference = max(
        float(np.abs(np.asarray(a) - b.numpy()).max() / np.abs(b.numpy()).max())
        for a, b in zip(ours(), theirs(), strict=True)
    )
    times = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return *map(statistics.median, zip(*times, strict=True)), converting, compiling, difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    print(
        f"`python {shlex.join(sys.argv)}`: {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, jax {jax.__version__}, torch {torch.__version__} "
        f"({torch.get_num_threads()} threads)\n"
    )
    print(
        "| model | ours, ms | torch, ms | ours / torch | bar | converting, s | compiling, s ",
        end="",
    )
    print("| largest difference |\n|---|---|---|---|---|---|---|---|")
    for name in options.cases:
        make, bar = CASES[name]
        ours, theirs, converting, compiling, difference = measure(
            make, options.batch, options.repeats
        )
        print(
            f"| {name} | {1e3 * ours:.3g} | {1e3 * theirs:.3g} | {ours / theirs:.2f} | {bar} "
            f"| {converting:.1f} | {compiling:.1f} | {difference:.0e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
