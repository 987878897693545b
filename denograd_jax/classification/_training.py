"""A backbone trained to tell classes: by cross-entropy, behind label noise where that is known."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from denograd_jax import backbones
from denograd_jax.robust._policies import POLICIES, Task, TrainingName

__all__ = ["train_classifier"]

ROWS_SEEN = 27_000
"""In all epochs together, of which there are more for small tables: 60 are too few steps there."""
EPOCHS = 60, 200
PATIENCE = 10


def train_classifier(
    name: str,
    x: NDArray[np.float32],
    likelihood: NDArray[Any],
    rows: NDArray[np.intp],
    *,
    key: jax.Array,
    training: TrainingName = "plain",
    max_epochs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> backbones.Trained:
    r"""Train a registered backbone, with a logit for each class.

    .. math:: \min - \log \sum_k \operatorname{softmax}(f(x))_k \, P(\text{given label} \mid k)

    is the cross-entropy where labels are taken as true, and is corrected for a known label noise
    where they are not. Of the rows that train, 15 % decide when to stop: networks fit the right
    labels first.

    Args:
        name: Of the backbone.
        x: Features, `(n, d)`.
        likelihood: P(given label | each class), `(n, classes)`: one-hot labels, or the columns of
            a transition matrix.
        rows: Which rows train, `(m,)`.
        key: JAX random key of weights, batches and the rows that decide when to stop.
        training: How: "plain"; or by "ido" or "rlap", which take labels as given, one-hot, and
            find by themselves which are wrong.
        max_epochs: Most epochs; unless given 60, and more for small tables.
        progress: Called after every epoch, with its number and that of all.

    Returns:
        The model of logits, and how its training went.

    Raises:
        BackboneError: There is no such backbone, or it cannot be trained on these data.

    Source:
        Patrini et al. 2017, the forward correction.
    """
    epochs = int(np.clip(ROWS_SEEN // max(len(rows), 1), *EPOCHS))
    epochs = epochs if max_epochs is None else max_epochs
    module = backbones.build(
        name,
        input_shape=x.shape[1:],
        outputs=likelihood.shape[1],
        rngs=nnx.Rngs(params=key),
    )
    trains, validates = (rows[part] for part in backbones.split_rows(len(rows), key=key))
    return POLICIES[training](
        Task(
            module,
            _gather,
            (jnp.asarray(x), jnp.asarray(likelihood, jnp.float32)),
            trains,
            validates,
            key,
            epochs,
            None if progress is None else (lambda epoch, total, *_: progress(epoch, total)),
            classes=True,
            loss=_corrected,
            patience=max(epochs // 6, PATIENCE),
        )
    )


def _gather(data: Any, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, likelihood = (part[index] for part in data)
    return x, likelihood, jnp.ones(likelihood.shape, bool)


def _corrected(logits: jax.Array, likelihood: jax.Array) -> jax.Array:
    """Cross-entropy behind label noise, of one instance; a likelihood of 0 counts as 1e-9."""
    joint = jax.nn.log_softmax(logits) + jnp.log(jnp.maximum(likelihood, 1e-9))
    return -jax.nn.logsumexp(joint)
