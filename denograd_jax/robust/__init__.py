"""Training on noisy data: what was learnt late or never is likely to be noise.

IDO counts how often a model is wrong about each instance while it is trained; RLAP asks how much
each neuron of a hidden layer has to do with each prediction. Both end in probabilities: `p_clean`,
by which models are trained, and its complement `p_noisy`, by which data may be moved. Models are
pure functions `apply(params, x)` of a batch, whatever library they come from: the `predict_batch`
of `denograd_jax.as_model` is one.
"""

from denograd_jax.robust._attribution import (
    Features,
    Head,
    Partition,
    attribution,
    most_sensitive,
    partition,
    sensitivity,
)
from denograd_jax.robust._base_model import BaseModel, first_base, follow
from denograd_jax.robust._beta_mixture import BetaMixture, beta_mixture, unit_range
from denograd_jax.robust._epochs import WeightedFit, fit_weighted
from denograd_jax.robust._ido import IdoFit, IdoState, ido
from denograd_jax.robust._ido_loss import SampleWeights, ido_loss, sample_weights
from denograd_jax.robust._ido_regression import (
    IdoRegressionFit,
    IdoRegressionState,
    ido_regression,
)
from denograd_jax.robust._rlap import Mode, RlapFit, fine_tune, prune, rlap
from denograd_jax.robust._views import View, jitter, swap

__all__ = [
    "BaseModel",
    "BetaMixture",
    "Features",
    "Head",
    "IdoFit",
    "IdoRegressionFit",
    "IdoRegressionState",
    "IdoState",
    "Mode",
    "Partition",
    "RlapFit",
    "SampleWeights",
    "View",
    "WeightedFit",
    "attribution",
    "beta_mixture",
    "fine_tune",
    "first_base",
    "fit_weighted",
    "follow",
    "ido",
    "ido_loss",
    "ido_regression",
    "jitter",
    "most_sensitive",
    "partition",
    "prune",
    "rlap",
    "sample_weights",
    "sensitivity",
    "swap",
    "unit_range",
]
