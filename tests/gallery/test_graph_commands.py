"""Approximate search as users have it: indexed with a graph, searched, updated and served."""

import sys

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from vision_jax.cli import main
from vision_jax.gallery import load_index
from vision_jax.search import hnsw
from vision_jax.serve.server import Service

COUNT = 1100


@pytest.fixture
def folder(digits, tmp_path):
    """Digits as photographs, by class."""
    for number, (image, label) in enumerate(zip(*digits, strict=True)):
        (tmp_path / "digits" / str(label)).mkdir(parents=True, exist_ok=True)
        if number < COUNT:
            name = tmp_path / "digits" / str(label) / f"{number}.png"
            Image.fromarray(image[..., 0]).save(name)
    return tmp_path / "digits"


def told(capsys, *words):
    """The exit code, and the lines on stdout and stderr."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    shown = [line for line in printed.err.splitlines() if "%|" not in line and line.strip()]
    return code, printed.out.splitlines(), shown  # without progress bars


def keys(lines):
    return [line.split()[-1] for line in lines if line.startswith("    ")]


@pytest.mark.slow
def test_a_graph_is_written_searched_updated_and_served(
    workdir, folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(hnsw, "WORTHWHILE", 1.0)  # so few images are searched exactly otherwise
    path = tmp_path / "digits.index"
    indexing = ["index", workdir, "--images", folder, "--out", path]
    code, out, err = told(capsys, *indexing, "--method", "hnsw", "--recall", 0.99)
    assert (code, err) == (0, [])
    assert f"{COUNT} images" in out[0]
    assert "method hnsw finds" in out[1]
    assert load_index(path).graph.recall >= 0.99
    query = folder / "7" / "7.png"
    for options in (
        [],
        ["--where", "label=3"],
        ["--where", "label=7", "--k", 100, "--fold", 0.999],
    ):
        exact = told(capsys, "search", path, query, *options)
        found = told(capsys, "search", path, query, *options, "--method", "hnsw")
        assert found[0] == exact[0] == 0
        assert len(keys(found[1])) == len(keys(exact[1])) > 0
        assert len(set(keys(found[1])) & set(keys(exact[1]))) >= 0.9 * len(keys(exact[1]))

    for gone in sorted(folder.glob("3/*.png"))[:5]:
        gone.unlink()
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(folder / "3" / "new.png")
    code, out, err = told(capsys, *indexing)  # the file's graph follows
    assert (code, err) == (0, [])
    assert "(1 embedded, 1095 kept, 5 removed)" in out[0]
    assert "method hnsw finds" in out[1]
    index = load_index(path)
    assert (len(index), index.graph.target) == (COUNT - 4, 0.99)
    newest = told(capsys, "search", path, folder / "3" / "new.png", "--k", 1, "--method", "hnsw")
    assert keys(newest[1])[0].endswith("new.png")

    service = Service([path], cache=tmp_path / "thumbnails", method="hnsw")
    with TestClient(service.app, base_url="http://127.0.0.1:8000") as client:
        rows = index.metadata(index.ids)
        asked = {"queries": [{"key": row["key"]} for row in rows[:20]], "k": 5}
        answer = client.post("/api/search", json=asked)
        assert answer.status_code == 200, answer.text
        truth = index.search_by_id(index.ids[:20], 5)[0]
        scores = [[hit["score"] for hit in result["hits"]] for result in answer.json()["results"]]
        assert (np.abs(np.array(scores) - truth) < 1e-5).mean() >= 0.95
    service.close()


def test_bad_options_are_refused_before_work_begins(tmp_path, capsys, monkeypatch):
    out = tmp_path / "digits.index"
    indexing = ["index", tmp_path / "no_run", "--images", "nowhere", "--out", out]
    for options, message in (
        (["--recall", 0.9], "--recall is 0.9, but --method is None; 'hnsw' is needed"),
        (["--method", "hnsw", "--recall", 2], "--recall is 2.0; a share in (0, 1], such as 0.97,"),
    ):
        code, _, err = told(capsys, *indexing, *options)
        assert (code, len(err)) == (2, 1)
        assert message in err[0]
    monkeypatch.setitem(sys.modules, "faiss", None)
    for words in (
        [*indexing, "--method", "hnsw"],
        ["search", tmp_path / "none.index", "none.png", "--method", "hnsw"],
        ["serve", tmp_path / "none.index", "--method", "hnsw"],
    ):
        code, _, err = told(capsys, *words)
        assert (code, len(err)) == (2, 1)
        assert "pip install 'vision_jax[ann]'" in err[0]
