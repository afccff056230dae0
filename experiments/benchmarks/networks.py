"""The embedding networks of `embedding.py`, described once and built for Keras and PyTorch.

A network is written as calls of a `Builder`, whose subclasses make each layer in their library.
Weights are each library's own random ones: only the time is compared.
"""

from typing import Any, Protocol

SHAPES = {
    "cnn28": (28, 28, 1),
    "cnn224": (224, 224, 3),
    "resnet18": (224, 224, 3),
    "resnet18_64": (64, 64, 3),
    "resnet50": (224, 224, 3),
    "efficientnet_lite0": (224, 224, 3),
}
STAGES = {"cnn28": (32, 64, 128), "cnn224": (32, 64, 128, 128)}

# Depth, kernel, stride, expansion and channels of EfficientNet-Lite0's stages.
LITE0 = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)


class Builder(Protocol):
    """Layers of one library; `x` stands for feature maps, `width` tells their channels."""

    def conv(self, x: Any, features: int, size: int, stride: int, **options: Any) -> Any:
        """Convolve; options are `groups`, `norm`, `pad` and `relu` (the highest value, or None)."""

    def pool(self, x: Any, size: int, stride: int, pad: int) -> Any:
        """Take the maximum of each window."""

    def add(self, x: Any, y: Any) -> Any:
        """Add maps, then apply ReLU if `relu`."""

    def relu(self, x: Any) -> Any:
        """Apply ReLU."""

    def average(self, x: Any) -> Any:
        """Average over the pixels."""

    def dense(self, x: Any, features: int) -> Any:
        """Flatten, then apply a dense layer and ReLU."""

    def width(self, x: Any) -> int:
        """Return the channels of maps."""


def embed(network: str, on: Builder, x: Any) -> Any:
    """Build a network up to its embedding."""
    if network in STAGES:
        for features in STAGES[network]:
            x = on.conv(x, features, 3, 1, norm=False, pad=network == "cnn28", relu=float("inf"))
            x = on.pool(x, 2, 2, 0)
        return on.dense(x, 512)
    if network == "efficientnet_lite0":
        return _lite0(on, x)
    return _resnet(on, x, bottleneck=network == "resnet50")


def _resnet(on: Builder, x: Any, *, bottleneck: bool) -> Any:
    relu = {"relu": float("inf")}
    x = on.pool(on.conv(x, 64, 7, 2, **relu), 3, 2, 1)
    for stage, depth in enumerate((3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)):
        inner = 64 * 2**stage
        outer = 4 * inner if bottleneck else inner
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            if bottleneck:
                y = on.conv(on.conv(x, inner, 1, 1, **relu), inner, 3, stride, **relu)
                y = on.conv(y, outer, 1, 1)
            else:
                y = on.conv(on.conv(x, inner, 3, stride, **relu), outer, 3, 1)
            if stride > 1 or on.width(x) != outer:
                x = on.conv(x, outer, 1, stride)
            x = on.relu(on.add(x, y))
    return on.average(x)


def _lite0(on: Builder, x: Any) -> Any:
    x = on.conv(x, 32, 3, 2, relu=6.0)
    for depth, size, first, expansion, features in LITE0:
        for block in range(depth):
            stride, channels = first if block == 0 else 1, on.width(x)
            y = on.conv(x, channels * expansion, 1, 1, relu=6.0) if expansion > 1 else x
            y = on.conv(y, channels * expansion, size, stride, groups=on.width(y), relu=6.0)
            y = on.conv(y, features, 1, 1)
            x = on.add(x, y) if stride == 1 and channels == features else y
    return on.average(on.conv(x, 1280, 1, 1, relu=6.0))


class KerasBuilder(Builder):
    """Layers of Keras, called on symbolic tensors."""

    def conv(
        self,
        x: Any,
        features: int,
        size: int,
        stride: int,
        *,
        groups: int = 1,
        norm: bool = True,
        pad: bool = True,
        relu: float | None = None,
    ) -> Any:
        from keras import layers

        options = {
            "strides": stride,
            "padding": "same" if pad else "valid",
            "use_bias": not norm,
        }
        if groups > 1:
            x = layers.DepthwiseConv2D(size, **options)(x)
        else:
            x = layers.Conv2D(features, size, **options)(x)
        x = layers.BatchNormalization()(x) if norm else x
        if relu is None:
            return x
        return layers.ReLU(max_value=None if relu == float("inf") else relu)(x)

    def pool(self, x: Any, size: int, stride: int, pad: int) -> Any:
        from keras import layers

        return layers.MaxPooling2D(size, stride, "same" if pad else "valid")(x)

    def add(self, x: Any, y: Any) -> Any:
        from keras import layers

        return layers.Add()([x, y])

    def relu(self, x: Any) -> Any:
        from keras import layers

        return layers.ReLU()(x)

    def average(self, x: Any) -> Any:
        from keras import layers

        return layers.GlobalAveragePooling2D()(x)

    def dense(self, x: Any, features: int) -> Any:
        from keras import layers

        return layers.Dense(features, activation="relu")(layers.Flatten()(x))

    def width(self, x: Any) -> int:
        return x.shape[-1]


def keras_model(network: str) -> Any:
    """Build a Keras model: uint8 images in, embeddings out."""
    import keras

    images = keras.Input(SHAPES[network], dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(images)
    return keras.Model(images, embed(network, KerasBuilder(), x))


class TorchBuilder(Builder):
    """Layers of PyTorch, kept with the places of their inputs and outputs; see `torch_model`."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        import torch

        self.layers: list[tuple[Any, tuple[int, ...]]] = []
        self.seen = [torch.zeros(1, shape[2], *shape[:2])]  # by place, to know shapes

    def _then(self, layer: Any, *places: int) -> int:
        import torch

        self.layers.append((layer, places))
        with torch.no_grad():
            self.seen.append(layer.eval()(*(self.seen[place] for place in places)))
        return len(self.seen) - 1

    def conv(
        self,
        x: int,
        features: int,
        size: int,
        stride: int,
        *,
        groups: int = 1,
        norm: bool = True,
        pad: bool = True,
        relu: float | None = None,
    ) -> int:
        from torch import nn

        padding = size // 2 if pad else 0
        convolution = nn.Conv2d(
            self.width(x), features, size, stride, padding, groups=groups, bias=not norm
        )
        stack = [convolution, *([nn.BatchNorm2d(features)] if norm else [])]
        if relu is not None:
            stack.append(nn.ReLU(inplace=True) if relu == float("inf") else nn.ReLU6(inplace=True))
        return self._then(nn.Sequential(*stack), x)

    def pool(self, x: int, size: int, stride: int, pad: int) -> int:
        from torch import nn

        return self._then(nn.MaxPool2d(size, stride, pad), x)

    def add(self, x: int, y: int) -> int:
        from torch import nn

        class Add(nn.Module):
            def forward(self, x: Any, y: Any) -> Any:
                return x + y

        return self._then(Add(), x, y)

    def relu(self, x: int) -> int:
        from torch import nn

        return self._then(nn.ReLU(inplace=True), x)

    def average(self, x: int) -> int:
        from torch import nn

        return self._then(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), x)

    def dense(self, x: int, features: int) -> int:
        from torch import nn

        flat = nn.Flatten()
        inputs = flat(self.seen[x]).shape[1]
        return self._then(nn.Sequential(flat, nn.Linear(inputs, features), nn.ReLU()), x)

    def width(self, x: int) -> int:
        return self.seen[x].shape[1]


def torch_model(network: str) -> Any:
    """Build a PyTorch module: float32 NCHW images in [0, 1] in, embeddings out."""
    from torch import nn

    builder = TorchBuilder(SHAPES[network])
    embed(network, builder, 0)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layer for layer, _ in builder.layers)
            self.places = [places for _, places in builder.layers]

        def forward(self, x: Any) -> Any:
            seen = [x]
            for layer, places in zip(self.layers, self.places, strict=True):
                seen.append(layer(*(seen[place] for place in places)))
            return seen[-1]

    return Network().eval()


def onnx_file(network: str, path: str) -> None:
    """Write the PyTorch module as ONNX, for any number of images."""
    import torch

    height, width, channels = SHAPES[network]
    torch.onnx.export(
        torch_model(network),
        (torch.zeros(1, channels, height, width),),
        path,
        input_names=["images"],
        dynamic_axes={"images": {0: "batch"}},
        dynamo=False,
    )


def torch_gan_update(models: Any, optimizers: Any, on_real: Any, on_fake: Any) -> None:
    """Update PyTorch's generator and discriminator from one pass over real and generated images.

    Args:
        models: the two.
        optimizers: of each.
        on_real: the discriminator's logits of real images.
        on_fake: and of generated ones, with the graph through both models.
    """
    import torch

    bce = torch.nn.functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones_like(on_real), torch.zeros_like(on_real)
    weights = [list(model.parameters()) for model in models]
    of_g = torch.autograd.grad(bce(on_fake, ones), weights[0], retain_graph=True)
    of_d = torch.autograd.grad(bce(on_real, ones) + bce(on_fake, zeros), weights[1])
    for parameters, grads in zip(weights, (of_g, of_d), strict=True):
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
    for optimizer in optimizers:
        optimizer.step()
