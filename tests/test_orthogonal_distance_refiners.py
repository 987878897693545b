"""The iterated Kalman update under transformations, and in refiners that do more."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.sharding import Mesh

from denograd_jax import (
    Model,
    as_model,
    causal_refiner,
    errors,
    layouts,
    models,
    refine,
    refiner,
    rules,
    run,
    stream,
)
from denograd_jax._core._constrained import Limits, constrained
from tests import oracle
from tests.kalman_oracle import MISFIT
from tests.models import linear, tanh_net
from tests.precision import typed


def problem(layout, steps=24, dtype=np.float32):
    rng = np.random.default_rng(7)
    size = 2 * getattr(layout, "length", 1)
    params = typed(oracle.Net(rng, size, 2).params, dtype)
    x, y = rng.normal(size=(steps, 2)).astype(dtype), rng.normal(size=(steps, 2)).astype(dtype)
    return params, x, y


LAYOUTS = [layouts.rows(), layouts.windows(3, 1, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_vmap_jit_scan_and_grad(layout, x64):
    params, x, y = problem(layout, dtype=np.float64)
    r = refiner(tanh_net, rules.orthogonal_distance(0.5, MISFIT), layout)
    state = r.init(x, y)

    @jax.jit
    def refined(scale, x=x):
        state = r.init(x, y)
        state = state._replace(hyperparameters={**state.hyperparameters, "noise_scale": scale})
        state, _ = jax.lax.scan(lambda s, _: (r.step(params, s)[0], None), state, length=3)
        return state.data.x

    scales = jnp.array([0.2, 0.5, 1.1])
    swept = jax.vmap(refined)(scales)
    for scale, found in zip(scales, swept, strict=True):
        np.testing.assert_allclose(found, refined(scale), rtol=1e-10)
    np.testing.assert_allclose(swept[1], run(r, params, state, max_steps=3).x, rtol=1e-10)
    chex.assert_numerical_grads(
        lambda scale: jnp.sum(refined(scale) ** 2), (jnp.array(0.5),), order=1, atol=1e-5
    )
    slope = jax.grad(lambda x: jnp.sum(refined(0.5, x) ** 2))(jnp.asarray(x))
    assert np.isfinite(slope).all()

    several = jax.vmap(lambda x: run(r, params, r.init(x, y), max_steps=2).x)(np.stack([x, 2 * x]))
    np.testing.assert_allclose(several[0], run(r, params, state, max_steps=2).x, rtol=1e-10)


def test_it_can_go_on_and_other_numbers_compile_nothing():
    from tests.compilations import count_compilations

    layout = LAYOUTS[1]
    params, x, y = problem(layout)
    r = refiner(tanh_net, rules.orthogonal_distance(0.5, MISFIT), layout)
    whole = run(r, params, r.init(x, y), max_steps=4)
    parts = run(r, params, run(r, params, r.init(x, y), max_steps=1).state, max_steps=3)
    np.testing.assert_allclose(parts.x, whole.x, atol=1e-6)
    other = refiner(tanh_net, rules.orthogonal_distance(0.2, 0.1), layout)
    assert count_compilations(lambda: run(other, params, other.init(x, y), max_steps=4)) == 0
    state = r.init(x, y)
    jax.jit(r.step, donate_argnums=1)(params, state)  # nothing is donated twice


def test_other_rules_carry_no_origin_and_states_are_not_mixed_up():
    params, x, y = problem(LAYOUTS[0])
    plain, ours = (refiner(tanh_net, rule) for rule in (None, rules.orthogonal_distance()))
    assert plain.init(x, y).origin is None
    mixed = ours.init(x, y)._replace(origin=None)
    with pytest.raises(errors.UnsupportedError, match="anchored"):
        ours.step(params, mixed)


def test_labels_are_refused():
    r = refiner(lambda w, x: w @ x, rules.orthogonal_distance(), refine_targets=False)
    with pytest.raises(errors.UnsupportedError):
        r.step(jnp.ones((3, 2)), r.init(np.ones((4, 2), np.float32), np.array([0, 1, 2, 1])))


def test_direction_is_the_loss_gradient_as_ever():
    params, x, y = problem(LAYOUTS[1])
    directions = []
    for rule in (rules.unit_step(), rules.orthogonal_distance()):
        r = refiner(tanh_net, rule, LAYOUTS[1], keep_direction=True)
        directions.append(r.step(params, r.init(x, y))[1].direction)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *directions)


def test_a_model_with_a_density(x64):
    """The residual is from its mean; the covariance has no say in this rule."""
    params, x, y = problem(LAYOUTS[0], dtype=np.float64)
    whole = models.gaussian(Model(tanh_net, params), np.diag([1.0, 2.0]))
    rule = rules.orthogonal_distance(0.5, MISFIT)
    found = []
    for model, loss in ((Model(tanh_net, params), None), (whole, models.gaussian_nll)):
        r = refiner(model, rule, **({} if loss is None else {"loss": loss}))
        found.append(run(r, model.params, r.init(x, y), max_steps=2).x)
    np.testing.assert_allclose(*found, rtol=1e-10)


def test_a_model_without_gradients():
    """Finite differences on the host, all rows of the Jacobian in one call."""
    pytest.importorskip("sklearn")
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(30, 3)).astype(np.float32), rng.normal(size=(3, 2))
    y = (x @ w + 0.1 * rng.normal(size=(30, 2))).astype(np.float32)
    ridge = Ridge(1e-6, fit_intercept=False).fit(x, y)
    model = as_model(ridge, example=x[:2])
    rule = rules.orthogonal_distance(1.0, 0.1)
    r = refiner(model, rule)
    found = run(r, model.params, r.init(x, y), max_steps=2)
    exact = refiner(linear, rule)
    expected = run(exact, jnp.asarray(ridge.coef_, jnp.float32), exact.init(x, y), max_steps=2)
    np.testing.assert_allclose(found.x, expected.x, atol=2e-3)


# Other refiners.


@pytest.mark.parametrize(
    ("dirty", "layout"),
    [
        (1.0, LAYOUTS[1]),
        pytest.param(0.4, LAYOUTS[0], marks=pytest.mark.slow),
        pytest.param(1.0, LAYOUTS[0], marks=pytest.mark.slow),
        pytest.param(0.4, LAYOUTS[1], marks=pytest.mark.slow),
    ],
)
def test_on_several_devices(layout, dirty, x64):
    params, x, y = problem(layout, 41, np.float64)
    x[5, 1], y[7, 0] = np.nan, np.nan
    rule = rules.orthogonal_distance(0.5, MISFIT, dirty=dirty)
    mesh = Mesh(np.array(jax.devices()[:4]), ("time",))
    one, many = refiner(tanh_net, rule, layout), refiner(tanh_net, rule, layout, mesh=mesh)
    noise = np.random.default_rng(0).uniform(0, 1, x.shape)
    expected = run(one, params, one.init(x, y, noise_x=noise), max_steps=3)
    found = run(many, params, many.init(x, y, noise_x=noise), max_steps=3)
    np.testing.assert_allclose(found.x[:41], expected.x, atol=1e-10)
    np.testing.assert_allclose(found.y[:41], expected.y, atol=1e-10)
    assert found.state.origin.x.sharding == found.state.data.x.sharding


def test_within_limits():
    """A box is a projection of what each step finds, which starts from the observation."""
    params, x, y = problem(LAYOUTS[1])
    r = refiner(tanh_net, rules.orthogonal_distance(0.5, MISFIT), LAYOUTS[1])
    c = constrained(r, Limits(lower_x=-0.5, upper_x=0.5))
    free = r.init(np.clip(x, -0.5, 0.5), y)._replace(origin=r.init(x, y).origin)
    for _ in range(3):
        free, _ = r.step(params, free)
        data = free.data
        free = free._replace(data=data._replace(x=jnp.clip(data.x, -0.5, 0.5)))
    found = run(c, params, c.init(x, y), max_steps=3)
    np.testing.assert_allclose(found.x, free.data.x, atol=1e-6)


def test_on_a_grid():
    """What rounding took back is not added to the next step, which starts from the observation."""
    w = jnp.array([1.0])
    r = refiner(linear, rules.orthogonal_distance())
    limits = Limits(spacing_x=1.0)
    for c in (constrained(r, limits), constrained(constrained(r, limits), Limits(upper_y=9.0))):
        state = c.init(np.float32([[2.0]]), np.float32([4.8]), noise_x=1.0, noise_y=1.0)
        found = run(c, w, state, max_steps=4)  # a linear model: each step finds x = y = 3.4
        np.testing.assert_allclose(found.x, [[3.0]])
        np.testing.assert_allclose(found.y, [3.4], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("lag", [0, 2])
def test_without_look_ahead(lag, x64):
    layout = layouts.windows(3)
    params, x, y = problem(layout, 20, np.float64)
    rule = rules.orthogonal_distance(0.5, MISFIT, dirty=0.4)
    c = causal_refiner(tanh_net, rule, layout, lag=lag, max_steps=3)
    found = c.refine(params, c.init(x, y))
    r = refiner(tanh_net, rule, layout)
    for t in range(c.memory - 1, 20):
        buffer = slice(t - c.memory + 1, t + 1)
        state = r.init(x[buffer], y[buffer])
        alone = run(r, params, state, max_steps=3)
        np.testing.assert_allclose(found.x[t - lag], alone.x[-1 - lag], rtol=1e-9)
        np.testing.assert_allclose(found.y[t - lag], alone.y[-1 - lag], rtol=1e-9)
        _, info = r.step(params, state)
        np.testing.assert_allclose(found.gate[t - lag], info.gate[-1 - lag], rtol=1e-9)


def test_a_series_on_disk_is_refused(tmp_path):
    np.save(tmp_path / "noisy.npy", np.ones((20, 2), np.float32))
    with pytest.raises(errors.UnsupportedError, match="where the data began"):
        stream(
            tanh_net,
            tmp_path / "noisy.npy",
            tmp_path / "refined.npy",
            layout=layouts.windows(3),
            rule=rules.orthogonal_distance(),
        )
    assert not (tmp_path / "refined.npy").exists()


@pytest.mark.slow
def test_a_data_frame_with_a_rule_of_ones_own():
    """Steps in standardised units, within bounds and on a grid; and without look-ahead."""
    rng = np.random.default_rng(0)
    t = np.arange(200)
    frame = pd.DataFrame(
        {"a": np.sin(t / 9) + 0.1 * rng.normal(size=200), "b": np.round(20 * np.cos(t / 9))}
    )
    rule = rules.orthogonal_distance(0.2, 0.3)
    options = {"rule": rule, "window": 4, "max_steps": 3, "model": lambda w: w[-1]}
    found = refine(frame, bounds={"a": (-1, 1)}, integer="b", **options).data
    assert found["a"].between(-1, 1).all()
    assert (found["b"] == found["b"].round()).all()
    assert (found["a"] != frame["a"]).any()
    delayed = refine(frame, causal=True, warm_up=100, **options).data
    assert np.isfinite(delayed["a"]).all()
