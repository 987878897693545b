"""Options that name a column with numbers: COLUMN=LOW:HIGH, COLUMN=NUMBER."""

from collections.abc import Sequence

import typer

__all__ = ["parse_bounds", "parse_noise"]


def parse_bounds(given: Sequence[str] | None) -> dict[str, tuple[float | None, float | None]]:
    """`["age=0:120", "price=0:"]` as `{"age": (0, 120), "price": (0, None)}`."""
    bounds = {}
    for text in given or ():
        column, pair = _split(text, "--bound", "COLUMN=LOW:HIGH")
        low, separator, high = pair.partition(":")
        if not separator:
            raise typer.BadParameter(f"--bound {text!r} must be COLUMN=LOW:HIGH.")
        bounds[column] = (
            _number(low, text, "--bound") if low else None,
            _number(high, text, "--bound") if high else None,
        )
    return bounds


def parse_noise(given: Sequence[str] | None) -> dict[str, float] | None:
    """`["temp=0.5", "wind=1"]` as `{"temp": 0.5, "wind": 1.0}`."""
    if not given:
        return None
    pairs = [(_split(text, "--noise-scale", "COLUMN=NUMBER"), text) for text in given]
    return {column: _number(number, text, "--noise-scale") for (column, number), text in pairs}


def _split(text: str, option: str, form: str) -> tuple[str, str]:
    column, separator, rest = text.rpartition("=")
    if not separator or not column:
        raise typer.BadParameter(f"{option} {text!r} must be {form}.")
    return column, rest


def _number(text: str, whole: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} {whole!r}: {text!r} is no number.") from None
