"""Cells that are no numbers, dates or groups, or are too few."""

import numpy as np
import pandas as pd

from denograd_jax.errors import ColumnError, DataError
from tests.bad_inputs.calls import CONVERT, NO_MOVE, Call
from tests.bad_inputs.good import HOURS, MIXED_TIMES, ROWS, cycle, table, total

UNCLEAR = "holds neither numbers nor dates in one clear format"

CELLS = [
    Call(
        "a target with units",
        lambda: table(w=[f"{i} kg" for i in range(ROWS)]),
        {"target": "w"},
        ColumnError,
        f"target column 'w' is not numeric (its type is …; '0 kg' is no number): {CONVERT}",
        in_file=True,
    ),
    Call(
        "a target in percent",
        lambda: table(w=[f"{i}%" for i in range(ROWS)]),
        {"target": "w"},
        ColumnError,
        f"target column 'w' is not numeric (its type is …; '0%' is no number): {CONVERT}",
        in_file=True,
    ),
    Call(
        "a target with a word among its numbers",
        lambda: table(w=[1.5, 2.5, "n.v.", *range(ROWS - 3)]),
        {"target": "w"},
        ColumnError,
        f"target column 'w' is not numeric (its type is …; 'n.v.' is no number): {CONVERT}",
        in_file=True,
    ),
    Call(
        "a target of dates",
        lambda: table(w=HOURS),
        {"target": "w"},
        ColumnError,
        f"target column 'w' is not numeric (its type is …): {CONVERT}",
        in_file=True,
    ),
    Call(
        "truth values as quantities",
        lambda: table(w=cycle(True, False)),
        {"target": "w", "classes": False},
        ColumnError,
        f"target column 'w' is not numeric (its type is bool): {CONVERT}",
    ),
    Call(
        "categories as quantities",
        lambda: table(w=pd.Categorical(cycle("p", "q"))),
        {"target": "w", "classes": False},
        ColumnError,
        f"target column 'w' is not numeric (its type is …): {CONVERT}",
    ),
    Call(
        "a target of numbers as text",
        lambda: table(w=cycle("1 kg", "2 kg", "3", "4", "5")),
        {"target": "w"},
        ColumnError,
        f"target column 'w' is not numeric (its type is …; '1 kg' is no number): {CONVERT}",
        in_file=True,
    ),
    Call(
        "a target without values",
        lambda: table(w=np.nan),
        {"target": "w"},
        DataError,
        "target column 'w' has no value at all: there is nothing to learn from.",
        in_file=True,
    ),
    Call(
        "an infinite cell",
        lambda: table(w=[*range(3, ROWS + 2), np.inf]),
        {"target": "y"},
        DataError,
        "column 'w' has 1 infinite value(s), or beyond 1e+300: replace them, or leave them empty "
        "to have them treated as missing.",
        in_file=True,
    ),
    Call(
        "a cell too large",
        lambda: table(w=[*range(3, ROWS + 2), -1e308]),
        {"target": "y"},
        DataError,
        "column 'w' has 1 infinite value(s), or beyond 1e+300: …",
        in_file=True,
    ),
    Call(
        "an integer too large",
        lambda: table(w=pd.Series(cycle(10**400, 5), dtype=object)),
        {"target": "y"},
        DataError,
        "column 'w' has 12 infinite value(s), or beyond 1e+300: …",
    ),
    Call(
        "constants alone",
        lambda: table() * 0 + 3,
        {"target": "y"},
        ColumnError,
        NO_MOVE,
        in_file=True,
    ),
    Call(
        "0 and 1 alone",
        lambda: table(a=cycle(0, 1), b=cycle(0, 0, 1), y=cycle(1, 0)),
        {"target": "y"},
        ColumnError,
        NO_MOVE,
        in_file=True,
    ),
    Call(
        "no cell at all",
        lambda: table() * np.nan,
        {"window": 3},
        ColumnError,
        NO_MOVE,
        in_file=True,
    ),
    Call(
        "text alone",
        lambda: pd.DataFrame({"t": cycle("p", "q")}),
        {"window": 3},
        ColumnError,
        "no column is numeric: only numbers can be refined.",
        in_file=True,
    ),
    Call(
        "numbers too large for a model",
        lambda: table() * 1e100,
        {"target": "y", "model": total},
        DataError,
        "column 'a' (mean …) cannot be given to a model in float32: scale or shift it, and train "
        "the model on such values, or leave model= out.",
    ),
    Call(
        "times that are missing",
        lambda: table(t=HOURS.delete(0).insert(0, pd.NaT)),
        {"window": 3, "time": "t"},
        DataError,
        "time column 't' has missing values: fill or drop those rows.",
        in_file=True,
    ),
    Call(
        "times that run back",
        lambda: table(t=HOURS[::-1]),
        {"window": 3, "time": "t"},
        DataError,
        "time column 't' is not increasing at row 1 (2024-01-01 22:00:00): sort the rows by 't' "
        "first (in pandas: frame.sort_values('t')), or name what tells several series apart as a "
        "group.",
        in_file=True,
    ),
    Call(
        "times that repeat",
        lambda: table(t=HOURS[[0, 1, 2, 2, *range(4, ROWS)]]),
        {"window": 3, "time": "t"},
        DataError,
        "time column 't' repeats a time at row 3 (2024-01-01 02:00:00): drop the duplicates, or "
        "name what tells several series apart as a group.",
        in_file=True,
    ),
    Call(
        "times in several formats",
        lambda: table(t=MIXED_TIMES),
        {"window": 3, "time": "t"},
        ColumnError,
        f"time column 't' {UNCLEAR} ('2024-01-01'): convert it first, to dates such as 2024-01-31 "
        "(in pandas: with pd.to_datetime or pd.to_numeric).",
        in_file=True,
    ),
    Call(
        "times that are words",
        lambda: table(t=cycle("noon", "midnight")),
        {"window": 3, "time": "t"},
        ColumnError,
        f"time column 't' {UNCLEAR} ('noon'): convert it first, …",
        in_file=True,
    ),
    Call(
        "times that are infinite",
        lambda: table(t=[*range(ROWS - 1), np.inf]),
        {"window": 3, "time": "t"},
        DataError,
        "time column 't' has infinite values: replace those.",
        in_file=True,
    ),
    Call(
        "groups that are missing",
        lambda: table(g=cycle("p", None)),
        {"window": 3, "groups": "g"},
        DataError,
        "group column(s) ['g'] have missing values: fill or drop them.",
        in_file=True,
    ),
    Call(
        "groups that are lists",
        lambda: table(g=pd.Series(cycle([1], [2]))),
        {"window": 3, "groups": "g"},
        ColumnError,
        "group column(s) ['g'] hold objects that cannot be compared, such as lists: convert them "
        "to text.",
    ),
]
