"""Bad files on the whole way: training, evaluation, indexing, search."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.config import CNNConfig, DataConfig, TrainCNN
from vision_jax.data.catalog import open_source
from vision_jax.data.loader import Loader, read_all
from vision_jax.errors import DataWarning, InputError
from vision_jax.run.run import load_run
from vision_jax.run.train import train
from vision_jax.run.workdir import open_checkpoints, read_info


def save(images, labels, root, count=12):
    """Writes the first images of three digits as a folder of classes."""
    for digit in range(3):
        (root / f"{digit}").mkdir(parents=True)
        for number, image in enumerate(images[labels == digit][:count]):
            Image.fromarray(image[..., 0]).save(root / f"{digit}" / f"{number}.png")


@pytest.fixture
def folder(digits, tmp_path):
    save(*digits, tmp_path / "photos")
    return tmp_path / "photos"


def settings(folder, **options):
    data = DataConfig(name=str(folder), batch_size=4, channels=1, **options)
    return TrainCNN(data=data, model=CNNConfig(stages=(4,), hidden=8), epochs=1)


def harm(source, *places):
    """Cuts files short, by their positions in a source."""
    for place in places:
        path = source.files[place]
        path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize("mib", [1024, 0])
def test_training_ends_with_the_name_of_a_bad_file(folder, tmp_path, mib, capsys):
    harm(open_source(str(folder), "train[:90%]"), 5)
    words = f"train cnn --workdir {tmp_path}/run --data.name {folder} --data.batch-size 4"
    words += f" --model.stages 4 --data.on-device-mib {mib}"
    assert main(words.split()) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert str(open_source(str(folder), "train").files[5]) in error
    assert "is not a readable image" in error


def test_a_reader_process_hands_over_the_name_of_a_bad_file(folder):
    source = open_source(str(folder), "train[:90%]", channels=1)
    harm(source, 5)
    loader = Loader(source, 4, train=False, on_device_bytes=0, workers=1)
    with pytest.raises(InputError, match="is not a readable image"):
        list(loader.items(0, loader.steps_per_epoch))


@pytest.mark.slow
def test_a_run_leaves_bad_files_out_and_keeps_their_count(folder, tmp_path, capsys):
    source = open_source(str(folder), "train[:90%]")
    whole = [path.read_bytes() for path in source.files]
    harm(source, 3, 9)
    config = settings(folder, bad_files="skip")
    with pytest.warns(DataWarning, match="skipped 2 of 27 files"):
        skipped = train(config, tmp_path / "run", progress=False)
    checkpoints = open_checkpoints(tmp_path / "run", config)
    about = read_info(checkpoints, checkpoints.find("last"), config)
    assert (about.train_examples, about.skipped) == (25, 2)
    assert (tmp_path / "run" / "metrics.jsonl").is_file()
    again = open_source(str(folder), "train[:90%]", channels=1, bad_files="skip")  # said once
    assert list(again.files) == [f for i, f in enumerate(source.files) if i not in (3, 9)]
    assert skipped.finished
    harm(open_source(str(folder), "test"), 0)
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "vision-jax: skipped 1 of 6 files" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["skipped"] == 1
    # A file that is mended is not trained on in the middle of a run.
    source.files[3].write_bytes(whole[3])
    with (
        pytest.warns(DataWarning, match="skipped 1 of 27"),
        pytest.raises(InputError, match="train_examples 25, which is now 26"),
    ):
        train(config, tmp_path / "run", progress=False)


def test_classes_that_are_left_keep_their_numbers_and_lost_ones_are_told(folder, tmp_path):
    train(settings(folder), tmp_path / "run", progress=False)
    shutil.rmtree(folder / "0")
    run = load_run(tmp_path / "run")
    with pytest.warns(DataWarning, match=r"has 18 images .* was trained on 27"):
        found = run.evaluate()
    match = run.match_classes(run.source())
    assert match.missing == ("0",)
    probabilities = run.predict(match.source)
    right = probabilities.argmax(1) == [1 + int(label) for label in run.source().labels()]
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["confusion"].sum(1)[0] == 0
    shutil.rmtree(folder / "1")
    shutil.rmtree(folder / "2")
    (folder / "other").mkdir()
    Image.new("L", (8, 8)).save(folder / "other" / "a.png")
    with pytest.warns(DataWarning, match="27"), pytest.raises(InputError, match="other"):
        load_run(tmp_path / "run").evaluate("all")


@pytest.mark.slow
def test_an_index_leaves_bad_files_out_and_finds_names_that_are_not_utf8(
    workdir, folder, tmp_path, capsys
):
    (folder / "1" / "3.png").rename(folder / "1" / os.fsdecode(b"caf\xe9.png"))
    (folder / "2" / "lost.png").symlink_to("nowhere")
    (folder / "2" / "more").symlink_to("../1")
    (folder / "0" / "4.png").write_bytes(b"no image")
    out = tmp_path / "photos.index"
    words = ["index", str(workdir), "--images", str(folder), "--out", str(out)]
    assert main(words) == 2
    assert "is a link to a folder" in capsys.readouterr().err
    assert main([*words, "--bad-files", "skip"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("35 images -> ")
    assert "vision-jax: skipped 2 of 37 files" in printed.err
    # Searching looks at no file but those that it shows.
    query, picture = str(folder / "1" / os.fsdecode(b"caf\xe9.png")), str(tmp_path / "found.png")
    assert main(["search", str(out), query, "--k", "3", "--picture", picture]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines()[1].endswith("1/caf\\xe9.png")
    assert np.asarray(Image.open(picture)).std() > 0
    key = f"{folder}/1/caf\\xe9.png"
    assert main(["search", str(out), "--keys", key, "--k", "3"]) == 0


def test_bad_images_of_a_prepared_set_are_named_or_skipped(data_dir, tmp_path):
    from vision_jax.data.builders.digits import Digits

    class Harmed(Digits, skip_registration=True):
        """The digits, the first of them cut short and the next of another size."""

        name = "harmed"
        pkg_dir_path = tmp_path

        def _generate_examples(self, part):
            for key, example in super()._generate_examples(part):
                if key == 0:
                    example["image"] = example["image"][:60]
                if key == 1:
                    example["image"] = Image.new("L", (9, 9))
                yield key, example

    Harmed(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    named = r"harmed/test/\d+ (is not a readable image|has shape \(9, 9, 1\))"
    with pytest.raises(InputError, match=named):
        read_all(open_source("harmed", "test", data_dir=tmp_path))
    with pytest.warns(DataWarning, match=f"skipped 2 of 360 images .*{named}"):
        source = open_source("harmed", "test", data_dir=tmp_path, bad_files="skip")
    assert (len(source), source.skipped) == (358, 2)
    rows = read_all(source)
    np.testing.assert_array_equal(rows["label"], source.labels())
    whole = read_all(open_source("digits", "test", data_dir=data_dir))
    there = {(i.tobytes(), int(k)) for i, k in zip(whole["image"], whole["label"], strict=True)}
    kept = {(i.tobytes(), int(k)) for i, k in zip(rows["image"], rows["label"], strict=True)}
    assert kept <= there
    assert main(["check", "harmed", "--data-dir", str(tmp_path)]) == 1
