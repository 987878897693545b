"""What the report says of the noise that the rule "auto" found, and of the error that is left."""

import functools
from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax.errors import UnsupportedError
from denograd_jax.report import _figures

if TYPE_CHECKING:
    from denograd_jax._frames._calibration import Calibration
    from denograd_jax._frames._refinement import Refinement

__all__ = ["Line", "Noise", "estimate", "noise_of"]

Floats: TypeAlias = NDArray[np.float64]

GIVEN = "given"
"""What the settings say of noise that the user told."""


class Line(NamedTuple):
    """What is known of one column's noise; NaN where nothing is.

    Attributes:
        column: Label.
        noise: Standard deviation, in the column's unit.
        sigmas: The same in standard deviations of the column.
        off: Part of it that should come off.
        error: Root mean square of the refined cells' standard errors, in the column's unit.
        spikes: How many cells that is of, where it is of spikes alone; else 0.
    """

    column: Hashable
    noise: float
    sigmas: float
    off: float
    error: float
    spikes: int


class Noise(NamedTuple):
    """A section of the page.

    Attributes:
        told: What was found, in sentences.
        lines: The noisiest columns first; without noise those with spikes, or none.
        all_lines: How many columns there are.
        unknown: What stands for noise that is not known.
        figures: The error left after corrections of other strengths; none where none was found.
    """

    told: str
    lines: list[Line]
    all_lines: int
    unknown: str
    figures: list[_figures.Figure]


def noise_of(refinement: "Refinement", most: int) -> Noise | None:
    """The noise by which a refinement went; None where it did not, or it is no longer known.

    Args:
        refinement: Its calibration and standard errors are computed, where they are not yet.
        most: Lines of the table.
    """
    given = refinement.settings.get("noise") == GIVEN
    if refinement.settings.get("rule") != "auto" or refinement.lag is not None:
        return None
    if given and refinement.origin.noise is None:  # it is not saved
        return None
    try:
        calibration, errors = refinement.calibration, refinement.standard_errors
    except UnsupportedError:  # it was loaded without its model
        return None
    observed = refinement.before.notna().sum().to_numpy()
    lines = _lines(calibration, errors, observed, given=given)
    spikes = sum(line.spikes for line in lines)
    known = calibration.noise["sigmas"].dropna()
    model = str(refinement.settings.get("model", ""))
    if refinement.classification is not None:  # a classifier has no say in it
        model = ""
    return Noise(
        told=_in_words(calibration, known.to_numpy(), given=given, spikes=spikes)
        + _of_its_own_rows(model),
        lines=[line for line in lines if len(known) or line.spikes][:most],
        all_lines=len(lines),
        unknown="none" if given else "not known",
        figures=[_figure(calibration)] if len(known) else [],
    )


def estimate(number: float) -> str:
    """An estimate in the user's unit: three digits, since more would feign precision."""
    if np.isnan(number):
        return "not known"
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if rounded == 0 or 100 <= rounded < 1e15 else f"{number:#.3g}"


def _lines(
    calibration: "Calibration", errors: pd.DataFrame, observed: NDArray[np.intp], *, given: bool
) -> list[Line]:
    found = calibration.noise
    lines = []
    for position, (column, noise, sigmas, off) in enumerate(found.itertuples()):
        of_cells = errors.iloc[:, position].dropna().to_numpy()
        squares = of_cells[np.isfinite(of_cells)] ** 2
        typical = float(np.sqrt(squares.mean())) if len(squares) else np.nan
        # Only spikes have a bar where the noise is not known, or only how large it is at least.
        alone = not given and 2 * len(of_cells) < observed[position]
        spikes = len(of_cells) if alone else 0
        lines.append(Line(column, noise, sigmas, off, typical, spikes))
    return sorted(lines, key=lambda line: (-np.nan_to_num(line.sigmas), -line.spikes))


def _in_words(calibration: "Calibration", known: Floats, *, given: bool, spikes: int) -> str:
    if not len(known):
        left = "so the data was left as it is"
        if spikes:
            left += f", but for {spikes:,} cell{'s' * (spikes > 1)} that stood out as spikes"
        return (
            f"No noise could be told from the signal, {left}. This was judged without clean data."
        )
    least, most = (f"{size:.2g}" for size in (known.min(), known.max()))
    size = least if least == most else f"{least} to {most}"
    among = f"{len(known):,} of {len(calibration.noise):,} columns"
    gain = calibration.gain
    part = f"about {gain:.0%} of it" if gain >= 0.005 else "next to nothing of it"
    return (
        f"Noise of {size} standard deviations was {'given for' if given else 'found in'} {among}; "
        f"{part} should come off. That part is Stein's unbiased estimate, which needs no clean "
        "data."
    )


def _of_its_own_rows(model: str) -> str:
    """What is to be known of a network, or of a model that was given."""
    if not model.startswith("given") and "trained on this data" not in model:
        return ""
    return (
        " Where the model has seen these very rows, its residuals are smaller than its errors, and "
        "the noise of what it predicts looks smaller than it is."
    )


def _figure(calibration: "Calibration") -> _figures.Figure:
    strength, error = (calibration.curve[name].to_numpy() for name in ("strength", "error"))
    left = float(error[strength == 1][0])
    draw = functools.partial(_figures.error_left, strength=strength, error=error)
    return _figures.Figure(
        title="Error left, by strength of the correction",
        caption=f"estimated: {left:.1%} at strength 1, which is what auto did; 100% at 0, which "
        "leaves the data as it is",
        alt="Line chart of the estimated error of the noisy columns against the strength of the "
        f"correction: {left:.1%} is left at strength 1",
        pictures=[_figures.inline_svg(draw, name="noise", size=(4.8, 2.1))],
    )
