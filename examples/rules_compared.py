"""Four rules on the same rows, where the clean ones are known.

In the first table y is a function of x, and all that is off the curve is noise. In the second y
scatters around the curve by itself, which is no noise and should stay.
"""

import jax.numpy as jnp
import numpy as np

from denograd_jax import backbones, models, refiner, rules, run

NOISE_X, NOISE_Y, ROWS = 0.1, 0.3, 2000


def predict(params, x):
    return jnp.sin(2 * x[0])


def make_data(scatter):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (ROWS, 1))
    y = np.sin(2 * x[:, 0]) + scatter * rng.normal(size=ROWS)
    clean = np.column_stack([x, y])
    return clean, clean + rng.normal(size=clean.shape) * [NOISE_X, NOISE_Y]


def refined(name, noisy, scatter):
    """The rows after a rule; its settings are what one would choose who knows noise and scatter."""
    x, y = noisy[:, :1], noisy[:, 1]
    noise = {"noise_x": NOISE_X, "noise_y": NOISE_Y}
    tolerance = 0.05 if scatter == 0 else 2 * scatter
    if name == "unit_step":
        r = refiner(predict, rules.unit_step(0.02, tolerance))
        solution = run(r, None, r.init(x, y), max_steps=20)
    elif name == "gauss_newton":
        r = refiner(predict, rules.gauss_newton(1.0, tolerance))
        solution = run(r, None, r.init(x, y, **noise), max_steps=3)
    elif name == "orthogonal_distance":
        r = refiner(predict, rules.orthogonal_distance(misfit=scatter))
        solution = run(r, None, r.init(x, y, **noise), max_steps=3)
    else:  # tweedie needs a density of the noisy rows, not a function
        fitted = backbones.fit_mixture(noisy, [NOISE_X, NOISE_Y], 12)
        density = models.mixture(models.mixture_regression(*fitted))
        r = refiner(density, rules.tweedie(), loss=models.mixture_nll(1))
        solution = run(r, density.params, r.init(x, y, **noise), max_steps=1)
    return np.column_stack([solution.x, solution.y])


def main():
    shown = {}
    for scatter, title in [(0.0, "all that is off the curve is noise"), (0.4, "y scatters by 0.4")]:
        clean, noisy = make_data(scatter)
        before = np.sqrt(np.mean((noisy - clean) ** 2, axis=0))
        print(f"{title}; error over the noise:   x     y")
        for name in ["unit_step", "gauss_newton", "orthogonal_distance", "tweedie"]:
            after = refined(name, np.float32(noisy), scatter)
            ratio = np.sqrt(np.mean((after - clean) ** 2, axis=0)) / before
            print(f"    {name:20} {ratio[0]:.2f}  {ratio[1]:.2f}")
            shown[title, name] = ratio
    exact, scattered = (t for t in dict.fromkeys(title for title, _ in shown))
    return {
        "a function: the projection wins": shown[exact, "orthogonal_distance"][1] < 0.6,
        "scatter: no harm by the misfit": all(shown[scattered, "orthogonal_distance"] < 1),
        "scatter: no harm by the density": all(shown[scattered, "tweedie"] < 1),
    }


if __name__ == "__main__":
    main()
