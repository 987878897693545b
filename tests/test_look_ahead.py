"""A causal refinement: what comes later changes nothing that was said before."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denograd_jax import fit, refine
from denograd_jax.errors import ShapeError, UnsupportedError

STEPS, WARM_UP = 40, 14
CUTS = st.sampled_from([22, 33])  # a compilation each


def ahead(window):
    return window.mean(axis=0) + 0.3 * (window[-1] - window[0])


OPTIONS = {
    "window": 3,
    "model": ahead,
    "step_size": 0.2,
    "tolerance": 0.05,
    "max_steps": 4,
    "causal": True,
    "warm_up": WARM_UP,
}


def series(seed=0, steps=STEPS, **columns):
    values = np.random.default_rng(seed).normal(size=(steps, 2)).cumsum(axis=0)
    return pd.DataFrame({"u": values[:, 0], "v": values[:, 1], **columns})


def assert_prefix(whole, prefix, settled):
    """Rows of a prefix that have `lag` rows behind them are those of the whole."""
    np.testing.assert_allclose(
        prefix.data.loc[settled, ["u", "v"]],
        whole.data.loc[settled, ["u", "v"]],
        rtol=1e-5,
        atol=1e-5,
    )
    held = (
        whole.after.loc[settled].ne(whole.before.loc[settled]) & whole.before.loc[settled].notna()
    )
    assert held.any(axis=None)


HOLES = st.lists(st.tuples(st.integers(0, STEPS - 1), st.sampled_from("uv")), max_size=12)
GAPS = st.sets(st.integers(WARM_UP + 1, STEPS - 1), max_size=4)


@pytest.mark.parametrize("lag", [pytest.param(0, marks=pytest.mark.slow), 2])
@settings(max_examples=6)
@given(cut=CUTS, holes=HOLES, gaps=GAPS, impute=st.booleans(), seed=st.integers(0, 9))
def test_a_prefix_is_refined_as_the_whole_is(lag, cut, holes, gaps, impute, seed):
    """With cells missing, hours missing, and a later part of another size altogether."""
    hours = np.arange(STEPS) + np.cumsum([3 * (i in gaps) for i in range(STEPS)])
    frame = series(seed, t=pd.Timestamp("2020-03-28", tz="UTC") + pd.to_timedelta(hours, "h"))
    for row, column in holes:
        frame.loc[row, column] = np.nan
    frame.loc[cut + 1 :, ["u", "v"]] *= 1000
    options = OPTIONS | {"lag": lag, "time": "t", "impute": impute}
    whole, prefix = refine(frame, **options), refine(frame[:cut], **options)
    assert_prefix(whole, prefix, np.arange(cut - lag))
    taught, given_rows = whole.data[:WARM_UP], frame[:WARM_UP]
    pd.testing.assert_frame_equal(taught.where(given_rows.notna()), given_rows, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("lag", [0, 1])
def test_a_model_trained_on_the_warm_up(lag):
    frame = series()
    frame.loc[30:, :] = 1e6  # which would spoil any scaling or training that saw it
    options = OPTIONS | {"model": None, "max_epochs": 1, "lag": lag}
    whole, prefix = refine(frame, **options), refine(frame[:29], **options)
    assert_prefix(whole, prefix, np.arange(29 - lag))
    assert whole.settings["validation loss"] == prefix.settings["validation loss"]
    alone = fit(frame[:WARM_UP], window=3, max_epochs=1)
    np.testing.assert_array_equal(alone.schema.scaling.scale, whole.fitted.schema.scaling.scale)


STARTS = st.sampled_from([(3, 18), (24, 0)])


@pytest.mark.slow
@pytest.mark.parametrize("lag", [pytest.param(0, marks=pytest.mark.slow), 1])
@settings(max_examples=4)
@given(cut=CUTS, starts=STARTS, seed=st.integers(0, 9))
def test_a_panel_whose_series_begin_at_different_times(lag, cut, starts, seed):
    parts = [
        series(seed + k, t=np.arange(STEPS), g=g)[start:]
        for k, (g, start) in enumerate(zip("qpr", (0, *starts), strict=True))
    ]
    frame = pd.concat(parts, ignore_index=True)
    options = OPTIONS | {"lag": lag, "time": "t", "groups": "g"}
    whole, prefix = refine(frame, **options), refine(frame[frame["t"] < cut], **options)
    settled = frame.index[frame["t"] < cut - lag]
    assert_prefix(whole, prefix, settled)
    taught = frame["t"] < WARM_UP
    pd.testing.assert_frame_equal(whole.data[taught], frame[taught], check_exact=True)


@pytest.mark.slow
def test_a_panel_without_time_stamps_warms_up_in_each_series():
    parts = [series(k, g=g) for k, g in enumerate("qp")]
    frame = pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)  # interleaved
    options = OPTIONS | {"groups": "g", "tolerance": 0.0}
    whole, prefix = refine(frame, **options), refine(frame[:60], **options)
    assert_prefix(whole, prefix, np.arange(60))
    assert whole.changes["row"].min() == 2 * WARM_UP
    by_list = refine([part.drop(columns="g") for part in parts], **OPTIONS | {"tolerance": 0.0})
    for part, g in zip(by_list.data, "qp", strict=True):
        expected = whole.data.loc[frame["g"] == g, ["u", "v"]]
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)


DAYS = pd.date_range("2020-01-20", periods=STEPS)


STAMPS = {
    "dates": DAYS,
    "text": DAYS.strftime("%d/%m/%Y"),  # whose alphabet is not the calendar
    "categories": pd.Categorical(DAYS.strftime("%d %b %Y")),
    "time zone": DAYS.tz_localize("America/New_York"),
    "periods": DAYS.to_period("D"),
    "durations": DAYS - DAYS[0],
    "numbers": pd.array(range(STEPS), dtype="UInt8"),
    "days": pd.Series(DAYS.date, dtype=object),
    "arrow": DAYS.astype("timestamp[ms][pyarrow]"),
}


@pytest.mark.parametrize("stamps", STAMPS.values(), ids=STAMPS)
def test_the_warm_up_is_the_first_in_time(stamps):
    frame = pd.concat([series(k, t=stamps, g=g) for k, g in enumerate("pq")], ignore_index=True)
    result = refine(
        frame, **OPTIONS | {"time": "t", "groups": "g", "tolerance": 0.0, "max_steps": 1}
    )
    changed = np.unique(result.changes["row"])
    expected = np.concatenate([np.arange(WARM_UP, STEPS), np.arange(WARM_UP, STEPS) + STEPS])
    np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize("max_steps", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_without_lag_against_numpy(max_steps):
    """The window of a step moves its target alone: the inputs are settled already."""
    frame = series()
    result = refine(
        frame, **OPTIONS | {"rule": "gauss_newton", "tolerance": 0.0, "max_steps": max_steps}
    )
    values = frame.to_numpy()
    mean, unit = values[:WARM_UP].mean(axis=0), values[:WARM_UP].std(axis=0)
    z = (values - mean) / unit
    weights = np.full(3, 1 / 3) + np.array([-0.3, 0, 0.3])
    expected = z.copy()
    for t in range(WARM_UP, STEPS):
        buffer = z[t - 3 : t + 1].copy()
        movable = np.arange(t - 3, t + 1) >= WARM_UP
        for _ in range(max_steps):
            residual = weights @ buffer[:3] - buffer[3]
            gradient = np.concatenate([np.outer(weights, residual), -residual[None]])
            share = (residual @ residual) / np.sum(gradient**2)
            buffer -= 0.2 * share * gradient * movable[:, None]
        expected[t] = buffer[3]
    np.testing.assert_allclose(result.data, expected * unit + mean, rtol=1e-4, atol=1e-4)


def test_the_mode_is_told():
    def told(**options):
        result = refine(series(), **OPTIONS | options)
        line = next(line for line in result.summary().splitlines() if "Look-ahead" in line)
        return result.look_ahead, result.lag, result.settings.get("lag"), line

    assert told() == (False, 0, 0, "Look-ahead: no, a value depends on rows up to its own.")
    assert told(lag=2)[:3] == (True, 2, 2)
    assert "on the 2 rows behind it, and on none after those" in told(lag=2)[3]
    assert "on the 1 row behind it" in told(lag=1)[3]
    assert told(causal=False, warm_up=None) == (
        True,
        None,
        None,
        "Look-ahead: yes, a value may depend on later rows.",
    )
    notes = refine(series(), **OPTIONS).notes
    assert notes == ["the first 14 rows taught the model and were not refined"]


@pytest.mark.slow
def test_with_more_lag_than_there_is_all_is_as_without_it():
    """For a series that ends before the lag does, each buffer is as much as there is."""
    frame = series(steps=18)
    far = refine(frame, **OPTIONS | {"lag": 30})
    assert far.look_ahead
    assert np.isfinite(far.data).all(axis=None)
    assert (far.data[WARM_UP:] != frame[WARM_UP:]).any(axis=None)


def test_the_default_warm_up():
    frame = series(steps=210)
    options = OPTIONS | {"warm_up": None, "tolerance": 0.0, "max_steps": 1}
    assert refine(frame, **options).changes["row"].min() == 200
    with pytest.raises(ShapeError, match="all 200 rows are warm-up"):
        refine(frame[:200], **options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"warm_up": STEPS}, ShapeError, "shorter warm_up="),
        ({"warm_up": 0}, UnsupportedError, "1 or more, not 0"),
        ({"warm_up": 2.5}, UnsupportedError, "warm_up must be a whole number"),
        ({"warm_up": -3}, UnsupportedError, "warm_up must be"),
        ({"warm_up": 3}, ShapeError, "no window fits: 3 steps"),
        ({"causal": False}, UnsupportedError, "warm_up is for a causal"),
        ({"causal": False, "warm_up": None, "lag": 1}, UnsupportedError, "lag is for a causal"),
        ({"lag": -1}, UnsupportedError, "lag must be"),
        ({"lag": 0.5}, UnsupportedError, "lag must be"),
        ({"stride": 2}, UnsupportedError, "stride 1"),
        ({"window": None, "target": "u", "warm_up": None}, UnsupportedError, "give window="),
    ],
)
def test_refusals(options, error, words):
    with pytest.raises(error, match=words) as caught:
        refine(series(), **OPTIONS | options)
    assert "\n" not in str(caught.value)
