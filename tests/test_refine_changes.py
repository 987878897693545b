"""`refine`: what it tells of what was changed, and of what is left."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from denograd_jax import Model, Status, refine
from tests.test_refine import (
    LINEAR_ROWS,
    LINEAR_WINDOWS,
    ROWS,
    STEPS,
    WEIGHTS,
    WINDOW,
    WINDOW_WEIGHTS,
    linear,
    rows,
    steps,
)

CORRECTING = (linear, (WEIGHTS.astype(np.float32), np.float32(5)))


@pytest.fixture(scope="module")
def corrected():
    """A result in which a, b and y move, c is frozen, and cells are missing."""
    frame = rows().set_index(pd.Index([f"house {i % 30}" for i in range(ROWS)]))
    frame.iloc[3, 0] = np.nan
    frame.iloc[9, 3] = np.nan
    return frame, refine(frame, "y", model=CORRECTING, frozen="c", max_steps=4, step_size=0.1)


def test_residuals_are_prediction_minus_value_in_the_users_units(corrected):
    frame, result = corrected
    filled = frame.fillna({"a": frame["a"].mean()})
    known = frame["y"].notna()
    expected = (filled[["a", "b", "c"]] @ WEIGHTS + 5 - frame["y"])[known]
    assert list(result.residuals.columns) == ["label", "target", "before", "after", "unit"]
    np.testing.assert_allclose(result.residuals["unit"], np.nanstd(frame["y"]))
    assert result.residuals["label"].tolist() == expected.index.tolist()
    assert set(result.residuals["target"]) == {"y"}
    np.testing.assert_allclose(result.residuals["before"], expected, rtol=1e-4, atol=1e-3)
    refined = (result.data[["a", "b", "c"]] @ WEIGHTS + 5 - result.data["y"])[known]
    whole = frame["a"].notna()[known].to_numpy()
    found = result.residuals["after"].to_numpy()
    np.testing.assert_allclose(found[whole], refined[whole], rtol=1e-4, atol=1e-3)


def test_changes_against_numpy(corrected):
    frame, result = corrected
    changes = result.changes
    assert list(changes.columns) == [
        "row",
        "column",
        "before",
        "after",
        "change",
        "sigmas",
        "residual_before",
        "residual_after",
        "gate",
        "windows",
    ]
    columns = ["a", "b", "y"]
    before, after = frame[columns].to_numpy(), result.data[columns].to_numpy()
    row, column = np.nonzero((before != after) & ~np.isnan(before))
    std = np.nanstd(before, axis=0)
    expected = pd.DataFrame(
        {
            "row": frame.index[row],
            "column": np.array(columns)[column],
            "before": before[row, column],
            "after": after[row, column],
            "change": (after - before)[row, column],
            "sigmas": ((after - before) / std)[row, column],
        }
    )
    residuals = result.residuals.set_index(np.flatnonzero(frame["y"].notna()))
    for when in ("before", "after"):
        expected[f"residual_{when}"] = residuals[when].reindex(row).to_numpy()
    steps = [
        refine(frame, "y", model=CORRECTING, frozen="c", max_steps=k, step_size=0.1).residuals
        for k in range(4)
    ]
    gates = [(r["after"].abs() > 0.1 * np.nanstd(frame["y"])).to_numpy() for r in steps]
    of_rows = pd.Series(np.mean(gates, axis=0), np.flatnonzero(frame["y"].notna()))
    expected["gate"], expected["windows"] = of_rows.reindex(row).to_numpy(), 1
    size = expected["sigmas"].abs()
    expected = expected.iloc[np.argsort(-size.to_numpy(), kind="stable")].reset_index(drop=True)
    found = changes.assign(column=changes["column"].astype(str), row=changes["row"].astype(str))
    pd.testing.assert_frame_equal(
        found.sort_values(["row", "column", "before"]).reset_index(drop=True),
        expected.sort_values(["row", "column", "before"]).reset_index(drop=True),
        check_dtype=False,
    )
    assert changes["sigmas"].abs().is_monotonic_decreasing
    assert changes["column"].cat.categories.tolist() == columns
    assert len(changes) > ROWS
    assert result.changes is changes  # computed once


def test_changes_of_a_series_have_the_residual_of_their_own_column():
    frame = steps()
    result = refine(frame, window=WINDOW, model=LINEAR_WINDOWS, max_steps=1, tolerance=0.0)
    values = frame.to_numpy()
    cut = np.stack([values[i : i + WINDOW] for i in range(STEPS - WINDOW)])
    residual = np.full_like(values, np.nan)
    predicted = np.einsum("nwc,qwc->nq", cut, WINDOW_WEIGHTS) + np.array([0.5, -1])
    residual[WINDOW:] = predicted - values[WINDOW:]
    for _, change in result.changes.iterrows():
        expected = residual[change["row"], list(frame).index(change["column"])]
        np.testing.assert_allclose(change["residual_before"], expected, rtol=1e-4)
    assert len(result.changes) == 2 * STEPS
    assert result.changes["residual_before"].isna().sum() == 2 * WINDOW


def test_changes_name_the_largest_residual_of_several_targets():
    frame = rows()
    model = Model(lambda _, x: jnp.stack([x[0], 4 * x[0]]), None)
    result = refine(frame, ["c", "y"], model=model, max_steps=1, step_size=0.1)
    of_c, of_y = frame["a"] - frame["c"], 4 * frame["a"] - frame["y"]
    largest = np.where(of_c.abs() > of_y.abs(), of_c, of_y)
    inputs = result.changes.query("column == 'a'")
    np.testing.assert_allclose(inputs["residual_before"], largest[inputs["row"]], rtol=1e-4)
    targets = result.changes.query("column == 'c'")
    np.testing.assert_allclose(targets["residual_before"], of_c[targets["row"]], rtol=1e-4)
    assert list(result.target.columns) == ["c", "y"]


def test_summary(corrected):
    frame, result = corrected
    lines = result.summary().splitlines()
    cells = frame[["a", "b", "y"]].notna().to_numpy().sum()
    typical = np.sqrt(np.mean(result.changes["sigmas"] ** 2))
    residuals = result.residuals[["before", "after"]].abs().mean() / np.nanstd(frame["y"])
    assert lines == [
        f"Refined 40 rows x 3 columns (rows): 4 steps, ended because {result.status.advice}.",
        f"Changed {len(result.changes)} of {cells} cells; typical change {typical:.3f} standard "
        "deviations.",
        f"Mean |residual| of the model: {residuals['before']:.4f} before, "
        f"{residuals['after']:.4f} after, in standard deviations.",
        "Look-ahead: no.",
    ]
    assert repr(result) == "<Refinement>\n" + result.summary()
    assert result.settings["targets"] == "y"
    assert result.settings["columns moved"] == 3
    assert result.settings["model"] == "given: tuple"


def test_summary_where_nothing_moved():
    result = refine(rows(), "y", model=LINEAR_ROWS, tolerance=1e6)
    assert result.status == Status.converged
    assert result.steps == 1
    assert result.changes.empty
    assert "Changed 0 of 160 cells; typical change 0.000" in result.summary()
    pd.testing.assert_frame_equal(result.data, rows(), check_exact=True)
