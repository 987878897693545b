"""Made-up refinements, of which the report's tests write pages."""

import numpy as np
import pandas as pd

from denograd_jax._refinement import Refinement
from denograd_jax._run import Status

__all__ = ["made_refinement", "rows_refinement", "series_refinement"]


def made_refinement(before, after, *, kind="rows", **fields):
    """A refinement of `before` into `after` with residuals that are halved."""
    residual = np.random.default_rng(0).normal(size=len(before))
    defaults = {
        "data": after,
        "target": None,
        "residuals": pd.DataFrame(
            {
                "label": before.index,
                "target": "price",
                "before": residual,
                "after": residual / 2,
            }
        ),
        "scale": dict(zip(before.columns, before.std(ddof=0), strict=True)),
        "status": Status.converged,
        "steps": 7,
        "look_ahead": kind == "series",
        "settings": {"rule": "unit_step", "step size": 0.05, "model": "mlp", "frozen": []},
        "notes": [],
        "time": None,
        "groups": None,
        "cell_residuals": (np.full(before.shape, 1.5), np.full(before.shape, 0.25)),
    }
    return Refinement(before=before, after=after, kind=kind, **defaults | fields)


def rows_refinement(rows=300, names=("price", "area", "rooms", "idle"), **fields):
    """A table; the last column is not changed, one cell is missing."""
    rng = np.random.default_rng(1)
    before = pd.DataFrame(rng.normal(size=(rows, len(names))) * 10, columns=list(names))
    before.iloc[5, 1] = np.nan
    after = before * 0.9
    after.iloc[:, -1] = before.iloc[:, -1]
    return made_refinement(before, after, **fields)


def series_refinement(steps=240, **fields):
    """Two hourly series of a panel, interleaved, with a gap and a burst of large changes."""
    rng = np.random.default_rng(2)
    index = np.arange(2 * steps)
    hours = index // 2 + 1000 * (index // 2 >= steps // 2)
    time = np.datetime64("2013-01-01T00", "h") + hours.astype("timedelta64[h]")
    before = pd.DataFrame(
        {"temp": rng.normal(size=len(index)), "wind": rng.normal(size=len(index))}
    )
    after = before * 0.95
    after.loc[(index % 2 == 1) & (hours < 60), "temp"] = 0.0
    groups = np.where(index % 2, "JFK", "EWR").astype(object)
    return made_refinement(before, after, kind="series", time=time, groups=groups, **fields)
