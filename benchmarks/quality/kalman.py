"""Rauch-Tung-Striebel smoother of a local linear trend, fitted by maximum likelihood.

Each column by itself is y_t = level_t + e_t; the level is a random walk with a drift that is a
random walk too. Of the three variances one drops out of the likelihood; left are the ratios of
level and slope to the measurement's. They are sought in turn, on a grid and then on a finer one,
from two starts: a plain random walk, and a smooth trend. Ratios may be all but zero or infinite,
so that both of these, and leaving the data alone, are among the candidates.
"""

import numpy as np

GRID = np.linspace(-8.0, 4.0, 13)  # of log10 of a ratio
FINE = np.linspace(-0.75, 0.75, 7)  # around the best of them
OFF = -12.0  # log10 of a ratio that is no more than rounding
STARTS = ((0.0, OFF), (OFF, -2.0))  # random walk | smooth trend: level, slope
VAGUE = 1e7  # prior variance of the first state, in measurement variances
STATES = 2
F = np.array([[1.0, 1.0], [0.0, 1.0]])


def smoothed(values):
    """Columns of `(n, d)`, each smoothed by its own most likely model."""
    found = [fitted(values, start) for start in STARTS]
    better = found[1][1] > found[0][1]
    return smooth(values, 10 ** np.where(better[:, None], found[1][0], found[0][0]))


def fitted(values, start):
    """Log10 of the ratios `(d, 2)`, and their log-likelihood, climbing from a start."""
    ratios = np.tile(np.array(start), (values.shape[1], 1))
    first = int(np.argmax(ratios[0]))  # the one that the start is about
    for offsets in (GRID, FINE):
        for which in (first, 1 - first):
            now = ratios[:, which, None]
            others = np.tile(offsets, (len(ratios), 1)) + (0.0 if offsets is GRID else now)
            candidates = np.concatenate([now, others], axis=1)
            ratios, log = most_likely(values, ratios, which, candidates)
    return ratios, log


def most_likely(values, ratios, which, candidates):
    """The ratios with one of them replaced by the best of its candidates `(d, k)`."""
    count = candidates.shape[1]
    tried = np.repeat(ratios[:, None, :], count, axis=1)
    tried[:, :, which] = candidates
    logs = likelihood(np.repeat(values, count, axis=1), 10 ** tried.reshape(-1, STATES))
    logs = logs.reshape(candidates.shape)
    rows, best = np.arange(len(ratios)), logs.argmax(axis=1)
    return tried[rows, best], logs[rows, best]


def likelihood(values, ratios):
    """Log-likelihood of each column with its ratios, at the best measurement variance.

    The first steps, as many as there are states, only find out where the series starts.
    """
    squares, logs, counted = 0.0, 0.0, len(values) - STATES
    for t, (error, spread, *_) in enumerate(filtered(values, ratios)):
        if t >= STATES:
            squares = squares + error**2 / spread
            logs = logs + np.log(spread)
    return -0.5 * (counted * np.log(squares / counted) + logs)


def filtered(values, ratios):
    """Step by step: innovation, its variance, and state and covariance before and after.

    Variances are in units of the measurement's. States are (level, slope); a covariance is given
    by its entries (level, both, slope), since small matrices cost NumPy more than numbers.
    """
    level_step, slope_step = ratios.T
    level, slope = values[0], np.zeros(len(ratios))
    a, b, c = np.full(len(ratios), VAGUE), np.zeros(len(ratios)), np.full(len(ratios), VAGUE)
    for y in values:
        error, spread = y - level, a + 1
        gain, slope_gain = a / spread, b / spread
        new_level, new_slope = level + gain * error, slope + slope_gain * error
        after = gain, slope_gain, c - slope_gain * b  # a - a^2 / (a + 1) = a / (a + 1)
        yield error, spread, (level, slope), (a, b, c), (new_level, new_slope), after
        level, slope = new_level + new_slope, new_slope
        a, b, c = (
            after[0] + 2 * after[1] + after[2] + level_step,
            after[1] + after[2],
            after[2] + slope_step,
        )


def smooth(values, ratios):
    """Levels given all of the series: the filter, and then back."""
    steps = list(filtered(values, ratios))
    levels = np.empty_like(values)
    state = np.stack(steps[-1][4])
    levels[-1] = state[0]
    for t in range(len(values) - 2, -1, -1):
        *_, after, covariance = steps[t]
        predicted, predicted_covariance = steps[t + 1][2:4]
        V, P = matrices(covariance), matrices(predicted_covariance)
        back = np.swapaxes(np.linalg.solve(P, F @ V), 1, 2)  # V F' P^-1
        state = np.stack(after) + np.einsum("bij,jb->ib", back, state - np.stack(predicted))
        levels[t] = state[0]
    return levels


def matrices(entries):
    """Covariances `(d, 2, 2)` from their three entries."""
    a, b, c = entries
    return np.stack([a, b, b, c], axis=1).reshape(-1, 2, 2)
