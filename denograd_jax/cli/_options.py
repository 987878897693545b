"""Options that several commands have, and the panels of the help where options stand."""

import enum
import functools
from typing import Annotated

import typer

__all__ = [
    "Horizon",
    "MaxEpochs",
    "MaxSteps",
    "Quiet",
    "Rule",
    "RuleName",
    "Seed",
    "StepSize",
    "Stride",
    "Tolerance",
    "columns",
    "method",
    "output",
    "series",
]

columns = functools.partial(typer.Option, rich_help_panel="Columns")
series = functools.partial(typer.Option, rich_help_panel="Time series")
method = functools.partial(typer.Option, rich_help_panel="Model and rule")
output = functools.partial(typer.Option, rich_help_panel="Output")


class RuleName(enum.StrEnum):
    """How cells move."""

    unit_step = "unit_step"
    gauss_newton = "gauss_newton"


Horizon = Annotated[int, series(min=1, metavar="STEPS", help="How far ahead it predicts.")]
Stride = Annotated[int, series(min=1, metavar="STEPS", help="From one window to the next.")]
Rule = Annotated[
    RuleName | None, method(metavar="NAME", help="How cells move: unit_step or gauss_newton.")
]
StepSize = Annotated[float | None, method(min=0, metavar="NUMBER", help="How far a step goes.")]
Tolerance = Annotated[
    float | None,
    method(
        min=0,
        metavar="NUMBER",
        help="Residual that is left as it is, in standard deviations of the target.",
    ),
]
MaxSteps = Annotated[int | None, method(min=0, metavar="NUMBER", help="Most steps of refinement.")]
MaxEpochs = Annotated[int | None, method(min=1, metavar="NUMBER", help="Most epochs of training.")]
Seed = Annotated[  # JAX takes 32 bits of it
    int,
    method(min=0, max=2**32 - 1, metavar="NUMBER", help="The same seed gives the same result."),
]
Quiet = Annotated[bool, output("--quiet", "-q", metavar="", help="Print nothing but errors.")]
