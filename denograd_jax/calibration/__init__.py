"""What data say of their own noise."""

from denograd_jax.calibration._density import (
    Density,
    density_of,
    residual_covariance,
    score_of,
)
from denograd_jax.calibration._filling import covariance_of_rows, expected_cells
from denograd_jax.calibration._information import Information, information_of
from denograd_jax.calibration._noise_scales import SeriesNoise, series_noise
from denograd_jax.calibration._nugget import nugget
from denograd_jax.calibration._row_noise import RowNoise, mixture_size, row_noise
from denograd_jax.calibration._row_spikes import RowSpikes, row_spikes
from denograd_jax.calibration._spikes import Spikes, spikes
from denograd_jax.calibration._strength import (
    error_after,
    excess_of,
    expected_gain,
    weights_of_parts,
)

__all__ = [
    "Density",
    "Information",
    "RowNoise",
    "RowSpikes",
    "SeriesNoise",
    "Spikes",
    "covariance_of_rows",
    "density_of",
    "error_after",
    "excess_of",
    "expected_cells",
    "expected_gain",
    "information_of",
    "mixture_size",
    "nugget",
    "residual_covariance",
    "row_noise",
    "row_spikes",
    "score_of",
    "series_noise",
    "spikes",
    "weights_of_parts",
]
