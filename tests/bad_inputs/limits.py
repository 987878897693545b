"""Bounds, masks and other limits that cannot be kept."""

import numpy as np
import pandas as pd

from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError
from tests.bad_inputs.calls import KNOWN, Call
from tests.bad_inputs.good import ROWS, table

SERIES_VALUES = pd.Series({"a": 1.0, "Q": 1.0})
BOUNDS = "bounds of column 'a' must be a pair (lower, upper) of numbers or None, not"

LIMITS = [
    Call(
        "bounds of no column",
        table,
        {"target": "y", "bounds": [0, 1]},
        UnsupportedError,
        "bounds must be a mapping of columns, such as {'price': (0, None)}, not list.",
    ),
    Call(
        "bounds of an unknown column",
        table,
        {"target": "y", "bounds": {"Z": (0, 1)}},
        ColumnError,
        f"bounded column 'Z' {KNOWN}.",
    ),
    Call(
        "bounds of text",
        lambda: table(t="p"),
        {"target": "y", "bounds": {"t": (0, 1)}},
        ColumnError,
        "bounded column 't' is not numeric, or is not seen by the model.",
    ),
    Call(
        "one bound",
        table,
        {"target": "y", "bounds": {"a": 3}},
        UnsupportedError,
        f"{BOUNDS} 3.",
    ),
    Call(
        "bounds in text",
        table,
        {"target": "y", "bounds": {"a": ("0", "1")}},
        UnsupportedError,
        f"{BOUNDS} ('0', '1').",
    ),
    Call(
        "bounds that are missing",
        table,
        {"target": "y", "bounds": {"a": (0, np.nan)}},
        UnsupportedError,
        f"{BOUNDS} (0, nan).",
    ),
    Call(
        "bounds that exclude all",
        table,
        {"target": "y", "bounds": {"a": (1, 0)}},
        UnsupportedError,
        "bounds of column 'a' leave no value: from 1 to 0.",
    ),
    Call(
        "bounds that frozen cells break",
        table,
        {"target": "y", "frozen": "a", "bounds": {"a": (5, 6)}},
        DataError,
        "column 'a' has 24 value(s) outside of its bounds that are frozen: correct them, widen "
        "the bounds, or let them move.",
    ),
    Call(
        "a negative change",
        table,
        {"target": "y", "max_change": -1},
        UnsupportedError,
        "max_change must be a number, 0 or more, not -1.",
    ),
    Call(
        "an unknown integer",
        table,
        {"target": "y", "integer": "Z"},
        ColumnError,
        f"integer column 'Z' {KNOWN}.",
    ),
    Call(
        "negative noise",
        table,
        {"target": "y", "noise_scale": -0.1},
        UnsupportedError,
        "noise_scale must be a number, 0 or more, not -0.1.",
    ),
    Call(
        "no noise",
        table,
        {"target": "y", "noise_scale": 0},
        DataError,
        "noise_scale is 0 for every cell: there is nothing to refine.",
    ),
    Call(
        "noise of some columns",
        table,
        {"target": "y", "noise_scale": {"a": 1, "y": 1}},
        ColumnError,
        "noise_scale does not name column 'b': give 0 for one that is without noise, and does not "
        "move.",
    ),
    Call(
        "noise of an unknown column",
        table,
        {"target": "y", "noise_scale": SERIES_VALUES},
        ColumnError,
        f"noise_scale column 'Q' {KNOWN}.",
    ),
    Call(
        "noise of another shape",
        table,
        {"target": "y", "noise_scale": np.ones((3, 3))},
        ShapeError,
        "noise_scale has shape (3, 3), the data (24, 3): …",
    ),
    Call(
        "noise that is missing",
        table,
        {"target": "y", "noise_scale": np.full((ROWS, 3), np.nan)},
        DataError,
        "noise_scale must be 0 or more in every cell, and not missing or infinite.",
    ),
    Call(
        "frozen rows by number",
        table,
        {"target": "y", "frozen_rows": [1, 2]},
        UnsupportedError,
        "frozen_rows must be booleans, one per row, not int64: …",
    ),
    Call(
        "frozen rows of another length",
        table,
        {"target": "y", "frozen_rows": [True, False]},
        ShapeError,
        "frozen_rows must have shape (24,), not (2,).",
    ),
    Call(
        "frozen rows in a ragged list",
        table,
        {"target": "y", "frozen_rows": [[True], [True, False]]},
        UnsupportedError,
        "frozen_rows must be booleans, one per row…",
    ),
    Call(
        "all rows frozen",
        table,
        {"target": "y", "frozen_rows": [True] * ROWS},
        DataError,
        "no cell may move: every row is frozen, or every cell of it is missing.",
    ),
]
