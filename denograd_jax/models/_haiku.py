"""Haiku: what `hk.transform` or `hk.transform_with_state` returned, and its parameters."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax

from denograd_jax._types import Model, Params, Predict
from denograd_jax.errors import UnsupportedError
from denograd_jax.models._functions import inference_arguments, is_instance, model_of, reuse

__all__ = ["from_haiku", "is_haiku"]


def is_haiku(obj: Any) -> bool:
    """Whether the object is a transformed function."""
    return is_instance(obj, "haiku", "Transformed") or _has_state(obj)


def from_haiku(transformed: Any, collections: tuple[Any, ...], batched: bool) -> Model:
    """A transformed function with its parameters and, if it has one, its state."""
    names = ("params", "state") if _has_state(transformed) else ("params",)
    fits = len(collections) == len(names)
    if not fits or not all(isinstance(given, Mapping) for given in collections):
        raise UnsupportedError(
            f"expected the Haiku {type(transformed).__name__} together with what its init returns, "
            f"({', '.join(('transformed', *names))}); got with it {collections!r:.200}."
        )
    return model_of(_apply(transformed), collections, batched)


def _has_state(transformed: Any) -> bool:
    return is_instance(transformed, "haiku", "TransformedWithState")


@reuse
def _apply(transformed: Any) -> Predict:
    apply, has_state = transformed.apply, _has_state(transformed)
    parameters = inspect.signature(apply).parameters
    position = 2 if has_state else 1
    # `hk.without_apply_rng` takes the argument away; nothing is drawn in inference mode.
    rng = (None,) if tuple(parameters)[position : position + 1] == ("rng",) else ()
    inference = inference_arguments(parameters)

    def predict(collections: Params, x: jax.Array) -> jax.Array:
        found = apply(*collections, *rng, x, **inference)
        return found[0] if has_state else found  # type: ignore[no-any-return]

    return predict
