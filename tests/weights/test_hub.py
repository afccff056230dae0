"""`hf://` finds files in a cache laid out as huggingface_hub lays it out, without a network."""

import sys

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants, errors

from vision_jax.errors import InputError
from vision_jax.weights.hub import library_of, local_file
from vision_jax.weights.tensors import read_tensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return a function that puts a file of a repository into the cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(repo, name, content=b"", revision="main", commit=COMMIT):
        folder = tmp_path / f"models--{repo.replace('/', '--')}"
        path = folder / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        reference = folder / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)
        return path

    return put


def test_a_path_stays_as_it_is():
    assert str(local_file("some/file.pth")) == "some/file.pth"


def test_an_owner_may_tell_the_library():
    assert library_of("hf://timm/resnet50.a1_in1k") == "timm"
    assert library_of("hf://google/vit-base-patch16-224") is None
    assert library_of("timm/resnet50.pth") is None


def test_safetensors_are_preferred_then_the_others(cache):
    last = cache("timm/lite", "pytorch_model.bin")
    assert local_file("hf://timm/lite") == last
    first = cache("timm/lite", "model.safetensors")
    assert local_file("hf://timm/lite") == first
    assert local_file("hf://timm/lite/pytorch_model.bin") == last


def test_a_revision_and_a_folder_are_followed(cache):
    other = "f" * 40
    path = cache("a/b", "deep/w.npz", revision="refs/pr/1", commit=other)
    assert local_file("hf://a/b@refs%2Fpr%2F1/deep/w.npz") == path
    assert local_file(f"hf://a/b@{other}/deep/w.npz") == path


def test_tensors_are_read_from_the_hub(cache, tmp_path):
    np.savez(tmp_path / "w.npz", w=np.arange(3))
    cache("a/b", "w.npz", (tmp_path / "w.npz").read_bytes())
    np.testing.assert_array_equal(read_tensors("hf://a/b/w.npz")["w"], [0, 1, 2])


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("hf://a/b", "cannot be reached.*no model.safetensors or pytorch_model.bin"),
        ("hf://a/b/w.bin", "cannot be reached.*no w.bin"),
        ("hf://a", "must have the form"),
        ("hf://a/b/../../w.bin", "must have the form"),
        ("hf://a--b/c/w.bin", "cannot be had"),
    ],
)
def test_what_cannot_be_had_is_named(cache, place, reason):
    with pytest.raises(InputError, match=reason) as caught:
        local_file(place)
    assert "\n" not in str(caught.value)


def error_of(kind):
    """Raise an error of huggingface_hub without the response that it wants."""

    def download(*args, **options):
        raise kind.__new__(kind)

    return download


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("GatedRepoError", "a/b is gated"),
        ("RepositoryNotFoundError", "no repository a/b"),
        ("RevisionNotFoundError", "no revision v9"),
        ("EntryNotFoundError", "a/b holds no w.bin"),
        ("LocalEntryNotFoundError", "cannot be reached"),
        ("XetDownloadError", "cannot be had"),
    ],
)
def test_what_the_hub_refuses_is_named(monkeypatch, name, reason):
    kind = getattr(errors, name)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", error_of(kind))
    with pytest.raises(InputError, match=reason):
        local_file("hf://a/b@v9/w.bin")


def test_without_huggingface_hub_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'vision_jax\[hub\]'"):
        local_file("hf://a/b")
