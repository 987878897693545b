"""The files of series on disk: kinds of arrays, full disks, truncated files."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess

import numpy as np
import pytest

from denograd_jax import layouts, stream
from denograd_jax.errors import DataError, FileError, ShapeError
from denograd_jax.streaming import _arrays, _job
from tests.streams import (
    assert_same,
    interrupted,
    job,
    parameters,
    plain,
    plain_in_memory,
    predict,
    read_zarr,
    saved,
    series,
    zarr_of,
)


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


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64"])
def test_integers_that_do_not_move_keep_every_digit(tmp_path, dtype):
    """Float32 would round them."""
    x = np.stack([np.arange(120) % 7, 1_700_000_001 + 7 * np.arange(120)], axis=1).astype(dtype)
    source, refined = saved(tmp_path, x=x)[0], tmp_path / "refined.npy"
    stream(predict, source, refined, **plain(frozen=[1], mean=[3, 1.7e9], scale=[2, 500]))
    result = np.load(refined)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result[:, 1], x[:, 1])
    assert (result[:, 0] != x[:, 0]).any()


def test_integers_that_float64_would_round_are_refused(tmp_path):
    x = np.zeros((120, 2), np.int64)
    x[77, 1] = -(2**53) - 1
    source, refined = saved(tmp_path, x=x)[0], tmp_path / "refined.npy"
    more = {"scale": 1e16}
    with pytest.raises(DataError, match=r"column 1 is not to be moved, but holds integers of 2\*"):
        stream(predict, source, refined, **plain(frozen=[1], **more))
    stream(predict, source, refined, **plain(frozen=[0], **more))


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


def test_paths_of_zarr_may_be_relative(tmp_path, monkeypatch):
    zarr_of(tmp_path / "x.zarr", series(120, 2))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    stream(predict, "../x.zarr", "../refined.zarr", **plain(max_steps=0))
    assert_same(read_zarr(tmp_path / "refined.zarr"), series(120, 2), 0)


def test_a_link_to_a_zarr_array_is_replaced(tmp_path):
    old = zarr_of(tmp_path / "old.zarr", series(9, 2))
    (tmp_path / "refined.zarr").symlink_to(old)
    source = saved(tmp_path, x=series(120, 2))[0]
    stream(predict, source, tmp_path / "refined.zarr", **plain(max_steps=0), overwrite=True)
    assert_same(read_zarr(tmp_path / "refined.zarr"), series(120, 2), 0)
    assert_same(read_zarr(old), series(9, 2), 0)


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_read(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=3055)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    told = []
    with pytest.raises(FileError, match=r"needs 3,056 bytes, 3,055 are free"):
        job(tmp_path, progress=lambda *what: told.append(what))
    assert not told
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_a_full_disk_at_the_beginning_leaves_nothing_behind(tmp_path):
    np.save(tmp_path / "x.npy", series(230, 2, missing=0.1, seed=3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a quota: the system says EFBIG
    try:
        with pytest.raises(FileError, match=r"no room for .*refined\.npy.*needs 3,056 bytes"):
            job(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    job(tmp_path)


@pytest.mark.parametrize("victim", ["journal", "state"])
def test_a_full_disk_on_the_way_loses_nothing(tmp_path, monkeypatch, uninterrupted, victim):
    full = _arrays.StorageError(errno.ENOSPC, os.strerror(errno.ENOSPC))
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
        with pytest.raises(FileError, match=r"no room left.*nothing is lost: make room"):
            job(tmp_path)
    assert not list((tmp_path / "refined.npy.progress").glob("*.new"))
    assert job(tmp_path) == uninterrupted[0]
    np.testing.assert_array_equal(np.load(tmp_path / "refined.npy"), uninterrupted[1])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, and a function that enlarges it."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if shutil.which("mount") is None or not mount("size=256k"):
        pytest.skip("needs the right to mount a file system")
    yield place, lambda: mount("remount,size=4m")
    # Lazily: Zarr's own threads may still hold chunks open whose fellow has failed.
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("ending", [".npy", ".zarr"])
def test_a_disk_that_is_really_full(tmp_path, small_disk, ending):
    if ending == ".zarr":
        pytest.importorskip("tensorstore")
    place, enlarge = small_disk
    source = saved(tmp_path, x=series(10_000, 2))[0]  # 80 KB, and twice 40 KB in the journal

    def go(destination, **more):
        return stream(predict, source, destination, **plain(block_steps=5_000, **more))

    def fill(*_):
        with contextlib.suppress(OSError), (place / "ballast").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    fill()
    with pytest.raises(FileError, match=r"no room for .*: it needs 160,\d+ bytes, 0 are free"):
        go(place / f"refined{ending}")
    (place / "ballast").unlink()
    with pytest.raises(FileError, match=r"no room left.*nothing is lost"):
        go(place / f"refined{ending}", progress=lambda stage, *_: stage == "refine" and fill())
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


def header(text):
    """A .npy file of version 1 with such a header, and some cells."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)


@pytest.mark.filterwarnings("ignore")  # NumPy may guess at files of Python 2 first
@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", FileError, "no .npy file"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3)"), FileError, "no .npy"),
        (header("{'descr': '<f4', [('shape': (4, 3), }"), FileError, "no .npy file"),
        (header("{'descr': '<f4', 'fortran_order': False, {}: (4, 3), }"), FileError, "no .npy"),
        (header("{'descr': '<f3', 'fortran_order': False, 'shape': (4, 3)}"), FileError, "no .npy"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 3)}"), ShapeError, "not"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, -3)}"), ShapeError, "not"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 0)}"), ShapeError, "not"),
    ],
)
def test_damaged_headers(tmp_path, content, error, says):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(error, match=says):
        _arrays.open_series(tmp_path / "x.npy")


@pytest.mark.parametrize("about", [b"{", b"\xff", b"[]", b'{"node_type": "array"}'])
def test_damaged_descriptions_of_zarr(tmp_path, about):
    pytest.importorskip("tensorstore")
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "zarr.json").write_bytes(about)
    with pytest.raises(FileError, match=r"is damaged|no Zarr array"):
        _arrays.open_series(tmp_path / "x.zarr")


def test_more_columns_than_cells_of_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(_job, "BLOCK_CELLS", 1)
    source = saved(tmp_path, x=series(12, 2))[0]
    stream(predict, source, tmp_path / "r.npy", **plain(max_steps=0, block_steps=None))
    assert_same(np.load(tmp_path / "r.npy"), series(12, 2), 0)
