"""Tensors of every format equal what the libraries that wrote the files had in memory."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.weights.pretrained import find_pretrained
from vision_jax.weights.state_dicts import Storage, Tensor, state_dict
from vision_jax.weights.tensors import read_tensors

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def expected():
    with np.load(FIXTURES / "expected.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize("name", ["zip.pth", "zip_protocol4.pth", "legacy.pth", "file.safetensors"])
def test_every_tensor_equals_that_of_pytorch(name, expected):
    tensors = read_tensors(FIXTURES / name)
    assert list(tensors) == list(expected) or name.endswith("safetensors")
    assert tensors.keys() == expected.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, expected[key], err_msg=key)
        assert tensor.dtype == expected[key].dtype, key


def test_the_published_file_of_efficientnet_lite0_is_read():
    path, _ = find_pretrained("efficientnet_lite0")
    tensors = read_tensors(path)
    content = hashlib.sha256()
    for name in sorted(tensors):
        content.update(name.encode() + tensors[name].tobytes())
    assert sum(not tensor.flags.c_contiguous for tensor in tensors.values()) == 50
    # That of the tensors that torch.load gives.
    assert content.hexdigest().startswith("005bdebd355e2b7f8f306bd4d3e0452d87921d44")


@pytest.mark.parametrize("name", ["wrapped.pth", "wrapped_legacy.pth"])
def test_a_training_checkpoint_is_unwrapped(name):
    tensors = read_tensors(FIXTURES / name)
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(tensors) == ["conv.weight", "conv.bias", *(f"norm.{part}" for part in norm)]
    np.testing.assert_array_equal(tensors["norm.running_var"], [1, 1])
    assert tensors["conv.weight"].shape == (2, 1, 3, 3)


def test_tensors_with_attributes_and_of_newer_types_are_read():
    tensors = read_tensors(FIXTURES / "odd.pth")
    np.testing.assert_array_equal(tensors["tagged"], np.ones(2, np.float32))
    np.testing.assert_array_equal(tensors["new"], np.array([65535, 1], np.uint16))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("whole_model.pth", r"byte 21.*'__main__\.Model'.*state_dict"),
        ("script.pth", "TorchScript"),
        ("negative.pth", "negated"),
        ("other.pkl", "none that torch.save wrote"),
    ],
)
def test_other_things_that_pytorch_writes_are_refused(name, reason):
    with pytest.raises(InputError, match=reason):
        read_tensors(FIXTURES / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n  <html lang=en>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x05\x06" + bytes(18), "zip archive of other things"),
        (b"PK\x03\x04", "damaged or cut short"),
        (b"hello", "no known format.*hello"),
    ],
)
def test_what_holds_no_weights_is_named(tmp_path, content, reason):
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_tensors(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_tensors(tmp_path / "none")
    with pytest.raises(InputError, match="is no file"):
        read_tensors("/dev/zero")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "module._orig_mod."])
def test_wrappers_in_any_order_are_taken_off(prefix):
    one = Tensor(Storage("0", np.dtype(np.float32), 0, 2), np.dtype(np.float32), 0, (2,), (1,))
    tensors = {f"{prefix}{name}": one for name in ("conv.weight", "module.bias")}
    assert state_dict(Path("x.pth"), tensors).keys() == {"conv.weight", "module.bias"}
