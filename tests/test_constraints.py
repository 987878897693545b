"""What the user knows of the values, in the user's units: limits, whole numbers, known noise."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denograd_jax import refine
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError

ROWS, STEPS = 24, 4
WEIGHTS = np.array([0.5, -2.0, 0.03])
OFFSETS, UNITS = np.array([40.0, -1.0, 1000.0, 0.0]), np.array([30.0, 0.2, 50.0, 7.0])
RULE = {"rule": "gauss_newton", "step_size": 0.6, "tolerance": 0.0}


def table(seed=3):
    values = np.random.default_rng(seed).normal(size=(ROWS, 4)) * UNITS + OFFSETS
    values[:, 3] += values[:, :3] @ WEIGHTS
    return pd.DataFrame(values, columns=["a", "b", "c", "y"])


def linear(params, x):
    return x @ params


MODEL = (linear, WEIGHTS.astype(np.float32))


def solved(frame, **options):
    return refine(frame, "y", **{"model": MODEL, "max_steps": STEPS} | RULE | options)


def ahead(window):
    return window.mean(axis=0) + 0.3 * (window[-1] - window[0])


def total(x):
    return x.sum()


def moves_by_hand(values, unit, noise=None):
    """Gauss-Newton toward y = x . w, in standard deviations, cell by cell."""
    z_noise = np.ones(values.shape) if noise is None else noise / unit
    moves = np.empty(values.shape)
    for i, row in enumerate(values):
        normal = np.append(WEIGHTS * unit[:3] / unit[3], -1.0)
        residual = (row[:3] @ WEIGHTS - row[3]) / unit[3]
        variances = z_noise[i] ** 2
        moves[i] = -0.6 * residual * variances * normal / (normal**2 @ variances)
    return moves * unit


def refined_by_hand(frame, lower, upper, most=np.inf, whole=False, steps=STEPS):
    """Every step at the projected values; a whole number's fractions are kept aside."""
    given = frame.to_numpy()
    unit = given.std(axis=0)
    least, greatest = given - most * unit, given + most * unit
    least, greatest = (np.minimum(np.maximum(edge, lower), upper) for edge in (least, greatest))
    free = np.clip(given, least, greatest)

    def shown():
        return np.clip(np.where(whole, np.rint(free), free), least, greatest)

    for _ in range(steps):
        free = np.clip(free + moves_by_hand(shown(), unit), least, greatest)
    return shown()


FREE = (-np.inf, np.inf)
EDGES = st.tuples(st.floats(-1.5, 0.5), st.floats(0.1, 2.0))


@settings(max_examples=15)
@given(a=EDGES, y=EDGES, most=st.floats(0.05, 1.0))
def test_limits_against_numpy(a, y, most):
    frame = table()
    mean, std = frame.mean(), frame.std()
    of_a = mean["a"] + a[0] * std["a"], mean["a"] + (a[0] + a[1]) * std["a"]
    of_y = mean["y"] + y[0] * std["y"], None
    result = solved(frame, bounds={"a": of_a, "y": of_y}, max_change={"b": most, "y": most})
    lower = np.array([of_a[0], -np.inf, -np.inf, of_y[0]])
    upper = np.array([of_a[1], np.inf, np.inf, np.inf])
    limits = np.array([np.inf, most, np.inf, most])
    expected = refined_by_hand(frame, lower, upper, limits)
    error = np.abs(result.data.to_numpy() - expected) / UNITS
    assert error.max() < 1e-3
    change = np.abs(result.data - frame) / frame.std(ddof=0)
    inside = frame["y"] >= of_y[0]  # others go as far as they must
    assert (change["b"] <= most * (1 + 1e-12)).all()
    assert (change["y"][inside] <= most * (1 + 1e-12)).all()


@pytest.mark.parametrize("upper", [np.inf, 60.5])
def test_whole_numbers_against_numpy(upper):
    """Columns of whole numbers, in which small moves add up until they show."""
    frame = table().round({"a": 0})
    result = solved(frame, integer="a", bounds={"a": (None, upper)}, max_steps=6)
    whole = np.array([True, False, False, False])
    edges = np.array([np.floor(upper), np.inf, np.inf, np.inf])
    expected = refined_by_hand(frame, np.full(4, -np.inf), edges, whole=whole, steps=6)
    np.testing.assert_array_equal(result.data["a"], expected[:, 0])
    np.testing.assert_allclose(result.data / UNITS, expected / UNITS, atol=1e-3)
    assert (result.data["a"] != frame["a"]).any()


def test_bounds_win_over_the_largest_change():
    frame = table()
    edge = frame["a"].max() + 10 * frame["a"].std()
    result = solved(frame, bounds={"a": (edge, None)}, max_change=0.1)
    np.testing.assert_array_equal(result.data["a"], edge)


KINDS = [
    "float64",
    "float32",
    "float16",
    "Float64",
    "Float32",
    "double[pyarrow]",
    "float[pyarrow]",
    "Sparse[float64]",
    "object",
]
WHOLE = ["int64", "int8", "uint8", "Int64", "UInt8", "int16[pyarrow]"]


def typed(kind, numbers, missing):
    """Numbers of a type, some of them missing where it has a word for it."""
    column = pd.Series(numbers, dtype="float64").round(0 if kind in WHOLE else 3).astype(kind)
    return column if kind in ("int64", "int8", "uint8") else column.where(~missing)


@pytest.mark.parametrize("kind", KINDS + WHOLE)
@settings(max_examples=8)
@given(
    lower=st.floats(-60, 60),
    width=st.floats(1.01, 80),
    seed=st.integers(0, 99),
    impute=st.booleans(),
)
def test_bounds_hold_exactly_in_any_type(kind, lower, width, seed, impute):
    """In the column itself, compared in double precision, at the start and after steps."""
    lower, upper = (
        (max(lower, 0), max(lower, 0) + width)
        if "u" in kind.lower()
        else (
            lower,
            lower + width,
        )
    )
    rng = np.random.default_rng(seed)
    numbers = np.abs(rng.normal(40, 40, ROWS)) if kind in WHOLE else rng.normal(0, 60, ROWS)
    column = typed(kind, np.minimum(numbers, 120), rng.random(ROWS) < 0.2)
    frame = pd.DataFrame({"c": column, "d": rng.normal(size=ROWS), "y": rng.normal(size=ROWS)})
    result = refine(
        frame,
        "y",
        model=total,
        max_steps=3,
        step_size=0.3,
        tolerance=0.0,
        bounds={"c": (lower, upper)},
        integer=kind in WHOLE,
        impute=impute,
    )
    assert result.data["c"].dtype == column.dtype
    found = result.data["c"].to_numpy(np.float64, na_value=np.nan)
    known = ~np.isnan(found)
    assert (found[known] >= lower).all()
    assert (found[known] <= upper).all()
    np.testing.assert_array_equal(known, impute | column.notna())
    if kind in WHOLE:
        np.testing.assert_array_equal(found[known], np.rint(found[known]))
    np.testing.assert_array_equal(found, result.after["c"])


@pytest.mark.parametrize("containers", ["array", "float32 array", "polars", "xarray"])
def test_bounds_hold_exactly_in_any_container(containers):
    frame = table()[["a", "y"]].astype("float32")
    make = {
        "array": lambda: frame.to_numpy(np.float64),
        "float32 array": frame.to_numpy,
        "polars": lambda: pytest.importorskip("polars").from_pandas(frame),
        "xarray": lambda: pytest.importorskip("xarray").Dataset.from_dataframe(frame),
    }[containers]
    a, y = (0, 1) if "array" in containers and containers != "xarray" else ("a", "y")
    options = {"model": total, "max_steps": 2, "step_size": 0.5, "tolerance": 0.0}
    result = refine(make(), y, bounds={a: (10.1, 50.3)}, non_negative=y, **options)
    data = result.data[:, a] if isinstance(a, int) else result.data[a]
    found = np.asarray(data, np.float64)
    assert found.min() >= 10.1
    assert found.max() <= 50.3
    assert np.asarray(result.target, np.float64).min() >= 0
    assert ((found > 11) & (found < 50)).any()


def series():
    values = np.random.default_rng(8).normal(size=(30, 2)).cumsum(axis=0)
    frame = pd.DataFrame(values, columns=["u", "v"])
    frame.loc[[4, 17], "u"] = np.nan
    return frame.assign(g=["p"] * 13 + ["q"] * 17)


@pytest.mark.parametrize("groups", [None, "g"])
def test_one_step_of_a_series_is_the_free_one_projected(groups):
    frame = series()
    options = {"window": 3, "model": ahead, "groups": groups, "step_size": 0.8, "tolerance": 0.0}
    free = refine(frame, max_steps=1, **options)
    low, high = frame["u"].min(), frame["v"].max()  # the start is within
    held = refine(
        frame,
        max_steps=1,
        bounds={"u": (low, None), "v": (None, high)},
        max_change={"v": 0.05},
        **options,
    )
    reach = 0.05 * np.nanstd(frame["v"])
    expected = free.data.copy()
    expected["u"] = expected["u"].clip(lower=low)
    expected["v"] = expected["v"].clip(frame["v"] - reach, frame["v"] + reach).clip(upper=high)
    pd.testing.assert_frame_equal(held.data, expected, rtol=1e-6, atol=1e-6)
    assert not expected.equals(free.data)


@pytest.mark.slow
def test_each_group_has_its_own_unit_of_the_largest_change():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(30, 2)).cumsum(axis=0), columns=["u", "v"])
    frame["g"] = np.repeat(["p", "q"], 15)
    frame.loc[15:, ["u", "v"]] *= 1000
    result = refine(
        frame,
        window=3,
        groups="g",
        scale="group",
        max_epochs=1,
        max_steps=20,
        tolerance=0.0,
        step_size=0.5,
        max_change=0.02,
    )
    unit = frame.groupby("g")[["u", "v"]].transform(lambda c: c.std(ddof=0))
    sigmas = (result.data[["u", "v"]] - frame[["u", "v"]]).abs() / unit
    assert sigmas.to_numpy().max() <= 0.02 * (1 + 1e-9)
    assert (sigmas.groupby(frame["g"]).max() > 0.019).all(axis=None)


def test_frozen_rows_and_columns_keep_every_bit_and_inform():
    frame = table()
    rows = np.arange(ROWS) % 3 == 0
    result = solved(frame, frozen="b", frozen_rows=rows)
    pd.testing.assert_frame_equal(result.data[rows], frame[rows], check_exact=True)
    np.testing.assert_array_equal(result.data["b"], frame["b"])
    moved = result.data.loc[~rows, ["a", "c", "y"]] != frame.loc[~rows, ["a", "c", "y"]]
    assert moved.all(axis=None)
    assert not set(result.changes["row"]) & set(np.flatnonzero(rows))
    steps = pd.DataFrame(np.random.default_rng(1).normal(size=(20, 2)), columns=["u", "v"])
    options = {"window": 3, "model": ahead, "max_steps": 3, "tolerance": 0.0}
    early = np.arange(20) < 10
    held = refine(steps, frozen_rows=early, **options)
    pd.testing.assert_frame_equal(held.data[early], steps[early], check_exact=True)
    other = refine(steps.assign(u=steps["u"].mask(steps.index == 9, 2.0)), **options)
    assert (held.data[10:] != steps[10:]).all(axis=None)
    assert (held.data.loc[10] != other.data.loc[10]).any()


def noise_of(kind, frame):
    """Noise as a user gives it, and of each cell."""
    per_cell = np.random.default_rng(2).uniform(0, 1, frame.shape) * UNITS
    per_cell[::5, 0] = 0
    columns = {"a": 3.0, "b": 0.1, "c": 0.0, "y": 2.0}
    of_columns = np.broadcast_to(list(columns.values()), frame.shape)
    return {
        "number": (2.0, np.full(frame.shape, 2.0)),
        "mapping": (columns, of_columns),
        "series": (pd.Series(columns), of_columns),
        "array": (per_cell, per_cell),
        "frame": (
            pd.DataFrame(per_cell, frame.index, frame.columns)[["y", "c", "b", "a"]],
            per_cell,
        ),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "mapping",
        "array",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("number", "series", "frame")),
    ],
)
def test_known_noise_against_numpy(kind):
    """Cells move in proportion to their variance, and a known cell not at all."""
    frame = table()
    given_noise, noise = noise_of(kind, frame)
    result = solved(frame, noise_scale=given_noise, max_steps=1)
    expected = moves_by_hand(frame.to_numpy(), frame.std(ddof=0).to_numpy(), noise)
    np.testing.assert_allclose((result.data - frame) / UNITS, expected / UNITS, atol=1e-4)
    known = noise == 0
    np.testing.assert_array_equal(result.data.to_numpy()[known], frame.to_numpy()[known])
    assert result.settings["noise"] == "given"


def test_noise_of_an_array_without_labels_and_of_a_missing_cell():
    frame = table()
    frame.loc[3, "a"] = np.nan
    noise = np.full(frame.shape, 2.0)
    noise[3, 0] = 0
    expected = solved(frame, noise_scale=noise).data
    noise[3, 0] = np.nan  # as is the cell
    pd.testing.assert_frame_equal(solved(frame, noise_scale=noise).data, expected)
    arrays = refine(frame.to_numpy(), 3, model=MODEL, max_steps=STEPS, noise_scale=noise, **RULE)
    np.testing.assert_allclose(arrays.data, expected, rtol=1e-6)


def test_noise_of_columns_that_cannot_move_is_not_asked_for():
    frame = pd.concat([table(seed) for seed in range(3)], ignore_index=True)
    frame = frame.assign(uuid=range(len(frame)), flag=frame["a"] > 40, none=np.nan, k="p")
    frame["flag"] = frame["flag"].astype(int)
    options = {"model": total, "max_steps": 1, "frozen": "a"}
    noise = 0.1 * frame.std(numeric_only=True)
    expected = refine(frame, "y", noise_scale=noise[["b", "c", "y"]], **options).data
    for more in (noise, {**noise, "k": 1.0}):
        found = refine(frame, "y", noise_scale=more, **options).data
        pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(ColumnError, match="noise_scale column 'z' is not in the data"):
        refine(frame, "y", noise_scale={**noise, "z": 1.0}, **options)


@pytest.mark.parametrize("kind", [np.float64, np.float32, "Float32", "float[pyarrow]"])
@settings(max_examples=10)
@given(most=st.sampled_from([0.1, 0.3, 0.5, 0.7, 1 / 3, 1e-9]), seed=st.integers(0, 99))
def test_no_change_is_larger_than_allowed_by_rounding(kind, most, seed):
    frame = table(seed).assign(a=lambda f: f["a"] + 1e4).astype(kind)
    result = solved(frame, max_change=most)
    sigmas = result.sigmas
    assert np.abs(sigmas).max() <= most
    assert (result.changes["sigmas"].abs() <= most).all()
    if most > 1e-3:
        assert np.isclose(np.abs(sigmas), most, rtol=1e-3).any()  # as far as it may


def test_bounds_go_before_the_largest_change():
    frame = table()
    result = solved(frame, max_change=0.1, bounds={"b": (5, 6)})
    assert (result.data["b"] == 5).all()


def test_frozen_rows_with_an_index():
    frame = table().set_axis(np.arange(ROWS) + 100)
    rows = frame["a"] > 40
    expected = solved(frame, frozen_rows=rows.to_numpy()).data
    pd.testing.assert_frame_equal(solved(frame, frozen_rows=rows).data, expected)
    for other in (rows.reset_index(drop=True), rows[::-1]):
        with pytest.raises(DataError, match=r"frozen_rows has another index .*reindex\(data.index"):
            solved(frame, frozen_rows=other)
    aligned = rows[::-1].reindex(frame.index, fill_value=False)
    pd.testing.assert_frame_equal(solved(frame, frozen_rows=aligned).data, expected)


def test_a_frozen_cell_beyond_its_bounds_is_named():
    frame = table().abs()
    frame.loc[2, "a"] = -1.0
    with pytest.raises(DataError, match=r"'a' has 1 value\(s\) outside .* frozen"):
        solved(frame, non_negative="a", frozen_rows=frame["a"] == -1)
    with pytest.raises(DataError, match="'a' has 1"):
        solved(frame, non_negative="a", frozen="a")
    moved = solved(frame, non_negative="a", max_steps=0)
    assert moved.data.loc[2, "a"] == 0  # without a single step
    pd.testing.assert_frame_equal(moved.data.drop(index=2), frame.drop(index=2), check_exact=True)


def test_limits_are_told():
    limits = {"bounds": {"a": (0, 120)}, "integer": "b", "max_change": {"y": 0.5}}
    told = solved(table().assign(a=60 + table()["b"]), **limits).settings["constraints"]
    assert told == "a from 0 to 120; b whole; y by at most 0.5 standard deviations"
    assert "constraints" not in solved(table()).settings


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"bounds": {"z": (0, 1)}}, ColumnError, "bounded column 'z' is not in the data"),
        ({"bounds": {"k": (0, 1)}}, ColumnError, "'k' is not numeric"),
        ({"bounds": {"a": 1}}, UnsupportedError, "must be a pair"),
        ({"bounds": {"a": (0, 1, 2)}}, UnsupportedError, "must be a pair"),
        ({"bounds": {"a": (0, np.nan)}}, UnsupportedError, "must be a pair"),
        ({"bounds": {"a": ("0", "1")}}, UnsupportedError, "must be a pair"),
        ({"bounds": {"a": (2, 1)}}, UnsupportedError, "leave no value: from 2 to 1"),
        ({"bounds": {"a": (0.2, 0.8)}, "integer": "a"}, UnsupportedError, "no whole number"),
        ({"bounds": {"a": (None, -1)}, "non_negative": "a"}, UnsupportedError, "no value"),
        ({"bounds": [(0, 1)]}, UnsupportedError, "must be a mapping"),
        ({"bounds": "a"}, UnsupportedError, "must be a mapping"),
        ({"non_negative": "z"}, ColumnError, "'z' is not in the data"),
        ({"integer": ["a", "k"]}, ColumnError, "'k' is not numeric"),
        ({"max_change": -1}, UnsupportedError, "0 or more, not -1"),
        ({"max_change": {"a": np.nan}}, UnsupportedError, "max_change of 'a'"),
        ({"max_change": "much"}, UnsupportedError, "not 'much'"),
        ({"max_change": True}, UnsupportedError, "not True"),
        ({"noise_scale": -1.0}, UnsupportedError, "0 or more"),
        ({"noise_scale": np.inf}, UnsupportedError, "0 or more"),
        ({"noise_scale": 0.0}, DataError, "0 for every cell"),
        ({"noise_scale": {"a": 1.0}}, ColumnError, "does not name column 'b'"),
        ({"noise_scale": pd.Series(np.ones(ROWS))}, ColumnError, "column 0 is not in the data"),
        ({"noise_scale": [1.0] * 99}, UnsupportedError, "noise_scale must be"),
        ({"max_change": table()}, UnsupportedError, "max_change must be"),
        ({"noise_scale": np.ones((ROWS, 2))}, ShapeError, "noise_scale has shape"),
        ({"noise_scale": np.full((ROWS, 5), -1.0)}, DataError, "0 or more in every cell"),
        ({"noise_scale": table()[:5]}, DataError, "another index"),
        ({"noise_scale": table()[["a"]]}, ColumnError, "does not name column 'b'"),
        ({"frozen_rows": [0, 1]}, UnsupportedError, "booleans, one per row"),
        ({"frozen_rows": [True]}, ShapeError, r"shape \(24,\)"),
        ({"frozen_rows": np.ones(ROWS, bool)}, DataError, "no cell may move"),
    ],
)
def test_refusals(options, error, words):
    with pytest.raises(error, match=words) as caught:
        solved(table().assign(k="p"), **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
