"""ATen, PyTorch's library of operations, in JAX: one rule per operation, by its schema.

The arguments of a rule are named as in the schema, since exported graphs pass some by name. Where
a function has a kink, the sub-gradient is torch's: standardised and one-hot data sit exactly there.
Importing this package registers the rules; it does not import torch.
"""

from denograd_jax.bridges.aten import (
    _activations,
    _creation,
    _elementwise,
    _fourier,
    _indexing,
    _normalisation,
    _pooling,
    _products,
    _recurrent,
    _reductions,
    _shapes,
    _symbolic,
)

__all__ = [
    "_activations",
    "_creation",
    "_elementwise",
    "_fourier",
    "_indexing",
    "_normalisation",
    "_pooling",
    "_products",
    "_recurrent",
    "_reductions",
    "_shapes",
    "_symbolic",
]
