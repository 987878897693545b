"""Recurrent layers, each direction of each layer as one scan of a backbone's step."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from denograd_jax.backbones._cells import Step, gru_step, lstm_step, rnn_step, scan_steps
from denograd_jax.bridges._registry import register_op
from denograd_jax.errors import UnsupportedError

__all__: list[str] = []

Weights: TypeAlias = Sequence[jax.Array]
StepOf: TypeAlias = Callable[[Weights], Step]
Scan: TypeAlias = Callable[..., Any]
"""`scan_steps` of a layer's direction, called on the state and the sequence."""


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
    states = list(zip(hx[0], hx[1], strict=True))
    output, last = _stack(list(map(_lstm, cells)), states, input, bidirectional, batch_first)
    h, c = (jnp.stack([state[i] for state in last]) for i in (0, 1))
    return output, h, c


def _simple(step_of: StepOf) -> Callable[..., tuple[jax.Array, ...]]:
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
        states = list(hx[0] if isinstance(hx, tuple) else hx)  # our opaque operations take lists
        scans = [functools.partial(scan_steps, step_of(cell)) for cell in cells]
        output, last = _stack(scans, states, input, bidirectional, batch_first)
        return output, jnp.stack(last)

    return rule


def _cells(params: Sequence[jax.Array], size: int) -> list[Weights]:
    """Weights of each direction of each layer: of the input, of the state, biases, projection."""
    return [params[i : i + size] for i in range(0, len(params), size)]


def _stack(
    scans: Sequence[Scan],
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
    for first in range(0, len(scans), directions):
        outputs = []
        for i in range(directions):
            state, output = scans[first + i](states[first + i], x, reverse=i == 1)
            last.append(state)
            outputs.append(output)
        x = outputs[0] if directions == 1 else jnp.concatenate(outputs, axis=-1)
    return (jnp.swapaxes(x, 0, 1) if batch_first else x), last


def _lstm(weights: Weights) -> Scan:
    """A projection of the output, if there is one, is the last weight."""
    projection = weights[-1] if len(weights) in (3, 5) else None
    joint = _joint(weights if projection is None else weights[:-1])
    step = functools.partial(lstm_step, *joint)

    def projected(state: Any, x_t: jax.Array) -> Any:
        h, c = step(state, x_t)
        return h @ projection.T, c  # type: ignore[union-attr]  # only called with one

    step_with_output = step if projection is None else projected
    return functools.partial(scan_steps, step_with_output, keep_products=True)


def _gru_step(weights: Weights) -> Step:
    from_x, from_h, *biases = weights
    bias_x, bias_h = biases or (jnp.zeros_like(from_x[:, 0]),) * 2
    return functools.partial(gru_step, from_x.T, bias_x, from_h.T, bias_h)


def _rnn_step(activation: Any, weights: Weights) -> Step:
    return functools.partial(rnn_step, activation, *_joint(weights))


def _joint(weights: Weights) -> tuple[jax.Array, jax.Array]:
    """One matrix for input and state together, and one bias."""
    from_x, from_h, *biases = weights
    bias = sum(biases[1:], biases[0]) if biases else jnp.zeros_like(from_x[:, 0])
    return jnp.concatenate([from_x, from_h], axis=1).T, bias


_SIMPLE: dict[str, StepOf] = {
    "gru": _gru_step,
    "rnn_tanh": functools.partial(_rnn_step, jnp.tanh),
    "rnn_relu": functools.partial(_rnn_step, jax.nn.relu),
}
for _name, _step_of in _SIMPLE.items():
    register_op(f"aten.{_name}.input", f"denograd_jax.{_name}")(_simple(_step_of))
