"""Repair noisy tabular and time-series data with the gradients of a frozen model, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from denograd_jax import backbones, datasets, errors, layouts, metrics, models, rules
    from denograd_jax._causal import Causal, CausalRefiner, causal_refiner
    from denograd_jax._constrained import Limits, constrained
    from denograd_jax._denograd import DenoGrad
    from denograd_jax._fitted import Fitted, fit
    from denograd_jax._global import GlobalInfo, GlobalState, global_refiner
    from denograd_jax._instances import InputGradients, input_gradients
    from denograd_jax._online import OnlineRefiner
    from denograd_jax._refine import refine
    from denograd_jax._refinement import Refinement
    from denograd_jax._refiner import Info, Refiner, State, refiner
    from denograd_jax._run import History, Solution, Status, run
    from denograd_jax._types import Model
    from denograd_jax.errors import DenogradError
    from denograd_jax.models import as_model
    from denograd_jax.streaming import stream

__version__ = "0.1.0"

# Names are looked up on first use (PEP 562): importing the package loads neither pandas nor Flax.
_HOMES = {
    "Causal": "_causal",
    "CausalRefiner": "_causal",
    "DenoGrad": "_denograd",
    "DenogradError": "errors",
    "Fitted": "_fitted",
    "History": "_run",
    "Info": "_refiner",
    "InputGradients": "_instances",
    "Limits": "_constrained",
    "Model": "_types",
    "OnlineRefiner": "_online",
    "Refinement": "_refinement",
    "Refiner": "_refiner",
    "Solution": "_run",
    "State": "_refiner",
    "Status": "_run",
    "GlobalInfo": "_global",
    "GlobalState": "_global",
    "as_model": "models",
    "causal_refiner": "_causal",
    "constrained": "_constrained",
    "fit": "_fitted",
    "global_refiner": "_global",
    "input_gradients": "_instances",
    "refine": "_refine",
    "refiner": "_refiner",
    "run": "_run",
    "stream": "streaming",
}
_MODULES = (
    "backbones",
    "bridges",
    "datasets",
    "errors",
    "layouts",
    "metrics",
    "models",
    "rules",
    "sklearn",
)

__all__ = [
    "Causal",
    "CausalRefiner",
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
    "causal_refiner",
    "constrained",
    "datasets",
    "errors",
    "fit",
    "global_refiner",
    "input_gradients",
    "layouts",
    "metrics",
    "models",
    "refine",
    "refiner",
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
