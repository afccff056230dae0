"""What the API finds is what the library finds."""

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vision_jax import gallery
from vision_jax.gallery import find_hits
from vision_jax.serve.searching import SIZES, looked_up


def told(hits):
    """Keys and scores, which JSON keeps bit for bit."""
    return [(hit.row["key"], hit.score) for hit in hits]


def answered(result):
    return [(hit["key"], hit["score"]) for hit in result["hits"]]


def test_an_image_finds_what_the_command_finds_bit_for_bit(search, index, run, keys, sent):
    paths = keys[:3]
    for path in paths:  # one by one, as `search FILE` embeds them
        expected = find_hits(index, gallery.image_queries(index, run, [path]), 10)[0]
        (result,) = search({"image": sent(path)}, k=10)
        assert answered(result) == told(expected)
        (result,) = search({"image": f"data:image/png;base64,{sent(path)}"}, k=10)
        assert answered(result) == told(expected)


@pytest.mark.slow
def test_keys_vectors_and_examples_find_what_the_library_finds(
    search, index, run, keys, sent, tmp_path
):
    vectors = index.vectors(index.ids[:2])
    copy = shutil.copy(keys[2], tmp_path)  # not indexed, as what is sent
    asked = [
        ({"key": keys[1]}, gallery.key_queries(index, keys[1:2])),
        ({"vector": vectors[0].tolist()}, gallery.Queries([""], vectors[:1], [[]], [])),
        (
            {"like": [{"key": keys[0]}, {"key": keys[1]}], "unlike": [{"key": keys[30]}]},
            gallery.example_query(index, None, keys[:2], keys[30:31]),
        ),
        (
            {"like": [{"image": sent(keys[2])}]},
            gallery.example_query(index, run, [copy]),
        ),
    ]
    for place, (query, queries) in enumerate(asked):
        others = ({"fold": 0.9}, {"mmr": 0.5}, {"min_score": 0.8}) if place == 0 else ()
        for options in ({}, *others):
            (result,) = search(query, k=9, **options)
            assert answered(result) == told(find_hits(index, queries, 9, **options)[0])
    assert keys[1] not in [key for key, _ in answered(search(asked[0][0])[0])]


@pytest.mark.slow
def test_folded_hits_and_votes_are_told(search, index, keys):
    (result,) = search({"key": keys[0]}, k=5, fold=0.9)
    expected = find_hits(index, gallery.key_queries(index, keys[:1]), 5, fold=0.9)[0]
    folded = [[other["key"] for other in hit["folded"]] for hit in result["hits"]]
    assert folded == [[row["key"] for row in hit.others] for hit in expected]
    assert any(folded)
    counts = Counter(hit.row["label"] for hit in expected)
    assert {vote["label"]: vote["hits"] for vote in result["votes"]} == counts
    assert sum(vote["share"] for vote in result["votes"]) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"fold": 0.9}, {"where": {"splits": ["train"]}}])
def test_pages_join_to_the_whole(search, keys, options):
    (whole,) = search({"key": keys[0]}, k=49, **options)
    parts = [search({"key": keys[0]}, k=7, offset=at, **options)[0] for at in range(0, 49, 7)]
    assert [hit for part in parts for hit in part["hits"]] == whole["hits"]
    assert [part["more"] for part in parts] == [
        at + 7 < len(whole["hits"]) for at in range(0, 49, 7)
    ]


FILTERS = [
    ({"labels": ["one", "zero"]}, lambda row: row["label"] in ("one", "zero")),
    ({"splits": ["test"]}, lambda row: row["split"] == "test"),
    ({"folder": "train"}, lambda row: row["folder"].startswith("train/")),
    ({"folder": "test/one"}, lambda row: row["folder"] == "test/one"),
    ({"from": "2000", "to": "2999-12"}, lambda row: True),
    ({"to": "1999-12-31"}, lambda row: False),
    (
        {"conditions": ["label=one", "split=train"]},
        lambda row: (row["label"], row["split"]) == ("one", "train"),
    ),
    ({"labels": []}, lambda row: False),
    ({"labels": ["no such"]}, lambda row: False),
]


@pytest.mark.parametrize(("where", "meets"), FILTERS)
def test_filters(search, client, index, keys, where, meets):
    rows = [row for row in index.metadata(index.ids) if meets(row)]
    (result,) = search({"key": keys[0]}, k=100, where=where)
    expected = {row["key"] for row in rows} - {keys[0]}
    assert {hit["key"] for hit in result["hits"]} == expected
    names = {"labels": "label", "splits": "split"}
    if "conditions" not in where and where != {"labels": []}:
        given = {names.get(name, name): value for name, value in where.items()}
        answer = client.get("/api/browse", params={"limit": 1000, **given}).json()
        assert [item["key"] for item in answer["items"]] == [row["key"] for row in rows]
        assert answer["total"] == len(rows)


@pytest.mark.slow
def test_queries_at_once_are_answered_as_alone(client, search, keys, sent):
    bodies = [
        {"queries": [{"key": key}], "k": 5 + place % 3, "min_score": None if place % 2 else 0.5}
        for place, key in enumerate(keys)
    ]
    bodies += [{"queries": [{"image": sent(key)}, {"key": key}], "k": 4} for key in keys[:16]]
    alone = [client.post("/api/search", json=body).json()["results"] for body in bodies]
    with ThreadPoolExecutor(16) as pool:
        together = list(
            pool.map(lambda body: client.post("/api/search", json=body).json()["results"], bodies)
        )
    for one, other in zip(alone, together, strict=True):
        for first, second in zip(one, other, strict=True):
            assert [hit["key"] for hit in first["hits"]] == [hit["key"] for hit in second["hits"]]
            scores = [[hit["score"] for hit in result["hits"]] for result in (first, second)]
            np.testing.assert_allclose(*scores, rtol=0, atol=1e-6)
    sizes = client.get("/metrics").text
    assert 'vision_jax_batch_size_bucket{le="1.0",stage="search"}' in sizes


def test_few_numbers_of_results_are_looked_up():
    assert {
        looked_up(wanted, spare) + spare for wanted in range(1, 1001) for spare in (0, 1, 64)
    } <= set(SIZES)


def test_neighbours_item_info_and_health(client, search, index, keys):
    (result,) = search({"key": keys[5]}, k=6, min_score=0.2)
    params = {"key": keys[5], "k": 6, "min_score": 0.2}
    assert client.get("/api/neighbours", params=params).json() == result
    assert client.get("/api/item", params={"key": keys[5]}).json()["item"] == index.metadata(5)[0]
    assert client.get("/api/health").json() == {"status": "ok", "images": 48}
    (entry,) = client.get("/api/info").json()["indexes"]
    assert entry["images"] == 48
    assert entry["can_embed"]
    assert {count["images"] for count in entry["labels"]} == {16}
    assert [count["split"] for count in entry["splits"]] == ["test", "train"]


def test_metrics_count_requests_by_known_paths_alone(client):
    client.get("/api/health")
    for number in range(3):
        client.get(f"/made/up/{number}")
    text = client.get("/metrics").text
    assert 'vision_jax_requests_total{path="/api/health",status="200"}' in text
    assert 'vision_jax_requests_total{path="other",status="404"}' in text
    assert "made/up" not in text
    assert 'vision_jax_index_images{index="digits"} 48.0' in text
