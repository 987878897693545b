"""Rules: what an operation of PyTorch's graphs is in JAX. Users add their own."""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from denograd_jax.errors import UnsupportedError

__all__ = ["Rule", "register_op", "rule_of", "rules_version", "supported_ops"]

Rule: TypeAlias = Callable[..., Any]
_RuleT = TypeVar("_RuleT", bound=Rule)

_RULES: dict[str, Rule] = {}
_exchanged: list[str] = []


def register_op(*names: str) -> Callable[[_RuleT], _RuleT]:
    """Give operations a rule in JAX, or another one: a decorator.

    A rule is called as the operation is in the exported graph, by its schema, with arrays in place
    of tensors: lists come as tuples, dtypes by name ("float32"), devices and memory formats as
    None. It must be pure, and free of Python branches on values.

    Args:
        *names: As `unsupported_ops` lists them: "aten.hardshrink.default", "mine.op.default"; or
            without the overload, "aten.hardshrink", for those that have no rule of their own.

    Example:
        >>> from denograd_jax.bridges import register_op
        >>> @register_op("mine.cube")
        ... def cube(x):
        ...     return x**3
    """
    unnamed = [name for name in names if not isinstance(name, str)]
    if unnamed or not names:
        raise UnsupportedError(
            f'register_op takes names, as in @register_op("aten.hardshrink"), not {unnamed}.'
        )

    def register(rule: _RuleT) -> _RuleT:
        _exchanged.extend(name for name in names if name in _RULES)
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def rule_of(name: str) -> Rule | None:
    """The rule of an operation, or of its name without the overload; None if there is none."""
    return _RULES.get(name) or _RULES.get(name.rpartition(".")[0])


def rules_version() -> int:
    """Another number after each exchange of a rule for another."""
    return len(_exchanged)


def supported_ops() -> tuple[str, ...]:
    """Names of the operations that have a rule; those of ATen not listed are decomposed first."""
    return tuple(sorted(_RULES))
