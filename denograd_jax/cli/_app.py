"""The commands and their options. Nothing here imports jax or pandas, so that help is fast."""

from pathlib import Path
from typing import Annotated

import typer

from denograd_jax.cli import _options as options
from denograd_jax.cli._parsing import parse_bounds, parse_noise

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from denograd_jax import __version__

        typer.echo(f"denograd-jax {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def denograd_jax(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_print_version, is_eager=True, help="Print it."
        ),
    ] = False,
) -> None:
    """Repair noisy tables and time series with the gradients of a frozen model."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def refine(
    source: options.Source,
    target: options.Target = None,
    classes: options.Classes = False,
    freeze: options.Freeze = None,
    series: options.Series = False,
    window: options.Window = None,
    horizon: options.Horizon = 1,
    stride: options.Stride = 1,
    time: options.Time = None,
    group: options.Group = None,
    irregular: options.Irregular = False,
    scale_groups: options.ScaleGroups = False,
    causal: options.Causal = False,
    lag: options.Lag = 0,
    warm_up: options.WarmUp = None,
    model: options.ModelName = None,
    training: options.Training = options.TrainingName.plain,
    max_epochs: options.MaxEpochs = None,
    folds: options.Folds = None,
    seed: options.Seed = 0,
    rule: options.Rule = None,
    step_size: options.StepSize = None,
    tolerance: options.Tolerance = None,
    max_steps: options.MaxSteps = None,
    noise_scale: options.NoiseScale = None,
    impute: options.Impute = False,
    bound: options.Bound = None,
    non_negative: options.NonNegative = None,
    integer: options.Integer = None,
    integers: options.Integers = False,
    max_change: options.MaxChange = None,
    out: options.Out = None,
    changes: options.Changes = None,
    soft_labels: options.SoftLabels = None,
    report: options.Report = None,
    save: options.Save = None,
    dry_run: options.DryRun = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Repair a table or, with --series or --window, a time series.

    For example: denograd-jax refine houses.csv --target price
    """
    from denograd_jax.cli._refine import Outputs, beside, refine_file

    window = _window(series, window, horizon, stride, target, [time, *(group or [])])
    refine_file(
        source,
        None if dry_run else Outputs(out or beside(source), changes, report, save, soft_labels),
        {
            "target": target,
            "classes": classes or None,
            "frozen": freeze or (),
            "window": window,
            "horizon": horizon,
            "stride": stride,
            "time": time,
            "groups": group,
            "irregular": "segment" if irregular else None,
            "scale": "group" if scale_groups else "all",
            "causal": causal,
            "lag": lag,
            "warm_up": warm_up,
            "model": model,
            "training": training.value,
            "max_epochs": max_epochs,
            "folds": folds,
            "seed": seed,
            "rule": rule and rule.value,
            "step_size": step_size,
            "tolerance": tolerance,
            "max_steps": max_steps,
            "noise_scale": parse_noise(noise_scale),
            "soft_labels": soft_labels is not None,
            "impute": impute,
            "bounds": parse_bounds(bound),
            "non_negative": non_negative or (),
            "integer": True if integers else integer or (),
            "max_change": max_change,
        },
        overwrite=overwrite,
        quiet=quiet,
    )


@app.command()
def fit(
    source: options.Source,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", show_default=False, help="Where the model goes.")
    ],
    target: options.Target = None,
    classes: options.Classes = False,
    freeze: options.Freeze = None,
    series: options.Series = False,
    window: options.Window = None,
    horizon: options.Horizon = 1,
    stride: options.Stride = 1,
    time: options.Time = None,
    group: options.Group = None,
    irregular: options.Irregular = False,
    scale_groups: options.ScaleGroups = False,
    model: options.ModelName = None,
    training: options.Training = options.TrainingName.plain,
    max_epochs: options.MaxEpochs = None,
    folds: options.Folds = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a model on a table and keep it, with its scaling, to repair other tables by apply.

    For example: denograd-jax fit yesterday.csv model/ --window 24
    """
    from denograd_jax.cli._refine import fit_file

    window = _window(series, window, horizon, stride, target, [time, *(group or [])])
    fit_file(
        source,
        folder,
        {
            "target": target,
            "classes": classes or None,
            "frozen": freeze or (),
            "window": window,
            "horizon": horizon,
            "stride": stride,
            "time": time,
            "groups": group,
            "irregular": "segment" if irregular else None,
            "scale": "group" if scale_groups else "all",
            "model": model,
            "training": training.value,
            "max_epochs": max_epochs,
            "folds": folds,
            "seed": seed,
        },
        overwrite=overwrite,
        quiet=quiet,
    )


@app.command()
def apply(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", show_default=False, help="What fit made.")
    ],
    source: options.Source,
    causal: options.Causal = False,
    lag: options.Lag = 0,
    rule: options.Rule = None,
    step_size: options.StepSize = None,
    tolerance: options.Tolerance = None,
    max_steps: options.MaxSteps = None,
    noise_scale: options.NoiseScale = None,
    impute: options.Impute = False,
    bound: options.Bound = None,
    non_negative: options.NonNegative = None,
    integer: options.Integer = None,
    integers: options.Integers = False,
    max_change: options.MaxChange = None,
    out: options.Out = None,
    changes: options.Changes = None,
    soft_labels: options.SoftLabels = None,
    report: options.Report = None,
    save: options.Save = None,
    dry_run: options.DryRun = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Repair a table with a model that fit has made of another.

    For example: denograd-jax apply model/ today.csv
    """
    from denograd_jax.cli._refine import Outputs, apply_file, beside

    apply_file(
        folder,
        source,
        None if dry_run else Outputs(out or beside(source), changes, report, save, soft_labels),
        {
            "causal": causal,
            "lag": lag,
            "rule": rule and rule.value,
            "step_size": step_size,
            "tolerance": tolerance,
            "max_steps": max_steps,
            "noise_scale": parse_noise(noise_scale),
            "soft_labels": soft_labels is not None,
            "impute": impute,
            "bounds": parse_bounds(bound),
            "non_negative": non_negative or (),
            "integer": True if integers else integer or (),
            "max_change": max_change,
        },
        overwrite=overwrite,
        quiet=quiet,
    )


def _window(
    series: bool,
    window: int | None,
    horizon: int,
    stride: int,
    target: list[str] | None,
    order: list[str | None],
) -> int | None:
    """The window's length; None for rows."""
    if series or window is not None:
        return window or 24
    if (horizon, stride) != (1, 1):
        raise typer.BadParameter("--horizon and --stride are for a series: add --series.")
    if any(order):
        raise typer.BadParameter("--time and --group are for a series: add --series.")
    if not target:
        raise typer.BadParameter(
            "name the column that the others explain with --target, or add --series."
        )
    return None


@app.command()
def find_noisy(
    source: options.Source,
    target: Annotated[
        str, options.columns(metavar="COLUMN", show_default=False, help="Column of the labels.")
    ],
    model: Annotated[
        str,
        options.method(metavar="NAME", help="Classifier to train: mlp, linear or ft_transformer."),
    ] = "mlp",
    folds: Annotated[
        int,
        options.method(
            min=2, metavar="NUMBER", help="Parts; each is judged by models of the others."
        ),
    ] = 5,
    rounds: Annotated[
        int,
        options.method(
            min=1, metavar="NUMBER", help="Trainings, each with the noise found before it."
        ),
    ] = 3,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None,
        options.output(
            "--out", "-o", metavar="FILE", show_default="INPUT.ranked.csv", help="The ranking."
        ),
    ] = None,
    corrected: Annotated[
        Path | None,
        options.output(metavar="FILE", help="The table with the likelier labels in it."),
    ] = None,
    report: Annotated[
        Path | None, options.output(metavar="FILE", help="An HTML page of what was found.")
    ] = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Rank the rows of a table by how likely the label of their class is wrong.

    For example: denograd-jax find-noisy animals.csv --target species

    Nothing is changed; --corrected writes the table with the labels that are likelier.
    """
    from denograd_jax.cli._find_noisy import find_noisy_in_file
    from denograd_jax.cli._refine import beside

    find_noisy_in_file(
        source,
        target,
        out or beside(source, "ranked"),
        corrected,
        report,
        {"model": model, "folds": folds, "rounds": rounds, "seed": seed},
        overwrite=overwrite,
        quiet=quiet,
    )


@app.command()
def refine_array(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Series to repair, steps x columns: a .npy file or a Zarr array of any size.",
        ),
    ],
    destination: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", show_default=False, help="The repaired series: .npy or .zarr."
        ),
    ],
    target: Annotated[
        list[int] | None,
        options.columns(
            min=0,
            metavar="NUMBER",
            show_default="all that move",
            help="Column, counted from 0, that is predicted from the window before. Repeat it "
            "for several.",
        ),
    ] = None,
    freeze: Annotated[
        list[int] | None,
        options.columns(
            min=0,
            metavar="NUMBER",
            help="Column that informs the model but is not changed. Repeat it for several.",
        ),
    ] = None,
    window: Annotated[
        int, options.series(min=1, metavar="STEPS", help="How far the model looks back.")
    ] = 24,
    horizon: options.Horizon = 1,
    stride: options.Stride = 1,
    model: Annotated[
        str,
        options.method(
            metavar="NAME",
            help="Backbone to train: mlp, lstm, gru, cnn, cnn_lstm, dlinear, transformer or xlstm.",
        ),
    ] = "mlp",
    sample_steps: Annotated[
        int,
        options.method(
            min=1, metavar="NUMBER", help="Most steps to train on, from all over the series."
        ),
    ] = 50_000,
    rule: options.Rule = None,
    step_size: options.StepSize = None,
    tolerance: options.Tolerance = None,
    max_steps: options.MaxSteps = None,
    max_epochs: options.MaxEpochs = None,
    seed: options.Seed = 0,
    block_steps: Annotated[
        int | None,
        options.output(
            min=1,
            metavar="STEPS",
            show_default="4 million cells",
            help="Steps of the series in memory at a time.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        options.output(
            "--overwrite",
            metavar="",
            help="Replace an output that exists, and unfinished work of another kind.",
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Repair a time series that is larger than memory.

    For example: denograd-jax refine-array sensors.npy refined.npy --window 48

    If it is stopped, by whatever cause, the same command goes on where it was.
    """
    from denograd_jax.cli._refine_array import Learning, RuleOptions
    from denograd_jax.cli._refine_array import refine_array as refine_on_disk

    refine_on_disk(
        source,
        destination,
        Learning(
            window,
            horizon,
            stride,
            tuple(target or ()),
            tuple(freeze or ()),
            model,
            max_epochs,
            sample_steps,
            seed,
        ),
        RuleOptions(rule and rule.value, step_size, tolerance, max_steps),
        block_steps=block_steps,
        overwrite=overwrite,
        quiet=quiet,
    )


@app.command()
def demo(
    fast: Annotated[
        bool,
        typer.Option("--fast", metavar="", help="Take a part of the data and train more briefly."),
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where files and reports go.")] = Path(
        "denograd-demo"
    ),
    seed: Annotated[int, typer.Option(help="Of the noise and of the training.")] = 0,
) -> None:
    """Add noise to two real data sets, repair them, and print how much nearer they came."""
    from denograd_jax.cli._demo import run_demo

    run_demo(out, fast=fast, seed=seed)
