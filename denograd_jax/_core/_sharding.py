"""A sweep over arrays that lie in blocks on the devices of a mesh, one block of steps on each.

Every device owns the instances that begin in its block. Those that reach into the next block read a
halo from the neighbour, and give back what they say about it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from denograd_jax._core._sweep import Sweep
from denograd_jax._types import Params
from denograd_jax.errors import UnsupportedError
from denograd_jax.layouts import Data, Layout

__all__ = ["ALONE", "Alone", "Blocks", "blocks_over"]

_T = TypeVar("_T")

_all_gather: Any = jax.lax.all_gather
_constrain: Any = jax.lax.with_sharding_constraint
_psum: Any = jax.lax.psum
_ppermute: Any = jax.lax.ppermute


def blocks_over(mesh: Mesh | None, axis: str | None) -> "Blocks | None":
    """The blocks of a mesh axis, the first unless named; None without a mesh."""
    if mesh is None:
        if axis is not None:
            raise UnsupportedError(f"axis {axis!r} names an axis of a mesh: pass mesh= too.")
        return None
    if not isinstance(mesh, Mesh):
        raise UnsupportedError(f"mesh must be a jax.sharding.Mesh of devices, not {mesh!r:.100}.")
    if AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types:
        raise UnsupportedError(
            "a refiner over a mesh works with automatic axes, and the mesh in context "
            "(jax.set_mesh) has explicit ones: leave the context, or make that mesh with "
            "axis_types=(jax.sharding.AxisType.Auto,) * axes."
        )
    axis = mesh.axis_names[0] if axis is None else axis
    if axis not in mesh.axis_names:
        raise UnsupportedError(f"the mesh has the axes {mesh.axis_names}, not {axis!r}.")
    # Sharding in types (explicit axes) refuses what is not done block by block: moves, optimisers.
    automatic = (AxisType.Auto,) * len(mesh.axis_names)
    return Blocks(Mesh(mesh.devices, mesh.axis_names, axis_types=automatic), axis)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The first axis of all arrays, in equal blocks along one axis of a mesh."""

    mesh: Mesh
    axis: str

    @property
    def number(self) -> int:
        """How many blocks there are."""
        devices: int = self.mesh.shape[self.axis]
        return devices

    @property
    def sharding(self) -> NamedSharding:
        """Where arrays lie."""
        return NamedSharding(self.mesh, PartitionSpec(self.axis))  # type: ignore[no-untyped-call]

    def length(self, layout: Layout, given: int) -> int:
        """Rows or steps to pad to: blocks hold whole strides, and are no shorter than a halo."""
        block = max(-(-given // self.number), layout.halo, 1)
        return -(-block // layout.stride) * layout.stride * self.number

    def place(self, array: Any, length: int) -> jax.Array:
        """The array on its devices, padded at the end by zeros (in masks: False).

        Of an array on the host, mapped from a file perhaps, each process reads its own blocks only.
        """
        shape = (length, *array.shape[1:])
        if isinstance(array, jax.Array):
            # Between hosts, device_put compares the copies of all, and NaN equals nothing.
            apart = jax.process_count() > 1 and array.is_fully_addressable
            array = np.asarray(array) if apart else array
        if isinstance(array, jax.Array):
            padding = [(0, length - array.shape[0])] + [(0, 0)] * (array.ndim - 1)
            placed: jax.Array = _constrain(jnp.pad(array, padding), self.sharding)
            return placed
        dtype = jnp.asarray(np.zeros(0, array.dtype)).dtype

        def block(index: Any) -> np.ndarray:
            begin, end, _ = index[0].indices(length)
            values = np.zeros((end - begin, *shape[1:]), dtype)
            given = array[begin:end]
            with np.errstate(over="ignore"):  # what overflows float32 is refused as infinite
                values[: len(given)] = given
            return values

        return jax.make_array_from_callback(shape, self.sharding, block)

    def map(self, function: Callable[..., Any], arrays: Any) -> Any:
        """`function(block of the arrays) -> (block of results, what is the same on all)`."""
        ours, everywhere = self.sharding.spec, PartitionSpec()  # type: ignore[no-untyped-call]
        return self._shard_map(function, (ours,), (ours, everywhere))(arrays)

    def over(self, sweep: Callable[..., Sweep], layout: Layout) -> Callable[..., Sweep]:
        """The same sweep, by all devices at once."""

        def sweep_block(params: Params, hyperparameters: Any, data: Data, origin: Any) -> Sweep:
            whole, began = (self.with_halo(arrays, layout.halo) for arrays in (data, origin))
            found = sweep(params, hyperparameters, whole, began)
            sums = self._gather_halo(found.sums, layout.halo)
            totals = jax.tree.map(self.total, found.totals)
            return found._replace(sums=sums, totals=totals)

        ours, everywhere = self.sharding.spec, PartitionSpec()  # type: ignore[no-untyped-call]
        out_specs = Sweep(ours, everywhere, ours, ours, ours, ours)  # type: ignore[arg-type]
        by_all = self._shard_map(sweep_block, (everywhere, everywhere, ours, ours), out_specs)

        def sweep_all(
            params: Params, hyperparameters: Any, data: Data, origin: Any = None
        ) -> Sweep:
            if data.length is None:
                raise UnsupportedError(
                    "the state is of a refiner without this mesh: begin with this refiner's own "
                    "init."
                )
            found: Sweep = by_all(params, hyperparameters, data, origin)
            return found

        return sweep_all

    def _shard_map(self, function: Any, in_specs: Any, out_specs: Any) -> Any:
        # Without check_vma: loops begin with zeros, which are the same on all devices.
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )

    # What follows is for use within a block.

    def first(self, size: int) -> jax.Array:
        """The first step of this block, all being of one size."""
        first: jax.Array = jax.lax.axis_index(self.axis) * size
        return first

    def total(self, here: jax.Array) -> jax.Array:
        """See `Surroundings`."""
        total: jax.Array = _psum(here, self.axis)
        return total

    def before(self, known: jax.Array, here: Any) -> tuple[jax.Array, Any]:
        """See `Surroundings`; `known` and the leaves of `here` are `(columns,)`."""
        number = jnp.arange(self.number, dtype=jnp.int32)[:, None]
        earlier = number < jax.lax.axis_index(self.axis)
        last = jnp.where(_all_gather(known, self.axis) & earlier, number, -1).max(axis=0)

        def take(leaf: jax.Array) -> jax.Array:
            everyones = _all_gather(leaf, self.axis)
            return jnp.take_along_axis(everyones, jnp.maximum(last, 0)[None], axis=0)[0]

        return last >= 0, jax.tree.map(take, here)

    def with_halo(self, arrays: _T, halo: int) -> _T:
        """The block and the first steps of the next; behind the last all is missing."""
        if halo == 0:
            return arrays
        to_the_left = [(i, i - 1) for i in range(1, self.number)]

        def extend(block: jax.Array) -> jax.Array:
            theirs = _ppermute(block[:halo], self.axis, to_the_left)
            return jnp.concatenate([block, theirs])

        extended: _T = jax.tree.map(extend, arrays)
        return extended

    def _gather_halo(self, sums: Any, halo: int) -> Any:
        """Sums of the block, with what the block before says about its first steps."""
        if halo == 0:
            return sums
        to_the_right = [(i, i + 1) for i in range(self.number - 1)]

        def add(total: jax.Array) -> jax.Array:
            block = total.shape[0] - halo
            theirs = _ppermute(total[block:], self.axis, to_the_right)
            return total[:block].at[:halo].add(theirs)

        return jax.tree.map(add, sums)


class Alone:
    """The surroundings of arrays that are not shared out."""

    def first(self, size: int) -> int:
        """See `Blocks`."""
        del size
        return 0

    def total(self, here: jax.Array) -> jax.Array:
        """See `Surroundings`."""
        return here

    def before(self, known: jax.Array, here: Any) -> tuple[jax.Array, Any]:
        """See `Surroundings`."""
        return jnp.zeros_like(known), here

    def with_halo(self, arrays: _T, halo: int) -> _T:
        """See `Blocks`."""
        del halo
        return arrays


ALONE = Alone()
