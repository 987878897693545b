"""What a run over a series on disk is to do: checked, opened, and told apart from other jobs."""

import dataclasses
import functools
import hashlib
import json
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from denograd_jax._core._refiner import refiner
from denograd_jax._losses import is_of_labels
from denograd_jax._types import Loss, Model
from denograd_jax.errors import ColumnError, FileError, ShapeError, UnsupportedError
from denograd_jax.layouts import Data, Windows
from denograd_jax.rules import Rule
from denograd_jax.streaming._arrays import (
    Columns,
    Series,
    SideBySide,
    is_zarr_array,
    load_tensorstore,
    open_series,
)
from denograd_jax.streaming._block import (
    BlockFunctions,
    block_functions,
    digest_of_params,
    fingerprint,
)
from denograd_jax.streaming._journal import Journal

__all__ = ["Job", "Paths", "joined", "pose", "read_paths", "refuse_destinations", "refuse_existing"]

FORMAT = 1
"""Of the journal; another one is not understood."""

BLOCK_CELLS = 2**22
"""Cells in a block unless given: a few hundred megabytes of working memory."""

Floats = NDArray[np.float64]
Paths = tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class Job:
    """A refinement that can begin.

    Attributes:
        sources: The arrays as given: the series, and its targets if they stand apart.
        destinations: Where the refined ones go.
        layout: With target columns, unless the targets stand apart.
        model: What is trusted.
        rule: How windows move.
        functions: What is compiled.
        numbers: The rule's, in the computing precision.
        dtype: Computing precision.
        movable: `(columns,)` bool; columns of targets that stand apart are behind the others.
        mean: `(columns,)`, what is 0 to the model.
        scale: `(columns,)`, what is 1 to it.
        block_steps: Steps in a block, whole strides.
        max_steps: Most steps of refinement.
    """

    sources: tuple[Columns, ...]
    destinations: Paths
    layout: Windows
    model: Model
    rule: Rule
    functions: BlockFunctions
    numbers: dict[str, NDArray[Any]]
    dtype: np.dtype[Any]
    movable: NDArray[np.bool_]
    mean: Floats
    scale: Floats
    block_steps: int
    max_steps: int

    @functools.cached_property
    def source(self) -> Series:
        """All columns."""
        return joined(self.sources)

    @property
    def name(self) -> str:
        """Of the source, for messages."""
        return " and ".join(str(part.path) for part in self.sources)

    @property
    def blocks(self) -> int:
        """How many there are."""
        return -(-self.source.shape[0] // self.block_steps)

    @property
    def target_columns(self) -> list[int]:
        """Which of all columns are targets."""
        inputs, columns = self.sources[0].shape[1], self.source.shape[1]
        apart = len(self.sources) > 1
        return list(range(inputs, columns) if apart else self.layout.target_columns or ())

    def destination_dtype(self, source: Columns) -> np.dtype[Any]:
        """The source's, if corrections are not lost in its spacing; float64 for wide integers."""
        if source.dtype.itemsize < 4:
            return self.dtype
        return source.dtype.newbyteorder("=") if source.dtype.kind == "f" else np.dtype(np.float64)

    def standardised(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values `(n, columns)` in the model's units and precision."""
        with np.errstate(over="ignore"):  # what overflows was refused, or will not be finite
            return ((values - self.mean) / self.scale).astype(self.dtype)

    def moved(self, values: NDArray[Any], moves: NDArray[Any]) -> NDArray[Any]:
        """Values after moves in standardised units; in float64, so that no bit is lost twice."""
        after: NDArray[Any] = (values + moves * self.scale).astype(values.dtype)
        return after

    def read(self, state: Series, starts: Floats, number: int) -> tuple[NDArray[Any], Data]:
        """A block as it stands, and what the model sees of it and of the halo behind it.

        Args:
            state: The series refined so far, NaN where a cell is missing.
            starts: `(blocks, columns)`, what stands in for cells missing at a block's beginning.
            number: Of the block.
        """
        begin = number * self.block_steps
        end = min(begin + self.block_steps + self.layout.halo, state.shape[0])
        values = state.read(begin, end)
        z = self.standardised(values)
        seen = ~np.isnan(z)
        if not seen.all():
            # As in memory, missing cells are filled from the series as it was given.
            given = np.concatenate([starts[number][None], self.source.read(begin, end)])
            z = np.where(seen, z, _last_seen(self.standardised(given))[1:])
        return values[: self.block_steps], self.as_data(z, seen)

    def as_data(self, z: NDArray[Any], seen: NDArray[np.bool_]) -> Data:
        """Arrays of a block and its halo; missing cells stand for what is behind the series."""
        behind = [(0, self.block_steps + self.layout.halo - len(z)), (0, 0)]
        z, seen = np.pad(z, behind), np.pad(seen, behind)
        movable = seen & self.movable
        inputs = self.sources[0].shape[1]
        if len(self.sources) == 1:
            return Data(z, None, seen, None, movable, None)  # type: ignore[arg-type]
        x, y = np.s_[:, :inputs], np.s_[:, inputs:]
        return Data(z[x], z[y], seen[x], seen[y], movable[x], movable[y])  # type: ignore[arg-type]

    def no_carry(self) -> Any:
        """What windows say about a block that none precedes."""
        sums = jax.eval_shape(self.layout.empty, self._empty())
        return jax.tree.map(lambda s: np.zeros((self.layout.halo, *s.shape[1:]), s.dtype), sums)

    def identity(self) -> dict[str, Any]:
        """What must be the same for unfinished work to go on, by a name that a person knows."""
        units = hashlib.blake2b(self.mean.tobytes() + self.scale.tobytes(), digest_size=16)
        one = np.ones((), self.dtype)
        arguments = self.model.params, self.numbers, self._empty(), self.no_carry(), one
        programs = [self.functions.move.lower(*arguments)]
        if self.rule.rescale is not None:
            programs.append(jax.jit(self.rule.rescale).lower(one))
        about = {
            "format": FORMAT,
            "shape and type of the input": [(s.given_shape, str(s.dtype)) for s in self.sources],
            "layout": repr(self.layout),
            "numbers of the rule": {name: float(n) for name, n in sorted(self.numbers.items())},
            "parameters of the model": digest_of_params(self.model.params),
            "model, rule, loss or version of JAX": fingerprint(*programs),
            "mean and scale": units.hexdigest(),
            "frozen columns": np.flatnonzero(~self.movable).tolist(),
            "block_steps": self.block_steps,
            "max_steps": self.max_steps,
        }
        plain: dict[str, Any] = json.loads(json.dumps(about))
        return plain

    def _empty(self) -> Data:
        nothing = np.zeros((0, self.source.shape[1]), self.dtype)
        return self.as_data(nothing, nothing.astype(bool))


def pose(
    sources: Paths,
    destinations: Paths,
    model: Model,
    rule: Rule,
    layout: Any,
    loss: Loss,
    *,
    max_steps: int,
    frozen: Sequence[int],
    mean: Any,
    scale: Any,
    block_steps: int | None,
) -> Job:
    """Open the source and check everything against it.

    Raises:
        DenogradError: As `stream` says.
    """
    if not isinstance(layout, Windows):
        raise UnsupportedError(
            f"a series on disk is refined in layouts.windows(...), not {type(layout).__name__}: "
            "rows do not see each other, so refine a table piece by piece."
        )
    if rule.anchored:
        raise UnsupportedError(
            "this rule measures each step from where the data began, which a series on disk does "
            "not keep beside the state: refine in memory, or choose another rule."
        )
    if is_of_labels(loss):
        raise UnsupportedError(
            "a series on disk is of numbers, which this loss of class labels cannot compare: "
            "refine in memory, with refiner(...)."
        )
    opened = tuple(open_series(path) for path in sources)
    columns = joined(opened).shape[1]
    steps = opened[0].shape[0]
    movable = np.ones(columns, bool)
    movable[_columns(frozen, columns)] = False
    layout = _with_targets(layout, opened, movable)
    # In memory the same things are refused, and the same precision is chosen.
    memory = refiner(model, rule, layout, loss)
    few = min(steps, layout.span)
    shapes = [np.zeros((few, s.shape[1]), s.dtype.newbyteorder("=")) for s in opened]
    dtype = np.dtype(jax.eval_shape(memory.init, *shapes).data.x.dtype)
    return Job(
        opened,
        destinations,
        layout,
        model,
        rule,
        block_functions(model, rule, layout, loss),
        {name: np.asarray(number, dtype) for name, number in rule.hyperparameters.items()},
        dtype,
        movable,
        _per_column("mean", 0.0 if mean is None else mean, columns),
        _per_column("scale", 1.0 if scale is None else scale, columns, positive=True),
        _block_steps(block_steps, steps, columns, layout.stride),
        _whole("max_steps", max_steps, 0),
    )


def _last_seen(values: NDArray[Any]) -> NDArray[Any]:
    """Values `(n, columns)` with each NaN replaced by the last number above; the first are none."""
    steps = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.take_along_axis(values, np.maximum.accumulate(steps), axis=0)


def joined(parts: Sequence[Series]) -> Series:
    """One or two series as one."""
    return parts[0] if len(parts) == 1 else SideBySide(*parts)


def read_paths(role: str, given: Any) -> Paths:
    """One path, or a pair of them."""
    pair = given if isinstance(given, tuple | list) else (given,)
    if len(pair) not in (1, 2) or not all(isinstance(p, str | Path) for p in pair):
        raise UnsupportedError(f"{role} must be a path, or a pair of two, not {given!r}.")
    return tuple(Path(p) for p in pair)


def refuse_destinations(sources: Paths, destinations: Paths) -> None:
    """Refuse destinations that could not be written, or never may.

    Raises:
        FileError: It is a source, or named twice, has an unknown ending, is in no folder or in a
            read-only one, or is there but no array.
        MissingExtraError: A Zarr array without tensorstore.
    """
    if len(destinations) != len(sources):
        raise FileError(f"{len(sources)} array(s) cannot be refined into {len(destinations)}.")
    others = [path.resolve() for path in sources]
    for path in destinations:
        if path.resolve() in others:
            raise FileError(f"{path} is named twice, or the input, which is never replaced.")
        others.append(path.resolve())
        if path.suffix not in (".npy", ".zarr"):
            raise FileError(f"{path} has no ending of an array: use .npy or .zarr.")
        if not path.parent.is_dir():
            raise FileError(f"the folder {path.parent} does not exist: create it first.")
        if not os.access(path.parent, os.W_OK):
            raise FileError(f"{path.parent} may not be written to: choose another folder.")
        if path.suffix == ".zarr":
            load_tensorstore()
        if path.exists() and not _is_replaceable(path):
            raise FileError(f"{path} is not a single array, and never replaced: name another.")


def refuse_existing(destinations: Paths, *, overwrite: bool) -> None:
    """Refuse, while their journal is held, destinations that are there and not of the same work.

    Raises:
        FileError: One exists, and `overwrite` is not set.
    """
    for path in destinations:
        if path.exists() and not overwrite and not _came_from(Journal(destinations[0])):
            raise FileError(
                f"{path} exists: choose another name, or allow it to be replaced (overwrite)."
            )


def _is_replaceable(path: Path) -> bool:
    """Whether what is there is of the kind that would come there."""
    return is_zarr_array(path) if path.suffix == ".zarr" else path.is_file()


def _came_from(journal: Journal) -> bool:
    """Whether a journal's work was finished and moved to its destination, and no more."""
    return journal.holds("job") and not any(journal.folder.glob("x.*"))


def _with_targets(layout: Windows, opened: Sequence[Columns], movable: Any) -> Windows:
    """By default a window predicts every column that may move."""
    if len(opened) == 1 and layout.target_columns is None:
        columns = tuple(int(c) for c in np.flatnonzero(movable))
        layout = dataclasses.replace(layout, target_columns=columns)
    if not layout.shared and layout.target_columns is not None:
        raise UnsupportedError(
            "shared=False keeps the targets twice, which is done in memory only: leave it out, or "
            "give the targets as a second array, in pairs of paths."
        )
    return layout


def _columns(frozen: Sequence[int], columns: int) -> list[int]:
    numbers = [operator.index(column) for column in frozen]
    for number in numbers:
        if not 0 <= number < columns:
            raise ColumnError(f"frozen column {number} is not among {columns} columns.")
    return numbers


def _per_column(name: str, values: Any, columns: int, *, positive: bool = False) -> Floats:
    given = np.asarray(values, np.float64)
    if given.shape not in ((), (columns,)):
        raise ShapeError(f"{name} must have shape ({columns},), not {given.shape}.")
    if not np.isfinite(given).all() or (positive and (given <= 0).any()):
        raise ShapeError(f"{name} must hold finite{' positive' if positive else ''} numbers.")
    return np.ascontiguousarray(np.broadcast_to(given, (columns,)))


def _block_steps(given: int | None, steps: int, columns: int, stride: int) -> int:
    wanted = max(BLOCK_CELLS // columns, 1) if given is None else _whole("block_steps", given, 1)
    return -(-min(wanted, steps) // stride) * stride


def _whole(name: str, number: Any, least: int) -> int:
    whole = operator.index(number)
    if whole < least:
        raise ShapeError(f"{name} must be at least {least}, not {whole}.")
    return whole
