"""The layers of backbones against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf, expit, softmax

from denograd_jax.backbones import as_pure, build
from denograd_jax.backbones._attention import LayerNorm, SelfAttention, positional_encoding
from denograd_jax.backbones._feedforward import Convolution, moving_average
from denograd_jax.backbones._recurrent import GRULayer, LSTMLayer, Recurrent
from denograd_jax.backbones._xlstm import MLSTMBlock, SLSTMBlock, _read_memory


def parameters(module):
    """The arrays of a module by attribute name, as NumPy."""
    return jax.tree.map(np.asarray, as_pure(module).params)


def random(make, rng):
    """The module that `make` makes, none of its weights zero or one; in float64."""
    module = nnx.eval_shape(make)
    state = nnx.state(module, nnx.Param)
    nnx.update(module, jax.tree.map(lambda a: jnp.asarray(0.4 * rng.normal(size=a.shape)), state))
    return module


def run(module, x):
    return jax.jit(lambda x: module(x))(jnp.asarray(x))


def lstm_by_steps(p, x):
    h = c = np.zeros((x.shape[1], p["bias"].size // 4))
    outputs = []
    for step in x:
        i, f, g, o = np.split(np.hstack([step, h]) @ p["weight"] + p["bias"], 4, axis=1)
        c = expit(f) * c + expit(i) * np.tanh(g)
        h = expit(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def gru_by_steps(p, x):
    h = np.zeros((x.shape[1], p["input_bias"].size // 3))
    outputs = []
    for step in x:
        rx, zx, nx = np.split(step @ p["input_weight"] + p["input_bias"], 3, axis=1)
        rh, zh, nh = np.split(h @ p["hidden_weight"] + p["hidden_bias"], 3, axis=1)
        z = expit(zx + zh)
        h = (1 - z) * np.tanh(nx + expit(rx + rh) * nh) + z * h
        outputs.append(h)
    return np.stack(outputs)


CELLS = {LSTMLayer: lstm_by_steps, GRULayer: gru_by_steps}


def normalised(x):
    """Over the last axis."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


class TestLayersAgainstNumPy:
    """The equations of the docstrings, step by step; gate order as in torch.nn.LSTM and GRU."""

    @pytest.mark.parametrize("layer", CELLS)
    def test_recurrent_layers(self, rng, layer):
        layer, x = layer(3, 4, rngs=nnx.Rngs(0)), rng.normal(size=(6, 2, 3)).astype(np.float32)
        expected = CELLS[type(layer)](parameters(layer), x)
        np.testing.assert_allclose(layer(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("summary", ["last_state", "last_step"])
    @pytest.mark.parametrize("layer", CELLS)
    def test_two_directions_are_two_passes(self, x64, rng, layer, summary):
        settings = {"units": 4, "layers": 2, "bidirectional": True, "summary": summary}
        module = random(lambda: Recurrent(layer, (6, 3), 2, **settings, rngs=nnx.Rngs(0)), rng)
        p, x = parameters(module), rng.normal(size=(2, 6, 3))
        by_steps, between = CELLS[layer], x.swapaxes(0, 1)
        for first in (0, 2):
            forward = by_steps(p["layers"][first], between)
            backward = by_steps(p["layers"][first + 1], between[::-1])[::-1]
            between = np.concatenate([forward, backward], axis=2)
        ends = backward[0 if summary == "last_state" else -1]
        expected = np.hstack([forward[-1], ends]) @ p["head"]["kernel"] + p["head"]["bias"]
        np.testing.assert_allclose(run(module, x), expected, rtol=1e-10)

    @pytest.mark.parametrize("size", [1, 3, 4])
    def test_convolution(self, rng, size):
        layer, x = Convolution(3, 2, size, rngs=nnx.Rngs(0)), rng.normal(size=(1, 8, 3))
        kernel = parameters(layer)["kernel"]["kernel"].reshape(size, 3, 2)
        before = (size - 1) // 2
        padded = np.pad(x[0], ((before, size - 1 - before), (0, 0)))
        expected = [
            sum(np.correlate(padded[:, i], kernel[:, i, o]) for i in range(3)) for o in range(2)
        ]
        np.testing.assert_allclose(
            layer(jnp.asarray(x, jnp.float32))[0], np.transpose(expected), rtol=1e-5, atol=1e-6
        )

    @pytest.mark.parametrize("size", [1, 4, 5, 25])
    def test_moving_average(self, x64, rng, size):
        x = rng.normal(size=(2, 9, 3))
        before = (size - 1) // 2
        for window, averaged in zip(x, moving_average(jnp.asarray(x), size), strict=True):
            padded = np.pad(window, ((before, size - 1 - before), (0, 0)), mode="edge")
            for channel in range(3):
                expected = np.convolve(padded[:, channel], np.full(size, 1 / size), "valid")
                np.testing.assert_allclose(averaged[:, channel], expected, rtol=1e-10)

    def test_attention(self, rng):
        layer, x = SelfAttention(6, 2, rngs=nnx.Rngs(0)), rng.normal(size=(1, 5, 6))
        p = parameters(layer)
        query, key, value = np.split(x[0] @ p["project_in"]["kernel"], 3, axis=1)
        heads = [
            softmax(query[:, h] @ key[:, h].T / np.sqrt(3), axis=1) @ value[:, h]
            for h in (slice(0, 3), slice(3, 6))
        ]
        expected = np.hstack(heads) @ p["project_out"]["kernel"]
        output = layer(jnp.asarray(x, jnp.float32))[0]
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)

    def test_layer_norm(self, x64, rng):
        x = 5 + 2 * rng.normal(size=(2, 4, 6))
        expected = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5)
        model = as_pure(LayerNorm(6))
        params = {"scale": jnp.full(6, 3.0), "bias": jnp.full(6, 0.5)}
        output = model.predict_batch(params, jnp.asarray(x))
        np.testing.assert_allclose(output, 3 * expected + 0.5, rtol=1e-10)

    @pytest.mark.parametrize("width", [6, 7])
    def test_positional_encoding(self, x64, width):
        encoding = positional_encoding(4, width, jnp.float64)
        for t in range(4):
            for k in range(width):
                angle = t / 10_000 ** (2 * (k // 2) / width)
                expected = np.cos(angle) if k % 2 else np.sin(angle)
                np.testing.assert_allclose(encoding[t, k], expected, rtol=1e-12)

    def test_dlinear_with_maps_shared_by_channels(self, x64, rng):
        options = {"kernel_size": 3, "shared_channels": True, "outputs": 6}
        module = random(
            lambda: build("dlinear", input_shape=(7, 3), rngs=nnx.Rngs(0), **options), rng
        )
        p, x = parameters(module), rng.normal(size=(4, 7, 3))
        for window, found in zip(x, run(module, x), strict=True):
            for channel in range(3):
                series = window[:, channel]
                trend = np.convolve(np.pad(series, 1, mode="edge"), np.full(3, 1 / 3), "valid")
                parts = {"trend": trend, "remainder": series - trend}
                steps = sum(a @ p[n]["kernel"] + p[n]["bias"] for n, a in parts.items())
                np.testing.assert_allclose(found.reshape(2, 3)[:, channel], steps, rtol=1e-10)

    def test_feature_transformer(self, x64, rng):
        sizes = {"width": 6, "heads": 2, "layers": 2, "hidden": 5}
        given = {"input_shape": (4,), "outputs": 2} | sizes
        module = random(lambda: build("ft_transformer", rngs=nnx.Rngs(0), **given), rng)
        p, x = parameters(module), rng.normal(size=(3, 4))

        def linear(p, x):
            return x @ p["kernel"] + p["bias"]

        def norm(p, x):
            return normalised(x) * p["scale"] + p["bias"]

        def attend(p, x):
            query, key, value = np.split(linear(p["project_in"], x), 3, axis=1)
            heads = [
                softmax(query[:, h] @ key[:, h].T / np.sqrt(3), axis=1) @ value[:, h]
                for h in (slice(0, 3), slice(3, 6))
            ]
            return linear(p["project_out"], np.hstack(heads))

        for row, found in zip(x, run(module, x), strict=True):
            tokens = [p["summary"], *(row[:, None] * p["token_weight"] + p["token_bias"])]
            tokens = np.stack(tokens)
            for i in range(2):
                layer = p["layers"][i]
                first = tokens if i == 0 else norm(layer["attention_norm"], tokens)
                tokens = tokens + attend(layer["attention"], first)
                wide = linear(layer["widen"], norm(layer["perceptron_norm"], tokens))
                gated = wide[:, :5] * np.maximum(wide[:, 5:], 0)
                tokens = tokens + linear(layer["narrow"], gated)
            expected = linear(p["head"], np.maximum(norm(p["norm"], tokens[0]), 0))
            np.testing.assert_allclose(found, expected, rtol=1e-10)


def silu(x):
    return x * expit(x)


def causal(p, x):
    """A convolution of each feature of `(W, width)` with the steps up to now."""
    size = len(p["kernel"])
    padded = np.vstack([np.zeros((size - 1, x.shape[1])), x])
    sums = [(padded[t : t + size] * p["kernel"]).sum(axis=0) for t in range(len(x))]
    return np.stack(sums) + p["bias"]


def within_parts(p, x):
    kernel = p["kernel"]
    parts = np.split(x, len(kernel), axis=-1)
    return np.concatenate([a @ k.T for a, k in zip(parts, kernel, strict=True)], axis=-1)


def scaled(p, x, heads=1):
    by_head = [normalised(a) for a in np.split(x, heads, axis=-1)]
    return np.concatenate(by_head, axis=-1) * (1 + p["scale"])


def read_by_steps(query, key, value, into, forget):
    """The matrix memory of one head, step by step and without a stabiliser; `(W, depth)` each.

    But for the layer's guard against division by zero, which is added to stabilised numbers.
    """
    depth = query.shape[1]
    memory, size, largest, outputs = np.zeros((depth, depth)), np.zeros(depth), -np.inf, []
    for q, k, v, i, f in zip(query, key / np.sqrt(depth), value, into, forget, strict=True):
        memory = expit(f) * memory + np.exp(i) * np.outer(v, k)
        size = expit(f) * size + np.exp(i) * k
        largest = max(np.log(expit(f)) + largest, i)
        outputs.append(memory @ q / (max(abs(size @ q), 1) + 1e-6 * np.exp(largest)))
    return np.stack(outputs)


class TestExtendedLSTMAgainstNumPy:
    """Beck et al. 2024, section 2, and its blocks in appendix A."""

    @pytest.mark.parametrize("spread", [1, 8])
    def test_the_parallel_memory_is_the_recurrent_one(self, x64, rng, spread):
        query, key, value = rng.normal(size=(3, 2, 3, 9, 4))
        into, forget = spread * rng.normal(size=(2, 2, 3, 9))
        found = jax.jit(_read_memory)(query, key, value, into, forget)
        for n in range(2):
            for head in range(3):
                one = (a[n, head] for a in (query, key, value, into, forget))
                np.testing.assert_allclose(found[n, head], read_by_steps(*one), rtol=1e-8)

    def test_large_gates_do_not_overflow(self, rng):
        """Gates whose exponential is beyond float32, within float64."""
        query, key, value = rng.normal(size=(3, 9, 4))
        into, forget = 200 + 50 * rng.normal(size=9), 50 * rng.normal(size=9)
        expected = read_by_steps(query, key, value, into, forget)
        one = (np.float32(a)[None, None] for a in (query, key, value, into, forget))
        found = jax.jit(_read_memory)(*one)[0, 0]
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)

    def test_block_of_matrix_memories(self, x64, rng):
        block = random(lambda: MLSTMBlock(8, 2, inner=12, projection_size=3, rngs=nnx.Rngs(0)), rng)
        p, x = parameters(block), rng.normal(size=(2, 7, 8))
        for window, found in zip(x, run(block, x), strict=True):
            projected = scaled(p["norm"], window) @ p["project_in"]["kernel"]
            inner, gate = np.split(projected, 2, axis=1)
            convolved = silu(causal(p["convolution"], inner))
            query, key, value = (
                within_parts(p[name], seen)
                for name, seen in (("query", convolved), ("key", convolved), ("value", inner))
            )
            together = np.hstack([query, key, value])
            into, forget = (
                together @ p[name]["kernel"] + p[name]["bias"]
                for name in ("input_gate", "forget_gate")
            )
            heads = [
                read_by_steps(*(a[:, h] for a in (query, key, value)), into[:, i], forget[:, i])
                for i, h in enumerate((slice(0, 6), slice(6, 12)))
            ]
            read = scaled(p["cell_norm"], np.hstack(heads), 2) + p["skip"] * convolved
            expected = window + (read * silu(gate)) @ p["project_out"]["kernel"]
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)

    @pytest.mark.parametrize("spread", [1, 8])
    def test_block_of_scalar_memories(self, x64, rng, spread):
        """The exponential gates as they are, without a stabiliser."""
        block = random(lambda: SLSTMBlock(8, 2, hidden=5, rngs=nnx.Rngs(0)), rng)
        nnx.update(block, {"bias": spread * block.bias[...]})
        p, x = parameters(block), rng.normal(size=(2, 7, 8))
        memories = run(block._memories, x)
        for window, remembered, found in zip(x, memories, run(block, x), strict=True):
            np.testing.assert_allclose(remembered, scalar_memories(p, window), rtol=1e-9)
            hidden = scalar_memories(p, scaled(p["norm"], window))
            after = window + scaled(p["cell_norm"], hidden, 2)
            wide = scaled(p["perceptron_norm"], after) @ p["widen"]["kernel"]
            gate, value = np.split(wide, 2, axis=1)
            gelu = gate * (1 + erf(gate / np.sqrt(2))) / 2
            expected = after + (gelu * value) @ p["narrow"]["kernel"]
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)

    @pytest.mark.parametrize("kind", [MLSTMBlock, SLSTMBlock])
    def test_blocks_look_back_only(self, x64, rng, kind):
        block = random(lambda: kind(8, 2, rngs=nnx.Rngs(0)), rng)
        x = rng.normal(size=(2, 7, 8))
        other = np.concatenate([x[:, :4], rng.normal(size=(2, 3, 8))], axis=1)
        before, after = np.split(run(block, np.concatenate([x, other])), 2)
        np.testing.assert_allclose(after[:, :4], before[:, :4], rtol=1e-12)
        assert (np.abs(after[:, 4:] - before[:, 4:]).max(axis=(0, 2)) > 1e-3).all()


def scalar_memories(p, x):
    """Hidden states `(W, 8)` of two heads; `x` is what the memories see."""
    convolved = silu(causal(p["convolution"], x))
    seen = (convolved, convolved, x, x)
    from_x = [within_parts(p["gates"][i], a) for i, a in enumerate(seen)]
    h, c, n, outputs = np.zeros(8), np.zeros(8), np.zeros(8), []
    for t in range(len(x)):
        i, f, z, o = (
            from_x[gate][t]
            + np.hstack([h[4 * k : 4 * k + 4] @ p["recurrent"][k, gate].T for k in (0, 1)])
            + p["bias"][gate].ravel()
            for gate in range(4)
        )
        c = expit(f) * c + np.exp(i) * np.tanh(z)
        n = expit(f) * n + np.exp(i)
        h = expit(o) * c / n
        outputs.append(h)
    return np.stack(outputs)
