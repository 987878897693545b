"""A strict environment: what passes here does not lean on JAX's leniency.

The settings precede the import of jax, hence the order of the lines.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

import jax
import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("default")


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Both working precisions; float64 with JAX's 64-bit types enabled for the test."""
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


@pytest.fixture
def x64():
    """64-bit types enabled for the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(20251110)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """What the job of `tests.streams` returns and writes if nothing ends it."""
    from tests.streams import job

    folder = tmp_path_factory.mktemp("uninterrupted")
    return job(folder), np.load(folder / "refined.npy")
