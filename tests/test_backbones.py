"""Every registered backbone, and modules as pure functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from denograd_jax.backbones import as_pure, build, cast, names
from denograd_jax.backbones._feedforward import LinearPath
from denograd_jax.errors import BackboneError

SHAPES = {"rows": (5,), "windows": (7, 3)}
OUTPUTS = 2
EVERY = [(name, SHAPES[kind]) for kind in SHAPES for name in names(kind)]


@functools.cache
def untrained(name, shape, seed):
    """With weights of NumPy: to draw those of a network one by one is to compile for each."""
    module = nnx.eval_shape(
        lambda: build(name, input_shape=shape, outputs=OUTPUTS, rngs=nnx.Rngs(seed))
    )
    rng = np.random.default_rng(seed)
    state = nnx.state(module, nnx.Param)
    drawn = jax.tree.map(lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), jnp.float32), state)
    nnx.update(module, drawn)
    return as_pure(module)


def pure(name, shape, dtype=np.float32, seed=0):
    model = untrained(name, shape, seed)
    return model._replace(params=cast(model.params, dtype))


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

    def test_it_is_built_in_float32_whatever_is_enabled(self, name, shape, x64):
        module = nnx.eval_shape(
            lambda: build(name, input_shape=shape, outputs=OUTPUTS, rngs=nnx.Rngs(0))
        )
        kinds = {leaf.dtype.name for leaf in jax.tree.leaves(nnx.state(module, nnx.Param))}
        assert kinds == {"float32"}


class TestRegistry:
    def test_the_perceptron_is_the_default_of_both_kinds(self):
        assert names("rows")[0] == "mlp"
        assert names("windows")[0] == "mlp"

    @pytest.mark.parametrize(("name", "shape"), [("lstm", (5,)), ("forest", (5,))])
    def test_an_unknown_name_is_refused_with_the_known_ones(self, name, shape):
        with pytest.raises(BackboneError, match=f"{name}.*for rows.*mlp"):
            build(name, input_shape=shape, outputs=1, rngs=nnx.Rngs(0))

    def test_windows_are_offered_what_serves_windows(self):
        with pytest.raises(BackboneError, match=", ".join(names("windows"))):
            build("forest", input_shape=(7, 3), outputs=1, rngs=nnx.Rngs(0))

    def test_an_unknown_activation_is_refused_with_the_known_ones(self):
        with pytest.raises(BackboneError, match="no activation 'swish'; choose one of silu, relu"):
            build("cnn", input_shape=(7, 3), outputs=1, rngs=nnx.Rngs(0), activation="swish")

    def test_an_activation_may_be_a_function(self, rng):
        x = jnp.asarray(rng.normal(size=(4, 5)), jnp.float32)
        for activation in ("tanh", jnp.tanh):
            module = build(
                "mlp", input_shape=(5,), outputs=1, rngs=nnx.Rngs(0), activation=activation
            )
            hidden = x
            for layer in module.layers:
                hidden = np.tanh(hidden @ layer.kernel[...] + layer.bias[...][None])
            np.testing.assert_allclose(
                module(x), hidden @ module.head.kernel[...], rtol=1e-4, atol=1e-6
            )

    def test_maps_shared_by_channels_give_steps_of_channels(self):
        with pytest.raises(BackboneError, match="4 outputs are no whole number of steps of 3"):
            build(
                "dlinear",
                input_shape=(7, 3),
                outputs=4,
                rngs=nnx.Rngs(0),
                shared_channels=True,
            )

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


def test_dlinear_is_affine(x64, rng):
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
