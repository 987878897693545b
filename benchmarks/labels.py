"""Wrong labels found, and a classifier trained after they are treated: ours and cleanlab's.

    pip install cleanlab scikit-learn
    python benchmarks/labels.py DATA_FOLDER [--seeds 0 1 2] [--only digits rt_iot2022]

Takes scikit-learn's digits, and rows drawn from rt_iot2022.parquet in the folder (`attack_type`,
classes of fewer than 10 drawn rows left out); a quarter of each, stratified, is a clean test set.
Of the other labels some are replaced: by any other class alike, or by the next class. DENOGRAD_DATA
names the folder where no argument does. Prints two Markdown tables, each figure a mean over seeds
and, of ours, the worst difference to cleanlab's of all seeds.

Average precision of the ranking, wrong labels being what is sought: cleanlab's two scores from
out-of-fold probabilities of our perceptron; ours from the same ones; ours with all rounds.

Accuracy on the clean test set of classifiers trained on the labels as replaced; without the rows
that cleanlab calls issues; on our corrected labels with our weights; on the true labels.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from denograd_jax import find_noisy

NOISE = {
    "symmetric 20 %": ("any", 0.2),
    "symmetric 40 %": ("any", 0.4),
    "next class 30 %": ("next", 0.3),
}
RANKINGS = ("cleanlab self_confidence", "cleanlab normalized_margin", "ours, same", "ours")
TREATMENTS = ("none", "cleanlab's issues dropped", "ours, same", "ours", "true labels")


def load(name: str, folder: str | None, rows: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Features, and classes as numbers from 0."""
    if name == "digits":
        values, y = load_digits(return_X_y=True)
        return pd.DataFrame(values), y
    frame = pd.read_parquet(Path(folder) / f"{name}.parquet").sample(rows, random_state=seed)
    frame = frame[frame.groupby("attack_type")["attack_type"].transform("size") >= 10]
    frame = frame.reset_index(drop=True)
    return frame.drop(columns="attack_type"), pd.factorize(frame["attack_type"], sort=True)[0]


def replaced(y: np.ndarray, kind: str, rate: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    classes = y.max() + 1
    wrong = rng.random(len(y)) < rate
    by = rng.integers(1, classes, len(y)) if kind == "any" else 1
    return np.where(wrong, (y + by) % classes, y)


def label_wrong(found) -> np.ndarray:
    """The probability by row, rows as given."""
    return found.table.sort_values("row")["label_wrong"].to_numpy()


def classifiers(seed: int) -> dict[str, object]:
    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "random forest": RandomForestClassifier(200, random_state=seed),
    }


def accuracy(classifier, train, test, weights=None) -> float:
    options = {}
    if weights is not None:
        steps = getattr(classifier, "steps", None)
        options = {f"{steps[-1][0]}__sample_weight" if steps else "sample_weight": weights}
    return classifier.fit(*train, **options).score(*test)


def trial(name: str, noise: str, folder: str | None, rows: int, seed: int):
    """Average precision by ranking, accuracy by classifier and treatment, seconds of ours."""
    X, y = load(name, folder, rows, seed)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, random_state=seed, stratify=y)
    given = replaced(y, *NOISE[noise], seed)
    begin = time.perf_counter()
    found = find_noisy(X, given, seed=seed)
    seconds = time.perf_counter() - begin
    probabilities = found.out_of_fold.to_numpy()
    same = find_noisy(X, given, probabilities=probabilities, seed=seed)
    scores = [
        -get_label_quality_scores(given, probabilities, method=method)
        for method in ("self_confidence", "normalized_margin")
    ]
    scores += [label_wrong(same), label_wrong(found)]
    precision = [average_precision_score(given != y, score) for score in scores]
    kept = ~find_label_issues(given, probabilities, n_jobs=1)
    trained_on = (
        (X, given, None),
        (X[kept], given[kept], None),
        (X, same.corrected(), same.weights),
        (X, found.corrected(), found.weights),
        (X, y, None),
    )
    accuracies = {
        kind: [accuracy(classifier, (a, b), (X_test, y_test), w) for a, b, w in trained_on]
        for kind, classifier in classifiers(seed).items()
    }
    return precision, accuracies, seconds


def line(cells, values, ours, theirs) -> str:
    """Means over seeds, and of ours the least difference to the peer's figure."""
    shown = [f"{mean:.4f}" for mean in values.mean(axis=0)]
    for place in ours:
        shown[place] += f" ({(values[:, place] - values[:, theirs]).min():+.4f})"
    return f"| {' | '.join([*cells, *shown])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=os.environ.get("DENOGRAD_DATA"))
    parser.add_argument("--only", nargs="*", default=["digits", "rt_iot2022"])
    parser.add_argument("--noise", nargs="*", default=list(NOISE), choices=list(NOISE))
    parser.add_argument("--rows", type=int, default=8000, help="drawn from rt_iot2022")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    options = parser.parse_args()
    if options.folder is None and options.only != ["digits"]:
        parser.error("name the folder of the data, or set DENOGRAD_DATA")
    rankings, treatments = [], []
    for name in options.only:
        for noise in options.noise:
            trials = [
                trial(name, noise, options.folder, options.rows, seed) for seed in options.seeds
            ]
            precisions, accuracies, seconds = zip(*trials, strict=True)
            cells = name, noise
            row = line(cells, np.array(precisions), (2, 3), 0)
            rankings.append(f"{row[:-1]}| {np.mean(seconds):.0f} |")
            for kind in accuracies[0]:
                values = np.array([found[kind] for found in accuracies])
                treatments.append(line((*cells, kind), values, (2, 3), 1))
    for headings, lines in (
        (("data", "noise", *RANKINGS, "seconds"), rankings),
        (("data", "noise", "classifier", *TREATMENTS), treatments),
    ):
        print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
        print("\n".join(lines), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
