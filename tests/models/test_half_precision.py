"""Networks in bfloat16 compute what they do in float32, up to rounding."""

import jax
import numpy as np

from vision_jax.models.resnet import ResNet


def test_the_average_of_a_compiled_network_in_bfloat16():
    images = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    build = {"depths": (1,), "bottleneck": True, "num_classes": 0, "mean": (0.4,), "std": (0.2,)}
    variables = jax.jit(ResNet(**build).init)(jax.random.key(0), images)
    # The last scale of each block starts from zero, which would hide what precedes it.
    variables = jax.tree.map(lambda leaf: leaf + np.float32(leaf.ndim == 1), variables)
    whole, half = (
        np.asarray(jax.jit(ResNet(**build, dtype=dtype).apply)(variables, images)[0])
        for dtype in ("float32", "bfloat16")
    )
    assert whole.std() > 0.01
    np.testing.assert_allclose(half, whole, atol=0.02 * np.abs(whole).max())
