"""The step that a GPU or TPU would run, for every task and two large networks, read by its text.

Nothing is initialised or compiled: a step is traced from shapes, and lowered for `cuda` and `tpu`.
"""

import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
import resnet50_imagenet
from program_counts import Layer, conv, dense, passes, products, tensor

from vision_jax.augment.recipes import augment
from vision_jax.config import (
    AutoencoderConfig,
    CNNConfig,
    GANConfig,
    ModelConfig,
    TrainAutoencoder,
    TrainClassifier,
    TrainCNN,
    TrainGAN,
    TrainMetric,
    TrainSelfSupervised,
)
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import blank_batch
from vision_jax.run.build import build_task
from vision_jax.training.loop import initial_state
from vision_jax.training.steps import DataParallel, augmented

pytestmark = pytest.mark.slow
DEVICES, BATCH, CLASSES = 2, 32, 1000
SMALL = {"name": "cnn", "options": {"stages": [32, 64, 128], "hidden": 512, "padding": "SAME"}}
CONFIGS = {
    "cnn": (TrainCNN(model=CNNConfig(), precision="bfloat16"), (28, 28, 1)),
    "autoencoder": (
        TrainAutoencoder(model=AutoencoderConfig(), precision="bfloat16"),
        (28, 28, 1),
    ),
    "gan": (TrainGAN(model=GANConfig(), precision="bfloat16"), (16, 16, 3)),
    "metric": (
        TrainMetric(model=ModelConfig(**SMALL), width=128, precision="bfloat16"),
        (28, 28, 1),
    ),
    "self-supervised": (
        TrainSelfSupervised(model=ModelConfig(**SMALL), projector=(512, 128), precision="bfloat16"),
        (28, 28, 1),
    ),
    "resnet50": (resnet50_imagenet.recipe(), (224, 224, 3)),
    "vit_small": (
        TrainClassifier(model=ModelConfig("vit_small_patch16_224"), precision="bfloat16"),
        (224, 224, 3),
    ),
}
PROGRAMS = pytest.mark.parametrize("name", CONFIGS)
PLATFORMS = ("cuda", "tpu")


@functools.cache
def program(name):
    """The shapes of the state and the totals, and the module of a device's step by platform."""
    config, shape = CONFIGS[name]
    task = build_task(config, DataInfo(shape, tuple(map(str, range(CLASSES))), 10**6, 1000))
    step, arguments = traceable(task, shape, batch=BATCH)
    traced = step.trace(*arguments)
    texts = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in PLATFORMS}
    return *arguments[:2], texts


def traceable(task, shape, *, batch):
    """The step over all devices, and the shapes of its arguments."""
    parallel = DataParallel.over(DEVICES)
    views = functools.partial(augment, recipe="light") if task.needs.views else None
    state = jax.eval_shape(lambda: initial_state(task, 0, shape))
    rows = jax.eval_shape(lambda: blank_batch(shape, batch))
    mapped = jax.vmap(augmented(task, views), (None, 0), (None, None), axis_name="batch")
    _, totals = jax.eval_shape(mapped, state, spread(rows, 1))
    item = {**rows, "image": jax.ShapeDtypeStruct(rows["image"].shape, jnp.uint8)}
    step = jax.jit(parallel.train_step(task, views), donate_argnums=(0, 1))
    return step, (state, totals, {}, spread(item, DEVICES))


def spread(tree, count):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), tree)


CNN = [
    conv(28, 3, 1, 1, 32),
    conv(14, 3, 1, 32, 64),
    conv(7, 3, 1, 64, 128),
    dense(3 * 3 * 128, 512),
]
DISCRIMINATOR = [conv(16, 5, 2, 3, 64), conv(8, 5, 2, 64, 128), dense(4 * 4 * 128, 1)]


def transposed(layer):
    """A transposed convolution is the input gradient of the strided one."""
    return Layer(layer.macs, layer.sizes[::-1], layer.weights)


def resnet50():
    layers, size, channels = [conv(224, 7, 2, 3, 64, low=3)], 56, 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers.append(conv(size, 1, 1, channels, width))
            layers.append(conv(size, 3, stride, width, width, low=1))
            layers.append(conv(size // stride, 1, 1, width, 4 * width))
            if not block:
                layers.append(conv(size, 1, stride, channels, 4 * width))
            size, channels = size // stride, 4 * width
    return [*layers, dense(2048, CLASSES)]


def vit_small(tokens=197, width=384):
    attention = Layer(tokens**2 * width, (2 * tokens * width, 6 * tokens**2), 0)
    block = [
        dense(width, 3 * width, tokens),
        attention,  # queries by keys
        attention,  # weights by values
        dense(width, width, tokens),
        dense(width, 4 * width, tokens),
        dense(4 * width, width, tokens),
    ]
    return [conv(224, 16, 16, 3, width, low=0), *block * 12, dense(width, CLASSES)]


def add(*counts):
    return tuple(map(sum, zip(*counts, strict=True)))


def minimum(name):
    """Flops and bytes of all convolutions and products in bfloat16 that a device's step needs."""
    match name:
        case "cnn":
            return passes([*CNN, dense(512, CLASSES)], BATCH)
        case "autoencoder":
            sizes = [(28, 1, 16), (14, 16, 8), (7, 8, 8), (7, 8, 8), (14, 8, 16), (28, 16, 1)]
            return passes([conv(size, 3, 1, *widths) for size, *widths in sizes], BATCH)
        case "gan":
            generator = [
                dense(100, 4 * 4 * 256),
                conv(4, 5, 1, 256, 128),
                transposed(conv(8, 5, 2, 64, 128)),
                transposed(conv(16, 5, 2, 3, 64)),
            ]
            # Of the generated images two gradients are taken: by the weights and by the images.
            return add(
                passes(generator, BATCH),
                passes(DISCRIMINATOR, BATCH),
                passes(DISCRIMINATOR, BATCH, inputs=2, first=1),
            )
        case "metric":
            return passes([*CNN, dense(512, 128)], BATCH)
        case "self-supervised":
            heads = [dense(512, 512), dense(512, 128)]
            return passes([*CNN, *heads], 2 * BATCH)
        case "resnet50":
            return passes(resnet50(), BATCH)
    return passes(vit_small(), BATCH)


@PROGRAMS
@pytest.mark.parametrize("platform", PLATFORMS)
def test_flops_and_bytes_are_those_of_the_layers(name, platform):
    """Bytes: of the operands and results of convolutions and products, which XLA cannot fuse away.

    Element-wise operations fuse with these, and are not counted.
    """
    found = [p for p in products(program(name)[2][platform]) if p.kinds == ("bf16", "bf16")]
    flops, size = minimum(name)
    assert 0.999 < sum(p.flops for p in found) / flops < 1.1
    assert 0.999 < sum(p.bytes for p in found) / size < 1.5


# What computes in float32: losses of the whole batch, 2 x 32 images, by operands and result.
IN_FLOAT32 = {
    "metric": {  # cosines with the classes' centres, and their gradients
        ((64, 128), (128, 1000), (64, 1000)),
        ((64, 1000), (64, 128), (1000, 128)),
        ((64, 1000), (128, 1000), (64, 128)),
    },
    "self-supervised": {  # cosines of a device's 64 views with all 128, and their gradients
        ((64, 128), (128, 128), (64, 128)),
        ((64, 128), (64, 128), (128, 128)),
    },
}


@PROGRAMS
@pytest.mark.parametrize("platform", PLATFORMS)
def test_float32_is_for_losses_alone(name, platform):
    found = {p.shapes for p in products(program(name)[2][platform]) if "f32" in p.kinds}
    assert found == IN_FLOAT32.get(name, set())


@PROGRAMS
@pytest.mark.parametrize("platform", PLATFORMS)
def test_maps_keep_their_layout(name, platform):
    text = program(name)[2][platform]
    moved = {
        tensor(found)[0]
        for found in re.findall(r"stablehlo.transpose.*: \((.*)\) ->", text)
        if len(tensor(found)[0]) > 2
    }
    if name == "vit_small":  # heads of 64, of 3 kinds, come before the tokens that attention sums
        assert all(6 in shape and 64 in shape and 197 in shape for shape in moved)
    else:  # a gradient's kernel
        kernels = {leaf.shape[:2] for leaf in jax.tree.leaves(program(name)[0].params)}
        assert {shape[:2] for shape in moved} <= kernels


@PROGRAMS
@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_form_for_a_cpu_is_left(name, platform):
    """Those loop over images, or are more products than layers, which flops would show."""
    text = program(name)[2][platform]
    assert "stablehlo.while" not in text
    assert "custom_call" not in text


@PROGRAMS
@pytest.mark.parametrize("platform", PLATFORMS)
def test_nothing_runs_on_the_host_and_the_state_is_overwritten(name, platform):
    state, totals, texts = program(name)
    assert not re.findall(
        r"callback|infeed|outfeed|stablehlo\.send|stablehlo\.recv", texts[platform]
    )
    donated = texts[platform].count("jax.buffer_donor") + texts[platform].count(
        "tf.aliasing_output"
    )
    # The base key passes through unchanged.
    assert donated >= len(jax.tree.leaves((state, totals))) - 1


@PROGRAMS
def test_gradients_are_reduced_once(name):
    """One reduction of each kernel, which XLA's combiner makes one of the whole tree."""
    state, _, texts = program(name)
    kernels = Counter(leaf.shape for leaf in jax.tree.leaves(state.params) if leaf.ndim > 2)
    for text in texts.values():
        reduced = re.findall(r"stablehlo.all_reduce.*?\}\) : \(.*?\) -> (tensor<.*?>)", text, re.S)
        shapes = Counter(tensor(found)[0] for found in reduced)
        assert {shape: shapes[shape] for shape in kernels} == kernels


def test_the_compiler_makes_one_collective_of_the_gradients():
    """On a CPU, whose compiler has the same combiner as those for GPU and TPU."""
    config = TrainCNN(model=CNNConfig(stages=(4, 8), hidden=16))
    task = build_task(config, DataInfo((8, 8, 1), tuple("0123456789"), 64, 8))
    step, arguments = traceable(task, (8, 8, 1), batch=2)
    text = step.lower(*arguments).compile().as_text()
    reductions = [line for line in text.splitlines() if re.search(r"\ball-reduce(-start)?\(", line)]
    shapes = ("3,3,1,4", "3,3,4,8", "32,16", "16,10")
    holding = [[f"f32[{shape}]" in line for shape in shapes] for line in reductions]
    assert holding.count([True] * 4) == 1, reductions
    assert holding.count([False] * 4) == len(reductions) - 1
