"""Series on disk: the same result as in memory, whatever ends the process on the way."""

import contextlib
import errno
import json
import os
import re
import resource
import shutil
import signal
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
from denograd_jax.streaming import _arrays, _journal
from tests.compilations import count_compilations

STEPS = 6
DATASET_NORM = rules.unit_step(2.0, norm="dataset")


def predict(params, window):
    """A network small enough to be differentiated thousands of times."""
    hidden = jnp.tanh(params["w1"] @ window.ravel())
    return params["w2"] @ hidden


def parameters(window, columns, targets, dtype="float32", seed=1):
    rng = np.random.default_rng(seed)
    return {
        "w1": rng.normal(size=(5, window * columns)).astype(dtype) / np.sqrt(window).astype(dtype),
        "w2": rng.normal(size=(targets, 5)).astype(dtype) / 2,
    }


def series(steps, columns, dtype="float32", missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    values = np.sin(np.arange(steps)[:, None] / (5 + np.arange(columns)))
    values = (values + 0.3 * rng.normal(size=(steps, columns))).astype(dtype)
    values[rng.random((steps, columns)) < missing] = np.nan
    return values


def in_memory(params, layout, rule, x, y=None, frozen=(), steps=STEPS):
    """`run`; what is missing is frozen there by the default mask, as a stream has it."""
    r = refiner(predict, rule, layout)
    movable = ~np.isnan(x)
    movable[:, list(frozen)] = False
    return run(r, params, r.init(x, y, movable_x=movable), steps)


def saved(folder, **arrays):
    """The arrays as files; gives their paths."""
    paths = [folder / f"{name}.npy" for name in arrays]
    for path, values in zip(paths, arrays.values(), strict=True):
        np.save(path, values)
    return paths


def assert_same(found, expected, tolerance):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def plain(**more):
    """Arguments of `stream` for a series `(120, 2)`; equal ones are compiled once for all tests."""
    arguments = {
        "layout": layouts.windows(4, target_columns=(0, 1)),
        "params": parameters(4, 2, 2),
        "max_steps": 3,
        "block_steps": 50,
    }
    return arguments | more


def plain_in_memory(x, frozen=()):
    arguments = plain()
    x = x.astype(x.dtype.newbyteorder("="))
    layout, rule = arguments["layout"], rules.unit_step()
    return np.asarray(in_memory(arguments["params"], layout, rule, x, frozen=frozen, steps=3).x)


# Equal to the run in memory


@pytest.mark.parametrize(
    ("layout", "rule", "dtype", "missing", "block"),
    [
        (layouts.windows(6, 2, target_columns=(0, 2)), rules.unit_step(), "float32", 0.15, 50),
        (layouts.windows(6, target_columns=(0, 2)), rules.unit_step(), "float64", 0.15, 50),
        (layouts.windows(6, 4, 3, "sum", (1,)), rules.gauss_newton(), "float64", 0.0, 8),
        (layouts.windows(9, target_columns=(0, 1, 2)), rules.unit_step(0.1), "float32", 0.1, 5),
        (layouts.windows(4, 1, 9, None, (0,)), rules.gauss_newton(), "float32", 0.0, 1000),
        (layouts.windows(5, 1, 2, "votes", (2,)), rules.unit_step(0.05, 0.3), "float32", 0.2, 31),
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


@pytest.mark.parametrize("shape", [(), (2,)], ids=["vector", "two"])
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
    assert (found.status, found.steps) == (Status.max_steps, 0)
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


# Kinds of arrays


@pytest.mark.parametrize(
    "make",
    [
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(">f4"),
        lambda x: x.astype("float16"),
        lambda x: (100 * x).astype("int16"),
        lambda x: x > 0,
    ],
    ids=["fortran", "big_endian", "half", "integers", "booleans"],
)
def test_any_real_array_is_read(tmp_path, make):
    x = make(series(120, 2))
    source, refined = saved(tmp_path, x=x)[0], tmp_path / "refined.npy"
    stream(predict, source, refined, **plain())
    assert_same(np.load(refined), plain_in_memory(x), 1e-6)


@pytest.mark.parametrize("ending", [".npy", ".zarr"])
def test_a_vector_is_one_column(tmp_path, ending):
    x = series(120, 1)
    more = {"layout": layouts.windows(4), "params": parameters(4, 1, 1)}
    if ending == ".npy":
        source, read = saved(tmp_path, x=x[:, 0])[0], np.load
    else:
        source, read = zarr_of(tmp_path / "x.zarr", x[:, 0]), read_zarr
    stream(predict, source, tmp_path / f"refined{ending}", **plain(**more))
    np.save(tmp_path / "column.npy", x)
    stream(predict, tmp_path / "column.npy", tmp_path / "expected.npy", **plain(**more))
    expected = np.load(tmp_path / "expected.npy")[:, 0]
    np.testing.assert_array_equal(read(tmp_path / f"refined{ending}"), expected)


def zarr_of(path, values, driver="zarr3", chunk=17):
    ts = pytest.importorskip("tensorstore")
    store = ts.open(
        {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}},
        create=True,
        dtype=ts.dtype(values.dtype),
        shape=values.shape,
        chunk_layout=ts.ChunkLayout(write_chunk_shape=(chunk, *values.shape[1:])),
    ).result()
    store.write(values).result()
    return path


def read_zarr(path):
    ts = pytest.importorskip("tensorstore")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return ts.open(spec).result().read().result()


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
def test_zarr_in_and_out(tmp_path, driver):
    x = series(120, 2, missing=0.1)
    source = zarr_of(tmp_path / "x.zarr", x, driver)
    stream(predict, source, tmp_path / "refined.zarr", **plain())
    stream(predict, tmp_path / "x.zarr", tmp_path / "refined.npy", **plain())
    assert_same(read_zarr(tmp_path / "refined.zarr"), plain_in_memory(x), 1e-6)
    assert_same(np.load(tmp_path / "refined.npy"), plain_in_memory(x), 1e-6)
    stream(predict, source, tmp_path / "refined.zarr", **plain(max_steps=0), overwrite=True)
    assert_same(read_zarr(tmp_path / "refined.zarr"), x, 0)


# The process ends


STAGES = ("copying", "between_blocks", "before_the_state", "torn_state", "torn_journal", "moved")
CHILD = "from tests.test_streaming import child; import sys; child(*sys.argv[1:])"


def job(folder, ending=".npy", **more):
    """The call that is interrupted and repeated: 5 blocks, 4 steps, with gaps."""
    x = series(230, 2, missing=0.1, seed=3)
    source = folder / "x.npy"
    if not source.exists():
        np.save(source, x)
    arguments = {
        "layout": layouts.windows(6, 2, target_columns=(0, 1)),
        "params": parameters(6, 2, 2),
        "max_steps": 4,
        "block_steps": 50,
    }
    destination = more.pop("destination", folder / f"refined{ending}")
    return stream(predict, source, destination, **(arguments | more))


def child(folder, stage, ending):
    """Run the job and kill the process, with no chance to tidy up, at a stage of step 2."""
    calls = 0

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def at(number, act):
        nonlocal calls
        calls += 1
        return act() if calls == number else None

    def progress(what, done, total):
        if (stage, what, done) in (("copying", "read", 3), ("between_blocks", "refine", 8)):
            die()

    array = _arrays.NpyFile if ending == ".npy" else _arrays.ZarrArray
    write, savez = array.write, np.savez

    def torn_write(self, begin, values):
        if stage == "before_the_state":
            at(5 + 8, die)  # 5 blocks were copied
        if stage == "torn_state":
            at(5 + 8, lambda: (write(self, begin, values[: len(values) // 2]), die()))
        write(self, begin, values)

    def torn_savez(file, **arrays):
        savez(file, **arrays)
        if stage == "torn_journal":
            at(1 + 8, lambda: (file.truncate(file.tell() // 2), file.flush(), die()))

    array.write, np.savez = torn_write, torn_savez
    if stage == "moved":
        _journal.Journal.discard = die
    job(Path(folder), ending, progress=progress)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder for each stage and ending in which a process was killed; two at a time."""
    cases = [(stage, ".npy") for stage in STAGES]
    if _has_tensorstore():
        cases += [("torn_state", ".zarr"), ("moved", ".zarr")]
    folders = {}
    for number in range(0, len(cases), 2):
        running = []
        for case in cases[number : number + 2]:
            folders[case] = tmp_path_factory.mktemp(case[0])
            command = [sys.executable, "-c", CHILD, str(folders[case]), *case]
            running.append(subprocess.Popen(command, cwd=Path(__file__).parents[1]))
        for process in running:
            assert process.wait() == -signal.SIGKILL
    return folders


def _has_tensorstore():
    with contextlib.suppress(ImportError):
        import tensorstore

        return bool(tensorstore)
    return False


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return job(folder), np.load(folder / "refined.npy")


@pytest.mark.parametrize("stage", STAGES)
def test_goes_on_after_kill_9(killed, uninterrupted, stage):
    folder = killed[stage, ".npy"]
    assert (folder / "refined.npy").exists() == (stage == "moved")
    assert (folder / "refined.npy.progress").is_dir()
    told = []
    assert job(folder, progress=lambda *what: told.append(what)) == uninterrupted[0]
    np.testing.assert_array_equal(np.load(folder / "refined.npy"), uninterrupted[1])
    assert sorted(p.name for p in folder.iterdir()) == ["refined.npy", "x.npy"]
    first = {"copying": ("read", 1, 5), "between_blocks": ("refine", 9, 20)}
    first |= {"before_the_state": ("refine", 9, 20), "torn_state": ("refine", 9, 20)}
    first |= {"torn_journal": ("refine", 8, 20)}
    assert told[:1] == ([first[stage]] if stage in first else [])


@pytest.mark.parametrize("stage", ["torn_state", "moved"])
def test_goes_on_after_kill_9_with_zarr(killed, uninterrupted, stage):
    pytest.importorskip("tensorstore")
    folder = killed[stage, ".zarr"]
    assert job(folder, ".zarr") == uninterrupted[0]
    np.testing.assert_array_equal(read_zarr(folder / "refined.zarr"), uninterrupted[1])
    assert sorted(p.name for p in folder.iterdir()) == ["refined.zarr", "x.npy"]


class PowerCut(BaseException):
    """Ends a call in this process."""


def cut_after(blocks):
    def progress(stage, done, total):
        if (stage, done) == ("refine", blocks):
            raise PowerCut

    return progress


def interrupted(folder, blocks=8, **more):
    with pytest.raises(PowerCut):
        job(folder, progress=cut_after(blocks), **more)
    return folder


@pytest.mark.parametrize("blocks", [1, 4, 5, 6, 19])
def test_goes_on_from_any_block(tmp_path, uninterrupted, blocks):
    assert job(interrupted(tmp_path, blocks)) == uninterrupted[0]
    np.testing.assert_array_equal(np.load(tmp_path / "refined.npy"), uninterrupted[1])


def test_goes_on_with_the_rescaling_of_the_step(tmp_path):
    """Half of the step is done: the norm of all gradients could not be found again."""
    rule = rules.unit_step(1.0, norm="dataset")
    (tmp_path / "other").mkdir()
    job(tmp_path / "other", rule=rule)
    job(interrupted(tmp_path, rule=rule), rule=rule)
    np.testing.assert_array_equal(
        np.load(tmp_path / "refined.npy"), np.load(tmp_path / "other" / "refined.npy")
    )


def test_goes_on_with_targets_of_their_own(tmp_path):
    x, y = series(230, 2, missing=0.1), series(230, 1, missing=0.1, seed=8)
    sources = tuple(saved(tmp_path, x=x, y=y))
    arguments = {
        "layout": layouts.windows(6),
        "params": parameters(6, 2, 1),
        "max_steps": 3,
        "block_steps": 50,
    }
    outputs = [(tmp_path / f"x{n}.npy", tmp_path / f"y{n}.npy") for n in range(2)]
    stream(predict, sources, outputs[0], **arguments)
    with pytest.raises(PowerCut):
        stream(predict, sources, outputs[1], **arguments, progress=cut_after(7))
    stream(predict, sources, outputs[1], **arguments)
    for whole, resumed in zip(*outputs, strict=True):
        np.testing.assert_array_equal(np.load(whole), np.load(resumed))


# Unfinished work is taken up by the same job only


def twice(params, window):
    return 2 * predict(params, window)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"max_steps": 5}, r"max_steps \(4, not 5\)"),
        ({"block_steps": 60}, r"block_steps \(50, not 60\)"),
        ({"params": parameters(6, 2, 2, seed=9)}, "parameters of the model"),
        ({"layout": layouts.windows(6, 3, target_columns=(0, 1))}, "layout"),
        ({"rule": rules.unit_step(0.06)}, "numbers of the rule"),
        ({"rule": rules.gauss_newton(0.05, 0.01)}, "model, rule, loss or version of JAX"),
        ({"frozen": [1]}, "frozen columns"),
        ({"scale": 2.0}, "mean and scale"),
    ],
)
def test_refuses_to_go_on_with_another_job(tmp_path, uninterrupted, more, named):
    interrupted(tmp_path)
    with pytest.raises(FileError, match=f"unfinished work that differs in.*{named}.*overwrite"):
        job(tmp_path, **more)
    assert job(tmp_path) == uninterrupted[0]  # the refusal has done no harm
    np.testing.assert_array_equal(np.load(tmp_path / "refined.npy"), uninterrupted[1])


@pytest.mark.parametrize("other", [twice, lambda p, w: predict(p, w) + jnp.ones(2)])
def test_refuses_to_go_on_with_another_model_of_the_same_parameters(tmp_path, other):
    interrupted(tmp_path)
    with pytest.raises(FileError, match="differs in model, rule, loss or version of JAX"):
        stream(
            other,
            tmp_path / "x.npy",
            tmp_path / "refined.npy",
            layout=layouts.windows(6, 2, target_columns=(0, 1)),
            params=parameters(6, 2, 2),
            max_steps=4,
            block_steps=50,
        )


def test_what_a_model_closes_over_belongs_to_the_job(tmp_path):
    source = saved(tmp_path, x=series(60, 1))[0]

    def go(slope, **more):
        weights = np.full((4, 1), slope, np.float32)
        stream(
            lambda _, window: (window * weights).sum(),
            source,
            tmp_path / "refined.npy",
            layout=layouts.windows(4),
            max_steps=2,
            block_steps=20,
            **more,
        )

    with pytest.raises(PowerCut):
        go(0.2, progress=cut_after(2))
    with pytest.raises(FileError, match="differs in model"):
        go(0.3)
    go(0.2)
    assert (tmp_path / "refined.npy").exists()


def test_overwrite_begins_another_job_anew(tmp_path):
    interrupted(tmp_path)
    (tmp_path / "other").mkdir()
    assert job(tmp_path, max_steps=3, overwrite=True) == job(tmp_path / "other", max_steps=3)
    np.testing.assert_array_equal(
        np.load(tmp_path / "refined.npy"), np.load(tmp_path / "other" / "refined.npy")
    )


def test_an_existing_output_stays_until_the_new_one_is_complete(tmp_path, uninterrupted):
    old = np.arange(3.0)
    np.save(tmp_path / "refined.npy", old)
    with pytest.raises(FileError, match=r"exists.*overwrite"):
        job(tmp_path)
    interrupted(tmp_path, overwrite=True)
    np.testing.assert_array_equal(np.load(tmp_path / "refined.npy"), old)
    with pytest.raises(FileError, match=r"exists.*overwrite"):
        job(tmp_path)
    job(tmp_path, overwrite=True)
    np.testing.assert_array_equal(np.load(tmp_path / "refined.npy"), uninterrupted[1])


def test_a_changed_input_is_refused(tmp_path):
    interrupted(tmp_path)
    x = np.load(tmp_path / "x.npy")
    x[200, 1] += 1
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(FileError, match="differs in content of the input"):
        job(tmp_path)
    job(tmp_path, overwrite=True)
    assert (tmp_path / "refined.npy").exists()


def test_an_input_that_was_only_copied_anew_is_taken(tmp_path, uninterrupted):
    interrupted(tmp_path)
    shutil.copy(tmp_path / "x.npy", tmp_path / "copy.npy")
    (tmp_path / "x.npy").unlink()
    (tmp_path / "copy.npy").rename(tmp_path / "x.npy")
    assert job(tmp_path) == uninterrupted[0]


def test_only_one_process_at_a_time(tmp_path):
    interrupted(tmp_path)
    with (
        _journal.Journal(tmp_path / "refined.npy").held(),
        pytest.raises(FileError, match="another process is at work"),
    ):
        job(tmp_path)


def test_damage_by_others_is_told(tmp_path):
    interrupted(tmp_path)
    folder = tmp_path / "refined.npy.progress"
    whole = (folder / "block.npz").read_bytes()
    (folder / "block.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match=r"block\.npz is damaged.*remove"):
        job(tmp_path)
    (folder / "block.npz").write_bytes(whole)
    os.truncate(folder / "x.npy", 500)
    with pytest.raises(FileError, match=r"unfinished work is damaged.*truncated.*remove"):
        job(tmp_path)


# Disks and files


def test_a_full_disk_at_the_beginning_leaves_nothing_behind(tmp_path):
    np.save(tmp_path / "x.npy", series(230, 2, missing=0.1, seed=3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a quota: the system says EFBIG
    try:
        with pytest.raises(FileError, match=r"no room for .*refined\.npy.*needs 1,840 bytes"):
            job(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    job(tmp_path)


@pytest.mark.parametrize("victim", ["journal", "state"])
def test_a_full_disk_on_the_way_loses_nothing(tmp_path, monkeypatch, uninterrupted, victim):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    savez, write, calls = np.savez, _arrays.NpyFile.write, []

    def savez_until_full(file, **arrays):
        calls.append("journal")
        savez(file, **arrays)
        if victim == "journal" and len(calls) == 9:
            file.truncate(file.tell() // 2)
            raise full

    def write_until_full(self, begin, values):
        calls.append("state")
        if victim == "state" and len(calls) == 22:
            write(self, begin, values[:5])
            raise full
        write(self, begin, values)

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", savez_until_full)
        patched.setattr(_arrays.NpyFile, "write", write_until_full)
        with pytest.raises(FileError, match=r"no room left.*Nothing is lost: make room"):
            job(tmp_path)
    assert not list((tmp_path / "refined.npy.progress").glob("*.new"))
    assert job(tmp_path) == uninterrupted[0]
    np.testing.assert_array_equal(np.load(tmp_path / "refined.npy"), uninterrupted[1])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 KiB, and a function that enlarges it."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if shutil.which("mount") is None or not mount("size=128k"):
        pytest.skip("needs the right to mount a file system")
    yield place, lambda: mount("remount,size=4m")
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("ending", [".npy", ".zarr"])
def test_a_disk_that_is_really_full(tmp_path, small_disk, ending):
    if ending == ".zarr":
        pytest.importorskip("tensorstore")
    place, enlarge = small_disk
    source = saved(tmp_path, x=series(10_000, 2))[0]  # 80 KB, a block's journal another 80

    def go(destination, **more):
        return stream(predict, source, destination, **plain(block_steps=10_000, **more))

    (place / "ballast").write_bytes(bytes(100_000))
    with pytest.raises(FileError, match=r"no room for .*: it needs 80,000 bytes"):
        go(place / f"refined{ending}")
    (place / "ballast").unlink()
    assert not list(place.iterdir())
    with pytest.raises(FileError, match=r"no room left.*Nothing is lost"):
        go(place / f"refined{ending}")
    enlarge()
    told = []
    go(place / f"refined{ending}", progress=lambda stage, *_: told.append(stage))
    assert "read" not in told  # it went on, and did not begin anew
    go(tmp_path / "refined.npy")
    result = (
        np.load(place / "refined.npy") if ending == ".npy" else read_zarr(place / "refined.zarr")
    )
    np.testing.assert_array_equal(result, np.load(tmp_path / "refined.npy"))


def test_a_truncated_file(tmp_path):
    interrupted(tmp_path)
    path = tmp_path / "x.npy"
    whole = path.read_bytes()
    os.truncate(path, len(whole) - 100)
    says = r"x\.npy is truncated: its header promises 230 steps of 2 column\(s\), 1,840 bytes, "
    with pytest.raises(FileError, match=says + "and 1,740 bytes follow"):
        job(tmp_path)
    path.write_bytes(whole)
    job(tmp_path)


def test_a_file_that_is_truncated_while_it_is_read(tmp_path, uninterrupted):
    np.save(tmp_path / "x.npy", series(230, 2, missing=0.1, seed=3))
    whole = (tmp_path / "x.npy").read_bytes()

    def cut(stage, done, total):
        if (stage, done) == ("refine", 7):
            os.truncate(tmp_path / "x.npy", len(whole) // 2)

    with pytest.raises(FileError, match="truncated"):
        job(tmp_path, progress=cut)
    (tmp_path / "x.npy").write_bytes(whole)
    told = []
    assert job(tmp_path, progress=lambda *what: told.append(what)) == uninterrupted[0]
    assert told[0] == ("read", 0, 5)
    assert told[1] == ("refine", 8, 20)
    np.testing.assert_array_equal(np.load(tmp_path / "refined.npy"), uninterrupted[1])


def test_a_truncated_chunk_of_zarr(tmp_path):
    source = zarr_of(tmp_path / "x.zarr", series(120, 2), "zarr")
    os.truncate(source / "1.0", 20)
    with pytest.raises(FileError, match=r"x\.zarr is no Zarr array that can be read"):
        stream(predict, source, tmp_path / "r.npy", **plain())
    assert not (tmp_path / "r.npy.progress").exists()


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
