"""Every kind of model that is accepted, as pure functions."""

import functools
import gc
import subprocess
import sys
import weakref
from types import SimpleNamespace

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from denograd_jax._types import Model
from denograd_jax.errors import UnsupportedError
from denograd_jax.models import as_model

WEIGHTS = np.linspace(-1, 1, 6).reshape(3, 2).astype(np.float32)


class Nnx(nnx.Module):
    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.hidden = nnx.Linear(3, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(8, 2, rngs=rngs)
        self.norm.mean[...] = jnp.linspace(-1.0, 1.0, 8)
        self.norm.var[...] = jnp.linspace(0.5, 2.0, 8)

    def __call__(self, x):
        return self.out(self.dropout(self.norm(jnp.tanh(self.hidden(x)))))


class Linen(linen.Module):
    """Without a default for `train`."""

    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(use_running_average=not train)(jnp.tanh(linen.Dense(8)(x)))
        return linen.Dense(2)(linen.Dropout(0.5, deterministic=not train)(x))


class LinenTrainsByDefault(Linen):
    @linen.compact
    def __call__(self, x, *, training: bool = True):
        x = linen.BatchNorm(use_running_average=not training)(jnp.tanh(linen.Dense(8)(x)))
        return linen.Dense(2)(linen.Dropout(0.5, deterministic=not training)(x))


class LinenMerges(linen.Module):
    """The flag comes from the constructor or from the call, but not from both."""

    deterministic: bool | None = None

    @linen.compact
    def __call__(self, x, deterministic: bool | None = None):
        fixed = linen.merge_param("deterministic", self.deterministic, deterministic)
        x = linen.BatchNorm(use_running_average=fixed)(jnp.tanh(linen.Dense(8)(x)))
        return linen.Dense(2)(linen.Dropout(0.5, deterministic=fixed)(x))


LINEN = {
    "train": (Linen(), {"train": False}),
    "training": (LinenTrainsByDefault(), {"training": False}),
    "deterministic": (LinenMerges(), {"deterministic": True}),
    "constructed": (LinenMerges(deterministic=True), {}),
}


def linen_variables(module, inference, seed=0):
    variables = module.init(jax.random.key(seed), jnp.ones((1, 3)), **inference)
    statistics = {"mean": jnp.linspace(-1.0, 1.0, 8), "var": jnp.linspace(0.5, 2.0, 8)}
    return {"params": variables["params"], "batch_stats": {"BatchNorm_0": statistics}}


class Equinox(eqx.Module):
    layers: list
    dropout: eqx.nn.Dropout

    def __init__(self, seed=0):
        keys = jax.random.split(jax.random.key(seed))
        self.layers = [eqx.nn.Linear(3, 8, key=keys[0]), eqx.nn.Linear(8, 2, key=keys[1])]
        self.dropout = eqx.nn.Dropout(0.5)

    def __call__(self, x, *, key):
        return self.layers[1](self.dropout(jnp.tanh(self.layers[0](x)), key=key))


def from_linen(name):
    module, inference = LINEN[name]
    variables = linen_variables(module, inference)
    return (module, variables), lambda x: module.apply(variables, x, **inference)


def from_nnx():
    module, oracle = Nnx(), Nnx()
    oracle.eval()
    return module, oracle


def from_equinox():
    module = Equinox()
    layers = module.layers
    return module, jax.vmap(lambda x: layers[1](jnp.tanh(layers[0](x))))


def single(x):
    return jnp.tanh(x) @ WEIGHTS


def with_params(params, x):
    return jnp.tanh(x) @ params["w"]


# What is given to `as_model`, how, and the same as a function of a batch.
KINDS = {
    "nnx": lambda: (*from_nnx(), None),
    **{
        f"linen {name}": functools.partial(lambda n: (*from_linen(n), None), name) for name in LINEN
    },
    "equinox": lambda: (*from_equinox(), None),
    "function": lambda: (single, single, None),
    "batched function": lambda: (single, single, True),
    "pair": lambda: ((with_params, {"w": WEIGHTS}), single, None),
    "batched pair": lambda: ((with_params, {"w": jnp.asarray(WEIGHTS)}), single, True),
    "model": lambda: (Model(with_params, {"w": WEIGHTS}), single, None),
    "holder of a model": lambda: (
        SimpleNamespace(model=Model(with_params, {"w": WEIGHTS}, with_params)),
        single,
        None,
    ),
}
SINGLE = {"equinox", "function", "pair", "model"}


@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient(kind, rng):
    """Of the single and of the batched form, as of the object itself."""
    obj, oracle, batched = KINDS[kind]()
    model = as_model(obj, batched=batched)
    assert (model.predict_batch is None) == (kind in SINGLE)
    x = jnp.asarray(rng.standard_normal((5, 3), np.float32))
    weight = jnp.asarray(rng.standard_normal((5, 2), np.float32))
    forms = [jax.vmap(model.predict, in_axes=(None, 0))]
    if model.predict_batch is not None:
        forms.append(model.predict_batch)
    want = oracle(x)
    want_gradient = jax.grad(lambda x: (oracle(x) * weight).sum())(x)
    for form in forms:
        assert form(model.params, x).dtype == jnp.float32
        np.testing.assert_allclose(jax.jit(form)(model.params, x), want, rtol=1e-5, atol=1e-6)
        gradient = jax.jit(jax.grad(lambda p, x, f=form: (f(p, x) * weight).sum(), argnums=1))
        np.testing.assert_allclose(gradient(model.params, x), want_gradient, rtol=1e-5, atol=1e-6)


def test_torch_comes_over_the_bridge(rng):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    model = as_model(module)
    x = rng.standard_normal((5, 3), np.float32)
    want = module(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(model.predict_batch(model.params, x), want, atol=1e-6)
    with pytest.raises(UnsupportedError, match="Conv1d"):
        as_model(torch.nn.Conv1d(1, 1, 1))


@pytest.mark.parametrize(
    "make",
    [
        Nnx,
        lambda seed: (Linen(), linen_variables(Linen(), {"train": False}, seed)),
        Equinox,
        lambda seed: (with_params, {"w": seed * WEIGHTS}),
    ],
    ids=["nnx", "linen", "equinox", "pair"],
)
@pytest.mark.parametrize("batched", [None, True])
def test_equal_architectures_share_functions(make, batched):
    first, second = as_model(make(1), batched=batched), as_model(make(2), batched=batched)
    assert first.predict is second.predict
    assert first.predict_batch is second.predict_batch
    different = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params), strict=True)
        if jnp.issubdtype(a.dtype, jnp.floating)
    ]
    assert any(different)


def test_plain_functions_are_known_by_identity():
    assert as_model(single).predict is as_model(single).predict
    assert as_model(single).predict is not as_model(lambda x: single(x)).predict
    assert as_model(single, batched=True).predict is as_model(single, batched=True).predict
    assert as_model((with_params, {})).predict is with_params


def test_settings_that_have_no_hash_still_work(rng):
    class Scaled(eqx.Module):
        settings: dict = eqx.field(static=True)
        linear: eqx.nn.Linear

        def __call__(self, x):
            return self.linear(x * self.settings["scale"])

    class Doubles:
        __hash__ = None

        def __call__(self, x):
            return 2 * x

    x = jnp.asarray(rng.standard_normal(3, np.float32))
    linear = eqx.nn.Linear(3, 1, key=jax.random.key(0))
    model = as_model(Scaled({"scale": 2.0}, linear))
    np.testing.assert_allclose(model.predict(model.params, x), linear(2 * x), rtol=1e-6)
    assert jnp.array_equal(as_model(Doubles()).predict((), x), 2 * x)


def test_the_users_objects_are_left_alone():
    module = Nnx()
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState))))
    model = as_model(module)
    model.predict_batch(model.params, jnp.ones((4, 3)))
    after = nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState)))
    assert jax.tree.all(jax.tree.map(np.array_equal, before, after))
    assert not module.dropout.deterministic
    assert not module.norm.use_running_average

    module = Equinox()
    as_model(module)
    assert not module.dropout.inference


def test_numpy_params_stay_on_the_host():
    module, inference = LINEN["train"]
    variables = jax.tree.map(np.asarray, linen_variables(module, inference))
    kinds = [(with_params, {"w": WEIGHTS}), (module, variables), jax.tree.map(np.array, Equinox())]
    for obj in kinds:
        assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(as_model(obj).params))


class WithState(eqx.Module):
    norm: eqx.nn.BatchNorm

    def __call__(self, x, state):
        return self.norm(x, state)


REFUSED = {
    "Equinox state": (
        lambda: WithState(eqx.nn.BatchNorm(3, "batch", mode="ema")),
        "WithState has state",
    ),
    "Linen without variables": (Linen, "Linen module and its variables"),
    "Linen with params alone": (lambda: (Linen(), {"Dense_0": {}}), "key 'params'"),
    "two functions": (lambda: (single, single), "pytree of arrays"),
    "three things": (lambda: (single, {}, {}), "pytree of arrays"),
    "class": (lambda: Equinox, "Equinox module"),
    "array": (lambda: WEIGHTS, "function f"),
    "None": (lambda: None, "cannot use None as a model"),
    "empty tuple": (lambda: (), r"cannot use \(\) as a model"),
    "name": (lambda: "mlp", "cannot use 'mlp' as a model"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals_name_what_is_accepted(make, message):
    with pytest.raises(UnsupportedError, match=message):
        as_model(make())


def test_functions_that_nobody_uses_are_let_go():
    """They may hold the weights of a large model."""

    class Heavy:
        def __call__(self, x):
            return x

    heavy = Heavy()
    gone = weakref.ref(heavy)
    as_model(heavy, batched=True)
    del heavy
    gc.collect()
    assert gone() is None


def test_nothing_is_imported_and_no_device_is_touched():
    code = """
import sys, jax, numpy as np
from denograd_jax.models import as_model, finite_differences
as_model((lambda w, x: x @ w, np.ones(2)), batched=True)
as_model(lambda x: x)
finite_differences(lambda rows: rows.sum(axis=1))
class Estimator:
    n_features_in_ = 2
    def predict(self, rows):
        return rows.sum(axis=1)
as_model(Estimator())
heavy = {"torch", "equinox", "flax", "haiku", "keras", "pandas", "sklearn"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert not jax._src.xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
