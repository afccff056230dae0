import inspect
import io
import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax.config import CNNConfig, DataConfig, TrainCNN
from vision_jax.data import findings
from vision_jax.data.loader import read_all, to_float
from vision_jax.data.sources import ArraySource
from vision_jax.errors import DataWarning, InputError
from vision_jax.models.map_size import map_bytes
from vision_jax.parallel import devices
from vision_jax.run.data import resolved
from vision_jax.run.inputs import read_encoded
from vision_jax.run.run import load_run
from vision_jax.run.train import train
from vision_jax.run.workdir import check_config, read_config, write_config
from vision_jax.training.metrics import read_metrics


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


@pytest.fixture(scope="module")
def rows(run):
    return read_all(run.source())


def test_a_run_leaves_its_files(workdir, config):
    assert json.loads((workdir / "config.json").read_text())["epochs"] == 3
    assert [row["epoch"] for row in read_metrics(workdir)] == [1, 2, 3]
    assert list(workdir.glob("events.out.tfevents.*"))
    steps = {int(path.name) for path in (workdir / "checkpoints").iterdir()}
    assert 3 * 20 in steps
    assert load_run(workdir, "last").step == 60
    assert load_run(workdir).config == resolved(config)[0]


def test_the_same_command_does_nothing_more(workdir, config):
    before = (workdir / "metrics.jsonl").read_bytes()
    assert train(config, workdir, progress=False).history == []
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_it_learned(run):
    figures = run.evaluate()
    assert figures["accuracy"] > 0.6  # 0.1 by chance
    assert figures["confusion"].sum() == 360


def test_predictions_are_the_evaluated_ones(run, rows):
    probabilities = run.predict(rows["image"])
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    accuracy = (probabilities.argmax(1) == rows["label"]).mean()
    assert accuracy == pytest.approx(run.evaluate()["accuracy"])


def test_images_may_be_bytes_floats_or_a_source(run, rows):
    from_bytes = run.embed(rows["image"])
    assert from_bytes.shape == (360, 64)
    np.testing.assert_allclose(
        run.embed(rows["image"].astype(np.float32) / 255), from_bytes, atol=1e-5
    )
    np.testing.assert_array_equal(run.embed(run.source()), from_bytes)
    np.testing.assert_allclose(run.embed(rows["image"][:3]), from_bytes[:3], atol=1e-5)


def test_image_files_are_brought_to_the_runs_shape(run, rows, tmp_path):
    from PIL import Image

    enlarged = Image.fromarray(rows["image"][0, ..., 0]).resize((32, 32), Image.Resampling.BOX)
    enlarged.convert("RGB").save(tmp_path / "digit.png")
    read = run.read_images([tmp_path / "digit.png"])
    assert read.shape == (1, 8, 8, 1)
    cosine = np.corrcoef(read.ravel(), rows["image"][0].ravel())[0, 1]
    assert cosine > 0.9


def test_images_are_opened_as_the_run_s_own_data_is(run, rows, tmp_path):
    (tmp_path / "there").mkdir()
    whole = io.BytesIO()
    Image.fromarray(rows["image"][0, ..., 0]).resize((64, 64)).save(whole, "JPEG")
    cut = tmp_path / "there" / "cut.jpg"
    cut.write_bytes(whole.getvalue()[:-20])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "there")
    with pytest.raises(InputError, match="is not a readable image"):
        run.read_images([cut])
    data = replace(run.config.data, truncated="use", links=True)
    lenient = replace(run, config=replace(run.config, data=data))
    findings._shown.clear()  # it is said once in a process
    with pytest.warns(DataWarning, match="lacks its last bytes"):
        (image,) = lenient.read_images([cut])
    np.testing.assert_array_equal(read_encoded(lenient, cut.read_bytes()), image)
    found = lenient.open_images(tmp_path / "folder", "all")
    np.testing.assert_array_equal(found.read([0])[0]["image"], image)


def test_another_shape_is_named(run):
    with pytest.raises(InputError, match=r"\(9, 8, 1\).*\(8, 8, 1\)"):
        run.predict(np.zeros((1, 9, 8, 1), np.uint8))


def test_a_workdir_of_another_config_is_refused_and_left_alone(workdir, config):
    before = {path: path.read_bytes() for path in workdir.glob("*.json*")}
    with pytest.raises(InputError, match="epochs: 3 there, 4 asked for"):
        train(replace(config, epochs=4), workdir)
    assert {path: path.read_bytes() for path in before} == before


def test_a_folder_of_something_else_is_refused(config, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds something else"):
        train(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_killed_before_its_config_starts_again(config, tmp_path):
    for name in (".lock", "config.json.tmp", ".tmp-0a1b-config.json"):
        (tmp_path / name).touch()
    (tmp_path / "checkpoints").mkdir()
    check_config(config, tmp_path)
    write_config(config, tmp_path)
    check_config(config, tmp_path)
    assert read_config(tmp_path) == config


def test_bad_data_leaves_no_workdir(config, tmp_path):
    for data in (
        replace(config.data, name="nothing"),
        replace(config.data, batch_size=50),
        replace(config.data, batch_size=4000),
    ):
        with pytest.raises(InputError):
            train(replace(config, data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_second_writer_is_refused(workdir, config):
    import fcntl

    with (workdir / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="being trained by another process"):
            train(config, workdir)


@pytest.mark.slow
def test_data_that_changed_is_refused(config, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    data = DataConfig(
        name=str(tmp_path / "images"),
        channels=1,
        train_split="train",
        validation_split="test",
        batch_size=4,
    )
    changed = replace(config, data=data, epochs=1)
    train(changed, tmp_path / "run", progress=False)
    (tmp_path / "images" / "c").mkdir()
    (tmp_path / "images" / "a" / "0.png").rename(tmp_path / "images" / "c" / "0.png")
    with (
        pytest.warns(DataWarning, match="c is a class with 0 images in test"),
        pytest.raises(InputError, match="label_names"),
    ):
        train(changed, tmp_path / "run", progress=False)


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        load_run(tmp_path)


@pytest.fixture
def photos(tmp_path, digits):
    """A folder of images: two classes of 12 digits each."""
    images, labels = digits
    for name in (0, 1):
        (tmp_path / "photos" / str(name)).mkdir(parents=True)
        for i, image in enumerate(images[labels == name][:12]):
            Image.fromarray(image[..., 0]).save(tmp_path / "photos" / str(name) / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_data_may_be_named_from_anywhere_and_move(photos, tmp_path, monkeypatch):
    def config(name, **more):
        data = DataConfig(name=str(name), batch_size=8, channels=1)
        return TrainCNN(data=data, model=CNNConfig(stages=(4,), hidden=4), **more)

    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    assert train(config("photos"), run, progress=False, should_stop=lambda: True).finished is False
    moved = photos.rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    again = train(config(moved, epochs=1), tmp_path / "other", progress=False)
    assert again.finished
    with pytest.raises(InputError, match="epochs"):
        check_config(config(moved, epochs=1), run)
    check_config(config(f"{moved}/"), run)
    assert load_run(run, "last", data=moved).source("train").image_shape == (8, 8, 1)
    with pytest.raises(
        InputError, match=r"photos, the data of the run in .* data.name must say where"
    ):
        load_run(run, "last").source("train")


def test_data_that_has_grown_since_the_training_is_told(run):
    run.check_training_images(run.source("train[:90%]"))
    grown = replace(run, info=replace(run.info, train_examples=9))
    replace(grown, told=True).check_training_images(run.source("train[:90%]"))
    with pytest.warns(DataWarning, match=r"has 1293 images at 'train\[:90%\]'; .* trained on 9"):
        grown.evaluate("test[:8]")


def test_a_folder_where_nothing_was_trained_takes_another_config(config, tmp_path):
    write_config(config, tmp_path)
    check_config(replace(config, epochs=99), tmp_path)
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    with pytest.raises(InputError, match="epochs: 3 there, 99 asked for"):
        check_config(replace(config, epochs=99), tmp_path)


def test_any_number_of_images_is_answered_alike_and_compiles_no_more(workdir, digits):
    run, (images, _) = load_run(workdir), digits
    whole = run.embed(images[:300])
    assert run.embed(images[:0]).shape == (0, whole.shape[1])
    for count in (1, 2, 31, 257):
        np.testing.assert_allclose(run.embed(images[:count]), whole[:count], atol=1e-5)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name)
    )
    for count in (1, 5, 40, 300):
        run.embed(images[:count])
    assert [name for name in compiled if "compile" in name] == []
    run.predict(images[:1])
    assert [name for name in compiled if "compile" in name] != []


def test_embeddings_computed_in_parts_at_once_equal_the_whole(workdir, digits, monkeypatch):
    run, images = load_run(workdir), digits[0][:150]
    monkeypatch.setattr(devices, "_CACHED", 8 * map_bytes(run.task.apply, run.state, (8, 8, 1)))
    assert run.row_sizes == (8 * run.parallel.count, 2 * run.parallel.count, run.parallel.count)
    whole = run.task.embed(run.state, to_float(jnp.asarray(images)))
    for source in (images, ArraySource.from_arrays(images)):
        np.testing.assert_allclose(run.embed(source), whole, rtol=1e-5, atol=1e-6)


def test_runs_of_other_weights_have_another_identity(workdir, config, tmp_path):
    best, last = load_run(workdir), load_run(workdir, "last")
    assert best.identity == load_run(workdir).identity
    assert (best.identity == last.identity) == (best.step == last.step)
    params = jax.tree.map(lambda leaf: leaf + 1e-3, best.state.params)
    changed = replace(best, state=best.state.replace(params=params))
    assert changed.identity != best.identity


def test_a_changed_config_is_refused_with_both_values(workdir, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    path = copy / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"dropout": 0.2', '"dropout": 0.3'))
    with pytest.raises(InputError, match=r"model.dropout: 0.2 there, 0.3 asked for"):
        load_run(copy)
    path.write_text(text)
    assert load_run(copy).identity == load_run(workdir).identity


def test_a_config_of_another_kind_is_named(tmp_path):
    with pytest.raises(InputError, match="config is a dict; a TrainConfig is needed"):
        inspect.unwrap(train)({"epochs": 1}, tmp_path / "run")  # not the tests' own checks of types
