"""Panels: many series of unequal lengths, each by itself, compiled once."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denograd_jax import fit, refine
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError
from tests.compilations import count_compilations

LENGTHS = (12, 7, 9)


def ahead(window):
    return window.mean(axis=0) + 0.3 * (window[-1] - window[0])


def members(lengths=LENGTHS, seed=0):
    rng = np.random.default_rng(seed)
    return [
        pd.DataFrame(rng.normal(size=(n, 2)).cumsum(axis=0), columns=["u", "v"]) for n in lengths
    ]


def in_one_frame(frames):
    parts = [frame.assign(g=f"g{k:04d}") for k, frame in enumerate(frames)]
    return pd.concat(parts, ignore_index=True)


OPTIONS = {"window": 3, "model": ahead, "max_steps": 3, "tolerance": 0.0, "step_size": 0.2}


def series_by_hand(values, unit, mean):
    """Three unit steps of one series, each the mean over the windows that hold a cell."""
    z = (values - mean) / unit
    weights = np.full(3, 1 / 3) + np.array([-0.3, 0, 0.3])
    for _ in range(3):
        total, visits = np.zeros_like(z), np.zeros((len(z), 1))
        for start in range(len(z) - 3):
            residual = weights @ z[start : start + 3] - z[start + 3]
            gradient = np.concatenate([np.outer(weights, residual), -residual[None]])
            total[start : start + 4] -= 0.2 * gradient / np.linalg.norm(gradient)
            visits[start : start + 4] += 1
        z = z + total / np.maximum(visits, 1)
    return z * unit + mean


def test_each_series_against_numpy():
    """Units are those of all rows, windows those of one series; too short a one is left."""
    frames = members((12, 7, 3, 9))
    together = np.concatenate(frames)
    result = refine(frames, **OPTIONS)
    for given_frame, refined in zip(frames, result.data, strict=True):
        expected = series_by_hand(
            given_frame.to_numpy(), together.std(axis=0), together.mean(axis=0)
        )
        np.testing.assert_allclose(refined, expected, rtol=1e-4, atol=1e-4)
    pd.testing.assert_frame_equal(result.data[2], frames[2], check_exact=True)


def test_a_collection_is_a_frame_with_groups():
    frames = members()
    expected = refine(in_one_frame(frames), groups="g", **OPTIONS)
    values = [part[["u", "v"]].to_numpy() for _, part in expected.data.groupby("g")]
    keyed = dict(zip(["x", 7, ("a", 1)], frames, strict=True))
    for given_panel in (frames, tuple(frames), keyed, [f.to_numpy() for f in frames]):
        result = refine(given_panel, **OPTIONS)
        assert type(result.data) is type(given_panel)
        found = result.data.values() if isinstance(given_panel, dict) else result.data
        for part, like in zip(found, values, strict=True):
            np.testing.assert_array_equal(part, like)
    assert list(refine(keyed, **OPTIONS).data) == ["x", 7, ("a", 1)]
    assert [len(part) for part in result.data] == list(LENGTHS)


@settings(max_examples=10)
@given(st.data())
def test_no_series_touches_another(data):
    """Whatever the others hold, in the units that a model was fitted in."""
    frames = members()
    fitted = fit(frames, **{k: OPTIONS[k] for k in ("window", "model")})
    steps = {k: OPTIONS[k] for k in ("max_steps", "tolerance", "step_size")}
    expected = fitted.refine(frames, **steps).data
    which = data.draw(st.integers(0, 2))
    seed = data.draw(st.integers(1, 99))
    others = [own if k == which else members(seed=seed)[k] for k, own in enumerate(frames)]
    result = fitted.refine(others, **steps).data
    np.testing.assert_allclose(result[which], expected[which], rtol=1e-6, atol=1e-6)
    far = (which + 1) % 3
    assert not np.allclose(result[far], expected[far])


def test_the_scale_of_each_group_and_of_all():
    frames = members((20, 15))
    frames[1] = frames[1] * [100.0, 0.001] + [5000, 1]
    frame = in_one_frame(frames)
    options = {"window": 3, "groups": "g", "max_epochs": 1, "max_steps": 2}
    grouped = refine(frame, scale="group", **options)
    of_groups = frame.groupby("g")[["u", "v"]].transform(lambda c: c.std(ddof=0))
    np.testing.assert_allclose(grouped.unit, of_groups)
    change = (grouped.after - grouped.before) / of_groups
    np.testing.assert_allclose(change, grouped.sigmas, rtol=1e-9)
    both = refine(frame, scale="all", **options)
    np.testing.assert_allclose(both.unit, [frame[["u", "v"]].std(ddof=0)])
    assert grouped.settings["scaling"] == "in each group"
    assert "scaling" not in both.settings
    stretched = frame.copy()  # other units of one series: the same corrections in them
    stretched.loc[20:, ["u", "v"]] = stretched.loc[20:, ["u", "v"]] * 4 - 64
    other = refine(stretched, scale="group", **options)
    np.testing.assert_allclose(other.sigmas, grouped.sigmas, atol=1e-5)
    assert np.abs(grouped.sigmas).max() > 1e-3
    with pytest.raises(DataError, match="'g0002' was not in the data that the scaling"):
        grouped.fitted.refine(in_one_frame(members((20, 15, 9))))
    later = grouped.fitted.refine(frame[frame["g"] == "g0001"], max_steps=1)
    np.testing.assert_allclose(later.unit, of_groups[20:])


def test_groups_that_are_constant_or_empty_borrow_the_scale_of_all():
    frames = members((12, 12, 12))
    frames[1]["u"] = 3.0
    frames[2]["v"] = np.nan
    result = refine(frames, window=3, scale="group", max_epochs=1, max_steps=2)
    scale = result.unit[[0, 12, 24]]
    everything = pd.concat(frames)
    np.testing.assert_allclose(scale[1, 0], everything["u"].std(ddof=0))
    np.testing.assert_allclose(scale[2, 1], np.nanstd(everything["v"]))
    assert result.data[2]["v"].isna().all()
    assert np.isfinite(result.data[1]).all(axis=None)


def count(panel, model):
    return count_compilations(lambda: refine(panel, **OPTIONS | {"model": model}))


def fresh():
    """A model that nothing was compiled for yet."""

    def model(window):
        return ahead(window)

    return model


@pytest.mark.slow
def test_a_thousand_short_series_compile_as_two_long_ones():
    rng = np.random.default_rng(0)
    lengths = rng.integers(30, 81, 1000)
    rows = int(lengths.sum())
    thousand = [np.cumsum(rng.normal(size=(n, 2)), axis=0) for n in lengths]
    joined = np.concatenate(thousand)
    two = [joined[: rows // 3], joined[rows // 3 :]]
    count(two, fresh())  # small programs that have nothing to do with the model
    model = fresh()
    of_two, of_thousand = count(two, fresh()), count(thousand, model)
    assert 0 < of_thousand == of_two
    shuffled = [thousand[k][: len(thousand[k]) - 1] for k in rng.permutation(999)]
    assert count(shuffled, model) == 0  # other lengths, as many series less one


@pytest.mark.slow
@settings(max_examples=5)
@given(st.lists(st.integers(1, 14), min_size=2, max_size=9).filter(lambda n: max(n) >= 4))
def test_panels_of_one_bucket_share_a_compilation(lengths):
    """The rest of 64 rows is a last series, so that all fall into one bucket of lengths."""
    panel = members([*lengths, max(64 - sum(lengths), 4)])
    total = sum(map(len, panel))
    refine(members([total - 5, 5]), **OPTIONS)
    assert count(panel, ahead) == 0


def test_order_of_series_and_rows_comes_back():
    frames = members()
    frame = in_one_frame(frames)
    order = np.argsort(np.concatenate([np.arange(n) for n in LENGTHS]), kind="stable")
    result = refine(frame.iloc[order], groups="g", **OPTIONS)
    assert result.data.index.tolist() == order.tolist()
    expected = refine(frame, groups="g", **OPTIONS).data
    pd.testing.assert_frame_equal(result.data.sort_index(), expected)


def test_gaps_of_each_series_are_listed():
    frames = [f.assign(t=np.arange(len(f)) * 2.0) for f in members((12, 9))]
    frames[0] = frames[0].drop(index=[5, 6])
    frames[1] = frames[1].drop(index=[4])
    result = refine(dict(zip("pq", frames, strict=True)), time="t", **OPTIONS)
    assert result.gaps.to_dict("list") == {
        "group": ["p", "q"],
        "after": [8.0, 6.0],
        "before": [14.0, 10.0],
        "steps": [3.0, 2.0],
    }
    assert result.settings["gaps"] == 2
    assert result.settings["stretches without a gap"] == 4
    assert result.groups.tolist() == ["p"] * 10 + ["q"] * 8


@pytest.mark.parametrize(
    ("panel", "options", "error", "words"),
    [
        (members(), {"scale": "group"}, UnsupportedError, "backbones trained here"),
        (members(), {"scale": "each"}, UnsupportedError, "scale must be"),
        (members()[0], {"scale": "group"}, UnsupportedError, "needs groups="),
        (members((3, 2)), {}, ShapeError, "no window fits"),
        ([], {}, DataError, "empty collection"),
        ([members()[0], members()[1][["u"]]], {}, ColumnError, "different columns"),
        ([members()[0], members()[1].to_numpy()], {}, UnsupportedError, "of one kind"),
        ([members()[0], 3], {}, UnsupportedError, r"data\[1\] must be"),
        (members(), {"groups": "g"}, ColumnError, "'g' is not in the data"),
        (members(), {"target": members()[0]["u"]}, UnsupportedError, "give a list or dict"),
    ],
)
def test_refusals(panel, options, error, words):
    with pytest.raises(error, match=words) as caught:
        refine(panel, **OPTIONS | options)
    assert "\n" not in str(caught.value)


def test_a_model_fitted_to_a_panel_asks_for_its_groups():
    frame = in_one_frame(members())
    fitted = fit(frame, groups="g", window=3, model=ahead)
    with pytest.raises(ColumnError, match="group column 'g' is not in the data"):
        fitted.refine(frame.drop(columns="g"))
    counted = frame.assign(t=frame.groupby("g").cumcount())
    timed = fit(counted, time="t", groups="g", window=3, model=ahead)
    with pytest.raises(ColumnError, match="time column 't' is not in the data"):
        timed.refine(frame)
