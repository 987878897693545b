"""`denograd-jax refine-array`: a series too large for memory, from array to array on disk."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from denograd_jax import backbones, layouts
from denograd_jax._core._prepare import prepare
from denograd_jax._frames._frozen_models import train_backbone
from denograd_jax._frames._planning import choose_rule
from denograd_jax._frames._problems import Problem
from denograd_jax._types import Model
from denograd_jax.cli import UnfinishedError
from denograd_jax.cli._screen import StageBar, console, progress_bars
from denograd_jax.errors import ColumnError, DataError, ShapeError, UnsupportedError
from denograd_jax.layouts import Data, Windows
from denograd_jax.streaming import Progress, StreamResult
from denograd_jax.streaming._arrays import Columns, open_series, stamp
from denograd_jax.streaming._job import BLOCK_CELLS, Job, pose, refuse_destinations, refuse_existing
from denograd_jax.streaming._journal import Journal
from denograd_jax.streaming._stream import carry_out
from denograd_jax.streaming._survey import (
    Survey,
    blocks_of,
    refuse_empty,
    refuse_infinite,
    refuse_rounded,
)
from denograd_jax.streaming._work import differences, refuse_no_room, refuse_other_work

__all__ = ["Learning", "RuleOptions", "refine_array"]

MOST_STRETCHES = 16
"""Pieces of the series, evenly spread, that the backbone is trained on."""


class Learning(NamedTuple):
    """What is learnt from the series, and how; the same again gives the same model.

    Attributes:
        window, horizon, stride: Of the windows.
        targets: Columns that windows predict; all that move where there are none.
        frozen: Columns that are not moved.
        backbone: Its registered name.
        max_epochs: Most epochs of training, or None for the backbone's default.
        sample_steps: Most steps to train on.
        seed: Of the training.
    """

    window: int
    horizon: int
    stride: int
    targets: tuple[int, ...]
    frozen: tuple[int, ...]
    backbone: str
    max_epochs: int | None
    sample_steps: int
    seed: int


class RuleOptions(NamedTuple):
    """How windows move, and how often; None for the defaults of `refine`."""

    rule: Any
    step_size: float | None
    tolerance: float | None
    max_steps: int | None


class Trusted(NamedTuple):
    """A trained model, and the units that it speaks.

    Attributes:
        model: Windows `(n, W, columns)` to `(n, targets)`, standardised.
        mean: `(columns,)`, of the observed cells.
        scale: `(columns,)`, their standard deviation; 1 where that is 0.
        targets: Columns that it predicts.
        frozen: Columns that are not moved.
    """

    model: Model
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    targets: list[int]
    frozen: list[int]


def refine_array(
    source: Path,
    destination: Path,
    learning: Learning,
    options: RuleOptions,
    *,
    block_steps: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Train a backbone on a sample of a series on disk, refine the series, say what was done.

    Raises:
        DenogradError: As `stream` and `train` say; whatever can be refused before the training is.
        UnfinishedError: By Ctrl-C, where the same command would go on.
    """
    if options.rule == "auto":
        raise UnsupportedError(
            "the rule auto judges a series as a whole, in memory: choose unit_step or gauss_newton."
        )
    rule, max_steps, _ = choose_rule(*options, "series")
    journal = Journal(destination)

    def job_of(trusted: Trusted) -> Job:
        return pose(
            (source,),
            (destination,),
            trusted.model,
            rule,
            _windows(learning, trusted.targets),
            optax.losses.squared_error,
            max_steps=max_steps,
            frozen=trusted.frozen,
            mean=trusted.mean,
            scale=trusted.scale,
            block_steps=block_steps,
        )

    with (
        _saying_what_is_kept(journal),
        progress_bars(quiet=quiet) as bars,
        _stoppable(StageBar(bars)) as report,
    ):
        refuse_destinations((source,), (destination,))
        series = open_series(source)
        outset = job_of(_outset(series, learning))
        with journal.held():
            refuse_existing((destination,), overwrite=overwrite)
            trusted = _kept(series, learning, journal, overwrite=overwrite)
            if trusted is None:
                journal.clear()
                refuse_no_room(outset)
                trusted = _trained(series, learning, report)
                _keep(series, learning, journal, trusted)
            result = carry_out(job_of(trusted), journal, report, overwrite=overwrite)
    if not quiet:
        _print_outcome(series, trusted, result, destination)


@contextlib.contextmanager
def _saying_what_is_kept(journal: Journal) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if not journal.unfinished:
            raise
        raise UnfinishedError(
            f"what was done is kept in {journal.folder}: the same command goes on from there."
        ) from None


@contextlib.contextmanager
def _stoppable(report: Progress) -> Iterator[Progress]:
    """A report that raises the `KeyboardInterrupt` of a Ctrl-C that was lost.

    JAX has Python call it when it collects garbage, and what is raised in there goes nowhere.
    """
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    def reported(stage: str, done: int, total: int) -> None:
        report(stage, done, total)
        if pressed:
            raise KeyboardInterrupt

    # Else Ctrl-C is somebody else's, who may not want it, or not in this thread.
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield report
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield reported
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _outset(series: Columns, learning: Learning) -> Trusted:
    """What there is before anything is learnt, if what is to be learnt fits the series."""
    steps, columns = series.shape
    targets = list(learning.targets) or [0]
    layout = _windows(learning, targets)
    layout.check(np.broadcast_to(np.float32(0), (steps, columns)), None)  # type: ignore[arg-type]
    if len(set(targets)) < len(targets):
        raise ColumnError(f"a target column is named twice in {targets}: name it once.")
    if learning.sample_steps < layout.span:
        raise ShapeError(
            f"no window fits into a sample of {learning.sample_steps:,} steps (--sample-steps): a "
            f"window of {layout.length} and a horizon of {layout.horizon} need {layout.span}."
        )
    model = _untrained(learning, columns, len(targets))
    return Trusted(model, np.zeros(columns), np.ones(columns), targets, list(learning.frozen))


def _untrained(learning: Learning, columns: int, targets: int) -> Model:
    """The backbone with its first weights."""
    shape = (learning.window, columns)
    module = backbones.build(
        learning.backbone, input_shape=shape, outputs=targets, rngs=nnx.Rngs(learning.seed)
    )
    return backbones.as_pure(module)


def _trained(series: Columns, learning: Learning, report: Progress) -> Trusted:
    """A backbone trained on a sample, in units found by reading the whole series once."""
    survey = _surveyed(series, report)
    still = _still_columns(survey, learning)
    refuse_rounded([series], still, survey)
    targets = list(learning.targets) or np.flatnonzero(~still).tolist()
    layout = _windows(learning, targets)
    scale = np.where(survey.scale == 0, 1.0, survey.scale)
    values, segments = _sample(series, layout, learning.sample_steps)
    z = ((values - survey.mean) / scale).astype(np.float32)
    columns = list(range(series.shape[1]))
    problem = Problem(
        layout,
        z,
        None,
        np.broadcast_to(~still, z.shape),
        None,
        segments,
        columns,
        targets,
        np.arange(len(z), dtype=np.intp),
        len(z),
    )
    trained = train_backbone(
        learning.backbone,
        problem,
        _prepared(problem),
        seed=learning.seed,
        max_epochs=learning.max_epochs,
        progress=lambda epoch, epochs: report("train", epoch, epochs),
    )
    if trained.interrupted:
        raise KeyboardInterrupt
    return Trusted(trained.model, survey.mean, scale, targets, np.flatnonzero(still).tolist())


def _prepared(problem: Problem) -> Data:
    try:
        return prepare(problem.layout, *problem.arrays)
    except (DataError, ShapeError) as error:
        raise DataError(
            f"there is nothing to learn from in the sample of {len(problem.x):,} steps: its "
            "targets are missing wherever a window ends. Take a larger one (--sample-steps)."
        ) from error


def _surveyed(series: Columns, report: Progress) -> Survey:
    survey = Survey(series.shape[1])
    size = max(BLOCK_CELLS // series.shape[1], 1)
    blocks = -(-series.shape[0] // size)
    for number, (first, values) in enumerate(blocks_of(series, size), start=1):
        refuse_infinite(str(series.path), first, values)
        survey.add(values)
        report("read", number, blocks)
    refuse_empty(str(series.path), survey)
    if not np.isfinite(survey.scale).all():
        raise DataError(f"{series.path} holds values too large to be squared: scale them down.")
    return survey


def _still_columns(survey: Survey, learning: Learning) -> NDArray[np.bool_]:
    """Columns that inform the model but do not move: frozen, constant, or only 0 and 1."""
    still: NDArray[np.bool_] = (survey.scale == 0) | survey.binary
    still[list(learning.frozen)] = True
    if still.all():
        raise ColumnError(
            "no column can move: every one is frozen, constant or holds only 0 and 1."
        )
    return still


def _sample(series: Columns, layout: Windows, most: int) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Evenly spread stretches of the series, put end to end, and their numbers."""
    steps = series.shape[0]
    most = min(most, steps)
    stretches = 1 if most == steps else int(np.clip(most // (8 * layout.span), 1, MOST_STRETCHES))
    length = most // stretches
    begins = np.linspace(0, steps - length, stretches).astype(int)
    values = np.concatenate([series.read(begin, begin + length) for begin in begins])
    return values, np.repeat(np.arange(stretches, dtype=np.int32), length)


def _windows(learning: Learning, targets: list[int]) -> Windows:
    return layouts.windows(
        learning.window, learning.horizon, learning.stride, target_columns=targets
    )


def _keep(series: Columns, learning: Learning, journal: Journal, trusted: Trusted) -> None:
    """Write the model down, so that the work goes on with the same one."""
    record = {"learning": learning._asdict(), "stamp": stamp(series.path)}
    params = jax.tree.leaves(trusted.model.params)
    leaves = {f"leaf{number}": np.asarray(leaf) for number, leaf in enumerate(params)}
    columns = {name: np.array(getattr(trusted, name)) for name in Trusted._fields[1:]}
    journal.save("model", record, **columns, **leaves)


def _kept(
    series: Columns, learning: Learning, journal: Journal, *, overwrite: bool
) -> Trusted | None:
    """The model of unfinished work; None if there is none that would be learnt again.

    Raises:
        FileError: There is work with another one, and it may not be thrown away.
    """
    found = journal.load("model")
    other = ["its model"]
    if found is not None:
        other = differences(found.record["learning"], _as_read(learning))
    if journal.holds("job") and not overwrite:  # a source that was changed is refused later
        refuse_other_work(journal, other)
    elif other or found is None or found.record["stamp"] != stamp(series.path):
        return None
    assert found is not None
    arrays = found.arrays
    targets, frozen = arrays["targets"].tolist(), arrays["frozen"].tolist()
    model = _untrained(learning, series.shape[1], len(targets))
    names = [f"leaf{number}" for number in range(len(jax.tree.leaves(model.params)))]
    params = jax.tree.unflatten(jax.tree.structure(model.params), [arrays[n] for n in names])
    return Trusted(model._replace(params=params), arrays["mean"], arrays["scale"], targets, frozen)


def _as_read(learning: Learning) -> dict[str, Any]:
    """As JSON gives it back."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in learning._asdict().items()
    }


def _print_outcome(
    series: Columns, trusted: Trusted, result: StreamResult, destination: Path
) -> None:
    screen = console()
    steps, columns = series.shape
    lines = [
        f"Refined {steps:,} steps x {columns} columns (series): {result.steps} steps of "
        f"refinement, ended because {result.status.advice}.",
    ]
    if trusted.frozen:
        still = ", ".join(map(str, trusted.frozen))
        lines.append(f"Left as they are (frozen, constant, or only 0 and 1): columns {still}.")
    lines += [
        "Look-ahead: yes, a value may depend on later steps.",
        f"Wrote {destination}.",
    ]
    for line in lines:
        screen.print(line, soft_wrap=not screen.is_terminal or line == lines[-1])
