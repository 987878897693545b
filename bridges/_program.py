"""An exported graph as data, and running it in JAX.

A program knows the *names* of weights, not their values: programs of equal architecture are equal
keys, and share what has been compiled for the first of them.
"""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from denograd_jax._types import Instance, Instances, Model, Params, Predict, PredictBatch
from denograd_jax.bridges import aten  # noqa: F401  # registers the rules
from denograd_jax.bridges._registry import rule_of, rules_version
from denograd_jax.errors import DenogradError, ModelError, UnsupportedError

__all__ = [
    "Constant",
    "Input",
    "Operation",
    "Program",
    "Value",
    "Weight",
    "predict_functions",
    "program_of",
]


@dataclass(frozen=True)
class Input:
    """An argument of the program, by position; and its sizes, None where one is left open.

    A program holds sizes as numbers, so that it would be wrong, not refused, on others.
    """

    position: int
    sizes: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class Weight:
    """One of the parameters, by name."""

    name: str


@dataclass(frozen=True)
class Constant:
    """Numbers that are part of the program, equal if all their bytes are."""

    array: Any

    @functools.cached_property
    def _identity(self) -> tuple[Any, ...]:
        array = np.ascontiguousarray(self.array)
        return array.dtype.name, array.shape, hashlib.sha256(array.tobytes()).digest()

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._identity == other._identity


@dataclass(frozen=True)
class Value:
    """What a source or an operation gave, by position: sources come first."""

    position: int


Source: TypeAlias = Input | Weight | Constant


@dataclass(frozen=True, eq=False)
class Operation:
    """A call of a rule; arguments are values, literals, programs, and tuples of these.

    Literals are told apart by type too: 2 and 2.0 are equal in Python, and another operation.
    """

    name: str
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...] = ()

    @functools.cached_property
    def _identity(self) -> tuple[Any, ...]:
        return self.name, _typed(self.arguments), _typed(self.options)

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operation) and self._identity == other._identity


def _typed(argument: Any) -> tuple[Any, ...]:
    if isinstance(argument, tuple):
        return tuple(map(_typed, argument))
    return type(argument), argument


@dataclass(frozen=True)
class Program:
    """What is read, what is done with it in order, and what comes out (a tree of values)."""

    sources: tuple[Source, ...]
    operations: tuple[Operation, ...]
    output: Any

    def __call__(self, params: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
        """Run it on arrays; with torch's rules of promotion, which are NumPy's laxer ones."""
        # Extended here, not where rules are written: a rule must not depend on who calls it.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            values: list[Any] = [_read(source, params, inputs) for source in self.sources]
            for operation in self.operations:
                values.append(_call(operation, params, values))
            return _resolve(self.output, params, values)


def _read(source: Source, params: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
    if isinstance(source, Input):
        return inputs[source.position]
    array = params[source.name] if isinstance(source, Weight) else source.array
    _refuse_wide_integers(array)
    return jnp.asarray(array, jax.dtypes.canonicalize_dtype(array.dtype))


def _refuse_wide_integers(array: Any) -> None:
    """JAX would cut them off, unless it is told to compute in 64 bits."""
    whole = isinstance(array, np.ndarray) and array.dtype.kind in "iu" and array.size
    if whole and jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        limits = np.iinfo(jax.dtypes.canonicalize_dtype(array.dtype))
        if array.min() < limits.min or array.max() > limits.max:
            raise ModelError(
                f"the model holds the whole number {int(np.abs(array).max())}, which needs 64 "
                'bits: set jax.config.update("jax_enable_x64", True) first.'
            )


def _call(operation: Operation, params: Mapping[str, Any], values: Sequence[Any]) -> Any:
    rule = rule_of(operation.name)
    if rule is None:
        raise UnsupportedError(f"no rule for {operation.name}: see bridges.register_op.")
    resolve = functools.partial(_resolve, params=params, values=values)
    options = {name: resolve(option) for name, option in operation.options}
    return rule(*map(resolve, operation.arguments), **options)


def _resolve(argument: Any, params: Mapping[str, Any], values: Sequence[Any]) -> Any:
    if isinstance(argument, Value):
        return values[argument.position]
    if isinstance(argument, tuple):
        return tuple(_resolve(item, params, values) for item in argument)
    if isinstance(argument, Program):
        return lambda *inputs: argument(params, inputs)
    return argument


def predict_functions(
    program: Program, *, batched: bool = True
) -> tuple[Predict, PredictBatch | None]:
    """`predict` and `predict_batch` of a program of one input and one output.

    Equal programs give the *same* function objects, as long as no rule is exchanged for another.

    Args:
        program: What a batch, or a batch of one instance, goes through.
        batched: Whether it is for batches of any size; else there is no `predict_batch`.
    """
    return _predict_functions(program, batched, rules_version())


@functools.lru_cache(maxsize=256)
def _predict_functions(
    program: Program, batched: bool, version: int
) -> tuple[Predict, PredictBatch | None]:
    (sizes,) = (source.sizes for source in program.sources if isinstance(source, Input))

    def predict_batch(params: Params, x: Instances) -> jax.Array:
        _refuse_sizes(jnp.shape(x), sizes)
        with _blaming(x):
            found: jax.Array = program(params, (x,))
            return found

    def predict(params: Params, x: Instance) -> jax.Array:
        _refuse_sizes(jnp.shape(x), sizes and sizes[1:])
        with _blaming(x):
            found: jax.Array = program(params, (x[None],))[0]
            return found

    predict.program = program, batched  # type: ignore[attr-defined]  # for `program_of`
    return predict, predict_batch if batched else None


def _refuse_sizes(shape: tuple[int, ...], sizes: tuple[int | None, ...] | None) -> None:
    if sizes is None:
        return
    alike = [size in (None, given) for size, given in zip(sizes, shape, strict=False)]
    if len(shape) != len(sizes) or not all(alike):
        wanted = ", ".join("any" if size is None else str(size) for size in sizes)
        raise ModelError(
            f"the converted model fails on an input of shape {shape}: it was converted for "
            f"({wanted}). Convert the module with instances of that shape as example."
        )


@contextlib.contextmanager
def _blaming(x: Any) -> Iterator[None]:
    """Tells which input it was that an operation could not take."""
    try:
        yield
    except DenogradError:
        raise
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the converted model fails on an input of shape {jnp.shape(x)} and type "
            f"{jnp.result_type(x)}; expected what the PyTorch module takes ({error})"
        ) from error


def program_of(model: Model) -> tuple[Program, bool]:
    """The program of a model made by `predict_functions`, and whether it takes batches.

    Raises:
        UnsupportedError: If the model was made otherwise.
    """
    found: tuple[Program, bool] | None = getattr(model.predict, "program", None)
    if found is None:
        raise UnsupportedError(
            "only a model that from_torch or from_exported_program made can be saved as such: "
            "save the parameters of others, and build them anew."
        )
    return found
