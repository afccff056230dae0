import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.models import build_model
from vision_jax.models.autoencoder import ConvAutoencoder, DenseAutoencoder, VariationalAutoencoder

SHAPE = (8, 12, 3)
MODELS = {
    "conv": ConvAutoencoder(SHAPE, hidden=(4, 3), code=2),
    "dense": DenseAutoencoder(SHAPE, hidden=(9, 7), code=5),
    "variational": VariationalAutoencoder(SHAPE, hidden=(9,), code=5),
}
CODES = {"conv": 2 * 3 * 2, "dense": 5, "variational": 5}


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).random((3, *SHAPE), np.float32))


@pytest.fixture(scope="module", params=MODELS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def variables(kind, images):
    return jax.jit(MODELS[kind].init)(jax.random.key(0), images)


def shapes(model, image_shape):
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


def test_the_default_conv_autoencoder_has_3_801_parameters_and_a_code_of_7x7x8():
    params = shapes(ConvAutoencoder(), (28, 28, 1))
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 3_801
    images = jnp.zeros((1, 28, 28, 1))
    out = jax.eval_shape(lambda: ConvAutoencoder().init_with_output(jax.random.key(0), images)[0])
    assert out[1]["embedding"].shape == (1, 7 * 7 * 8)


def test_the_default_dense_autoencoder_is_hinton_and_salakhutdinovs():
    params = shapes(DenseAutoencoder(), (28, 28, 1))
    widths = [params["encoder"][name]["kernel"].shape for name in sorted(params["encoder"])]
    assert widths == [(784, 1000), (1000, 500), (500, 250), (250, 30)]
    widths = [params["decoder"][name]["kernel"].shape for name in sorted(params["decoder"])]
    assert widths == [(30, 250), (250, 500), (500, 1000), (1000, 784)]


@pytest.mark.slow
def test_output_is_the_decoded_embedding(kind, variables, images):
    model = MODELS[kind]
    output, endpoints = model.apply(variables, images)
    assert output.shape == images.shape
    assert endpoints["embedding"].shape == (3, CODES[kind])
    code = model.apply(variables, images, method="encode")
    np.testing.assert_array_equal(code, endpoints["embedding"])
    logits = model.apply(variables, code, method="decode")
    np.testing.assert_allclose(logits, endpoints["logits"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output, 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert set(variables["params"]) == {"encoder", "decoder"}


def test_training_decodes_a_sample_of_the_variational_code(images):
    model = MODELS["variational"]
    variables = jax.jit(model.init)(jax.random.key(0), images)

    apply = jax.jit(model.apply, static_argnames="train")

    def logits(key, train):
        rngs = {"latent": jax.random.key(key)}
        return apply(variables, images, train=train, rngs=rngs)[1]["logits"]

    np.testing.assert_array_equal(logits(1, False), logits(2, False))
    assert not np.array_equal(logits(1, True), logits(2, True))
    # A code without variance is its mean.
    out = variables["params"]["encoder"]["out"]
    out["kernel"] = out["kernel"].at[:, 5:].set(0)
    out["bias"] = out["bias"].at[5:].set(-60)
    np.testing.assert_allclose(logits(1, True), logits(1, False), atol=1e-6)


def test_images_of_another_shape_are_named(kind):
    with pytest.raises(ValueError, match=r"\(8, 8, 3\).*image_shape=\(8, 12, 3\)"):
        shapes(MODELS[kind], (8, 8, 3))


def test_images_that_do_not_halve_evenly_are_named():
    with pytest.raises(ValueError, match=r"images are 8x10; 2 stages.*multiples of 4"):
        shapes(ConvAutoencoder((8, 10, 1)), (8, 10, 1))


@pytest.mark.parametrize("kind", ["conv", "dense", "variational"])
def test_an_encoder_that_classifies_has_the_autoencoder_s_code(kind):
    sizes = {"hidden": (6, 4), "code": 3}
    images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 1))
    whole = build_model(f"{kind}_autoencoder", image_shape=(8, 8, 1), **sizes)
    part = build_model(f"{kind}_encoder", num_classes=5, **sizes)
    weights, own = (jax.jit(net.init)(jax.random.key(0), images) for net in (whole, part))
    both = {"params": {**own["params"], "encoder": weights["params"]["encoder"]}}
    logits, endpoints = jax.jit(part.apply)(both, images)
    code = endpoints["embedding"]
    _, expected = jax.jit(whole.apply)(weights, images)
    np.testing.assert_allclose(code, expected["embedding"], rtol=1e-6)
    head = own["params"]["logits"]
    np.testing.assert_allclose(logits, code @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-6)
