"""A Gaussian of rows of which single cells are spikes, and how far it finds each cell off."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Law", "deviations", "robust_law", "spread_of"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ROUNDS = 2
"""More would let what was filled in confirm itself."""
WIDE = 3.5
"""Deviations, in robust standard deviations, from which on a cell is left out of the fit."""
MOST_SUSPECTS = 0.08
"""Of a column's cells; of a heavy tail no more is left out."""
FLANK, MARGIN = 0.025, 0.3
"""A column's usual range: without this share of cells on either side, and wider by this share."""
RIDGE = 1e-3
MOST_OF_ROW = 3
"""At most one cell in so many of a row is a spike, and eight: else the whole row is off."""


class Law(NamedTuple):
    """What rows say of each other's cells, as if they were Gaussian.

    Attributes:
        mean: `(d,)`.
        precision: `(d, d)`.
        unit: Deviation of a cell from the rest of its row that counts as 1, `(d,)`.
    """

    mean: Floats
    precision: Floats
    unit: Floats


def robust_law(z: Floats) -> Law:
    """Fitted to rows of which suspicious cells are filled in by the fit before."""
    low, high = np.asarray(np.quantile(z, [FLANK, 1 - FLANK], axis=0), np.float64)
    margin = MARGIN * (high - low)
    usual = np.clip(z, low - margin, high + margin)
    x, doubt = usual, np.zeros(z.shape[1])
    for _ in range(ROUNDS):
        covariance = np.cov(x.T).reshape(2 * x.shape[1:]) + np.diag(doubt + RIDGE)
        precision: Floats = np.linalg.inv(covariance.astype(np.float64))
        law = _with_unit(z, x.mean(axis=0), precision)
        apart, suspect = deviations(z, law)
        x = np.where(suspect, np.clip(z - apart, low - margin, high + margin), usual)
        doubt = suspect.mean(axis=0) / np.diag(law.precision)
    return law


def _with_unit(z: Floats, mean: Floats, precision: Floats) -> Law:
    """Tails that are heavier than a Gaussian's have a larger unit."""
    h = np.diag(precision)
    size = np.abs((z - mean) @ precision) / h
    tail = np.quantile(size, 1 - MOST_SUSPECTS, axis=0) / WIDE
    return Law(mean, precision, np.maximum.reduce([h**-0.5, spread_of(size), tail]))


def spread_of(apart: Floats) -> Floats:
    found: Floats = np.maximum(np.median(np.abs(apart), axis=0) / 0.6745, 1e-6)
    return found


def deviations(z: Floats, law: Law) -> tuple[Floats, Flags]:
    """Of each cell from the expectation given the rest of its row, and what is suspicious.

    Both `(n, d)`. In each row what deviates most becomes suspicious, and is put where the others
    expect it, until nothing else deviates. Of a row that still does nothing is suspicious.
    """
    x, suspect = z.copy(), np.zeros(z.shape, bool)
    h = np.diag(law.precision)
    pull = (z - law.mean) @ law.precision
    rows, order = np.arange(len(z)), list[tuple[NDArray[np.intp], NDArray[np.intp]]]()
    most = min(8, -(-z.shape[1] // MOST_OF_ROW))
    for turn in range(most + 1):
        size = np.abs(pull[rows]) / h
        wide = (size > WIDE * law.unit) & ~suspect[rows]
        # In units of the law a spike deviates more than all that it makes deviate.
        columns = np.where(wide, size * np.sqrt(h), 0).argmax(axis=1)
        hit = wide.any(axis=1)
        rows, columns = rows[hit], columns[hit]
        if turn == most:
            break
        suspect[rows, columns] = True
        order.append((rows, columns))
        _fill(x, pull, law.precision, order)
    suspect[rows] = False
    pull[rows] = (z[rows] - law.mean) @ law.precision
    return np.where(suspect, z - x, pull / h), suspect


def _fill(
    x: Floats,
    pull: Floats,
    precision: Floats,
    order: list[tuple[NDArray[np.intp], NDArray[np.intp]]],
) -> None:
    """Move the suspicious cells of rows that still have new ones to their joint expectation.

    Two turns of coordinate descent (Gauss and Seidel), in place; pull is `(x - mean) @ precision`.
    """
    active = np.zeros(len(x), bool)
    active[order[-1][0]] = True
    for _ in range(2):
        for all_rows, all_columns in order:
            some = active[all_rows]
            rows, columns = all_rows[some], all_columns[some]
            change = -pull[rows, columns] / precision[columns, columns]
            x[rows, columns] += change
            pull[rows] += change[:, None] * precision[columns]
