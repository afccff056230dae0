"""The recipe for ImageNet."""

import dataclasses
import importlib
import os
import pickle
import socket
import subprocess
import sys
from subprocess import PIPE, STDOUT

import jax
import numpy as np
import pytest
import resnet50_imagenet

from vision_jax.commands.train import RunOptions, run_training
from vision_jax.config import ModelConfig
from vision_jax.data.info import DataInfo
from vision_jax.run.build import build_task
from vision_jax.run.run import load_run
from vision_jax.run.train import train
from vision_jax.training.loop import initial_state


def test_recipe_is_resnet50_with_a_rate_for_each_256_images():
    config = resnet50_imagenet.recipe(batch_size=512)
    assert config.optimizer.learning_rate == 0.2
    names = tuple(map(str, range(1000)))
    task = build_task(config, DataInfo((224, 224, 3), names, 1_281_167, 2502))
    state = jax.eval_shape(lambda: initial_state(task, 0, (224, 224, 3)))
    # torchvision's resnet50 has as many.
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == 25_557_032


def test_bad_values_are_one_line(tmp_path, capsys):
    assert resnet50_imagenet.main(tmp_path, data_dir=str(tmp_path), batch_size=0) == 2
    assert capsys.readouterr().err.count("\n") == 1


BUILDER = """
import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


class Imagenet2012(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("5.1.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=[f"n{n:08d}" for n in range(1000)]),
            "file_name": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        counts = {"train": (32, 0), "validation": (16, 1)}
        return {split: self._generate_examples(*count) for split, count in counts.items()}

    def _generate_examples(self, count, seed):
        random = np.random.default_rng(seed)
        for number in range(count):
            label = number % 4
            noise = random.integers(0, 40, (*random.integers(40, 90, 2), 3))
            file = io.BytesIO()
            Image.fromarray((noise + 60 * label).astype(np.uint8)).save(file, "JPEG")
            file.seek(0)
            yield number, {"image": file, "label": label, "file_name": f"{number}.JPEG"}
"""


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """48 JPEG images of many sizes, prepared by tfds in the form of its `imagenet2012`."""
    package = tmp_path / "package" / "made_imagenet"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "builder.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(package.parent)
    module = importlib.import_module("made_imagenet.builder")
    sets = tmp_path / "sets"
    module.Imagenet2012(data_dir=sets, file_format="array_record").download_and_prepare()
    return sets


@pytest.fixture
def config(imagenet):
    """The recipe for one bottleneck block, which compiles in seconds: 8 steps."""
    config = resnet50_imagenet.recipe(str(imagenet), batch_size=8, epochs=2, image_size=64)
    return dataclasses.replace(config, model=ModelConfig("resnet50", {"depths": [1]}))


PROCESS = """
import pickle
import sys
from pathlib import Path

from vision_jax.commands.train import RunOptions, run_training
from vision_jax.parallel.processes import Distributed

config, workdir = pickle.loads(bytes.fromhex(sys.argv[1])), Path(sys.argv[2])
group = Distributed(coordinator=sys.argv[3], processes=2, process_id=int(sys.argv[4]))
run_training(config, RunOptions(workdir, distributed=group))
"""


def start(config, workdir):
    """Start two processes of two devices each, joined over loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # The last of a flag counts.
    flags = {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"}
    words = [sys.executable, "-c", PROCESS, pickle.dumps(config).hex(), str(workdir), address]
    return [
        subprocess.Popen(
            [*words, str(number)], env=os.environ | flags, stdout=PIPE, stderr=STDOUT, text=True
        )
        for number in range(2)
    ]


def weights(workdir):
    state = load_run(workdir, "last").state
    return jax.tree.leaves((state.params, state.stats, state.average))


@pytest.mark.slow
def test_a_made_set_of_the_form_of_imagenet_trains_to_its_end(config, tmp_path, capsys):
    options = RunOptions(tmp_path / "run")
    members = start(config, tmp_path / "two")  # meanwhile
    run_training(config, options)
    assert "trained 2 epochs" in capsys.readouterr().out
    history = (tmp_path / "run" / "metrics.jsonl").read_text()
    run_training(config, options)  # again, as after an interruption: nothing is left to do
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == history
    run = load_run(tmp_path / "run")
    assert len(run.info.label_names) == 1000
    assert 0 <= run.evaluate("validation")["accuracy"] <= 1

    # Killed in the sixth step, the second of the last epoch: nothing more is saved.
    asked = []

    def stop():
        asked.append(1)
        if len(asked) == 6:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "killed", progress=False, should_stop=stop)
    assert train(config, tmp_path / "killed", progress=False).history[0]["epoch"] == 2
    for ours, whole in zip(weights(tmp_path / "killed"), weights(tmp_path / "run"), strict=True):
        np.testing.assert_array_equal(ours, whole)

    printed = [member.communicate(timeout=300)[0] for member in members]
    assert [member.returncode for member in members] == [0, 0], printed
    for ours, whole in zip(weights(tmp_path / "two"), weights(tmp_path / "run"), strict=True):
        np.testing.assert_allclose(ours, whole, atol=1e-4)
