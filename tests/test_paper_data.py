"""Data of the paper's study: cuts without leakage, noisy copies, preparation, downloads."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

for module in ("matplotlib", "pyarrow", "rich", "scipy", "sklearn"):
    pytest.importorskip(module)

from benchmarks.paper import command, copies, data, examples, raw, sources
from tests.paper_data import KINDS, SIGMA, frame

PAGE = "https://archive.ics.uci.edu/dataset/880"


def test_tables_are_cut_at_random():
    numbered = frame("rows", 1000).assign(number=np.arange(1000.0))
    found = data.cut("made", "rows", "y", numbered, 42)
    train = found.learnt["number"][: found.training]
    validation = found.learnt["number"][found.training :]
    assert (len(train), len(validation), len(found.test)) == (700, 100, 200)
    parts = train, validation, found.test["number"]
    assert sorted(pd.concat(parts)) == list(range(1000))
    assert all(part.is_monotonic_increasing for part in parts)
    assert train.max() > 900
    assert not found.test.equals(data.cut("made", "rows", "y", numbered, 52).test)


def test_series_are_cut_in_time():
    numbered = frame("series", 1000).assign(number=np.arange(1000.0))
    found = data.cut("made", "series", "y", numbered, 42)
    assert found.training == 700
    assert found.learnt["number"].tolist() == list(range(800))
    assert found.test["number"].tolist() == list(range(800, 1000))


def test_units_are_those_of_the_training_rows():
    table = frame("series", 100).assign(late=np.arange(100.0) > 75)
    found = data.cut("made", "series", "y", table, 42)
    assert "late" not in found.learnt  # does not vary in them
    expected = table[["a", "b", "y"]][:70]
    np.testing.assert_allclose(found.mean, expected.mean())
    np.testing.assert_allclose(found.scale, expected.std(ddof=0))
    scaled = found.scaled(found.test)
    pd.testing.assert_frame_equal(found.unscaled(scaled), found.test)


def test_windows_do_not_reach_into_another_part():
    found = data.cut("made", "series", "y", frame("series"), 42)
    x, y, training = examples.learnt(found, found.learnt)
    values = found.scaled(found.learnt).astype(np.float32)
    assert (training, len(x)) == (210 - 24, 210 - 24 + 30 - 24)
    assert x.shape[1:] == (24, 3)
    np.testing.assert_array_equal(x[training - 1], values[185:209])
    assert y[training - 1] == values[209, 2]
    np.testing.assert_array_equal(x[training], values[210:234])
    assert y[training] == values[234, 2]


def test_rows_do_not_hold_their_target():
    found = data.cut("made", "rows", "y", frame("rows"), 42)
    x, y = examples.cut(found, found.test)
    np.testing.assert_allclose(np.column_stack([x, y]), found.scaled(found.test), rtol=1e-6)


def test_noise_has_its_scale_and_seed():
    clean = data.cut("made", "rows", "y", frame("rows", 20_000), 42)
    some, again, other = (copies.make(clean, SIGMA, s) for s in (42, 42, 52))
    for noisy, part in ((some.learnt, clean.learnt), (some.test, clean.test)):
        deviations = (noisy - part).std() / clean.scale
        np.testing.assert_allclose(deviations, 0.1, rtol=0.05)
    assert some.learnt.equals(again.learnt)
    assert not some.learnt.equals(other.learnt)
    stronger = copies.make(clean, KINDS["sigma 0.3"], 42)
    np.testing.assert_allclose(
        clean.scaled(stronger.learnt) - clean.scaled(clean.learnt),
        3 * (clean.scaled(some.learnt) - clean.scaled(clean.learnt)),
        atol=1e-9,
    )
    assert copies.make(clean, KINDS["sigma 0.0"], 42).test.equals(clean.test)


def test_pure_noise_for_target():
    clean = data.cut("made", "rows", "y", frame("rows", 2000), 42)
    control = copies.make(clean, copies.PURE_NOISE, 42)
    assert control.data.test.equals(control.test)
    assert control.learnt[["a", "b"]].equals(clean.learnt[["a", "b"]])
    assert abs(control.learnt.corr().loc["a", "y"]) < 0.1


def test_fetch(tmp_path, capsys, monkeypatch):
    published = tmp_path / "published.csv"
    published.write_text("date,HUFL,OT\n2016-07-01 00:00:00,1.5,2\n2016-07-01 01:00:00,3,4\n")
    here = dataclasses.replace(sources.SOURCES["ETTh1"], addresses=(published.as_uri(),))
    gone = dataclasses.replace(
        sources.SOURCES["parkinsons"], addresses=((tmp_path / "gone.csv").as_uri(),)
    )
    monkeypatch.setitem(sources.SOURCES, "ETTh1", here)
    monkeypatch.setitem(sources.SOURCES, "parkinsons", gone)
    folder = tmp_path / "data"
    folder.mkdir()
    wanted = ["ETTh1", "parkinsons", "house_prices"]
    for _ in range(2):
        with pytest.raises(SystemExit, match="1"):
            command.main(["fetch", str(folder), "--only-data", *wanted])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ETTh1: 2 rows of 2 columns"
    assert said[4] == "ETTh1: already there"
    assert said[1].startswith("parkinsons: not to be had: file:")
    assert said[2].startswith("house_prices: not to be had: no program may download it: get kc_")
    assert said[3] == f"1 of 3 in {folder}"
    assert data.names(folder) == ["ETTh1"]
    command.main(["fetch", str(folder), "--only-data", "ETTh1"])


def test_fetch_without_a_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nothing listens
    with pytest.raises(SystemExit, match="1"):
        command.main(["fetch", str(tmp_path), "--only-data", "support2"])
    said, summed = capsys.readouterr().out.splitlines()
    assert said.startswith("support2: not to be had: https://archive.ics.uci.edu/static/public/880")
    assert said.endswith(f"get support2.csv at {PAGE} into {tmp_path / 'raw'}")
    assert summed == f"0 of 1 in {tmp_path}"
    assert not list(tmp_path.rglob("*.csv"))


def written(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_preparation_of_tables(tmp_path):
    path = tmp_path / "raw.csv"
    sales = {"id": [7, 7, 8], "date": ["20150102", "20140102", "20140505"]}
    found = raw.house_prices(written(path, **sales, price=[2.0, 1, 3], grade=[5, 4, 6]))
    assert found.to_dict("list") == {"grade": [4, 6], "y": [1.0, 3.0]}

    sick = {"age": [50.0, 60, 70], "sex": ["f", "m", "m"], "hrt": [1.0, np.nan, 3]}
    found = raw.support2(written(path, **sick))
    assert found.to_dict("list") == {"hrt": [1.0, 3.0], "sex_m": [0, 1], "y": [50.0, 70.0]}

    assembly = {"Fuel 1": [1, 2], "K-inf.": [1.1, 1.2], "PPPF": [3, 4]}
    assert list(raw.lattice(written(path, **assembly))) == ["Fuel 1", "k-inf"]
    with pytest.raises(ValueError, match="no k-inf among a"):
        raw.lattice(written(path, a=[1]))


def test_preparation_of_flows(tmp_path):
    flows = {"no": [0, 1, 2], "proto": ["icmp", "tcp", "tcp"], "service": ["-", "dns", "dns"]}
    flows |= {"a": [1, 2, 2], "same": [2, 2, 2], "active.avg": [1.0, 2, 2], "active.max": [1, 2, 4]}
    flows |= {"idle.avg": [1, 2, 4], "Attack_type": ["x", "y", "y"]}
    found = raw.rt_iot2022(written(tmp_path / "raw.csv", **flows))
    assert list(found) == ["a", "proto_tcp", "service_dns", "y", "attack_type"]
    assert found["a"].tolist() == [1, 2]


def test_preparation_of_series(tmp_path):
    path = tmp_path / "raw.csv"
    written(path, Date=["4/2/2015 16:00:00", "4/4/2015 16:00:00"], Close=[1.0, 3])
    assert raw.microsoft_stock(path)["y"].tolist() == [1, 2, 3]

    import zipfile

    archive = tmp_path / "raw.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x.tsf", "@relation x\n@data\nT1:2012-01-01 00-00-01:1,2\nT2:2012:3,4\n")
    assert raw.ecl(archive).to_dict("list") == {"MT_000": [1, 2], "MT_001": [3, 4]}
