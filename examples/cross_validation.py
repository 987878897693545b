"""What refining training data gains, by cross-validation; and how refining test rows flatters."""

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from denograd_jax import datasets, refine
from denograd_jax.sklearn import RefineThenFit

COLUMNS = ["TLA", "beds", "baths", "halfbaths", "frontage", "depth", "garagesqft", "lotsize"]
SETTINGS = {
    "default": {},
    "published": {"step_size": 0.05, "tolerance": 0.01, "max_steps": 100},
}
REGRESSORS = {
    "ridge": make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13))),
    "25 neighbours": make_pipeline(StandardScaler(), KNeighborsRegressor(25)),
}


def noisy_houses(rows=1000):
    """Houses and their prices, all with noise of 0.3 standard deviations."""
    houses = datasets.load("lucas_county").sample(rows, random_state=0)
    noisy = datasets.add_noise(houses, 0.3, columns=[*COLUMNS, "price"], seed=0)
    return noisy[COLUMNS], noisy["price"]


def compare(regressor, X, y, setting):
    """Mean R^2 on rows held out: regressor alone, refined training rows, all rows refined."""
    folds = KFold(5, shuffle=True, random_state=0)
    refined = refine(X, y, **setting)  # WRONG: the rows to be tested on are refined too
    return (
        cross_val_score(regressor, X, y, cv=folds).mean(),
        cross_val_score(RefineThenFit(regressor, **setting), X, y, cv=folds).mean(),
        cross_val_score(regressor, refined.data, refined.target, cv=folds).mean(),
    )


def main():
    X, price = noisy_houses()
    dice = price.sample(frac=1, random_state=1).set_axis(price.index)  # X says nothing of it
    print(f"{'R^2 on rows held out':49} {'alone':>7} {'refined':>7} {'gain':>7} {'wrong way':>9}")
    shown = {}
    for target, y in {"price": price, "shuffled price": dice}.items():
        for choice, setting in SETTINGS.items():
            for name, regressor in REGRESSORS.items():
                case = f"{target}, {choice} setting, {name}"
                alone, honest, wrong = compare(regressor, X, y, setting)
                print(f"{case:49} {alone:7.3f} {honest:7.3f} {honest - alone:+7.3f} {wrong:9.3f}")
                if choice == "published":
                    shown[f"{case}: the wrong way flatters"] = wrong > honest + 0.1
                if y is dice:
                    shown[f"{case}: honestly, nothing is explained"] = honest < 0.1
    return shown


if __name__ == "__main__":
    main()
