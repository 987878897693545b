"""Cross-fitting: parts of the data, each judged by a model that has not seen it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from denograd_jax import Fitted, OnlineRefiner, backbones, fit, layouts, refine, refiner, rules
from denograd_jax._core._prepare import prepare
from denograd_jax._frames._folds import Folds
from denograd_jax._frames._frozen_models import cross_fit_backbone
from denograd_jax._types import Model
from denograd_jax.errors import BackboneError, UnsupportedError
from denograd_jax.models import by_fold


def table(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    frame = pd.DataFrame(x, columns=list("abc"))
    return frame.assign(y=x[:, 0] + x[:, 1] * x[:, 2] + 0.1 * rng.normal(size=rows))


def series(steps=160, seed=0):
    t = np.arange(steps)
    rng = np.random.default_rng(seed)
    clean = np.column_stack([np.sin(t / 5), np.cos(t / 7)])
    return pd.DataFrame(clean + 0.1 * rng.normal(size=clean.shape), columns=["u", "v"])


# --- one model of several


def linear(params, x):
    return params["w"] @ x.reshape(-1) + params["b"]


def three_models(width, outputs=2):
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=(3, outputs, width)), "b": rng.normal(size=(3, outputs))}


@pytest.mark.parametrize("shape", [(4,), (5, 4)])
@pytest.mark.parametrize("fold", [0, 2])
def test_the_model_of_the_fold_is_asked(shape, fold):
    params = three_models(int(np.prod(shape)))
    model = by_fold(Model(linear, jax.tree.map(jnp.asarray, params)))
    x = np.random.default_rng(0).normal(size=shape)
    marked = np.concatenate([x, np.full((*shape[:-1], 1), fold)], axis=-1).astype(np.float32)
    expected = params["w"][fold] @ x.ravel() + params["b"][fold]
    np.testing.assert_allclose(model.predict(model.params, marked), expected, rtol=1e-5, atol=1e-6)
    slope = jax.jacobian(model.predict, argnums=1)(model.params, marked)
    np.testing.assert_allclose(
        np.asarray(slope)[..., :-1].reshape(2, -1), params["w"][fold], rtol=1e-5
    )
    assert (np.asarray(slope)[..., -1] == 0).all()


def test_a_window_is_asked_for_by_its_last_step():
    params = three_models(8)
    model = by_fold(Model(linear, jax.tree.map(jnp.asarray, params)))
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    marked = np.concatenate([x, [[0], [0], [1], [2]]], axis=1).astype(np.float32)
    expected = params["w"][2] @ x.ravel() + params["b"][2]
    np.testing.assert_allclose(model.predict(model.params, marked), expected, rtol=1e-5, atol=1e-6)


def test_without_a_fold_the_mean_of_all_is_taken():
    params = three_models(4)
    model = by_fold(Model(linear, jax.tree.map(jnp.asarray, params)))
    x = np.float32([1, 2, 3, 4, -1])
    expected = (params["w"] @ x[:4] + params["b"]).mean(axis=0)
    np.testing.assert_allclose(model.predict(model.params, x), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_is_predicted_like_its_instances():
    def batch(params, x):
        return x.reshape(len(x), -1) @ params["w"].T + params["b"][None]

    params = jax.tree.map(jnp.asarray, three_models(6))
    model = by_fold(Model(linear, params, batch))
    x = np.random.default_rng(0).normal(size=(5, 3, 3)).astype(np.float32)
    x[..., -1] = np.array([0, 1, 2, -1, 1])[:, None]
    alone = [model.predict(model.params, one) for one in x]
    np.testing.assert_allclose(model.predict_batch(model.params, x), alone, rtol=1e-5, atol=1e-6)


# --- who lies where


@given(st.integers(2, 7), st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_equal_rows_share_a_fold_wherever_they_stand(count, seed):
    values = np.random.default_rng(seed).normal(size=(30, 3)).round(1)
    values[3, 1] = np.nan
    order = np.random.default_rng(seed + 1).permutation(60)
    doubled = np.concatenate([values, values])[order]
    folds = Folds(count, None).of(doubled, None)
    once = Folds(count, None).of(values, None)
    assert ((folds >= 0) & (folds < count)).all()
    np.testing.assert_array_equal(folds, np.concatenate([once, once])[order])


def test_zeros_of_either_sign_are_equal():
    folds = Folds(1000, None).of(np.array([[0.0, 1], [-0.0, 1]]), None)
    assert folds[0] == folds[1]


def test_rows_are_spread_over_the_folds():
    folds = Folds(5, None).of(np.random.default_rng(0).normal(size=(5000, 2)), None)
    assert (np.abs(np.bincount(folds) - 1000) < 150).all()


def test_a_series_falls_in_blocks_of_time():
    order = np.array([3, 0, 4, 1, 2, 5])  # rows of the table in time
    folds = Folds(3, 2).of(np.zeros((6, 1)), order)
    np.testing.assert_array_equal(folds[order], [0, 0, 1, 1, 2, 2])


# --- training


class Affine(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)


def gather(data, index):
    x, y = (part[index] for part in data)
    return x, y, jnp.ones(y.shape, bool)


def test_copies_are_trained_as_each_would_be_alone():
    """With a single batch in each epoch, so that no shuffling tells them apart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 2)).astype(np.float32)
    data = x, (x @ [[1.0], [-2.0]] + 0.5).astype(np.float32)
    modules = [Affine(nnx.Rngs(k)) for k in range(3)]
    trains = [np.arange(16 * k, 16 * k + 16) for k in range(3)]
    validates = [np.arange(5), np.arange(20, 25), np.arange(40, 45)]
    options = {"key": jax.random.key(0), "max_epochs": 30, "learning_rate": 0.05}
    together = backbones.train_folds(modules, gather, data, trains, validates, **options)
    for k in range(3):
        alone = backbones.train(modules[k], gather, data, trains[k], validates[k], **options)
        ours = jax.tree.map(lambda leaf, k=k: leaf[k], together.model.params)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(alone.model.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        best = alone.validation_loss[alone.best_epoch]
        assert together.validation_loss[k] == pytest.approx(best, rel=1e-4)


def test_copies_may_have_unequal_shares():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 2)).astype(np.float32)
    data = x, (x @ [[1.0], [-2.0]]).astype(np.float32)
    modules = [Affine(nnx.Rngs(k)) for k in range(2)]
    trains = [np.arange(90), np.arange(40, 57)]
    found = backbones.train_folds(
        modules, gather, data, trains, trains, key=jax.random.key(0), learning_rate=0.1
    )
    assert (found.validation_loss < 0.01).all()


def test_a_fold_that_leaves_nothing_is_refused():
    data = np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32)
    modules = [Affine(nnx.Rngs(k)) for k in range(2)]
    with pytest.raises(BackboneError, match="fewer folds"):
        backbones.train_folds(
            modules, gather, data, [[0, 1], []], [[0], [0]], key=jax.random.key(0)
        )


def trained_on(frame, options, *, changed=None):
    """Parameters of the copies, after these cells of the posed arrays have been changed."""
    fitted = fit(frame, max_epochs=1, **options)
    reading = fitted.read(frame, options.get("target"))
    problem = reading.pose(np.broadcast_to(reading.table.movable, reading.table.values.shape))
    if changed is not None:
        problem.x[changed, : len(problem.inputs)] += 1
        if problem.y is not None:
            problem.y[changed] -= 1
    data = prepare(problem.layout, *problem.arrays)
    found = cross_fit_backbone(
        options.get("model", "mlp"),
        problem,
        data,
        options["folds"],
        seed=0,
        max_epochs=3,
        progress=None,
    )
    return jax.tree.map(np.asarray, found.model.params), problem


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"target": "y", "folds": 3}, marks=pytest.mark.slow),
        {"window": 6, "folds": 3, "horizon": 2},
        pytest.param({"window": 6, "folds": 3, "model": "linear"}, marks=pytest.mark.slow),
    ],
    ids=["rows", "series", "linear"],
)
def test_a_model_depends_on_nothing_in_its_fold(options):
    frame = series() if "window" in options else table()
    before, problem = trained_on(frame, options)
    inside = np.flatnonzero((problem.order >= 0) & (problem.x[:, -1] == 1))
    if "window" in options:  # and on nothing that a window of the fold looks at
        reach = problem.layout.span - 1
        inside = np.arange(inside.min() - reach, inside.max() + reach + 1)
    after, _ = trained_on(frame, options, changed=inside)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a[1], b[1])
    assert any(
        (a[0] != b[0]).any()
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )


# --- refinement


def test_each_row_is_moved_by_the_model_of_its_fold():
    frame = table()
    fitted = fit(frame, "y", folds=3, max_epochs=3)
    found = fitted.refine(frame, rule="gauss_newton", step_size=0.2, max_steps=2).data
    reading = fitted.read(frame)
    folds = fitted.design.folds.of(reading.table.values, None)
    assert len(np.unique(folds)) == 3
    z = reading.table.standardised().astype(np.float32)
    module = backbones.build("mlp", input_shape=(3,), outputs=1, rngs=nnx.Rngs(0))
    for fold in range(3):
        params = jax.tree.map(lambda leaf, fold=fold: leaf[fold], fitted.model.params)
        model = backbones.as_pure(module)._replace(params=params)
        r = refiner(
            model,
            rules.gauss_newton(0.2, 0.01),
            layouts.rows(),
            optax.losses.squared_error,
        )
        state = r.init(z[:, :3], z[:, 3:])
        for _ in range(2):
            state, _ = r.step(model.params, state)
        moved = np.concatenate([state.data.x, state.data.y], axis=1)
        expected = moved * reading.table.scale + reading.table.mean
        mine = folds == fold
        np.testing.assert_allclose(found.to_numpy()[mine], expected[mine], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        (table(), {"target": "y"}),
        pytest.param(series(), {"window": 6}, marks=pytest.mark.slow),
        pytest.param(series(), {"window": 6, "rule": "auto"}, marks=pytest.mark.slow),
    ],
    ids=["rows", "series", "auto"],
)
def test_fitting_refining_and_loading_agree(tmp_path, frame, options):
    moves = {"rule": options.pop("rule", "unit_step")}
    whole = refine(frame, **options, **moves, folds=3, max_epochs=2)
    fitted = fit(frame, **options, folds=3, max_epochs=2)
    fitted.save(tmp_path / "fitted")
    loaded = Fitted.load(tmp_path / "fitted")
    assert loaded.design == fitted.design
    for one in (fitted, loaded):
        pd.testing.assert_frame_equal(one.refine(frame, **moves).data, whole.data)


def test_new_rows_are_refined_as_well():
    fitted = fit(table(), "y", folds=3, max_epochs=2)
    new = table(seed=1)
    assert (fitted.refine(new, rule="unit_step").data != new).any(axis=None)


@pytest.mark.slow
def test_a_panel_and_gaps_are_cut_too():
    frame = pd.concat([series(90).assign(who="a"), series(100, seed=1).assign(who="b")])
    frame = frame.reset_index(drop=True)
    found = refine(frame, groups="who", window=5, folds=3, max_epochs=2, rule="unit_step")
    assert found.data["who"].equals(frame["who"])
    assert (found.data[["u", "v"]] != frame[["u", "v"]]).any(axis=None)


@pytest.mark.slow
def test_a_series_that_comes_in_has_no_folds():
    frame = series()
    fitted = fit(frame, window=6, folds=3, max_epochs=2)
    online = OnlineRefiner(fitted, rule="unit_step")
    for start in range(0, 40, 20):
        online.update(frame.iloc[start : start + 20])


def test_the_settings_tell():
    found = refine(table(), "y", folds=3, max_epochs=2, rule="unit_step")
    assert found.settings["folds"] == 3
    assert "each trained without" in found.settings["model"]


@pytest.mark.parametrize("folds", [1, 0, -2, 2.0, True, "5", 121])
def test_other_numbers_of_folds_are_refused(folds):
    with pytest.raises(UnsupportedError, match="from 2 to the number of rows, 120"):
        refine(table(), "y", folds=folds)


def test_what_has_no_folds_is_refused():
    with pytest.raises(UnsupportedError, match="a model that is given is one"):
        refine(table(), "y", model=lambda x: x[:1], folds=3)
    with pytest.raises(UnsupportedError, match="a mixture is judged by rows"):
        refine(table(), "y", model="mixture", folds=3)
    with pytest.raises(UnsupportedError, match="no row that it refines"):
        refine(series(), window=5, causal=True, folds=3)


def test_too_short_a_series_is_refused():
    with pytest.raises(BackboneError, match="fewer folds"):
        refine(series(30), window=10, folds=2, max_epochs=1)


def test_an_interrupted_training_refines_nothing():
    def progress(stage, done, total):
        if stage == "train" and done == 2:
            raise KeyboardInterrupt

    found = refine(table(), "y", folds=3, rule="unit_step", progress=progress)
    assert found.status.name == "interrupted"
    assert found.data.equals(table())


def test_classes_have_no_folds():
    frame = table().assign(y=np.repeat(["no", "yes"], 60))
    with pytest.raises(UnsupportedError, match="folds are for numeric targets"):
        refine(frame, "y", folds=3)


def test_robust_training_has_no_folds():
    with pytest.raises(UnsupportedError, match="for plain training"):
        refine(table(), "y", training="ido", folds=3)
