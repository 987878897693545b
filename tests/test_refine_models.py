"""`refine` with PyTorch modules as its models; test_refine.py has all other kinds."""

import pytest

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

import numpy as np
import pandas as pd

from denograd_jax import refine
from denograd_jax.errors import ModelError, UnsupportedError
from tests.test_refine import (
    LINEAR_WINDOWS,
    WEIGHTS,
    WINDOW,
    WINDOW_WEIGHTS,
    rows,
    rows_by_hand,
    steps,
)

nn = torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's
OPTIONS = {"step_size": 0.2, "tolerance": 0.3, "max_steps": 3}


def module_of_rows():
    module = nn.Sequential(nn.Linear(3, 1))
    with torch.no_grad():
        module[0].weight[:] = torch.tensor(WEIGHTS[None])
        module[0].bias[:] = 5
    return module


def module_of_windows():
    module = nn.Sequential(nn.Flatten(), nn.Linear(WINDOW * 2, 2))
    with torch.no_grad():
        module[1].weight[:] = torch.tensor(WINDOW_WEIGHTS.reshape(2, -1))
        module[1].bias[:] = torch.tensor([0.5, -1])
    return module


def test_a_module_of_rows_sees_the_units_of_the_user():
    result = refine(rows(), "y", model=module_of_rows(), **OPTIONS)
    expected = rows_by_hand(rows(), 0.2, 0.3, 3)
    np.testing.assert_allclose(result.data, expected, rtol=1e-5, atol=1e-4)


def test_a_module_is_left_as_it_was():
    module = module_of_rows()
    refine(rows(), "y", model=module, **OPTIONS)
    assert module.training
    assert module[0].weight.grad is None
    np.testing.assert_array_equal(module[0].weight.detach().numpy()[0], np.float32(WEIGHTS))


def test_a_module_of_windows():
    result, expected = (
        refine(steps(), window=WINDOW, model=model, max_steps=3, step_size=0.2)
        for model in (module_of_windows(), LINEAR_WINDOWS)
    )
    pd.testing.assert_frame_equal(result.data, expected.data, rtol=1e-4)


class Pair(nn.Module):
    def forward(self, x):
        return x[:, :1], x[:, 1:]


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (nn.Linear(4, 1), ModelError, r"fails on an input of shape \(2, 3\)"),
        (nn.Linear(3, 2), ModelError, r"returns an array of shape \(2,\), not .* \(1,\)"),
        (Pair(), UnsupportedError, "returns a tuple instead of a tensor: wrap it"),
    ],
)
def test_modules_that_do_not_fit_the_data(model, error, message):
    with pytest.raises(error, match=message):
        refine(rows(), "y", model=model)
