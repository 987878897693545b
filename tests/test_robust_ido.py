"""IDO: its loss term by term, its counts, its base model, and what it makes of noisy labels."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from denograd_jax.backbones import as_pure, build
from denograd_jax.errors import BackboneError, DataError, ModelError, ShapeError
from denograd_jax.robust import (
    SampleWeights,
    beta_mixture,
    first_base,
    fit_weighted,
    follow,
    ido,
    ido_loss,
    sample_weights,
    unit_range,
)
from tests.precision import float64_first

WEAK = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 3.0, 1.0]])
STRONG = np.array([[1.0, 0.5, -1.0], [0.0, 1.0, 0.0], [0.0, 2.0, 2.0]])
LABELS = np.array([0, 2, 1])


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def losses(clean=0.0, hard=0.0, noisy=0.0, labels=LABELS):
    weights = SampleWeights(*(jnp.full(3, w) for w in (clean, hard, noisy)))
    return ido_loss(jnp.array(WEAK), jnp.array(STRONG), jnp.array(labels), weights)


class TestLoss:
    def test_clean_instances_learn_their_labels_from_both_views(self):
        rows = np.arange(3)
        expected = -np.log(softmax(WEAK)[rows, LABELS]) - np.log(softmax(STRONG)[rows, LABELS])
        np.testing.assert_allclose(losses(clean=0.7), 0.7 * expected, rtol=1e-5)

    def test_hard_ones_learn_to_see_both_views_alike(self):
        expected = ((WEAK - STRONG) ** 2).sum(axis=1) / 3
        np.testing.assert_allclose(losses(hard=0.4), 0.4 * expected, rtol=1e-5)

    def test_noisy_ones_learn_to_be_certain(self):
        p = (softmax(WEAK) + softmax(STRONG)) / 2
        expected = p.max(axis=1) * -(p * np.log(p)).sum(axis=1)
        np.testing.assert_allclose(losses(noisy=0.9), 0.9 * expected, rtol=1e-5)

    def test_the_terms_add_up(self):
        parts = losses(clean=0.7) + losses(hard=0.4) + losses(noisy=0.3)
        np.testing.assert_allclose(losses(0.7, 0.4, 0.3), parts, rtol=1e-5)

    def test_labels_do_not_matter_to_noisy_instances(self):
        other = losses(hard=1.0, noisy=1.0, labels=np.array([2, 1, 0]))
        np.testing.assert_array_equal(losses(hard=1.0, noisy=1.0), other)

    def test_no_gradient_passes_through_weights_or_confidence(self):
        def total(weights, weak):
            return ido_loss(weak, jnp.array(STRONG), jnp.array(LABELS), weights).sum()

        weights = SampleWeights(*jnp.full((3, 3), 0.5))
        by_weights, by_logits = jax.jit(jax.grad(total, (0, 1)))(weights, jnp.array(WEAK))
        assert all((part == 0).all() for part in by_weights)
        assert (by_logits != 0).any()

        def entropy(weak):
            p = (jax.nn.softmax(weak) + jax.nn.softmax(jnp.array(STRONG))) / 2
            return -(jnp.array(confidence)[:, None] * p * jnp.log(p)).sum()

        confidence = ((softmax(WEAK) + softmax(STRONG)) / 2).max(axis=1)
        noisy_only = SampleWeights(jnp.zeros(3), jnp.zeros(3), jnp.ones(3))
        found = jax.jit(jax.grad(total, 1))(noisy_only, jnp.array(WEAK))
        expected = jax.jit(jax.grad(entropy))(jnp.array(WEAK))
        np.testing.assert_allclose(found, expected, atol=1e-6)

    @pytest.mark.slow
    def test_certain_predictions_have_finite_gradients(self):
        certain = jnp.array([[1000.0, 0.0]])

        def total(z):
            ones = SampleWeights(*jnp.ones((3, 1)))
            return ido_loss(z, z, jnp.array([1]), ones).sum()

        assert np.isfinite(jax.grad(total)(certain)).all()

    def test_the_weights_of_a_mixture(self, rng):
        u = rng.beta(1, 3, 200)
        mixture = beta_mixture(u)
        p1, p2 = np.asarray(mixture.posterior(u)).T
        F1, F2 = np.asarray(mixture.cdf(u)).T
        found = sample_weights(mixture, u)
        np.testing.assert_allclose(found.clean, p1)
        np.testing.assert_allclose(found.hard, p1 * F1 + (1 - p2) * (1 - F2), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.noisy, 1 - p1, atol=1e-6)

    def test_shapes_are_checked(self):
        weights = SampleWeights(*jnp.ones((3, 3)))
        with pytest.raises(ShapeError, match="labels"):
            ido_loss(jnp.array(WEAK), jnp.array(STRONG), jnp.array([0, 1]), weights)


class TestBaseModel:
    @pytest.mark.parametrize(
        ("changed", "epoch"),
        [
            ([10, 6, 3, 4, 1, 0], 2),  # the epoch before the first rise, not the least
            ([10, 6, 3, 3, 2], 4),  # never rises: the last
            ([10, 2, 5], 1),
            ([10], 0),
            ([10, 10, 10], 2),
        ],
    )
    def test_is_of_the_epoch_before_the_first_rise(self, changed, epoch):
        base = first_base({"epoch": jnp.array(-1)}, 10)
        for index, count in enumerate(changed):
            base = jax.jit(follow)(base, {"epoch": jnp.array(index)}, jnp.array(count))
        assert base.params["epoch"] == base.epoch == epoch


def still(key, x):
    """A view that changes nothing."""
    return x


def linear(params, x):
    return x @ params["w"] + params["b"][None]


def zeros(features, classes):
    return {"w": jnp.zeros((features, classes)), "b": jnp.zeros(classes)}


@pytest.fixture
def blobs(rng):
    """Two features, three classes far apart, a tenth of the labels wrong; 90 rows."""
    y = np.repeat([0, 1, 2], 30)
    centres = np.array([[0, 2], [-2, -1], [2, -1]])
    x = (centres[y] + 0.3 * rng.normal(size=(90, 2))).astype(np.float32)
    wrong = np.arange(90) % 10 == 0
    return x, np.where(wrong, (y + 1) % 3, y), wrong


OPTIONS = {"key": jax.random.key(0), "warm_epochs": 4, "epochs": 3, "batch_size": 20}


class TestWrongEvents:
    frozen = optax.set_to_zero()

    def test_are_counted_once_per_epoch_and_then_once_per_view(self):
        """A scripted model: its prediction is its input, and its parameters never move."""
        x = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 0]]
        y = np.array([0, 1, 2, 1, 1, 0, 0])
        found = ido(
            lambda params, x: params["scale"] * x,
            {"scale": jnp.ones(())},
            x,
            y,
            weak=still,
            strong=lambda key, x: -x,  # whose largest logit is the first of the others
            optimizer=self.frozen,
            **OPTIONS,
        )
        weak_wrong = x.argmax(axis=1) != y
        strong_wrong = (-x).argmax(axis=1) != y
        expected = 4 * weak_wrong + 3 * (weak_wrong.astype(int) + strong_wrong)
        np.testing.assert_array_equal(found.wrong_events, expected)
        np.testing.assert_array_equal(found.changed, [7, 0, 0, 0])
        assert found.base_epoch == 3

    @pytest.mark.slow
    def test_are_those_of_the_pass_that_trains(self, blobs):
        """Full batches: epoch e predicts with the parameters that e - 1 ended in."""
        x, y, _ = blobs
        seen = []
        options = OPTIONS | {"batch_size": 90, "epochs": 0}
        start = zeros(2, 3)
        found = ido(linear, start, x, y, weak=still, observe=lambda e, s: seen.append(s), **options)
        before = [start] + [state.params for state in seen[:-1]]
        wrong = [np.asarray(linear(p, x)).argmax(axis=1) != y for p in before]
        np.testing.assert_array_equal(found.wrong_events, np.sum(wrong, axis=0))
        assert found.params is not None
        base = seen[found.base_epoch].params
        np.testing.assert_array_equal(found.base_params["w"], base["w"])

    @pytest.mark.slow
    def test_live_on_the_device(self, blobs):
        x, y, _ = blobs
        states = []
        ido(linear, zeros(2, 3), x, y, observe=lambda e, s: states.append(s), **OPTIONS)
        assert len(states) == 7
        assert all(isinstance(s.wrong_events, jax.Array) for s in states)
        assert all((a.wrong_events <= b.wrong_events).all() for a, b in itertools.pairwise(states))


class TestFit:
    def test_the_same_key_gives_the_same_result(self, blobs):
        x, y, _ = blobs
        one, same = (ido(linear, zeros(2, 3), x, y, **OPTIONS) for _ in range(2))
        other = ido(linear, zeros(2, 3), x, y, **OPTIONS | {"key": jax.random.key(1)})
        jax.tree.map(np.testing.assert_array_equal, one, same)
        assert (one.params["w"] != other.params["w"]).any()

    @pytest.mark.parametrize("per_class", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_it_finds_wrong_labels(self, blobs, per_class):
        x, y, wrong = blobs
        options = OPTIONS | {"warm_epochs": 12}
        found = ido(linear, zeros(2, 3), x, y, per_class=per_class, **options)
        assert roc_auc_score(wrong, found.wrong_events) > 0.97
        assert ((found.p_noisy > 0.5) == wrong).mean() > 0.9
        assert found.mixture.a.shape == ((3, 2) if per_class else (2,))
        np.testing.assert_allclose(found.p_noisy, 1 - found.p_clean)

    def test_p_clean_is_the_posterior_of_the_events(self, blobs):
        x, y, _ = blobs
        found = ido(linear, zeros(2, 3), x, y, **OPTIONS)
        u = unit_range(found.wrong_events)
        np.testing.assert_allclose(found.p_clean, found.mixture.posterior(u)[:, 0], rtol=1e-5)

    @float64_first
    def test_both_precisions(self, blobs, dtype):
        x, y, _ = blobs
        params = jax.tree.map(lambda p: p.astype(dtype), zeros(2, 3))
        found = ido(linear, params, x, y, **OPTIONS)
        assert found.params["w"].dtype == dtype
        assert np.isfinite(found.p_clean).all()

    @pytest.mark.slow
    def test_windows_train_too(self, rng):
        x = rng.normal(size=(40, 5, 2)).astype(np.float32)
        y = (x[:, :, 0].sum(axis=1) > 0).astype(int)
        found = ido(
            lambda params, x: linear(params, x.reshape(len(x), -1)), zeros(10, 2), x, y, **OPTIONS
        )
        assert found.p_clean.shape == (40,)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            ({"x": np.zeros(90)}, ShapeError, "expected"),
            ({"y": np.zeros(80, int)}, ShapeError, "one label per instance"),
            ({"y": np.zeros(90)}, DataError, "integers"),
            ({"y": np.arange(90) % 4}, DataError, "labels from 0 to 3; the model knows 0 to 2"),
            ({"y": np.arange(90) % 2 - 1}, DataError, "labels from -1"),
            ({"y": np.ones(90, int)}, DataError, "nothing to tell apart"),
            ({"params": {}}, ModelError, "params"),
            ({"warm_epochs": 0}, DataError, "warm_epochs"),
            ({"epochs": -1}, DataError, "epochs"),
            ({"batch_size": 2.5}, DataError, "batch_size"),
            ({"apply": lambda p, x: x[:, 0] * p["b"][0]}, ModelError, "logits"),
        ],
    )
    def test_is_refused(self, blobs, change, error, match):
        x, y, _ = blobs
        given = {"apply": linear, "params": zeros(2, 3), "x": x, "y": y} | OPTIONS | change
        with pytest.raises(error, match=match):
            ido(**given)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_is_not_finite(self, blobs, value):
        x, y, _ = blobs
        x = x.copy()
        x[3, 1] = value
        with pytest.raises(DataError, match="NaN or infinite"):
            ido(linear, zeros(2, 3), x, y, **OPTIONS)

    @pytest.mark.slow
    def test_a_training_that_diverges(self, blobs):
        x, y, _ = blobs
        with pytest.raises(BackboneError, match="not finite"):
            ido(linear, zeros(2, 3), x, y, **OPTIONS | {"optimizer": optax.sgd(1e38)})


@pytest.mark.slow
def test_digits_with_two_fifths_of_their_labels_wrong(rng):
    """Clean and noisy are told apart, and the network is better than one trained on all alike."""
    x, y = load_digits(return_X_y=True)
    x = ((x - x.mean(axis=0)) / (x.std(axis=0) + 1)).astype(np.float32)
    order = rng.permutation(len(x))
    train, test = order[:1200], order[1200:]
    wrong = rng.random(1200) < 0.4
    given = np.where(wrong, (y[train] + rng.integers(1, 10, 1200)) % 10, y[train])
    model = as_pure(build("mlp", input_shape=(64,), outputs=10, rngs=nnx.Rngs(0)))
    apply, key = model.predict_batch, jax.random.key(0)

    def accuracy(params):
        return (np.asarray(apply(params, x[test])).argmax(axis=1) == y[test]).mean()

    plain = fit_weighted(apply, model.params, x[train], given, key=key, epochs=40)
    found = ido(apply, model.params, x[train], given, key=key)
    assert roc_auc_score(wrong, found.wrong_events) > 0.95
    assert roc_auc_score(wrong, found.p_noisy) > 0.95
    assert accuracy(found.params) > accuracy(plain.params) + 0.03
