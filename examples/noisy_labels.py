"""Wrong labels: which rows have one, and what they should say."""

import numpy as np
import pandas as pd

from denograd_jax import find_noisy

NAMES = np.array(["ant", "bee", "cat"])


def make_data(rows=400, wrong=0.1):
    """Three clusters, and names for their points of which a tenth is wrong."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, rows)
    centres = np.array([[0, 0], [4, 0], [0, 4]])
    X = pd.DataFrame(centres[true] + rng.normal(size=(rows, 2)), columns=["length", "width"])
    given = np.where(rng.random(rows) < wrong, (true + rng.integers(1, 3, rows)) % 3, true)
    return X, pd.Series(NAMES[given], X.index), pd.Series(NAMES[true], X.index)


def main():
    X, given, true = make_data()
    found = find_noisy(X, given, model="linear")
    print(found.summary())
    print(found.top(3)[["label", "suggested", "label_wrong"]].to_string())
    before, after = (given != true).mean(), (found.corrected() != true).mean()
    print(f"wrong labels: {before:.1%} before, {after:.1%} after")
    return {"fewer are wrong": after < before / 2, "what was given is kept": len(given) == len(X)}


if __name__ == "__main__":
    main()
