"""Models from what people have: functions, modules of neural-network libraries, estimators.

Importing this package imports none of those libraries.
"""

from denograd_jax.models._as_model import as_model
from denograd_jax.models._finite_differences import finite_differences
from denograd_jax.models._gaussian import (
    GaussianParams,
    gaussian,
    gaussian_nll,
    incomplete_gaussian_nll,
)

__all__ = [
    "GaussianParams",
    "as_model",
    "finite_differences",
    "gaussian",
    "gaussian_nll",
    "incomplete_gaussian_nll",
]
