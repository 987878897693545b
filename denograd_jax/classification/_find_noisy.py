"""`find_noisy`: which labels of a classification are wrong."""

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax import backbones
from denograd_jax.classification._feature_scores import feature_scores
from denograd_jax.classification._features import as_frame, encode, numbers
from denograd_jax.classification._label_noise import LabelNoise, fit_label_noise
from denograd_jax.classification._labels import Labels, read_labels
from denograd_jax.classification._noisy_rows import NoisyRows
from denograd_jax.classification._out_of_fold import folds_of, of_backbone, of_estimator
from denograd_jax.errors import (
    BackboneError,
    ColumnError,
    DataError,
    ShapeError,
    UnsupportedError,
)

__all__ = ["find_noisy"]

Floats = NDArray[np.float64]


def find_noisy(
    X: Any,
    y: Any,
    *,
    model: Any = "mlp",
    probabilities: Any = None,
    folds: int = 5,
    rounds: int = 3,
    seed: int = 0,
) -> NoisyRows:
    """Ranks the rows of a classification by how likely their label is wrong.

    A classifier gives each row the probabilities of the classes without having seen it (cross-
    fitting). From these and the given labels a model of the label noise is fitted: how often each
    class is called by each other's name, how sharp the classifier should have been; and with it,
    for each row, the probability of every class given features and label. The library's own
    classifiers are then trained again with the noise accounted for, which makes them surer.

    Which rows are wrong is told apart from classes that overlap by one assumption: that features
    tell the classes apart as far as the data allow. Where they do not, rows of the rarer class
    amid another are suspected too.

    Nothing is moved or removed: `corrected()` and `weights` of the result train another model.
    Do this to training rows only, never to those that you test on.

    Args:
        X: Features: a pandas DataFrame, or an array of numbers `(n, d)`. The library's classifiers
            see numbers by their rank, text, categories and booleans one-hot, and neither dates nor
            columns that number the rows or are called identifiers. A missing cell is told to them
            as missing.
        y: Labels, `(n,)`, or the name of a column of X: text, whole numbers, booleans, categories.
            A row whose label is missing trains nothing, and gets a suggestion.
        model: A backbone for rows ("mlp", "linear", "ft_transformer"), or a classifier with
            scikit-learn's `fit` and `predict_proba`, of which copies are trained, on X as given
            (without the column of y) and whole numbers from 0 for the classes.
        probabilities: Out-of-fold probabilities that you have already, `(n, classes)`, the classes
            in order (of a categorical its own, else sorted) or, in a DataFrame, as its columns.
            No model is trained then.
        folds: How many parts the rows are cut into, each class evenly; 2 or more.
        rounds: How often a backbone is trained, from the second time on with the label noise that
            was found before accounted for. Estimators and `probabilities` have one round.
        seed: Of folds, weights and batches.

    Returns:
        `NoisyRows`: the ranking in `.table`, and what it is made from.

    Raises:
        ShapeError: Not one label a row, or probabilities of another shape.
        DataError: Labels that are no classes, fewer than two classes, a class of one row, infinite
            features, or probabilities that are none.
        ColumnError: No such column, or none that tells a classifier anything.
        UnsupportedError: Features, labels or a model of another kind.
        BackboneError: No such backbone.
        ModelError: A classifier whose probabilities have another shape than its classes.

    Units: none; the result does not depend on the units of X.

    Look-ahead: yes; every row is judged by models trained on others, whatever their order.

    Source:
        Northcutt, Jiang and Chuang 2021 (out-of-fold probabilities, joint of given and true
        labels); Dawid and Skene 1979 (EM); Patrini et al. 2017 (training behind a transition
        matrix).

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(300, 2))
        >>> y = np.where(X[:, 0] + X[:, 1] > 0, "above", "below")
        >>> y[7] = "above" if y[7] == "below" else "below"
        >>> found = find_noisy(X, y, model="linear", rounds=1)
        >>> bool(found.table.loc[7, "label_wrong"] > 0.5)
        True
    """
    folds, rounds = _at_least(2, folds=folds), _at_least(1, rounds=rounds)
    called = f"column {y!r}" if isinstance(y, str) else "y"
    X, y = _apart(X, y)
    frame = as_frame(X)
    labels = read_labels(y, len(frame), frame.index, called)
    values = numbers(frame)
    fold = folds_of(labels.codes, folds, seed)
    settings: dict[str, object] = {"model": model, "folds": folds, "rounds": rounds, "seed": seed}
    if probabilities is not None:
        settings = {"model": "probabilities that were given"}
        first = _as_probabilities(probabilities, labels)
        noise = fit_label_noise(first, labels.codes)
    elif isinstance(model, str):
        first, noise = _with_backbone(model, encode(frame), labels, fold, rounds, seed)
    elif hasattr(model, "fit") and hasattr(model, "predict_proba"):
        given = X if isinstance(X, pd.DataFrame) else np.asarray(X)
        settings |= {"model": type(model).__name__, "rounds": 1}
        first = of_estimator(model, given, labels.codes, len(labels.classes), fold)
        noise = fit_label_noise(first, labels.codes)
    else:
        raise UnsupportedError(
            f"cannot use {model!r:.100} as a classifier: give the name of a backbone "
            f"({', '.join(backbones.names('rows'))}), or an object with fit and predict_proba; "
            "probabilities of any other model go into probabilities=."
        )
    scores = feature_scores(values, noise.posterior)
    return _result(frame, labels, first, noise, scores, settings)


def _at_least(least: int, **number: Any) -> int:
    [(name, value)] = number.items()
    try:
        found = operator.index(value)
    except TypeError as error:
        raise UnsupportedError(f"{name} must be a whole number, not {value!r}.") from error
    if found < least:
        raise DataError(f"{name} must be at least {least}, not {found}.")
    return found


def _apart(X: Any, y: Any) -> tuple[Any, Any]:
    """Features and labels, where y names a column of X."""
    if not isinstance(X, pd.DataFrame):
        return X, y
    if isinstance(y, str):
        if y not in X.columns:
            raise ColumnError(f"there is no column {y!r} in X to take the labels from.")
        return X.drop(columns=y), X[y]
    if isinstance(y, pd.Series) and not y.index.equals(X.index):
        raise ShapeError(
            "y has another index than X: bring its rows into the same order, or give y.to_numpy()."
        )
    return X, y


def _with_backbone(
    name: str,
    x: NDArray[np.float32],
    labels: Labels,
    fold: NDArray[np.intp],
    rounds: int,
    seed: int,
) -> tuple[Floats, LabelNoise]:
    """Probabilities by the labels as they are, and the noise found in the last round."""
    if name not in backbones.names("rows"):
        raise BackboneError(
            f"There is no backbone {name!r} for rows; choose one of "
            f"{', '.join(backbones.names('rows'))}."
        )
    labelled = labels.codes >= 0
    transition = np.eye(len(labels.classes))
    found = []
    for _ in range(rounds):
        likelihood = transition[:, labels.codes].T  # any where there is no label: it is not used
        found.append(of_backbone(name, x, likelihood, labelled, fold, seed))
        noise = fit_label_noise(found[-1], labels.codes)
        transition = noise.transition
    return found[0], noise


def _as_probabilities(probabilities: Any, labels: Labels) -> Floats:
    if isinstance(probabilities, pd.DataFrame):
        missing = labels.classes.difference(probabilities.columns)
        if len(missing):
            raise ColumnError(f"probabilities have no column for class {missing[0]!r}.")
        probabilities = probabilities[list(labels.classes)]
    found = np.asarray(probabilities)
    expected = len(labels.codes), len(labels.classes)
    if found.shape != expected:
        raise ShapeError(
            f"probabilities have shape {found.shape}; expected {expected}, a column for each class "
            f"that occurs in y."
        )
    if found.dtype.kind != "f" or not (found >= 0).all():
        raise DataError("probabilities must be numbers of at least 0, none of them missing.")
    total = found.astype(np.float64).sum(axis=1, keepdims=True)
    if not (np.abs(total - 1) < 0.01).all():
        raise DataError(
            f"probabilities must sum to 1 in each row; the sums go from {total.min():.3g} to "
            f"{total.max():.3g}."
        )
    shares: Floats = found / total
    return shares


def _result(
    frame: pd.DataFrame,
    labels: Labels,
    first: Floats,
    noise: LabelNoise,
    scores: Floats,
    settings: Mapping[str, object],
) -> NoisyRows:
    rows = np.arange(len(frame))
    wrong = 1 - noise.posterior[rows, labels.codes]
    wrong = np.where(labels.codes >= 0, wrong, np.nan)
    table = pd.DataFrame(
        {
            "row": rows,
            "label": labels.given.to_numpy(),
            "suggested": labels.of(noise.posterior.argmax(axis=1)).to_numpy(),
            "label_wrong": wrong,
            "feature_score": scores,
        },
        index=frame.index,
    )
    order = np.lexsort((rows, -np.nan_to_num(scores), np.where(np.isnan(wrong), 1, -wrong)))
    table = table.iloc[order].assign(rank=rows + 1)
    classes = labels.classes
    return NoisyRows(
        table,
        pd.DataFrame(noise.posterior, frame.index, classes),
        pd.DataFrame(first, frame.index, classes),
        pd.DataFrame(noise.transition, classes.rename("true label"), classes.rename("given label")),
        _least_noise_rate(first, labels.codes),
        labels,
        settings,
    )


def _least_noise_rate(first: Floats, codes: NDArray[np.intp]) -> float:
    """By the first probabilities: later ones take the noise that was found for granted."""
    least = fit_label_noise(first, codes, ambiguity=0.0)
    labelled = np.flatnonzero(codes >= 0)
    return float(1 - least.posterior[labelled, codes[labelled]].mean())
