"""Modules whose forward is exchanged for the export, by another that computes the same."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from denograd_jax.bridges._torch_tensors import import_torch
from denograd_jax.errors import UnsupportedError

__all__ = ["add_port", "register_rewrite", "rewritten"]

Rewrite: TypeAlias = Callable[[Any], Callable[..., Any] | None]
"""A module to the function to be traced in place of its forward, or None to leave it alone."""

_REWRITES: dict[str, Rewrite] = {}
_PORTS: dict[str, Rewrite] = {}


def register_rewrite(cls: str) -> Callable[[Rewrite], Rewrite]:
    """Give modules of a class another forward while they are exported: a decorator.

    For modules that `torch.export` refuses, or unrolls, though what they compute is innocent. What
    is decorated takes such a module and returns the function to be traced in place of its
    `forward`, or None to leave it alone; it must compute the same.

    Args:
        cls: The class by its full name, such as "torch.nn.modules.rnn.LSTM". Subclasses with a
            `forward` of their own are left alone.
    """

    def register(function: Rewrite) -> Rewrite:
        _REWRITES[cls] = function
        return function

    return register


def add_port(cls: str, rewrite: Rewrite) -> None:
    """Register the rewrite of a module that a backbone stands in for; see `register_port`."""
    _PORTS[cls] = rewrite


@contextlib.contextmanager
def rewritten(module: Any, *, ports: bool) -> Iterator[None]:
    """Exchange what is registered, in the module and all its children, for a while."""
    registered = _REWRITES | _PORTS if ports else _REWRITES
    changed = []
    try:
        for child in module.modules():
            rewrite = _rewrite_of(child, registered)
            forward = None if rewrite is None else rewrite(child)
            if forward is not None:
                child.forward = forward
                changed.append(child)
        yield
    finally:
        for child in changed:
            del child.forward


def _rewrite_of(module: Any, registered: Mapping[str, Rewrite]) -> Rewrite | None:
    forward = type(module).forward
    if "forward" in vars(module):
        return None
    for cls in type(module).__mro__:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name in registered and getattr(cls, "forward", None) is forward:
            return registered[name]
    return None


_SCHEMA = (
    "(Tensor input, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, float dropout, "
    "bool train, bool bidirectional, bool batch_first) -> Tensor[]"
)


@functools.cache
def _opaque(mode: str) -> Any:
    """A recurrent layer as one operation, whose conversion does not grow with the window."""
    torch = import_torch()

    def compute(input: Any, hx: Any, params: Any, *settings: Any) -> Any:
        state = hx if mode == "lstm" else hx[0]
        return list(getattr(torch._VF, mode)(input, state, params, *settings))

    def shapes(input: Any, hx: Any, params: Any, *settings: Any) -> Any:
        *_, bidirectional, _batch_first = settings
        width = hx[0].shape[-1] * (2 if bidirectional else 1)
        return [input.new_empty(*input.shape[:-1], width), *(torch.empty_like(h) for h in hx)]

    op = torch.library.custom_op(f"denograd_jax::{mode}", compute, mutates_args=(), schema=_SCHEMA)
    op.register_fake(shapes)
    return op


def _opaque_forward(module: Any) -> Callable[..., Any]:
    torch = import_torch()
    mode = module.mode.lower()
    op = _opaque(mode)

    def forward(input: Any, hx: Any = None) -> Any:
        if not isinstance(input, torch.Tensor):
            raise UnsupportedError("packed sequences have no form in JAX: pass a tensor.")
        single = input.dim() == 2
        if single:
            raise UnsupportedError("a recurrent layer needs a batch (n, W, C).")
        rows = input.size(0 if module.batch_first else 1)
        number = module.num_layers * (2 if module.bidirectional else 1)
        widths = [module.proj_size or module.hidden_size, module.hidden_size]
        if hx is None:
            states = [input.new_zeros(number, rows, width) for width in widths]
            states = states if mode == "lstm" else states[:1]
        else:
            states = list(hx) if mode == "lstm" else [hx]
        output, *last = op(
            input,
            states,
            [getattr(module, name) for name in module._flat_weights_names],
            module.bias,
            module.num_layers,
            0.0,
            False,
            module.bidirectional,
            module.batch_first,
        )
        return output, tuple(last) if mode == "lstm" else last[0]

    return forward


for _name in ("LSTM", "GRU", "RNN"):
    register_rewrite(f"torch.nn.modules.rnn.{_name}")(_opaque_forward)


@register_rewrite("torch.nn.modules.transformer.TransformerEncoder")
def _explicit_encoder(module: Any) -> Callable[..., Any]:
    """Without its look at the values of a mask, to tell whether it is causal."""

    def forward(
        src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: Any = None
    ) -> Any:
        for layer in module.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
        return src if module.norm is None else module.norm(src)

    return forward


@register_rewrite("torch.nn.modules.transformer.TransformerDecoder")
def _explicit_decoder(module: Any) -> Callable[..., Any]:
    def forward(tgt: Any, memory: Any, **masks: Any) -> Any:
        kept = {name: mask for name, mask in masks.items() if not name.endswith("is_causal")}
        for layer in module.layers:
            tgt = layer(tgt, memory, **kept)
        return tgt if module.norm is None else module.norm(tgt)

    return forward
