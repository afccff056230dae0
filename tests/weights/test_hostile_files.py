"""Files made to harm, or damaged anywhere: one line names the fault, and nothing is executed."""

import io
import json
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import flax.serialization
import h5py
import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.weights.pytorch import LEGACY_MAGIC
from vision_jax.weights.tensors import read_tensors

FIXTURES = Path(__file__).parent / "fixtures"
FLOATS = b"ctorch\nFloatStorage\n"


class Runs:
    """Pickled as a call of `os.system`."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return (
        b"J" + struct.pack("<i", value) if value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)
    )


def sizes(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(count=4, kind=FLOATS):
    return b"(" + text("storage") + kind + text("0") + text("cpu") + number(count) + b"tQ"


def tensor(shape=(4,), strides=(1,), offset=0, of=None):
    arguments = (of or storage()) + number(offset) + sizes(shape) + sizes(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"\x89}tR"


def holding(value, name=None):
    return b"\x80\x02}" + (name or text("w")) + value + b"s."


def write_zip(path, program, data=bytes(16)):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", data)
    return path


def write_legacy(path, program, data=bytes(16)):
    heads = b"".join(pickle.dumps(each, 2) for each in (LEGACY_MAGIC, 1001, {}))
    tail = pickle.dumps(["0"], 2) + struct.pack("<q", len(data) // 4) + data
    path.write_bytes(heads + program + tail)
    return path


def refused(path, reason="."):
    with pytest.raises(InputError, match=reason) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(path))


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_the_pickles_written_here_are_read_if_they_are_right(tmp_path, write):
    data = np.arange(4, dtype="<f4")
    path = write(tmp_path / "a", holding(tensor((2, 2), (1, 2))), data.tobytes())
    np.testing.assert_array_equal(read_tensors(path)["w"], data.reshape(2, 2).T)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_calls_anything_is_refused_and_nothing_runs(tmp_path, write, protocol):
    program = pickle.dumps({"w": Runs(f"touch {tmp_path}/ran")}, protocol)
    refused(write(tmp_path / "a", program), r"byte \d+: it asks to call 'posix\.system'")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (holding(b"cbuiltins\neval\n(" + text("1") + b"tR"), r"builtins\.eval"),
        (holding(b"(cos\nsystem\n" + text("true") + b"o"), "instruction b'o'"),
        (holding(b"(" + text("true") + b"ios\nsystem\n"), "instruction b'i'"),
        (holding(b"\x82\x01"), "instruction"),
        (holding(tensor() + b"}b"), "a Tensor is given a state"),
        (holding(tensor() + b")R"), "a Tensor is called"),
        (holding(tensor((5,))), "reaches beyond the 4 elements"),
        (holding(tensor((4,), (2,))), "reaches beyond"),
        (holding(tensor((2,), (1,), 3)), "reaches beyond"),
        (holding(tensor((2,), (-1,), 3)), "a tensor's strides"),
        (holding(tensor((-2,))), "a tensor's shape"),
        (holding(tensor((2,), (1,), -1)), "a tensor's offset"),
        (holding(tensor((1,) * 40, (1,) * 40)), "at most 32"),
        (holding(tensor((2, 2), (1,))), "strides"),
        (holding(tensor((2**40,), (0,))), "'w'.*too much for a file of its size"),
        (
            holding(tensor((5,), of=storage(5))),
            "'w' needs storage '0' to have 5 elements; it has 4",
        ),
        (holding(tensor((2**40,), (1,), of=storage(2**40))), "too much for a file of its size"),
        (holding(tensor(of=storage(kind=b"ctorch\nComplexFloatStorage\n"))), "ComplexFloat"),
        (holding(tensor(of=storage(-4))), "storage '0': its size"),
        (holding(tensor(of=b"N")), "view of None"),
        (holding(tensor(), name=b"]"), "a list is a key"),
        (b"\x80\x02}" + (text("w") + tensor() + b"s") * 2 + b".", "'w' stands there twice"),
        (holding(b"h\x07"), "damaged"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02}" + b"X\xff\xff\xff\xff", "bytes are to follow"),
        (b"\x80\x02}\x8e" + b"\xff" * 8, "bytes are to follow"),
        (b"\x80\x02X\x02\x00\x00\x00\xff\xff.", "damaged"),
        (b"\x80\x02].", "a list; it must be a state dict"),
        (b"\x80\x02" + b"(" * 20_000 + b"t" * 20_000 + b".", "it must be a state dict"),
        (b"\x80\x02}" + b")\x85" * 20_000 + b"Ns.", "damaged|it must be"),
    ],
)
def test_pickles_that_lie_are_refused(tmp_path, write, program, reason):
    refused(write(tmp_path / "a", program), reason)


def test_big_memo_numbers_take_no_memory(tmp_path):
    path = write_zip(tmp_path / "a", holding(tensor() + b"r\xff\xff\xff\xff"))
    np.testing.assert_array_equal(read_tensors(path)["w"], np.zeros(4))


def test_big_endian_storages_are_swapped(tmp_path):
    data = np.arange(4, dtype=">f4")
    write_zip(tmp_path / "a", holding(tensor()), data.tobytes())
    with zipfile.ZipFile(tmp_path / "a", "a") as archive:
        archive.writestr("archive/byteorder", "big")
    np.testing.assert_array_equal(read_tensors(tmp_path / "a")["w"], data)


def write_safetensors(path, header, data=bytes(16)):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + data)
    return path


def entry(dtype="F32", shape=(4,), offsets=(0, 16), **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (
            {"w": entry(shape=[2**40], offsets=(0, 2**42))},
            "its tensors take 4,398,046,511,104 bytes",
        ),
        ({"w": entry(shape=[2**62, 2**62])}, "'w' of shape"),
        ({"w": entry(shape=[5])}, "'w'.*needs 20 bytes"),
        ({"w": entry(shape=[-2, -2])}, "'w': its shape"),
        ({"w": entry(shape=[4.0])}, "'w': its shape"),
        ({"w": entry(shape=[True, 4])}, "'w': its shape"),
        ({"w": entry(shape="4")}, "'w': its shape"),
        ({"w": entry(offsets=(0, 16, 16))}, "'w': its data_offsets"),
        ({"w": entry(offsets=(16, 0))}, "'w'.*needs 16 bytes"),
        ({"w": entry(shape=[2], offsets=(8, 16))}, "'w' begins at byte 8"),
        ({"v": entry(), "w": entry()}, "'w' begins at byte 0"),
        ({"w": entry(shape=[2], offsets=(0, 8))}, "damaged or cut short"),
        ({"w": entry(dtype="F8_E4M3", shape=[16])}, "'w' is of type 'F8_E4M3'"),
        ({"w": entry(dtype=["F32"])}, "'w' is of type a list"),
        ({"w": entry(more=1)}, "'w' needs a dtype"),
        ({"w": 3}, "'w' needs a dtype"),
        ({"a\nb": entry()}, r"'a\\nb' is no name"),
        ({"\ud800": entry()}, "is no name"),
        (b'{"w": 1, "w": 2}', "'w' stands there twice"),
        (b'{"w": NaN}', "NaN is not JSON"),
        (b'{"w"' + b" " * 20, "header is damaged"),
        (b'{"w": ' + b"[" * 100_000, "nested too deeply|damaged"),
        (b'{"w": ' + b"9" * 5000 + b"}", "header is damaged"),
        (b'{"\xff": 1}', "header is damaged"),
        ({}, "take 0 bytes"),
    ],
)
def test_safetensors_headers_that_lie_are_refused(tmp_path, header, reason):
    refused(write_safetensors(tmp_path / "a", header), reason)


@pytest.mark.parametrize("length", [17, 2**40, 2**63, 2**64 - 1])
def test_a_header_that_asks_for_terabytes_is_refused(tmp_path, length):
    (tmp_path / "a").write_bytes(length.to_bytes(8, "little") + b"{" + bytes(15))
    refused(tmp_path / "a", "bytes 0 to 7 say that the header takes")


def contents():
    """Small files of every format, as bytes."""
    arrays = {f"layer/w{size}": np.arange(size, dtype=np.float32) for size in (1, 6, 3)}
    for name in ("zip.pth", "legacy.pth", "file.safetensors", "wrapped.pth"):
        yield name, (FIXTURES / name).read_bytes()
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **arrays)
        yield save.__name__, file.getvalue()
    yield "msgpack", flax.serialization.msgpack_serialize({"params": arrays})
    file = io.BytesIO()
    with h5py.File(file, "w") as group:
        for name, array in arrays.items():
            group[name] = array
    yield "h5", file.getvalue()


CONTENTS = dict(contents())


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_cut_short_anywhere_is_refused(tmp_path, name):
    whole = CONTENTS[name]
    path = tmp_path / "a"
    path.write_bytes(whole)
    expected = read_tensors(path)
    for length in random.Random(0).sample(range(len(whole)), min(60, len(whole))):
        path.write_bytes(whole[:length])
        if name != "h5":
            refused(path)
            continue
        try:  # HDF5 may end in bytes that no tensor needs
            tensors = read_tensors(path)
        except InputError:
            continue
        assert all(np.array_equal(tensors[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", [name for name in CONTENTS if name != "h5"])
def test_bytes_changed_anywhere_give_tensors_or_one_line(tmp_path, name):
    whole = CONTENTS[name]
    path = tmp_path / "a"
    draw = random.Random(1)
    lines = []
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(whole))] = draw.choice(
                [0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)]
            )
        path.write_bytes(damaged)
        try:
            tensors = read_tensors(path)
        except InputError as error:
            lines.append(str(error).count("\n"))
        else:
            assert all(np.array(tensor).nbytes < 10_000 for tensor in tensors.values())
    assert sum(lines) == 0
