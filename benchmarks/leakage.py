"""What refining test rows measures: a target of pure noise, which nothing can predict.

    python benchmarks/leakage.py

Prints, as Markdown, R² of a ridge regression and of nearest neighbours that were trained on refined
rows, on test rows that were left as they are, and on test rows that were refined as well.
"""

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from denograd_jax import fit

ROWS, COLUMNS, SEEDS = 2000, 8, 3
PUBLISHED = {"rule": "unit_step", "step_size": 0.05, "tolerance": 0.01, "max_steps": 100}
SETTINGS = {
    "the default": ({}, {}),
    "the published rule, our defaults": ({"model": "mlp"}, {"rule": "unit_step"}),
    "the published rule and setting": ({"model": "mlp"}, PUBLISHED),
}
"""What `fit` is asked for, and what the refinement."""
TRIALS = ("nothing refined", "training rows refined", "training and test rows refined (wrong)")
REGRESSORS = {"ridge": Ridge(), "7 nearest neighbours": KNeighborsRegressor(7)}


def noise(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features and a target that know nothing of each other: rows to train and rows to test on."""
    values = np.random.default_rng(seed).normal(size=(ROWS, COLUMNS + 1))
    frame = pd.DataFrame(values, columns=[*(f"x{j}" for j in range(COLUMNS)), "y"])
    return frame.iloc[: ROWS // 2], frame.iloc[ROWS // 2 :]


def scores(seed: int, backbone: dict, moves: dict) -> dict[str, tuple[float, float, float]]:
    """R² of each regressor: never refined; trained on refined rows; tested on refined ones too."""
    train, test = noise(seed)
    fitted = fit(train, "y", seed=seed, **backbone)
    refined_train, refined_test = (fitted.refine(rows, **moves).data for rows in (train, test))
    found = {}
    for name, regressor in REGRESSORS.items():
        pairs = (train, test), (refined_train, test), (refined_train, refined_test)
        found[name] = tuple(
            regressor.fit(a.drop(columns="y"), a["y"]).score(b.drop(columns="y"), b["y"])
            for a, b in pairs
        )
    return found


def main() -> None:
    headings = ("refined with", "regressor", *TRIALS)
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for setting, asked in SETTINGS.items():
        runs = [scores(seed, *asked) for seed in range(SEEDS)]
        for name in REGRESSORS:
            means = np.mean([run[name] for run in runs], axis=0)
            print(f"| {setting} | {name} | " + " | ".join(f"{m:.2f}" for m in means) + " |")


if __name__ == "__main__":
    main()
