"""From a PyTorch module to a program: `torch.export`, decomposition, and reading its graph."""

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from denograd_jax.bridges import aten  # noqa: F401  # registers the rules
from denograd_jax.bridges._program import Constant, Input, Operation, Program, Value, Weight
from denograd_jax.bridges._registry import rule_of
from denograd_jax.bridges._rewrites import rewritten
from denograd_jax.bridges._torch_tensors import import_torch, to_numpy
from denograd_jax.errors import UnsupportedError

__all__ = ["Converted", "convert", "export", "unsupported_operations"]

# What only checks or annotates; a program has no use for it.
_SILENT = ("aten._assert", "aten.sym_constrain", "aten._functional_assert")
# What no rule can do: shapes and numbers of Python must be known before values are.
_BY_VALUE = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.item")


class Converted(NamedTuple):
    """A program and the weights that it names: `{qualified name: NumPy array}`, tied ones once."""

    program: Program
    params: dict[str, np.ndarray]


def export(
    module: Any,
    examples: tuple[Any, ...],
    *,
    dynamic: tuple[int, ...] = (0,),
    ports: bool = True,
) -> Any:
    """`torch.export` of a module in evaluation mode; some forwards are exchanged meanwhile.

    Args:
        module: Called on the examples.
        examples: Tensors; the axes in `dynamic` have another size than 1.
        dynamic: Axes of the examples whose size is left open.
        ports: Whether backbones stand in for what `register_port` names.

    Raises:
        UnsupportedError: If it cannot be exported; the message says why and what to do.
    """
    torch = import_torch()
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(
            "a module of TorchScript cannot be exported: pass the module that it was made from, or "
            "use bridges.from_torch_callback, which calls PyTorch itself."
        )
    open_axes = tuple(dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC) for _ in examples)
    with _quiet_export(), rewritten(module, ports=ports):
        try:
            return torch.export.export(
                module, examples, dynamic_shapes=open_axes if dynamic else None, strict=False
            )
        except Exception as error:  # whatever tracing a user's forward may raise
            raise _refusal(module, error) from error


@contextlib.contextmanager
def _quiet_export() -> Iterator[None]:
    """Without warnings, and without fused kernels that only exist where no gradient is asked."""
    torch = import_torch()
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch")]
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),  # torch prints the graph that it gave up
            contextlib.redirect_stderr(io.StringIO()),
            torch.inference_mode(False),
            torch.enable_grad(),  # or a forward's own torch.no_grad() would leave no trace
        ):
            warnings.simplefilter("ignore")
            for logger in levels:
                logger.setLevel(logging.CRITICAL)
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast)


def convert(exported: Any) -> Converted:
    """The program of an `ExportedProgram`; operations without a rule are decomposed first.

    Raises:
        UnsupportedError: If some still have none, all of which are named, with how to add them.
    """
    _refuse_no_grad(exported.graph_module)
    exported = _decomposed(exported)
    missing = _missing(exported.graph_module)
    if by_value := [name for name in missing if name.startswith(_BY_VALUE)]:
        raise UnsupportedError(
            f"sizes or Python numbers depend on the values of a tensor ({', '.join(by_value)}: "
            "item(), nonzero(), a mask as index). Write it with torch.where, or use "
            "bridges.from_torch_callback, which calls PyTorch itself."
        )
    if missing:
        raise UnsupportedError(
            f"no rule in JAX for {', '.join(missing)}: give it one with "
            "denograd_jax.bridges.register_op, for instance @register_op("
            f"{missing[0]!r}) above a function of the same arguments; or use "
            "bridges.from_torch_callback, which calls PyTorch itself."
        )
    return _Reader(exported).converted()


def unsupported_operations(exported: Any) -> tuple[str, ...]:
    """Names of the operations that have no rule, after decomposition."""
    return _missing(_decomposed(exported).graph_module)


def _decomposed(exported: Any) -> Any:
    ruleless = {op: made for op, made in _decompositions() if rule_of(str(op)) is None}
    with _quiet_export():
        return exported.run_decompositions(ruleless)


@functools.cache
def _decompositions() -> tuple[tuple[Any, Any], ...]:
    """Operations of torch and what they are made of; torch looks them all up anew each time."""
    return tuple(import_torch().export.default_decompositions().items())


def _refuse_no_grad(graph_module: Any) -> None:
    """Decomposition would drop `torch.no_grad` within a forward, and change the gradient."""
    for part in _with_branches(graph_module):
        for node in part.graph.nodes:
            if "set_grad_enabled" in str(node.target) and node.args[:1] == (False,):
                raise UnsupportedError(
                    "a torch.no_grad() within the forward has no form in JAX: detach() the tensors "
                    "that shall have no gradient instead."
                )


def _missing(graph_module: Any) -> tuple[str, ...]:
    names = {
        _name(node.target)
        for part in _with_branches(graph_module)
        for node in part.graph.nodes
        if node.op == "call_function" and not _is_silent(node)
    }
    return tuple(sorted(name for name in names if rule_of(name) is None))


def _with_branches(graph_module: Any) -> Iterator[Any]:
    yield graph_module
    for child in graph_module.children():
        if hasattr(child, "graph"):
            yield from _with_branches(child)


def _name(target: Any) -> str:
    """As in "aten.add.Tensor", "_operator.mul", "cond"."""
    torch = import_torch()
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return str(target.name())
    return f"{target.__module__}.{target.__name__}"


def _is_silent(node: Any) -> bool:
    return _name(node.target).startswith(_SILENT)


class _Reader:
    """Reads the graph of an exported program, node by node."""

    def __init__(self, exported: Any):
        self._exported = exported
        self._params: dict[str, np.ndarray] = {}
        self._names: dict[Any, str] = {}  # of weights already read: tied ones are read once

    def converted(self) -> Converted:
        module = self._exported.graph_module
        program = self._program(module, self._sources_by_name())
        return Converted(program, self._params)

    def _sources_by_name(self) -> dict[str, Any]:
        """What the placeholders of the outermost graph stand for."""
        signature = self._exported.graph_signature
        found: dict[str, Any] = {}
        position = 0
        for spec in signature.input_specs:
            kind = spec.kind.name
            if kind == "USER_INPUT":
                found[spec.arg.name] = Input(position, self._sizes(spec.arg.name))
                position += 1
            else:
                found[spec.arg.name] = self._tensor(kind, spec.target)
        return found

    def _sizes(self, name: str) -> tuple[int | None, ...]:
        (node,) = (node for node in self._exported.graph.nodes if node.name == name)
        shape = node.meta["val"].shape
        return tuple(size if isinstance(size, int) else None for size in shape)

    def _tensor(self, kind: str, target: str) -> Weight | Constant:
        """Floating-point parameters and buffers are weights, all else is part of the program."""
        exported = self._exported
        held = exported.constants if target in exported.constants else exported.state_dict
        value = held[target]
        array = to_numpy(value)
        if kind == "CONSTANT_TENSOR" or not value.is_floating_point():
            return Constant(array)
        memory = value.data_ptr() if value.numel() else id(value)
        name = self._names.setdefault((memory, value.shape, value.stride()), target)
        self._params.setdefault(name, array)
        return Weight(name)

    def _program(self, module: Any, given: Mapping[str, Any] | None) -> Program:
        sources: list[Any] = []
        operations: list[Operation] = []
        found: dict[Any, Any] = {}
        module.graph.eliminate_dead_code()
        nodes = list(module.graph.nodes)
        for node in nodes:
            if node.op == "placeholder":
                found[node] = Value(len(sources))
                sources.append(Input(len(sources)) if given is None else given[node.name])
            elif node.op == "get_attr":
                found[node] = self._attribute(module, node.target)
                if isinstance(found[node], Constant):
                    found[node], constant = Value(len(sources)), found[node]
                    sources.append(constant)
        for node in nodes:
            if node.op == "call_function" and not _is_silent(node):
                operations.append(self._operation(node, found))
                found[node] = Value(len(sources) + len(operations) - 1)
        (output,) = (node for node in nodes if node.op == "output")
        result = self._argument(output.args[0], found)
        if given is not None:
            result = _single(self._of_user(result))
        return Program(tuple(sources), tuple(operations), result)

    def _of_user(self, results: tuple[Any, ...]) -> tuple[Any, ...]:
        """Without the new values of buffers and inputs that the module writes to."""
        specs = self._exported.graph_signature.output_specs
        kinds = [spec.kind.name for spec in specs]
        return tuple(r for r, k in zip(results, kinds, strict=True) if k == "USER_OUTPUT")

    def _attribute(self, module: Any, target: str) -> Any:
        value = module
        for part in target.split("."):
            value = getattr(value, part)
        if hasattr(value, "graph"):
            return self._program(value, None)
        return Constant(to_numpy(value))

    def _operation(self, node: Any, found: Mapping[Any, Any]) -> Operation:
        name = _name(node.target)
        arguments = tuple(self._argument(argument, found) for argument in node.args)
        options = tuple(
            (key, self._argument(option, found)) for key, option in sorted(node.kwargs.items())
        )
        if name == "aten.squeeze.default":  # a batch of one must keep its axis
            shape = node.args[0].meta["val"].shape
            ones = tuple(i for i, n in enumerate(shape) if isinstance(n, int) and n == 1)
            return Operation("aten.squeeze.dims", (*arguments, ones))
        return Operation(name, arguments, options)

    def _argument(self, argument: Any, found: Mapping[Any, Any]) -> Any:
        torch = import_torch()
        if isinstance(argument, torch.fx.Node):
            return found[argument]
        if isinstance(argument, list | tuple):
            return tuple(self._argument(item, found) for item in argument)
        if isinstance(argument, torch.dtype):
            return str(argument).removeprefix("torch.")
        if isinstance(argument, torch.device | torch.layout | torch.memory_format):
            return None
        if argument is None or isinstance(argument, bool | int | float | complex | str):
            return argument
        raise UnsupportedError(f"an argument of type {type(argument).__name__} has no form in JAX.")


def _single(result: Any) -> Value:
    if isinstance(result, tuple) and len(result) == 1:
        return _single(result[0])
    if isinstance(result, Value):
        return result
    raise UnsupportedError(
        f"the module returns {len(result) if isinstance(result, tuple) else 'no'} tensors instead "
        "of one: wrap it in a module whose forward returns the prediction alone."
    )


def _refusal(module: Any, error: Exception) -> UnsupportedError:
    name = type(module).__name__
    text = str(error).strip()
    told = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if "data-dependent" in text.lower() or "DataDependent" in type(error).__name__:
        return UnsupportedError(
            f"cannot convert {name}: a branch of its forward depends on the values of a tensor "
            f"({told:.300}). Write it with torch.cond or torch.where, or use "
            "bridges.from_torch_callback, which calls PyTorch itself."
        )
    return UnsupportedError(
        f"cannot convert {name}: torch.export fails on it ({type(error).__name__}: {told:.300}). "
        "Check that it runs on the example input in evaluation mode; or use "
        "bridges.from_torch_callback, which calls PyTorch itself."
    )
