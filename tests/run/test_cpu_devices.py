"""A CPU is divided where that is faster, and a resumed run keeps its devices."""

import json
import os
import subprocess
import sys

import jax
import pytest

from vision_jax.config import (
    AutoencoderConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainClassifier,
    TrainCNN,
    TrainGAN,
)
from vision_jax.errors import InputError
from vision_jax.run.cpu_devices import divide_cpu, faster_devices
from vision_jax.run.workdir import read_cpu_devices, write_config

DATA = DataConfig("digits", batch_size=96)


@pytest.mark.parametrize(
    ("config", "cores", "count"),
    [
        (TrainCNN(data=DATA), 1, 1),
        (TrainCNN(data=DATA), 2, 2),
        (TrainCNN(data=DATA), 5, 4),  # 96 is no multiple of 5
        (TrainCNN(data=DATA), 64, 6),  # of 16 images each
        (TrainCNN(data=DATA, optimizer=OptimizerConfig(accumulate=32)), 4, 3),
        (TrainCNN(data=DATA, optimizer=OptimizerConfig(shards=2)), 2, 1),
        (TrainClassifier(data=DATA, model=ModelConfig("cnn")), 2, 2),
        (TrainClassifier(data=DATA, model=ModelConfig("resnet18")), 2, 1),
        (TrainAutoencoder(data=DATA), 2, 2),
        (TrainAutoencoder(data=DATA, model=AutoencoderConfig("dense")), 2, 1),
        (TrainGAN(data=DATA), 2, 1),
    ],
)
def test_networks_that_run_in_parts_get_a_device_per_core(config, cores, count, monkeypatch):
    monkeypatch.setattr("vision_jax.run.cpu_devices.OLDER", True)
    assert faster_devices(config, cores) == count


@pytest.mark.parametrize(
    ("size", "count"), [(None, 1), (28, 1), ((224, 32), 1), (64, 2), ((64, 224), 2)]
)
def test_newer_xla_divides_large_images_of_a_cnn_alone(size, count, monkeypatch):
    monkeypatch.setattr("vision_jax.run.cpu_devices.OLDER", False)
    data = DataConfig("digits", batch_size=96, image_size=size)
    assert faster_devices(TrainCNN(data=data), 2) == count
    assert faster_devices(TrainClassifier(data=data, model=ModelConfig("cnn")), 2) == count
    assert faster_devices(TrainAutoencoder(data=data), 2) == 2


@pytest.mark.parametrize("count", [0, -1, 5])
def test_devices_that_cannot_share_a_batch_are_refused(count, tmp_path):
    with pytest.raises(InputError, match=rf"cpu_devices is {count}; .* divide batch_size, 96"):
        divide_cpu(TrainCNN(data=DATA), tmp_path, count)


def test_another_number_than_jax_has_begun_with_is_refused(tmp_path):
    assert jax.device_count() == 4  # JAX begins, if it has not
    with pytest.raises(InputError, match="cpu_devices is 2; it must be None or 4"):
        divide_cpu(TrainCNN(data=DATA), tmp_path, 2)


@pytest.mark.slow
def test_a_resumed_run_keeps_its_devices(data_dir, tmp_path):
    run = tmp_path / "run"
    words = [
        *(sys.executable, "-m", "vision_jax", "train", "cnn", "--epochs", "1"),
        *("--workdir", str(run), "--data.data-dir", str(data_dir), "--data.batch-size", "63"),
        *("--model.stages", "8", "--model.hidden", "16"),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    for option in (["--cpu-devices", "3"], []):  # 63 images would not be spread over 2 or 4 cores
        done = subprocess.run(
            [*words, *option], capture_output=True, text=True, env=environment, check=True
        )
        assert "training on 3 devices of the CPU" in done.stdout
        assert read_cpu_devices(run) == 3
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cpu_devices": "many"}))
    with pytest.raises(InputError, match="damaged: cpu_devices is 'many'"):
        read_cpu_devices(run)


def test_the_environment_and_the_run_say_how_many_before_the_cores_do(monkeypatch, tmp_path):
    made: list[int] = []
    monkeypatch.setattr("vision_jax.run.cpu_devices.split_cpu", made.append)
    monkeypatch.setattr("vision_jax.run.cpu_devices.core_count", lambda: 2)
    monkeypatch.setattr("vision_jax.run.cpu_devices.OLDER", True)
    config = TrainCNN(data=DATA)
    divide_cpu(config, tmp_path)  # XLA_FLAGS of these tests says how many
    assert not made
    monkeypatch.delenv("XLA_FLAGS")
    divide_cpu(config, tmp_path)
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    write_config(config, tmp_path)  # begun before devices were recorded
    divide_cpu(config, tmp_path)
    write_config(config, tmp_path, cpu_devices=4)
    divide_cpu(config, tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "3")
    divide_cpu(config, tmp_path)
    assert made == [2, 1, 4]
