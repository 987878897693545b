"""Options that several commands have, and the panels of the help where options stand."""

import enum
import functools
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Bound",
    "Causal",
    "Changes",
    "Classes",
    "DryRun",
    "Folds",
    "Freeze",
    "Group",
    "Horizon",
    "Impute",
    "Integer",
    "Integers",
    "Irregular",
    "Lag",
    "MaxChange",
    "MaxEpochs",
    "MaxSteps",
    "ModelName",
    "NoiseScale",
    "NonNegative",
    "Out",
    "Overwrite",
    "Quiet",
    "Report",
    "Rule",
    "RuleName",
    "Save",
    "ScaleGroups",
    "Seed",
    "Series",
    "SoftLabels",
    "Source",
    "StepSize",
    "Stride",
    "Target",
    "Time",
    "Tolerance",
    "Training",
    "TrainingName",
    "WarmUp",
    "Window",
    "columns",
    "limits",
    "method",
    "output",
    "series",
]

columns = functools.partial(typer.Option, rich_help_panel="Columns")
limits = functools.partial(typer.Option, rich_help_panel="What values must obey")
series = functools.partial(typer.Option, rich_help_panel="Time series")
method = functools.partial(typer.Option, rich_help_panel="Model and rule")
output = functools.partial(typer.Option, rich_help_panel="Output")


Source = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        show_default=False,
        help="Table to repair: .csv (or .csv.gz, .bz2, .xz) or .parquet.",
    ),
]
Target = Annotated[
    list[str] | None,
    columns(
        metavar="COLUMN",
        help="Column that the others explain. A series may go without: each of its columns "
        "is then predicted from the window before.",
    ),
]
Classes = Annotated[
    bool,
    columns(
        "--classes",
        metavar="",
        help="The target is of classes, also where these are whole numbers. Text that is repeated "
        "is taken for classes anyway.",
    ),
]
Freeze = Annotated[
    list[str] | None,
    columns(
        metavar="COLUMN",
        help="Column that informs the model but is not changed. Repeat it for several.",
    ),
]
Series = Annotated[bool, series("--series", metavar="", help="Rows follow each other in time.")]
Window = Annotated[
    int | None,
    series(
        min=1,
        metavar="STEPS",
        show_default="24",
        help="How far the model looks back; implies --series.",
    ),
]
Time = Annotated[
    str | None, series(metavar="COLUMN", help="Time stamps. No window crosses a gap in them.")
]
Group = Annotated[
    list[str] | None, series(metavar="COLUMN", help="Tells the series of a panel apart.")
]
Irregular = Annotated[
    bool,
    series(
        "--irregular",
        metavar="",
        help="Let no window cross a step that is uneven (by over 10 %), not refuse it.",
    ),
]
ScaleGroups = Annotated[
    bool, series("--scale-groups", metavar="", help="Standardise columns in each group.")
]
Causal = Annotated[
    bool,
    series(
        "--causal",
        metavar="",
        help="No look-ahead: learn from the first rows, refine those behind them.",
    ),
]
Lag = Annotated[
    int, series(min=0, metavar="STEPS", help="How far --causal may look ahead all the same.")
]
WarmUp = Annotated[
    int | None,
    series(min=1, metavar="STEPS", help="First rows that --causal learns from, at least 200."),
]
ModelName = Annotated[
    str | None,
    method(
        "--model",
        metavar="NAME",
        show_default="mlp",
        help="Backbone to train: mlp; for rows also ft_transformer, for series also lstm, gru, "
        "cnn, cnn_lstm, dlinear, transformer or xlstm.",
    ),
]
NoiseScale = Annotated[
    list[str] | None,
    method(
        metavar="COLUMN=NUMBER",
        help="Known standard deviation of a column's noise; give it for all that move, 0 for none.",
    ),
]
Impute = Annotated[
    bool, limits("--impute", metavar="", help="Fill missing numbers with the refined value.")
]
Bound = Annotated[
    list[str] | None,
    limits(metavar="COLUMN=LOW:HIGH", help="Least and largest value; either may be left out."),
]
NonNegative = Annotated[
    list[str] | None, limits(metavar="COLUMN", help="Column that is never below 0.")
]
Integer = Annotated[list[str] | None, limits(metavar="COLUMN", help="Column of whole numbers.")]
Integers = Annotated[
    bool, limits("--integers", metavar="", help="Keep all columns of whole numbers whole.")
]
MaxChange = Annotated[
    float | None,
    limits(min=0, metavar="NUMBER", help="Largest change of a cell, in standard deviations."),
]
Out = Annotated[
    Path | None,
    output(
        "--out", "-o", metavar="FILE", show_default="INPUT.refined.csv", help="The repaired table."
    ),
]
Changes = Annotated[Path | None, output(metavar="FILE", help="A table of every changed cell.")]
SoftLabels = Annotated[
    Path | None,
    output(
        metavar="FILE",
        help="Let labels of classes move too, and write their probabilities there; the table "
        "keeps them as they are.",
    ),
]
Report = Annotated[
    Path | None, output(metavar="FILE", help="An HTML page that shows what was done.")
]
Save = Annotated[
    Path | None,
    output(metavar="FOLDER", help="All of it, for Refinement.load in Python."),
]
DryRun = Annotated[
    bool,
    output("--dry-run", metavar="", help="Compute and print everything, write nothing."),
]
Overwrite = Annotated[
    bool, output("--overwrite", metavar="", help="Replace outputs that exist; never the input.")
]


class RuleName(enum.StrEnum):
    """How cells move."""

    auto = "auto"
    unit_step = "unit_step"
    gauss_newton = "gauss_newton"


Horizon = Annotated[int, series(min=1, metavar="STEPS", help="How far ahead it predicts.")]
Stride = Annotated[int, series(min=1, metavar="STEPS", help="From one window to the next.")]
Rule = Annotated[
    RuleName | None,
    method(metavar="NAME", help="How cells move: auto, unit_step or gauss_newton."),
]
StepSize = Annotated[float | None, method(min=0, metavar="NUMBER", help="How far a step goes.")]
Tolerance = Annotated[
    float | None,
    method(
        min=0,
        metavar="NUMBER",
        help="Residual that is left as it is, in standard deviations of the target; of classes "
        "1 less the probability of the label.",
    ),
]
MaxSteps = Annotated[int | None, method(min=0, metavar="NUMBER", help="Most steps of refinement.")]


class TrainingName(enum.StrEnum):
    """How a backbone is trained."""

    plain = "plain"
    ido = "ido"
    rlap = "rlap"


Training = Annotated[
    TrainingName,
    method(metavar="NAME", help="How it is trained: plain, or for data far off: ido, rlap (mlp)."),
]
MaxEpochs = Annotated[int | None, method(min=1, metavar="NUMBER", help="Most epochs of training.")]
Folds = Annotated[
    int | None,
    method(
        min=2,
        metavar="NUMBER",
        help="Parts of the data, each moved by a backbone that was trained without it.",
    ),
]
Seed = Annotated[  # JAX takes 32 bits of it
    int,
    method(min=0, max=2**32 - 1, metavar="NUMBER", help="The same seed gives the same result."),
]
Quiet = Annotated[bool, output("--quiet", "-q", metavar="", help="Print nothing but errors.")]
