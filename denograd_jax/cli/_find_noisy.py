"""`denograd-jax find-noisy`: a table in; its rows by how likely their label is wrong out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from denograd_jax import find_noisy
from denograd_jax.classification import NoisyRows
from denograd_jax.cli._outputs import check_outputs, check_page, written_together
from denograd_jax.cli._screen import console, progress_bars
from denograd_jax.cli._tables import (
    TableFile,
    is_parquet,
    read_table,
    write_frame,
    write_refined,
)

__all__ = ["find_noisy_in_file"]

SHOWN = 10
"""Rows that are printed: the most suspicious, as far as they are more likely wrong than right."""


def find_noisy_in_file(
    source: Path,
    target: str,
    ranking: Path,
    corrected: Path | None,
    report: Path | None,
    options: Mapping[str, Any],
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Read a table, rank its rows, and write what came of it.

    Args:
        source: The input file.
        target: The column of labels.
        ranking: Where the ranking goes, one line a row, the most suspicious first.
        corrected: Where the table with the likelier labels goes; None for nowhere.
        report: Where the page goes; None for nowhere.
        options: Keyword arguments of `denograd_jax.find_noisy`.
        overwrite: Whether existing outputs may be replaced.
        quiet: Whether to print nothing.
    """
    tables = [ranking] if corrected is None else [ranking, corrected]
    for path in tables:
        is_parquet(path)  # refuses other endings
    if report is not None:
        check_page(report)
    outputs = tables if report is None else [*tables, report]
    check_outputs(outputs, source, overwrite=overwrite)
    table = read_table(source)
    with progress_bars(quiet=quiet) as bars:
        bars.add_task("training classifiers", total=None)
        found = find_noisy(table.frame, target, **options)
    with written_together() as aside:
        write_frame(_as_ranking(found, table), aside(ranking))
        if corrected is not None:
            write_refined(_with_labels(found, table, target), table, aside(corrected))
        if report is not None:
            found.report(aside(report))
    if not quiet:
        _print_outcome(found, outputs)


def _as_ranking(found: NoisyRows, table: TableFile) -> pd.DataFrame:
    """The ranking; where rows are only numbered, `row` says all that its index does."""
    numbered = isinstance(table.frame.index, pd.RangeIndex)
    return found.table.reset_index(drop=True) if numbered else found.table


def _with_labels(found: NoisyRows, table: TableFile, target: str) -> pd.DataFrame:
    """The table with the likelier labels; whole numbers in a column with gaps as such."""
    labels = found.corrected()
    if pd.api.types.is_float_dtype(labels.dtype):
        labels = labels.astype(np.int64).astype(object)
    return table.frame.assign(**{target: labels})


def _print_outcome(found: NoisyRows, outputs: list[Path]) -> None:
    screen = console()
    screen.print(found.summary(), soft_wrap=not screen.is_terminal)
    first = found.top(SHOWN)
    first = first[first["label_wrong"] > 0.5]
    if len(first):
        lines = first[["row", "label", "suggested", "label_wrong"]].to_string(
            index=False, float_format="{:.2f}".format
        )
        screen.print(f"The most suspicious rows, counted from 0:\n{lines}", soft_wrap=True)
    screen.print(f"Wrote {', '.join(map(str, outputs))}.", soft_wrap=True)
