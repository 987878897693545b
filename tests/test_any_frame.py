"""Whatever frame comes in: a documented error, or a frame of the same shape, labels and types.

Numbers of rows and columns are few, so that what was compiled once serves again.
"""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from denograd_jax import refine
from denograd_jax.errors import DenogradError

ROWS = (24, 40, 60)
LABELS = ["a", "", " ", "a\nb", "größe", 0, -1, 2.5, ("a", 1), True, "y", "time", "value", "target"]
FLOATS = [0.0, -0.0, 1.5, -2.25, 7.0, 1e4, np.nan]
ODD_FLOATS = [*FLOATS, 1e-320, 1e-30, 1e35, -1e200, np.inf, -np.inf, 1.7e308]
WORDS = ["p", "q", "", "12 kg", "1,5", "nan", "ä\nö", "2024-01-01", "13/01/2024", "7"]
OBJECTS = [
    None,
    np.nan,
    pd.NA,
    pd.NaT,
    1,
    2.5,
    10**30,
    10**400,
    True,
    "p",
    b"p",
    (1, 2),
    [1],
    {"k": 1},
    {1, 2},
    1j,
    decimal.Decimal("1.5"),
    datetime.date(2024, 1, 1),
    np.float32(2),
    np.int8(3),
]
FLOAT_OF = {
    "Int64": "Float64",
    "UInt8": "Float64",
    "int64[pyarrow]": "double[pyarrow]",
    "Sparse[int64, 0]": "Sparse[float64, nan]",
}
"""What integers of a family become once they have moved; those of NumPy become float64."""


def total(x):
    return x.sum()


def cycled(values, rows):
    """As many values as rows; None of them is copied."""
    whole = np.empty(rows, object)
    for i in range(rows):
        whole[i] = values[i % len(values)]
    return pd.Series(whole)


def several(values, most=7):
    return st.lists(st.sampled_from(values), min_size=1, max_size=most)


def normal(rows, scale=1.0, offset=0.0):
    return pd.Series(np.random.default_rng(rows).normal(size=rows).cumsum() * scale + offset)


def of(kind, values):
    """Columns of a type, whose cells are some of these values over and over."""
    return st.builds(lambda chosen: lambda rows: cycled(chosen, rows).astype(kind), several(values))


def times(step, **options):
    stamps = {"start": "2024-01-01", "freq": step, **options}
    return lambda rows: pd.Series(pd.date_range(periods=rows, **stamps))


USUAL = st.sampled_from(
    [
        lambda rows: normal(rows),
        lambda rows: normal(rows, 1e30),
        lambda rows: normal(rows).astype("float32"),
        lambda rows: normal(rows).where(normal(rows) > 0),
        lambda rows: normal(rows, 50).round().astype("int64"),
        lambda rows: normal(rows, 50).round().astype("Int64"),
        lambda rows: pd.Series(range(rows)),
    ]
)
ODD = st.one_of(
    of("float64", FLOATS),
    of("float64", ODD_FLOATS),
    of("float16", [0, 1, 2.5, 60000.0, np.nan]),
    of("Float64", [0.5, None, 3.0]),
    of("double[pyarrow]", [0.5, None, 3.0]),
    of("Sparse[float64, nan]", [0.0, 1.5, np.nan]),
    of("int64", [0, 1, 5, -(2**63), 2**63 - 1]),
    of("int8", [0, 1, 127, -128]),
    of("uint64", [0, 1, 2**64 - 1]),
    of("Int64", [0, 5, None, 9]),
    of("UInt8", [0, 255, None]),
    of("int64[pyarrow]", [0, 5, None, 9]),
    of("Sparse[int64, 0]", [0, 5, 9]),
    of("bool", [True, False]),
    of("boolean", [True, False, None]),
    of("bool[pyarrow]", [True, False, None]),
    of("complex128", [1, 1j]),
    of("object", OBJECTS),
    of("object", [1, 2.5, None, np.nan]),
    of("object", [10**30, 1, 2]),
    of("str", WORDS),
    of("string", [*WORDS, None]),
    of("string[pyarrow]", [*WORDS, None]),
    of("category", [*WORDS, None]),
    of("category", [1, 2, 3, None]),
    of("datetime64[ns]", ["2024-01-01", "2024-01-03", None]),
    of("timedelta64[s]", [1, 2, 5]),
    st.sampled_from(
        [
            times("h"),
            times("B"),
            times("ME", tz="Europe/Madrid"),
            lambda rows: times("D")(rows).dt.strftime("%d/%m/%Y"),
            lambda rows: times("h")(rows)[::-1].reset_index(drop=True),
            lambda rows: pd.Series(pd.period_range("2024-01", periods=rows, freq="M")),
            lambda rows: pd.Series(pd.interval_range(0, rows)),
            lambda rows: pd.Series(pd.to_timedelta(np.arange(rows), unit="min")),
            lambda rows: normal(rows, 1e-12, 3.0),
            lambda rows: pd.Series(np.full(rows, 0.1)),
            lambda rows: pd.Series(np.nan, range(rows)),
            lambda rows: pd.Series(10**25 + np.arange(rows).astype(object)),
            lambda rows: pd.Series([f"name {i}" for i in range(rows)]),
        ]
    ),
)

INDEXES = st.sampled_from(
    [
        lambda rows: pd.RangeIndex(rows),
        lambda rows: pd.RangeIndex(5, 5 + 2 * rows, 2, name="time"),
        lambda rows: pd.Index([0, 0, 1] * (rows // 3) + [2] * (rows % 3)),
        lambda rows: pd.Index([None, "p"] * (rows // 2), name="a"),
        lambda rows: pd.date_range("2024-01-01", periods=rows, tz="UTC", name="time"),
        lambda rows: pd.Index([("p", 1), ("q", 2)] * (rows // 2), tupleize_cols=False),
        lambda rows: pd.MultiIndex.from_product([["p", "q"], range(rows // 2)], names=["a", None]),
        lambda rows: pd.MultiIndex.from_arrays([range(rows), cycled([1], rows)], names=["p", "p"]),
        lambda rows: pd.CategoricalIndex(["p", "q"] * (rows // 2), name="target"),
    ]
)


def rarely():
    return st.integers(0, 19).map(lambda number: number == 13)


@st.composite
def frames(draw):
    """A frame of any types and labels; rarely without rows, or with labels that occur twice."""
    rows = draw(st.sampled_from(ROWS))
    usual = draw(st.lists(USUAL, min_size=2, max_size=3))
    columns = draw(st.permutations([*usual, *draw(st.lists(ODD, max_size=2))]))
    unique = not draw(rarely())
    labels = draw(
        st.lists(
            st.sampled_from(LABELS if unique else [*LABELS, None, np.nan]),
            min_size=len(columns),
            max_size=len(columns),
            unique_by=str if unique else None,
        )
    )
    frame = pd.concat([make(rows) for make in columns], axis=1)
    frame.columns = pd.Index(labels, dtype=object, tupleize_cols=False)
    if unique and draw(rarely()):
        frame.columns = pd.MultiIndex.from_arrays([["p"] * len(labels), list(map(str, labels))])
    frame.index = draw(INDEXES)(rows)
    frame.attrs["source"] = "made up"
    if draw(rarely()):
        frame = frame.iloc[: draw(st.integers(0, 2)), : draw(st.integers(0, 2))]
    return frame


@st.composite
def roles(draw, frame):
    """Arguments of `refine` about the frame's columns, mostly such that could be meant."""
    levels = [name for name in frame.index.names if name is not None]
    numbers = list(frame.select_dtypes("number").columns)
    known = [*frame.columns, *levels, "Z"]
    any_label = st.sampled_from(known)
    number = any_label if draw(rarely()) or not numbers else st.sampled_from(numbers)
    other = [label for label in [*frame.columns, *levels] if label not in numbers]
    aside = any_label if draw(rarely()) or not other else st.sampled_from(other)
    if draw(st.booleans()):
        return {"target": draw(number | st.lists(number, max_size=1)), "frozen": draw(few(number))}
    return {
        "target": None if draw(rarely()) else draw(number),
        "window": draw(st.sampled_from([1, 3, 3, 3, 3, 30])),
        "time": draw(aside) if draw(rarely()) else None,
        "groups": draw(aside) if draw(rarely()) else None,
        "frozen": draw(few(number)),
    }


def few(label):
    return st.just(()) | st.lists(label, max_size=1)


def expected_type(before, after):
    """The type that a column has to come back with, whether or not integers moved."""
    if before == after:
        return after
    if isinstance(before, np.dtype) and before.kind in "iu":
        return np.dtype("float64")
    return pd.Series(dtype=FLOAT_OF.get(str(before), before)).dtype


def refined_or_refused(frame, arguments, **options):
    """Whether the frame came back the same but for its numbers; else the library said why not."""
    before = frame.copy(deep=True)
    try:
        result, refusal = refine(frame, **arguments, max_steps=1, **options), None
    except DenogradError as error:
        result, refusal = None, error
    pd.testing.assert_frame_equal(frame, before, check_exact=True)
    if result is None:
        assert isinstance(refusal, ValueError | TypeError)
        assert "\n" not in str(refusal)
        assert str(refusal).endswith(".")
        return False
    refined = result.data
    assert type(refined) is type(frame)
    assert refined.shape == frame.shape
    assert refined.attrs == frame.attrs
    pd.testing.assert_index_equal(refined.index, frame.index, exact="equiv")
    pd.testing.assert_index_equal(refined.columns, frame.columns)
    changed = set(result.changes["column"])
    for j, label in enumerate(frame.columns):
        old, new = frame.iloc[:, j], refined.iloc[:, j]
        assert new.dtype == expected_type(old.dtype, new.dtype)
        np.testing.assert_array_equal(new.isna(), old.isna())
        if label not in changed:
            pd.testing.assert_series_equal(new, old, check_exact=True)
    assert result.summary()
    return True


def try_frames(examples, **options):
    """The share of so many frames that were refined."""
    outcomes = []

    @given(st.data())
    @settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])
    def one(data):
        frame = data.draw(frames())
        outcomes.append(refined_or_refused(frame, data.draw(roles(frame)), **options))

    one()
    return np.mean(outcomes)


@pytest.mark.slow
def test_any_frame_with_a_given_model():
    """Most of what is drawn can be refined: the test is not one of refusals."""
    assert 0.3 < try_frames(20, model=total) < 0.95


def test_any_frame_with_a_backbone():
    """Few, since each is another network to compile."""
    assert try_frames(2, max_epochs=1) > 0


@pytest.mark.slow
def test_many_frames_with_a_given_model():
    assert 0.3 < try_frames(1000, model=total) < 0.95


@pytest.mark.slow
def test_many_frames_with_a_backbone():
    assert 0.3 < try_frames(80, max_epochs=1) < 0.95


@pytest.mark.parametrize("values", [[10**25, 1], [2**63 - 1, -(2**63)], [10**35, 7]])
def test_integers_beyond_64_bits(values):
    frame = pd.DataFrame({"a": cycled(values, 60), "b": normal(60), "y": normal(60) ** 2})
    assert refined_or_refused(frame, {"target": "y"}, model=lambda x: x[1])


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%d.%m.%Y %H:%M", "%m/%d/%Y", "%b %d, %Y"])
def test_times_in_text_are_read_in_silence(form, capfd):
    """Pandas warns of days before months from where a warning cannot become an error."""
    days = pd.Series(pd.date_range("2024-01-25", periods=40))
    frame = pd.DataFrame({"t": days.dt.strftime(form), "a": normal(40), "b": normal(40) ** 2})
    arguments = {"target": "a", "time": "t", "window": 3}
    assert refined_or_refused(frame, arguments, model=total)
    result = refine(frame, **arguments, model=total, max_steps=1)
    np.testing.assert_array_equal(result.time, days)
    assert capfd.readouterr() == ("", "")


def test_what_a_causal_refinement_learns_from_is_first_in_time():
    """Not in the order of the letters, where time is text."""
    days = pd.Series(pd.date_range("2024-01-25", periods=40))
    parts = [pd.DataFrame({"t": days, "g": g, "a": normal(40), "b": normal(40) ** 2}) for g in "pq"]
    frame = pd.concat(parts, ignore_index=True)
    options = {"window": 3, "time": "t", "groups": "g", "causal": True, "warm_up": 20}
    options |= {"model": total, "target": "a", "max_steps": 1, "tolerance": 0.0}
    expected = refine(frame, **options).data
    text = frame.assign(t=frame["t"].dt.strftime("%d/%m/%Y"))
    pd.testing.assert_frame_equal(refine(text, **options).data, expected.assign(t=text["t"]))


@pytest.mark.parametrize(
    "column", [{"g": cycled([[1], [2]], 24)}, {"t": cycled([1, "q"], 24), "g": cycled("pq", 24)}]
)
def test_a_causal_refinement_refuses_what_has_no_order(column):
    frame = pd.DataFrame({"a": normal(24), "b": normal(24) ** 2, **column})
    arguments = {"target": "a", "window": 3, "groups": "g", "time": "t" if "t" in column else None}
    assert not refined_or_refused(frame, arguments, causal=True, warm_up=4, model=total)


def test_groups_of_half_precision():
    """Pandas groups by no such column."""
    frame = pd.DataFrame({"g": cycled([1, 2], 40).astype("float16"), "a": normal(40)})
    assert refined_or_refused(frame, {"groups": "g", "window": 3}, model=total)
