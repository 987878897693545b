"""Predictions where a target is missing."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from denograd_jax._types import Model
from denograd_jax.layouts import Data, Layout

__all__ = ["predictions"]

BATCH = 1024


def predictions(
    model: Model, layout: Layout, data: Data, instances: NDArray[np.intp]
) -> NDArray[np.float32]:
    """The model's prediction `(n, q)` for instances of these numbers; NaN where there is none.

    An instance that crosses from one segment into the next has none.
    """
    batches = []
    for start in range(0, len(instances), BATCH):
        index = instances[start : start + BATCH]
        padded = np.resize(index, BATCH).astype(np.int32)
        found = np.asarray(_predict(model.predict, layout, model.params, data, padded))
        batches.append(found[: len(index)])
    return np.concatenate(batches)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _predict(predict: Any, layout: Any, params: Any, data: Data, index: jax.Array) -> jax.Array:
    # A missing target makes an instance invalid; here that is why it is asked for.
    assert data.y is not None
    known = data._replace(observed_y=jnp.ones(data.y.shape, bool))
    cut = layout.gather(known, index)
    found = jax.vmap(predict, in_axes=(None, 0))(params, cut.x).reshape(index.size, -1)
    return jnp.where(cut.valid[:, None], found, jnp.nan)
