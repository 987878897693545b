"""Work on disk: how it begins, is written down, is taken up again, and ends."""

import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from denograd_jax.errors import DenogradError, FileError, ShapeError
from denograd_jax.streaming._arrays import (
    FULL,
    Series,
    StorageError,
    create_series,
    open_series,
    stamp,
    storage,
)
from denograd_jax.streaming._job import Job, Paths, joined
from denograd_jax.streaming._journal import Journal, sync_folder
from denograd_jax.streaming._progress import Progress
from denograd_jax.streaming._survey import (
    Survey,
    blocks_of,
    digest_of,
    refuse_empty,
    refuse_infinite,
    refuse_rounded,
)

__all__ = [
    "Position",
    "Work",
    "begin",
    "checked",
    "differences",
    "finish",
    "refuse_no_room",
    "refuse_other_work",
    "resume",
    "write_down",
]


class Position(NamedTuple):
    """How far the work is.

    Attributes:
        step: Steps of refinement that are complete.
        block: The next block of the one that is not.
        active: Windows that moved in its blocks so far; between two steps, in the whole last one.
        nonfinite: Windows that were not finite, likewise.
        factor: The rule's rescaling of this step.
    """

    step: int = 0
    block: int = 0
    active: int = 0
    nonfinite: int = 0
    factor: float = 1.0

    @property
    def converged(self) -> bool:
        """Whether nothing moved in the last of the steps, if any was taken."""
        return self.step > 0 and self.active == 0

    def ends(self, job: Job) -> bool:
        """Whether nothing is left to be done."""
        return self.block == 0 and (self.step >= job.max_steps or self.converged)

    def after(self, job: Job, active: int, nonfinite: int) -> "Position":
        """The position one block on, with what was counted in that."""
        last = self.block + 1 == job.blocks
        return self._replace(
            step=self.step + last,
            block=0 if last else self.block + 1,
            active=self.active + active,
            nonfinite=self.nonfinite + nonfinite,
        )


class Work(NamedTuple):
    """Where to go on.

    Attributes:
        position: How far it is.
        carry: What the windows of the blocks done say about the next.
        starts: `(blocks, columns)`, what stands in for cells missing at a block's beginning.
        state: The series so far; None where it was moved to its destination already.
        about: What tells the job and its source apart from others.
    """

    position: Position
    carry: Any
    starts: NDArray[np.float64]
    state: Series | None
    about: dict[str, Any]


def begin(job: Job, identity: dict[str, Any], journal: Journal, report: Progress) -> Work:
    """Copy the source. Until that is done nothing but a model is worth keeping.

    Raises:
        FileError: There is no room.
        DataError, ShapeError: There is nothing to refine, or something infinite.
    """
    journal.clear("model")
    refuse_no_room(job)
    stamps = _stamps(job)
    try:
        state = _created(job, journal)
        survey = _copied(job, state, report)
        starts = np.where(np.isnan(survey.last), survey.mean, survey.last)
        about = {"identity": identity, "stamps": stamps, "digest": survey.digest}
        journal.save("job", about, starts=starts)
    except StorageError as error:
        if error.errno not in FULL:
            raise
        journal.clear("model")
        raise _no_room(job, error.strerror) from error
    return Work(Position(), job.no_carry(), starts, state, about)


def resume(
    job: Job, identity: dict[str, Any], journal: Journal, report: Progress, *, overwrite: bool
) -> Work | None:
    """Unfinished work of the same job, its last block written once more; None if there is none.

    Raises:
        FileError: It is another job's, and `overwrite` is not set; or the source has changed.
    """
    found = journal.load("job")
    if found is None:
        return None
    other = differences(found.record["identity"], identity)
    about = None if other else _unchanged(job, found.record, report)
    if about is None:
        other = other or ["content of the input"]
    if other and overwrite:
        return None
    refuse_other_work(journal, other)
    assert about is not None
    position, carry, starts = Position(), job.no_carry(), found.arrays["starts"]
    last = journal.load("block")
    if last is not None:
        position = Position(**last.record["position"])
        names = [f"carry{i}" for i in range(len(jax.tree.leaves(carry)))]
        carry = jax.tree.unflatten(jax.tree.structure(carry), [last.arrays[n] for n in names])
    if position.ends(job) and not all(path.exists() for path in _states(job, journal)):
        return Work(position, carry, starts, None, about)
    state = _reopened(job, journal)
    if last is not None:
        state.write(last.record["begin"], last.arrays["values"])
    return Work(position, carry, starts, state, about)


def checked(job: Job, journal: Journal, work: Work, report: Progress) -> Work:
    """The work, if its source is still what it was: missing cells are filled from that.

    Raises:
        FileError: It was changed; and since the state may be of both, it is thrown away.
    """
    about = _unchanged(job, work.about, report)
    if about is None:
        journal.clear()
        raise FileError(
            f"{job.name} was changed while it was refined: leave it as it is, and start again."
        )
    return work._replace(about=about)


def write_down(job: Job, journal: Journal, work: Work, values: NDArray[Any]) -> None:
    """Make a block's values part of the state, from which the work at hand goes on.

    First the journal, then the state: what the end of the process leaves half written there is
    written again from here.
    """
    assert work.state is not None
    first = ((work.position.block or job.blocks) - 1) * job.block_steps
    record = {"position": work.position._asdict(), "begin": first}
    carry = {f"carry{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(work.carry))}
    journal.save("block", record, values=values, **carry)
    work.state.write(first, values)


def finish(job: Job, journal: Journal) -> None:
    """Move what is complete to its destination; harmless where that was done already."""
    for state, destination in zip(_states(job, journal), job.destinations, strict=True):
        if not state.exists():
            continue
        with storage(destination):
            if destination.is_symlink():
                destination.unlink()  # the link is replaced, not what it points to
            elif destination.is_dir():
                shutil.rmtree(destination)
            state.replace(destination)
            sync_folder(destination.parent)


def _states(job: Job, journal: Journal) -> Paths:
    """Where the refined arrays lie until they are complete."""
    endings = [path.suffix for path in job.destinations]
    return tuple(journal.folder / f"{name}{end}" for name, end in zip("xy", endings, strict=False))


def _created(job: Job, journal: Journal) -> Series:
    return joined(
        [
            create_series(path, source.given_shape, job.destination_dtype(source))
            for path, source in zip(_states(job, journal), job.sources, strict=True)
        ]
    )


def _reopened(job: Job, journal: Journal) -> Series:
    try:
        return joined([open_series(path) for path in _states(job, journal)])
    except DenogradError as error:
        raise FileError(
            f"the unfinished work is damaged ({error}): remove {journal.folder} and start again."
        ) from error


def _copied(job: Job, state: Series, report: Progress) -> Survey:
    survey = Survey(job.source.shape[1])
    instances = 0
    for number, (first, values) in enumerate(blocks_of(job.source, job.block_steps), start=1):
        refuse_infinite(job.name, first, job.standardised(values))
        survey.add(values)
        instances += _instances(job, first, values)
        state.write(first, values)
        report("read", number, job.blocks)
    refuse_empty(job.name, survey)
    refuse_rounded(job.sources, ~job.movable, survey)
    if instances == 0:
        raise ShapeError(
            f"there is no window to refine in {job.name}: the target is missing wherever one ends."
        )
    return survey


def _instances(job: Job, first: int, values: NDArray[Any]) -> int:
    """Windows whose target lies among these steps, and was observed."""
    halo, stride = job.layout.halo, job.layout.stride
    target = halo - first if halo > first else (halo - first) % stride
    seen = ~np.isnan(values[target::stride, job.target_columns])
    return int(seen.any(axis=1).sum())


def _stamps(job: Job) -> list[str]:
    return [stamp(source.path) for source in job.sources]


def _unchanged(job: Job, about: dict[str, Any], report: Progress) -> dict[str, Any] | None:
    """What is known of a source, with its present times of change; None if it is not what it was.

    Equal times are believed, else it is read.
    """
    stamps = _stamps(job)
    if stamps == about["stamps"]:
        return about
    report("read", 0, job.blocks)
    same = digest_of(job.source, job.block_steps) == about["digest"]
    return {**about, "stamps": stamps} if same else None


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of what differs between two records, with the numbers where it is one number."""

    def described(name: str) -> str:
        if isinstance(before.get(name), int):
            return f"{name} ({before[name]}, not {now[name]})"
        return name

    return [described(name) for name in now if before.get(name) != now[name]]


def refuse_other_work(journal: Journal, other: Sequence[str]) -> None:
    """Refuse to take up work that differs in anything.

    Raises:
        FileError: It does.
    """
    if other:
        raise FileError(
            f"{journal.folder} holds unfinished work that differs in {', '.join(other)}: start it "
            "again as it was, or allow it to be thrown away (overwrite)."
        )


def refuse_no_room(job: Job) -> None:
    """Refuse work for which the disk is too small.

    Raises:
        FileError: It is.
    """
    if _free(job) < _needed(job):
        raise _no_room(job, "the disk is too small")


def _no_room(job: Job, reason: str | None) -> FileError:
    return FileError(
        f"there is no room for {job.destinations[0]} ({reason}): it needs {_needed(job):,} bytes, "
        f"{_free(job):,} are free. Make room, or choose another place."
    )


def _free(job: Job) -> int:
    """Bytes."""
    return shutil.disk_usage(job.destinations[0].parent).free


def _needed(job: Job) -> int:
    """Bytes of the output, of what is known of each block, and of the last block, old and new."""
    steps, columns = job.source.shape
    dtypes = [job.destination_dtype(source) for source in job.sources]
    row = sum(s.shape[1] * d.itemsize for s, d in zip(job.sources, dtypes, strict=True))
    carry: int = sum(leaf.nbytes for leaf in jax.tree.leaves(job.no_carry()))
    block = min(job.block_steps, steps) * columns * np.result_type(*dtypes).itemsize
    return steps * row + job.blocks * columns * 8 + 2 * (block + carry)
