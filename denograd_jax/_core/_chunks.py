"""How many instances to handle at a time: enough to vectorise, few enough to stay in the caches."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

__all__ = ["default_chunk", "even_chunks"]

# Numbers that one operation reads and writes, and that a chunk holds in all: 8 MiB and 128 MiB in
# float32. Measured with four models and two lengths of windows, see benchmarks/RESULTS.md.
_OPERATION, _CHUNK = 2**21, 2**25
_FEWEST, _MOST = 16, 16384
_MOVES = ("transpose", "reshape", "squeeze", "expand_dims", "broadcast_in_dim", "rev")
"""Operations that compute nothing, and are fused with those that do."""


class _Work(NamedTuple):
    """Of one operation on one instance: numbers read and written, and numbers it leaves behind."""

    touched: int
    kept: int


def even_chunks(count: int, most: int) -> tuple[int, int]:
    """Number and size of chunks of at most `most` instances, as even as can be."""
    chunks = -(-count // min(count, most))
    return chunks, -(-count // chunks)


def default_chunk(function: Callable[..., Any], *arguments: Any) -> int:
    """How many instances at a time, from what `function` computes of one, whatever their number.

    A power of two: matrix products of other sizes are slower by up to a fifth.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    works = list(_works(jaxpr, set(jaxpr.invars)))
    touched = max((work.touched for work in works), default=1)
    kept = sum(work.kept for work in works)
    most = min(_OPERATION // max(touched, 1), _CHUNK // max(kept, 1))
    return 1 << (int(np.clip(most, _FEWEST, _MOST)).bit_length() - 1)


def _works(jaxpr: Any, moving: set[Any]) -> Iterator[_Work]:
    """The operations on what depends on the instance; weights are the same for all of them."""
    for equation in jaxpr.eqns:
        inputs = [v for v in equation.invars if _is_variable(v) and v in moving]
        if not inputs:
            continue
        moving.update(equation.outvars)
        if equation.primitive.name in _MOVES:
            continue
        body = _body(equation)
        kept = sum(map(_size, equation.outvars))
        if body is None:
            yield _Work(kept + sum(map(_size, inputs)), kept)
            continue
        pairs = zip(body.invars, equation.invars, strict=True)
        inner = list(_works(body, {b for b, v in pairs if _is_variable(v) and v in moving}))
        if equation.primitive.name == "scan":  # a step's own values make room for the next step's
            inner = [work._replace(kept=0) for work in inner] + [_Work(0, kept)]
        yield from inner


def _body(equation: Any) -> Any:
    """The program that a call or a scan runs; None for plain operations, and for branches."""
    for name in ("jaxpr", "call_jaxpr"):
        body = equation.params.get(name)
        body = getattr(body, "jaxpr", body)
        if body is not None and len(getattr(body, "invars", ())) == len(equation.invars):
            return body
    return None


def _is_variable(value: Any) -> bool:
    return not hasattr(value, "val")  # literals have a value, and cannot be hashed


def _size(value: Any) -> int:
    return int(np.prod(value.aval.shape))
