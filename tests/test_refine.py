"""`refine` as a whole: against plain NumPy, its record, its models, and its manners."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from denograd_jax import Model, Status, backbones, refine, rules
from denograd_jax.errors import BackboneError, ModelError, UnsupportedError
from tests.compilations import count_compilations

ROWS, STEPS, WINDOW = 40, 30, 4
WEIGHTS = np.array([0.5, -2.0, 0.03])
WINDOW_WEIGHTS = np.random.default_rng(5).normal(size=(2, WINDOW, 2))  # per target
UNITS = np.array([3.0, 0.2, 50.0, 7.0])
OFFSETS = np.array([10.0, -1.0, 1000.0, 0.0])


def rows():
    """Columns of unlike units; y is linear in them, off by noise."""
    values = np.random.default_rng(7).normal(size=(ROWS, 4)) * UNITS + OFFSETS
    values[:, 3] += values[:, :3] @ WEIGHTS
    return pd.DataFrame(values, columns=["a", "b", "c", "y"])


def steps():
    values = np.random.default_rng(8).normal(size=(STEPS, 2)).cumsum(axis=0)
    return pd.DataFrame(values * UNITS[:2] + OFFSETS[:2], columns=["u", "v"])


def linear(params, x):
    """Rows, and windows read step by step, to one target or several."""
    weights, bias = params
    return x.ravel() @ weights + bias


LINEAR_ROWS = (linear, (WEIGHTS.astype(np.float32), np.float32(5)))
LINEAR_WINDOWS = (
    linear,
    (WINDOW_WEIGHTS.reshape(2, -1).T.astype(np.float32), np.array([0.5, -1], np.float32)),
)


def standardise(values):
    return (values - values.mean(axis=0)) / values.std(axis=0)


def steps_by_hand(instances, targets, weights, step_size, tolerance):
    """One unit step of linear instances `(n, ...)` with weights `(q, ...)`: moves and gates."""
    n, q = targets.shape
    residual = instances.reshape(n, -1) @ weights.reshape(q, -1).T - targets
    gradient = np.concatenate([residual @ weights.reshape(q, -1), -residual], axis=1)
    gate = (np.abs(residual) > tolerance).any(axis=1)
    norm = np.linalg.norm(gradient, axis=1)
    move = -step_size * gate[:, None] * gradient / np.where(norm > 0, norm, 1)[:, None]
    return residual, move[:, :-q].reshape(instances.shape), move[:, -q:]


def rows_by_hand(frame, step_size, tolerance, count):
    values = frame.to_numpy()
    mean, std = values.mean(axis=0), values.std(axis=0)
    weights = (WEIGHTS * std[:3] / std[3])[None]
    bias = (mean[:3] @ WEIGHTS + 5 - mean[3]) / std[3]
    z = standardise(values)
    for _ in range(count):
        _, dx, dy = steps_by_hand(z[:, :3], z[:, 3:] - bias, weights, step_size, tolerance)
        z = z + np.concatenate([dx, dy], axis=1)
    return z * std + mean


def windows_by_hand(values, targets, weights, biases, step_size, tolerance, count, *, shared):
    """All windows of a series, one column of `targets` per row of `weights`; visits."""
    x_mean, x_std = values.mean(axis=0), values.std(axis=0)
    y_mean, y_std = targets.mean(axis=0), targets.std(axis=0)
    scaled = weights * x_std / y_std[:, None, None]
    bias = (np.einsum("qwc,c->q", weights, x_mean) + biases - y_mean) / y_std
    x, y = standardise(values), standardise(targets)
    instances = len(x) - WINDOW
    for _ in range(count):
        cut = np.stack([x[i : i + WINDOW] for i in range(instances)])
        _, dx, dy = steps_by_hand(cut, y[WINDOW:] - bias, scaled, step_size, tolerance)
        total, visits = np.zeros_like(x), np.zeros((len(x), 1))
        for i in range(instances):
            total[i : i + WINDOW] += dx[i]
            visits[i : i + WINDOW] += 1
        of_y, ends = np.zeros_like(y), np.zeros((len(y), 1))
        of_y[WINDOW:], ends[WINDOW:] = dy, 1
        if shared:
            x = x + (total + of_y) / np.maximum(visits + ends, 1)
            y = x
        else:
            x, y = x + total / np.maximum(visits, 1), y + of_y / np.maximum(ends, 1)
    return x * x_std + x_mean, y * y_std + y_mean


@pytest.mark.parametrize("count", [1, 4])
def test_rows_against_numpy(count):
    frame = rows()
    result = refine(frame, "y", model=LINEAR_ROWS, step_size=0.2, tolerance=0.3, max_steps=count)
    expected = rows_by_hand(frame, 0.2, 0.3, count)
    np.testing.assert_allclose(result.data, expected, rtol=1e-5, atol=1e-4)
    assert (result.data != frame).any(axis=None)
    assert result.steps == count
    assert not result.look_ahead


@pytest.mark.parametrize("progress", [None, lambda stage, done, total: None])
def test_a_series_that_predicts_itself_against_numpy(progress):
    frame = steps()
    result = refine(
        frame,
        window=WINDOW,
        model=LINEAR_WINDOWS,
        step_size=0.2,
        tolerance=0.3,
        max_steps=3,
        progress=progress,
    )
    biases = LINEAR_WINDOWS[1][1].astype(float)
    expected, _ = windows_by_hand(
        frame.to_numpy(), frame.to_numpy(), WINDOW_WEIGHTS, biases, 0.2, 0.3, 3, shared=True
    )
    np.testing.assert_allclose(result.data, expected, rtol=1e-4, atol=1e-4)


def test_a_series_with_a_target_apart_against_numpy():
    frame = steps()
    target = np.random.default_rng(9).normal(size=STEPS) * 4 + 20
    predict = (linear, (WINDOW_WEIGHTS[0].ravel().astype(np.float32), np.float32(2)))
    result = refine(
        frame, target, window=WINDOW, model=predict, step_size=0.2, tolerance=0.3, max_steps=3
    )
    x, y = windows_by_hand(
        frame.to_numpy(), target[:, None], WINDOW_WEIGHTS[:1], 2.0, 0.2, 0.3, 3, shared=False
    )
    np.testing.assert_allclose(result.data, x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(result.target, y[:, 0], rtol=1e-4, atol=1e-4)


def nnx_rows():
    module = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    module.kernel[...] = jnp.asarray(WEIGHTS[:, None], jnp.float32)
    module.bias[...] = jnp.full(1, 5.0)
    return module


ROW_MODELS = {
    "function": lambda: lambda x: linear(LINEAR_ROWS[1], x),
    "Model": lambda: Model(*LINEAR_ROWS),
    "batched": lambda: Model(
        *LINEAR_ROWS, lambda params, x: jax.vmap(linear, (None, 0))(params, x)[:, None]
    ),
    "nnx": nnx_rows,
}


@pytest.mark.parametrize("kind", ROW_MODELS)
def test_models_of_any_kind_see_the_units_of_the_user(kind):
    options = {"step_size": 0.2, "tolerance": 0.3, "max_steps": 3}
    result = refine(rows(), "y", model=ROW_MODELS[kind](), **options)
    expected = rows_by_hand(rows(), 0.2, 0.3, 3)
    np.testing.assert_allclose(result.data, expected, rtol=1e-5, atol=1e-4)


class Unhashable:
    """A function that can be a part of no cache."""

    __hash__ = None

    def __call__(self, params, x):
        return linear(params, x)


def test_models_without_a_hash_or_an_array():
    options = {"step_size": 0.2, "tolerance": 0.3, "max_steps": 3}
    result = refine(rows(), "y", model=Model(Unhashable(), LINEAR_ROWS[1]), **options)
    np.testing.assert_allclose(result.data, rows_by_hand(rows(), 0.2, 0.3, 3), rtol=1e-5, atol=1e-4)
    constant = refine(rows(), "y", model=lambda x: 3.0, **options)
    pd.testing.assert_frame_equal(constant.data[["a", "b", "c"]], rows()[["a", "b", "c"]])
    np.testing.assert_allclose(constant.residuals["before"], 3 - rows()["y"], rtol=1e-5)


def test_a_model_sees_numbers_alone_in_the_order_of_the_data():
    frame = rows()
    mixed = frame[["a", "y", "b", "c"]].assign(when=pd.Timestamp("2020"), kind="p", flag=True)
    result = refine(mixed[["kind", "a", "flag", "y", "b", "when", "c"]], "y", model=LINEAR_ROWS)
    expected = refine(frame, "y", model=LINEAR_ROWS)
    pd.testing.assert_frame_equal(result.data[list(frame)], expected.data)


@pytest.mark.slow
def test_a_model_in_double_precision(x64):
    params = (WEIGHTS, np.array(5.0))
    with jax.numpy_dtype_promotion("standard"):
        result = refine(rows(), "y", model=(linear, params), max_steps=2)
    expected = refine(rows(), "y", model=LINEAR_ROWS, max_steps=2)
    np.testing.assert_allclose(result.data, expected.data, rtol=1e-6)


@pytest.mark.parametrize("rule", ["gauss_newton", rules.gauss_newton(0.1, 0.01)])
def test_rules_by_name_or_given(rule):
    expected = refine(
        rows(), "y", model=LINEAR_ROWS, rule=rules.gauss_newton(0.1, 0.01), max_steps=5
    )
    result = refine(rows(), "y", model=LINEAR_ROWS, rule=rule, max_steps=5)
    pd.testing.assert_frame_equal(result.data, expected.data)
    assert result.residuals["after"].abs().mean() < result.residuals["before"].abs().mean()


def test_rows_that_the_model_cannot_judge_are_left_as_they_are():
    frame = rows()
    bad = frame["a"] > 12
    model = Model(lambda p, x: jnp.where(x[0] > 12, jnp.nan, linear(p, x)), LINEAR_ROWS[1])
    result = refine(frame, "y", model=model, max_steps=1, tolerance=0.0, step_size=0.02)
    assert 0 < bad.sum() < ROWS
    assert result.status == Status.nonfinite
    pd.testing.assert_frame_equal(result.data[bad], frame[bad], check_exact=True)
    assert (result.data[~bad] != frame[~bad]).all(axis=None)
    assert result.residuals["label"].tolist() == frame.index[~bad].tolist()
    assert not set(result.changes["row"]) & set(frame.index[bad])


def test_a_model_that_judges_nothing():
    result = refine(rows(), "y", model=lambda x: x.sum() * jnp.nan)
    assert result.status == Status.nonfinite
    pd.testing.assert_frame_equal(result.data, rows(), check_exact=True)
    assert "No residual of the model is known." in result.summary()


def test_progress_and_the_same_call_twice():
    seen = []
    options = {"max_epochs": 2, "max_steps": 3, "tolerance": 0.0}
    first = refine(rows(), "y", progress=lambda *now: seen.append(now), **options)
    assert seen == [("train", 1, 2), ("train", 2, 2), *(("refine", i, 3) for i in (1, 2, 3))]
    again = refine(rows(), "y", progress=lambda *now: None, **options)
    pd.testing.assert_frame_equal(again.data, first.data, check_exact=True)
    silent = refine(rows(), "y", **options)
    pd.testing.assert_frame_equal(silent.data, first.data, rtol=1e-6)
    pd.testing.assert_frame_equal(
        refine(rows(), "y", **options).data, silent.data, check_exact=True
    )
    other = refine(rows(), "y", seed=1, **options)
    assert not other.data.equals(silent.data)


def interrupted_at(stage, number):
    def interrupt(now, done, total):
        if (now, done) == (stage, number):
            raise KeyboardInterrupt

    options = {"max_epochs": 3, "max_steps": 4, "tolerance": 0.0}
    return refine(rows(), "y", progress=interrupt, **options), options


def test_an_interruption_keeps_the_steps_taken(caplog):
    result, options = interrupted_at("refine", 2)
    assert result.status == Status.interrupted
    assert result.steps == 2
    expected = refine(rows(), "y", **options | {"max_steps": 2})
    pd.testing.assert_frame_equal(result.data, expected.data, check_exact=True)
    assert "2 steps, ended because it was interrupted" in result.summary()
    assert "interrupted in step 2 of 4" in caplog.text


def test_an_interruption_of_the_training_refines_nothing():
    result, _ = interrupted_at("train", 2)
    pd.testing.assert_frame_equal(result.data, rows(), check_exact=True)
    assert result.status == Status.interrupted
    assert result.steps == 0
    assert result.fitted.settings["epochs"].startswith("2, best ")
    assert any("training was interrupted" in note for note in result.notes)
    again = result.fitted.refine(rows(), "y", max_steps=1)
    assert again.steps == 1  # with the best epoch so far


@pytest.mark.parametrize(
    "options",
    [
        {"target": "y", "model": LINEAR_ROWS},
        {"target": "y", "max_epochs": 2},
        {"window": 3, "model": lambda window: window[-1]},
        {"window": 3, "max_epochs": 2},
    ],
    ids=["rows, given", "rows, trained", "series, given", "series, trained"],
)
def test_a_second_call_with_equal_shapes_compiles_nothing(options):
    """Also with other data, another seed and other numbers of the rule."""

    def call(seed):
        frame = rows() * (1 + seed) + np.random.default_rng(seed).normal(size=(ROWS, 4))
        refine(frame, seed=seed, step_size=0.01 * (1 + seed), max_steps=3 + seed, **options)

    call(0)
    assert count_compilations(lambda: call(1)) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name if name == "lstm" else pytest.param(name, marks=pytest.mark.slow)
        for name in backbones.names("windows")
    ],
)
def test_backbones_of_windows_by_name(name):
    frame = steps()
    result = refine(frame, window=WINDOW, model=name, max_epochs=1, max_steps=1, tolerance=0.0)
    assert result.settings["model"].startswith(f"{name} backbone, ")
    assert (result.data != frame).any(axis=None)
    assert np.isfinite(result.residuals[["before", "after"]]).all(axis=None)


def test_the_default_backbone_repairs_rows_and_reads_text():
    """Closer to the clean data than the noisy data is, where text explains most of the target."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 2))
    kind = rng.choice(["p", "q"], 300)
    y = x @ [2.0, -1.0] + np.where(kind == "p", 8, -8)
    clean = pd.DataFrame({"u": x[:, 0], "v": x[:, 1], "y": y})
    std = clean.std().to_numpy()
    noisy = clean + 0.3 * std * rng.normal(size=clean.shape)
    result = refine(noisy.assign(kind=kind), "y", max_epochs=30)

    def error(frame):
        return np.sqrt(((frame - clean).to_numpy() / std) ** 2).mean()

    assert error(result.data[list(clean)]) < 0.99 * error(noisy)
    assert result.residuals["before"].abs().mean() < 0.5 * std[2]
    np.testing.assert_array_equal(result.data["kind"], kind)


def failing(x):
    raise RuntimeError("out of cheese\nredo from start")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model": "resnet"}, BackboneError, "'resnet' for rows; choose one of mlp"),
        ({"model": "resnet", "window": 3}, BackboneError, "choose one of mlp, linear, lstm"),
        ({"model": object()}, UnsupportedError, "as a model"),
        ({"model": failing}, ModelError, r"input of shape \(3,\) .*a, b, c.*out of cheese"),
        ({"model": lambda x: x}, ModelError, r"returns an array of shape \(3,\), not .* \(1,\)"),
        ({"model": lambda x: None}, ModelError, "returns a NoneType"),
        ({"model": lambda x: np.asarray(x).sum()}, ModelError, "TracerArrayConversionError"),
        ({"model": (linear, (np.ones(5), 1.0))}, ModelError, "fails on an input"),
        (
            {"model": Model(lambda p, x: x.sum(), None, lambda p, x: x.sum())},
            ModelError,
            r"shape \(2, 3\)",
        ),
        ({"model": LINEAR_ROWS, "window": 3, "target": None}, ModelError, r"shape \(3, 4\)"),
        ({"max_epochs": 0}, BackboneError, "max_epochs"),
        ({"window": "24"}, UnsupportedError, "window must be a whole number"),
        ({"window": 2.0}, UnsupportedError, "window"),
        ({"horizon": 2}, UnsupportedError, "give window="),
        ({"seed": 1.5}, UnsupportedError, "seed"),
        ({"seed": None}, UnsupportedError, "seed"),
        ({"max_steps": -1}, UnsupportedError, "max_steps"),
        ({"max_steps": True}, UnsupportedError, "max_steps"),
        ({"step_size": 0.0}, UnsupportedError, "step_size must be a positive number, not 0.0"),
        ({"step_size": "0.1"}, UnsupportedError, "step_size"),
        ({"step_size": np.nan}, UnsupportedError, "step_size"),
        ({"tolerance": -1.0}, UnsupportedError, "tolerance"),
        ({"rule": "newton"}, UnsupportedError, "rule must be"),
        ({"rule": ["unit_step"]}, UnsupportedError, "rule must be"),
        ({"rule": rules.unit_step(), "step_size": 0.1}, UnsupportedError, "to the rule itself"),
    ],
)
def test_refusals(options, error, words):
    with pytest.raises(error, match=words) as caught:
        refine(rows(), **{"target": "y"} | options)
    assert "\n" not in str(caught.value)
