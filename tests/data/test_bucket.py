"""A prepared data set in a bucket, read through Google's own client from a server in this process.

Takes the extra `gcs`; the server answers the few calls that reading takes.
"""

import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

_READ = """
import sys, numpy as np
from vision_jax.data.loader import read_all
from vision_jax.data.catalog import open_source
there, here = (read_all(open_source("digits", "test[:20]", data_dir=d)) for d in sys.argv[1:])
for name in ("image", "label"):
    np.testing.assert_array_equal(there[name], here[name])
print(len(there["image"]))
"""


def bucket(root):
    """A server of Google's storage API over the files of a folder."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            if url.path.rstrip("/").endswith("/o"):
                files = (path for path in sorted(root.rglob("*")) if path.is_file())
                items = [self.about(path) for path in files]
                items = [item for item in items if item["name"].startswith(query["prefix"])]
                return self.answer(200, json.dumps({"items": items}).encode())
            file = root / unquote(url.path.partition("/o/")[2])
            if not file.is_file():
                return self.answer(404, b"{}")
            if query.get("alt") != "media":
                return self.answer(200, json.dumps(self.about(file)).encode())
            data = file.read_bytes()
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            start = int(first) if first else max(0, len(data) - int(last))
            stop = int(last) + 1 if first and last else len(data)
            span = f"bytes {start}-{min(stop, len(data)) - 1}/{len(data)}"
            return self.answer(206, data[start:stop], {"Content-Range": span})

        def about(self, path):
            name, size = path.relative_to(root).as_posix(), str(path.stat().st_size)
            return {"bucket": "bucket", "name": name, "size": size, "generation": "1"}

        def answer(self, code, body, headers=None):
            self.send_response(code)
            stored = {"x-goog-generation": "1", "Content-Length": str(len(body))}
            for name, value in {**stored, **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            pass  # a client that has read enough closes the connection

    return Server(("127.0.0.1", 0), Handler)


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is None, reason="takes the extra gcs")
def test_a_data_set_in_a_bucket_is_the_one_in_a_folder(data_dir):
    with bucket(data_dir) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        variables = {"CLOUD_STORAGE_EMULATOR_ENDPOINT": url, "STORAGE_EMULATOR_HOST": url}
        done = subprocess.run(
            [sys.executable, "-c", _READ, "gs://bucket", str(data_dir)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **variables},
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "20"
