"""Pictures of which it is known where the object is: a garment among scrambled ones.

Data        Fashion-MNIST at half its size; each picture of 32x32 has a whole garment in one of its
            quarters, and in the others garments cut into 49 squares of 2x2 that are laid out at
            random
Folders     {train,valid,test}/CLASS/NUMBER.png
Command     python experiments/explanations_planted.py planted
Time        10 seconds
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from PIL import Image

from vision_jax.data.catalog import open_source
from vision_jax.data.loader import read_all

GARMENT, CANVAS, PIECE = 14, 32, 2
COUNTS = {"train": 8000, "valid": 200, "test": 400}


class Planted(NamedTuple):
    """Pictures with a garment each.

    Attributes:
        images: (N, 32, 32, 1) uint8.
        corners: (N, 2) row and column of each garment's top left pixel.
    """

    images: np.ndarray
    corners: np.ndarray

    @property
    def masks(self) -> np.ndarray:
        """(N, 32, 32) True on the square of the garment."""
        places = np.arange(CANVAS)
        rows, columns = (
            (places >= corner[:, None]) & (places < corner[:, None] + GARMENT)
            for corner in self.corners.T
        )
        return rows[:, :, None] & columns[:, None, :]


def plant(garments: np.ndarray, *, seed: int = 0) -> Planted:
    """Lay each garment into a quarter of a picture, and scrambled ones of others into the rest.

    Args:
        garments: (N, 28, 28, 1) uint8.
        seed: of places, scrambling and choice.
    """
    random = np.random.default_rng(seed)
    count, half = len(garments), CANVAS // 2
    garments = halved(garments)
    images = np.zeros((count, CANVAS, CANVAS, 1), np.uint8)
    corners = np.zeros((count, 2), int)
    chosen = random.integers(0, 4, count)
    for quarter in range(4):
        jitter = random.integers(0, half - GARMENT + 1, (count, 2))
        at = jitter + np.array(divmod(quarter, 2)) * half
        whole = chosen == quarter
        corners[whole] = at[whole]
        laid = np.where(
            whole[:, None, None, None], garments, scrambled(random.permutation(garments), random)
        )
        for image, (row, column), garment in zip(images, at, laid, strict=True):
            image[row : row + GARMENT, column : column + GARMENT] = garment
    return Planted(images, corners)


def halved(garments: np.ndarray) -> np.ndarray:
    """Average each square of 2x2 pixels."""
    pairs = garments.reshape(len(garments), GARMENT, 2, GARMENT, 2, 1)
    return np.rint(pairs.mean((2, 4))).astype(np.uint8)


def scrambled(garments: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Cut garments into squares and lay these out at random: equal pixels, and no shape."""
    count, side = len(garments), GARMENT // PIECE
    pieces = garments.reshape(count, side, PIECE, side, PIECE).swapaxes(2, 3)
    pieces = pieces.reshape(count, side * side, PIECE, PIECE)
    mixed = random.permuted(np.tile(np.arange(side * side), (count, 1)), axis=1)
    pieces = np.take_along_axis(pieces, mixed[:, :, None, None], 1)
    pieces = pieces.reshape(count, side, side, PIECE, PIECE).swapaxes(2, 3)
    return pieces.reshape(count, GARMENT, GARMENT, 1)


def write(folder: Path, *, random_labels: bool = False) -> None:
    """Write pictures into class folders.

    Args:
        folder: made here.
        random_labels: whether the class of each training picture is drawn at random.
    """
    for number, (split, count) in enumerate(COUNTS.items()):
        part = "test" if split == "test" else "train"
        start = 50_000 if split == "valid" else 0
        source = open_source("fashion_mnist", f"{part}[{start}:{start + count}]")
        rows = read_all(source)
        labels = rows["label"]
        if random_labels and split != "test":
            labels = np.random.default_rng(number).integers(0, 10, count)
        names = [(source.label_names or ())[int(label)] for label in labels]
        save(folder / split, plant(rows["image"], seed=number), names)


def save(folder: Path, planted: Planted, names: Sequence[str]) -> None:
    """Write pictures, each into the folder of its class.

    Args:
        folder: of a split.
        planted: the pictures.
        names: of their classes.
    """
    for number, (image, name) in enumerate(zip(planted.images, names, strict=True)):
        file = folder / name.replace("/", "-") / f"{number:05}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(file)


def main(folder: tyro.conf.Positional[Path], random_labels: bool = False) -> None:
    """Write the pictures.

    Args:
        folder: Where to.
        random_labels: Draw the classes of the training pictures at random.
    """
    write(folder, random_labels=random_labels)


if __name__ == "__main__":
    tyro.cli(main)
