import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from vision_jax.losses.classification import softmax_cross_entropy, weigh_classes

LABELS = jnp.array([0, 1, 2, 2, 1, 0], jnp.int32)
WEIGHTS = jnp.array([0.5, 2, 1], jnp.float32)


@pytest.fixture(scope="module")
def logits(normal):
    return 3 * normal(0, 6, 3)


def test_gamma_0_and_weights_of_1_are_the_cross_entropy(logits):
    plain = softmax_cross_entropy(logits, LABELS)
    same = softmax_cross_entropy(logits, LABELS, gamma=0.0, class_weights=jnp.ones(3))
    np.testing.assert_allclose(same, plain, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_the_formula(logits, gamma, smoothing):
    p = np.exp(np.float64(logits))
    p /= p.sum(1, keepdims=True)
    targets = np.eye(3)[LABELS] * (1 - smoothing) + smoothing / 3
    expected = -(targets * WEIGHTS * (1 - p) ** gamma * np.log(p)).sum(1)
    options = {"label_smoothing": smoothing, "gamma": gamma}
    losses = softmax_cross_entropy(logits, LABELS, **options, class_weights=WEIGHTS)
    np.testing.assert_allclose(losses, expected, rtol=2e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_certain_answers_have_finite_gradients(gamma):
    logits = jnp.array([[1000, 0, -1000], [0, 1000, 0]], jnp.float32)
    labels = jnp.array([0, 0], jnp.int32)

    def loss(logits):
        return softmax_cross_entropy(logits, labels, gamma=gamma).sum()

    gradient = jax.grad(loss)(logits)
    np.testing.assert_allclose(gradient, [[0, 0, 0], [-1, 1, 0]], atol=1e-6)


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.repeat([0, 1, 2], [100, 7, 1])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weigh_classes(np.bincount(labels), "balanced"), expected)
    np.testing.assert_allclose(
        weigh_classes(np.array([100, 0, 7, 1]), "balanced"), np.insert(expected, 1, 1)
    )


def test_effective_weights_are_those_of_the_paper():
    counts = np.array([5000, 300, 20])
    paper = (1 - 0.99) / (1 - 0.99**counts)
    weights = weigh_classes(counts, "effective", beta=0.99)
    np.testing.assert_allclose(weights / weights[0], paper / paper[0])
    assert weights @ counts == pytest.approx(counts.sum())
    np.testing.assert_allclose(weigh_classes(counts, "effective", beta=0.0), 1)
    np.testing.assert_allclose(
        weigh_classes(counts, "effective", beta=1 - 1e-9),
        weigh_classes(counts, "balanced"),
        rtol=1e-4,
    )
