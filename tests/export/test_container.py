"""Damaged, newer and hostile exports are refused in one line."""

import io
import json
import zipfile

import numpy as np
import pytest

from vision_jax import load_export, write_export
from vision_jax.errors import InputError
from vision_jax.export import container
from vision_jax.export.contents import Rows


@pytest.fixture(scope="module")
def whole(run, index, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "digits.vjx"
    write_export(run, path, index=index)
    return path.read_bytes()


def parts_of(whole):
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def parts_or_none(data):
    try:
        return parts_of(data)
    except Exception:
        return None


def repacked(path, parts, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def refused(path, words):
    with pytest.raises(InputError, match=words) as error:
        load_export(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_export_is_refused(whole, share, tmp_path):
    path = tmp_path / "a.vjx"
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "is no export, or is truncated")


def test_an_altered_export_is_refused(whole, tmp_path):
    path, random = tmp_path / "a.vjx", np.random.default_rng(0)
    for place in random.integers(0, len(whole), 30):
        data = bytearray(whole)
        data[place] ^= 0x10
        path.write_bytes(data)
        if parts_or_none(bytes(data)) == parts_of(whole):
            assert load_export(path).index is not None  # a date in the archive says nothing
        else:
            refused(path, "a.vjx")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "of version 2, .* reads version 1"),
        ({"format": "other"}, "is no export"),
        ({"image": {"height": "8"}}, "lacks a field"),
        ({"files": []}, "lacks a field"),
        ({"index": None}, "are needed"),
        ({"index": {"count": 1 << 40, "dim": 64, "views": 1, "about": None}}, "has not the shape"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(whole, change, words, tmp_path):
    parts = parts_of(whole)
    manifest = json.loads(parts["manifest.json"]) | change
    repacked(tmp_path / "a.vjx", parts | {"manifest.json": json.dumps(manifest)})
    refused(tmp_path / "a.vjx", words)


def test_a_compressed_export_is_refused(whole, tmp_path):
    repacked(tmp_path / "a.vjx", parts_of(whole), zipfile.ZIP_DEFLATED)
    refused(tmp_path / "a.vjx", "another size")


def test_an_encoder_that_jax_cannot_read_is_refused(whole, tmp_path):
    manifest = json.loads(parts_of(whole)["manifest.json"])
    del manifest["files"]
    manifest["index"] = None
    container.write(tmp_path / "a.vjx", manifest, b"not an encoder" * 9, None)
    refused(tmp_path / "a.vjx", "was written by jax .* cannot read its encoder")


def test_an_index_that_no_one_exports_is_refused(whole, tmp_path):
    manifest = json.loads(parts_of(whole)["manifest.json"])
    del manifest["files"]
    manifest["index"] |= {"count": 2, "dim": 1}
    vectors, ids = np.ones((2, 1), np.float32), np.array([1, 1])
    container.write(tmp_path / "a.vjx", manifest, b"", Rows(vectors, ids, [{}, {}]))
    refused(tmp_path / "a.vjx", "not one that was exported here")
    objects = io.BytesIO()
    np.save(objects, np.array([{}]), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "a.vjx") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    repacked(tmp_path / "b.vjx", parts | {"ids.npy": objects.getvalue()})
    refused(tmp_path / "b.vjx", "another size|altered")


@pytest.mark.parametrize("data", [b"", b"PK", b"VJXINDEX" * 20, b"\0" * 999])
def test_what_is_no_export_is_refused(data, tmp_path):
    (tmp_path / "a.vjx").write_bytes(data)
    refused(tmp_path / "a.vjx", "is no export")


def test_no_file_and_a_folder_are_refused(tmp_path):
    refused(tmp_path / "a.vjx", "does not exist; an export")
    refused(tmp_path, "is a folder; an export")
