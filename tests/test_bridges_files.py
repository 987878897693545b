"""Converted models saved and loaded: whole, damaged, foreign and hostile."""

import pytest

pytest.importorskip("torch", reason="the bridges need PyTorch")

import json
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import torch

from denograd_jax import Model, layouts, refiner, rules, run
from denograd_jax.bridges import _registry, from_torch, load, save
from denograd_jax.errors import FileError, UnsupportedError
from tests.bridge_checks import MODULES, Bomb, made

torch.set_num_threads(1)
# What dynamo, by which torch.cond runs, warns itself of.
pytestmark = [
    pytest.mark.slow,  # minutes in all; CI runs it
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float64"])
@pytest.mark.parametrize("name", MODULES)
def test_round_trip(name, dtype, tmp_path):
    if dtype == "bfloat16" and name in ("lstm", "cond"):
        pytest.skip("constants and buffers of float32 beside weights of bfloat16")
    module, x = made(name)
    model = from_torch(module, x, dtype=dtype)
    path = tmp_path / "model.npz"
    save(model, path)
    same = load(str(path))
    assert same.predict is model.predict
    assert same.predict_batch is model.predict_batch
    assert same.params.keys() == model.params.keys()
    for key, value in model.params.items():
        assert same.params[key].dtype == value.dtype
        np.testing.assert_array_equal(same.params[key], value)
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_trained_parameters_are_saved(tmp_path):
    module, x = made("mlp")
    model = from_torch(module, x)
    trained = model._replace(params=jax.tree.map(lambda w: jnp.asarray(w) * 2, model.params))
    save(trained, tmp_path / "model.npz")
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path / "model.npz").params, trained.params)


@pytest.mark.parametrize("name", ["mlp", "lstm", "transformer", "cond"])
def test_loading_needs_no_torch(name, tmp_path):
    """The same predictions and gradients, to the bit."""
    module, x = made(name)
    model = from_torch(module, x)
    save(model, tmp_path / "model.npz")
    code = """
import sys
sys.modules["torch"] = None
import jax, numpy as np
from denograd_jax import bridges
model = bridges.load("model.npz")
x = np.load("x.npy")
value = jax.jit(model.predict_batch)(model.params, x)
slope = jax.jit(jax.grad(lambda x: model.predict_batch(model.params, x).sum()))(x)
np.savez("found.npz", value=value, slope=slope)
"""
    np.save(tmp_path / "x.npy", x)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "found.npz")
    value = jax.jit(model.predict_batch)(model.params, x)
    slope = jax.jit(jax.grad(lambda x: model.predict_batch(model.params, x).sum()))(x)
    np.testing.assert_array_equal(found["value"], value)
    np.testing.assert_array_equal(found["slope"], slope)


def test_a_loaded_model_refines(tmp_path):
    module, x = made("mlp")
    model = from_torch(module, x)
    save(model, tmp_path / "model.npz")
    y = np.zeros((4, 2), np.float32)

    def refined(model):
        r = refiner(model, rule=rules.unit_step(0.05, 0.01), layout=layouts.rows())
        return run(r, model.params, r.init(x, y), max_steps=3).x

    np.testing.assert_array_equal(refined(load(tmp_path / "model.npz")), refined(model))


def test_a_model_by_jax_export():
    """JAX's own form of the computation, with the size of the batch left open."""
    module, x = made("lstm")
    model = from_torch(module, x)
    (rows,) = jax.export.symbolic_shape("rows")
    shapes = jax.tree.map(lambda w: jax.ShapeDtypeStruct(w.shape, w.dtype), model.params)
    instances = jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype)
    artifact = jax.export.export(jax.jit(model.predict_batch))(shapes, instances)
    for n in (1, 4):
        got = artifact.call(model.params, x[:n])
        want = model.predict_batch(model.params, x[:n])
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def saved(tmp_path, name="mlp"):
    module, x = made(name)
    save(from_torch(module, x), tmp_path / "model.npz")
    return tmp_path / "model.npz"


def described(path, alter):
    """The file again, with its description changed."""
    with np.load(path) as archive:
        arrays = dict(archive)
    text = json.loads(arrays["program"].tobytes())
    alter(text)
    arrays["program"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    np.savez(path, **arrays)
    return path


def test_damaged_and_foreign_saved_models(tmp_path):
    path = saved(tmp_path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 10):
        (tmp_path / f"cut{length}.npz").write_bytes(whole[:length])
    with np.load(path) as archive:
        weights = archive["weight 0.weight"].tobytes()
    flipped = bytearray(whole)
    flipped[whole.index(weights) + 2] ^= 1
    (tmp_path / "flipped.npz").write_bytes(flipped)
    np.savez(tmp_path / "foreign.npz", x=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("{}")
    path.unlink()
    for other in [*tmp_path.iterdir(), tmp_path / "missing.npz", tmp_path]:
        with pytest.raises(FileError, match="cannot be read as a bridged model"):
            load(other)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda t: t.update(format="denograd_jax bridged model 2"), "model 2"),
        (lambda t: t.pop("program"), "program"),
        (lambda t: t.update(program=[]), "no program"),
        (lambda t: t["dtypes"].pop("0.weight"), "0.weight"),
        (lambda t: t.update(program={"exec": []}), "exec"),
    ],
)
def test_descriptions_that_do_not_fit(alter, message, tmp_path):
    path = described(saved(tmp_path), alter)
    with pytest.raises(FileError, match=message):
        load(path)


def test_saved_models_are_not_unpickled(tmp_path):
    path, trap = saved(tmp_path), tmp_path / "trap"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["weight 0.weight"] = np.array([Bomb(trap)], dtype=object)
    np.savez(path, **arrays)
    with pytest.raises(FileError, match="allow_pickle"):
        load(path)
    path.write_bytes(pickle.dumps(Bomb(trap)))
    with pytest.raises(FileError, match="cannot be read"):
        load(path)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["mlp", "cond"])
def test_an_operation_without_a_rule_is_named(name, tmp_path, monkeypatch):
    """Also if it is in a branch."""
    path = saved(tmp_path, name)
    missing = "aten.gelu.default" if name == "mlp" else "aten.tanh.default"
    for key in (missing, missing.removesuffix(".default")):
        monkeypatch.delitem(_registry._RULES, key, raising=False)
    with pytest.raises(UnsupportedError, match=f"{missing}.*register_op"):
        load(path)


def test_writing_whole_or_not_at_all(tmp_path, monkeypatch):
    path = saved(tmp_path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    module, x = made("mlp")
    with pytest.raises(FileError, match="cannot be written: No space left"):
        save(from_torch(module, x), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_models_that_cannot_be_saved(tmp_path):
    module, x = made("mlp")
    with pytest.raises(FileError, match="cannot be written"):
        save(from_torch(module, x), tmp_path / "missing" / "model.npz")
    with pytest.raises(UnsupportedError, match="from_torch"):
        save(Model(lambda w, x: x @ w, np.ones(3)), tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())
