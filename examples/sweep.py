"""Sweep step sizes and tolerances with `vmap`: one compilation for the whole grid."""

import jax
import jax.numpy as jnp
import numpy as np

from denograd_jax import Status, layouts, refiner, rules, run


def make_series(seed=0, steps=400):
    """A noisy oscillation; the model below knows how it goes on."""
    rng = np.random.default_rng(seed)
    clean = np.sin(0.3 * np.arange(steps))[:, None]
    return (clean + rng.normal(0, 0.2, clean.shape)).astype(np.float32), clean.astype(np.float32)


def predict(frequency, window):
    """z[t] = 2 cos(w) z[t-1] - z[t-2], averaged over the window so that noise does not add up."""
    steps = jnp.arange(float(window.shape[0]))
    basis = jnp.stack([jnp.cos(frequency * steps), jnp.sin(frequency * steps)], axis=1)
    amplitude = jnp.linalg.solve(basis.T @ basis, basis.T @ window)
    ahead = frequency * window.shape[0]
    return jnp.stack([jnp.cos(ahead), jnp.sin(ahead)]) @ amplitude


def main():
    noisy, clean = make_series()
    layout = layouts.windows(24, target_columns=[0])
    frequency = jnp.float32(0.3)

    def solve(step_size, tolerance):
        r = refiner(predict, rules.unit_step(step_size, tolerance), layout)
        return run(r, frequency, r.init(noisy), max_steps=50)

    sizes, tolerances = jnp.array([0.01, 0.05, 0.2]), jnp.array([0.05, 0.2])
    grid = jax.jit(jax.vmap(jax.vmap(solve, (None, 0)), (0, None)))(sizes, tolerances)
    error = jnp.sqrt(jnp.mean((grid.x - clean[None, None]) ** 2, axis=(2, 3)))
    noise = float(np.sqrt(np.mean((noisy - clean) ** 2)))
    for i, size in enumerate(sizes):
        for j, tolerance in enumerate(tolerances):
            print(
                f"step size {size:.2f}, tolerance {tolerance:.2f}: error {error[i, j]:.3f} "
                f"(noise {noise:.3f}), {grid.steps[i, j]} steps, "
                f"{Status(int(grid.status[i, j])).name}"
            )
    return {"the best setting halves the noise": float(error.min()) < 0.5 * noise}


if __name__ == "__main__":
    main()
