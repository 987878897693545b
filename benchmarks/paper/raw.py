"""The data sets as published, prepared as in the study."""

import zipfile
from io import TextIOWrapper

import numpy as np
import pandas as pd

MOST_MISSING = 800  # rows of Support2
ECL_STEPS = 6000


def house_prices(path):
    """Sales in King County: the first of each house."""
    frame = pd.read_csv(path).sort_values("date", kind="stable").drop_duplicates("id")
    return frame.sort_index().drop(columns=["id", "date"]).pipe(target_last, "price")


def parkinsons(path):
    """Voices; the other score and the person are left out."""
    frame = pd.read_csv(path)
    return frame.drop(columns=["subject#", "motor_UPDRS"], errors="ignore").pipe(
        target_last, "total_UPDRS"
    )


def support2(path):
    """Seriously ill patients without gaps: columns with many go, then rows with any."""
    frame = pd.read_csv(path)
    frame = frame[frame.columns[frame.isna().sum() <= MOST_MISSING]].dropna()
    told = [c for c in ("sex", "dzgroup", "race") if c in frame]
    numbers = frame.select_dtypes("number").drop(
        columns=["id", "death", "d.time", "hospdead", "slos"], errors="ignore"
    )
    return pd.concat([numbers, indicators(frame[told])], axis=1).pipe(target_last, "age")


def rt_iot2022(path):
    """Network flows; the class of attack stays as an extra column."""
    frame = pd.read_csv(path).drop(columns=["no"], errors="ignore")
    attack = frame.pop("Attack_type").rename("attack_type")
    y = frame["active.avg"].rename("y")
    gone = [c for c in frame if c.startswith(("active", "idle"))]
    told = indicators(frame[["proto", "service"]])
    numbers = frame.drop(columns=gone).select_dtypes("number")
    numbers = numbers.loc[:, numbers.min() < numbers.max()]
    return pd.concat([numbers, told, y, attack], axis=1).drop_duplicates(ignore_index=True)


def lattice(path):
    """Fuel assemblies; the other output of the simulation is left out."""
    frame = pd.read_csv(path)
    plain = {c: "".join(filter(str.isalpha, c)).lower() for c in frame}
    target = [c for c, name in plain.items() if name in ("kinf", "kinfinity")]
    if not target:
        raise ValueError(f"no k-inf among {', '.join(map(str, frame.columns))}")
    other = [c for c, name in plain.items() if name == "pppf"]
    return frame.drop(columns=other).pipe(target_last, target[0], "k-inf")


def daily_climate(*paths):
    """Both published parts, one after the other."""
    return pd.concat([dated(path) for path in paths])


def microsoft_stock(path):
    """Every calendar day; days without trade are interpolated."""
    frame = dated(path, "Date").rename(columns={"Close": "y"})
    frame.index = frame.index.normalize()
    return frame.resample("D").mean().interpolate()


def dated(path, column="date"):
    """A series with its times as index."""
    frame = pd.read_csv(path)
    return frame.set_index(pd.to_datetime(frame.pop(column)))


def ecl(path):
    """Hourly consumption of 321 clients, less one; the first 6,000 hours."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".tsf"))
        with TextIOWrapper(archive.open(name), "latin-1") as file:
            lines = [line.strip() for line in file]
    series = lines[lines.index("@data") + 1 :]
    values = [line.rpartition(":")[2].split(",")[:ECL_STEPS] for line in series if line]
    columns = [f"MT_{i:03d}" for i in range(len(values))]
    frame = pd.DataFrame(np.array(values, float).T, columns=columns)
    return frame.drop(columns="MT_182", errors="ignore")


def target_last(frame, column, name="y"):
    """The target as last column, under the name that the benchmark knows."""
    target = frame.pop(column).rename(name)
    return pd.concat([frame, target], axis=1)


def indicators(frame):
    """Columns of 0 and 1, less the first level of each."""
    return pd.get_dummies(frame, drop_first=True, dtype="int8")
