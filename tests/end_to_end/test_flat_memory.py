"""Evaluation and indexing of a folder take the memory of a few batches, whatever its size."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vision_jax.config import CNNConfig, DataConfig, TrainCNN
from vision_jax.run.train import train

SIDE = 144
IMAGES = 3000  # 178 MiB of pixels
# MiB, of which the compiler's and allocator's own peaks differ by up to 60 from run to run; of each
# image a vector of 16 floats, a label and a few strings are kept.
BOUND = 96

MEASURE = """
import sys
from pathlib import Path

from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.retrieval import measure_retrieval
from vision_jax.export.predictions import predictions, write_predictions
from vision_jax.gallery.writing import write_index
from vision_jax.run.run import load_run

folder, workdir, part = sys.argv[1:]
run = load_run(workdir)
run.evaluate(part)
measure_retrieval(EvaluationData(run, run.source("train[:100]"), run.source(part)))
rows = predictions(run, folder, split=part)
write_predictions(rows, Path(workdir, "predictions.csv"))
write_index(run, run.open_images(folder, part), Path(workdir, "photos.index"))
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
print(len(run.source(part)), peak / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    for label, image in enumerate(pixels):
        first = tmp_path / "photos" / "train" / str(label) / "0.jpg"
        first.parent.mkdir(parents=True)
        Image.fromarray(image).save(first)
        for number in range(1, IMAGES // 2):
            os.link(first, first.with_name(f"{number}.jpg"))
    splits = {"train_split": "train[:32]", "validation_split": "train[32:48]"}
    splits["test_split"] = "train[48:64]"
    data = DataConfig(str(tmp_path / "photos"), batch_size=16, on_device_mib=0, **splits)
    config = TrainCNN(data=data, model=CNNConfig(stages=(4, 4), hidden=16), epochs=1)
    train(config, tmp_path / "run", progress=False)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "photos"), str(tmp_path / "run")]
    (few, before), (many, after) = (
        map(float, subprocess.check_output([*command, part], text=True).split())
        for part in ("train[:10%]", "train")
    )
    assert few < IMAGES / 2 < many == IMAGES
    assert after - before < BOUND, (before, after)
