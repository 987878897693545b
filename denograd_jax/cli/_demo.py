"""`denograd-jax demo`: noise is added to a copy of real data, and taken out again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.table import Table

from denograd_jax import Refinement, datasets, refine
from denograd_jax._frames._planning import Progress
from denograd_jax.cli._outputs import check_folder, written_together
from denograd_jax.cli._refine import Outputs, save
from denograd_jax.cli._screen import StageBar, console, progress_bars
from denograd_jax.cli._tables import TableFile, write_frame
from denograd_jax.datasets import DataSet

__all__ = ["Trial", "errors", "run_demo", "try_out"]

NOISE = 0.3
"""Standard deviation of the noise, in standard deviations of each column."""

FAST_ROWS, FAST_STEPS, FAST_EPOCHS = 4000, 1000, 10
"""What `--fast` takes: rows of a table, steps of each series, epochs of training."""


class Trial(NamedTuple):
    """One data set, made noisy and refined.

    Attributes:
        about: What the data set is.
        columns: The columns that got noise.
        clean: The original.
        noisy: The copy with noise.
        refinement: What `refine` made of the copy.
    """

    about: DataSet
    columns: list[str]
    clean: pd.DataFrame
    noisy: pd.DataFrame
    refinement: Refinement


def run_demo(folder: Path, *, fast: bool = False, seed: int = 0) -> None:
    """Try every shipped data set, write the files, print what came of it.

    Raises:
        FileError: The folder cannot be made or written to.
    """
    check_folder(folder)
    with progress_bars() as bars:
        trials = [
            try_out(name, StageBar(bars, f"{name}: "), fast=fast, seed=seed)
            for name in datasets.names()
        ]
    with written_together() as aside:
        for trial in trials:
            _save(trial, folder / trial.about.name, aside)
    _print_outcome(trials, folder, fast=fast)


def try_out(name: str, progress: Progress, *, fast: bool = False, seed: int = 0) -> Trial:
    """Add noise to a shipped data set, and refine it as anybody would who knows no better."""
    about = datasets.describe(name)
    clean = datasets.load(name)
    if fast:
        clean = _part(clean, about, seed)
    columns = [str(c) for c in clean.select_dtypes("number") if c not in about.frozen]
    noisy = datasets.add_noise(clean, NOISE, columns=columns, seed=seed)
    refinement = refine(
        noisy,
        about.target,
        window=about.window,
        time=about.time,
        groups=about.groups,
        frozen=about.frozen,
        max_epochs=FAST_EPOCHS if fast else None,
        seed=seed,
        progress=progress,
    )
    return Trial(about, columns, clean, noisy, refinement)


def errors(trial: Trial, columns: Sequence[str]) -> tuple[float, float]:
    """Root mean square distance to the original, in standard deviations: noisy, refined."""
    names = list(columns)
    clean = trial.clean[names].astype("float64")

    def distance(copy: pd.DataFrame) -> float:
        difference = (copy[names].astype("float64") - clean) / clean.std(ddof=0)
        return float(np.sqrt(np.nanmean(difference.to_numpy() ** 2)))

    return distance(trial.noisy), distance(trial.refinement.data)


def _part(frame: pd.DataFrame, about: DataSet, seed: int) -> pd.DataFrame:
    if about.window is None:
        return frame.sample(FAST_ROWS, random_state=seed, ignore_index=True)
    return frame.groupby(about.groups, sort=False).head(FAST_STEPS).reset_index(drop=True)


def _save(trial: Trial, folder: Path, aside: Callable[[Path], Path]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_frame(trial.noisy, aside(folder / "noisy.csv"))
    outputs = Outputs(folder / "refined.csv", folder / "changes.csv", folder / "report.html")
    save(trial.refinement, TableFile(trial.noisy), outputs, aside)


def _print_outcome(trials: Sequence[Trial], folder: Path, *, fast: bool) -> None:
    screen = console()
    table = Table(
        title=f"Noise of {NOISE} standard deviations, added and refined", title_justify="left"
    )
    for heading in ("Data set", "Rows x columns", "Part"):
        table.add_column(heading)
    for heading in ("Noisy", "Refined", "Ratio"):
        table.add_column(heading, justify="right")
    for trial in trials:
        _add_rows(table, trial)
    screen.print(table)
    screen.print("Noisy, Refined: distance to the original (root mean square, standardised).")
    for trial in trials:
        screen.print(_verdict(trial))
    if fast:
        screen.print("--fast took a part of the data and trained briefly; without it, all is used.")
    screen.print(f"Tables, changes and reports are in {folder}/.", soft_wrap=True)


def _add_rows(table: Table, trial: Trial) -> None:
    target = trial.about.target
    others = [c for c in trial.columns if c != target]
    parts = {"all columns": trial.columns}
    if target is not None:
        parts |= {f"{target} (target)": [target], "other columns": others}
    shape = f"{trial.clean.shape[0]:,} x {trial.clean.shape[1]}"
    for number, (part, columns) in enumerate(parts.items()):
        before, after = errors(trial, columns)
        name = (trial.about.name, shape) if number == 0 else ("", "")
        table.add_row(*name, part, f"{before:.3f}", f"{after:.3f}", f"{after / before:.3f}")
    table.add_section()


def _verdict(trial: Trial) -> str:
    """How much nearer, or further, in two lines."""
    ratios = {column: _ratio(trial, [column]) for column in trial.columns}
    best, worst = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    nearer = sum(ratio < 1 for ratio in ratios.values())
    return (
        f"{trial.about.name}: the refined copy is {_in_words(_ratio(trial, trial.columns))}.\n"
        f"  {nearer} of {len(ratios)} columns came nearer; best {best} ({ratios[best]:.3f}), "
        f"worst {worst} ({ratios[worst]:.3f})."
    )


def _ratio(trial: Trial, columns: Sequence[str]) -> float:
    before, after = errors(trial, columns)
    return after / before


def _in_words(ratio: float) -> str:
    if abs(ratio - 1) < 0.0005:
        return "as far from the original as the noisy one"
    return f"{abs(ratio - 1):.1%} {'nearer to' if ratio < 1 else 'further from'} the original"
