"""How instances are cut from data, and how their moves go back: rows, and windows of a series."""

from denograd_jax.layouts._contract import Cut, Data, Layout, Length, Surroundings
from denograd_jax.layouts._rows import Rows, rows
from denograd_jax.layouts._windows import Windows, WindowSums, windows

__all__ = [
    "Cut",
    "Data",
    "Layout",
    "Length",
    "Rows",
    "Surroundings",
    "WindowSums",
    "Windows",
    "rows",
    "windows",
]
