"""Networks in bfloat16 compute what they do in float32, up to rounding."""

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.models.resnet import ResNet

BLOCK = {
    "depths": (1,),
    "bottleneck": True,
    "num_classes": 0,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


def test_the_average_of_a_compiled_network_in_bfloat16():
    random = np.random.default_rng(0)
    images = jnp.asarray(random.random((4, 32, 32, 3), np.float32))
    shapes = jax.eval_shape(lambda: ResNet(**BLOCK).init(jax.random.key(0), images))

    def weights(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        spread = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0
        return (spread * random.standard_normal(leaf.shape)).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(weights, shapes)

    def embed(dtype):
        # Nothing but the average, so that it may be fused with the block before it.
        network = ResNet(**BLOCK, dtype=dtype)
        return np.asarray(jax.jit(lambda *given: network.apply(*given)[0])(variables, images))

    whole, half = embed("float32"), embed("bfloat16")
    np.testing.assert_allclose(half, whole, atol=0.02 * np.abs(whole).max())
