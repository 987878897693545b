"""How many instances to handle at a time: enough to vectorise, few enough to stay in the caches."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

__all__ = ["default_chunk", "even_chunks"]

_NUMBERS = 2**23  # in one chunk, all that is computed counted once; measured, see RESULTS.md
_FEWEST, _MOST = 16, 16384


def even_chunks(count: int, most: int) -> tuple[int, int]:
    """Number and size of chunks of at most `most` instances, as even as can be."""
    chunks = -(-count // min(count, most))
    return chunks, -(-count // chunks)


def default_chunk(function: Callable[..., Any], *arguments: Any) -> int:
    """How many instances at a time, from what `function` computes of one, whatever their number."""
    one = sum(_sizes(jax.make_jaxpr(function)(*arguments).jaxpr, None))
    return int(np.clip(_NUMBERS // max(one, 1), _FEWEST, _MOST))


def _sizes(jaxpr: Any, moving: set[Any] | None) -> Iterator[int]:
    """Sizes of all values that depend on the arguments that move (weights do not)."""
    moving = set(jaxpr.invars) if moving is None else moving
    for equation in jaxpr.eqns:
        inputs = [v for v in equation.invars if not hasattr(v, "val") and v in moving]
        if not inputs:
            continue
        moving.update(equation.outvars)
        inner = _called(equation)
        if inner is None:
            yield from (int(np.prod(v.aval.shape)) for v in equation.outvars)
        else:
            pairs = zip(inner.invars, equation.invars, strict=True)
            yield from _sizes(inner, {i for i, o in pairs if not hasattr(o, "val") and o in moving})


def _called(equation: Any) -> Any:
    """The program that a plain call runs; None for operations, loops and branches."""
    for name in ("jaxpr", "call_jaxpr"):
        inner = equation.params.get(name)
        inner = getattr(inner, "jaxpr", inner)
        if inner is not None and len(getattr(inner, "invars", ())) == len(equation.invars):
            return None if equation.primitive.name in ("scan", "while") else inner
    return None
