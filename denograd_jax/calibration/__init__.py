"""What data say of their own noise."""

from denograd_jax.calibration._density import Density, density_of
from denograd_jax.calibration._noise_scales import series_noise
from denograd_jax.calibration._nugget import nugget

__all__ = ["Density", "density_of", "nugget", "series_noise"]
