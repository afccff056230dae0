"""Every name of the table of models builds a model that keeps the contract."""

import jax
import jax.numpy as jnp
import pytest
from marks import slow_but

from vision_jax.errors import InputError
from vision_jax.models import MODELS, build_model, takes

ENCODERS = ("conv_encoder", "dense_encoder", "variational_encoder")  # of autoencoders
CLASSIFIERS = [n for n in MODELS if takes(n, "num_classes") and n not in ENCODERS]

# One of each kind: a deep one takes seconds to trace.
QUICK = [
    "cnn",
    "resnet18",
    "wrn_16_4",
    "vgg11_bn",
    "densenet121",
    "efficientnet_lite0",
    "vit_tiny_patch16_224",
]


@pytest.mark.parametrize("name", slow_but(QUICK, CLASSIFIERS))
def test_a_classifier_gives_logits_an_embedding_and_its_last_map(name):
    # Patches are of 14, 16 and 32 pixels.
    side = 224 if name.startswith("vit") else 64
    options = {"padding": "SAME", "stages": [4, 4]} if name == "cnn" else {}
    if name.startswith("vit"):
        options["image_size"] = side
    model = build_model(name, num_classes=5, mean=(0.5,), std=(0.25,), dtype="bfloat16", **options)
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    (logits, endpoints), variables = jax.eval_shape(
        model.init_with_output, jax.random.key(0), images
    )
    assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)
    assert (endpoints["embedding"].ndim, endpoints["embedding"].dtype) == (2, jnp.float32)
    assert name == "cnn" or endpoints["features"].ndim == 4
    assert "stage1" in endpoints
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}


def test_names_and_options_that_are_not_there_are_named():
    with pytest.raises(InputError, match=r"model.name is 'resnet19'; did you mean 'resnet18'"):
        build_model("resnet19")
    with pytest.raises(InputError, match=r"'widht'; it takes .*num_classes"):
        build_model("resnet18", widht=3)
    for value in ("64,128", 64):
        wanted = rf"model.options stages is {value!r}; it must be a list, such as \[32,64\]"
        with pytest.raises(InputError, match=wanted):
            build_model("cnn", num_classes=2, stages=value)
