"""Precisions in which a test runs."""

import jax
import jax.numpy as jnp
import pytest

float64_first = pytest.mark.parametrize(
    "dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)], indirect=True
)
"""float64 for everyone; CI runs float32 too."""

BAR = {"float32": 2e-4, "float64": 1e-9}
"""How near an oracle in float64 a few steps of a network come."""


def typed(tree, dtype):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)
