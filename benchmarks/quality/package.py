"""The PyTorch package `denograd` as a black box, with the weights of our backbone.

It runs in a process of its own, installed aside (see `benchmarks/peers.py`): AGPL-3.0, never a
dependency. It gets the numbers standardised as our model does.
"""

import atexit
import os
import sys
from functools import cache
from pathlib import Path

import numpy as np

from .problems import Problem

PUBLISHED = {"nrr": 0.05, "nr_threshold": 0.01}
EPOCHS = 100
"""Of 1.1.0, as published."""


def version_1(noisy, problem: Problem):
    """1.1.0 at its published guidance: one target, which for a series is among the inputs too."""
    fitted, values = standardised(noisy, problem)
    labels = list(fitted.schema.labels)
    where = labels.index(problem.target)
    y = values[:, where]
    if problem.kind == "series":
        x, outputs = values, [where]
    else:
        x, outputs = np.delete(values, where, axis=1), [0]
    x, y = asked("1.1.0", fitted, outputs, x, y, problem.window, EPOCHS, **PUBLISHED)
    refined = x.copy() if problem.kind == "series" else np.insert(x, where, 0, axis=1)
    refined[:, where] = y.reshape(-1)
    return restored(noisy, problem, fitted, refined)


def version_2(noisy, problem: Problem):
    """2.0.0 at its defaults: a series predicts all of its channels, rows their target."""
    fitted, values = standardised(noisy, problem)
    where = list(fitted.schema.labels).index(problem.target)
    if problem.kind == "series":
        outputs = list(range(values.shape[1]))
        refined, _ = asked("2.0.0", fitted, outputs, values, None, problem.window, None)
    else:
        x, y = np.delete(values, where, axis=1), values[:, where]
        x, y = asked("2.0.0", fitted, [0], x, y, None, None)
        refined = np.insert(x, where, y.reshape(-1), axis=1)
    return restored(noisy, problem, fitted, refined)


def standardised(noisy, problem: Problem):
    """Our backbone, trained as by `refine`, and the numbers in its units."""
    from denograd_jax import fit

    numbers = noisy.select_dtypes("number")
    target = None if problem.kind == "series" else problem.target
    fitted = fit(numbers, target, model="mlp", window=problem.window, seed=problem.seed)
    scaling = fitted.schema.scaling
    values = (numbers[list(fitted.schema.labels)].to_numpy() - scaling.mean) / scaling.scale
    return fitted, values.astype(np.float32)


def restored(noisy, problem: Problem, fitted, values):
    """The noisy frame with the corrections added to its columns."""
    columns = list(problem.columns)
    where = [list(fitted.schema.labels).index(c) for c in columns]
    scaling = fitted.schema.scaling
    refined = noisy.copy()
    refined[columns] = (values * scaling.scale + scaling.mean)[:, where]
    return refined


def asked(version, fitted, outputs, x, y, window, epochs, **settings):
    """What the package makes of x and y."""
    import jax

    from .twin import Twin

    # A container of Flax's may be anything like a dict; layers are numbered.
    params = jax.tree.map(np.asarray, plain(fitted.model.params))
    module = Twin(params, outputs).eval()
    refuse_different(fitted, module, outputs, x[: 4 * (window or 1)], window)
    options = {"is_ts": True, "window_size": window} if window else {}
    if y is None:
        options["target_cols"] = outputs
    peer = process(version)
    peer.fit(module, x.copy(), None if y is None else y.copy(), **options)
    peer.seconds(epochs, **settings)
    return peer.refined()


def plain(params):
    """Nested dicts."""
    return {k: plain(v) for k, v in params.items()} if hasattr(params, "items") else params


def refuse_different(fitted, module, outputs, x, window):
    """Both models must predict the same before they are compared."""
    import torch

    inputs = np.stack([x[i : i + window] for i in range(len(x) - window)]) if window else x
    ours = np.asarray(fitted.model.predict_batch(fitted.model.params, inputs))
    ours = ours.reshape(len(inputs), -1)[:, outputs]
    theirs = module(torch.tensor(inputs)).detach().numpy()
    if not np.abs(ours - theirs).max() < 1e-4:
        raise RuntimeError("our backbone and its twin in PyTorch do not predict the same")


@cache
def peers_module():
    """`benchmarks/peers.py`, however this package was started."""
    sys.path.append(str(Path(__file__).parents[1]))
    import peers

    return peers


@cache
def process(version):
    """The package in one version, warm until this process ends."""
    peers = peers_module()
    # Threads of torch wait for each other actively: on busy cores two are slower than one.
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        found = peers.Peer(version, peers.HOME)
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
    atexit.register(found.close)
    return found
