"""Mappings use every tensor once, fill every variable, and say what does not fit."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "parity"))
import drawn

from vision_jax.errors import InputError
from vision_jax.models import MODELS
from vision_jax.weights import mapping
from vision_jax.weights.mapping import load_weights, sources_of
from vision_jax.weights.sources import resnet, vit

STORED = drawn.stored_names()
NAMED = [case.removeprefix("named/") for case in STORED if case.startswith("named/")]
QUICK = ("torchvision/resnet18", "timm/tf_efficientnet_lite0", "keras/vgg16")
SMALL = {"depths": (1, 1, 1, 1)}


def blank(case):
    """Tensors of zeros that take no memory."""
    return {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in STORED[f"named/{case}"].items()
    }


def assert_takes(case, monkeypatch):
    monkeypatch.setattr(mapping, "_checked", lambda path, value, names: value)
    source, name = case.split("/")
    weights = load_weights(name, blank(case), source=source)
    assert weights.options["num_classes"] == (10 if source == "huggingface" else 1000)


@pytest.mark.parametrize("case", QUICK)
def test_a_model_takes_its_librarys_tensors(case, monkeypatch):
    assert_takes(case, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("case", NAMED)
def test_every_model_takes_its_libraries_tensors(case, monkeypatch):
    assert_takes(case, monkeypatch)


def test_every_model_of_these_architectures_has_a_library():
    files = ("resnet", "vgg", "densenet", "efficientnet")
    models = {name for name, place in MODELS.items() if place.split(":")[0].endswith(files)}
    known = {case.partition("/")[2] for case in NAMED}
    assert known == {name for name in models if not name.startswith("wrn_")}
    for name in (name for name in known if not name.startswith("tf_")):
        listed = {case.partition("/")[0] for case in NAMED if case.endswith(f"/{name}")}
        assert listed == set(sources_of(name)) - {"timm_tf"}


@pytest.fixture
def tensors():
    return drawn.draw_all(STORED["narrow/torchvision/resnet18"])


def load(tensors, **options):
    return load_weights("resnet18", tensors, options=SMALL, **options)


def refusal(tensors, **options):
    with pytest.raises(InputError) as error:
        load(tensors, **options)
    return str(error.value)


def test_layouts_are_flaxs(tensors):
    params = load(tensors).variables["params"]
    np.testing.assert_array_equal(
        params["conv1"]["kernel"], tensors["conv1.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(params["fc"]["kernel"], tensors["fc.weight"].T)


def test_the_dense_layer_after_a_flatten_sees_rows_columns_and_channels():
    tensors = drawn.draw_all(STORED["narrow/torchvision/vgg11"])
    options = {"depths": (1, 1, 1, 1, 1), "hidden": 32}
    weights = load_weights("vgg11", tensors, options=options)
    kernel = weights.variables["params"]["classifier"]["0"]["kernel"]
    theirs = tensors["classifier.0.weight"]
    row, column, channel = 2, 5, 300
    np.testing.assert_array_equal(
        kernel[(row * 7 + column) * 512 + channel], theirs[:, (channel * 7 + row) * 7 + column]
    )


def test_a_file_without_a_head_makes_a_model_without_one(tensors):
    del tensors["fc.weight"], tensors["fc.bias"]
    weights = load(tensors)
    assert weights.options["num_classes"] == 0
    assert "fc" not in weights.variables["params"]


def test_images_of_one_channel_are_normalised_by_the_averages(tensors):
    tensors["conv1.weight"] = tensors["conv1.weight"][:, :1]
    images = load(tensors).preprocessing
    np.testing.assert_allclose(images.mean, [np.mean([0.485, 0.456, 0.406])])
    assert len(images.std) == 1


def test_libraries_of_the_same_names_differ_in_preprocessing_alone(tensors):
    first, second = load(tensors), load(tensors, source="timm")
    assert (first.source, second.source) == ("torchvision", "timm")
    assert load(tensors, prefer="timm").preprocessing == second.preprocessing
    assert load(tensors, prefer="keras").source == "torchvision"  # Keras has other names
    assert first.options == second.options
    assert first.preprocessing.interpolation == "bilinear"
    assert second.preprocessing.interpolation == "bicubic"


@pytest.mark.parametrize(
    ("name", "crop"),
    [
        ("resnet50", 0.95),
        ("wide_resnet50_2", 0.875),
        ("vit_small_patch16_224", 0.9),
        ("vit_base_patch16_clip_quickgelu_224", 0.9),
        ("vit_base_patch16_siglip_224", 0.9),
    ],
)
def test_images_are_scaled_to_the_size_that_timm_scales_them_to(name, crop):
    mappings = (vit if name.startswith("vit") else resnet).mappings(name)
    timm = [mapping.preprocessing for mapping in mappings if mapping.source == "timm"]
    assert {round(p.image_size / p.crop) for p in timm} == {math.floor(224 / crop)}


def test_names_of_networks_that_compute_differently_need_a_source():
    tensors = drawn.draw_all(STORED["narrow/timm/efficientnet_lite0"])
    narrow = {"width": 0.5, "depth": 0.3}
    with pytest.raises(InputError, match="source must say which: one of timm, timm_tf"):
        load_weights("efficientnet_lite0", tensors, options=narrow)
    ported = load_weights("tf_efficientnet_lite0", tensors, options=narrow)
    same = load_weights("efficientnet_lite0", tensors, options=narrow, source="timm_tf")
    assert ported.options == same.options
    assert ported.preprocessing == same.preprocessing


def test_densenets_old_names_are_understood():
    tensors = drawn.draw_all(STORED["narrow/torchvision/densenet121"])
    options = {"depths": (2, 1, 1, 2), "growth": 8, "stem": 16}
    numbered = ("norm1", "norm2", "conv1", "conv2")
    old = {}
    for name, value in tensors.items():
        for child in numbered if "denselayer" in name else ():
            name = name.replace(f".{child}.", f".{child[:4]}.{child[4]}.")
        old[name] = value
    assert old.keys() != tensors.keys()
    new, same = (load_weights("densenet121", t, options=options) for t in (tensors, old))
    np.testing.assert_equal(new.variables, same.variables)


@pytest.mark.parametrize(
    ("layer", "older"),
    [
        ("model_weights/conv1_conv/conv1_conv/kernel", "conv1/conv/conv1/conv/kernel:0"),
        ("model_weights/conv1_bn/conv1_bn/gamma", "conv1/bn/conv1/bn/gamma:0"),
        ("model_weights/bn/bn/gamma", "bn/bn/gamma:0"),
    ],
)
def test_names_of_keras_2_are_understood(layer, older):
    (keras,) = (m for m in mapping._mappings("densenet121") if m.source == "keras")
    assert keras.rule_for(older)[1] == keras.rule_for(layer)[1]


def test_names_of_the_first_vgg_files_are_understood():
    (keras,) = (m for m in mapping._mappings("vgg16") if m.source == "keras")
    assert keras.rule_for("block1_conv2/block1_conv2_W_1:0")[1] == "features.2.kernel"
    assert keras.rule_for("block1_conv2/block1_conv2_b_1:0")[1] == "features.2.bias"


def test_what_is_missing_left_over_or_misshapen_is_named(tensors):
    del tensors["layer2.0.bn1.weight"]
    tensors["extra.weight"] = np.zeros((2, 2), np.float32)
    tensors["fc.bias"] = np.zeros(11, np.float32)
    assert refusal(tensors) == (
        "the tensors do not fit resnet18 as torchvision's: tensors left over: extra.weight; "
        "no tensor for: layer2.0.bn1.scale; wrong shapes: fc.bias makes fc.bias (11,), needs (10,)"
    )


def test_weights_of_another_model_are_refused(tensors):
    message = refusal({f"body.{name}": value for name, value in tensors.items()})
    assert "tensors left over: body.conv1.weight, body.bn1.weight" in message
    assert refusal({}).startswith("the tensors do not fit")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (np.nan, "conv1.weight holds NaN or infinite values"),
        (np.inf, "conv1.weight holds NaN or infinite values"),
    ],
)
def test_values_that_are_not_finite_are_refused(tensors, change, message):
    tensors["conv1.weight"][0, 0, 0, 0] = change
    assert refusal(tensors) == message


def test_values_beyond_float32_integers_and_negative_variances_are_refused(tensors):
    wide = tensors | {"conv1.weight": tensors["conv1.weight"].astype(np.float64) * 1e300}
    assert refusal(wide) == "conv1.weight holds NaN or infinite values"
    whole = tensors | {"conv1.weight": tensors["conv1.weight"].astype(np.int8)}
    assert refusal(whole) == "conv1.weight is of int8, needs floating-point numbers"
    negative = tensors | {"bn1.running_var": -tensors["bn1.running_var"]}
    assert "bn1.running_var holds the variance -0.01" in refusal(negative)


def test_unknown_models_and_sources_are_named(tensors):
    assert "it must be one of torchvision, timm, huggingface" in refusal(tensors, source="caffe")
    with pytest.raises(InputError, match="no weights of other libraries are known"):
        sources_of("cnn")


@pytest.mark.parametrize(
    ("model", "name"), [("vgg16", "classifier.0.weight"), ("vit_tiny_patch16_224", "head.weight")]
)
def test_a_single_number_is_no_parameter(model, name):
    with pytest.raises(InputError, match=r"wrong shapes: .* is \(\)|no tensor for"):
        load_weights(model, {name: np.ones((), np.float32)})
