"""A series as a vector autoregression, in both directions of time, and its gaps filled by it."""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Pair",
    "Process",
    "alone",
    "filled",
    "fit_both",
    "residual_of",
    "usable_steps",
    "variance_of_rows",
]

ORDER = 3
RIDGE = 1.0


class Process(NamedTuple):
    """A vector autoregression.

    Attributes:
        bias: `(C,)`.
        weights: Of the values k + 1 steps before, `(K, C, C)`: input, output.
        precision: Of the residuals, `(C, C)`.
        usable: Steps that have all the values before them in their segment, `(T,)`.
    """

    bias: NDArray[np.float64]
    weights: NDArray[np.float64]
    precision: NDArray[np.float64]
    usable: NDArray[np.bool_]


Pair: TypeAlias = tuple[Process, Process]
"""Of a series, and of it in reverse: each knows nothing of where the other ends."""


def usable_steps(segments: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Steps with ORDER of them before in the same segment; of one, all neighbours are equal."""
    changes = np.r_[True, segments[1:] != segments[:-1]]
    begins = np.maximum.accumulate(np.where(changes, np.arange(len(segments)), 0))
    return np.arange(len(segments)) - begins >= ORDER


def _backward(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same of the series in reverse: a step is usable if the one ORDER behind it is."""
    reverse: NDArray[np.bool_] = np.r_[usable[ORDER:], np.zeros(ORDER, bool)][::-1]
    return reverse


def fit_both(x: NDArray[np.float64], usable: NDArray[np.bool_]) -> Pair:
    return _fit(x, usable), _fit(x[::-1], _backward(usable))


def _fit(x: NDArray[np.float64], usable: NDArray[np.bool_]) -> Process:
    """By least squares."""
    rows, channels = np.flatnonzero(usable), x.shape[1]
    inputs = np.concatenate(
        [np.ones((len(rows), 1)), *(x[rows - lag] for lag in range(1, ORDER + 1))], axis=1
    )
    gram = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ x[rows])
    residual = x[rows] - inputs @ weights
    covariance = residual.T @ residual / len(rows)
    scale = np.sqrt(np.diag(covariance)) + 1e-6
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    # Equal columns have a singular covariance.
    precision = (vectors / np.maximum(values, 1e-6)) @ vectors.T / np.outer(scale, scale)
    return Process(weights[0], weights[1:].reshape(ORDER, channels, channels), precision, usable)


def residual_of(
    process: Process, x: NDArray[np.float64], *, bias: bool = True
) -> NDArray[np.float64]:
    """`(T, C)`; 0 at steps that are not usable."""
    residual = x - process.bias if bias else x.copy()
    for lag, weights in enumerate(process.weights, 1):
        residual[lag:] -= x[:-lag] @ weights
    residual[~process.usable] = 0
    return residual


def _score(process: Process, residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient of the log-density, `(T, C)`."""
    pull = residual @ process.precision
    score = -pull
    for lag, weights in enumerate(process.weights, 1):
        score[:-lag] += pull[lag:] @ weights.T
    return score


def information_of_cells(process: Process) -> NDArray[np.float64]:
    """Diagonal of the precision of all cells together, `(T, C)`; 0 where no step has a say."""
    usable = process.usable[:, None].astype(np.float64)
    information = usable * np.diag(process.precision)
    for lag, weights in enumerate(process.weights, 1):
        each = np.einsum("io,op,ip->i", weights, process.precision, weights)
        information[:-lag] += usable[lag:] * each
    return information


def filled(
    pair: Pair, x: NDArray[np.float64], unknown: NDArray[np.bool_], steps: int
) -> NDArray[np.float64]:
    """Unknown cells by their joint expectation given all others: conjugate gradients."""
    forward, backward = pair
    information = information_of_cells(forward) + information_of_cells(backward)[::-1]
    unknown = unknown & (information > 0)
    if not unknown.any():
        return x

    def pull(values: NDArray[np.float64], *, bias: bool) -> NDArray[np.float64]:
        score = _score(forward, residual_of(forward, values, bias=bias))
        score += _score(backward, residual_of(backward, values[::-1], bias=bias))[::-1]
        return np.where(unknown, score, 0)

    scale = np.where(unknown, information, 1)
    left = pull(x, bias=True)
    direction = left / scale
    size = first = float((left * direction).sum())
    x = x.copy()
    for _ in range(steps):
        if size <= 1e-8 * first:
            break
        change = -pull(direction, bias=False)
        length = size / float((direction * change).sum())
        x += length * direction
        left -= length * change
        size, before = float((left * left / scale).sum()), size
        direction = left / scale + size / before * direction
    return x


def alone(process: Process, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each cell of x, less its expectation given all others, `(T, C)`."""
    information = information_of_cells(process)
    score = _score(process, residual_of(process, x))
    return -np.where(information > 0, score, 0) / np.where(information > 0, information, 1)


def variance_of_rows(process: Process) -> NDArray[np.float64]:
    """Of each column of a row, given all rows before and behind it, `(C,)`."""
    information = process.precision.copy()
    for weights in process.weights:
        information += weights @ process.precision @ weights.T
    variance: NDArray[np.float64] = np.diag(np.linalg.inv(information)).copy()
    return variance
