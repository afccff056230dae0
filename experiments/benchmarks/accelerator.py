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
    correctness loss and gradients of one step, embeddings and searches against the CPU's

"float32" is each library's default: on recent NVIDIA cards both let convolutions round their
factors to 10 bits (TF32). Each section has a budget; what does not fit into it or into memory is
left out with a line: compiling takes most of the time, so sections come in the order of their use,
and `--only` measures the last of them. The file is written after every section. Exit code 1: a
section failed, or a result differs from the CPU's.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

# JAX would take most of the memory at once, and PyTorch shares the device.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
from on_device import checks, embedding, feeding, finding, limits, peers, steps, tables
from on_device.clock import Report, Section
from on_device.versions import described

SECONDS = 290.0


class Sizes(NamedTuple):
    """Shapes of one kind of run."""

    cnn: int = 256
    autoencoder: int = 1024
    gan: int = 1024
    resnet: int = 256
    resnet_float32: int = 128
    side: int = 224
    embedders: tuple[str, ...] = ("resnet50", "efficientnet_lite0", "vit_small_patch16_224")
    embed: tuple[int, int, int] = (224, 256, 2048)
    fed: tuple[str, tuple[int, int, int]] = ("resnet50", (224, 256, 20))
    galleries: tuple[int, int] = (1_000_000, 10_000_000)
    queries: tuple[int, ...] = (1, 128, 4096)
    product: int = 8192
    turns: tuple[int, float] = (5, 0.3)
    checked: tuple[tuple[str, tuple[int, int]], ...] = (
        *(("cnn224", (8, 224)), ("autoencoder28", (64, 28)), ("gan16", (64, 16))),
    )
    embedded: tuple[tuple[str, tuple[int, int]], ...] = (("resnet18", (8, 224)),)
    found: tuple[int, int] = (200_000, 64)


TINY = Sizes(
    cnn=1,
    autoencoder=8,
    gan=4,
    resnet=2,
    resnet_float32=2,
    side=32,
    embedders=("resnet_tiny",),
    embed=(32, 4, 8),
    fed=("autoencoder28", (28, 8, 3)),
    galleries=(5_000, 10_000),
    queries=(1, 8),
    product=128,
    turns=(2, 0.01),
    checked=(("autoencoder28", (8, 28)),),
    embedded=(("resnet_tiny", (4, 32)),),
    found=(5_000, 8),
)


def sections(sizes: Sizes, device: str | None, *, tiny: bool) -> dict[str, tuple[float, Any]]:
    """List the sections: seconds of each, and the function that measures."""
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

    def resnet_steps(dtype: str, count: int) -> Callable[[Section], None]:
        return lambda section: step(
            section,
            resnet,
            count,
            dtypes=(dtype,),
            flops=flops["resnet50"],
            compiled=dtype == "bfloat16" and not tiny,
        )

    return {
        "limits": (8, lambda s: limits.measure(s, sizes.product)),
        "resnet50-bfloat16": (90, resnet_steps("bfloat16", sizes.resnet)),
        "search-1m": (30, lambda s: search(s, sizes.galleries[0], index=True)),
        "search-10m": (20, lambda s: search(s, sizes.galleries[1], index=False)),
        "embedding": (
            40,
            lambda s: embedding.compare(s, sizes.embedders, sizes.embed, device, sizes.turns),
        ),
        "correctness": (25, correctness),
        "data": (
            40,
            lambda s: feeding.measure(s, sizes.fed[0], "bfloat16", sizes.fed[1], "standard"),
        ),
        "cnn": (45, lambda s: step(s, "cnn224", sizes.cnn, dtypes=both, flops=flops["cnn224"])),
        "gan": (20, lambda s: step(s, "gan16", sizes.gan, dtypes=both)),
        "autoencoder": (20, lambda s: step(s, "autoencoder28", sizes.autoencoder, dtypes=both)),
        "resnet50-float32": (30, resnet_steps("float32", sizes.resnet_float32)),
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
        "--seconds", type=float, default=SECONDS, help="of all sections together (290)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        if not jax.config.jax_compilation_cache_dir:
            # Two sections that need the same program compile it once.
            jax.config.update("jax_compilation_cache_dir", cache)
        return run(args)


def run(args: argparse.Namespace) -> int:
    sizes = TINY if args.tiny else Sizes()
    if args.tiny:  # compiling for a busy CPU takes as long as it takes
        args.seconds = max(args.seconds, 1200.0)
    device, said = peers.find_torch(cpu=args.tiny)
    report = Report({**described(), "pytorch": said, "tiny": args.tiny}, args.out, args.seconds)
    print(tables.heading(report.content), flush=True)
    chosen = sections(sizes, device, tiny=args.tiny)
    chosen = {name: part for name, part in chosen.items() if name in (args.only or chosen)}
    for number, (name, (budget, function)) in enumerate(chosen.items(), 1):
        report.run(name, args.seconds if args.tiny else budget, function)
        done = report.content["sections"][name]
        print(tables.section(name, done), flush=True)
        ahead = sum(later for later, _ in list(chosen.values())[number:])
        spent = report.content["seconds"]
        print(
            f"{number} of {len(chosen)} sections, {spent:.0f} s; at most "
            f"{min(ahead, args.seconds - spent):.0f} s to go",
            file=sys.stderr,
            flush=True,
        )
    if report.failed:
        print(f"failed: {', '.join(report.failed)}", file=sys.stderr)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
