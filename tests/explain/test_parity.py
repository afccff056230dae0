"""Maps equal captum's and pytorch-grad-cam's; `parity/make.py` stored theirs."""

import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "weights" / "parity"))
import drawn

from vision_jax.explain import cams, gradients, perturbation
from vision_jax.models import CNN, build_model
from vision_jax.weights.mapping import load_weights

LABELS, STEPS, SCALE = {"cnn": 2, "resnet": 3}, 20, 100
TOLERANCE = 1e-4
NORMALIZED = {"mean": (0.5,), "std": (0.25,)}


def cnn():
    """The network of the script, with its tensors by the names of layers here."""
    shapes = {0: (8, 3, 3, 3), 3: (16, 8, 3, 3), 7: (32, 784), 9: (5, 32)}
    layers = zip(("conv1", "conv2", "dense", "logits"), shapes.items(), strict=True)
    params = {}
    for name, (place, shape) in layers:
        weight, bias = (
            drawn.draw(f"{place}.{part}", size)
            for part, size in (("weight", shape), ("bias", shape[:1]))
        )
        kernel = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
        if name == "dense":  # channels come first in PyTorch
            kernel = weight.reshape(32, 16, 7, 7).transpose(2, 3, 1, 0).reshape(784, 32)
        params[name] = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    model = CNN(num_classes=5, stages=(8, 16), hidden=32, padding="SAME", **NORMALIZED)
    return partial(model.apply, {"params": params}), 28


def resnet():
    """One block of each stage of torchvision's ResNet-18."""
    tensors = drawn.draw_all(drawn.stored_names()["narrow/torchvision/resnet18"])
    options = {"depths": (1, 1, 1, 1)}
    weights = load_weights("resnet18", tensors, source="torchvision", options=options)
    model = build_model("resnet18", **weights.options, **NORMALIZED)
    return partial(model.apply, weights.variables), 64


@pytest.fixture(scope="module", params=[cnn, pytest.param(resnet, marks=pytest.mark.slow)])
def drawn_maps(request):
    """A function of a method's name to its map, and what is stored of that network."""
    network, size = request.param()
    images = jnp.asarray(drawn.images(size, size))
    name = request.param.__name__
    with np.load(Path(__file__).parent / "parity" / "maps.npz") as stored:
        theirs = {k.partition("/")[2]: v for k, v in stored.items() if k.startswith(name)}

    def score(output, endpoints):
        return SCALE * output[:, LABELS[name]]

    return partial(_map, network, score, images), theirs


def _map(network, score, images, method, **options):
    return np.asarray(jax.jit(lambda x: method(network, score, x, **options))(images))


def assert_equal(own, theirs):
    assert own.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(own, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


def scaled(maps):
    """Bring each map to [0, 1], as pytorch-grad-cam does to show it."""
    least = maps.min((1, 2), keepdims=True)
    return (maps - least) / (maps.max((1, 2), keepdims=True) - least)


def test_gradients_equal_captums(drawn_maps):
    draw, theirs = drawn_maps
    integrated = theirs["IntegratedGradients"]
    apart = np.abs(draw(gradients.integrated_gradients, steps=STEPS) - integrated)
    apart /= np.abs(integrated).max()
    if len(theirs["Occlusion"][0]) % 7 == 0:  # the CNN
        assert apart.max() <= TOLERANCE
    else:  # a few pixels differ more
        assert np.mean(apart > TOLERANCE) < 0.05
        assert apart.max() < 5e-3
    assert_equal(draw(gradients.gradient_x_input), theirs["InputXGradient"])


def test_grad_cam_equals_captums_and_pytorch_grad_cams(drawn_maps):
    draw, theirs = drawn_maps
    own = draw(cams.grad_cam)
    assert_equal(own, theirs["LayerGradCam"])
    np.testing.assert_allclose(scaled(own), theirs["GradCAM/shown"], rtol=0, atol=TOLERANCE)


def test_other_cams_equal_pytorch_grad_cams(drawn_maps):
    draw, theirs = drawn_maps
    own = draw(cams.grad_cam_plus_plus)
    np.testing.assert_allclose(scaled(own), theirs["GradCAMPlusPlus/shown"], rtol=0, atol=TOLERANCE)
    raw = jnp.asarray(theirs["HiResCAM/raw"])
    hires = draw(cams.hires_cam)
    enlarged = jax.image.resize(raw, hires.shape, "bilinear", antialias=False)
    assert_equal(hires, np.asarray(enlarged))


def test_occlusion_equals_captums(drawn_maps):
    """Captum's sums what each window of a tiling costs over the channels."""
    draw, theirs = drawn_maps

    def occlusion(network, score, images):
        return perturbation.occlusion(
            lambda x: score(*network(x)), images, window=7, stride=7, baseline=0.5
        )

    if theirs["Occlusion"].shape[1] % 7:
        pytest.skip("captum's last window is cut off at the edge, where the one here is moved back")
    assert_equal(draw(occlusion), theirs["Occlusion"] / 3)
