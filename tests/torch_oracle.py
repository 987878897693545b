"""Functions of tensors through the bridge, compared with torch itself.

Those of a family are exported together, since an export takes a good part of a second.
"""

import copy
import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from denograd_jax.bridges._exporting import convert, export

TOLERANCES = {"float32": 1e-5, "float64": 1e-11}  # relative to the largest number of a case
# Compiling takes most of the time of these tests, and what is compiled runs once.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def silently(function: Callable[..., Any]) -> Callable[..., Any]:
    """Without torch's own warnings, such as on performance."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)

    return run


class Case(NamedTuple):
    """A function, or a module, of tensors.

    Inputs are normal numbers of a shape, or the given ones. The first one's batch size is left
    open; the others are parameters of the exported module.
    """

    function: Callable[..., Any]
    inputs: tuple[Any, ...] = ((3, 4),)
    fixed: bool = False  # the first is a parameter, too: all sizes are part of the program
    rough: bool = False  # torch itself computes it in float32, or by a truncated series


def on(*inputs, fixed=False, rough=False):
    return lambda function: Case(function, inputs, fixed, rough)


class Family(torch.nn.Module):
    """All cases as one function, from a matrix whose columns they share to a vector."""

    def __init__(self, cases: Mapping[str, Any], dtype: str, seed: int):
        super().__init__()
        self.cases = {k: c if isinstance(c, Case) else Case(c) for k, c in cases.items()}
        self.rng, self.dtype = np.random.default_rng(seed), getattr(torch, dtype)
        shapes = [case.inputs[0] for case in self.cases.values() if not case.fixed]
        self.widths = [math.prod(shape[1:]) for shape in shapes]
        rows = shapes[0][0] if shapes else 2
        self.example = self._tensor((rows, sum(self.widths))).requires_grad_()
        self.weights = torch.nn.ModuleList(map(self._weights, self.cases.values()))

    def _weights(self, case: Case) -> Any:
        """The module of a case, if it is one, or a list of its arguments but the first."""
        if isinstance(case.function, torch.nn.Module):
            return copy.deepcopy(case.function).to(self.dtype).eval()
        given = case.inputs if case.fixed else case.inputs[1:]
        return torch.nn.ParameterList(map(self._tensor, given))

    def _tensor(self, given: Any) -> Any:
        array = self.rng.normal(size=given) if isinstance(given, tuple) else np.asarray(given)
        return torch.tensor(array, dtype=self.dtype)

    def forward(self, x):
        return torch.cat(self.outputs(x))

    def outputs(self, x):
        """A vector for each case."""
        parts = iter(x.split(self.widths, 1))
        found = []
        for case, weights in zip(self.cases.values(), self.weights, strict=True):
            given = [] if case.fixed else [next(parts).unflatten(1, case.inputs[0][1:])]
            given = [x.contiguous() for x in given]
            is_module = isinstance(case.function, torch.nn.Module)
            found.append(weights(*given) if is_module else case.function(*given, *weights))
        return [_vector(f, self.dtype) for f in found]

    def differences(self, found, expected, tolerance):
        """In words: what is not as expected, for each case that is not."""
        lengths = [len(vector) for vector in self.outputs(self.example)]
        names = list(self.cases)
        columns = [name for name, case in self.cases.items() if not case.fixed]
        parts = [
            *_cut("value", names, lengths, found.value, expected.value),
            *_cut("gradient", columns, self.widths, found.x, expected.x),
        ]
        for key, gradient in expected.params.items():
            _, place, rest = key.split(".", 2)
            parts.append((names[int(place)], f"gradient of {rest}", found.params[key], gradient))
        return [
            f"{name}, {what}: {_shown(a)} instead of {_shown(b)}"
            for name, what, a, b in parts
            if not _close(a, b, max(tolerance, 1e-6 * self.cases[name].rough))
        ]


def _vector(found: Any, dtype: Any) -> Any:
    if isinstance(found, tuple | list):
        return torch.cat([_vector(f, dtype) for f in found])
    found = torch.view_as_real(found.resolve_conj()) * 1 if found.is_complex() else found
    return found.reshape(-1).to(dtype)


class Draw(NamedTuple):
    """The numbers of one draw."""

    params: dict[str, np.ndarray]
    x: np.ndarray
    cotangent: np.ndarray


class Result(NamedTuple):
    """A function's value, and the gradients of its product with the cotangent."""

    value: np.ndarray
    params: dict[str, np.ndarray]
    x: np.ndarray


@silently
def converted(cases: Mapping[str, Any], dtype: str, *, core: bool = False) -> Any:
    """A family's program, from the graph as exported or from that of core ATen operations."""
    family = Family(cases, dtype, 0)
    exported = export(family, (family.example,), dynamic=(0,) if family.widths else ())
    return convert(exported.run_decompositions() if core else exported)


def names_of_operations(program: Any) -> set[str]:
    """Of its branches, too."""
    found = {operation.name for operation in program.operations}
    arguments = [a for operation in program.operations for a in operation.arguments]
    return found.union(*(names_of_operations(a) for a in arguments if hasattr(a, "operations")))


def compare(
    found: Any,
    cases: Mapping[str, Any],
    dtype: str,
    *,
    mapped: bool = False,
    tolerance: float | None = None,
) -> None:
    """Values and gradients of a program against torch: of one draw, or of two under vmap."""
    families = [Family(cases, dtype, seed) for seed in (1, 2)[: 1 + mapped]]
    draws, expected = zip(*(_in_torch(f, found.params) for f in families), strict=True)

    def in_jax(draw):
        value, pull = jax.vjp(lambda p, x: found.program(p, (x,)), draw.params, draw.x)
        return Result(value, *pull(draw.cotangent))

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *draws) if mapped else draws[0]
    run = jax.jit(jax.vmap(in_jax) if mapped else in_jax, compiler_options=QUICK)
    results = jax.tree.map(np.asarray, run(stacked))
    tolerance = TOLERANCES[dtype] if tolerance is None else tolerance
    for i, family in enumerate(families):
        result = jax.tree.map(lambda leaf, i=i: leaf[i], results) if mapped else results
        wrong = family.differences(result, expected[i], tolerance)
        assert not wrong, "\n".join(wrong)


@silently
def _in_torch(family: Family, names: Any) -> tuple[Draw, Result]:
    state = family.state_dict(keep_vars=True)
    params = {name: state[name] for name in names}
    value = family(family.example) + 0 * family.example.sum()  # a gradient for all, even if 0
    cotangent = family._tensor(tuple(value.shape))
    leaves = {name: p for name, p in params.items() if p.requires_grad}
    *gradients, x = torch.autograd.grad(
        value, [*leaves.values(), family.example], cotangent, materialize_grads=True
    )
    numbers = {name: p.detach().numpy() for name, p in params.items()}
    draw = Draw(numbers, family.example.detach().numpy(), cotangent.numpy())
    by_name = {n: g.numpy() for n, g in zip(leaves, gradients, strict=True)}
    return draw, Result(value.detach().numpy(), by_name, x.numpy())


def _cut(what, names, lengths, found, expected):
    """The parts of an array, along its last axis, that belong to each case."""
    if not names:
        return []
    cuts = np.cumsum(lengths)[:-1]
    parts = (np.split(array, cuts, axis=-1) for array in (found, expected))
    return [(name, what, *both) for name, *both in zip(names, *parts, strict=True)]


def _close(found: Any, expected: Any, tolerance: float) -> bool:
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1)
    return np.allclose(found, expected, rtol=0, atol=tolerance * scale, equal_nan=True)


def _shown(array: Any) -> str:
    return np.array2string(array.ravel(), precision=8, threshold=24, edgeitems=12)
