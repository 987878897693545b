"""Losses by name, as functions and from PyTorch."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from denograd_jax._losses import as_loss
from denograd_jax.errors import UnsupportedError

FORMULAS = {
    "squared_error": lambda r: r**2,
    "absolute_error": np.abs,
    "huber": lambda r: np.where(np.abs(r) <= 1, r**2 / 2, np.abs(r) - 0.5),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_named_losses(name, dtype):
    prediction = np.array([0.0, 1.0, -2.0, 0.5], dtype)
    target = np.array([0.0, 0.75, 3.0, -1.0], dtype)
    loss = as_loss(name)
    value = loss(jnp.asarray(prediction), jnp.asarray(target))
    assert value.dtype == dtype
    np.testing.assert_allclose(value, FORMULAS[name](prediction - target), rtol=1e-6)
    assert as_loss(name) is loss


@pytest.mark.parametrize("name", FORMULAS)
def test_no_pull_where_prediction_and_target_agree(name):
    gradients = jax.grad(as_loss(name), argnums=(0, 1))(jnp.float32(2.0), jnp.float32(2.0))
    assert gradients == (0.0, 0.0)


def test_absolute_error_has_the_sign_as_derivative():
    residuals = jnp.array([-3.0, -1e-30, 0.0, 1e-30, 2.0])
    slope = jax.vmap(jax.grad(as_loss("absolute_error")), (0, None))(residuals, jnp.float32(0.0))
    np.testing.assert_array_equal(slope, [-1.0, -1.0, 0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    "loss",
    [
        optax.losses.log_cosh,
        lambda prediction, target: jnp.sum((prediction - target) ** 4),
        jax.jit(optax.losses.squared_error),
        functools.partial(optax.losses.huber_loss, delta=2.0),
    ],
)
def test_functions_are_returned_as_they_are(loss):
    assert as_loss(loss) is loss


def test_torch_criteria_come_over_the_bridge():
    torch = pytest.importorskip("torch")
    assert as_loss(torch.nn.MSELoss()) is as_loss("squared_error")
    assert as_loss(torch.nn.L1Loss()) is as_loss("absolute_error")
    for criterion in (torch.nn.functional.mse_loss, torch.nn.MSELoss, torch.nn.CTCLoss()):
        with pytest.raises(UnsupportedError, match="MSELoss"):
            as_loss(criterion)


@pytest.mark.parametrize("criterion", ["mse", None, 3, dict])
def test_refusals_name_what_is_accepted(criterion):
    with pytest.raises(UnsupportedError, match="squared_error, absolute_error, huber"):
        as_loss(criterion)


def test_no_torch_is_imported():
    code = (
        "import sys; from denograd_jax._losses import as_loss; as_loss('huber'); as_loss(max); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
