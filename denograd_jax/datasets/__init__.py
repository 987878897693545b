"""Two real data sets, shipped with the package and free of rights (CC0), and noise to add to them.

>>> from denograd_jax import datasets
>>> datasets.names()
('lucas_county', 'nyc_weather_2013')
>>> datasets.load("lucas_county").shape
(25357, 23)
"""

from collections.abc import Hashable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from denograd_jax.errors import ColumnError, DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DataSet", "add_noise", "describe", "load", "names"]


class DataSet(NamedTuple):
    """What there is to know about a shipped data set.

    Attributes:
        name: Name to `load` it by.
        target: Column that the others explain; None where every column of a series is refined.
        time: Column of time stamps; None for rows without order.
        groups: Column that tells the series of a panel apart; None where there is one.
        window: Steps that a model should look back on; None for rows without order.
        frozen: Numeric columns that are codes, dates or angles, not quantities measured with
            noise. They may inform a model, but should not be moved.
        description: What the rows and columns are.
        licence: SPDX identifier of the licence.
        source: Where the data come from.
    """

    name: str
    target: str | None
    time: str | None
    groups: str | None
    window: int | None
    frozen: tuple[str, ...]
    description: str
    licence: str
    source: str


_DATA_SETS = {
    "lucas_county": DataSet(
        name="lucas_county",
        target="price",
        time=None,
        groups=None,
        window=None,
        frozen=("yrbuilt", "age", "sdate", "s1993", "s1994", "s1995", "s1996", "s1997", "s1998"),
        description=(
            "25,357 single-family homes sold in Lucas County, Ohio, 1993-1998: price in US "
            "dollars, living area (TLA), lot and garage in feet, counts of rooms, materials. "
            "sdate is the day of sale written yymmdd as an integer and age is "
            "(1999 - yrbuilt)/100: dates, not measurements."
        ),
        licence="CC0-1.0",
        source="R package spData, data set house, without the assessor's value (avalue)",
    ),
    "nyc_weather_2013": DataSet(
        name="nyc_weather_2013",
        target=None,
        time="time_hour",
        groups="origin",
        window=24,
        frozen=("year", "month", "day", "hour", "wind_dir"),
        description=(
            "Hourly weather of 2013 at the airports EWR, JFK and LGA: temperature and dew point "
            "in degrees Fahrenheit, humidity in percent, wind in mph, precipitation in inches, "
            "pressure in millibars, visibility in miles. 26,115 rows with gaps, missing cells and "
            "one impossible wind speed (1,048 mph). time_hour is UTC; year, month, day and hour "
            "are local time. wind_dir is an angle: 360 and 0 are the same."
        ),
        licence="CC0-1.0",
        source="R package nycflights13, data set weather",
    ),
}

_CATEGORIES = {"lucas_county": ("stories", "wall", "garage", "syear"), "nyc_weather_2013": ()}


def names() -> tuple[str, ...]:
    """Names of the shipped data sets."""
    return tuple(_DATA_SETS)


def describe(name: str) -> DataSet:
    """What there is to know about a data set: its target, time, groups, origin and licence.

    Args:
        name: One of `names()`.

    Raises:
        DataError: There is no such data set.
    """
    if name not in _DATA_SETS:
        raise DataError(f"There is no data set {name!r}; shipped are {', '.join(names())}.")
    return _DATA_SETS[name]


def load(name: str) -> "pd.DataFrame":
    """A shipped data set as a data frame.

    Args:
        name: One of `names()`.

    Returns:
        A new frame with a default index: quantities with decimals as float32, whole numbers as
        int64, kinds of things as categories, time stamps in UTC; missing cells are NaN.

    Raises:
        DataError: There is no such data set.
    """
    import pandas as pd

    time = describe(name).time
    with resources.files(__package__).joinpath(f"{name}.csv.xz").open("rb") as file:
        categories = dict.fromkeys(_CATEGORIES[name], "category")
        frame = pd.read_csv(file, compression="xz", dtype=categories)
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("float64"), np.float32))
    if time is not None:
        frame[time] = pd.to_datetime(frame[time], utc=True)
    return frame


def add_noise(
    frame: "pd.DataFrame", scale: float, *, columns: Sequence[Hashable], seed: int
) -> "pd.DataFrame":
    """A copy of a frame with independent Gaussian noise on the observed cells of some columns.

    Args:
        frame: Any frame; it is not changed.
        scale: Standard deviation of the noise in standard deviations of each column.
        columns: Numeric columns that get noise. Those of integers become float64; missing cells
            stay missing.
        seed: Seed of the noise; the same seed gives the same noise.

    Returns:
        The noisy copy: same index, columns and order.

    Raises:
        ColumnError: A column is unknown or not numeric.
        DataError: `scale` is negative or not finite.
    """
    if not (np.isfinite(scale) and scale >= 0):
        raise DataError(f"scale is {scale}, but noise needs a finite number that is 0 or more.")
    random = np.random.default_rng(seed)
    noisy = frame.copy()
    for label in columns:
        clean = _floats(frame, label)
        spread = frame[label].astype("float64").std(ddof=0)
        noise = scale * spread * random.standard_normal(len(clean))
        noisy[label] = (clean + noise).astype(_floating_type(frame[label]))
    return noisy


def _floats(frame: "pd.DataFrame", label: Hashable) -> NDArray[np.float64]:
    import pandas as pd

    if label not in frame.columns:
        raise ColumnError(f"There is no column {label!r} to add noise to.")
    column = frame[label]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise ColumnError(f"Column {label!r} holds {column.dtype}, but noise needs numbers.")
    floats: NDArray[np.float64] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return floats


def _floating_type(column: "pd.Series[Any]") -> Any:
    """The column's own type where it is floating, else float64."""
    import pandas as pd

    return column.dtype if pd.api.types.is_float_dtype(column) else np.float64
