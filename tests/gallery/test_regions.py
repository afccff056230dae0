"""Search by a part: planted pictures are found by the box around them alone."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax import import_weights
from vision_jax.cli import main
from vision_jax.errors import InputError
from vision_jax.explain import similarity_map
from vision_jax.gallery import build_index, embed_region, file_mask, search_region
from vision_jax.run.run import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Lite0 at 128x128, of which the centre crop keeps 7/8; its map is 4x4."""
    folder = tmp_path_factory.mktemp("runs") / "lite0"
    return import_weights("efficientnet_lite0", workdir=folder, image_size=128)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A palace and a flower, and a picture of both, side by side."""
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    squares = [china[0:400, 100:500], flower[0:400, 150:550]]
    folder = tmp_path_factory.mktemp("photos")
    (folder / "all").mkdir()
    for number, pixels in enumerate(squares):
        Image.fromarray(pixels).save(folder / "all" / f"{number}.png")
    both = np.concatenate([pixels[::2, ::2][:, :100] for pixels in squares], 1)
    Image.fromarray(both).save(folder / "both.png")
    return folder


@pytest.fixture(scope="module")
def index(run, photos):
    return build_index(run, run.open_images(str(photos / "all"), "files"))


HALVES = [(0, 0, 0.5, 1), (0.5, 0, 1, 1)]


@pytest.mark.slow
def test_what_is_in_the_box_is_found_and_where(run, photos, index):
    ids = [search_region(index, run, photos / "both.png", box, 1)[1][0, 0] for box in HALVES]
    assert ids == [0, 1]
    squares = run.read_images([photos / "all" / f"{i}.png" for i in range(2)])
    found = similarity_map(run, squares, run.read_images([photos / "both.png"]))
    parts = found.match_map.reshape(2, 4, 2, 2).sum((1, 3))
    assert parts.argmax(1).tolist() == [0, 1]


@pytest.mark.slow
def test_the_vector_is_the_weighted_average_of_the_positions_in_the_box(run, photos):
    pixels = run.read_images([photos / "both.png"])
    images = jnp.asarray(pixels / np.float32(255))
    features = np.asarray(run.task.apply(run.state, images)[1]["features"])[0]
    weights = np.zeros((4, 4))
    weights[1:3, :2] = [[0.5, 0.25], [1, 0.5]]
    wanted = (features * weights[..., None]).sum((0, 1)) / weights.sum()
    found = embed_region(run, pixels[0], (0, 48, 48, 96))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    whole = embed_region(run, pixels[0], (0, 0, 1, 1))
    np.testing.assert_allclose(whole, run.embed(pixels)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_command_finds_what_is_in_the_box(run, photos, index, tmp_path, capsys):
    index.save(tmp_path / "all.index")
    asked = ["search", str(tmp_path / "all.index"), str(photos / "both.png"), "--k", "1", "--box"]
    assert main([*asked, "100", "0", "200", "200"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("1.png")
    assert main([*asked, "100", "0", "201", "200"]) == 2
    error = capsys.readouterr().err
    assert "x1 <= 200" in error
    assert error.count("\n") == 1


def test_a_box_on_a_file_is_carried_over_to_what_the_run_sees(tmp_path, run):
    pixels = np.zeros((100, 228, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    # Scaled to 146x333 the centre square is 87.7 pixels of the file wide, from 70.2 to 157.8.
    mask = file_mask(run, tmp_path / "wide.png", (0, 0, 114, 50))
    assert mask.shape == (128, 128)
    np.testing.assert_allclose(mask[:60, :60], 1)
    np.testing.assert_allclose(mask[68:], 0)
    np.testing.assert_allclose(mask[:, 68:], 0)
    assert mask.sum() == pytest.approx(64 * 64, rel=0.02)
    with pytest.raises(InputError, match=r"sees nothing of it.*wide\.png, 228x100 pixels"):
        file_mask(run, tmp_path / "wide.png", (0, 0, 60, 100))


def test_a_network_without_an_average_is_refused(workdir, tmp_path, digits, capsys):
    run = load_run(workdir)
    index = build_index(run, run.source("test[:5]"))
    with pytest.raises(InputError, match=r"so no part of an image has one; networks such as"):
        search_region(index, run, digits[0][0], (0, 0, 4, 4), 1)
    index.save(tmp_path / "digits.index")
    asked = ["search", str(tmp_path / "digits.index"), "--keys", "digits/test/0"]
    assert main([*asked, "--box", "0", "0", "4", "4"]) == 2
    assert "box is of one image; 0 images and 1 keys are given" in capsys.readouterr().err
