"""Precisions in which a test runs."""

import pytest

float64_first = pytest.mark.parametrize(
    "dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)], indirect=True
)
"""float64 for everyone; CI runs float32 too."""
