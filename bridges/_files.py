"""Converted models in files: arrays and a description of the program, no code, no pickle."""

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from denograd_jax._types import Model
from denograd_jax.bridges._program import (
    Constant,
    Input,
    Operation,
    Program,
    Value,
    Weight,
    predict_functions,
    program_of,
)
from denograd_jax.bridges._registry import rule_of
from denograd_jax.errors import FileError, UnsupportedError

__all__ = ["load", "save"]

_FORMAT = "denograd_jax bridged model 1"


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model that `from_torch` or `from_exported_program` made; PyTorch is not needed.

    The file is an archive of NumPy arrays with the program as text. It is written aside and
    renamed, so that it is whole or not there.

    Args:
        model: The model; its params may have been trained or cast since.
        path: The file's name, by custom ending in `.npz`.

    Raises:
        UnsupportedError: If the model is of another kind.
        FileError: If the file cannot be written.
    """
    if not isinstance(model, Model):
        raise UnsupportedError(f"expected a Model, as of from_torch, not {model!r:.100}.")
    program, batched = program_of(model)
    params = {name: np.asarray(value) for name, value in model.params.items()}
    constants: list[np.ndarray] = []
    text = {
        "format": _FORMAT,
        "batched": batched,
        "program": _encoded(program, constants),
        "dtypes": {name: array.dtype.name for name, array in params.items()},
    }
    arrays = {f"weight {name}": _plain(array) for name, array in params.items()}
    arrays |= {f"constant {i}": array for i, array in enumerate(constants)}
    arrays["program"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    path = Path(path)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        aside.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Model:
    """Read what `save` wrote; PyTorch is not needed, and no code is run. Look-ahead: as saved.

    Models of equal architecture get the *same* function objects, as from `from_torch`.

    Raises:
        FileError: If the file is missing, damaged, of another kind or another version.
        UnsupportedError: If it needs an operation that has no rule here (`register_op` first).
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        text = json.loads(arrays.pop("program").tobytes())
        if text["format"] != _FORMAT:
            raise ValueError(
                f"its format is {text['format']!r:.100}, not {_FORMAT!r}; another version of "
                "denograd_jax wrote it: load it with that one, or update"
            )
        params = {
            name: _typed(arrays[f"weight {name}"], dtype) for name, dtype in text["dtypes"].items()
        }
        program = _decoded(text["program"], arrays)
        _check(program, set(params))
        batched = bool(text["batched"])
    except Exception as error:  # a damaged archive may raise anything
        told = f"{type(error).__name__}: {error}"
        raise FileError(f"{path} cannot be read as a bridged model ({told:.300}).") from error
    missing = sorted({name for name in _operations(program) if rule_of(name) is None})
    if missing:
        raise UnsupportedError(
            f"{path} needs operations without a rule: {', '.join(missing)}; give them one with "
            "denograd_jax.bridges.register_op first."
        )
    predict, predict_batch = predict_functions(program, batched=batched)
    return Model(predict, params, predict_batch)


def _check(program: Any, names: set[str]) -> None:
    """Refuse what is no program, or names weights that are not there."""
    if not isinstance(program, Program):
        raise TypeError("it describes no program")
    for source in program.sources:
        if isinstance(source, Weight) and source.name not in names:
            raise KeyError(f"weight {source.name}")


def _operations(part: Any) -> Iterator[str]:
    """Names of all operations, those in branches too."""
    if isinstance(part, Program):
        yield from _operations(part.operations)
    elif isinstance(part, Operation):
        yield part.name
        yield from _operations((part.arguments, part.options))
    elif isinstance(part, tuple):
        for item in part:
            yield from _operations(item)


def _plain(array: np.ndarray) -> np.ndarray:
    """NumPy's files know no bfloat16 and the like: their bits are kept."""
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "V" else array


def _typed(array: np.ndarray, dtype: str) -> np.ndarray:
    return array.view(jnp.dtype(dtype))


def _encoded(part: Any, constants: list[np.ndarray]) -> Any:
    """Parts of a program as JSON: each kind a dictionary of one key, tuples as lists."""

    def encode(item: Any) -> Any:
        return _encoded(item, constants)

    match part:
        case Program():
            body = [encode(part.sources), encode(part.operations), encode(part.output)]
            return {"program": body}
        case Operation():
            return {"operation": [part.name, encode(part.arguments), encode(part.options)]}
        case Input():
            return {"input": [part.position, encode(part.sizes)]}
        case Value():
            return {"value": part.position}
        case Weight():
            return {"weight": part.name}
        case Constant():
            array = np.asarray(part.array)
            constants.append(_plain(array))
            return {"constant": [len(constants) - 1, array.dtype.name]}
        case complex():
            return {"complex": [part.real, part.imag]}
        case tuple():
            return [encode(item) for item in part]
    return part


def _decoded(part: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(part, list):
        return tuple(_decoded(item, arrays) for item in part)
    if not isinstance(part, dict):
        return part
    ((kind, body),) = part.items()
    if kind == "constant":
        return Constant(_typed(arrays[f"constant {body[0]}"], body[1]))
    if kind in ("value", "weight"):
        return Value(body) if kind == "value" else Weight(body)
    several = {"input": Input, "program": Program, "operation": Operation, "complex": complex}
    return several[kind](*(_decoded(item, arrays) for item in body))
