"""Roles of columns that the data do not have, or that do not go together."""

import numpy as np
import pandas as pd

from denograd_jax.errors import ColumnError, UnsupportedError
from tests.bad_inputs.calls import KNOWN, NO_MOVE, Call
from tests.bad_inputs.good import HOURS, cycle, table, total

LABELS = "must be a column's label or a list of labels, not"
VALUES = "the values of a target go in a NumPy array, Series or DataFrame."

COLUMNS = [
    Call(
        "rows without a target",
        table,
        {},
        ColumnError,
        "rows need a target: name the column that the others explain with target=, or give "
        "window= if the rows are a time series.",
    ),
    Call(
        "an empty list of targets",
        table,
        {"target": []},
        ColumnError,
        "rows need a target: …",
    ),
    Call(
        "an unknown target",
        table,
        {"target": "Y"},
        ColumnError,
        f"target column 'Y' {KNOWN}.",
        in_file=True,
    ),
    Call(
        "a target without a name",
        table,
        {"target": ""},
        ColumnError,
        f"target column '' {KNOWN}.",
        in_file=True,
    ),
    Call(
        "a target counted from the end",
        np.ones((9, 2)),
        {"target": -1},
        ColumnError,
        f"target column -1 is not in the data; it has: 0, 1; {VALUES}",
    ),
    Call(
        "the values of a target in a list",
        table,
        {"target": [1.0, 2.0]},
        ColumnError,
        f"target column 1.0 {KNOWN}; {VALUES}",
    ),
    Call(
        "a target in a dictionary",
        table,
        {"target": {"y": 1}},
        UnsupportedError,
        f"target {LABELS} dict; {VALUES}",
    ),
    Call(
        "a list in the list of targets",
        table,
        {"target": [["y"]]},
        UnsupportedError,
        f"target {LABELS} list; {VALUES}",
    ),
    Call(
        "an unknown frozen column",
        table,
        {"target": "y", "frozen": ["a", "c"]},
        ColumnError,
        f"frozen column 'c' {KNOWN}.",
        in_file=True,
    ),
    Call(
        "frozen that is no label",
        table,
        {"target": "y", "frozen": True},
        ColumnError,
        f"frozen column True {KNOWN}.",
    ),
    Call(
        "an unknown time",
        table,
        {"window": 3, "time": "hour"},
        ColumnError,
        f"time column 'hour' {KNOWN}.",
        in_file=True,
    ),
    Call(
        "an unknown group",
        table,
        {"window": 3, "groups": "site"},
        ColumnError,
        f"group column 'site' {KNOWN}.",
        in_file=True,
    ),
    Call(
        "a target named twice",
        table,
        {"target": ["y", "y"]},
        ColumnError,
        "target names a column twice: ['y', 'y'].",
        in_file=True,
    ),
    Call(
        "a target that is the time",
        table,
        {"target": "y", "time": "y", "window": 3},
        ColumnError,
        "column 'y' can be only one of these: target, time, or group.",
        in_file=True,
    ),
    Call(
        "a time that is the group",
        lambda: table(t=HOURS),
        {"time": "t", "groups": "t", "window": 3},
        ColumnError,
        "column 't' can be only one of these: target, time, or group.",
        in_file=True,
    ),
    Call(
        "two times",
        lambda: table(t=HOURS, u=HOURS),
        {"time": ["t", "u"], "window": 3},
        ColumnError,
        "time must be one column, not 2: ['t', 'u'].",
    ),
    Call(
        "labels that occur twice",
        pd.DataFrame(np.ones((9, 2)), columns=["a", "a"]),
        {"target": "a"},
        ColumnError,
        "column 'a' occurs more than once: rename the columns.",
    ),
    Call(
        "a column without a label",
        pd.DataFrame(np.ones((9, 2)), columns=["a", None]),
        {"target": "a"},
        ColumnError,
        "a column has no name (its label is None or NaN): name the columns.",
    ),
    Call(
        "everything frozen",
        table,
        {"target": "y", "frozen": ["a", "b", "y"]},
        ColumnError,
        NO_MOVE,
        in_file=True,
    ),
    Call(
        "nothing but the target",
        lambda: table()[["y"]],
        {"target": "y"},
        ColumnError,
        "there is no column besides the target for a model to learn from.",
        in_file=True,
    ),
    Call(
        "nothing but targets",
        table,
        {"target": ["a", "b", "y"]},
        ColumnError,
        "there is no column besides the target for a model to learn from.",
        in_file=True,
    ),
    Call(
        "no number to give to a model",
        lambda: table(c=cycle("p", "q"))[["c", "y"]],
        {"target": "y", "model": total},
        ColumnError,
        "there is no numeric column besides the target to give to the model: text, categories and "
        "booleans are seen by backbones alone.",
    ),
]
