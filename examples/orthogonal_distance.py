"""Orthogonal distance regression: the fit of a curve with errors in both variables.

ODRPACK minimises the weighted distance of all points to the curve over its parameters and over the
points' true places together. Here the second part is `rules.orthogonal_distance`, and the first is
a Gauss-Newton step on the residuals that it leaves, in turn.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from denograd_jax import refiner, rules, run

SIGMA_X, SIGMA_Y = 0.2, 0.2
TRUE = np.array([2.0, 0.8])


def predict(params, x):
    return params[0] * jnp.exp(-params[1] * x[0])


def make_data(rows=60):
    rng = np.random.default_rng(0)
    x = np.linspace(0, 5, rows)
    y = TRUE[0] * np.exp(-TRUE[1] * x)
    return x + rng.normal(0, SIGMA_X, rows), y + rng.normal(0, SIGMA_Y, rows)


def points(params, state):
    """The most likely place of each point, given the curve."""
    r = refiner(predict, rules.orthogonal_distance())
    return run(r, params, state, max_steps=8)


def fit(x, y, params, iterations=20):
    """Parameters and points of least weighted distance."""
    r = refiner(predict, rules.orthogonal_distance())
    state = r.init(x[:, None], y, noise_x=SIGMA_X, noise_y=SIGMA_Y)
    for _ in range(iterations):
        place = points(params, state).x
        value, slope = jax.vmap(jax.value_and_grad(predict, argnums=1), (None, 0))(params, place)
        # The residual at the observed x of the curve's tangent there, by its standard deviation
        residual = y - value - slope[:, 0] * (x - place[:, 0])
        sigma = jnp.sqrt(SIGMA_Y**2 + (slope[:, 0] * SIGMA_X) ** 2)
        jacobian = jax.vmap(jax.grad(predict), (None, 0))(params, place)
        step = jnp.linalg.lstsq(jacobian / sigma[:, None], residual / sigma)[0]
        params = params + step
    return params, points(params, state)


def least_distance(x, y, params):
    """The same by a general solver: parameters and places of all points at once."""

    def distances(unknown):
        params, place = unknown[:2], unknown[2:]
        on_curve = params[0] * np.exp(-params[1] * place)
        return np.concatenate([(place - x) / SIGMA_X, (on_curve - y) / SIGMA_Y])

    return least_squares(distances, np.concatenate([params, x])).x[:2]


def main():
    x, y = (a.astype(np.float32) for a in make_data())
    params, solution = fit(x, y, jnp.array([1.0, 0.5]))
    distance = ((solution.x[:, 0] - x) / SIGMA_X) ** 2 + ((solution.y - y) / SIGMA_Y) ** 2
    print(f"parameters {params[0]:.3f}, {params[1]:.3f} (true: {TRUE[0]}, {TRUE[1]})")
    print(f"sum of squared weighted distances: {distance.sum():.3f} of {len(x)} points")
    off = float(jnp.abs(jax.vmap(predict, (None, 0))(params, solution.x) - solution.y).max())
    general = least_distance(x, y, [1.0, 0.5])
    print(f"a general solver: {general[0]:.3f}, {general[1]:.3f}")
    return {
        "a general solver finds the same": bool(np.all(abs(params - general) < 2e-3)),
        "the parameters are near the true ones": bool(np.all(abs(params - TRUE) < 0.3)),
        "the points lie on the curve": off < 1e-3,
        "as far as noise explains": 0.5 < float(distance.sum()) / len(x) < 1.5,
    }


if __name__ == "__main__":
    main()
