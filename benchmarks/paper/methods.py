"""What is compared; a new method is one more line of METHODS.

A method never sees test rows while it is fitted. Refining them, for the authors' protocol, is a
second call of what was fitted to the others.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.quality import ours

from . import baselines, denograd
from .copies import Copy


class Refined(NamedTuple):
    """The two parts of a copy after refinement."""

    learnt: pd.DataFrame
    test: pd.DataFrame


@dataclass(frozen=True)
class Method:
    """Something that is compared.

    Attributes:
        name: As in the tables.
        family: "denograd", "baseline" or "control"; "yardstick" for what nobody can have, which is
            never ranked.
        learn: `learn(copy)` gives a function of a frame.
        kinds: Kinds of data that it is for.
        study: Its name in the study; None if it is not among its eight.
        version: Changes with what it does; part of the key of its cells.
        needs: Modules that must be importable.
    """

    name: str
    family: str
    learn: Callable[[Copy], Callable[[pd.DataFrame], pd.DataFrame]]
    kinds: tuple[str, ...] = ("rows", "series")
    study: str | None = None
    version: str = "1"
    needs: tuple[str, ...] = ()

    def __call__(self, copy: Copy) -> Refined:
        """Both parts, refined.

        Raises:
            ValueError: What it returned has another shape, or values that are not finite.
        """
        refine = self.learn(copy)
        return Refined(whole(refine, copy.learnt), whole(refine, copy.test))


def whole(refine, frame):
    """What `refine` makes of a frame, if that is a frame of the same kind."""
    refined = refine(frame.copy())
    if refined.shape != frame.shape or list(refined) != list(frame):
        raise ValueError(f"returned {refined.shape} instead of {frame.shape}")
    if lost := int((~np.isfinite(refined.to_numpy())).sum()):
        raise ValueError(f"returned {lost} values that are not finite")
    return refined


def lacking(needs) -> str | None:
    """The modules among these that cannot be imported, as a reason; None if all can."""
    missing = []
    for module in needs:
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(module)
    return f"not installed: {', '.join(missing)}" if missing else None


def refinement(name, learn, **more):
    """One of DenoGrad's; it changes with the library's code."""
    return Method(name, "denograd", learn, version=f"1 {ours.digest()}", **more)


def baseline(name, learn, *needs):
    return Method(name, "baseline", learn, study=name, needs=needs)


def by_column(name, smooth, *needs):
    return baseline(name, baselines.column_by_column(smooth), *needs)


NOTHING = Method("no denoising", "control", baselines.nothing)
TRUTH = Method("clean data", "yardstick", baselines.truth)
AUTO = "auto"
METHODS = [
    NOTHING,
    refinement("unit_step", denograd.unit_step, study="DenoGrad"),
    refinement("gauss_newton", denograd.gauss_newton),
    refinement("global", denograd.whole_series, kinds=("series",)),
    refinement("unit_step FT", denograd.unit_step_with_attention, kinds=("rows",)),
    refinement(AUTO, denograd.auto),
    baseline("DAE", baselines.autoencoder),
    baseline("DN-ResNet", baselines.residual_network),
    baseline("PCA", baselines.principal_components, "sklearn"),
    by_column("WTD", baselines.wavelet, "pywt"),
    by_column("EMD", baselines.without_first_modes, "PyEMD"),
    by_column("KF", baselines.kalman),
    by_column("MA", baselines.trailing_mean),
    TRUTH,
]
RANKED = [m.name for m in METHODS if m.family != "yardstick"]
