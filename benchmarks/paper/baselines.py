"""The study's baselines at their published settings, on standardised columns.

A method is fitted to the noisy training and validation rows and gives a function of a frame. What
the study leaves open is said where it is chosen.
"""

import numpy as np
from flax import nnx

from benchmarks.quality.smoothers import wavelet_threshold

from . import networks
from .copies import Copy

VARIANCE_KEPT = 0.95
MODES_DROPPED = 2
PROCESS, MEASUREMENT = 1e-5, 1e-2
WIDTH = 7
CORRUPTION = 0.1
"""Noise, in standard deviations, that the networks learn to take off: left open by the study."""


def nothing(copy: Copy):
    """Leaves the data alone."""
    return lambda frame: frame.copy()


def truth(copy: Copy):
    """The clean data: what no method can do better, and a yardstick for what downstream gains."""
    return lambda frame: (copy.data.learnt if frame.equals(copy.learnt) else copy.data.test).copy()


def column_by_column(smooth):
    """A method from `smooth(values) -> values`, in the order of the rows, table or series."""

    def learn(copy):
        data = copy.data

        def refine(frame):
            return data.unscaled(np.stack([smooth(v) for v in data.scaled(frame).T], axis=1))

        return refine

    return learn


def principal_components(copy: Copy):
    """As many components as hold 95 % of the variance."""
    from sklearn.decomposition import PCA

    data = copy.data
    model = PCA(VARIANCE_KEPT, svd_solver="full").fit(data.scaled(copy.learnt))

    def refine(frame):
        return data.unscaled(model.inverse_transform(model.transform(data.scaled(frame))))

    return refine


def wavelet(values):
    """db4, universal soft threshold; a constant column stays as it is."""
    return wavelet_threshold(values) if np.ptp(values) > 0 else values.copy()


def without_first_modes(values):
    """Empirical mode decomposition, less its two fastest modes; what is left of it, if none are."""
    from PyEMD import EMD

    return values - EMD()(values)[:MODES_DROPPED].sum(axis=0)


def kalman(values):
    """Scalar random walk, filtered: each value from those up to it."""
    level, variance = values[0], MEASUREMENT
    levels = np.empty_like(values)
    for t, value in enumerate(values):
        variance += PROCESS if t else 0.0
        gain = variance / (variance + MEASUREMENT)
        level, variance = level + gain * (value - level), (1 - gain) * variance
        levels[t] = level
    return levels


def trailing_mean(values):
    """Of 7 steps, fewer at the start."""
    sums = np.cumsum(np.concatenate([np.zeros(WIDTH), values]))
    counts = np.minimum(np.arange(1, len(values) + 1), WIDTH)
    return (sums[WIDTH:] - sums[:-WIDTH]) / counts


def autoencoder(copy: Copy):
    """Rows through 8 latent numbers."""
    return denoised_by(networks.Autoencoder, copy)


def residual_network(copy: Copy):
    """Rows plus what a dense network makes of them."""
    return denoised_by(networks.Residual, copy)


def denoised_by(network, copy: Copy):
    """A network of rows, trained to take noise off that was added to the rows at hand."""
    data = copy.data
    rows = data.scaled(copy.learnt)
    rng = np.random.default_rng(copy.seed)
    corrupted = rows + CORRUPTION * rng.normal(size=rows.shape)
    module = network(rows.shape[1], rngs=nnx.Rngs(copy.seed))
    model = networks.trained(module, corrupted, rows, data.training, copy.seed)
    return lambda frame: data.unscaled(networks.predicted(model, data.scaled(frame)))
