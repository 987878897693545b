"""The noise of a series, found with its model: what the rule "auto" works with."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from denograd_jax._frames._reading import Reading
from denograd_jax._types import Model
from denograd_jax.calibration import density_of, series_noise

__all__ = ["FoundNoise", "find_noise"]


class FoundNoise(NamedTuple):
    """What a series says of its noise, in standardised units.

    Attributes:
        variance: Of each column of the table, `(n,)`; 0 where noise cannot be told from signal.
        covariance: Of the model's residuals, `(q, q)`.
    """

    variance: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @property
    def scale(self) -> NDArray[np.float64]:
        """Standard deviation of the noise, `(1, n)`."""
        return np.sqrt(self.variance)[None]

    def told(self, movable: NDArray[np.bool_]) -> str:
        """In words, for the settings; `movable` are the columns that were asked, `(n,)`."""
        found = np.sqrt(self.variance[self.variance > 0])
        if not found.size:
            return "none that could be told from the signal"
        least, most = found.min(), found.max()
        many = f"{found.size} of {movable.sum()} columns"
        return f"{least:.2g} to {most:.2g} standard deviations found, in {many}"


def find_noise(model: Model, reading: Reading) -> FoundNoise:
    """Judge a series by a model of it.

    Args:
        model: In standardised units.
        reading: The series; what is learnt is learnt from all of it.

    Raises:
        DataError: A column is never observed behind a window.
    """
    table, timeline, layout = reading.table, reading.timeline, reading.design.layout
    assert timeline is not None
    assert layout is not None
    problem = reading.pose(np.broadcast_to(table.movable, table.values.shape))
    density = density_of(model, problem.layout, problem.arrays)
    score = problem.to_table(density.score_x, density.score_y, len(table.labels))
    order = timeline.order
    variance = series_noise(
        table.standardised()[order], score[order], timeline.segments, layout.span
    )
    return FoundNoise(np.where(table.movable, variance, 0), density.covariance)
