"""RLAP: a trained network freed from what noisy instances have left in one of its layers."""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from numpy.typing import NDArray

from denograd_jax._types import Params, PredictBatch
from denograd_jax.errors import DataError, ModelError
from denograd_jax.robust import _checks
from denograd_jax.robust._attribution import (
    Features,
    Head,
    Partition,
    attribution,
    most_sensitive,
    partition,
    sensitivity,
)
from denograd_jax.robust._epochs import ObserveFit, fit_weighted, loss_of

__all__ = ["Mode", "RlapFit", "fine_tune", "prune", "rlap"]

Mode: TypeAlias = Literal["head", "all", "retrain"]
PRUNED = 0.16
"""Share of the layer's neurons."""


class RlapFit(NamedTuple):
    """A network after RLAP, and what it says of its training data.

    Attributes:
        params: Pruned and fine-tuned, or trained anew.
        p_clean: Probability that each instance is clean, `(n,)`.
        sensitivity: Of each neuron of the layer, `(m,)`.
        pruned: Which neurons were pruned, the most sensitive first.
        partition: What p_clean comes from.
    """

    params: Params
    p_clean: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    pruned: NDArray[np.intp]
    partition: Partition

    @property
    def p_noisy(self) -> NDArray[np.float64]:
        """Probability that each instance is noisy, `(n,)`."""
        return 1 - self.p_clean


def rlap(
    features: Features,
    head: Head,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    key: jax.Array,
    layer: Sequence[str | int],
    mode: Mode = "all",
    pruned: float = PRUNED,
    positive_only: bool = False,
    weighted: bool = False,
    epochs: int = 30,
    initial: Params | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 128,
    observe: ObserveFit | None = None,
) -> RlapFit:
    """Finds noisy instances by a trained network's attributions, prunes it and tunes it.

    `attribution` at one hidden layer, `partition` into clean and noisy, `sensitivity` of its
    neurons, `prune`, and `fine_tune` on the clean part. Made for noise in the inputs: attributions
    do not depend on labels, so that wrong labels show only as far as the network has learnt them.

    Args:
        features: `features(params, x)`, a batch `(n, ...)` to activations `(n, m)`. Pure.
        head: `head(params, h)`, activations to logits `(n, C)`, or numbers `(n,)` or `(n, q)`.
        params: Pytree of arrays handed to both, trained on all of x and y; it is not changed.
        x: The training instances, `(n, d)` or `(n, W, C)`, finite.
        y: Their class labels `(n,)`, integers, or numbers of the shape that the head makes.
        key: JAX random key of the shuffling.
        layer: Where in params the weights lie that lead into the hidden layer; see `prune`.
        mode: See `fine_tune`.
        pruned: Share of neurons that are pruned, from 0 to below 1; "retrain" prunes none.
        positive_only: See `most_sensitive`.
        weighted: Whether all instances train with their probability of being clean as weight,
            instead of those alone that are clean with a probability above one half.
        epochs: Of fine-tuning.
        initial: See `fine_tune`.
        optimizer: Of optax; Adam with a learning rate of 1e-3 unless given.
        batch_size: Instances per step.
        observe: Called after every epoch of fine-tuning; see `fit_weighted`.

    Returns:
        `RlapFit`.

    Raises:
        ShapeError: Arrays do not fit each other.
        DataError: Values are not finite or not to be used, or no neuron tells instances apart.
        ModelError: features, head or layer do not fit each other.
        BackboneError: Training ends in losses that are not finite.

    Source:
        RLAP, arXiv 2506.11615 (MAKE 7(3):95, 2025); written from its equations.
    """
    if not 0 <= pruned < 1:
        raise DataError(f"pruned is {pruned}; expected a share from 0 to below 1.")
    found = attribution(features, head, params, x)
    hidden, losses = _hidden_and_losses(features, head, params, x, y)
    parts = partition(found, losses)
    coefficients = sensitivity(parts.p_noisy, hidden)
    count = 0 if mode == "retrain" else round(pruned * len(coefficients))
    neurons = most_sensitive(coefficients, count, positive_only=positive_only)
    tuned = fine_tune(
        features,
        head,
        prune(params, neurons, layer, size=len(coefficients)),
        x,
        y,
        parts.p_clean if weighted else parts.p_clean > 0.5,
        key=key,
        mode=mode,
        epochs=epochs,
        initial=initial,
        optimizer=optimizer,
        batch_size=batch_size,
        observe=observe,
    )
    return RlapFit(tuned, parts.p_clean, coefficients, neurons, parts)


def prune(params: Params, neurons: ArrayLike, layer: Sequence[str | int], *, size: int) -> Params:
    """Silences neurons of a hidden layer: sets all weights that lead into them to zero.

    Args:
        params: Pytree of nested dictionaries, lists and tuples; it is not changed.
        neurons: Indices of neurons, `(k,)`.
        layer: Keys, one after the other, that lead to the layer in params: `("layers", 1)` to
            `params["layers"][1]`. In all arrays below it whose last axis is that of the neurons,
            kernels `(inputs, m)` and biases `(m,)`, the neurons' entries become 0.
        size: Number m of neurons in the layer.

    Returns:
        The new params.

    Raises:
        ModelError: There is no such layer, or none of its arrays ends in an axis of m.
        DataError: A neuron is not one of the m.

    Example:
        >>> params = {"hidden": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
        >>> prune(params, [1], ("hidden",), size=3)["hidden"]["bias"].tolist()
        [1.0, 0.0, 1.0]
    """
    index = np.asarray(neurons, np.intp)
    if index.size and (index.min() < 0 or index.max() >= size):
        raise DataError(f"neurons are {index.tolist()}; expected numbers from 0 to {size - 1}.")

    def silence(leaf: jax.Array) -> jax.Array:
        leaf = jnp.asarray(leaf)
        return leaf.at[..., index].set(0) if leaf.shape[-1:] == (size,) else leaf

    def below(tree: Any, keys: Sequence[str | int]) -> Any:
        if not keys:
            if not any(np.shape(leaf)[-1:] == (size,) for leaf in jax.tree.leaves(tree)):
                raise ModelError(f"No array of layer {tuple(layer)} has a last axis of {size}.")
            return jax.tree.map(silence, tree)
        try:
            child = below(tree[keys[0]], keys[1:])
        except (KeyError, IndexError, TypeError) as error:
            raise ModelError(
                f"params have no layer {tuple(layer)}: there is no {keys[0]!r} in "
                f"{sorted(tree, key=str) if isinstance(tree, dict) else type(tree).__name__}."
            ) from error
        return _replaced(tree, keys[0], child)

    return below(params, tuple(layer))


def fine_tune(
    features: Features,
    head: Head,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike,
    *,
    key: jax.Array,
    mode: Mode = "all",
    epochs: int = 30,
    initial: Params | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 128,
    observe: ObserveFit | None = None,
) -> Params:
    """Trains a network on, on the part of its data that is clean.

    Args:
        features: `features(params, x)`, a batch `(n, ...)` to activations `(n, m)`. Pure.
        head: `head(params, h)`, activations to logits or numbers.
        params: Pytree of arrays handed to both; it is not changed.
        x: Instances, `(n, d)` or `(n, W, C)`, finite.
        y: Class labels `(n,)`, or numbers.
        weights: Of each instance, `(n,)`: its probability of being clean, or whether it is clean.
            Instances of weight 0 are left out, so that they cost nothing.
        key: JAX random key of the shuffling.
        mode: "head" trains what lies behind the layer, with activations computed once (L-FT);
            "all" trains everything (F-FT); "retrain" everything from `initial`, the baseline.
        epochs: Passes over the instances.
        initial: Parameters to start from, for "retrain" only.
        optimizer: Of optax; Adam with a learning rate of 1e-3 unless given. With "head" it must
            leave alone what has no gradient: no weight decay.
        batch_size: Instances per step.
        observe: Called after every epoch of fine-tuning; see `fit_weighted`.

    Returns:
        The new params.

    Raises:
        ShapeError: Arrays do not fit each other.
        DataError: Values cannot be used, the mode is unknown, or `initial` is missing.
        BackboneError: Training ends in losses that are not finite.
    """
    if mode not in ("head", "all", "retrain"):
        raise DataError(f'mode is {mode!r}; expected "head", "all" or "retrain".')
    if (mode == "retrain") != (initial is not None):
        raise DataError('Give `initial` parameters with the mode "retrain", and with it alone.')
    x = _checks.instances(x, params)
    w = np.asarray(_checks.weights(weights, x))
    kept = np.flatnonzero(w)
    x, y = x[kept], np.asarray(y)[kept]
    apply = head if mode == "head" else _composed(features, head)
    inputs = jax.jit(features)(params, x) if mode == "head" else x
    fit = fit_weighted(
        apply,
        params if initial is None else initial,
        inputs,
        y,
        w[kept],
        key=key,
        epochs=epochs,
        optimizer=optimizer,
        batch_size=batch_size,
        observe=observe,
    )
    return fit.params


def _hidden_and_losses(
    features: Features, head: Head, params: Params, x: ArrayLike, y: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Activations of the layer `(n, m)`, and the loss of each instance `(n,)`."""
    x = _checks.instances(x, params)
    labelled = np.issubdtype(np.asarray(y).dtype, np.integer)
    check = _checks.labels if labelled else _checks.targets
    y = check(_composed(features, head), params, x, y)
    hidden = jax.jit(features)(params, x)
    return hidden, loss_of(jax.jit(head)(params, hidden), y)


@functools.lru_cache(maxsize=32)  # the same function object, so that it is compiled once
def _composed(features: Features, head: Head) -> PredictBatch:
    return lambda params, x: head(params, features(params, x))


def _replaced(tree: Any, key: str | int, child: Any) -> Any:
    if isinstance(tree, dict):
        return {**tree, key: child}
    items = [child if i == key else item for i, item in enumerate(tree)]
    return items if isinstance(tree, list) else tuple(items)
