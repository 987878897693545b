"""Systems without noise, of which the truth is known."""

import numpy as np
import pandas as pd

HOURS = 24
LORENZ_STEP = 0.01
LORENZ_STRIDE = 3  # a step of 0.03: some 25 samples an orbit


def seasonal(rows, rng):
    """Six channels that mix a daily and a weekly rhythm with two slow common factors."""
    t = np.arange(rows)[:, None]
    phase = rng.uniform(0, 2 * np.pi, (2, 6))
    daily = np.sin(2 * np.pi * t / HOURS + phase[0])
    weekly = np.sin(2 * np.pi * t / (7 * HOURS) + phase[1])
    factors = slow_walks(rows, rng) @ rng.normal(size=(2, 6))
    values = daily * (1 + 0.3 * weekly) + 0.5 * weekly + 0.5 * factors
    return pd.DataFrame(values, columns=[f"channel{i}" for i in range(6)])


def slow_walks(rows, rng, forget=0.02):
    """Two smooth stationary walks of unit variance: AR(1) on top of AR(1)."""
    from scipy.signal import lfilter

    walks = rng.normal(size=(rows, 2))
    for _ in range(2):
        walks = lfilter([forget], [1, forget - 1], walks, axis=0)
    return walks / walks.std(axis=0)


def lorenz(rows, rng):
    """The Lorenz system (sigma 10, rho 28, beta 8/3) on its attractor, by Runge-Kutta."""
    state = np.array([1.0, 1.0, 20.0]) + rng.normal(size=3)
    path = np.empty((rows, 3))
    for i in range(-500, rows):  # 15 units of time to reach the attractor
        for _ in range(LORENZ_STRIDE):
            state = runge_kutta(state, LORENZ_STEP)
        if i >= 0:
            path[i] = state
    return pd.DataFrame(path, columns=["x", "y", "z"])


def runge_kutta(state, step):
    k1 = lorenz_slope(state)
    k2 = lorenz_slope(state + step / 2 * k1)
    k3 = lorenz_slope(state + step / 2 * k2)
    k4 = lorenz_slope(state + step * k3)
    return state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def lorenz_slope(state):
    x, y, z = state
    return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])


def friedman1(rows, rng):
    """Ten independent columns, of which five explain y (Friedman 1991)."""
    x = rng.uniform(size=(rows, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    return table(x, y + 10 * x[:, 3] + 5 * x[:, 4])


def rank2(rows, rng):
    """Five columns of rank two, and a smooth function of them: most noise in x can be seen."""
    loadings = rng.normal(size=(2, 5))
    x = rng.normal(size=(rows, 2)) @ loadings / np.linalg.norm(loadings, axis=0)
    weights = rng.normal(size=5)
    return table(x, np.tanh(x @ weights / np.linalg.norm(weights)) + 0.5 * x[:, 0])


def table(x, y):
    """Columns x0, x1, ... and y."""
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])
    frame["y"] = y
    return frame
