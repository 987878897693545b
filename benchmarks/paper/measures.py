"""A refined copy against the noisy copy (the authors') and against the clean data (ours)."""

import numpy as np

from .copies import Copy
from .methods import Refined

VERSION = "1"
"""Part of the key of the cells of distances: change it when a measure changes."""

BINS = 50


def distances(copy: Copy, refined: Refined) -> dict[str, float]:
    """All of them, on standardised columns.

    Ours look at the rows that downstream models are trained on, the authors' at all rows.
    """
    import jax

    from denograd_jax import metrics

    data, key = copy.data, jax.random.key(0)
    clean, noisy, ours = map(data.scaled, (data.learnt, copy.learnt, refined.learnt))
    found = {
        "SWD to clean": metrics.sliced_wasserstein(clean, ours, key=key),
        "correlation distance": metrics.correlation_distance(clean, ours),
        "move": float(np.sqrt(np.mean((ours - noisy) ** 2))),
    }
    if copy.kind.sigma > 0:
        found["error ratio to clean"] = metrics.error_ratio(ours, noisy, clean)
    before, after = (
        np.concatenate([data.scaled(part) for part in parts])
        for parts in ((copy.learnt, copy.test), refined)
    )
    return found | {
        "SWD to noisy": metrics.sliced_wasserstein(before, after, key=key),
        "rho": metrics.correlation_consistency(before, after),
        "KL": divergence(before, after),
    }


def divergence(before, after, bins: int = BINS) -> float:
    """Mean over columns of KL(before || after), by histograms with common edges.

    Each count is raised by one half (Jeffreys), so that an empty bin is not infinitely far.
    """
    found = []
    for x, y in zip(np.transpose(before), np.transpose(after), strict=True):
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        p, q = (np.histogram(v, edges)[0] + 0.5 for v in (x, y))
        p, q = p / p.sum(), q / q.sum()
        found.append(np.sum(p * np.log(p / q)))
    return float(np.mean(found))


def improvement(before, after):
    """Imp%: by how many percent of itself a mean square error fell."""
    return 100 * (before - after) / before
