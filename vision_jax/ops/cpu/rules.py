"""Forms of convolution that are fast on a CPU: matrix products over blocks that stay in cache.

XLA:CPU runs the gradients of a convolution, and any convolution with a stride or dilation, far
below the rate of its matrix product. These forms gather the kernel's view of the image into the
rows of a matrix (im2col) and multiply, one block of images at a time: for a whole batch that
matrix, kernel area times the size of the images, would leave the cache and cost more than the
product itself. 3x3 kernels with many channels use Winograd's transform, which saves three quarters
of the multiplications, and small images use Toom–Cook transforms, which save up to four fifths. The
rest is XLA's convolution with its dimensions in the one order that is fast everywhere: within a
loop XLA does not rearrange them. Depthwise convolutions are sums of shifted images, dilated ones
dense convolutions of every d-th pixel, and grouped ones a convolution for each group.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.ops.cpu import (
    depthwise,
    im2col,
    pointwise,
    small_images,
    space_to_batch,
    space_to_depth,
    winograd,
    xla,
)
from vision_jax.ops.cpu.xla import Padding, Pair, pad

# Pixels of the largest image for the form of small images, and the fraction of the direct form's
# multiplications at which it is faster, transforms of images and kernel included.
_SMALL = 64
_LEFT = 0.65

# Bytes of a transformed kernel that caches hold. How many multiplications one takes as long as that
# transforms a larger kernel, since memory bounds it.
_CACHED = 16 << 20
_BY_MEMORY = 6

# Channels below which older XLA runs a convolution slower than a patch matrix's product.
_FEW = 4

# The largest kernel that is faster with each 2x2 pixels as one of four times the channels, where a
# network begins by one of stride 2.
_STEM = 3

# Channels and features below which a product over the channels is narrower than a vector.
_NARROW = 8

# Channels and features from which a transformed 3x3 convolution saves more than it costs.
_MANY = 32

# Weights of a 3x3 kernel's place for each pixel of all images, up to which its transform pays.
_TRANSFORMED = 128

# Weights from which a kernel multiplies a patch matrix faster than XLA convolves with it: newer XLA
# runs at a fourth of the product's rate with two million of them. From which its gradient does. And
# bytes of the patch matrix of the largest image for which both were measured.
_HEAVY = 1 << 18
_HEAVY_GRAD = 1 << 15
_PATCHES = 16 << 20

# How many pixels its tiles may cover for each pixel of the result.
_COVER = 1.5

_NONE: Padding = ((0, 0), (0, 0))


def forward(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> jax.Array:
    """Convolve by the form that was measured to be fastest for the layer."""
    options: Any = {"strides": strides, "padding": padding, "dilation": dilation}
    if _is_depthwise(x, kernel.shape, groups):
        return depthwise.forward(x, kernel, **options)
    if _is_left_to_xla(x, strides, padding, dilation):
        return xla.forward(x, kernel, **options, groups=groups)
    if groups > 1:
        parts = zip(jnp.split(x, groups, 3), jnp.split(kernel, groups, 3), strict=True)
        return jnp.concatenate([forward(*part, **options, groups=1) for part in parts], 3)
    if dilation == (1, 1):
        return _forward(x, kernel, strides=strides, padding=padding)
    x = pad(x, ((0, 0), *padding, (0, 0)))
    y = _forward(space_to_batch.pack(x, dilation), kernel, strides=strides, padding=_NONE)
    size = [n - (k - 1) * d for n, k, d in zip(x.shape[1:3], kernel.shape, dilation, strict=False)]
    return space_to_batch.unpack(y, dilation, size)


def input_grad(
    g: jax.Array,
    kernel: jax.Array,
    *,
    size: Pair,
    strides: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> jax.Array:
    """Transpose `forward` in its images by the form measured to be fastest for the layer."""
    options: Any = {"strides": strides, "padding": padding, "dilation": dilation, "size": size}
    if _is_depthwise(g, kernel.shape, groups):
        return depthwise.input_grad(g, kernel, **options, channels=groups)
    if _is_left_to_xla(g, strides, padding, dilation):
        return xla.input_grad(g, kernel, **options, groups=groups)
    if groups > 1:
        parts = zip(jnp.split(g, groups, 3), jnp.split(kernel, groups, 3), strict=True)
        return jnp.concatenate([input_grad(*part, **options, groups=1) for part in parts], 3)
    if dilation == (1, 1):
        return _input_grad(g, kernel, strides=strides, padding=padding, size=size)
    whole = space_to_batch.padded(size, padding)
    packed = space_to_batch.fill(g, whole, kernel.shape[:2], dilation)
    height, width = (-(-n // d) for n, d in zip(whole, dilation, strict=True))
    x = _input_grad(packed, kernel, strides=strides, padding=_NONE, size=(height, width))
    x = space_to_batch.unpack(x, dilation, whole)
    return pad(x, ((0, 0), *((-before, -after) for before, after in padding), (0, 0)))


def kernel_grad(
    x: jax.Array,
    g: jax.Array,
    *,
    size: Pair,
    strides: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> jax.Array:
    """Transpose `forward` in its kernel by the form measured to be fastest for the layer."""
    options: Any = {"strides": strides, "padding": padding, "dilation": dilation, "size": size}
    if _is_depthwise(x, (*size, x.shape[3] // groups, g.shape[3]), groups):
        return depthwise.kernel_grad(x, g, **options)
    if _is_left_to_xla(x, strides, padding, dilation):
        return xla.kernel_grad(x, g, **options, groups=groups)
    if groups > 1:
        parts = zip(jnp.split(x, groups, 3), jnp.split(g, groups, 3), strict=True)
        return jnp.concatenate([kernel_grad(*part, **options, groups=1) for part in parts], 3)
    if dilation == (1, 1):
        return _kernel_grad(x, g, strides=strides, padding=padding, size=size)
    x = pad(x, ((0, 0), *padding, (0, 0)))
    height, width = x.shape[1:3]
    packed = space_to_batch.fill(g, (height, width), size, dilation)
    x = space_to_batch.pack(x, dilation)
    return _kernel_grad(x, packed, strides=strides, padding=_NONE, size=size)


def _forward(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding) -> jax.Array:
    """Convolve without groups or dilation."""
    channels, features = kernel.shape[2:]
    if _is_pointwise(kernel.shape, padding):
        return pointwise.forward(x, kernel, strides)
    if channels == 1:
        return im2col.forward_one_channel(x, kernel, strides, padding)
    if features == 1 and strides == (1, 1):
        return im2col.forward_one_feature(x, kernel, padding)
    if _is_winograd(x, kernel.shape, strides, padding):
        return winograd.forward(x, kernel, padding)
    if _is_small(x.shape[:3], kernel.shape, strides, padding):
        return small_images.forward(x, kernel, strides=strides, padding=padding)
    outputs = [
        (n + sum(edges) - k) // s + 1
        for n, edges, k, s in zip(x.shape[1:3], padding, kernel.shape[:2], strides, strict=True)
    ]
    if _is_heavy(kernel.shape, outputs, _HEAVY):
        return im2col.forward_im2col(x, kernel, strides, padding)
    if strides == (2, 2) and channels < _FEW and max(kernel.shape[:2]) <= _STEM:
        packed = space_to_depth.packed_padding(x.shape[1:3], kernel.shape[:2], strides, padding)
        weights = space_to_depth.pack_kernel(kernel, strides, padding)
        return xla.forward(space_to_depth.pack(x, strides), weights, strides=(1, 1), padding=packed)
    if strides != (1, 1) or not xla.OLDER:
        return xla.forward(x, kernel, strides=strides, padding=padding)
    if channels < _FEW:
        return im2col.forward_im2col(x, kernel, strides, padding)
    return _forward_padded(x, kernel, padding)


def _input_grad(
    g: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Transpose `_forward` in its images."""
    channels, features = kernel.shape[2:]
    if _is_pointwise(kernel.shape, padding):
        return pointwise.input_grad(g, kernel, strides, size)
    turned, edges = im2col.turned(kernel, g.shape[1:3], padding, size)
    if _is_winograd(g, turned.shape, strides, edges):
        return winograd.forward(g, turned, edges)
    if _is_small((len(g), *size), kernel.shape, strides, padding):
        return small_images.input_grad(g, kernel, strides=strides, padding=padding, size=size)
    if strides != (1, 1) or _is_heavy(kernel.shape, g.shape[1:3], _HEAVY):
        return im2col.input_grad_col2im(g, kernel, strides, padding, size)
    if features == 1:
        return im2col.forward_one_channel(g, turned, strides, edges)
    if channels == 1:
        return im2col.forward_one_feature(g, turned, edges)
    # As in im2col.kernel_grad, XLA must not fold the turning into the convolution.
    turned = lax.optimization_barrier(turned)
    return xla.forward(g, turned, strides=strides, padding=edges)


def _kernel_grad(
    x: jax.Array, g: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Transpose `_forward` in its kernel."""
    if _is_pointwise((*size, x.shape[3], g.shape[3]), padding):
        return pointwise.kernel_grad(x, g, strides)
    if x.shape[3] == 1:
        return im2col.kernel_grad_one_channel(x, g, strides, padding, size)
    if g.shape[3] == 1 and strides == (1, 1):
        return im2col.kernel_grad_one_feature(x, g, padding, size)
    kernel = (*size, x.shape[3], g.shape[3])
    if _is_winograd(x, kernel, strides, padding):
        return winograd.kernel_grad(x, g, padding)
    if _is_small(x.shape[:3], kernel, strides, padding):
        return small_images.kernel_grad(x, g, strides=strides, padding=padding, size=size)
    if _is_heavy(kernel, g.shape[1:3], _HEAVY_GRAD):
        return im2col.kernel_grad_im2col(x, g, strides, padding, size)
    return im2col.kernel_grad(x, g, strides, padding, size)


def _forward_padded(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Convolve at stride 1 with padding, and cut away the results that it adds.

    Without padding older XLA runs at a third of the rate.
    """
    bottom, right = (max(0, 1 - sum(edges)) for edges in padding)
    edges = ((padding[0][0], padding[0][1] + bottom), (padding[1][0], padding[1][1] + right))
    y = xla.forward(x, kernel, strides=(1, 1), padding=edges)
    return y[:, : y.shape[1] - bottom, : y.shape[2] - right]


def _is_pointwise(kernel: Sequence[int], padding: Padding) -> bool:
    """Tell whether a kernel of this shape makes a convolution a product over the channels."""
    return tuple(kernel[:2]) == (1, 1) and padding == _NONE and min(kernel[2:]) >= _NARROW


def _is_winograd(x: jax.Array, kernel: Sequence[int], strides: Pair, padding: Padding) -> bool:
    """Tell whether Winograd's form pays for a convolution with a kernel of this shape."""
    if strides != (1, 1) or tuple(kernel[:2]) != (winograd.WINDOW,) * 2 or min(kernel[2:]) < _MANY:
        return False
    height, width = winograd.outputs(x, padding)
    if kernel[2] * kernel[3] > _TRANSFORMED * len(x) * height * width:
        return False
    rows, columns = winograd.tiles(height, width)
    if rows * columns == 1 and _is_small(x.shape[:3], kernel, strides, padding):
        return False
    return rows * columns * winograd.TILE**2 <= _COVER * height * width


def _is_small(
    images: Sequence[int], kernel: Sequence[int], strides: Pair, padding: Padding
) -> bool:
    """Tell whether the form of small images pays for (batch, height, width) and a kernel."""
    batch, *size = images
    rows, columns, channels, features = kernel
    window = space_to_depth.packed_window((rows, columns), strides, padding)
    if size[0] * size[1] > _SMALL or max(window) > small_images.WINDOW:
        return False
    form, outputs = small_images.form_of(tuple(size), (rows, columns), strides, padding)
    packed, results = channels * strides[0] * strides[1], outputs[0] * outputs[1]
    coordinates, pixels = form.pixels.shape
    each = pixels * packed + packed * features + results * features
    once = window[0] * window[1] * packed * features
    direct = results * rows * columns * channels * features
    if 4 * coordinates * packed * features > _CACHED:
        once *= _BY_MEMORY
    return 0 < coordinates * (batch * each + once) <= _LEFT * batch * direct


def _is_heavy(kernel: Sequence[int], outputs: Sequence[int], least: int) -> bool:
    """Tell whether a kernel of this shape multiplies the patch matrix of an image's outputs."""
    patches = 4 * math.prod(outputs) * math.prod(kernel[:3])
    return math.prod(kernel) >= least and patches <= _PATCHES


def _is_depthwise(x: jax.Array, kernel: Sequence[int], groups: int) -> bool:
    """Tell whether each channel has a group of its own, and there are images."""
    return (
        groups > 1
        and kernel[2] == 1
        and kernel[0] * kernel[1] <= depthwise.LARGEST
        and x.shape[0] > 0
    )


def _is_left_to_xla(x: jax.Array, strides: Pair, padding: Padding, dilation: Pair) -> bool:
    """Tell whether there is no own form.

    That is of no images or, in an export, any number of them; of another type; of edges that cut;
    or with both steps.
    """
    known = isinstance(x.shape[0], int) and x.shape[0] > 0
    crops = any(edge < 0 for pair in padding for edge in pair)
    both_steps = strides != (1, 1) and dilation != (1, 1)
    return not known or crops or both_steps or x.dtype != jnp.float32
