"""The linear backbone against NumPy's least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from denograd_jax import backbones, layouts
from denograd_jax._core._prepare import prepare
from denograd_jax.errors import BackboneError


def take(data, index):
    x, y = data
    return x[index], y[index], ~jnp.isnan(y[index])


def fit(x, y, index=None):
    index = np.arange(len(x)) if index is None else index
    data = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    shape, outputs = x.shape[1:], y.shape[1]
    return backbones.fit_linear(take, data, index, input_shape=shape, outputs=outputs)


def windows(z, length):
    """All of them, and the step behind each."""
    count = len(z) - length
    return np.stack([z[i : i + length] for i in range(count)]), z[length:]


def var2(rng, steps=4000):
    """Second order, two channels."""
    a, b = np.array([[0.5, 0.2], [0.0, 0.4]]), np.array([[0.3, 0.0], [-0.2, 0.3]])
    z = np.zeros((steps, 2))
    for t in range(2, steps):
        z[t] = a @ z[t - 1] + b @ z[t - 2] + rng.normal(size=2)
    return z


def test_rows_are_fitted_by_least_squares(rng):
    x = rng.normal(size=(9000, 4))  # more than one chunk
    y = x @ rng.normal(size=(4, 2)) + 3 + rng.normal(size=(9000, 2))
    found = fit(x, y)
    design = np.c_[np.ones(len(x)), x]
    weights = np.linalg.solve(design.T @ design + np.eye(5), design.T @ y)
    np.testing.assert_allclose(
        found.model.predict_batch(found.model.params, jnp.asarray(x[:5], jnp.float32)),
        design[:5] @ weights,
        rtol=1e-4,
    )
    assert found.order == 1


def test_the_order_of_an_autoregression_is_found(rng):
    x, y = windows(var2(rng), 12)
    found = fit(x, y)
    assert found.order == 2
    predicted = found.model.predict(found.model.params, jnp.asarray(x[7], jnp.float32))
    design = np.c_[np.ones(len(x)), x[:, -2:].reshape(len(x), -1)]
    weights = np.linalg.solve(design.T @ design + np.eye(5), design.T @ y)
    np.testing.assert_allclose(predicted, design[7] @ weights, rtol=1e-4)
    gradient = jax.jacobian(found.model.predict, 1)(
        found.model.params, jnp.asarray(x[0], jnp.float32)
    )
    assert not gradient[:, :-2].any()
    assert gradient[:, -2:].any()


def test_instances_without_a_target_teach_nothing(rng):
    x = rng.normal(size=(500, 3))
    y = x @ rng.normal(size=(3, 1))
    spoilt = np.where(np.arange(500)[:, None] % 3 == 0, np.nan, y)
    kept = np.flatnonzero(np.arange(500) % 3)
    params = [f.model.params for f in (fit(x, spoilt), fit(x, y, kept))]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *params)


def test_each_target_is_fitted_by_the_instances_that_have_it(rng):
    x = rng.normal(size=(400, 3))
    y = x @ rng.normal(size=(3, 3)) + 0.1 * rng.normal(size=(400, 3))
    holed = y.copy()
    holed[::2, 1] = np.nan
    kernel = fit(x, holed).model.params
    whole, half = fit(x, y).model.params, fit(x[1::2], y[1::2]).model.params
    for found, of_all, of_half in zip(*map(jax.tree.leaves, (kernel, whole, half)), strict=True):
        np.testing.assert_allclose(found[..., [0, 2]], of_all[..., [0, 2]], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[..., 1], of_half[..., 1], rtol=1e-5, atol=1e-6)


def test_equal_and_constant_columns_are_no_obstacle(rng):
    z = rng.normal(size=(300, 2)).cumsum(axis=0)
    z = np.c_[z, z[:, :1], np.ones(300)]
    found = fit(*windows(z, 6))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.model.params))


def test_it_is_a_backbone_like_others(rng):
    """Built by name, and found again by the shapes of its weights; trained it comes to the same."""
    x = rng.normal(size=(400, 3)).astype(np.float32)
    y = (x @ rng.normal(size=(3, 1))).astype(np.float32)
    module = backbones.build("linear", input_shape=(3,), outputs=1, rngs=nnx.Rngs(0))
    data = jnp.asarray(x), jnp.asarray(y)
    options = {"key": jax.random.key(0), "learning_rate": 0.03, "weight_decay": 0.0}
    trained = backbones.train(module, take, data, np.arange(350), np.arange(350, 400), **options)
    solved = fit(x, y).model
    assert jax.tree.structure(solved.params) == jax.tree.structure(trained.model.params)
    np.testing.assert_allclose(
        solved.predict_batch(solved.params, data[0]),
        trained.model.predict_batch(trained.model.params, data[0]),
        atol=0.1,
    )


def test_windows_of_a_series_are_cut_as_the_layout_cuts_them(rng):
    z = var2(rng, 600).astype(np.float32)
    layout = layouts.windows(4, target_columns=(0, 1))
    data = prepare(layout, z)

    def gather(data, index):
        cut = layout.gather(data, index)
        return cut.x, cut.y, cut.observed_y

    found = backbones.fit_linear(gather, data, np.arange(596), input_shape=(4, 2), outputs=2)
    expected = fit(*windows(z, 4))
    assert found.order == expected.order
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        found.model.params,
        expected.model.params,
    )


def test_too_few_instances():
    with pytest.raises(BackboneError, match="3 instances with a target for 3 weights"):
        fit(np.ones((3, 3)), np.ones((3, 1)))
