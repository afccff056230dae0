"""A replaced index file is loaded without losing a request."""

import shutil
import threading
import time

import numpy as np
import pytest
from starlette.testclient import TestClient

from vision_jax.errors import DataWarning
from vision_jax.gallery import load_index
from vision_jax.gallery.shards import publish, shard_range, write_shard
from vision_jax.search.index_file import Content
from vision_jax.serve.galleries import Galleries
from vision_jax.serve.server import Service


@pytest.fixture
def smaller(file, tmp_path):
    index = load_index(file)
    index.remove(index.ids[24:])
    index.save(tmp_path / "smaller.index")
    return tmp_path / "smaller.index"


def replace(path, by):
    shutil.copy(by, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


@pytest.mark.slow
def test_no_request_is_lost_while_files_are_replaced(file, smaller, tmp_path, keys):
    path = tmp_path / "served.index"
    shutil.copy(file, path)
    service = Service([path], cache=tmp_path / "cache", watch=False)
    answers, done = [], threading.Event()
    with TestClient(service.app, base_url="http://localhost") as client:

        def ask():
            while not done.is_set():
                body = {"queries": [{"key": keys[0]}], "k": 100}
                answer = client.post("/api/search", json=body)
                answers.append((answer.status_code, len(answer.json()["results"][0]["hits"])))

        thread = threading.Thread(target=ask)
        thread.start()
        for by in (smaller, file, smaller):
            replace(path, by)
            service.galleries.reload()
        path.with_suffix(".new").write_bytes(b"damaged")
        path.with_suffix(".new").replace(path)
        with pytest.warns(DataWarning, match="served is not reloaded: .*not an index file"):
            service.galleries.reload()  # the older one stays
        kept = client.get("/api/health").json()["images"]
        path.unlink()
        service.galleries.reload()
        assert client.get("/api/health").json()["images"] == kept == 24
        replace(path, file)
        service.galleries.reload()
        assert client.get("/api/health").json()["images"] == 48
        done.set()
        thread.join(20)
        counts = client.get("/metrics").text
    service.close()
    assert set(answers) <= {(200, 47), (200, 23)}
    assert len(answers) > 3
    assert 'vision_jax_reloads_total{index="served",outcome="done"} 4.0' in counts
    assert 'vision_jax_reloads_total{index="served",outcome="refused"} 1.0' in counts


def test_indexes_of_one_name_are_told_apart_and_share_a_run(file, smaller, tmp_path):
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / file.name
    shutil.copy(smaller, other)
    galleries = Galleries([file, other])
    assert [gallery.name for gallery in galleries.all()] == ["digits", "digits-2"]
    assert len(galleries.get("digits-2").rows) == 24
    assert galleries.get("digits").encoder is galleries.get("digits-2").encoder


@pytest.mark.slow
def test_vectors_may_be_held_rounded(file, tmp_path):
    (plain,) = Galleries([file]).all()
    (rounded,) = Galleries([file], dtype="int8").all()
    assert rounded.index.dtype == "int8"
    assert rounded.rows == plain.rows
    vectors = plain.index.vectors(plain.ids)
    cosines = (rounded.index.vectors(rounded.ids) * vectors).sum(1)
    assert cosines.min() > 0.999


def test_an_index_whose_run_is_gone_is_searched_by_keys_and_vectors(file, tmp_path, keys):
    index = load_index(file)
    index.about["workdir"] = str(tmp_path / "gone")
    index.save(tmp_path / "alone.index")
    with pytest.warns(DataWarning, match="search by an image is off"):
        service = Service([tmp_path / "alone.index"], cache=tmp_path / "cache")
    with TestClient(service.app, base_url="http://localhost") as client:
        (entry,) = client.get("/api/info").json()["indexes"]
        assert (entry["can_embed"], entry["can_box"], entry["can_explain"]) == (False,) * 3
        found = client.get("/api/neighbours", params={"key": keys[0], "k": 3}).json()
        assert len(found["hits"]) == 3
        body = {"queries": [{"image": "aGVsbG8="}]}
        error = client.post("/api/search", json=body).json()["error"]
        assert error["field"] == "queries.0.image"
        assert "a key or a vector is needed" in error["message"]
    service.close()


@pytest.mark.slow
def test_a_replaced_file_is_seen_within_seconds(file, smaller, tmp_path):
    path = tmp_path / "served.index"
    shutil.copy(file, path)
    service = Service([path], cache=tmp_path / "cache")
    replace(path, smaller)
    until = time.monotonic() + 30
    while len(service.galleries.get().rows) != 24:
        assert time.monotonic() < until
        time.sleep(0.1)
    service.close()


def test_a_folder_of_shards_is_reloaded_once_its_list_is_replaced(file, smaller, tmp_path):
    def write(path, build, shards):
        content = load_index(path).to_content()
        count = len(content.ids)
        for number in range(shards):
            places = shard_range(count, shards, number)
            part = slice(places.start, places.stop)
            items = {str(i): content.notes["items"][str(i)] for i in content.ids[part].tolist()}
            cut = content.values[part], content.scale[part], content.ids[part]
            notes = content.notes | {"items": items}
            write_shard(folder, number, shards, build, Content(content.dtype, *cut, notes))
        return shards, build, content.values.shape, content.dtype

    (folder := tmp_path / "digits").mkdir()
    publish(folder, *write(file, "first", 3))
    galleries = Galleries([folder], method="sharded")
    gallery = galleries.get("digits")
    assert len(gallery.rows) == 48
    found = gallery.index.search_by_id(gallery.ids[:3], 5, method="sharded")
    for ours, theirs in zip(found, load_index(file).search_by_id(gallery.ids[:3], 5), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert gallery.index.nbytes == 0  # a part is on each device, and the whole on none
    second = write(smaller, "second", 2)
    galleries.reload()
    assert galleries.get("digits") is gallery  # not listed yet
    publish(folder, *second)
    galleries.reload()
    assert len(galleries.get("digits").rows) == 24
    fresh = galleries.get("digits")
    galleries.reload()
    assert galleries.get("digits") is fresh  # the removal of older shards is no change
    assert len(gallery.index.vectors(gallery.ids)) == 48  # a request under way reads the older one
