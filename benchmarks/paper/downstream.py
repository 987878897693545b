"""Models that are trained on refined rows, at the study's settings."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from . import examples, networks
from .copies import Copy
from .methods import Refined, lacking

MOST_CONTEXT = 10_000
"""Training rows that TabPFN is given."""


@dataclass(frozen=True)
class Regressor:
    """A downstream model.

    Attributes:
        name: As in the tables.
        train: `train(x, y, training, seed)` gives a function from inputs to predictions.
        kinds: Kinds of data that it is for.
        needs: Modules that must be importable.
        quick: Whether the small sizes have it.
        version: Changes with what it does; part of the key of its cells.
    """

    name: str
    train: Callable
    kinds: tuple[str, ...] = ("rows", "series")
    needs: tuple[str, ...] = ()
    quick: bool = True
    version: str = "1"

    def lacks(self) -> str | None:
        """Why it cannot be trained here; None if it can."""
        reason = lacking(self.needs)
        if reason is None and self.name == "TabPFN" and weights() is None:
            reason = "its weights are not on this machine"
        return reason


def errors(copy: Copy, refined: Refined, regressor: Regressor) -> dict[str, float]:
    """Mean square errors of a model trained on the refined training rows, in both protocols."""
    data = copy.data
    predict = regressor.train(*examples.learnt(data, refined.learnt), copy.seed)
    found = {}
    for name, frame in (("untouched", data.test), ("refined", refined.test)):
        x, y = examples.cut(data, frame)
        found[f"mse {name}"] = float(np.mean((predict(x) - y) ** 2))
    return found


def network(name, x, y, training, seed):
    """One of Flax's; a dense one sees windows as rows."""
    shape = flat if name == "dnn" else np.asarray
    module = networks.build(name, shape(x).shape[1:], seed)
    model = networks.trained(module, shape(x), y[:, None], training, seed)
    return lambda some: networks.predicted(model, shape(some))[:, 0]


def fitted(make, x, y, training, seed):
    """An estimator of scikit-learn's kind, on flat training inputs; it needs no validation."""
    model = make(seed).fit(flat(x)[:training], y[:training])
    return lambda some: model.predict(flat(some))


def flat(x):
    return np.asarray(x).reshape(len(x), -1)


def ridge(seed):
    from sklearn.linear_model import Ridge

    return Ridge()


def neighbours(seed):
    from sklearn.neighbors import KNeighborsRegressor

    return KNeighborsRegressor(7)


def boosted_trees(seed):
    from xgboost import XGBRegressor

    # Its threads wait for each other actively, which is slow on busy cores.
    return XGBRegressor(
        n_estimators=120, max_depth=6, learning_rate=0.08, random_state=seed, n_jobs=1
    )


def tabpfn(x, y, training, seed):
    """A transformer that takes the training rows as context, a sample of them if there are many."""
    from tabpfn import TabPFNRegressor

    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(training)[:MOST_CONTEXT])
    model = TabPFNRegressor(
        model_path=str(weights()), random_state=seed, ignore_pretraining_limits=True
    )
    model.fit(flat(x)[chosen], y[chosen])
    return lambda some: model.predict(flat(some))


def weights() -> Path | None:
    """A file of TabPFN's weights for regression, where the package keeps them; never fetched."""
    caches = Path.home() / ".cache" / "tabpfn", Path.home() / "Library" / "Caches" / "tabpfn"
    named = os.environ.get("TABPFN_MODEL_CACHE_DIR")
    folders = [Path(named)] if named else caches
    found = [path for folder in folders for path in sorted(folder.glob("*regressor*.ckpt"))]
    return found[0] if found else None


SERIES = ("series",)
REGRESSORS = [
    Regressor("Ridge", partial(fitted, ridge), needs=("sklearn",)),
    Regressor("kNN", partial(fitted, neighbours), needs=("sklearn",)),
    Regressor("XGBoost", partial(fitted, boosted_trees), needs=("xgboost",)),
    Regressor("DNN", partial(network, "dnn")),
    Regressor("TabPFN", tabpfn, needs=("tabpfn",), quick=False),
    Regressor("LSTM", partial(network, "lstm"), SERIES, quick=False),
    Regressor("xLSTM", partial(network, "xlstm"), SERIES, quick=False),
    Regressor("CNN-LSTM", partial(network, "cnn_lstm"), SERIES, quick=False),
    Regressor("DLinear", partial(network, "dlinear"), SERIES, quick=False),
]
