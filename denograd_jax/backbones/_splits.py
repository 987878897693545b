"""Which instances train a backbone, and which tell it when to stop."""

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["split_rows", "split_windows"]

_Split = tuple[NDArray[np.intp], NDArray[np.intp]]


def split_rows(count: int, fraction: float = 0.15, *, key: jax.Array) -> _Split:
    """Splits rows at random.

    Args:
        count: Number of rows.
        fraction: Share of the rows that validates.
        key: JAX random key; the same key gives the same split.

    Returns:
        Sorted indices of the training and of the validation rows. Where there are too few rows to
        hold one out, all of them are in both.
    """
    validates = np.zeros(count, bool)
    validates[np.asarray(jax.random.permutation(key, count))[: round(fraction * count)]] = True
    return _positions(~validates, validates)


def split_windows(
    starts: ArrayLike,
    span: int,
    fraction: float = 0.15,
    segments: ArrayLike | None = None,
) -> _Split:
    """Splits windows in time: the last ones of each segment validate, those before them train.

    Windows that share a step with a validation window are in neither part. Where this gap would
    take more than half of the windows before it, the segment is not cut; of such short segments,
    evenly spread ones validate whole and the others train.

    Args:
        starts: First step of each window, `(n,)`, counted through the whole panel.
        span: Steps that a window and its target cover together: length + horizon.
        fraction: Share of the windows that validates.
        segments: Label of the segment (one series, or one stretch of it) that each window lies
            in, `(n,)`; all in one by default.

    Returns:
        Positions in `starts`, sorted, of the training and of the validation windows. Where there
        are too few windows to hold one out, all of them are in both.
    """
    starts = np.asarray(starts)
    segments = np.zeros(len(starts)) if segments is None else np.asarray(segments)
    trains, validates = np.zeros((2, len(starts)), bool)
    short = []
    for members in _by_segment(starts, segments):
        cut = len(members) - round(fraction * len(members))
        first_validating = starts[members[cut]] if cut < len(members) else -np.inf
        before = members[:cut]
        clear = before[starts[before] + span <= first_validating]
        if 2 * len(clear) < len(before):
            short.append(members)
        else:
            trains[clear] = True
            validates[members[cut:]] = True
    whole = np.diff(np.floor(np.arange(len(short) + 1) * fraction)) > 0
    for members, held_out in zip(short, whole, strict=True):
        (validates if held_out else trains)[members] = True
    return _positions(trains, validates)


def _by_segment(
    starts: NDArray[np.generic], segments: NDArray[np.generic]
) -> list[NDArray[np.intp]]:
    """Positions of the windows of each segment, in order of time."""
    order = np.lexsort((starts, segments))
    _, first = np.unique(segments[order], return_index=True)
    return np.split(order, first[1:])


def _positions(trains: NDArray[np.bool_], validates: NDArray[np.bool_]) -> _Split:
    training = np.flatnonzero(trains)
    return training, np.flatnonzero(validates) if validates.any() else training
