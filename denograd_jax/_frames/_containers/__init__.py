"""Frames, series and arrays in, the same kind out: every container is seen as one data frame.

One module per kind gives a `View`: a pandas frame made for reading, and the way back, which puts
the cells that differ, and nothing else, into a copy of what the caller gave.
"""

from denograd_jax._frames._containers._labels import column_labels, column_or_level
from denograd_jax._frames._containers._opened import Opened, open_container

__all__ = ["Opened", "column_labels", "column_or_level", "open_container"]
