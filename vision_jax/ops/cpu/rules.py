"""Forms of convolution that are fast on a CPU: matrix products over blocks that stay in cache.

XLA:CPU runs the gradients of a convolution, and any convolution with a stride or dilation, far
below the rate of its matrix product. These forms gather the kernel's view of the image into the
rows of a matrix (im2col) and multiply, one block of images at a time: for a whole batch that
matrix, kernel area times the size of the images, would leave the cache and cost more than the
product itself. 3x3 kernels with many channels use Winograd's transform, which saves three quarters
of the multiplications, and small images use Toom–Cook transforms, which save up to four fifths. The
rest is XLA's convolution with its dimensions in the one order that is fast everywhere: within a
loop XLA does not rearrange them.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.ops.cpu import im2col, small_images, space_to_depth, winograd, xla
from vision_jax.ops.cpu.xla import Padding, Pair

# Pixels of the largest image for the form of small images, and the fraction of the direct form's
# multiplications at which it is faster, transforms of images and kernel included.
_SMALL = 64
_LEFT = 0.65

# Channels below which older XLA runs a convolution slower than a patch matrix's product.
_FEW = 4

# Channels and features from which a transformed 3x3 convolution saves more than it costs.
_MANY = 32

# How many pixels its tiles may cover for each pixel of the result.
_COVER = 1.5


def forward(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding) -> jax.Array:
    """Convolve by the form that was measured to be fastest for the layer."""
    channels, features = kernel.shape[2:]
    if _is_left_to_xla(x, padding):
        return xla.forward(x, kernel, strides=strides, padding=padding)
    if channels == 1:
        return im2col.forward_one_channel(x, kernel, strides, padding)
    if features == 1 and strides == (1, 1):
        return im2col.forward_one_feature(x, kernel, padding)
    if _is_winograd(x, kernel.shape, strides, padding):
        return winograd.forward(x, kernel, padding)
    if _is_small(x.shape[:3], kernel.shape, strides, padding):
        return small_images.forward(x, kernel, strides=strides, padding=padding)
    if strides != (1, 1) or not xla.OLDER:
        return xla.forward(x, kernel, strides=strides, padding=padding)
    if channels < _FEW:
        return im2col.forward_im2col(x, kernel, padding)
    return _forward_padded(x, kernel, padding)


def input_grad(
    g: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Transpose `forward` in its images by the form measured to be fastest for the layer."""
    channels, features = kernel.shape[2:]
    if _is_left_to_xla(g, padding):
        return xla.input_grad(g, kernel, strides=strides, padding=padding, size=size)
    turned, edges = im2col.turned(kernel, g.shape[1:3], padding, size)
    if _is_winograd(g, turned.shape, strides, edges):
        return winograd.forward(g, turned, edges)
    if _is_small((len(g), *size), kernel.shape, strides, padding):
        return small_images.input_grad(g, kernel, strides=strides, padding=padding, size=size)
    if strides != (1, 1):
        return im2col.input_grad_col2im(g, kernel, strides, padding, size)
    if features == 1:
        return im2col.forward_one_channel(g, turned, strides, edges)
    if channels == 1:
        return im2col.forward_one_feature(g, turned, edges)
    # As in im2col.kernel_grad, XLA must not fold the turning into the convolution.
    turned = lax.optimization_barrier(turned)
    return xla.forward(g, turned, strides=strides, padding=edges)


def kernel_grad(
    x: jax.Array, g: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """Transpose `forward` in its kernel by the form measured to be fastest for the layer."""
    if _is_left_to_xla(x, padding):
        return xla.kernel_grad(x, g, strides=strides, padding=padding, size=size)
    if x.shape[3] == 1:
        return im2col.kernel_grad_one_channel(x, g, strides, padding, size)
    if g.shape[3] == 1 and strides == (1, 1):
        return im2col.kernel_grad_one_feature(x, g, padding, size)
    kernel = (*size, x.shape[3], g.shape[3])
    if _is_winograd(x, kernel, strides, padding):
        return winograd.kernel_grad(x, g, padding)
    if _is_small(x.shape[:3], kernel, strides, padding):
        return small_images.kernel_grad(x, g, strides=strides, padding=padding, size=size)
    return im2col.kernel_grad(x, g, strides, padding, size)


def _forward_padded(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Convolve at stride 1 with padding, and cut away the results that it adds.

    Without padding older XLA runs at a third of the rate.
    """
    bottom, right = (max(0, 1 - sum(edges)) for edges in padding)
    edges = ((padding[0][0], padding[0][1] + bottom), (padding[1][0], padding[1][1] + right))
    y = xla.forward(x, kernel, strides=(1, 1), padding=edges)
    return y[:, : y.shape[1] - bottom, : y.shape[2] - right]


def _is_winograd(x: jax.Array, kernel: Sequence[int], strides: Pair, padding: Padding) -> bool:
    """Tell whether Winograd's form pays for a convolution with a kernel of this shape."""
    if strides != (1, 1) or tuple(kernel[:2]) != (winograd.WINDOW,) * 2 or min(kernel[2:]) < _MANY:
        return False
    height, width = winograd.outputs(x, padding)
    rows, columns = winograd.tiles(height, width)
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
    return 0 < coordinates * (batch * each + once) <= _LEFT * batch * direct


def _is_left_to_xla(x: jax.Array, padding: Padding) -> bool:
    """Tell whether there is nothing to gain: no images, another type, or an edge that cuts."""
    crops = any(edge < 0 for pair in padding for edge in pair)
    return crops or x.dtype != jnp.float32 or len(x) == 0
