"""Made-up refinements, of which the report's tests write pages."""

import dataclasses

import numpy as np
import pandas as pd

from denograd_jax._core._run import Status
from denograd_jax._frames._calibration import STRENGTHS, Calibration
from denograd_jax._frames._classes import Classification
from denograd_jax._frames._refinement import Evidence, Refinement

__all__ = [
    "classes_refinement",
    "gap_table",
    "long_refinement",
    "made_refinement",
    "noise_refinement",
    "rows_refinement",
    "series_refinement",
]


def gap_table(group=(), after=(), before=(), steps=()):
    """Gaps as `refine` tells them."""
    return pd.DataFrame({"group": group, "after": after, "before": before, "steps": steps})


def made_refinement(before, after, *, kind="rows", **fields):
    """A refinement of `before` into `after` with residuals that are halved."""
    residual = np.random.default_rng(0).normal(size=len(before))
    unit = before.std(ddof=0).to_numpy(float)[None]
    defaults = {
        "data": after,
        "target": None,
        "unit": np.where(unit > 0, unit, 1.0),
        "residuals": pd.DataFrame(
            {
                "label": before.index,
                "target": "price",
                "before": residual,
                "after": residual / 2,
                "unit": 1.0,
            }
        ),
        "evidence": Evidence(
            np.array([[1.5]]), np.array([[0.25]]), np.float32([[0.5]]), np.int32([[3]])
        ),
        "status": Status.converged,
        "steps": 7,
        "look_ahead": kind == "series",
        "lag": None,
        "settings": {"rule": "unit_step", "step size": 0.05, "model": "mlp", "frozen": []},
        "provenance": {"seed": 0, "device": "cpu", "input": "sha256:0123"},
        "notes": [],
        "time": None,
        "groups": None,
        "gaps": gap_table(),
        "origin": None,  # what the report does not look at
        "fitted": None,
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
    """Two hourly series of a panel, interleaved, with a gap, a burst of large changes, a fill."""
    rng = np.random.default_rng(2)
    index = np.arange(2 * steps)
    hours = index // 2 + 1000 * (index // 2 >= steps // 2)
    time = np.datetime64("2013-01-01T00", "h") + hours.astype("timedelta64[h]")
    before = pd.DataFrame(
        {"temp": rng.normal(size=len(index)), "wind": rng.normal(size=len(index))}
    )
    before.loc[[20, 22], "wind"] = np.nan
    after = before * 0.95
    after.loc[20, "wind"] = 0.5
    after.loc[(index % 2 == 1) & (hours < 60), "temp"] = 0.0
    groups = np.where(index % 2, "JFK", "EWR").astype(object)
    residual = rng.normal(size=before.shape)
    gap = time[[steps - 2, steps]]
    defaults = {
        "time": time,
        "groups": groups,
        "gaps": gap_table(["EWR", "JFK"], gap[[0, 0]], gap[[1, 1]], [1001.0, 1001.0]),
        "evidence": Evidence(residual, residual / 2, np.float32([[0.5]]), np.int32([[3]])),
    }
    return made_refinement(before, after, kind="series", **defaults | fields)


def long_refinement(rows=1_000_000, columns=6):
    """A long series by the minute with a few gaps and a few spikes."""
    rng = np.random.default_rng(3)
    minutes = np.arange(rows)
    breaks = rows * np.arange(1, 6) // 6
    for row in breaks:
        minutes[row:] += rows // 100
    time = np.datetime64("2020-01-01T00:00", "s") + minutes.astype("timedelta64[m]")
    values = np.sin(minutes / 700)[:, None] + 0.3 * rng.normal(size=(rows, columns))
    values[rows // 3, :] += 9
    before = pd.DataFrame(values, columns=[f"sensor {j}" for j in range(columns)])
    after = before * 0.98
    residual = (values - 1).astype(np.float64)
    return made_refinement(
        before,
        after,
        kind="series",
        time=time,
        gaps=gap_table([None] * 5, time[breaks - 1], time[breaks], [rows / 100 + 1] * 5),
        evidence=Evidence(
            residual,
            residual / 2,
            rng.random((rows, columns), np.float32),
            rng.integers(0, 24, (rows, columns), np.int32),
        ),
        residuals=pd.DataFrame(
            {
                "label": np.tile(before.index, columns),
                "target": np.repeat(before.columns.to_numpy(object), rows),
                "before": residual.T.ravel(),
                "after": residual.T.ravel() / 2,
                "unit": 1.0,
            }
        ),
    )


def noise_refinement(noise=(2.0, 0.5, np.nan), names=("price", "area", "idle"), spikes=0, **fields):
    """A table refined by the rule "auto", with what it is taken to know of noise.

    Half of the noise is taken off each column that has any; in the last so many cells are spikes.
    """
    rng = np.random.default_rng(4)
    before = pd.DataFrame(rng.normal(size=(40, len(names))) * 10, columns=list(names))
    noise = np.array(noise)
    known = np.isfinite(noise)
    after = before * np.where(known, 0.9, 1)
    after.iloc[:spikes, -1] = 0.0
    settings = {"rule": "auto", "noise": "found"}
    refinement = made_refinement(before, after, **{"settings": settings} | fields)
    errors = np.tile(noise / 2, (len(before), 1))
    errors[:spikes, -1] = 3.0
    # The properties are cached, and so are taken from here.
    vars(refinement)["standard_errors"] = before * 0 + errors
    found = pd.DataFrame(
        {"noise": noise, "sigmas": noise / 10, "off": np.where(known, 0.5, 0)},
        index=pd.Index(names, tupleize_cols=False, name="column"),
    )
    left = 1 - STRENGTHS + 0.75 / 2 * STRENGTHS**2 if known.any() else np.ones(len(STRENGTHS))
    curve = pd.DataFrame({"strength": STRENGTHS, "error": np.sqrt(left)})
    gain = 1 - float(curve["error"][10])
    vars(refinement)["calibration"] = Calibration(found, curve, gain, None)
    return refinement


def classes_refinement(names=("ant", "bee", "cat"), rows=60, soft=False, **fields):
    """A table with labels in turn, that of the first row missing; the second row's is doubted."""
    refinement = rows_refinement(rows, **fields)
    index, columns = refinement.before.index, pd.Index(names, tupleize_cols=False)
    given = np.arange(rows) % len(names)
    sure = np.full((rows, len(names)), 0.2 / (len(names) - 1))
    sure[np.arange(rows), given] = 0.8
    sure[1] = np.roll(sure[1], 1)
    given[0] = -1
    before, after = pd.DataFrame(sure, index, columns), pd.DataFrame(sure**2, index, columns)
    after = after.div(after.sum(axis=1), axis=0)
    labels = before if soft else None
    told = Classification("kind", given, before, after, labels)
    return dataclasses.replace(refinement, classification=told)
