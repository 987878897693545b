"""Shape aliases and the few signatures that the rooms of the library share."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax

Params: TypeAlias = Any  # any pytree of arrays: what the model was trained to
Instance: TypeAlias = Annotated[jax.Array, "feature | window channel"]
Instances: TypeAlias = Annotated[jax.Array, "instance feature | instance window channel"]
Target: TypeAlias = Annotated[jax.Array, "target"]
Targets: TypeAlias = Annotated[jax.Array, "instance target"]
Scalar: TypeAlias = Annotated[jax.Array, ""]

Predict: TypeAlias = Callable[[Params, Instance], jax.Array]
"""One instance in, its prediction out: `(d,)` or `(W, C)` to `()` or `(q,)`. Pure."""

PredictBatch: TypeAlias = Callable[[Params, Instances], jax.Array]
"""Many instances in, their predictions out; instances must not interact."""

Loss: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""`loss(prediction, target)` of one instance: element by element, or already one number."""


class Model(NamedTuple):
    """A model as two pure functions and its parameters.

    Attributes:
        predict: One instance in, its prediction out; `(d,)` or `(W, C)` to `()` or `(q,)`.
        params: Pytree of arrays handed to both functions.
        predict_batch: The same for a batch along the first axis. Where present it is used in
            place of `jax.vmap(predict)`; its instances must not interact (no batch statistics).
    """

    predict: Predict
    params: Params
    predict_batch: PredictBatch | None = None
