"""The shipped data sets and the noise that the demo adds to them."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from denograd_jax import datasets
from denograd_jax.errors import ColumnError, DataError


@pytest.fixture(scope="module")
def lucas():
    return datasets.load("lucas_county")


@pytest.fixture(scope="module")
def weather():
    return datasets.load("nyc_weather_2013")


def test_lucas_county_is_whole_without_the_assessors_value(lucas):
    assert lucas.shape == (25_357, 23)
    assert not lucas.isna().any().any()
    assert "avalue" not in lucas
    for column in ("stories", "wall", "garage", "syear"):
        assert isinstance(lucas[column].dtype, pd.CategoricalDtype)
    assert set(lucas["syear"].cat.categories) == set(range(1993, 1999))
    assert lucas["price"].dtype == np.int64
    assert lucas["age"].dtype == np.float32
    # Summary of spData::house.
    assert lucas["price"].mean() == pytest.approx(79_017.943881)
    assert lucas["TLA"].max() == 7616


def test_documented_facts_of_lucas_county_hold(lucas):
    sold = pd.to_datetime("19" + lucas["sdate"].astype(str), format="%Y%m%d")
    assert (sold.dt.year == lucas["syear"].astype(int)).all()
    assert np.allclose(lucas["age"], (1999 - lucas["yrbuilt"]) / 100)


def test_weather_is_a_panel_of_three_ordered_series(weather):
    assert weather.shape == (26_115, 15)
    assert weather["time_hour"].dtype.tz is not None
    assert weather["time_hour"].iloc[0] == pd.Timestamp("2013-01-01T06:00Z")
    assert weather["temp"].dtype == np.float32
    assert weather["temp"].iloc[0] == np.float32(39.02)
    assert weather["wind_gust"].isna().sum() == 20_778
    assert weather["wind_speed"].max() == pytest.approx(1048.36, abs=0.01)
    for _, series in weather.groupby("origin"):
        assert (series["time_hour"].diff().dropna() > pd.Timedelta(0)).all()
    assert weather["origin"].nunique() == 3


@pytest.mark.parametrize("name", datasets.names())
def test_description_names_columns_that_exist(name):
    about, frame = datasets.describe(name), datasets.load(name)
    roles = [about.target, about.time, about.groups, *about.frozen]
    assert {role for role in roles if role is not None} <= set(frame.columns)
    assert about.name == name
    assert about.licence == "CC0-1.0"
    assert (about.window is None) == (about.time is None)


def test_each_load_is_a_new_frame(lucas):
    lucas_again = datasets.load("lucas_county")
    lucas_again.loc[0, "price"] = -1
    assert datasets.load("lucas_county").loc[0, "price"] == lucas.loc[0, "price"] == 303_000


def test_an_unknown_data_set_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match="lucas_county, nyc_weather_2013"):
        datasets.load("iris")


def test_importing_the_module_does_not_import_pandas():
    code = "import sys, denograd_jax.datasets; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_noise_has_the_size_asked_for_in_the_named_columns_only(weather):
    before = weather.copy()
    noisy = datasets.add_noise(weather, 0.3, columns=["temp", "wind_gust"], seed=1)
    pd.testing.assert_frame_equal(weather, before)
    pd.testing.assert_frame_equal(
        noisy.drop(columns=["temp", "wind_gust"]), weather.drop(columns=["temp", "wind_gust"])
    )
    for column in ("temp", "wind_gust"):
        noise = (noisy[column] - weather[column]).dropna() / weather[column].std()
        # Standard errors of the mean and the deviation of n draws: 0.3/sqrt(n), 0.3/sqrt(2n).
        assert noise.mean() == pytest.approx(0, abs=4 * 0.3 / np.sqrt(len(noise)))
        assert noise.std() == pytest.approx(0.3, abs=4 * 0.3 / np.sqrt(2 * len(noise)))
        assert noisy[column].isna().equals(weather[column].isna())
        assert noisy[column].dtype == weather[column].dtype


def test_noise_is_reproducible_and_makes_integers_floats(lucas):
    noisy = datasets.add_noise(lucas, 0.1, columns=["price"], seed=5)
    again = datasets.add_noise(lucas, 0.1, columns=["price"], seed=5)
    other = datasets.add_noise(lucas, 0.1, columns=["price"], seed=6)
    assert noisy["price"].dtype == np.float64
    pd.testing.assert_frame_equal(noisy, again)
    assert not noisy["price"].equals(other["price"])
    assert list(noisy.columns) == list(lucas.columns)


def test_noise_on_nullable_and_on_empty_columns():
    frame = pd.DataFrame(
        {"count": pd.array([1, None, 5], dtype="Int32"), "none": [np.nan, np.nan, np.nan]},
        index=["a", "b", "c"],
    )
    noisy = datasets.add_noise(frame, 1.0, columns=["count", "none"], seed=0)
    assert noisy["count"].isna().tolist() == [False, True, False]
    assert noisy["none"].isna().all()
    assert noisy.index.equals(frame.index)


@pytest.mark.parametrize("scale", [-0.1, np.nan, np.inf])
def test_a_scale_that_is_no_size_is_refused(lucas, scale):
    with pytest.raises(DataError, match="scale"):
        datasets.add_noise(lucas, scale, columns=["price"], seed=0)


@pytest.mark.parametrize(("column", "message"), [("nope", "no column"), ("wall", "category")])
def test_columns_that_cannot_be_noisy_are_refused(lucas, column, message):
    with pytest.raises(ColumnError, match=message):
        datasets.add_noise(lucas, 0.1, columns=[column], seed=0)
