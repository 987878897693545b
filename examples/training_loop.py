"""Refine inside your own training loop: a model step and a data step, in one jitted function.

The model learns from data that is being repaired by the model. The data step is small, so that
the model is never sure of what it has made up itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from denograd_jax import refiner, rules


def make_data(seed=0, rows=400):
    """A curve with noise on both axes."""
    rng = np.random.default_rng(seed)
    clean_x = rng.uniform(-2, 2, (rows, 1))
    clean_y = np.sin(2 * clean_x[:, 0])
    x, y = clean_x + rng.normal(0, 0.1, clean_x.shape), clean_y + rng.normal(0, 0.2, rows)
    return tuple(a.astype(np.float32) for a in (x, y, clean_x, clean_y))


def predict(params, x):
    hidden = jnp.tanh(params["w1"] @ x + params["b1"])
    return params["w2"] @ hidden


def mean_loss(params, data):
    residual = jax.vmap(predict, (None, 0))(params, data.x) - data.y
    return jnp.mean(residual**2)


def main():
    x, y, _, clean_y = make_data()
    r = refiner(predict, rule=rules.gauss_newton(step_size=0.002))
    optimizer = optax.adam(0.02)
    keys = jax.random.split(jax.random.key(0), 2)
    params = {
        "w1": 2 * jax.random.normal(keys[0], (32, 1)),
        "b1": jnp.zeros(32),
        "w2": 0.2 * jax.random.normal(keys[1], (32,)),
    }

    @jax.jit
    def train(params, memory, state):
        def both_steps(carry, _):
            params, memory, state = carry
            updates, memory = optimizer.update(jax.grad(mean_loss)(params, state.data), memory)
            params = optax.apply_updates(params, updates)
            state, info = r.step(params, state)
            return (params, memory, state), info.active

        return jax.lax.scan(both_steps, (params, memory, state), length=400)

    (params, _, state), active = train(params, optimizer.init(params), r.init(x, y))
    before = float(np.sqrt(np.mean((y - clean_y) ** 2)))
    after = float(np.sqrt(np.mean((state.data.y - clean_y) ** 2)))
    print(f"rows moved in the first and the last step: {active[0]}, {active[-1]}")
    print(f"error of y to the clean curve: {before:.3f} before, {after:.3f} after")
    return {"nearer to the clean curve": after < 0.8 * before}


if __name__ == "__main__":
    main()
