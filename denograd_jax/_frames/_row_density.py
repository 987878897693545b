"""The density of a table's rows, and the noise in them: what the rule "auto" works with."""

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from denograd_jax._core._prepare import prepare
from denograd_jax._frames._imputation import predictions
from denograd_jax._frames._noise_found import noise_in_words, spikes_in_words
from denograd_jax._frames._problems import Problem
from denograd_jax._frames._reading import Reading
from denograd_jax._types import Loss, Model
from denograd_jax.backbones import LEAST_NOISE, Mixture, fit_mixture, judge
from denograd_jax.calibration import (
    RowSpikes,
    covariance_of_rows,
    expected_cells,
    expected_gain,
    mixture_size,
    row_noise,
    row_spikes,
)
from denograd_jax.models import (
    MixtureParams,
    beside,
    joint,
    joint_nll,
    mixture,
    mixture_nll,
    mixture_regression,
    rows_nll,
)

__all__ = ["RowDensity", "find_row_density", "with_replaced"]

Floats = NDArray[np.float64]
CHUNK = 8192

BEGINNINGS = 3
"""Of the mixture, whose mean density is taken: the score of one hangs on where it began."""

ENOUGH_ROWS = 1000
"""Rows without a gap from which the noise is known as well as from more that have been filled."""


class RowDensity(NamedTuple):
    """What rows say of themselves, in standardised units, for the n columns of the table.

    Attributes:
        variance: Of each column's noise, `(n,)`; 0 where nothing tells it from the signal.
        likely: Best guess of it, `(n,)`, of which the variance is a cautious part.
        ceiling: The most that it could be, `(n,)`.
        precision: Of a cell given the rest of its row, on average, `(n,)`.
        squared_score: Mean square of the score, `(n,)`; the same if the density is right.
        spread: Covariance of the columns, `(n, n)`, by which missing cells are filled.
        weights: Of the K components of a mixture of Gaussians over some columns, `(K,)`.
        means: `(K, m)`.
        covariances: `(K, m, m)`.
        columns: These columns, `(m,)`, the q targets behind the others.
        targets: Number q, `()`; 0 where the target is of classes, and no part of the density.
        residuals: Covariance of the residuals of a model of the targets, `(q, q)`: of the mixture,
            or of another that was given.
        spikes: How many cells of each column are spikes, `(n,)`; all else is said of the table
            without them.
    """

    variance: Floats
    likely: Floats
    ceiling: Floats
    precision: Floats
    squared_score: Floats
    spread: Floats
    weights: Floats
    means: Floats
    covariances: Floats
    columns: NDArray[np.intp]
    targets: NDArray[np.intp]
    residuals: Floats
    spikes: NDArray[np.intp]

    @property
    def scale(self) -> Floats:
        """Standard deviation of the noise as far as it is believed, `(1, n)`."""
        return np.sqrt(self.variance)[None]

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Columns of whose noise something is known, `(n,)`."""
        return self.likely > 0

    @property
    def mixture(self) -> Mixture:
        """The density of `columns`."""
        return Mixture(self.weights, self.means, self.covariances)

    def regression(self) -> Model:
        """The mixture as a model of the targets; its input are all other columns of the table."""
        q = int(self.targets)
        known, explained = np.split(self.columns, [len(self.columns) - q])
        inputs = [j for j in range(len(self.variance)) if j not in explained]
        places = [inputs.index(j) for j in known]
        return mixture_regression(*self.mixture, targets=q, columns=np.array(places, np.intp))

    def around(self, model: Model) -> tuple[Model, Loss]:
        """A model of the targets with the density of whole rows, and the loss that this takes.

        Of classes that is the density of the features: labels have no say in it.
        """
        if self.targets == 0:
            return beside(model, self.regression()), rows_nll
        if isinstance(model.params, MixtureParams):
            return mixture(self.regression()), mixture_nll(int(self.targets))
        return joint(model, self.residuals, self.regression()), joint_nll

    def blurred(self, noise: Floats) -> "RowDensity":
        """The density of rows with this noise, `(N, n)` or `(1, n)`, where it is more than found.

        A component narrower than the noise would throw rows beyond it: one step moves a cell by
        the ratio of the noise's variance to the component's, which must not be above 1.
        """
        more = np.maximum((noise**2).mean(axis=0) - self.variance, 0)[self.columns]
        q = int(self.targets)
        return self._replace(
            covariances=self.covariances + np.diag(more),
            residuals=self.residuals + np.diag(more[len(more) - q :]),
        )

    def filled(self, reading: Reading) -> Floats:
        """The table, standardised, with missing cells at what the others of their row say."""
        return expected_cells(reading.table.standardised(), self.spread)

    def without_spikes(self, reading: Reading, movable: NDArray[np.bool_]) -> Reading:
        """The same rows with spikes among these cells `(N, n)` replaced by what others say there.

        Spikes are judged by these rows alone, of which there must be many.
        """
        return with_replaced(reading, self.spikes_in(reading, movable))

    def spikes_in(self, reading: Reading, movable: NDArray[np.bool_]) -> RowSpikes:
        """The spikes among these cells `(N, n)`, in standardised units."""
        return _spikes_among(movable, reading, self.spread)

    def without_gaps(self, problem: Problem, reading: Reading) -> Problem:
        """The problem with missing cells filled: they inform the others, and do not move.

        Missing labels of classes are filled with none, so that the row is refined all the same.
        """
        assert problem.y is not None
        z = self.filled(reading)
        x, y = problem.x.copy(), problem.y.copy()
        real = np.flatnonzero(problem.order >= 0)
        filled = z[problem.order[real]]
        x[real, : len(problem.inputs)] = filled[:, problem.inputs]
        y[real] = filled[:, problem.targets] if problem.targets else np.nan_to_num(y[real])
        return dataclasses.replace(problem, x=x, y=y)

    def curvature(self, reading: Reading) -> tuple[Floats, Floats]:
        """Gradient of the log-density by each cell of the table, and minus its own derivative.

        Returns:
            Score and precision, `(N, n)` each; 0 in columns that the mixture does not know.
        """
        z = self.filled(reading)[:, self.columns]
        score, precision = np.zeros((2, *reading.table.values.shape))
        for start in range(0, len(z), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(z)))
            seen = judge(self.mixture, z[rows])
            squares = np.einsum("kn,knd->nd", seen.shares, seen.pulls**2)
            score[np.ix_(rows, self.columns)] = seen.score
            spread = squares - seen.score**2
            precision[np.ix_(rows, self.columns)] = seen.precision - spread
        return score, precision

    def with_residuals(self, model: Model, problem: Problem, reading: Reading) -> "RowDensity":
        """The same for another model of the targets, by its residuals on these rows."""
        problem = self.without_gaps(problem, reading)
        data = prepare(problem.layout, *problem.arrays)
        rows = np.flatnonzero(problem.order >= 0)
        assert problem.y is not None
        missed = predictions(model, problem.layout, data, rows) - problem.y[rows]
        observed = ~np.isnan(reading.table.values[:, problem.targets]).any(axis=1)
        missed = missed[observed & np.isfinite(missed).all(axis=1)].astype(np.float64)
        least = LEAST_NOISE**2 * np.eye(missed.shape[1])
        return self._replace(residuals=missed.T @ missed / max(len(missed), 1) + least)

    def told(self, movable: NDArray[np.bool_]) -> str:
        """In words, for the settings; `movable` are the columns that were asked, `(n,)`."""
        found = np.sqrt(self.likely[self.likely > 0])
        aside = spikes_in_words(int(self.spikes.sum()))
        if not found.size:
            return f"none that could be told from the signal{aside}"
        gain = expected_gain(self.likely, self.variance, self.precision, self.squared_score)
        return f"{noise_in_words(found, movable, gain)}{aside}"


def find_row_density(
    reading: Reading, problem: Problem, told: Floats | None, seed: int
) -> RowDensity:
    """The noise in the rows of a reading, and the density of what it has blurred.

    No component of the mixture is narrower than the noise may be. Indicators are left out of it:
    with them components would be told apart by combinations of these, and blur the rest.

    Args:
        reading: The rows.
        problem: Its inputs and targets.
        told: Standard deviation of the noise where it is known, `(N, n)` or `(1, n)`.
        seed: Of what is drawn.
    """
    observed = reading.table.standardised()
    spread = covariance_of_rows(observed)
    spikes = np.zeros(observed.shape[1], np.intp)
    if told is None:
        movable = np.broadcast_to(reading.table.movable, observed.shape)
        found_spikes = _spikes_among(movable, reading, spread)
        spikes = found_spikes.found.sum(axis=0)
        reading = with_replaced(reading, found_spikes)
    if spikes.any():
        observed = reading.table.standardised()
        spread = covariance_of_rows(observed)
    table = reading.table
    z = expected_cells(observed, spread)
    variance, likely, ceiling = np.zeros((3, len(table.labels)))
    moving = np.flatnonzero(table.movable)
    seen = ~np.isnan(observed)
    if told is None:
        rows = _to_judge(seen[:, moving])
        judged = np.ix_(rows, moving)
        noise = row_noise(z[judged], observed=seen[judged], seed=seed)
        variance[moving], likely[moving], ceiling[moving] = noise
    else:
        variance[moving] = (told**2).mean(axis=0)[moving]
        likely = ceiling = variance
    inputs = [j for j in problem.inputs if _distinct(table.values[:, j]) > 2]
    columns = np.array([*inputs, *problem.targets], np.intp)
    informative = seen[:, columns].any(axis=1)
    if informative.sum() > 1:  # the others are all at one point, which would be a component's
        z = z[informative]
    z = z[:, columns]
    components = mixture_size(*z.shape)
    density = fit_mixture(z, ceiling[columns], components, beginnings=BEGINNINGS, seed=seed)
    q = len(problem.targets)
    unknown = np.zeros(len(table.labels))
    about = [variance, likely, ceiling, unknown, unknown, spread]
    found = RowDensity._make([*about, *density, columns, np.array(q), np.eye(q), spikes])
    score, precision = found.curvature(reading)
    found = found._replace(precision=precision.mean(axis=0), squared_score=(score**2).mean(axis=0))
    return found.with_residuals(found.regression(), problem, reading) if q else found


def _spikes_among(movable: NDArray[np.bool_], reading: Reading, spread: Floats) -> RowSpikes:
    """Spikes among these cells `(N, n)` of rows by whose covariance `(n, n)` gaps are filled."""
    observed = reading.table.standardised()
    spikes = row_spikes(expected_cells(observed, spread), observed=~np.isnan(observed))
    return spikes._replace(found=spikes.found & movable)


def with_replaced(reading: Reading, spikes: RowSpikes) -> Reading:
    """The same rows with what stands in for the spikes; themselves where none is one."""
    table = reading.table
    if not spikes.found.any():
        return reading
    values = np.where(spikes.found, spikes.values * table.scale + table.mean, table.values)
    return reading._replace(table=dataclasses.replace(table, values=values))


def _to_judge(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows that the noise is judged by, `(N,)`: those without a gap, if they are many.

    A cell that was filled has no noise of its own. Where rows are few, all that hold anything.
    """
    complete = np.asarray(seen.all(axis=1))
    anything = np.asarray(seen.any(axis=1))
    many = complete.sum() >= min(ENOUGH_ROWS, len(seen) / 2)
    return complete if many else anything


def _distinct(column: Floats) -> int:
    """How many values there are, but for missing ones."""
    return len(np.unique(column[~np.isnan(column)]))
