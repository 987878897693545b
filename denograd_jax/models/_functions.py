"""From a function and its parameters to a `Model`; function objects that are shared."""

import functools
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax

from denograd_jax._types import Instance, Model, Params, Predict, PredictBatch

__all__ = ["inference_arguments", "is_instance", "model_of", "reuse", "without_params"]

_INFERENCE = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
    "inference": True,
}


def is_instance(obj: Any, library: str, name: str) -> bool:
    """`isinstance`, without importing the library: no object of its can exist before that."""
    module = sys.modules.get(library)
    return module is not None and isinstance(obj, getattr(module, name, ()))


def inference_arguments(parameters: Mapping[str, Any]) -> dict[str, bool]:
    """What a function with these parameters must be told for inference."""
    return {name: value for name, value in _INFERENCE.items() if name in parameters}


def model_of(function: Callable[[Params, Any], Any], params: Params, batched: bool) -> Model:
    """A model from its function of one instance, or of a batch."""
    return Model(_batch_of_one(function), params, function) if batched else Model(function, params)


def reuse(build: Callable[[Any], Predict]) -> Callable[[Any], Predict]:
    """Gives what was built from an equal object, as long as anyone uses it.

    From objects without a hash it builds anew. A model that nobody uses any more is not kept alive.
    """
    remembered: weakref.WeakValueDictionary[Any, Predict] = weakref.WeakValueDictionary()

    @functools.wraps(build)
    def reuse(source: Any) -> Predict:
        try:
            found = remembered.get(source)
        except TypeError:
            return build(source)
        return remembered.setdefault(source, build(source)) if found is None else found

    return reuse


@reuse
def _batch_of_one(predict_batch: PredictBatch) -> Predict:
    def predict(params: Params, x: Instance) -> jax.Array:
        return predict_batch(params, x[None])[0]

    return predict


@reuse
def without_params(function: Callable[[Any], jax.Array]) -> Predict:
    """The function as one that is handed parameters, and ignores them."""

    def predict(params: Params, x: jax.Array) -> jax.Array:
        return function(x)

    return predict
