"""PyTorch modules as JAX models, by exporting their graph."""

import contextlib
import copy
import warnings
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from flax import nnx

from denograd_jax._types import Model
from denograd_jax.bridges._examples import Call, calls_on, first_layer
from denograd_jax.bridges._exporting import Converted, convert, export, unsupported_operations
from denograd_jax.bridges._program import predict_functions
from denograd_jax.bridges._torch_check import mismatch
from denograd_jax.bridges._torch_tensors import cast, import_torch
from denograd_jax.bridges.ports import Port, build, flax_from_state_dict, port_of
from denograd_jax.errors import ModelError, UnsupportedError

__all__ = ["evaluation_copy", "flax_from_torch", "from_torch", "from_torch_on", "unsupported_ops"]

_DTYPES = ("float32", "float64", "float16", "bfloat16")
Method: TypeAlias = Literal["auto", "export", "port"]


def from_torch(
    module: Any,
    *example_inputs: Any,
    method: Method = "auto",
    dynamic_batch: bool = True,
    dtype: str | None = None,
    check: bool = True,
) -> Model:
    """Convert a PyTorch module to a pure JAX function and its weights, in evaluation mode.

    The module is exported (`torch.export`), and its graph run by JAX rules, one per operation of
    ATen: see `supported_ops`. Recurrent layers become one scan each. The model can be compiled,
    differentiated, vectorised, sharded; it calls nothing of PyTorch. The module is left as it was:
    weights, buffers, mode, hooks and torch's random state. Modules of equal architecture get the
    *same* function objects, so nothing is compiled twice. Look-ahead: no, beyond the module's own.

    Args:
        module: Called on a batch, `(n, d)` or `(n, W, C)` to `(n, q)` or `(n,)`. Recurrent layers
            with `batch_first=False` may expect `(W, n, C)`; the model takes `(n, W, C)` still.
        *example_inputs: One array of instances, `(n, ...)`. The model is for instances of their
            shape, and any other is refused; their values only matter to the check, if the module
            does not take all numbers. May be left out where the first layer tells the shape: sizes
            that the module leaves open, such as the length of a window, then stay open.
        method: "auto" exports the module, and runs one of our backbones in place of those of its
            parts for which `register_port` names one, since that is faster; "export" does without
            them. "port" looks for the backbone that computes what the whole module does, judging
            by its layers (`flax_from_torch` gives that one as a Flax module).
        dynamic_batch: Whether the batch's size is left open. Else the module is exported for one
            instance, and batches go through `vmap`; so do modules whose batch cannot be left open.
        dtype: "float32", "float64", ... to cast the module to first; its own unless given.
        check: Whether the model is compared with the module, in value and input gradient, on the
            example and on random instances; it is compiled for that, on the CPU.

    Returns:
        The model; `params` is `{name as in state_dict: NumPy array}`, tied weights once.
        (float64 computes as such only with `jax_enable_x64`.)

    Raises:
        UnsupportedError: If the module cannot be exported, an operation has no rule, the
            instances of a batch interact, or no backbone is like the module ("port"); the message
            says what to do.
        ModelError: If its weights are not finite, or it does not run on the example.
        MissingExtraError: If PyTorch is not installed.
    """
    if method not in get_args(Method):
        raise UnsupportedError(f"method is {method!r}; expected one of {get_args(Method)}.")
    if method == "port":
        return _port_of(module, example_inputs, dtype).model
    (instances,) = _single_example(example_inputs)
    return _from_evaluated(
        evaluation_copy(module, dtype),
        instances,
        dynamic_batch=dynamic_batch,
        ports=method == "auto",
        check=check,
    )


def _from_evaluated(
    module: Any,
    instances: Any | None,
    *,
    dynamic_batch: bool = True,
    ports: bool = True,
    check: bool = True,
) -> Model:
    _refuse_nonfinite(module)
    differences = []
    for call in calls_on(module, instances):
        converted, batched = _converted(call, dynamic_batch=dynamic_batch, ports=ports)
        predict, predict_batch = predict_functions(converted.program, batched=batched)
        difference = None
        if check:
            difference = mismatch(predict, predict_batch, converted.params, call)
        if difference is None:
            return Model(predict, converted.params, predict_batch)
        differences.append(difference)
    raise UnsupportedError(f"cannot convert {type(module).__name__}: {differences[0]}.")


def flax_from_torch(module: Any, *example_inputs: Any, dtype: str | None = None) -> nnx.Module:
    """Convert a PyTorch module to the Flax backbone that computes the same, with its weights.

    For going on with training in JAX; `state_dict_from_flax` is the way back. Which backbone it is
    is read from the module's layers, and tried out: the backbone that is returned has the value and
    the input gradient of the module. It takes windows as `(n, W, C)`, whatever the module takes.
    The module is left as it was.

    Args:
        module: An MLP, LSTM, GRU, CNN, CNN-LSTM, DLinear, Transformer encoder, xLSTM (of the
            package xlstm) or FT-Transformer (of rtdl_revisiting_models), with a linear head, as
            `from_torch` takes it.
        *example_inputs: As in `from_torch`.
        dtype: As in `from_torch`.

    Returns:
        A module as of `denograd_jax.backbones.build`, called on a batch.

    Raises:
        UnsupportedError: If no backbone is like it.
        ModelError, MissingExtraError: As `from_torch`.
    """
    candidate, model = _port_of(module, example_inputs, dtype)
    return flax_from_state_dict(build(candidate.blueprint), model.params, candidate.names)


def _port_of(module: Any, example_inputs: tuple[Any, ...], dtype: str | None) -> Port:
    module = evaluation_copy(module, dtype)
    (instances,) = _single_example(example_inputs)
    _refuse_nonfinite(module)
    failures = []
    for call in calls_on(module, instances):
        try:
            return port_of(call)
        except UnsupportedError as error:
            failures.append(error)
    raise failures[0]


def from_torch_on(module: Any, instances: Any | None) -> Model:
    """`from_torch` for a module that gets instances as a layout cuts them.

    A module whose first layer is a convolution over time is called on windows turned around,
    `(n, C, W)`, as in the PyTorch package denograd; unless it does not run on these, or turns
    windows around itself.

    Args:
        module: As `from_torch` takes it.
        instances: `(n, d)` or `(n, W, C)`; None to have `from_torch` guess.

    Returns:
        The model, of `(d,)` or `(W, C)`.

    Raises:
        UnsupportedError, ModelError, MissingExtraError: As `from_torch`.
    """
    module = evaluation_copy(module, None)
    windows = instances is not None and np.ndim(instances) == 3
    if windows and first_layer(module)[0] == "Conv1d" and _takes_channels_first(module, instances):
        turned = copy.copy(module)
        turned.forward = lambda x: module(x.transpose(1, 2))
        with contextlib.suppress(ModelError):
            return _from_evaluated(turned, instances)
    return _from_evaluated(module, instances)


def _takes_channels_first(module: Any, windows: Any) -> bool:
    """False if the first convolution of a module sees its input turned around."""
    torch = import_torch()
    convolution = next(child for child in module.modules() if type(child).__name__ == "Conv1d")
    seen: list[Any] = []
    handle = convolution.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = torch.randn(np.shape(windows), generator=torch.Generator().manual_seed(0))
    x = x.to(convolution.weight.dtype)
    with contextlib.suppress(Exception), torch.no_grad():  # it may run on other axes only
        module(x)
    handle.remove()
    turned = x.transpose(1, 2)
    return not (seen and seen[0].shape == turned.shape and bool((seen[0] == turned).all()))


def unsupported_ops(module: Any, *example_inputs: Any) -> tuple[str, ...]:
    """Names the operations of a module that have no rule in JAX; see `register_op`.

    Args and errors: As `from_torch`.
    """
    module = evaluation_copy(module, None)
    (instances,) = _single_example(example_inputs)
    call = next(iter(calls_on(module, instances)))
    return unsupported_operations(export(call.module, (call.example,), dynamic=()))


def _converted(call: Call, *, dynamic_batch: bool, ports: bool) -> tuple[Converted, bool]:
    """With as many axes left open as the module allows; and whether the batch is one of them."""
    attempts = dict.fromkeys([call.open_axes, (0,)]) if dynamic_batch else {}
    for axes in attempts:
        try:
            exported = export(call.module, (call.example,), dynamic=axes, ports=ports)
            _refuse_branch_on_batch(exported)
            return convert(exported), True
        except UnsupportedError as error:
            if not _is_about_sizes(error):
                raise
    single = export(call.module, (call.example[:1],), dynamic=(), ports=ports)
    return convert(single), False


def _refuse_branch_on_batch(exported: Any) -> None:
    """Export would follow the branch of the example for batches of any size."""
    (name,) = exported.graph_signature.user_inputs
    (node,) = (node for node in exported.graph.nodes if node.name == name)
    size = node.meta["val"].shape[0]
    limits = None if isinstance(size, int) else exported.range_constraints.get(size.node.expr)
    if limits is not None and (limits.lower > 2 or limits.upper < 2**31):
        raise UnsupportedError(
            "a branch of its forward depends on the number of instances in a batch: the model must "
            "give each the same prediction whatever the others."
        )


def _is_about_sizes(error: UnsupportedError) -> bool:
    """Whether export failed because the module fixes a size that was to be left open."""
    told = type(error.__cause__).__name__ + str(error)
    return "Constraint" in told or "UserError" in told


def _single_example(example_inputs: tuple[Any, ...]) -> tuple[Any]:
    if len(example_inputs) > 1:
        raise UnsupportedError(
            f"expected at most one example input, got {len(example_inputs)}: only a model of one "
            "input can be refined against."
        )
    return (example_inputs[0] if example_inputs else None,)


def evaluation_copy(module: Any, dtype: str | None) -> Any:
    """A copy of the module on the CPU, in evaluation mode, and cast if asked for."""
    torch = import_torch()
    if not isinstance(module, torch.nn.Module):
        raise UnsupportedError(f"expected an instance of torch.nn.Module, got {module!r:.200}.")
    if any(torch.nn.parameter.is_lazy(parameter) for parameter in module.parameters()):
        raise UnsupportedError(
            f"{type(module).__name__} has lazy layers without weights yet: call it once first."
        )
    try:
        with torch.inference_mode(False), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about what is copied
            copied = copy.deepcopy(module, _copies_of_results(module)).eval().cpu()
    except Exception as error:  # whatever the attributes of a user's module may raise
        raise UnsupportedError(
            f"cannot convert {type(module).__name__}: it cannot be copied ({error}). Pass the part "
            "of it that predicts."
        ) from error
    return copied if dtype is None else cast(copied, _torch_dtype(dtype))


def _copies_of_results(module: Any) -> dict[int, Any]:
    """What modules keep of their last forward, an attention say, which torch does not copy."""
    torch = import_torch()
    return {
        id(value): value.detach().clone()
        for child in module.modules()
        for value in vars(child).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }


def _torch_dtype(dtype: str) -> Any:
    name = getattr(dtype, "__name__", str(dtype)).removeprefix("torch.")
    if name not in _DTYPES:
        raise UnsupportedError(f"dtype is {dtype!r}; expected one of {', '.join(_DTYPES)}.")
    return getattr(import_torch(), name)


def _refuse_nonfinite(module: Any) -> None:
    """Infinite buffers are masks."""
    torch = import_torch()
    finite = {name: parameter.isfinite().all() for name, parameter in module.named_parameters()}
    numbers = {name: ~torch.isnan(buffer).any() for name, buffer in module.named_buffers()}
    for name, sound in {**finite, **numbers}.items():
        if not sound:
            raise ModelError(
                f"{name} of the PyTorch module holds values that are not finite (its training "
                "diverged?): train it again, with a smaller learning rate or scaled data."
            )
