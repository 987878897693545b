"""Recurrent layers, each direction of each layer as one scan.

A step makes one product of its input and state, kept for the backward pass, which recomputes the
rest: on XLA's CPU backend faster than projecting all inputs before the scan (docs/design.md).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from denograd_jax.bridges._registry import register_op
from denograd_jax.errors import UnsupportedError

__all__: list[str] = []

Weights: TypeAlias = Sequence[jax.Array]
Step: TypeAlias = Callable[[Weights, Any, jax.Array], Any]


@register_op("aten.lstm.input", "denograd_jax.lstm")
def lstm(
    input: jax.Array,
    hx: Sequence[jax.Array],
    params: Sequence[jax.Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[jax.Array, ...]:
    """Output and last states; gates in torch's order i, f, g, o."""
    biases = 2 if has_biases else 0
    projected = 1 if hx[0].shape[-1] != hx[1].shape[-1] else 0
    cells = _cells(params, 2 + biases + projected)
    run = functools.partial(_run, _lstm_step)
    states = list(zip(hx[0], hx[1], strict=True))
    output, last = _stack(run, cells, states, input, bidirectional, batch_first)
    h, c = (jnp.stack([state[i] for state in last]) for i in (0, 1))
    return output, h, c


def _simple(step: Step) -> Callable[..., tuple[jax.Array, ...]]:
    """The rule of a layer whose state is its output: output and last state."""

    def rule(
        input: jax.Array,
        hx: Any,
        params: Sequence[jax.Array],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[jax.Array, ...]:
        cells = _cells(params, 4 if has_biases else 2)
        run = functools.partial(_run, step)
        states = list(hx[0] if isinstance(hx, tuple) else hx)  # our opaque operations take lists
        output, last = _stack(run, cells, states, input, bidirectional, batch_first)
        return output, jnp.stack(last)

    return rule


def _cells(params: Sequence[jax.Array], size: int) -> list[Weights]:
    """Weights of each direction of each layer: of the input, of the state, biases, projection."""
    return [params[i : i + size] for i in range(0, len(params), size)]


def _stack(
    run: Any,
    cells: Sequence[Weights],
    states: Sequence[Any],
    x: jax.Array,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[jax.Array, list[Any]]:
    """Layer after layer; the directions of one see the same input, and are put side by side."""
    if x.ndim != 3:
        raise UnsupportedError(
            f"a recurrent layer needs a batch (n, W, C), not an array of shape {x.shape}."
        )
    x = jnp.swapaxes(x, 0, 1) if batch_first else x
    directions = 2 if bidirectional else 1
    last: list[Any] = []
    for first in range(0, len(cells), directions):
        outputs = []
        for i in range(directions):
            state, output = run(cells[first + i], states[first + i], x, reverse=i == 1)
            last.append(state)
            outputs.append(output)
        x = outputs[0] if directions == 1 else jnp.concatenate(outputs, axis=-1)
    return (jnp.swapaxes(x, 0, 1) if batch_first else x), last


def _run(step: Step, weights: Weights, state: Any, x: jax.Array, *, reverse: bool) -> Any:
    def body(carry: Any, x_t: jax.Array) -> tuple[Any, jax.Array]:
        carry = step(weights, carry, x_t)
        return carry, carry[0] if isinstance(carry, tuple) else carry

    keep_products = jax.checkpoint_policies.dots_saveable
    body = jax.checkpoint(body, policy=keep_products, prevent_cse=False)
    # A sum with nothing, so that under `shard_map` the state varies over the mesh as x does.
    state = jax.tree.map(lambda s: s + jnp.zeros_like(x, shape=()) * 0, state)
    return jax.lax.scan(body, state, x, reverse=reverse)


def _lstm_step(weights: Weights, state: Any, x_t: jax.Array) -> Any:
    r"""$i, f, g, o = [x_t, h] W + b$; $c' = \sigma(f) c + \sigma(i) \tanh g$."""
    h, c = state
    projection = weights[-1] if len(weights) in (3, 5) else None
    weights = weights[:-1] if projection is not None else weights
    gates = jnp.concatenate([x_t, h], -1) @ jnp.concatenate(weights[:2], axis=1).T
    for bias in weights[2:]:
        gates = gates + bias
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h if projection is None else h @ projection.T), c


def _gru_step(weights: Weights, h: jax.Array, x_t: jax.Array) -> jax.Array:
    r"""$h' = (1 - z) n + z h$, $n = \tanh(W_n x + b + r (U_n h + c))$: the state has a bias too."""
    from_x, from_h = x_t @ weights[0].T, h @ weights[1].T
    if len(weights) == 4:
        from_x, from_h = from_x + weights[2], from_h + weights[3]
    (rx, zx, nx), (rh, zh, nh) = (jnp.split(a, 3, axis=-1) for a in (from_x, from_h))
    r, z = jax.nn.sigmoid(rx + rh), jax.nn.sigmoid(zx + zh)
    return (1 - z) * jnp.tanh(nx + r * nh) + z * h


def _rnn_step(activation: Any, weights: Weights, h: jax.Array, x_t: jax.Array) -> jax.Array:
    total = jnp.concatenate([x_t, h], -1) @ jnp.concatenate(weights[:2], axis=1).T
    for bias in weights[2:]:
        total = total + bias
    found: jax.Array = activation(total)
    return found


_SIMPLE: dict[str, Step] = {
    "gru": _gru_step,
    "rnn_tanh": functools.partial(_rnn_step, jnp.tanh),
    "rnn_relu": functools.partial(_rnn_step, jax.nn.relu),
}
for _name, _step in _SIMPLE.items():
    register_op(f"aten.{_name}.input", f"denograd_jax.{_name}")(_simple(_step))
