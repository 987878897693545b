"""RLAP step by step against NumPy and jax.jacrev, and as a whole on noisy inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from denograd_jax.errors import DataError, ModelError, ShapeError
from denograd_jax.robust import (
    attribution,
    fine_tune,
    fit_weighted,
    most_sensitive,
    partition,
    prune,
    rlap,
    sensitivity,
)

HIDDEN = 12


def features(params, x):
    first = params["first"]
    return jnp.tanh(x @ first["kernel"] + first["bias"][None])


def head(params, h):
    """Not linear, so that slopes differ from instance to instance."""
    last = params["last"]
    return jnp.sin(h @ last["kernel"]) * last["gain"][None]


def network(rng, inputs=4, outputs=3):
    def drawn(*shape):
        return jnp.asarray(0.5 * rng.normal(size=shape), jnp.float32)

    return {
        "first": {"kernel": drawn(inputs, HIDDEN), "bias": drawn(HIDDEN)},
        "last": {"kernel": drawn(HIDDEN, outputs), "gain": 4 * jnp.ones(outputs)},
    }


def whole(params, x):
    return head(params, features(params, x))


@pytest.fixture
def trained(rng):
    """A network trained on two classes whose inputs are noisy in the first half of 200 rows."""
    y = np.arange(200) % 2
    noisy = np.arange(200) < 100
    clean = np.where(y[:, None] == 1, 1.5, -1.5) * np.ones(4) + 0.3 * rng.normal(size=(200, 4))
    x = (clean + 2.5 * noisy[:, None] * rng.normal(size=(200, 4))).astype(np.float32)
    fit = fit_weighted(whole, network(rng, outputs=2), x, y, key=jax.random.key(0), epochs=20)
    return fit.params, x, y, noisy


class TestAttribution:
    def test_against_jacrev(self, rng):
        params, x = network(rng), jnp.asarray(rng.normal(size=(7, 4)), jnp.float32)
        h = features(params, x)
        jacobian = np.stack(
            [jax.jacrev(lambda one: head(params, one[None])[0])(h[i]) for i in range(7)]
        )
        expected = np.abs(jacobian.max(axis=1) * np.asarray(h))
        np.testing.assert_allclose(
            attribution(features, head, params, x), expected, rtol=1e-5, atol=1e-6
        )

    def test_of_numbers_it_is_slope_times_activation(self, rng):
        params, x = network(rng), jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
        slope = jnp.arange(HIDDEN, dtype=jnp.float32) - 5
        found = attribution(features, lambda p, h: h @ slope, params, x)
        expected = np.abs(np.asarray(slope) * np.asarray(features(params, x)))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    def test_more_instances_than_are_done_at_a_time(self, rng):
        params, x = network(rng), jnp.asarray(rng.normal(size=(600, 4)), jnp.float32)
        found = attribution(features, head, params, x)
        np.testing.assert_allclose(
            found[590:], attribution(features, head, params, x[590:]), rtol=1e-5, atol=1e-6
        )

    def test_activations_must_be_flat(self, rng):
        with pytest.raises(ModelError, match="neurons"):
            attribution(lambda p, x: x[..., None], head, network(rng), np.zeros((3, 4)))


class TestPartition:
    @pytest.fixture
    def groups(self, rng):
        """200 instances near one point, 100 spread about another; a dead neuron."""
        A = np.abs(rng.normal(size=(300, 5)) * np.repeat([0.2, 1.0], [200, 100])[:, None])
        A[:200] += 1
        A[:, 3] = 0
        return A, np.repeat([False, True], [200, 100])

    def test_the_component_with_more_loss_is_noisy(self, groups):
        A, second = groups
        for noisy in (second, ~second):
            found = partition(A, noisy + 0.1)
            assert ((found.p_noisy > 0.5) == noisy).mean() > 0.95
            np.testing.assert_allclose(found.p_clean + found.p_noisy, 1)
            assert found.mixture.means.shape == (2, 4)

    def test_units_do_not_matter(self, groups):
        A, second = groups
        one = partition(A, second * 1.0)
        other = partition(A * [1, 100, 0.01, 1, 7], second * 1.0)
        np.testing.assert_allclose(one.p_noisy, other.p_noisy, atol=1e-6)

    @pytest.mark.parametrize(
        ("A", "losses", "error", "match"),
        [
            (np.zeros(9), np.zeros(9), ShapeError, "shape"),
            (np.ones((9, 2)), np.zeros(8), ShapeError, "losses"),
            (np.full((9, 2), np.nan), np.zeros(9), DataError, "NaN"),
            (np.eye(9), np.full(9, np.inf), DataError, "infinite"),
            (np.ones((9, 2)), np.zeros(9), DataError, "constant"),
        ],
    )
    def test_bad_input(self, A, losses, error, match):
        with pytest.raises(error, match=match):
            partition(A, losses)


class TestSensitivity:
    def test_against_least_squares(self, rng):
        """Ridge regression is least squares with rows added."""
        h = rng.normal(size=(80, 6)) * [1, 5, 0.1, 1, 1, 1] + 3
        p = 1 / (1 + np.exp(-(h[:, 1] - 3) / 2))
        z = (h - h.mean(axis=0)) / h.std(axis=0)
        ridge = 0.02
        rows = np.concatenate([z, np.sqrt(80 * ridge) * np.eye(6)])
        target = np.concatenate([p - p.mean(), np.zeros(6)])
        expected = np.linalg.lstsq(rows, target)[0]
        np.testing.assert_allclose(sensitivity(p, h, ridge=ridge), expected, atol=1e-10)

    def test_constant_neurons_have_none(self, rng):
        h = rng.normal(size=(50, 3))
        h[:, 1] = 7
        found = sensitivity(h[:, 0] > 0, h)
        assert found[1] == 0
        assert found[0] > 0.1

    def test_the_most_sensitive(self):
        found = np.array([0.1, -0.5, 0.0, 0.3])
        assert most_sensitive(found, 2).tolist() == [1, 3]
        assert most_sensitive(found, 4).tolist() == [1, 3, 0]
        assert most_sensitive(found, 4, positive_only=True).tolist() == [3, 0]
        assert most_sensitive(found, 0).tolist() == []

    @pytest.mark.parametrize(
        ("p", "h", "ridge", "error", "match"),
        [
            (np.zeros(3), np.zeros(3), 1, ShapeError, "hidden"),
            (np.zeros(4), np.zeros((3, 2)), 1, ShapeError, "p_noisy"),
            (np.zeros(3), np.full((3, 2), np.nan), 1, DataError, "NaN"),
            (np.zeros(3), np.zeros((3, 2)), 0, DataError, "ridge"),
        ],
    )
    def test_bad_input(self, p, h, ridge, error, match):
        with pytest.raises(error, match=match):
            sensitivity(p, h, ridge=ridge)


class TestPrune:
    def test_pruned_neurons_are_silent_and_others_untouched(self, rng):
        params, x = network(rng), jnp.asarray(rng.normal(size=(7, 4)), jnp.float32)
        pruned = prune(params, [2, 5], ("first",), size=HIDDEN)
        expected = np.asarray(features(params, x)).copy()
        expected[:, [2, 5]] = 0
        np.testing.assert_allclose(features(pruned, x), expected, rtol=1e-6)
        assert (params["first"]["bias"] != 0).all()
        assert pruned["last"] is params["last"]

    def test_layers_in_lists_and_tuples(self):
        layer = {"w": jnp.ones((2, 3)), "b": jnp.ones(3), "scale": jnp.ones(())}
        params = {"layers": [layer, (layer, layer)]}
        pruned = prune(params, [0], ("layers", 1, 0), size=3)
        np.testing.assert_array_equal(pruned["layers"][1][0]["w"], [[0, 1, 1], [0, 1, 1]])
        assert pruned["layers"][0] is layer
        assert pruned["layers"][1][1] is layer

    @pytest.mark.parametrize(
        ("neurons", "layer", "error", "match"),
        [
            ([HIDDEN], ("first",), DataError, "from 0 to 11"),
            ([0], ("middle",), ModelError, r"no 'middle' in \['first', 'last'\]"),
            ([0], ("first", "kernel", "deeper"), ModelError, "no layer"),
            ([0], ("last",), ModelError, "last axis of 12"),
        ],
    )
    def test_bad_input(self, rng, neurons, layer, error, match):
        with pytest.raises(error, match=match):
            prune(network(rng), neurons, layer, size=HIDDEN)


TUNING = {"key": jax.random.key(1), "epochs": 3}


class TestFineTune:
    def test_of_the_head_leaves_the_features_alone(self, trained):
        params, x, y, noisy = trained
        tuned = fine_tune(features, head, params, x, y, ~noisy, mode="head", **TUNING)
        jax.tree.map(np.testing.assert_array_equal, tuned["first"], params["first"])
        assert (tuned["last"]["kernel"] != params["last"]["kernel"]).any()

    def test_of_all_is_training_on_the_clean_part(self, trained):
        params, x, y, noisy = trained
        tuned = fine_tune(features, head, params, x, y, ~noisy, **TUNING)
        expected = fit_weighted(whole, params, x[~noisy], y[~noisy], **TUNING).params
        jax.tree.map(np.testing.assert_array_equal, tuned, expected)

    @pytest.mark.slow
    def test_retraining_starts_anew(self, trained, rng):
        params, x, y, noisy = trained
        initial = network(rng, outputs=2)
        tuned, expected = (
            fine_tune(features, head, start, x, y, ~noisy, **options, **TUNING)
            for start, options in (
                (params, {"mode": "retrain", "initial": initial}),
                (initial, {"mode": "all"}),
            )
        )
        jax.tree.map(np.testing.assert_array_equal, tuned, expected)

    def test_weights_are_relative(self, trained, rng):
        params, x, y, _ = trained
        w = rng.random(200)
        one, other = (
            fine_tune(features, head, params, x, y, v, optimizer=optax.sgd(0.1), **TUNING)
            for v in (w, 5 * w)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, other)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"mode": "tail"}, "mode is 'tail'"),
            ({"mode": "retrain"}, "initial"),
            ({"mode": "all", "initial": {}}, "initial"),
            ({"weights": np.zeros(200)}, "one of them must be more"),
            ({"weights": -np.ones(200)}, "at least 0"),
        ],
    )
    def test_bad_input(self, trained, change, match):
        params, x, y, _ = trained
        given = {"weights": np.ones(200)} | TUNING | change
        with pytest.raises(DataError, match=match):
            fine_tune(features, head, params, x, y, **given)


WHOLE = {"key": jax.random.key(1), "layer": ("first",), "epochs": 5}


class TestRlap:
    @pytest.mark.parametrize("mode", ["head", pytest.param("all", marks=pytest.mark.slow)])
    def test_finds_noisy_inputs_and_prunes(self, trained, mode):
        params, x, y, noisy = trained
        found = rlap(features, head, params, x, y, mode=mode, pruned=0.25, **WHOLE)
        assert ((found.p_noisy > 0.5) == noisy).mean() > 0.8
        assert len(found.pruned) == 3
        np.testing.assert_array_equal(found.pruned, most_sensitive(found.sensitivity, 3))
        if mode == "head":
            assert (found.params["first"]["kernel"][:, found.pruned] == 0).all()

    @pytest.mark.slow
    def test_numbers_instead_of_classes(self, trained):
        params, x, y, _noisy = trained
        slope = jnp.ones(HIDDEN)
        found = rlap(
            features,
            lambda p, h: h @ slope + p["last"]["gain"].sum(),
            params,
            x,
            2.0 * y - 1,
            weighted=True,
            **WHOLE,
        )
        assert found.p_clean.shape == (200,)
        assert np.isfinite(found.params["first"]["kernel"]).all()

    def test_the_same_key_gives_the_same_result(self, trained):
        params, x, y, _ = trained
        one, same = (rlap(features, head, params, x, y, **WHOLE) for _ in range(2))
        jax.tree.map(np.testing.assert_array_equal, one, same)

    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            ({"pruned": 1.0}, DataError, "pruned"),
            ({"y": np.arange(200) % 3}, DataError, "labels from 0 to 2"),
            ({"x": np.full((200, 4), np.nan)}, DataError, "NaN"),
            ({"layer": ("second",)}, ModelError, "second"),
        ],
    )
    def test_bad_input(self, trained, change, error, match):
        params, x, y, _ = trained
        with pytest.raises(error, match=match):
            rlap(features, head, params, **({"x": x, "y": y} | WHOLE | change))
