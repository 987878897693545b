"""The noise of a series, found with its model: what the rule "auto" works with."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from denograd_jax._core._prepare import prepare
from denograd_jax._frames._problems import Problem
from denograd_jax._frames._reading import Reading
from denograd_jax._types import Model
from denograd_jax.calibration import density_of, expected_gain, series_noise, spikes
from denograd_jax.layouts import Windows

__all__ = ["FoundNoise", "find_noise", "noise_in_words", "spikes_in_words", "without_spikes"]

LOOKED_AT = 16
"""Windows at which a model's slopes are taken; those of a linear one are the same everywhere."""


class FoundNoise(NamedTuple):
    """What a series says of its noise, in standardised units.

    Attributes:
        likely: Variance of each column's noise, `(n,)`, spikes aside; 0 where it cannot be told
            from signal.
        covariance: Of the model's residuals, `(q, q)`, spikes aside.
        spikes: How many cells of each column are spikes, `(n,)`.
        precision: Of a cell given all others, on average, `(n,)`.
        squared_score: Mean square of the score, `(n,)`; the same if the density is right.
    """

    likely: NDArray[np.float64]
    covariance: NDArray[np.float64]
    spikes: NDArray[np.intp]
    precision: NDArray[np.float64]
    squared_score: NDArray[np.float64]

    @property
    def strength(self) -> NDArray[np.float64]:
        """Part of a noise's variance to take off for it, `(n,)`: 1 if the density is right.

        One step moves a cell by `t s`, and `s` goes with its noise as the precision h says: the
        error, v - 2 t v h + t^2 E[s^2], is least at t = v h / E[s^2].
        """
        return np.minimum(1, self.precision / np.maximum(self.squared_score, 1e-12))

    @property
    def variance(self) -> NDArray[np.float64]:
        """What is taken for the noise's, `(n,)`."""
        return self.likely * self.strength

    @property
    def scale(self) -> NDArray[np.float64]:
        """Likely standard deviation of the noise, `(1, n)`."""
        return np.sqrt(self.likely)[None]

    def told(self, movable: NDArray[np.bool_]) -> str:
        """In words, for the settings; `movable` are the columns that were asked, `(n,)`."""
        found = np.sqrt(self.likely[self.likely > 0])
        aside = spikes_in_words(int(self.spikes.sum()))
        if not found.size:
            return f"none that could be told from the signal{aside}"
        gain = expected_gain(self.likely, self.variance, self.precision, self.squared_score)
        return f"{noise_in_words(found, movable, gain)}{aside}"


def noise_in_words(found: NDArray[np.float64], movable: NDArray[np.bool_], gain: float) -> str:
    """Standard deviations that were found, in how many columns, and the part that should go."""
    sizes = f"{found.min():.2g} to {found.max():.2g} standard deviations"
    many = f"{found.size} of {movable.sum()} columns"
    return f"{sizes} found in {many}, of which about {gain:.0%} should come off"


def spikes_in_words(cells: int) -> str:
    """How many cells stand out, to be said after the noise; nothing where none does."""
    if not cells:
        return ""
    return f"; {cells} cell{'s' * (cells > 1)} stand{'s' * (cells == 1)} out as spikes"


def find_noise(model: Model, reading: Reading) -> FoundNoise:
    """Judge a series by a model of it.

    Args:
        model: In standardised units.
        reading: The series; what is learnt is learnt from all of it.

    Raises:
        DataError: A column is never observed behind a window.
    """
    movable = np.broadcast_to(reading.table.movable, reading.table.values.shape)
    given, reading = reading, without_spikes(reading, movable)
    table, timeline, layout = reading.table, reading.timeline, reading.design.layout
    assert timeline is not None
    assert layout is not None
    problem = reading.pose(movable)
    density = density_of(model, problem.layout, problem.arrays)
    score = problem.to_table(density.score_x, density.score_y, len(table.labels))
    order = timeline.order
    precision = _mean_precision(model, density.covariance, problem, len(table.labels))
    likely = series_noise(
        table.standardised()[order], score[order], precision, timeline.segments, layout.span
    )
    replaced = np.nan_to_num(table.values) != np.nan_to_num(given.table.values)
    squares = np.where(np.isnan(table.values), 0, score) ** 2
    return FoundNoise(
        np.where(table.movable, likely, 0),
        density.covariance,
        replaced.sum(axis=0),
        precision,
        squares.sum(axis=0) / np.maximum((~np.isnan(table.values)).sum(axis=0), 1),
    )


def _mean_precision(
    model: Model, covariance: NDArray[np.float64], problem: Problem, columns: int
) -> NDArray[np.float64]:
    """As `information_of`, `(columns,)`, from a few windows, for cells that as many see as can."""
    layout = problem.layout
    assert isinstance(layout, Windows)
    data = prepare(layout, *problem.arrays)
    valid = np.flatnonzero(np.asarray(layout.valid(data)))
    picked = valid[np.linspace(0, len(valid) - 1, LOOKED_AT).astype(np.intp)]
    windows = layout.gather(data, jnp.asarray(picked)).x

    def predict(x: jax.Array) -> jax.Array:
        return model.predict(model.params, x).reshape(-1)

    slopes = np.asarray(jax.jit(jax.vmap(jax.jacrev(predict)))(windows), np.float64)
    precision = np.linalg.inv(covariance)
    of_inputs = np.einsum("nqtd,qr,nrtd->d", slopes, precision, slopes) / len(picked)
    found = np.zeros(columns)
    found[problem.inputs] += of_inputs[: len(problem.inputs)]
    found[problem.targets] += np.diag(precision)
    return found / layout.stride


def without_spikes(reading: Reading, movable: NDArray[np.bool_]) -> Reading:
    """The same series with spikes among these cells `(N, n)` replaced by what others say there.

    Spikes are judged by this series alone: they differ in size from one record to the next.
    """
    table, timeline = reading.table, reading.timeline
    assert timeline is not None
    found = spikes(table.standardised()[timeline.order], timeline.segments)
    where, values = np.zeros(table.values.shape, bool), np.zeros(table.values.shape)
    where[timeline.order], values[timeline.order] = found.found, found.values
    cleaned = np.where(where & movable, values * table.scale + table.mean, table.values)
    return reading._replace(table=dataclasses.replace(table, values=cleaned))
