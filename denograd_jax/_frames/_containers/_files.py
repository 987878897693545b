"""Containers in files, of their own kind."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from denograd_jax._frames._folders import (
    from_plain,
    read_arrays,
    read_frame,
    to_plain,
    write_arrays,
    write_frame,
)
from denograd_jax.errors import MissingExtraError, UnsupportedError

__all__ = ["read_container", "write_container"]


def write_container(container: Any, folder: Path, name: str) -> dict[str, Any] | None:
    """Write a container into a folder; returns what `read_container` needs to know of it."""
    if container is None:
        return None
    if isinstance(container, list | tuple | dict):
        members = container.items() if isinstance(container, dict) else enumerate(container)
        parts = [
            [to_plain(key), write_container(member, folder, f"{name}-{number}")]
            for number, (key, member) in enumerate(members)
        ]
        return {"kind": type(container).__name__, "parts": parts}
    if isinstance(container, np.ndarray):
        write_arrays(folder / f"{name}.npz", {"array": container})
        return {"kind": "array", "file": name}
    if isinstance(container, pd.DataFrame):
        return {"kind": "frame", "file": name} | _write_pandas(container, folder, name)
    if isinstance(container, pd.Series):
        about = _write_pandas(container.to_frame("value"), folder, name)
        return {"kind": "series", "file": name, "name": to_plain(container.name)} | about
    library = type(container).__module__.partition(".")[0]
    if library == "polars":
        return _write_polars(container, folder, name)
    if library == "xarray":
        return _write_xarray(container, folder, name)
    raise UnsupportedError(f"a {type(container).__name__} cannot be saved.")


def read_container(about: dict[str, Any] | None, folder: Path) -> Any:
    """What `write_container` wrote."""
    if about is None:
        return None
    kind = about["kind"]
    if kind in ("list", "tuple", "dict"):
        parts = [(from_plain(key), read_container(part, folder)) for key, part in about["parts"]]
        members = [member for _, member in parts]
        return dict(parts) if kind == "dict" else members if kind == "list" else tuple(members)
    if kind == "array":
        return read_arrays(folder / f"{about['file']}.npz")["array"]
    if kind == "frame":
        return _read_pandas(about, folder)
    if kind == "series":
        return _read_pandas(about, folder)["value"].rename(from_plain(about["name"]))
    if kind.startswith("polars"):
        polars = _imported("polars")
        frame = polars.read_parquet(folder / f"{about['file']}.parquet")
        return frame.to_series() if kind == "polars series" else frame
    return _read_xarray(about, folder)


def _imported(library: str) -> Any:
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingExtraError(
            f'This was saved from {library}: run pip install "denograd-jax[{library}]".'
        ) from error


def _write_pandas(frame: pd.DataFrame, folder: Path, name: str) -> dict[str, Any]:
    labels = write_frame(folder / f"{name}.parquet", frame)
    return {
        "labels": labels,
        "axis": [to_plain(level) for level in frame.columns.names],
        "freq": getattr(frame.index, "freqstr", None),  # Parquet does not hold it
    }


def _read_pandas(about: dict[str, Any], folder: Path) -> pd.DataFrame:
    frame = read_frame(folder / f"{about['file']}.parquet")
    names = [from_plain(level) for level in about["axis"]]
    labels = [from_plain(label) for label in about["labels"]]
    frame.columns = (
        pd.MultiIndex.from_tuples(labels, names=names)
        if len(names) > 1
        else pd.Index(labels, name=names[0], tupleize_cols=False)
    )
    if isinstance(frame.index, pd.DatetimeIndex | pd.TimedeltaIndex):
        frame.index.freq = about["freq"]  # type: ignore[misc]  # pandas has a setter
    return frame


def _write_polars(container: Any, folder: Path, name: str) -> dict[str, Any]:
    import polars

    series = isinstance(container, polars.Series)
    frame = container.to_frame() if series else container
    frame.write_parquet(folder / f"{name}.parquet")
    return {"kind": "polars series" if series else "polars frame", "file": name}


def _write_xarray(container: Any, folder: Path, name: str) -> dict[str, Any]:
    """Variables and coordinates as arrays, the rest as JSON."""
    import xarray

    single = isinstance(container, xarray.DataArray)
    found = container.to_dict(data="array")
    parts = {"coords": found["coords"]}
    parts["variables"] = {"": found} if single else found["data_vars"]
    arrays: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for part, variables in parts.items():
        about[part] = []
        for label, variable in variables.items():
            array = np.asarray(variable["data"])
            text = array.dtype.kind in "OT" and all(isinstance(v, str) for v in array.flat)
            arrays[f"{part} {len(about[part])}"] = array.astype(str) if text else array
            dims, attributes = list(map(to_plain, variable["dims"])), _attributes(variable)
            about[part].append([to_plain(label), dims, attributes, text])
    write_arrays(folder / f"{name}.npz", arrays)
    kind = "xarray array" if single else "xarray set"
    return {
        "kind": kind,
        "file": name,
        "name": to_plain(found.get("name")),
        "attrs": _attributes(found),
        **about,
    }


def _attributes(variable: dict[str, Any]) -> dict[str, Any]:
    return {str(key): to_plain(value) for key, value in variable["attrs"].items()}


def _read_xarray(about: dict[str, Any], folder: Path) -> Any:
    xarray = _imported("xarray")
    arrays = read_arrays(folder / f"{about['file']}.npz")

    def variables(part: str) -> dict[Any, Any]:
        return {
            from_plain(label): (
                tuple(map(from_plain, dims)),
                arrays[f"{part} {number}"].astype(object) if text else arrays[f"{part} {number}"],
                {key: from_plain(value) for key, value in attrs.items()},
            )
            for number, (label, dims, attrs, text) in enumerate(about[part])
        }

    attrs = {key: from_plain(value) for key, value in about["attrs"].items()}
    if about["kind"] == "xarray set":
        return xarray.Dataset(variables("variables"), variables("coords"), attrs)
    ((dims, array, attrs),) = variables("variables").values()
    name = from_plain(about["name"])
    return xarray.DataArray(array, variables("coords"), dims, name, attrs)
