"""Maps of a network that must find a garment among scrambled ones: the place is known."""

import gzip

import explanations_planted as planting
import numpy as np
import pytest

from vision_jax.config import DataConfig, ModelConfig, OptimizerConfig, TrainClassifier
from vision_jax.data.builders.fashion_mnist import LABELS, SYSTEM_DIR, missing_files
from vision_jax.explain import saliency
from vision_jax.explain.faithfulness import baseline_maps, pointing_game
from vision_jax.run.run import load_run
from vision_jax.run.train import train


def garments(part, count):
    """The first images and their classes' names, of the files of Debian's package."""
    pixels, numbers = (
        np.frombuffer(
            gzip.decompress((SYSTEM_DIR / f"{part}-{kind}-ubyte.gz").read_bytes()), np.uint8
        )
        for kind in ("images-idx3", "labels-idx1")
    )
    pixels, numbers = pixels[16 : 16 + 784 * count], numbers[8 : 8 + count]
    return pixels.reshape(count, 28, 28, 1), [LABELS[number] for number in numbers]


def test_a_garment_lies_in_one_quarter_and_scrambled_ones_in_the_others():
    garments = np.random.default_rng(0).integers(1, 256, (30, 28, 28, 1), np.uint8)
    planted = planting.plant(garments)
    small = planting.halved(garments)
    for image, corner, mask, garment in zip(*planted, planted.masks, small, strict=True):
        row, column = corner
        np.testing.assert_array_equal(image[row : row + 14, column : column + 14], garment)
        assert mask.sum() == 14 * 14
        assert (image > 0).sum() == 4 * 14 * 14
    mixed = planting.scrambled(small, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(mixed.reshape(30, -1)), np.sort(small.reshape(30, -1)))
    assert (mixed != small).any((1, 2, 3)).all()


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_files(SYSTEM_DIR)), reason="dataset-fashion-mnist not installed")
def test_class_activation_maps_point_at_the_garment(tmp_path):
    folder, (pixels, names) = tmp_path / "images", garments("train", 5200)
    planting.save(folder / "train", planting.plant(pixels[:5000]), names[:5000])
    planting.save(folder / "valid", planting.plant(pixels[5000:], seed=1), names[5000:])
    config = TrainClassifier(
        data=DataConfig(name=str(folder), channels=1, batch_size=64, test_split="validation"),
        model=ModelConfig(name="wrn_16_4", options={"depth": 10, "width": 1}),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        epochs=4,
    )
    train(config, tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    planted = planting.plant(garments("t10k", 150)[0], seed=2)
    images = planted.images.astype(np.float32) / 255
    maps = {name: saliency(run, images, name) for name in ("grad_cam", "hires_cam")}
    maps |= baseline_maps(len(images), (32, 32))
    pointing = {name: pointing_game(rows, planted.masks).mean() for name, rows in maps.items()}
    assert pointing["grad_cam"] >= 0.95
    assert pointing["hires_cam"] >= 0.95
    assert pointing["random"] < 0.3
    assert pointing["centre"] < 0.1
