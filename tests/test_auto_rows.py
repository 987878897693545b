"""The rule "auto" for rows: noise is found in a table, taken off, and nothing gets worse."""

import numpy as np
import pandas as pd
import pytest

from denograd_jax import Fitted, Refinement, Status, datasets, fit, refine
from denograd_jax.errors import (
    BackboneError,
    ColumnError,
    DenogradError,
    FileError,
    UnsupportedError,
)

slow = pytest.mark.slow
X = ["a", "b", "c", "d", "e"]
COLUMNS = [*X, "y"]


def rank_two(n=1200, seed=0):
    """Two hidden numbers explain all columns; each has a standard deviation of 1."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 2)) @ rng.normal(size=(2, 6))
    return pd.DataFrame((rows - rows.mean(axis=0)) / rows.std(axis=0), columns=COLUMNS)


CLEAN = rank_two()
NOISY = CLEAN + 0.3 * np.random.default_rng(1).normal(size=CLEAN.shape)


def rms(frame):
    return float(np.sqrt(np.nanmean(np.asarray(frame, float) ** 2)))


def ratio(refined, given, clean=CLEAN):
    """Error after, by error before."""
    return rms(refined - clean) / rms(given - clean)


@pytest.fixture(scope="module")
def refined():
    return refine(NOISY, "y", rule="auto")


@pytest.fixture(scope="module")
def told():
    """What a refinement costs is mostly the search for the noise."""
    return refine(NOISY, "y", rule="auto", noise_scale=0.3)


@pytest.fixture(scope="module")
def mixture():
    return fit(NOISY[:1000], "y", model="mixture")


def test_noise_becomes_less_in_every_column(refined):
    assert ratio(refined.data, NOISY) < 0.75
    for column in COLUMNS:
        assert rms(refined.data[column] - CLEAN[column]) < 0.85 * rms(NOISY[column] - CLEAN[column])
    assert refined.status is Status.converged
    assert refined.steps == 1
    assert refined.kind == "rows"
    assert not refined.look_ahead
    assert "standard deviations found" in refined.settings["noise"]
    assert "in 6 of 6 columns" in refined.settings["noise"]
    assert refined.settings["model"] == "mixture of Gaussians, fitted to this data"
    assert refined.settings["rule"] == "auto"
    assert "because the rule auto takes one, by the noise (" in refined.summary()
    pd.testing.assert_frame_equal(refined.before, NOISY)


def test_residuals_are_those_of_the_mixtures_prediction(refined):
    """The columns explain the target better than noise in both would let the best linear model."""
    before, after = refined.residuals["before"], refined.residuals["after"]
    linear = np.linalg.lstsq(NOISY[X], NOISY["y"], rcond=None)[0]
    assert rms(before) == pytest.approx(rms(NOISY[X] @ linear - NOISY["y"]), rel=0.1)
    assert rms(after) < 0.7 * rms(before)


@slow
def test_little_noise_becomes_less():
    given = CLEAN + 0.1 * np.random.default_rng(1).normal(size=CLEAN.shape)
    assert ratio(refine(given, "y", rule="auto").data, given) < 0.75


def test_clean_rows_hardly_move_and_the_summary_says_why():
    refined = refine(CLEAN, "y", rule="auto")
    assert rms(refined.data - CLEAN) < 0.02
    assert "none that could be told from the signal" in refined.summary()


@pytest.mark.parametrize(
    "kind",
    ["lattice", *(pytest.param(k, marks=slow) for k in ("circle", "clusters", "tails", "curved"))],
)
def test_other_clean_rows_hardly_move(kind):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 6, size=1200)
    x = rng.normal(size=(1200, 3))
    rows = {
        "lattice": lambda: np.clip(np.round(CLEAN[["a", "b", "y"]]), -1, 2),
        "circle": lambda: np.column_stack([np.sin(angle), np.cos(angle), angle]),
        "clusters": lambda: 9.0 * (rng.integers(3, size=(1200, 1)) == [0, 1, 2]) + 0.1 * x,
        "tails": lambda: rng.standard_t(2, size=(1200, 1)) * [1, 2, -1],
        "curved": lambda: np.column_stack([x[:, :2], x[:, 0] ** 2 + x[:, 1]]),
    }[kind]()
    frame = pd.DataFrame(np.asarray(rows), columns=["a", "b", "y"])
    refined = refine(frame, "y", rule="auto").data
    assert rms((refined - frame) / frame.std()) < 0.05


def test_a_column_that_was_recorded_exactly_does_not_move():
    """Three levels of a hidden number, among noisy columns."""
    given = NOISY.assign(b=np.clip(np.round(CLEAN["b"]), -1, 1))
    refined = refine(given, "y", rule="auto").data
    pd.testing.assert_series_equal(refined["b"], given["b"])
    others = [c for c in COLUMNS if c != "b"]
    assert ratio(refined[others], given[others], CLEAN[others]) < 0.85


@slow
@pytest.mark.parametrize("scale", [0.1, 0.3])
def test_real_rows(scale):
    """Houses: noise on all numbers but codes and dates, in the logarithm of the price as well."""
    about, frame = datasets.describe("lucas_county"), datasets.load("lucas_county")
    frame = frame.sample(4000, random_state=0, ignore_index=True)
    columns = [c for c in frame.select_dtypes("number") if c not in about.frozen]
    clean = frame[columns].astype(float)
    clean = (clean - clean.mean()) / clean.std()
    given = clean + scale * np.random.default_rng(0).normal(size=clean.shape)
    refined = refine(given, about.target, rule="auto").data
    assert ratio(refined, given, clean) < 1
    still = refine(clean, about.target, rule="auto").data
    assert rms(still - clean) < 0.1


# Missing cells, other columns, several targets


def test_missing_cells_stay_missing_and_their_rows_still_move():
    rng = np.random.default_rng(2)
    holed = NOISY.mask(rng.random(NOISY.shape) < 0.1)
    holed.loc[3] = np.nan
    holed.loc[4, X] = np.nan
    refined = refine(holed, "y", rule="auto")
    pd.testing.assert_frame_equal(refined.data.isna(), holed.isna())
    assert ratio(refined.data, holed) < 0.8
    gaps = holed.isna().any(axis=1) & (holed.notna().sum(axis=1) > 3)
    assert ratio(refined.data[gaps], holed[gaps], CLEAN[gaps]) < 0.8
    untold = holed["y"].isna() & (holed.notna().sum(axis=1) > 3)
    assert ratio(refined.data.loc[untold, X], holed.loc[untold, X], CLEAN.loc[untold, X]) < 0.85
    assert refined.residuals["label"].isin(holed.index[holed["y"].notna()]).all()


@pytest.mark.parametrize(
    "kind",
    ["whole rows", *(pytest.param(k, marks=slow) for k in ("the target", "beside a lattice"))],
)
def test_many_missing_cells_do_not_hide_the_noise(kind):
    """What is filled in repeats, and would look like values that were recorded exactly."""
    rng = np.random.default_rng(2)
    gone = rng.random(len(NOISY)) < 0.25
    given = NOISY.copy()
    if kind == "whole rows":
        given.loc[gone] = np.nan
    else:
        given.loc[gone, "y"] = np.nan
    if kind == "beside a lattice":
        given["a"] = np.round(given["a"] * 3) / 3
    refined = refine(given, "y", rule="auto")
    assert ratio(refined.data, given) < 0.8
    assert np.isfinite(refined.data[~gone]).all(axis=None)


def test_a_missing_cell_informs_no_other_beyond_its_expectation(mixture):
    """Its place is taken by the conditional mean: the row moves as if that had been observed."""
    holed = NOISY[1000:].copy()
    holed["c"] = np.nan
    filled = holed.copy()
    z = (holed[COLUMNS] - mixture.schema.scaling.mean[0]) / mixture.schema.scaling.scale[0]
    spread, seen = mixture.noise.spread, [0, 1, 3, 4, 5]
    expected = z.to_numpy()[:, seen] @ np.linalg.solve(
        spread[np.ix_(seen, seen)], spread[np.ix_(seen, [2])]
    )
    filled["c"] = expected[:, 0] * mixture.schema.scaling.scale[0, 2]
    filled["c"] += mixture.schema.scaling.mean[0, 2]
    others = ["a", "b", "d", "e", "y"]
    pd.testing.assert_frame_equal(
        mixture.refine(holed, "y", rule="auto").data[others],
        mixture.refine(filled, "y", rule="auto").data[others],
        atol=1e-5,
    )


def test_other_columns_inform_and_stay():
    given = NOISY.assign(
        kind=np.where(CLEAN["a"] > 0, "high", "low"),
        flag=CLEAN["b"] > 0,
        one=(CLEAN["c"] > 0).astype(int),
        two=np.where(CLEAN["c"] > 1, 7.5, 2.5),
        when=pd.date_range("2024-01-01", periods=1200),
        same=4.0,
        empty=np.nan,
    )
    refined = refine(given, "y", rule="auto")
    assert ratio(refined.data[COLUMNS], NOISY) < 0.75
    rest = ["kind", "flag", "one", "two", "when", "same", "empty"]
    pd.testing.assert_frame_equal(refined.data[rest], given[rest])
    assert "of 7 columns" in refined.settings["noise"]  # `two` was asked


def test_indicators_with_gaps_are_none_the_less_no_columns_of_the_density():
    one = pd.Series((CLEAN["c"] > 0).astype(float)).mask(CLEAN["a"] > 1)
    found = fit(NOISY.assign(one=one), "y", model="mixture").noise
    assert found.columns.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.variance[6] == 0


def test_several_targets(told):
    several = refine(NOISY, ["y", "b"], rule="auto", noise_scale=0.3)
    # The density is the same, whatever of it is a target, but for where the fit ended.
    assert ratio(several.data, NOISY) < 0.7
    assert rms(several.data - told.data) < 0.1
    assert set(several.residuals["target"]) == {"y", "b"}
    holed = NOISY.assign(y=NOISY["y"].mask(CLEAN["a"] > 1))
    again = refine(holed, ["y", "b"], rule="auto").data
    pd.testing.assert_frame_equal(again.isna(), holed.isna())
    assert ratio(again, holed) < 0.75


@pytest.mark.parametrize(
    "columns", [["kind", "flag", "y"], ["one", "y"], ["two", "y"]], ids=["text", "0/1", "2 levels"]
)
def test_tables_without_another_number(columns):
    """The target's own distribution is all there is, and the rest stays."""
    rng = np.random.default_rng(0)
    given = pd.DataFrame(
        {
            "kind": rng.choice(["p", "q", "r"], size=400),
            "flag": rng.random(400) < 0.5,
            "one": rng.integers(0, 2, size=400),
            "two": rng.choice([1.0, 5.0], size=400),
            "y": rng.choice([-3.0, 3.0], size=400) + 0.2 * rng.normal(size=400),
        }
    )[columns]
    told = {"y": 0.2, "two": 0.0} if "two" in columns else {"y": 0.2}
    refined = refine(given, "y", rule="auto", noise_scale=told).data
    rest = columns[:-1]
    pd.testing.assert_frame_equal(refined[rest], given[rest])
    assert rms(refined["y"].abs() - 3) < 0.3 * rms(given["y"].abs() - 3)
    refine(given, "y", rule="auto")  # noise not told


# Noise that is told


def test_told_noise_goes_before_what_is_found(refined, told):
    assert ratio(told.data, NOISY) < ratio(refined.data, NOISY)
    assert told.settings["noise"] == "given"
    cells = refine(NOISY, "y", rule="auto", noise_scale=np.full(NOISY.shape, 0.3))
    pd.testing.assert_frame_equal(cells.data, told.data, atol=1e-5)


def test_columns_and_cells_without_noise_do_not_move():
    known = {**dict.fromkeys(COLUMNS, 0.3), "b": 0}
    given = NOISY.assign(b=CLEAN["b"])
    refined = refine(given, "y", rule="auto", noise_scale=known).data
    pd.testing.assert_series_equal(refined["b"], given["b"])
    others = [c for c in COLUMNS if c != "b"]
    exact = ratio(refined[others], given[others], CLEAN[others])
    assert exact < 0.6  # what is known for certain helps the others
    cells = np.full(NOISY.shape, 0.3)
    cells[::2] = 0
    half = refine(NOISY, "y", rule="auto", noise_scale=cells).data
    pd.testing.assert_frame_equal(half[::2], NOISY[::2])
    assert ratio(half[1::2], NOISY[1::2], CLEAN[1::2]) < 0.8


def test_no_cell_moves_further_than_noise_could():
    given = NOISY.copy()
    given.loc[7, "a"] = 80.0
    refined = refine(given, "y", rule="auto", noise_scale=0.3)
    assert refined.changes["change"].abs().max() <= 0.9 + 1e-5
    assert rms(refined.data.drop(index=7) - CLEAN.drop(index=7)) < 0.75 * 0.3


# Models


@pytest.mark.parametrize(
    "kind", ["mlp", *(pytest.param(k, marks=slow) for k in ("linear", "sklearn", "function"))]
)
def test_other_models_of_the_target(kind):
    def halves(row):
        return 0.5 * row[:1]

    if kind == "sklearn":
        linear_model = pytest.importorskip("sklearn.linear_model")
        model = linear_model.LinearRegression().fit(NOISY[X].to_numpy(), NOISY["y"])
    else:
        model = {"mlp": "mlp", "linear": "linear", "function": halves}[kind]
    options = {"max_epochs": 3} if kind == "mlp" else {}
    refined = refine(NOISY, "y", rule="auto", model=model, **options)
    assert ratio(refined.data, NOISY) < 0.8
    assert "standard deviations found" in refined.settings["noise"]
    if kind != "mlp":
        assert rms(refine(CLEAN, "y", rule="auto", model=model).data - CLEAN) < 0.05


def test_yesterdays_density_refines_today(mixture):
    """Nothing is learnt from today: each row comes out the same in whatever company."""
    today = NOISY[1000:]
    found = mixture.refine(today, "y", rule="auto")
    assert ratio(found.data, today, CLEAN[1000:]) < 0.75
    alone = mixture.refine(today[5:6], "y", rule="auto").data
    pd.testing.assert_frame_equal(alone, found.data[5:6], atol=1e-5)
    extra = today.assign(more=1.0)[["more", *reversed(COLUMNS)]]
    again = mixture.refine(extra, "y", rule="auto").data
    pd.testing.assert_frame_equal(again[COLUMNS], found.data, atol=1e-5)


@pytest.mark.parametrize("rule", [pytest.param("unit_step", marks=slow), "gauss_newton"])
def test_other_rules_with_the_mixture(rule):
    refined = refine(NOISY, "y", model="mixture", rule=rule)
    assert refined.settings["rule"] == rule
    assert "standard deviations found" in refined.settings["noise"]
    assert 0.5 < ratio(refined.data, NOISY) < 1
    residuals = refined.residuals
    assert rms(residuals["after"]) < rms(residuals["before"])
    filled = refined.fitted.refine(NOISY.mask(NOISY > 2), "y", rule=rule, impute=True).data
    assert np.isfinite(filled).all(axis=None)


def test_more_noise_than_was_found_widens_the_density(mixture):
    """Of rows that clean ones taught, components are as narrow as nothing noisy could be."""
    found = fit(CLEAN[:500], "y", model="mixture").noise
    wide = found.blurred(np.full((1, 6), 0.3))
    assert (np.linalg.eigvalsh(found.covariances).min(axis=1) < 0.01).all()
    assert (np.linalg.eigvalsh(wide.covariances) >= 0.09 - 1e-9).all()
    assert wide.residuals[0, 0] == pytest.approx(found.residuals[0, 0] + 0.09)
    same = mixture.noise.blurred(mixture.noise.scale)
    np.testing.assert_allclose(same.covariances, mixture.noise.covariances)


@pytest.mark.parametrize("taught", [CLEAN[:500], NOISY[:500]], ids=["clean", "noisy"])
def test_more_noise_than_the_model_was_fitted_to_does_no_harm(taught):
    told = fit(taught, "y", model="mixture").refine(NOISY[1000:], "y", rule="auto", noise_scale=0.5)
    assert ratio(told.data, NOISY[1000:], CLEAN[1000:]) < 0.9


# Folders


@pytest.mark.parametrize("target", ["y", pytest.param(["y", "b"], marks=slow)])
def test_a_mixture_in_a_folder(mixture, tmp_path, target):
    given = NOISY.assign(kind=np.where(CLEAN["a"] > 0, "high", None), one=(CLEAN["c"] > 0) * 1)
    given.loc[::7, "d"] = np.nan
    fitted = mixture if target == "y" else fit(given[:1000], target, model="mixture")
    today = given[1000:]
    fitted.save(tmp_path / "model")
    loaded = Fitted.load(tmp_path / "model")
    assert repr(loaded) == repr(fitted)
    assert loaded.backbone == "mixture"
    assert loaded.settings == fitted.settings
    for found, saved in zip(loaded.noise, fitted.noise, strict=True):
        np.testing.assert_array_equal(found, saved)
    for options in ({"rule": "auto"}, {"impute": True}, {"rule": "auto", "noise_scale": 0.2}):
        pd.testing.assert_frame_equal(
            loaded.refine(today, target, **options).data,
            fitted.refine(today, target, **options).data,
        )
    loaded.save(tmp_path / "again")
    one, two = (np.load(tmp_path / name / "arrays.npz") for name in ("model", "again"))
    assert one.files == two.files
    for name in one.files:
        np.testing.assert_array_equal(one[name], two[name])


def test_a_refinement_in_a_folder(refined, tmp_path):
    refined.save(tmp_path / "done")
    loaded = Refinement.load(tmp_path / "done")
    pd.testing.assert_frame_equal(loaded.data, refined.data)
    pd.testing.assert_frame_equal(loaded.changes, refined.changes)
    assert loaded.summary() == refined.summary()
    new = rank_two(seed=5)[:300]
    pd.testing.assert_frame_equal(
        loaded.fitted.refine(new, "y", rule="auto").data,
        refined.fitted.refine(new, "y", rule="auto").data,
    )


def test_a_refinement_by_a_given_model_in_a_folder(tmp_path):
    refined = refine(NOISY[:400], "y", rule="auto", model=lambda row: row[:1], noise_scale=0.3)
    refined.save(tmp_path / "done")
    loaded = Refinement.load(tmp_path / "done")
    pd.testing.assert_frame_equal(loaded.data, refined.data)
    assert loaded.summary() == refined.summary()
    with pytest.raises(UnsupportedError):
        loaded.fitted.refine(NOISY[:400], "y", rule="auto")


@slow
def test_a_trained_backbone_is_saved_with_the_density(tmp_path):
    refined = refine(NOISY, "y", rule="auto", model="mlp", max_epochs=2)
    refined.fitted.save(tmp_path / "model")
    loaded = Fitted.load(tmp_path / "model")
    pd.testing.assert_frame_equal(
        loaded.refine(NOISY, "y", rule="auto").data, refined.data, atol=1e-6
    )
    assert loaded.backbone == "mlp"


def test_a_folder_without_its_density(mixture, tmp_path):
    from denograd_jax._frames import _saved

    record, arrays = _saved.as_plain(mixture)
    left = {k: v for k, v in arrays.items() if k != "noise weights"}
    with pytest.raises((KeyError, ValueError)):
        _saved.from_saved(record, left)
    with pytest.raises(FileError):
        Fitted.load(tmp_path)


# What may not move


def test_frozen_columns_and_rows_bounds_and_largest_changes():
    rows = (np.arange(1200) < 300) & NOISY["a"].between(-1, 1).to_numpy()
    refined = refine(
        NOISY,
        "y",
        rule="auto",
        noise_scale=0.3,
        frozen=["b"],
        frozen_rows=rows,
        bounds={"a": (-1.0, 1.0)},
        max_change={"c": 0.1, "d": 5.0},
    )
    moved = refined.data != NOISY
    pd.testing.assert_series_equal(refined.data["b"], NOISY["b"])
    pd.testing.assert_frame_equal(
        refined.data.loc[rows, ["c", "d", "e", "y"]], NOISY.loc[rows, ["c", "d", "e", "y"]]
    )
    assert moved.loc[~rows, ["c", "d", "e", "y"]].to_numpy().mean() > 0.99
    assert refined.data.loc[~rows, "a"].between(-1, 1).all()
    change = (refined.data - NOISY).abs()
    assert change["c"].max() <= 0.1 * NOISY["c"].std() * 1.01
    assert change["d"].max() > 0.2
    free = ["d", "e", "y"]
    assert ratio(refined.data.loc[~rows, free], NOISY[~rows], CLEAN[~rows]) < 0.9


def test_whole_numbers():
    given = (10 * NOISY).round().astype(int)
    options = {"rule": "auto", "noise_scale": 3.1}
    floats = refine(given, "y", **options).data
    whole = refine(given, "y", integer=True, **options).data
    assert floats.dtypes.eq(np.float64).all()
    pd.testing.assert_series_equal(whole.dtypes, given.dtypes)
    assert ratio(floats, given, 10 * CLEAN) < 0.75
    assert ratio(whole, given, 10 * CLEAN) < 0.8
    assert np.abs(whole - floats).max(axis=None) <= 0.5 + 1e-4


def test_the_same_twice_dry_or_not(refined, told):
    again = refine(NOISY, "y", rule="auto", seed=0)
    pd.testing.assert_frame_equal(again.data, refined.data)
    dry = refine(NOISY, "y", rule="auto", noise_scale=0.3, dry_run=True)
    pd.testing.assert_frame_equal(dry.data, NOISY)
    pd.testing.assert_frame_equal(dry.changes, told.changes)


@slow
def test_another_seed_is_hardly_another_result(refined):
    other = refine(NOISY, "y", rule="auto", seed=3)
    assert 0 < rms(other.data - refined.data) < 0.1


# Containers and units


@slow
def test_no_unit_matters(refined):
    scale, shift = np.array([40.0, 1e-3, 1.0, 1e5, 7.0, 1e200]), np.array([0, 5.0, -3, 1e6, 1, 0])
    other = refine(NOISY * scale + shift, "y", rule="auto").data
    # Sums are rounded otherwise, and expectation-maximisation carries that on.
    np.testing.assert_allclose((other - shift) / scale, refined.data, atol=1e-3)


def test_arrays_polars_and_a_target_apart(told):
    options = {"rule": "auto", "noise_scale": 0.3}
    values = refine(NOISY.to_numpy(), 5, **options).data
    np.testing.assert_allclose(values, told.data, atol=1e-6)
    apart = refine(NOISY[X], NOISY["y"].to_numpy(), **options)
    np.testing.assert_allclose(apart.target, told.data["y"], atol=1e-6)
    np.testing.assert_allclose(apart.data, told.data[X], atol=1e-6)
    polars = pytest.importorskip("polars")
    frame = refine(polars.from_pandas(NOISY), "y", **options).data
    assert isinstance(frame, polars.DataFrame)
    np.testing.assert_allclose(frame.to_numpy(), told.data, atol=1e-6)


def test_groups_in_units_of_their_own():
    """Of two groups in other units each is refined by the density of both in its own."""
    group = np.where(np.arange(1200) % 3 == 0, "p", "q")
    unit = np.where(group == "p", 1.0, 50.0)[:, None]
    given = (NOISY * unit + unit).assign(g=group)
    clean = CLEAN * unit + unit
    refined = refine(given, "y", rule="auto", groups="g", scale="group").data
    pd.testing.assert_series_equal(refined["g"], given["g"])
    for name in "pq":
        members = group == name
        assert ratio(refined.loc[members, COLUMNS], given[COLUMNS][members], clean[members]) < 0.75


# Tables as they come


TABLES = {
    "five rows": lambda: NOISY[:5],
    "two rows": lambda: NOISY[:2],
    "a constant target": lambda: NOISY.assign(y=3.0),
    "duplicate columns": lambda: NOISY.assign(a2=NOISY["a"], y2=NOISY["y"]),
    "each row twenty times": lambda: pd.concat([NOISY[:60]] * 20, ignore_index=True),
    "more columns than components": lambda: pd.DataFrame(
        np.random.default_rng(0).normal(size=(150, 60))
    ).rename(columns={0: "y"}),
    "mostly zeros": lambda: NOISY.assign(a=NOISY["a"].where(CLEAN["b"] > 1.3, 0.0)),
    "heavy tails": lambda: pd.DataFrame(
        np.random.default_rng(0).standard_t(2, size=(1200, 3)), columns=["a", "b", "y"]
    ),
    "huge": lambda: NOISY * 1e200,
    "tiny": lambda: NOISY * 1e-200,
    "one cell that is huge": lambda: NOISY.assign(a=NOISY["a"].where(NOISY.index != 3, 1e200)),
    "a column with two values": lambda: NOISY.assign(z=NOISY["a"].where(NOISY.index < 2)),
    "one column and the target": lambda: NOISY[["a", "y"]],
    "single precision": lambda: NOISY.astype("float32"),
}


QUICK = {"five rows", "a constant target", "mostly zeros"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=slow) for name in TABLES]
)
def test_tables_as_they_come(name):
    """No error, no new gap, and no cell that goes further than noise found could take it."""
    given = TABLES[name]()
    refined = refine(given, "y", rule="auto")
    pd.testing.assert_frame_equal(refined.data.isna(), given.isna())
    assert refined.changes["sigmas"].abs().max() < 3 * 0.5 or refined.changes.empty
    moved = refined.data.ne(given) & given.notna()
    assert not moved.loc[:, given.nunique() < 3].any(axis=None)
    assert np.isfinite(refined.residuals[["before", "after"]]).all(axis=None)
    refined.summary()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": None}, "rows need a target"),
        ({"impute": True}, "fills no missing cell"),
        ({"causal": True}, "rows have no order"),
        ({"step_size": 0.1}, "leave step_size out"),
        ({"max_steps": 3}, "leave max_steps out"),
        ({"target": COLUMNS}, "no column besides the target"),
        ({"noise_scale": 0.0}, "nothing to refine"),
        ({"model": "mixtures"}, "no backbone 'mixtures'"),
        ({"model": "mixture", "window": 4}, "no backbone 'mixture' for windows"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(DenogradError, match=words) as caught:
        refine(NOISY[:100], **{"target": "y", "rule": "auto", **options})
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UnsupportedError | ColumnError | BackboneError | DenogradError)


def test_all_rows_equal():
    with pytest.raises(ColumnError, match="no column can move"):
        refine(pd.DataFrame(np.ones((50, 3)), columns=["a", "b", "y"]), "y", rule="auto")
