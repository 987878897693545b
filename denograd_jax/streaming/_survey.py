"""The first look at a series: its moments, its gaps, and what identifies its content."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denograd_jax.errors import DataError
from denograd_jax.streaming._arrays import Columns, Series

__all__ = ["Survey", "blocks_of", "digest_of", "refuse_empty", "refuse_infinite", "refuse_rounded"]

Floats = NDArray[np.float64]


class Survey:
    """What is known of a series after its blocks were shown to it in order.

    Attributes:
        observed: Number of cells per column that are not missing, `(columns,)`.
        mean: Their mean, `(columns,)`; 0 where there are none.
        binary: Whether all of them are 0 or 1, `(columns,)`.
        largest: The largest of their magnitudes, `(columns,)`.
        last: Per block the last value seen before it, NaN where there is none: a list of
            `(columns,)`.
    """

    def __init__(self, columns: int) -> None:
        self.observed = np.zeros(columns, np.int64)
        self.mean = np.zeros(columns)
        self.binary = np.ones(columns, bool)
        self.largest = np.zeros(columns)
        self.last: list[Floats] = []
        self._squares = np.zeros(columns)
        self._now = np.full(columns, np.nan)
        self._digest = hashlib.blake2b(digest_size=16)

    @property
    def scale(self) -> Floats:
        """Standard deviation per column, `(columns,)`."""
        deviation: Floats = np.sqrt(self._squares / np.maximum(self.observed, 1))
        return deviation

    @property
    def digest(self) -> str:
        """What differs if any value differs."""
        return self._digest.hexdigest()

    def add(self, values: NDArray[Any]) -> None:
        """Take in the next block `(n, columns)`; moments by Chan, Golub and LeVeque 1983."""
        self._digest.update(np.ascontiguousarray(values).data)
        self.last.append(self._now)
        values = values.astype(np.float64)
        seen = ~np.isnan(values)
        count = seen.sum(axis=0)
        mean = np.where(seen, values, 0).sum(axis=0) / np.maximum(count, 1)
        total = np.maximum(self.observed + count, 1)
        apart = mean - self.mean
        with np.errstate(over="ignore"):  # a scale that is not finite tells its tale
            squares = (np.where(seen, values - mean, 0) ** 2).sum(axis=0)
            self._squares += squares + apart**2 * (self.observed * (count / total))
        self.mean += apart * (count / total)
        self.observed += count
        self.binary &= ((values == 0) | (values == 1) | ~seen).all(axis=0)
        self.largest = np.maximum(self.largest, np.where(seen, np.abs(values), 0).max(axis=0))
        latest = len(values) - 1 - seen[::-1].argmax(axis=0)
        latest = np.take_along_axis(values, latest[None], axis=0)[0]
        self._now = np.where(count > 0, latest, self._now)


def blocks_of(series: Series, size: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """The first step and the values of each block of `size` steps; the last may be shorter."""
    for begin in range(0, series.shape[0], size):
        yield begin, series.read(begin, min(begin + size, series.shape[0]))


def refuse_infinite(name: str, begin: int, values: NDArray[Any]) -> None:
    """Raise `DataError` where a block that begins at step `begin` has an infinite value."""
    infinite = np.isinf(values)
    if infinite.any():
        step, column = np.argwhere(infinite)[0]
        raise DataError(
            f"{name} has an infinite value, or one too large for its precision, at step "
            f"{begin + step:,} in column {column}: replace those, or set them to NaN to have them "
            "treated as missing."
        )


def refuse_empty(name: str, survey: Survey) -> None:
    """Raise `DataError` where no cell of a whole series is observed."""
    if not survey.observed.any():
        raise DataError(f"every cell of {name} is missing: there is nothing to refine.")


def refuse_rounded(sources: Sequence[Columns], still: NDArray[np.bool_], survey: Survey) -> None:
    """Raise `DataError` where a column that does not move would not keep its integers."""
    whole = np.concatenate([np.full(s.shape[1], s.dtype.kind in "iu") for s in sources])
    rounded = np.flatnonzero(whole & still & (survey.largest >= 2**53))
    if len(rounded):
        raise DataError(
            f"column {rounded[0]} is not to be moved, but holds integers of 2**53 or more, which "
            "the output, in float64, would round: leave the column out, or subtract a constant."
        )


def digest_of(series: Series, size: int) -> str:
    """What `Survey.digest` was, if the series is still the same."""
    digest = hashlib.blake2b(digest_size=16)
    for _, values in blocks_of(series, size):
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
