"""Which class each row truly has, and how classes are mistaken for each other: by EM."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

__all__ = ["LabelNoise", "fit_label_noise"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

AMBIGUITY = 0.05
"""Price of a nat of entropy, in nats of log-likelihood. A classifier that gives a label 0.7 says
the same as a certain one whose labels are wrong 3 times in 10; only this price tells them apart."""

STRENGTHS = 10.0 ** np.arange(0, 4.5, 0.5)
"""By how many rows a class leans on what all classes have in common."""

SHARPNESS = (0.2, 10.0)
SMALLEST = 1e-6  # of a probability: a classifier's zeros are not meant


class LabelNoise(NamedTuple):
    """A model of how labels came about, fitted to all rows.

    Attributes:
        clean: P(true class | features), `(n, classes)`.
        posterior: P(true class | features, given label), `(n, classes)`; `clean` where there is no
            label.
        transition: P(given label | true class), `(classes, classes)`; its rows sum to 1.
        sharpness: By which factor logits were multiplied: the inverse of the temperature.
        objective: Mean log-likelihood of a given label, less the price of ambiguity.
    """

    clean: Floats
    posterior: Floats
    transition: Floats
    sharpness: float
    objective: float


def fit_label_noise(
    probabilities: Floats, codes: Codes, *, ambiguity: float = AMBIGUITY, most_steps: int = 200
) -> LabelNoise:
    r"""Fits a transition matrix T and a sharpness a to out-of-fold probabilities p, by EM.

    .. math:: P(k \mid x) = \frac{p_k^a}{\sum_l p_l^a}, \qquad
       P(g \mid x) = \sum_k P(k \mid x) \, T_{kg}

    for the true class k and the given label g, which is taken to depend on the true class alone. A
    step finds P(k | x, g) for all rows, then T by counting with these, then a by a Newton step on
    their cross-entropy. Classes are taken to be told apart by the features as far as the data
    allow (`ambiguity`): else labels of which a third is wrong look like classes that overlap.

    A class has few rows to tell its noise from, so its rate is drawn to that of all classes, and
    the pattern of its errors to an even one, both by empirical Bayes: how strongly is what makes
    the counts most likely. Two beginnings are tried, at the probabilities as they are and sharper.

    Args:
        probabilities: Of rows that the classifier did not see, `(n, classes)`; rows sum to 1.
        codes: Given labels, `(n,)`; -1 where there is none.
        ambiguity: Price of a nat of the entropy of P(k | x), in nats of log-likelihood; at 0,
            classes may overlap as they please, and the least noise is found.
        most_steps: EM steps after which it ends in any case.

    Source:
        Dawid and Skene 1979 (EM for confusion matrices); Patrini et al. 2017 (a transition matrix
        behind a classifier); Guo et al. 2017 (temperature); Northcutt, Jiang and Chuang 2021
        (the joint distribution of given and true labels, from out-of-fold probabilities).
    """
    logits = np.log(np.maximum(probabilities, SMALLEST))
    found = [_maximise(logits, codes, start, ambiguity, most_steps) for start in (1.0, 4.0)]
    return max(found, key=lambda fit: fit.objective)


def _maximise(
    logits: Floats, codes: Codes, sharpness: float, ambiguity: float, most_steps: int
) -> LabelNoise:
    labelled = codes >= 0
    z, g = logits[labelled], codes[labelled]
    given = np.eye(logits.shape[1])[g]
    clean = _sharpened(z, sharpness)
    posterior, objective = clean, -np.inf
    for _ in range(most_steps):
        transition = _transition(posterior.T @ given)
        sharpness = _sharper(z, clean, posterior, sharpness, ambiguity)
        clean = _sharpened(z, sharpness)
        joint = clean * transition[:, g].T
        likelihood = joint.sum(axis=1)
        posterior = joint / likelihood[:, None]
        before, objective = objective, _objective(clean, likelihood, ambiguity)
        if abs(objective - before) < 1e-7:
            break
    clean = _sharpened(logits, sharpness)
    everywhere = clean.copy()
    everywhere[labelled] = posterior
    return LabelNoise(clean, everywhere, transition, sharpness, objective)


def _sharpened(logits: Floats, sharpness: float) -> Floats:
    scaled = sharpness * logits
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    sharpened: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return sharpened


def _sharper(
    z: Floats, clean: Floats, posterior: Floats, sharpness: float, ambiguity: float
) -> float:
    """A Newton step on the cross-entropy of the posterior, less the price of ambiguity.

    The derivative of the entropy of softmax(a z) by a is -a Var(z).
    """
    mean = (clean * z).sum(axis=1)
    variance = ((clean * z**2).sum(axis=1) - mean**2).sum()
    slope = ((posterior * z).sum(axis=1) - mean).sum() + ambiguity * sharpness * variance
    return float(np.clip(sharpness + np.clip(slope / (variance + 1e-9), -0.5, 0.5), *SHARPNESS))


def _objective(clean: Floats, likelihood: Floats, ambiguity: float) -> float:
    entropy = -(clean * np.log(np.maximum(clean, 1e-12))).sum(axis=1)
    return float((np.log(likelihood) - ambiguity * entropy).mean())


def _transition(counts: Floats) -> Floats:
    """P(given | true) from soft counts `(true, given)`: rates, then the pattern of the errors."""
    right = np.diag(counts)
    wrong = np.maximum(counts.sum(axis=1) - right, 0)
    rate = np.clip(wrong.sum() / counts.sum(), 1e-3, 0.9)
    usual = np.array([rate, 1 - rate])
    rates = _shrunk(np.stack([wrong, right], axis=1), np.broadcast_to(usual, (len(counts), 2)))
    others = ~np.eye(len(counts), dtype=bool)
    errors = counts[others].reshape(len(counts), -1)
    even = np.full(errors.shape, 1 / errors.shape[1])
    transition = np.diag(rates[:, 1])
    transition[others] = (rates[:, :1] * _shrunk(errors, even)).ravel()
    return transition


def _shrunk(counts: Floats, prior: Floats) -> Floats:
    """Shares of each row's counts, drawn to the prior by the strength of most evidence.

    The evidence is that of a Dirichlet distribution of the shares, whose mean is the prior.
    """
    total = counts.sum(axis=1)

    def evidence(strength: float) -> float:
        of_cells = gammaln(strength * prior + counts) - gammaln(strength * prior)
        return float((gammaln(strength) - gammaln(strength + total) + of_cells.sum(axis=1)).sum())

    strength = max(STRENGTHS, key=evidence)
    shares: Floats = (counts + strength * prior) / (total + strength)[:, None]
    return shares
