"""Arrays as they come, checked, widened, masked and filled: what a step and training start from."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from denograd_jax._core._sharding import ALONE, Alone, Blocks
from denograd_jax.errors import DataError, ShapeError, UnsupportedError
from denograd_jax.layouts import Data, Layout, Length

__all__ = ["broadcastable", "init_of", "prepare", "valid_instances"]

_StateT = TypeVar("_StateT")


def prepare(
    layout: Layout,
    x: Any,
    y: Any = None,
    observed_x: Any = None,
    observed_y: Any = None,
    movable_x: Any = None,
    movable_y: Any = None,
    segments: Any = None,
    noise_x: Any = None,
    noise_y: Any = None,
    *,
    refine_targets: bool = True,
    blocks: Blocks | None = None,
) -> Data:
    """Check arrays and masks against the layout and each other, and make them `Data`.

    With `blocks` it lies on their devices, padded so that all blocks are of one length.

    Raises:
        ShapeError: Shapes that do not fit, or no instance with a target.
        DataError: Infinite values, noise that is not a number of at least 0, or nothing observed.
        UnsupportedError: What is no array of real numbers, or no boolean mask.
    """
    to_array = _as_device_array if blocks is None else _as_host_array
    x = _as_values("x", x, to_array)
    y = None if y is None else _as_values("y", y, to_array)
    layout.check(x, y)
    given = _Given(
        x,
        y,
        _mask("observed_x", observed_x, x),
        _mask("observed_y", observed_y, y),
        _mask("movable_x", movable_x, x),
        _mask("movable_y", movable_y, y),
        None if segments is None else _as_segments(segments, x.shape[0]),
        _as_noise("noise_x", noise_x, x, blocks),
        _as_noise("noise_y", noise_y, y, blocks),
    )
    if blocks is not None:
        length = blocks.length(layout, x.shape[0])
        given = jax.tree.map(lambda array: blocks.place(array, length), given)
    data: Data
    data, counts = _prepare(layout, refine_targets, x.shape[0], blocks, given)
    if blocks is not None:
        data = data._replace(length=Length(x.shape[0]))
    if not any(isinstance(count, jax.core.Tracer) for count in counts):  # else values are not known
        _refuse(counts, targets_apart=y is not None)
    return data


def init_of(
    layout: Layout,
    begin: Callable[[Data], _StateT],
    *,
    refine_targets: bool,
    blocks: Blocks | None,
) -> Callable[..., _StateT]:
    """The `init` of a refiner: arrays and masks as `Refiner` lists them, to `begin(data)`."""

    def init(
        x: Any,
        y: Any = None,
        observed_x: Any = None,
        observed_y: Any = None,
        movable_x: Any = None,
        movable_y: Any = None,
        segments: Any = None,
        noise_x: Any = None,
        noise_y: Any = None,
    ) -> _StateT:
        given = observed_x, observed_y, movable_x, movable_y, segments, noise_x, noise_y
        return begin(prepare(layout, x, y, *given, refine_targets=refine_targets, blocks=blocks))

    return init


class _Given(NamedTuple):
    """Arrays, masks and noise before anything is filled; a mask of None is the default one."""

    x: jax.Array
    y: jax.Array | None
    observed_x: jax.Array | None
    observed_y: jax.Array | None
    movable_x: jax.Array | None
    movable_y: jax.Array | None
    segments: jax.Array | None
    noise_x: jax.Array | None
    noise_y: jax.Array | None


class _Counts(NamedTuple):
    """What decides whether there is anything to refine."""

    infinite_x: jax.Array
    infinite_y: jax.Array
    observed_x: jax.Array
    observed_y: jax.Array
    instances: jax.Array
    bad_noise_x: jax.Array | None
    bad_noise_y: jax.Array | None


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _prepare(
    layout: Any, refine_targets: bool, length: int, blocks: Blocks | None, given: _Given
) -> tuple[Data, _Counts]:
    """`Data` of the arrays; what stands behind `length` is padding, and missing."""
    prepare_block = functools.partial(_prepare_block, layout, refine_targets, length)
    if blocks is None:
        return prepare_block(ALONE, given)
    data, counts = blocks.map(functools.partial(prepare_block, blocks), given)
    return data, counts


def _prepare_block(
    layout: Any, refine_targets: bool, length: int, around: Blocks | Alone, given: _Given
) -> tuple[Data, _Counts]:
    """The same for the block at hand; the counts are those of all."""
    if given.y is None and not layout.shared:
        given = _copy_targets(given, list(layout.target_columns))
    x, y = given.x, given.y
    dtype = _working_dtype(x) if y is None else _working_dtype(x, y)
    real = around.first(len(x)) + jnp.arange(len(x), dtype=jnp.int32) < length
    seen_x = _seen(x, given.observed_x, real)
    x = jnp.where(seen_x, x.astype(dtype), 0)
    moves_x = seen_x if given.movable_x is None else given.movable_x
    seen_y = moves_y = None
    if y is not None:
        seen_y = _seen(y, given.observed_y, real)
        integers = jnp.issubdtype(y.dtype, jnp.integer) and not refine_targets
        y = jnp.where(seen_y, y if integers else y.astype(dtype), 0)
        # A missing target judges no instance, so nothing could impute it.
        moves_y = seen_y & refine_targets
        moves_y = moves_y if given.movable_y is None else moves_y & given.movable_y
    elif not refine_targets:
        moves_x = moves_x.at[:, jnp.array(layout.target_columns)].set(False)
    filled = layout.fill(x, seen_x, given.segments, around)
    noise_x, noise_y = (
        None if noise is None else noise.astype(dtype) for noise in (given.noise_x, given.noise_y)
    )
    if noise_x is not None:
        moves_x &= noise_x > 0
    if moves_y is not None and noise_y is not None:
        moves_y &= noise_y > 0
    data = Data(
        filled,
        y,
        seen_x,
        seen_y,
        moves_x,
        moves_y,
        given.segments,
        noise_x=noise_x,
        noise_y=noise_y,
    )
    counts = _Counts(
        jnp.isinf(x).sum(),
        jnp.zeros((), int) if y is None else jnp.isinf(y).sum(),
        seen_x.any(axis=0).sum(),  # of columns: all cells may be more than 32 bits count
        jnp.ones((), int) if seen_y is None else seen_y.any(axis=0).sum(),
        layout.valid(around.with_halo(data, layout.halo)).sum(),
        *(None if noise is None else _bad(noise).sum() for noise in (noise_x, noise_y)),
    )
    return data, jax.tree.map(around.total, counts)


def _copy_targets(given: _Given, columns: list[int]) -> _Given:
    """Targets that start as columns of x and then go their own way."""

    def copy(array: jax.Array | None) -> jax.Array | None:
        return None if array is None else array[:, columns]

    return given._replace(
        y=copy(given.x),
        observed_y=copy(given.observed_x),
        movable_y=copy(given.movable_x),
        noise_y=copy(given.noise_x),
    )


def _bad(noise: jax.Array) -> jax.Array:
    """What is no standard deviation."""
    return ~(jnp.isfinite(noise) & (noise >= 0))


def _refuse(counts: _Counts, *, targets_apart: bool) -> None:
    for name, infinite, observed in (
        ("x", counts.infinite_x, counts.observed_x),
        ("y", counts.infinite_y, counts.observed_y),
    ):
        if infinite > 0:
            raise DataError(
                f"{name} has {infinite} infinite value(s), or too large for its precision: "
                "replace them, or set them to NaN to have them treated as missing."
            )
        if observed == 0 and (name == "x" or targets_apart):
            raise DataError(f"every cell of {name} is missing: there is nothing to refine.")
    for name, bad in (("noise_x", counts.bad_noise_x), ("noise_y", counts.bad_noise_y)):
        if bad is not None and bad > 0:
            raise DataError(
                f"{name} is NaN, infinite or negative somewhere: it must be the standard deviation "
                "of each cell's noise, 0 where the cell is known exactly."
            )
    if counts.instances == 0:
        raise ShapeError(
            "there is no instance to refine: no window fits into any segment, or the target is "
            "missing wherever one ends. Use shorter windows or fewer segments."
        )


def _as_device_array(values: Any) -> jax.Array:
    array = _as_host_array(values)
    if isinstance(array, jax.Array):
        return array
    placed: jax.Array = jax.device_put(array)  # `jnp.asarray` compiles a program for each shape
    return placed


def _as_host_array(values: Any) -> Any:
    """An array still on the host, unless it is JAX's: it need not fit on one device.

    Integers that JAX's type has no room for become floats, where they are rounded and not wrapped.
    """
    if isinstance(values, jax.Array):
        return values
    array = np.asarray(values)
    if array.dtype.kind in "OSUMm":
        raise TypeError(f"not numbers: {array.dtype}")
    narrow = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype.kind in "iu" and narrow != array.dtype and array.size:
        limits = np.iinfo(narrow)
        if array.min() < limits.min or array.max() > limits.max:
            return array.astype(np.float64)
    return array


def _as_values(name: str, values: Any, to_array: Any) -> Any:
    try:
        with np.errstate(over="ignore"):  # what overflows float32 is refused as infinite
            array = to_array(values)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(
            f"{name} must be an array of numbers, not {type(values).__name__} "
            f"({getattr(values, 'dtype', 'no dtype')}): encode text and categories first, or use "
            "denograd_jax.refine with a data frame."
        ) from error
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise UnsupportedError(f"{name} must be real, not {array.dtype}.")
    return array.astype(jnp.float32) if array.dtype == bool else array


def _working_dtype(*arrays: jax.Array) -> Any:
    """At least float32, whatever is widest: corrections are below half precision's spacing."""
    floating = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    default = jnp.zeros(()).dtype  # for integers: float32, or float64 where JAX prefers it
    widest = max(floating, key=lambda d: d.itemsize, default=default)
    return widest if widest.itemsize >= 4 else np.dtype("float32")


def _mask(name: str, mask: Any, like: Any) -> Any:
    """A boolean mask in the shape of `like`, on the host unless it is JAX's; None if not given."""
    if like is None or mask is None:
        return None
    on_host = not isinstance(mask, jax.Array)
    if on_host:
        mask = np.asarray(mask)
    if mask.dtype != bool:
        raise UnsupportedError(f"{name} must be a boolean mask, not {mask.dtype}.")
    try:
        return (np if on_host else jnp).broadcast_to(mask, like.shape)
    except ValueError as error:
        raise ShapeError(
            f"{name} of shape {mask.shape} does not broadcast to shape {like.shape}."
        ) from error


def broadcastable(name: str, numbers: Any, shape: tuple[int, ...], to_array: Any = None) -> Any:
    """Numbers that broadcast to a shape, as an array of its rank.

    Raises:
        ShapeError: They do not broadcast.
        UnsupportedError: They are no real numbers.
    """
    array = _as_values(name, numbers, _as_device_array if to_array is None else to_array)
    missing = len(shape) - array.ndim
    aligned = (1,) * missing + array.shape
    if missing < 0 or any(n not in (1, size) for n, size in zip(aligned, shape, strict=True)):
        raise ShapeError(f"{name} of shape {array.shape} does not broadcast to shape {shape}.")
    return array.reshape(aligned)


def _as_noise(name: str, noise: Any, like: Any, blocks: Blocks | None) -> Any:
    """Noise in the shape of `like`; one row where it is the same for all, unless in blocks."""
    if noise is None:
        return None
    if like is None:
        raise ShapeError(
            f"{name} was given, but targets are columns of x: their noise is that of noise_x."
        )
    to_array = _as_device_array if blocks is None else _as_host_array
    noise = broadcastable(name, noise, like.shape, to_array)
    rows = noise.shape[0] if blocks is None else like.shape[0]
    numpy: Any = np if isinstance(noise, np.ndarray) else jnp
    return numpy.broadcast_to(noise, (rows, *like.shape[1:]))


def _seen(values: jax.Array, observed: jax.Array | None, real: jax.Array) -> jax.Array:
    """Which values were measured; `real` tells the rows or steps that are no padding."""
    floating = jnp.issubdtype(values.dtype, jnp.floating)
    seen = ~jnp.isnan(values) if floating else jnp.ones(values.shape, bool)
    if observed is not None:
        seen &= observed
    seen &= real.reshape(-1, *(1,) * (values.ndim - 1))
    return seen


def _as_segments(segments: Any, steps: int) -> Any:
    """Segments numbered in order, so that a label that comes back later is another segment."""
    on_device = isinstance(segments, jax.Array)
    labels = segments if on_device else np.asarray(segments)
    if labels.shape != (steps,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ShapeError(
            f"segments must be integers of shape ({steps},), not {labels.dtype} of shape "
            f"{labels.shape}."
        )
    begins = labels[1:] != labels[:-1]
    if on_device:
        return jnp.pad(jnp.cumsum(begins, dtype=jnp.int32), (1, 0))
    return np.pad(np.cumsum(begins, dtype=np.int32), (1, 0))


@functools.partial(jax.jit, static_argnums=0)
def valid_instances(layout: Layout, data: Data) -> jax.Array:
    """Which instances of prepared data are real, `(n,)`, compiled as one program."""
    return layout.valid(data)
