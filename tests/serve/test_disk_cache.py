"""Thumbnails on disk: never more than so many bytes, the least recently used removed first."""

import os
import time

import pytest

from vision_jax.errors import InputError
from vision_jax.serve.disk_cache import DiskCache
from vision_jax.serve.thumbnails import Thumbnails


def aged(folder, hours):
    """Make all files look as if last used so long ago, the first by name before the others."""
    for place, path in enumerate(sorted(folder.glob("*/*"))):
        os.utime(path, (time.time() - 3600 * hours + place,) * 2)


def held(folder):
    return {path.name: path.stat().st_size for path in folder.glob("*/*")}


def test_the_least_recently_used_go_first(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    for name in ("aa", "bb", "cc"):
        cache.put(name, name.encode() * 150)  # 300 bytes each
    aged(tmp_path, 2)
    assert cache.get("aa") == b"aa" * 150  # used again
    cache.put("dd", b"d" * 300)
    assert held(tmp_path) == {"aa": 300, "cc": 300, "dd": 300}
    assert cache.get("bb") is None


def test_it_never_takes_more(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    for number in range(200):
        cache.put(f"{number:03}", bytes(number))
        assert sum(held(tmp_path).values()) <= 1000
    cache.put("large", bytes(1001))
    assert cache.get("large") is None
    assert cache.get("199") == bytes(199)


def test_what_was_there_before_counts(tmp_path):
    DiskCache(tmp_path, 10_000).put("old", bytes(900))
    aged(tmp_path, 1)
    DiskCache(tmp_path, 1000).put("new", bytes(200))
    assert held(tmp_path) == {"new": 200}


def test_0_keeps_none_and_less_is_refused(tmp_path):
    assert Thumbnails(tmp_path / "none", 0)._cache is None
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="thumbnails_mb is -1; 0 or more is needed"):
        Thumbnails(tmp_path, -1 << 20)
