"""Probabilities of classes for rows that the classifier was not trained on."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from denograd_jax import backbones
from denograd_jax.errors import ModelError

__all__ = ["folds_of", "of_backbone", "of_estimator"]

Probabilities = NDArray[np.float64]
Codes = NDArray[np.intp]

ROWS_SEEN = 27_000
"""In all epochs together, of which there are more for small tables: 60 are too few steps there."""
EPOCHS = 60, 200


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
    r"""Out-of-fold probabilities of true classes, of a backbone trained anew without each fold.

    .. math:: \min - \log \sum_k \operatorname{softmax}(f(x))_k \, P(\text{given label} \mid k)

    is the cross-entropy where labels are taken as true, and is corrected for a known label noise
    where they are not. Of the rows that train, 15 % decide when to stop: networks fit the right
    labels first.

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

    Source:
        Patrini et al. 2017, the forward correction.
    """
    probabilities = np.zeros(likelihood.shape)
    data = jnp.asarray(x), jnp.asarray(likelihood, jnp.float32)
    for k in np.unique(fold):
        key = jax.random.fold_in(jax.random.key(seed), int(k))
        trains = np.flatnonzero((fold != k) & labelled)
        parts = backbones.split_rows(len(trains), key=key)
        epochs = int(np.clip(ROWS_SEEN // max(len(trains), 1), *EPOCHS))
        module = backbones.build(
            name,
            input_shape=x.shape[1:],
            outputs=likelihood.shape[1],
            rngs=nnx.Rngs(params=key),
        )
        trained = backbones.train(
            module,
            _gather,
            data,
            *(trains[part] for part in parts),
            key=key,
            loss=_corrected,
            max_epochs=epochs,
            patience=epochs // 6,
        )
        assert trained.model.predict_batch is not None  # backbones have one
        logits = jax.jit(trained.model.predict_batch)(trained.model.params, data[0][fold == k])
        probabilities[fold == k] = jax.nn.softmax(logits)
    exact: Probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    return exact  # softmax was taken in single precision


def _gather(data: Any, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, likelihood = (part[index] for part in data)
    return x, likelihood, jnp.ones(likelihood.shape, bool)


def _corrected(logits: jax.Array, likelihood: jax.Array) -> jax.Array:
    """Cross-entropy behind label noise, of one instance; a likelihood of 0 counts as 1e-9."""
    joint = jax.nn.log_softmax(logits) + jnp.log(jnp.maximum(likelihood, 1e-9))
    return -jax.nn.logsumexp(joint)
