import hashlib

import pytest

from vision_jax.files import replacing, sha256_of, write_text


def test_a_file_is_replaced_once_the_new_one_is_whole(tmp_path):
    path = tmp_path / "page.html"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new ü", encoding="utf-8")
        assert path.read_text() == "old"
        assert temporary.suffix == ".html"
    assert path.read_text(encoding="utf-8") == "new ü"
    assert list(tmp_path.iterdir()) == [path]
    assert sha256_of(path) == hashlib.sha256("new ü".encode()).hexdigest()


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "page.html"
    write_text(path, "old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
