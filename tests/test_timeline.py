"""Series in time: order, gaps, panels of several series, and time stamps of every kind."""

import datetime

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from denograd_jax import fit, refine
from denograd_jax._frames._timeline import read_timeline
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError

STEPS = 12
ROWS = 28


def ahead(window):
    """Predicts the next step from all of the window."""
    return window.mean(axis=0) + 0.3 * (window[-1] - window[0])


def series(steps=ROWS, seed=0, **columns):
    values = np.random.default_rng(seed).normal(size=(steps, 2)).cumsum(axis=0)
    return pd.DataFrame({"u": values[:, 0], "v": values[:, 1], **columns})


def solved(frame, **options):
    return refine(frame, **{"model": ahead, "window": 3, "max_steps": 3} | options)


def panel(sizes=(12, 7, 9)):  # ROWS together, as compiled once
    """Hourly series of unequal lengths, one after the other."""
    parts = [
        series(size, seed, t=pd.date_range("2020-01-01", periods=size, freq="h"), g=f"g{seed}")
        for seed, size in enumerate(sizes)
    ]
    return pd.concat(parts, ignore_index=True)


HOURS = pd.date_range("2020-03-28 20:00", periods=STEPS, freq="h")
STAMPS = {
    "dates": HOURS,
    "time zone, over its change": HOURS.tz_localize("UTC").tz_convert("Europe/Madrid"),
    "arrow": HOURS.astype("timestamp[ms][pyarrow]"),
    "text": HOURS.astype(str),
    "categories of text": pd.Categorical(HOURS.astype(str)),
    "objects": np.array(HOURS.to_pydatetime(), dtype=object),
    "days": [datetime.date(2020, 1, 1) + datetime.timedelta(i) for i in range(STEPS)],
    "arrow days": pd.Series(pd.date_range("2020-01-01", periods=STEPS)).astype(
        "date32[day][pyarrow]"
    ),
    "periods": pd.period_range("2019-11", periods=STEPS, freq="M"),
    "durations": pd.to_timedelta(range(STEPS), unit="min"),
    "numbers": np.arange(STEPS),
    "fractions": np.arange(STEPS, dtype=np.float32) / 8,
    "unsigned": np.arange(STEPS, dtype=np.uint8),
    "Int64": pd.array(range(STEPS), dtype="Int64"),
    "arrow numbers": pd.array(range(STEPS), dtype="int64[pyarrow]"),
    "objects of fractions": pd.Series(list(np.arange(STEPS) / 8), dtype=object),
    "seconds since 1970": 1_600_000_000 + 60 * np.arange(STEPS),
}


@pytest.mark.parametrize("stamps", STAMPS.values(), ids=STAMPS)
def test_stamps_of_any_kind(stamps):
    frame = pd.DataFrame({"t": stamps})
    found = read_timeline(frame, "t", ())
    assert len(found.gaps) == 0
    np.testing.assert_array_equal(found.segments, 0)
    assert len(found.time) == STEPS
    assert found.time.dtype.kind in "Mif"
    assert (np.diff(found.time) > np.zeros((), np.diff(found.time).dtype)).all()
    holes = read_timeline(frame.drop(index=[4, 5, 9]), "t", ())
    assert holes.gaps["steps"].round(0).tolist() == [3, 2]
    np.testing.assert_array_equal(holes.segments, [0] * 4 + [1] * 3 + [2] * 2)
    with pytest.raises(DataError, match="is not increasing at row 1 "):
        read_timeline(frame.iloc[::-1], "t", ())
    with pytest.raises(DataError, match="repeats a time at row 3 "):
        read_timeline(frame.iloc[[0, 1, 2, 2, 3]], "t", ())


@pytest.mark.parametrize(
    ("stamps", "error", "words"),
    [
        (["2020-01-01", None], DataError, "missing values: fill or drop"),
        ([1.0, np.nan], DataError, "missing values"),
        ([1.0, np.inf], DataError, "infinite"),
        (["abc", "abd"], ColumnError, "'abc'.*pd.to_datetime"),
        (["10", "11"], ColumnError, "pd.to_numeric"),
        ([True, False], ColumnError, "neither numbers nor dates"),
        ([{}, {}], ColumnError, "neither numbers nor dates"),
        ([2, 1], DataError, r"row 1 \(1\): sort the rows by 't' .*sort_values\('t'\)\), or"),
        ([2, 2], DataError, r"row 1 \(2\): drop the duplicates, or name"),
    ],
)
def test_stamps_that_are_refused(stamps, error, words):
    with pytest.raises(error, match=words) as caught:
        read_timeline(pd.DataFrame({"t": stamps}), "t", ())
    assert "\n" not in str(caught.value)


def test_disorder_in_a_panel_is_named_with_its_keys():
    frame = panel().iloc[::-1]
    with pytest.raises(DataError, match=r"within its group .*sort_values\(\['g', 't'\]\)"):
        read_timeline(frame, "t", ["g"])
    with pytest.raises(DataError, match="name what tells several series apart as a group"):
        read_timeline(panel(), "t", [])


def test_groups_and_gaps():
    frame = pd.DataFrame(
        {
            "g": ["q", "p", "q", "p", "q", "p", "q", "p"],
            "t": [0, 100, 1, 101, 2, 103, 9, 104],
        }
    )
    found = read_timeline(frame, "t", ["g"])
    assert found.order.tolist() == [1, 3, 5, 7, 0, 2, 4, 6]
    assert found.segments.tolist() == [0, 0, 1, 1, 2, 2, 2, 3]
    assert found.gaps.to_dict("list") == {
        "group": ["p", "q"],
        "after": [101, 2],
        "before": [103, 9],
        "steps": [2, 7],
    }
    assert found.groups.tolist() == frame["g"].tolist()
    assert read_timeline(frame, None, ["g"]).segments.tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"g": ["v", "u", "v"]}, ["v", "u", "v"]),
        ({"g": [2, 1, 2]}, ["2", "1", "2"]),
        ({"g": pd.Series([1, "u", 1], dtype=object)}, ["1", "u", "1"]),
        ({"g": pd.Categorical(["v", "u", "v"], ["x", "v", "u"])}, ["v", "u", "v"]),
        ({"g": ["a / b", "a"], "h": ["c", "b / c"]}, ["('a / b', 'c')", "('a', 'b / c')"]),
        ({"g": [True, False, True], "h": [1.5, 1.5, 2.5]}, ["True / 1.5", "False / 1.5"]),
    ],
)
def test_keys_of_any_kind(keys, names):
    found = read_timeline(pd.DataFrame(keys), None, list(keys))
    assert found.groups.tolist()[: len(names)] == names
    assert len(set(found.segments)) == len(set(found.groups))


def test_missing_keys_are_refused():
    with pytest.raises(DataError, match=r"\['g'\] have missing values"):
        read_timeline(pd.DataFrame({"g": ["u", None]}), None, ["g"])


def test_time_and_groups_as_levels_of_the_index():
    frame = panel()
    expected = solved(frame, time="t", groups="g")
    indexed = frame.set_index(["g", "t"])
    result = solved(indexed, time="t", groups="g")
    pd.testing.assert_frame_equal(result.data.reset_index()[list(frame)], expected.data)
    np.testing.assert_array_equal(result.time, expected.time)
    np.testing.assert_array_equal(result.groups, expected.groups)
    assert set(result.changes["row"]) <= set(indexed.index)


def indexes(rows):
    """Of dates, in each kind of container that has one; the first without a name."""
    hours = pd.date_range("2020-01-01", periods=ROWS + 2, freq="h").delete([5, 15])
    dated = series().set_index(hours)
    named = dated.rename_axis("when")
    two = pd.MultiIndex.from_arrays([["p"] * ROWS, hours], names=["g", "when"])
    return {
        "unnamed": dated.iloc[rows],
        "named": named.iloc[rows],
        "periods": named.set_axis(hours.to_period("h").rename("when")).iloc[rows],
        "level": series().set_index(two).iloc[rows],
        "series": named["u"].iloc[rows],
        "xarray": xr.Dataset.from_dataframe(named).isel(when=rows),
        "list": [named.iloc[rows], named.iloc[rows]],
    }


CONTAINERS = list(indexes(range(ROWS)))


@pytest.mark.parametrize(
    "kind",
    ["unnamed", *(pytest.param(k, marks=pytest.mark.slow) for k in CONTAINERS if k != "unnamed")],
)
def test_gaps_of_dates_in_an_index_that_nobody_named_are_told(kind):
    data = indexes(range(ROWS))[kind]
    options = {"model": lambda w: w.mean(axis=0)}
    result = solved(data, **options)
    name = "time" if kind == "unnamed" else "when"
    naming = "name the index, as by frame.rename_axis('time'), and " if kind == "unnamed" else ""
    assert result.notes == [
        f"the dates in the index have {4 if kind == 'list' else 2} gap(s), which windows cross, as "
        f"rows are taken as evenly spaced: {naming}give time={name!r} to cut there"
    ]
    assert len(result.gaps) == 0
    if kind == "unnamed":
        data = data.rename_axis("time")
    cut = solved(data, time=name, **options)
    assert cut.notes == []
    assert len(cut.gaps) == (4 if kind == "list" else 2)
    even = indexes(range(5, 14))[kind]  # no gap within
    assert solved(even, **options).notes == []


@pytest.mark.parametrize("kind", CONTAINERS)
def test_disorder_of_dates_in_an_index_that_nobody_named_is_refused(kind):
    within = " within its group" if kind == "list" else ""
    shuffled = indexes(np.random.default_rng(0).permutation(ROWS))[kind]
    with pytest.raises(DataError, match=f"^the index is not increasing{within} at row .*sort_ind"):
        solved(shuffled)
    twice = indexes([0, 1, 2, 2, *range(3, ROWS)])[kind]
    with pytest.raises(DataError, match=f"^the index repeats a time{within} at row 3 .* duplicate"):
        solved(twice)


def test_dates_in_an_index_that_say_nothing_of_the_order():
    hours = pd.date_range("2020", periods=ROWS, freq="h")
    two = pd.MultiIndex.from_arrays([hours[::-1], hours], names=["made", "valid"])
    assert solved(series().set_index(two)).notes == []
    grouped = series().set_index(two.droplevel("valid"))
    with pytest.raises(ShapeError, match="no window fits"):  # not for their order
        solved(grouped, groups="made")
    shuffled = series().set_index(hours[::-1])
    rows = refine(shuffled, "v", model=lambda x: x.sum(), max_steps=1)
    assert rows.kind == "rows"


def test_an_index_of_dates_in_each_group():
    frame = panel().set_index("t")
    assert solved(frame, groups="g").notes == []
    with pytest.raises(DataError, match=r"the index is not increasing at row 12 .* as a group"):
        solved(frame.drop(columns="g"))
    with pytest.raises(DataError, match="the index is not increasing within its group"):
        solved(frame[::-1], groups="g")


MINUTES = {"shorter": 40, "a little shorter": 53, "a little longer": 67, "longer": 85}


@pytest.mark.parametrize("minutes", MINUTES.values(), ids=MINUTES)
def test_uneven_steps_are_refused_or_cut(minutes):
    lengths = np.full(ROWS - 1, 60)
    lengths[[8, 20]] = minutes, 180
    stamps = pd.Timestamp("2020") + pd.to_timedelta(np.append(0, lengths.cumsum()), "min")
    frame = pd.DataFrame({"t": stamps})
    told = (
        rf"1 step\(s\) differ .* usual one of 1:00:00 .* of [01]:{minutes % 60:02}:00, .* row 9 \("
    )
    with pytest.raises(DataError, match=told) as caught:
        read_timeline(frame, "t", ())
    assert "\n" not in str(caught.value)
    found = read_timeline(frame, "t", (), "segment")
    assert found.gaps["steps"].tolist() == pytest.approx([minutes / 60, 3])
    assert found.segments.tolist() == [0] * 9 + [1] * 12 + [2] * 7


@pytest.mark.parametrize("minutes", [54, 58, 62, 66])
def test_steps_within_a_tenth_are_even(minutes):
    stamps = np.cumsum([0, *[60] * 6, minutes, *[60] * 6])
    assert len(read_timeline(pd.DataFrame({"t": stamps}), "t", ()).gaps) == 0


def test_months_and_years_are_even():
    for frequency in ("MS", "ME", "QS", "YS"):
        stamps = pd.date_range("2019", periods=ROWS, freq=frequency)
        assert len(read_timeline(pd.DataFrame({"t": stamps}), "t", ()).gaps) == 0


def sampled(hours, steps=ROWS):
    return series(steps, t=pd.date_range("2020", periods=steps, freq=f"{hours}h"))


def test_a_series_of_another_sampling_is_named():
    data = {"p": sampled(1), "q": sampled(24, 12), "r": sampled(2, 9)}
    words = r"series 'q' has steps of 1 day, 0:00:00, but the usual one is 1:00:00 \(so do 1 more"
    with pytest.raises(DataError, match=words) as caught:
        solved(data, time="t")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"series 'r' has steps of 2:00:00, .*: refine it apart"):
        solved({"p": data["p"], "r": data["r"]}, time="t", irregular="segment")
    few = solved({"p": data["p"], "r": data["r"][:3]}, time="t")  # two steps do not tell
    assert few.settings["gaps"] == 2


@pytest.mark.slow
def test_new_data_of_another_sampling_is_refused():
    fitted = fit(sampled(1), window=3, time="t", model=ahead)
    for hours in (0.5, 2):
        with pytest.raises(DataError, match=r"has steps of .*, but the model was fitted to steps"):
            fitted.refine(sampled(hours))
    gaps = sampled(1).drop(index=[4, 5, 12])
    assert fitted.refine(gaps, max_steps=1).settings["gaps"] == 2


def test_an_index_without_a_name_cannot_be_named():
    with pytest.raises(ColumnError, match="'when' is not in the data; it has: 'u', 'v'; an index"):
        solved(series(STEPS).set_index(HOURS), time="when")


def test_time_and_groups_stand_aside():
    """They neither move nor inform, whatever they are made of."""
    frame = panel().assign(t=lambda f: f.groupby("g").cumcount() * 3.0, g=lambda f: f["g"].str[1:])
    frame["g"] = frame["g"].astype(int)
    result = solved(frame, time="t", groups="g")
    pd.testing.assert_frame_equal(result.data[["t", "g"]], frame[["t", "g"]])
    assert list(result.before.columns) == ["u", "v"]
    assert result.look_ahead


def windows_by_hand(frame, span=4):
    """Rows of each window and its target that lie in one group, one hour apart."""
    found = []
    for _, rows in frame.groupby("g").indices.items():
        hours = frame["t"].to_numpy()[rows]
        for start in range(len(rows) - span + 1):
            stretch = hours[start : start + span]
            if (np.diff(stretch) == np.timedelta64(1, "h")).all():
                found.append(rows[start : start + span])
    return found


def test_no_window_crosses_a_gap_or_another_series():
    """Residuals are where a whole window lies before, and cells move where a window reaches."""
    frame = panel((13, 8, 10)).drop(index=[4, 15, 25]).reset_index(drop=True)
    frame = frame.iloc[np.random.default_rng(0).permutation(len(frame))]
    frame = frame.sort_values("t", kind="stable").reset_index(drop=True)  # interleaved
    windows = windows_by_hand(frame)
    result = solved(frame, time="t", groups="g", tolerance=0.0, max_steps=1)
    assert set(result.residuals["label"]) == {rows[-1] for rows in windows}
    reached = np.unique(np.concatenate(windows))
    moved = np.flatnonzero((result.after != result.before).any(axis=1))
    np.testing.assert_array_equal(moved, reached)
    assert 0 < len(reached) < len(frame)
    values = frame[["u", "v"]].to_numpy()
    expected = {rows[-1]: np.asarray(ahead(values[rows[:3]])) - values[rows[3]] for rows in windows}
    for target in ("u", "v"):
        found = result.residuals.query("target == @target").set_index("label")["before"]
        for row, residual in expected.items():
            np.testing.assert_allclose(found[row], residual["uv".index(target)], rtol=1e-4)


@pytest.mark.slow
@given(st.permutations(range(ROWS)))
def test_the_order_in_which_series_are_interleaved_does_not_matter(order):
    """Positions are dealt to groups at random; the rows of a group keep their order."""
    frame = panel()
    expected = solved(frame, time="t", groups="g")
    rows = {g: iter(members) for g, members in frame.groupby("g").groups.items()}
    interleaved = frame.loc[[next(rows[g]) for g in frame["g"].iloc[order]]]
    result = solved(interleaved, time="t", groups="g")
    pd.testing.assert_frame_equal(result.data.sort_index(), expected.data, rtol=1e-6)
    assert result.settings["stretches without a gap"] == 3


def test_a_series_of_a_panel_does_not_see_the_others():
    """Twice the same series, with others around: twice the same result."""
    same, other = series(7, 1), series(14, 2)
    frame = pd.concat([same.assign(g="p"), other.assign(g="q"), same.assign(g="r")])
    result = solved(frame.reset_index(drop=True), groups="g", tolerance=0.0)
    first, again = (result.data.iloc[rows][["u", "v"]] for rows in (slice(7), slice(21, None)))
    np.testing.assert_allclose(first, again, rtol=1e-5, atol=1e-6)
    assert (first != same).all(axis=None)


def test_short_series_of_a_panel_are_left_as_they_are():
    frame = panel((12, 3, 13))
    result = solved(frame, time="t", groups="g")
    short = frame["g"] == "g1"
    pd.testing.assert_frame_equal(result.data[short], frame[short])
    assert not set(result.changes["row"]) & set(frame.index[short])
    residual = result.changes["residual_before"]
    assert residual.notna().any()
    assert residual.isna().any()  # the first steps of a series are no targets


def test_stride_and_horizon():
    frame = series(14)
    result = solved(frame, stride=4, horizon=2, tolerance=0.0, max_steps=1)
    assert result.residuals["label"].unique().tolist() == [4, 8, 12]
    moved = (result.after != result.before).any(axis=1)
    assert moved[moved].index.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10, 12]


@pytest.mark.parametrize(
    ("frame", "options", "error", "words"),
    [
        (series(12), {"window": 12}, ShapeError, "12 steps, but a window of 12"),
        (series(), {"window": 0}, UnsupportedError, "window must be a whole number, 1 or more"),
        (series(), {"horizon": 0}, UnsupportedError, "horizon must be"),
        (series(), {"stride": 0}, UnsupportedError, "stride"),
        (panel((3, 3)), {"groups": "g"}, ShapeError, "need 4 steps, the longest .* has 3"),
        (panel((3, 3)), {"groups": "g", "model": "mlp"}, ShapeError, "shorter window"),
        (panel(), {"groups": "z"}, ColumnError, "group column 'z' is not in the data"),
        (panel(), {"time": ["t", "u"]}, ColumnError, "time must be one column"),
        (panel(), {"time": "t", "groups": ["g", "t"]}, ColumnError, "'t' can be only one"),
        (panel(), {"target": "u", "time": "u"}, ColumnError, "'u' can be only one"),
        (panel().assign(u=1, v=2), {"groups": "g"}, ColumnError, "no column can move"),
    ],
)
def test_refusals(frame, options, error, words):
    with pytest.raises(error, match=words) as caught:
        solved(frame, **options)
    assert "\n" not in str(caught.value)


def test_missing_steps_do_not_spread():
    frame = series()
    frame.loc[8:9, "u"] = np.nan
    frame.loc[14, :] = np.nan
    result = solved(frame, tolerance=0.0)
    pd.testing.assert_frame_equal(result.data.isna(), frame.isna())
    assert (result.data != frame).sum().sum() >= 2 * ROWS - 4
    labels = result.residuals.groupby("target")["label"].apply(set)
    assert labels["u"] == set(range(3, ROWS)) - {8, 9, 14}
    assert labels["v"] == set(range(3, ROWS)) - {14}


def test_model_for_one_target_of_several_columns():
    frame = series()
    result = solved(frame, target="v", model=lambda w: jnp.sum(w) / 6, tolerance=0.0)
    assert set(result.residuals["target"]) == {"v"}
    assert result.changes["residual_before"].notna().any()
    assert list(result.before.columns) == ["u", "v"]
    assert (result.after != result.before).any(axis=0).all()
