"""What changed, cell by cell, and taking back what a person does not believe."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denograd_jax import refine
from denograd_jax._frames._changes import largest
from denograd_jax.errors import ShapeError, UnsupportedError

ROWS = 20


def total(x):
    return x.sum()


def ahead(window):
    return window.mean(axis=0) + 0.3 * (window[-1] - window[0])


def table():
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {
            "i": rng.integers(0, 90, ROWS),
            "f": rng.normal(size=ROWS).astype("float32"),
            "n": pd.array(rng.normal(size=ROWS), dtype="Float64"),
            "k": rng.choice(["p", "q"], ROWS),
            "y": rng.normal(size=ROWS),
        },
        index=pd.MultiIndex.from_product([["x", "z"], range(10)], names=["house", "hour"]),
    )
    frame.loc[[("x", 2), ("z", 5)], "n"] = pd.NA
    frame.iloc[7, 4] = np.nan
    return frame


OPTIONS = {"model": total, "max_steps": 2, "step_size": 0.3, "tolerance": 0.0}


@pytest.fixture(scope="module")
def result():
    return refine(table(), "y", impute=True, **OPTIONS)


CELLS = [["i", "f", "n", "y"], ROWS]


def assert_same(result, other):
    pd.testing.assert_frame_equal(result.data, other.data, check_exact=True)
    pd.testing.assert_series_equal(result.target, other.target, check_exact=True)
    pd.testing.assert_frame_equal(result.after, other.after, check_exact=True)
    pd.testing.assert_frame_equal(result.changes, other.changes, check_exact=True)


def test_all_accepted_is_the_refinement_and_all_rejected_the_data(result):
    frame = table()
    everything = np.ones(len(result.changes), bool)
    assert_same(result.accept(everything), result)
    assert_same(result.accept(np.ones((ROWS, 4), bool)), result)
    assert_same(result.reject(~everything), result)
    for nothing in (result.reject(everything), result.accept(~everything)):
        pd.testing.assert_frame_equal(nothing.data, frame, check_exact=True)
        pd.testing.assert_series_equal(nothing.target, frame["y"], check_exact=True)
        assert nothing.changes.empty
        assert "Changed 0 of" in nothing.summary()
        assert nothing.notes[-1] == "only 0 of the changes were accepted"


@given(seed=st.integers(0, 999), share=st.floats(0, 1))
@settings(max_examples=25)
def test_only_what_is_accepted_changes(result, seed, share):
    changes = result.changes
    mask = np.random.default_rng(seed).random(len(changes)) < share
    chosen = result.accept(mask)
    frame, whole = table(), result.data
    expected = {
        (row, str(column)): after
        for row, column, after in changes.loc[mask, ["row", "column", "after"]].itertuples(
            index=False
        )
    }
    for column in frame:
        for row in frame.index:
            found, was = chosen.data.loc[row, column], frame.loc[row, column]
            if (row, column) in expected:
                assert found == expected[row, column] == whole.loc[row, column]
            else:
                assert (pd.isna(found) and pd.isna(was)) or found == was
    kept = changes[mask].reset_index(drop=True)
    pd.testing.assert_frame_equal(chosen.changes, kept, check_exact=True)
    assert_same(chosen, result.reject(~mask))
    numbers = chosen.data[CELLS[0]].astype("float64")
    pd.testing.assert_frame_equal(chosen.after, numbers, check_exact=True, check_column_type=False)
    assert chosen.residuals is result.residuals
    pd.testing.assert_frame_equal(result.data, whole, check_exact=True)  # itself unchanged


def test_accepting_again_narrows_further(result):
    changes = result.changes
    of_f = changes["column"] == "f"
    least = changes["sigmas"].abs().where(of_f).median()
    enough = changes["sigmas"].abs() > least
    large = result.accept(enough)
    expected = changes[of_f & enough].reset_index(drop=True)
    of_f = large.accept(large.changes["column"] == "f")
    pd.testing.assert_frame_equal(of_f.changes, expected, check_exact=True)
    assert 0 < len(expected) < len(large.changes) < len(result.changes)


def test_a_mask_with_labels_goes_by_its_labels(result):
    """A mask from a sorted copy of the changes means the same lines."""
    small = result.changes["sigmas"] > 0
    shuffled = small.sample(frac=1, random_state=0)
    assert not shuffled.reset_index(drop=True).equals(small)
    assert_same(result.accept(shuffled), result.accept(small))
    cells = pd.DataFrame(result.sigmas > 0, result.before.index, result.before.columns)
    expected = result.accept(cells.to_numpy())
    assert_same(result.accept(cells[["y", "f", "n", "i"]]), expected)
    assert_same(result.accept(cells.iloc[::-1]), expected)


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (np.ones(3, bool), ShapeError, "one boolean per line"),
        (np.ones((ROWS, 3), bool), ShapeError, "per cell"),
        (np.ones(3), UnsupportedError, "booleans, not float64"),
        ([0, 1], UnsupportedError, "booleans"),
        ("f", UnsupportedError, "booleans"),
        (None, UnsupportedError, "booleans"),
    ],
)
def test_masks_that_are_refused(result, mask, error, words):
    for method in (result.accept, result.reject):
        with pytest.raises(error, match=words) as caught:
            method(mask)
        assert "\n" not in str(caught.value)


def test_what_was_given_is_remembered_whatever_becomes_of_it():
    for make in (table, lambda: table()[["f", "y"]].to_numpy()):
        given_data = make()
        target = "y" if isinstance(given_data, pd.DataFrame) else 1
        result = refine(given_data, target, **OPTIONS)
        if isinstance(given_data, pd.DataFrame):
            given_data.loc[:, "f"] = 99
        else:
            given_data[:] = 99
        back = result.reject(np.ones(result.before.shape, bool))
        np.testing.assert_array_equal(
            np.asarray(back.data["f"] if isinstance(given_data, pd.DataFrame) else back.data[:, 0]),
            table()["f"],
        )
    back.data.fill(7)
    np.testing.assert_array_equal(result.reject(result.changed).data[:, 0], table()["f"])


def containers():
    frame = table()[["f", "y"]].reset_index(drop=True).astype("float64")
    polars, xarray = pytest.importorskip("polars"), pytest.importorskip("xarray")
    return {
        "array": (frame.to_numpy(), 1),
        "polars": (polars.from_pandas(frame), "y"),
        "xarray": (xarray.Dataset.from_dataframe(frame), "y"),
        "apart": (frame[["f"]], frame["y"]),
        "panel": ([frame[:9], frame[9:]], "y"),
    }


def numbers(data, target):
    """All cells of any container, in order."""
    parts = [*data, *target] if isinstance(data, list) else [data, target]
    flat = []
    for part in parts:
        part = part.to_dataframe() if hasattr(part, "to_dataframe") else part
        flat.append(np.asarray(part, float).ravel())
    return np.concatenate(flat)


@pytest.mark.parametrize("kind", ["array", "polars", "xarray", "apart", "panel"])
def test_any_container_can_be_taken_back(kind):
    data, target = containers()[kind]
    result = refine(data, target, **OPTIONS)
    changes = result.changes
    assert len(changes) > ROWS
    back = result.reject(np.ones(len(changes), bool))
    plain = refine(data, target, dry_run=True, **OPTIONS)
    np.testing.assert_array_equal(
        numbers(back.data, back.target), numbers(plain.data, plain.target)
    )
    again = result.accept(np.ones(len(changes), bool))
    np.testing.assert_array_equal(
        numbers(again.data, again.target), numbers(result.data, result.target)
    )
    assert type(back.data) is type(data)


def test_a_dry_run_changes_nothing_and_tells_all():
    frame = table()
    result, dry = (refine(frame, "y", dry_run=d, **OPTIONS) for d in (False, True))
    pd.testing.assert_frame_equal(dry.data, frame, check_exact=True)
    pd.testing.assert_series_equal(dry.target, frame["y"], check_exact=True)
    assert dry.data is not frame
    assert dry.dry_run
    pd.testing.assert_frame_equal(dry.changes, result.changes, check_exact=True)
    pd.testing.assert_frame_equal(dry.after, result.after, check_exact=True)
    assert "Dry run: the data is as it was given." in dry.summary()
    some = dry.accept(dry.changes["sigmas"] > 0)
    pd.testing.assert_frame_equal(some.data, frame, check_exact=True)
    assert 0 < len(some.changes) < len(dry.changes)


def test_the_largest_are_the_head_of_all(result):
    for k in (0, 1, 5, len(result.changes), 10_000, np.int64(3)):
        pd.testing.assert_frame_equal(result.top(k), result.changes.head(k), check_exact=True)
    pd.testing.assert_frame_equal(result.top(), result.changes.head(20), check_exact=True)
    for k in (-1, 2.0, True, "3"):
        with pytest.raises(UnsupportedError, match="k must be"):
            result.top(k)


SIZES = st.sampled_from([0.0, -0.5, 0.5, 1.0, -1.0, 1e-300, np.nan])


@given(st.lists(st.tuples(SIZES, st.booleans()), min_size=1, max_size=24), st.integers(0, 26))
@settings(max_examples=100)
def test_ties_are_told_in_the_order_of_the_cells(cells, k):
    sigmas = np.array([[s for s, _ in cells]])
    filled = np.array([[f for _, f in cells]]) & np.isnan(sigmas)
    size = np.where(filled, -1.0, np.nan_to_num(np.abs(sigmas), nan=0))[0]
    there = [i for i in range(len(cells)) if size[i] != 0]
    expected = sorted(there, key=lambda i: -size[i])  # stable; filled ones at the end
    assert largest(sigmas, filled, None).tolist() == expected
    assert largest(sigmas, filled, k).tolist() == expected[:k]


@pytest.mark.parametrize(("horizon", "stride"), [(1, 1), (2, 3)])
def test_gate_and_windows_of_a_series_by_hand(horizon, stride):
    """Each cell: how many of its windows moved, and what share of them that is."""
    values = np.random.default_rng(8).normal(size=(26, 2)).cumsum(axis=0)
    frame = pd.DataFrame(values, columns=["u", "v"]).assign(g=["p"] * 11 + ["q"] * 15)
    tolerance = 0.8
    result = refine(
        frame,
        groups="g",
        window=4,
        horizon=horizon,
        stride=stride,
        model=ahead,
        max_steps=1,
        tolerance=tolerance,
    )
    unit = values.std(axis=0)
    holds, moves = np.zeros(values.shape), np.zeros(values.shape)
    for first, last in ((0, 11), (11, 26)):
        for start in range(first, last - 3 - horizon, stride):
            target = start + 3 + horizon
            residual = np.asarray(ahead(values[start : start + 4])) - values[target]
            gate = (np.abs(residual) / unit > tolerance).any()
            for row in [*range(start, start + 4), target]:
                holds[row] += 1
                moves[row] += gate
    np.testing.assert_array_equal(result.evidence.windows, moves)
    np.testing.assert_allclose(result.evidence.gate, moves / np.maximum(holds, 1), rtol=1e-6)
    assert 0 < moves.sum() < holds.sum()
    changes = result.changes
    column = changes["column"].cat.codes.to_numpy()
    np.testing.assert_array_equal(changes["windows"], moves[changes["row"], column])
    assert (changes["windows"] > 0).all()
