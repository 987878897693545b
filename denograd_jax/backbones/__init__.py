"""Default models in Flax, and how they are trained.

A backbone is a Flax module called on a batch of instances: rows `(n, d)` or windows `(n, W, C)` to
predictions `(n, q)`. `build` makes one by name, `train` fits it, `as_pure` turns any Flax module
into the pure functions that the rest of the library works with.
"""

from denograd_jax.backbones._folds import TrainedFolds, train_folds
from denograd_jax.backbones._linear import LinearFit, fit_linear
from denograd_jax.backbones._mixture import (
    LEAST_NOISE,
    Judged,
    Mixture,
    fit_mixture,
    judge,
    maximise,
    sort_out,
)
from denograd_jax.backbones._pure import as_pure, cast
from denograd_jax.backbones._registry import Kind, build, names
from denograd_jax.backbones._splits import split_rows, split_windows
from denograd_jax.backbones._training import Gather, Progress, Trained, train

__all__ = [
    "LEAST_NOISE",
    "Gather",
    "Judged",
    "Kind",
    "LinearFit",
    "Mixture",
    "Progress",
    "Trained",
    "TrainedFolds",
    "as_pure",
    "build",
    "cast",
    "fit_linear",
    "fit_mixture",
    "judge",
    "maximise",
    "names",
    "sort_out",
    "split_rows",
    "split_windows",
    "train",
    "train_folds",
]
