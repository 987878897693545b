"""Numbers, labels and settings as the page shows them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["listed", "measure", "short", "value"]

MOST_LETTERS = 80
"""Of a label, so that none makes the page large."""


def value(number: Any) -> str:
    """A value in the user's unit, short but with enough digits to see a correction."""
    if not isinstance(number, float | np.floating):
        return str(number)
    if np.isnan(number):
        return "–"
    return f"{number:,.0f}" if 1e5 <= abs(float(number)) < 1e15 else f"{number:,.6g}"


def measure(number: float, pattern: str = ".3f") -> str:
    """A computed number, a dash where it is not defined."""
    return "–" if np.isnan(number) else format(number, pattern)


def short(label: Any) -> str:
    """A label as text of bounded length; a time stamp to the second."""
    if isinstance(label, np.datetime64 | pd.Timestamp):
        label = pd.Timestamp(label).floor("s")
    text = str(label)
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"


def listed(settings: Mapping[str, object]) -> dict[str, str]:
    """Settings as names in words and text."""
    return {name.replace("_", " "): _printable(setting) for name, setting in settings.items()}


def _printable(setting: object) -> str:
    if isinstance(setting, bool):
        return "yes" if setting else "no"
    if isinstance(setting, list | tuple | set | frozenset):
        return ", ".join(map(str, setting)) or "none"
    if isinstance(setting, Mapping):
        return ", ".join(f"{name}: {_printable(of)}" for name, of in setting.items()) or "none"
    return "none" if setting is None else value(setting)
