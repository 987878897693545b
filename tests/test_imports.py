"""Importing the package is cheap, and every public name is there and documented."""

import inspect
import subprocess
import sys

import pytest

import denograd_jax
from denograd_jax import (
    backbones,
    bridges,
    calibration,
    classification,
    datasets,
    errors,
    layouts,
    metrics,
    models,
    robust,
    rules,
    streaming,
)

MODULES = [
    denograd_jax,
    backbones,
    bridges,
    calibration,
    classification,
    datasets,
    errors,
    layouts,
    metrics,
    models,
    robust,
    rules,
    streaming,
]


def test_import_is_lazy():
    """No heavy package is imported, and no device is touched."""
    code = (
        "import sys, denograd_jax\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'matplotlib', 'flax', 'jax', 'scipy'}\n"
        "heavy |= {'equinox', 'haiku', 'keras'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "from denograd_jax import refiner, rules, layouts, run, DenoGrad, as_model, bridges\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'matplotlib', 'equinox', 'haiku', 'keras'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "from jax._src import xla_bridge\n"
        "print(xla_bridge.backends_are_initialized())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["[]", "[]", "False"]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_public_names_exist_and_are_documented(module):
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{module.__name__}.{name} has no docstring"
    assert set(module.__all__) <= set(dir(module))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'refinement'"):
        _ = denograd_jax.refinement


def test_every_error_is_also_a_builtin_one():
    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, errors.DenogradError)
        if error is not errors.DenogradError:
            assert issubclass(error, ValueError | TypeError | ImportError)
