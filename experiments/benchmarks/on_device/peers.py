"""PyTorch's side: the same networks, trained and run as its users would."""

from collections.abc import Callable
from typing import Any

import networks
import numpy as np
from training import torch_networks

from on_device.clock import Repeat


def find_torch(*, cpu: bool) -> tuple[str | None, str]:
    """Return PyTorch's device, or None, and a line that says why or which version."""
    try:
        import torch
    except ImportError:
        return None, "PyTorch is not installed; its rows are left out"
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True
        return "cuda", f"PyTorch {torch.__version__}, cuDNN's algorithms timed by itself"
    if cpu:
        return "cpu", f"PyTorch {torch.__version__} on the CPU"
    return None, f"PyTorch {torch.__version__} sees no device; its rows are left out"


def waits(device: str) -> Callable[[], None]:
    """Return what waits for all work on a device."""
    import torch

    return torch.cuda.synchronize if device == "cuda" else lambda: None


def trained(
    network: str, images: np.ndarray, labels: np.ndarray, device: str, *, bf16: bool, compiled: bool
) -> Repeat:
    """Build PyTorch's training steps on one batch, channels_last.

    Args:
        network: `cnn224`, `autoencoder28`, `gan16`, or a ResNet, which is ResNet-50 here.
        images: (B, H, W, C) uint8; each step turns them into floats, as ours do.
        labels: (B,) int32.
        device: `cuda` or `cpu`.
        bf16: whether to run under autocast.
        compiled: whether `torch.compile` compiles the forward pass, with its gradient, and the
            loss.
    """
    import torch
    from torch.nn import functional

    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    target = torch.from_numpy(labels).long().to(device)
    models = [
        model.to(device, memory_format=torch.channels_last).train() for model in _modules(network)
    ]
    optimizers = [_optimizer(network, model) for model in models]
    bce = functional.binary_cross_entropy_with_logits

    def loss_of(x: Any, target: Any) -> Any:
        x = x.float() / 255
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            output = models[0](x)
        if network == "autoencoder28":
            return bce(output.float(), x)
        return functional.cross_entropy(output.float(), target)

    called = torch.compile(loss_of) if compiled else loss_of

    def one() -> None:
        loss = called(pixels, target)
        optimizers[0].zero_grad(set_to_none=True)
        loss.backward()
        optimizers[0].step()

    def both() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            fake = models[0](torch.randn(len(images), 100, device=device))
            on_fake = models[1](fake).float()
            on_real = models[1](pixels.float() / 127.5 - 1).float()
        networks.torch_gan_update(models, optimizers, on_real, on_fake)

    return _repeated(both if network == "gan16" else one, device)


def embeds(network: str, images: np.ndarray, device: str) -> Repeat:
    """Build PyTorch's embedding of a batch on the device, in bf16, channels_last."""
    import torch

    model = _vit() if network == "vit_small_patch16_224" else networks.torch_model(network)
    model = model.to(device, memory_format=torch.channels_last).eval()
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)

    def step() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            model(pixels.float() / 255)

    return _repeated(step, device)


def top_k(gallery: Any, queries: np.ndarray, k: int, device: str, tf32: bool) -> Callable[[], Any]:
    """Build PyTorch's search: the product with all rows, and top-k of it, 128 queries at a time.

    Args:
        gallery: (N, D) tensor on the device.
        queries: (Q, D) float32.
        k: how many neighbours.
        device: `cuda` or `cpu`.
        tf32: whether the product rounds its factors to 10 bits.

    Returns:
        A function that searches and returns the rows' numbers, (Q, k), once they are on the host.
    """
    import torch

    asked = torch.tensor(queries, device=device)

    def search() -> np.ndarray:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        with torch.inference_mode():
            parts = [torch.topk(part @ gallery.T, k).indices for part in asked.split(128)]
            return torch.cat(parts).cpu().numpy()

    return search


def _repeated(step: Callable[[], None], device: str) -> Repeat:
    wait = waits(device)

    def repeat(times: int) -> None:
        for _ in range(times):
            step()
        wait()

    return repeat


def _modules(network: str) -> list[Any]:
    from torch import nn

    if network.startswith("resnet"):
        return [nn.Sequential(networks.torch_model("resnet50"), nn.Linear(2048, 1000))]
    return torch_networks(network)


def _optimizer(network: str, model: Any) -> Any:
    import torch

    if network.startswith("resnet"):
        return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    rate = {"lr": 1e-4, "betas": (0.5, 0.999)} if network == "gan16" else {"lr": 1e-3}
    return torch.optim.Adam(model.parameters(), **rate)


def _vit() -> Any:
    """Build a ViT-S of PyTorch's own layers."""
    import torch
    from torch import nn

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 384, 16, 16)
            self.token = nn.Parameter(torch.zeros(1, 1, 384))
            self.places = nn.Parameter(torch.zeros(1, 197, 384))
            layer = nn.TransformerEncoderLayer(
                *(384, 6, 1536, 0.0, "gelu"), batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
            self.norm = nn.LayerNorm(384)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1).to(x.dtype), x], 1) + self.places
            return self.norm(self.blocks(x)[:, 0])

    return ViT()
