import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from vision_jax import ops
from vision_jax.models import layers
from vision_jax.ops.cpu import blocks
from vision_jax.ops.cpu import im2col as products
from vision_jax.ops.cpu import rules as cpu
from vision_jax.ops.cpu import small_images as small
from vision_jax.ops.cpu import xla as native
from vision_jax.ops.cpu.row_sum import row_sum

LAYOUT = ("NHWC", "HWIO", "NHWC")


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def assert_close(actual, desired, tolerance=1e-4):
    """Within the tolerance of the largest value: sums of many products cancel."""

    def check(a, b):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max()))

    jax.tree.map(check, actual, desired)


def lax_conv(x, kernel, *, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def lax_conv_transpose(x, kernel, *, strides, padding):
    return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def flax_max_pool(x, *, window, strides, padding):
    return nn.max_pool(x, window, strides, padding)


# Image, channels, features, kernel, strides, padding: at least one for each rule of the lowering.
CASES = [
    ((9, 7), 1, 3, (3, 3), (1, 1), "SAME"),
    ((9, 7), 1, 3, (5, 4), (2, 2), "SAME"),
    ((9, 7), 3, 1, (3, 3), (1, 1), "SAME"),
    ((9, 7), 3, 1, (2, 3), (1, 1), ((2, 1), (0, 3))),
    ((9, 7), 3, 1, (3, 3), (2, 2), "VALID"),
    ((9, 7), 3, 4, (3, 3), (1, 1), "VALID"),
    ((9, 7), 5, 4, (3, 3), (1, 1), "SAME"),
    ((9, 7), 5, 4, (3, 3), (1, 1), "VALID"),
    ((9, 7), 5, 4, (3, 3), (1, 1), ((0, -1), (2, 1))),
    ((9, 8), 5, 4, (3, 5), (2, 2), "SAME"),
    ((9, 7), 5, 4, (2, 2), (3, 3), "VALID"),
    ((9, 7), 5, 4, (1, 1), (2, 1), "SAME"),
    ((4, 4), 5, 4, (5, 5), (1, 1), "SAME"),
    ((3, 4), 5, 4, (5, 4), (2, 3), ((3, 2), (2, 2))),
    ((2, 1), 5, 4, (3, 3), (1, 1), "SAME"),
    ((4, 4), 32, 33, (5, 5), (1, 1), "SAME"),
    ((8, 8), 64, 128, (5, 5), (2, 2), "SAME"),
    ((8, 8), 64, 64, (5, 5), (1, 1), "SAME"),
    ((4, 4), 5, 4, (1, 1), (1, 1), ((5, 0), (0, 5))),
    ((4, 4), 32, 33, (7, 7), (1, 1), "SAME"),
    ((7, 8), 32, 33, (3, 3), (1, 1), "SAME"),
    ((10, 6), 33, 32, (3, 3), (1, 1), "VALID"),
    ((11, 7), 32, 32, (3, 3), (1, 1), ((2, 0), (1, 2))),
]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_cpu_forms_equal_native_ones(case, older, large, monkeypatch):
    size, channels, features, window, strides, padding = case
    # Blocks of two of the images, so that one is left over.
    monkeypatch.setattr(blocks, "block_length", lambda length, limit: min(2, length))
    monkeypatch.setattr(native, "OLDER", older)
    if large:  # than a block, which then is two rows of an image
        row = 4 * channels * window[0] * window[1] * (size[1] - window[1] + 1)
        monkeypatch.setattr(products, "BLOCK", 2 * row)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(size, window, strides, padding)
    padding = tuple((int(a), int(b)) for a, b in padding)
    options = {"strides": strides, "padding": padding}
    x, kernel = normal(0, 17, *size, channels), normal(1, *window, channels, features)
    g = normal(2, *native.forward(x, kernel, **options).shape)

    def every(form):
        return (
            form.forward(x, kernel, **options),
            form.input_grad(g, kernel, **options, size=size),
            form.kernel_grad(x, g, **options, size=window),
        )

    is_small_enough = min(map(min, padding)) >= 0 and max(window) <= small.WINDOW
    forms = [cpu, small] if is_small_enough else [cpu]
    expected, *actual = jax.jit(lambda: [every(form) for form in (native, *forms)])()
    for results in actual:
        assert_close(results, expected)


def test_results_that_see_only_padding_and_empty_batches():
    image, kernel = jnp.ones((3, 1, 1, 8)), jnp.ones((1, 1, 8, 8))
    unseen = ops.conv(image, kernel, strides=(2, 2), padding=((1, 0), (1, 0)))
    np.testing.assert_array_equal(unseen, jnp.zeros_like(image))
    nothing, kernel = jnp.ones((0, 4, 4, 8)), jnp.ones((5, 5, 8, 8))
    assert ops.conv(nothing, kernel, strides=(2, 2)).shape == (0, 2, 2, 8)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_convolutions_in_a_loop_keep_the_one_order_that_is_fast(strides):
    # XLA:CPU runs every other order of the dimensions by a loop over scalars there.
    def step(kernel, images):
        def loss(kernel, images):
            y = ops.conv(images, kernel, strides=strides)
            return (ops.conv(y, kernel.swapaxes(2, 3), strides=strides) ** 2).sum()

        return kernel - jax.grad(loss)(kernel, images), None

    scan = jax.jit(lambda kernel, images: lax.scan(step, kernel, images))
    text = scan.lower(normal(0, 3, 3, 16, 8), normal(1, 2, 4, 14, 14, 16)).compile().as_text()
    orders = re.findall(r" convolution\(.*dim_labels=(\w+->\w+)", text)
    assert set(orders) == {"b01f_01io->b01f"}


@pytest.mark.parametrize(
    ("own", "reference", "options"),
    [
        (ops.conv, lax_conv, {"strides": (1, 1), "padding": "SAME"}),
        (ops.conv, lax_conv, {"strides": (2, 1), "padding": "VALID"}),
        (ops.conv_transpose, lax_conv_transpose, {"strides": (1, 1), "padding": "SAME"}),
        (ops.conv_transpose, lax_conv_transpose, {"strides": (2, 3), "padding": "SAME"}),
        (ops.conv_transpose, lax_conv_transpose, {"strides": (2, 2), "padding": "VALID"}),
        (
            ops.conv_transpose,
            lax_conv_transpose,
            {"strides": (2, 1), "padding": ((1, 3), (0, 4))},
        ),
    ],
)
def test_convolutions_and_their_derivatives_equal_lax(own, reference, options):
    x, kernel = normal(0, 4, 6, 5, 3), normal(1, 5, 4, 3, 2)

    def derivatives(function):
        def layer(x, kernel):
            return function(x, kernel, **options)

        def loss(x, kernel):
            return jnp.sin(layer(x, kernel)).sum()

        def penalty(x, kernel):
            return sum((g**2).sum() for g in jax.grad(loss, (0, 1))(x, kernel))

        kernels = jnp.stack([kernel, 2.0 * kernel])
        return {
            "forward mode": jax.jvp(layer, (x, kernel), (x * x, kernel * kernel)),
            "reverse mode": jax.grad(loss, (0, 1))(x, kernel),
            "second order": jax.grad(penalty, (0, 1))(x, kernel),
            "forward over reverse": jax.jvp(jax.grad(loss), (x, kernel), (x * x, kernel)),
            "many image batches": jax.vmap(layer, (1, None))(x[:, None], kernel),
            "many kernels": jax.vmap(layer, (None, 0))(x, kernels),
            "a gradient for each image": jax.vmap(lambda x: jax.grad(loss, 1)(x[None], kernel))(x),
            "a gradient for each kernel": jax.vmap(jax.grad(loss), (None, 0))(x, kernels),
        }

    assert_close(*jax.jit(lambda: (derivatives(own), derivatives(reference)))())


@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [
        ((2, 2), (2, 2), "VALID"),
        ((2, 2), (2, 2), "SAME"),
        ((3, 3), (2, 2), "SAME"),
        ((3, 2), (1, 3), ((1, 1), (1, 0))),
    ],
)
def test_max_pool_and_its_derivatives_equal_flax(window, strides, padding):
    # Rounded, so that windows hold ties.
    x = jnp.round(normal(0, 3, 7, 9, 2))

    def derivatives(function):
        def layer(x):
            return function(x, window=window, strides=strides, padding=padding)

        def loss(x):
            return jnp.sin(layer(x) + x.sum()).sum()

        return {
            "value": layer(x),
            "reverse mode": jax.grad(loss)(x),
            "second order": jax.grad(lambda x: (jax.grad(loss)(x) ** 2).sum())(x),
            "many": jax.vmap(layer, 1)(jnp.stack([x, -x], 1)),
            "many gradients": jax.vmap(jax.grad(loss))(jnp.stack([x, -x])),
        }

    assert_close(*jax.jit(lambda: (derivatives(ops.max_pool), derivatives(flax_max_pool)))())


def test_max_pool_in_forward_mode():
    x, tangent = normal(0, 2, 6, 6, 3), normal(1, 2, 6, 6, 3)

    def directional(pool):
        return jax.jvp(pool, (x,), (tangent,))[1]

    actual = directional(ops.max_pool)
    assert_close(actual, directional(lambda x: nn.max_pool(x, (2, 2), (2, 2))))


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(
    ("own", "reference"), [(layers.Conv, nn.Conv), (layers.ConvTranspose, nn.ConvTranspose)]
)
def test_modules_have_flax_parameters_and_numbers(own, reference, use_bias):
    x, key = normal(0, 2, 8, 7, 3), jax.random.key(0)
    options = {"features": 4, "kernel_size": (5, 5), "strides": (2, 2), "padding": "SAME"}
    theirs = reference(**options, use_bias=use_bias)
    mine = own(**options, use_bias=use_bias)
    variables = theirs.init(key, x)
    jax.tree.map(np.testing.assert_array_equal, mine.init(key, x), variables)
    assert_close(mine.apply(variables, x), theirs.apply(variables, x))


def test_bfloat16_computes_in_it_and_keeps_float32_parameters():
    x, key = normal(0, 2, 8, 8, 3), jax.random.key(0)
    mine = layers.Conv(4, dtype=jnp.bfloat16)
    theirs = nn.Conv(4, (3, 3), dtype=jnp.bfloat16)
    variables = mine.init(key, x)

    def outputs(module):
        y = module.apply(variables, x)
        grads = jax.grad(lambda v: ops.max_pool(module.apply(v, x)).astype(jnp.float32).sum())
        return y, grads(variables)

    y, grads = outputs(mine)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, grads))} == {np.dtype("float32")}
    assert_close((y, grads), outputs(theirs), 1e-2)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_native_operations_only(platform):
    x, kernel = jnp.ones((4, 4, 4, 8)), jnp.ones((5, 5, 8, 8))

    def loss(x, kernel):
        y = ops.max_pool(ops.conv(x, kernel, strides=(1, 1)))
        return ops.conv_transpose(y, kernel, strides=(2, 2)).sum()

    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    program = jax.export.export(step, platforms=[platform])(x, kernel).mlir_module()
    assert "stablehlo.convolution" in program
    assert "stablehlo.select_and_scatter" in program
    assert "stablehlo.dot_general" not in program
    assert "stablehlo.concatenate" not in program
    assert "stablehlo.while" not in program


def test_devices_add_up_to_one():
    devices = jax.local_device_count()
    x, kernel = normal(0, 2 * devices, 6, 6, 3), normal(1, 3, 3, 3, 4)

    def grad(x, kernel):
        return jax.grad(lambda k: ops.max_pool(ops.conv(x, k)).sum())(kernel)

    def shard(x, kernel):
        return lax.psum(grad(x, kernel), "batch")

    split = x.reshape(devices, 2, 6, 6, 3)
    sharded = jax.pmap(shard, "batch", in_axes=(0, None), out_axes=None)(split, kernel)
    assert_close(sharded, grad(x, kernel))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_avg_pool_is_the_mean_of_real_pixels(padding):
    x = normal(0, 2, 5, 7, 3)
    actual = ops.avg_pool(x, (2, 3), padding=padding)
    starts = (range(0, 5, 2), range(0, 7, 3)) if padding == "SAME" else ((0, 2), (0, 3))
    offset = -1 if padding == "SAME" else 0  # a seventh column needs two more, one on each side
    expected = [
        [
            np.mean(x[:, i : i + 2, max(0, j + offset) : j + offset + 3], axis=(1, 2))
            for j in starts[1]
        ]
        for i in starts[0]
    ]
    assert_close(actual, np.asarray(expected).transpose(2, 0, 1, 3))


def test_upsample_repeats_pixels():
    x = normal(0, 2, 3, 4, 2)
    expected = np.repeat(np.repeat(np.asarray(x), 3, 1), 3, 2)
    np.testing.assert_array_equal(ops.upsample_nearest(x, 3), expected)

    def squares(x):
        return (ops.upsample_nearest(x, 3) ** 3).sum()

    assert_close(jax.grad(squares)(x), 9 * 3 * x**2)
    assert_close(jax.grad(lambda x: (jax.grad(squares)(x) ** 2).sum())(x), 2 * 54 * 27 * x**3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, k: ops.conv(x, k, padding="FULL"), "padding is 'FULL'"),
        (lambda x, k: ops.conv(x[:, :2], k, padding="VALID"), r"window is \(3, 3\)"),
        (lambda x, k: ops.conv(x, k, padding=((1, 1),)), "needs two pairs"),
        (lambda x, k: ops.conv_transpose(x, k, strides=(2, 2), padding="FULL"), "'FULL'"),
        (lambda x, k: ops.max_pool(x, (5, 5)), r"needs to fit the image of \(4, 4\)"),
        (lambda x, k: ops.avg_pool(x, (5, 5)), r"needs to fit the image of \(4, 4\)"),
        (lambda x, k: ops.upsample_nearest(x, 0), "factor is 0"),
    ],
)
def test_errors_name_what_they_got_and_need(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)))


def test_sums_of_rows_and_their_derivatives_equal_numpys():
    rows = normal(0, 3, 4, 5)
    np.testing.assert_allclose(jax.vmap(row_sum)(rows), rows.sum(2), rtol=1e-5, atol=1e-5)

    def squares(sum_rows):
        return lambda rows: (sum_rows(rows) ** 2).sum()

    own, reference = squares(row_sum), squares(lambda rows: rows.sum(1))
    assert_close(jax.grad(own)(rows[0]), jax.grad(reference)(rows[0]))
    assert_close(jax.hessian(own)(rows[0]), jax.hessian(reference)(rows[0]))
