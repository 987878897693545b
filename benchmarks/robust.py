"""How well do models trained on noisy labels or inputs do on clean ones, and is the noise found?

    python benchmarks/robust.py [DATA_FOLDER] [--quick] [--out FOLDER] [--only-data digits ...]

Digits (of scikit-learn), Fashion-MNIST (where Debian's package dataset-fashion-mnist puts it, or in
the folder named by --fashion-mnist; 10,000 images unless --rows says otherwise) and RT-IoT2022
(rt_iot2022.parquet in DATA_FOLDER, or in the folder that DENOGRAD_DATA names), of which those are
left out that are not there. Part of the training labels is made wrong, evenly (symmetric), by class
(asymmetric) or by instance, or half of the training inputs noisy; test data are clean. Every cell,
one method on one noisy copy, is kept in OUT/cells: the same command goes on where it was stopped.
It prints tables in Markdown, means over seeds, and writes them to OUT/robust.md.

The model is a perceptron (256, 128). All are trained for 40 epochs in all, RLAP for 30 more.
"""

import argparse
import importlib.util
import itertools
import json
import os
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from robust_data import DATA, FASHION_MNIST, NOISES
from sklearn.metrics import roc_auc_score

from denograd_jax import robust

VERSION = 1
"""Of what a cell's result depends on besides its name; another one computes all anew."""
EPOCHS, WARM_EPOCHS = 40, 30
AUC_EPOCHS = 5, 15, 30
"""Of the first stage, in which nothing is done against the noise."""


# The model, as pure functions.


def features(params, x):
    for layer in params["hidden"]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
    return x


def head(params, h):
    return h @ params["head"]["kernel"] + params["head"]["bias"][None]


def apply(params, x):
    return head(params, features(params, x))


def initial(inputs, classes, key):
    sizes = inputs, 256, 128, classes
    layers = [
        {"kernel": jax.random.normal(k, (a, b)) * jnp.sqrt(2 / a), "bias": jnp.zeros(b)}
        for k, (a, b) in zip(jax.random.split(key, 3), itertools.pairwise(sizes), strict=True)
    ]
    return {"hidden": layers[:2], "head": layers[2]}


# Methods: (start, x, y, noisy, key) to parameters, and what else is to be told.


def plain(start, x, y, noisy, key):
    return robust.fit_weighted(apply, start, x, y, key=key, epochs=EPOCHS).params, {}


def small_losses(start, x, y, noisy, key):
    """Ten epochs, then anew without the largest losses, as many as there are noisy rows."""
    losses = robust.fit_weighted(apply, start, x, y, key=key, epochs=10).losses
    kept = np.argsort(losses)[: len(y) - noisy.sum()]
    fit = robust.fit_weighted(apply, start, x[kept], y[kept], key=key, epochs=EPOCHS - 10)
    return fit.params, {}


def ido(per_class):
    def train(start, x, y, noisy, key):
        told = {}

        def observe(epoch, state):
            if epoch + 1 in AUC_EPOCHS:
                told[f"events {epoch + 1}"] = roc_auc_score(noisy, state.wrong_events)
                told[f"loss {epoch + 1}"] = roc_auc_score(noisy, state.losses)

        fit = robust.ido(
            apply,
            start,
            x,
            y,
            key=key,
            warm_epochs=WARM_EPOCHS,
            epochs=EPOCHS - WARM_EPOCHS,
            per_class=per_class,
            observe=observe,
        )
        told["events at the end"] = roc_auc_score(noisy, fit.wrong_events)
        told["p_noisy"] = roc_auc_score(noisy, fit.p_noisy)
        return fit.params, told

    return train


def rlap(mode):
    def train(start, x, y, noisy, key):
        params, _ = plain(start, x, y, noisy, key)
        fit = robust.rlap(
            features,
            head,
            params,
            x,
            y,
            key=key,
            layer=("hidden", 1),
            mode=mode,
            initial=start if mode == "retrain" else None,
        )
        return fit.params, {"p_noisy": roc_auc_score(noisy, fit.p_noisy)}

    return train


def cleanlab(start, x, y, noisy, key):
    """Anew without the rows that confident learning names, by models of four fifths each."""
    from cleanlab.filter import find_label_issues

    fold = np.random.default_rng(0).permutation(len(y)) % 5
    probabilities = np.zeros((len(y), y.max() + 1))
    for k in range(5):
        seen = fold != k
        fit = robust.fit_weighted(apply, start, x[seen], y[seen], key=key, epochs=10)
        probabilities[~seen] = jax.nn.softmax(apply(fit.params, x[~seen]))
    kept = ~find_label_issues(y, probabilities, n_jobs=1)  # others would be forked
    fit = robust.fit_weighted(apply, start, x[kept], y[kept], key=key, epochs=EPOCHS - 10)
    return fit.params, {}


METHODS = {
    "plain": plain,
    "IDO": ido(per_class=False),
    "IDO per class": ido(per_class=True),
    "RLAP head": rlap("head"),
    "RLAP all": rlap("all"),
    "RLAP retrain": rlap("retrain"),
    "small losses": small_losses,
    "cleanlab": cleanlab,
}


# Cells, and what is told of them.


def cell(options, data, noise, method, seed):
    """One method on one noisy copy, from its file or computed now."""
    rows = "" if data == "digits" else f"-{options.rows}"
    name = f"{data}{rows}-{noise}-{method}-{seed}-{VERSION}".replace(" ", "_").replace("%", "pct")
    path = options.out / "cells" / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    rng = np.random.default_rng(seed)
    x, y, x_test, y_test = DATA[data](options, rng)
    x, given, noisy = NOISES[noise](x, y, rng)
    beginning, training = jax.random.split(jax.random.key(seed))
    start = initial(x.shape[1], int(y.max()) + 1, beginning)
    begin = time.perf_counter()
    params, told = METHODS[method](start, x, given, noisy, training)
    accuracy = float((np.asarray(apply(params, x_test)).argmax(axis=1) == y_test).mean())
    seconds = time.perf_counter() - begin
    result = {"data": data, "noise": noise, "method": method, "seed": seed}
    result |= {"accuracy": accuracy, "seconds": seconds, **told}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(result, indent=1))
    draft.replace(path)  # a file is there whole, or not at all
    return result


def markdown(frame, percent):
    """A table whose rows are pairs of data and noise."""
    shown = frame.map(lambda v: "" if pd.isna(v) else f"{100 * v:.1f}" if percent else f"{v:.3f}")
    lines = [["data", "noise", *shown.columns], ["---"] * (2 + shown.shape[1])]
    lines += [[*index, *row] for index, row in zip(shown.index, shown.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(results):
    frame = pd.DataFrame(results)
    where = ["data", "noise"]
    mean = frame.pivot_table("accuracy", where, "method", sort=False)
    text = ["Accuracy on clean test data, in percent.", "", markdown(mean, True)]
    of_ido = frame[frame.method == "IDO"]
    if len(of_ido):
        columns = [f"{kind} {e}" for e in AUC_EPOCHS for kind in ("events", "loss")]
        auc = of_ido.groupby(where, sort=False)[[*columns, "events at the end", "p_noisy"]].mean()
        text += ["", "AUC of noisy against clean rows, by epoch of plain training.", ""]
        text += [markdown(auc, False)]
        labels = of_ido[of_ido.noise != "inputs 50 %"]
        last = AUC_EPOCHS[-1]
        won = labels[f"events {last}"] > labels[f"loss {last}"]
        text += ["", f"Wrong events tell noisy labels better than the loss at epoch {last} in "]
        text[-1] += f"{won.sum()} of {len(won)} cells."
    told = frame[frame.method.str.startswith("RLAP") & (frame.method != "RLAP all")]
    if "RLAP head" in set(told.method):
        found = told[told.method == "RLAP head"].groupby(where, sort=False)[["p_noisy"]].mean()
        text += ["", "AUC of RLAP's probabilities.", "", markdown(found, False)]
    seconds = frame.groupby("method", sort=False).seconds.median()
    text += ["", "Seconds, median: " + ", ".join(f"{m} {s:.0f}" for m, s in seconds.items()) + "."]
    return "\n".join(text) + "\n"


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=os.environ.get("DENOGRAD_DATA"))
    parser.add_argument("--quick", action="store_true", help="digits, two noises, one seed")
    parser.add_argument("--only-data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--only-noise", nargs="+", choices=NOISES, default=list(NOISES))
    parser.add_argument("--only-methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=10_000, help="of data other than digits")
    parser.add_argument("--out", type=Path, default=Path("robust"), help="folder of the results")
    parser.add_argument("--fashion-mnist", type=Path, default=FASHION_MNIST, metavar="FOLDER")
    options = parser.parse_args()
    if options.quick:
        options.only_data, options.seeds = ["digits"], [0]
        options.only_noise = ["symmetric 40 %", "inputs 50 %"]
    return options


def there(options):
    """Data and methods that can be had; the others are named."""
    missing = {}
    if not (options.fashion_mnist / "train-images-idx3-ubyte.gz").exists():
        missing["Fashion-MNIST"] = (
            f"not in {options.fashion_mnist}: install Debian's package dataset-fashion-mnist, or "
            "name the folder by --fashion-mnist"
        )
    if not options.folder or not (Path(options.folder) / "rt_iot2022.parquet").exists():
        missing["RT-IoT"] = "no folder given that holds rt_iot2022.parquet"
    if importlib.util.find_spec("cleanlab") is None:
        missing["cleanlab"] = "not installed"
    for name in missing.keys() & {*options.only_data, *options.only_methods}:
        print(f"left out: {name} ({missing[name]})", file=sys.stderr)
    chosen = options.only_data, options.only_methods
    return [[name for name in names if name not in missing] for names in chosen]


def main():
    options = parsed()
    data, methods = there(options)
    cells = list(itertools.product(data, options.only_noise, options.seeds, methods))
    results = []
    try:
        for count, (name, noise, seed, method) in enumerate(cells):
            print(f"{count + 1}/{len(cells)} {name}, {noise}, {method}, {seed}", file=sys.stderr)
            results.append(cell(options, name, noise, method, seed))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
    if results:
        text = report(results)
        (options.out / "robust.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
