"""What a converted model must do as the module does, each check as a largest relative error."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch

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
