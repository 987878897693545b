"""Keras 3 models."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import subprocess
import sys

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from denograd_jax.errors import UnsupportedError
from denograd_jax.models import as_model

pytestmark = pytest.mark.slow  # minutes in all; CI runs it


@pytest.fixture(autouse=True)
def as_keras_expects():
    """Keras adds biases to batches and mixes types as they are."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def trained():
    """With batch statistics of its own, and a dropout that would be seen."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    model(np.linspace(-2, 3, 48, dtype=np.float32).reshape(16, 3), training=True)
    return model


class Subclassed(keras.Model):
    """Its `call` has no argument `training`."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(4)
        self.dropout = keras.layers.Dropout(0.5)
        self.out = keras.layers.Dense(1)

    def call(self, x):
        return self.out(self.dropout(self.hidden(x)))


def functional():
    """Recurrent, on windows."""
    x = keras.Input((6, 2))
    hidden = keras.layers.LSTM(4)(x)
    return keras.Model(x, keras.layers.Dense(1)(hidden))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 3), np.float32))
    return model


@pytest.mark.parametrize(
    ("make", "shape"), [(trained, (3,)), (functional, (6, 2)), (subclassed, (3,))]
)
def test_value_and_gradient(make, shape, rng):
    keras_model = make()
    model = as_model(keras_model)
    x = jnp.asarray(rng.standard_normal((5, *shape), np.float32))
    want = keras_model(x, training=False)
    np.testing.assert_allclose(jax.jit(model.predict_batch)(model.params, x), want, atol=1e-6)
    one = jax.vmap(model.predict, (None, 0))
    np.testing.assert_allclose(one(model.params, x), want, atol=1e-6)
    want = jax.grad(lambda x: keras_model(x, training=False).sum())(x)
    got = jax.grad(lambda x: one(model.params, x).sum())(x)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_model_is_left_alone():
    keras_model = trained()
    before = [np.array(v.value) for v in keras_model.variables]
    model = as_model(keras_model)
    jax.jit(model.predict_batch)(model.params, jnp.ones((4, 3)))
    after = [np.array(v.value) for v in keras_model.variables]
    assert all(map(np.array_equal, before, after))
    assert all(layer.trainable for layer in keras_model.layers)


def test_the_weights_are_those_of_the_day():
    """Later training, in which Keras gives its arrays away, changes nothing."""
    keras_model = trained()
    model = as_model(keras_model)
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
    before = np.asarray(model.predict_batch(model.params, x))
    keras_model.compile("sgd", "mse")
    keras_model.fit(x, x[:, :2], verbose=0)
    assert not np.allclose(keras_model(x), before)
    assert np.array_equal(model.predict_batch(model.params, x), before)


def test_functions_are_those_of_the_model():
    keras_model = trained()
    first, second = as_model(keras_model), as_model(keras_model)
    assert first.predict is second.predict
    assert first.predict_batch is second.predict_batch
    assert as_model(trained()).predict is not first.predict


def test_a_model_without_weights_is_refused():
    with pytest.raises(UnsupportedError, match="has no weights yet"):
        as_model(keras.Sequential([keras.layers.Dense(3)]))


IN_TORCH = """
import sys
import keras, numpy as np
from denograd_jax.errors import UnsupportedError
from denograd_jax.models import as_model

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "gelu"), keras.layers.Dense(2)])
model.save(sys.argv[1])
np.save(sys.argv[2], model.predict(np.eye(3, dtype=np.float32), verbose=0))
try:
    as_model(model)
except UnsupportedError as error:
    print(error)
"""


def test_another_backend_is_refused_and_its_file_taken(tmp_path):
    pytest.importorskip("torch")
    file, prediction = tmp_path / "model.keras", tmp_path / "prediction.npy"
    done = subprocess.run(
        [sys.executable, "-c", IN_TORCH, file, prediction],
        env=os.environ | {"KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Keras runs on 'torch'" in done.stdout
    assert "KERAS_BACKEND=jax before keras is imported" in done.stdout
    model = as_model(keras.saving.load_model(file))
    got = model.predict_batch(model.params, np.eye(3, dtype=np.float32))
    np.testing.assert_allclose(got, np.load(prediction), atol=1e-6)
