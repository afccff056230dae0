"""Write the fixtures of PyTorch and safetensors; run with torch 2.13.0 and safetensors 0.8.

    python tests/weights/make_torch_files.py

The tests read what it wrote. `expected.npz` holds every tensor as float32 or as its own integers.
"""

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "fixtures"


def make_tensors() -> OrderedDict[str, torch.Tensor]:
    torch.manual_seed(0)
    flat = torch.arange(24, dtype=torch.float32) / 7
    shared = torch.randn(6, 5)
    return OrderedDict(
        [
            ("plain.weight", torch.randn(2, 3)),
            ("conv.weight", torch.randn(3, 3, 2, 4).permute(3, 2, 0, 1)),
            ("offset", flat[5:]),
            ("strided", flat.reshape(4, 6)[1:, ::2]),
            ("shared.whole", shared),
            ("shared.row", shared[3]),
            ("shared.transposed", shared.t()),
            ("expanded", torch.tensor([2.5]).expand(3, 2)),
            ("scalar", torch.tensor(3.5)),
            ("empty", torch.zeros(0, 4)),
            ("one", torch.randn(4, 1, 1)[1:3]),
            ("double", torch.randn(3, dtype=torch.float64)),
            ("half", torch.tensor([1.5, -0.1, 65504, 6e-8, float("inf")], dtype=torch.float16)),
            ("bfloat16", torch.tensor([[1.5, -0.1], [3e38, 1e-40]], dtype=torch.bfloat16).t()),
            ("num_batches_tracked", torch.tensor(12345678901)),
            ("int32", torch.tensor([-1, 2], dtype=torch.int32)),
            ("int16", torch.tensor([-300, 2], dtype=torch.int16)),
            ("int8", torch.tensor([-1, 2], dtype=torch.int8)),
            ("uint8", torch.tensor([255, 2], dtype=torch.uint8)),
            ("bool", torch.tensor([True, False, True])),
            ("parameter", torch.nn.Parameter(torch.randn(2))),
        ]
    )


def plain(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype in (torch.half, torch.bfloat16) else tensor).numpy()


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 3)
        self.norm = torch.nn.BatchNorm2d(2)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    tensors = make_tensors()
    torch.save(tensors, FOLDER / "zip.pth")
    torch.save(tensors, FOLDER / "zip_protocol4.pth", pickle_protocol=4)
    torch.save(tensors, FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    contiguous = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, FOLDER / "file.safetensors", metadata={"format": "pt"})
    np.savez_compressed(FOLDER / "expected.npz", **{n: plain(t) for n, t in tensors.items()})

    torch.manual_seed(1)
    model = Model()
    state = model.state_dict()
    torch.save(model, FOLDER / "whole_model.pth")
    torch.jit.script(torch.nn.Linear(1, 1)).save(FOLDER / "script.pth")
    wrapped = {
        "epoch": 3,
        "arch": "resnet18",
        "state_dict": OrderedDict((f"module.{name}", tensor) for name, tensor in state.items()),
        "best_acc1": torch.tensor(93.5),
        "args": argparse.Namespace(lr=0.1, layers=[2, 2]),
        "rate": np.float64(0.1),
        "optimizer": torch.optim.SGD(model.parameters(), 0.1, momentum=0.9).state_dict(),
    }
    torch.save(wrapped, FOLDER / "wrapped.pth")
    torch.save(wrapped, FOLDER / "wrapped_legacy.pth", _use_new_zipfile_serialization=False)
    tagged = torch.ones(2)
    tagged.note = "an attribute"
    torch.save(
        {"tagged": tagged, "new": torch.tensor([65535, 1], dtype=torch.uint16)}, FOLDER / "odd.pth"
    )
    torch.save({"negative": torch._neg_view(torch.ones(2))}, FOLDER / "negative.pth")
    (FOLDER / "other.pkl").write_bytes(pickle.dumps({"weight": [1.0, 2.0]}))


if __name__ == "__main__":
    main()
