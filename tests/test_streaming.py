"""Series on disk: the same result as in memory, and what is refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from denograd_jax import Model, Status, layouts, refiner, rules, run, stream
from denograd_jax.errors import (
    ColumnError,
    DataError,
    FileError,
    MissingExtraError,
    ModelError,
    ShapeError,
    UnsupportedError,
)
from tests.compilations import count_compilations
from tests.streams import (
    DATASET_NORM,
    STEPS,
    assert_same,
    in_memory,
    job,
    parameters,
    plain,
    plain_in_memory,
    predict,
    saved,
    series,
)


@pytest.mark.parametrize(
    ("layout", "rule", "dtype", "missing", "block"),
    [
        pytest.param(
            layouts.windows(6, 2, target_columns=(0, 2)),
            rules.unit_step(),
            "float32",
            0.15,
            50,
            marks=pytest.mark.slow,
        ),
        (layouts.windows(6, target_columns=(0, 2)), rules.unit_step(), "float64", 0.15, 50),
        (layouts.windows(6, 4, 3, "sum", (1,)), rules.gauss_newton(), "float64", 0.0, 8),
        pytest.param(
            layouts.windows(9, target_columns=(0, 1, 2)),
            rules.unit_step(0.1),
            "float32",
            0.1,
            5,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            layouts.windows(4, 1, 9, None, (0,)),
            rules.gauss_newton(),
            "float32",
            0.0,
            1000,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            layouts.windows(5, 1, 2, "votes", (2,)),
            rules.unit_step(0.05, 0.3),
            "float32",
            0.2,
            31,
            marks=pytest.mark.slow,
        ),
        (layouts.windows(5, target_columns=(0, 1)), DATASET_NORM, "float32", 0.1, 40),
    ],
    ids=["visits", "visits64", "sum64", "halo_beyond_block", "one_block", "votes", "dataset_norm"],
)
def test_equals_memory(tmp_path, layout, rule, dtype, missing, block):
    with jax.enable_x64(dtype == "float64"):
        x = series(131, 3, dtype, missing)
        compare_with_memory(tmp_path, layout, rule, x, block, 1e-6 if dtype == "float32" else 1e-13)


def compare_with_memory(tmp_path, layout, rule, x, block, tolerance):
    params = parameters(layout.length, 3, len(layout.target_columns), x.dtype)
    source, refined = saved(tmp_path, x=x)[0], tmp_path / "refined.npy"
    more = {"max_steps": STEPS, "block_steps": block}
    found = stream(predict, source, refined, layout=layout, rule=rule, params=params, **more)
    expected = in_memory(params, layout, rule, x)
    result = np.load(refined)
    assert_same(result, np.asarray(expected.x), tolerance)
    assert np.nanmax(np.abs(result - x)) > 1e-3
    assert found == (
        Status(int(expected.status)),
        int(expected.steps),
        int(expected.info.active),
        int(expected.info.nonfinite),
    )
    np.testing.assert_array_equal(np.load(source), x)
    assert sorted(tmp_path.iterdir()) == [refined, source]


@pytest.mark.slow
@settings(max_examples=6)
@given(block=st.integers(1, 70), steps=st.sampled_from([9, 61]), stride=st.sampled_from([1, 4]))
@example(block=1, steps=9, stride=1)
@example(block=60, steps=61, stride=4)
def test_equals_memory_for_any_block(tmp_path_factory, block, steps, stride):
    folder = tmp_path_factory.mktemp("any")
    x = series(steps, 2, missing=0.1, seed=steps)
    x[-1] = 0  # a target for the only window of the shortest series
    layout = layouts.windows(7, 2, stride, target_columns=(0, 1))
    params = parameters(7, 2, 2)
    source, refined = saved(folder, x=x)[0], folder / "refined.npy"
    stream(predict, source, refined, layout=layout, params=params, max_steps=3, block_steps=block)
    expected = in_memory(params, layout, rules.unit_step(), x, steps=3)
    assert_same(np.load(refined), np.asarray(expected.x), 1e-6)


@pytest.mark.parametrize(
    "shape", [pytest.param((), marks=pytest.mark.slow), (2,)], ids=["vector", "two"]
)
def test_targets_in_an_array_of_their_own(tmp_path, shape):
    x = series(150, 3, missing=0.1)
    y = series(150, *(shape or (1,)), missing=0.2, seed=5).reshape(150, *shape)
    params = parameters(6, 3, y.size // 150)
    layout = layouts.windows(6, 2, 2)
    sources = saved(tmp_path, x=x, y=y)
    outputs = (tmp_path / "x2.npy", tmp_path / "y2.npy")
    stream(
        predict,
        tuple(sources),
        outputs,
        layout=layout,
        params=params,
        max_steps=STEPS,
        block_steps=32,
        frozen=(1,),
    )
    expected = in_memory(params, layout, rules.unit_step(), x, y, frozen=(1,))
    assert_same(np.load(outputs[0]), np.asarray(expected.x), 1e-6)
    assert_same(np.load(outputs[1]), np.asarray(expected.y), 1e-6)
    np.testing.assert_array_equal(np.load(outputs[0])[:, 1], x[:, 1])
    assert np.nanmax(np.abs(np.load(outputs[1]) - y)) > 1e-3


def test_every_column_that_moves_is_a_target_unless_told_otherwise(tmp_path):
    x = series(120, 3)
    source, outputs = saved(tmp_path, x=x)[0], [tmp_path / "0.npy", tmp_path / "1.npy"]
    for columns, output in zip((None, (0, 2)), outputs, strict=True):
        layout = layouts.windows(4, target_columns=columns)
        more = {"layout": layout, "params": parameters(4, 3, 2), "frozen": [1]}
        stream(predict, source, output, **plain(**more))
    np.testing.assert_array_equal(*map(np.load, outputs))
    moved = np.load(outputs[0]) != x
    assert moved[:, [0, 2]].mean() > 0.9
    assert not moved[:, 1].any()


@pytest.mark.slow
def test_steps_are_taken_in_standardised_units(tmp_path):
    mean, scale = np.array([100.0, -3.0]), np.array([7.0, 0.01])
    z = series(120, 2, "float64", missing=0.1)
    source, refined = saved(tmp_path, x=z * scale + mean)[0], tmp_path / "refined.npy"
    stream(predict, source, refined, **plain(mean=mean, scale=scale))
    expected = plain_in_memory(z.astype("float32")).astype("float64")
    assert_same((np.load(refined) - mean) / scale, expected, 1e-6)


def test_cells_that_do_not_move_keep_every_bit(tmp_path):
    """Also where the file is finer than the computing precision."""
    x = series(120, 2, "float64", missing=0.1) / 3
    source, refined = saved(tmp_path, x=x)[0], tmp_path / "refined.npy"
    stream(predict, source, refined, **plain(frozen=[1], mean=[0.1, 0.2], scale=[0.3, 0.7]))
    np.testing.assert_array_equal(np.load(refined)[:, 1], x[:, 1])
    assert (np.load(refined)[:, 0] != x[:, 0]).sum() > np.isnan(x[:, 0]).sum()


@pytest.mark.slow
def test_ends_when_nothing_moves(tmp_path):
    x = np.zeros((80, 1), np.float32)
    x[40] = 0.1
    source, refined = saved(tmp_path, x=x)[0], tmp_path / "refined.npy"
    told = []

    def last_value(_, window):
        return window[-1]

    layout, rule = layouts.windows(1, target_columns=(0,)), rules.gauss_newton(1.0, 0.04)
    found = stream(
        last_value,
        source,
        refined,
        layout=layout,
        rule=rule,
        block_steps=16,
        progress=lambda *what: told.append(what),
    )
    r = refiner(last_value, rule, layout)
    expected = run(r, None, r.init(x), 100)
    assert found.status == Status.converged
    assert found.steps == int(expected.steps) < 100
    assert found.active == 0
    assert_same(np.load(refined), np.asarray(expected.x), 1e-6)
    reading, refining = [("read", n, 5) for n in range(1, 6)], range(1, 5 * found.steps + 1)
    assert told == reading + [("refine", n, 500) for n in refining]


def test_windows_that_are_not_finite_stay_and_are_counted(tmp_path):
    def breaks(_, window):
        return jnp.where(window[0] > 0.5, jnp.inf, 0.9 * window[-1])

    x = series(100, 1)
    source, refined = saved(tmp_path, x=x)[0], tmp_path / "refined.npy"
    layout = layouts.windows(3, target_columns=(0,))
    found = stream(breaks, source, refined, layout=layout, max_steps=2, block_steps=30)
    r = refiner(breaks, layout=layout)
    expected = run(r, None, r.init(x), 2)
    assert found.status == Status.nonfinite
    assert found.nonfinite == int(expected.info.nonfinite) > 0
    assert_same(np.load(refined), np.asarray(expected.x), 1e-6)


def test_no_steps_make_a_copy(tmp_path):
    x = series(120, 2, missing=0.1)
    source, refined = saved(tmp_path, x=x)[0], tmp_path / "refined.npy"
    found = stream(predict, source, refined, **plain(max_steps=0))
    assert found == (Status.max_steps, 0, 0, 0)
    np.testing.assert_array_equal(np.load(refined), x)


def test_a_model_may_be_given_with_its_batched_form(tmp_path):
    x = series(120, 2)
    source, refined = saved(tmp_path, x=x)[0], tmp_path / "refined.npy"
    arguments = plain()
    model = Model(predict, arguments.pop("params"), jax.vmap(predict, (None, 0)))
    stream(model, source, refined, **arguments)
    assert_same(np.load(refined), plain_in_memory(x), 1e-6)


def test_all_blocks_share_one_program(tmp_path):
    source = saved(tmp_path, x=series(120, 2, missing=0.1))[0]

    def go(number, *numbers):
        rule = rules.unit_step(*numbers)
        stream(predict, source, tmp_path / f"{number}.npy", **plain(rule=rule, block_steps=48))

    assert count_compilations(lambda: go(0, 0.1, 0.2)) <= 1
    assert count_compilations(lambda: go(1, 0.05, 0.01)) == 0


# What is refused


def refusal(tmp_path, x, **more):
    source = saved(tmp_path, x=x)[0]
    arguments = {"layout": layouts.windows(4), "params": parameters(4, 2, 2)}
    destination = more.pop("destination", tmp_path / "refined.npy")
    with pytest.raises((ValueError, TypeError)) as caught:
        stream(more.pop("predict", predict), source, destination, **(arguments | more))
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    return caught


@pytest.mark.parametrize(
    ("x", "more", "error", "says"),
    [
        (np.zeros((5, 2, 2)), {}, ShapeError, r"\(steps, columns\) or \(steps,\), not \(5, 2, 2\)"),
        (np.full((9, 2), "a"), {}, UnsupportedError, "real numbers"),
        (np.zeros((9, 2), complex), {}, UnsupportedError, "real numbers"),
        (np.zeros((9, 0)), {}, ShapeError, r"not \(9, 0\)"),
        (np.zeros((4, 2)), {}, ShapeError, "no window fits"),
        (np.zeros((0, 2)), {}, ShapeError, "no window fits"),
        (np.full((9, 2), np.nan), {}, DataError, "every cell of .* is missing"),
        (np.where(np.arange(9)[:, None] == 7, np.inf, [[0.0, 1]]), {}, DataError, "at step 7 in"),
        (np.full((9, 2), 1e200), {}, DataError, "too large for its precision, at step 0 in col"),
        (np.where(np.arange(9)[:, None] > 3, np.nan, [[0.0, 1]]), {}, ShapeError, "no window to"),
        (np.zeros((9, 2)), {"layout": layouts.rows()}, UnsupportedError, "windows"),
        (np.zeros((9, 2)), {"params": parameters(4, 2, 1)}, ModelError, "predicts 1 value"),
        (np.zeros((9, 2)), {"frozen": [2]}, ColumnError, "frozen column 2"),
        (np.zeros((9, 2)), {"scale": [1.0, 0.0]}, ShapeError, "positive"),
        (np.zeros((9, 2)), {"mean": [1.0, 0.0, 2.0]}, ShapeError, r"shape \(2,\)"),
        (np.zeros((9, 2)), {"block_steps": 0}, ShapeError, "block_steps"),
        (np.zeros((9, 2)), {"max_steps": -1}, ShapeError, "max_steps"),
        (np.zeros((9, 2)), {"max_steps": 1.5}, TypeError, "integer"),
        (np.zeros((9, 2)), {"loss": "cross_entropy"}, UnsupportedError, "class labels"),
        (np.zeros((9, 2)), {"loss": "hinge"}, UnsupportedError, "one of the names"),
        (
            np.zeros((9, 2)),
            {"layout": layouts.windows(4, target_columns=(0,), shared=False)},
            UnsupportedError,
            "shared=False",
        ),
        (
            np.zeros((9, 2)),
            {"layout": layouts.windows(4, target_columns=(5,))},
            ShapeError,
            "target column 5",
        ),
    ],
)
def test_refuses_what_cannot_be_refined(tmp_path, x, more, error, says):
    caught = refusal(tmp_path, x, **more)
    assert isinstance(caught.value, error)
    assert re.search(says, str(caught.value))


@pytest.mark.parametrize(
    ("destination", "says"),
    [
        ("x.npy", "named twice, or the input"),
        ("./here/../x.npy", "named twice, or the input"),
        ("r.csv", "no ending of an array"),
        ("nowhere/r.npy", "does not exist: create it first"),
        (("r.npy", "s.npy"), r"1 array\(s\) cannot be refined into 2"),
    ],
)
def test_refuses_destinations(tmp_path, monkeypatch, destination, says):
    monkeypatch.chdir(tmp_path)
    assert re.search(says, str(refusal(tmp_path, np.zeros((9, 2)), destination=destination).value))


def test_refuses_sources(tmp_path):
    def go(source):
        stream(predict, source, tmp_path / "r.npy", layout=layouts.windows(2))

    with pytest.raises(FileError, match="does not exist"):
        go(tmp_path / "nothing.npy")
    (tmp_path / "text.npy").write_text("a,b\n")
    with pytest.raises(FileError, match=r"no \.npy file"):
        go(tmp_path / "text.npy")
    with pytest.raises(FileError, match="a folder but no Zarr array"):
        go(tmp_path)
    with pytest.raises(UnsupportedError, match="must be a path"):
        go(np.zeros((9, 2)))
    np.save(tmp_path / "x.npy", np.zeros((9, 2)))
    np.save(tmp_path / "y.npy", np.zeros(8))
    with pytest.raises(ShapeError, match="9 steps and its target 8"):
        stream(
            predict,
            (tmp_path / "x.npy", tmp_path / "y.npy"),
            (tmp_path / "x2.npy", tmp_path / "y2.npy"),
            layout=layouts.windows(2),
        )


@pytest.mark.parametrize("name", ["r.npy", "r.zarr"])
def test_replaces_nothing_but_an_array(tmp_path, name):
    """A folder, or a group of Zarr arrays, would go with all that is in it."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").write_text("mine")
    group = {"zarr_format": 3, "node_type": "group"}
    (tmp_path / name / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(FileError, match="not a single array, and never replaced"):
        job(tmp_path, Path(name).suffix, destination=tmp_path / name, overwrite=True)
    assert (tmp_path / name / "precious").read_text() == "mine"


def test_refuses_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "refined.npy.progress").touch()
    with pytest.raises(FileError, match=r"cannot be made or written to.*another place"):
        job(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FileError, match="may not be written to: choose another folder"):
        job(tmp_path)


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    caught = pytest.raises(MissingExtraError, match=r'pip install "denograd-jax\[zarr\]"')
    with caught:
        job(tmp_path, ".zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


# Memory

MEASURE = """
import resource, sys
import numpy as np
from denograd_jax import layouts, stream
stream(lambda p, w: 0.9 * w[-1], sys.argv[1], sys.argv[2], layout=layouts.windows(4, stride=16),
       max_steps=1, block_steps=2**16)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """In KB; 64 MB more in the file, where blocks are of 1 MB."""
    peaks = []
    for steps in (2**17, 2**22):
        source = tmp_path / f"{steps}.npy"
        block = series(2**17, 4)
        with source.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": (steps, 4)}
            )
            for _ in range(steps // 2**17):
                file.write(block.tobytes())
        command = [sys.executable, "-c", MEASURE, str(source), str(tmp_path / f"{steps}.out.npy")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 24_000
