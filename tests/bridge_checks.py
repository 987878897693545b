"""What a converted model must do as the module does, each check as a largest relative error.

And small modules with all that a file of a model may have to hold.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

BATCHES = (1, 3, 17)


def _far(found, expected):
    expected = np.asarray(expected)
    assert found.shape == expected.shape, f"shape {found.shape}, not {expected.shape}"
    assert found.dtype == expected.dtype, f"{found.dtype}, not {expected.dtype}"
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def _instances(shape, number, dtype):
    rng = np.random.default_rng(number)
    return rng.standard_normal((number, *shape)).astype(dtype)


def _cotangent(value):
    return (
        np.random.default_rng(7)
        .standard_normal(value.shape)
        .astype(str(value.dtype).split(".")[-1])
    )


def _batched(model):
    return model.predict_batch or jax.vmap(model.predict, in_axes=(None, 0))


def _torch_gradients(module, x):
    """Value, gradient by input and by each parameter that has one, of a random combination."""
    inputs = torch.tensor(x, requires_grad=True)
    value = module(inputs)
    weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(
        value, [inputs, *weights.values()], torch.tensor(_cotangent(value)), allow_unused=True
    )
    by_weight = {n: g.numpy() for n, g in zip(weights, grads[1:], strict=True) if g is not None}
    return value.detach().numpy(), grads[0].numpy(), by_weight


def _combined(forward, params, x, cotangent):
    return (forward(params, x) * cotangent).sum()


def forward(model, module, shape, dtype):
    """In batches of 1, 3 and 17."""
    run = jax.jit(_batched(model))
    batches = [_instances(shape, n, dtype) for n in BATCHES]
    with torch.no_grad():
        return max(_far(run(model.params, x), module(torch.tensor(x))) for x in batches)


def input_gradient(model, module, shape, dtype):
    """In batches of 1, 3 and 17."""
    worst = 0.0
    for n in BATCHES:
        x = _instances(shape, n, dtype)
        value, expected, _ = _torch_gradients(module, x)
        run = jax.jit(jax.grad(functools.partial(_combined, _batched(model)), argnums=1))
        worst = max(worst, _far(run(model.params, x, _cotangent(value)), expected))
    return worst


def weight_gradient(model, module, shape, dtype):
    x = _instances(shape, 3, dtype)
    value, _, expected = _torch_gradients(module, x)
    run = jax.jit(jax.grad(functools.partial(_combined, _batched(model))))
    found = run(jax.tree.map(jnp.asarray, model.params), x, _cotangent(value))
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    assert expected.keys() <= found.keys()
    return max(
        float(np.abs(np.asarray(found[name]) - expected[name]).max() / largest) for name in expected
    )


def vmap(model, module, shape, dtype):
    x = _instances(shape, 3, dtype)
    run = jax.jit(jax.vmap(model.predict, in_axes=(None, 0)))
    with torch.no_grad():
        return _far(run(model.params, x), module(torch.tensor(x)))


def vmap_of_gradient(model, module, shape, dtype):
    x = _instances(shape, 3, dtype)
    value, expected, _ = _torch_gradients(module, x)
    gradient = jax.grad(functools.partial(_combined, model.predict), argnums=1)
    run = jax.jit(jax.vmap(gradient, in_axes=(None, 0, 0)))
    return _far(run(model.params, x, _cotangent(value)), expected)


def jvp(model, module, shape, dtype):
    """A derivative in one direction, against the gradient in that direction."""
    x = _instances(shape, 3, dtype)
    value, gradient, _ = _torch_gradients(module, x)
    direction = np.random.default_rng(8).standard_normal(x.shape).astype(dtype)
    combined = functools.partial(_combined, _batched(model), model.params)

    @jax.jit
    def run(x, direction):
        along = functools.partial(combined, cotangent=_cotangent(value))
        return jax.jvp(along, (x,), (direction,))[1]

    expected = (gradient * direction).sum()
    scale = np.abs(gradient * direction).sum()
    return float(abs(run(x, direction) - expected) / scale)


def scan(model, module, shape, dtype):
    """Batch after batch in one loop."""
    x = np.stack([_instances(shape, 3, dtype), 2 * _instances(shape, 3, dtype)])

    @jax.jit
    def run(params, x):
        return jax.lax.scan(lambda _, batch: (None, _batched(model)(params, batch)), None, x)[1]

    with torch.no_grad():
        expected = np.stack([module(torch.tensor(batch)).numpy() for batch in x])
    return _far(run(model.params, x), expected)


CHECKS = (forward, input_gradient, weight_gradient, vmap, vmap_of_gradient, jvp, scan)


# Modules for files


class Recurrent(nn.Module):
    """With a constant, a buffer of integers and one of floats that is not saved."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)
        self.constant = torch.tensor([[1.0, -1.0]])
        self.register_buffer("columns", torch.tensor([2, 0]))
        self.register_buffer("scale", torch.tensor([2.0]), persistent=False)

    def forward(self, x):
        return (
            self.head(self.cell(x)[0][:, -1]) * self.scale + self.constant + x[:, 0, self.columns]
        )


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(3, 1, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x):
        return self.encoder(x)[:, -1]


class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 1)
        self.register_buffer("switch", torch.ones(2))

    def forward(self, x):
        h = self.first(x)
        h = torch.cond(self.switch.sum() > 1, lambda h: h.tanh(), lambda h: h.relu(), (h,))
        return self.second(h)


class InPlace(nn.Module):
    def forward(self, x):
        y = x * 2
        y[:, 0].mul_(3.0)
        y.add_(1.0).clamp_(min=-1.0)
        return y * x


def mlp():
    return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.BatchNorm1d(4), nn.Linear(4, 2))


MODULES = {
    "mlp": (mlp, (3,)),
    "lstm": (Recurrent, (5, 3)),
    "transformer": (Attention, (5, 3)),
    "cond": (Conditional, (3,)),
    "in place": (InPlace, (3,)),
}


def made(name):
    """The module in evaluation mode, always with the same weights, and four instances."""
    torch.manual_seed(0)
    make, shape = MODULES[name]
    x = np.random.default_rng(0).standard_normal((4, *shape), np.float32)
    return make().eval(), x


class Bomb:
    """Where it is unpickled, it leaves a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))
