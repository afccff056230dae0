"""Forms of convolution that are fast on a CPU: matrix products over blocks that stay in cache.

XLA:CPU runs the gradients of a convolution, and any convolution with a stride or dilation, far
below the rate of its matrix product. These forms gather the kernel's view of the image into the
rows of a matrix (im2col) and multiply, one block of images at a time: on a whole batch at once
that matrix, kernel area times the size of the image, leaves the cache and costs more than the
product itself.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.models.lowering import native, small
from vision_jax.models.lowering.native import Padding, Pair

# Bytes of a block's patch matrix. Measured optima lie between 1 and 4 MB on both sides of the
# second-level cache; the kernel gradient reads the matrix across its rows and wants it smaller.
_BLOCK = 4 << 20
_KERNEL_GRAD_BLOCK = 2 << 20

# Pixels of the largest image that is written out as one product for each.
_SMALL = 64

# XLA runs a convolution of few channels well, where a row of the patch matrix is short.
_NARROW = 16

# Newer XLA runs an undilated stride-1 convolution at the rate of its matrix product.
_NATIVE_IS_FAST = jax.__version_info__ >= (0, 11)


def forward(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding) -> jax.Array:
    """`native.forward`, chosen by what was measured to be fastest for the layer."""
    channels, features = kernel.shape[2:]
    if _crops(padding) or x.dtype != jnp.float32:
        return native.forward(x, kernel, strides=strides, padding=padding)
    if channels == 1:
        return _forward_one_channel(x, kernel, strides, padding)
    if strides != (1, 1):
        return native.forward(x, kernel, strides=strides, padding=padding)
    if features == 1:
        return _forward_one_feature(x, kernel, padding)
    if _is_small(x.shape[1:3], kernel.shape[:2], strides, padding):
        return small.forward(x, kernel, strides=strides, padding=padding)
    if _NATIVE_IS_FAST or channels <= _NARROW:
        return native.forward(x, kernel, strides=strides, padding=padding)
    return _forward_im2col(x, kernel, strides, padding)


def input_grad(
    g: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """`native.input_grad`, chosen by what was measured to be fastest for the layer."""
    channels, features = kernel.shape[2:]
    if _crops(padding) or g.dtype != jnp.float32:
        return native.input_grad(g, kernel, strides=strides, padding=padding, size=size)
    if _is_small(size, kernel.shape[:2], strides, padding):
        return small.input_grad(g, kernel, strides=strides, padding=padding, size=size)
    if strides == (1, 1):
        if 1 in (channels, features):
            turned, edges = _turned(kernel, g.shape[1:3], padding, size)
            if features == 1:
                return _forward_one_channel(g, turned, strides, edges)
            return _forward_one_feature(g, turned, edges)
        if _NATIVE_IS_FAST or features <= _NARROW:
            return native.input_grad(g, kernel, strides=strides, padding=padding, size=size)
    return _input_grad_col2im(g, kernel, strides, padding, size)


def kernel_grad(
    x: jax.Array, g: jax.Array, *, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """`native.kernel_grad`, chosen by what was measured to be fastest for the layer."""
    channels, features = x.shape[3], g.shape[3]
    if _crops(padding) or x.dtype != jnp.float32:
        return native.kernel_grad(x, g, strides=strides, padding=padding, size=size)
    if channels == 1:
        return _kernel_grad_one_channel(x, g, strides, padding, size)
    if strides != (1, 1):
        return native.kernel_grad(x, g, strides=strides, padding=padding, size=size)
    if features == 1:
        return _kernel_grad_one_feature(x, g, padding, size)
    if _is_small(x.shape[1:3], size, strides, padding):
        return small.kernel_grad(x, g, strides=strides, padding=padding, size=size)
    if _NATIVE_IS_FAST or min(channels, features) <= _NARROW:
        return native.kernel_grad(x, g, strides=strides, padding=padding, size=size)
    return _kernel_grad_im2col(x, g, strides, padding, size)


def _crops(padding: Padding) -> bool:
    return any(edge < 0 for pair in padding for edge in pair)


def _is_small(size: Sequence[int], window: Sequence[int], strides: Pair, padding: Padding) -> bool:
    """Whether padding makes up a quarter of a product that can be written out by the pixel."""
    if size[0] * size[1] > _SMALL:
        return False
    used = (small.used(*args) for args in zip(size, window, strides, padding, strict=True))
    return next(used) * next(used) < 0.75


def _pad(x: jax.Array, edges: Sequence[Pair]) -> jax.Array:
    """Zeros around the array; a negative edge cuts."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(before, after, 0) for before, after in edges])


def _views(x: jax.Array, window: Sequence[int], strides: Pair, padding: Padding) -> list[jax.Array]:
    """What each of the kernel's weights sees, in the kernel's order, each of output size."""
    x = _pad(x, ((0, 0), *padding, (0, 0)))
    batch, height, width, channels = x.shape
    rows = (height - window[0]) // strides[0] * strides[0] + 1
    columns = (width - window[1]) // strides[1] * strides[1] + 1
    return [
        lax.slice(x, (0, i, j, 0), (batch, i + rows, j + columns, channels), (1, *strides, 1))
        for i, j in product(range(window[0]), range(window[1]))
    ]


def _patches(x: jax.Array, window: Sequence[int], strides: Pair, padding: Padding) -> jax.Array:
    """(batch, height, width, rows * columns * channels): the kernel's view from each output."""
    return jnp.concatenate(_views(x, window, strides, padding), axis=3)


def _turned(
    kernel: jax.Array, outputs: Sequence[int], padding: Padding, size: Pair
) -> tuple[jax.Array, Padding]:
    """The kernel and padding whose convolution is a stride-1 convolution's input gradient."""
    (top, bottom), (left, right) = (
        (window - 1 - edges[0], full - outer + edges[0])
        for window, edges, full, outer in zip(kernel.shape[:2], padding, size, outputs, strict=True)
    )
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3), ((top, bottom), (left, right))


def _forward_one_channel(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding
) -> jax.Array:
    """A sum of scaled views: one channel is too narrow for a matrix product, and this fuses."""
    views = _views(x, kernel.shape[:2], strides, padding)
    weights = kernel.reshape(-1, kernel.shape[3])
    return reduce(jnp.add, (view * weight for view, weight in zip(views, weights, strict=True)))


def _forward_one_feature(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Every weight at every pixel in one product, then a sum of shifted maps (stride 1)."""
    window, channels = kernel.shape[:2], kernel.shape[2]
    maps = kernel.reshape(-1, channels) @ x.reshape(-1, channels).T
    maps = maps.reshape(*window, *x.shape[:3])
    maps = _pad(maps, ((0, 0), (0, 0), (0, 0), *padding))
    rows, columns = (maps.shape[3] - window[0] + 1, maps.shape[4] - window[1] + 1)
    shifted = (
        maps[i, j, :, i : i + rows, j : j + columns]
        for i, j in product(range(window[0]), range(window[1]))
    )
    return reduce(jnp.add, shifted)[..., None]


def _kernel_grad_one_channel(
    x: jax.Array, g: jax.Array, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """The product of each weight's map with the output gradient, both as they lie in memory."""

    def block(x: jax.Array, g: jax.Array) -> jax.Array:
        maps = jnp.stack([view[..., 0] for view in _views(x, size, strides, padding)])
        return maps.reshape(len(maps), -1) @ g.reshape(-1, g.shape[3])

    grad = _sum_blocks(block, x, g, _patch_bytes(x, size, strides, padding), _KERNEL_GRAD_BLOCK)
    return grad.reshape(*size, 1, -1)


def _kernel_grad_one_feature(x: jax.Array, g: jax.Array, padding: Padding, size: Pair) -> jax.Array:
    """`_kernel_grad_one_channel` with the roles exchanged (stride 1): the kernel turns."""
    (top, _), (left, _) = padding
    above, before = size[0] - 1 - top, size[1] - 1 - left
    edges = (
        (above, x.shape[1] + size[0] - 1 - above - g.shape[1]),
        (before, x.shape[2] + size[1] - 1 - before - g.shape[2]),
    )
    grad = _kernel_grad_one_channel(g, x, (1, 1), edges, size)
    return jnp.flip(grad, (0, 1)).swapaxes(2, 3)


def _forward_im2col(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    window = kernel.shape[:2]
    weights = kernel.reshape(-1, kernel.shape[3])

    def block(x: jax.Array) -> jax.Array:
        return _patches(x, window, strides, padding) @ weights

    return _map_blocks(block, x, _patch_bytes(x, window, strides, padding), _BLOCK)


def _input_grad_col2im(
    g: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """The transpose of `_forward_im2col`: a product, then overlapping views added up."""
    window = kernel.shape[:2]
    weights = kernel.reshape(-1, kernel.shape[3]).T

    def block(g: jax.Array) -> jax.Array:
        return _add_views(g @ weights, window, strides, padding, size)

    return _map_blocks(block, g, g[0, ..., 0].size * weights.shape[1] * 4, _BLOCK)


def _add_views(
    patches: jax.Array, window: Sequence[int], strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    """The transpose of `_patches`.

    Pixels fall into as many classes as a stride has steps, by the weights that reach them; each
    class is a sum of undilated views, and the classes interleave.
    """
    batch, *outputs, length = patches.shape
    patches = patches.reshape(batch, *outputs, *window, length // (window[0] * window[1]))
    steps = [
        -(-(n + sum(edges)) // stride)
        for n, edges, stride in zip(size, padding, strides, strict=True)
    ]

    def view(i: int, j: int) -> jax.Array:
        down, right = i // strides[0], j // strides[1]
        edges = (
            (0, 0),
            (down, steps[0] - outputs[0] - down),
            (right, steps[1] - outputs[1] - right),
            (0, 0),
        )
        return _pad(patches[:, :, :, i, j], edges)

    def of_class(row: int, column: int) -> jax.Array:
        weights = product(range(row, window[0], strides[0]), range(column, window[1], strides[1]))
        nothing = jnp.zeros((batch, *steps, patches.shape[-1]), patches.dtype)
        return reduce(jnp.add, (view(i, j) for i, j in weights), nothing)

    lines = [
        jnp.stack([of_class(row, column) for column in range(strides[1])], 3)
        for row in range(strides[0])
    ]
    grad = jnp.stack(lines, 2).reshape(batch, steps[0] * strides[0], steps[1] * strides[1], -1)
    (top, _), (left, _) = padding
    return grad[:, top : top + size[0], left : left + size[1]]


def _kernel_grad_im2col(
    x: jax.Array, g: jax.Array, strides: Pair, padding: Padding, size: Pair
) -> jax.Array:
    channels, features = x.shape[3], g.shape[3]

    def block(x: jax.Array, g: jax.Array) -> jax.Array:
        patches = _patches(x, size, strides, padding).reshape(-1, size[0] * size[1] * channels)
        return g.reshape(-1, features).T @ patches

    grad = _sum_blocks(block, x, g, _patch_bytes(x, size, strides, padding), _KERNEL_GRAD_BLOCK)
    return grad.T.reshape(*size, channels, features)


def _patch_bytes(x: jax.Array, window: Sequence[int], strides: Pair, padding: Padding) -> int:
    """Size of one image's patch matrix in float32."""
    outputs = [
        (n + sum(p) - k) // s + 1
        for n, p, k, s in zip(x.shape[1:3], padding, window, strides, strict=True)
    ]
    return 4 * x.shape[3] * window[0] * window[1] * outputs[0] * outputs[1]


def _block_length(length: int, limit: int) -> int:
    """At most `limit`; a divisor of `length` if one is near, so that nothing is left over."""
    limit = max(1, min(length, limit))
    divisors = (n for n in range(limit, limit // 2, -1) if length % n == 0)
    return next(divisors, limit)


def _map_blocks(
    block: Callable[[jax.Array], jax.Array], x: jax.Array, bytes_each: int, budget: int
) -> jax.Array:
    """Apply `block` to as many images at a time as the budget holds."""
    length = _block_length(x.shape[0], budget // bytes_each)
    whole = x.shape[0] // length * length
    if whole == length:
        results = block(x[:whole])
    else:
        results = lax.map(block, x[:whole].reshape(-1, length, *x.shape[1:]))
        results = results.reshape(whole, *results.shape[2:])
    return results if whole == x.shape[0] else jnp.concatenate([results, block(x[whole:])])


def _sum_blocks(
    block: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    g: jax.Array,
    bytes_each: int,
    budget: int,
) -> jax.Array:
    """The sum of `block` over as many images at a time as the budget holds."""
    length = _block_length(x.shape[0], budget // bytes_each)
    whole = x.shape[0] // length * length
    if whole == length:
        total = block(x[:whole], g[:whole])
    else:
        xs, gs = (a[:whole].reshape(-1, length, *a.shape[1:]) for a in (x, g))
        zero = jnp.zeros(jax.eval_shape(block, xs[0], gs[0]).shape, x.dtype)
        total, _ = lax.scan(lambda sum_, xg: (sum_ + block(*xg), None), zero, (xs, gs))
    return total if whole == x.shape[0] else total + block(x[whole:], g[whole:])
