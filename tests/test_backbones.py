"""Every registered backbone, its layers against plain NumPy, and modules as pure functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import expit, softmax

from denograd_jax.backbones import as_pure, build, cast, names
from denograd_jax.backbones._attention import LayerNorm, SelfAttention, positional_encoding
from denograd_jax.backbones._feedforward import Convolution, LinearPath, moving_average
from denograd_jax.backbones._recurrent import GRULayer, LSTMLayer
from denograd_jax.errors import BackboneError

SHAPES = {"rows": (5,), "windows": (7, 3)}
OUTPUTS = 2
EVERY = [(name, SHAPES[kind]) for kind in SHAPES for name in names(kind)]


@functools.cache
def untrained(name, shape, seed):
    return as_pure(build(name, input_shape=shape, outputs=OUTPUTS, rngs=nnx.Rngs(seed)))


def pure(name, shape, dtype=np.float32, seed=0):
    model = untrained(name, shape, seed)
    return model._replace(params=cast(model.params, dtype))


def parameters(module):
    """The arrays of a module by attribute name, as NumPy."""
    return jax.tree.map(np.asarray, as_pure(module).params)


@pytest.mark.parametrize(("name", "shape"), EVERY)
class TestEveryBackbone:
    def test_shapes_and_dtypes_are_kept(self, name, shape, dtype, rng):
        model = pure(name, shape, dtype)
        x = jnp.asarray(rng.normal(size=(4, *shape)), dtype)
        batch = jax.eval_shape(model.predict_batch, model.params, x)
        one = jax.eval_shape(model.predict, model.params, x[0])
        assert (batch.shape, batch.dtype) == ((4, OUTPUTS), dtype)
        assert (one.shape, one.dtype) == ((OUTPUTS,), dtype)

    def test_vmap_of_one_instance_is_the_batch(self, name, shape, x64, rng):
        model = pure(name, shape, np.float64)
        x = jnp.asarray(rng.normal(size=(4, *shape)))
        each = jax.jit(jax.vmap(model.predict, (None, 0)))(model.params, x)
        batch = jax.jit(model.predict_batch)(model.params, x)
        np.testing.assert_allclose(each, batch, rtol=1e-10)

    def test_input_gradient_is_the_finite_difference(self, name, shape, x64, rng):
        model = pure(name, shape, np.float64)
        x, direction = rng.normal(size=(2, *shape))

        @jax.jit
        def total(x):
            return jnp.sin(model.predict(model.params, x)).sum()

        step = 1e-6
        central = (total(x + step * direction) - total(x - step * direction)) / (2 * step)
        gradient = jax.jit(jax.grad(total))(x)
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose((gradient * direction).sum(), central, rtol=1e-7)

    def test_the_same_architecture_is_the_same_function(self, name, shape):
        one, other = pure(name, shape, seed=0), pure(name, shape, seed=1)
        assert one.predict is other.predict
        assert one.predict_batch is other.predict_batch
        weights, others = (jax.tree.leaves(model.params) for model in (one, other))
        assert any((a != b).any() for a, b in zip(weights, others, strict=True))


class TestRegistry:
    def test_the_perceptron_is_the_default_of_both_kinds(self):
        assert names("rows") == ("mlp",)
        assert names("windows")[0] == "mlp"

    @pytest.mark.parametrize(("name", "shape"), [("lstm", (5,)), ("forest", (5,))])
    def test_an_unknown_name_is_refused_with_the_known_ones(self, name, shape):
        with pytest.raises(BackboneError, match=f"{name}.*for rows.*mlp"):
            build(name, input_shape=shape, outputs=1, rngs=nnx.Rngs(0))

    def test_windows_are_offered_what_serves_windows(self):
        with pytest.raises(BackboneError, match=", ".join(names("windows"))):
            build("forest", input_shape=(7, 3), outputs=1, rngs=nnx.Rngs(0))

    def test_an_image_is_refused(self):
        with pytest.raises(BackboneError, match="length, channels"):
            build("mlp", input_shape=(7, 3, 2), outputs=1, rngs=nnx.Rngs(0))

    def test_options_reach_the_network(self, rng):
        module = build(
            "gru", input_shape=(7, 3), outputs=1, rngs=nnx.Rngs(0), units=5, linear_path=False
        )
        assert module.head.kernel.shape == (5, 1)

    def test_the_linear_path_starts_at_zero(self, rng):
        x = jnp.asarray(rng.normal(size=(4, 7, 3)), jnp.float32)
        module = build("mlp", input_shape=(7, 3), outputs=2, rngs=nnx.Rngs(0))
        assert isinstance(module, LinearPath)
        np.testing.assert_array_equal(module(x), module.network(x))


class TestLayersAgainstNumPy:
    """The equations of the docstrings, step by step; gate order as in torch.nn.LSTM and GRU."""

    def test_lstm(self, rng):
        layer, x = LSTMLayer(3, 4, rngs=nnx.Rngs(0)), rng.normal(size=(6, 2, 3)).astype(np.float32)
        p = parameters(layer)
        h = c = np.zeros((2, 4))
        for step, output in zip(x, layer(jnp.asarray(x)), strict=True):
            i, f, g, o = np.split(np.hstack([step, h]) @ p["weight"] + p["bias"], 4, axis=1)
            c = expit(f) * c + expit(i) * np.tanh(g)
            h = expit(o) * np.tanh(c)
            np.testing.assert_allclose(output, h, rtol=1e-5, atol=1e-6)

    def test_gru(self, rng):
        layer, x = GRULayer(3, 4, rngs=nnx.Rngs(0)), rng.normal(size=(6, 2, 3)).astype(np.float32)
        p = parameters(layer)
        h = np.zeros((2, 4))
        for step, output in zip(x, layer(jnp.asarray(x)), strict=True):
            rx, zx, nx = np.split(step @ p["input_weight"] + p["input_bias"], 3, axis=1)
            rh, zh, nh = np.split(h @ p["hidden_weight"] + p["hidden_bias"], 3, axis=1)
            z = expit(zx + zh)
            h = (1 - z) * np.tanh(nx + expit(rx + rh) * nh) + z * h
            np.testing.assert_allclose(output, h, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("size", [1, 3, 4])
    def test_convolution(self, rng, size):
        layer, x = Convolution(3, 2, size, rngs=nnx.Rngs(0)), rng.normal(size=(1, 8, 3))
        kernel = parameters(layer)["kernel"]["kernel"].reshape(size, 3, 2)
        before = (size - 1) // 2
        padded = np.pad(x[0], ((before, size - 1 - before), (0, 0)))
        expected = [
            sum(np.correlate(padded[:, i], kernel[:, i, o]) for i in range(3)) for o in range(2)
        ]
        np.testing.assert_allclose(
            layer(jnp.asarray(x, jnp.float32))[0], np.transpose(expected), rtol=1e-5, atol=1e-6
        )

    @pytest.mark.parametrize("size", [1, 4, 5, 25])
    def test_moving_average(self, x64, rng, size):
        x = rng.normal(size=(2, 9, 3))
        before = (size - 1) // 2
        for window, averaged in zip(x, moving_average(jnp.asarray(x), size), strict=True):
            padded = np.pad(window, ((before, size - 1 - before), (0, 0)), mode="edge")
            for channel in range(3):
                expected = np.convolve(padded[:, channel], np.full(size, 1 / size), "valid")
                np.testing.assert_allclose(averaged[:, channel], expected, rtol=1e-10)

    def test_attention(self, rng):
        layer, x = SelfAttention(6, 2, rngs=nnx.Rngs(0)), rng.normal(size=(1, 5, 6))
        p = parameters(layer)
        query, key, value = np.split(x[0] @ p["project_in"]["kernel"], 3, axis=1)
        heads = [
            softmax(query[:, h] @ key[:, h].T / np.sqrt(3), axis=1) @ value[:, h]
            for h in (slice(0, 3), slice(3, 6))
        ]
        expected = np.hstack(heads) @ p["project_out"]["kernel"]
        output = layer(jnp.asarray(x, jnp.float32))[0]
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)

    def test_layer_norm(self, x64, rng):
        x = 5 + 2 * rng.normal(size=(2, 4, 6))
        expected = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5)
        model = as_pure(LayerNorm(6))
        params = {"scale": jnp.full(6, 3.0), "bias": jnp.full(6, 0.5)}
        output = model.predict_batch(params, jnp.asarray(x))
        np.testing.assert_allclose(output, 3 * expected + 0.5, rtol=1e-10)

    @pytest.mark.parametrize("width", [6, 7])
    def test_positional_encoding(self, x64, width):
        encoding = positional_encoding(4, width, jnp.float64)
        for t in range(4):
            for k in range(width):
                angle = t / 10_000 ** (2 * (k // 2) / width)
                expected = np.cos(angle) if k % 2 else np.sin(angle)
                np.testing.assert_allclose(encoding[t, k], expected, rtol=1e-12)

    def test_dlinear_is_affine(self, x64, rng):
        model = pure("dlinear", (7, 3), np.float64)
        a, b = jnp.asarray(rng.normal(size=(2, 7, 3)))

        def f(x):
            return model.predict(model.params, x)

        np.testing.assert_allclose(f(3 * a - 2 * b), 3 * f(a) - 2 * f(b), rtol=1e-10)


class UsersOwn(nnx.Module):
    """A module with state that must not move: batch statistics, a random key."""

    def __init__(self, rngs):
        self.first = nnx.Linear(5, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(jnp.tanh(self.norm(self.first(x)))))


class TestAsPure:
    @pytest.fixture
    def module(self, rng):
        """In training mode, its running averages already moved away from their start."""
        module = UsersOwn(nnx.Rngs(0))
        module(jnp.asarray(3 + rng.normal(size=(64, 5)), jnp.float32))
        return module

    def test_batch_statistics_are_used_and_dropout_is_off(self, module, rng):
        x = rng.normal(size=(4, 5)).astype(np.float32)
        model = as_pure(module)
        p = jax.tree.map(np.asarray, {k: v for k, v in model.params.items() if k != "dropout"})
        hidden = x @ p["first"]["kernel"] + p["first"]["bias"]
        hidden = (hidden - p["norm"]["mean"]) / np.sqrt(p["norm"]["var"] + 1e-5)
        expected = np.tanh(hidden) @ p["last"]["kernel"] + p["last"]["bias"]
        assert np.abs(p["norm"]["mean"]).max() > 0.01
        for _ in range(2):
            np.testing.assert_allclose(
                model.predict_batch(model.params, x), expected, rtol=1e-4, atol=1e-5
            )
        np.testing.assert_allclose(model.predict(model.params, x[1]), expected[1], rtol=1e-4)

    def test_the_users_module_stays_as_it_was(self, module, rng):
        before = jax.tree.map(jnp.copy, nnx.state(module))
        model = as_pure(module)
        jax.jit(model.predict_batch)(model.params, jnp.ones((4, 5)))
        assert not module.dropout.deterministic
        assert not module.norm.use_running_average
        assert jax.tree.all(
            jax.tree.map(lambda a, b: bool((a == b).all()), before, nnx.state(module))
        )

    def test_params_are_a_plain_nested_dictionary(self, module):
        params = as_pure(module).params
        leaves = jax.tree_util.tree_leaves_with_path(params)
        assert all(isinstance(entry, jax.tree_util.DictKey) for path, _ in leaves for entry in path)
        assert all(type(leaf) is type(jnp.ones(1)) or _is_key(leaf) for _, leaf in leaves)

    def test_a_second_module_compiles_nothing(self, module, caplog):
        x = jnp.ones((4, 5))
        model, other = as_pure(module), as_pure(UsersOwn(nnx.Rngs(1)))
        jax.jit(model.predict_batch)(model.params, x)
        with jax.log_compiles():
            jax.jit(other.predict_batch)(other.params, x)
        assert "Compiling" not in caplog.text

    def test_cast_leaves_keys_and_counts_alone(self, module, x64):
        params = cast(as_pure(module).params, jnp.float64)
        assert params["norm"]["mean"].dtype == jnp.float64
        assert params["dropout"]["rngs"]["count"].dtype == jnp.uint32
        assert _is_key(params["dropout"]["rngs"]["key"])

    def test_an_attribute_without_a_hash_does_no_harm(self, module):
        module.settings = {"units": 8}
        x = jnp.ones(5)
        plain, model = as_pure(UsersOwn(nnx.Rngs(0))), as_pure(module)
        assert model.predict is not plain.predict
        np.testing.assert_array_equal(
            model.predict(model.params, x), plain.predict(model.params, x)
        )

    def test_a_single_flax_layer_will_do(self):
        layer = nnx.Linear(5, 1, rngs=nnx.Rngs(0))
        model = as_pure(layer)
        np.testing.assert_array_equal(model.predict(model.params, jnp.ones(5)), layer(jnp.ones(5)))


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
