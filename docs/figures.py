"""Make the figures of the documentation: `python docs/figures.py [FOLDER]`.

Small made data, fixed seeds; the same versions give the same bytes. `docs/pictures.py` makes the
one of the README, from real data.
"""

import sys
from pathlib import Path

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from denograd_jax import input_gradients, layouts, refiner, rules, run

FOLDER = Path(__file__).parent / "figures"
BEFORE, AFTER, TRUTH, INK, LINE = "#868f9b", "#0b6bcb", "#b3470f", "#1c2127", "#d8dde3"
STYLE = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "svg.fonttype": "path",
    "svg.hashsalt": "denograd",
    "xtick.color": INK,
    "ytick.color": INK,
}


def curve(params, x):
    """The model of the figures of rows."""
    return jnp.sin(2 * x[0])


def rows(noise=(0.15, 0.25), n=60):
    """Points near the curve, and the points on it that they are measurements of."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-2, 2, n)
    clean = np.column_stack([x, np.sin(2 * x)])
    return clean, clean + rng.normal(size=clean.shape) * noise


def arrows(axes, before, after):
    """From where points were to where they go."""
    axes.plot(*before.T, "o", ms=3, color=BEFORE)
    for a, b in zip(before, after, strict=True):
        axes.annotate("", b, a, arrowprops={"arrowstyle": "->", "color": AFTER, "lw": 0.9})


def one_row(figure):
    """Two values of one row, the loss around them, and the step against its gradient."""
    axes = figure.subplots()
    x, y = np.meshgrid(np.linspace(-0.6, 1.6, 221), np.linspace(-0.7, 1.4, 211))
    axes.contour(x, y, (np.sin(2 * x) - y) ** 2, levels=8, colors=LINE, linewidths=0.8)
    line = np.linspace(-0.6, 1.6, 221)
    axes.plot(line, np.sin(2 * line), color=TRUTH, label="the model: y = f(x)")
    point = np.array([0.95, 0.2])
    g = input_gradients(curve)(None, jnp.array(point[:1]), jnp.array(point[1:]))
    gradient = np.array([float(g.x[0]), float(g.y[0])])
    end = point - 0.45 * gradient / np.linalg.norm(gradient)
    axes.plot(*point, "o", color=INK)
    axes.annotate("a row (x, y)", point, (8, -12), textcoords="offset points")
    axes.annotate("", end, point, arrowprops={"arrowstyle": "-|>", "color": AFTER, "lw": 1.6})
    axes.annotate("against the gradient\nof the loss", end, (0.02, 0.62), color=AFTER, ha="center")
    axes.set(xlabel="x", ylabel="y", aspect="equal", ylim=(-0.7, 1.4), xlim=(-0.6, 1.6))
    axes.legend(loc="lower left")


def three_rules(figure):
    """What each rule does with the same rows."""
    _, noisy = rows()
    x, y = jnp.array(noisy[:, :1]), jnp.array(noisy[:, 1])
    noise = {"noise_x": 0.15, "noise_y": 0.25}
    cases = {
        "unit_step: 10 steps of 0.03": (rules.unit_step(0.03, 0.1), 10, {}),
        "gauss_newton: the linearised curve": (rules.gauss_newton(1.0), 1, noise),
        "orthogonal_distance: the likeliest\npoint, y itself scattering by 0.25": (
            rules.orthogonal_distance(misfit=0.25),
            3,
            noise,
        ),
    }
    line = np.linspace(-2.2, 2.2, 200)
    for axes, (title, (rule, steps, known)) in zip(
        figure.subplots(1, 3, sharey=True), cases.items(), strict=True
    ):
        r = refiner(curve, rule)
        end = run(r, None, r.init(x, y, **known), max_steps=steps)
        axes.plot(line, np.sin(2 * line), color=TRUTH)
        arrows(axes, noisy, np.column_stack([end.x, end.y]))
        axes.set(title=title, xlabel="x", xlim=(-2.3, 2.3))


def windows_agree(figure):
    """What the windows over one step want of it, and their mean."""
    rng = np.random.default_rng(3)
    clean = np.sin(0.45 * np.arange(26))
    noisy = clean + rng.normal(0, 0.25, 26)
    length, step = 6, 12
    axes, votes = figure.subplots(1, 2, width_ratios=[2.4, 1])
    axes.plot(clean, color=TRUTH, lw=0.9, label="clean")
    axes.plot(noisy, "o-", ms=3, color=BEFORE, lw=0.7, label="noisy")
    axes.plot(step, noisy[step], "o", color=AFTER, label="the step that is looked at")
    for i, start in enumerate(range(step - length + 1, step + 1)):
        axes.plot([start, start + length - 1], [-1.6 - 0.13 * i] * 2, color=INK, lw=1.4)
        axes.plot(start + length, -1.6 - 0.13 * i, "|", color=INK, ms=6)
    axes.annotate("windows; | is what each predicts", (0.0, -2.15), color=INK)
    axes.set(xlabel="step", ylim=(-2.5, 1.9), title="every value is in many windows")
    axes.legend(loc="upper right", ncols=3, fontsize=8)

    def forecast(params, window):
        """An oscillation of known frequency, fitted to the window."""
        t = jnp.arange(float(length))
        basis = jnp.stack([jnp.cos(0.45 * t), jnp.sin(0.45 * t)], axis=1)
        ahead = jnp.stack([jnp.cos(0.45 * length), jnp.sin(0.45 * length)])
        return ahead @ jnp.linalg.solve(basis.T @ basis, basis.T @ window)

    layout = layouts.windows(length, target_columns=[0])
    wanted = []
    for start in range(step - length + 1, step + 1):
        part = jnp.array(noisy[start : start + length + 1, None], jnp.float32)
        r = refiner(forecast, rules.unit_step(0.3, 0.0), layout)
        state, _ = r.step(None, r.init(part))
        wanted.append(float((state.data.x - part)[step - start, 0]))
    votes.barh(range(length), wanted, color=LINE, edgecolor=INK, lw=0.6)
    votes.axvline(np.mean(wanted), color=AFTER, lw=1.6)
    votes.axvline(0, color=INK, lw=0.6)
    votes.invert_yaxis()
    votes.set(yticks=[], xlabel="correction wanted", title="the mean is taken (blue)")


def expected_value(figure):
    """The posterior mean of a value, from the density of noisy values."""
    noise, centres, width = 0.5, np.array([-1.5, 1.5]), 0.15
    z = np.linspace(-3.6, 3.6, 721)
    spread = width**2 + noise**2
    each = np.exp(-((z[:, None] - centres) ** 2) / (2 * spread))
    density = each.sum(axis=1)
    score = (each * (centres - z[:, None])).sum(axis=1) / spread / density
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(z, density / density.max(), color=INK)
    top.set(yticks=[], title="density of the noisy values, which the data show")
    bottom.plot(z, z, color=BEFORE, label="as measured")
    bottom.plot(z, z + noise**2 * score, color=AFTER, label="expected clean value")
    bottom.set(xlabel="value as measured", title="value + noise² × slope of the log density")
    bottom.legend(loc="upper left")


FIGURES = {
    "one_row": (one_row, (4.6, 3.9)),
    "three_rules": (three_rules, (8.4, 3.1)),
    "windows_agree": (windows_agree, (8.4, 3.2)),
    "expected_value": (expected_value, (5.6, 4.0)),
}


def main(folder=FOLDER):
    """Draw all of them as SVG into a folder."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    for name, (draw, size) in FIGURES.items():
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=size)
            draw(figure)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main(*sys.argv[1:2])
