"""The report: the order of rows, summaries of long series, and what the explorer is told."""

import base64

import numpy as np
import pandas as pd
import pytest

from denograd_jax.report import _content, _diagnostics, _explorer, _figures, _order, _summaries
from tests.report_pages import Page, written
from tests.reports import long_refinement, made_refinement, series_refinement


def test_a_panel_shows_the_stretch_that_changed_most():
    sizes = np.zeros(1000)
    sizes[800:821] = 1.0  # in group 1
    sizes[100:116] = 1.0  # in group 0, shorter
    sizes[490:510] = 0.9  # across both
    stretch = _order.busiest_stretch(sizes, np.array([0, 500, 1000]))
    assert stretch.stop - stretch.start == _order.STRETCH
    assert stretch.start <= 800
    assert stretch.stop >= 821
    assert _order.busiest_stretch(sizes[:9], np.array([0, 9])) == slice(0, 9)


def test_rows_are_brought_in_order_and_gaps_found():
    order = _order.read_order(series_refinement(12))
    assert order.labels == ["EWR", "JFK"]
    assert order.rows.tolist() == [*range(0, 24, 2), *range(1, 24, 2)]
    assert order.clock == "time"
    hours = (order.x - order.x[0]) / 3.6e6
    assert hours.tolist() == [*range(6), *range(1006, 1012)] * 2
    assert order.breaks.tolist() == [6, 18]
    assert order.stretches.tolist() == np.repeat([0, 1, 2, 3], 6).tolist()


def test_rows_without_a_time_are_counted():
    before = pd.DataFrame({"a": np.arange(4.0)})
    order = _order.read_order(made_refinement(before, before, kind="series"))
    assert order.clock == "row"
    assert order.x.tolist() == [0, 1, 2, 3]


def test_a_summary_keeps_spikes_and_leaves_out_what_is_missing():
    values = np.array([1.0, 3.0, np.nan, 9.0, np.nan, np.inf, 2.0])
    summary = _summaries.summarise(values, np.array([0, 2, 4, 6]))
    np.testing.assert_equal(summary.mean, [2, 9, np.nan, 2])
    np.testing.assert_equal(summary.low, [1, 9, np.nan, 2])
    np.testing.assert_equal(summary.high, [3, 9, np.nan, 2])


def test_no_bucket_reaches_across_the_longest_gaps():
    breaks = np.array([5, 33, 71, 90])
    begins = _summaries.borders(100, 8, breaks, np.array([1.0, 9.0, 8.0, 2.0]))
    assert len(begins) <= 8
    assert begins[0] == 0
    assert {33, 71} <= set(begins.tolist())
    assert not {5, 90} & set(begins.tolist())


def test_autocorrelation_against_plain_loops():
    rng = np.random.default_rng(0)
    residuals = np.cumsum(rng.normal(size=60))
    residuals[[7, 30]] = np.nan
    stretches = np.repeat([0, 1, 2], 20).astype(np.int32)
    found = _diagnostics.autocorrelation(residuals, stretches, lags=25)
    centred = residuals - np.nanmean(residuals)
    for lag in range(1, 26):
        products = [
            centred[i] * centred[i + lag]
            for i in range(60 - lag)
            if stretches[i] == stretches[i + lag]
        ]
        expected = np.nan
        if lag < 20:
            expected = np.nanmean(products) / np.nanmean(centred**2)
        np.testing.assert_allclose(found[lag - 1], expected)
    assert np.isnan(_diagnostics.autocorrelation(np.full(9, 2.0), None)).all()


def test_the_course_of_a_drift():
    x, sigmas = np.arange(100.0), np.repeat([0.0, 2.0], 50)
    sigmas[::2] *= -1
    sigmas[:10] = np.nan
    course = _diagnostics.course(x, sigmas)
    assert len(course.x) == 20
    np.testing.assert_allclose(course.x[[0, -1]], [2.475, 96.525])
    assert np.isnan(course.mean[:2]).all()
    np.testing.assert_allclose(course.mean[-4:].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(course.typical[2:], np.repeat([0.0, 2.0], [8, 10]))


def numbers(text, kind="<f4"):
    return np.frombuffer(base64.b64decode(text), kind)


def data_size(page):
    """Bytes of JSON in the page."""
    ids = ("corrections-data", "explorer-data")
    return sum(len(page.script(type="application/json", id=name).encode()) for name in ids)


def told(track, name, part="mean"):
    """A signal as the page tells it."""
    parts = [numbers(piece.get(part, piece["mean"])) for piece in track[name]]
    return np.concatenate(parts).astype(float)


@pytest.mark.usefixtures("without_pictures")
def test_a_short_series_is_told_row_by_row(tmp_path):
    refinement = series_refinement()
    data = Page(written(refinement, tmp_path)).data
    groups = data["series"]["groups"]
    assert [group["name"] for group in groups] == ["JFK", "EWR"]
    rows = np.flatnonzero(refinement.groups == "EWR")
    milliseconds = refinement.time[rows].astype("datetime64[ms]").astype(float)
    np.testing.assert_array_equal(numbers(groups[1]["pieces"][0]["x"], "<f8"), milliseconds)
    assert numbers(groups[1]["gaps"], "<f8").tolist() == milliseconds[[119, 120]].tolist()
    track = groups[1]["tracks"][1]
    wind = refinement.before["wind"].to_numpy()[rows]
    np.testing.assert_allclose(told(track, "before") + track["offset"], wind, rtol=1e-5)
    sigmas = refinement.sigmas[rows, 1]
    np.testing.assert_allclose(told(track, "change"), sigmas, rtol=1e-5)
    residual = refinement.evidence.residual_after[rows, 1]
    np.testing.assert_allclose(told(track, "residual_after"), residual, rtol=1e-5)
    assert np.flatnonzero(told(track, "filled")).tolist() == [10]


@pytest.mark.slow
def test_a_long_series_is_summarised_within_the_budget(tmp_path):
    refinement = long_refinement(120_000, 3)
    page = Page(written(refinement, tmp_path))
    assert "The series is told in summaries" in page.sentences
    assert 0.7 * _content.DATA_BUDGET < data_size(page) <= _content.DATA_BUDGET
    (group,) = page.data["series"]["groups"]
    rows = np.concatenate(
        [
            numbers(p["rows"], "<u4") if "rows" in p else np.ones(len(numbers(p["x"], "<f8")))
            for p in group["pieces"]
        ]
    )
    assert rows.sum() == 120_000
    assert (rows == 1).sum() > 100  # the stretches that changed most
    for track, position in zip(
        group["tracks"], np.argsort(-(refinement.sigmas**2).sum(axis=0)), strict=True
    ):
        values = refinement.before.iloc[:, position].to_numpy()
        high, low = (told(track, "before", part) + track["offset"] for part in ("high", "low"))
        np.testing.assert_allclose([high.max(), low.min()], [values.max(), values.min()], rtol=1e-5)
        mean = np.average(told(track, "before"), weights=rows) + track["offset"]
        np.testing.assert_allclose(mean, values.mean(), atol=1e-5)
        start, end = track["busiest"]
        single = np.concatenate(
            [numbers(p["x"], "<f8") for p in group["pieces"] if "rows" not in p]
        )
        assert {start, end} <= set(single.tolist())


@pytest.mark.usefixtures("without_pictures")
def test_a_small_correction_of_large_values_is_told(tmp_path):
    before = pd.DataFrame({"a": 1.6e9 + np.arange(50.0)})
    refinement = made_refinement(before, before + 1e-3, kind="series", unit=np.ones((1, 1)))
    (group,) = Page(written(refinement, tmp_path)).data["series"]["groups"]
    (track,) = group["tracks"]
    np.testing.assert_allclose(told(track, "change"), 1e-3, rtol=1e-3)
    np.testing.assert_array_equal(told(track, "before") + track["offset"], before["a"])


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_of_many_groups_the_most_changed_are_told_fully(tmp_path):
    groups, rows = 1000, 100
    rng = np.random.default_rng(0)
    before = pd.DataFrame(rng.normal(size=(groups * rows, 3)), columns=list("abc"))
    labels = np.tile(np.arange(groups), rows)  # interleaved
    after = before + 0.001 * labels[:, None]
    refinement = made_refinement(before, after, kind="series", groups=labels)
    page = Page(written(refinement, tmp_path))
    assert data_size(page) <= _content.DATA_BUDGET
    series = page.data["series"]
    assert series["all_groups"] == 1000
    names = [group["name"] for group in series["groups"]]
    assert names == [str(999 - i) for i in range(len(names))]
    assert 200 < len(names) == series["whole_groups"] < 1000
    assert f"Of 1,000 groups the {len(names)} most changed can be picked" in page.sentences
    assert "the most changed first; all row by row." in page.sentences
    assert data_size(page) > 0.7 * _content.DATA_BUDGET


def test_long_groups_share_the_budget_the_most_changed_first():
    lengths = [900, 5000, 800, 70_000, 700, 100_000]
    signals, budget = 15, 400_000
    row, bucket = _explorer.ROW + signals, _explorer.BUCKET + 3 * signals
    plans = _explorer._plans(enumerate(lengths), signals, budget)
    assert [plan.group for plan in plans] == [0, 1, 2, 3, 4, 5]
    whole = [plan.buckets is None for plan in plans]
    assert whole == [True, True, True, False, True, False]
    assert plans[3].buckets > plans[5].buckets >= _explorer.FEWEST_BUCKETS
    assert plans[3].detail > 500
    spent = sum(
        length * row if plan.buckets is None else plan.buckets * bucket + plan.detail * row
        for length, plan in zip(lengths, plans, strict=True)
    )
    assert 0.99 * budget < spent <= budget
    many = _explorer._plans(((group, 10_000) for group in range(1000)), signals, budget)
    assert 50 < len(many) < 200
    assert all((plan.buckets or 99) >= _explorer.FEWEST_BUCKETS for plan in many)


@pytest.mark.usefixtures("without_pictures")
def test_of_many_rows_those_that_changed_most_are_told(tmp_path):
    before = pd.DataFrame(np.random.default_rng(0).normal(size=(20_000, 2)), columns=list("ab"))
    after = before.copy()
    after.iloc[12_345, 1] += 5
    table = Page(written(made_refinement(before, after), tmp_path)).data["table"]
    assert table["rows"] == 20_000
    assert len(table["names"]) <= _explorer.MOST_POINTS
    place = table["names"].index("12345")
    change = told(table["tracks"][0], "change")
    assert change[place] == change.max() > 4


def test_a_line_is_broken_where_time_jumps():
    time = np.array([0, 1, 2, 10, 11], "datetime64[h]")
    x, y = _figures._broken_at_gaps(time, np.arange(5.0))
    assert len(x) == len(y) == 6
    assert np.isnan(y[3])
    assert y[~np.isnan(y)].tolist() == [0, 1, 2, 3, 4]
