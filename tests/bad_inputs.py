"""Bad input, and the one line that a user is told: calls, files and commands.

A message is written out in full; "…" stands for what differs between versions and machines, and
"{path}" for the file's path.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from denograd_jax import rules
from denograd_jax.errors import (
    BackboneError,
    ColumnError,
    DataError,
    DenogradError,
    ModelError,
    ShapeError,
    UnsupportedError,
)

ROWS = 24
LONG = "x" * 300
"""Longer than the name of a file may be."""


def pattern(says: str) -> str:
    """A regular expression for a message of the tables."""
    return ".*".join(map(re.escape, says.split("…")))


def table(**columns: Any) -> pd.DataFrame:
    """Two inputs and a target, and further columns."""
    values = np.random.default_rng(3).normal(size=(ROWS, 3)).round(3)
    return pd.DataFrame(values, columns=["a", "b", "y"]).assign(**columns)


def cycle(*values: Any) -> list[Any]:
    return [values[i % len(values)] for i in range(ROWS)]


def total(x: Any) -> Any:
    return x.sum()


def two_lines(x: Any) -> Any:
    raise RuntimeError("out of cheese\nredo from start")


HOURS = pd.date_range("2024-01-01", periods=ROWS, freq="h")
MIXED_TIMES = cycle("2024-01-01", "13/01/2024", "Jan 5, 2024")


# --- calls of refine ------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call of `refine` that is refused.

    Attributes:
        name: Of the case.
        data: The data, or a function that makes it.
        given: Further arguments.
        error: The class of the error.
        says: The message.
        in_file: Whether a CSV file of the data and the same options get the same answer.
    """

    name: str
    data: Any
    given: Mapping[str, Any]
    error: type[DenogradError]
    says: str
    in_file: bool = False


KNOWN = "is not in the data; it has: 'a', 'b', 'y'"
CONVERT = (
    "only numbers can be refined. Convert it, for example with .astype(float). If it holds "
    "classes, say classes=True (--classes)."
)
NO_MOVE = "no column can move: every numeric column is frozen, constant or holds only 0 and 1."
LABELS = "must be a column's label or a list of labels, not"
VALUES = "the values of a target go in a NumPy array, Series or DataFrame."
UNCLEAR = "holds neither numbers nor dates in one clear format"

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

WHOLE, POSITIVE = "must be a whole number,", "step_size must be a positive number, not"

OPTIONS = [
    Call(
        "a window of none",
        table,
        {"window": 0},
        UnsupportedError,
        f"window {WHOLE} 1 or more, not 0.",
    ),
    Call(
        "a window that runs back",
        table,
        {"window": -1},
        UnsupportedError,
        f"window {WHOLE} 1 or more, not -1.",
    ),
    Call("half a window", table, {"window": 2.5}, UnsupportedError, f"window {WHOLE} …, not 2.5."),
    Call("a window in text", table, {"window": "24"}, UnsupportedError, f"window {WHOLE} …'24'."),
    Call("a window of yes", table, {"window": True}, UnsupportedError, f"window {WHOLE} …True."),
    Call("windows", table, {"window": [3, 4]}, UnsupportedError, f"window {WHOLE} …[3, 4]."),
    Call(
        "a window beyond 32 bits",
        table,
        {"window": 10**12},
        UnsupportedError,
        f"window {WHOLE} …, not 1000000000000.",
        in_file=True,
    ),
    Call(
        "a horizon of none",
        table,
        {"window": 3, "horizon": 0},
        UnsupportedError,
        f"horizon {WHOLE} 1 or more, not 0.",
    ),
    Call(
        "a stride of none",
        table,
        {"window": 3, "stride": 0},
        UnsupportedError,
        f"stride {WHOLE} 1 or more, not 0.",
    ),
    Call(
        "no horizon",
        table,
        {"window": 3, "horizon": None},
        UnsupportedError,
        f"horizon {WHOLE} …, not None.",
    ),
    Call(
        "a horizon of rows",
        table,
        {"target": "y", "horizon": 2},
        UnsupportedError,
        "horizon, stride… are for a series: give window= as well.",
    ),
    Call(
        "steps of no size",
        table,
        {"target": "y", "step_size": 0},
        UnsupportedError,
        f"{POSITIVE} 0….",
        in_file=True,
    ),
    Call(
        "steps of infinite size",
        table,
        {"target": "y", "step_size": np.inf},
        UnsupportedError,
        f"{POSITIVE} inf.",
        in_file=True,
    ),
    Call(
        "steps in text",
        table,
        {"target": "y", "step_size": "big"},
        UnsupportedError,
        f"{POSITIVE} 'big'.",
    ),
    Call(
        "steps that are no number",
        table,
        {"target": "y", "step_size": np.nan},
        UnsupportedError,
        f"{POSITIVE} nan.",
    ),
    Call(
        "steps of yes",
        table,
        {"target": "y", "step_size": True},
        UnsupportedError,
        f"{POSITIVE} True.",
    ),
    Call(
        "steps of complex size",
        table,
        {"target": "y", "step_size": np.complex64(1)},
        UnsupportedError,
        f"{POSITIVE} ….",
    ),
    Call(
        "a negative tolerance",
        table,
        {"target": "y", "tolerance": -0.1},
        UnsupportedError,
        "tolerance must be a number, 0 or more, not -0.1.",
    ),
    Call(
        "an infinite tolerance",
        table,
        {"target": "y", "tolerance": np.inf},
        UnsupportedError,
        "tolerance must be a number, 0 or more, not inf.",
        in_file=True,
    ),
    Call(
        "fewer than no steps",
        table,
        {"target": "y", "max_steps": -1},
        UnsupportedError,
        f"max_steps {WHOLE} 0 or more, not -1.",
    ),
    Call(
        "more steps than can be counted",
        table,
        {"target": "y", "max_steps": 2**31},
        UnsupportedError,
        f"max_steps {WHOLE} …, not 2147483648.",
        in_file=True,
    ),
    Call(
        "no epochs",
        table,
        {"target": "y", "max_epochs": 0},
        BackboneError,
        "max_epochs is 0; expected at least 1.",
    ),
    Call(
        "many epochs",
        table,
        {"target": "y", "max_epochs": "many"},
        UnsupportedError,
        f"max_epochs {WHOLE} …, not 'many'.",
    ),
    Call("no seed", table, {"target": "y", "seed": None}, UnsupportedError, f"seed {WHOLE} …None."),
    Call(
        "a negative seed",
        table,
        {"target": "y", "seed": -1},
        UnsupportedError,
        f"seed {WHOLE} 0 or more, not -1.",
    ),
    Call(
        "an unknown rule",
        table,
        {"target": "y", "rule": "newton"},
        UnsupportedError,
        'rule must be "auto", "unit_step", "gauss_newton" or a Rule, not \'newton\'.',
    ),
    Call(
        "a rule without its numbers",
        table,
        {"target": "y", "rule": rules.unit_step},
        UnsupportedError,
        'rule must be "auto", "unit_step", "gauss_newton" or a Rule, not <function …>.',
    ),
    Call(
        "numbers beside a rule",
        table,
        {"target": "y", "rule": rules.unit_step(), "tolerance": 0.1},
        UnsupportedError,
        "give step_size and tolerance to the rule itself, not beside it.",
    ),
    Call(
        "an unknown backbone",
        table,
        {"target": "y", "model": "resnet"},
        BackboneError,
        "There is no backbone 'resnet' for rows; choose one of mlp, linear, ft_transformer.",
        in_file=True,
    ),
    Call(
        "a backbone without a name",
        table,
        {"target": "y", "model": ""},
        BackboneError,
        "There is no backbone '' for rows; choose one of mlp, linear, ft_transformer.",
        in_file=True,
    ),
    Call(
        "a number for a model",
        table,
        {"target": "y", "model": 3},
        UnsupportedError,
        "cannot use 3 as a model. Expected …",
    ),
    Call(
        "a model that fails",
        table,
        {"target": "y", "model": two_lines},
        ModelError,
        "the model fails on an input of shape (2,) (columns a, b): RuntimeError: out of cheese.",
    ),
    Call(
        "a model of other targets",
        table,
        {"target": "y", "model": lambda x: jnp.stack([x[0], x[1]])},
        ModelError,
        "for an input of shape (2,) (columns a, b) the model returns an array of shape (2,), not "
        "one of shape (1,): as many values as there are targets (y).",
    ),
    Call(
        "a model that returns nothing",
        table,
        {"target": "y", "model": lambda x: None},
        ModelError,
        "for an input of shape (2,) (columns a, b) the model returns a NoneType, not …",
    ),
    Call(
        "progress that cannot be called",
        table,
        {"target": "y", "progress": "yes"},
        UnsupportedError,
        "progress must be a function of a stage and two numbers, not 'yes'.",
    ),
    Call(
        "imputation of no",
        table,
        {"target": "y", "impute": "no"},
        UnsupportedError,
        "impute must be True or False, not 'no'.",
    ),
    Call(
        "a dry run of 2",
        table,
        {"target": "y", "dry_run": 2},
        UnsupportedError,
        "dry_run must be True or False, not 2.",
    ),
    Call(
        "a table of windows",
        table,
        {"window": np.ones((2, 2))},
        UnsupportedError,
        f"window {WHOLE} …, not array([[1., 1.], [1., 1.]]).",
    ),
    Call(
        "an unknown scale",
        table,
        {"target": "y", "scale": "column"},
        UnsupportedError,
        'scale must be "all" or "group", not \'column\'.',
    ),
    Call(
        "scales",
        table,
        {"target": "y", "scale": np.ones(3)},
        UnsupportedError,
        'scale must be "all" or "group", not array([1., 1., 1.]).',
    ),
    Call(
        "a scale of groups without groups",
        table,
        {"target": "y", "scale": "group"},
        UnsupportedError,
        'scale="group" needs groups=, or a list of series.',
    ),
    Call(
        "an unknown way with gaps",
        table,
        {"window": 3, "irregular": "drop"},
        UnsupportedError,
        "irregular must be \"segment\" or None, not 'drop'.",
    ),
    Call(
        "causal rows",
        table,
        {"target": "y", "causal": True},
        UnsupportedError,
        "causal is for a series: rows have no order in time; give window= as well.",
    ),
    Call(
        "a lag of what sees all",
        table,
        {"window": 3, "lag": 2},
        UnsupportedError,
        "lag is for a causal refinement: set causal=True as well.",
    ),
    Call(
        "a lag that runs back",
        table,
        {"window": 3, "causal": True, "lag": -1, "warm_up": 9},
        UnsupportedError,
        f"lag {WHOLE} 0 or more, not -1.",
    ),
    Call(
        "a warm-up of all rows",
        table,
        {"window": 3, "causal": True},
        ShapeError,
        "all 24 rows are warm-up (200 of each series): … Set a shorter warm_up=, …",
    ),
    Call(
        "a warm-up of none",
        table,
        {"window": 3, "causal": True, "warm_up": 0},
        UnsupportedError,
        f"warm_up {WHOLE} 1 or more, not 0.",
    ),
]

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

CLASSES = [
    Call(
        "one class",
        lambda: table(w="p"),
        {"target": "w"},
        DataError,
        "target column 'w' has 1 class(es), ['p']: there must be two or more.",
        in_file=True,
    ),
    Call(
        "classes in fractions",
        table,
        {"target": "y", "classes": True},
        DataError,
        "target column 'y' holds …, which is no class: labels are text, whole numbers, booleans or "
        "categories. A quantity is refined by refine(frame, target).",
    ),
    Call(
        "classes of dates",
        lambda: table(w=HOURS),
        {"target": "w", "classes": True},
        UnsupportedError,
        "target column 'w' holds dates (datetime64[…]), which are no classes.",
    ),
    Call(
        "classes without values",
        lambda: table(w=np.nan),
        {"target": "w", "classes": True},
        DataError,
        "target column 'w' has no value at all: there is nothing to learn from.",
    ),
    Call(
        "classes of a series",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "window": 3},
        UnsupportedError,
        "target column 'w' holds classes, which are for rows: leave the window out, or name a "
        "column of numbers.",
        in_file=True,
    ),
    Call(
        "classes beside numbers",
        lambda: table(w=cycle("p", "q")),
        {"target": ["w", "y"]},
        ColumnError,
        "classes are the labels in one target column, not in 2 (w, y): name the one that holds "
        "them; of one-hot columns make one with .idxmax(axis=1).",
        in_file=True,
    ),
    Call(
        "classes without a target",
        table,
        {"classes": True},
        ColumnError,
        "classes are the labels in one target column, not in 0: name the one that holds them; …",
    ),
    Call(
        "classes by a word",
        table,
        {"target": "y", "classes": "yes"},
        UnsupportedError,
        "classes must be True, False or None, not 'yes'.",
    ),
    Call(
        "nothing but classes",
        lambda: table(w=cycle("p", "q"))[["w"]],
        {"target": "w"},
        ColumnError,
        "no column is numeric: only numbers can be refined.",
        in_file=True,
    ),
    Call(
        "a mixture of classes",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "model": "mixture"},
        BackboneError,
        "a mixture explains numbers, not classes: choose another backbone, such as mlp, linear, "
        "ft_transformer.",
        in_file=True,
    ),
    Call(
        "one logit for two classes",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "model": lambda x: x[:1]},
        ModelError,
        "for an input of shape (3,) (columns a, b, y) the model returns an array of shape (1,), "
        "not one of shape (2,): a logit for each class of 'w', in the order p, q.",
    ),
    Call(
        "a rule that moves the target, of classes",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "rule": "gauss_newton"},
        UnsupportedError,
        'this rule needs a target that moves, which classes are not: take rule="auto" or '
        '"unit_step", or let labels move by soft_labels=True.',
        in_file=True,
    ),
    Call(
        "soft labels of numbers",
        table,
        {"target": "y", "soft_labels": True},
        UnsupportedError,
        "soft_labels is for a target of classes: leave it out, or set classes=True.",
    ),
    Call(
        "soft labels by a density",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "soft_labels": True, "rule": "auto"},
        UnsupportedError,
        'rule="auto" moves no label: leave soft_labels out, or choose another rule, such as '
        'rule="unit_step".',
    ),
    Call(
        "soft labels with known noise",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "soft_labels": True, "noise_scale": 0.1},
        UnsupportedError,
        "noise_scale says nothing of labels: leave it out, or soft_labels.",
    ),
    Call(
        "soft labels that are frozen",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "soft_labels": True, "frozen": "w"},
        ColumnError,
        "target 'w' is frozen: soft_labels cannot move it.",
    ),
]

CALLS = [*KINDS, *SHAPES, *COLUMNS, *CELLS, *OPTIONS, *LIMITS, *CLASSES]


# --- files ----------------------------------------------------------------------------------------


class File(NamedTuple):
    """A file that `denograd-jax refine FILE --target y` refuses.

    Attributes:
        name: Of the case.
        file: The file's name.
        content: What it holds, or a function that puts it at a path.
        says: The message.
    """

    name: str
    file: str
    content: bytes | Callable[[Path], object]
    says: str


LINES = table().to_csv(index=False, lineterminator="\n").splitlines()
TEXT = "\n".join(LINES) + "\n"
CSV = TEXT.encode()
_LONGER = pd.concat([table()] * 40).to_csv().encode()
NO_TABLE = "{path} is not a table that can be read:"
SAVE = "save it as CSV UTF-8."
NUMBERS = "save it with decimal points, and nothing between thousands."
SEPARATE = "save it with commas, semicolons or tabs."
HEADER = "in its header: name every column, quote text that contains"
ABOVE = "and delete what stands above the header."


def parquet(frame: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.to_parquet(content)
    return content.getvalue()


def compressed_but_damaged() -> bytes:
    content = bytearray(gzip.compress(_LONGER))
    middle = len(content) // 2
    content[middle : middle + 40] = b"\xff" * 40
    return bytes(content)


def put(line: int, text: str) -> bytes:
    """The table with another line (the header is line 1)."""
    return "\n".join([*LINES[: line - 1], text, *LINES[line:], ""]).encode()


def as_socket(path: Path) -> None:
    """A name in the file system that is neither file nor folder."""
    here = Path.cwd()
    try:
        os.chdir(path.parent)  # the address may have 108 bytes
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


FILES = [
    File("empty", "h.csv", b"", "{path} is empty."),
    File("empty lines", "h.csv", b"\n  \r\n\n", "{path} is empty."),
    File("a mark and nothing else", "h.csv", b"\xef\xbb\xbf", "{path} is empty."),
    File("empty and compressed", "h.csv.xz", b"", "{path} is empty."),
    File("empty inside", "h.csv.gz", gzip.compress(b""), "{path} is empty."),
    File("empty Parquet", "h.parquet", b"", "{path} is empty."),
    File(
        "header only",
        "h.csv",
        b"a,b,y\n",
        "{path} has a header but no rows: there is nothing to refine.",
    ),
    File(
        "header without an end",
        "h.csv",
        b"a,b,y",
        "{path} has a header but no rows: there is nothing to refine.",
    ),
    File(
        "Parquet without rows",
        "h.parquet",
        lambda path: table().iloc[:0].to_parquet(path),
        "{path} has a header but no rows: there is nothing to refine.",
    ),
    File(
        "Parquet without columns",
        "h.parquet",
        lambda path: pd.DataFrame(index=range(3)).to_parquet(path),
        "{path} has no columns: there is nothing to refine.",
    ),
    File(
        "UTF-16", "h.csv", TEXT.encode("utf-16"), f"{NO_TABLE} it is UTF-16 or UTF-32 text: {SAVE}"
    ),
    File(
        "UTF-32", "h.csv", TEXT.encode("utf-32"), f"{NO_TABLE} it is UTF-16 or UTF-32 text: {SAVE}"
    ),
    File(
        "UTF-16 without a mark",
        "h.csv",
        TEXT.encode("utf-16-le"),
        f"{{path}} is not UTF-8 text (byte 1 is NUL): {SAVE}",
    ),
    File(
        "Latin-1 in the header",
        "h.csv",
        TEXT.replace("a", "Größe", 1).encode("latin-1"),
        f"{{path}} is not UTF-8 text (line 1 holds the byte 0xf6): {SAVE}",
    ),
    File(
        "Latin-1 in a cell",
        "h.csv",
        CSV + "1,2,Höhe\n".encode("latin-1"),
        f"{{path}} is not UTF-8 text (line 26 holds the byte 0xf6): {SAVE}",
    ),
    File(
        "UTF-8 cut within a character",
        "h.csv",
        CSV + "1,2,ö".encode()[:-1],
        f"{{path}} is not UTF-8 text (line 26 holds the byte 0xc3): {SAVE}",
    ),
    File(
        "NUL", "h.csv", b"a,b,y\n1,\0\0,3\n", f"{{path}} is not UTF-8 text (byte 8 is NUL): {SAVE}"
    ),
    File("zeros", "h.csv", bytes(9000), f"{{path}} is not UTF-8 text (byte 0 is NUL): {SAVE}"),
    File(
        "noise",
        "h.csv",
        bytes(range(200, 256)) * 9,
        f"{{path}} is not UTF-8 text (line 1 …): {SAVE}",
    ),
    File(
        "a picture",
        "h.csv",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)),
        f"{NO_TABLE} it is a picture or a document: save its table as CSV UTF-8.",
    ),
    File(
        "a workbook",
        "h.csv",
        b"PK\x03\x04\x14\0" + bytes(range(256)),
        f"{NO_TABLE} it is an Excel workbook or another ZIP archive: save its table as CSV UTF-8.",
    ),
    File(
        "an old workbook",
        "h.csv",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99),
        f"{NO_TABLE} it is an old Excel workbook: save its table as CSV UTF-8.",
    ),
    File(
        "a NumPy array",
        "h.csv",
        lambda path: path.write_bytes(b"\x93NUMPY\x01\0v\0{'descr': '<f8'}"),
        f"{NO_TABLE} it is a NumPy array: use the command refine-array.",
    ),
    File(
        "JSON",
        "h.csv",
        b'[{"a": 1, "y": 2}, {"a": 2, "y": 3}]',
        f"{NO_TABLE} it is JSON: save its table as CSV UTF-8.",
    ),
    File(
        "JSON lines",
        "h.csv",
        b'{"a": 1, "y": 2}\n{"a": 2, "y": 3}\n',
        f"{NO_TABLE} it is JSON: save its table as CSV UTF-8.",
    ),
    File(
        "a web page",
        "h.csv",
        b"\n<!DOCTYPE html>\n<html><body>404, not found</body></html>\n",
        f"{NO_TABLE} it is a web page or XML: save its table as CSV UTF-8.",
    ),
    File(
        "a workbook by name",
        "h.xlsx",
        CSV,
        "{path} has no ending of a table: use .csv, .csv.gz, .csv.bz2, .csv.xz or .parquet.",
    ),
    File("JSON by name", "h.json", b"[]", "{path} has no ending of a table: …"),
    File("no ending", "h", CSV, "{path} has no ending of a table: …"),
    File("nothing but an ending", ".csv", CSV, "{path} has no ending of a table: …"),
    File("another compression", "h.csv.zst", CSV, "{path} has no ending of a table: …"),
    File(
        "gzip, not named so",
        "h.csv",
        gzip.compress(CSV),
        f"{NO_TABLE} it is compressed by gzip: let its name end in .csv.gz.",
    ),
    File(
        "bzip2, not named so",
        "h.csv",
        bz2.compress(CSV),
        f"{NO_TABLE} it is compressed by bzip2: let its name end in .csv.bz2.",
    ),
    File(
        "xz, not named so",
        "h.csv",
        lzma.compress(CSV),
        f"{NO_TABLE} it is compressed by xz: let its name end in .csv.xz.",
    ),
    File(
        "text named gzip",
        "h.csv.gz",
        CSV,
        f"{NO_TABLE} it is not gzip, as its ending says; if it is text, let its name end in .csv.",
    ),
    File(
        "gzip named xz",
        "h.csv.xz",
        gzip.compress(CSV),
        f"{NO_TABLE} it is not xz, as its ending says; it is compressed by gzip: let its name end "
        "in .csv.gz.",
    ),
    File(
        "gzip within gzip",
        "h.csv.gz",
        gzip.compress(gzip.compress(CSV)),
        f"{NO_TABLE} it is compressed by gzip: let its name end in .csv.gz.",
    ),
    File(
        "gzip cut off",
        "h.csv.gz",
        gzip.compress(_LONGER)[:-400],
        f"{NO_TABLE} its gzip data is cut off. Copy it again.",
    ),
    File(
        "bzip2 cut off",
        "h.csv.bz2",
        bz2.compress(_LONGER)[:-40],
        f"{NO_TABLE} its bzip2 data is cut off. Copy it again.",
    ),
    File(
        "xz cut off",
        "h.csv.xz",
        lzma.compress(_LONGER)[:-40],
        f"{NO_TABLE} its xz data is cut off. Copy it again.",
    ),
    File(
        "gzip damaged",
        "h.csv.gz",
        compressed_but_damaged(),
        f"{NO_TABLE} its gzip data is damaged. Copy it again.",
    ),
    File(
        "Parquet named CSV",
        "h.csv",
        lambda path: path.write_bytes(parquet(table())),
        f"{NO_TABLE} it is a Parquet file: let its name end in .parquet.",
    ),
    File(
        "CSV named Parquet",
        "h.parquet",
        CSV,
        f"{NO_TABLE} it is not Parquet, as its ending says; if it is text, let its name end in "
        ".csv.",
    ),
    File(
        "Parquet cut off",
        "h.parquet",
        lambda path: path.write_bytes(parquet(table())[:-300]),
        f"{NO_TABLE} it is cut off. Copy it again.",
    ),
    File(
        "Parquet damaged",
        "h.parquet",
        b"PAR1" + bytes(range(256)) * 4 + b"PAR1",
        f"{NO_TABLE} ….",
    ),
    File(
        "a line too long",
        "h.csv",
        put(5, "1,2,3,4"),
        f"{{path}} has 4 cell(s) in line 5, but 3 {HEADER} ',', {ABOVE}",
    ),
    File(
        "commas in text",
        "h.csv",
        b"a;b;y\n1;2;3\n" + b"4;5;6;7\n",
        f"{{path}} has 4 cell(s) in line 3, but 3 {HEADER} ';', {ABOVE}",
    ),
    File(
        "rows with names, as R writes them",
        "h.csv",
        b"a,y\n" + b"".join(b"row%d,%d,3\n" % (i, i) for i in range(9)),
        f"{{path}} has 3 cell(s) in line 2, but 2 {HEADER} ',', {ABOVE}",
    ),
    File(
        "a title above the header",
        "h.csv",
        b"Houses sold\n\n" + CSV,
        f"{{path}} has 3 cell(s) in line 3, but 1 {HEADER} ',', {ABOVE}",
    ),
    File(
        "a comment above the header",
        "h.csv",
        b"# exported, 2024\n" + CSV,
        f"{{path}} has 3 cell(s) in line 2, but 2 {HEADER} ',', {ABOVE}",
    ),
    File(
        "a spreadsheet's hint above the header",
        "h.csv",
        b"sep=;\n" + CSV.replace(b",", b";"),
        f"{{path}} has 3 cell(s) in line 2, but 2 {HEADER} ';', {ABOVE}",
    ),
    File(
        "a line too short",
        "h.csv",
        put(5, "1,2"),
        "{path} has 2 cell(s) in line 5, but 3 in its header: complete or delete that line (was "
        "the file cut off?).",
    ),
    File(
        "a line too short among quotes",
        "h.csv",
        b'a,b,y\n1,"2,0\n,5",3\n\n4,6\n',
        "{path} has 2 cell(s) in line 5, but 3 in its header: …",
    ),
    File("cut off", "h.csv", CSV[:-9], "{path} has 2 cell(s) in line 25, but 3 in its header: …"),
    File(
        "an open quotation mark",
        "h.csv",
        put(4, '1,"2,3'),
        "{path} has a quotation mark in line 4 that is never closed: close or delete it.",
    ),
    File(
        "an open quotation mark in the header",
        "h.csv",
        put(1, 'a,"b,y'),
        "{path} has a quotation mark in line 1 that is never closed: close or delete it.",
    ),
    File(
        "decimal commas",
        "h.csv",
        b"a;b;y\n1,5;2;3\n2,25;3;4\n",
        f"{{path}} writes numbers with commas (column 'a': 1,5): {NUMBERS}",
    ),
    File(
        "points and commas",
        "h.csv",
        b"a;y\n1;1.234,5\n2;99,0\n",
        f"{{path}} writes numbers with commas (column 'y': 1.234,5): {NUMBERS}",
    ),
    File(
        "commas between thousands",
        "h.csv",
        b'a,y\n1,"1,234.5"\n2,99\n',
        f"{{path}} writes numbers with commas (column 'y': 1,234.5): {NUMBERS}",
    ),
    File(
        "narrow spaces between thousands",
        "h.csv",
        "a,y\n1,1\u202f234\n2,99\n".encode(),
        f"{{path}} writes numbers with spaces (column 'y': 1 234): {NUMBERS}",
    ),
    File(
        "apostrophes between thousands",
        "h.csv",
        b"a,y\n1,1'234.50\n2,99\n",
        f"{{path}} writes numbers with apostrophes (column 'y': 1'234.50): {NUMBERS}",
    ),
    File(
        "pipes",
        "h.csv",
        CSV.replace(b",", b"|"),
        f"{{path}} seems to separate its cells by '|': {SEPARATE}",
    ),
    File(
        "spaces",
        "h.csv",
        CSV.replace(b",", b"  "),
        f"{{path}} seems to separate its cells by spaces: {SEPARATE}",
    ),
    File(
        "colons",
        "h.csv",
        CSV.replace(b",", b":"),
        f"{{path}} seems to separate its cells by ':': {SEPARATE}",
    ),
    File(
        "no header",
        "h.csv",
        CSV.partition(b"\n")[2],
        "{path} has numbers in its first line (…), which should name the columns: add a header.",
    ),
    File(
        "a name twice",
        "h.csv",
        put(1, "a,a,y"),
        "{path} has more than one column 'a': rename them.",
    ),
    File(
        "two columns without a name",
        "h.csv",
        put(1, ",,y"),
        "{path} has 2 columns without a name: name them in its first line.",
    ),
    File(
        "one column",
        "h.csv",
        b"y\n1.5\n2\n4\n",
        "there is no column besides the target for a model to learn from.",
    ),
    File(
        "rows of nothing",
        "h.csv",
        b"a,b,y\n,,\n,,\n",
        "target column 'y' has no value at all: there is nothing to learn from.",
    ),
    File("missing", "h.csv", lambda path: None, "{path} does not exist: check the path."),
    File(
        "missing with its folder",
        "no/h.csv",
        lambda path: None,
        "{path} does not exist: check the path.",
    ),
    File(
        "in a file",
        "f.csv/h.csv",
        lambda path: path.parent.write_bytes(CSV),
        "{path} does not exist: check the path.",
    ),
    File(
        "a link to nowhere",
        "h.csv",
        lambda path: path.symlink_to("gone.csv"),
        "{path} is a link to gone.csv, which does not exist.",
    ),
    File(
        "a link to itself",
        "h.csv",
        lambda path: path.symlink_to(path.name),
        "{path} is a link to h.csv, which does not exist.",
    ),
    File("a folder", "h.csv", lambda path: path.mkdir(), "{path} is a folder: name a file in it."),
    File("a folder without tables", "h.parquet", lambda path: path.mkdir(), "{path} …."),
    File(
        "a pipe",
        "h.csv",
        lambda path: os.mkfifo(path),
        "{path} is a pipe or a device: save its data as a file first.",
    ),
    File(
        "a device",
        "h.csv",
        lambda path: path.symlink_to("/dev/zero"),
        "{path} is a pipe or a device: save its data as a file first.",
    ),
    File("a socket", "h.csv", as_socket, "{path} is a pipe or a device: …"),
    File(
        "a name too long",
        f"{LONG}.csv",
        lambda path: None,
        "{path} cannot be read: File name too long.",
    ),
]


# --- commands -------------------------------------------------------------------------------------


class Command(NamedTuple):
    """A command that is refused, where `h.csv` is a good table.

    The folder also holds: `link.csv`, a link to it; `same.csv`, the same file by another name;
    `taken.csv`; `nowhere.csv`, a link to a file that does not exist; `folder.csv/`.

    Attributes:
        name: Of the case.
        line: What follows `denograd-jax`.
        says: The message.
    """

    name: str
    line: str
    says: str


INPUT = "is the input, which is never replaced: choose another name."
TWICE = "is named for two outputs: choose another name for one."
EXISTS = "exists: choose another name, or add --overwrite."
TABLE = "refine h.csv --target y"

OUTPUTS = [
    Command("the input", f"{TABLE} --out h.csv", f"h.csv {INPUT}"),
    Command("the input, insisted on", f"{TABLE} --out h.csv --overwrite", f"h.csv {INPUT}"),
    Command(
        "the input, spelt otherwise",
        f"{TABLE} --out folder.csv/../h.csv --overwrite",
        f"folder.csv/../h.csv {INPUT}",
    ),
    Command("a link to the input", f"{TABLE} --out link.csv --overwrite", f"link.csv {INPUT}"),
    Command(
        "the input by another name", f"{TABLE} --out same.csv --overwrite", f"same.csv {INPUT}"
    ),
    Command("the input for changes", f"{TABLE} --changes ./h.csv --overwrite", f"h.csv {INPUT}"),
    Command("two alike", f"{TABLE} --out n.csv --changes n.csv", f"n.csv {TWICE}"),
    Command(
        "two alike, spelt otherwise",
        f"{TABLE} --out n.csv --changes folder.csv/../n.csv",
        f"folder.csv/../n.csv {TWICE}",
    ),
    Command("the default again", f"{TABLE} --changes h.refined.csv", f"h.refined.csv {TWICE}"),
    Command("one that exists", f"{TABLE} --out taken.csv", f"taken.csv {EXISTS}"),
    Command("a link that exists", f"{TABLE} --out nowhere.csv", f"nowhere.csv {EXISTS}"),
    Command("changes that exist", f"{TABLE} --changes taken.csv", f"taken.csv {EXISTS}"),
    Command(
        "a folder",
        f"{TABLE} --out folder.csv --overwrite",
        "folder.csv is a folder: name a file in it.",
    ),
    Command(
        "in no folder", f"{TABLE} --out no/n.csv", "the folder no does not exist: create it first."
    ),
    Command(
        "in a file",
        f"{TABLE} --out taken.csv/n.csv",
        "taken.csv is a file, not a folder: choose another folder.",
    ),
    Command(
        "where nobody may write",
        f"{TABLE} --out /proc/n.csv",
        "/proc may not be written to: choose another folder.",
    ),
    Command(
        "a name too long",
        f"{TABLE} --out {LONG}.csv",
        f"{LONG}.csv cannot be written: File name too long.",
    ),
    Command("a workbook", f"{TABLE} --out n.xlsx", "n.xlsx has no ending of a table: …"),
    Command("no ending", f"{TABLE} --out n", "n has no ending of a table: …"),
    Command(
        "a workbook of changes", f"{TABLE} --changes n.xlsx", "n.xlsx has no ending of a table: …"
    ),
    Command(
        "a report that is no page",
        f"{TABLE} --report n.pdf",
        "n.pdf would be an HTML page: let its name end in .html.",
    ),
    Command(
        "a report in no folder",
        f"{TABLE} --report no/n.html",
        "the folder no does not exist: create it first.",
    ),
]

ARGUMENTS = [
    Command("no file", "refine", "Missing argument …."),
    Command(
        "no target",
        "refine h.csv",
        "…name the column that the others explain with --target, or add --series.",
    ),
    Command("a target without a name", "refine h.csv --target", "…--target… requires an argument…"),
    Command("two files", f"{TABLE} again.csv", "…again.csv…"),
    Command("an unknown command", "repair h.csv", "No such command 'repair'."),
    Command("an unknown option", f"{TABLE} --colour red", "No such option: --colour…"),
    Command("a window of none", f"{TABLE} --window 0", "Invalid value for '--window': …"),
    Command("a window in words", f"{TABLE} --window day", "Invalid value for '--window': …"),
    Command(
        "a horizon of none", f"{TABLE} --window 3 --horizon 0", "Invalid value for '--horizon': …"
    ),
    Command(
        "a horizon of rows",
        f"{TABLE} --horizon 2",
        "…--horizon and --stride are for a series: add --series.",
    ),
    Command(
        "a time of rows", f"{TABLE} --time a", "…--time and --group are for a series: add --series."
    ),
    Command("an unknown rule", f"{TABLE} --rule magic", "Invalid value for '--rule': …'magic'…"),
    Command("a negative step", f"{TABLE} --step-size -1", "Invalid value for '--step-size': …"),
    Command(
        "a step that is no number", f"{TABLE} --step-size nan", "Invalid value for '--step-size': …"
    ),
    Command(
        "a negative tolerance", f"{TABLE} --tolerance=-1", "Invalid value for '--tolerance': …"
    ),
    Command("no epochs", f"{TABLE} --max-epochs 0", "Invalid value for '--max-epochs': …"),
    Command("half a step", f"{TABLE} --max-steps 1.5", "Invalid value for '--max-steps': …"),
    Command("a seed too large", f"{TABLE} --seed 4294967296", "Invalid value for '--seed': …"),
]

COMMANDS = [*OUTPUTS, *ARGUMENTS]
