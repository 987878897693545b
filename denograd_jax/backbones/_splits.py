"""Which instances train a backbone, and which tell it when to stop."""

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["split_rows", "split_windows"]

_Indices = NDArray[np.int64]


def split_rows(count: int, fraction: float = 0.15, *, key: jax.Array) -> tuple[_Indices, _Indices]:
    """Splits rows at random.

    Args:
        count: Number of rows.
        fraction: Share of the rows that validates.
        key: JAX random key; the same key gives the same split.

    Returns:
        Sorted indices of the training and of the validation rows. Where there are too few rows to
        hold one out, all of them are in both.
    """
    shuffled = np.asarray(jax.random.permutation(key, count), np.int64)
    held_out = round(fraction * count)
    return _parts([shuffled[held_out:]], [shuffled[:held_out]])


def split_windows(
    starts: ArrayLike,
    span: int,
    fraction: float = 0.15,
    segments: ArrayLike | None = None,
) -> tuple[_Indices, _Indices]:
    """Splits windows in time: the last ones of each segment validate, those before them train.

    Windows that share a step with a validation window of the same segment are in neither part. A
    segment that would keep less than half of its windows for training is not cut; of such short
    segments, evenly spread ones validate whole.

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
    training, validation, short = [], [], []
    for label in np.unique(segments):
        members = np.flatnonzero(segments == label)
        members = members[np.argsort(starts[members])]
        before, after = _cut(members, starts[members], span, fraction)
        if 2 * len(before) < len(members):
            short.append(members)
        else:
            training.append(before)
            validation.append(after)
    held_out = np.diff(np.floor(np.arange(len(short) + 1) * fraction)) > 0
    for members, validates in zip(short, held_out, strict=True):
        (validation if validates else training).append(members)
    return _parts(training, validation)


def _cut(
    members: _Indices, starts: NDArray[np.integer], span: int, fraction: float
) -> tuple[_Indices, _Indices]:
    """Cuts one segment, its windows in order of time, and leaves a gap before the later part."""
    last = len(members) - round(fraction * len(members))
    if last == len(members):
        return members, members[last:]
    return members[starts + span <= starts[last]], members[last:]


def _parts(training: list[_Indices], validation: list[_Indices]) -> tuple[_Indices, _Indices]:
    training_part, validation_part = (
        np.sort(np.concatenate([np.empty(0, np.int64), *parts])) for parts in (training, validation)
    )
    return training_part, validation_part if validation_part.size else training_part
