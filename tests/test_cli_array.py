"""The command for series larger than memory: arrays in and out, kills, and what it refuses."""

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from denograd_jax import backbones, layouts, refiner, rules, run
from denograd_jax.cli import _refine_array, main
from denograd_jax.errors import FileError
from denograd_jax.streaming import _arrays, _work
from denograd_jax.streaming._journal import Journal

OPTIONS = "--window 8 --max-epochs 4 --max-steps 4 --block-steps 250 --sample-steps 700"
CHILD = "from tests.test_cli_array import child; import sys; child(sys.argv[1])"


def clean_series():
    t = np.arange(1100)
    wave, other = 20 + 5 * np.sin(t / 9), 1e4 + 8 * np.cos(t / 6)
    return np.stack([wave, other, t // 100 % 2, np.full(len(t), 3.0)], axis=1)


def noisy_series():
    """Two columns with noise and gaps, an indicator, and a constant."""
    rng = np.random.default_rng(0)
    noisy = clean_series()
    noisy[:, :2] += 0.3 * noisy[:, :2].std(axis=0) * rng.normal(size=(len(noisy), 2))
    noisy[rng.random(noisy.shape) < 0.03] = np.nan
    return noisy


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A series, alone in the current folder."""
    monkeypatch.chdir(tmp_path)
    np.save("noisy.npy", noisy_series())
    return Path("noisy.npy")


@pytest.fixture
def calls(monkeypatch):
    """The jobs that are carried out."""
    seen, carry_out = [], _refine_array.carry_out

    def record(job, *where, **how):
        seen.append(job)
        return carry_out(job, *where, **how)

    monkeypatch.setattr(_refine_array, "carry_out", record)
    return seen


@pytest.fixture
def untrained(monkeypatch):
    """No training: the backbone keeps its first weights."""

    def train_backbone(name, problem, data, *, seed, max_epochs, progress):
        seen.append({"name": name, "problem": problem, "seed": seed, "max_epochs": max_epochs})
        progress(1, 1)
        shape = (problem.layout.length, problem.x.shape[1])
        rngs = _refine_array.nnx.Rngs(seed)
        module = backbones.build(name, input_shape=shape, outputs=len(problem.targets), rngs=rngs)
        model, loss = backbones.as_pure(module), np.zeros(1)
        return backbones.Trained(model, loss, loss, 0, 1)

    seen = []
    monkeypatch.setattr(_refine_array, "train_backbone", train_backbone)
    return seen


def repair(*more):
    return main(["refine-array", "noisy.npy", "refined.npy", *OPTIONS.split(), *map(str, more)])


def refusal(capsys, *arguments):
    """The one line that is left of a mistake."""
    assert main(["refine-array", *map(str, arguments)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("denograd-jax: ")
    return output.err


def listing():
    return sorted(path.name for path in Path().iterdir())


def test_repairs_a_series_as_in_memory(source, calls, capsys):
    assert repair("--max-steps", 12) == 0
    noisy, refined = np.load(source), np.load("refined.npy")
    errors = [
        np.sqrt(np.nanmean((a - clean_series())[:, :2] ** 2, axis=0)) for a in (noisy, refined)
    ]
    assert (errors[1] < 0.97 * errors[0]).all()
    np.testing.assert_array_equal(np.isnan(refined), np.isnan(noisy))
    np.testing.assert_array_equal(refined[:, 2:], noisy[:, 2:])

    (job,) = calls
    mean, scale = np.nanmean(noisy, axis=0), np.nanstd(noisy, axis=0)
    scale[3] = 1  # the constant
    z = ((noisy - mean) / scale).astype("float32")
    r = refiner(job.model, rules.unit_step(0.05, 0.1), layouts.windows(8, target_columns=(0, 1)))
    moves = ~np.isnan(z) & (np.arange(4) < 2)
    expected = run(r, job.model.params, r.init(z, movable_x=moves), 12)
    np.testing.assert_allclose((refined - mean) / scale, expected.x, rtol=0, atol=2e-6)

    printed = capsys.readouterr().out
    assert "1,100 steps x 4 columns (series): 12 steps of refinement" in printed
    assert "columns 2, 3." in printed
    assert printed.endswith("Wrote refined.npy.\n")
    assert listing() == ["noisy.npy", "refined.npy"]


def test_options_reach_the_training_and_the_stream(source, calls, untrained):
    options = (
        "--target 1 --freeze 0 --freeze 3 --horizon 2 --stride 3 --model gru --seed 5 "
        "--rule gauss_newton --step-size 0.2 --tolerance 0 --quiet"
    )
    assert repair(*options.split()) == 0
    (trained,) = untrained
    assert (trained["name"], trained["seed"], trained["max_epochs"]) == ("gru", 5, 4)
    (job,) = calls
    layout = layouts.windows(8, 2, 3, target_columns=(1,))
    assert trained["problem"].layout == job.layout == layout
    assert job.movable.tolist() == [False, True, False, False]  # 2 is an indicator
    assert job.rule.move is rules.gauss_newton().move
    assert job.rule.hyperparameters["step_size"] == 0.2
    assert (job.max_steps, job.block_steps) == (4, 252)  # whole strides
    refined = np.load("refined.npy")
    np.testing.assert_array_equal(refined[:, [0, 2, 3]], np.load(source)[:, [0, 2, 3]])
    assert np.nanmax(np.abs(refined - np.load(source))[:, 1]) > 0


def test_the_training_sample_is_spread_over_the_series(source, untrained):
    assert repair("--quiet") == 0
    problem = untrained[0]["problem"]
    stretches, steps = 9, 700 // 9  # 8 windows fit into a stretch
    assert problem.x.shape == (stretches * steps, 4)
    np.testing.assert_array_equal(np.bincount(problem.segments), np.full(stretches, steps))
    noisy = np.load(source)
    z = (noisy - np.nanmean(noisy, axis=0)) / [*np.nanstd(noisy, axis=0)[:3], 1]
    for number in range(stretches):
        begin = number * (1100 - steps) // (stretches - 1)
        found = problem.x[number * steps : (number + 1) * steps]
        np.testing.assert_allclose(found, z[begin : begin + steps], atol=1e-5)


def test_a_small_series_is_learnt_whole(source, untrained):
    assert repair("--sample-steps", 5000, "--quiet") == 0
    assert untrained[0]["problem"].x.shape == (1100, 4)
    assert not untrained[0]["problem"].segments.any()


def test_zarr_out(source, untrained):
    ts = pytest.importorskip("tensorstore")
    assert main(["refine-array", "noisy.npy", "refined.zarr", *OPTIONS.split(), "-q"]) == 0
    assert repair("-q") == 0
    store = ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": "refined.zarr"}})
    np.testing.assert_array_equal(store.result().read().result(), np.load("refined.npy"))


def child(folder):
    """Kill this process, with no chance to tidy up, while a block is half written."""
    os.chdir(folder)
    write, calls = _arrays.NpyFile.write, []

    def torn(self, begin, values):
        calls.append(begin)
        if len(calls) == 5 + 8:  # 5 blocks were copied; the third block of step 2
            write(self, begin, values[:100])
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, begin, values)

    _arrays.NpyFile.write = torn
    repair()


@pytest.mark.slow
def test_the_same_command_goes_on_after_kill_9(source, monkeypatch):
    command = [sys.executable, "-c", CHILD, str(Path.cwd())]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == -signal.SIGKILL
    assert listing() == ["noisy.npy", "refined.npy.progress"]
    with monkeypatch.context() as patched:
        patched.setattr(_refine_array, "train_backbone", None)  # the model is there already
        assert repair() == 0
    assert listing() == ["noisy.npy", "refined.npy"]
    resumed = np.load("refined.npy")
    assert repair("--overwrite") == 0
    np.testing.assert_array_equal(resumed, np.load("refined.npy"))


@pytest.fixture
def interruptible(monkeypatch):
    """Ctrl-C at a stage, the first time that it is reached."""

    def at(stage, number):
        class Interrupting(shown):
            def __call__(self, what, done, total):
                if (what, done) == (stage, number):
                    raise KeyboardInterrupt
                super().__call__(what, done, total)

        monkeypatch.setattr(_refine_array, "StageBar", Interrupting)

    shown = _refine_array.StageBar
    return at


def test_ctrl_c_while_refining_keeps_what_was_done(source, untrained, interruptible, capsys):
    interruptible("refine", 7)
    assert repair() == 130
    assert capsys.readouterr() == (
        "",
        "Interrupted; what was done is kept in refined.npy.progress: the same command goes on "
        "from there.\n",
    )
    says = refusal(capsys, "noisy.npy", "refined.npy", *OPTIONS.split(), "--seed", 1)
    assert "unfinished work that differs in seed (0, not 1)" in says
    says = refusal(capsys, "noisy.npy", "refined.npy", *OPTIONS.split(), "--step-size", 0.01)
    assert "unfinished work that differs in numbers of the rule" in says
    interruptible("refine", 20)
    assert repair() == 130
    assert len(untrained) == 1
    interruptible("read", 99)
    assert repair("--seed", 1, "--overwrite", "--quiet") == 0
    assert len(untrained) == 2
    assert listing() == ["noisy.npy", "refined.npy"]


def test_ctrl_c_before_that_leaves_nothing(source, untrained, interruptible, capsys):
    interruptible("train", 1)
    assert repair() == 130
    assert capsys.readouterr() == ("", "Interrupted; nothing was written.\n")
    assert listing() == ["noisy.npy"]


def test_ctrl_c_while_copying_keeps_the_model(source, untrained, interruptible, capsys):
    interruptible("read", 3)
    assert repair() == 130
    assert "what was done is kept in refined.npy.progress" in capsys.readouterr().err
    kept = sorted(path.name for path in Path("refined.npy.progress").iterdir())
    assert kept == ["lock", "model.npz"]
    interruptible("read", 99)
    assert repair("--quiet") == 0
    assert len(untrained) == 1


def test_ctrl_c_at_the_start_tells_of_unfinished_work(
    source, untrained, interruptible, monkeypatch, capsys
):
    interruptible("refine", 7)
    assert repair() == 130
    monkeypatch.setattr(_refine_array, "open_series", interrupt)
    capsys.readouterr()
    assert repair() == 130
    assert "what was done is kept in refined.npy.progress" in capsys.readouterr().err


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_ctrl_c_that_was_lost_is_noticed(source, untrained, monkeypatch, capsys):
    """As in JAX's callback of the garbage collector, where no exception comes out."""

    class Swallowing(_refine_array.StageBar):
        def __call__(self, what, done, total):
            if (what, done) == ("refine", 7):
                with contextlib.suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(_refine_array, "StageBar", Swallowing)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        assert repair() == 130
        assert "what was done is kept" in capsys.readouterr().err
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_output_is_looked_at_before_the_work(source, untrained, monkeypatch, capsys):
    usage = shutil.disk_usage(".")._replace(free=50_000)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: usage)
        says = refusal(capsys, "noisy.npy", "refined.npy", *OPTIONS.split())
        assert re.search(r"no room for refined\.npy .* it needs 5\d,\d+ bytes, 50,000 are", says)
    with Journal(Path("refined.npy")).held():
        assert "another process" in refusal(capsys, "noisy.npy", "refined.npy")
    assert not untrained
    assert listing() == ["noisy.npy"]


def test_other_processes_are_kept_off_while_it_trains(source, untrained, monkeypatch, capsys):
    def held_off(survey, learning):
        with pytest.raises(FileError, match="another process"), Journal(Path("refined.npy")).held():
            pass
        return still_columns(survey, learning)

    still_columns = _refine_array._still_columns
    monkeypatch.setattr(_refine_array, "_still_columns", held_off)
    assert repair("-q") == 0
    assert len(untrained) == 1


def test_the_model_outlives_a_full_disk(source, untrained, monkeypatch, capsys):
    def full(path, *_):
        raise _arrays.StorageError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(_work, "create_series", full)
        says = refusal(capsys, "noisy.npy", "refined.npy", *OPTIONS.split())
    assert "no room for refined.npy (No space left on device)" in says
    assert repair("-q") == 0
    assert len(untrained) == 1


def test_work_without_its_model_is_refused_before_the_training(
    source, untrained, interruptible, capsys
):
    interruptible("refine", 7)
    assert repair() == 130
    Path("refined.npy.progress/model.npz").unlink()
    capsys.readouterr()
    says = refusal(capsys, "noisy.npy", "refined.npy", *OPTIONS.split())
    assert "unfinished work that differs in its model" in says
    assert len(untrained) == 1


def test_refusals_speak_of_the_sample(source, untrained, capsys):
    says = refusal(capsys, "noisy.npy", "out.npy", "--window", 90, "--sample-steps", 90)
    assert "no window fits into a sample of 90 steps (--sample-steps)" in says
    assert "need 91" in says
    noisy = noisy_series()
    noisy[:800, 0] = np.nan
    np.save("noisy.npy", noisy)
    options = ["--target", "0", "--window", "50", "--sample-steps", "60"]
    says = refusal(capsys, "noisy.npy", "out.npy", *options)
    assert "nothing to learn from in the sample of 60 steps" in says
    assert not untrained
    assert listing() == ["noisy.npy"]


def test_a_constant_that_would_be_rounded_is_refused_before_the_training(source, untrained, capsys):
    x = np.stack([np.arange(1100) % 17, np.full(1100, 2**60 + 1)], axis=1)
    np.save("noisy.npy", x)
    says = refusal(capsys, "noisy.npy", "out.npy", *OPTIONS.split())
    assert "column 1 is not to be moved, but holds integers of 2**53" in says
    assert not untrained


def test_refusals_come_before_the_work(source, monkeypatch, capsys):
    monkeypatch.setattr(_refine_array, "train_backbone", None)
    np.save("taken.npy", np.zeros(3))
    assert "taken.npy exists" in refusal(capsys, "noisy.npy", "taken.npy")
    assert "never replaced" in refusal(capsys, "noisy.npy", "noisy.npy", "--overwrite")
    assert "no ending of an array" in refusal(capsys, "noisy.npy", "out.csv")
    assert "create it first" in refusal(capsys, "noisy.npy", "nowhere/out.npy")
    assert "does not exist" in refusal(capsys, "nothing.npy", "out.npy")

    def refuse(*options):
        return refusal(capsys, "noisy.npy", "out.npy", *options)

    assert "target column 4 is not among 4" in refuse("--target", 4)
    assert "frozen column 9 is not among 4" in refusal(
        capsys, "noisy.npy", "out.npy", "--freeze", 9
    )
    assert "no column can move" in refuse("--freeze", 0, "--freeze", 1)
    assert "no window fits" in refuse("--window", 1100)
    assert "no backbone 'big'" in refuse("--model", "big")
    assert "step_size" in refuse("--step-size", 0)
    assert "named twice in [0, 1, 0]" in refuse("--target", 0, "--target", 1, "--target", 0)
    assert "--seed" in refuse("--seed", -1)
    assert "--seed" in refuse("--seed", 2**32)
    assert listing() == ["noisy.npy", "taken.npy"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: os.truncate(path, 20_000), "is truncated"),
        (lambda path: path.write_text("no array"), "no .npy file"),
        (lambda path: np.save(path, np.zeros((4, 3, 2))), "(steps, columns)"),
        (lambda path: np.save(path, np.full((90, 2), "a")), "real numbers"),
        (lambda path: np.save(path, np.full((90, 2), np.inf)), "infinite value"),
        (lambda path: np.save(path, np.array([[1e200, 0]] * 45 + [[-1e200, 1]] * 45)), "too large"),
        (lambda path: np.save(path, np.full((90, 2), np.nan)), "every cell of noisy.npy is"),
    ],
)
def test_spoilt_inputs(source, capsys, spoil, says):
    spoil(source)
    assert says in refusal(capsys, "noisy.npy", "refined.npy", *OPTIONS.split())
    assert listing() == ["noisy.npy"]


def test_help_names_the_options(capsys):
    assert main(["refine-array", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "larger than memory" in printed
    assert "--block-steps" in printed
