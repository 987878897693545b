"""Data for `robust.py`, and ways to make its training part noisy; test data stay clean."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""

# Training and test inputs, standardised by the former, and labels from 0.


def digits(options, rng):
    x, y = load_digits(return_X_y=True)
    return split(x, y, 1200, rng)


def fashion_mnist(options, rng):
    def read(name, offset):
        with gzip.open(options.fashion_mnist / name) as file:
            return np.frombuffer(file.read(), np.uint8, offset=offset)

    parts = []
    for part, rows in (("train", options.rows), ("t10k", 10_000)):
        y = read(f"{part}-labels-idx1-ubyte.gz", 8)
        chosen = rng.permutation(len(y))[:rows]
        x = read(f"{part}-images-idx3-ubyte.gz", 16).reshape(len(y), -1)
        parts.append((x[chosen].astype(float), y[chosen].astype(int)))
    (x, y), (x_test, y_test) = parts
    return standardised(x, y, x_test, y_test)


def rt_iot(options, rng):
    """Nine classes with 500 rows or more, of each at most a ninth of the rows."""
    frame = pd.read_parquet(Path(options.folder) / "rt_iot2022.parquet")
    counts = frame.attack_type.value_counts()
    classes = sorted(counts.index[counts >= 500])
    most = options.rows // len(classes)
    chosen = [rng.permutation(np.flatnonzero(frame.attack_type == name))[:most] for name in classes]
    frame = frame.iloc[np.concatenate(chosen)]
    x = frame.drop(columns="attack_type").to_numpy(float)
    y = pd.Categorical(frame.attack_type, classes).codes.astype(int)
    return split(np.sign(x) * np.log1p(np.abs(x)), y, len(x) * 3 // 4, rng)


def split(x, y, train, rng):
    order = rng.permutation(len(x))
    return standardised(x[order[:train]], y[order[:train]], x[order[train:]], y[order[train:]])


def standardised(x, y, x_test, y_test):
    """A column that hardly varies stays small instead of becoming noise."""
    scale = x.std(axis=0)
    scale = np.maximum(scale, 0.1 * scale.mean() + 1e-12)
    x, x_test = (((part - x.mean(axis=0)) / scale).astype(np.float32) for part in (x, x_test))
    return x, y, x_test.clip(-10, 10), y_test


DATA = {"digits": digits, "Fashion-MNIST": fashion_mnist, "RT-IoT": rt_iot}


# Training data made noisy, and which rows are.


def symmetric(rate):
    def spoil(x, y, rng):
        classes = y.max() + 1
        wrong = rng.random(len(y)) < rate
        return x, np.where(wrong, (y + rng.integers(1, classes, len(y))) % classes, y), wrong

    return spoil


def asymmetric(rate):
    """Each class is taken for the next one."""

    def spoil(x, y, rng):
        wrong = rng.random(len(y)) < rate
        return x, np.where(wrong, (y + 1) % (y.max() + 1), y), wrong

    return spoil


def by_instance(rate):
    """Rates and wrong classes follow from the inputs. Xia et al., NeurIPS 2020, algorithm 2."""

    def spoil(x, y, rng):
        classes = y.max() + 1
        rates = np.clip(rate + 0.1 * rng.normal(size=len(y)), 0, 1)
        maps = rng.normal(size=(classes, x.shape[1], classes)) / np.sqrt(x.shape[1])
        scores = np.stack([x[i] @ maps[y[i]] for i in range(len(y))])
        scores[np.arange(len(y)), y] = -np.inf
        drawn = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)  # by their softmax
        wrong = rng.random(len(y)) < rates
        return x, np.where(wrong, drawn, y), wrong

    return spoil


def inputs(rate):
    def spoil(x, y, rng):
        noisy = rng.random(len(y)) < rate
        noise = 1.5 * rng.normal(size=x.shape).astype(np.float32)
        return np.where(noisy[:, None], x + noise, x), y, noisy

    return spoil


NOISES = {
    "symmetric 20 %": symmetric(0.2),
    "symmetric 40 %": symmetric(0.4),
    "asymmetric 30 %": asymmetric(0.3),
    "by instance 30 %": by_instance(0.3),
    "inputs 50 %": inputs(0.5),
}
