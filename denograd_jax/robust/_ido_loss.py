"""The loss of IDO's second stage: what clean, hard and noisy instances are trained to."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from denograd_jax.errors import ShapeError
from denograd_jax.robust._beta_mixture import BetaMixture

__all__ = ["SampleWeights", "ido_loss", "sample_weights"]


class SampleWeights(NamedTuple):
    """How much each term of the loss counts for each instance; no gradient passes through them.

    Attributes:
        clean: p1, of learning its label, `(n,)`.
        hard: p1 F1 + (1 - p2) (1 - F2), of consistency between its views, `(n,)`.
        noisy: 1 - p1, of being certain of something whatever the label, `(n,)`.
    """

    clean: jax.Array
    hard: jax.Array
    noisy: jax.Array


def sample_weights(
    mixture: BetaMixture, u: ArrayLike, groups: ArrayLike | None = None
) -> SampleWeights:
    """The weights that follow from how often instances were wrong.

    Args:
        mixture: Fitted to u.
        u: Wrong events in the range from 0 to 1, `(n,)`; see `unit_range`.
        groups: Of the mixture, where it has any, `(n,)`.

    Source:
        IDO, arXiv 2505.00812. p1 and p2 are the posteriors of the clean and of the noisy component,
        F1 and F2 their distribution functions at u.
    """
    p1, p2 = mixture.posterior(u, groups).T
    F1, F2 = mixture.cdf(u, groups).T
    return SampleWeights(p1, p1 * F1 + (1 - p2) * (1 - F2), 1 - p1)


def ido_loss(
    weak: jax.Array, strong: jax.Array, labels: jax.Array, weights: SampleWeights
) -> jax.Array:
    r"""The loss of each instance, from the logits of a weak and a strong view of it.

    .. math:: p_1 \left( \mathrm{CE}(z_w, \bar y) + \mathrm{CE}(z_s, \bar y) \right)
       + \left[ p_1 F_1 + (1 - p_2)(1 - F_2) \right] \frac{\| z_w - z_s \|^2}{C}
       + (1 - p_1) \max_c \bar p_c \, H(\bar p)

    with the mean :math:`\bar p` of the two softmaxes and its entropy H. Gradients pass through the
    logits alone: neither through the weights nor through :math:`\max_c \bar p_c`, which says how
    sure the model is.

    Args:
        weak: Logits of the weak view, `(n, C)`.
        strong: Logits of the strong view, `(n, C)`.
        labels: As given, noisy, `(n,)` integers.
        weights: Of `sample_weights`, each `(n,)`.

    Returns:
        `(n,)`.

    Raises:
        ShapeError: Shapes do not fit each other.

    Source:
        IDO, arXiv 2505.00812.
    """
    if weak.ndim != 2 or weak.shape != strong.shape or labels.shape != weak.shape[:1]:
        raise ShapeError(
            f"Logits have shapes {weak.shape} and {strong.shape}, labels {labels.shape}; expected "
            "(n, C), (n, C) and (n,)."
        )
    p1, hard, noisy = jax.lax.stop_gradient(weights)
    cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
    supervised = cross_entropy(weak, labels) + cross_entropy(strong, labels)
    consistency = jnp.square(weak - strong).mean(axis=1)
    # In logarithms: a probability that underflows has an entropy of 0, but not its derivative.
    log_p = jnp.logaddexp(jax.nn.log_softmax(weak), jax.nn.log_softmax(strong)) - jnp.log(2.0)
    p = jnp.exp(log_p)
    entropy = -(p * log_p).sum(axis=1)
    confidence = jax.lax.stop_gradient(p.max(axis=1))
    return p1 * supervised + hard * consistency + noisy * confidence * entropy
