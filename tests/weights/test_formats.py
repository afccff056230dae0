"""Formats of NumPy, Flax and Keras: what their writers had in memory is what is read."""

import sys
import zipfile
from pathlib import Path

import flax.serialization
import h5py
import ml_dtypes
import msgpack
import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.weights.tensors import read_tensors

FIXTURES = Path(__file__).parent / "fixtures"


def make_arrays():
    rng = np.random.default_rng(0)
    return {
        "kernel": rng.normal(size=(3, 2, 4)).astype(np.float32),
        "half": rng.normal(size=5).astype(np.float16),
        "bfloat16": rng.normal(size=(2, 3)).astype(ml_dtypes.bfloat16),
        "double": rng.normal(size=2),
        "count": np.array([1, -5]),
        "mask": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
    }


def assert_read(path, arrays):
    tensors = read_tensors(path)
    assert tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        kind = np.float32 if array.dtype in (np.float16, ml_dtypes.bfloat16) else array.dtype
        assert tensors[name].dtype == kind, name
        np.testing.assert_array_equal(tensors[name], array.astype(kind), err_msg=name)


def named(arrays):
    return {f"Transformer/encoderblock_0/{name}": array for name, array in arrays.items()}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_big_vision(tmp_path, save):
    arrays = make_arrays()
    arrays["fortran"] = np.asfortranarray(arrays["kernel"])
    arrays["swapped"] = arrays["double"].astype(">f8")
    arrays["scalar"] = np.float32(2.5)[None][0]
    save(tmp_path / "weights.npz", **named(arrays))
    arrays["swapped"] = arrays["double"]
    assert_read(tmp_path / "weights.npz", {n: np.asarray(a) for n, a in named(arrays).items()})


def test_npz_of_objects_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", fine=np.ones(2), odd=np.array([{}, None], object))
    with pytest.raises(InputError, match=r"'odd\.npy' holds pickled Python objects"):
        read_tensors(tmp_path / "a.npz")


def write_npy(path, header, data=b"", packing=zipfile.ZIP_STORED):
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("w.npy", content)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }\n", "needs"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n", "damaged header"),
        (b"{'descr': '<U9', 'fortran_order': False, 'shape': (1,), }\n", "of type U9"),
        (
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 5000 + b",), }\n",
            "shape",
        ),
        (b"(" * 9000, "damaged header"),
        (b"__import__('os').abort()", "damaged header"),
    ],
)
def test_npz_headers_that_lie_are_refused(tmp_path, header, reason):
    write_npy(tmp_path / "a.npz", header, b"1234")
    with pytest.raises(InputError, match=rf"'w\.npy'.*{reason}"):
        read_tensors(tmp_path / "a.npz")


def test_what_unpacks_to_far_more_than_it_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("vision_jax.weights.limits.FREE_BYTES", 10_000)
    np.savez_compressed(tmp_path / "a.npz", w=np.zeros(100_000, np.float32))
    with pytest.raises(InputError, match="too much for a file of its size"):
        read_tensors(tmp_path / "a.npz")


def test_a_name_twice_in_an_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("w.npy", b"")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("w.npy", b"")
    with pytest.raises(InputError, match="a name twice"):
        read_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize("chunk", [None, 16])
def test_msgpack_of_flax(tmp_path, monkeypatch, chunk):
    if chunk:
        monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", chunk)
    arrays = make_arrays()
    tree = {"params": {"layers": arrays}, "step": 3, "rate": np.float32(0.5), "none": None}
    (tmp_path / "a.msgpack").write_bytes(flax.serialization.msgpack_serialize(tree))
    expected = {f"params/layers/{name}": array for name, array in arrays.items()}
    assert_read(
        tmp_path / "a.msgpack", {**expected, "step": np.array(3), "rate": np.array(0.5, "f4")}
    )


def packed_array(shape, kind, data):
    return msgpack.ExtType(1, msgpack.packb((shape, kind, data)))


CHUNK = {"__msgpack_chunked_array__": True, "shape": {"0": 4}}


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        (
            {"w": packed_array((2**40,), "float32", b"1234")},
            r"'w' of shape \(1099511627776\).*needs",
        ),
        ({"w": packed_array((-1, -1), "float32", b"1234")}, "'w': its shape"),
        ({"w": packed_array((1,), "object", b"12345678")}, "'w' is no array of a known type"),
        ({"w": packed_array((1,), "float32", None)}, "'w' of shape"),
        ({"w": msgpack.ExtType(1, b"\xff")}, "'w' is no array"),
        ({"w": msgpack.ExtType(9, b"")}, "'w' is of msgpack's type 9"),
        ({"w": CHUNK}, "'w' is an array in chunks"),
        ({"w": {**CHUNK, "chunks": {"0": packed_array((1,), "int8", b"1")}}}, "'w'.*1 elements"),
        ({"w": {**CHUNK, "chunks": {"1": packed_array((4,), "int8", b"1234")}}}, "'w'.*damaged"),
        ({"a": {"b": 1}, "a/b": 2}, "'a/b' twice"),
        ({"text": "only"}, "no tensors"),
    ],
)
def test_msgpack_trees_that_lie_are_refused(tmp_path, tree, reason):
    (tmp_path / "a").write_bytes(msgpack.packb(tree))
    with pytest.raises(InputError, match=reason):
        read_tensors(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x82\xa1w\x01\xa1w\x02", "'w' stands twice"),
        (b"\x81\xa1w" + b"\x81\xa1w" * 500 + b"\x01", "nested deeper"),
        (b"\x81\xa1w" * 5000, "no msgpack|cut short"),
        (b"\x81\xa1w\xdd\xff\xff\xff\xff", "no msgpack"),
        (b"\x81\xa1w\xc6\xff\xff\xff\xff", "no msgpack|cut short"),
        (b"\x81\xa2\xff\xff\x01", "no msgpack"),
        (b"\x81\xa1w\x01\x01", "ends at byte 4 of 5"),
        (b"\x82\xa1w\x01\x91\x01\x01", "key of a map"),
    ],
)
def test_damaged_msgpack_is_refused(tmp_path, content, reason):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_tensors(tmp_path / "a")


def write_h5(path, arrays, group="layers/dense/vars", **options):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(f"{group}/{name}", data=array, **options)


def test_h5_of_keras(tmp_path):
    arrays = make_arrays()
    del arrays["bfloat16"], arrays["mask"]
    write_h5(tmp_path / "a.weights.h5", arrays)
    named = {f"layers/dense/vars/{name}": array for name, array in arrays.items()}
    assert_read(tmp_path / "a.weights.h5", named)
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(tmp_path / "a.weights.h5", "model.weights.h5")
    assert_read(tmp_path / "a.keras", named)


KERAS_ORDER = {
    "conv": ("conv2d", ["kernel", "bias"]),
    "norm": ("batch_normalization", ["gamma", "beta", "moving_mean", "moving_variance"]),
    "head": ("dense", ["kernel", "bias"]),
}


@pytest.mark.parametrize("name", ["model.weights.h5", "model.keras", "model.h5"])
def test_files_that_keras_wrote_without_the_optimizer(name):
    with np.load(FIXTURES / "keras_expected.npz") as stored:
        weights = dict(stored)
    if name == "model.h5":
        expected = {
            f"{layer}/sequential/{layer}/{variable}": weights[f"{layer}/{variable}"]
            for layer, variable in (key.split("/") for key in weights)
        }
    else:
        expected = {
            f"layers/{kind}/vars/{number}": weights[f"{layer}/{variable}"]
            for layer, (kind, variables) in KERAS_ORDER.items()
            for number, variable in enumerate(variables)
        }
    assert len(weights) == 8
    assert_read(FIXTURES / name, expected)


def test_of_a_whole_keras_model_the_weights_alone_are_read(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["model_weights/conv/conv/kernel:0"] = np.ones((2, 3), np.float32)
        file["optimizer_weights/iteration:0"] = np.array(4)
    assert_read(tmp_path / "model.h5", {"conv/conv/kernel:0": np.ones((2, 3), np.float32)})


def link_outside(file):
    file["w"] = h5py.ExternalLink("/etc/passwd", "/")


def link_softly(file):
    file["w"] = h5py.SoftLink("/elsewhere")


def keep_outside(file):
    file.create_dataset("w", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def claim_terabytes(file):
    file.create_dataset("w", (2**40,), "f4", chunks=(1024,), compression="gzip")


def nest_in_itself(file):
    file.create_group("w")["again"] = file["/"]


def hold_text(file):
    file["w"] = "text"


def hold_nothing(file):
    file["w"] = h5py.Empty("f4")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (link_outside, "'w' is a link"),
        (link_softly, "'w' is a link"),
        (keep_outside, "'w' lies in another file"),
        (claim_terabytes, "w.*too much for a file of its size"),
        (nest_in_itself, "in itself"),
        (hold_text, "'w' is of type"),
        (hold_nothing, "'w' has no content"),
    ],
)
def test_h5_that_lies_or_points_elsewhere_is_refused(tmp_path, write, reason):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
    with pytest.raises(InputError, match=reason):
        read_tensors(tmp_path / "a.h5")


def test_without_h5py_one_line_names_the_extra(tmp_path, monkeypatch):
    write_h5(tmp_path / "a.h5", {"w": np.ones(2)})
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'vision_jax\[h5\]'"):
        read_tensors(tmp_path / "a.h5")
