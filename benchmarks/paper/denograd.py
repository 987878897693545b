"""DenoGrad: the published rule at its published settings, the later rules, and our default.

The first three share a backbone, trained as in the study: dense for rows, an LSTM for windows of
24 steps; the published rule is tried with the study's other one for rows too, an FT-Transformer.
They see standardised columns and move every one of them. Our default gets the data in their own
units, as a user would hand them over.
"""

from functools import lru_cache

import numpy as np

from . import examples, networks
from .copies import Copy
from .data import WINDOW

PUBLISHED = {"nrr": 0.05, "nr_threshold": 0.01, "max_epochs": 100}
HALF_WAY = {"nrr": 0.5, "nr_threshold": 0.01, "max_epochs": 100}
"""Of the Gauss-Newton step of releases 1.2 and 2.0."""
GLOBAL = {"ts_strategy": "global", "max_epochs": 300}
"""Of the global refinement of release 2.0; the rest are our defaults, which are its own."""
USUAL = {"rows": "dnn", "series": "lstm"}
"""Backbones by kind of data."""


@lru_cache(maxsize=1)
def backbone(copy: Copy, name: str):
    """The model that the rules trust, trained on the noisy rows."""
    data = copy.data
    x, y, training = examples.learnt(data, copy.learnt)
    module = networks.build(name, x.shape[1:], copy.seed)
    return networks.trained(module, x, y[:, None], training, copy.seed)


def unit_step(copy: Copy):
    """The published rule."""
    return by(copy, **PUBLISHED)


def unit_step_with_attention(copy: Copy):
    """The published rule with an FT-Transformer for rows."""
    return by(copy, "ft_transformer", **PUBLISHED)


def gauss_newton(copy: Copy):
    """The rule of release 1.2, and of 2.0 for rows."""
    choice = {"eta_x": 1.0} if copy.data.kind == "rows" else {"ts_strategy": "window"}
    return by(copy, **HALF_WAY, **choice)


def whole_series(copy: Copy):
    """The global refinement of a series of release 2.0, at its defaults."""
    return by(copy, **GLOBAL)


def by(copy: Copy, network: str | None = None, **settings):
    """`DenoGrad.transform` with these settings, as a function of a frame."""
    from denograd_jax import DenoGrad

    data = copy.data
    denoiser = DenoGrad(backbone(copy, network or USUAL[data.kind]), "squared_error")
    at = list(copy.learnt.columns).index(data.target)

    def refine(frame):
        values = data.scaled(frame).astype(np.float32)
        if data.kind == "rows":
            denoiser.fit(np.delete(values, at, axis=1), values[:, at])
        else:
            denoiser.fit(values, is_ts=True, window_size=WINDOW, target_cols=[at])
        x, y, *_ = denoiser.transform(**settings, save_gradients=False)
        y = np.reshape(y, -1)
        if data.kind == "rows":
            return data.unscaled(np.insert(x, at, y, axis=1))
        refined = np.array(x)
        refined[:, at] = y
        return data.unscaled(refined)

    return refine


def auto(copy: Copy):
    """What `refine` does unless told otherwise: it finds the noise by itself."""
    from denograd_jax import fit

    data = copy.data
    series = data.kind == "series"
    target, window = (None, WINDOW) if series else (data.target, None)
    fitted = fit(copy.learnt, target, window=window, seed=copy.seed)
    return lambda frame: fitted.refine(frame, rule="auto").data
