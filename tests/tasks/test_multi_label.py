import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.losses.classification import sigmoid_cross_entropy
from vision_jax.models import CNN
from vision_jax.tasks.multi_label import MultiLabelClassification


@pytest.fixture
def task():
    return MultiLabelClassification(CNN(num_classes=3, stages=(4,), hidden=8), optax.sgd(0.1))


def test_the_loss_is_the_mean_of_optaxs_over_labels(normal):
    logits = normal(0, 6, 3)
    labels = jnp.asarray(np.random.default_rng(1).random((6, 3)) < 0.5)
    expected = optax.sigmoid_binary_cross_entropy(logits, labels.astype(jnp.float32)).mean(-1)
    np.testing.assert_allclose(sigmoid_cross_entropy(logits, labels), expected)
    smooth = sigmoid_cross_entropy(logits, labels, label_smoothing=0.2)
    targets = jnp.where(labels, 0.9, 0.1).astype(jnp.float32)
    np.testing.assert_allclose(
        smooth, optax.sigmoid_binary_cross_entropy(logits, targets).mean(-1), rtol=1e-6
    )


def test_mixed_images_count_by_their_weights(task, normal):
    logits = normal(2, 4, 3)
    label = jnp.asarray([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], bool)
    weight, other = jnp.asarray([0.75, 0.25, 1.0, 0.5], jnp.float32), label[::-1]
    batch = {"label": label, "label_other": other, "label_weight": weight}
    found = task.examples(logits, {}, batch)
    share = np.asarray(weight)[:, None]
    mixed = jnp.asarray(share * np.asarray(label) + (1 - share) * np.asarray(other), jnp.float32)
    expected = optax.sigmoid_binary_cross_entropy(logits, mixed).mean(-1)
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    right = ((np.asarray(logits) >= 0) == np.where(weight[:, None] >= 0.5, label, other)).all(-1)
    np.testing.assert_array_equal(found["accuracy"], right)


def test_nan_is_never_right(task):
    logits = jnp.full((2, 3), jnp.nan)
    found = task.examples(logits, {}, {"label": jnp.asarray([[True] * 3, [False] * 3])})
    assert found["accuracy"].tolist() == [0, 0]


def test_masked_images_do_not_count(task, normal):
    images = jax.nn.sigmoid(normal(3, 6, 8, 8, 1))
    label = jnp.asarray(np.random.default_rng(4).random((6, 3)) < 0.5)
    state = jax.jit(task.init)(jax.random.key(0), {"image": images})
    step = jax.jit(jax.vmap(task.eval_step, (None, 0), axis_name="batch"))

    def measured(count, mask):
        batch = {"image": images[:count], "label": label[:count], "mask": jnp.asarray(mask)}
        return jax.tree.map(lambda x: x[0], step(state, jax.tree.map(lambda x: x[None], batch)))

    whole, padded = measured(4, [True] * 4), measured(6, [True] * 4 + [False] * 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, padded)
    np.testing.assert_array_equal(whole["label_counts"].sum(1)[:, 1], label[:4].sum(0))
