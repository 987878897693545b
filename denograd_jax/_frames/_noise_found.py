"""The noise of a series, found with its model: what the rule "auto" works with."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from denograd_jax._core._prepare import prepare, valid_instances
from denograd_jax._frames._problems import Problem
from denograd_jax._frames._reading import Reading
from denograd_jax._types import Model, Params, Predict
from denograd_jax.calibration import (
    excess_of,
    expected_gain,
    residual_covariance,
    score_of,
    series_noise,
    spikes,
    weights_of_parts,
)
from denograd_jax.calibration._noise_scales import TWICE
from denograd_jax.layouts import Data, Windows
from denograd_jax.models import gaussian

__all__ = ["FoundNoise", "find_noise", "noise_in_words", "spikes_in_words", "without_spikes"]

LOOKED_AT = 16
"""Windows at which a model's slopes are taken; those of a linear one are the same everywhere."""


class FoundNoise(NamedTuple):
    """What a series says of its noise, in standardised units.

    Attributes:
        variance: What is taken for the variance of each column's noise, `(n,)`, spikes aside; 0
            where it cannot be told from signal.
        likely: Best guess of that variance, `(n,)`.
        covariance: Of the model's residuals, `(q, q)`, spikes aside.
        spikes: How many cells of each column are spikes, or in rows that are off, `(n,)`.
        part_weights: What counts of a cell's score, from 0 to 1, `(2, n)`: of what windows say
            that have it as an input, and of what those say that have it as a target.
        precision: Minus the slope of what counts of the score, on average, `(n,)`.
        squared_score: The mean square of that, `(n,)`.
        excess: How much more the whole score goes with that than its slope says, `(n,)`: 0 if the
            density is right, more where it was fitted to the noise of the same data; at most 1.
    """

    variance: NDArray[np.float64]
    likely: NDArray[np.float64]
    covariance: NDArray[np.float64]
    spikes: NDArray[np.intp]
    part_weights: NDArray[np.float64]
    precision: NDArray[np.float64]
    squared_score: NDArray[np.float64]
    excess: NDArray[np.float64]

    @property
    def scale(self) -> NDArray[np.float64]:
        """Standard deviation of the noise as far as it is believed, `(1, n)`."""
        return np.sqrt(self.variance)[None]

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Columns of which more is known than that they have at least so much noise, `(n,)`."""
        return self.likely < (1 - 1e-6) * TWICE * self.variance

    def weights(self, problem: Problem) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What counts of the score, by input and by target, as `rules.tweedie` takes it."""
        of_inputs, of_targets = self.part_weights
        x, _ = problem.arrange(of_inputs[None], 1.0)
        return x, of_targets[problem.targets]

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
    covariance = residual_covariance(model, problem.layout, problem.arrays)
    parts = _parts(gaussian(model, covariance), problem, len(table.labels))
    observed = ~np.isnan(table.values)
    slopes = _mean_slopes(model, covariance, problem, len(table.labels))
    part_weights = _part_weights(parts, slopes, observed)
    score, precision = (
        (part_weights[:, None] * parts).sum(axis=0),
        (part_weights * slopes).sum(axis=0),
    )
    order = timeline.order
    variance, likely = series_noise(
        table.standardised()[order], score[order], precision, timeline.segments, layout.span
    )
    replaced = np.nan_to_num(table.values) != np.nan_to_num(given.table.values)
    return FoundNoise(
        variance=np.where(table.movable, variance, 0),
        likely=np.where(table.movable, likely, 0),
        covariance=covariance,
        spikes=replaced.sum(axis=0),
        part_weights=part_weights,
        precision=precision,
        squared_score=_mean(score**2, observed),
        excess=excess_of(_mean(score * parts.sum(axis=0), observed), precision),
    )


def _parts(model: Model, problem: Problem, columns: int) -> NDArray[np.float64]:
    """What windows say of the cells that are their inputs, and their targets, `(2, N, columns)`."""
    said = [
        score_of(model, problem.layout, problem.arrays, x_weight=x, y_weight=y)
        for x, y in ((1.0, 0.0), (0.0, 1.0))
    ]
    return np.stack([problem.to_table(*part, columns) for part in said])


def _part_weights(
    parts: NDArray[np.float64], slopes: NDArray[np.float64], observed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """See `FoundNoise.part_weights`."""
    products = _mean(parts[:, None] * parts, observed)
    columns = range(parts.shape[-1])
    return np.stack([weights_of_parts(slopes[:, j], products[..., j]) for j in columns], axis=1)


def _mean(of_cells: NDArray[np.float64], observed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Over the rows that are observed, `(..., N, n)` to `(..., n)`."""
    count = np.maximum(observed.sum(axis=0), 1)
    mean: NDArray[np.float64] = np.where(observed, of_cells, 0).sum(axis=-2) / count
    return mean


def _mean_slopes(
    model: Model, covariance: NDArray[np.float64], problem: Problem, columns: int
) -> NDArray[np.float64]:
    """Minus the slopes of the parts of the score, `(2, columns)`, on average.

    As `information_of`, from a few windows, for cells that as many see as can.
    """
    layout = problem.layout
    assert isinstance(layout, Windows)
    data = prepare(layout, *problem.arrays)
    valid = np.flatnonzero(np.asarray(valid_instances(layout, data)))
    picked = valid[np.linspace(0, len(valid) - 1, LOOKED_AT).astype(np.intp)]
    windows = _windows(layout, data, jnp.asarray(picked))
    slopes = np.asarray(_slopes(model.predict, model.params, windows), np.float64)
    precision = np.linalg.inv(covariance)
    of_inputs = np.einsum("nqtd,qr,nrtd->d", slopes, precision, slopes) / len(picked)
    found = np.zeros((2, columns))
    found[0, problem.inputs] = of_inputs[: len(problem.inputs)]
    found[1, problem.targets] = np.diag(precision)
    return found / layout.stride


@functools.partial(jax.jit, static_argnums=0)
def _slopes(predict: Predict, params: Params, windows: jax.Array) -> jax.Array:
    """Of each prediction by each input, `(n, q, W, C)`."""

    def outputs(window: jax.Array) -> jax.Array:
        return predict(params, window).reshape(-1)

    slopes: jax.Array = jax.vmap(jax.jacrev(outputs))(windows)
    return slopes


@functools.partial(jax.jit, static_argnums=0)  # else a dozen operations are compiled one by one
def _windows(layout: Windows, data: Data, index: jax.Array) -> jax.Array:
    return layout.gather(data, index).x


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
