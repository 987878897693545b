"""The table of changed cells."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Evidence, Floats

__all__ = ["frame", "largest"]


def largest(sigmas: "Floats", filled: NDArray[np.bool_], k: int | None) -> NDArray[np.intp]:
    """Flat positions of the changed cells, largest first; filled ones, of no size, at the end.

    Args:
        sigmas: Change of each cell in standard deviations, `(N, columns)`; NaN where missing.
        filled: Cells that were missing and have a value now, `(N, columns)`.
        k: At most so many; None for all.
    """
    size = np.abs(np.nan_to_num(sigmas)).ravel()
    size[filled.ravel()] = np.finfo(np.float64).tiny
    cells = np.flatnonzero(size)
    if k is not None and k < len(cells):  # all that might be among them, ties included
        least = np.partition(size[cells], len(cells) - k)[len(cells) - k] if k else np.inf
        cells = cells[size[cells] >= least]
    return cells[np.argsort(-size[cells], kind="stable")][:k]


def frame(
    cells: NDArray[np.intp],
    before: pd.DataFrame,
    after: pd.DataFrame,
    sigmas: "Floats",
    evidence: "Evidence",
) -> pd.DataFrame:
    """A line for each of these cells; see `Refinement.changes`."""
    row, column = np.divmod(cells, max(before.shape[1], 1))

    def of(values: NDArray[Any]) -> NDArray[Any]:
        return np.broadcast_to(values, before.shape)[row, column]

    was, is_now = of(before.to_numpy()), of(after.to_numpy())
    return pd.DataFrame(
        {
            "row": before.index.to_flat_index().take(row),
            "column": _repeated(before.columns, column),
            "before": was,
            "after": is_now,
            "change": is_now - was,
            "sigmas": of(sigmas),
            **{name: of(values) for name, values in evidence._asdict().items()},
        },
        copy=False,
    )


def _repeated(labels: pd.Index, position: NDArray[np.intp]) -> pd.Categorical:
    """Labels by position, each held once however many cells there are."""
    return pd.Categorical.from_codes(position, labels.to_flat_index())
