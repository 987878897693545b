"""The published interface, against NumPy loops and the contract of the PyTorch package 1.1."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import linen, nnx

from denograd_jax import DenoGrad, Model, errors
from tests import oracle
from tests.models import tanh_net

RULE = {"name": "unit_step", "step_size": 0.05, "tolerance": 0.2}
CALL = {"nrr": 0.05, "nr_threshold": 0.2, "max_epochs": 6}


def model_of(net):
    return Model(tanh_net, net.params)


def test_tabular_equals_the_numpy_loop(rng, x64):
    net = oracle.Net(rng, 5)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=40)
    found = DenoGrad(model_of(net), "squared_error").fit(x, y).transform(**CALL)
    expected = oracle.refine_rows(net, x, y[:, None], RULE, 6)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found[1], expected[1][:, 0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("flattening", [False, True])
def test_series_equals_the_numpy_loop(rng, x64, flattening):
    net = oracle.Net(rng, 4 * 3, outputs=2)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))

    def predict(params, x):
        assert x.shape == ((12,) if flattening else (4, 3))
        return tanh_net(params, x)

    denoiser = DenoGrad(Model(predict, net.params), "squared_error")
    found = denoiser.fit_transform(
        x, y, is_ts=True, window_size=4, future=2, stride=3, flattening=flattening, **CALL
    )
    expected = oracle.refine_series(net, x, y, RULE, 6, 4, 2, 3, "visits")
    for i in range(2):
        np.testing.assert_allclose(found[i], expected[i], rtol=0, atol=1e-10)
    assert found[2][0].shape == (12, 4, 3)
    assert found[3][0].shape == (12, 2)


def test_gradients_come_back_per_epoch_off_the_device(rng):
    net = oracle.Net(rng, 5)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=40)
    denoiser = DenoGrad(model_of(net), "squared_error").fit(x, y)
    _, _, grad_x, grad_y = denoiser.transform(**CALL)
    assert len(grad_x) == len(grad_y) == 6
    assert all(type(g) is np.ndarray for g in (*grad_x, *grad_y))
    assert grad_x[0].shape == (40, 5)
    assert grad_y[0].shape == (40,)
    length = np.sqrt(np.sum(grad_x[0] ** 2, axis=1) + grad_y[0] ** 2)
    np.testing.assert_allclose(length, 1, atol=1e-5)
    residual = np.array([net.value(row)[0] for row in x]) - y
    np.testing.assert_array_equal(np.sign(grad_y[0]), np.sign(-residual))
    assert denoiser.transform(**CALL, save_gradients=False)[2:] == ([], [])
    without_y = denoiser.transform(**CALL, denoise_y=False)
    np.testing.assert_array_equal(without_y[1], y)
    assert len(without_y[2]) == 6
    assert without_y[3] == []


def test_transform_can_be_swept_and_batch_size_is_without_effect(rng):
    net = oracle.Net(rng, 5)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=40)
    denoiser = DenoGrad(model_of(net), "squared_error").fit(x, y)
    first = denoiser.transform(**CALL)[0]
    denoiser.transform(nrr=0.3)
    np.testing.assert_array_equal(denoiser.transform(**CALL)[0], first)
    np.testing.assert_allclose(denoiser.transform(**CALL, batch_size=7)[0], first, atol=1e-6)


@pytest.mark.parametrize("given", ["float32", "float64", "float16", "int64"])
def test_shapes_and_dtypes_come_back(rng, given):
    net = oracle.Net(rng, 2)
    x, y = (
        (10 * rng.normal(size=(8, 2))).astype(given),
        (10 * rng.normal(size=(8, 1))).astype(given),
    )
    x.flags.writeable = y.flags.writeable = False
    before = x.copy(), y.copy()
    found = DenoGrad(model_of(net), "squared_error").fit_transform(x, y, max_epochs=2)
    expected = np.dtype(given) if given.startswith("float") else np.dtype("float64")
    for i in range(2):
        assert found[i].shape == before[i].shape
        assert found[i].dtype == expected
        np.testing.assert_array_equal((x, y)[i], before[i])
        assert found[i].flags.writeable


def test_missing_values_stay_and_spread_nowhere(rng):
    net = oracle.Net(rng, 3)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    x[4, 1], y[7] = np.nan, np.nan
    found = DenoGrad(model_of(net), "squared_error").fit_transform(x, y, **CALL)
    np.testing.assert_array_equal(np.isnan(found[0]), np.isnan(x))
    np.testing.assert_array_equal(np.isnan(found[1]), np.isnan(y))


def test_data_frame_with_its_target_among_the_columns(rng, x64):
    frame = pd.DataFrame(rng.normal(size=(30, 3)), columns=["a", "goal", "b"])
    kept = frame.copy()
    for size, columns in ((3, ["a", "goal", "b"]), (2, ["a", "b"])):
        net = oracle.Net(rng, size)
        found = DenoGrad(model_of(net), "squared_error").fit_transform(frame, "goal", **CALL)
        x, y = frame[columns].to_numpy(), frame[["goal"]].to_numpy()
        expected = oracle.refine_rows(net, x, y, RULE, 6)
        np.testing.assert_allclose(found[0], expected[0], atol=1e-10)
        np.testing.assert_allclose(found[1], expected[1][:, 0], atol=1e-10)
    pd.testing.assert_frame_equal(frame, kept)
    net = oracle.Net(rng, 1, outputs=2)
    found = DenoGrad(model_of(net), "squared_error").fit_transform(frame, ["a", "goal"], **CALL)
    assert found[1].shape == (30, 2)


@pytest.mark.parametrize("device", ["cpu", "cpu:1", jax.devices()[2], None])
def test_devices(rng, device):
    x, y = rng.normal(size=(10, 2)), rng.normal(size=10)
    denoiser = DenoGrad(model_of(oracle.Net(rng, 2)), "squared_error", device)
    assert np.isfinite(denoiser.fit_transform(x, y, max_epochs=1)[0]).all()


def test_ways_to_name_or_give_the_target(rng):
    frame = pd.DataFrame(rng.normal(size=(6, 3)), columns=["a", "b", 2])
    model = model_of(oracle.Net(rng, 3))
    values = frame["b"].to_numpy()
    for y in ("b", ["b"], frame.columns[1:2], np.array(["b"]), values, frame["b"], list(values)):
        found = DenoGrad(model, "squared_error").fit(frame, y).transform(max_epochs=1)
        np.testing.assert_allclose(np.ravel(found[1]), values, atol=0.06)
    assert DenoGrad(model, "squared_error").fit(frame, 2).transform(max_epochs=1)[1].shape == (6,)
    nullable = frame.astype("Float64")
    nullable.iloc[0, 0] = pd.NA
    found = DenoGrad(model, "squared_error").fit_transform(nullable, "b", max_epochs=1)
    assert np.isnan(found[0]).sum() == 1


class Nnx(nnx.Module):
    def __init__(self, net):
        self.w1, self.b1, self.w2, self.b2 = (
            nnx.Param(jnp.asarray(net.params[k])) for k in ("w1", "b1", "w2", "b2")
        )

    def __call__(self, x):
        hidden = jnp.tanh(x @ self.w1[...].T + self.b1[...][None, :])
        return hidden @ self.w2[...].T + self.b2[...][None, :]


@pytest.mark.slow
def test_the_same_weights_in_every_framework(rng):
    """Flax nnx, Linen, Equinox, PyTorch and a plain function give the same refinement."""
    eqx, torch = pytest.importorskip("equinox"), pytest.importorskip("torch")
    net = oracle.Net(rng, 5)
    w1, b1, w2, b2 = (np.float32(net.params[k]) for k in ("w1", "b1", "w2", "b2"))
    x, y = np.float32(rng.normal(size=(30, 5))), np.float32(rng.normal(size=30))

    flax_linen = linen.Sequential([linen.Dense(7), jnp.tanh, linen.Dense(1)])
    variables = {
        "params": {
            "layers_0": {"kernel": w1.T, "bias": b1},
            "layers_2": {"kernel": w2.T, "bias": b2},
        }
    }
    equinox = eqx.nn.MLP(5, 1, 7, 1, jnp.tanh, key=jax.random.key(0))
    equinox = eqx.tree_at(
        lambda m: [m.layers[0].weight, m.layers[0].bias, m.layers[1].weight, m.layers[1].bias],
        equinox,
        [jnp.asarray(a) for a in (w1, b1, w2, b2)],
    )
    torch_module = torch.nn.Sequential(
        torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1)
    )
    with torch.no_grad():
        for i, (weight, bias) in ((0, (w1, b1)), (2, (w2, b2))):
            torch_module[i].weight.copy_(torch.tensor(weight))
            torch_module[i].bias.copy_(torch.tensor(bias))
    params = {k: jnp.asarray(v, jnp.float32) for k, v in net.params.items()}
    models = {
        "function": (lambda x: tanh_net(params, x), "squared_error"),
        "nnx": (Nnx(oracle_in_float32(net)), "squared_error"),
        "linen": ((flax_linen, variables), lambda p, t: (p - t) ** 2),
        "equinox": (equinox, "squared_error"),
        "torch": (torch_module, torch.nn.MSELoss()),
    }
    expected = oracle.refine_rows(net, x.astype(float), y[:, None].astype(float), RULE, 6)
    for name, (model, criterion) in models.items():
        found = DenoGrad(model, criterion).fit_transform(x, y, **CALL)
        np.testing.assert_allclose(found[0], expected[0], atol=2e-5, err_msg=name)
        np.testing.assert_allclose(found[1], expected[1][:, 0], atol=2e-5, err_msg=name)


def oracle_in_float32(net):
    class Float32:
        params = {k: np.float32(v) for k, v in net.params.items()}  # noqa: RUF012

    return Float32


@pytest.mark.slow
def test_tensors_and_a_torch_lstm(rng):
    torch = pytest.importorskip("torch")

    class Forecaster(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 8, batch_first=True)
            self.head = torch.nn.Linear(8, 1)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    torch.manual_seed(0)
    model = Forecaster()
    x = torch.tensor(rng.normal(size=(40, 3)), dtype=torch.float32)
    y = torch.tensor(rng.normal(size=40), dtype=torch.float32)
    found = DenoGrad(model, torch.nn.MSELoss(), device=torch.device("cpu")).fit_transform(
        x, y, is_ts=True, window_size=5, max_epochs=3
    )
    assert found[0].shape == (40, 3)
    assert found[2][0].shape == (35, 5, 3)
    assert np.abs(found[0] - x.numpy()).max() > 0.001


def test_constructor_and_fit_touch_no_device(rng):
    x, y = rng.normal(size=(10, 2)), rng.normal(size=10)
    alive = len(jax.live_arrays())
    denoiser = DenoGrad(Model(tanh_net, oracle.Net(rng, 2).params), "squared_error").fit(x, y)
    assert len(jax.live_arrays()) == alive
    x[:] = 0  # the data was taken, not borrowed
    assert np.abs(denoiser.transform(max_epochs=1)[0]).max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"X": np.zeros((5, 2)), "y": None}, errors.ShapeError, "neither was given"),
        ({"X": np.zeros((5, 2)), "y": np.zeros(4)}, errors.ShapeError, r"\(5,\)"),
        ({"X": np.zeros(5), "y": np.zeros(5)}, errors.ShapeError, "reshape"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, errors.ShapeError, "no rows"),
        (
            {"X": np.zeros((5, 2)), "y": np.zeros(5), "is_ts": True},
            errors.ShapeError,
            "window_size",
        ),
        (
            {"X": np.zeros((5, 2)), "y": np.zeros(5), "is_ts": True, "window_size": 5},
            errors.ShapeError,
            "at least 6",
        ),
        (
            {"X": np.zeros((9, 2)), "y": np.zeros(9), "is_ts": True, "window_size": 2, "stride": 0},
            errors.ShapeError,
            "stride",
        ),
        ({"X": pd.DataFrame({"a": [1.0]}), "y": "b"}, errors.ColumnError, "'b' is not in X"),
        ({"X": pd.DataFrame({"a": ["u"]}), "y": "a"}, errors.ColumnError, "not numbers"),
        ({"X": np.array([["u"]]), "y": np.zeros(1)}, errors.ColumnError, "must hold numbers"),
    ],
)
def test_bad_input_to_fit(arguments, error, says):
    with pytest.raises(error, match=says):
        DenoGrad(lambda x: x.sum(), "squared_error").fit(**arguments)


def test_bad_input_to_transform(rng):
    x, y = rng.normal(size=(10, 2)), rng.normal(size=10)
    with pytest.raises(errors.DenogradError, match="call fit"):
        DenoGrad(lambda x: x.sum(), "squared_error").transform()
    with pytest.raises(errors.ModelError, match=r"predicts 2 value\(s\).*for a target of 1"):
        DenoGrad(lambda x: x, "squared_error").fit_transform(x, y)
    with pytest.raises(errors.UnsupportedError, match="as a loss"):
        DenoGrad(lambda x: x.sum(), "squared").fit_transform(x, y)
    with pytest.raises(errors.UnsupportedError, match="cannot"):
        DenoGrad("model.pt", "squared_error").fit_transform(x, y)
    with pytest.raises(errors.UnsupportedError, match="not available to JAX"):
        DenoGrad(lambda x: x.sum(), "squared_error", device="tpu").fit_transform(x, y)
    x[3, 1] = np.inf
    with pytest.raises(errors.DataError, match="1 infinite"):
        DenoGrad(lambda x: x.sum(), "squared_error").fit_transform(x, y)
    frame = pd.DataFrame(rng.normal(size=(5, 3)), columns=list("abc"))
    net = oracle.Net(rng, 7)
    with pytest.raises(errors.ModelError, match="takes neither the 3 columns"):
        DenoGrad(Model(tanh_net, net.params), "squared_error").fit_transform(frame, "c")


class TestArgumentsOfVersion2:
    """What they compute is compared with the package itself in test_parity.py."""

    @pytest.fixture
    def fitted(self, rng):
        net = oracle.Net(rng, 4 * 2)
        return DenoGrad(model_of(net), "squared_error").fit(
            rng.normal(size=(30, 2)), rng.normal(size=30), is_ts=True, window_size=4
        )

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"lam": 1.0}, "lam would have no effect"),
            ({"ts_strategy": "window", "lr": 0.1, "tol": 0.0}, "lr, tol would have no effect"),
            ({"ts_strategy": "global", "nrr": 0.5}, "nrr would have no effect"),
            ({"ts_strategy": "global", "nr_threshold": 0.5}, "nr_threshold would have no"),
            ({"ts_strategy": "global", "eta_y": 0.5}, "eta_y would have no effect"),
            ({"eta_x": 1.0}, "eta_x would have no effect with ts_strategy=None"),
            ({"ts_strategy": "local"}, 'must be "window" or "global", not \'local\''),
        ],
    )
    def test_without_effect_on_a_series(self, fitted, arguments, says):
        with pytest.raises(errors.UnsupportedError, match=says):
            fitted.transform(**arguments)

    @pytest.mark.parametrize("arguments", [{"ts_strategy": "global"}, {"lam": 1.0}])
    def test_without_effect_on_rows(self, arguments):
        denoiser = DenoGrad(lambda x: x.sum(), "squared_error").fit(np.eye(2), np.zeros(2))
        with pytest.raises(errors.UnsupportedError, match=r"for a series|no effect on rows"):
            denoiser.transform(**arguments)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"nrr": -1.0},
            {"eta_x": "1"},
            {"eta_y": float("nan")},
            {"lr": -0.1, "ts_strategy": "global"},
            {"lam": [1.0], "ts_strategy": "global"},
            {"tol": True, "ts_strategy": "global"},
            {"max_epochs": -1},
            {"batch_size": 0},
        ],
        ids=lambda arguments: next(iter(arguments)),
    )
    def test_numbers_are_refused_under_their_own_names(self, fitted, arguments):
        with pytest.raises(ValueError, match=f"^{next(iter(arguments))} must be"):
            fitted.transform(**arguments)

    def test_eta_y_has_no_effect_where_y_is_held(self):
        denoiser = DenoGrad(lambda x: x.sum(), "squared_error").fit(np.eye(2), np.zeros(2))
        with pytest.raises(errors.UnsupportedError, match="eta_y has no effect with denoise_y"):
            denoiser.transform(eta_y=0.5, denoise_y=False)

    @pytest.mark.parametrize("columns", ["a", ["a"], 1.5, [0, None], [], [0, -2], [True, False], 2])
    def test_target_columns_that_cannot_be_meant(self, columns):
        frame = pd.DataFrame(np.eye(8)[:, :2], columns=["a", "b"])
        with pytest.raises(errors.ColumnError, match="target_cols"):
            DenoGrad(lambda x: x.sum(), "squared_error").fit(frame, target_cols=columns)

    def test_eta_chooses_the_gauss_newton_step(self):
        x, y = np.array([[2.0]]), np.array([0.0])
        denoiser = DenoGrad(lambda x: x.sum(), "squared_error").fit(x, y)
        found = denoiser.transform(nrr=1.0, max_epochs=1, eta_x=1.0, eta_y=0.5)
        assert found[0] == pytest.approx(1.0)
        assert found[1] == pytest.approx(0.5)

    @pytest.mark.slow
    def test_target_columns_are_copies_or_one_variable(self, rng):
        x = rng.normal(size=(30, 3))
        net = oracle.Net(rng, 4 * 3, 2)
        denoiser = DenoGrad(model_of(net), "squared_error")
        denoiser.fit(x, is_ts=True, window_size=4, target_cols=[2, -3])
        apart = denoiser.transform(ts_strategy="window", max_epochs=2)
        assert apart[1].shape == (30, 2)
        assert np.abs(apart[1] - apart[0][:, [2, 0]]).max() > 1e-3
        found = denoiser.transform(ts_strategy="global", max_epochs=2)
        np.testing.assert_array_equal(found[1], found[0][:, [2, 0]])
        assert [g.shape for g in found[2]] == [(30, 3)] * 2
        assert found[3] == []

    def test_a_named_target_column_is_one_variable(self, rng):
        frame = pd.DataFrame(rng.normal(size=(30, 2)), columns=["a", "b"])
        net = oracle.Net(rng, 4 * 2)
        denoiser = DenoGrad(model_of(net), "squared_error")
        denoiser.fit(frame, "b", is_ts=True, window_size=4)
        found = denoiser.transform(ts_strategy="global", max_epochs=2)
        np.testing.assert_array_equal(found[1], found[0][:, 1])

    def test_rows_keep_their_target_columns_as_inputs(self, rng):
        x = rng.normal(size=(9, 3))
        denoiser = DenoGrad(lambda x: x[:2].sum(), "squared_error").fit(x, target_cols=2)
        assert denoiser.transform(max_epochs=1)[0].shape == (9, 3)

    @pytest.mark.parametrize(
        ("arguments", "error", "says"),
        [
            ({"y": np.zeros(5), "target_cols": 0}, errors.ShapeError, "both were given"),
            ({"target_cols": 3}, errors.ColumnError, "column 3, X has 2"),
        ],
    )
    def test_bad_target_columns(self, arguments, error, says):
        with pytest.raises(error, match=says):
            DenoGrad(lambda x: x, "squared_error").fit(np.zeros((5, 2)), **arguments)

    def test_a_summed_criterion_has_no_global_objective(self, rng):
        torch = pytest.importorskip("torch")
        model = torch.nn.Sequential(torch.nn.Linear(4, 1))
        denoiser = DenoGrad(model, torch.nn.MSELoss(reduction="sum"))
        denoiser.fit(rng.normal(size=(9, 2)), target_cols=1, is_ts=True, window_size=2)
        with pytest.raises(errors.UnsupportedError, match='give the criterion reduction="mean"'):
            denoiser.transform(ts_strategy="global")
