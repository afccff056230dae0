"""Models: linen modules, images in, `(output, endpoints)` out; and the table of their names.

The table's constructors can be imported from here: `from vision_jax.models import CNN`.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, get_origin

from vision_jax.checked import check_choice, require
from vision_jax.errors import InputError

MODELS: dict[str, str] = {
    "cnn": "vision_jax.models.cnn:CNN",
    "vgg11": "vision_jax.models.vgg:vgg11",
    "vgg13": "vision_jax.models.vgg:vgg13",
    "vgg16": "vision_jax.models.vgg:vgg16",
    "vgg19": "vision_jax.models.vgg:vgg19",
    "vgg11_bn": "vision_jax.models.vgg:vgg11_bn",
    "vgg13_bn": "vision_jax.models.vgg:vgg13_bn",
    "vgg16_bn": "vision_jax.models.vgg:vgg16_bn",
    "vgg19_bn": "vision_jax.models.vgg:vgg19_bn",
    "densenet121": "vision_jax.models.densenet:densenet121",
    "densenet161": "vision_jax.models.densenet:densenet161",
    "densenet169": "vision_jax.models.densenet:densenet169",
    "densenet201": "vision_jax.models.densenet:densenet201",
    "efficientnet_lite0": "vision_jax.models.efficientnet:efficientnet_lite0",
    "efficientnet_lite1": "vision_jax.models.efficientnet:efficientnet_lite1",
    "efficientnet_lite2": "vision_jax.models.efficientnet:efficientnet_lite2",
    "efficientnet_lite3": "vision_jax.models.efficientnet:efficientnet_lite3",
    "efficientnet_lite4": "vision_jax.models.efficientnet:efficientnet_lite4",
    "tf_efficientnet_lite0": "vision_jax.models.efficientnet:efficientnet_lite0",
    "tf_efficientnet_lite1": "vision_jax.models.efficientnet:efficientnet_lite1",
    "tf_efficientnet_lite2": "vision_jax.models.efficientnet:efficientnet_lite2",
    "tf_efficientnet_lite3": "vision_jax.models.efficientnet:efficientnet_lite3",
    "tf_efficientnet_lite4": "vision_jax.models.efficientnet:efficientnet_lite4",
    "vit_tiny_patch16_224": "vision_jax.models.vit:vit_tiny_patch16_224",
    "vit_small_patch16_224": "vision_jax.models.vit:vit_small_patch16_224",
    "vit_small_patch32_224": "vision_jax.models.vit:vit_small_patch32_224",
    "vit_base_patch16_224": "vision_jax.models.vit:vit_base_patch16_224",
    "vit_base_patch32_224": "vision_jax.models.vit:vit_base_patch32_224",
    "vit_large_patch16_224": "vision_jax.models.vit:vit_large_patch16_224",
    "vit_large_patch32_224": "vision_jax.models.vit:vit_large_patch32_224",
    "vit_huge_patch14_224": "vision_jax.models.vit:vit_huge_patch14_224",
    "vit_tiny_patch16_384": "vision_jax.models.vit:vit_tiny_patch16_384",
    "vit_small_patch16_384": "vision_jax.models.vit:vit_small_patch16_384",
    "vit_base_patch16_384": "vision_jax.models.vit:vit_base_patch16_384",
    "vit_base_patch32_384": "vision_jax.models.vit:vit_base_patch32_384",
    "vit_large_patch16_384": "vision_jax.models.vit:vit_large_patch16_384",
    "vit_small_patch14_dinov2": "vision_jax.models.vit:vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2": "vision_jax.models.vit:vit_base_patch14_dinov2",
    "vit_large_patch14_dinov2": "vision_jax.models.vit:vit_large_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2": "vision_jax.models.vit:vit_small_patch14_reg4_dinov2",
    "vit_base_patch14_reg4_dinov2": "vision_jax.models.vit:vit_base_patch14_reg4_dinov2",
    "vit_large_patch14_reg4_dinov2": "vision_jax.models.vit:vit_large_patch14_reg4_dinov2",
    "vit_base_patch32_clip_224": "vision_jax.models.vit:vit_base_patch32_clip_224",
    "vit_base_patch16_clip_224": "vision_jax.models.vit:vit_base_patch16_clip_224",
    "vit_large_patch14_clip_224": "vision_jax.models.vit:vit_large_patch14_clip_224",
    "vit_large_patch14_clip_336": "vision_jax.models.vit:vit_large_patch14_clip_336",
    "vit_base_patch32_clip_quickgelu_224": (
        "vision_jax.models.vit:vit_base_patch32_clip_quickgelu_224"
    ),
    "vit_base_patch16_clip_quickgelu_224": (
        "vision_jax.models.vit:vit_base_patch16_clip_quickgelu_224"
    ),
    "vit_large_patch14_clip_quickgelu_224": (
        "vision_jax.models.vit:vit_large_patch14_clip_quickgelu_224"
    ),
    "vit_large_patch14_clip_quickgelu_336": (
        "vision_jax.models.vit:vit_large_patch14_clip_quickgelu_336"
    ),
    "vit_base_patch16_siglip_224": "vision_jax.models.vit:vit_base_patch16_siglip_224",
    "vit_base_patch16_siglip_256": "vision_jax.models.vit:vit_base_patch16_siglip_256",
    "vit_base_patch16_siglip_384": "vision_jax.models.vit:vit_base_patch16_siglip_384",
    "vit_large_patch16_siglip_256": "vision_jax.models.vit:vit_large_patch16_siglip_256",
    "vit_large_patch16_siglip_384": "vision_jax.models.vit:vit_large_patch16_siglip_384",
    "vit_so400m_patch14_siglip_224": "vision_jax.models.vit:vit_so400m_patch14_siglip_224",
    "vit_b_16": "vision_jax.models.vit:vit_base_patch16_224",
    "vit_b_32": "vision_jax.models.vit:vit_base_patch32_224",
    "vit_l_16": "vision_jax.models.vit:vit_large_patch16_224",
    "vit_l_32": "vision_jax.models.vit:vit_large_patch32_224",
    "vit_h_14": "vision_jax.models.vit:vit_huge_patch14_224",
    "resnet18": "vision_jax.models.resnet:resnet18",
    "resnet34": "vision_jax.models.resnet:resnet34",
    "resnet50": "vision_jax.models.resnet:resnet50",
    "resnet101": "vision_jax.models.resnet:resnet101",
    "resnet152": "vision_jax.models.resnet:resnet152",
    "wide_resnet50_2": "vision_jax.models.resnet:wide_resnet50_2",
    "wide_resnet101_2": "vision_jax.models.resnet:wide_resnet101_2",
    "resnext50_32x4d": "vision_jax.models.resnet:resnext50_32x4d",
    "resnext101_32x8d": "vision_jax.models.resnet:resnext101_32x8d",
    "resnext101_64x4d": "vision_jax.models.resnet:resnext101_64x4d",
    "wrn_16_4": "vision_jax.models.wide_resnet:wrn_16_4",
    "wrn_16_8": "vision_jax.models.wide_resnet:wrn_16_8",
    "wrn_28_10": "vision_jax.models.wide_resnet:wrn_28_10",
    "wrn_40_2": "vision_jax.models.wide_resnet:wrn_40_2",
    "wrn_40_4": "vision_jax.models.wide_resnet:wrn_40_4",
    "conv_autoencoder": "vision_jax.models.autoencoder:ConvAutoencoder",
    "dense_autoencoder": "vision_jax.models.autoencoder:DenseAutoencoder",
    "variational_autoencoder": "vision_jax.models.autoencoder:VariationalAutoencoder",
    "conv_encoder": "vision_jax.models.autoencoder:conv_encoder",
    "dense_encoder": "vision_jax.models.autoencoder:dense_encoder",
    "variational_encoder": "vision_jax.models.autoencoder:variational_encoder",
    "dcgan_generator": "vision_jax.models.gan:Generator",
    "dcgan_discriminator": "vision_jax.models.gan:Discriminator",
}
"""Where each model's constructor is, by the model's name."""


def build_model(name: str, **options: Any) -> Any:
    """Build a model of the table.

    Args:
        name: its name, a key of `MODELS`.
        options: arguments of its constructor; lists become tuples, as modules need.

    Returns:
        The linen module.

    Raises:
        InputError: an unknown name, an option that the constructor does not take, one value where
            it takes a list, or one that is none of its choices.
    """
    constructor = _constructor(name)
    for option, parameter in inspect.signature(constructor).parameters.items():
        if get_origin(parameter.annotation) is Sequence and option in options:
            value = options[option]
            is_list = isinstance(value, list | tuple)
            require(is_list, f"model.options {option}", value, "a list, such as [32,64]")
        elif get_origin(parameter.annotation) is Literal and option in options:
            check_choice(options[option], get_args(parameter.annotation), f"model.options {option}")
    try:
        return constructor(**{option: _frozen(value) for option, value in options.items()})
    except TypeError as error:
        allowed = ", ".join(_parameters(constructor))
        raise InputError(f"model.options of {name}: {error}; it takes {allowed}") from error


def takes(name: str, option: str) -> bool:
    """Whether a model's constructor takes an option.

    Raises:
        InputError: an unknown name.
    """
    return option in _parameters(_constructor(name))


def _constructor(name: str) -> Callable[..., Any]:
    check_choice(name, tuple(MODELS), "model.name")
    return _import(MODELS[name])


def _import(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _parameters(constructor: Callable[..., Any]) -> list[str]:
    # parent and name are linen's own.
    return [name for name in inspect.signature(constructor).parameters if name not in _LINEN]


_LINEN = {"parent", "name"}


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def __getattr__(name: str) -> Any:
    for place in MODELS.values():
        if place.endswith(f":{name}"):
            return _import(place)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
