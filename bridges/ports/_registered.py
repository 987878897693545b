"""Modules that a backbone stands in for wherever they are found, registered by class."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from denograd_jax.bridges._rewrites import add_port
from denograd_jax.bridges._torch_tensors import import_torch
from denograd_jax.bridges.ports._blueprints import PORT, blueprint, build, skeleton
from denograd_jax.bridges.ports._state_dicts import tensor_names
from denograd_jax.bridges.ports._structures import ft_transformer_options, xlstm_options
from denograd_jax.errors import UnsupportedError

__all__ = ["Registration", "register_port"]


class Registration(NamedTuple):
    """The backbone that computes what a PyTorch module does.

    Attributes:
        backbone: Its name, as `backbones.build` takes it.
        options: Its sizes: `input_shape`, `outputs` and those of its class.
        names: What the module calls the parts of the usual one: `{"lstm": "rnn", "head": "fc"}`.
    """

    backbone: str
    options: Mapping[str, Any]
    names: Mapping[str, str] = {}


_Read = Callable[[Any], Registration | None]


def register_port(cls: str) -> Callable[[_Read], _Read]:
    """Have `from_torch` run a backbone in place of modules of a class: a decorator.

    The module may be the whole model or any part of it; its forward takes a batch and is not
    traced. For modules that are exported slowly or not at all, such as a recurrence written as a
    loop over time.

    Args:
        cls: The class by its full name, such as "mine.models.MyLSTM". Subclasses with a `forward`
            of their own are left alone.

    Returns:
        A decorator of a function of such a module that says which backbone it is, or None if it has
        settings that no backbone has. The backbone must compute the same: `from_torch` compares.
    """

    def register(read: _Read) -> _Read:
        add_port(cls, functools.partial(_opaque_forward, read))
        return read

    return register


def _opaque_forward(read: _Read, module: Any) -> Callable[..., Any] | None:
    found = read(module)
    if found is None:
        return None
    text = blueprint(found.backbone, **found.options)
    names = tensor_names(skeleton(text)[0], found.names)
    own = {name for name, _ in module.named_parameters()}
    if set(names) != own:
        raise UnsupportedError(
            f"{type(module).__name__} is registered as the backbone {found.backbone}, but its "
            f"parameters are others: {', '.join(sorted(own ^ set(names)))}. See register_port."
        )

    def forward(x: Any, *others: Any) -> Any:
        if any(other is not None for other in others):
            raise UnsupportedError(f"{type(module).__name__} stands for a backbone of one input.")
        return _opaque()(x, [module.get_parameter(name) for name in names], text)

    return forward


@functools.cache
def _opaque() -> Any:
    """A port as one operation, for which `_blueprints.port` is the rule in JAX."""
    torch = import_torch()

    def compute(x: Any, weights: Any, blueprint: str) -> Any:
        raise NotImplementedError("a port stands in for a module during export only")

    def shape(x: Any, weights: Any, blueprint: str) -> Any:
        one = jax.ShapeDtypeStruct((1, *map(int, x.shape[1:])), jnp.float32)  # type: ignore[no-untyped-call]
        return x.new_empty(x.shape[0], *jax.eval_shape(build(blueprint), one).shape[1:])

    op = torch.library.custom_op(
        PORT.replace(".", "::"),
        compute,
        mutates_args=(),
        schema="(Tensor x, Tensor[] weights, str blueprint) -> Tensor",
    )
    op.register_fake(shape)
    return op


@register_port("xlstm.xlstm_block_stack.xLSTMBlockStack")
def _extended_lstm(stack: Any) -> Registration | None:
    """Its sLSTM loops over time, and branches on values."""
    options = xlstm_options(stack)
    return None if options is None else Registration("xlstm_blocks", options)


@register_port("rtdl_revisiting_models.FTTransformer")
def _feature_transformer(network: Any) -> Registration | None:
    """Its forward reads the number of rows, which would be fixed."""
    options = ft_transformer_options(network)
    return None if options is None else Registration("ft_transformer", options)
