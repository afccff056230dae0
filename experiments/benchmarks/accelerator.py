"""Everything on one GPU or TPU in at most 5 minutes: speed, and correctness against the CPU.

    python experiments/benchmarks/accelerator.py --out accelerator.json
    python experiments/benchmarks/accelerator.py --only resnet50-bfloat16 --only search-1m
    python experiments/benchmarks/accelerator.py --tiny       # small shapes, to try it on a CPU

It needs jax, flax, optax, orbax-checkpoint, jaxtyping, tqdm, Pillow and SciPy, with the project's
folder on PYTHONPATH; PyTorch has its rows where it is installed and sees the device. Images,
weights and galleries are random, drawn here. Contenders are in one process and take turns; a figure
is the median of the turns, and each turn waits for the device at its end only.

    limits      rate of a product of 8192 x 8192 and of a copy, to hold the rest against
    cnn, autoencoder, gan, resnet50-...   training steps of the project's tasks, from uint8 on the
                device, by the step that `fit` calls, beside PyTorch's (channels_last)
    embedding   in bfloat16: on the device alone, and by `Run.embed` from host memory and back
    data        ResNet-50 in bfloat16 by `fit`, uint8 from host memory, augmented on the device: the
                share of a step that the device waits
    search-...  exact top-10 of vectors of 128 numbers, ids on the host at the end
    approximate the inverted file beside exact search, on vectors around 1,000 centres
    correctness loss and gradients of one step, embeddings and searches against the CPU's

"float32" is each library's default: on recent NVIDIA cards both let convolutions round their
factors to 10 bits (TF32). `--minutes` is shared out among the sections that were asked for, the
cheap and telling ones first, and what one does not use goes to the next. What does not fit into its
time or into memory is left out, and listed under `left_out` with the reason: compiling takes most
of the time, so `--only` measures the last sections. The file is written after every section. Exit
code 1: a section failed, or a result differs from the CPU's.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

# JAX would take most of the memory at once, and PyTorch shares the device.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
from on_device import checks, embedding, feeding, finding, limits, peers, steps, tables
from on_device.clock import Report, Section
from on_device.versions import described

MINUTES = 5.0
SPARED = 8.0  # seconds, for starting and for what a section takes beyond its budget
COMPILING = 50.0  # seconds that `torch.compile` takes for a ResNet-50


class Sizes(NamedTuple):
    """Shapes of one kind of run."""

    cnn: tuple[str, int] = ("cnn224", 256)
    autoencoder: int = 1024
    gan: int = 1024
    resnet: int = 256
    resnet_float32: int = 128
    side: int = 224
    embedders: tuple[str, ...] = ("resnet50", "vit_small_patch16_224", "efficientnet_lite0")
    embed: tuple[int, int, int] = (224, 256, 2048)
    fed: tuple[str, tuple[int, int, int]] = ("resnet50", (224, 256, 20))
    galleries: tuple[int, int] = (1_000_000, 10_000_000)
    queries: tuple[int, ...] = (1, 128, 4096)
    product: int = 8192
    turns: tuple[int, float] = (5, 0.3)
    checked: tuple[tuple[str, tuple[int, int]], ...] = (
        *(("cnn224", (8, 224)), ("autoencoder28", (64, 28)), ("gan16", (64, 16))),
    )
    embedded: tuple[tuple[str, tuple[int, int]], ...] = (
        *(("resnet18", (8, 224)), ("vit_small_patch16_224", (8, 224))),
    )
    found: tuple[int, int] = (200_000, 64)


TINY = Sizes(
    cnn=("resnet_tiny", 2),  # which is compiled already
    autoencoder=8,
    gan=4,
    resnet=2,
    resnet_float32=2,
    side=32,
    embedders=("resnet_tiny",),
    embed=(32, 4, 8),
    fed=("autoencoder28", (28, 8, 3)),
    galleries=(5_000, 5_000),
    queries=(8,),
    product=128,
    turns=(2, 0.01),
    checked=(("autoencoder28", (8, 28)),),
    embedded=(("resnet_tiny", (4, 32)),),
    found=(5_000, 8),
)


def sections(sizes: Sizes, device: str | None, *, tiny: bool) -> dict[str, tuple[float, Any]]:
    """List the sections: their shares of the time, and the function that measures."""
    step = partial(steps.compare, side=sizes.side, device=device, turns=sizes.turns)
    resnet = "resnet_tiny" if tiny else "resnet50"
    both = ("float32",) if tiny else ("float32", "bfloat16")
    # Multiply-adds of a forward pass, twice for operations, thrice for the two gradients.
    flops = {"cnn224": steps.counted("cnn224"), "resnet50": 0.0 if tiny else 4.09e9 * 6}
    search = partial(finding.compare, counts=sizes.queries, device=device, rounds=sizes.turns[0])

    def correctness(section: Section) -> None:
        checks.embeddings(section, dict(sizes.embedded))
        checks.searches(section, *sizes.found)
        checks.steps(section, dict(sizes.checked))
        wrong = [row["check"] for row in section.rows if not row["passed"]]
        if wrong:
            raise ArithmeticError(f"results differ from the CPU's: {'; '.join(wrong)}")

    def bfloat16(section: Section) -> None:
        compiled = 0.0 if tiny else COMPILING
        parts = {"dtypes": ("bfloat16",), "flops": flops["resnet50"], "compiled": compiled}
        step(section, resnet, sizes.resnet, **parts)

    def float32(section: Section) -> None:
        """Measure with half as many images again where one contender's do not fit."""
        for count in (sizes.resnet_float32, sizes.resnet_float32 // 2):
            fits = step(section, resnet, count, dtypes=("float32",), flops=flops["resnet50"])
            if fits:
                return

    return {
        "limits": (6, lambda s: limits.measure(s, sizes.product)),
        "search-1m": (30, lambda s: search(s, sizes.galleries[0], index=True)),
        "search-10m": (20, lambda s: search(s, sizes.galleries[1], index=False)),
        "approximate": (
            45,  # dividing the rows takes 13 of these
            lambda s: finding.approximate(s, sizes.galleries[0], sizes.queries, rounds=3),
        ),
        "correctness": (45, correctness),
        "embedding": (
            50,
            lambda s: embedding.compare(s, sizes.embedders, sizes.embed, device, sizes.turns),
        ),
        "autoencoder": (20, lambda s: step(s, "autoencoder28", sizes.autoencoder, dtypes=both)),
        "gan": (20, lambda s: step(s, "gan16", sizes.gan, dtypes=both)),
        "resnet50-float32": (25, float32),
        "cnn": (30, lambda s: step(s, *sizes.cnn, dtypes=both, flops=flops["cnn224"])),
        "data": (
            30,
            lambda s: feeding.measure(s, sizes.fed[0], "bfloat16", sizes.fed[1], "standard"),
        ),
        "resnet50-bfloat16": (90, bfloat16),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="small shapes, which suit a CPU")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    names = list(sections(TINY, None, tiny=True))
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="of all sections together (5)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        if not jax.config.jax_compilation_cache_dir:
            # Two sections that need the same program compile it once.
            jax.config.update("jax_compilation_cache_dir", cache)
        return run(args)


def run(args: argparse.Namespace) -> int:
    sizes = TINY if args.tiny else Sizes()
    seconds = 60 * args.minutes - SPARED
    if args.tiny:  # compiling for a busy CPU takes as long as it takes
        seconds = max(seconds, 1200.0)
    device, said = peers.find_torch(cpu=args.tiny)
    report = Report({**described(), "pytorch": said, "tiny": args.tiny}, args.out)
    print(tables.heading(report.content), flush=True)
    chosen = sections(sizes, device, tiny=args.tiny)
    chosen = {name: part for name, part in chosen.items() if name in (args.only or chosen)}
    whole, begun = sum(share for share, _ in chosen.values()), 0.0
    for name, (share, function) in chosen.items():
        begun += seconds * share / whole
        report.run(name, begun, function)
        done = report.content["sections"][name]
        print(tables.section(name, done), flush=True)
        print(
            f"{len(report.content['sections'])} of {len(chosen)} sections, "
            f"{report.content['seconds']:.0f} s of {seconds:.0f}",
            file=sys.stderr,
            flush=True,
        )
    for one in report.content["left_out"]:
        print(f"left out of {one['section']}: {one['what']}: {one['why']}")
    if report.failed:
        print(f"failed: {', '.join(report.failed)}", file=sys.stderr)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
