"""Repair noisy tabular and time-series data with the gradients of a frozen model, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from denograd_jax import (
        backbones,
        calibration,
        classification,
        datasets,
        errors,
        layouts,
        metrics,
        models,
        robust,
        rules,
    )
    from denograd_jax._core._causal import Causal, CausalRefiner, causal_refiner
    from denograd_jax._core._constrained import Limits, constrained
    from denograd_jax._core._global import GlobalInfo, GlobalState, global_refiner
    from denograd_jax._core._instances import InputGradients, input_gradients
    from denograd_jax._core._refiner import Info, Refiner, State, refiner
    from denograd_jax._core._run import History, Solution, Status, run
    from denograd_jax._denograd import DenoGrad
    from denograd_jax._frames._calibration import Calibration, calibrate
    from denograd_jax._frames._classes import Classification
    from denograd_jax._frames._fitted import Fitted, fit
    from denograd_jax._frames._online import OnlineRefiner
    from denograd_jax._frames._refine import refine
    from denograd_jax._frames._refinement import Refinement
    from denograd_jax._types import Model
    from denograd_jax.classification import find_noisy
    from denograd_jax.errors import DenogradError
    from denograd_jax.models import as_model
    from denograd_jax.streaming import stream

__version__ = "0.1.0"

# Names are looked up on first use (PEP 562): importing the package loads neither pandas nor Flax.
_HOMES = {
    "Causal": "_core._causal",
    "CausalRefiner": "_core._causal",
    "DenoGrad": "_denograd",
    "DenogradError": "errors",
    "Calibration": "_frames._calibration",
    "Classification": "_frames._classes",
    "Fitted": "_frames._fitted",
    "History": "_core._run",
    "Info": "_core._refiner",
    "InputGradients": "_core._instances",
    "Limits": "_core._constrained",
    "Model": "_types",
    "OnlineRefiner": "_frames._online",
    "Refinement": "_frames._refinement",
    "Refiner": "_core._refiner",
    "Solution": "_core._run",
    "State": "_core._refiner",
    "Status": "_core._run",
    "GlobalInfo": "_core._global",
    "GlobalState": "_core._global",
    "as_model": "models",
    "causal_refiner": "_core._causal",
    "constrained": "_core._constrained",
    "calibrate": "_frames._calibration",
    "find_noisy": "classification",
    "fit": "_frames._fitted",
    "global_refiner": "_core._global",
    "input_gradients": "_core._instances",
    "refine": "_frames._refine",
    "refiner": "_core._refiner",
    "run": "_core._run",
    "stream": "streaming",
}
_MODULES = (
    "backbones",
    "bridges",
    "calibration",
    "classification",
    "datasets",
    "errors",
    "layouts",
    "metrics",
    "models",
    "robust",
    "rules",
    "sklearn",
)

__all__ = [
    "Calibration",
    "Causal",
    "CausalRefiner",
    "Classification",
    "DenoGrad",
    "DenogradError",
    "Fitted",
    "GlobalInfo",
    "GlobalState",
    "History",
    "Info",
    "InputGradients",
    "Limits",
    "Model",
    "OnlineRefiner",
    "Refinement",
    "Refiner",
    "Solution",
    "State",
    "Status",
    "as_model",
    "backbones",
    "calibrate",
    "calibration",
    "causal_refiner",
    "classification",
    "constrained",
    "datasets",
    "errors",
    "find_noisy",
    "fit",
    "global_refiner",
    "input_gradients",
    "layouts",
    "metrics",
    "models",
    "refine",
    "refiner",
    "robust",
    "rules",
    "run",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"denograd_jax.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"denograd_jax.{name}")
    raise AttributeError(f"module 'denograd_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
