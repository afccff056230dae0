"""Vision transformers compute what other libraries do with the same weights."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from marks import slow_but

from vision_jax.errors import InputError
from vision_jax.models import build_model
from vision_jax.weights.mapping import _fit, _mappings, _place, load_weights

sys.path.append(str(Path(__file__).parent))
from vit_outputs import cases


@pytest.fixture(scope="module")
def stored():
    with np.load(cases.OUTPUTS) as outputs:
        return dict(outputs)


@pytest.fixture(scope="module")
def shapes():
    return cases.shapes()


def loaded(case, shapes, source=None):
    name, library, options = cases.CASES[case]
    tensors = cases.tensors(case, shapes[f"narrow {case}"])
    weights = load_weights(
        name, tensors, source=source, options={**cases.NARROW, **options, "attention": True}
    )
    assert weights.source == library
    return name, weights


QUICK_CASES = (
    "torchvision",
    "timm registers",
    "timm siglip",
    "huggingface clip",
    "openai",
    "big_vision mean",
)


@pytest.mark.parametrize("case", slow_but(QUICK_CASES, cases.CASES))
def test_every_endpoint_is_the_library_s(case, stored, shapes):
    # Drawn without the numbers that OpenAI's own file is known by.
    source = cases.CASES[case][1] if case in ("openai", "huggingface clip") else None
    name, weights = loaded(case, shapes, source)
    prepared = weights.preprocessing
    model = build_model(name, **weights.options, mean=prepared.mean, std=prepared.std)
    seen = 0
    for size in cases.SIZES:
        expected = {
            key.removeprefix(f"{case} {size[0]} "): values
            for key, values in stored.items()
            if key.startswith(f"{case} {size[0]} ")
        }
        if not expected:
            continue
        output, endpoints = jax.jit(model.apply)(weights.variables, cases.images(size))
        for endpoint, values in expected.items():
            np.testing.assert_allclose(
                endpoints[endpoint], values, atol=1e-4, rtol=0, err_msg=f"{endpoint} at {size}"
            )
            seen += 1
        own = {name for name in endpoints if not name.startswith("attention")}
        assert own <= set(expected)
        assert ("logits" in own) == ("logits" in expected)
        last = endpoints.get("logits", endpoints["embedding"])
        np.testing.assert_array_equal(output, last)
    assert seen >= 4


QUICK = ("torchvision vit_b_32", "openai vit_base_patch32_clip_224")
FULL = [name.removeprefix("full ") for name in cases.shapes() if name.startswith("full ")]


@pytest.mark.parametrize("network", slow_but(QUICK, FULL))
def test_full_size_tensors_are_the_model_s_parameters(network, shapes):
    source, name = network.split(" ")
    # Nothing of a size is stored for tensors of one value.
    tensors = {
        tensor: np.broadcast_to(np.int8(0), shape)
        for tensor, shape in shapes[f"full {network}"].items()
    }
    mappings = [m for m in _mappings(name) if m.source == source]
    fits = [_fit(name, _place(mapping, tensors), {}) for mapping in mappings]
    fit = min(fits, key=lambda fit: fit.faults)
    assert not fit.faults, fit.message()


def test_sizes_classes_and_channels_are_found_in_the_tensors(shapes):
    tensors = cases.tensors("timm", shapes["narrow timm"])
    tensors["patch_embed.proj.weight"] = tensors["patch_embed.proj.weight"][:, :1]
    weights = load_weights("vit_base_patch16_224", tensors, options=NARROW_ALONE)
    assert weights.options["image_size"] == 32
    assert weights.options["num_classes"] == 5
    model = build_model("vit_base_patch16_224", **weights.options)
    logits, _ = jax.jit(model.apply)(weights.variables, cases.images((40, 16))[..., :1])
    assert logits.shape == (1, 5)
    del tensors["head.weight"], tensors["head.bias"]
    weights = load_weights("vit_base_patch16_224", tensors, options=NARROW_ALONE)
    assert weights.options["num_classes"] == 0


NARROW_ALONE = {name: value for name, value in cases.NARROW.items() if name != "image_size"}


def test_classes_of_a_fine_tuned_clip_are_no_projection(shapes):
    for case, classes, projection in (("timm clip", 0, 12), ("timm clip classifier", 5, 0)):
        _, weights = loaded(case, shapes)
        assert weights.options["num_classes"] == classes
        assert weights.options["projection"] == projection


@pytest.mark.parametrize("case", ["openai", "huggingface clip"])
def test_openai_s_and_openclip_s_weights_have_to_be_named_in_float16_too(case, shapes):
    name, library, _ = cases.CASES[case]
    drawn = cases.tensors(case, shapes[f"narrow {case}"])
    halves = {k: v.astype(np.float16).astype(np.float32) for k, v in drawn.items()}
    for tensors in (drawn, halves):
        with pytest.raises(InputError, match=r"source must say which: one of .*open_clip"):
            load_weights(name, tensors, options=cases.NARROW)
    quick = [load_weights("vit_base_patch32_clip_quickgelu_224", drawn, options=cases.NARROW)]
    if case == "openai":
        own = drawn | {"input_resolution": np.array(224)}
        quick.append(load_weights(name, own, options=cases.NARROW))
    for weights in quick:
        assert (weights.source, weights.options["activation"]) == (library, "quick_gelu")
    other = "open_clip" if case == "openai" else "huggingface_open_clip"
    weights = load_weights(name, drawn, source=other, options=cases.NARROW)
    assert weights.options["activation"] == "gelu"


def test_dinov2_s_own_file_is_told_from_timm_s_by_its_mask(shapes):
    for case, resampling, size in (("dinov2", "dinov2", 224), ("timm dinov2", "antialias", 32)):
        _, weights = loaded(case, shapes)
        assert weights.options["resampling"] == resampling
        assert weights.preprocessing.image_size == size


def test_tensors_that_are_missing_or_left_over_are_named(shapes):
    tensors = cases.tensors("huggingface", shapes["narrow huggingface"])
    del tensors["vit.encoder.layer.1.attention.attention.key.weight"]
    with pytest.raises(InputError, match=r"attention\.value\.weight makes blocks\.1\.attn\.qkv"):
        load_weights("vit_base_patch16_224", tensors, options=cases.NARROW)
    tensors = cases.tensors("openai", shapes["narrow openai"])
    tensors["visual.extra"] = tensors.pop("visual.proj")
    with pytest.raises(InputError, match=r"left over: visual\.extra"):
        load_weights("vit_base_patch32_clip_224", tensors, source="openai", options=cases.NARROW)
