"""Programs of `torch.export`, as models: without the code that they were made from."""

import copy
import os
import warnings
from pathlib import Path
from typing import Any

from denograd_jax._types import Model
from denograd_jax.bridges._examples import Call
from denograd_jax.bridges._exported_files import read_exported_program
from denograd_jax.bridges._exporting import convert
from denograd_jax.bridges._program import predict_functions
from denograd_jax.bridges._torch_check import mismatch
from denograd_jax.bridges._torch_tensors import import_torch
from denograd_jax.errors import UnsupportedError

__all__ = ["from_exported_program"]


def from_exported_program(program: Any, *, check: bool = True) -> Model:
    """Convert an exported program, or a file of one, to a pure JAX function and its weights.

    No code of the module is needed, and none is run; of a file, nothing is unpickled, and only
    operations that have a rule are run. Look-ahead: no, beyond the module's own.

    Args:
        program: A `torch.export.ExportedProgram` of one input, or the path of a file that
            `torch.export.save` wrote. Exported in evaluation mode, with the size of the batch left
            open (`dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)`) or for a batch of one.
        check: Whether the model is compared with the program as PyTorch runs it, in value and input
            gradient, on random instances.

    Returns:
        As `from_torch`.

    Raises:
        FileError: If the file is not one of `torch.export.save`, damaged, or pickled.
        UnsupportedError: If the program has several inputs or outputs, is for batches of one size
            only, has an operation without a rule, or the instances of a batch interact.
        MissingExtraError: If PyTorch is not installed.
    """
    import_torch()
    if isinstance(program, str | os.PathLike):
        program = read_exported_program(Path(program))
    if not hasattr(program, "graph_signature"):
        raise UnsupportedError(
            f"expected a torch.export.ExportedProgram or the path of one, got {program!r:.200}."
        )
    sizes = _sizes_of_input(program)
    converted = convert(program)
    batched = not isinstance(sizes[0], int)
    predict, predict_batch = predict_functions(converted.program, batched=batched)
    if check:
        call = _call(program, sizes)
        difference = mismatch(predict, predict_batch, converted.params, call)
        if difference is not None:
            raise UnsupportedError(f"cannot convert the program: {difference}.")
    return Model(predict, converted.params, predict_batch)


def _sizes_of_input(exported: Any) -> tuple[Any, ...]:
    """The shape of the only input, integers where it is fixed; the first axis is the batch."""
    signature = exported.graph_signature
    names = [spec.arg.name for spec in signature.input_specs if spec.kind.name == "USER_INPUT"]
    outputs = [spec.kind.name for spec in signature.output_specs]
    if len(names) != 1 or outputs.count("USER_OUTPUT") != 1:
        raise UnsupportedError(
            f"the program has {len(names)} inputs and {outputs.count('USER_OUTPUT')} outputs: only "
            "a model of one input and one output can be refined against."
        )
    if len(outputs) > 1:
        raise UnsupportedError(
            "the program changes its own weights or buffers: export the module in evaluation mode, "
            "module.eval()."
        )
    (node,) = (node for node in exported.graph.nodes if node.name == names[0])
    sizes = tuple(getattr(node.meta.get("val"), "shape", ()))
    if not sizes or (isinstance(sizes[0], int) and sizes[0] != 1):
        raise UnsupportedError(
            f"the program takes an input of shape {sizes} only: export it with "
            "dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), or for a batch of one."
        )
    return sizes


def _call(exported: Any, sizes: tuple[Any, ...]) -> Call:
    """The program as a module of torch, called on a batch."""
    torch = import_torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = copy.deepcopy(exported.module())  # the check casts its weights

    class RowByRow(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Any) -> Any:
            return torch.cat([self.module(row) for row in x.split(1)])

    instance = [size if isinstance(size, int) else int(size.node.hint) for size in sizes[1:]]
    weights = (value for value in exported.state_dict.values() if value.is_floating_point())
    dtype = next((weight.dtype for weight in weights), torch.float32)
    example = torch.zeros((2, *instance), dtype=dtype)
    return Call(RowByRow() if isinstance(sizes[0], int) else module, example, ())
