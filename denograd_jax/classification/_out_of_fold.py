"""Probabilities of classes for rows that the classifier was not trained on."""

import copy
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from denograd_jax.classification._training import train_classifier
from denograd_jax.errors import ModelError

__all__ = ["folds_of", "of_backbone", "of_estimator"]

Probabilities = NDArray[np.float64]
Codes = NDArray[np.intp]


def folds_of(codes: Codes, folds: int, seed: int) -> Codes:
    """The fold of each row, `(n,)`: rows at random, each class spread evenly over the folds.

    Rows without a label, of code -1, are spread likewise.
    """
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]
    fold = np.empty(len(codes), np.intp)
    fold[order] = np.arange(len(codes)) % folds
    return fold


def of_estimator(estimator: Any, X: Any, codes: Codes, classes: int, fold: Codes) -> Probabilities:
    """Out-of-fold probabilities `(n, classes)` of copies of a classifier, which stays as it is.

    Args:
        estimator: With scikit-learn's `fit` and `predict_proba`; it is given codes as labels.
        X: Features, as the estimator takes them.
        codes: Given labels, `(n,)`; rows of -1 train nothing.
        classes: How many there are.
        fold: Of each row, `(n,)`.

    Raises:
        ModelError: Its probabilities do not have the shape of its classes.
    """
    probabilities = np.zeros((len(codes), classes))
    for k in np.unique(fold):
        held_out = np.flatnonzero(fold == k)
        trains = np.flatnonzero((fold != k) & (codes >= 0))
        fitted = copy.deepcopy(estimator)
        fitted.fit(_rows(X, trains), codes[trains])
        found = np.asarray(fitted.predict_proba(_rows(X, held_out)), np.float64)
        known = np.asarray(getattr(fitted, "classes_", np.arange(classes)))
        if found.shape != (len(held_out), len(known)):
            raise ModelError(
                f"predict_proba of {type(estimator).__name__} gave shape {found.shape} for "
                f"{len(held_out)} rows and {len(known)} classes."
            )
        probabilities[np.ix_(held_out, known.astype(np.intp))] = found
    return probabilities


def _rows(X: Any, index: Codes) -> Any:
    return X.iloc[index] if hasattr(X, "iloc") else X[index]


def of_backbone(
    name: str,
    x: NDArray[np.float32],
    likelihood: Probabilities,
    labelled: NDArray[np.bool_],
    fold: Codes,
    seed: int,
) -> Probabilities:
    """Out-of-fold probabilities of true classes, of a backbone trained anew without each fold.

    Args:
        name: Of the backbone.
        x: Features, `(n, d)`.
        likelihood: P(given label | each class), `(n, classes)`: one-hot labels, or the columns of
            a transition matrix.
        labelled: Which rows train, `(n,)`.
        fold: Of each row, `(n,)`.
        seed: Of weights, batches and the rows that decide when to stop.

    Raises:
        BackboneError: There is no such backbone, or it cannot be trained on these data.
    """
    probabilities = np.zeros(likelihood.shape)
    for k in np.unique(fold):
        key = jax.random.fold_in(jax.random.key(seed), int(k))
        trains = np.flatnonzero((fold != k) & labelled)
        trained = train_classifier(name, x, likelihood, trains, key=key)
        if trained.interrupted:  # it ends all, not one fold
            raise KeyboardInterrupt
        model = trained.model
        assert model.predict_batch is not None  # backbones have one
        logits = jax.jit(model.predict_batch)(model.params, x[fold == k])
        probabilities[fold == k] = jax.nn.softmax(logits)
    exact: Probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    return exact  # softmax was taken in single precision
