"""Bad input: one line, and the field that is wrong."""

import json

import pytest

BAD = {
    "queries": [({}, "queries"), ({"queries": []}, "queries"), ({"queries": {}}, "queries")],
    "kinds": [
        ({"queries": [{}]}, "queries.0"),
        ({"queries": [3]}, "queries.0"),
        ({"queries": [{"key": "KEY", "vector": [1]}]}, "queries.0"),
        ({"queries": [{"key": "KEY", "unlike": []}]}, "queries.0.unlike"),
        ({"queries": [{"key": "KEY"}, {"like": []}]}, "queries.1.like"),
        ({"queries": [{"like": [{"key": "gone"}]}]}, "queries.0.like.0.key"),
        ({"queries": [{"like": [{}]}]}, "queries.0.like.0"),
        ({"queries": [{"key": "KEY", "keys": 1}]}, "queries.0.keys"),
        ({"queries": [{"key": "gone"}]}, "queries.0.key"),
        ({"queries": [{"key": 7}]}, "queries.0.key"),
        ({"queries": [{"key": "KEY"}] * 65}, "queries"),
        (
            {"queries": [{"like": [{"key": "KEY"}], "unlike": [{"key": "KEY"}] * 33}]},
            "queries.0.unlike",
        ),
    ],
    "images": [
        ({"queries": [{"image": "no base64!"}]}, "queries.0.image"),
        ({"queries": [{"image": ""}]}, "queries.0.image"),
        ({"queries": [{"image": "aGVsbG8="}]}, "queries.0.image"),
        ({"queries": [{"image": "data:image/png,hello"}]}, "queries.0.image"),
        ({"queries": [{"key": "KEY", "box": [0, 0, 1, 1]}]}, "queries.0.box"),  # a dense network
        ({"queries": [{"key": "KEY", "box": [0.5, 0, 0.2, 1]}]}, "queries.0.box"),
        ({"queries": [{"key": "KEY", "box": [0, 0, 1]}]}, "queries.0.box"),
        ({"queries": [{"vector": [1], "box": [0, 0, 1, 1]}]}, "queries.0.box"),
    ],
    "vectors": [
        ({"queries": [{"vector": [1, 2]}]}, "queries.0.vector"),
        ({"queries": [{"vector": [0, 0]}]}, "queries.0.vector"),
        ({"queries": [{"vector": []}]}, "queries.0.vector"),
        ({"queries": [{"vector": [1, "2"]}]}, "queries.0.vector.1"),
        ({"queries": [{"vector": [1, 1e300]}]}, "queries.0.vector.1"),
        ({"queries": [{"vector": [True]}]}, "queries.0.vector.0"),
    ],
    "options": [
        ({"k": 0}, "k"),
        ({"k": "5"}, "k"),
        ({"k": 5.5}, "k"),
        ({"k": 1001}, "k"),
        ({"offset": -1}, "offset"),
        ({"offset": 990}, "offset"),
        ({"offset": 1, "mmr": 0.5}, "offset"),
        ({"min_score": 2}, "min_score"),
        ({"fold": 0}, "fold"),
        ({"mmr": -0.1}, "mmr"),
        ({"index": "other"}, "index"),
        ({"where": []}, "where"),
        ({"where": {"label": "x"}}, "where.label"),
        ({"where": {"labels": "x"}}, "where.labels"),
        ({"where": {"labels": [1]}}, "where.labels.0"),
        ({"where": {"from": "2024-13"}}, "where.from"),
        ({"where": {"to": "yesterday"}}, "where.to"),
        ({"where": {"conditions": ["label"]}}, "where.conditions.0"),
        ({"where": {"conditions": ["nothing=1"]}}, "where.conditions"),
    ],
}


@pytest.mark.parametrize("kind", BAD)
def test_a_wrong_field_is_named(client, keys, kind):
    for body, field in BAD[kind]:
        if kind == "options":
            body = {"queries": [{"key": "KEY"}], **body}
        text = json.dumps(body).replace('"KEY"', json.dumps(keys[0]))
        headers = {"Content-Type": "application/json"}
        answer = client.post("/api/search", content=text, headers=headers)
        error = answer.json()["error"]
        assert (answer.status_code, error["field"]) == (400, field), (body, error)
        assert "\n" not in error["message"]
        assert len(error["message"]) < 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"queries": NaN}',
        b"\xff\xfe",
        b'{"queries":' + b"[" * 100_000,
        b'{"queries": [{"vector": [' + b"9" * 5000 + b"]}]}",
    ],
)
def test_what_is_no_json_is_refused(client, body):
    headers = {"Content-Type": "application/json"}
    answer = client.post("/api/search", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


GETS = [
    ("/api/item", 400, "key"),
    ("/api/item?key=gone", 404, "key"),
    ("/api/item?key=a&key=b", 400, "key"),
    ("/api/item?key=a&what=b", 400, "what"),
    ("/api/item?key=a&index=b", 400, "index"),
    ("/api/neighbours?key=gone", 404, "key"),
    ("/api/neighbours?key=gone&k=x", 400, "k"),
    ("/api/browse?limit=0", 400, "limit"),
    ("/api/browse?offset=-1", 400, "offset"),
    ("/api/browse?from=May", 400, "from"),
    ("/api/thumbnail?key=gone", 404, "key"),
    ("/api/thumbnail?key=gone&side=0", 400, "side"),
    ("/api/info?x=1", 400, "x"),
    ("/nothing", 404, None),
    ("/page/nothing.js", 404, None),
]


@pytest.mark.parametrize(("path", "status", "field"), GETS)
def test_a_wrong_address_is_refused(client, path, status, field):
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)


def test_another_method_or_type_is_refused(client):
    assert client.get("/api/search").status_code == 405
    assert client.post("/api/info").status_code == 405
    answer = client.post("/api/search", data={"queries": "x"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]["message"]


def test_explain_names_the_field(client, keys):
    for body, field in (
        ({}, "query"),
        ({"query": {"key": keys[0]}}, "key"),
        ({"query": {"key": keys[0]}, "key": "gone"}, "key"),
        ({"query": {"key": "gone"}, "key": keys[0]}, "query.key"),
        ({"query": {"vector": [1]}, "key": keys[0]}, "query.vector"),
    ):
        answer = client.post("/api/explain", json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
