"""Programs of torch.export and saved models: from memory and from files, whole and damaged."""

import pytest

pytest.importorskip("torch", reason="the bridges need PyTorch")

import io
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from denograd_jax import Model, layouts, refiner, rules, run
from denograd_jax.bridges import _registry, from_exported_program, from_torch, load, save
from denograd_jax.errors import FileError, UnsupportedError

torch.set_num_threads(1)
# What dynamo, by which torch.cond runs, warns itself of.
pytestmark = [
    pytest.mark.slow,  # minutes in all; CI runs it
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]
DYNAMIC = ({0: torch.export.Dim.DYNAMIC},)


class Recurrent(nn.Module):
    """With a constant, a buffer of integers and one of floats that is not saved."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)
        self.constant = torch.tensor([[1.0, -1.0]])
        self.register_buffer("columns", torch.tensor([2, 0]))
        self.register_buffer("scale", torch.tensor([2.0]), persistent=False)

    def forward(self, x):
        return (
            self.head(self.cell(x)[0][:, -1]) * self.scale + self.constant + x[:, 0, self.columns]
        )


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(3, 1, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x):
        return self.encoder(x)[:, -1]


class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 1)
        self.register_buffer("switch", torch.ones(2))

    def forward(self, x):
        h = self.first(x)
        h = torch.cond(self.switch.sum() > 1, lambda h: h.tanh(), lambda h: h.relu(), (h,))
        return self.second(h)


class InPlace(nn.Module):
    def forward(self, x):
        y = x * 2
        y[:, 0].mul_(3.0)
        y.add_(1.0).clamp_(min=-1.0)
        return y * x


def mlp():
    return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.BatchNorm1d(4), nn.Linear(4, 2))


MODULES = {
    "mlp": (mlp, (3,)),
    "lstm": (Recurrent, (5, 3)),
    "transformer": (Attention, (5, 3)),
    "cond": (Conditional, (3,)),
    "in place": (InPlace, (3,)),
}


def made(name):
    torch.manual_seed(0)
    make, shape = MODULES[name]
    x = np.random.default_rng(0).standard_normal((4, *shape), np.float32)
    return make().eval(), x


def exported(module, *arrays, dynamic_shapes=DYNAMIC):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        examples = tuple(torch.tensor(array) for array in arrays)
        return torch.export.export(module, examples, dynamic_shapes=dynamic_shapes)


def decomposed(program):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.run_decompositions()


def written(program, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    return path


def agrees(model, module, x):
    """Value and input gradient, of one instance and of batches, against PyTorch."""
    tensor = torch.tensor(x, requires_grad=True)
    want = module(tensor)
    (slope,) = torch.autograd.grad(want.sum(), tensor)
    forward = model.predict_batch or jax.vmap(model.predict, (None, 0))
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(forward(model.params, x), want.detach(), **tolerance)
    np.testing.assert_allclose(model.predict(model.params, x[1]), want.detach()[1], **tolerance)
    got = jax.jit(jax.grad(lambda x: forward(model.params, x).sum()))(jnp.asarray(x))
    np.testing.assert_allclose(got, slope, **tolerance)


# Programs of torch.export


@pytest.mark.parametrize("name", MODULES)
def test_exported_programs(name, tmp_path):
    module, x = made(name)
    program = exported(module, x)
    model = from_exported_program(program)
    assert model.predict_batch is not None
    agrees(model, module, x)
    same = from_exported_program(written(program, tmp_path / "model.pt2"))
    assert same.predict is model.predict
    assert same.params.keys() == model.params.keys()
    np.testing.assert_array_equal(
        same.predict_batch(same.params, x), model.predict_batch(model.params, x)
    )


def test_a_program_for_a_batch_of_one(tmp_path):
    module, x = made("lstm")
    path = written(exported(module, x[:1], dynamic_shapes=None), str(tmp_path / "model.pt2"))
    model = from_exported_program(path)
    assert model.predict_batch is None
    agrees(model, module, x)


def test_a_recurrent_layer_already_unrolled(tmp_path):
    module, x = made("lstm")
    program = decomposed(exported(module, x))
    assert not any("lstm" in str(node.target) for node in program.graph.nodes)
    agrees(from_exported_program(written(program, tmp_path / "model.pt2")), module, x)


def test_a_program_refines():
    module, x = made("mlp")
    model = from_exported_program(exported(module, x))
    r = refiner(model, rule=rules.unit_step(0.05, 0.01), layout=layouts.rows())
    y = np.zeros((4, 2), np.float32)
    after = run(r, model.params, r.init(x, y), max_steps=3).x
    assert (
        np.abs(model.predict_batch(model.params, after)).sum()
        < np.abs(model.predict_batch(model.params, x)).sum()
    )


def test_a_file_without_the_code_of_its_module(tmp_path):
    module, x = made("lstm")
    path = written(exported(module, x), tmp_path / "model.pt2")
    np.savez(tmp_path / "x.npz", x=x, want=module(torch.tensor(x)).detach())
    code = (
        "import sys, numpy as np; from denograd_jax import bridges\n"
        f"model = bridges.from_exported_program({str(path)!r})\n"
        f"data = np.load({str(tmp_path / 'x.npz')!r})\n"
        "got = model.predict_batch(model.params, data['x'])\n"
        "np.testing.assert_allclose(got, data['want'], rtol=1e-4, atol=1e-5)\n"
        "assert 'tests.test_bridges_files' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


class Pair(nn.Module):
    def forward(self, x):
        return x, x + 1


class Partial(nn.Module):
    """A part of what it computes is hidden from torch's derivative, but not from JAX's."""

    def forward(self, x):
        with torch.no_grad():
            mean = x.mean(1, keepdim=True)
        return (x - mean) ** 2


class Standardised(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: exported(Two(), x, x, dynamic_shapes=DYNAMIC * 2), "2 inputs and 1 outputs"),
        (lambda x: exported(Pair(), x), "1 inputs and 2 outputs"),
        (lambda x: exported(mlp().eval(), x[:3], dynamic_shapes=None), r"shape \(3, 3\) only"),
        (lambda x: exported(mlp().train(), x), "no rule in JAX for aten._native_batch_norm"),
        (lambda x: decomposed(exported(mlp().train(), x)), "evaluation mode|_native_batch_norm"),
        (lambda x: exported(Partial(), x), r"torch.no_grad\(\) within"),
        (lambda x: exported(Standardised(), x), "depends on the other instances"),
        (lambda x: mlp(), "expected a torch.export.ExportedProgram"),
    ],
)
def test_refused_programs(make, message, tmp_path):
    made_program = make(np.ones((4, 3), np.float32))
    with pytest.raises(UnsupportedError, match=message):
        from_exported_program(made_program)
    if hasattr(made_program, "graph_signature"):
        path = written(made_program, tmp_path / "model.pt2")
        with pytest.raises(UnsupportedError, match=message):
            from_exported_program(path)


# Files that would run code


class Bomb:
    """Where it is unpickled, it leaves a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def rewritten(path, change):
    """A copy of the archive whose entries `change` has altered: a function of a dictionary."""
    with zipfile.ZipFile(path) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    entries = change(entries) or entries
    copied = path.with_name("changed.pt2")
    with zipfile.ZipFile(copied, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"changed/{name}", content)
    return copied


def change_json(entry, alter):
    def change(entries):
        content = json.loads(entries[entry])
        alter(content)
        entries[entry] = json.dumps(content).encode()

    return change


@pytest.fixture
def archive(tmp_path):
    module, x = made("mlp")
    return written(exported(module, x), tmp_path / "model.pt2")


def test_the_bomb_goes_off_where_torch_loads_it(archive, tmp_path):
    """Else the next test would show nothing."""
    trap = tmp_path / "trap"

    def change(entries):
        entries["data/sample_inputs/model.pt"] = saved_by_torch(Bomb(trap))

    path = rewritten(archive, change)
    with pytest.raises((AssertionError, TypeError)):  # what it gave is no tuple of samples
        torch.export.load(path)
    assert trap.exists()


def saved_by_torch(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
GRAPH = "models/model.json"


def test_sample_inputs_are_not_unpickled(archive, tmp_path):
    trap = tmp_path / "trap"

    def change(entries):
        entries["data/sample_inputs/model.pt"] = saved_by_torch(Bomb(trap))

    module, x = made("mlp")
    agrees(from_exported_program(rewritten(archive, change)), module, x)
    assert not trap.exists()


def pickled_weight(bomb):
    def change(entries):
        change_json(WEIGHTS, lambda c: c["config"]["0.weight"].update(use_pickle=True))(entries)
        entries["data/weights/weight_0"] = saved_by_torch(bomb)

    return change


def opaque_constant(bomb):
    def change(entries):
        weight = json.loads(entries[WEIGHTS])["config"]["0.weight"]
        constant = {**weight, "path_name": "opaque_obj_0"}
        change_json(CONSTANTS, lambda c: c["config"].update(bomb=constant))(entries)
        entries["data/constants/opaque_obj_0"] = pickle.dumps(bomb)

    return change


def legacy_weights(bomb):
    def change(entries):
        entries["data/weights/model.pt"] = saved_by_torch({"0.weight": bomb})
        del entries[WEIGHTS]

    return change


def first_node(alter):
    return lambda bomb: change_json(
        GRAPH, lambda program: alter(program["graph_module"]["graph"]["nodes"][0], str(bomb.path))
    )


def call_open(node, path):
    node["target"] = "torch._tensor_str.torch.os.system"
    node["inputs"] = [{"name": "", "arg": {"as_string": f"touch {path}"}, "kind": 1}]


def attribute_of_a_known_operation(node, path):
    node["target"] = "_operator.mul.__self__"


def evaluated_size(bomb):
    code = f"open({str(bomb.path)!r}, 'w')"

    def alter(program):
        sizes = program["graph_module"]["graph"]["tensor_values"]["input"]["sizes"]
        sizes[0] = {"as_expr": {"expr_str": code, "hint": {"as_int": 2}}}

    return change_json(GRAPH, alter)


def imported_container(bomb):
    def alter(program):
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = signature["in_spec"].replace(
            "builtins.tuple", "collections.defaultdict"
        )

    return change_json(GRAPH, alter)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (pickled_weight, "0.weight as a pickled object.*torch.export.load"),
        (opaque_constant, "bomb as a pickled object"),
        (legacy_weights, "cannot be read"),
        (first_node(call_open), "os.system.*no rule"),
        (first_node(attribute_of_a_known_operation), "no rule"),
        (evaluated_size, "in place of a size: open"),
        (imported_container, "collections.defaultdict"),
    ],
)
def test_nothing_in_a_file_is_run(attack, message, archive, tmp_path):
    trap = tmp_path / "trap"
    path = rewritten(archive, attack(Bomb(trap)))
    with pytest.raises((FileError, UnsupportedError), match=message):
        from_exported_program(path)
    assert not trap.exists()


def test_guards_are_not_evaluated(archive, tmp_path):
    trap = tmp_path / "trap"
    code = f"open({str(trap)!r}, 'w')"
    path = rewritten(archive, change_json(GRAPH, lambda p: p["guards_code"].append(code)))
    module, x = made("mlp")
    agrees(from_exported_program(path), module, x)
    assert not trap.exists()


@pytest.mark.parametrize("save_by", [torch.save, lambda v, p: p.write_bytes(pickle.dumps(v))])
def test_pickled_files(save_by, tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "model.pt2"
    save_by({"weight": Bomb(trap)}, path)
    with pytest.raises(FileError, match=r"model.pt2 (holds no exported program|cannot be read)"):
        from_exported_program(path)
    assert not trap.exists()


def test_damaged_files(archive, tmp_path):
    whole = archive.read_bytes()
    text = tmp_path / "text.pt2"
    text.write_text("a,b\n1,2\n")
    for length in (0, 10, len(whole) // 2, len(whole) - 10):
        (tmp_path / f"cut{length}.pt2").write_bytes(whole[:length])
    flipped = bytearray(whole)
    flipped[whole.index(b"graph_module") + 40] ^= 1
    (tmp_path / "flipped.pt2").write_bytes(flipped)
    for path in [text, *tmp_path.glob("cut*"), tmp_path / "flipped.pt2"]:
        with pytest.raises(FileError, match=f"{path.name} cannot be read"):
            from_exported_program(path)
    for path in (tmp_path / "missing.pt2", tmp_path):
        with pytest.raises(FileError, match="does not exist, or is a folder"):
            from_exported_program(path)


# Saved models


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
        np.testing.assert_allclose(got, model.predict_batch(model.params, x[:n]), rtol=1e-6)


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
