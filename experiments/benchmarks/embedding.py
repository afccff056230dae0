"""Embedding images: this project beside Keras, PyTorch and ONNX Runtime.

    pip install -e '.[bench]'
    python experiments/benchmarks/embedding.py                     # all networks
    python experiments/benchmarks/embedding.py --network resnet50  # one of them
    python experiments/benchmarks/embedding.py --images memory     # not from JPEG files as well
    python experiments/benchmarks/embedding.py --python ~/other/bin/python   # ours there as well
    python experiments/benchmarks/embedding.py --peers-python ~/peers/bin/python --json out.json

Every contender runs in a process of its own and turns uint8 images on the host into embeddings on
the host, by the same network with random weights. Contenders take turns, and the others are stopped
by a signal. A turn is a whole pass over the images: `ours` is `Run.embed`; PyTorch runs
channels_last in inference mode, Keras a compiled function, both in batches of `--batch`; ONNX
Runtime runs the network exported from PyTorch. JPEG images are 500x375 files that Pillow decodes
and resizes for the peers in a thread per core, one batch ahead; images of 28x28 and 64x64 come from
memory alone. The table gives images/s by the median turn, that rate over the best of Keras and
PyTorch, and seconds to the first embedding: of one image, after imports. Beside it stand the rate
at which `ours` reads files without embedding them, and its rate from files over the slower of the
two. Three turns of all take about 7 minutes on 2 cores, with `ours` in two interpreters.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import networks
import numpy as np
from turns import Worker, answer

COUNTS = {
    "cnn28": 4096,
    "cnn224": 128,
    "resnet18": 64,
    "resnet18_64": 512,
    "resnet50": 32,
    "efficientnet_lite0": 128,
}
KINDS = ("memory", "jpeg")
PEERS = ("keras", "torch", "onnxruntime")
SIDE = 224

Embed = Callable[[np.ndarray], np.ndarray]
Passes = dict[str, Callable[[], Any]]


def random_images(network: str) -> np.ndarray:
    """Draw uint8 images, the same for all contenders."""
    shape = (COUNTS[network], *networks.SHAPES[network])
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def write_jpegs(root: Path, count: int) -> None:
    """Write smooth random pictures of 500x375."""
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(random.integers(0, 256, (24, 32, 3)).astype(np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(
            root / f"{number:04}.jpg", quality=90
        )


def our_run(network: str) -> Any:
    """Make a run at its initial weights."""
    import jax
    import optax

    from vision_jax.config import ModelConfig, TrainClassifier
    from vision_jax.data.info import DataInfo
    from vision_jax.models import build_model
    from vision_jax.models.cnn import CNN
    from vision_jax.run.run import Run
    from vision_jax.tasks.classification import Classification
    from vision_jax.training.steps import DataParallel

    shape = networks.SHAPES[network]
    if network in networks.STAGES:
        padding: Any = "SAME" if network == "cnn28" else "VALID"
        model: Any = CNN(10, stages=networks.STAGES[network], padding=padding)
    else:
        model = build_model(network.removesuffix("_64"), num_classes=10)
    task = Classification(model, optax.sgd(0.0))
    parallel = DataParallel.over()
    batch = {"image": np.zeros((1, *shape), np.float32)}
    state = parallel.replicate(jax.jit(task.init)(jax.random.key(0), batch))
    info = DataInfo(shape, tuple(map(str, range(10))), 0, 0)
    config = TrainClassifier(model=ModelConfig(name="cnn"))
    return Run(Path(), config, info, 0, task, state, parallel)


def keras_embed(network: str) -> Embed:
    """Embed by Keras on TensorFlow."""
    import tensorflow as tf

    model = networks.keras_model(network)
    compiled = tf.function(lambda images: model(images, training=False))
    return lambda images: compiled(tf.constant(images)).numpy()


def torch_embed(network: str) -> Embed:
    """Embed by PyTorch."""
    import torch

    model = networks.torch_model(network).to(memory_format=torch.channels_last)

    def embed(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32) / 255
            return model(pixels).numpy()

    return embed


def onnx_embed(network: str) -> Embed:
    """Embed by ONNX Runtime, from a file that PyTorch exports."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.onnx")
        networks.onnx_file(network, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def embed(images: np.ndarray) -> np.ndarray:
        pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
        return session.run(None, {"images": pixels / np.float32(255)})[0]

    return embed


def ours(network: str, root: str, batch: int) -> tuple[Callable[[], Any], Passes]:
    """One image's embedding, and passes over all of them."""
    from vision_jax.data.catalog import open_source
    from vision_jax.data.loader import read_parts

    run, images = our_run(network), random_images(network)
    passes: Passes = {"memory": lambda: run.embed(images)}
    if root:
        source = open_source(root, "all", image_size=SIDE)
        passes["jpeg"] = lambda: run.embed(source)
        passes["reading"] = lambda: sum(len(part["image"]) for part in read_parts(source, batch))
    return lambda: run.embed(images[:1]), passes


def peer(library: str, network: str, root: str, batch: int) -> tuple[Callable[[], Any], Passes]:
    """One image's embedding, and passes over all of them."""
    builders = {"keras": keras_embed, "torch": torch_embed, "onnxruntime": onnx_embed}
    embed, images = builders[library](network), random_images(network)
    passes: Passes = {"memory": lambda: [embed(part) for part in batches(images, batch)]}
    if root:
        passes["jpeg"] = lambda: [embed(part) for part in read_jpegs(root, batch)]
    return lambda: embed(images[:1]), passes


def batches(images: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Yield parts of the images."""
    for start in range(0, len(images), batch):
        yield images[start : start + batch]


def read_jpegs(root: str, batch: int) -> Iterator[np.ndarray]:
    """Decode and resize files in a thread per core, one batch ahead."""
    from PIL import Image

    def read(path: Path) -> np.ndarray:
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box))

    paths = sorted(Path(root).glob("*.jpg"))
    parts = [paths[start : start + batch] for start in range(0, len(paths), batch)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = [pool.submit(read, path) for path in parts[0]]
        for following in [*parts[1:], []]:
            part, ahead = ahead, [pool.submit(read, path) for path in following]
            yield np.stack([image.result() for image in part])


def work(library: str, network: str, kinds: list[str], root: str, batch: int) -> None:
    """Run a contender's process: passes of each kind for each line on standard input."""
    contender = ours(network, root, batch) if library == "ours" else None
    first, passes = contender or peer(library, network, root, batch)
    passes = {name: every for name, every in passes.items() if name in (*kinds, "reading")}
    start = seconds(first)
    for every in passes.values():
        every()
    answer(start=start)
    for _ in sys.stdin:
        answer(**{name: seconds(every) for name, every in passes.items()})


def seconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def compare(network: str, args: argparse.Namespace, root: str) -> list[dict[str, Any]]:
    """Have all contenders take turns, and print and return their figures."""
    workers = {}
    contenders = [(sys.executable, "ours"), *((python, "ours") for python in args.python)]
    contenders += [(args.peers_python, library) for library in args.peer or PEERS]
    for python, library in contenders:
        label = library if python in (sys.executable, args.peers_python) else f"ours ({python})"
        command = ["--worker", library, "--network", network, "--batch", str(args.batch)]
        command += ["--root", root, "--images", *args.images]
        plain = {"KERAS_BACKEND": "tensorflow"}
        try:
            workers[label] = Worker(python, __file__, command, plain, held=True)
        except RuntimeError as error:
            print(f"{label} left out: {error}", file=sys.stderr)
    for _ in range(args.turns):
        for worker in workers.values():
            worker.turn()
    rows = [
        row
        for kind in args.images
        if kind == "memory" or root
        for row in rows_of(network, kind, workers)
    ]
    for worker in workers.values():
        worker.close()
    return rows


def rows_of(network: str, kind: str, workers: dict[str, Worker]) -> list[dict[str, Any]]:
    """Print and return the figures of one network's images of a kind."""
    rates = {name: COUNTS[network] / worker.median(kind) for name, worker in workers.items()}
    best = max((rates[name] for name in ("keras", "torch") if name in rates), default=np.nan)
    rows = []
    for label, worker in workers.items():
        row = {
            "network": network,
            "images": kind,
            "contender": label,
            "rate": rates[label],
            "of_best": rates[label] / best,
            "first": worker.first["start"],
            "turns": [turn[kind] for turn in worker.turns],
            "load": os.getloadavg()[0],
        }
        line = (
            f"| {network} | {kind} | {label} | {row['rate']:.1f} | {row['of_best']:.2f} "
            f"| {row['first']:.1f} s | {row['load']:.1f} | "
        )
        if kind == "jpeg" and {"reading", "memory"} <= worker.turns[0].keys():
            row["reading"] = COUNTS[network] / worker.median("reading")
            slower = max(worker.median(name) for name in ("reading", "memory"))
            row["of_slower"] = slower / worker.median("jpeg")
            line += f"{row['reading']:.0f}, {row['of_slower']:.2f} "
        print(line + "|", flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", action="append", choices=COUNTS, help="may be repeated")
    parser.add_argument("--images", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--peer", action="append", choices=PEERS, help="may be repeated")
    parser.add_argument("--batch", type=int, default=32, help="images at a time, of peers (32)")
    parser.add_argument("--turns", type=int, default=5, help="passes of each contender (5)")
    parser.add_argument("--python", action="append", default=[], help="that also runs ours")
    parser.add_argument("--peers-python", default=sys.executable, help="that runs the peers")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--worker", choices=("ours", *PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--root", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.network[0], args.images, args.root, args.batch)
        return
    print(f"load average {os.getloadavg()[0]:.1f}")
    print(
        "| network | images | contender | images/s | of best | first | load | reading, of slower |"
    )
    print("| --- " * 8 + "|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in args.network or COUNTS:
            root = ""
            if "jpeg" in args.images and networks.SHAPES[network][0] == SIDE:
                root = str(Path(folder) / network)
                Path(root).mkdir()
                write_jpegs(Path(root), COUNTS[network])
            rows += compare(network, args, root)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
