"""Modules of one's own that a registered backbone stands for."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

from denograd_jax import bridges
from denograd_jax.bridges import _rewrites
from denograd_jax.errors import UnsupportedError
from tests.bridge_checks import forward, input_gradient, weight_gradient
from tests.test_bridges_jaxpr import equations_of_gradient
from tests.torch_backbones import C, W, made

nn = torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's

TOLERANCE = 1e-11


class LoopedLSTM(nn.Module):
    """An LSTM as a loop over time."""

    def __init__(self, units=4):
        super().__init__()
        self.cell, self.read_out = nn.LSTMCell(C, units), nn.Linear(units, 2)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], self.cell.hidden_size)
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
        return self.read_out(h)


class Halved(LoopedLSTM):
    def forward(self, x):
        return super().forward(x) / 2


class Renamed(LoopedLSTM):
    """The same forward."""


class Within(nn.Module):
    """Parts before and after, and the recurrence twice."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(C)
        self.parts = nn.ModuleList([LoopedLSTM(), Renamed()])
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        x = self.norm(x)
        return self.head(torch.cat([part(x) for part in self.parts], dim=-1)).squeeze(-1)


LOOPED = f"{__name__}.LoopedLSTM"
KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
NAMES = {f"lstm.{kind}_l0": f"cell.{kind}" for kind in KINDS} | {"head": "read_out"}


def registration(module, **options):
    sizes = {"input_shape": (W, C), "outputs": 2, "units": module.cell.hidden_size}
    return bridges.Registration("lstm", sizes | options, NAMES)


@pytest.fixture
def register(monkeypatch):
    """`register_port` for the test only."""
    monkeypatch.setattr(_rewrites, "_PORTS", dict(_rewrites._PORTS))
    return bridges.register_port(LOOPED)


def equations_and_scans(module, **settings):
    """How many are in the gradient."""
    model = bridges.from_torch(module, np.zeros((2, W, C)), check=False, **settings)
    found = equations_of_gradient(model, (W, C))
    return len(found), sum(equation.primitive.name == "scan" for equation in found)


@pytest.mark.usefixtures("x64")
class TestRegistration:
    @pytest.mark.parametrize(
        "make", [LoopedLSTM, pytest.param(Within, marks=pytest.mark.slow)], ids=["alone", "within"]
    )
    def test_a_backbone_runs_in_place_of_the_module(self, register, make):
        register(registration)
        module = made(make)
        model = bridges.from_torch(module, np.zeros((2, W, C)), check=False)
        for check in (forward, input_gradient, weight_gradient):
            assert check(model, module, (W, C), "float64") < TOLERANCE

    @pytest.mark.slow
    def test_the_loop_is_not_written_out(self, register):
        register(registration)
        written_out, without = equations_and_scans(made(LoopedLSTM), method="export")
        found, scans = equations_and_scans(made(LoopedLSTM))
        assert without == 0
        assert scans >= 2  # there and back
        assert found < written_out / 2

    def test_saved_and_loaded(self, register, tmp_path, rng):
        register(registration)
        model = bridges.from_torch(made(Within), np.zeros((2, W, C)), check=False)
        bridges.save(model, tmp_path / "model.npz")
        loaded = bridges.load(tmp_path / "model.npz")
        x = rng.standard_normal((4, W, C))
        values = (m.predict_batch(m.params, x) for m in (model, loaded))
        np.testing.assert_array_equal(*values)

    @pytest.mark.slow
    def test_settings_that_no_backbone_has(self, register):
        seen = []
        register(lambda module: seen.append(module))
        assert equations_and_scans(made(LoopedLSTM))[1] == 0
        assert [type(module) for module in seen] == [LoopedLSTM]

    @pytest.mark.slow
    def test_a_subclass_with_its_own_forward_is_traced(self, register):
        register(registration)
        assert equations_and_scans(made(Halved))[1] == 0

    def test_another_computation_is_told(self, register):
        bridges.register_port(f"{__name__}.Halved")(registration)
        with pytest.raises(UnsupportedError, match="in JAX its output differs"):
            bridges.from_torch(made(Halved), np.zeros((2, W, C)))

    def test_parameters_that_the_module_lacks(self, register):
        register(lambda module: registration(module)._replace(names={}))
        with pytest.raises(UnsupportedError, match=r"LoopedLSTM.*lstm"):
            bridges.from_torch(made(LoopedLSTM), np.zeros((2, W, C)))

    def test_the_module_is_left_alone(self, register):
        register(registration)
        module = Within().train()
        bridges.from_torch(module, np.zeros((2, W, C)), check=False)
        assert all(part.training for part in module.modules())
        assert all("forward" not in vars(part) for part in module.modules())
        assert module(torch.zeros(2, W, C)).shape == (2,)
