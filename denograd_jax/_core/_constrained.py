"""Cells held within bounds and on grids: any refinement, with a projection after each step."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from denograd_jax._core._prepare import broadcastable
from denograd_jax._core._refiner import InfoT, Refiner, StateT
from denograd_jax._types import Params
from denograd_jax.errors import DataError, ShapeError, UnsupportedError
from denograd_jax.layouts import Data

__all__ = [
    "ConstrainedState",
    "Grid",
    "Held",
    "Limits",
    "constrained",
    "with_data",
    "within",
]

Limit: TypeAlias = Any  # a number or an array that broadcasts to x or y; None: there is none


class Limits(NamedTuple):
    """Where cells may be, in the units of the data; each broadcasts to x or to y.

    Attributes:
        lower_x: Least value of each cell of x; `-inf` or None: there is none.
        upper_x: Its greatest value; `inf` or None: there is none.
        lower_y: Least value of each cell of y.
        upper_y: Its greatest value.
        origin_x: A point of each cell's grid, 0 unless given. Standardised integers lie on the grid
            with origin `-mean / deviation` and spacing `1 / deviation`.
        spacing_x: Distance between the points of the grid; 0 or None: there is no grid.
        origin_y: A point of the grid of each cell of y.
        spacing_y: Distance between its points.
    """

    lower_x: Limit = None
    upper_x: Limit = None
    lower_y: Limit = None
    upper_y: Limit = None
    origin_x: Limit = None
    spacing_x: Limit = None
    origin_y: Limit = None
    spacing_y: Limit = None


_FREE = Limits()


class Grid(NamedTuple):
    """The grids that the cells of one array lie on.

    Attributes:
        origin: A point of each.
        spacing: Distance between their points, 0 for cells without a grid.
        unrounded: Where the cells would be without their grids, in the shape of the array.
    """

    origin: jax.Array
    spacing: jax.Array
    unrounded: jax.Array


class Held(NamedTuple):
    """How one array is held: its limits in its own precision and rank, all of them traced.

    Attributes:
        lower: Least values.
        upper: Greatest values.
        grid: The grids, or None where no cell has one.
    """

    lower: jax.Array
    upper: jax.Array
    grid: Grid | None


class ConstrainedState(NamedTuple, Generic[StateT]):
    """What the next step needs.

    Attributes:
        inner: State of the refinement that is constrained; its data keeps the limits.
        held_x: How x is held; None where it is free.
        held_y: How y is held; None where it is free, or does not move.
    """

    inner: StateT
    held_x: Held | None
    held_y: Held | None

    @property
    def data(self) -> Data:
        """Values, within their limits, and masks."""
        return self.inner.data

    @property
    def step(self) -> jax.Array:
        """Steps taken, shape `()`."""
        return self.inner.step


def constrained(
    r: Refiner[StateT, InfoT], limits: Limits
) -> Refiner[ConstrainedState[StateT], InfoT]:
    r"""The same refinement, with its cells kept within limits.

    At the start and after each step movable cells are projected on the limits: in a box that is the
    projected gradient method. On a grid, rounding would undo every step shorter than half a
    spacing; so the unrounded value u is kept apart from the one z that is shown to the model and to
    the caller, as in dual averaging (a lazy projection). The move found at z is added to u, that is
    clipped to the box, and the nearest grid point within the box is shown:

    .. math:: u \leftarrow \operatorname{clip}(u + \Delta(z)), \qquad z = \operatorname{round}(u)

    A rule that is anchored at the data's origin names u itself in each step.

    Cells that are not movable keep every bit, whatever the limits say of them, and so do cells that
    are on their grid point already.

    Look-ahead: as the refiner's.

    Args:
        r: What `refiner`, `global_refiner` or another `constrained` returned; of two, the limits of
            the outer one win. With a mesh, limits may differ between columns only.
        limits: See `Limits`; `within` adds a largest change.

    Returns:
        `Refiner(init, step)` with `ConstrainedState` and the info of `r`; the arguments of `init`
        are those of `r.init`. Other limits of equal shapes compile nothing.

    Raises:
        ShapeError: By `init`, for limits that do not broadcast to their array.
        DataError: By `init`, where a lower limit exceeds the upper one or either is NaN, where a
            grid is not finite or its spacing negative, or where a movable cell has no grid point
            within its limits.
        UnsupportedError: By `init`, for limits that are no real numbers, or that differ between
            rows or steps which are shared out to a mesh.

    Source:
        Bertsekas 1976 (projected gradients), Nesterov 2009 (dual averaging).

    Example:
        >>> import jax.numpy as jnp
        >>> from denograd_jax import refiner, rules
        >>> r = refiner(lambda w, x: w @ x, rule=rules.gauss_newton(step_size=1.0))
        >>> r = constrained(r, Limits(upper_x=0.75, spacing_y=1.0))
        >>> state, info = r.step(jnp.array([1.0]), r.init(jnp.array([[0.5]]), jnp.array([2.0])))
        >>> print(state.data.x, state.data.y, state.held_y.grid.unrounded)
        [[0.75]] [1.] [1.25]
    """

    def init(*arrays: Any, **named: Any) -> ConstrainedState[StateT]:
        inner = r.init(*arrays, **named)
        data = inner.data
        held_x, x = _begin("x", data.x, data.movable_x, limits, data)
        held_y, y = _begin("y", data.y, data.movable_y, limits, data)
        return ConstrainedState(with_data(inner, data._replace(x=x, y=y)), held_x, held_y)

    return Refiner(init, _build_step(r.step))


@functools.lru_cache(maxsize=32)
def _build_step(
    step: Callable[[Params, StateT], tuple[StateT, InfoT]],
) -> Callable[[Params, ConstrainedState[StateT]], tuple[ConstrainedState[StateT], InfoT]]:
    """The step of a constrained refiner, one for each inner step: so its loops are cached too."""

    @jax.jit
    def constrained_step(
        params: Params, state: ConstrainedState[StateT]
    ) -> tuple[ConstrainedState[StateT], InfoT]:
        before = state.data
        inner, info = step(params, state.inner)
        after = inner.data
        held_x, held_y = state.held_x, state.held_y
        if _is_anchored(inner):
            held_x, held_y = _afresh(held_x, before.x), _afresh(held_y, before.y)
        if held_x is not None:
            held_x, x = _project(held_x, after.movable_x, before.x, after.x)
            after = after._replace(x=x)
        if held_y is not None:
            assert before.y is not None
            assert after.y is not None
            assert after.movable_y is not None
            held_y, y = _project(held_y, after.movable_y, before.y, after.y)
            after = after._replace(y=y)
        return ConstrainedState(with_data(inner, after), held_x, held_y), info

    return constrained_step


def within(
    x: Any, most_x: Any, y: Any = None, most_y: Any = None, *, limits: Limits = _FREE
) -> Limits:
    """Limits with a largest change besides: a box around where each cell begins.

    Where the other limits leave no such value they win, so a cell that begins beyond them goes as
    far as it must. A cell that begins nowhere (NaN), to be imputed, has the other limits only.

    Args:
        x: The start, as `init` takes it.
        most_x: Largest change of each cell of x, at least 0; broadcasts to x. None: no such limit.
        y: The start of y, where `most_y` is given.
        most_y: Largest change of each cell of y.
        limits: The other limits.

    Raises:
        DataError: Where a largest change is NaN or negative.
        ShapeError: If it does not broadcast to its array.

    Example:
        >>> limits = within([[1.0], [5.0]], 0.5, limits=Limits(upper_x=4.0))
        >>> print(limits.lower_x.ravel(), limits.upper_x.ravel())
        [0.5 4. ] [1.5 4. ]
    """
    lower_x, upper_x = _around("x", x, most_x, limits.lower_x, limits.upper_x)
    lower_y, upper_y = _around("y", y, most_y, limits.lower_y, limits.upper_y)
    return limits._replace(lower_x=lower_x, upper_x=upper_x, lower_y=lower_y, upper_y=upper_y)


def _around(axis: str, start: Any, most: Limit, lower: Limit, upper: Limit) -> tuple[Limit, Limit]:
    """The box around a start, its edges moved within the limits."""
    if most is None:
        return lower, upper
    if start is None:
        raise ShapeError(f"most_{axis} is measured from the start: pass {axis} too.")
    start = jnp.asarray(start, float)

    def fit(name: str, limit: Limit) -> jax.Array:
        fitted: jax.Array = broadcastable(f"{name}_{axis}", limit, start.shape)
        return fitted.astype(start.dtype)

    most = fit("most", most)
    if _are_known(most) and not (most >= 0).all():
        raise DataError(f"most_{axis}, the largest change, must be at least 0 and not NaN.")
    lower = fit("lower", -jnp.inf if lower is None else lower)
    upper = fit("upper", jnp.inf if upper is None else upper)
    unknown = jnp.isnan(start)
    least = jnp.where(unknown, -jnp.inf, start - most)
    greatest = jnp.where(unknown, jnp.inf, start + most)
    return _clip(least, lower, upper), _clip(greatest, lower, upper)


class _Faults(NamedTuple):
    """How many limits nothing can keep: `()` each."""

    crossed: jax.Array
    no_grid: jax.Array
    empty: jax.Array


def _begin(
    axis: str, values: Any, movable: Any, limits: Limits, data: Data
) -> tuple[Held | None, Any]:
    """How x or y is held from the start on, and the start within its limits."""
    named = limits._asdict()
    lower, upper, origin, spacing = (
        named[f"{kind}_{axis}"] for kind in ("lower", "upper", "origin", "spacing")
    )
    if lower is None and upper is None and spacing is None:
        return None, values
    if values is None:
        raise ShapeError("targets are columns of x, so limit those: there is no y to limit.")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return None, values  # class labels and other integers, which do not move

    def fit(name: str, limit: Limit, default: float) -> jax.Array:
        return _fit(f"{name}_{axis}", default if limit is None else limit, values, data)

    grid = None
    if spacing is not None:
        grid = Grid(fit("origin", origin, 0.0), fit("spacing", spacing, 0.0), values)
    held = Held(fit("lower", lower, -jnp.inf), fit("upper", upper, jnp.inf), grid)
    held, shown, faults = _checked(held, movable, values)
    if _are_known(*faults):  # else values are not known, and taken on trust
        _refuse(axis, faults)
    return held, shown


def _fit(name: str, limit: Limit, values: jax.Array, data: Data) -> jax.Array:
    """A limit in the precision and rank of the array."""
    given = values.shape if data.length is None else (data.length.given, *values.shape[1:])
    fitted: jax.Array = broadcastable(name, limit, given).astype(values.dtype)
    if data.length is not None and fitted.shape[0] > 1:
        raise UnsupportedError(
            f"{name} differs between rows or steps, which the mesh shares out to its devices: "
            "limits may differ between columns only, or leave the mesh out."
        )
    return fitted


def _are_known(*arrays: jax.Array) -> bool:
    """Whether values can be looked at: not while a function is traced."""
    return not any(isinstance(array, jax.core.Tracer) for array in arrays)


@jax.jit
def _checked(held: Held, movable: jax.Array, values: jax.Array) -> tuple[Held, jax.Array, _Faults]:
    """The start projected, and what is wrong with the limits."""
    crossed = ~(held.lower <= held.upper)  # also where one is NaN
    no_grid = empty = jnp.zeros((), bool)
    if held.grid is not None:
        origin, spacing, _ = held.grid
        no_grid = ~(jnp.isfinite(origin) & jnp.isfinite(spacing) & (spacing >= 0))
        lowest, highest = _first_and_last(held, held.grid)
        empty = movable & (spacing > 0) & (lowest > highest)
    held, shown = _project(held, movable, values, values)
    return held, shown, _Faults(crossed.sum(), no_grid.sum(), empty.sum())


def _refuse(axis: str, faults: _Faults) -> None:
    if faults.crossed > 0:
        raise DataError(
            f"lower_{axis} exceeds upper_{axis} in {faults.crossed} place(s), or one of them is "
            "NaN: nothing lies between them."
        )
    if faults.no_grid > 0:
        raise DataError(
            f"origin_{axis} and spacing_{axis} make no grid in {faults.no_grid} place(s): both "
            "must be finite, and a spacing at least 0 (0: no grid)."
        )
    if faults.empty > 0:
        raise DataError(
            f"{faults.empty} movable cell(s) of {axis} have no point of their grid within their "
            "limits: widen these, or hold the cells fixed."
        )


def _project(
    held: Held, movable: jax.Array, before: jax.Array, after: jax.Array
) -> tuple[Held, jax.Array]:
    """A step from `before`, which was shown, to `after`: what is kept of it, and what is shown."""
    grid = held.grid
    if grid is None:
        return held, jnp.where(movable, _clip(after, held.lower, held.upper), after)
    on_grid = movable & (grid.spacing > 0)
    free = jnp.where(on_grid, grid.unrounded + (after - before), after)
    free = jnp.where(movable, _clip(free, held.lower, held.upper), free)
    shown = jnp.where(on_grid, _round(held, grid, before, free), free)
    return held._replace(grid=grid._replace(unrounded=free)), shown


def _is_anchored(state: Any) -> bool:
    """Whether each step says where cells are to be, instead of how far to go from here."""
    if isinstance(state, ConstrainedState):
        return _is_anchored(state.inner)
    return getattr(state, "origin", None) is not None


def _afresh(held: Held | None, shown: Any) -> Held | None:
    """What rounding took back forgotten, since the next step does not add to it."""
    if held is None or held.grid is None:
        return held
    return held._replace(grid=held.grid._replace(unrounded=shown))


def _round(held: Held, grid: Grid, before: jax.Array, free: jax.Array) -> jax.Array:
    """The nearest grid point within the box; a cell that is there already keeps its bits."""
    spacing = _divisor(grid)
    number = jnp.round((free - grid.origin) / spacing)
    point = grid.origin + _clip(number, *_first_and_last(held, grid)) * spacing
    there = jnp.abs(point - before) <= _rounding(grid, point)
    return _clip(jnp.where(there, before, point), held.lower, held.upper)


def _first_and_last(held: Held, grid: Grid) -> tuple[jax.Array, jax.Array]:
    """Numbers of the first and the last grid point in the box; one on its edge is inside."""
    spacing = _divisor(grid)
    first = jnp.ceil((held.lower - grid.origin - _rounding(grid, held.lower)) / spacing)
    last = jnp.floor((held.upper - grid.origin + _rounding(grid, held.upper)) / spacing)
    return first, last


def _divisor(grid: Grid) -> jax.Array:
    """Spacings, but 1 where there is no grid."""
    return jnp.where(grid.spacing > 0, grid.spacing, 1)


def _rounding(grid: Grid, values: jax.Array) -> jax.Array:
    """How far rounding may put a grid point near the values off: integers come standardised."""
    precision: Any = jnp.finfo(values.dtype)  # type: ignore[no-untyped-call]
    error: jax.Array = 4 * precision.eps * (jnp.abs(values) + jnp.abs(grid.origin))
    return error


def _clip(values: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    clipped: jax.Array = optax.projections.projection_box(values, lower, upper)
    return clipped


def with_data(state: Any, data: Data) -> Any:
    """The state with other data: a NamedTuple, a dataclass (chex, Equinox), or one of ours."""
    if isinstance(state, ConstrainedState):
        return state._replace(inner=with_data(state.inner, data))
    if hasattr(state, "_replace"):
        return state._replace(data=data)
    return dataclasses.replace(state, data=data)
