"""Models from what people have: functions and modules of the neural-network libraries."""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from denograd_jax._types import Instance, Model, Params, Predict, PredictBatch
from denograd_jax.errors import UnsupportedError

__all__ = ["as_model"]

_LINEN = ("flax.linen", "Module")

_INFERENCE = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
    "inference": True,
}

_ACCEPTED = (
    "a denograd_jax.Model; a function f(x); a pair (predict, params) of a function predict(params, "
    "x) and a pytree of arrays; a Flax nnx module; a pair (module, variables) of a Flax Linen "
    "module and its variables; an Equinox module; a PyTorch module; or an object whose `model` "
    "attribute is a Model"
)


def as_model(obj: Any, *, batched: bool | None = None) -> Model:
    """Recognises a model and makes it pure functions and parameters, in inference mode.

    Nothing is imported that is not imported already, no array is put on a device, and the object
    stays as it is. Objects of equal architecture get the *same* function objects, so what has been
    compiled for one serves the other too.

    Args:
        obj: One of

            - a `Model`, or anything that holds one as its attribute `model`;
            - a pair `(predict, params)`, or a function `f(x)` without parameters;
            - a Flax nnx module, called on a batch;
            - a pair `(module, variables)` of a Flax Linen module, called on a batch. Parameters of
              its `__call__` named `train`, `training`, `is_training`, `deterministic`,
              `use_running_average` or `inference` get the value that means inference, whatever
              their default, unless the module was constructed with it;
            - an Equinox module without state, called on one instance;
            - a PyTorch module that `bridges.from_torch` understands, called on a batch.
        batched: Whether a function, a Linen or an Equinox module takes a batch along the first
            axis, `(n, ...)` to `(n, q)`, rather than one instance; by default as said above, and
            False for functions. The instances of a batch must not interact.

    Returns:
        The model, with `predict_batch` where the object takes batches.

    Raises:
        UnsupportedError: If the object is none of these.

    Example:
        >>> import jax.numpy as jnp
        >>> model = as_model((lambda w, x: x @ w, jnp.array([1.0, 2.0])), batched=True)
        >>> model.predict(model.params, jnp.array([3.0, 4.0]))
        Array(11., dtype=float32)
    """
    if isinstance(obj, Model):
        return obj
    if isinstance(held := getattr(obj, "model", None), Model):
        return held
    if _is_instance(obj, "flax.nnx", "Module"):
        from denograd_jax.backbones._pure import as_pure

        return as_pure(obj)
    if _is_instance(obj, "torch.nn", "Module"):
        from denograd_jax.bridges import from_torch

        return from_torch(obj)
    if _is_instance(obj, "equinox", "Module"):
        return _from_equinox(obj, bool(batched))
    if isinstance(obj, tuple) and len(obj) == 2:
        return _from_pair(*obj, batched)
    if callable(obj) and not inspect.isclass(obj) and not _is_instance(obj, *_LINEN):
        return _model(_without_params(obj), (), bool(batched))
    raise _unsupported(obj)


def _from_pair(first: Any, second: Any, batched: bool | None) -> Model:
    if _is_instance(first, *_LINEN):
        return _from_linen(first, second, batched is not False)
    if callable(first) and all(map(_is_numeric, jax.tree.leaves(second))):
        return _model(first, second, bool(batched))
    raise _unsupported((first, second))


def _from_linen(module: Any, variables: Any, batched: bool) -> Model:
    if not isinstance(variables, Mapping) or (variables and "params" not in variables):
        raise UnsupportedError(
            f"expected the variables of {type(module).__name__} as module.init returns them, a "
            f"mapping with the key 'params'; got {variables!r:.200}."
        )
    return _model(_linen_apply(module), variables, batched)


def _from_equinox(module: Any, batched: bool) -> Model:
    equinox = sys.modules["equinox"]

    def is_state(leaf: Any) -> bool:
        return isinstance(leaf, equinox.nn.StateIndex)

    if any(map(is_state, jax.tree.leaves(module, is_leaf=is_state))):
        raise UnsupportedError(
            f"the Equinox module {type(module).__name__} has state (batch statistics?), which is "
            "kept beside it: pass the pair (predict, params) of a function predict(params, x) "
            "that calls the module with its state, in inference mode."
        )
    params, static = equinox.partition(equinox.nn.inference_mode(module), _is_array)
    leaves, structure = jax.tree.flatten(static)  # hashable even where the module holds lists
    return _model(_equinox_call((structure, *leaves)), params, batched)


def _model(predict: Callable[[Params, Any], jax.Array], params: Params, batched: bool) -> Model:
    return Model(_batch_of_one(predict), params, predict) if batched else Model(predict, params)


def _reuse(build: Callable[[Any], Predict]) -> Callable[[Any], Predict]:
    """Remembers what was built from equal objects; from those without a hash it builds anew."""
    remembered = functools.lru_cache(maxsize=256)(build)

    @functools.wraps(build)
    def reuse(source: Any) -> Predict:
        try:
            hash(source)
        except TypeError:
            return build(source)
        return remembered(source)

    return reuse


@_reuse
def _batch_of_one(predict_batch: PredictBatch) -> Predict:
    def predict(params: Params, x: Instance) -> jax.Array:
        return predict_batch(params, x[None])[0]

    return predict


@_reuse
def _without_params(function: Callable[[Any], jax.Array]) -> Predict:
    def predict(params: Params, x: jax.Array) -> jax.Array:
        return function(x)

    return predict


@_reuse
def _linen_apply(module: Any) -> Predict:
    inference = _inference_arguments(module)

    def predict(variables: Params, x: jax.Array) -> jax.Array:
        return module.apply(variables, x, **inference)  # type: ignore[no-any-return]

    return predict


def _inference_arguments(module: Any) -> dict[str, bool]:
    """What a Linen module's `__call__` must be told for inference.

    A default of None announces `flax.linen.merge_param`: the value comes from the call or from the
    constructor, and Flax raises where both give one.
    """
    parameters = inspect.signature(type(module).__call__).parameters

    def is_open(name: str) -> bool:
        given = parameters[name].default is None and getattr(module, name, None) is not None
        return not given

    return {
        name: value for name, value in _INFERENCE.items() if name in parameters and is_open(name)
    }


@_reuse
def _equinox_call(flat_static: tuple[Any, ...]) -> Predict:
    equinox = sys.modules["equinox"]
    structure, *leaves = flat_static
    static = jax.tree.unflatten(structure, leaves)
    key = inspect.signature(type(static).__call__).parameters.get("key")
    # A key without a default must be given, though nothing is drawn in inference mode.
    required = {"key": None} if key is not None and key.default is key.empty else {}

    def predict(params: Params, x: jax.Array) -> jax.Array:
        return equinox.combine(params, static)(x, **required)  # type: ignore[no-any-return]

    return predict


def _is_instance(obj: Any, library: str, name: str) -> bool:
    """`isinstance`, without importing the library: no object of its can exist before that."""
    module = sys.modules.get(library)
    return module is not None and isinstance(obj, getattr(module, name))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _is_numeric(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex)


def _unsupported(obj: Any) -> UnsupportedError:
    return UnsupportedError(f"cannot use {obj!r:.200} as a model. Expected {_ACCEPTED}.")
