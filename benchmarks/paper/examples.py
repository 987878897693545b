"""Instances that a model of the target is trained and tested on."""

import numpy as np

from .data import WINDOW, DataSet


def cut(data: DataSet, frame) -> tuple[np.ndarray, np.ndarray]:
    """Rows without their target, or windows of all columns, and the target they should give.

    Args:
        data: Says which column is the target, and scales.
        frame: Some rows of it, or a stretch of the series.

    Returns:
        Inputs `(n, d)` or `(n, WINDOW, C)` and targets `(n,)`, standardised, in single precision.
    """
    values = data.scaled(frame).astype(np.float32)
    at = list(frame.columns).index(data.target)
    if data.kind == "rows":
        return np.delete(values, at, axis=1), values[:, at]
    views = np.lib.stride_tricks.sliding_window_view(values[:-1], WINDOW, axis=0)
    return views.swapaxes(1, 2), values[WINDOW:, at]


def learnt(data: DataSet, frame) -> tuple[np.ndarray, np.ndarray, int]:
    """Those of training, then those of validation, and how many are of training.

    No window reaches from the one part into the other.
    """
    parts = frame.iloc[: data.training], frame.iloc[data.training :]
    (x, y), (more_x, more_y) = (cut(data, part) for part in parts)
    return np.concatenate([x, more_x]), np.concatenate([y, more_y]), len(x)
