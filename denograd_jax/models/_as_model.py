"""One function that recognises a model, whatever library it comes from."""

import inspect
from typing import Any

import jax
import numpy as np

from denograd_jax._types import Model
from denograd_jax.errors import UnsupportedError
from denograd_jax.models._equinox import from_equinox
from denograd_jax.models._finite_differences import from_estimator, is_estimator
from denograd_jax.models._functions import is_instance, model_of, without_params
from denograd_jax.models._haiku import from_haiku, is_haiku
from denograd_jax.models._keras import from_keras
from denograd_jax.models._linen import from_linen

__all__ = ["as_model"]

_ACCEPTED = (
    "a denograd_jax.Model; a function f(x); a pair (predict, params) of a function predict(params, "
    "x) and a pytree of arrays; a Flax nnx module; a pair (module, variables) of a Flax Linen "
    "module and its variables; an Equinox module; a Haiku function with its collections, "
    "(transformed, params) or (transformed, params, state); a Keras 3 model; a PyTorch module; a "
    "fitted estimator with scikit-learn's interface; or an object whose `model` attribute is a "
    "Model"
)


def as_model(obj: Any, *, batched: bool | None = None, example: Any = None) -> Model:
    """Recognises a model and makes it pure functions and parameters, in inference mode.

    Nothing is imported that is not imported already, and the object stays as it is: its weights,
    its mode, its state. Objects of equal architecture get the *same* function objects, so what has
    been compiled for one serves the other too; Keras models, estimators and functions share them
    only with themselves. Look-ahead: no, beyond the model's own.

    Args:
        obj: One of

            - a `Model`, or anything that holds one as its attribute `model`;
            - a pair `(predict, params)`, or a function `f(x)` without parameters;
            - a Flax nnx module, called on a batch;
            - a pair `(module, variables)` of a Flax Linen module, called on a batch;
            - an Equinox module without state, called on one instance;
            - a Haiku function, called on a batch: `(transformed, params)` of `hk.transform`, with
              or without `hk.without_apply_rng`, or `(transformed, params, state)` of
              `hk.transform_with_state`. It gets None for a random key;
            - a Keras 3 model, called on a batch, where Keras runs on JAX: KERAS_BACKEND=jax is set
              before keras is imported. A .keras file of another backend is loaded there as any
              other. The weights are copied;
            - a PyTorch module that `bridges.from_torch` can convert, called on a batch; on windows
              `(n, W, C)` as `(n, C, W)` if its first layer is a convolution;
            - a fitted estimator with scikit-learn's interface, called on a batch. This is slow:
              each gradient is 2 predictions per input, on the host; of trees it is 0. See
              `models.finite_differences`, whose default settings are used.

            Parameters of a Linen module's `__call__` or of a Haiku function that are named `train`,
            `training`, `is_training`, `deterministic`, `use_running_average` or `inference` get the
            value that means inference, whatever their default (unless a Linen module was
            constructed with it).
        batched: Whether a function, a Linen, Haiku, Keras or Equinox module takes a batch along
            the first axis, `(n, ...)` to `(n, q)`, rather than one instance; by default as said
            above, and False for functions. The instances of a batch must not interact.
        example: Instances as the model will see them, `(n, d)` or `(n, W, C)`; only PyTorch modules
            need them, where their first layer does not tell the shape.

    Returns:
        The model, with `predict_batch` where the object takes batches.

    Raises:
        UnsupportedError: If the object is none of these; or cannot be used: a Keras model on
            another backend, an estimator that is not fitted, a classifier without probabilities.

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
    # First, since a Keras model may also be a module of the library that Keras runs on.
    if is_instance(obj, "keras", "Model"):
        return from_keras(obj, batched is not False)
    if is_instance(obj, "flax.nnx", "Module"):
        from denograd_jax.backbones._pure import as_pure

        return as_pure(obj)
    if is_instance(obj, "torch.nn", "Module"):
        from denograd_jax.bridges import from_torch_on

        return from_torch_on(obj, example)
    if is_instance(obj, "equinox", "Module"):
        return from_equinox(obj, bool(batched))
    if is_haiku(obj):
        return from_haiku(obj, (), True)
    if is_estimator(obj):
        return from_estimator(obj)
    if isinstance(obj, tuple) and obj:
        return _from_tuple(obj, batched)
    if callable(obj) and not inspect.isclass(obj) and not _is_linen(obj):
        return model_of(without_params(obj), (), bool(batched))
    raise _unsupported(obj)


def _from_tuple(obj: tuple[Any, ...], batched: bool | None) -> Model:
    first, *others = obj
    if is_haiku(first):
        return from_haiku(first, tuple(others), batched is not False)
    if len(others) == 1 and _is_linen(first):
        return from_linen(first, others[0], batched is not False)
    if len(others) == 1 and callable(first) and all(map(_is_numeric, jax.tree.leaves(others))):
        return model_of(first, others[0], bool(batched))
    raise _unsupported(obj)


def _is_linen(obj: Any) -> bool:
    return is_instance(obj, "flax.linen", "Module")


def _is_numeric(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex)


def _unsupported(obj: Any) -> UnsupportedError:
    return UnsupportedError(f"cannot use {obj!r:.200} as a model. Expected {_ACCEPTED}.")
