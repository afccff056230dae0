"""What all losses of metric learning and of views share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.losses import contrastive, metric
from vision_jax.losses.pairs import log_sum_exp, unit
from vision_jax.parallel.devices import AXIS
from vision_jax.tasks.base import gather

RNG = np.random.default_rng(0)
VECTORS = jnp.asarray(RNG.normal(size=(24, 6)), jnp.float32)
OTHERS = jnp.asarray(RNG.normal(size=(24, 6)), jnp.float32)
LABELS = jnp.asarray(RNG.permutation(np.repeat(np.arange(6), 4)), jnp.int32)
MASK = jnp.asarray(np.arange(24) % 7 != 3)
PROXIES = jnp.asarray(RNG.normal(size=(6, 6)), jnp.float32)

EVERY = jnp.ones(24, bool)
KEPT, LOST = np.flatnonzero(MASK), np.flatnonzero(~MASK)

PAIRED = {
    "supervised_contrastive": contrastive.supervised_contrastive,
    "multi_similarity": metric.multi_similarity,
    "all_pairs": functools.partial(metric.multi_similarity, epsilon=None),
    "batch_hard": metric.triplet,
    "semi_hard": functools.partial(metric.triplet, mining="semi_hard"),
    "smooth_ap": functools.partial(metric.smooth_ap, temperature=0.1),
}
WHOLE = {
    "proxy_anchor": lambda rows, _, to, mask: metric.proxy_anchor(rows, to, PROXIES, mask=mask),
    "vicreg": lambda rows, others, _, mask: contrastive.vicreg(rows, others, mask=mask),
    "barlow_twins": lambda rows, others, _, mask: contrastive.barlow_twins(rows, others, mask=mask),
}
paired = pytest.mark.parametrize("name", PAIRED)
entire = pytest.mark.parametrize("name", WHOLE)


@functools.cache
def compiled(name, chunk=None):
    """Losses of each anchor, and the gradient of their sum, each weighed otherwise."""

    def total(rows, labels, mask):
        losses = PAIRED[name](rows, labels, mask=mask, chunk=chunk)
        return jnp.sum(losses * jnp.arange(1.0, 1 + len(rows))), losses

    step = jax.jit(jax.value_and_grad(total, has_aux=True))

    def run(rows, labels=LABELS, mask=EVERY):
        (_, losses), gradient = step(rows, labels, mask)
        return np.asarray(losses), np.asarray(gradient)

    return run


@functools.cache
def whole(name):
    """The value of a loss of a whole batch, and its gradient."""
    step = jax.jit(jax.value_and_grad(WHOLE[name]))
    return lambda *batch: tuple(map(np.asarray, step(*batch)))


def close(found, expected, **tolerance):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **({"rtol": 2e-5, "atol": 2e-5} | tolerance))


@paired
def test_chunks_change_neither_values_nor_gradients(name):
    expected = compiled(name)(VECTORS, mask=MASK)
    for chunk in (7, 24, 100) if name == "supervised_contrastive" else (7,):
        close(compiled(name, chunk)(VECTORS, mask=MASK), expected)


@paired
def test_masked_examples_count_as_if_they_were_not_there(name):
    garbage = jnp.where(MASK[:, None], VECTORS, 1e3)
    losses, gradient = compiled(name)(garbage, mask=MASK)
    few = jax.jit(PAIRED[name])(VECTORS[KEPT], LABELS[KEPT])
    np.testing.assert_allclose(losses[KEPT], few, rtol=1e-5, atol=1e-6)
    assert not losses[LOST].any()
    assert not gradient[LOST].any()


@entire
def test_losses_of_whole_batches_leave_out_what_is_masked(name):
    garbage = jnp.where(MASK[:, None], VECTORS, 1e3)
    value, gradient = whole(name)(garbage, OTHERS, LABELS, MASK)
    assert not gradient[LOST].any()
    rows = (VECTORS[KEPT], OTHERS[KEPT], LABELS[KEPT])
    close((value, gradient[KEPT]), whole(name)(*rows, EVERY[KEPT]))


@entire
def test_a_batch_without_examples_has_no_loss(name):
    value, gradient = whole(name)(VECTORS, OTHERS, LABELS, ~EVERY)
    assert value == 0
    assert not gradient.any()


@paired
def test_a_batch_without_positives_has_no_loss_and_no_gradient(name):
    losses, gradient = compiled(name)(VECTORS, jnp.arange(24))
    assert not losses.any()
    assert not gradient.any()


@paired
@pytest.mark.parametrize("chunk", [None, 7])
def test_odd_batches_have_finite_gradients(name, chunk):
    zeros = VECTORS.at[jnp.array([0, 5])].set(0).at[7].set(VECTORS[6])
    zeros = zeros.at[8].set(2 * VECTORS[6]).at[9].set(-VECTORS[6])
    losses, gradient = compiled(name, chunk)(zeros)
    assert np.isfinite(losses).all()
    assert np.isfinite(gradient).all()
    assert not gradient[[0, 5]].any()
    for rows, labels, mask in (
        (jnp.broadcast_to(VECTORS[0], VECTORS.shape), LABELS, EVERY),  # identical pairs
        (VECTORS, jnp.zeros(24, jnp.int32), EVERY),  # one class
        (VECTORS, LABELS, jnp.arange(24) < 1),  # one image
        (VECTORS, LABELS, ~EVERY),
    ):
        losses, gradient = compiled(name, chunk)(rows, labels, mask)
        assert np.isfinite(losses).all()
        assert np.isfinite(gradient).all()


def test_other_losses_have_finite_gradients_at_zero_and_equal_vectors():
    softmax = functools.partial(metric.margin_softmax, angular_margin=0.5)
    pairs = VECTORS[:, None].repeat(2, 1)
    losses = [
        *(lambda rows, loss=loss: loss(rows, OTHERS, LABELS, EVERY) for loss in WHOLE.values()),
        lambda rows: contrastive.vicreg(rows, rows),
        lambda rows: contrastive.barlow_twins(rows, rows),
        lambda rows: contrastive.prediction(rows[:, None].repeat(2, 1), pairs).sum(),
        lambda rows: softmax(rows, LABELS, PROXIES).sum(),
        lambda rows: softmax(PROXIES, LABELS[:6], rows[:6]).sum(),
        lambda rows: softmax(rows, LABELS, rows[:6]).sum(),
    ]
    step = jax.jit(lambda rows: [jax.value_and_grad(loss)(rows) for loss in losses])
    for rows in (VECTORS, 0 * VECTORS, 0 * VECTORS + 1, PROXIES[LABELS], -PROXIES[LABELS]):
        for value, gradient in step(rows):
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()


def on_devices(count, loss):
    """The mean loss over the anchors of all devices, and its gradient, in the batch's order."""

    def step(rows, labels, mask):
        def mean(rows):
            everything = gather((rows, labels, mask))
            first = len(rows) * jax.lax.axis_index(AXIS)
            losses = loss(rows, labels, everything, first)
            total = jnp.sum(jnp.where(mask, losses, 0)) / jnp.sum(everything[2].astype(jnp.float32))
            return total, losses

        (value, losses), gradient = jax.value_and_grad(mean, has_aux=True)(rows)
        return jax.lax.psum(value, AXIS), losses, gradient

    parts = [x.reshape(count, -1, *x.shape[1:]) for x in (VECTORS, LABELS, MASK)]
    value, losses, gradient = jax.pmap(step, AXIS, devices=jax.devices()[:count])(*parts)
    return np.asarray(value)[0], np.asarray(losses).reshape(-1), np.asarray(gradient).reshape(24, 6)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("supervised_contrastive", (1, 2, 4)),
        ("multi_similarity", (4,)),
        *(pytest.param(name, (1, 2, 4), marks=pytest.mark.slow) for name in PAIRED),
    ],
)
def test_devices_do_not_change_losses_and_gradients(name, counts):
    def over(rows, labels, everything, first):
        known, names, mask = everything
        return PAIRED[name](rows, labels, known, names, mask=mask, first=first)

    def mean(rows):
        losses = PAIRED[name](rows, LABELS, mask=MASK)
        return losses.sum() / len(KEPT), losses

    (value, losses), gradient = jax.jit(jax.value_and_grad(mean, has_aux=True))(VECTORS)
    for count in counts:
        close(on_devices(count, over), (value, losses, gradient), rtol=1e-5, atol=1e-6)


def test_devices_do_not_change_losses_of_whole_batches():
    def over(rows, labels, everything, first):
        known, names, mask = everything
        value = metric.proxy_anchor(known, names, PROXIES, mask=mask)
        return jnp.broadcast_to(value, len(rows))

    value, gradient = whole("proxy_anchor")(VECTORS, OTHERS, LABELS, MASK)
    for count in (1, 2, 4):
        found = on_devices(count, over)
        close((found[0], found[2]), (value, gradient), rtol=1e-5, atol=1e-6)


@paired
def test_references_may_be_a_memory(name):
    """Anchors that are not among the references are compared with all of them."""
    found = jax.jit(PAIRED[name])(VECTORS[:5], LABELS[:5], OTHERS[:23], LABELS[:23])
    together = jnp.concatenate([VECTORS[:1], OTHERS[:23]])
    alone, _ = compiled(name)(together, jnp.concatenate([LABELS[:1], LABELS[:23]]))
    np.testing.assert_allclose(found[0], alone[0], rtol=1e-5)


@paired
def test_length_of_the_vectors_does_not_matter(name):
    scaled = VECTORS * jnp.asarray(RNG.uniform(0.01, 100, (24, 1)), jnp.float32)
    close(compiled(name)(scaled)[:1], compiled(name)(VECTORS)[:1])


def test_supervised_contrastive_is_its_formula():
    rows, labels = np.float64(VECTORS), np.asarray(LABELS)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    logits = rows @ rows.T / 0.2
    expected = []
    for i in range(24):
        others = np.delete(np.arange(24), i)
        total = np.log(np.exp(logits[i, others]).sum())
        expected.append(np.mean([total - logits[i, p] for p in others if labels[p] == labels[i]]))
    found = contrastive.supervised_contrastive(VECTORS, LABELS, temperature=0.2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_centre_of_dino_is_the_moving_mean():
    teacher = jnp.asarray(RNG.normal(size=(24, 2, 6)), jnp.float32)
    centre = PROXIES[0]
    found = contrastive.dino_centre(centre, teacher, mask=MASK, momentum=0.75)
    mean = np.asarray(teacher)[np.asarray(MASK)].mean((0, 1))
    np.testing.assert_allclose(found, 0.75 * centre + 0.25 * mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        contrastive.dino_centre(centre, teacher, mask=~(MASK | True)), centre, rtol=1e-6
    )


def test_targets_get_no_gradient():
    rows = VECTORS.reshape(12, 2, 6)
    for loss in (
        lambda x: contrastive.prediction(OTHERS.reshape(12, 2, 6), x).sum(),
        lambda x: contrastive.dino(OTHERS.reshape(12, 2, 6), x, PROXIES[0]).sum(),
        lambda x: contrastive.dino_centre(PROXIES[0], x).sum(),
    ):
        assert not jax.grad(loss)(rows).any()


def test_log_sum_exp_does_not_overflow():
    values = jnp.array([[1e4, -1e4, 9.9e3], [1e38, 0.0, 0.0]])
    where = jnp.array([[True, True, False], [False, False, False]])
    for plus_one in (False, True):
        found, gradient = jax.value_and_grad(
            lambda x, one=plus_one: log_sum_exp(x, where, plus_one=one).sum()
        )(values)
        assert found == 1e4
        np.testing.assert_array_equal(gradient, [[1, 0, 0], [0, 0, 0]])


def test_unit_vectors():
    rows = np.asarray(unit(jnp.array([[3.0, 4.0], [0.0, 0.0], [1e-10, 0.0]])))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)


def temporary_bytes(rows, chunk, loss=contrastive.supervised_contrastive):
    """The memory that a loss of this many vectors and its gradient take besides in- and outputs."""
    vectors = jax.ShapeDtypeStruct((rows, 512), jnp.float32)
    labels = jax.ShapeDtypeStruct((rows,), jnp.int32)
    step = jax.grad(lambda x, to: loss(x, to, chunk=chunk).sum())
    return jax.jit(step).lower(vectors, labels).compile().memory_analysis().temp_size_in_bytes


def test_memory_does_not_grow_with_the_square_of_the_batch():
    small, large = (temporary_bytes(rows, 64) for rows in (1024, 4096))
    assert large < 5 * small
    assert temporary_bytes(4096, None) > 4 * large


@pytest.mark.slow
def test_a_batch_of_16384_stays_within_a_gibibyte():
    """Whole, one matrix of cosines alone takes as much."""
    assert temporary_bytes(16_384, None) > 2**30
    for name in ("supervised_contrastive", "multi_similarity", "batch_hard", "semi_hard"):
        assert temporary_bytes(16_384, 256, PAIRED[name]) < 2**29, name


@pytest.mark.parametrize("name", [*PAIRED, *WHOLE, "norm_softmax", "prediction"])
def test_a_vector_that_is_nan_makes_its_loss_nan(name):
    broken = VECTORS.at[1].set(jnp.nan)
    if name in PAIRED:
        losses = PAIRED[name](broken, LABELS)
        assert jnp.isnan(losses[1])
        return
    others = {
        "norm_softmax": lambda: metric.margin_softmax(broken, LABELS, PROXIES),
        "prediction": lambda: contrastive.prediction(*(jnp.stack([broken, OTHERS], 1),) * 2),
    }
    found = others[name]() if name in others else WHOLE[name](broken, OTHERS, LABELS, EVERY)
    assert any(bool(jnp.isnan(leaf).any()) for leaf in jax.tree.leaves(found))
