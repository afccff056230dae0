"""What a GPU or TPU would run, read off the module that is exported for it on a CPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.config import (
    AutoencoderConfig,
    CNNConfig,
    GANConfig,
    TrainAutoencoder,
    TrainCNN,
    TrainGAN,
)
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader, blank_batch
from vision_jax.data.sources import ArraySource
from vision_jax.run.build import build_task
from vision_jax.tasks import accumulation
from vision_jax.training.loop import initial_state
from vision_jax.training.steps import DataParallel

CONFIGS = {
    "cnn": TrainCNN(model=CNNConfig(stages=(8, 16), hidden=32, dropout=0.1)),
    "autoencoder": TrainAutoencoder(model=AutoencoderConfig(hidden=(4,), code=2)),
    "gan": TrainGAN(model=GANConfig(generator=(16, 8, 4), discriminator=(4, 8), latent_size=6)),
}


def exported(family, precision, platform):
    """The module of a train step on two devices, and its arguments."""
    images = np.zeros((16, 8, 8, 1), np.uint8)
    source = ArraySource.from_arrays(images, np.arange(16, dtype=np.int32) % 10)
    loader, parallel = Loader(source, 8, train=True), DataParallel.over(2)
    config = type(CONFIGS[family])(model=CONFIGS[family].model, precision=precision)
    task = build_task(config, DataInfo.of(loader))
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
    return module, state, totals


def operands(module, operation):
    """The operand types of every operation of a kind that computes on floats."""
    types = re.findall(rf"stablehlo\.{operation}.*?: \((.*?)\)", module)
    return [pair for pair in types if "f32" in pair or "bf16" in pair]


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("family", CONFIGS)
def test_an_accelerator_runs_native_convolutions_and_no_host_code(family, platform):
    module, state, totals = exported(family, "float32", platform)
    # Each kernel takes part forwards and in its own gradient, and all but the first in another's.
    kernels = [leaf for leaf in jax.tree.leaves(state.params) if leaf.ndim == 4]
    assert len(operands(module, "convolution")) >= 3 * len(kernels) - 1
    assert not re.findall(r"callback|infeed|outfeed|stablehlo\.send|stablehlo\.recv", module)
    donated = module.count("jax.buffer_donor") + module.count("tf.aliasing_output")
    # The base key passes through unchanged; all else is overwritten in place.
    assert donated >= len(jax.tree.leaves((state, totals))) - 1


@pytest.mark.parametrize("pixels", [64, 1 << 16])
def test_what_suits_a_cpus_cache_stays_on_the_cpu(pixels, monkeypatch):
    monkeypatch.setattr(accumulation, "_PIXELS", pixels)  # an image at a time, or all
    monkeypatch.setattr(accumulation, "_IMAGES", 1)
    loops = [exported("autoencoder", "float32", name)[0].count("while") for name in ("tpu", "cpu")]
    assert loops[0] == 0
    assert (loops[1] > 0) == (pixels == 64)


@pytest.mark.parametrize("family", CONFIGS)
def test_bfloat16_reaches_convolutions_and_products_and_nothing_else(family):
    module, state, totals = exported(family, "bfloat16", "tpu")
    for operation in ("convolution", "dot_general"):
        found = operands(module, operation)
        assert all(pair.count("bf16") == 2 for pair in found), (operation, found)
    assert operands(module, "convolution")
    for leaf in jax.tree.leaves(state.replace(key=state.step)) + jax.tree.leaves(totals):
        assert leaf.dtype in (jnp.float32, jnp.int32)
