"""Where the data sets are published, and what cannot be had from there by a program."""

import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from . import raw

UCI = "https://archive.ics.uci.edu/static/public"
TIMEOUT = 60  # seconds without an answer


@dataclass(frozen=True)
class Source:
    """Where a data set is from.

    Attributes:
        page: For people.
        files: As they are called there, in the folder `raw`.
        prepare: `prepare(*paths)` gives the frame that the study uses.
        addresses: Where a program finds the files; none where an account or a browser is needed.
    """

    page: str
    files: tuple[str, ...]
    prepare: Callable[..., pd.DataFrame]
    addresses: tuple[str, ...] = ()


def uci(number, name, prepare):
    page = f"https://archive.ics.uci.edu/dataset/{number}"
    return Source(page, (f"{name}.csv",), prepare, (f"{UCI}/{number}/data.csv",))


def kaggle(name, files, prepare):
    return Source(f"https://www.kaggle.com/datasets/{name}", files, prepare)


SOURCES = {
    "house_prices": kaggle(
        "harlfoxem/housesalesprediction", ("kc_house_data.csv",), raw.house_prices
    ),
    "parkinsons": uci(189, "parkinsons", raw.parkinsons),
    "rt_iot2022": uci(942, "rt_iot2022", raw.rt_iot2022),
    "support2": uci(880, "support2", raw.support2),
    "lattice": uci(1091, "lattice", raw.lattice),
    "daily_climate": kaggle(
        "sumanthvrao/daily-climate-time-series-data",
        ("DailyDelhiClimateTrain.csv", "DailyDelhiClimateTest.csv"),
        raw.daily_climate,
    ),
    "ETTh1": Source(
        "https://github.com/zhouhaoyi/ETDataset",
        ("ETTh1.csv",),
        raw.dated,
        ("https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",),
    ),
    "microsoft_stock": kaggle(
        "vijayvvenkitesh/microsoft-stock-time-series-analysis",
        ("Microsoft_Stock.csv",),
        raw.microsoft_stock,
    ),
    "WTH": Source("https://github.com/zhouhaoyi/Informer2020", ("WTH.csv",), raw.dated),
    "ecl": Source(
        "https://zenodo.org/records/4656140",
        ("electricity_hourly_dataset.zip",),
        raw.ecl,
        ("https://zenodo.org/records/4656140/files/electricity_hourly_dataset.zip",),
    ),
}


def fetched(name: str, folder: Path) -> str:
    """Puts a data set into the folder, and says what came of it.

    Files in `folder/raw` are taken from there, else from where they are published.
    """
    path = Path(folder) / f"{name}.parquet"
    if path.exists():
        return "already there"
    source = SOURCES[name]
    try:
        files = [had(source, i, Path(folder) / "raw") for i in range(len(source.files))]
    except OSError as error:
        return f"not to be had: {error}"
    try:
        frame = source.prepare(*files)
    except (KeyError, ValueError) as error:
        return f"not understood: {type(error).__name__}: {error}"
    draft = path.with_suffix(".draft")
    frame.to_parquet(draft)
    draft.replace(path)
    return f"{len(frame):,} rows of {frame.shape[1]} columns"


def had(source: Source, index: int, folder: Path) -> Path:
    """A published file, downloaded unless it is there.

    Raises:
        OSError: It cannot be downloaded.
    """
    path = folder / source.files[index]
    if path.exists():
        return path
    by_hand = f"get {path.name} at {source.page} into {folder}"
    if not source.addresses:
        raise OSError(f"no program may download it: {by_hand}")
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    address = source.addresses[index]
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, draft.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        reason = getattr(error, "reason", error)
        raise OSError(f"{address}: {reason}; try later, or {by_hand}") from error
    draft.replace(path)
    return path
