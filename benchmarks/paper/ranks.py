"""Mean ranks over data sets, Friedman's test, and Nemenyi's after it.

Source: Demsar 2006, "Statistical comparisons of classifiers over multiple data sets".
"""

import numpy as np
import pandas as pd

ALPHA = 0.05


def mean_ranks(values: pd.DataFrame, higher: bool) -> pd.Series:
    """Mean rank of each column over the rows; 1 is the best, ties share their mean rank."""
    return values.rank(axis="columns", ascending=not higher).mean().sort_values()


def friedman(values: pd.DataFrame) -> float:
    """Probability of ranks as different as these if all columns were alike; NaN if too few."""
    from scipy.stats import friedmanchisquare

    if values.shape[1] < 3 or len(values) < 2:
        return np.nan
    return float(friedmanchisquare(*values.to_numpy().T).pvalue)


def critical_difference(methods: int, data_sets: int) -> float:
    """Mean ranks further apart than this differ, by Nemenyi's test."""
    from scipy.stats import studentized_range

    quantile = studentized_range.ppf(1 - ALPHA, methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * data_sets)))


def nemenyi(values: pd.DataFrame) -> pd.DataFrame:
    """Probabilities of each pair of columns, by scikit-posthocs."""
    from scikit_posthocs import posthoc_nemenyi_friedman

    found = posthoc_nemenyi_friedman(values.to_numpy())
    return found.set_axis(values.columns, axis=0).set_axis(values.columns, axis=1)
