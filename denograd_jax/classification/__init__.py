"""Noise in class labels: which rows are labelled wrongly, and labels that move."""

from denograd_jax.classification._find_noisy import find_noisy
from denograd_jax.classification._label_noise import LabelNoise, fit_label_noise
from denograd_jax.classification._noisy_rows import NoisyRows
from denograd_jax.classification._simplex import simplex_targets

__all__ = ["LabelNoise", "NoisyRows", "find_noisy", "fit_label_noise", "simplex_targets"]
