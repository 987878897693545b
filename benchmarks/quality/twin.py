"""A backbone of ours in PyTorch, with the same weights; the package's process imports this file."""

import torch
from torch import nn


class Twin(nn.Module):
    """A perceptron with SiLU on flattened inputs, and a linear map of them if there is one.

    Args:
        params: As NumPy arrays: `network` and `linear`, or only what would be in `network`.
        outputs: Which predictions are kept.
    """

    def __init__(self, params, outputs):
        super().__init__()
        network = params.get("network", params)
        layers = [nn.Flatten()]
        for index in sorted(network["layers"]):
            layers += [copied(network["layers"][index]), nn.SiLU()]
        self.network = nn.Sequential(*layers, copied(network["head"], outputs))
        self.linear = copied(params["linear"], outputs) if "linear" in params else None

    def forward(self, x):
        """`(n, ...)` to `(n, len(outputs))`."""
        found = self.network(x)
        return found if self.linear is None else found + self.linear(x.flatten(1))


def copied(dense, outputs=slice(None)):
    """A linear layer with the weights of one of Flax."""
    kernel, bias = dense["kernel"][:, outputs], dense["bias"][outputs]
    layer = nn.Linear(*kernel.shape)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(kernel.T))
        layer.bias.copy_(torch.tensor(bias))
    return layer
