"""Cells without a value: they stay so, or are filled, and what lies under them is nobody's concern.

Whether a value is missing from a table, its neighbours and the model decide what stands in for it.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denograd_jax import fit, refine

ROWS, STEPS = 24, 3
WEIGHTS = np.array([0.5, -2.0, 1.5])
OFFSET = 4.0
OPTIONS = {"rule": "gauss_newton", "step_size": 0.6, "tolerance": 0.0, "max_steps": STEPS}


def linear(params, x):
    return x @ params + OFFSET


def ahead(window):
    return window.mean(axis=0) + 0.3 * (window[-1] - window[0])


MODEL = (linear, WEIGHTS.astype(np.float32))


def table(seed=0, share=0.2):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(ROWS, 4)) * [3.0, 0.5, 1.0, 2.0] + [10, -1, 0, 5]
    values[:, 3] += values[:, :3] @ WEIGHTS + OFFSET
    values[rng.random(values.shape) < share] = np.nan
    return pd.DataFrame(values, columns=["a", "b", "c", "y"])


def refined_by_hand(frame, *, impute):
    """Rows toward y = x . w + 4, the mean standing in where x is missing."""
    values = frame.to_numpy()
    mean, unit = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    seen = ~np.isnan(values)
    z = np.where(seen, (values - mean) / unit, 0)
    normal = np.append(WEIGHTS * unit[:3] / unit[3], -1)
    level = (mean[:3] @ WEIGHTS + OFFSET - mean[3]) / unit[3]
    judged = seen[:, 3]
    moves = judged[:, None] & (seen | impute)
    for _ in range(STEPS):
        residual = z @ normal + level
        z = z - moves * 0.6 * (residual / (normal @ normal))[:, None] * normal
    if impute:  # no gradient says where a missing target goes, the model does
        z[~judged, 3] = (z[:, :3] @ normal[:3] + level)[~judged]
    refined = z * unit + mean
    return refined if impute else np.where(seen, refined, np.nan)


@pytest.mark.parametrize("impute", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_rows_against_numpy(seed, impute):
    frame = table(seed)
    result = refine(frame, "y", model=MODEL, impute=impute, **OPTIONS)
    expected = refined_by_hand(frame, impute=impute)
    np.testing.assert_allclose(result.data, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(result.filled, frame.isna() & impute)
    without = frame["y"].isna()
    kept = without.to_numpy()[:, None] & frame.notna().to_numpy()
    np.testing.assert_array_equal(result.data.to_numpy()[kept], frame.to_numpy()[kept])
    filled = result.changes.loc[result.changes["before"].isna()]
    assert len(filled) == (int(frame.isna().to_numpy().sum()) if impute else 0)
    assert filled["change"].isna().all()
    if impute:
        assert f"Filled {len(filled)} missing cells" in result.summary()
        assert result.settings["missing cells"] == "filled"


HIDDEN = st.lists(st.integers(-(2**15), 2**15 - 1), min_size=ROWS, max_size=ROWS)


def masked(kind, seen, hidden, missing):
    """A column with values under its mask, in a type that has one."""
    values = np.where(missing, hidden, seen)
    if kind == "Int16":
        return pd.arrays.IntegerArray(values.astype(np.int16), missing)
    if kind == "Float32":
        return pd.arrays.FloatingArray(values.astype(np.float32), missing)
    bits = pa.py_buffer(np.packbits(~missing, bitorder="little").tobytes())
    buffer = pa.py_buffer(values.astype(np.int64).tobytes())
    return pd.arrays.ArrowExtensionArray(
        pa.Array.from_buffers(pa.int64(), len(values), [bits, buffer])
    )


@pytest.mark.parametrize("kind", ["Int16", "Float32", "arrow"])
@pytest.mark.parametrize("impute", [False, True])
@settings(max_examples=8)
@given(hidden=HIDDEN, other=HIDDEN)
def test_what_lies_under_a_mask_does_not_matter(kind, impute, hidden, other):
    """Not to any cell, to the bit, nor to the record."""
    frame = table(share=0.0)
    rng = np.random.default_rng(3)
    seen, missing = rng.integers(-50, 50, ROWS), rng.random(ROWS) < 0.3

    def solved(under):
        given_frame = frame.assign(b=masked(kind, seen, np.array(under), missing))
        return refine(given_frame, "y", model=MODEL, impute=impute, **OPTIONS)

    result, again = solved(hidden), solved(other)
    pd.testing.assert_frame_equal(result.data, again.data, check_exact=True)
    pd.testing.assert_frame_equal(result.changes, again.changes, check_exact=True)
    assert result.provenance == again.provenance
    assert (result.data["b"].isna().to_numpy() == (missing & (not impute))).all()


@given(st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, 2)), max_size=30))
@settings(max_examples=15)
def test_a_row_does_not_see_what_others_lack(cells):
    """With the scaling of a fitted model; a stand-in comes from others, no other value does."""
    frame = table(share=0.0)
    fitted = fit(frame, "y", model=MODEL)
    expected = fitted.refine(frame, **OPTIONS).data
    holed = frame.copy()
    for row, column in cells:
        holed.iloc[row, column] = np.nan
    result = fitted.refine(holed, **OPTIONS).data
    whole = holed.notna().all(axis=1)
    pd.testing.assert_frame_equal(result[whole], expected[whole], check_exact=True)
    pd.testing.assert_frame_equal(result.isna(), holed.isna())


@pytest.mark.parametrize("mark", [None, np.nan, pd.NA, pd.NaT])
def test_marks_of_what_is_missing_come_back(mark):
    columns = {
        "c": pd.Series([mark if i % 5 == 0 else i / 7 for i in range(ROWS)], dtype=object),
        "when": pd.Series(
            [pd.NaT if i % 4 == 0 else pd.Timestamp(2020, 1, 1 + i) for i in range(ROWS)]
        ),
        "kind": pd.Series([mark if i % 3 == 0 else "p" for i in range(ROWS)], dtype=object),
    }
    if mark is pd.NaT:  # a date that is missing is no number that is
        columns.pop("c")
    frame = table(share=0.1).assign(**columns)
    options = OPTIONS | {"model": lambda x: x.sum()}
    result = refine(frame, "y", **options)
    for name in columns:
        kept = frame[name].isna()
        assert all(a is b for a, b in zip(result.data[name][kept], frame[name][kept], strict=True))
    pd.testing.assert_frame_equal(result.data.isna(), frame.isna())
    filled = refine(frame, "y", impute=True, **options).data
    numbers = [c for c in frame if c not in ("when", "kind")]
    assert filled[numbers].notna().all(axis=None)
    pd.testing.assert_series_equal(filled["when"], frame["when"])
    pd.testing.assert_frame_equal(filled[["kind"]].isna(), frame[["kind"]].isna())


def holed_series():
    values = np.random.default_rng(2).normal(size=(30, 2)).cumsum(axis=0)
    frame = pd.DataFrame(values, columns=["u", "v"])
    frame.loc[[0, 8, 9, 20], "u"] = np.nan
    frame.loc[[15, 29], :] = np.nan
    return frame


def series_by_hand(frame, *, impute):
    """One step of every window toward its target step, by votes; the last value stands in."""
    values = frame.to_numpy()
    mean, unit = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    seen = ~np.isnan(values)
    z = (pd.DataFrame(values).ffill().to_numpy() - mean) / unit
    z = np.where(np.isnan(z), 0, z)
    total, votes = np.zeros_like(z), np.zeros_like(z)
    weights = np.full(3, 1 / 3) + np.array([-0.3, 0, 0.3])
    for start in range(len(z) - 3):
        cut, target = z[start : start + 3], start + 3
        told = seen[target]
        if not told.any():
            continue
        residual = np.where(told, weights @ cut - z[target], 0)
        gradient = np.concatenate([np.outer(weights, residual), -residual[None]])
        norm = np.sum(gradient**2)
        if norm > 0:
            share = np.linalg.norm(residual) * np.linalg.norm(gradient[-1]) / norm
            total[start : start + 4] -= 0.6 * share * gradient
            votes[start : start + 4] += 1
    moved = (z + total / np.maximum(votes, 1)) * unit + mean
    return np.where(seen | impute, moved, np.nan)


@pytest.mark.parametrize("impute", [False, True])
def test_a_series_against_numpy(impute):
    frame = holed_series()
    result = refine(frame, window=3, model=ahead, impute=impute, **OPTIONS | {"max_steps": 1})
    np.testing.assert_allclose(
        result.data, series_by_hand(frame, impute=impute), rtol=1e-4, atol=1e-4
    )


def test_a_missing_target_beside_a_series():
    frame = holed_series().ffill().bfill()
    target = frame["u"].shift(-1).rename("y") * 2
    target[[5, 11]] = np.nan
    model = (linear_window, None)
    options = OPTIONS | {"window": 3, "model": model}
    result = refine(frame, target, **options)
    assert result.target.isna().equals(target.isna())
    assert not {5, 11, 29} & set(result.residuals["label"])
    filled = refine(frame, target, impute=True, **options)
    pd.testing.assert_frame_equal(filled.data, result.data)
    for row in (5, 11):
        expected = linear_window(None, filled.data.to_numpy()[row - 3 : row])
        np.testing.assert_allclose(filled.target[row], expected, rtol=1e-4)


def linear_window(params, x):
    return x[:, 0].sum() + 2 * x[-1, 1]


@pytest.mark.slow
def test_a_trained_model_fills_what_it_explains_near_the_truth():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 120))
    frame = pd.DataFrame({"a": a, "b": b, "y": 3 * a - b})
    holed = frame.copy()
    holed.loc[::10, "y"] = np.nan
    result = refine(holed, "y", impute=True, max_epochs=25)
    error = (result.data["y"] - frame["y"])[::10].abs().mean()
    assert error < 0.3 * frame["y"][::10].abs().mean()
