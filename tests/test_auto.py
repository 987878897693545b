"""The rule "auto": noise is found in a series, taken off, and nothing gets worse."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from denograd_jax import Fitted, OnlineRefiner, Status, datasets, fit, refine
from denograd_jax.errors import DenogradError, UnsupportedError

COLUMNS = ["temp", "dewp", "humid", "pressure", "wind_speed"]


@pytest.fixture(scope="module")
def weather():
    """Real, hourly, complete; in standard deviations."""
    frame = datasets.load("nyc_weather_2013")
    frame = frame[frame["origin"] == "EWR"].reset_index(drop=True)[COLUMNS].ffill().astype(float)
    return ((frame - frame.mean()) / frame.std(ddof=0)).iloc[:3000]


@pytest.fixture(scope="module")
def refined(weather):
    """With noise of 0.3 standard deviations, which several tests look at."""
    return refine(noisy(weather, 0.3), window=24, rule="auto")


def noisy(frame, scale, seed=0):
    return frame + scale * np.random.default_rng(seed).normal(size=frame.shape)


def rms(frame):
    return np.sqrt((frame**2).mean())


def ratio(refined, noisy_frame, clean):
    return rms((refined - clean).to_numpy()) / rms((noisy_frame - clean).to_numpy())


@pytest.mark.parametrize(("scale", "most"), [(0.1, 0.93), (0.3, 0.80)])
def test_noise_becomes_less(weather, refined, scale, most):
    given = noisy(weather, scale)
    refined = refined if scale == 0.3 else refine(given, window=24, rule="auto")
    assert ratio(refined.data, given, weather) < most
    assert (rms(refined.data - weather) / rms(given - weather) < 1.05).all()
    assert refined.status is Status.converged
    assert refined.steps == 1
    assert "standard deviations found in" in refined.settings["noise"]
    assert "linear backbone" in refined.settings["model"]
    assert "because the rule auto takes one, by the noise (" in refined.summary()


def test_clean_data_hardly_move(weather):
    refined = refine(weather, window=24, rule="auto")
    assert rms((refined.data - weather).to_numpy()) < 0.05


@pytest.mark.parametrize(
    "column", ["temp", *(pytest.param(c, marks=pytest.mark.slow) for c in COLUMNS[1:])]
)
def test_noise_in_one_column_harms_no_other(weather, column):
    given = weather.copy()
    given[column] = noisy(weather[[column]], 0.5)
    refined = refine(given, window=24, rule="auto").data
    assert rms(refined[column] - weather[column]) < 1.01 * rms(given[column] - weather[column])
    others = [c for c in COLUMNS if c != column]
    assert rms((refined - weather)[others].to_numpy()) < 0.05


@pytest.mark.parametrize("kind", ["laplace", "spikes", "some rows", "autoregressive"])
def test_other_noise_than_is_assumed_does_no_harm(weather, kind):
    rng = np.random.default_rng(0)
    normal = rng.normal(size=weather.shape)
    follows = np.zeros_like(normal)
    for t in range(1, len(normal)):
        follows[t] = 0.8 * follows[t - 1] + 0.6 * normal[t]
    noise = {
        "laplace": rng.laplace(size=weather.shape) * 0.3 / np.sqrt(2),
        "spikes": 5 * np.sign(normal) * (rng.random(weather.shape) < 0.02),
        "some rows": 0.3 * normal * (rng.random((len(weather), 1)) < 0.1),
        "autoregressive": 0.3 * follows,
    }[kind]
    given = weather + noise
    refined = refine(given, window=24, rule="auto").data
    assert ratio(refined, given, weather) <= {"spikes": 0.5, "laplace": 0.85}.get(kind, 1)
    assert (rms(refined - weather) < 1.05 * rms(given - weather)).all()


def test_known_noise_goes_before_what_is_found(weather, refined):
    given = noisy(weather, 0.3)
    told = refine(given, window=24, rule="auto", noise_scale=0.3)
    assert ratio(told.data, given, weather) < ratio(refined.data, given, weather)
    known = {**dict.fromkeys(COLUMNS, 0.3), "temp": 0}
    exact = refine(given, window=24, rule="auto", noise_scale=known)
    pd.testing.assert_series_equal(exact.data["temp"], given["temp"])
    assert ratio(exact.data, given, weather) < 1


def test_no_unit_matters(weather, refined):
    given = noisy(weather, 0.3)
    scale, shift = np.array([40.0, 1e-3, 1.0, 1e5, 7.0]), np.array([0.0, 5.0, -3.0, 1e6, 1.0])
    other = refine(given * scale + shift, window=24, rule="auto").data
    np.testing.assert_allclose((other - shift) / scale, refined.data, atol=1e-4)


def test_yesterdays_model_refines_today_and_is_saved(weather, tmp_path):
    """Nothing is learnt from today: not even how much noise there is."""
    given = noisy(weather, 0.3)
    fitted = fit(given[:2000], window=24, model="linear")
    today = given[2000:].reset_index(drop=True)
    refined = fitted.refine(today, rule="auto")
    assert ratio(refined.data, today, weather[2000:].reset_index(drop=True)) < 0.85
    fitted.save(tmp_path / "model")
    loaded = Fitted.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.refine(today, rule="auto").data, refined.data)
    less = fitted.refine(today[:500], rule="auto").data
    pd.testing.assert_frame_equal(less[:400], refined.data[:400], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("lag", [0, 3])
def test_without_look_ahead_a_prefix_is_refined_as_the_whole(weather, lag):
    given = noisy(weather, 0.3)[:900]
    options = {"window": 24, "rule": "auto", "causal": True, "lag": lag, "warm_up": 500}
    whole, part = refine(given, **options), refine(given[:700], **options)
    settled = 700 - lag
    pd.testing.assert_frame_equal(part.data[:settled], whole.data[:settled], atol=1e-6)
    assert ratio(whole.data[500:], given[500:], weather[500:900]) < 0.9


def test_rows_that_come_in_are_refined_as_in_the_batch(weather):
    given = noisy(weather, 0.3)
    fitted = fit(given[:500], window=24, model="linear")
    online = OnlineRefiner(fitted, rule="auto", lag=2)
    final = pd.concat([online.update(given[i : i + 20]).final for i in range(500, 600, 20)])
    batch = fitted.refine(given[500:600], rule="auto", causal=True, lag=2).data
    pd.testing.assert_frame_equal(final, batch[: len(final)], atol=1e-5)


@pytest.mark.slow
def test_missing_cells_gaps_groups_limits_and_a_target_apart(weather):
    given = noisy(weather, 0.3)[:600]
    given["where"] = np.repeat(["p", "q"], 300)
    given["time"] = pd.date_range("2024-01-01", periods=600, freq="h")
    given = given.drop(index=range(100, 110))
    given.loc[200:204, "temp"] = np.nan
    options = {"time": "time", "groups": "where", "window": 12, "bounds": {"humid": (-1.0, 1.0)}}
    refined = refine(given, rule="auto", max_change=0.2, **options)
    assert refined.data["temp"].isna().sum() == 5
    assert refined.data["humid"].between(-1, 1).all()
    assert refined.changes["sigmas"].abs().max() < 0.2 + 1e-6 or given["humid"].abs().max() > 1
    for name in ("p", "q"):
        alone = refined.data[given["where"] == name]
        assert np.isfinite(alone[["dewp", "wind_speed"]]).all(axis=None)
    apart = refine(given[["dewp", "temp"]], given["humid"], window=12, rule="auto")
    assert apart.target.shape == (590,)


def test_columns_that_are_mostly_missing_keep_no_other_from_being_refined(weather):
    given = noisy(weather, 0.3)
    rng = np.random.default_rng(1)
    holed = given.assign(wind_speed=given["wind_speed"].where(rng.random(len(given)) < 0.15))
    holed["temp"] = given["temp"].where(rng.random(len(given)) < 0.95)
    refined = refine(holed, window=24, rule="auto").data
    pd.testing.assert_frame_equal(refined.isna(), holed.isna())
    for column in ("temp", "dewp", "pressure"):
        seen = holed[column].notna()
        before, after = (rms((f[column] - weather[column])[seen]) for f in (holed, refined))
        assert after < 0.7 * before


def test_a_gross_error_pulls_its_neighbours_no_further_than_noise_could(weather):
    given = noisy(weather, 0.1)
    given.loc[1000, "temp"] = 500.0
    refined = refine(given, window=24, rule="auto", noise_scale=0.1)
    assert refined.changes["change"].abs().max() <= 0.3 + 1e-6
    others = refined.data.drop(index=1000), weather.drop(index=1000)
    assert np.abs(others[0] - others[1]).max(axis=None) < 0.3 + 0.5


def test_a_panel_of_series_hardly_longer_than_a_window():
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 60, size=100)
    clean = [pd.DataFrame({"v": np.sin((np.arange(40) + p) / 10)}) for p in phase]
    given = [frame + 0.3 * rng.normal(size=frame.shape) for frame in clean]
    refined = refine(given, window=24, rule="auto").data
    after, before = (
        rms(np.concatenate([f - c for f, c in zip(frames, clean, strict=True)]))
        for frames in (refined, given)
    )
    assert after < 0.85 * before


@pytest.mark.slow
def test_another_model_than_the_linear_one(weather):
    given = noisy(weather, 0.3)[:1500]
    trained = refine(given, window=12, rule="auto", model="mlp", max_epochs=5)
    assert ratio(trained.data, given, weather[:1500]) < 0.95
    last = refine(given, window=2, rule="auto", model=lambda window: 0.9 * window[-1])
    assert ratio(last.data, given, weather[:1500]) < 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": 4, "impute": True}, "fills no missing cell"),
        ({"window": 4, "step_size": 0.1}, "leave step_size out"),
        ({"window": 4, "tolerance": 0.1}, "leave tolerance out"),
        ({"window": 4, "max_steps": 3}, "leave max_steps out"),
        ({"window": 4, "rule": "automatic"}, '"auto", "unit_step"'),
    ],
)
def test_refusals(weather, options, words):
    with pytest.raises(DenogradError, match=words) as caught:
        refine(weather[:100], **{"rule": "auto", **options})
    assert "\n" not in str(caught.value)


def test_a_model_that_was_fitted_without_a_look_at_the_noise(weather):
    """As one that was saved by a version that did not look."""
    fitted = dataclasses.replace(fit(weather[:200], window=4, model="linear"), noise=None)
    with pytest.raises(UnsupportedError, match="without a look at the noise"):
        fitted.refine(weather[:200], rule="auto")


@pytest.mark.slow
def test_the_same_twice(weather, refined):
    again = refine(noisy(weather, 0.3), window=24, rule="auto")
    pd.testing.assert_frame_equal(again.data, refined.data)


@pytest.mark.parametrize("told", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_noisy_channel_beside_exact_ones(told):
    """They explain each other so well that an autoregression's score is far larger than its slope.

    With steps as long as the noise's variance the told case ends 2.4 times as far off as it was.
    """
    rng = np.random.default_rng(0)
    t = np.arange(1500)[:, None]
    waves = np.sin(2 * np.pi * t / np.array([24, 24, 168, 60]) + rng.uniform(0, 6, 4))
    clean = waves @ rng.normal(size=(4, 4))
    clean = (clean - clean.mean(axis=0)) / clean.std(axis=0)
    noisy = clean.copy()
    noisy[:, 0] += 0.3 * np.random.default_rng(1).normal(size=len(clean))
    scale = {"a": 0.3, "b": 0, "c": 0, "d": 0} if told else None
    found = refine(pd.DataFrame(noisy, columns=list("abcd")), window=24, noise_scale=scale)
    before, after = (
        np.sqrt(((z - clean) ** 2).mean(axis=0)) for z in (noisy, found.data.to_numpy())
    )
    assert after[0] < 0.95 * before[0]
    assert (after[1:] < 0.02).all()
