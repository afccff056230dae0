import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from marks import slow_but

from vision_jax import ops
from vision_jax.ops.cpu import blocks, im2col, rules, small_images, xla

LAYOUT = ("NHWC", "HWIO", "NHWC")


def lax_conv(x, kernel, *, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def edged(x, padding):
    """Images padded and cut before XLA sees them, which mistakes some edges."""
    (top, bottom), (left, right) = padding
    height, width = x.shape[1:3]
    x = x[:, max(-top, 0) : height + min(bottom, 0), max(-left, 0) : width + min(right, 0)]
    edges = [(max(a, 0), max(b, 0)) for a, b in padding]
    return jnp.pad(x, ((0, 0), *edges, (0, 0)))


def lax_conv_transpose(x, kernel, *, strides, padding):
    return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=LAYOUT)


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
    ((6, 6), 3, 2, (3, 3), (1, 1), ((-1, 1), (0, 0))),
    ((6, 6), 3, 2, (3, 3), (1, 1), ((0, 0), (2, -1))),
    ((6, 6), 3, 2, (3, 3), (3, 3), ((-1, 2), (1, 1))),
    ((6, 6), 3, 2, (3, 3), (1, 1), ((3, 0), (0, 4))),
    ((4, 4), 32, 33, (7, 7), (1, 1), "SAME"),
    ((7, 8), 32, 33, (3, 3), (1, 1), "SAME"),
    ((10, 6), 33, 32, (3, 3), (1, 1), "VALID"),
    ((7, 6), 16, 24, (1, 1), (1, 1), "SAME"),
    ((7, 6), 16, 24, (1, 1), (3, 2), "VALID"),
    ((11, 8), 3, 16, (3, 3), (2, 2), "SAME"),
    ((8, 11), 2, 16, (3, 2), (2, 2), ((1, 1), (0, 1))),
    ((11, 7), 32, 32, (3, 3), (1, 1), ((2, 0), (1, 2))),
]


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("large", slow_but([False], [False, True]))
@pytest.mark.parametrize("older", slow_but([False], [False, True]))
@pytest.mark.parametrize("case", slow_but(CASES[::3], CASES), ids=str)
def test_cpu_forms_equal_native_ones(assert_close, normal, case, older, large, heavy, monkeypatch):
    size, channels, features, window, strides, padding = case
    # Blocks of two of the images, so that one is left over.
    monkeypatch.setattr(blocks, "block_length", lambda length, limit: min(2, length))
    monkeypatch.setattr(xla, "OLDER", older)
    if large:  # than a block, which then is two rows of an image
        row = 4 * channels * window[0] * window[1] * (size[1] - window[1] + 1)
        monkeypatch.setattr(im2col, "BLOCK", 2 * row)
    if heavy:  # kernels, all of them
        monkeypatch.setattr(rules, "_HEAVY", 1)
        monkeypatch.setattr(rules, "_HEAVY_GRAD", 1)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(size, window, strides, padding)
    padding = tuple((int(a), int(b)) for a, b in padding)
    options = {"strides": strides, "padding": padding}
    dense = {"dilation": (1, 1), "groups": 1}
    x, kernel = normal(0, 17, *size, channels), normal(1, *window, channels, features)
    g = normal(2, *xla.forward(x, kernel, **options).shape)

    def by_padding(x, kernel):
        return lax_conv(edged(x, padding), kernel, strides=strides, padding="VALID")

    def every(form, x, kernel, g):
        others = {} if form is small_images else dense
        return (
            form.forward(x, kernel, **options, **others),
            form.input_grad(g, kernel, **options, **others, size=size),
            form.kernel_grad(x, g, **options, **others, size=window),
        )

    is_small_enough = min(map(min, padding)) >= 0 and max(window) <= small_images.WINDOW
    forms = [rules, small_images] if is_small_enough else [rules]

    @jax.jit
    def compute(x, kernel, g):
        y, gradients = jax.vjp(by_padding, x, kernel)
        return (y, *gradients(g)), [every(form, x, kernel, g) for form in (xla, *forms)]

    expected, actual = compute(x, kernel, g)
    for results in actual:
        assert_close(results, expected)


# Image, channels, features, kernel, strides, padding, dilation, groups.
GROUPED = [
    ((9, 7), 6, 6, (3, 3), 1, "SAME", 1, 6),
    ((9, 7), 6, 6, (5, 4), (2, 3), "SAME", 1, 6),
    ((8, 8), 6, 6, (3, 3), 2, ((0, 1), (1, 1)), 1, 6),
    ((9, 7), 3, 6, (3, 3), (1, 2), "VALID", (2, 1), 3),
    ((9, 7), 3, 6, (3, 2), 2, ((2, -1), (-1, 3)), (2, 3), 3),
    ((9, 7), 6, 4, (3, 3), 1, "SAME", 1, 2),
    ((9, 7), 6, 4, (3, 3), 2, "VALID", 1, 2),
    ((9, 7), 6, 4, (2, 3), 1, ((1, 2), (0, 3)), (3, 2), 2),
    ((9, 7), 3, 4, (3, 3), 1, "SAME", 2, 1),
    ((10, 7), 3, 4, (3, 2), 1, ((4, 3), (1, 0)), (4, 2), 1),
    ((10, 7), 3, 4, (3, 2), 1, ((-1, 3), (1, -1)), (2, 2), 1),
    ((9, 7), 3, 4, (3, 3), 2, "SAME", 2, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", GROUPED, ids=str)
def test_grouped_and_dilated_convolutions_equal_lax(case, normal, assert_close, monkeypatch):
    size, channels, features, window, strides, padding, dilation, groups = case
    monkeypatch.setattr(blocks, "block_length", lambda length, limit: min(2, length))
    x = normal(0, 5, *size, channels)
    kernel = normal(1, *window, channels // groups, features)

    def both(of):
        return of if isinstance(of, tuple) else (of, of)

    def reference(x, kernel):
        edges = padding
        if not isinstance(edges, str):
            x, edges = edged(x, edges), "VALID"
        return lax.conv_general_dilated(
            x,
            kernel,
            both(strides),
            edges,
            rhs_dilation=both(dilation),
            dimension_numbers=LAYOUT,
            feature_group_count=groups,
        )

    def own(x, kernel):
        return ops.conv(
            x, kernel, strides=strides, padding=padding, dilation=dilation, groups=groups
        )

    def results(function, x, kernel):
        def loss(x, kernel):
            return jnp.sin(function(x, kernel)).sum()

        def penalty(x, kernel):
            return sum((g**2).sum() for g in jax.grad(loss, (0, 1))(x, kernel))

        kernels = jnp.stack([kernel, 2.0 * kernel])
        return {
            "forward": function(x, kernel),
            "gradients": jax.grad(loss, (0, 1))(x, kernel),
            "second order": jax.grad(penalty, (0, 1))(x, kernel),
            "many image batches": jax.vmap(function, (1, None))(x[:, None], kernel),
            "many kernels": jax.vmap(function, (None, 0))(x, kernels),
            "no images": jax.grad(loss, (0, 1))(x[:0], kernel),
        }

    assert_close(*jax.jit(lambda *args: [results(f, *args) for f in (own, reference)])(x, kernel))


def test_depthwise_bfloat16_is_summed_in_float32(normal, assert_close):
    x, kernel = normal(0, 2, 9, 9, 4), normal(1, 5, 5, 1, 4)

    def results(x, kernel):
        def loss(x, kernel):
            return ops.conv(x, kernel, groups=4).astype(jnp.float32).sum()

        return ops.conv(x, kernel, groups=4), jax.grad(loss, (0, 1))(x, kernel)

    low = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    actual = results(*low)
    assert {leaf.dtype for leaf in jax.tree.leaves(actual)} == {jnp.dtype(jnp.bfloat16)}
    assert_close(actual, results(*(a.astype(jnp.float32) for a in low)), 2**-8)


@pytest.mark.parametrize("padding", ["SAME", ((-1, 2), (1, -1))])
@pytest.mark.parametrize("strides", [1, 2])
def test_an_empty_batch_has_empty_results_and_no_gradient(strides, padding):
    for channels, features in ((1, 3), (3, 1), (8, 8), (32, 32)):
        x, kernel = jnp.ones((0, 6, 6, channels)), jnp.ones((3, 3, channels, features))

        def loss(x, kernel):
            y = ops.conv(x, kernel, strides=strides, padding=padding)
            y = ops.conv_transpose(ops.max_pool(y, 2, 1), kernel.swapaxes(2, 3), strides=strides)
            return ops.upsample_nearest(y).sum()

        of_x, of_kernel = jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
        assert of_x.shape == x.shape
        np.testing.assert_array_equal(of_kernel, jnp.zeros_like(kernel))


def test_results_that_see_only_padding_and_empty_batches():
    image, kernel = jnp.ones((3, 1, 1, 8)), jnp.ones((1, 1, 8, 8))
    unseen = ops.conv(image, kernel, strides=(2, 2), padding=((1, 0), (1, 0)))
    np.testing.assert_array_equal(unseen, jnp.zeros_like(image))
    nothing, kernel = jnp.ones((0, 4, 4, 8)), jnp.ones((5, 5, 8, 8))
    assert ops.conv(nothing, kernel, strides=(2, 2)).shape == (0, 2, 2, 8)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_convolutions_in_a_loop_keep_the_one_order_that_is_fast(normal, strides):
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
def test_convolutions_and_their_derivatives_equal_lax(
    assert_close, normal, own, reference, options
):
    x, kernel = normal(0, 4, 6, 5, 3), normal(1, 5, 4, 3, 2)

    def derivatives(function, x, kernel):
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

    both = jax.jit(lambda *args: [derivatives(f, *args) for f in (own, reference)])
    assert_close(*both(x, kernel))


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ({"strides": 2, "padding": 1}, {"strides": (2, 2), "padding": ((1, 1), (1, 1))}),
        ({"strides": [2, 1], "padding": (1, 2)}, {"strides": (2, 1), "padding": ((1, 1), (2, 2))}),
        ({"strides": np.int64(2), "padding": "same"}, {"strides": (2, 2), "padding": "SAME"}),
        ({"padding": [(1, 0), 2]}, {"strides": (1, 1), "padding": ((1, 0), (2, 2))}),
        ({"strides": np.array([1, 2])}, {"strides": (1, 2), "padding": "SAME"}),
    ],
)
def test_arguments_are_read_as_flax_and_keras_read_them(given, resolved, normal, assert_close):
    x, kernel = normal(0, 2, 6, 5, 3), normal(1, 3, 3, 3, 2)
    conv = inspect.unwrap(ops.conv)
    assert_close(conv(x, kernel, **given), lax_conv(x, kernel, **resolved))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_native_operations_only(platform):
    x, kernel = jnp.ones((4, 4, 4, 8)), jnp.ones((5, 5, 8, 8))

    def loss(x, kernel):
        x = ops.conv(x, kernel[:, :, :1], groups=8, dilation=2)
        y = ops.max_pool(ops.conv(x, kernel, strides=(1, 1)))
        return ops.conv_transpose(y, kernel, strides=(2, 2)).sum()

    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    program = jax.export.export(step, platforms=[platform])(x, kernel).mlir_module()
    assert program.count("stablehlo.convolution") == 9  # three, each with two gradients
    assert "feature_group_count = 8" in program
    assert "stablehlo.select_and_scatter" in program
    assert "stablehlo.dot_general" not in program
    assert "stablehlo.concatenate" not in program
    assert "stablehlo.while" not in program


def test_devices_add_up_to_one(assert_close, normal):
    devices = jax.local_device_count()
    x, kernel = normal(0, 2 * devices, 6, 6, 3), normal(1, 3, 3, 3, 4)

    def grad(x, kernel):
        return jax.grad(lambda k: ops.max_pool(ops.conv(x, k)).sum())(kernel)

    def shard(x, kernel):
        return lax.psum(grad(x, kernel), "batch")

    split = x.reshape(devices, 2, 6, 6, 3)
    sharded = jax.pmap(shard, "batch", in_axes=(0, None), out_axes=None)(split, kernel)
    assert_close(sharded, grad(x, kernel))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, k: ops.conv(x, k, padding="FULL"), "padding is 'FULL'"),
        (lambda x, k: ops.conv(x[:, :2], k, padding="VALID"), r"window is \(3, 3\)"),
        (lambda x, k: ops.conv(x, k, padding=((1, 1),)), "needs a name, .* or two pairs"),
        (lambda x, k: ops.conv(x, k, padding=(1, 1, 1)), r"padding is \(1, 1, 1\), needs"),
        (lambda x, k: ops.conv(x, k[:0]), r"kernel is \(0, 3, 1, 1\), needs \(rows"),
        (lambda x, k: ops.conv(x, k, padding=((-5, 9), (0, 0))), "needs to leave a pixel"),
        (lambda x, k: ops.conv(x, k, strides=0), "strides is 0, needs .* of 1 or more"),
        (lambda x, k: ops.conv(x, k, strides=(1, 0)), r"strides is \(1, 0\), needs"),
        (lambda x, k: ops.conv(x, k, strides=(1, 1, 1)), r"strides is \(1, 1, 1\), needs"),
        (lambda x, k: ops.conv(x[0], k), r"images are \(4, 4, 1\), need .*images\[None\]"),
        (lambda x, k: ops.conv(x.astype(int), k), "images are int32, need floating-point"),
        (lambda x, k: ops.conv(x, k[0]), r"kernel is \(3, 1, 1\), needs \(rows, columns, 1, "),
        (lambda x, k: ops.conv(jnp.ones((1, 4, 4, 2)), k), "kernel is .*, needs .* 2, features"),
        (lambda x, k: ops.conv(x, k, dilation=0), "dilation is 0, needs .* of 1 or more"),
        (lambda x, k: ops.conv(x, k, groups=2), "groups is 2, needs to divide 1 channels and 1"),
        (lambda x, k: ops.conv(x, k, groups=0), "groups is 0, needs to divide"),
        (lambda x, k: ops.conv(x, k, dilation=2, padding=0), r"window is \(5, 5\), needs to fit"),
        (lambda x, k: ops.conv_transpose(x, k, strides=0), "strides is 0"),
        (lambda x, k: ops.max_pool(x[0]), r"images are \(4, 4, 1\), need"),
        (lambda x, k: ops.max_pool(x, 0), "window is 0, needs"),
        (lambda x, k: ops.max_pool(x, 2, 0), "strides is 0, needs"),
        (lambda x, k: ops.avg_pool(x.astype(int)), "images are int32, need floating-point"),
        (lambda x, k: ops.avg_pool(x, 2, 2, 2), "needs to leave a pixel in each window"),
        (lambda x, k: ops.conv_transpose(x, k, strides=(2, 2), padding="FULL"), "'FULL'"),
        (lambda x, k: ops.max_pool(x, (5, 5)), r"needs to fit the image of \(4, 4\)"),
        (lambda x, k: ops.avg_pool(x, (5, 5)), r"needs to fit the image of \(4, 4\)"),
        (lambda x, k: ops.upsample_nearest(x, 0), "factor is 0"),
    ],
)
def test_errors_name_what_they_got_and_need(call, message, monkeypatch):
    for name in ("conv", "conv_transpose", "max_pool", "avg_pool"):
        # As users have them: the tests' type checks would be first.
        monkeypatch.setattr(ops, name, inspect.unwrap(getattr(ops, name)))
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)))
