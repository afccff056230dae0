"""Digits in folders behind the application, hostile names among them."""

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from vision_jax.gallery import build_index, load_index
from vision_jax.run.run import load_run
from vision_jax.serve.server import Service

HOSTILE = '"><img src=x onerror=alert(1)>'
BASE = "http://127.0.0.1:8000"


@pytest.fixture(scope="package")
def run(workdir):
    return load_run(workdir)


@pytest.fixture(scope="package")
def folder(tmp_path_factory, digits):
    """48 digits in two splits of three classes, one of which has a hostile name."""
    folder = tmp_path_factory.mktemp("pictures")
    images, labels = digits
    for split, start in (("train", 0), ("test", 400)):
        for label, name in ((0, "zero"), (1, "one"), (2, HOSTILE)):
            (folder / split / name).mkdir(parents=True)
            for place in np.flatnonzero(labels[start:] == label)[:8] + start:
                Image.fromarray(images[place][..., 0]).save(folder / split / name / f"{place}.png")
    return folder


@pytest.fixture(scope="package")
def file(run, folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("indexes") / "digits.index"
    build_index(run, run.open_images(folder, "train+test")).save(path)
    return path


@pytest.fixture(scope="package")
def index(file):
    return load_index(file)


@pytest.fixture(scope="package")
def keys(index):
    return [row["key"] for row in index.metadata(index.ids)]


@pytest.fixture(scope="package")
def service(file, tmp_path_factory):
    service = Service([file], cache=tmp_path_factory.mktemp("thumbnails"))
    yield service
    service.close()


@pytest.fixture(scope="package")
def client(service):
    with TestClient(service.app, base_url=BASE) as client:  # one event loop for all requests
        yield client


@pytest.fixture
def search(client):
    """Search, and return the results."""

    def ask(*queries, **options):
        answer = client.post("/api/search", json={"queries": list(queries), **options})
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    return ask


@pytest.fixture(scope="session")
def sent():
    """How a query sends an image."""
    return lambda path: base64.b64encode(Path(path).read_bytes()).decode()


@pytest.fixture(scope="session")
def hostile():
    return HOSTILE
