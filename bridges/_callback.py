"""PyTorch called from JAX on the host: for modules that cannot be exported."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from denograd_jax._types import Instance, Instances, Model, Params
from denograd_jax.bridges._examples import calls_on
from denograd_jax.bridges._from_torch import evaluation_copy
from denograd_jax.bridges._torch_tensors import import_torch, to_numpy
from denograd_jax.errors import UnsupportedError

__all__ = ["from_torch_callback"]

_Shape: Any = jax.ShapeDtypeStruct
_Arrays: TypeAlias = tuple[jax.Array, ...]
_ONE_AT_A_TIME = threading.Lock()  # torch's number of threads is one for the whole process


def from_torch_callback(module: Any, example: Any, *, rows_independent: bool = False) -> Model:
    """Wrap a PyTorch module so that JAX calls it on the host: slow, but without any translation.

    For modules that `from_torch` refuses. Reverse-mode derivatives of any order are torch's own;
    there are none of forward mode, nothing runs on an accelerator, and the model can neither be
    exported nor saved. It computes in float64 if the instances are, else in float32, to which the
    weights are cast; they are sent to the host with each call. The module is copied, in
    evaluation mode, and left as it was. Look-ahead: no, beyond the module's own.

    Args:
        module: Called on a batch, `(n, d)` or `(n, W, C)` to `(n, q)` or `(n,)`.
        example: Instances, `(n, ...)`, on which the module runs.
        rows_independent: Whether the instances of a batch do not interact, not even in a branch of
            the module; the model then has a `predict_batch`, and `vmap` sends all instances in one
            batch. Unless the user vouches for it, each instance is a batch of its own.

    Returns:
        The model, with the weights as `{name: NumPy array}`.

    Raises:
        ModelError: If the module does not run on the example.
        UnsupportedError: If it returns something else than one tensor.
        MissingExtraError: If PyTorch is not installed.
    """
    torch = import_torch()
    module = evaluation_copy(module, None)
    called = next(iter(calls_on(module, example)))
    weights = dict(module.named_parameters())
    weights |= {n: b for n, b in module.named_buffers() if b.is_floating_point()}
    with torch.enable_grad():
        output = called.module(called.example.clone().requires_grad_())
    if not output.requires_grad:
        raise UnsupportedError(
            f"{type(module).__name__} gives no gradient by its input: its forward cuts it off, by "
            "torch.no_grad() or detach() perhaps."
        )

    def forward(x: Any, *values: Any) -> tuple[Any, ...]:
        named = dict(zip(weights, values, strict=True))
        return (torch.func.functional_call(called.module, named, (x,)),)

    function = _Function(forward, (True, *(False for _ in weights)), (True,), rows_independent)

    def predict_batch(params: Params, x: Instances) -> jax.Array:
        x = jnp.asarray(x)
        dtype = x.dtype if x.dtype == jnp.float64 else jnp.dtype(jnp.float32)
        shape = _Shape((x.shape[0], *output.shape[1:]), dtype)
        arrays = [jnp.asarray(array, dtype) for array in (x, *(params[name] for name in weights))]
        (found,) = _on_host(function, (shape,))(*arrays)
        return found

    def predict(params: Params, x: Instance) -> jax.Array:
        return predict_batch(params, x[None])[0]

    params = {name: to_numpy(value) for name, value in weights.items()}
    return Model(predict, params, predict_batch if rows_independent else None)


class _Function(NamedTuple):
    """Tensors to tensors, differentiable by torch.

    Attributes:
        run: The function.
        rows_in: Which arguments have one entry for each row of a batch.
        rows_out: Which results do; the others are sums over all rows.
        independent: Whether rows may be put together into one batch.
    """

    run: Callable[..., tuple[Any, ...]]
    rows_in: tuple[bool, ...]
    rows_out: tuple[bool, ...]
    independent: bool


def _on_host(function: _Function, outputs: Sequence[Any]) -> Callable[..., tuple[jax.Array, ...]]:
    """The function as one of JAX; its derivative is another of these, and so on."""

    @jax.custom_vjp
    def call(*arrays: jax.Array) -> _Arrays:
        ranks = [array.ndim for array in arrays]
        host = functools.partial(_run_all, function, ranks, outputs)
        # Under vmap the host gets all instances at once, and decides how to go through them.
        found = jax.pure_callback(host, tuple(outputs), *arrays, vmap_method="expand_dims")
        return tuple(found)

    def forward(*primals: Any) -> tuple[_Arrays, tuple[_Arrays, dict[int, None]]]:
        arrays = tuple(primal.value for primal in primals)
        # A dictionary's keys are static: by which arguments a derivative is asked for.
        wanted = {place: None for place, primal in enumerate(primals) if primal.perturbed}
        return call(*arrays), (arrays, wanted)

    def backward(
        kept: tuple[_Arrays, dict[int, None]], cotangents: Any
    ) -> tuple[jax.Array | None, ...]:
        arrays, places = kept[0], tuple(kept[1])
        pulled = _on_host(_pulled_back(function, places), [_shape(arrays[i]) for i in places])
        dense = [_dense(cotangent) for cotangent in cotangents]
        found = dict(zip(places, pulled(*arrays, *dense), strict=True))
        return tuple(found.get(i) for i in range(len(arrays)))

    call.defvjp(forward, backward, symbolic_zeros=True)
    return call


def _shape(array: jax.Array) -> Any:
    return _Shape(array.shape, array.dtype)


def _dense(cotangent: Any) -> jax.Array:
    is_zero = isinstance(cotangent, jax.custom_derivatives.SymbolicZero)
    return jnp.zeros(cotangent.shape, cotangent.dtype) if is_zero else cotangent


def _pulled_back(function: _Function, places: Sequence[int]) -> _Function:
    """Cotangents of some arguments, from all arguments and the cotangents of the results."""
    torch = import_torch()
    number = len(function.rows_in)

    def pulled(*tensors: Any) -> tuple[Any, ...]:
        arguments, cotangents = list(tensors[:number]), tensors[number:]

        def of_wanted(*values: Any) -> tuple[Any, ...]:
            for place, value in zip(places, values, strict=True):
                arguments[place] = value
            return function.run(*arguments)

        _, pull_back = torch.func.vjp(of_wanted, *(arguments[place] for place in places))
        return tuple(pull_back(tuple(cotangents)))

    return _Function(
        pulled,
        function.rows_in + function.rows_out,
        tuple(function.rows_in[place] for place in places),
        function.independent,
    )


def _run_all(
    function: _Function,
    ranks: Sequence[int],
    outputs: Sequence[Any],
    *arrays: Any,
) -> tuple[np.ndarray, ...]:
    """Runs on the host, on one batch or, under `vmap`, on many: leading axes of size n or 1.

    It must not call JAX, which waits for it.
    """
    arrays = tuple(np.asarray(array) for array in arrays)
    leads = [a.shape[: a.ndim - rank] for a, rank in zip(arrays, ranks, strict=True)]
    lead = np.broadcast_shapes(*leads)
    fixed = all(
        np.prod(own, dtype=int) == 1
        for own, row in zip(leads, function.rows_in, strict=True)
        if not row
    )
    if lead and function.independent and fixed and all(function.rows_out):
        results = _run(function, outputs, list(_merged(arrays, ranks, lead, function.rows_in)))
    else:
        cells = [_run(function, outputs, each) for each in _each(arrays, ranks, lead)]
        results = [np.stack(cell) for cell in zip(*cells, strict=True)]
    return tuple(
        found.reshape((*lead, *shape.shape)).astype(shape.dtype)
        for found, shape in zip(results, outputs, strict=True)
    )


def _merged(
    arrays: Sequence[np.ndarray], ranks: Sequence[int], lead: tuple[int, ...], rows: Sequence[bool]
) -> Iterator[np.ndarray]:
    """All batches as one."""
    for array, rank, row in zip(arrays, ranks, rows, strict=True):
        own = array.shape[array.ndim - rank :]
        if row:
            yield np.broadcast_to(array, (*lead, *own)).reshape(-1, *own[1:])
        else:
            yield array.reshape(own)


def _each(
    arrays: Sequence[np.ndarray], ranks: Sequence[int], lead: tuple[int, ...]
) -> Iterator[list[np.ndarray]]:
    """One batch after the other."""
    spread = [
        np.broadcast_to(array, (*lead, *array.shape[array.ndim - rank :]))
        for array, rank in zip(arrays, ranks, strict=True)
    ]
    for index in np.ndindex(*lead):
        yield [array[index] for array in spread]


def _run(
    function: _Function, outputs: Sequence[Any], arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    torch = import_torch()
    with _ONE_AT_A_TIME:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # torch's idle threads spin, and stall XLA's
        try:
            with torch.inference_mode(False), torch.enable_grad():
                found = function.run(*(torch.tensor(array) for array in arrays))
            return [tensor.detach().numpy() for tensor in found]
        finally:
            torch.set_num_threads(threads)
