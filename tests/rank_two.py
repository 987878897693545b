"""Tables with noise in every cell, of which two hidden numbers explain all columns."""

import numpy as np
import pandas as pd

X = ["a", "b", "c", "d", "e"]
COLUMNS = [*X, "y"]


def rank_two(n=1200, seed=0):
    """Two hidden numbers explain all columns; each has a standard deviation of 1."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 2)) @ rng.normal(size=(2, 6))
    return pd.DataFrame((rows - rows.mean(axis=0)) / rows.std(axis=0), columns=COLUMNS)


CLEAN = rank_two()
NOISY = CLEAN + 0.3 * np.random.default_rng(1).normal(size=CLEAN.shape)


def rms(frame):
    return float(np.sqrt(np.nanmean(np.asarray(frame, float) ** 2)))


def ratio(refined, given, clean=CLEAN):
    """Error after, by error before."""
    return rms(refined - clean) / rms(given - clean)
