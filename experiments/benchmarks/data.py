"""Batches of images: this project's loader beside tf.data and PyTorch's DataLoader.

    pip install -e '.[bench]'
    python experiments/benchmarks/data.py                     # all three, about 6 minutes
    python experiments/benchmarks/data.py --kind jpeg         # one of them
    python experiments/benchmarks/data.py --kind wait         # how long training waits for data
    python experiments/benchmarks/data.py --python ~/other/bin/python   # ours there as well
    python experiments/benchmarks/data.py --peers-python ~/peers/bin/python

Every contender runs in its own process and delivers shuffled batches of 128, uint8:

    memory    60,000 images of 28x28 in memory; ours are float32 on the device
    png       the 60,000 PNG files of Fashion-MNIST; ours from ArrayRecord on disk, the peers'
              encoded bytes already in memory
    jpeg      a folder of 400 JPEG files of 500x375 at quality 90, cut from two photographs; the
              centre square is resized to 224x224 with antialiasing. `tf.data-aliased` leaves that
              out: it does less work and is not a peer

`ours` reads in threads, `ours-2` and `torch-2` in two processes, `torch-0` in the process that
asks. Contenders take turns; the others are stopped by a signal, so that none reads ahead.
`decoder` is Pillow's decoder in a thread per core, without resizing, shuffling or batching: the
limit for JPEG. Ours decodes PNG by libspng, which is faster. The table gives images/s by the median
turn, and its share of the best peer's and of the decoder's. For `memory` the decoder is NumPy's own
indexing by a shuffled batch.

`wait` trains a CNN on the PNG files and the 224x224 CNN on the JPEG files, both streamed. It gives
the share of the time that the run waited for its next batch, as `data_wait` reports it after each
epoch.
"""

import argparse
import io
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from turns import Worker, answer

BATCH = 128
SIDE = 224
BATCHES = {"memory": 400, "png": 120, "jpeg": 8}
OURS = ("ours", "ours-2")
PEERS = ("tf.data", "torch-0", "torch-2")


class Files(NamedTuple):
    """What is read: encoded images of both kinds, in one folder."""

    root: Path

    def jpegs(self) -> list[str]:
        """Return the paths of the JPEG files."""
        return sorted(str(path) for path in (self.root / "jpeg").rglob("*.jpg"))

    def pngs(self) -> list[bytes]:
        """Return the encoded PNG of Fashion-MNIST's training images."""
        stored = np.load(self.root / "png.npz")
        ends = stored["ends"].tolist()
        everything = stored["bytes"].tobytes()
        return [everything[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def pixels(self) -> np.ndarray:
        """(60000, 28, 28, 1) uint8."""
        return np.random.default_rng(0).integers(0, 256, (60_000, 28, 28, 1), np.uint8)

    def write(self) -> None:
        """Write both."""
        import tensorflow_datasets as tfds
        from PIL import Image
        from sklearn.datasets import load_sample_images

        from vision_jax.data.catalog import open_builder

        records = open_builder("fashion_mnist").as_data_source(
            split="train", decoders={"image": tfds.decode.SkipDecoding()}
        )
        encoded = [record["image"] for record in records]
        np.savez(
            self.root / "png.npz",
            bytes=np.frombuffer(b"".join(encoded), np.uint8),
            ends=np.cumsum([len(data) for data in encoded]),
        )
        random = np.random.default_rng(0)
        for number, pixels in zip(range(400), itertools.cycle(load_sample_images().images)):
            photograph = Image.fromarray(pixels)
            width = int(photograph.width * random.uniform(0.6, 1.0))
            height = width * 3 // 4 if width * 3 // 4 <= photograph.height else photograph.height
            left = int(random.integers(photograph.width - width + 1))
            top = int(random.integers(photograph.height - height + 1))
            part = photograph.crop((left, top, left + width, top + height)).resize((500, 375))
            path = self.root / "jpeg" / str(number % 2) / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            part.save(path, quality=90)


def our_loader(files: Files, kind: str, workers: int, batch: int = BATCH) -> Any:
    """Make a loader of one kind of images."""
    from vision_jax.data.catalog import open_source
    from vision_jax.data.loader import Loader
    from vision_jax.data.sources import ArraySource

    if kind == "memory":
        source: Any = ArraySource.from_arrays(files.pixels(), np.zeros(60_000, np.int32))
    elif kind == "png":
        source = open_source("fashion_mnist", "train")
    else:
        source = open_source(str(files.root / "jpeg"), "all", image_size=SIDE)
    limit = 2**30 if kind == "memory" else 0
    return Loader(source, batch, train=True, on_device_bytes=limit, workers=workers)


def ours(files: Files, kind: str, workers: int) -> Iterator[Any]:
    """Yield batches on the device."""
    import jax

    from vision_jax.training.steps import DataParallel

    loader = our_loader(files, kind, workers)
    parallel = DataParallel.over(1)
    resident = parallel.replicate(loader.resident())
    batch = jax.pmap(loader.batch, in_axes=(None, 0)) if resident else lambda _, item: item
    for item in loader.items(0, 10**6):
        yield batch(resident, parallel.shard(item))


def tf_data(files: Files, kind: str, *, antialias: bool) -> Iterator[Any]:
    """Yield batches of `tf.data`, on the host."""
    import tensorflow as tf

    def square(path: Any) -> Any:
        data = tf.io.read_file(path)
        shape = tf.image.extract_jpeg_shape(data)
        side = tf.minimum(shape[0], shape[1])
        window = tf.stack([(shape[0] - side) // 2, (shape[1] - side) // 2, side, side])
        image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
        small = tf.image.resize(image, (SIDE, SIDE), antialias=antialias)
        return tf.cast(tf.round(small), tf.uint8)

    everything = {"memory": files.pixels, "png": files.pngs, "jpeg": files.jpegs}[kind]()
    labels = np.zeros(len(everything), np.int32)
    data = tf.data.Dataset.from_tensor_slices((everything, labels))
    data = data.shuffle(len(everything)).repeat()
    if kind != "memory":
        decode = tf.image.decode_png if kind == "png" else square
        data = data.map(lambda image, label: (decode(image), label), tf.data.AUTOTUNE)
    yield from data.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def torch_loader(files: Files, kind: str, workers: int) -> Iterator[Any]:
    """Yield batches of PyTorch's DataLoader, on the host."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset, TensorDataset

    everything: Any = {"png": files.pngs, "jpeg": files.jpegs, "memory": list}[kind]()

    class Images(Dataset):
        def __len__(self) -> int:
            return len(everything)

        def __getitem__(self, index: int) -> Any:
            if kind == "png":
                return np.asarray(Image.open(io.BytesIO(everything[index]))), 0
            image = Image.open(everything[index]).convert("RGB")
            side = min(image.size)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            box = (left, top, left + side, top + side)
            return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)), 0

    images: Any = Images()
    if kind == "memory":
        pixels = torch.from_numpy(files.pixels())
        images = TensorDataset(pixels, torch.zeros(len(pixels), dtype=torch.int32))
    loader = DataLoader(
        images,
        BATCH,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


def decoder(files: Files, kind: str) -> Iterator[Any]:
    """Yield as many images as a batch has, by Pillow alone."""
    from PIL import Image

    if kind == "memory":
        pixels, random = files.pixels(), np.random.default_rng(0)
        while True:
            yield pixels[random.integers(0, len(pixels), BATCH)]
    encoded = files.pngs() if kind == "png" else [Path(p).read_bytes() for p in files.jpegs()]

    def decode(some: tuple[bytes, ...]) -> None:
        for data in some:
            Image.open(io.BytesIO(data)).load()

    parts = (tuple(itertools.islice(again, BATCH)) for again in [itertools.cycle(encoded)] * 10**6)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = [pool.submit(decode, next(parts)) for _ in range(os.cpu_count() or 1)]
        while True:
            yield waiting.pop(0).result()
            waiting.append(pool.submit(decode, next(parts)))


CONTENDERS: dict[str, Callable[[Files, str], Iterator[Any]]] = {
    "ours": lambda files, kind: ours(files, kind, 0),
    "ours-2": lambda files, kind: ours(files, kind, 2),
    "tf.data": lambda files, kind: tf_data(files, kind, antialias=True),
    "tf.data-aliased": lambda files, kind: tf_data(files, kind, antialias=False),
    "torch-0": lambda files, kind: torch_loader(files, kind, 0),
    "torch-2": lambda files, kind: torch_loader(files, kind, 2),
    "decoder": decoder,
}


def work(contender: str, kind: str, root: Path) -> None:
    """Run a contender: some batches for each line on standard input."""
    batches = CONTENDERS[contender](Files(root), kind)
    for _ in range(3):
        next(batches)
    answer()
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(BATCHES[kind]):
            batch = next(batches)
        if contender in OURS:  # what it hands over may still be under way
            import jax

            jax.block_until_ready(batch)
        answer(seconds=time.perf_counter() - begin)


def compare(kind: str, contenders: list[tuple[str, str]], turns: int, root: Path) -> None:
    """Have contenders take turns on one kind of images, and print their figures."""
    workers = {}
    for python, name in contenders:
        if (name == "ours-2" and kind == "memory") or (
            name == "tf.data-aliased" and kind != "jpeg"
        ):
            continue  # it would be another contender once more
        elsewhere = name in OURS and python != sys.executable
        label = f"{name} ({python})" if elsewhere else name
        command = ["--worker", name, "--kind", kind, "--root", str(root)]
        try:
            workers[label] = Worker(python, __file__, command, {}, held=True)
        except RuntimeError as error:
            print(f"{label} left out: {error}", file=sys.stderr)
    for _ in range(turns):
        for worker in workers.values():
            worker.turn()
    made = BATCHES[kind] * BATCH
    rates = {label: made / worker.median("seconds") for label, worker in workers.items()}
    best = max((rates[name] for name in PEERS if name in rates), default=np.nan)
    bare = rates.get("decoder", np.nan)
    for label, rate in rates.items():
        print(f"| {kind} | {label} | {rate:.0f} | {rate / best:.2f} | {rate / bare:.2f} |")
        workers[label].close()


def measure_wait(root: Path) -> None:
    """Train networks from files, and print the share of the time that they wait."""
    import optax

    import vision_jax
    from vision_jax.models import CNN
    from vision_jax.tasks.classification import Classification

    files = Files(root)
    networks = {
        "png": CNN(num_classes=10, stages=(32, 64, 128), padding="SAME"),
        "jpeg": CNN(num_classes=10),
    }
    for kind, network in networks.items():
        batch, epochs = (128, 1) if kind == "png" else (32, 2)
        task = Classification(network, optax.adam(1e-3))
        shares: list[float] = []
        vision_jax.fit(
            task,
            our_loader(files, kind, 0, batch),
            epochs=epochs,
            log=lambda _, speeds, shares=shares: shares.append(speeds["data_wait"]),
            progress=False,
        )
        print(f"{kind}: waited for data {100 * shares[-1]:.1f}% of the last epoch")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = [*BATCHES, "wait"]
    parser.add_argument("--kind", action="append", choices=kinds, help="may be repeated")
    parser.add_argument("--contender", action="append", choices=CONTENDERS, help="may be repeated")
    parser.add_argument("--turns", type=int, default=7, help="turns of each contender (7)")
    parser.add_argument(
        "--python", action="append", default=[], help="interpreter that also runs ours"
    )
    parser.add_argument("--peers-python", default=sys.executable, help="that runs the peers")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.kind[0], args.root)
        return
    names, pythons = args.contender or CONTENDERS, [sys.executable, *args.python]
    contenders = [(python, name) for python in pythons for name in names if name in OURS]
    contenders += [(args.peers_python, name) for name in names if name not in OURS]
    with tempfile.TemporaryDirectory() as folder:
        Files(Path(folder)).write()
        print("| kind | contender | images/s | of best peer | of decoder |\n" + "| --- " * 5 + "|")
        for kind in args.kind or kinds:
            if kind == "wait":
                measure_wait(Path(folder))
            else:
                compare(kind, contenders, args.turns, Path(folder))


if __name__ == "__main__":
    main()
