"""A series as it comes in: what becomes final is what the whole series would have given."""

import gc
import tracemalloc

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denograd_jax import Fitted, OnlineRefiner, fit
from denograd_jax.errors import ColumnError, DataError, UnsupportedError
from tests.compilations import count_compilations

STEPS, WINDOW = 24, 3


def ahead(window):
    return window.mean(axis=0) + 0.3 * (window[-1] - window[0])


def series(seed=0, steps=STEPS, **columns):
    values = np.random.default_rng(seed).normal(size=(steps, 2)).cumsum(axis=0)
    return pd.DataFrame({"u": values[:, 0], "v": values[:, 1], **columns})


MOVES = {"step_size": 0.2, "tolerance": 0.05, "max_steps": 4}
SIZES = st.sampled_from([[2, 6], [6, 1, 8], [7]])
HOLES = st.lists(st.tuples(st.integers(0, STEPS - 1), st.sampled_from("uv")), max_size=10)
GAPS = st.sets(st.integers(1, STEPS - 1), max_size=4)

FITTED = fit(series(9), window=WINDOW, model=ahead)
TIMED = fit(
    series(9, t=pd.date_range("2019", periods=STEPS, freq="h")),
    window=WINDOW,
    model=ahead,
    time="t",
)


def batches(frame, sizes):
    """The frame in pieces of these sizes, over and over."""
    first, pieces = 0, []
    while first < len(frame):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(frame.iloc[first : first + size])
        first += size
    return pieces


def assert_as_whole(fitted, frame, sizes, lag, **moves):
    """Final rows come once, in order, and are those of the whole; so are the last provisional."""
    online = OnlineRefiner(fitted, lag=lag, **moves)
    updates = [online.update(piece) for piece in batches(frame, sizes)]
    final = pd.concat([update.final for update in updates])
    whole = fitted.refine(frame, causal=True, lag=lag, **moves)
    settled = max(len(frame) - lag, 0)
    assert final.index.tolist() == frame.index[:settled].tolist()
    found = pd.concat([final, updates[-1].provisional])
    assert found.index.tolist() == frame.index.tolist()
    pd.testing.assert_frame_equal(found, whole.data, rtol=1e-5, atol=1e-5, check_freq=False)
    return whole


@pytest.mark.parametrize("lag", [pytest.param(0, marks=pytest.mark.slow), 2])
@settings(max_examples=2)
@given(sizes=SIZES, holes=HOLES, gaps=GAPS)
def test_batches_of_any_size_are_the_whole(lag, sizes, holes, gaps):
    hours = np.arange(STEPS) + np.cumsum([5 * (i in gaps) for i in range(STEPS)])
    frame = series(t=pd.Timestamp("2020") + pd.to_timedelta(hours, "h"))
    for row, column in holes:
        frame.loc[row, column] = np.nan
    assert_as_whole(TIMED, frame, sizes, lag, **MOVES)


@pytest.mark.parametrize("lag", [0, pytest.param(30, marks=pytest.mark.slow)])
def test_row_by_row(lag):
    whole = assert_as_whole(FITTED, series(), [1], lag, **MOVES)
    assert (whole.data != series()).any(axis=None)


@pytest.mark.parametrize(
    "moves",
    [
        {"bounds": {"u": (-0.5, 0.5)}, "non_negative": "v"},
        pytest.param({"max_change": 0.05}, marks=pytest.mark.slow),
        pytest.param({"noise_scale": {"u": 0.5, "v": 0.0}}, marks=pytest.mark.slow),
        pytest.param({"integer": "u"}, marks=pytest.mark.slow),
        pytest.param({"rule": "gauss_newton", "max_steps": 2}, marks=pytest.mark.slow),
    ],
    ids=["bounds", "largest change", "noise", "whole", "rule"],
)
def test_options_hold_from_the_first_row_on(moves):
    """Also where no window fits yet."""
    assert_as_whole(FITTED, series(), [2, 6, 8, 8], 1, **MOVES | moves)


@pytest.mark.slow
def test_missing_cells_are_filled_once_there_is_a_window():
    frame = series()
    frame.loc[[10, 11, 17], "u"] = np.nan
    frame.loc[20] = np.nan
    whole = assert_as_whole(FITTED, frame, [6], 1, impute=True, **MOVES)
    assert whole.data.notna().all(axis=None)


@pytest.mark.slow
def test_a_column_of_targets_and_columns_that_inform():
    train = series(9, kind=["p", "q", "q"] * 8, w=np.arange(STEPS) % 5.0)
    fitted = fit(train, "v", frozen="w", window=WINDOW, max_epochs=1)
    frame = series(2, kind=["q", "new", "p"] * 8, w=np.arange(STEPS) % 4.0)
    whole = assert_as_whole(fitted, frame, [6], 1, **MOVES)
    pd.testing.assert_frame_equal(whole.data[["kind", "w"]], frame[["kind", "w"]])


@pytest.mark.slow
def test_after_loading(tmp_path):
    fitted = fit(series(9), window=WINDOW, max_epochs=1)
    fitted.save(tmp_path / "model")
    there, here = (OnlineRefiner(f, lag=1) for f in (Fitted.load(tmp_path / "model"), fitted))
    for piece in batches(series(), [12]):
        pd.testing.assert_frame_equal(
            there.update(piece).final, here.update(piece).final, check_exact=True
        )


def test_arrays_come_back_as_arrays_and_may_be_filled_anew():
    """A buffer that the caller uses again does not reach into what was kept."""
    values = series().to_numpy()
    online = OnlineRefiner(fit(series(9).to_numpy(), window=WINDOW, model=ahead), lag=1, **MOVES)
    expected = online._fitted.refine(values, causal=True, lag=1, **MOVES).data
    buffer, final = np.empty((4, 2)), []
    for start in range(0, STEPS, 4):
        buffer[:] = values[start : start + 4]
        update = online.update(buffer)
        assert isinstance(update.final, np.ndarray)
        assert update.provisional.shape == (1, 2)
        final.append(update.final)
    np.testing.assert_allclose(np.concatenate(final), expected[:-1], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_frames_may_be_filled_anew():
    online = OnlineRefiner(FITTED, **MOVES)
    expected = FITTED.refine(series(), causal=True, **MOVES).data
    final = []
    for piece in batches(series(), [4]):
        mine = piece.copy()
        final.append(online.update(mine).final)
        mine.loc[:, :] = 99.0
    pd.testing.assert_frame_equal(pd.concat(final), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda f: f.iloc[[3]], "came late: rows up to"),
        (lambda f: f.iloc[[9]], "came late"),
        (lambda f: f.iloc[[11, 10]], "not increasing"),
        (lambda f: f.iloc[[10, 10]], "repeats a time"),
        (lambda f: f.iloc[10:12].assign(t=pd.NaT), "missing values"),
        (lambda f: f.iloc[10:12].assign(u=np.inf), "infinite"),
    ],
)
def test_late_rows_are_refused_and_nothing_is_taken(wrong, words):
    frame = series(t=pd.date_range("2020", periods=STEPS, freq="h"))
    online, other = (OnlineRefiner(TIMED, lag=1, **MOVES) for _ in range(2))
    for each in (online, other):
        each.update(frame[:10])
    with pytest.raises(DataError, match=words) as caught:
        online.update(wrong(frame))
    assert "\n" not in str(caught.value)
    found, expected = (each.update(frame[10:]) for each in (online, other))
    pd.testing.assert_frame_equal(found.final, expected.final, check_exact=True)
    pd.testing.assert_frame_equal(found.provisional, expected.provisional, check_exact=True)


@pytest.mark.slow
def test_time_as_text_and_as_a_level():
    days = pd.date_range("2020-01-20", periods=STEPS)
    stamps = days.strftime("%d %b %Y")
    fitted = fit(series(9, t=stamps), window=WINDOW, model=ahead, time="t")
    assert_as_whole(fitted, series(t=stamps), [6], 1, **MOVES)
    online = OnlineRefiner(fitted, **MOVES)
    with pytest.raises(ColumnError, match="one clear format"):  # the fifth of February, or May?
        online.update(series(t=days.strftime("%d/%m/%Y"))[16:20])
    indexed = series().set_index(days.rename("t"))
    fitted = fit(indexed, window=WINDOW, model=ahead, time="t")
    assert_as_whole(fitted, indexed, [6], 1, **MOVES)
    online = OnlineRefiner(fitted)
    online.update(indexed[:5])
    with pytest.raises(ColumnError, match="'t' is not in the data"):
        online.update(series()[5:8])


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        (series()[["u"]], ColumnError, "columns u, .* u, v"),
        (series(w=1.0), ColumnError, "give the same"),
        (series().assign(u="p"), ColumnError, "'u' is not numeric"),
        (series()["u"], UnsupportedError, "a pandas DataFrame or .*, not a pandas Series"),
        (pl.DataFrame({"u": [1.0], "v": [2.0]}), UnsupportedError, "not a polars DataFrame"),
        (np.zeros(3), UnsupportedError, r"not one of shape \(3,\)"),
        (np.zeros((1, 3, 2)), UnsupportedError, r"not one of shape \(1, 3, 2\)"),
        (np.zeros((3, 3)), ColumnError, "columns 0, 1, 2"),
        ([[1.0, 2.0]], UnsupportedError, "not a list"),
    ],
)
def test_other_rows_are_refused(rows, error, words):
    online, fresh = OnlineRefiner(FITTED, **MOVES), OnlineRefiner(FITTED, **MOVES)
    online.update(series()[:6])
    with pytest.raises(error, match=words) as caught:
        online.update(rows)
    assert "\n" not in str(caught.value)
    fresh.update(series()[:6])
    pd.testing.assert_frame_equal(
        online.update(series()[6:9]).final, fresh.update(series()[6:9]).final, check_exact=True
    )


def test_no_rows_are_no_news():
    online = OnlineRefiner(FITTED, lag=1, **MOVES)
    first = online.update(series()[:6])
    nothing = online.update(series()[6:6])
    assert nothing.final.empty
    pd.testing.assert_frame_equal(nothing.provisional, first.provisional)


@pytest.mark.slow
def test_dates_in_the_index_come_in_order_without_being_named():
    hours = pd.date_range("2020", periods=STEPS, freq="h")
    frame = series().set_index(hours)
    online = OnlineRefiner(FITTED, **MOVES)
    online.update(frame[:10])
    with pytest.raises(DataError, match="came late: rows up to 2020-01-01 09:00:00"):
        online.update(frame[9:12])
    with pytest.raises(DataError, match="the index is not increasing at row "):
        online.update(frame.iloc[[11, 10]])
    assert len(online.update(frame[10:]).final) == STEPS - 10


@pytest.mark.slow
def test_a_few_rows_around_gaps_are_no_other_sampling():
    hours = np.cumsum([0, 6, 6, 6, *[1] * 20])
    frame = series(t=pd.Timestamp("2020") + pd.to_timedelta(hours, "h"))
    assert_as_whole(TIMED, frame, [4, 1], 0, **MOVES)


ROWS_MODEL = fit(series(), "v", model=lambda x: x.sum())
PANEL = fit([series(), series(1)], window=WINDOW, model=ahead)
APART = fit(series()[["u"]], series()["v"], window=WINDOW, model=lambda w: w.sum())


@pytest.mark.parametrize(
    ("fitted", "options", "words"),
    [
        (ROWS_MODEL, {}, "needs a series"),
        (PANEL, {}, "takes one series"),
        (APART, {}, "target among the columns"),
        (FITTED, {"lag": -1}, "lag must be"),
        (FITTED, {"lag": 1.5}, "lag must be"),
        (FITTED, {"frozen_rows": [True]}, "frozen_rows has no meaning"),
        (FITTED, {"causal": True}, "causal has no meaning"),
        (FITTED, {"dry_run": True}, "dry_run has no meaning"),
        (
            FITTED,
            {"foo": 1},
            "no option 'foo' here: choose from rule, step_size.* noise_scale, lag,",
        ),
    ],
)
def test_refusals(fitted, options, words):
    with pytest.raises(UnsupportedError, match=words) as caught:
        OnlineRefiner(fitted, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("updates", [24, pytest.param(2000, marks=pytest.mark.slow)])
def test_equal_batches_compile_nothing_and_memory_does_not_grow(updates):
    """Rows come in by three."""
    rng = np.random.default_rng(0)
    online = OnlineRefiner(fit(series(9).to_numpy(), window=WINDOW, model=ahead), lag=2, **MOVES)

    def take(updates):
        for _ in range(updates):
            online.update(rng.normal(size=(3, 2)))

    take(6)
    gc.collect()
    arrays = len(jax.live_arrays())
    tracemalloc.start()
    take(updates // 4)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    assert count_compilations(lambda: take(updates)) == 0
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(jax.live_arrays()) == arrays
    assert after - before < 50_000
    assert len(online._rows) == online._memory
