"""The files of series on disk: kinds of arrays, full disks, truncated files."""

import errno
import os
import resource
import shutil
import subprocess

import numpy as np
import pytest

from denograd_jax import layouts, stream
from denograd_jax.errors import (
    FileError,
)
from denograd_jax.streaming import _arrays
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
