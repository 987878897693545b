"""Models from what people have: functions, modules of neural-network libraries, estimators.

Importing this package imports none of those libraries.
"""

from denograd_jax.models._as_model import as_model
from denograd_jax.models._by_fold import by_fold
from denograd_jax.models._finite_differences import finite_differences
from denograd_jax.models._gaussian import (
    GaussianParams,
    gaussian,
    gaussian_nll,
    incomplete_gaussian_nll,
)
from denograd_jax.models._joint import JointParams, beside, joint, joint_nll, rows_nll
from denograd_jax.models._mixture import MixtureParams, mixture, mixture_nll, mixture_regression

__all__ = [
    "GaussianParams",
    "JointParams",
    "MixtureParams",
    "as_model",
    "beside",
    "by_fold",
    "finite_differences",
    "gaussian",
    "gaussian_nll",
    "incomplete_gaussian_nll",
    "joint",
    "joint_nll",
    "mixture",
    "mixture_nll",
    "mixture_regression",
    "rows_nll",
]
