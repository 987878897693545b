"""Sizes, which stay Python numbers, and control flow."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax

from denograd_jax.bridges._registry import register_op

__all__: list[str] = []

for _name in (
    "add",
    "and_",
    "eq",
    "floordiv",
    "ge",
    "getitem",
    "gt",
    "le",
    "lt",
    "mod",
    "mul",
    "ne",
    "neg",
    "or_",
    "pow",
    "sub",
    "truediv",
):
    register_op(f"_operator.{_name}")(getattr(operator, _name))
register_op("math.ceil")(math.ceil)
register_op("math.floor")(math.floor)
register_op("math.trunc")(math.trunc)
register_op("torch.sym_float")(float)
register_op("torch.sym_int")(int)
register_op("torch.sym_max")(max)
register_op("torch.sym_min")(min)
register_op("torch.sym_not")(operator.not_)
register_op("torch._sym_sqrt")(math.sqrt)


@register_op("aten.sym_size.int")
def size_along(self: jax.Array, dim: int) -> Any:
    return self.shape[dim]


@register_op("aten.sym_numel.default")
def number_of_elements(self: jax.Array) -> Any:
    return self.size


@register_op("cond")
def cond(pred: Any, true_fn: Any, false_fn: Any, operands: Sequence[jax.Array] = ()) -> Any:
    """`torch.cond`; branches are programs."""
    if isinstance(pred, bool):
        return (true_fn if pred else false_fn)(*operands)
    return jax.lax.cond(pred, true_fn, false_fn, *operands)
