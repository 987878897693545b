"""What a module is called on: instances that were given, or a guess from its first layer."""

import copy
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from denograd_jax.bridges._torch_tensors import import_torch
from denograd_jax.errors import ModelError, UnsupportedError

__all__ = ["Call", "calls_on", "first_layer"]

_ROWS = 2  # an axis of size 1 would be taken for one that can be broadcast
_STEPS = 5  # of a window, where the layers leave its length open
_LONGEST = 512  # window that is tried where they do not


class Call(NamedTuple):
    """A way to call a module on instances.

    Attributes:
        module: What takes them, the batch on the first axis.
        example: A tensor that it takes, `(n, ...)` with n > 1.
        open_axes: Axes of the example whose size is left open.
    """

    module: Any
    example: Any
    open_axes: tuple[int, ...]


def calls_on(module: Any, instances: Any | None) -> Iterator[Call]:
    """Yield the ways in which the module may be meant to be called, the likeliest first.

    Raises:
        UnsupportedError: If it runs on none of the inputs tried.
        ModelError: If it does not run on the instances given.
    """
    torch = import_torch()
    floats = (t.dtype for t in module.state_dict().values() if t.is_floating_point())
    dtype = next(floats, torch.float32)
    failure = "its layers do not tell the shape"
    for candidate in _candidates(module) if instances is None else [_given(instances)]:
        with torch.inference_mode(False):
            example = torch.as_tensor(candidate.instances, dtype=dtype)
        works = False
        for called in _arrangements(module, example):
            failed, found = _tried(called, example)
            failure = failure if failed is None else f"{tuple(example.shape)}: {failed}"
            if failed is None:
                _refuse_output(module, found)
                works = True
                yield Call(called, example, candidate.open_axes)
        if works:
            return
    if instances is None:
        raise UnsupportedError(
            f"cannot convert {type(module).__name__}: it runs on no input that was tried "
            f"({failure}). Pass the example input, from_torch(module, x), with x of shape (n, ...)."
        )
    raise ModelError(f"the model fails on an input of shape {failure}")


class _Candidate(NamedTuple):
    instances: np.ndarray
    open_axes: tuple[int, ...]


def _given(instances: Any) -> _Candidate:
    if hasattr(instances, "detach"):
        instances = instances.detach().cpu()
    try:
        array = np.asarray(instances, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(
            f"the example input must be an array of numbers, (n, ...), not {instances!r:.100}."
        ) from error
    if array.ndim < 1 or len(array) == 0:
        raise UnsupportedError(
            f"the example input must be instances, (n, ...), not of shape {array.shape}."
        )
    array = np.nan_to_num(array, posinf=0, neginf=0)  # only the shape matters
    return _Candidate(np.concatenate([array, array])[: max(_ROWS, len(array))], (0,))


def _candidates(module: Any) -> Iterator[_Candidate]:
    """Inputs for which the first layer with weights is made, alone or along time."""
    kind, width = first_layer(module)
    steps = itertools.chain([_STEPS], range(2, _LONGEST))
    shapes: Iterable[tuple[int, ...]] = ()
    if kind is None:
        shapes = [(4,)]
    elif kind == "Linear":
        shapes = itertools.chain([(width,)], ((n, width) for n in steps))
    elif kind in ("LSTM", "GRU", "RNN"):
        shapes = ((n, width) for n in steps)
    elif kind == "Conv1d":
        shapes = ((width, n) for n in range(_LONGEST, 0, -1))
    elif width:
        shapes = [(width,)]
    rng = np.random.default_rng(0)
    for shape in shapes:
        yield _Candidate(rng.standard_normal((_ROWS, *shape)), tuple(range(len(shape))))


def first_layer(module: Any) -> tuple[str | None, int]:
    """The kind of the first layer that is made for a number of channels, and that number."""
    for child in module.modules():
        if type(child).__name__ == "Flatten":  # what is flattened may have any shape
            return "Flatten", 0
        for name in ("in_features", "input_size", "in_channels", "num_features"):
            if hasattr(child, name):
                return type(child).__name__, int(getattr(child, name))
        if hasattr(child, "normalized_shape"):
            return type(child).__name__, int(child.normalized_shape[-1])
        if not any(True for _ in child.children()) and any(True for _ in child.parameters()):
            return type(child).__name__, 0
    return None, 0


def _arrangements(module: Any, example: Any) -> Iterator[Any]:
    """The module itself; and, if it may expect time first, turned around."""
    yield module
    may_turn = any(getattr(child, "batch_first", True) is False for child in module.modules())
    if may_turn and example.dim() == 3:
        turned = copy.copy(module)
        turned.forward = lambda x: module(x.transpose(0, 1))
        yield turned


def _tried(module: Any, example: Any) -> tuple[str | None, Any]:
    """Why the module fails on the example, if it does; else what it returns."""
    torch = import_torch()
    try:
        with torch.inference_mode(False), torch.no_grad():
            return None, module(example.clone())
    except Exception as error:  # whatever a user's forward may raise
        return str(error).strip().partition("\n")[0][:200], None


def _refuse_output(module: Any, found: Any) -> None:
    """Of anything but one tensor with a gradient, for each instance."""
    torch = import_torch()
    name = type(module).__name__
    if not isinstance(found, torch.Tensor):
        raise UnsupportedError(
            f"{name} returns a {type(found).__name__} instead of a tensor: wrap it in a module "
            "whose forward returns the prediction alone."
        )
    if not found.is_floating_point():
        raise UnsupportedError(
            f"{name} returns {found.dtype}, which has no gradient: wrap it in a module whose "
            "forward returns numbers before they are rounded or compared."
        )
    if found.dim() == 0:
        raise UnsupportedError(
            f"{name} returns one number for the whole batch; expected one prediction for each "
            "instance, (n, q) or (n,)."
        )
