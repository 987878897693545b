"""Results and models in folders: there and back, and what happens to damaged ones."""

import contextlib
import json
import os
import pickle
import zipfile

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from denograd_jax import Fitted, Refinement, Status, fit, refine
from denograd_jax.errors import DataError, FileError, UnsupportedError

ROWS = 16
RNG = np.random.default_rng(11)
VALUES = RNG.normal(size=(ROWS, 3)).cumsum(axis=0)


def total(x):
    return x.sum()


def ahead(window):
    return window.mean(axis=0) + 0.3 * (window[-1] - window[0])


OPTIONS = {"max_steps": 2, "step_size": 0.2, "tolerance": 0.0}


def frame(columns=("a", "b", "y"), **more):
    return pd.DataFrame(VALUES, columns=pd.Index(columns, tupleize_cols=False)).assign(**more)


def rich():
    """Columns and index of many types, with cells missing."""
    result = frame(
        n=pd.array([None, *range(ROWS - 1)], dtype="Int16") * 7 % 5,
        h=VALUES[:, 0].astype("float16"),
        kind=pd.Categorical([*"pq", None, "p"] * 4, ["q", "p", "unused"], ordered=True),
        text=[*"rst", None] * 4,
        flag=pd.array([True, None] * 8, dtype="boolean"),
        when=pd.date_range("2020-03-29", periods=ROWS, freq="h", tz="Europe/Madrid"),
        week=pd.period_range("2020", periods=ROWS, freq="W"),
        took=pd.to_timedelta(np.arange(ROWS), "s"),
    )
    result.loc[4, "a"] = np.nan
    return result


def polars():
    return pytest.importorskip("polars")


def xarray():
    return pytest.importorskip("xarray")


HOURS = pd.date_range("2020-03-28 20:00", periods=ROWS, freq="h", tz="Europe/Madrid", name="time")
LEVELS = pd.MultiIndex.from_product([["x", "z"], range(8)], names=["house", None])


def dataset():
    return xarray().Dataset(
        {"u": ("time", VALUES[:, 0], {"units": "K"}), "v": ("time", VALUES[:, 1])},
        coords={"time": HOURS.tz_localize(None), "station": "Uccle"},
        attrs={"source": "made up", "version": 3},
    )


GIVEN = {
    "rich": lambda: (rich(), "y"),
    "time zone as index": lambda: (frame().set_index(HOURS), "y"),
    "levels": lambda: (frame().set_index(LEVELS), "y"),
    "text as index": lambda: (frame().set_axis([f"row {i % 9}" for i in range(ROWS)]), "y"),
    "numbers as index": lambda: (frame().set_axis(np.arange(ROWS)[::-1] * 3), "y"),
    "numbers as labels": lambda: (frame((0, 7, -1)), -1),
    "tuples as labels": lambda: (frame((("a", 1), ("b", 2), ("y", 3))), ("y", 3)),
    "levels of columns": lambda: (
        pd.DataFrame(
            VALUES, columns=pd.MultiIndex.from_product([["k"], list("aby")], names=["g", "h"])
        ),
        ("k", "y"),
    ),
    "labels of all kinds": lambda: (frame(("a", 1, ("y", 2.5))), ("y", 2.5)),
    "named columns": lambda: (frame().rename_axis(columns="what"), "y"),
    "several targets": lambda: (frame(), ["b", "y"]),
    "apart": lambda: (frame()[["a", "b"]], frame()["y"]),
    "arrow": lambda: (frame().convert_dtypes(dtype_backend="pyarrow"), "y"),
    "array": lambda: (VALUES.astype(np.float32), 2),
    "big-endian integers": lambda: ((VALUES * 90).astype(">i4"), 2),
    "array apart": lambda: (VALUES[:, :2], VALUES[:, 2]),
    "polars": lambda: (polars().from_pandas(rich().drop(columns=["week", "h"])), "y"),
    "polars apart": lambda: (
        polars().from_pandas(frame()[["a", "b"]]),
        polars().Series("other", VALUES[:, 2]),
    ),
    "panel of frames": lambda: ([frame()[:9], frame()[9:]], "y"),
    "panel by name": lambda: ({"p": VALUES[:9], 3: VALUES[9:]}, 2),
    "xarray": lambda: (dataset(), "v"),
    "xarray array": lambda: (
        xarray().DataArray(VALUES, dims=("row", "what"), coords={"what": list("aby")}, name="d"),
        "y",
    ),
}


def assert_same_container(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, list | dict):
        assert list(found) == list(expected) if isinstance(expected, dict) else True
        parts = zip(found, expected, strict=True)
        if isinstance(expected, dict):
            parts = zip(found.values(), expected.values(), strict=True)
        for one, other in parts:
            assert_same_container(one, other)
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(found, expected, check_exact=True)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected, strict=True)
    elif hasattr(expected, "identical"):
        assert found.identical(expected)
    else:
        assert expected is None or found.equals(expected)
        if expected is not None and hasattr(expected, "schema"):
            assert found.schema == expected.schema


def assert_same(loaded, result):
    assert_same_container(loaded.data, result.data)
    assert_same_container(loaded.target, result.target)
    for part in ("before", "after", "residuals", "changes", "gaps"):
        pd.testing.assert_frame_equal(
            getattr(loaded, part), getattr(result, part), check_exact=True
        )
    for part in ("status", "steps", "kind", "look_ahead", "lag", "notes", "dry_run"):
        assert getattr(loaded, part) == getattr(result, part), part
    assert loaded.status.advice == Status(result.status).advice
    assert loaded.summary() == result.summary()
    assert loaded.provenance == result.provenance
    assert loaded.settings == result.settings
    for part in ("unit", "time", "groups"):
        np.testing.assert_array_equal(getattr(loaded, part), getattr(result, part))
    for found, expected in zip(loaded.evidence, result.evidence, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", GIVEN)
def test_a_refinement_there_and_back(kind, tmp_path):
    data, target = GIVEN[kind]()
    several = kind == "several targets"
    model = (lambda x: x.sum() * np.ones(2, np.float32)) if several else total
    result = refine(data, target, model=model, **OPTIONS)
    result.save(tmp_path / "r")
    loaded = Refinement.load(tmp_path / "r")
    assert_same(loaded, result)
    half = np.arange(len(result.changes)) % 2 == 0
    some, others = loaded.accept(half), result.accept(half)
    assert_same_container(some.data, others.data)
    some.save(tmp_path / "some")
    assert_same(Refinement.load(tmp_path / "some"), others)
    back = loaded.reject(np.ones(len(result.changes), bool))
    assert_same_container(
        back.data, refine(data, target, model=model, dry_run=True, **OPTIONS).data
    )
    apart = {"target": target} if "apart" in kind else {}
    with pytest.raises(UnsupportedError, match="was given and not saved with it"):
        loaded.fitted.refine(data, rule="unit_step", **apart)
    with pytest.raises(UnsupportedError, match="saved by its own library"):
        loaded.fitted.save(tmp_path / "f")


SERIES = {
    "with gaps": {"time": "t", "data": lambda: frame(t=[*range(8), *range(12, 20)])},
    "groups": {"groups": "g", "data": lambda: frame(g=["p"] * 8 + ["q"] * 8)},
    "a list": {"data": lambda: [VALUES[:9], VALUES[9:]]},
    "causal": {"causal": True, "lag": 2, "warm_up": 6, "data": frame},
    "dry": {"dry_run": True, "data": frame},
    "limits": {
        "bounds": {"a": (-0.3, 0.7)},
        "integer": "b",
        "max_change": 0.3,
        "impute": True,
        "data": lambda: frame(a=pd.array([None, *VALUES[1:, 0]], dtype="Float32")),
    },
    "one series": {"data": lambda: pd.Series(VALUES[:, 0], HOURS, name=("temperature", 3))},
    "one array": {"data": lambda: VALUES[:, 0]},
    "xarray": {"data": lambda: dataset()["u"]},
}


@pytest.mark.parametrize("kind", SERIES)
def test_a_series_there_and_back(kind, tmp_path):
    options = dict(SERIES[kind])
    data = options.pop("data")()
    result = refine(data, window=3, model=ahead, **OPTIONS | options)
    result.save(tmp_path / "r")
    assert_same(Refinement.load(tmp_path / "r"), result)


@pytest.fixture(scope="module")
def trained():
    """A model of rows that has seen text, and its data."""
    train = frame(kind=[*"pqr", None] * 4, flag=[True, False] * 8, **{"w": np.arange(ROWS) % 3})
    return fit(train, "y", frozen="w", max_epochs=1)


def newer(rows=10):
    values = np.random.default_rng(5).normal(size=(rows, 3))
    new = pd.DataFrame(values, columns=list("yba"))
    return new.assign(kind=(["q", "never seen"] * rows)[:rows], w=1.5, flag=True, more="passed")


def test_a_fitted_model_refines_new_data_to_the_bit(trained, tmp_path):
    trained.save(tmp_path / "f")
    loaded = Fitted.load(tmp_path / "f")
    for options in ({}, {"noise_scale": 0.2, "impute": True}):
        found, expected = (f.refine(newer(), **OPTIONS | options) for f in (loaded, trained))
        assert_same(found, expected)
    assert (found.data["a"] != newer()["a"]).any()
    pd.testing.assert_frame_equal(found.data[["kind", "w", "more"]], newer()[["kind", "w", "more"]])
    assert repr(loaded) == repr(trained)
    found.save(tmp_path / "r")
    again = Refinement.load(tmp_path / "r")
    assert_same(again, found)
    assert_same(again.fitted.refine(newer(), **OPTIONS), trained.refine(newer(), **OPTIONS))
    again.fitted.save(tmp_path / "second")
    assert_same(
        Fitted.load(tmp_path / "second").refine(newer(), **OPTIONS),
        trained.refine(newer(), **OPTIONS),
    )


@pytest.mark.slow
def test_a_fitted_series_keeps_its_groups_times_and_labels(tmp_path):
    data = pd.DataFrame(VALUES[:, :2], columns=pd.Index([0, ("b", 1)], tupleize_cols=False))
    data["t"] = [*range(8), *range(8)]
    data["g"] = ["p"] * 8 + ["q"] * 8
    options = {"window": 3, "time": "t", "groups": "g", "irregular": "segment", "scale": "group"}
    fitted = fit(data, ("b", 1), max_epochs=1, **options)
    fitted.save(tmp_path / "f")
    loaded = Fitted.load(tmp_path / "f")
    assert loaded.design == fitted.design
    assert loaded.schema.step == fitted.schema.step == 1
    one = data[data["g"] == "q"].drop(index=11)
    for causal in (False, True):
        moves = OPTIONS | {"causal": causal}
        assert_same(loaded.refine(one, **moves), fitted.refine(one, **moves))
    with pytest.raises(DataError, match="group 'z' was not in the data"):
        loaded.refine(one.assign(g="z"))


@pytest.fixture(scope="module")
def folders(trained, tmp_path_factory):
    """A saved model and a saved refinement, to be copied and damaged."""
    folder = tmp_path_factory.mktemp("saved")
    trained.save(folder / "f")
    trained.refine(newer(), **OPTIONS).save(folder / "r")
    return {Fitted: folder / "f", Refinement: folder / "r"}


def files(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def write(folder, contents):
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def assert_refused(kind, folder, words="is damaged|holds no"):
    with pytest.raises(FileError, match=words) as caught:
        kind.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_folder_holds_plain_files_only(folders):
    for folder in folders.values():
        for name, content in files(folder).items():
            assert name.endswith((".json", ".npz", ".parquet")) or name == "SHA256SUMS"
            assert not content.startswith(b"\x80")
            if name.endswith(".npz"):
                with zipfile.ZipFile(folder / name) as archive:
                    assert all(member.endswith(".npy") for member in archive.namelist())
                with np.load(folder / name, allow_pickle=False) as arrays:
                    assert all(not arrays[key].dtype.hasobject for key in arrays.files)


@pytest.mark.parametrize("kind", [pytest.param(Fitted, marks=pytest.mark.slow), Refinement])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_refused(kind, folders, tmp_path_factory, data):
    """Cut short, one bit flipped, emptied, or gone: never anything but one clear line."""
    contents = files(folders[kind])
    name = data.draw(st.sampled_from(sorted(contents)))
    content = contents[name]
    place = data.draw(st.integers(0, len(content) - 1))
    damage = data.draw(st.sampled_from(["cut", "flip", "empty", "gone"]))
    if damage == "gone":
        del contents[name]
    elif damage == "empty":
        contents[name] = b""
    elif damage == "cut":
        contents[name] = content[:place]
    else:
        flipped = content[place] ^ (1 << data.draw(st.integers(0, 7)))
        contents[name] = content[:place] + bytes([flipped]) + content[place + 1 :]
    folder = write(tmp_path_factory.mktemp("damaged") / "d", contents)
    assert_refused(kind, folder, "damaged|holds no|holds a|is of version")


WRONG = st.sampled_from([None, -1, 1.5, "text", [], {}, [[]], {"tuple": 3}, {"time": "x"}, True])


def leaves(value, path=()):
    """Where there is something in a JSON document."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))


@pytest.mark.parametrize("kind", [pytest.param(Fitted, marks=pytest.mark.slow), Refinement])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_wrong_types_in_a_record_are_refused_or_harmless(kind, folders, tmp_path_factory, data):
    """Someone wrote it by hand, sums and all."""
    from denograd_jax._frames._folders import SUMS, _sums

    contents = files(folders[kind])
    about = json.loads(contents["about.json"])
    path = data.draw(st.sampled_from([p for p in leaves(about) if p]))
    place = about
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = data.draw(WRONG)
    contents["about.json"] = json.dumps(about).encode()
    folder = write(tmp_path_factory.mktemp("wrong") / "w", contents)
    (folder / SUMS).write_text(_sums(folder))
    with contextlib.suppress(FileError):  # any other error fails the test
        assert isinstance(kind.load(folder), kind)


def test_other_kinds_and_versions_are_told_apart(folders, tmp_path):
    assert_refused(Refinement, folders[Fitted], "holds a 'fitted model of denograd-jax', not a ref")
    assert_refused(Fitted, folders[Refinement], "not a fitted model")
    assert_refused(Fitted, tmp_path / "nowhere", "is no folder")
    (tmp_path / "file").write_text("x")
    assert_refused(Fitted, tmp_path / "file", "is no folder")
    (tmp_path / "empty").mkdir()
    assert_refused(Refinement, tmp_path / "empty", "holds no refinement")
    contents = files(folders[Fitted])
    newer_version = json.loads(contents["about.json"]) | {"version": 99}
    contents["about.json"] = json.dumps(newer_version).encode()
    assert_refused(Fitted, write(tmp_path / "newer", contents), "is of version 99.*upgrade it")
    for number, text in enumerate(
        ["[" * 100_000, "null", '{"format": 1}', '{"version": Infinity}']
    ):
        contents["about.json"] = text.encode()
        assert_refused(Fitted, write(tmp_path / f"text {number}", contents), "holds no fitted")


def test_sums_that_are_missing_or_no_text(folders, tmp_path):
    contents = files(folders[Fitted])
    sums = contents.pop("SHA256SUMS")
    assert_refused(Fitted, write(tmp_path / "a", contents), "a is damaged: SHA256SUMS is missing.$")
    contents["SHA256SUMS"] = b"\xff" + sums
    words = "b is damaged: SHA256SUMS cannot be read as text.$"
    assert_refused(Fitted, write(tmp_path / "b", contents), words)
    contents |= {"SHA256SUMS": sums, "arrays.npz": b""}
    words = "c is damaged: arrays.npz is missing or not as it was written.$"
    assert_refused(Fitted, write(tmp_path / "c", contents), words)


def test_unknown_options_are_named(trained):
    with pytest.raises(UnsupportedError, match="no option 'foo' here: choose from rule, step_size"):
        trained.refine(newer(), foo=1)


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (os.mkdir, (str(self.file),))


def test_a_pickle_in_the_folder_is_not_opened(folders, tmp_path):
    from denograd_jax._frames._folders import SUMS, _sums

    contents = files(folders[Fitted])
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    folder = write(tmp_path / "f", contents)
    np.savez(folder / "arrays.npz", mean=trap)
    (folder / SUMS).write_text(_sums(folder))
    assert_refused(Fitted, folder, "damaged: ValueError: Object arrays cannot be loaded")
    (folder / "arrays.npz").write_bytes(pickle.dumps(trap))
    (folder / SUMS).write_text(_sums(folder))
    assert_refused(Fitted, folder, "damaged")
    assert not (tmp_path / "sprung").exists()


def test_files_of_others_beside_ours_do_not_matter(folders, tmp_path):
    contents = files(folders[Fitted]) | {".DS_Store": b"x", "notes.txt": b"y"}
    assert Fitted.load(write(tmp_path / "f", contents)).seed == 0


def test_what_is_there_is_not_overwritten_unless_asked(trained, tmp_path):
    trained.save(tmp_path / "f")
    before = files(tmp_path / "f")
    with pytest.raises(FileError, match="exists: choose another name, or set overwrite"):
        trained.save(tmp_path / "f")
    trained.save(tmp_path / "f", overwrite=True)
    assert files(tmp_path / "f").keys() == before.keys()
    result = trained.refine(newer(), **OPTIONS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    (tmp_path / "file").write_text("x")
    for taken in ("mine", "file", "f"):
        with pytest.raises(FileError, match="exists and holds no refinement"):
            result.save(tmp_path / taken, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"
    with pytest.raises(FileError, match="does not exist: create it first"):
        result.save(tmp_path / "no" / "where")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "file", "mine"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), MemoryError])
@pytest.mark.parametrize("at", ["arrays", "record", "the first move", "the last move"])
def test_an_interrupted_save_leaves_what_was_there(trained, tmp_path, monkeypatch, error, at):
    from denograd_jax._frames import _folders, _saved

    trained.save(tmp_path / "f")
    before = files(tmp_path / "f")
    rename, moves = _folders.Path.rename, []

    def interrupt(*_, **__):
        raise error

    def move(path, to):
        moves.append(path)
        if len(moves) == {"the first move": 1, "the last move": 2}[at]:
            interrupt()
        return rename(path, to)

    with monkeypatch.context() as patched:
        if at == "arrays":
            patched.setattr(_saved, "write_arrays", interrupt)
        elif at == "record":
            patched.setattr(_folders.json, "dumps", interrupt)
        else:
            patched.setattr(_folders.Path, "rename", move)
        kind = FileError if isinstance(error, OSError) else error
        with pytest.raises(kind):
            trained.save(tmp_path / "f", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert files(tmp_path / "f") == before


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: frame(o=[[i] if i % 2 else {"k": i} for i in range(ROWS)]), "cannot be saved"),
        (lambda: frame(o=pd.Series([2**70, -(2**70)] * 8, dtype=object)), "cannot be saved"),
        (lambda: frame(o=pd.Series([1j, 2j] * 8)), "cannot be saved"),
        (lambda: frame(("a", pd.Timedelta("1h"), "y")), "cannot be saved as text"),
        (lambda: frame().set_axis([object() for _ in range(ROWS)]), "cannot be saved"),
    ],
)
def test_what_no_file_can_hold_is_refused_in_one_line(data, words, tmp_path):
    result = refine(data(), "y", model=total, **OPTIONS)
    with pytest.raises(UnsupportedError, match=words) as caught:
        result.save(tmp_path / "r")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_loading_compiles_no_more_than_refining(trained, tmp_path):
    """The loaded model is the same function to JAX: what was compiled for it is there."""
    from tests.compilations import count_compilations

    trained.save(tmp_path / "f")
    trained.refine(newer(), **OPTIONS)
    loaded = Fitted.load(tmp_path / "f")
    assert count_compilations(lambda: loaded.refine(newer(), **OPTIONS)) == 0
    assert jax.tree.structure(loaded.model.params) == jax.tree.structure(trained.model.params)
