"""Haiku functions with their parameters and state."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax.errors import UnsupportedError
from denograd_jax.models import as_model

pytestmark = pytest.mark.slow  # minutes in all; CI runs it


@pytest.fixture(autouse=True)
def as_haiku_expects():
    """Its dropout multiplies booleans and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def network(x, is_training):
    x = jnp.tanh(hk.Linear(8)(x))
    x = hk.BatchNorm(True, True, 0.9)(x, is_training)
    if is_training:
        x = hk.dropout(hk.next_rng_key(), 0.5, x)
    return hk.Linear(2)(x)


TRANSFORMED = hk.transform_with_state(network)


def collections(seed):
    """After one step of training, so that the batch statistics are not the first ones."""
    key, x = jax.random.key(seed), jax.random.normal(jax.random.key(9), (16, 3))
    params, state = TRANSFORMED.init(key, x, is_training=True)
    _, state = TRANSFORMED.apply(params, state, key, x, is_training=True)
    return params, state


@pytest.mark.parametrize("without_rng", [False, True])
def test_batch_statistics_are_those_of_training(without_rng, rng):
    params, state = collections(0)
    transformed = hk.without_apply_rng(TRANSFORMED) if without_rng else TRANSFORMED
    before = jax.tree.map(np.array, (params, state))
    model = as_model((transformed, params, state))
    x = jnp.asarray(rng.standard_normal((5, 3), np.float32))
    want, _ = TRANSFORMED.apply(params, state, None, x, is_training=False)
    got = jax.jit(model.predict_batch)(model.params, x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    one = jax.vmap(model.predict, (None, 0))(model.params, x)
    np.testing.assert_allclose(one, want, rtol=1e-5, atol=1e-6)
    assert jax.tree.all(jax.tree.map(np.array_equal, before, (params, state)))


def test_the_same_function_with_other_weights_shares_its_functions():
    first, second = (as_model((TRANSFORMED, *collections(seed))) for seed in (0, 1))
    assert first.predict is second.predict
    assert first.predict_batch is second.predict_batch
    assert not np.array_equal(*(m.params[0]["linear"]["w"] for m in (first, second)))


def test_params_stay_on_the_host():
    given = jax.tree.map(np.asarray, collections(0))
    leaves = jax.tree.leaves(as_model((TRANSFORMED, *given)).params)
    assert all(type(leaf) is np.ndarray for leaf in leaves)


@pytest.mark.parametrize("without_rng", [False, True])
def test_an_argument_called_rng_is_the_users_own(without_rng):
    """Only the one that `hk.transform` puts in second place is Haiku's."""
    transformed = hk.transform(lambda x, rng=2.0: hk.Linear(1, with_bias=False)(x) * rng)
    params = transformed.init(jax.random.key(0), jnp.ones((1, 3)))
    want = transformed.apply(params, None, jnp.ones((4, 3)))
    model = as_model((hk.without_apply_rng(transformed) if without_rng else transformed, params))
    np.testing.assert_allclose(model.predict_batch(model.params, jnp.ones((4, 3))), want)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p, s: TRANSFORMED, r"\(transformed, params, state\)"),
        (lambda p, s: (TRANSFORMED, p), r"\(transformed, params, state\)"),
        (lambda p, s: (TRANSFORMED, (p, s)), r"\(transformed, params, state\)"),
        (lambda p, s: hk.transform(network), r"\(transformed, params\)"),
        (lambda p, s: (hk.transform(network), p, s), r"\(transformed, params\)"),
        (lambda p, s: (hk.transform(network), [1.0]), r"\(transformed, params\)"),
    ],
)
def test_what_does_not_belong_together_is_refused(make, message):
    with pytest.raises(UnsupportedError, match=message):
        as_model(make(*collections(0)))
