import dataclasses
from pathlib import Path

import pytest

from vision_jax.cli import main
from vision_jax.commands import quickstart
from vision_jax.config import AutoencoderConfig, CNNConfig, GANConfig
from vision_jax.evaluation import measure

SMALL = {
    "cnn": CNNConfig(stages=(8,), hidden=8),
    "autoencoder": AutoencoderConfig(hidden=(4,), code=2),
    "gan": GANConfig(generator=(8, 4), discriminator=(4,), latent_size=4, ema=0.9),
}


@pytest.mark.slow
def test_each_run_is_measured_once_and_shown(data_dir, tmp_path, monkeypatch, capsys):
    configs, count, measured = quickstart._configs, measure.measure, []

    def small(data):
        return {
            name: dataclasses.replace(config, model=SMALL[name], epochs=1)
            for name, config in configs(dataclasses.replace(data, batch_size=128)).items()
        }

    def count_measured(data, **options):
        measured.append((data.run.workdir.name, options["classifier"] is not None))
        return count(data, **options)

    monkeypatch.setattr(quickstart, "_configs", small)
    monkeypatch.setattr(measure, "measure", count_measured)
    words = ["quickstart", "--workdir", str(tmp_path), "--data-dir", str(data_dir)]
    assert main(words) == 0
    assert measured == [("cnn", False), ("autoencoder", False), ("gan", True)]
    printed = capsys.readouterr().out
    shown = printed.partition("look at")[2].split()
    pages = [Path(word) for word in shown if word.endswith("report.html")]
    assert pages == [tmp_path / name / "report.html" for name in SMALL]
    assert all(page.is_file() for page in pages)
    assert str(tmp_path / "cnn" / "train.index") in shown
    assert "classifier frechet distance" in (tmp_path / "gan" / "report.html").read_text()
