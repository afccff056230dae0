"""Store the maps that captum and pytorch-grad-cam draw of two small networks.

Made by Python 3.11 on a CPU with torch 2.14.1, torchvision 0.29.1, captum 0.9.0 and grad-cam 1.5.7,
in about 10 seconds:

    python tests/explain/parity/make.py

Weights and images are drawn, so that none are stored; see `drawn` of tests/weights/parity.
"""

import sys
from pathlib import Path

import captum.attr
import numpy as np
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / "weights" / "parity"))
from drawn import draw, images  # noqa: E402

LABELS, STEPS = {"cnn": 2, "resnet": 3}, 20
# pytorch-grad-cam adds 1e-6 to a denominator of squared gradients: they must be well above it.
SCALE = 100


class Normalized(nn.Module):
    """A network that subtracts a mean and divides by a deviation first, as in the tests."""

    def __init__(self, network, mean, std):
        super().__init__()
        self.network, self.mean, self.std = network, mean, std

    def forward(self, x):
        return SCALE * self.network((x - self.mean) / self.std)


def cnn():
    """Two stages of convolution, ReLU and pooling, and two dense layers."""
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * 7 * 7, 32), nn.ReLU(), nn.Linear(32, 5)),
    )
    return network, network[5], 28


def resnet():
    """One block of each stage."""
    network = ResNet(BasicBlock, [1, 1, 1, 1])
    return network, network.layer4, 64


def cams(model, layer, batch, label):
    """Return pytorch-grad-cam's maps: as it shows them, and before they are enlarged and scaled."""
    made = {}
    for name in ("GradCAM", "GradCAMPlusPlus", "HiResCAM"):
        with getattr(pytorch_grad_cam, name)(model=model, target_layers=[layer]) as cam:
            inner, raw = cam.get_cam_image, []
            cam.get_cam_image = lambda *args, inner=inner, raw=raw: (
                raw.append(inner(*args)) or raw[0]
            )
            made[f"{name}/shown"] = cam(
                input_tensor=batch, targets=[ClassifierOutputTarget(label)] * len(batch)
            )
            made[f"{name}/raw"] = raw[0]
    return made


def maps(network, layer, size, label):
    """Return all maps of a network."""
    names = network.state_dict()
    network.load_state_dict(
        {n: torch.from_numpy(np.asarray(draw(n, tuple(v.shape)))) for n, v in names.items()}
    )
    model = Normalized(network.eval(), 0.5, 0.25)
    batch = torch.from_numpy(images(size, size)).permute(0, 3, 1, 2)
    made = cams(model, layer, batch, label)
    way = captum.attr.IntegratedGradients(model)
    made["IntegratedGradients"] = way.attribute(batch, target=label, n_steps=STEPS).sum(1)
    times = captum.attr.InputXGradient(model)
    made["InputXGradient"] = times.attribute(batch.clone().requires_grad_(), target=label).sum(1)
    grad_cam = captum.attr.LayerGradCam(model, layer)
    small = grad_cam.attribute(batch, target=label, relu_attributions=True)
    made["LayerGradCam"] = nn.functional.interpolate(small, (size, size), mode="bilinear")[:, 0]
    hidden = captum.attr.Occlusion(model).attribute(
        batch, sliding_window_shapes=(3, 7, 7), strides=(3, 7, 7), baselines=0.5, target=label
    )
    made["Occlusion"] = hidden.sum(1)
    return {
        name: np.asarray(torch.as_tensor(values).detach(), np.float32)
        for name, values in made.items()
    }


if __name__ == "__main__":
    torch.manual_seed(0)
    stored = {
        f"{build.__name__}/{name}": values
        for build in (cnn, resnet)
        for name, values in maps(*build(), LABELS[build.__name__]).items()
    }
    np.savez_compressed(FOLDER / "maps.npz", **stored)
    print({name: (values.shape, float(np.abs(values).max())) for name, values in stored.items()})
