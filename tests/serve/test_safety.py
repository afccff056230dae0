"""Attacks, each tried: other hosts and origins, paths and links, bombs, slow clients."""

import base64
import io
import json
import os
import shutil
import socket
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from vision_jax.gallery import build_index
from vision_jax.serve.faults import Limits
from vision_jax.serve.server import Service, listen, make_server

TOKEN = "0123456789abcdef"


def test_every_answer_has_the_policies(client, keys):
    for path in (
        "/api/health",
        "/nothing",
        "/api/item",
        "/metrics",
        f"/api/thumbnail?key={keys[0]}",
    ):
        headers = client.get(path).headers
        assert "default-src 'none'; script-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:1", 200),
        ("[::1]:8000", 200),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("192.168.0.7:8000", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_a_name_that_was_bound_to_this_machine_is_refused(client, host, status):
    answer = client.get("/api/health", headers={"Host": host})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1:8000"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_another_sites_page_is_refused(client, keys, headers, status):
    body = {"queries": [{"key": keys[0]}]}
    assert client.post("/api/search", json=body, headers=headers).status_code == status
    assert client.get("/api/health", headers=headers).status_code == status


def test_a_token_guards_all_paths(file, tmp_path):
    service = Service([file], host="0.0.0.0", token=TOKEN, cache=tmp_path)
    with TestClient(service.app, base_url="http://192.168.0.7", follow_redirects=False) as client:
        for path in ("/", "/api/info", "/api/health", "/metrics", "/page/page.js"):
            assert client.get(path).status_code == 401
            wrong = {"Authorization": "Bearer " + "0" * 16}
            assert client.get(path, headers=wrong).status_code == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/api/health", headers=right).status_code == 200
        assert client.get(f"/?token={TOKEN[:-1]}x").status_code == 401
        opened = client.get(f"/?token={TOKEN}")
        assert (opened.status_code, opened.headers["Location"]) == (303, "/")
        assert "HttpOnly" in opened.headers["Set-Cookie"]
        assert "samesite=strict" in opened.headers["Set-Cookie"].lower()
        assert client.get("/api/health").status_code == 200  # by the cookie
        assert client.get("/api/health", headers={"Host": "evil.example"}).status_code == 403
    service.close()


PATHS = [
    "/etc/passwd",
    "../../../../etc/passwd",
    "file:///etc/passwd",
    "C:\\Windows\\win.ini",
    "\0",
    "\ud800",
    "x" * 100_000,
]


@pytest.mark.parametrize("key", PATHS, ids=range(len(PATHS)))
def test_only_keys_of_the_index_open_a_file(client, folder, key):
    body = {"queries": [{"key": key}]}
    assert (
        client.post(
            "/api/search", content=json.dumps(body), headers={"Content-Type": "application/json"}
        ).status_code
        == 400
    )
    if "\ud800" in key:
        return
    for path in ("/api/thumbnail", "/api/image", "/api/item"):
        answer = client.get(path, params={"key": key[:5000]})
        assert answer.status_code == 404
        assert len(answer.content) < 1000
    outside = folder.parent / "outside.png"
    Image.new("L", (9, 9)).save(outside)
    dotted = f"{folder}/train/../../{outside.name}"
    assert client.get("/api/image", params={"key": dotted}).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/page/../server.py", "/page/%2e%2e/server.py", "/page/..%2fserver.py", "/../../etc/passwd"],
)
def test_only_the_pages_own_files_are_served(client, path):
    assert client.get(path).status_code == 404


def test_a_file_that_became_another_or_a_link_is_not_served(run, tmp_path):
    photos, secret = tmp_path / "photos", tmp_path / "secret.png"
    photos.mkdir()
    Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(secret)
    for number in range(6):
        Image.new("L", (9, 9), 40 * number).save(photos / f"{number}.png")
    (photos / "a\nb.png").write_bytes((photos / "1.png").read_bytes())
    built = build_index(run, run.open_images(photos, "files"))
    built.save(tmp_path / "photos.index")
    escaped = f"{photos}/a\\nb.png"
    keys = [str(photos / f"{number}.png") for number in range(6)] + [escaped]
    assert {row["key"] for row in built.metadata(built.ids)} == set(keys)

    (photos / "1.png").unlink()
    (photos / "1.png").symlink_to(secret)
    shutil.copy(secret, photos / "2.png")
    (photos / "3.png").unlink()
    os.mkfifo(photos / "3.png")
    (photos / "4.png").unlink()
    (photos / "4.png").symlink_to(photos / "0.png")  # an indexed image, but not this one
    (photos / "5.png").unlink()
    (photos / "a\nb.png").unlink()
    (photos / "a\nb.png").symlink_to(secret)
    service = Service([tmp_path / "photos.index"], cache=tmp_path / "cache")
    with TestClient(service.app, base_url="http://localhost") as client:
        for path in ("/api/image", "/api/thumbnail"):
            got = [client.get(path, params={"key": key}).status_code for key in keys]
            assert got == [200, 404, 404, 404, 404, 404, 404]
        answer = client.get("/api/image", params={"key": keys[1]})
        assert "has changed since it was indexed" in answer.json()["error"]["message"]
        assert len(list((tmp_path / "cache").rglob("*-*"))) == 1  # all that is kept on disk
        body = {"query": {"key": keys[1]}, "key": keys[0]}
        assert client.post("/api/explain", json=body).status_code == 400
    service.close()


def test_thumbnails_are_made_once_and_kept(client, service, keys, folder):
    first = client.get("/api/thumbnail", params={"key": keys[7], "side": 100})
    assert first.headers["Content-Type"] == "image/png"
    shown = np.asarray(Image.open(io.BytesIO(first.content)).convert("L"))
    np.testing.assert_array_equal(shown, np.asarray(Image.open(keys[7])))
    same = {"If-None-Match": first.headers["ETag"]}
    answer = client.get("/api/thumbnail", params={"key": keys[7], "side": 192}, headers=same)
    assert (answer.status_code, answer.content) == (304, b"")
    other = client.get("/api/thumbnail", params={"key": keys[8], "side": 192}, headers=same)
    assert other.status_code == 200


def test_hostile_names_come_as_json_text(client, keys, hostile):
    answer = client.get("/api/browse", params={"label": hostile})
    assert answer.headers["Content-Type"] == "application/json"
    items = answer.json()["items"]
    assert len(items) == 16
    assert {item["label"] for item in items} == {hostile}
    page = client.get(f"/{hostile}")
    assert page.headers["Content-Type"] == "application/json"
    assert "<" not in page.text


def png_of(width, height):
    """A PNG whose header asks for more pixels than it has."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(50_000, 50_000), (1 << 31 - 1, 1), (10_001, 10_000)])
def test_too_many_pixels_are_refused_before_they_are_decoded(client, size):
    image = base64.b64encode(png_of(*size)).decode()
    began = time.perf_counter()
    answer = client.post("/api/search", json={"queries": [{"image": image}]})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "queries.0.image")
    assert time.perf_counter() - began < 5


@pytest.mark.slow
def test_too_many_bytes_are_refused(client):
    head = {"Content-Type": "application/json"}
    large = client.post("/api/search", content=b" " * (Limits().body_bytes + 1), headers=head)
    assert large.status_code == 413
    told = client.post("/api/search", content=b"{}", headers={**head, "Content-Length": "9" * 30})
    assert told.status_code == 413


@pytest.fixture(scope="module")
def live(file, tmp_path_factory):
    """A server that waits for nobody longer than a second."""
    limits = Limits(body_seconds=1.0, head_seconds=1.0, connections=20)
    service = Service([file], cache=tmp_path_factory.mktemp("cache"), limits=limits)
    listening = listen("127.0.0.1", 0)
    address = listening.getsockname()
    server = make_server(service)
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
    thread.start()
    yield address
    server.should_exit = True
    thread.join(20)
    listening.close()
    service.close()


def exchange(address, data, seconds=15):
    """Send bytes, and return all that comes back until the server hangs up."""
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while part := connection.recv(1 << 16):
                answer += part
        except ConnectionError:
            pass
        return answer


HEALTH = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HEAD = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.slow
def test_slow_uploads_and_garbage_end_and_others_are_answered(live):
    slow = [
        HEAD + b"Content-Length: 1000\r\n\r\n{",
        HEAD,
        b"",
        b"GE",
        b"\x16\x03\x01 tls",
        b"\r\n" * 50,
    ]
    answers = [b""] * len(slow)

    def send(place):
        answers[place] = exchange(live, slow[place])

    threads = [threading.Thread(target=send, args=(place,)) for place in range(len(slow))]
    for thread in threads:
        thread.start()
    assert b"200 OK" in exchange(live, HEALTH)  # meanwhile
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert b"408" in answers[0]
    assert all(not answer or b" 400 " in answer for answer in answers[1:])
    assert b"200 OK" in exchange(live, HEALTH)


@pytest.mark.slow
def test_an_upload_without_a_length_is_bounded_too(live):
    part = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    with socket.create_connection(live, timeout=15) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(64):
                connection.sendall(part)
            answer = connection.recv(1 << 16)
        except ConnectionError:  # hung up on before all was sent
            answer = b""
    assert not answer or b" 413 " in answer
    assert b"200 OK" in exchange(live, HEALTH)


@pytest.mark.slow
def test_more_connections_than_allowed_are_closed_and_room_comes_back(live):
    held = [socket.create_connection(live, timeout=5) for _ in range(40)]
    time.sleep(0.2)
    for connection in held:
        connection.close()
    time.sleep(0.2)
    assert b"200 OK" in exchange(live, HEALTH)
