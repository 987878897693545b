"""Parity with the PyTorch package denograd 1.1.0, run as a black box in a process of its own.

Installs that package (AGPL-3.0, never a dependency) into a temporary folder, hence the marker.
"""

import subprocess
import sys

import numpy as np
import pytest

from denograd_jax import DenoGrad

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

ROWS = {"max_epochs": 20, "nrr": 0.05, "nr_threshold": 0.1}
CASES = {
    "tabular": ("mlp", {}, ROWS),
    "tabular, y held": ("mlp", {}, ROWS | {"denoise_y": False}),
    "series": ("lstm", {"is_ts": True, "window_size": 12}, ROWS),
    "series, stride 3, horizon 2": (
        "lstm",
        {"is_ts": True, "window_size": 8, "stride": 3, "future": 2},
        ROWS | {"nrr": 0.02},
    ),
}

PEER = """
import sys, numpy, torch
from denograd import DenoGrad
given = torch.load(sys.argv[1], weights_only=False)
denoiser = DenoGrad(given["model"], torch.nn.MSELoss(), torch.device("cpu"))
denoiser.fit(given["x"].copy(), given["y"].copy(), **given["fit"])
x, y, gx, gy = denoiser.transform(**given["transform"])
numpy.savez(sys.argv[2], x=x, y=y, gx=gx[0], gy=gy[0] if gy else 0, epochs=len(gx))
"""


class Forecaster(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(5, 16, batch_first=True)
        self.head = torch.nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


@pytest.fixture(scope="session")
def peer(tmp_path_factory):
    """A call of the peer: saves the arguments, runs it, loads what it returns."""
    home = tmp_path_factory.mktemp("peer")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*install, str(home), "denograd==1.1.0", "tqdm"], check=True)
    script = home / "run_peer.py"
    script.write_text(PEER)

    def call(**given):
        torch.save(given, home / "given.pt")
        paths = [str(home / "given.pt"), str(home / "found.npz")]
        subprocess.run(
            [sys.executable, str(script), *paths],
            check=True,
            capture_output=True,
            env={"PYTHONPATH": f"{home}:.", "PATH": ""},
        )
        return np.load(home / "found.npz")

    return call


@pytest.mark.parametrize("case", CASES)
def test_same_refinement(peer, case):
    kind, fit, transform = CASES[case]
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = np.float32(rng.normal(size=(300, 5))), np.float32(rng.normal(size=300))
    model = Forecaster()
    if kind == "mlp":
        layers = torch.nn.Linear(5, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)
        model = torch.nn.Sequential(*layers)
    expected = peer(model=model, x=x, y=y, fit=fit, transform=transform)
    found = DenoGrad(model, torch.nn.MSELoss()).fit(x, y, **fit).transform(**transform)
    moves = [np.abs(expected["x"] - x).max(), np.abs(expected["y"] - y).max()]
    for i, name in enumerate("xy"):
        difference = np.abs(found[i] - expected[name]).max()
        print(
            f"\n{case}: {name} differs by {difference:.1e}, largest move {max(moves):.3f}", end=""
        )
        assert difference < 1e-3 * max(moves)
        assert found[i].shape == expected[name].shape
        assert found[i].dtype == expected[name].dtype
    assert moves[0] > 0.01
    assert len(found[2]) == expected["epochs"]
    np.testing.assert_allclose(found[2][0], expected["gx"], atol=1e-4)
    if transform.get("denoise_y", True):
        np.testing.assert_allclose(
            found[3][0], expected["gy"].reshape(found[3][0].shape), atol=1e-4
        )
