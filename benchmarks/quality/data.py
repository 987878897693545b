"""Data sets: Parquet files of a folder, and synthetic systems.

What a file holds is known for those in FILES; any other joins as a series where it has a column or
an index of times in order, else as rows with the last numeric column as target.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import synthetic
from .problems import DataSet

WINDOW = 24
HELD_OUT = 0.2
MOST_MISSING = 0.01
"""A numeric column with a larger part missing is left out: filled cells are no truth."""


@dataclass(frozen=True)
class Known:
    """What is to be known about a file."""

    kind: str
    target: str
    prepare: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame


def without(*columns):
    return lambda frame: frame.drop(columns=list(columns))


def newark(frame):
    """The weather of one of three airports, in order of time."""
    frame = frame[frame["origin"] == "EWR"].sort_values("time_hour")
    return frame.drop(columns=["origin", "year", "month", "day", "hour", "time_hour"])


FILES = {
    "ETTh1": Known("series", "OT"),
    "WTH": Known("series", "Visibility"),
    "appliances_energy_10min": Known("series", "Appliances"),
    "nycflights13_weather_hourly": Known("series", "temp", newark),
    "beijing_pm25_hourly": Known("series", "TEMP", without("pm2.5")),
    "daily_climate": Known("series", "meantemp"),
    "microsoft_stock": Known("series", "y"),
    "house_prices": Known("rows", "y"),
    "parkinsons": Known("rows", "y"),
    "support2": Known("rows", "y"),
    "california_housing": Known("rows", "MedHouseVal"),
    "house_lucas_county": Known("rows", "price", without("avalue")),
    "rt_iot2022": Known("rows", "y", without("attack_type")),
}

SYNTHETIC = {
    "seasonal": ("series", "channel0", synthetic.seasonal),
    "lorenz": ("series", "x", synthetic.lorenz),
    "friedman1": ("rows", "y", synthetic.friedman1),
    "rank2": ("rows", "y", synthetic.rank2),
}


def names(folder):
    """Data sets that there are, real ones first; without a folder the synthetic ones."""
    files = sorted(path.stem for path in Path(folder).glob("*.parquet")) if folder else []
    known = [name for name in FILES if name in files]
    return [*known, *(name for name in files if name not in FILES), *SYNTHETIC]


def load(name, folder, rows, seed):
    """A data set, cut into what gets noise and what is held out.

    Args:
        name: One of `names(folder)`.
        folder: Where Parquet files lie; None will do for synthetic data.
        rows: How many rows are taken: the first of a series, a sample of a table.
        seed: Of the sample, of its order, and of synthetic data.

    Returns:
        The `DataSet`.
    """
    rng = np.random.default_rng(seed)
    if name in SYNTHETIC:
        kind, target, generate = SYNTHETIC[name]
        frame = generate(rows, rng)
    else:
        frame, kind, target = opened(name, folder)
    frame = taken(complete(frame, kind), kind, rows, rng)
    held_out = int(len(frame) * HELD_OUT)
    train, test = frame.iloc[:-held_out], frame.iloc[-held_out:]
    window = WINDOW if kind == "series" else None
    return DataSet(name, kind, target, window, train, test.reset_index(drop=True))


def opened(name, folder):
    """The frame of a file, its kind and its target."""
    frame = pd.read_parquet(Path(folder) / f"{name}.parquet")
    if name in FILES:
        known = FILES[name]
        return known.prepare(frame), known.kind, known.target
    times = in_order(frame)
    if times is None:
        return frame, "rows", last_number(frame)
    frame = frame.drop(columns=times)
    return frame, "series", last_number(frame)


def in_order(frame):
    """Columns of times in order; an empty list where it is the index; None where there is none."""
    dates = frame.select_dtypes(["datetime", "datetimetz"])
    ordered = [c for c in dates if frame[c].is_monotonic_increasing]
    if ordered:
        return ordered
    index = frame.index
    return [] if isinstance(index, pd.DatetimeIndex) and index.is_monotonic_increasing else None


def last_number(frame):
    return frame.select_dtypes("number").columns[-1]


def complete(frame, kind):
    """Numbers as float64 without gaps; a series has no other columns, and no index of times.

    The few cells missing in an otherwise complete series are interpolated; in a table their rows
    are left out.
    """
    numeric = frame.select_dtypes("number")
    frame = frame.drop(columns=numeric.columns[numeric.isna().mean() > MOST_MISSING])
    floats = dict.fromkeys(frame.select_dtypes("number"), "float64")
    frame = frame.astype(floats)
    if kind == "series":
        frame = frame[list(floats)].interpolate(limit_direction="both")
    return frame.dropna().reset_index(drop=True)


def taken(frame, kind, rows, rng):
    """The first rows of a series; of a table a sample in random order."""
    if kind == "series":
        return frame.iloc[:rows]
    order = rng.permutation(len(frame))[:rows]
    return frame.iloc[order].reset_index(drop=True)
