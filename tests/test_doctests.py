"""Every example in a docstring is true."""

import doctest
import importlib
import pkgutil

import pytest

import denograd_jax
from denograd_jax import bridges


def modules():
    for package in (denograd_jax, bridges):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            yield found.name


HEAVY = (
    "_frames._calibration",
    "_frames._fitted",
    "_frames._online",
    "_frames._refine",
    "classification._find_noisy",
    "robust._beta_mixture",
    "sklearn._data_refiner",
    "sklearn._refine_then_fit",
)
"""Their examples train or search for noise, as tests of their own do in a smaller form."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name.endswith(HEAVY) else name
        for name in sorted(set(modules()))
    ],
)
def test_doctest(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples():
    tests = [
        t for name in modules() for t in doctest.DocTestFinder().find(importlib.import_module(name))
    ]
    assert sum(bool(t.examples) for t in tests) >= 5
