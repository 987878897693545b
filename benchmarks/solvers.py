"""How many passes over a series does a solver need for what Adam reaches in 300?

    python benchmarks/solvers.py [--steps 4000] [--window 24]

The objective of `global_refiner` on the weather that ships with the package, with noise of 0.3
standard deviations, and perceptrons trained on it to predict all channels. A pass is one gradient
of the objective over all windows; those of a line search count.
"""

import argparse
import os
import platform
import shlex
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from denograd_jax import datasets, global_refiner, layouts

ACTIVATIONS = {"relu": jax.nn.relu, "silu": jax.nn.silu, "tanh": jnp.tanh}
ADAM = 300


def noisy_weather(steps):
    """Standardised numeric columns of one airport, with noise: (steps, channels)."""
    frame = datasets.load("nyc_weather_2013")
    frame = frame[frame["origin"] == "JFK"].iloc[:steps]
    columns = [c for c in frame.select_dtypes("number") if frame[c].nunique() > 24]
    values = frame[columns].interpolate().bfill().to_numpy(np.float32)
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    noise = np.random.default_rng(0).normal(size=values.shape)
    return jnp.array(values + 0.3 * noise, jnp.float32)


def perceptron(activation, sizes):
    """A pure predictor of one window, and its first weights."""

    def predict(params, window):
        x = window.ravel()
        for weight, bias in params[:-1]:
            x = activation(x @ weight + bias)
        return x @ params[-1][0] + params[-1][1]

    keys = jax.random.split(jax.random.key(0), len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return predict, [(jax.random.normal(k, (a, b)) / a**0.5, jnp.zeros(b)) for k, a, b in pairs]


def trained(predict, params, series, window, epochs=300):
    """The weights after some epochs of Adam on all windows at once."""
    windows = jnp.stack([series[i : len(series) - window + i] for i in range(window)], axis=1)
    optimizer = optax.adam(1e-3)

    def error(params):
        predictions = jax.vmap(predict, in_axes=(None, 0))(params, windows)
        return jnp.mean((predictions - series[window:]) ** 2)

    @jax.jit
    def epoch(carry, _):
        params, memory = carry
        updates, memory = optimizer.update(jax.grad(error)(params), memory)
        return (optax.apply_updates(params, updates), memory), None

    return jax.lax.scan(epoch, (params, optimizer.init(params)), length=epochs)[0][0]


def objectives(r, params, series, most, goal=-np.inf):
    """The objective before each step, with the passes that it took to get there."""
    state, passes = r.init(series), 0
    for _ in range(most):
        state, info = r.step(params, state)
        passes += 1
        yield passes, float(info.objective)
        if info.objective <= goal:
            return
        searched = optax.tree.get(state.optimizer, "num_linesearch_steps")
        passes += 0 if searched is None else int(searched)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--window", type=int, default=24)
    options = parser.parse_args()
    print(
        f"`python {shlex.join(sys.argv)}`: {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, jax {jax.__version__}\n"
    )
    print("| perceptron | Adam's objective, first | after 300 | Adam first there | L-BFGS there |")
    print("|---|---|---|---|---|")
    series = noisy_weather(options.steps)
    channels = series.shape[1]
    layout = layouts.windows(options.window, target_columns=range(channels))
    for name, activation in ACTIVATIONS.items():
        predict, params = perceptron(activation, [options.window * channels, 128, 64, channels])
        params = trained(predict, params, series, options.window)
        adam = global_refiner(predict, layout, tolerance=0.0)
        path = [value for _, value in objectives(adam, params, series, ADAM + 1)]
        goal = path[ADAM]
        first = next(k for k, value in enumerate(path, start=1) if value <= goal)
        lbfgs = global_refiner(predict, layout, optimizer=optax.lbfgs(), tolerance=0.0)
        *_, (passes, value) = objectives(lbfgs, params, series, 150, goal)
        there = f"{passes}" if value <= goal else f"not in {passes} ({value:.5f})"
        print(f"| {name} | {path[0]:.5f} | {goal:.5f} | {first} | {there} |", flush=True)


if __name__ == "__main__":
    main()
