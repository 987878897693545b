"""Work on disk: how it begins, is written down, is taken up again, and ends."""

import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from denograd_jax.errors import DataError, DenogradError, FileError, ShapeError
from denograd_jax.streaming._arrays import FULL, Series, create_series, open_series, stamp
from denograd_jax.streaming._job import Job, Paths, joined
from denograd_jax.streaming._journal import Journal, sync_folder
from denograd_jax.streaming._progress import Progress
from denograd_jax.streaming._survey import Survey, blocks_of, digest_of, refuse_infinite

__all__ = [
    "Position",
    "Work",
    "begin",
    "differences",
    "finish",
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
    active: int = 1  # so that a first step is taken
    nonfinite: int = 0
    factor: float = 1.0

    def ends(self, job: Job) -> bool:
        """Whether nothing is left to be done."""
        return self.block == 0 and (self.step >= job.max_steps or self.active == 0)

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
    """

    position: Position
    carry: Any
    starts: NDArray[np.float64]
    state: Series | None


def begin(job: Job, identity: dict[str, Any], journal: Journal, report: Progress) -> Work:
    """Copy the source. Until that is done nothing is worth keeping, and nothing is kept.

    Raises:
        FileError: There is no room.
        DataError, ShapeError: There is nothing to refine, or something infinite.
    """
    journal.forget("job", "block")
    try:
        state = _created(job, journal)
        survey = _copied(job, state, report)
        starts = np.where(np.isnan(survey.last), survey.mean, survey.last)
        about = {"identity": identity, "stamps": _stamps(job), "digest": survey.digest}
        journal.save("job", about, starts=starts)
    except BaseException as error:
        journal.discard()
        if isinstance(error, OSError) and error.errno in FULL:
            raise _no_room(job, error) from error
        raise
    return Work(Position(), job.no_carry(), starts, state)


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
    if not other and not _is_unchanged(job, found.record, report):
        other = ["content of the input"]
    if other and overwrite:
        return None
    refuse_other_work(journal, other)
    position, carry, starts = Position(), job.no_carry(), found.arrays["starts"]
    last = journal.load("block")
    if last is not None:
        position = Position(**last.record["position"])
        names = [f"carry{i}" for i in range(len(jax.tree.leaves(carry)))]
        carry = jax.tree.unflatten(jax.tree.structure(carry), [last.arrays[n] for n in names])
    if position.ends(job) and not all(path.exists() for path in _states(job, journal)):
        return Work(position, carry, starts, None)
    state = _reopened(job, journal)
    if last is not None:
        state.write(last.record["begin"], last.arrays["values"])
    return Work(position, carry, starts, state)


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
        if destination.is_dir():
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
    if not survey.observed.any():
        raise DataError(f"every cell of {job.name} is missing: there is nothing to refine.")
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


def _is_unchanged(job: Job, about: dict[str, Any], report: Progress) -> bool:
    """Whether the source is what it was: equal times of change are believed, else it is read."""
    if _stamps(job) == about["stamps"]:
        return True
    report("read", 0, job.blocks)
    return bool(digest_of(job.source, job.block_steps) == about["digest"])


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


def _no_room(job: Job, error: OSError) -> FileError:
    needed = sum(
        source.shape[0] * source.shape[1] * job.destination_dtype(source).itemsize
        for source in job.sources
    )
    folder = job.destinations[0].parent
    return FileError(
        f"there is no room for {job.destinations[0]} ({error.strerror}): it needs "
        f"{needed:,} bytes and those of two blocks, {shutil.disk_usage(folder).free:,} are free. "
        "Make room, or choose another place."
    )
