"""Where a result comes from: versions, device, precision, and a hash of the input."""

import hashlib
import platform
from typing import Any

import flax
import jax
import jaxlib.version
import numpy as np
import optax
import pandas as pd

from denograd_jax import __version__

__all__ = ["fingerprint", "provenance"]


def provenance(frame: pd.DataFrame, dtype: Any, seed: int | None) -> dict[str, object]:
    """A record to keep with a result: the same one on the same machine means the same bits."""
    device = jax.devices()[0]
    return {
        "denograd-jax": __version__,
        "jax": f"{jax.__version__} (jaxlib {jaxlib.version.__version__})",
        "flax": flax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "Python": platform.python_version(),
        "device": f"{device.device_kind} ({device.platform})",
        "precision": str(dtype),
        "seed": "none: the model was given" if seed is None else seed,
        "SHA-256 of the input": fingerprint(frame),
    }


def fingerprint(frame: pd.DataFrame) -> str:
    """SHA-256 of a frame's labels, types, index and values; the same for equal frames."""
    digest = hashlib.sha256(repr((frame.columns.names, frame.index.names)).encode())
    levels = [frame.index.get_level_values(level) for level in range(frame.index.nlevels)]
    columns = [*map(pd.Series, levels), *(frame.iloc[:, j] for j in range(frame.shape[1]))]
    digest.update(repr((list(frame.columns), [_described(c.dtype) for c in columns])).encode())
    for column in columns:
        digest.update(_hashes(column).tobytes())
    return digest.hexdigest()


def _described(kind: Any) -> str:
    """A type with all that tells it from others: categories are a part of it."""
    if not isinstance(kind, pd.CategoricalDtype):
        return str(kind)
    return repr((kind.ordered, str(kind.categories.dtype), list(kind.categories)))


def _hashes(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_object_dtype(column.dtype):  # 1 and "1" are not the same
        column = column.map(repr)
    try:
        return pd.util.hash_pandas_object(column, index=False).to_numpy()
    except (TypeError, ValueError):  # lists, dicts; long doubles
        return pd.util.hash_pandas_object(column.map(repr), index=False).to_numpy()
