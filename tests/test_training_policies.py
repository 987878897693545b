"""Training policies: what `refine(training=...)` does, against the functions of `robust`."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from denograd_jax import Fitted, Status, calibrate, fit, refine
from denograd_jax.backbones import as_pure, build, split_rows, split_windows, train
from denograd_jax.backbones._feedforward import MLP, LinearPath
from denograd_jax.backbones._training import fitting_batch_size
from denograd_jax.errors import BackboneError, UnsupportedError
from denograd_jax.robust import _policies, ido, ido_regression, rlap
from denograd_jax.robust._policies import POLICIES, Task

ROWS, STEPS, WINDOW = 60, 50, 3
PUBLISHED = {"rule": "unit_step", "max_steps": 1}


def rows():
    values = np.random.default_rng(1).normal(size=(ROWS, 3))
    return pd.DataFrame(values, columns=["a", "b", "y"]).assign(y=lambda f: f.y / 3 + f.a - f.b)


def series():
    values = np.random.default_rng(2).normal(size=(STEPS, 2)).cumsum(axis=0)
    return pd.DataFrame(values, columns=["u", "v"])


def standardised(frame):
    values = frame.to_numpy()
    return ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)


def same_params(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected
    )


def by_hand(shape, outputs, x, y, seed):
    """IDO on the given instances, with the keys of a training by `refine`: 4 epochs."""
    key_model, _, key_train = jax.random.split(jax.random.key(seed), 3)
    module = build("mlp", input_shape=shape, outputs=outputs, rngs=nnx.Rngs(key_model))
    model = as_pure(module)
    return ido_regression(
        model.predict_batch,
        model.params,
        x,
        y,
        key=key_train,
        warm_epochs=3,
        epochs=1,
        batch_size=16,  # as few as the trainer takes
    )


class TestIdo:
    def test_of_rows_is_ido_regression_on_the_training_part(self):
        result = refine(rows(), "y", training="ido", max_epochs=4, seed=3, **PUBLISHED)
        z = standardised(rows())
        trains, _ = split_rows(ROWS, key=jax.random.split(jax.random.key(3), 3)[1])
        expected = by_hand((2,), 1, z[trains, :2], z[trains, 2:], 3)
        same_params(result.fitted.model.params, expected.params)
        told = result.fitted.settings
        assert told["training"] == "ido"
        assert told["epochs"] == "4, best 4"
        noisy = f"{np.mean(expected.p_noisy):.1%} of what it was trained on"
        assert told["likely noisy"] == noisy

    @pytest.mark.slow
    def test_of_a_series_is_ido_regression_on_windows(self):
        """It learns from the windows that miss no target, in any column."""
        frame = series()
        z = standardised(frame)
        frame.iloc[20, 1] = np.nan
        mean, std = frame.mean().to_numpy(), frame.std(ddof=0).to_numpy()
        z = ((frame.ffill().to_numpy() - mean) / std).astype(np.float32)
        fitted = fit(frame, window=WINDOW, training="ido", max_epochs=4)
        starts = np.arange(STEPS - WINDOW)
        trains, _ = split_windows(starts, WINDOW + 1)
        trains = trains[trains + WINDOW != 20]
        windows = np.stack([z[s : s + WINDOW] for s in trains])
        expected = by_hand((WINDOW, 2), 2, windows, z[trains + WINDOW], 0)
        same_params(fitted.model.params, expected.params)

    @pytest.mark.slow
    def test_what_is_held_out_is_only_told_of(self):
        x, y = np.split(standardised(rows()), [2], axis=1)
        trained = POLICIES["ido"](task((x, y), max_epochs=4))
        again = POLICIES["ido"](task((x, y), max_epochs=4)._replace(validation_index=np.arange(2)))
        same_params(trained.model.params, again.model.params)
        errors = np.asarray(trained.model.predict_batch(trained.model.params, x[40:])) - y[40:]
        assert trained.validation_loss[-1] == pytest.approx(np.mean(errors**2), rel=1e-4)
        assert trained.validation_loss.shape == trained.train_loss.shape == (4,)
        assert trained.p_clean.shape == (40,)

    def test_one_epoch_is_enough(self):
        trained = POLICIES["ido"](task(np.split(standardised(rows()), [2], axis=1), max_epochs=1))
        assert trained.epochs == 1

    @pytest.mark.slow
    def test_rows_that_are_off_do_less_harm(self, rng):
        """A tenth of the targets is off by up to three standard deviations, all to one side."""
        x = rng.normal(size=(600, 3))
        clean = np.sin(x[:, 0]) + x[:, 1] * x[:, 2]
        y = clean + 0.1 * rng.normal(size=600)
        off = np.arange(600) % 10 == 0
        y[off] += rng.uniform(1, 3, size=off.sum()) * y.std()
        errors = {}
        for name in ("plain", "ido"):
            result = refine(x, y, model="mlp", training=name, **PUBLISHED)
            table = np.column_stack([x, y])
            z = ((table - table.mean(axis=0)) / table.std(axis=0)).astype(np.float32)
            model = result.fitted.model
            predicted = model.predict_batch(model.params, z[:, :3])[:, 0] * y.std() + y.mean()
            errors[name] = np.sqrt(np.mean((predicted - clean) ** 2))
        assert errors["ido"] < 0.9 * errors["plain"]


def take(data, index):
    x, y = (jnp.asarray(part)[index] for part in data)
    return x, y, ~jnp.isnan(y)


def task(data, module=None, **options):
    module = nnx.Linear(2, 1, rngs=nnx.Rngs(0)) if module is None else module
    return Task(module, take, data, np.arange(40), np.arange(40, 60), jax.random.key(5), **options)


class TestRlap:
    def perceptron(self):
        return MLP((2,), 1, widths=(8, 6), activation="tanh", rngs=nnx.Rngs(0))

    def plain(self, task, module):
        parts = task.train_index, task.validation_index
        return train(module, take, task.data, *parts, key=task.key, max_epochs=3).model.params

    def test_is_rlap_behind_plain_training(self):
        def features(params, x):
            for i in (0, 1):
                layer = params["layers"][i]
                x = jnp.tanh(x @ layer["kernel"] + layer["bias"][None])
            return x

        def head(params, h):
            return h @ params["head"]["kernel"] + params["head"]["bias"][None]

        x, y = np.split(standardised(rows()), [2], axis=1)
        given = task((x, y), self.perceptron(), max_epochs=3)
        found = POLICIES["rlap"](given)
        expected = rlap(
            features,
            head,
            self.plain(given, self.perceptron()),
            x[:40],
            y[:40],
            key=given.key,
            layer=("layers", 1),
            epochs=3,
            batch_size=16,
        )
        same_params(found.model.params, expected.params)
        np.testing.assert_allclose(found.p_clean, expected.p_clean, atol=1e-4)
        assert found.epochs == len(found.validation_loss) == 6
        assert (found.model.params["layers"][1]["bias"] != 0).any()

    def test_a_linear_path_stays_as_it_was(self):
        x, y = np.split(standardised(rows()), [2], axis=1)
        module = LinearPath(self.perceptron(), (2,), 1, rngs=nnx.Rngs(1))
        given = task((x, y), module, max_epochs=3)
        found, plain = POLICIES["rlap"](given).model.params, self.plain(given, module)
        same_params(found["linear"], plain["linear"])
        assert (np.asarray(plain["linear"]["kernel"]) != 0).all()
        assert (found["network"]["head"]["kernel"] != plain["network"]["head"]["kernel"]).all()

    @pytest.mark.slow
    def test_through_fit(self):
        fitted = fit(series(), window=WINDOW, training="rlap", max_epochs=2)
        assert fitted.settings["training"] == "rlap"
        assert fitted.backbone == "mlp"

    def test_it_wants_a_hidden_layer_of_neurons(self):
        with pytest.raises(UnsupportedError, match='of the backbones "mlp" has one'):
            fit(series(), window=WINDOW, model="gru", training="rlap")


class TestWords:
    @pytest.mark.slow
    def test_without_a_model_it_is_an_mlp_and_the_rule_stays(self):
        result = refine(series(), window=WINDOW, training="ido", max_epochs=1)
        assert result.settings["model"].startswith("mlp ")
        assert result.settings["rule"] == "auto"
        assert result.settings["training"] == "ido"
        found = calibrate(series(), window=WINDOW, training="ido", max_epochs=1).fitted
        assert found.settings["training"] == "ido"

    def test_plain_is_what_it_is_without_the_word(self):
        one, other = (fit(series(), window=WINDOW, max_epochs=1, **more) for more in PLAIN)
        jax.tree.map(np.testing.assert_array_equal, one.model.params, other.model.params)
        assert "training" not in one.settings

    @pytest.mark.parametrize("word", ["robust", "IDO", None, ["ido"]])
    def test_unknown_ones(self, word):
        with pytest.raises(UnsupportedError, match='training must be "plain", "ido" or "rlap"'):
            refine(rows(), "y", training=word)

    @pytest.mark.parametrize(
        ("model", "match"),
        [
            ("linear", 'the model "linear" is not'),
            ("mixture", 'the model "mixture" is not'),
            ((lambda w, x: x @ w, np.ones((2, 1))), "a model given is not"),
        ],
    )
    @pytest.mark.parametrize("word", ["ido", "rlap"])
    def test_models_without_epochs(self, model, match, word):
        with pytest.raises(UnsupportedError, match=match):
            refine(rows(), "y", model=model, training=word)

    @pytest.mark.slow
    def test_a_folder_keeps_them(self, tmp_path):
        fitted = fit(series(), window=WINDOW, training="ido", max_epochs=1)
        fitted.save(tmp_path / "f")
        loaded = Fitted.load(tmp_path / "f")
        assert loaded.settings["training"] == "ido"
        assert loaded.settings["likely noisy"] == fitted.settings["likely noisy"]
        jax.tree.map(np.testing.assert_array_equal, loaded.model.params, fitted.model.params)


PLAIN = {}, {"training": "plain"}


class TestOnTheWay:
    @pytest.mark.parametrize(
        ("word", "total"), [("ido", 3), pytest.param("rlap", 6, marks=pytest.mark.slow)]
    )
    def test_progress(self, word, total):
        seen = []
        refine(
            rows(),
            "y",
            training=word,
            max_epochs=3,
            progress=lambda *told: seen.append(told),
            **PUBLISHED,
        )
        trained = [told[1:] for told in seen if told[0] == "train"]
        assert trained == [(epoch, total) for epoch in range(1, total + 1)]

    @pytest.mark.parametrize(
        ("word", "at"),
        [("ido", 2), *(pytest.param("rlap", at, marks=pytest.mark.slow) for at in (1, 4))],
    )
    def test_an_interruption_refines_nothing(self, word, at):
        def interrupt(stage, done, total):
            if (stage, done) == ("train", at):
                raise KeyboardInterrupt

        given = {"training": word, "max_epochs": 3, "progress": interrupt}
        result = refine(rows(), "y", **given, **PUBLISHED)
        assert result.status == Status.interrupted
        assert result.steps == 0
        assert result.fitted.settings["epochs"] == f"{at}, best {at}"
        pd.testing.assert_frame_equal(result.data, rows(), check_exact=True)

    def test_before_the_first_epoch_it_is_passed_on(self, monkeypatch):
        def interrupted(*args, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(_policies, "ido_regression", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(series(), window=WINDOW, training="ido", max_epochs=2)

    def test_no_epoch(self):
        for word in POLICIES:
            with pytest.raises(BackboneError, match="max_epochs is 0"):
                refine(rows(), "y", training=word, max_epochs=0, **PUBLISHED)

    def test_nothing_whose_targets_are_all_there(self):
        z = standardised(rows())
        y = np.stack([z[:, 2], z[:, 2]], axis=1)
        y[::2, 0] = y[1::2, 1] = np.nan
        module = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
        with pytest.raises(BackboneError, match="targets are all observed"):
            POLICIES["ido"](task((z[:, :2], y), module))


def labelled():
    """Three clusters; about a third of the labels are of the next one."""
    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=300)
    wrong = rng.random(300) < 0.3
    x = 3 * np.eye(3)[kind][:, :2] + rng.normal(size=(300, 2))
    frame = pd.DataFrame(x, columns=["a", "b"])
    frame["kind"] = np.array([*"xyz"])[(kind + wrong) % 3]
    return frame, wrong


class TestClasses:
    def test_ido_is_ido_on_the_training_part(self):
        frame, _ = labelled()
        fitted = fit(frame, "kind", training="ido", max_epochs=4, seed=3)
        x = standardised(frame[["a", "b"]])
        y = frame["kind"].map({"x": 0, "y": 1, "z": 2}).to_numpy()
        key = jax.random.key(3)
        trains, _ = split_rows(len(x), key=key)
        module = build("mlp", input_shape=(2,), outputs=3, rngs=nnx.Rngs(params=key))
        model = as_pure(module)
        expected = ido(
            model.predict_batch,
            model.params,
            x[trains],
            y[trains],
            key=key,
            warm_epochs=3,
            epochs=1,
            batch_size=fitting_batch_size(len(trains)),
        )
        same_params(fitted.model.params, expected.params)
        assert fitted.settings["training"] == "ido"
        noisy = f"{1 - np.mean(expected.p_clean):.1%} of what it was trained on"
        assert fitted.settings["likely noisy"] == noisy

    @pytest.mark.slow
    def test_rlap_tunes_what_plain_training_gave(self):
        frame, _ = labelled()
        options = {"max_epochs": 5, **PUBLISHED}
        told = refine(frame, "kind", training="rlap", **options).fitted.settings
        assert told["training"] == "rlap"
        assert told["epochs"].startswith("10")

    @pytest.mark.slow
    def test_a_linear_model_of_classes_is_trained_so_too(self):
        frame, _ = labelled()
        settings = fit(frame, "kind", model="linear", training="ido", max_epochs=2).settings
        assert "linear" in settings["model"]

    def test_ido_finds_how_many_labels_are_wrong(self):
        frame, wrong = labelled()
        told = fit(frame, "kind", training="ido").settings["likely noisy"]
        assert float(told.split("%")[0]) / 100 == pytest.approx(wrong.mean(), abs=0.12)
