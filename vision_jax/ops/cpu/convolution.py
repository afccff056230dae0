"""Convolution and its two gradients: three bilinear operations, each the others' transposes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad

from vision_jax.ops.cpu import rules, xla
from vision_jax.ops.cpu.primitive import make_primitive
from vision_jax.ops.cpu.xla import Padding, Pair


def _batch_images(
    primitive: Primitive, args: tuple[jax.Array, ...], axes: tuple[Any, ...], **params: Any
) -> tuple[jax.Array, int]:
    """Vmap rule: fold a vmap over images into their batch, leave one over kernels to XLA."""
    if axes[1] is not None:
        return _batch_native(primitive, args, axes, **params)
    images = jnp.moveaxis(args[0], axes[0], 0)
    result = primitive.bind(images.reshape(-1, *images.shape[2:]), args[1], **params)
    return result.reshape(*images.shape[:2], *result.shape[1:]), 0


def _batch_native(
    primitive: Primitive, args: tuple[jax.Array, ...], axes: tuple[Any, ...], **params: Any
) -> tuple[jax.Array, int]:
    form = partial(_NATIVE[primitive.name], **params)
    return jax.vmap(form, axes)(*args), 0


_NATIVE: dict[str, Callable[..., jax.Array]] = {
    "conv_forward": xla.forward,
    "conv_input_grad": xla.input_grad,
    "conv_kernel_grad": xla.kernel_grad,
}

forward_p = make_primitive(
    "conv_forward", native=xla.forward, cpu=rules.forward, batch=_batch_images
)
input_grad_p = make_primitive(
    "conv_input_grad", native=xla.input_grad, cpu=rules.input_grad, batch=_batch_images
)
kernel_grad_p = make_primitive(
    "conv_kernel_grad", native=xla.kernel_grad, cpu=rules.kernel_grad, batch=_batch_native
)


def forward(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair,
    padding: Padding,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Convolve NHWC images with an HWIO kernel.

    Args:
        x: Images.
        kernel: Weights; of grouped channels, (rows, columns, channels / groups, features).
        strides: Steps between outputs.
        padding: Zeros to add, or pixels to cut.
        dilation: Steps between the pixels that the kernel sees.
        groups: How many parts channels and features divide into, each convolved apart.

    Returns:
        The feature maps.
    """
    return forward_p.bind(
        x, kernel, strides=strides, padding=padding, dilation=dilation, groups=groups
    )


def input_grad(
    g: jax.Array,
    kernel: jax.Array,
    *,
    size: Pair,
    strides: Pair,
    padding: Padding,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Transpose `forward` in its images, whose height and width are `size`."""
    return input_grad_p.bind(
        g, kernel, size=size, strides=strides, padding=padding, dilation=dilation, groups=groups
    )


def kernel_grad(
    x: jax.Array,
    g: jax.Array,
    *,
    size: Pair,
    strides: Pair,
    padding: Padding,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Transpose `forward` in its kernel, whose height and width are `size`."""
    return kernel_grad_p.bind(
        x, g, size=size, strides=strides, padding=padding, dilation=dilation, groups=groups
    )


def _size(images: Any) -> Pair:
    """Return height and width of images, also of those that a transposition solves for."""
    _, height, width, _ = getattr(images, "aval", images).shape
    return height, width


def _window(kernel: Any) -> Pair:
    """Return height and width of a kernel, also of one that a transposition solves for."""
    height, width, _, _ = getattr(kernel, "aval", kernel).shape
    return height, width


ad.defbilinear(
    forward_p,
    lambda g, x, kernel, **kw: input_grad(g, kernel, **kw, size=_size(x)),
    lambda g, x, kernel, **kw: kernel_grad(x, g, **kw, size=_window(kernel)),
)
ad.defbilinear(
    input_grad_p,
    lambda x, _g, kernel, size, **kw: forward(x, kernel, **kw),
    lambda x, g, kernel, size, **kw: kernel_grad(x, g, **kw, size=_window(kernel)),
)
ad.defbilinear(
    kernel_grad_p,
    lambda kernel, x, g, size, **kw: input_grad(g, kernel, **kw, size=_size(x)),
    lambda kernel, x, _g, size, **kw: forward(x, kernel, **kw),
)
