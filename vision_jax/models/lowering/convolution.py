"""Convolution and its two gradients: three bilinear operations, each the others' transposes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad

from vision_jax.models.lowering.operation import operation

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def native_forward(
    x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding
) -> jax.Array:
    """The convolution as XLA's own operation."""
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_LAYOUT)


def native_input_grad(
    g: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """The gradient of the input, `size` its height and width, as XLA's own operation."""
    x = jax.ShapeDtypeStruct((g.shape[0], *size, kernel.shape[2]), g.dtype)

    def forward(x: jax.Array) -> jax.Array:
        return native_forward(x, kernel, strides=strides, padding=padding)

    return jax.linear_transpose(forward, x)(g)[0]


def native_kernel_grad(
    x: jax.Array, g: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """The gradient of the kernel, `size` its height and width, as XLA's own operation."""
    kernel = jax.ShapeDtypeStruct((*size, x.shape[3], g.shape[3]), x.dtype)

    def forward(kernel: jax.Array) -> jax.Array:
        return native_forward(x, kernel, strides=strides, padding=padding)

    return jax.linear_transpose(forward, kernel)(g)[0]


def _batch_images(
    primitive: Primitive, args: tuple[jax.Array, ...], axes: tuple[int | None, ...], **params: Any
) -> tuple[jax.Array, int]:
    """Vmap over images folds into their batch axis; over kernels it is a grouped convolution."""
    if axes[1] is not None:
        return _batch_native(primitive, args, axes, **params)
    images = jnp.moveaxis(args[0], axes[0], 0)
    result = primitive.bind(images.reshape(-1, *images.shape[2:]), args[1], **params)
    return result.reshape(*images.shape[:2], *result.shape[1:]), 0


def _batch_native(
    primitive: Primitive, args: tuple[jax.Array, ...], axes: tuple[int | None, ...], **params: Any
) -> tuple[jax.Array, int]:
    native = _NATIVE[primitive.name]
    return jax.vmap(lambda *a: native(*a, **params), axes)(*args), 0


_NATIVE = {
    "conv_forward": native_forward,
    "conv_input_grad": native_input_grad,
    "conv_kernel_grad": native_kernel_grad,
}

forward_p = operation(
    "conv_forward", native=native_forward, cpu=native_forward, batch=_batch_images
)
input_grad_p = operation(
    "conv_input_grad", native=native_input_grad, cpu=native_input_grad, batch=_batch_images
)
kernel_grad_p = operation(
    "conv_kernel_grad", native=native_kernel_grad, cpu=native_kernel_grad, batch=_batch_native
)


def forward(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding) -> jax.Array:
    """Convolve NHWC images with an HWIO kernel."""
    return forward_p.bind(x, kernel, strides=strides, padding=padding)


def input_grad(
    g: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Transpose `forward` in its images, whose height and width are `size`."""
    return input_grad_p.bind(g, kernel, strides=strides, padding=padding, size=size)


def kernel_grad(
    x: jax.Array, g: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Transpose `forward` in its kernel, whose height and width are `size`."""
    return kernel_grad_p.bind(x, g, strides=strides, padding=padding, size=size)


def _shape(operand: Any) -> tuple[int, ...]:
    """The shape of an array or of the unknown that a transposition solves for."""
    return getattr(operand, "aval", operand).shape


ad.defbilinear(
    forward_p,
    lambda g, x, kernel, **kw: input_grad(g, kernel, **kw, size=_shape(x)[1:3]),
    lambda g, x, kernel, **kw: kernel_grad(x, g, **kw, size=_shape(kernel)[:2]),
)
ad.defbilinear(
    input_grad_p,
    lambda x, _g, kernel, size, **kw: forward(x, kernel, **kw),
    lambda x, g, kernel, size, **kw: kernel_grad(x, g, **kw, size=_shape(kernel)[:2]),
)
ad.defbilinear(
    kernel_grad_p,
    lambda kernel, x, g, size, **kw: input_grad(g, kernel, **kw, size=_shape(x)[1:3]),
    lambda kernel, x, _g, size, **kw: forward(x, kernel, **kw),
)
