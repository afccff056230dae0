import hashlib
import json

import numpy as np
import pytest

from vision_jax.files import json_text, replacing, sha256_of, write_text


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


def test_json_has_null_for_what_it_cannot_say():
    content = {
        "shares": {"a": np.float64(0.5), "b": float("nan")},
        "counts": np.array([[1, 2], [3, 4]]),
        "row": (np.float32(np.inf), -np.inf, np.int64(7), True, None, "NaN"),
    }

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    assert json.loads(json_text(content), parse_constant=refuse) == {
        "shares": {"a": 0.5, "b": None},
        "counts": [[1, 2], [3, 4]],
        "row": [None, None, 7, True, None, "NaN"],
    }


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    target, link = tmp_path / "whole.txt", tmp_path / "there" / "link.txt"
    target.write_text("older")
    link.parent.mkdir()
    link.symlink_to("../whole.txt")
    write_text(link, "newer")
    assert link.is_symlink()
    assert target.read_text() == "newer"
    assert sorted(tmp_path.rglob("*.txt")) == [link, target]
