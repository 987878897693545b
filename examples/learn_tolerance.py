"""Gradients THROUGH the refinement: learn its tolerance on a small clean sample.

The published gate is a step, whose derivative is zero; `rules.soft_gate` rises smoothly. A fixed
number of steps in `lax.scan` can be differentiated, `run`'s `while_loop` cannot.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from denograd_jax import refiner, rules

STEPS = 30


def make_data(seed=0, rows=300):
    """A plane; every twentieth target is far off, the others are clean."""
    rng = np.random.default_rng(seed)
    w = np.array([1.0, -0.5, 0.3])
    x = rng.normal(size=(rows, 3))
    clean = x @ w + rng.normal(0, 0.4, rows)  # 0.4 is no noise: the plane does not know better
    noisy = clean + np.where(np.arange(rows) % 20 == 0, rng.choice([-2, 2], rows), 0)
    return tuple(a.astype(np.float32) for a in (w, x, noisy, clean))


def main():
    w, x, noisy, clean = make_data()

    def error(log_tolerance):
        rule = rules.unit_step(0.1, jnp.exp(log_tolerance), gate=rules.soft_gate(0.1))
        r = refiner(lambda w, x: w @ x, rule)
        begin = r.init(x, noisy, movable_x=False)
        state, _ = jax.lax.scan(lambda state, _: (r.step(w, state)[0], None), begin, length=STEPS)
        return jnp.sqrt(jnp.mean((state.data.y - clean) ** 2))

    optimizer = optax.adam(0.1)
    log_tolerance = jnp.log(0.01)  # the published default
    memory = optimizer.init(log_tolerance)
    first = error(log_tolerance)

    @jax.jit
    def learn(log_tolerance, memory):
        updates, memory = optimizer.update(jax.grad(error)(log_tolerance), memory)
        return optax.apply_updates(log_tolerance, updates), memory

    for _ in range(100):
        log_tolerance, memory = learn(log_tolerance, memory)
    last, tolerance = error(log_tolerance), float(jnp.exp(log_tolerance))
    print(f"error to the clean targets: {first:.3f} with the published tolerance of 0.01")
    print(f"                            {last:.3f} with the learnt tolerance of {tolerance:.2f}")
    return {
        "learning pays": float(last) < 0.9 * float(first),
        "the tolerance rose above what the plane cannot know": tolerance > 0.4,
    }


if __name__ == "__main__":
    main()
