"""Functions of single elements, and of two arrays element by element."""

from typing import Any

import jax
import jax.numpy as jnp

from denograd_jax.bridges._registry import register_op
from denograd_jax.bridges.aten._dtypes import as_dtype, as_real, is_floating

__all__: list[str] = []

_UNARY: dict[str, Any] = {
    "bitwise_not": jnp.bitwise_not,
    "ceil": jnp.ceil,
    "floor": jnp.floor,
    "isfinite": jnp.isfinite,
    "isinf": jnp.isinf,
    "isnan": jnp.isnan,
    "logical_not": jnp.logical_not,
    "neg": jnp.negative,
    "sign": jnp.sign,
    "square": jnp.square,
    "trunc": jnp.trunc,
}
_UNARY_OF_REALS: dict[str, Any] = {
    "acos": jnp.arccos,
    "acosh": jnp.arccosh,
    "asin": jnp.arcsin,
    "asinh": jnp.arcsinh,
    "atan": jnp.arctan,
    "atanh": jnp.arctanh,
    "cos": jnp.cos,
    "cosh": jnp.cosh,
    "deg2rad": jnp.deg2rad,
    "digamma": jax.scipy.special.digamma,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "erfinv": jax.scipy.special.erfinv,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "lgamma": jax.scipy.special.gammaln,
    "log": jnp.log,
    "log10": jnp.log10,
    "log1p": jnp.log1p,
    "log2": jnp.log2,
    "rad2deg": jnp.rad2deg,
    "reciprocal": jnp.reciprocal,
    "rsqrt": jax.lax.rsqrt,
    "sigmoid": jax.nn.sigmoid,
    "sin": jnp.sin,
    "sinc": jnp.sinc,
    "sinh": jnp.sinh,
    "sqrt": jnp.sqrt,
    "tan": jnp.tan,
    "tanh": jnp.tanh,
}
_BINARY: dict[str, Any] = {
    "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or,
    "bitwise_xor": jnp.bitwise_xor,
    "eq": jnp.equal,
    "fmod": jnp.fmod,
    "ge": jnp.greater_equal,
    "gt": jnp.greater,
    "hypot": jnp.hypot,
    "le": jnp.less_equal,
    "logaddexp": jnp.logaddexp,
    "logaddexp2": jnp.logaddexp2,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
    "lt": jnp.less,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "mul": jnp.multiply,
    "ne": jnp.not_equal,
    "remainder": jnp.remainder,
}


def _register_tables() -> None:
    def with_two(function: Any) -> Any:
        def rule(self: Any, other: Any) -> jax.Array:
            result: jax.Array = function(self, other)
            return result

        return rule

    def with_one(function: Any) -> Any:
        def rule(self: Any) -> jax.Array:
            result: jax.Array = function(self)
            return result

        return rule

    for name, function in _UNARY.items():
        register_op(f"aten.{name}")(with_one(function))
    for name, function in _UNARY_OF_REALS.items():
        register_op(f"aten.{name}")(with_one(lambda x, f=function: f(as_real(x))))
    for name, function in _BINARY.items():
        register_op(f"aten.{name}")(with_two(function))


_register_tables()


@register_op("aten.abs")
def absolute(self: jax.Array) -> jax.Array:
    """The derivative at 0 is 0; that of `jnp.abs` is 1 for real numbers."""
    return jnp.abs(self) if jnp.iscomplexobj(self) else self * jnp.sign(self)


@register_op("aten.sgn")
def sgn(self: jax.Array) -> jax.Array:
    """The sign, or the direction of a complex number; that of 0 is 0."""
    if not jnp.iscomplexobj(self):
        return jnp.sign(self)
    size = jnp.abs(self)
    return self / jnp.where(size > 0, size, 1)


@register_op("aten.angle")
def angle(self: jax.Array) -> jax.Array:
    return arctan2(self.imag, self.real) if jnp.iscomplexobj(self) else jnp.angle(self)


@register_op("aten._conj", "aten._conj_physical")
def conjugate(self: jax.Array) -> jax.Array:
    return jnp.conj(self)


@register_op("aten.fmax")
def fmax(self: jax.Array, other: jax.Array) -> jax.Array:
    """The larger, or the one that is a number; of ties the first has the gradient."""
    return jnp.where((self >= other) | jnp.isnan(other), self, other)


@register_op("aten.fmin")
def fmin(self: jax.Array, other: jax.Array) -> jax.Array:
    """The smaller, or the one that is a number; of ties the first has the gradient."""
    return jnp.where((self <= other) | jnp.isnan(other), self, other)


@register_op("aten.add")
def add(self: Any, other: Any, *, alpha: float = 1) -> jax.Array:
    return jnp.add(self, other if alpha == 1 else other * alpha)


@register_op("aten.sub")
def subtract(self: Any, other: Any, *, alpha: float = 1) -> jax.Array:
    return jnp.subtract(self, other if alpha == 1 else other * alpha)


@register_op("aten.rsub")
def subtract_from(self: Any, other: Any, alpha: float = 1) -> jax.Array:
    return subtract(other, self, alpha=alpha)


@register_op("aten.div", "aten.true_divide", "aten.divide")
def divide(self: Any, other: Any, *, rounding_mode: str | None = None) -> jax.Array:
    if rounding_mode == "floor":
        return jnp.floor_divide(self, other)
    if rounding_mode is None:
        either = is_floating(self) or is_floating(other)
        return jnp.true_divide(self if either else as_real(self), other)
    quotient = jnp.true_divide(self, other)
    return jnp.trunc(quotient).astype(jnp.result_type(self, other))


@register_op("aten.floor_divide")
def floor_divide(self: Any, other: Any) -> jax.Array:
    return jnp.floor_divide(self, other)


@register_op("aten.pow")
def power(self: Any, exponent: Any) -> jax.Array:
    """0 to the power of 0 is 1, whose derivatives are 0."""
    if isinstance(self, jax.Array) and isinstance(exponent, jax.Array):
        self = jnp.where((self == 0) & (exponent == 0), 1, self)
    return jnp.power(self, exponent)


@register_op("aten.float_power")
def float_power(self: Any, exponent: Any) -> jax.Array:
    return jnp.float_power(self, exponent)


@register_op("aten.atan2", "aten.arctan2")
def arctan2(self: jax.Array, other: jax.Array) -> jax.Array:
    """Its derivatives at (0, 0) are 0."""
    origin = (self == 0) & (other == 0)
    angle = jnp.arctan2(jnp.where(origin, 0, self), jnp.where(origin, 1, other))
    return jnp.where(origin, jnp.arctan2(*map(jax.lax.stop_gradient, (self, other))), angle)


@register_op("aten.round")
def round_half_to_even(self: jax.Array, *, decimals: int = 0) -> jax.Array:
    return jnp.round(self, decimals)


@register_op("aten.frac")
def fraction(self: jax.Array) -> jax.Array:
    return self - jnp.trunc(self)


@register_op("aten.where")
def where(condition: jax.Array, self: Any, other: Any) -> jax.Array:
    return jnp.where(condition, self, other)


@register_op("aten.clamp", "aten.clip")
def clamp(self: jax.Array, min: Any = None, max: Any = None) -> jax.Array:
    """The derivative at a bound is 1."""
    if min is not None:
        self = jnp.where(self < min, jnp.asarray(min, _common(self, min)), self)
    if max is not None:
        self = jnp.where(self > max, jnp.asarray(max, _common(self, max)), self)
    return self


def _common(values: jax.Array, bound: Any) -> Any:
    return jnp.result_type(values, bound)


@register_op("aten.clamp_min")
def clamp_min(self: jax.Array, min: Any) -> jax.Array:
    return clamp(self, min)


@register_op("aten.clamp_max")
def clamp_max(self: jax.Array, max: Any) -> jax.Array:
    return clamp(self, None, max)


@register_op("aten.lerp")
def lerp(self: jax.Array, end: jax.Array, weight: Any) -> jax.Array:
    between: jax.Array = self + weight * (end - self)
    return between


@register_op("aten.addcmul")
def addcmul(self: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> jax.Array:
    total: jax.Array = self + value * tensor1 * tensor2
    return total


@register_op("aten.addcdiv")
def addcdiv(self: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> jax.Array:
    total: jax.Array = self + value * tensor1 / tensor2
    return total


@register_op("aten.xlogy", "aten.special_xlogy")
def xlogy(self: Any, other: Any) -> jax.Array:
    return jax.scipy.special.xlogy(self, other)


@register_op("aten.logit")
def logit(self: jax.Array, eps: float | None = None) -> jax.Array:
    x = self if eps is None else clamp(self, eps, 1 - eps)
    return jnp.log(x / (1 - x))


@register_op("aten.nan_to_num")
def nan_to_num(
    self: jax.Array,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> jax.Array:
    """Its derivative where a number was put in is 0."""
    x = jnp.where(jnp.isfinite(self), self, 0)
    replaced = jnp.nan_to_num(
        jax.lax.stop_gradient(self), nan=nan or 0.0, posinf=posinf, neginf=neginf
    )
    return jnp.where(jnp.isfinite(self), x, replaced)


@register_op("aten.copysign")
def copysign(self: jax.Array, other: Any) -> jax.Array:
    """The derivative at 0 is 0."""
    sign = jnp.sign(self) * jnp.copysign(1, other)
    size = jnp.copysign(jax.lax.stop_gradient(self), other)
    return jnp.where(self == 0, size, self * sign)


@register_op("aten.polar")
def polar(abs: jax.Array, angle: jax.Array) -> jax.Array:
    return jax.lax.complex(abs * jnp.cos(angle), abs * jnp.sin(angle))


@register_op("aten.complex")
def complex_number(real: jax.Array, imag: jax.Array) -> jax.Array:
    return jax.lax.complex(real, imag)


@register_op("aten.view_as_real")
def view_as_real(self: jax.Array) -> jax.Array:
    return jnp.stack([self.real, self.imag], axis=-1)


@register_op("aten.view_as_complex")
def view_as_complex(self: jax.Array) -> jax.Array:
    return jax.lax.complex(self[..., 0], self[..., 1])


@register_op("aten._to_copy", "prims.convert_element_type")
def cast(self: jax.Array, dtype: str | None = None, *_: Any, **__: Any) -> jax.Array:
    return self if dtype is None else jnp.asarray(self, as_dtype(dtype))


@register_op("aten.type_as")
def cast_like(self: jax.Array, other: jax.Array, *_: Any, **__: Any) -> jax.Array:
    return self.astype(other.dtype)


@register_op("aten.alias", "aten.clone", "aten.lift_fresh_copy", "aten.lift_fresh")
def same(self: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """What changes no value; dropout in evaluation mode, too."""
    return self


@register_op("aten.native_dropout")
def native_dropout(input: jax.Array, p: float, train: bool | None) -> tuple[jax.Array, jax.Array]:
    return input, jnp.ones(input.shape, bool)


@register_op("aten.detach", "aten.detach_")
def detach(self: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(self)


@register_op("aten.copy")
def copy(self: jax.Array, src: jax.Array, non_blocking: bool = False) -> jax.Array:
    return jnp.broadcast_to(src, self.shape).astype(self.dtype)


@register_op("aten.masked_fill")
def masked_fill(self: jax.Array, mask: jax.Array, value: Any) -> jax.Array:
    return jnp.where(mask, jnp.asarray(value, self.dtype), self)


@register_op("aten.bitwise_left_shift", "aten.__lshift__")
def shift_left(self: Any, other: Any) -> jax.Array:
    return jnp.left_shift(self, other)


@register_op("aten.bitwise_right_shift", "aten.__rshift__")
def shift_right(self: Any, other: Any) -> jax.Array:
    return jnp.right_shift(self, other)


@register_op("aten.isclose")
def isclose(
    self: jax.Array,
    other: jax.Array,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> jax.Array:
    return jnp.isclose(self, other, rtol, atol, equal_nan)


@register_op("aten.cosine_similarity")
def cosine_similarity(x1: jax.Array, x2: jax.Array, dim: int = 1, eps: float = 1e-8) -> jax.Array:
    """Lengths below `eps` count as `eps`; the derivative of a length of 0 is 0."""
    x1, x2 = jnp.broadcast_arrays(x1, x2)
    lengths = [clamp_min(safe_sqrt((x * x).sum(dim, keepdims=True)), eps) for x in (x1, x2)]
    return (x1 / lengths[0] * (x2 / lengths[1])).sum(dim)


@register_op("aten.binary_cross_entropy")
def binary_cross_entropy(
    self: jax.Array, target: jax.Array, weight: jax.Array | None = None, reduction: int = 1
) -> jax.Array:
    """Of probabilities; their logarithm is -100 at least."""
    losses = _cross_entropy(self, target)
    losses = losses if weight is None else weight * losses
    return (losses, losses.mean(), losses.sum())[reduction]


@jax.custom_jvp
def _cross_entropy(p: jax.Array, target: jax.Array) -> jax.Array:
    hit, miss = (jnp.maximum(jnp.log(q), -100) for q in (p, 1 - p))
    return -(target * hit + (1 - target) * miss)


@_cross_entropy.defjvp
def _cross_entropy_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """As torch has it, the derivative is large but finite at 0 and 1."""
    (p, target), (along, along_target) = primals, tangents
    hit, miss = (jnp.maximum(jnp.log(q), -100) for q in (p, 1 - p))
    slope = (p - target) / jnp.maximum(p * (1 - p), 1e-12)
    return _cross_entropy(p, target), slope * along + (miss - hit) * along_target


def safe_sqrt(x: jax.Array) -> jax.Array:
    """Square root whose derivative at 0 is 0, as torch has it for norms and deviations."""
    positive = x > 0
    root = jnp.sqrt(jnp.where(positive, x, 1))
    return jnp.where(positive, root, jnp.sqrt(jax.lax.stop_gradient(x)))
