"""`stream`: a series on disk in, the refined one out, in bounded memory and in spite of kills."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
import optax

from denograd_jax import rules
from denograd_jax._core._run import Status
from denograd_jax._losses import as_loss
from denograd_jax._types import Loss, Model, Params, Predict
from denograd_jax.layouts import Windows
from denograd_jax.rules import Rule
from denograd_jax.streaming._arrays import Series
from denograd_jax.streaming._job import (
    Job,
    pose,
    read_paths,
    refuse_destinations,
    refuse_existing,
)
from denograd_jax.streaming._journal import Journal
from denograd_jax.streaming._progress import Progress
from denograd_jax.streaming._work import (
    Position,
    Work,
    begin,
    checked,
    finish,
    resume,
    write_down,
)

__all__ = ["StreamResult", "carry_out", "stream"]

PathLike: TypeAlias = str | Path


class StreamResult(NamedTuple):
    """How a run over a series on disk ended.

    Attributes:
        status: Why.
        steps: Steps of refinement taken.
        active: Windows that moved in the last of them; 0 if none was taken.
        nonfinite: Windows that had a residual or gradient that was not finite in it; they stayed.
    """

    status: Status
    steps: int
    active: int
    nonfinite: int


def stream(
    predict: Predict | Model,
    source: PathLike | tuple[PathLike, PathLike],
    destination: PathLike | tuple[PathLike, PathLike],
    *,
    layout: Windows,
    rule: Rule | None = None,
    loss: Loss | str = optax.losses.squared_error,
    params: Params = None,
    max_steps: int = 100,
    frozen: Sequence[int] = (),
    mean: Any = None,
    scale: Any = None,
    block_steps: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> StreamResult:
    """Refine a series that lies in a file, block by block, with the result of `run` in memory.

    A block reads a halo of `length + horizon - 1` steps from the next one and hands on what its
    last windows say about that, so every window counts once, and all are judged on the same data.
    Memory is that of one block; disk space is needed for the output and two blocks.

    The output grows in the folder `DESTINATION.progress` and is moved to the destination when all
    is done: it is there whole or not at all. If the process ends before that, by whatever cause,
    the same call goes on where it stopped, and gives the same result. A source that is changed
    meanwhile is refused, and what was done thrown away.

    As in `run`, a missing cell (NaN) stays as it is and a window without a target has no say.

    Look-ahead: yes; a step is corrected by all windows that contain it, later targets included.

    Args:
        predict: As `refiner` takes it: a pure function of ONE window, or a `Model`.
        source: A `.npy` file or a Zarr array (the extra `[zarr]`) of shape `(steps, columns)` or
            `(steps,)`; or a pair of these, the series and its targets. Never changed.
        destination: What to make, a path that ends in `.npy` or `.zarr`; a pair for a pair. It
            gets the source's shape, and its type if that is float32 or float64; integers of more
            than 16 bits become float64, others and float16 the computing precision.
        layout: `layouts.windows(...)`. Without target columns, and without targets in an array of
            their own, every column that is not frozen is a target.
        rule: How a window moves; `rules.unit_step()` unless given. A rule that looks at the whole
            data set (`rescale`) takes two passes for a step; one that is `anchored` is refused.
        loss: `loss(prediction, target)`, summed over targets; or "squared_error", "absolute_error"
            or "huber".
        params: The model's parameters, unless `predict` is a `Model`.
        max_steps: Most steps to take; ends earlier where no window is gated in.
        frozen: Numbers of columns that are not moved. Here, in `mean` and in `scale`, columns of
            targets in an array of their own come behind those of the series.
        mean: What is 0 to the model and the rule, for each column `(columns,)`.
        scale: What is 1 to them, `(columns,)`: they see `(values - mean) / scale`. The arrays stay
            in their own units.
        block_steps: Steps in a block, rounded up to whole strides; about four million cells, which
            take a few hundred megabytes of memory, unless given.
        overwrite: Whether the destination may be replaced, and unfinished work of another job
            thrown away.
        progress: Called after each block.

    Returns:
        `StreamResult`.

    Raises:
        FileError: Files that are missing, truncated, exist already, or belong to another job; or a
            full disk (before the work, or in it: make room, and the same call goes on).
        ShapeError, DataError: Arrays that cannot be refined, as `refiner(...).init` says; frozen
            integers of 2**53 or more.
        UnsupportedError: Arrays that hold no real numbers; layouts other than windows; a rule that
            is anchored where the data began.
        MissingExtraError: A Zarr array without tensorstore.

    Source:
        Alonso-Ramos et al., "DenoGrad", arXiv 2511.10161; the redo journal is that of databases.

    Example:
        >>> import tempfile
        >>> from denograd_jax import layouts, stream
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "noisy.npy", np.array([[1.0], [2.0], [3.5], [4.0], [5.0]], np.float32))
        >>> def predict(slope, window):
        ...     return window[-1] + slope
        >>> stream(predict, folder / "noisy.npy", folder / "refined.npy", params=1.0,
        ...        layout=layouts.windows(1), max_steps=50).status.name
        'max_steps'
        >>> np.load(folder / "refined.npy").shape
        (5, 1)
    """
    model = predict if isinstance(predict, Model) else Model(predict, None)
    if params is not None:
        model = model._replace(params=params)
    sources, destinations = read_paths("source", source), read_paths("destination", destination)
    refuse_destinations(sources, destinations)
    journal = Journal(destinations[0])
    with journal.held():
        refuse_existing(destinations, overwrite=overwrite)
        job = pose(
            sources,
            destinations,
            model,
            rules.unit_step() if rule is None else rule,
            layout,
            as_loss(loss),
            max_steps=max_steps,
            frozen=frozen,
            mean=mean,
            scale=scale,
            block_steps=block_steps,
        )
        return carry_out(job, journal, progress or _tell_nobody, overwrite=overwrite)


def carry_out(job: Job, journal: Journal, report: Progress, *, overwrite: bool) -> StreamResult:
    """Do a job from where it stands to its end, while its journal is held.

    Raises:
        DenogradError: As `stream` says.
    """
    identity = job.identity()  # traces the model, and so refuses one that does not fit
    work = resume(job, identity, journal, report, overwrite=overwrite)
    if work is None:
        work = begin(job, identity, journal, report)
    while not work.position.ends(job):
        if work.position.block == 0:
            work = checked(job, journal, work, report)
        work = _move_block(job, journal, work)
        done = work.position.step * job.blocks + work.position.block
        report("refine", done, job.max_steps * job.blocks)
    work = checked(job, journal, work, report)
    finish(job, journal)
    journal.clear()
    return _result(work.position)


def _move_block(job: Job, journal: Journal, work: Work) -> Work:
    """Move the next block: the state is written behind the reading, so windows see old values."""
    state = work.state
    assert state is not None
    if work.position.block == 0:
        factor = _rescaling(job, state, work.starts)
        position = work.position._replace(active=0, nonfinite=0, factor=factor)
        work = work._replace(position=position, carry=job.no_carry())
    position = work.position
    values, data = job.read(state, work.starts, position.block)
    rescaling = np.array(position.factor, job.dtype)
    moves, carry, counts = job.functions.move(
        job.model.params, job.numbers, data, work.carry, rescaling
    )
    position = position.after(job, int(counts.active), int(counts.nonfinite))
    work = work._replace(position=position, carry=carry)
    write_down(job, journal, work, job.moved(values, np.asarray(moves)[: len(values)]))
    return work


def _rescaling(job: Job, state: Series, starts: Any) -> float:
    """The factor for all moves of a step, for which a rule may need all gradients first."""
    if job.rule.rescale is None:
        return 1.0
    total = 0.0
    for number in range(job.blocks):
        _, data = job.read(state, starts, number)
        total += float(job.functions.squared_norm(job.model.params, job.numbers, data))
    return float(job.rule.rescale(jnp.array(total, job.dtype)))


def _result(position: Position) -> StreamResult:
    status = Status.converged if position.converged else Status.max_steps
    if position.nonfinite > 0:
        status = Status.nonfinite
    return StreamResult(status, position.step, position.active, position.nonfinite)


def _tell_nobody(stage: str, done: int, total: int) -> None:
    """The progress of those who do not ask."""
