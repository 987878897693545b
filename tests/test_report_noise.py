"""The report: what it tells of noise and of classes."""

import re

import numpy as np
import pandas as pd
import pytest

from denograd_jax import Refinement, refine
from denograd_jax.report import _figures, _noise
from tests.report_pages import EVIL, Page, written
from tests.reports import classes_refinement, noise_refinement


@pytest.fixture(scope="module")
def noisy_table():
    """Four columns of one signal, with more noise in each than in the one before."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(600, 1))
    values = 100 * common + [20, 25, 30, 35] * rng.normal(size=(600, 4))
    return pd.DataFrame(values, columns=["a", "b", "c", "d"])


@pytest.fixture(scope="module")
def automatic(noisy_table):
    return refine(noisy_table, target="d", rule="auto")


@pytest.fixture(scope="module")
def by_given_model(noisy_table):
    return refine(noisy_table, "d", model=lambda x: x.sum(axis=-1, keepdims=True) / 3, rule="auto")


@pytest.mark.usefixtures("without_pictures")
def test_what_a_model_has_seen_is_told_of_one_that_was_given(tmp_path, by_given_model):
    text = Page(written(by_given_model, tmp_path)).sentences
    assert "Where the model has seen these very rows" in text


def cells_of_noise(page):
    """Lines of the table of noise; the page has no other of five columns."""
    first = next(i for i, row in enumerate(page.table_rows) if row[1:2] == ["noise"])
    lines = page.table_rows[first + 1 :]
    end = next(i for i, row in enumerate(lines) if row[1] == "one σ")
    return lines[:end]


@pytest.mark.slow
def test_the_noise_that_auto_found_is_told(tmp_path, automatic):
    page = Page(written(automatic, tmp_path))
    assert page.heading_ids[3:6] == ["corrections", "noise", "drift"]
    calibration = automatic.calibration
    sizes = calibration.noise["sigmas"]
    assert f"Noise of {sizes.min():.2g} to {sizes.max():.2g} standard" in page.sentences
    assert f"about {calibration.gain:.0%} of it should come off. That part is Stein's" in (
        page.sentences
    )
    assert "these very rows" not in page.sentences
    errors = np.sqrt((automatic.standard_errors**2).mean())
    assert (errors < calibration.noise["noise"]).all()
    lines = cells_of_noise(page)
    assert [line[0] for line in lines] == sizes.sort_values(ascending=False).index.tolist()
    for column, *told in lines:
        found = calibration.noise.loc[column]
        size, error = (float(told[i].replace(",", "")) for i in (0, 3))
        np.testing.assert_allclose([size, error], [found["noise"], errors[column]], rtol=5e-3)
        assert told[1:3] == [f"{found['sigmas']:.3f}", f"{found['off']:.1%}"]


def test_the_error_left_is_drawn_from_nought(tmp_path):
    refinement = noise_refinement()
    source = written(refinement, tmp_path)
    section = source[source.index('<h2 id="noise">') : source.index('<h2 id="drift">')]
    assert section.count("<svg") == 1
    # sqrt(1 - 1 + 0.75 / 2) of the error at strength 1
    assert "61.2% at strength 1, which is what auto did" in section
    assert all(f">{text}</text>" in section for text in ("0%", "what auto did", "left as it is"))
    assert "var(--after)" in section
    drawn = []
    curve = refinement.calibration.curve

    def draw(axes):
        _figures.error_left(axes, strength=curve["strength"].values, error=curve["error"].values)
        drawn.append((axes.get_ylim(), [line.get_xydata() for line in axes.lines]))

    _figures.inline_svg(draw, name="x", size=(4, 2))
    (lowest, highest), (line, at_rest, chosen) = drawn[0]
    assert lowest == 0
    assert highest > line[:, 1].max()
    np.testing.assert_array_equal(line, curve)
    np.testing.assert_allclose([*at_rest[0], *chosen[0]], [0, 1, 1, np.sqrt(0.375)])


@pytest.mark.usefixtures("without_pictures")
def test_noise_that_is_not_known_is_said_to_be(tmp_path):
    page = Page(written(noise_refinement(), tmp_path))
    assert "Noise of 0.05 to 0.2 standard deviations was found in 2 of 3 columns" in page.sentences
    assert cells_of_noise(page) == [
        ["price", "2.00", "0.200", "50.0%", "1.00"],
        ["area", "0.500", "0.050", "50.0%", "0.250"],
        ["idle", "not known", "not known", "0.0%", "not known"],
    ]


@pytest.mark.usefixtures("without_pictures")
def test_no_noise_found_is_said(tmp_path):
    page = Page(written(noise_refinement([np.nan] * 3), tmp_path))
    left = "No noise could be told from the signal, so the data was left as it is"
    assert f"Noise {left}. This was judged without clean data. How far" in page.sentences
    page = Page(written(noise_refinement([np.nan] * 3, spikes=2), tmp_path))
    assert f"{left}, but for 2 cells that stood out as spikes." in page.sentences
    told = ["idle", "not known", "not known", "0.0%", "3.00 (2 spikes)"]
    assert cells_of_noise(page) == [told]
    assert "2 more columns have less noise, or none that is known." in page.sentences


@pytest.mark.usefixtures("without_pictures")
def test_bars_of_spikes_alone_are_said_to_be(tmp_path):
    """Of the first column no more is known than the least noise; one cell of it was a spike."""
    refinement = noise_refinement()
    refinement.standard_errors.loc[1:, "price"] = np.nan
    price, *_ = cells_of_noise(Page(written(refinement, tmp_path)))
    assert price == ["price", "2.00", "0.200", "50.0%", "1.00 (1 spike)"]


@pytest.mark.usefixtures("without_pictures")
def test_noise_that_was_given_is_said_to_be(tmp_path, noisy_table):
    told = dict.fromkeys("abc", 0.0) | {"d": 30.0}
    page = Page(written(refine(noisy_table, target="d", rule="auto", noise_scale=told), tmp_path))
    assert re.search(r"Noise of 0.2\d standard deviations was given for 1 of 4", page.sentences)
    d, *others = cells_of_noise(page)
    assert d[:2] == ["d", "30.0"]
    assert {tuple(line[1:]) for line in others} == {("none", "none", "0.0%", "0")}


def test_labels_in_the_table_of_noise_cannot_break_out(tmp_path):
    labels = [EVIL, ("a", 1), "c" * 10_000]
    refinement = noise_refinement(names=labels)
    source = written(refinement, tmp_path)
    page = Page(source)
    assert page.count("script") == 5
    cut = "c" * 79 + "…"
    assert [line[0] for line in cells_of_noise(page)] == [EVIL, "('a', 1)", cut]
    assert "c" * 81 not in source


@pytest.mark.usefixtures("without_pictures")
def test_the_table_of_noise_is_cut(tmp_path):
    names = [f"c{i}" for i in range(130)]
    page = Page(written(noise_refinement(np.linspace(1, 2, 130), names), tmp_path))
    lines = cells_of_noise(page)
    assert [line[0] for line in lines] == names[:-101:-1]
    assert "30 more columns have less noise" in page.sentences


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    "fields",
    [
        {"settings": {"rule": "unit_step"}},
        {"settings": {"rule": "given"}},
        {"lag": 2, "kind": "series"},
        {"lag": 0, "kind": "series"},
    ],
    ids=["unit step", "given rule", "lag", "causal"],
)
def test_no_noise_is_told_of_other_refinements(tmp_path, fields):
    page = Page(written(noise_refinement(**fields), tmp_path))
    assert "noise" not in page.heading_ids


def test_a_loaded_refinement_tells_noise_if_it_has_its_model(
    tmp_path, automatic, by_given_model, noisy_table
):
    def reloaded(refinement):
        refinement.save(tmp_path / "saved", overwrite=True)
        return Refinement.load(tmp_path / "saved")

    found, again = (_noise.noise_of(r, 9) for r in (automatic, reloaded(automatic)))
    assert again.told == found.told
    numbers = [[line[1:] for line in noise.lines] for noise in (found, again)]
    np.testing.assert_allclose(*numbers, rtol=1e-6)
    assert _noise.noise_of(by_given_model, 9) is not None
    assert _noise.noise_of(reloaded(by_given_model), 9) is None
    told = refine(noisy_table, target="d", rule="auto", noise_scale=30.0)
    assert _noise.noise_of(reloaded(told), 9) is None


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (np.nan, "not known"),
        (99.96, "100"),
        (123_456.0, "123,000"),
        (5.999, "6.00"),
        (0.0123456, "0.0123"),
        (1.5e-7, "1.50e-07"),
        (1e20, "1.00e+20"),
    ],
)
def test_estimates_have_three_digits(number, text):
    assert _noise.estimate(number) == text


def test_classes_stand_where_residuals_would(tmp_path):
    refinement = classes_refinement()
    page = Page(written(refinement, tmp_path))
    assert page.heading_ids == [
        *("done", "explore", "panels", "corrections", "drift", "classes", "provenance")
    ]
    assert page.count("svg") == 2 * 3  # two pictures per changed column, none of residuals
    surprise = refinement.classification.cross_entropy
    known = (
        "The model finds the given label the likeliest in 98.3% of the rows before, 98.3% after; "
        f"cross-entropy {surprise[0]:.4f} before, {surprise[1]:.4f} after."
    )
    assert page.sentences.count(known) == 2  # at the top, and with the classes
    assert "3 classes of kind: ant 19, bee 20, cat 20; 1 row without a label." in page.sentences
    assert "residuals fell" not in page.sentences
    assert "the probability that the model gives to the row's label. Gate" in page.sentences
    cat = [-np.log(0.8), -np.log(0.64 / (0.64 + 2 * 0.01))]
    assert page.row("cat") == ["cat", "20", "100.0%", "100.0%", *(f"{of:.3f}" for of in cat)]
    bee = 19 / 20
    assert page.row("bee")[:4] == ["bee", "20", f"{bee:.1%}", f"{bee:.1%}"]
    doubted = next(row for row in page.table_rows if row[0] == "1" and len(row) == 6)
    assert doubted == ["1", "bee", "0.100", f"{0.01 / 0.66:.3f}", "cat", f"{0.64 / 0.66:.3f}"]
    assert "The 50 least likely of 59, by the probability" in page.sentences
    assert "simplex" not in page.sentences
    assert (
        "Labels moved on the simplex"
        in Page(written(classes_refinement(soft=True), tmp_path)).sentences
    )


def test_names_of_classes_cannot_break_out(tmp_path):
    source = written(classes_refinement((EVIL, "c" * 10_000, ("b", 1))), tmp_path)
    page = Page(source)
    assert page.count("script") == 5
    assert page.row(EVIL)[1] == "19"
    assert page.row("('b', 1)")[1] == "20"
    assert "c" * 81 not in source


@pytest.mark.slow
def test_a_report_of_a_real_refinement_of_classes(tmp_path, noisy_table):
    labels = np.where(noisy_table["a"] > noisy_table["a"].median(), "high", "low")
    frame = noisy_table.assign(kind=labels)
    model = (lambda w, x: w * x[0], np.float32([1.0, -1.0]))
    noise = dict.fromkeys("abcd", 0.0) | {"d": 30.0}
    page = Page(written(refine(frame, "kind", model=model, noise_scale=noise), tmp_path))
    assert {"classes", "noise"} <= set(page.heading_ids)
    assert "2 classes of kind: high" in page.sentences
    assert "has seen these very rows, its residuals" not in page.sentences
