"""Networks in Flax, and how the study trains them: Adam, 1e-3, at most 100 epochs, patience 15.

`backbones.train` lets the rate fall along a cosine and clips gradients to norm 1 besides.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from denograd_jax import backbones

TRAINING = {"learning_rate": 1e-3, "weight_decay": 0.0, "warmup_fraction": 0.0}
EPOCHS, PATIENCE = 100, 15
WIDTHS = (128, 64, 32)
LATENT, WIDTH = 8, 64
CHUNK = 2048


class Autoencoder(nnx.Module):
    """A dense autoencoder with 8 latent numbers."""

    def __init__(self, columns, *, rngs):
        widths = columns, WIDTH, LATENT, WIDTH, columns
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(widths)])

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


class Residual(nnx.Module):
    """A dense network of width 64 that is added to its input."""

    def __init__(self, columns, *, rngs):
        self.into = nnx.Linear(columns, WIDTH, rngs=rngs)
        self.within = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, columns, rngs=rngs)

    def __call__(self, x):
        hidden = nnx.relu(self.into(x))
        hidden = hidden + nnx.relu(self.within(hidden))
        return x + self.out(hidden)


def build(name, shape, seed):
    """A network of the study for one target, by name; `shape` is that of an instance."""
    rngs = nnx.Rngs(seed)
    if name == "dnn":
        options = {"widths": WIDTHS, "activation": "relu"}
        return backbones.build("mlp", input_shape=shape, outputs=1, rngs=rngs, **options)
    plain = "dlinear", "ft_transformer"  # have no linear path to leave out
    options = {} if name in plain else {"linear_path": False}
    if name == "lstm":
        options |= {"units": 64, "layers": 2}
    return backbones.build(name, input_shape=shape, outputs=1, rngs=rngs, **options)


def gather(examples, index):
    """Instances, targets, and that these are observed."""
    x, y = examples
    return x[index], y[index], jnp.ones(y[index].shape, bool)


def trained(module, x, y, training, seed):
    """The trained model.

    Args:
        module: The untrained network.
        x: Instances, those of training first.
        y: Targets, `(n, q)`.
        training: How many instances are for training; the others tell when to stop.
        seed: Of the shuffling.
    """
    examples = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    found = backbones.train(
        module,
        gather,
        examples,
        np.arange(training),
        np.arange(training, len(x)),
        key=jax.random.key(seed),
        max_epochs=EPOCHS,
        patience=PATIENCE,
        **TRAINING,
    )
    return found.model


def predicted(model, x):
    """Predictions `(n, q)`, a chunk at a time."""
    predict = jax.jit(model.predict_batch)
    x = np.asarray(x, np.float32)
    chunks = [x[start : start + CHUNK] for start in range(0, len(x), CHUNK)]
    return np.concatenate([np.asarray(predict(model.params, c)) for c in chunks]).astype(float)
