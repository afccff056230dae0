"""`vision-jax serve` under load: 20 clients searching by key, and clients that misbehave.

Command: python experiments/benchmarks/serve.py make DIR [--items 1000000] [--dtype int8]
         python experiments/benchmarks/serve.py latency DIR [--clients 20] [--seconds 60]
         python experiments/benchmarks/serve.py abuse DIR [--requests 10000]

`make` writes an index of random vectors with metadata, and the true neighbours of some of them by
NumPy. Random vectors are the worst case: none is much nearer than the others. The server runs as a
process of its own on the same machine as the clients, whose time counts too. Every answer to a
proper request is compared with the truth. No image is embedded.
"""

import argparse
import base64
import http.client
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

TRUTHS, K = 500, 20
TOLERANCE = 1e-5  # of a cosine in float32
PATIENCE = 60  # seconds until an answer counts as hanging


def main() -> None:
    """Parse the command line and run what it names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("make", "latency", "abuse"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    {"make": make, "latency": latency, "abuse": abuse}[options.what](options)


def make(options: argparse.Namespace) -> None:
    """Write the index and the truth."""
    from vision_jax import CosineIndex

    options.folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((options.items, options.dim), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    about = {
        **{"workdir": "/nowhere", "step": 0, "source": "random", "split": "all"},
        "encoder": "none",
    }
    index = CosineIndex(options.dim, dtype=options.dtype, about=about)
    rows = [
        {"key": key_of(i), "digest": "", "split": "all", "label": f"class {i % 100}"}
        for i in range(options.items)
    ]
    index.add(vectors, metadata=rows)
    index.save(options.folder / "random.index")
    vectors = index.vectors(index.ids)  # as they are held
    asked = draw.choice(options.items, TRUTHS, replace=False)
    cosines = vectors[asked] @ vectors.T
    cosines[np.arange(TRUTHS), asked] = -1
    best = np.argpartition(-cosines, K + 1, axis=1)[:, : K + 1]
    scores = np.take_along_axis(cosines, best, 1)
    order = np.argsort(-scores, axis=1)
    best, scores = (np.take_along_axis(part, order, 1) for part in (best, scores))
    np.savez(options.folder / "truth.npz", asked=asked, best=best, scores=scores)


def key_of(item: int) -> str:
    """Return the key of a vector."""
    return f"random/all/{item}"


class Truth:
    """The true neighbours of some vectors."""

    def __init__(self, folder: Path) -> None:
        held = np.load(folder / "truth.npz")
        self.asked, self.best, self.scores = held["asked"], held["best"], held["scores"]

    def is_right(self, place: int, answer: dict[str, Any]) -> bool:
        """Whether hits are the nearest; those of equal score may come in any order."""
        hits = answer["results"][0]["hits"]
        scores = np.array([hit["score"] for hit in hits])
        known = {key_of(i): s for i, s in zip(self.best[place], self.scores[place], strict=True)}
        return (
            len(hits) == K
            and all(
                hit["key"] in known and abs(known[hit["key"]] - hit["score"]) < TOLERANCE
                for hit in hits
            )
            and bool(np.abs(scores - self.scores[place, :K]).max() < TOLERANCE)
        )


class Server:
    """The server as a process."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "vision_jax", "serve", str(folder / "random.index")]
        self.process = subprocess.Popen(
            [*command, "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        began = time.perf_counter()
        for line in self.process.stdout:
            if line.startswith("http://"):
                self.host, _, port = line.strip().removeprefix("http://").strip("/").partition(":")
                self.port = int(port)
                break
        print(f"started in {time.perf_counter() - began:.1f} s, {self.memory():,} MiB")

    def memory(self) -> int:
        """Return the process's resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) >> 10

    def cpu(self) -> float:
        """Return the process's CPU time in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        began = time.perf_counter()
        code = self.process.wait(30)
        print(f"ended with code {code} in {time.perf_counter() - began:.1f} s")

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection."""
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)


def ask(connection: http.client.HTTPConnection, key: str) -> dict[str, Any]:
    """Search by a key."""
    body = json.dumps({"queries": [{"key": key}], "k": K})
    connection.request("POST", "/api/search", body, {"Content-Type": "application/json"})
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer


def latency(options: argparse.Namespace) -> None:
    """Measure how long clients wait that all ask again as soon as they have an answer."""
    truth, server = Truth(options.folder), Server(options.folder)
    started, until = server.cpu(), time.perf_counter() + 10 + options.seconds
    waits: list[tuple[float, float]] = []
    wrong = 0

    def client(number: int) -> int:
        draw, connection, mistakes = random.Random(number), server.connect(), 0
        while time.perf_counter() < until:
            place = draw.randrange(TRUTHS)
            began = time.perf_counter()
            answer = ask(connection, key_of(truth.asked[place]))
            waits.append((began, time.perf_counter() - began))
            mistakes += not truth.is_right(place, answer)
        return mistakes

    with ThreadPoolExecutor(options.clients) as pool:
        wrong = sum(pool.map(client, range(options.clients)))
    measured = np.array([wait for began, wait in waits if began > until - options.seconds])
    low, middle, high = np.quantile(measured, (0.01, 0.5, 0.99)) * 1000
    print(
        f"{options.clients} clients, {len(measured)} answers, {wrong} wrong: "
        f"{len(measured) / options.seconds:.0f}/s, median {middle:.0f} ms, 99th percentile "
        f"{high:.0f} ms, 1st {low:.0f} ms; server {server.memory():,} MiB, "
        f"{(server.cpu() - started) / len(waits) * 1000:.1f} ms of CPU time an answer; "
        f"load average {os.getloadavg()[0]:.1f}; clients' CPU time "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_utime:.0f} s"
    )
    server.end()


def abuse(options: argparse.Namespace) -> None:
    """Send proper requests among killed clients, slow uploads and garbage."""
    truth, server = Truth(options.folder), Server(options.folder)
    counts = dict.fromkeys(("right", "wrong", "busy", "killed", "garbage", "accepted garbage"), 0)
    lock = threading.Lock()
    slow = [_trickle(server) for _ in range(20)]

    def one(number: int) -> None:
        draw = random.Random(number)
        kind = draw.choices(("search", "kill", "garbage"), (7, 2, 1))[0]
        if kind == "search":
            place = draw.randrange(TRUTHS)
            answer = ask(server.connect(), key_of(truth.asked[place]))
            busy = "error" in answer
            told = "busy" if busy else "right" if truth.is_right(place, answer) else "wrong"
        elif kind == "kill":
            _kill(server, draw, key_of(truth.asked[0]))
            told = "killed"
        else:
            told = "garbage" if _is_refused(server, draw) else "accepted garbage"
        with lock:
            counts[told] += 1

    memory = []
    began = time.perf_counter()
    parts = 10
    with ThreadPoolExecutor(options.clients) as pool:
        for part in range(parts):
            size = options.requests // parts
            list(pool.map(one, range(part * size, (part + 1) * size)))
            memory.append(server.memory())
    print(f"{options.requests} requests in {time.perf_counter() - began:.0f} s: {counts}")
    print(f"memory after each tenth, MiB: {memory}")
    left = sum(_is_open(connection) for connection in slow)
    print(f"slow uploads left open: {left} of {len(slow)}")
    print(f"health: {_get(server, '/api/health')}")
    server.end()


def _trickle(server: Server) -> socket.socket:
    """Begin an upload that never ends."""
    connection = socket.create_connection((server.host, server.port), timeout=PATIENCE)
    head = f"POST /api/search HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode())

    def send() -> None:
        try:
            while True:
                connection.sendall(b"{")
                time.sleep(1)
        except OSError:
            pass

    threading.Thread(target=send, daemon=True).start()
    return connection


def _is_open(connection: socket.socket) -> bool:
    try:
        connection.setblocking(False)
        while data := connection.recv(1 << 16):
            if b"408" in data:
                return False
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _kill(server: Server, draw: random.Random, key: str) -> None:
    """Send a request, or a part of one, and be gone."""
    body = json.dumps({"queries": [{"key": key}] * 8, "k": K}).encode()
    head = f"POST /api/search HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
    data = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection:
        connection.sendall(data[: draw.choice((10, len(data) // 2, len(data)))])
        if draw.random() < 0.5:
            time.sleep(draw.random() / 20)
        linger = (1).to_bytes(4, sys.byteorder) + (0).to_bytes(4, sys.byteorder)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # reset, not closed


def _is_refused(server: Server, draw: random.Random) -> bool:
    """Send what is no request, and say whether the answer is 4xx."""
    noise = draw.randbytes(draw.choice((1, 100, 10_000, 200_000)))
    image = base64.b64encode(noise).decode()
    bodies = (
        noise,
        b'{"queries": ' + b"[" * 10_000,
        b'{"queries": [{"vector": [NaN]}]}',
        json.dumps({"queries": [{"image": image}]}).encode(),
        json.dumps({"queries": [{"key": image[:5000]}]}).encode(),
        json.dumps({"queries": [{"vector": [1.0] * 511}]}).encode(),
        json.dumps({"queries": [{"key": key_of(0), "k": "20"}]}).encode(),
    )
    connection = server.connect()
    kind = draw.randrange(3)
    try:
        if kind == 0:
            raw = socket.create_connection((server.host, server.port), timeout=PATIENCE)
            raw.sendall(b"GARBAGE " + noise + b"\r\n\r\n")
            answer = raw.recv(1000)
            raw.close()
            return not answer or answer.startswith(b"HTTP/1.1 4")
        if kind == 1:
            connection.request("GET", f"/api/thumbnail?key=../../etc/passwd%00{draw.random()}")
        else:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/api/search", draw.choice(bodies), headers)
        answered = connection.getresponse()
        answered.read()
        return 400 <= answered.status < 500
    except (ConnectionError, http.client.HTTPException):
        return True  # hung up on


def _get(server: Server, path: str) -> str:
    connection = server.connect()
    connection.request("GET", path)
    return connection.getresponse().read().decode()


if __name__ == "__main__":
    main()
