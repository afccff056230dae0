"""Convolutions, pooling and upsampling of NHWC images, as pure functions.

On a GPU or TPU each is XLA's own operation. On a CPU, where that operation or its gradient can be
many times slower than a matrix product of the same size, convolutions and max pooling lower to
equal forms that are fast there. All can be differentiated in either mode, to any order, and mapped
with `jax.vmap`.
"""

from vision_jax.ops.convolution import conv, conv_transpose
from vision_jax.ops.cpu.blocks import block_length
from vision_jax.ops.cpu.row_sum import row_sum
from vision_jax.ops.pooling import avg_pool, max_pool
from vision_jax.ops.upsampling import upsample_nearest
from vision_jax.ops.windows import PaddingLike, PairLike

__all__ = [
    "PaddingLike",
    "PairLike",
    "avg_pool",
    "block_length",
    "conv",
    "conv_transpose",
    "max_pool",
    "row_sum",
    "upsample_nearest",
]
