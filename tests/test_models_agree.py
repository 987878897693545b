"""One small network, its weights put into every library: the refinement is the same."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import contextlib

import equinox as eqx
import flax.linen as linen
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import nnx
from sklearn.neural_network import MLPRegressor

from denograd_jax import as_model, refiner, rules, run
from denograd_jax.models import finite_differences

pytestmark = pytest.mark.slow  # minutes in all; CI runs it

FEATURES, HIDDEN = 3, 8


def weights():
    rng = np.random.default_rng(3)
    shapes = {"w1": (FEATURES, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, 1), "b2": (1,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def network(w, x):
    return jnp.tanh(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"]


network_of_batch = jax.vmap(network, in_axes=(None, 0))


def in_nnx(w):
    class Mlp(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(FEATURES, HIDDEN, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.last = nnx.Linear(HIDDEN, 1, rngs=rngs)

        def __call__(self, x):
            return self.last(self.dropout(jnp.tanh(self.first(x))))

    module = Mlp(nnx.Rngs(0))
    for layer, number in ((module.first, 1), (module.last, 2)):
        layer.kernel[...] = jnp.asarray(w[f"w{number}"])
        layer.bias[...] = jnp.asarray(w[f"b{number}"])
    return module


def in_linen(w):
    class Mlp(linen.Module):
        @linen.compact
        def __call__(self, x, train=True):
            x = jnp.tanh(linen.Dense(HIDDEN)(x))
            return linen.Dense(1)(linen.Dropout(0.5, deterministic=not train)(x))

    layers = {f"Dense_{i}": {"kernel": w[f"w{i + 1}"], "bias": w[f"b{i + 1}"]} for i in (0, 1)}
    return Mlp(), {"params": layers}


def in_equinox(w):
    class Mlp(eqx.Module):
        first: eqx.nn.Linear
        dropout: eqx.nn.Dropout
        last: eqx.nn.Linear

        def __call__(self, x, *, key=None):
            return self.last(self.dropout(jnp.tanh(self.first(x)), key=key))

    key = jax.random.key(0)
    made = eqx.nn.Linear(FEATURES, HIDDEN, key=key), eqx.nn.Linear(HIDDEN, 1, key=key)
    layers = [
        eqx.tree_at(lambda m: (m.weight, m.bias), layer, (w[f"w{i}"].T, w[f"b{i}"]))
        for i, layer in enumerate(made, 1)
    ]
    return Mlp(layers[0], eqx.nn.Dropout(0.5), layers[1])


def haiku_mlp(x, is_training=True):
    x = jnp.tanh(hk.Linear(HIDDEN)(x))
    if is_training:
        x = hk.dropout(hk.next_rng_key(), 0.5, x)
    return hk.Linear(1)(x)


def in_haiku(transform):
    def put(w):
        layers = {"linear": {"w": w["w1"], "b": w["b1"]}, "linear_1": {"w": w["w2"], "b": w["b2"]}}
        transformed = transform(haiku_mlp)
        state = ({},) if isinstance(transformed, hk.TransformedWithState) else ()
        return transformed, layers, *state

    return put


def in_keras(w):
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(HIDDEN, activation="tanh"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    model.set_weights([w["w1"], w["b1"], w["w2"], w["b2"]])
    return model


def in_torch(w):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, HIDDEN),
        torch.nn.Tanh(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(HIDDEN, 1),
    )
    arrays = {"0.weight": w["w1"].T, "0.bias": w["b1"], "3.weight": w["w2"].T, "3.bias": w["b2"]}
    module.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})
    return module


def in_sklearn(w):
    estimator = MLPRegressor(hidden_layer_sizes=(HIDDEN,), activation="tanh", max_iter=1)
    estimator.partial_fit(np.zeros((2, FEATURES)), np.zeros(2))
    estimator.coefs_ = [w["w1"].astype(float), w["w2"].astype(float)]
    estimator.intercepts_ = [w["b1"].astype(float), w["b2"].astype(float)]
    return estimator


def in_numpy(w):
    """In float32, as most networks outside JAX compute."""

    def forward(rows):
        rows = rows.astype(np.float32)
        return (np.tanh(rows @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"])[:, 0]

    return finite_differences(forward)


# How the network is put into a library, whether that takes batches, and how far the refinement may
# be off after six steps: rounding in float32; for finite differences also the error of the slopes,
# 1e-10 of them where predictions come in float64 and 1e-4 where they come in float32.
LIBRARIES = {
    "nnx": (in_nnx, None, 1e-5),
    "linen": (in_linen, None, 1e-5),
    "equinox": (in_equinox, None, 1e-5),
    "haiku": (in_haiku(hk.transform), None, 1e-5),
    "haiku without rng": (in_haiku(lambda f: hk.without_apply_rng(hk.transform(f))), None, 1e-5),
    "haiku with state": (in_haiku(hk.transform_with_state), None, 1e-5),
    "haiku, single": (in_haiku(hk.transform), False, 1e-5),
    "keras": (in_keras, None, 1e-5),
    "torch": (in_torch, None, 1e-5),
    "batched function": (lambda w: lambda x: network_of_batch(w, x), True, 1e-5),
    "single function": (lambda w: lambda x: network(w, x), False, 1e-5),
    "batched pair": (lambda w: (network_of_batch, w), True, 1e-5),
    "scikit-learn": (in_sklearn, None, 1e-5),
    "finite differences in float32": (in_numpy, None, 1e-3),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_refines_alike(library, rng):
    put, batched, tolerance = LIBRARIES[library]
    w = weights()
    x = rng.standard_normal((40, FEATURES)).astype(np.float32)
    y = rng.standard_normal(40).astype(np.float32)

    def refine(model):
        r = refiner(model, rules.unit_step(0.05, 0.1))
        return run(r, model.params, r.init(x, y), max_steps=6)

    want = refine(as_model((network, w)))
    # Keras adds biases to batches as they are, which JAX may be told to refuse.
    strict = library != "keras"
    with contextlib.nullcontext() if strict else jax.numpy_rank_promotion("allow"):
        got = refine(as_model(put(w), batched=batched))
    assert np.abs(want.x - x).max() > 0.1
    np.testing.assert_allclose(got.x, want.x, rtol=0, atol=tolerance)
    np.testing.assert_allclose(got.y, want.y, rtol=0, atol=tolerance)
