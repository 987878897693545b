"""How one instance moves, given its residual and gradients: the published rules, and our own.

Steps are in the units of the data handed to the core; standardise first (mean 0, standard
deviation 1 per column), as `refine` does. Where the noise of the cells is known (`init(noise_x=...,
noise_y=...)`), they are in units of that noise: a rule sees the gradients by z / noise and its move
is multiplied by the noise, so that certain cells move little and uncertain ones much. Residuals,
and with them gates and tolerances, stay in the units of y.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from denograd_jax._core._instances import InputGradients, Linearisation
from denograd_jax._numbers import nonnegative, nonnegative_array
from denograd_jax._types import Instance, Scalar, Target

__all__ = [
    "Consensus",
    "Gate",
    "Linearisation",
    "Move",
    "Rule",
    "ScaledGradients",
    "gauss_newton",
    "hard_gate",
    "inverse_norm",
    "orthogonal_distance",
    "soft_gate",
    "squared_norm",
    "tweedie",
    "unit_step",
]

Consensus: TypeAlias = Literal["visits", "votes", "sum"]
Hyperparameters: TypeAlias = dict[str, jax.Array | float]
Gate: TypeAlias = Callable[[Target, Scalar], Scalar]
"""`gate(residual, tolerance)`: the weight of an instance's move, from 0 (stay) to 1."""


class Move(NamedTuple):
    """What a rule does with one instance: add `x` to its input and `y` to its target.

    Attributes:
        x: Move of the input, the shape of the instance, gate included.
        y: Move of the target, shape `(q,)`, gate included.
        gate: Weight that the gate gave, shape `()`.
    """

    x: Instance
    y: Target
    gate: Scalar


class ScaledGradients(NamedTuple):
    """`InputGradients` in units of known noise: what a rule sees of an instance that has it.

    Attributes:
        residual: `f(x) - y` in units of y, as ever.
        x: dL/dx times the noise of x, which is the gradient by x / noise.
        y: dL/dy times the noise of y.
        loss: L, shape `()`.
        slope: dL/dy as it is, the loss's slope by the residual; `y` has lost it where noise is 0.
    """

    residual: Target
    x: Instance
    y: Target
    loss: Scalar
    slope: Target


AnyGradients: TypeAlias = InputGradients | ScaledGradients | Linearisation


class Rule(NamedTuple):
    """One instance's move, and how the moves of a data set are put together.

    Build your own from pure functions: equal functions share one compilation, hyperparameters
    are traced, so they can be swept with `vmap` and learnt with `grad`. A rule has no state of its
    own from step to step.

    Attributes:
        hyperparameters: Numbers that `move` and `rescale` read.
        move: `move(hyperparameters, gradients) -> Move`, for one instance; the gradients are
            `ScaledGradients` where noise is known, with the fields of `InputGradients`, and the
            move is then in units of the noise too. With `jacobian` they are a `Linearisation`.
        rescale: `rescale(squared_norm) -> factor` for all moves of a step, from the sum of squares
            of all gradients of the data set; None for a rule that needs no look at the whole.
        consensus: How overlapping windows are combined where the layout does not say.
        takes_labels: Whether the rule is defined for class labels, which have no dL/dy (it is 0).
        stays_finite: Whether finite gradients always give finite moves, as far as the gate and the
            move of the target tell; otherwise every entry of every move is checked, which takes
            about a tenth of the time of a small model.
        jacobian: Whether `move` needs the Jacobian of the prediction, which takes as many backward
            passes more as there are targets.
        anchored: Whether moves start where the cells began instead of where they are: a step puts
            each cell at its origin plus the consensus of what its instances say. The rule gets the
            `jacobian` too, and what may not move has noise 0, so that others make up for it.

    Example:
        Plain gradient descent on the input alone:

        >>> def descend(numbers, gradients):
        ...     x = -numbers["rate"] * gradients.x
        ...     return Move(x, 0 * gradients.y, hard_gate(gradients.residual, 0.0))
        >>> rule = Rule({"rate": 0.1}, descend)
    """

    hyperparameters: Hyperparameters
    move: Callable[[dict[str, jax.Array], Any], Move]
    rescale: Callable[[Scalar], Scalar] | None = None
    consensus: Consensus = "visits"
    takes_labels: bool = True
    stays_finite: bool = False
    jacobian: bool = False
    anchored: bool = False


def hard_gate(residual: Target, tolerance: Scalar) -> Scalar:
    """1 where any residual exceeds the tolerance in size, else 0: the published gate."""
    return (jnp.abs(residual) > tolerance).any().astype(residual.dtype)


@functools.cache
def soft_gate(width: float = 0.1) -> Gate:
    """A gate that rises smoothly around the tolerance, so that the tolerance can be learnt.

    Args:
        width: Distance over which the logistic curve rises from 0.5 to 0.73, in units of y.

    Returns:
        `sigmoid((max |r| - tolerance) / width)`.
    """

    def gate(residual: Target, tolerance: Scalar) -> Scalar:
        return jax.nn.sigmoid((jnp.abs(residual).max() - tolerance) / width)

    return gate


def unit_step(
    step_size: float | jax.Array = 0.05,
    tolerance: float | jax.Array = 0.01,
    *,
    norm: Literal["instance", "dataset"] = "instance",
    gate: Gate = hard_gate,
) -> Rule:
    r"""The published rule: a step of fixed length against the joint gradient of input and target.

    .. math:: z \leftarrow z - \eta \, m \, g / \lVert g \rVert_2, \quad g = (\partial L/\partial x,
       \partial L/\partial y), \quad m = 1[\,|f(x) - y| > \tau\,]

    A zero gradient gives a zero step. The step length is `step_size` whatever the residual, so an
    instance whose residual falls by more than twice the tolerance in a step oscillates.

    Args:
        step_size: Eta, the papers' noise reduction rate; at most this far moves an instance in a
            step, in units of the data, or of the noise where that is known.
        tolerance: Tau; an instance stays where no residual exceeds it in size.
        norm: "instance" divides each gradient by its own norm; "dataset" divides all by one
            Frobenius norm over the data set, and windows add up without averaging (the first
            releases of the PyTorch package).
        gate: Weight of a move from residual and tolerance.

    Raises:
        ValueError: If `norm` is neither of the two.

    Source:
        Alonso-Ramos et al., "DenoGrad", arXiv 2511.10161.
    """
    hyperparameters = nonnegative(step_size=step_size, tolerance=tolerance)
    if norm == "instance":
        return Rule(hyperparameters, _descent_move(gate, unit=True), stays_finite=True)
    if norm == "dataset":
        move = _descent_move(gate, unit=False)
        return Rule(hyperparameters, move, inverse_norm, consensus="sum", stays_finite=True)
    raise ValueError(f'norm must be "instance" or "dataset", not {norm!r}')


def gauss_newton(
    step_size: float | jax.Array = 0.5,
    tolerance: float | jax.Array = 0.01,
    x_weight: float | jax.Array = 1.0,
    y_weight: float | jax.Array = 1.0,
    *,
    gate: Gate = hard_gate,
) -> Rule:
    r"""A damped projection of the instance on the surface f(x) = y.

    .. math:: z \leftarrow z - \eta \, m \, \frac{\lVert r \rVert}{\lVert (f', -1) \rVert}
       \frac{\nabla L}{\lVert \nabla L \rVert}, \qquad
       \lVert (f', -1) \rVert = \lVert \nabla L \rVert / \lVert \partial L / \partial y \rVert

    With one target and `step_size=1` it lands on the linearised surface. It holds for any loss
    that depends on the residual alone; with several targets the direction is that of the loss.
    Where the noise s is known the projection is orthogonal in its metric, the most likely point of
    the surface: for one target the input moves by :math:`-\eta \, m \, r s_x^2 f' / (s_y^2 +
    \lVert s_x f' \rVert^2)`, the target by :math:`\eta \, m \, r s_y^2` over the same.

    Args:
        step_size: Eta, the fraction of the way to the surface.
        tolerance: Tau; an instance stays where no residual exceeds it in size.
        x_weight: Multiplier of the input's share, after the joint normalisation.
        y_weight: Multiplier of the target's share.
        gate: Weight of a move from residual and tolerance.

    Source:
        The description of the PyTorch package 2.0.0; compare Boggs, Byrd and Schnabel 1987.
    """
    hyperparameters = nonnegative(
        step_size=step_size, tolerance=tolerance, x_weight=x_weight, y_weight=y_weight
    )
    move = _projection_move(gate)
    return Rule(hyperparameters, move, consensus="votes", takes_labels=False, stays_finite=True)


def tweedie(
    noise_scale: float | jax.Array = 1.0,
    *,
    x_weight: ArrayLike = 1.0,
    y_weight: ArrayLike = 1.0,
) -> Rule:
    r"""The posterior mean of the clean data, in one step from the data as observed.

    .. math:: \operatorname{E}[z^* \mid z] = z + \sigma^2 \, \nabla_z \log p(z)

    for Gaussian noise of standard deviation sigma, where p is the density of the NOISY data: what a
    model trained on them has learnt. Of p the rule is given :math:`-\log p(y \mid x)`, as the
    refiner's loss: `models.gaussian` makes it of any model that predicts a mean, with the
    covariance of its residuals. Of a series the conditional densities of all windows multiply to
    the density of the whole, so that their gradients are added up. Nothing is tuned: take ONE step
    (`run(..., max_steps=1)`), since a second one would take off the noise again.

    Args:
        noise_scale: Sigma, in units of the data; where the noise of the cells is known
            (`init(noise_x=..., noise_y=...)`), a multiple of it.
        x_weight: What the gradient by the input counts, from 0 up: one number, or an array that
            broadcasts to the input `(d,)` or `(length, d)`. Where windows overlap, a cell is the
            target of some and an input of others, whose says need not be equally right: see
            `calibration.weights_of_parts`.
        y_weight: The same for the target, `(q,)`.

    Raises:
        ValueError: If a number is negative.

    Source:
        Robbins 1956; Miyasawa 1961; Efron, "Tweedie's formula and selection bias", 2011.

    Example:
        A value observed with noise of 1, drawn around 0 with a variance of 3 + 1:

        >>> import jax.numpy as jnp
        >>> from denograd_jax import models, refiner, run
        >>> at_zero = models.gaussian(models.as_model(lambda x: 0 * x[0]), jnp.array([[4.0]]))
        >>> r = refiner(at_zero, rule=tweedie(1.0), loss=models.gaussian_nll)
        >>> state = r.init(jnp.zeros((1, 1)), jnp.array([2.0]))
        >>> print(run(r, at_zero.params, state, max_steps=1).y)
        [1.5]
    """
    numbers = nonnegative(noise_scale=noise_scale) | nonnegative_array(
        x_weight=x_weight, y_weight=y_weight
    )
    return Rule(numbers, _score_move, consensus="sum", stays_finite=True)


def orthogonal_distance(
    noise_scale: float | jax.Array = 1.0,
    misfit: float | jax.Array = 0.0,
    *,
    dirty: float | jax.Array = 1.0,
) -> Rule:
    r"""The most likely clean instance, given its observation and a model that is not exact.

    .. math:: z' = z_0 - K \, (r(z) - G (z - z_0)), \qquad
       K = \Sigma G^T (G \Sigma G^T + s^2 I)^{-1}, \qquad G = (f'(z), -I)

    with :math:`z_0 = (x, y)` as observed and Gaussian noise of variance :math:`\Sigma`. It is the
    iterated Kalman update: each step linearises the model anew where the last one arrived, but
    measures from the observation. Take 2 to 4 steps (`run(..., max_steps=3)`); further ones change
    nothing, and `run` does not end by itself. For a linear model one step is the posterior mean;
    with `misfit=0` steps lead to the nearest point of the surface f(x) = y in the metric of the
    noise. `gauss_newton` with a step size of 1 is the first step for one target and no misfit.
    There is no line search: where the model bends strongly within the noise, steps may overshoot;
    limits on the cells, or a single step, prevent that.

    What does not move, by mask or since its noise is 0, is known exactly, and other cells take the
    whole correction: to hold a noisy target fixed, count its noise in `misfit`. A missing target
    says nothing. A cell that is imputed has no observation and is held to its fill by the noise
    given for it: give such cells the standard deviation of their column. An instance that is not
    finite stays where it began.

    In a series each window proposes the posterior mean of its own cells, as if it were alone; a
    cell goes to the mean of what all its windows propose ("visits": a window that the soft gate
    keeps out proposes the observation). Other windows' evidence is so averaged, not added up.

    Args:
        noise_scale: Standard deviation of the noise, in units of the data; where the noise of the
            cells is known (`init(noise_x=..., noise_y=...)`), a multiple of it.
        misfit: s, the standard deviation of y given the clean x: what no model could know, and this
            model's error; in units of y, the same for all targets. Where y is noisy only, y moves
            by :math:`\sigma_y^2 / (\sigma_y^2 + s^2)` of the residual.
        dirty: Share of instances that are noisy at all, the others being exact. Below 1 the move is
            multiplied by the posterior probability that the instance is noisy, which is the gate:
            :math:`p = \pi N(r; 0, V_1) / (\pi N(r; 0, V_1) + (1 - \pi) N(r; 0, V_0))`, r the
            linearised residual at the observation, :math:`V_0 = s^2 I`, :math:`V_1 = V_0 + G \Sigma
            G^T`. With `misfit=0` every instance off the surface is noisy for certain.

    Raises:
        ValueError: If a number is negative, or `dirty` above 1.

    Look-ahead: as the layout's.

    Source:
        Iterated extended Kalman update: Bell and Cathey 1993. Orthogonal distance regression:
        Boggs, Byrd and Schnabel 1987. A share of all that is dirty: Box and Tiao 1968.

    Example:
        Two measurements of 0 and 1 that the model holds to be equal, the first one more exact:

        >>> import jax.numpy as jnp
        >>> from denograd_jax import refiner, run
        >>> r = refiner(lambda w, x: w @ x, rule=orthogonal_distance())
        >>> state = r.init(jnp.array([[0.0]]), jnp.array([1.0]), noise_x=1.0, noise_y=2.0)
        >>> end = run(r, jnp.array([1.0]), state, max_steps=2)
        >>> print(end.x.round(3), end.y.round(3))
        [[0.2]] [0.2]
    """
    numbers = nonnegative(noise_scale=noise_scale, misfit=misfit, dirty=dirty)
    if not isinstance(dirty, jax.core.Tracer) and float(dirty) > 1:
        raise ValueError(f"dirty is a share of all instances, from 0 to 1, not {dirty}.")
    gated = isinstance(dirty, jax.Array) or dirty != 1
    if not gated:  # known before tracing, so that nobody pays for a gate of 1
        del numbers["dirty"]
    return Rule(numbers, _kalman_move(gated=gated), takes_labels=False, anchored=True)


def _score_move(h: dict[str, jax.Array], g: AnyGradients) -> Move:
    factor = -(h["noise_scale"] ** 2)
    x_weight = jnp.broadcast_to(h["x_weight"], g.x.shape)
    y_weight = jnp.broadcast_to(h["y_weight"], g.y.shape)
    return Move(factor * x_weight * g.x, factor * y_weight * g.y, jnp.ones_like(factor))


# The factories below are cached, so that two rules with the same gate share their compilation.


@functools.cache
def _descent_move(
    gate: Gate, *, unit: bool
) -> Callable[[dict[str, jax.Array], AnyGradients], Move]:
    """Against the gradient, or against the unit gradient."""

    def move(h: dict[str, jax.Array], g: AnyGradients) -> Move:
        m = gate(g.residual, h["tolerance"])
        factor = -h["step_size"] * m
        if unit:
            factor = factor * inverse_norm(squared_norm(g))
        return Move(factor * g.x, factor * g.y, m)

    return move


@functools.cache
def _projection_move(gate: Gate) -> Callable[[dict[str, jax.Array], AnyGradients], Move]:
    def move(h: dict[str, jax.Array], g: AnyGradients) -> Move:
        m = gate(g.residual, h["tolerance"])
        inverse = inverse_norm(squared_norm(g))
        slope = g.slope if isinstance(g, ScaledGradients) else g.y
        length = _norm(g.residual) * _norm(slope) * inverse  # ||r|| / ||(f', -1)||
        factor = -h["step_size"] * m * length * inverse
        return Move(factor * h["x_weight"] * g.x, factor * h["y_weight"] * g.y, m)

    return move


@functools.cache
def _kalman_move(*, gated: bool) -> Callable[[dict[str, jax.Array], Linearisation], Move]:
    """From the origin, in units of the noise, where Sigma is `noise_scale ** 2`."""

    def move(h: dict[str, jax.Array], g: Linearisation) -> Move:
        variance, unknown = h["noise_scale"] ** 2, h["misfit"] ** 2
        by_x = g.jacobian_x.reshape(g.residual.size, -1)
        explained = variance * (_product(by_x, by_x.T) + jnp.diag(g.jacobian_y**2))
        innovation = explained + unknown * jnp.eye(g.residual.size, dtype=explained.dtype)
        pull = _solve(innovation, g.at_origin)  # (G Sigma G' + S)^-1 (r - G (z - z_0))
        p = jnp.ones_like(variance)
        if gated:
            p = _probability_of_noise(h["dirty"], explained, unknown, g.at_origin, pull)
        factor = -p * variance
        x = factor * _product(pull, by_x).reshape(g.x.shape)
        return Move(x, factor * g.jacobian_y * pull, p)

    return move


def squared_norm(g: AnyGradients) -> Scalar:
    """Sum of squares over every entry of the gradient, input and target together."""
    return jnp.sum(g.x * g.x) + jnp.sum(g.y * g.y)


def inverse_norm(squared: Scalar) -> Scalar:
    """1 / sqrt(squared), 0 at 0, with a finite derivative there (hence the double `where`)."""
    positive = squared > 0
    return jnp.where(positive, 1 / jnp.sqrt(jnp.where(positive, squared, 1)), 0)


def _norm(v: jax.Array) -> Scalar:
    squared = jnp.sum(v * v)
    return squared * inverse_norm(squared)


def _probability_of_noise(
    dirty: Scalar, explained: jax.Array, unknown: Scalar, residual: Target, pull: Target
) -> Scalar:
    """`pi N(r; 0, E + S) / (pi N(r; 0, E + S) + (1 - pi) N(r; 0, S))` with S = s^2 I.

    The difference of the exponents is r' (S^-1 - (E + S)^-1) r = r' E (E + S)^-1 r / s^2.
    """
    surprise = _product(residual, _product(explained, pull))
    certain = surprise > 1e4 * unknown
    unclear = ~certain & (unknown > 0)  # without a misfit only the surface itself is clean
    floor = jnp.where(unclear, unknown, 1)
    growth = _log_determinant(explained, floor) - residual.size * jnp.log(floor)
    exponent = (jnp.where(unclear, surprise, 0) / floor - growth) / 2
    evidence = jnp.exp(jnp.clip(exponent, -30, 30))  # beyond, derivatives would overflow
    p = 1 - (1 - dirty) / (dirty * evidence + (1 - dirty))
    return jnp.where(unclear, p, (certain | (dirty == 1)).astype(p.dtype))


def _solve(matrix: jax.Array, b: jax.Array) -> jax.Array:
    """`matrix^+ b` for a positive semidefinite matrix: 0 along what nothing can explain."""
    scale = inverse_norm(jnp.diag(matrix))
    if b.size == 1:
        return scale**2 * b
    # Targets may be in units far apart; pinv's derivatives are finite where a rank is lacking.
    inverse = jnp.linalg.pinv(scale[:, None] * matrix * scale[None], hermitian=True)
    return scale * _product(inverse, scale * b)


def _log_determinant(matrix: jax.Array, floor: Scalar) -> Scalar:
    """Of `matrix + floor * I`, positive definite but perhaps not in this precision."""
    eye = jnp.eye(len(matrix), dtype=matrix.dtype)
    whole = matrix + floor * eye
    scale = inverse_norm(jnp.diag(whole))
    precision: Any = jnp.finfo(matrix.dtype)  # type: ignore[no-untyped-call]
    correlation = scale[:, None] * whole * scale[None] + 16 * precision.eps * eye
    found: Scalar = jnp.linalg.slogdet(correlation)[1] - 2 * jnp.log(scale).sum()
    return found


# On accelerators products are otherwise rounded to fewer digits than an inverse can bear.
_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
