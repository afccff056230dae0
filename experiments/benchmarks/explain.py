"""Time per 1,000 maps of each method, for the CNN of Fashion-MNIST at its initial weights.

    python experiments/benchmarks/explain.py                    # all methods
    python experiments/benchmarks/explain.py --method rise      # one of them
    python experiments/benchmarks/explain.py --json out.json

Maps of 28x28x1 images as `explain.saliency` draws them, by each method's default options. `first`
is the seconds of the first call on one image, which compiles (JAX's persistent cache is off);
`rest` those of the timed images, and `per 1,000` what 1,000 images would take. Two rows are held
to limits on 2 cores: Grad-CAM of 10,000 images within 15 s, RISE of one image with 4,000 masks
within 5 s.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from embedding import our_run

from vision_jax.explain import saliency

COUNTS = {
    "grad_cam": 10_000,
    "grad_cam_plus_plus": 10_000,
    "hires_cam": 10_000,
    "gradient": 10_000,
    "gradient_x_input": 10_000,
    "integrated_gradients": 200,
    "smooth_grad": 200,
    "occlusion": 100,
    "rise": 2,
    "shapley": 10,
}
"""Images that each method is timed on."""


def timed(run: Any, method: str, count: int) -> dict[str, float]:
    """Time a method on random images."""
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1)).astype(np.uint8)
    start = time.perf_counter()
    saliency(run, images[:1], method)
    first = time.perf_counter() - start
    # The size of whole parts is compiled too before the clock starts.
    saliency(run, images[: min(count, 256)], method)
    start = time.perf_counter()
    saliency(run, images, method)
    rest = time.perf_counter() - start
    return {"first": first, "images": count, "rest": rest, "per 1,000": 1000 * rest / count}


def main(arguments: Sequence[str] | None = None) -> None:
    """Time methods, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", action="append", choices=COUNTS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    run, rows = our_run("cnn28"), {}
    print(f"{'method':22}{'first s':>9}{'images':>8}{'rest s':>9}{'s per 1,000':>13}")
    for method in given.method or COUNTS:
        row = rows[method] = timed(run, method, COUNTS[method])
        print(
            f"{method:22}{row['first']:9.2f}{row['images']:8}{row['rest']:9.2f}"
            f"{row['per 1,000']:13.2f}",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
