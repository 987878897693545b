"""Data of a kind or shape that cannot be refined."""

import numpy as np
import pandas as pd

from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError
from tests.bad_inputs.calls import CONVERT, NO_MOVE, Call
from tests.bad_inputs.good import HOURS, ROWS, table, total

KINDS = [
    Call("nothing", None, {"target": "y"}, UnsupportedError, "data must be …, not NoneType…"),
    Call("a file's name", "h.csv", {"target": "y"}, UnsupportedError, "data must be …, not str…"),
    Call("a number", 3.5, {"target": "y"}, UnsupportedError, "data must be …, not float…"),
    Call("a set", {1, 2}, {"target": "y"}, UnsupportedError, "data must be …, not set…"),
    Call(
        "a function",
        lambda: total,
        {"target": "y"},
        UnsupportedError,
        "data must be …, not function…",
    ),
    Call(
        "a masked array",
        np.ma.masked_less(np.ones((9, 2)), 0),
        {"target": 0},
        UnsupportedError,
        "data is a masked array: mark what is missing by NaN, with .filled(np.nan).",
    ),
    Call(
        "a structured array",
        np.ones(9, [("a", float), ("y", float)]),
        {"target": "y"},
        UnsupportedError,
        "data is a structured array: pass pd.DataFrame(array).",
    ),
    Call(
        "an array of text",
        np.array([["1", "2"]] * 9),
        {"target": 1},
        ColumnError,
        f"target column 1 is not numeric (its type is …): {CONVERT}",
    ),
    Call(
        "an array of objects",
        np.array([[1, "n.v."]] * 9, dtype=object),
        {"target": 1},
        DataError,
        "target column 1 has 1 class(es), ['n.v.']: there must be two or more.",
    ),
    Call(
        "an array of complex numbers",
        np.ones((9, 2)) * 1j,
        {"target": 1},
        ColumnError,
        f"target column 1 is not numeric (its type is complex128): {CONVERT}",
    ),
    Call(
        "an array of dates",
        HOURS.to_numpy(),
        {"window": 3},
        ColumnError,
        "no column is numeric: only numbers can be refined.",
    ),
]

SHAPES = [
    Call(
        "an empty list",
        lambda: [],
        {"target": 0},
        DataError,
        "there is nothing to refine: data is an empty collection.",
    ),
    Call(
        "a list of lists",
        lambda: [[1, 2], [3, 4]],
        {"target": 0},
        UnsupportedError,
        "data[0] must be a data frame, a series or a NumPy array, not list: …",
    ),
    Call(
        "series of several kinds",
        lambda: [np.ones((ROWS, 3)), table()],
        {"window": 3},
        UnsupportedError,
        "data[1] is a pandas DataFrame, data[0] a NumPy array: the series of a panel must be of "
        "one kind.",
    ),
    Call(
        "series of several columns",
        lambda: [table(), table(z=1)],
        {"window": 3},
        ColumnError,
        "data[1] and data[0] have different columns (only in the former: z; only in the latter: "
        "none): the series of a panel must have the same.",
    ),
    Call(
        "no axis",
        np.array(3.0),
        {"window": 3},
        ShapeError,
        "data must have shape (rows, columns) or (rows,), not ().",
    ),
    Call(
        "three axes",
        np.ones((2, 3, 4)),
        {"target": 0},
        ShapeError,
        "data must have shape (rows, columns) or (rows,), not (2, 3, 4)….",
    ),
    Call(
        "an array without rows",
        np.ones((0, 3)),
        {"target": 0},
        DataError,
        "there is nothing to refine: data has shape (0, 3).",
    ),
    Call(
        "an array without columns",
        np.ones((3, 0)),
        {"target": 0},
        DataError,
        "there is nothing to refine: data has shape (3, 0).",
    ),
    Call(
        "a frame of nothing",
        pd.DataFrame(),
        {"target": "y"},
        DataError,
        "there is nothing to refine: … has 0 rows and 0 columns.",
    ),
    Call(
        "a frame without rows",
        lambda: table().iloc[:0],
        {"target": "y"},
        DataError,
        "there is nothing to refine: … has 0 rows and 3 columns.",
    ),
    Call(
        "a frame without columns",
        lambda: table()[[]],
        {"target": "y"},
        DataError,
        "there is nothing to refine: … has 24 rows and 0 columns.",
    ),
    Call("one row", lambda: table().iloc[:1], {"target": "y"}, ColumnError, NO_MOVE, in_file=True),
    Call(
        "a window as long as the series",
        table,
        {"window": ROWS},
        ShapeError,
        "no window fits: 24 steps, but a window of 24 and a horizon of 1 need at least 25.",
        in_file=True,
    ),
    Call(
        "a horizon beyond the end",
        table,
        {"window": 20, "horizon": 5},
        ShapeError,
        "no window fits: 24 steps, but a window of 20 and a horizon of 5 need at least 25.",
        in_file=True,
    ),
    Call(
        "a window beyond all memory",
        table,
        {"window": 2**31 - 1},
        ShapeError,
        "no window fits: 24 steps, but a window of 2147483647 and a horizon of 1 need at least "
        "2147483648.",
        in_file=True,
    ),
    Call(
        "no window within a group",
        lambda: table(g=[f"g{i}" for i in range(ROWS)]),
        {"window": 3, "groups": "g"},
        ShapeError,
        "no window fits: a window of 3 and a horizon of 1 need 4 steps, the longest stretch "
        "between gaps and group borders has 1. Use a shorter window, or leave out time= to take "
        "the rows as evenly spaced.",
        in_file=True,
    ),
    Call(
        "a target of another length",
        table,
        {"target": np.ones(3)},
        ShapeError,
        "target has 3 rows, the data has 24: they must be as many (a list is taken for the labels "
        "of columns).",
    ),
    Call(
        "a target of three axes",
        table,
        {"target": np.ones((ROWS, 1, 1))},
        ShapeError,
        "target must have shape (rows, columns) or (rows,), not (24, 1, 1)….",
    ),
    Call(
        "a target with another index",
        table,
        {"target": pd.Series(np.arange(ROWS) / 7, index=range(1, ROWS + 1))},
        DataError,
        "target and data have different indexes, …: align them, …",
    ),
]
