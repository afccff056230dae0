"""Training steps of five networks: this project beside Keras and PyTorch.

    pip install -e '.[bench]'
    python experiments/benchmarks/training.py                    # all networks, about 22 minutes
    python experiments/benchmarks/training.py --network gan16    # one of them
    python experiments/benchmarks/training.py --batch 64 --library ours --library torch
    python experiments/benchmarks/training.py --python ~/other/bin/python   # ours there as well
    python experiments/benchmarks/training.py --devices 1 2      # ours on one device and on two
    python experiments/benchmarks/training.py --peers-python ~/peers/bin/python --json out.json

Every contender runs in its own process and trains the same network on the same random batch with
Adam. Contenders take turns, so a machine that slows down slows all of them. The others are stopped
by a signal: threads of some libraries spin while they wait, and would slow the next turn. One turn
is 2 seconds of steps, one after another as in training (a GAN's step trains both networks). The
table gives, for each contender:

    images/s    batch size over the median turn's time for a step
    of best     images/s over the best peer's (a peer is anything but ours)
    of product  counted work over the median step, as a share of the rate of a float32 matrix
                product of 2048 x 2048, which takes turns in each process too; ours trains on all
                devices, the product runs on one
    start       seconds from the first call to its result, compilation included; for ours, first
                with an empty compilation cache, then with a filled one
    peak        peak memory of the process in MB
    XLA         flops and bytes of a step by XLA's own count, where there is one; it counts the
                body of a loop once, and on a CPU the convolutions are loops

The counted work is 2 x products of the forward pass, padding included, times the passes that a
step needs: a forward pass and two gradients, less the first layer's input gradient.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import networks
import numpy as np
from turns import Worker, answer

BATCHES = {"cnn224": 32, "cnn28": 256, "autoencoder28": 256, "gan16": 256, "resnet18": 64}
SHAPES = {
    "cnn224": (224, 224, 3),
    "cnn28": (28, 28, 1),
    "autoencoder28": (28, 28, 1),
    "gan16": (16, 16, 3),
    "resnet18": (64, 64, 3),
}
STAGES = {"cnn224": (32, 64, 128, 128), "cnn28": (32, 64, 128)}
MATRIX = 2048
TURN = 2.0  # seconds


class Contender(NamedTuple):
    """A step that blocks until it is done, a matrix product that does, and XLA's counts."""

    step: Callable[[], Any]
    product: Callable[[], Any]
    costs: Callable[[], dict[str, float]] = dict


def counted_work(network: str) -> float:
    """Floating-point operations that one image's training step needs."""
    if network == "gan16":
        generator = [100 * 4096, 16 * 25 * 256 * 128, 16 * 25 * 128 * 64, 64 * 25 * 64 * 3]
        discriminator = [64 * 25 * 3 * 64, 16 * 25 * 64 * 128, 2048]
        # G and D forward and both gradients (D's on the real batch without the first input
        # gradient), and D forward and into weights and images on the generated batch.
        passes = 3 * sum(generator) - generator[0]
        passes += 3 * sum(discriminator) - discriminator[0]
        passes += 2 * sum(discriminator) + 2 * sum(discriminator) - discriminator[0]
        return 2.0 * passes
    if network == "resnet18":
        layers = [32 * 32 * 49 * 3 * 64]
        for stage, side in enumerate((16, 8, 4, 2)):
            channels = 64 * 2**stage
            inputs = channels // 2 if stage else channels
            shortcut = inputs * channels if stage else 0
            layers.append(side * side * (9 * channels * (inputs + 3 * channels) + shortcut))
        layers.append(512 * 10)
    elif network == "autoencoder28":
        layers = [784 * 16, 196 * 16 * 8, 49 * 8 * 8, 49 * 8 * 8, 196 * 8 * 16, 784 * 16]
        layers = [9 * products for products in layers]
    else:
        layers, side, channels = [], SHAPES[network][0], SHAPES[network][2]
        for features in STAGES[network]:
            side -= 2 if network == "cnn224" else 0
            layers.append(9 * side * side * channels * features)
            side, channels = side // 2, features
        layers += [side * side * channels * 512, 512 * 10]
    return 2.0 * (3 * sum(layers) - layers[0])


def random_batch(network: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw images in [0, 1] and labels, the same for all contenders."""
    generator = np.random.default_rng(0)
    images = generator.random((batch, *SHAPES[network]), np.float32)
    return images, generator.integers(0, 10, batch).astype(np.int32)


def ours(network: str, batch: int) -> Contender:
    """Train this project's network, on as many devices as there are."""
    import jax
    import jax.numpy as jnp
    import optax

    from vision_jax.models import build_model
    from vision_jax.models.autoencoder import ConvAutoencoder
    from vision_jax.models.cnn import CNN
    from vision_jax.models.gan import Discriminator, Generator
    from vision_jax.tasks.adversarial import Adversarial
    from vision_jax.tasks.classification import Classification
    from vision_jax.tasks.reconstruction import Reconstruction
    from vision_jax.training.steps import DataParallel

    images, labels = random_batch(network, batch)
    task: Any
    if network == "gan16":
        task = Adversarial(Generator(), Discriminator(), optax.adam(1e-4, b1=0.5), ema=0.0)
    elif network == "autoencoder28":
        task = Reconstruction(ConvAutoencoder(), optax.adam(1e-3))
    elif network == "resnet18":
        task = Classification(build_model("resnet18", num_classes=10), optax.adam(1e-3))
    else:
        padding = "VALID" if network == "cnn224" else "SAME"
        model = CNN(10, stages=STAGES[network], padding=padding)
        task = Classification(model, optax.adam(1e-3))
    device_batch = {
        "image": jnp.asarray(images),
        "label": jnp.asarray(labels),
        "mask": jnp.ones(batch, bool),
    }
    parallel = DataParallel.over()
    parallel.check(batch)
    state = parallel.replicate(task.init(jax.random.key(0), device_batch))
    run = jax.pmap(task.train_step, "batch", in_axes=(None, 0), out_axes=None, donate_argnums=0)
    shards = parallel.shard(device_batch)

    def step() -> None:
        nonlocal state
        state, metrics = run(state, shards)
        jax.block_until_ready((state, metrics))

    def costs() -> dict[str, float]:
        return run.lower(state, shards).compile().cost_analysis() or {}

    matrix = jnp.ones((MATRIX, MATRIX))
    product = jax.jit(jnp.matmul)
    return Contender(step, lambda: product(matrix, matrix).block_until_ready(), costs)


def keras_model(network: str) -> Any:
    """Build the network in Keras, but for the GAN."""
    from keras import Model, Sequential
    from keras import layers as kl

    same = {"padding": "same"}
    if network == "resnet18":
        images = kl.Input(SHAPES[network])
        return Model(images, kl.Dense(10)(networks.embed(network, networks.KerasBuilder(), images)))
    if network == "autoencoder28":
        relu = {**same, "activation": "relu"}
        return Sequential(
            [
                kl.Input(SHAPES[network]),
                *(kl.Conv2D(16, 3, **relu), kl.MaxPooling2D(2, **same)),
                *(kl.Conv2D(8, 3, **relu), kl.MaxPooling2D(2, **same)),
                *(kl.Conv2D(8, 3, **relu), kl.Conv2D(8, 3, **relu), kl.UpSampling2D(2)),
                *(kl.Conv2D(16, 3, **relu), kl.UpSampling2D(2)),
                kl.Conv2D(1, 3, **same, activation="sigmoid"),
            ]
        )
    stack = [kl.Input(SHAPES[network])]
    for features in STAGES[network]:
        padding = "valid" if network == "cnn224" else "same"
        stack += [kl.Conv2D(features, 3, padding=padding, activation="relu"), kl.MaxPooling2D(2)]
    return Sequential([*stack, kl.Flatten(), kl.Dense(512, activation="relu"), kl.Dense(10)])


def keras(network: str, batch: int) -> Contender:
    """Train the network by Keras."""
    import keras as k

    images, labels = random_batch(network, batch)
    matrix = k.ops.ones((MATRIX, MATRIX))

    def product() -> None:
        np.asarray(k.ops.matmul(matrix, matrix)[0, 0])

    if network == "gan16":
        return Contender(keras_gan_step(images), product)
    model = keras_model(network)
    if network == "autoencoder28":
        model.compile("adam", "binary_crossentropy")
        target: np.ndarray = images
    else:
        model.compile("adam", k.losses.SparseCategoricalCrossentropy(from_logits=True))
        target = labels
    images_on, target_on = k.ops.convert_to_tensor(images), k.ops.convert_to_tensor(target)
    return Contender(lambda: model.train_on_batch(images_on, target_on), product)


def keras_gan_step(images: np.ndarray) -> Callable[[], Any]:
    """Make a step that trains both of the GAN's networks in Keras."""
    import keras as k
    import tensorflow as tf
    from keras import Sequential
    from keras import layers as kl

    def transposed(features: int, stride: int) -> list[Any]:
        convolution = kl.Conv2DTranspose(features, 5, stride, padding="same", use_bias=False)
        return [convolution, kl.BatchNormalization(), kl.LeakyReLU(0.3)]

    generator = Sequential(
        [
            *(kl.Input((100,)), kl.Dense(4096, use_bias=False)),
            *(kl.BatchNormalization(), kl.LeakyReLU(0.3), kl.Reshape((4, 4, 256))),
            *transposed(128, 1),
            *transposed(64, 2),
            kl.Conv2DTranspose(3, 5, 2, padding="same", use_bias=False, activation="tanh"),
        ]
    )
    discriminator = Sequential(
        [
            kl.Input((16, 16, 3)),
            *(kl.Conv2D(64, 5, 2, padding="same"), kl.LeakyReLU(0.3), kl.Dropout(0.3)),
            *(kl.Conv2D(128, 5, 2, padding="same"), kl.LeakyReLU(0.3), kl.Dropout(0.3)),
            *(kl.Flatten(), kl.Dense(1)),
        ]
    )
    loss = k.losses.BinaryCrossentropy(from_logits=True)
    optimizers = [k.optimizers.Adam(1e-4, beta_1=0.5) for _ in range(2)]
    real = tf.constant(images * 2 - 1)

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as to_g, tf.GradientTape() as to_d:
            fake = generator(tf.random.normal((len(images), 100)), training=True)
            on_real, on_fake = (discriminator(x, training=True) for x in (real, fake))
            g_loss = loss(tf.ones_like(on_fake), on_fake)
            d_loss = loss(tf.ones_like(on_real), on_real) + loss(tf.zeros_like(on_fake), on_fake)
        for tape, value, model, optimizer in (
            (to_g, g_loss, generator, optimizers[0]),
            (to_d, d_loss, discriminator, optimizers[1]),
        ):
            weights = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))
        return g_loss

    for model, optimizer in ((generator, optimizers[0]), (discriminator, optimizers[1])):
        optimizer.build(model.trainable_variables)
    return lambda: step().numpy()


def torch_networks(network: str) -> list[Any]:
    """Build the network in PyTorch: one, or the generator and the discriminator."""
    from torch import nn

    def conv(channels: int, features: int, padding: int = 1) -> list[Any]:
        return [nn.Conv2d(channels, features, 3, padding=padding), nn.ReLU()]

    if network == "autoencoder28":
        pool, up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        stack = [*conv(1, 16), pool, *conv(16, 8), pool, *conv(8, 8)]
        stack += [*conv(8, 8), up, *conv(8, 16), up, nn.Conv2d(16, 1, 3, padding=1)]
        return [nn.Sequential(*stack)]
    if network == "gan16":
        leaky = nn.LeakyReLU(0.3)

        def transposed(channels: int, features: int, stride: int) -> Any:
            return nn.ConvTranspose2d(
                channels, features, 5, stride, 2, output_padding=stride - 1, bias=False
            )

        generator = nn.Sequential(
            *(nn.Linear(100, 4096, bias=False), nn.BatchNorm1d(4096), leaky),
            nn.Unflatten(1, (256, 4, 4)),
            *(transposed(256, 128, 1), nn.BatchNorm2d(128), leaky),
            *(transposed(128, 64, 2), nn.BatchNorm2d(64), leaky),
            *(transposed(64, 3, 2), nn.Tanh()),
        )
        discriminator = nn.Sequential(
            *(nn.Conv2d(3, 64, 5, 2, 2), leaky, nn.Dropout(0.3)),
            *(nn.Conv2d(64, 128, 5, 2, 2), leaky, nn.Dropout(0.3)),
            *(nn.Flatten(), nn.Linear(2048, 1)),
        )
        return [generator, discriminator]
    if network == "resnet18":
        return [nn.Sequential(networks.torch_model(network), nn.Linear(512, 10)).train()]
    stack, side, channels = [], SHAPES[network][0], SHAPES[network][2]
    for features in STAGES[network]:
        padding = 0 if network == "cnn224" else 1
        stack += [*conv(channels, features, padding), nn.MaxPool2d(2)]
        side, channels = (side - 2 + 2 * padding) // 2, features
    dense = [nn.Flatten(), nn.Linear(side * side * channels, 512), nn.ReLU(), nn.Linear(512, 10)]
    return [nn.Sequential(*stack, *dense)]


def pytorch(network: str, batch: int, form: str) -> Contender:
    """Train the network by PyTorch, in one of three forms."""
    import torch
    from torch.nn import functional

    layout = torch.contiguous_format if form == "torch" else torch.channels_last
    images, labels = random_batch(network, batch)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    target = torch.from_numpy(labels).long()
    models = [model.to(memory_format=layout) for model in torch_networks(network)]
    rate = {"lr": 1e-4, "betas": (0.5, 0.999)} if network == "gan16" else {"lr": 1e-3}
    optimizers = [torch.optim.Adam(model.parameters(), **rate) for model in models]
    called = models
    if form == "torch-compile":
        import torch._functorch.config

        torch._functorch.config.donated_buffer = False  # a GAN's graph is passed twice
        called = [torch.compile(model) for model in models]
    bce = functional.binary_cross_entropy_with_logits

    def one() -> None:
        output = called[0](x)
        loss = bce(output, x) if network == "autoencoder28" else None
        loss = functional.cross_entropy(output, target) if loss is None else loss
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()

    def both() -> None:
        fake = called[0](torch.randn(batch, 100))
        on_real, on_fake = called[1](x * 2 - 1), called[1](fake)
        networks.torch_gan_update(models, optimizers, on_real, on_fake)

    matrix = torch.ones(MATRIX, MATRIX)
    step = both if network == "gan16" else one
    return Contender(step, lambda: matrix @ matrix)


LIBRARIES = {
    "ours": ours,
    "keras-tensorflow": keras,
    "keras-jax": keras,
    "torch": lambda network, batch: pytorch(network, batch, "torch"),
    "torch-channels-last": lambda network, batch: pytorch(network, batch, "torch-channels-last"),
    "torch-compile": lambda network, batch: pytorch(network, batch, "torch-compile"),
}


def work(library: str, network: str, batch: int) -> None:
    """Run a contender's process: some steps for each line on standard input."""
    contender = LIBRARIES[library](network, batch)
    begin = time.perf_counter()
    contender.step()
    start = time.perf_counter() - begin
    contender.step()  # frameworks that trace a second time do it here
    contender.product()
    answer(start=start, costs=contender.costs())
    for _ in sys.stdin:
        step, product = each(contender.step), each(contender.product)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer(step=step, product=product, peak=peak)


def each(call: Callable[[], Any]) -> float:
    """Seconds that a call takes, over as many as fill a turn."""
    begin, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - begin) < TURN:
        call()
        calls += 1
    return spent / calls


class Entry(NamedTuple):
    """Who takes part: a library in an interpreter, on so many devices; peers have one."""

    python: str
    library: str
    devices: int = 1

    @property
    def label(self) -> str:
        """Name it in the table."""
        several = f" on {self.devices} devices" if self.devices > 1 else ""
        elsewhere = self.library == "ours" and self.python != sys.executable
        return self.library + several + (f" ({self.python})" if elsewhere else "")

    def start(self, command: list[str]) -> tuple[Worker, str]:
        """Start its process and time that; ours starts twice, for its cache."""
        command = ["--worker", self.library, *command]
        if self.library != "ours":
            environment = {"KERAS_BACKEND": self.library.removeprefix("keras-")}
            worker = Worker(self.python, __file__, command, environment, held=True)
            return worker, f"{worker.first['start']:.1f} s"
        with tempfile.TemporaryDirectory() as cache:
            environment = {
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",  # as the command line has it
                "JAX_NUM_CPU_DEVICES": str(self.devices),
            }
            cold = Worker(self.python, __file__, command, environment, held=True)
            cold.close()
            warm = Worker(self.python, __file__, command, environment, held=True)
        return warm, f"{cold.first['start']:.1f} s, then {warm.first['start']:.1f} s"


def compare(network: str, batch: int, contenders: list[Entry], turns: int) -> list[dict[str, Any]]:
    """Have all contenders take turns, and print and return their figures."""
    workers, starts = {}, {}
    for contender in contenders:
        if network == "gan16" and contender.library == "keras-jax":
            continue  # its training loop would have to be written by hand, for JAX once more
        label = contender.label
        try:
            workers[label], starts[label] = contender.start(
                ["--network", network, "--batch", str(batch)]
            )
        except RuntimeError as error:
            print(f"{label} left out: {error}", file=sys.stderr)
    for _ in range(turns):
        for worker in workers.values():
            worker.turn()
    rates = {label: batch / worker.median("step") for label, worker in workers.items()}
    best = max((rate for label, rate in rates.items() if "ours" not in label), default=np.nan)
    rows = []
    for label, worker in workers.items():
        limit = 2.0 * MATRIX**3 / worker.median("product")
        share = rates[label] * counted_work(network) / limit
        costs = worker.first["costs"]
        flops, moved = (costs.get(name, np.nan) / 1e9 for name in ("flops", "bytes accessed"))
        xla = f"{flops:.1f} GF, {moved:.2f} GB" if costs else ""
        print(
            f"| {network} | {batch} | {label} | {rates[label]:.1f} | {rates[label] / best:.2f} "
            f"| {share:.2f} | {starts[label]} | {worker.turns[-1]['peak']:.0f} "
            f"| {xla} | {batch * counted_work(network) / 1e9:.1f} GF |",
            flush=True,
        )
        row = {"network": network, "batch": batch, "contender": label, "turns": worker.turns}
        rows.append(row | {"images_per_second": rates[label], "of_product": share})
        worker.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", action="append", choices=BATCHES, help="may be repeated")
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="may be repeated")
    parser.add_argument("--batch", type=int, help="in place of each network's own")
    parser.add_argument("--turns", type=int, default=9, help="turns of each contender (9)")
    parser.add_argument(
        "--python", action="append", default=[], help="interpreter that also runs ours"
    )
    parser.add_argument("--peers-python", default=sys.executable, help="that runs the peers")
    parser.add_argument(
        "--devices", type=int, nargs="+", default=[1], help="devices of ours, one contender each"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--worker", choices=LIBRARIES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.network[0], args.batch)
        return
    libraries = args.library or list(LIBRARIES)
    pythons = [sys.executable, *args.python] if "ours" in libraries else args.python
    contenders = [Entry(python, "ours", n) for python in pythons for n in args.devices]
    contenders += [Entry(args.peers_python, name) for name in libraries if name != "ours"]
    print(f"load average {os.getloadavg()[0]:.1f}")
    names = "network,batch,contender,images/s,of best,of product,start,peak,XLA,counted"
    print("| " + names.replace(",", " | ") + " |\n" + "| --- " * 10 + "|")
    rows: list[dict[str, Any]] = []
    for network in args.network or BATCHES:
        rows += compare(network, args.batch or BATCHES[network], contenders, args.turns)
        if args.json:
            args.json.write_text(json.dumps({"load": os.getloadavg()[0], "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
