"""Training: exact bookkeeping against NumPy, early stopping, missing targets, splits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import make_friedman1

from denograd_jax.backbones import build, names, split_rows, split_windows, train
from denograd_jax.errors import BackboneError

LENGTH = 8


def take(data, index):
    """Rows and their targets; a target is missing where it is NaN."""
    x, y = data
    return x[index], y[index], ~jnp.isnan(y[index])


def cut(series, start):
    """Windows of a series and the step after each."""
    steps = start[:, None] + jnp.arange(LENGTH, dtype=start.dtype)[None]
    y = series[start + LENGTH]
    return series[steps], y, jnp.ones(y.shape, bool)


def linear(seed=0, features=3):
    return nnx.Linear(features, 1, rngs=nnx.Rngs(seed))


@pytest.fixture
def rows(rng):
    """Three features, a linear target, 50 rows."""
    x = rng.normal(size=(50, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.3
    return x, y


def fit(data, module=None, *, training=range(40), validation=range(40, 50), **options):
    options = {"key": jax.random.key(0), "max_epochs": 5} | options
    return train(module or linear(), take, data, training, validation, **options)


def losses(module, data, index):
    """Squared errors of the observed targets, in NumPy."""
    x, y = (np.asarray(part, np.float64)[list(index)] for part in data)
    errors = x @ np.asarray(module.kernel[...]) + np.asarray(module.bias[...]) - y
    return errors[~np.isnan(y)] ** 2


def leaves(trained):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trained.model.params)]


def same(one, other):
    return all((a == b).all() for a, b in zip(leaves(one), leaves(other), strict=True))


QUICK = {"mlp", "linear", "gru"}


class TestLearning:
    @pytest.mark.parametrize(
        "name",
        [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names("windows")],
    )
    def test_every_window_backbone_beats_the_mean(self, name, rng):
        t = np.arange(500)
        clean = np.stack([np.sin(t / 3), np.cos(t / 5)], axis=1)
        series = (clean + 0.1 * rng.normal(size=clean.shape)).astype(np.float32)
        starts = np.arange(len(t) - LENGTH)
        training, validation = split_windows(starts, LENGTH + 1)
        module = build(name, input_shape=(LENGTH, 2), outputs=2, rngs=nnx.Rngs(0))
        trained = train(
            module, cut, series, training, validation, key=jax.random.key(0), max_epochs=8
        )
        assert trained.validation_loss.min() < 0.2 * series.var()

    def test_the_row_backbone_finds_a_nonlinear_function(self):
        x, y = make_friedman1(1200, noise=0.5, random_state=0)
        data = ((x - 0.5) / 0.29).astype(np.float32), ((y - 14.4) / 5)[:, None].astype(np.float32)
        training, validation = split_rows(1000, key=jax.random.key(1))
        module = build("mlp", input_shape=(10,), outputs=1, rngs=nnx.Rngs(0))
        trained = train(module, take, data, training, validation, key=jax.random.key(2))
        predicted = trained.model.predict_batch(trained.model.params, data[0][1000:])
        error = np.mean((predicted - data[1][1000:]) ** 2)
        assert error < 0.05 * data[1].var()  # the best linear fit leaves 0.25

    def test_a_linear_module_finds_least_squares(self, rng, x64):
        x = rng.normal(size=(200, 3))
        y = x @ rng.normal(size=(3, 1)) + 0.5 * rng.normal(size=(200, 1)) + 1.0
        design = np.hstack([x, np.ones((200, 1))])
        solution = np.linalg.lstsq(design, y, rcond=None)[0][:, 0]
        trained = fit(
            (x, y),
            training=range(200),
            validation=range(200),
            weight_decay=0.0,
            learning_rate=0.05,
            max_epochs=100,
            patience=100,
        )
        params = trained.model.params
        found = np.append(params["kernel"][:, 0], params["bias"])
        np.testing.assert_allclose(found, solution, atol=2e-3)


class TestBookkeeping:
    """With a learning rate of zero the losses are those of the untrained module, exactly."""

    def idle(self, data, module, **options):
        return fit(data, module, learning_rate=0.0, max_epochs=2, **options)

    def test_every_row_counts_once(self, rows):
        module = linear()  # 40 rows do not fill the last batch of 16
        trained = self.idle(rows, module)
        for epoch in range(2):
            expected = losses(module, rows, range(40)).mean()
            assert trained.train_loss[epoch] == pytest.approx(expected, rel=1e-5)
            expected = losses(module, rows, range(40, 50)).mean()
            assert trained.validation_loss[epoch] == pytest.approx(expected, rel=1e-5)

    def test_missing_targets_do_not_count(self, rows):
        x, y = rows
        y[::3] = np.nan
        module = linear()
        trained = self.idle((x, y), module)
        assert trained.train_loss[0] == pytest.approx(losses(module, rows, range(40)).mean(), 1e-5)

    def test_a_row_that_is_not_trained_on_does_no_harm(self, rows):
        rows[0][0] = np.nan
        trained = fit(rows, training=range(1, 40))
        assert np.isfinite(trained.train_loss).all()

    def test_a_loss_may_be_one_number_per_instance(self, rows):
        def summed(prediction, target):
            return optax.losses.squared_error(prediction, target).sum()

        x, y = rows
        y[::3] = np.nan
        module = linear()
        one, other = self.idle((x, y), module), self.idle((x, y), module, loss=summed)
        np.testing.assert_allclose(one.train_loss, other.train_loss, rtol=1e-6)

    def test_what_lies_under_the_mask_changes_nothing(self, rows):
        x, y = rows
        missing = np.arange(50)[:, None] % 4 == 0

        def masked(data, index):
            x, y, missing = data
            return x[index], y[index], ~missing[index]

        results = [
            train(
                linear(),
                masked,
                (x, np.where(missing, fill, y), missing),
                range(40),
                range(40, 50),
                key=jax.random.key(0),
                max_epochs=3,
            )
            for fill in (np.float32(0), np.float32(np.nan), np.float32(np.inf))
        ]
        assert same(results[0], results[1])
        assert same(results[0], results[2])
        np.testing.assert_array_equal(results[0].validation_loss, results[1].validation_loss)

    def test_the_gather_sees_one_minibatch_at_a_time(self, rows):
        sizes = set()

        def recorded(data, index):
            sizes.add(index.shape)
            return take(data, index)

        train(
            linear(), recorded, rows, range(40), range(40, 50), key=jax.random.key(0), max_epochs=1
        )
        assert sizes == {(16,)}


class TestStopping:
    def test_the_best_parameters_come_back(self, rng):
        x, y = rng.normal(size=(60, 20)), rng.normal(size=(60, 1))  # nothing to learn: it overfits
        data = x.astype(np.float32), y.astype(np.float32)
        module = build("mlp", input_shape=(20,), outputs=1, rngs=nnx.Rngs(0))
        trained = fit(data, module, validation=range(40, 60), max_epochs=60, patience=4)
        predicted = trained.model.predict_batch(trained.model.params, data[0][40:])
        assert np.mean((predicted - data[1][40:]) ** 2) == pytest.approx(
            trained.validation_loss.min(), rel=1e-5
        )
        assert trained.best_epoch == trained.validation_loss.argmin()
        assert trained.epochs == trained.best_epoch + 1 + 4 < 60
        assert trained.train_loss.shape == trained.validation_loss.shape == (trained.epochs,)

    @pytest.mark.parametrize("validation", [range(0), range(40, 50)], ids=["none", "unobserved"])
    def test_without_a_validation_target_the_training_loss_decides(self, rows, validation):
        x, y = rows
        y[40:] = np.nan
        trained = fit((x, y), validation=validation)
        assert np.isnan(trained.validation_loss).all()
        assert trained.best_epoch == trained.train_loss.argmin()

    def test_progress_is_told_after_every_epoch(self, rows):
        told = []
        trained = fit(rows, progress=lambda *what: told.append(what))
        assert [epoch for epoch, *_ in told] == [1, 2, 3, 4, 5]
        assert {total for _, total, *_ in told} == {5}
        np.testing.assert_array_equal([train for *_, train, _ in told], trained.train_loss)
        np.testing.assert_array_equal([val for *_, val in told], trained.validation_loss)

    def test_an_interrupt_keeps_the_best_epoch_so_far(self, rows):
        def interrupt(epoch, *_):
            if epoch == 3:
                raise KeyboardInterrupt

        stopped = fit(rows, progress=interrupt)
        whole = fit(rows)
        assert stopped.interrupted
        assert not whole.interrupted
        assert stopped.epochs == 3
        np.testing.assert_array_equal(stopped.train_loss, whole.train_loss[:3])
        assert stopped.best_epoch == np.argmin(stopped.validation_loss)


class TestReproducibility:
    def test_the_same_key_gives_bitwise_the_same_parameters(self, rows):
        assert same(fit(rows), fit(rows))
        assert not same(fit(rows), fit(rows, key=jax.random.key(1)))

    def test_a_second_training_compiles_nothing(self, rows, caplog):
        fit(rows)
        x, y = rows
        with jax.log_compiles():
            fit((2 * x, -y), linear(seed=1), training=range(1, 40), key=jax.random.key(1))
        assert "Compiling" not in caplog.text
        with jax.log_compiles():  # the log does tell
            fit(rows, learning_rate=1e-4)
        assert "Compiling" in caplog.text

    def test_the_module_and_the_data_stay_as_they_were(self, rows):
        module = linear()
        kernel, x = np.array(module.kernel[...]), rows[0].copy()
        fit(rows, module)
        np.testing.assert_array_equal(module.kernel[...], kernel)
        np.testing.assert_array_equal(rows[0], x)

    @pytest.mark.parametrize(
        ("given", "trained"),
        [("float16", "float32"), ("int32", "float32"), ("float64", "float64")],
    )
    def test_the_dtype_of_the_parameters(self, rows, x64, given, trained):
        x, y = rows
        result = fit(((3 * x).astype(given), y.astype(trained)))
        assert {leaf.dtype.name for leaf in leaves(result)} == {trained}
        assert np.isfinite(result.train_loss).all()


class TestRefusals:
    def test_no_training_instance(self, rows):
        with pytest.raises(BackboneError, match="no training instance"):
            fit(rows, training=range(0))

    def test_a_loss_that_is_not_finite(self, rows):
        rows[0][3] = np.inf
        with pytest.raises(BackboneError, match="after the first epoch"):
            fit(rows)

    def test_no_observed_target(self, rows):
        with pytest.raises(BackboneError, match="any target is observed"):
            fit((rows[0], np.full_like(rows[1], np.nan)))

    def test_targets_of_another_shape(self, rows):
        with pytest.raises(BackboneError, match=r"\(16, 1\), targets \(16, 2\)"):
            fit((rows[0], np.hstack([rows[1]] * 2)))

    def test_batch_statistics(self, rows):
        module = nnx.Sequential(linear(), nnx.BatchNorm(1, rngs=nnx.Rngs(0)))
        with pytest.raises(BackboneError, match="batch statistics"):
            fit(rows, module)

    def test_no_epoch(self, rows):
        with pytest.raises(BackboneError, match="max_epochs"):
            fit(rows, max_epochs=0)


@pytest.mark.parametrize("count", [0, 1, 4, 333])
@pytest.mark.parametrize("fraction", [0.0, 0.15, 0.5])
def test_rows_are_split_at_random(count, fraction):
    training, validation = split_rows(count, fraction, key=jax.random.key(count))
    if round(count * fraction) == 0:
        np.testing.assert_array_equal(training, np.arange(count))
        np.testing.assert_array_equal(validation, training)
    else:
        assert len(validation) == round(count * fraction)
        np.testing.assert_array_equal(
            np.sort(np.concatenate([training, validation])), np.arange(count)
        )


@given(
    lengths=st.lists(st.integers(0, 120), min_size=1, max_size=12),
    span=st.integers(2, 20),
    stride=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_no_validation_window_shares_a_step_with_a_training_window(lengths, span, stride, seed):
    first = np.cumsum([0, *lengths])
    starts, segments = [], []
    for label, length in enumerate(lengths):
        own = first[label] + np.arange(0, max(length - span + 1, 0), stride)
        starts.extend(own)
        segments.extend([f"series {label}"] * len(own))
    shuffled = np.random.default_rng(seed).permutation(len(starts))
    starts = np.array(starts, int)[shuffled]
    segments = np.array(segments, str)[shuffled]

    training, validation = split_windows(starts, span, segments=segments)
    if np.array_equal(training, validation):  # too few to hold one out
        np.testing.assert_array_equal(training, np.arange(len(starts)))
        return
    seen = {step for start in starts[training] for step in range(start, start + span)}
    held_out = {step for start in starts[validation] for step in range(start, start + span)}
    assert not seen & held_out
    assert len(training) > 0
    for label in np.unique(segments):
        latest = starts[training][segments[training] == label].max(initial=-1)
        assert (starts[validation][segments[validation] == label] > latest).all()


def test_one_long_series_keeps_its_end_for_validation():
    training, validation = split_windows(np.arange(1000), 25)
    np.testing.assert_array_equal(validation, np.arange(850, 1000))
    np.testing.assert_array_equal(training, np.arange(850 - 24))


def test_of_many_short_segments_some_validate_whole():
    segments = np.repeat(np.arange(40), 5)
    starts = 30 * segments + np.tile(np.arange(5), 40)
    training, validation = split_windows(starts, 25, segments=segments)
    assert len(validation) == 6 * 5  # 15 % of 40 segments
    assert len(training) == 34 * 5


def test_a_series_too_short_to_be_cut_validates_on_itself():
    training, validation = split_windows(np.arange(20), 25)
    np.testing.assert_array_equal(training, np.arange(20))
    np.testing.assert_array_equal(validation, np.arange(20))
