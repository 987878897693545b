"""Estimators with scikit-learn's interface; needs the extra `denograd-jax[sklearn]`."""

from denograd_jax.errors import MissingExtraError

try:
    import sklearn  # noqa: F401 - the estimators extend its classes
except ImportError as error:
    raise MissingExtraError(
        "denograd_jax.sklearn needs scikit-learn, which is not installed: pip install "
        '"denograd-jax[sklearn]"'
    ) from error

from denograd_jax.sklearn._data_refiner import DataRefiner
from denograd_jax.sklearn._refine_then_fit import RefineThenFit

__all__ = ["DataRefiner", "RefineThenFit"]
