"""The study's data sets: Parquet files of a folder, cut 70/10/20.

A table is cut at random and each part keeps the order of the file, which the smoothers of one
column go by; a series is cut in time.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

WINDOW = 24
TRAINING, VALIDATION = 0.7, 0.1
SUBSET = 20_000
"""Rows of RT-IoT 2022 unless all are asked for."""


@dataclass(frozen=True)
class Known:
    """What is to be known about a file.

    Attributes:
        title: As in the study.
        kind: "rows" or "series".
        target: Column that the others explain.
        extra: Columns that the study does not use.
        rows: Most rows that are taken unless all are asked for.
    """

    title: str
    kind: str
    target: str
    extra: tuple[str, ...] = ()
    rows: int | None = None


FILES = {
    "house_prices": Known("House Prices", "rows", "y"),
    "parkinsons": Known("Parkinsons", "rows", "y"),
    "rt_iot2022": Known("RT-IoT 2022", "rows", "y", ("attack_type",), SUBSET),
    "support2": Known("Support2", "rows", "y"),
    "lattice": Known("Lattice Physics", "rows", "k-inf"),
    "daily_climate": Known("Daily Climate", "series", "meantemp"),
    "ETTh1": Known("ETT", "series", "OT"),
    "microsoft_stock": Known("Microsoft Stock", "series", "y"),
    "WTH": Known("WTH", "series", "Visibility"),
    "ecl": Known("ECL", "series", "MT_320"),
}


@dataclass(frozen=True)
class DataSet:
    """Clean data, cut in three.

    Attributes:
        name: As in the tables.
        kind: "rows" or "series".
        target: Column that the others explain.
        learnt: Training rows, then validation rows: what gets noise and is refined.
        training: How many of them are training rows.
        test: What downstream models are tested on.
    """

    name: str
    kind: str
    target: str
    learnt: pd.DataFrame
    training: int
    test: pd.DataFrame

    @property
    def mean(self) -> pd.Series:
        """Of the training rows, before noise."""
        return self.learnt.iloc[: self.training].mean()

    @property
    def scale(self) -> pd.Series:
        """Standard deviation of the training rows, before noise."""
        return self.learnt.iloc[: self.training].std(ddof=0)

    def scaled(self, frame: pd.DataFrame) -> np.ndarray:
        """Columns standardised by the training rows."""
        return np.array((frame - self.mean) / self.scale)  # a copy, writable

    def unscaled(self, values: np.ndarray) -> pd.DataFrame:
        """Standardised columns in their own units."""
        units = values * self.scale.to_numpy() + self.mean.to_numpy()
        return pd.DataFrame(units, columns=self.learnt.columns)

    def digest(self) -> str:
        """Of all that it holds."""
        found = hashlib.sha256(f"{self.name} {self.kind} {self.target} {self.training}".encode())
        for frame in (self.learnt, self.test):
            found.update("|".join(frame.columns).encode())
            found.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
        return found.hexdigest()


def names(folder) -> list[str]:
    """Data sets whose files are in the folder, in the order of the study."""
    return [name for name in FILES if (Path(folder) / f"{name}.parquet").exists()]


def missing(folder) -> list[str]:
    """Data sets of the study whose files are not."""
    return [name for name in FILES if name not in names(folder)]


def load(name: str, folder, seed: int, rows: int | None = None, full: bool = False) -> DataSet:
    """A data set, cut in three.

    Args:
        name: One of `names(folder)`.
        folder: Where the Parquet files lie.
        seed: Of the cut of a table.
        rows: Most rows that are taken: the first of a series, a sample of a table.
        full: Whether a data set of which a subset is usual is taken whole.

    Returns:
        The data set, all columns numbers.
    """
    known = FILES[name]
    frame = pd.read_parquet(Path(folder) / f"{name}.parquet")
    frame = frame.drop(columns=[c for c in known.extra if c in frame])
    frame = frame.astype("float64").reset_index(drop=True)
    limits = [n for n in (rows, None if full else known.rows) if n is not None]
    if limits:
        frame = taken(frame, known.kind, min(limits))
    return cut(name, known.kind, known.target, frame, seed)


def taken(frame, kind, rows):
    """The first rows of a series; of a table always the same sample, in its order."""
    if kind == "series" or rows >= len(frame):
        return frame.iloc[:rows]
    chosen = np.random.default_rng(0).choice(len(frame), rows, replace=False)
    return frame.iloc[np.sort(chosen)].reset_index(drop=True)


def cut(name, kind, target, frame, seed) -> DataSet:
    """Training, validation and test rows; columns without variation in the first are left out."""
    count = len(frame)
    order = np.arange(count)
    if kind == "rows":
        order = np.random.default_rng(seed).permutation(count)
    first, second = round(TRAINING * count), round((TRAINING + VALIDATION) * count)
    train, validation, test = (
        frame.iloc[np.sort(part)] for part in np.split(order, [first, second])
    )
    varying = [c for c in frame if train[c].min() < train[c].max()]
    learnt = pd.concat([train, validation])[varying].reset_index(drop=True)
    return DataSet(name, kind, target, learnt, first, test[varying].reset_index(drop=True))


def with_noise_for_target(data: DataSet, seed: int) -> DataSet:
    """The same inputs with a target that nothing explains; no method can be of use."""
    rng = np.random.default_rng([seed, 1])
    learnt, test = data.learnt.copy(), data.test.copy()
    for frame in (learnt, test):
        frame[data.target] = rng.normal(size=len(frame))
    return replace(data, learnt=learnt, test=test)
