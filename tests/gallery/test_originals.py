import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from vision_jax.gallery.originals import Originals
from vision_jax.search import CosineIndex


def index_of(source, keys, **row):
    about = {"workdir": "/gone", "step": 1, "source": source, "split": "all", "encoder": "x"}
    index = CosineIndex(2, about=about)
    rows = [{"key": str(key), "digest": "", "split": "all", **row} for key in keys]
    index.add(np.eye(2)[: len(keys)] + 1, metadata=rows)
    return index


def test_a_file_is_opened_whole_though_its_folder_is_not_listed(tmp_path):
    photograph = Image.fromarray(load_sample_images().images[1])
    photograph.save(tmp_path / "a.png")
    index = index_of(str(tmp_path), [tmp_path / "a.png", tmp_path / "b.png"])
    there, gone = Originals(index).thumbnails(index.metadata(index.ids), side=160)
    np.testing.assert_array_equal(there.pixels, np.asarray(photograph.resize((160, 107), 2)))
    assert there.fault == "has changed since it was indexed"  # by its digest
    assert gone.fault == "does not exist; an image file is needed"


def test_a_name_that_cannot_be_printed_is_found_in_its_folder(tmp_path):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a\nb.png")
    index = index_of(str(tmp_path), [f"{tmp_path}/a\\nb.png", f"{tmp_path}/c\\nd.png"])
    there, gone = Originals(index).thumbnails(index.metadata(index.ids))
    assert (there.pixels == [255, 0, 0]).all()
    assert there.pixels.shape == (20, 30, 3)
    assert gone.fault == "is no longer there"


@pytest.mark.parametrize("source", ["digits", "gone"])
def test_prepared_images_are_shown_as_they_are_stored(data_dir, workdir, digits, source):
    index = index_of(source, ["digits/all/1400", "digits/all/99999"])
    first, second = Originals(index, workdir).thumbnails(index.metadata(index.ids))
    if source == "digits":
        assert (first.pixels[..., :1] == digits[0]).all((1, 2, 3)).sum() == 1
        assert second.fault == "is no longer there"
    else:
        assert first.fault.startswith("cannot be found: 'gone' is not a data set")
