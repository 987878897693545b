"""`denograd_jax.refine`, as a user without settings would call it."""

import ast
import hashlib
from functools import lru_cache, partial
from pathlib import Path

from .problems import Problem

NO_PART = {"bridges", "cli", "datasets", "report", "sklearn", "streaming"}
"""Of the library: what plays no part in the result of `refine` on a frame."""


def unit_step(noisy, problem: Problem):
    """The published rule at our defaults."""
    return refined(noisy, problem, rule="unit_step")


def gauss_newton(noisy, problem: Problem):
    """The other rule, at its own defaults."""
    return refined(noisy, problem, rule="gauss_newton")


def told_the_noise(noisy, problem: Problem):
    """The published rule, told the scale of the noise; told that there is none it does nothing."""
    if not any(problem.noise_scale.values()):
        return noisy.copy()
    return refined(noisy, problem, rule="unit_step", noise_scale=dict(problem.noise_scale))


def auto(noisy, problem: Problem):
    """The noise found by itself, with error bars."""
    return refined(noisy, problem, rule="auto")


def auto_told(noisy, problem: Problem):
    """The same, told the scale of the noise; told that there is none it does nothing."""
    if not any(problem.noise_scale.values()):
        return noisy.copy()
    return refined(noisy, problem, rule="auto", noise_scale=dict(problem.noise_scale))


def perceptron(training, rule):
    """An MLP trained plainly, by IDO or by RLAP, in place of what the rule would fit."""
    return partial(refined, model="mlp", training=training, rule=rule)


def refined(noisy, problem: Problem, **settings):
    """By `refine`: a series predicts all of its columns, rows their target."""
    from denograd_jax import refine

    target = None if problem.kind == "series" else problem.target
    found = refine(noisy, target, window=problem.window, seed=problem.seed, **settings)
    data = found.data
    if settings.get("rule") == "auto":
        data.attrs["standard errors"] = found.standard_errors
    return data


@lru_cache(maxsize=1)
def digest() -> str:
    """Of the library's code; comments, docstrings and layout do not count."""
    import denograd_jax

    root = Path(denograd_jax.__file__).parent
    found = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        if file.relative_to(root).parts[0] not in NO_PART:
            found.update(ast.dump(bare(ast.parse(file.read_text()))).encode())
    return found.hexdigest()[:12]


def bare(tree):
    """A syntax tree without its docstrings."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and is_text(body[0]):
            node.body = body[1:]
    return tree


def is_text(node):
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)
