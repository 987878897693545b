"""The rule "auto" for rows with models of several kinds, of yesterday, and from folders."""

import numpy as np
import pandas as pd
import pytest

from denograd_jax import Fitted, Refinement, fit, refine
from denograd_jax.errors import FileError, UnsupportedError
from tests.rank_two import CLEAN, COLUMNS, NOISY, X, rank_two, ratio, rms

slow = pytest.mark.slow


@slow
@pytest.mark.parametrize("kind", ["mlp", "linear", "sklearn", "function"])
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


@pytest.mark.slow
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


@slow
@pytest.mark.parametrize("rule", ["unit_step", "gauss_newton"])
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


@pytest.mark.parametrize(
    "taught", [CLEAN[:500], pytest.param(NOISY[:500], marks=slow)], ids=["clean", "noisy"]
)
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


@pytest.mark.slow
def test_a_refinement_in_a_folder(refined_rows, tmp_path):
    refined_rows.save(tmp_path / "done")
    loaded = Refinement.load(tmp_path / "done")
    pd.testing.assert_frame_equal(loaded.data, refined_rows.data)
    pd.testing.assert_frame_equal(loaded.changes, refined_rows.changes)
    assert loaded.summary() == refined_rows.summary()
    new = rank_two(seed=5)[:300]
    pd.testing.assert_frame_equal(
        loaded.fitted.refine(new, "y", rule="auto").data,
        refined_rows.fitted.refine(new, "y", rule="auto").data,
    )


@slow
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


@pytest.mark.slow
def test_a_folder_without_its_density(mixture, tmp_path):
    from denograd_jax._frames import _saved

    record, arrays = _saved.as_plain(mixture)
    left = {k: v for k, v in arrays.items() if k != "noise weights"}
    with pytest.raises((KeyError, ValueError)):
        _saved.from_saved(record, left)
    with pytest.raises(FileError):
        Fitted.load(tmp_path)
