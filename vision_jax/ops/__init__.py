"""Convolutions, pooling and upsampling of NHWC images, as pure functions.

Each is XLA's own operation on a GPU or TPU. On a CPU, where that operation or its gradient can be
many times slower than a matrix product of the same size, convolutions and max pooling lower to
equal forms that are fast there. All can be differentiated in either mode, to any order, and mapped
with `jax.vmap`.
"""

from vision_jax.ops.convolution import conv, conv_transpose
from vision_jax.ops.pooling import avg_pool, max_pool
from vision_jax.ops.upsampling import upsample_nearest

__all__ = ["avg_pool", "conv", "conv_transpose", "max_pool", "upsample_nearest"]
