"""Programs of torch.export: from memory and from files, whole, damaged and hostile."""

import pytest

pytest.importorskip("torch", reason="the bridges need PyTorch")

import io
import json
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

from denograd_jax import layouts, refiner, rules, run
from denograd_jax.bridges import from_exported_program
from denograd_jax.errors import FileError, UnsupportedError
from tests.bridge_checks import MODULES, Bomb, made, mlp

torch.set_num_threads(1)
# What dynamo, by which torch.cond runs, warns itself of.
pytestmark = [
    pytest.mark.slow,  # minutes in all; CI runs it
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]
DYNAMIC = ({0: torch.export.Dim.DYNAMIC},)


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
        "assert 'tests.bridge_checks' not in sys.modules\n"
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


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries.update(archive_version=b"99"),
        pytest.param(
            change_json(GRAPH, lambda program: program["schema_version"].update(major=99)),
        ),
    ],
)
def test_files_of_a_newer_format(change, archive):
    with pytest.raises(FileError, match=r"changed.pt2 cannot be read.*version .*99"):
        from_exported_program(rewritten(archive, change))
