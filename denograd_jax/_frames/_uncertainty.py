"""What a density says of each cell: how far off it is, and how sharply it is pinned down."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._frames._noise_found import FoundNoise, without_spikes
from denograd_jax._frames._reading import Reading
from denograd_jax._frames._row_density import RowDensity, with_replaced
from denograd_jax._types import Model
from denograd_jax.calibration import error_after, excess_of, information_of, score_of
from denograd_jax.errors import UnsupportedError
from denograd_jax.models import gaussian

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement

__all__ = ["Cells", "posterior_variance", "seen_by", "standard_errors"]

Floats = NDArray[np.float64]

DOUBT = 0.1
"""Of a variance of noise that was found, as a part of it; most are between 1 and 1.2 times true."""


class Cells(NamedTuple):
    """Of each cell of a table, in standardised units, `(N, n)`; NaN where none is observed.

    Attributes:
        score: Gradient of the log-density of the noisy data, as far as it counts.
        precision: Minus its derivative by the same cell; its inverse is the variance of the cell
            given all others.
        replaced: Cells that stood out as spikes; the density is of what stands in for them.
        of_noisy_rows: Mean square error of replaced cells of which the whole row was off; 0 where
            the others of the row, or of the series, are believed.
        excess: By how much the squared score exceeds the precision, since the density was fitted to
            the same data, as a part of it, `(n,)`.
    """

    score: Floats
    precision: Floats
    replaced: NDArray[np.bool_]
    of_noisy_rows: Floats
    excess: Floats


def seen_by(model: Model, noise: FoundNoise | RowDensity, reading: Reading) -> Cells:
    """What the density that the rule "auto" works with says of data.

    Args:
        model: Of the targets, in standardised units.
        noise: What was found with it.
        reading: The data.
    """
    values = reading.table.values
    movable = np.broadcast_to(reading.table.movable, values.shape)
    of_noisy_rows = np.zeros(values.shape)
    if isinstance(noise, RowDensity):
        spikes = noise.spikes_in(reading, movable)
        of_noisy_rows += spikes.rows[:, None] * spikes.variance
        cleaned = with_replaced(reading, spikes)
        score, precision = noise.curvature(cleaned)
        seen = ~np.isnan(values)
        excess = excess_of((seen * score**2).sum(axis=0), (seen * precision.clip(0)).sum(axis=0))
    else:
        cleaned = without_spikes(reading, movable)
        problem = cleaned.pose(movable)
        whole, (x_weight, y_weight) = gaussian(model, noise.covariance), noise.weights(problem)
        instances = whole, problem.layout, problem.arrays
        said = score_of(*instances, x_weight=x_weight, y_weight=y_weight)
        found = information_of(*instances, x_weight=x_weight, y_weight=y_weight)
        columns = values.shape[1]
        score = problem.to_table(*said, columns)
        precision = problem.to_table(found.x, found.y, columns)
        excess = noise.excess
    replaced = np.nan_to_num(cleaned.table.values) != np.nan_to_num(values)
    gone = np.isnan(values)
    score, precision = np.where(gone, np.nan, score), np.where(gone, np.nan, precision)
    return Cells(score, precision, replaced, of_noisy_rows, excess)


def posterior_variance(cells: Cells, taken: Floats, noise: Floats, doubt: float) -> Floats:
    """Mean square error of each cell after one step, in squared standardised units, `(N, n)`.

    Where all of the noise was taken and the density is right that is the posterior variance,
    `v - v^2 h` (Robbins 1956, Efron 2011). Added is the larger of two things that are not known.
    Of a density that was fitted to the same data the squared score s^2 exceeds its curvature h, and
    the score goes less with the noise than h says: each by about half of the excess. And a variance
    of the noise that was found is known to a tenth of it only. A cell that was replaced is known by
    all others alone, `1 / h`, and less well than that where these are noisy too.

    Args:
        cells: What the density says of them.
        taken: Variance that the step took for the noise's, `(1, n)` or `(N, n)`.
        noise: Best guess of that variance, of the same shape.
        doubt: Of that guess, as a part of it.
    """
    h = np.maximum(cells.precision, 0)
    fitted = cells.excess * taken * h * (noise + taken / 2)
    guessed = doubt * noise * np.abs(1 - 2 * taken * h)  # the error's slope by the guess
    error = error_after(noise, taken, h, h) + np.maximum(fitted, guessed)
    replaced = np.maximum(1 / np.maximum(h, 1), cells.of_noisy_rows)
    return np.where(cells.replaced, replaced, np.minimum(error, noise))


def standard_errors(refinement: "Refinement") -> pd.DataFrame:
    """See `Refinement.standard_errors`."""
    found, origin = refinement.fitted.noise, refinement.origin
    if refinement.settings.get("rule") != "auto" or found is None:
        raise UnsupportedError(
            'error bars come from what the rule "auto" knows of the noise: leave rule out.'
        )
    if refinement.lag is not None:
        raise UnsupportedError("error bars are for refinements that look ahead: leave causal out.")
    reading, shown = origin.reading, origin.shown
    told = None if origin.noise is None else origin.noise**2
    taken, noise = (found.variance[None], found.likely[None]) if told is None else (told, told)
    cells = refinement.cells
    if told is not None:  # spikes are looked for only where nothing is told
        cells = cells._replace(replaced=np.zeros_like(cells.replaced))
    variance = posterior_variance(cells, taken, noise, DOUBT if told is None else 0)
    if told is None:
        variance = np.where(found.measured | cells.replaced, variance, np.nan)
    deviation = np.sqrt(variance) * reading.table.scale
    return pd.DataFrame(
        deviation[:, shown], index=refinement.before.index, columns=refinement.before.columns
    )
