"""What a GPU or TPU would run, read off the module that is exported for it on a CPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.data.loader import Loader, blank_batch
from vision_jax.data.sources import ArraySource
from vision_jax.models import CNN
from vision_jax.tasks.classification import Classification
from vision_jax.training.loop import initial_state
from vision_jax.training.parallel import DataParallel


def exported(dtype, platform):
    """The module of a train step on two devices, and its arguments."""
    model = CNN(num_classes=10, stages=(8, 16), hidden=32, padding="SAME", dropout=0.1, dtype=dtype)
    task = Classification(model, optax.adam(1e-3))
    images = np.zeros((16, 12, 12, 1), np.uint8)
    source = ArraySource.from_arrays(images, np.arange(16, dtype=np.int32) % 10)
    loader, parallel = Loader(source, 8, train=True), DataParallel.over(2)
    state = parallel.replicate(initial_state(task, 0, source.image_shape))
    totals = parallel.zeros(task.train_step, state, blank_batch(source.image_shape))
    arguments = (
        state,
        totals,
        parallel.replicate(loader.resident()),
        parallel.shard(loader.item(0)),
    )
    step = jax.jit(parallel.train_step(task), donate_argnums=(0, 1))
    module = jax.export.export(step, platforms=[platform])(*arguments).mlir_module()
    return module, arguments


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_an_accelerator_runs_native_convolutions_and_no_host_code(platform):
    module, (state, totals, *_) = exported(None, platform)
    # Two convolutions; the gradient of each kernel; the gradient of the second one's input.
    assert module.count("stablehlo.convolution") == 5
    assert not re.findall(r"callback|infeed|outfeed|stablehlo\.send|stablehlo\.recv", module)
    donated = module.count("jax.buffer_donor") + module.count("tf.aliasing_output")
    # The base key passes through unchanged; all else is overwritten in place.
    assert donated >= len(jax.tree.leaves((state, totals))) - 1


def test_bfloat16_reaches_convolutions_and_products_and_nothing_else():
    module, (state, totals, *_) = exported(jnp.bfloat16, "tpu")
    convolutions = re.findall(r"stablehlo\.convolution.*?: \((.*?)\)", module)
    assert len(convolutions) == 5
    assert all(types.count("bf16") == 2 for types in convolutions)
    products = re.findall(r"stablehlo\.dot_general.*?: \((.*?)\)", module)
    float_products = [types for types in products if "f32" in types or "bf16" in types]
    assert float_products
    assert all(types.count("bf16") == 2 for types in float_products)
    for leaf in jax.tree.leaves((state.params, state.opt_state, totals)):
        assert leaf.dtype in (jnp.float32, jnp.int32)
