"""Series on disk: whatever ends the process, the same call goes on."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax import layouts, rules, stream
from denograd_jax.errors import (
    FileError,
)
from denograd_jax.streaming import _arrays, _journal, _stream
from tests.streams import (
    PowerCut,
    cut_after,
    interrupted,
    job,
    parameters,
    predict,
    read_zarr,
    saved,
    series,
)

STAGES = ("copying", "between_blocks", "before_the_state", "torn_state", "torn_journal", "moved")
CHILD = "from tests.test_streaming_resume import child; import sys; child(*sys.argv[1:])"


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
        finish = _stream.finish
        _stream.finish = lambda *work: (finish(*work), die())
    job(Path(folder), ending, progress=progress)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Gives the folder in which a process was killed at a stage."""

    def kill(stage, ending):
        folder = tmp_path_factory.mktemp(stage)
        command = [sys.executable, "-c", CHILD, str(folder), stage, ending]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], check=False)
        assert done.returncode == -signal.SIGKILL
        return folder

    return kill


@pytest.mark.parametrize(
    "stage",
    [
        stage if stage == "torn_state" else pytest.param(stage, marks=pytest.mark.slow)
        for stage in STAGES
    ],
)
def test_goes_on_after_kill_9(killed, uninterrupted, stage):
    folder = killed(stage, ".npy")
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


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["torn_state", "moved"])
def test_goes_on_after_kill_9_with_zarr(killed, uninterrupted, stage):
    pytest.importorskip("tensorstore")
    folder = killed(stage, ".zarr")
    assert job(folder, ".zarr") == uninterrupted[0]
    np.testing.assert_array_equal(read_zarr(folder / "refined.zarr"), uninterrupted[1])
    assert sorted(p.name for p in folder.iterdir()) == ["refined.zarr", "x.npy"]


@pytest.mark.parametrize(
    "blocks", [1, 6, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 5, 19))]
)
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


def test_refuses_to_go_on_with_another_rescaling(tmp_path):
    rule = rules.unit_step(1.0, norm="dataset")
    interrupted(tmp_path, rule=rule)
    other = rule._replace(rescale=lambda squared_norm: 100 / (1 + squared_norm))
    with pytest.raises(FileError, match="differs in model, rule, loss or version of JAX"):
        job(tmp_path, rule=other)


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


def test_the_lock_outlives_the_folder(tmp_path, monkeypatch):
    """Else what is removed at the end might be the work of the next process."""
    clear, seen = _journal.Journal.clear, []

    def watched(self, *kept):
        with pytest.raises(FileError, match="another process"):
            job(tmp_path)
        seen.append((tmp_path / "refined.npy").exists())
        clear(self, *kept)

    monkeypatch.setattr(_journal.Journal, "clear", watched)
    job(tmp_path)
    assert seen[-1]


def test_a_lock_of_a_folder_that_was_just_removed_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(
        _journal.fcntl, "flock", lambda *_: shutil.rmtree(tmp_path / "refined.npy.progress")
    )
    with pytest.raises(FileError, match="another process"):
        job(tmp_path)


@pytest.mark.parametrize("removed", [1, 2, 3])
def test_goes_on_after_a_kill_while_the_folder_is_removed(tmp_path, monkeypatch, removed):
    """The result is complete, and what is left of the folder goes."""
    left, unlink = removed, Path.unlink

    def unlink_some(self, missing_ok=False):
        nonlocal left
        if (tmp_path / "refined.npy").exists():
            left -= 1
        if left < 0:
            raise PowerCut
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", unlink_some)
        with pytest.raises(PowerCut):
            job(tmp_path)
    assert (tmp_path / "refined.npy.progress").exists()
    with pytest.raises(FileError, match=r"refined\.npy exists"):
        job(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["refined.npy", "x.npy"]


@pytest.mark.parametrize("at", [("read", 3), ("refine", 7), ("refine", 20)])
def test_an_input_that_is_changed_meanwhile_is_refused(tmp_path, at):
    """Missing cells are filled from it, so the result would be of two inputs."""

    def change(stage, done, total):
        if (stage, done) == at:
            np.load(tmp_path / "x.npy", mmap_mode="r+")[10] += 1

    with pytest.raises(FileError, match=r"x\.npy was changed while it was refined"):
        job(tmp_path, progress=change)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_an_input_that_is_only_touched_meanwhile_is_taken(tmp_path, uninterrupted):
    def touch(stage, done, total):
        if (stage, done) == ("refine", 7):
            os.utime(tmp_path / "x.npy", (0, 0))

    assert job(tmp_path, progress=touch) == uninterrupted[0]
    np.testing.assert_array_equal(np.load(tmp_path / "refined.npy"), uninterrupted[1])


def test_what_progress_raises_is_its_own(tmp_path):
    def progress(stage, done, total):
        raise FileNotFoundError("my log")

    with pytest.raises(FileNotFoundError, match="my log"):
        job(tmp_path, progress=progress)


def test_going_on_is_promised_only_where_it_is_possible(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", refused)
        with pytest.raises(FileError, match=r"could not go on.*start the same again\.$"):
            job(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    interrupted(tmp_path)
    monkeypatch.setattr(np, "savez", refused)
    with pytest.raises(FileError, match=r"nothing is lost: mend that.*it goes on where it stopped"):
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
