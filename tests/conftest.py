"""A strict environment: what passes here does not lean on JAX's leniency.

The settings precede the import of jax, hence the order of the lines.
"""

import gc
import os
import subprocess
import sys
from pathlib import Path

DEVICES = "--xla_force_host_platform_device_count=8"
HASTY = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
"""Nearly all the time goes into compiling thousands of tiny programs; with these, half of it."""


def xla_flags():
    """The hasty ones too, if this XLA knows them: it ends a process over a flag that it does not.

    DENOGRAD_XLA=default tests what users run; CI does so for the core.
    """
    if os.environ.get("DENOGRAD_XLA") == "default":
        return DEVICES
    flags = f"{DEVICES} {HASTY}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    probe = [sys.executable, "-c", "import jax; jax.devices()"]
    known = subprocess.run(probe, env=environment, capture_output=True, check=False)
    return DEVICES if known.returncode else flags


if "XLA_FLAGS" not in os.environ:  # the workers of xdist inherit them
    os.environ["XLA_FLAGS"] = xla_flags()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # nobody debugs what is compiled

import jax
import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("default")


MOST_MAPPINGS = 30_000
"""Of memory. Each compiled program takes some, thousands of tests compile, and beyond the 65,530
that Linux allows a process the next compilation ends it by a segmentation fault."""


@pytest.fixture(autouse=True, scope="module")
def few_compiled_programs():
    yield
    if mappings() > MOST_MAPPINGS:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def same_weights_in_any_order():
    """PyTorch draws weights from one global generator, which the tests before have moved on."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


def mappings():
    try:
        with Path("/proc/self/maps").open() as lines:
            return sum(1 for _ in lines)
    except OSError:  # not on Linux
        return 0


def pytest_collection_finish():
    """What was imported stays: let the collector not go through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # tracing makes objects by the thousand, few of them cycles


ONE_PRECISION = {
    "tests.test_against_numpy",
    "tests.test_classification",
    "tests.test_composition",
    "tests.test_robust_beta_mixture",
    "tests.test_sharding",
}
"""Heavy modules, which by default are run in the precision whose bars are finer alone."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.module.__name__ in ONE_PRECISION and "float32" in item.nodeid:
            item.add_marker(pytest.mark.slow)


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


@pytest.fixture(scope="session")
def refined_rows():
    """The noisy table of `tests.rank_two` by the rule "auto"."""
    from denograd_jax import refine
    from tests.rank_two import NOISY

    return refine(NOISY, "y", rule="auto")


@pytest.fixture(scope="session")
def told_rows():
    """The same with its noise told: what a refinement costs is mostly the search for the noise."""
    from denograd_jax import refine
    from tests.rank_two import NOISY

    return refine(NOISY, "y", rule="auto", noise_scale=0.3)


@pytest.fixture(scope="session")
def mixture():
    """A density of most rows of that table."""
    from denograd_jax import fit
    from tests.rank_two import NOISY

    return fit(NOISY[:1000], "y", model="mixture")


@pytest.fixture
def without_pictures(monkeypatch):
    """For what a page says: nearly all of its time goes into its pictures."""
    from denograd_jax.report import _figures

    monkeypatch.setattr(_figures, "inline_svg", lambda draw, **_: "")
