"""Files of `torch.export.save`, read so that nothing in them is run.

`torch.export.load` unpickles sample inputs, evaluates the text of expressions and guards, and looks
up whatever function a node names. So it is not given the file, but a copy in memory that holds
nothing else than tensors and a graph of known operations.
"""

import ast
import functools
import importlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from denograd_jax.bridges import aten  # noqa: F401  # registers the rules
from denograd_jax.bridges._registry import rule_of
from denograd_jax.bridges._torch_tensors import import_torch
from denograd_jax.errors import DenogradError, FileError, UnsupportedError

__all__ = ["read_exported_program"]

_PROGRAM = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_SAMPLES = "data/sample_inputs/model.pt"  # pickled; left empty
_KEPT = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/\w+|models/model\.json"
    r"|data/(weights|constants)/(model_\w+_config\.json|(weight|tensor)_\d+)"
)
_EMPTIED: dict[str, Any] = {"metadata": {}, "guards_code": [], "treespec_namedtuple_fields": {}}
_CONTAINERS = {"builtins.tuple", "builtins.list", "builtins.dict"}
# Operations that check or mark, which a program does without.
_SILENT = ("aten._assert", "aten.sym_constrain", "wrap_with_set_grad_enabled")

# What the expressions of sizes are made of, in the notation of SymPy's `srepr`, and "s77".
_SYMBOL = re.compile(r"[a-z]+\d+")
_FUNCTION = re.compile(
    "Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Mod|And|Or|Not|Equality|Unequality"
    "|Eq|Ne|Lt|Le|Gt|Ge|(Strict)?(LessThan|GreaterThan)|FloorDiv|PythonMod|CleanDiv|CeilDiv"
    "|(Ceil|Floor|Trunc|Round)ToInt|ToFloat|TruncToFloat|(Int|Float)TrueDiv|FloatPow|PowByNatural"
    "|ModularIndexing|Where|Identity"
)
_GRAMMAR = (
    *(ast.Expression, ast.keyword, ast.Load, ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


def read_exported_program(path: Path) -> Any:
    """The `torch.export.ExportedProgram` in a file.

    Raises:
        FileError: If the file is not one of `torch.export.save`, damaged, or would have to be
            unpickled.
        UnsupportedError: If it names an operation without a rule.
    """
    torch = import_torch()
    if not path.is_file():
        raise FileError(f"{path} does not exist, or is a folder.")
    try:
        archive = _copied(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(archive)
    except DenogradError:
        raise
    except Exception as error:  # whatever torch raises on what it cannot read
        told = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise FileError(
            f"{path} cannot be read as a file of torch.export.save: {told:.300}."
        ) from error


def _copied(path: Path) -> io.BytesIO:
    """The archive with nothing but what is harmless."""
    with zipfile.ZipFile(path) as archive:
        entries = {name.partition("/")[2]: name for name in archive.namelist()}
        if _PROGRAM not in entries:
            raise FileError(
                f"{path} holds no exported program that can be read without unpickling: save it "
                "by torch.export.save of torch 2.9 or newer, not by torch.save or torch.jit.save."
            )
        kept = {name: archive.read(full) for name, full in entries.items() if _KEPT.fullmatch(name)}
    program = json.loads(kept[_PROGRAM])
    _refuse_newer(path, program)
    for name in _CONFIGS:
        _refuse_pickled(path, json.loads(kept[name])["config"], kept)
    kept[_PROGRAM] = json.dumps(_harmless(path, program)).encode()
    kept[_SAMPLES] = b""
    copied = io.BytesIO()
    with zipfile.ZipFile(copied, "w") as archive:
        for name, content in kept.items():
            archive.writestr(f"model/{name}", content)
    copied.seek(0)
    return copied


def _refuse_newer(path: Path, program: dict[str, Any]) -> None:
    """Torch itself would only log that it does not know the format."""
    try:
        known = importlib.import_module("torch._export.serde.schema").SCHEMA_VERSION[0]
    except (ImportError, AttributeError):  # private, and may have moved: torch then refuses
        return
    version = program["schema_version"]["major"]
    if version > known:
        raise FileError(
            f"{path} cannot be read: it has version {version} of the format, written by torch "
            f"{program.get('torch_version', '')}; this torch knows {known}. Update it."
        )


def _refuse_pickled(path: Path, config: dict[str, Any], kept: dict[str, bytes]) -> None:
    files = {name.rpartition("/")[2] for name in kept}
    for name, payload in config.items():
        if payload["use_pickle"] or payload["path_name"] not in files:
            raise FileError(
                f"{path} holds {name} as a pickled object, which could run any code when read. If "
                "you trust the file, pass torch.export.load(path) instead of the path."
            )


def _harmless(path: Path, part: Any) -> Any:
    """The program without remarks and guards, all other texts that torch would act on checked."""
    if isinstance(part, list):
        return [_harmless(path, item) for item in part]
    if not isinstance(part, dict):
        return part
    for key, value in part.items():
        if isinstance(value, str):
            _check_text(path, key, value)
    return {
        key: _EMPTIED[key] if _is_remark(key, value) else _harmless(path, value)
        for key, value in part.items()
    }


def _is_remark(key: str, value: Any) -> bool:
    """Whether it is not needed, and no entry of a tensor that happens to be called so."""
    empty = _EMPTIED.get(key)
    return empty is not None and isinstance(value, type(empty)) and "dtype" not in value


def _check_text(path: Path, key: str, text: str) -> None:
    if key in ("target", "as_operator") and not _is_known(text):
        raise UnsupportedError(
            f"{path} names {text:.100}, for which there is no rule in JAX: see bridges.register_op."
        )
    if key == "expr_str" and not _is_size(text):
        raise FileError(f"{path} has something else in place of a size: {text:.100}.")
    if key in ("in_spec", "out_spec") and text:
        for kind in _kinds(json.loads(text)):
            if kind not in _CONTAINERS:
                raise UnsupportedError(f"{path} takes or returns a {kind:.100}, not a tensor.")


def _is_known(target: str) -> bool:
    """Whether an operation has a rule, is decomposed, or only checks; also if it is in place."""
    name = target.removeprefix("torch.ops.").removeprefix("higher_order.")
    if "__" in name:  # an attribute of a function, not a function
        return False
    names = {name, re.sub(r"_(?=\.\w+$)", "", name)}
    known = (
        rule_of(name) is not None or name.startswith(_SILENT) or _is_composite(name)
        for name in names
    )
    return any(known) or not names.isdisjoint(_decomposed())


def _is_composite(name: str) -> bool:
    """Whether ATen itself makes the operation of others, as it does with `batch_norm`."""
    if not name.startswith("aten."):
        return False
    schema = name.replace(".", "::", 1).removesuffix(".default")
    dispatched = import_torch()._C._dispatch_has_kernel_for_dispatch_key
    try:
        return bool(dispatched(schema, "CompositeImplicitAutograd"))
    except RuntimeError:  # there is no such operation
        return False


@functools.cache
def _decomposed() -> frozenset[str]:
    """Names of the operations that torch has a decomposition of."""
    return frozenset(map(str, import_torch().export.default_decompositions()))


def _is_size(text: str) -> bool:
    """Whether a text is arithmetic of numbers and symbols, and can do nothing else."""
    try:
        return all(map(_is_arithmetic, ast.walk(ast.parse(text, mode="eval"))))
    except (SyntaxError, ValueError):
        return False


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and bool(_FUNCTION.fullmatch(node.func.id))
    if isinstance(node, ast.Name):
        return bool(_SYMBOL.fullmatch(node.id) or _FUNCTION.fullmatch(node.id))
    if isinstance(node, ast.Constant):  # a text is the name of a symbol
        return not isinstance(node.value, str) or bool(_SYMBOL.fullmatch(node.value))
    return isinstance(node, _GRAMMAR)


def _kinds(spec: Any) -> Iterator[str]:
    """The types of containers in a description of arguments or results."""
    if isinstance(spec, list):
        for item in spec:
            yield from _kinds(item)
    elif isinstance(spec, dict):
        if spec.get("type") is not None:
            yield str(spec["type"])
        yield from _kinds(spec.get("children_spec", []))
