import io
import os
import pickle
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vision_jax.data import decode
from vision_jax.data.decode import BadImageError, printable, read_image, upright_size
from vision_jax.data.formats import open_image
from vision_jax.errors import InputError


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def test_png_round_trip_is_exact(pixels, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(Image.fromarray(pixels)))
    np.testing.assert_array_equal(read_image(path, channels=3), pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (28, 28), (300, 200)])
def test_a_plain_png_has_pillows_pixels(channels, size, monkeypatch):
    values = np.random.default_rng(1).integers(0, 256, (*size, channels), np.uint8)
    data = encoded(Image.fromarray(values.squeeze(-1) if channels == 1 else values))
    plain = decode._decode_plain(data, channels)
    # Only what is so large that Pillow writes it in several pieces is none.
    assert (plain is None) == (data.count(b"IDAT") > 1)
    np.testing.assert_array_equal(read_image(data, channels=channels), values)
    monkeypatch.setattr(decode, "pyspng", None)
    np.testing.assert_array_equal(read_image(data, channels=channels), values)


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (1, {}),  # RGB to grey
        (3, {"transparency": (1, 2, 3)}),
        (3, {"exif": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
    ],
)
def test_a_png_with_more_to_it_than_pixels_is_left_to_pillow(channels, options, pixels):
    assert decode._decode_plain(encoded(Image.fromarray(pixels), **options), channels) is None


def test_a_png_cut_or_changed_in_a_byte_fares_alike_without_libspng(pixels, monkeypatch):
    data = encoded(Image.fromarray(pixels))
    damaged = [data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :] for at in range(len(data))]
    damaged += [data[:end] for end in range(1, len(data))]

    def fate(data):
        try:
            return read_image(data, channels=3).tobytes()
        except BadImageError as error:
            return str(error)

    with_it = [fate(data) for data in damaged]
    monkeypatch.setattr(decode, "pyspng", None)
    assert with_it == [fate(data) for data in damaged]
    assert sum(isinstance(found, str) for found in with_it) > len(damaged) / 2


def test_grey_is_one_channel_and_widens_to_three(pixels):
    data = encoded(Image.fromarray(pixels[..., 0]))
    np.testing.assert_array_equal(read_image(data, channels=1), pixels[..., :1])
    np.testing.assert_array_equal(read_image(data, channels=3), pixels[..., :1].repeat(3, -1))


def test_transparency_is_laid_on_white(pixels):
    alpha = np.zeros(pixels.shape[:2], np.uint8)
    alpha[0] = 255
    data = encoded(Image.fromarray(np.dstack([pixels, alpha])))
    image = read_image(data, channels=3)
    np.testing.assert_array_equal(image[0], pixels[0])
    assert (image[1:] == 255).all()


def test_sixteen_bits_keep_their_high_byte():
    deep = np.array([[0, 256, 65535]], np.uint16)
    image = read_image(encoded(Image.fromarray(deep)), channels=1)
    np.testing.assert_array_equal(image[..., 0], [[0, 1, 255]])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_whose_0_is_white_is_no_negative(kind):
    grey = np.array([[0, 9, 255]], np.uint8)
    inverted = Image.fromarray((255 - grey).astype(kind) * (257 if kind == np.uint16 else 1))
    black, white = (struct.pack("<HHIHH", 262, 3, 1, zero, 0) for zero in (1, 0))
    data = encoded(inverted, "TIFF")
    assert data.count(black) == 1
    image = read_image(data.replace(black, white), channels=1)
    np.testing.assert_array_equal(image[..., 0], grey)


def test_palette_and_first_frame(pixels):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read_image(data, channels=1) == 10).all()


def png(kind, depth, samples, *chunks):
    """A PNG of one row, put together by hand, since Pillow does not write 16-bit colours."""

    def chunk(name, data):
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    row = np.array(samples, ">u2" if depth == 16 else np.uint8)
    header = struct.pack(">IIBBBBB", len(row), 1, depth, kind, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row.tobytes()))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in [*body, (b"IEND", b"")])


GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(RGB, 16, [(0x1234, 0x56FF, 0xFFFF), (0, 255, 256)]), [(0x12, 0x56, 255), (0, 0, 1)]),
        (png(GREY, 16, [0x1234, 0xFFFF], (b"tRNS", b"\x12\x34")), [(255,) * 3, (255,) * 3]),
        (png(GREY, 16, [0x1235, 0xFE00], (b"tRNS", b"\x12\x34")), [(0x12,) * 3, (0xFE,) * 3]),
        (png(GREY_ALPHA, 8, [(7, 255), (7, 0)]), [(7, 7, 7), (255, 255, 255)]),
        (png(GREY_ALPHA, 16, [(7 << 8, 65535), (7 << 8, 0)]), [(7, 7, 7), (255, 255, 255)]),
        (png(RGB_ALPHA, 16, [(256, 512, 768, 65535), (1, 2, 3, 0)]), [(1, 2, 3), (255,) * 3]),
        (png(RGB, 8, [(1, 2, 3), (4, 5, 6)], (b"tRNS", b"\0\1\0\2\0\3")), [(255,) * 3, (4, 5, 6)]),
    ],
)
def test_every_depth_and_kind_of_transparency(data, expected):
    np.testing.assert_array_equal(read_image(data, channels=3)[0], expected)


def test_a_palette_with_a_transparent_entry_is_laid_on_white(pixels):
    picture = Image.fromarray(pixels).quantize(8)
    indices, palette = np.asarray(picture), np.array(picture.getpalette()).reshape(-1, 3)
    expected = np.where((indices == 2)[..., None], 255, palette[indices])
    for kind in ("PNG", "GIF"):
        image = read_image(encoded(picture, kind, transparency=2), channels=3)
        np.testing.assert_array_equal(image, expected)


def test_the_first_frame_of_an_animation_is_taken(pixels):
    frames = [Image.fromarray(part) for part in (pixels, 255 - pixels)]
    for kind, options in (("WEBP", {"lossless": True}), ("PNG", {})):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(read_image(data, channels=3), pixels)


def test_four_inks_and_two_pictures_in_a_jpeg():
    smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    picture = Image.fromarray(smooth)
    inks = encoded(picture.convert("CMYK"), "JPEG", quality=100)
    two = encoded(picture, "MPO", save_all=True, append_images=[picture], quality=100)
    for data in (inks, two):
        assert abs(read_image(data, channels=3).astype(int) - smooth).max() <= 3


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.swapaxes(0, 1)),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: x[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda x: np.rot90(x)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "TIFF"])
def test_the_orientation_is_applied(orientation, upright, kind, pixels):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossy = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
    options = lossy.get(kind, {})
    plain = encoded(Image.fromarray(pixels), kind, **options)
    turned = encoded(Image.fromarray(pixels), kind, exif=exif, **options)
    expected = upright(read_image(plain, channels=3))
    np.testing.assert_array_equal(read_image(turned, channels=3), expected)
    with open_image(turned) as image:
        assert upright_size(image) == expected.shape[1::-1]


def test_size_resizes_the_shorter_side_and_cuts_the_centre():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    image = read_image(encoded(Image.fromarray(wide)), channels=3, size=10)
    np.testing.assert_array_equal(image, wide[:, 10:20])
    assert read_image(encoded(Image.fromarray(wide)), channels=3, size=5).shape == (5, 5, 3)


def test_bad_files_are_named(pixels, tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(encoded(Image.fromarray(pixels))[:60])
    with pytest.raises(InputError, match=r"cut\.png is not a readable image"):
        read_image(path, channels=3)
    with pytest.raises(InputError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png", channels=3)
    with pytest.raises(InputError, match="not a readable image"):
        read_image(b"<svg/>", channels=3)


def test_paths_that_are_no_files_are_named_without_waiting(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "lost.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        for name, reason in (
            ("folder.png", "is a folder"),
            ("empty.png", "is empty"),
            ("lost.png", "is a link to nowhere, which does not exist"),
            ("loop.png", "cannot be read: Too many levels of symbolic links"),
            ("pipe.png", "is a pipe, a socket or a device"),
            ("socket.png", "is a pipe, a socket or a device"),
        ):
            with pytest.raises(BadImageError, match=f"{name} {reason}"):
                read_image(tmp_path / name, channels=3)
    with pytest.raises(BadImageError, match="is a pipe, a socket or a device"):
        read_image("/dev/zero", channels=3)


def test_any_damage_is_an_image_or_an_error_and_a_cut_is_never_a_part(pixels, monkeypatch):
    """Files cut short or with bytes replaced, of every format."""
    monkeypatch.setattr(decode, "MAX_PIXELS", 10_000)  # sizes are harmed, too: large ones take long
    picture, random = Image.fromarray(pixels), np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        *(encoded(picture, kind, exif=exif) for kind in ("PNG", "JPEG", "WEBP")),
        *(encoded(picture.quantize(16), kind) for kind in ("PNG", "GIF", "BMP")),
        encoded(picture.convert("CMYK"), "JPEG"),
        encoded(Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)),
        encoded(picture, "WEBP", save_all=True, append_images=[picture.rotate(90)]),
        encoded(picture, "TIFF"),
        *([encoded(picture, "AVIF")] if "AVIF" in decode.FORMATS else []),
    ]
    outcomes = set()
    for data in files:
        whole = read_image(data, channels=3)
        for _ in range(40):
            cut = data[: random.integers(len(data))]
            try:
                np.testing.assert_array_equal(read_image(cut, channels=3), whole)
            except BadImageError:
                outcomes.add("cut")
            harmed = np.frombuffer(data, np.uint8).copy()
            harmed[random.integers(len(data), size=3)] = random.integers(256, size=3)
            try:
                outcomes.add(read_image(harmed.tobytes(), channels=3).dtype.name)
            except BadImageError:
                outcomes.add("harmed")
    assert outcomes == {"cut", "harmed", "uint8"}


def test_an_error_survives_the_way_from_a_reader_process():
    error = pickle.loads(pickle.dumps(BadImageError("a.png", "is empty")))
    assert (str(error), error.name, error.reason) == ("a.png is empty", "a.png", "is empty")


def test_any_name_can_be_printed():
    assert printable("Größe 7$.png") == "Größe 7$.png"
    assert printable(os.fsdecode(b"caf\xe9\n\x1b[1m.png")) == "caf\\xe9\\n\\x1b[1m.png"


def test_too_many_pixels_are_refused_before_they_are_decoded(pixels, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 50)
    with pytest.raises(InputError, match="9x6 pixels; at most 50"):
        read_image(encoded(Image.fromarray(pixels)), channels=3)


def test_resizing_is_the_triangle_filter_of_the_centre_square():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 44, 3), np.uint8)
    scale, centres = 30 / 12, (np.arange(12) + 0.5) * (30 / 12)

    def weights(count, start):
        distance = np.abs(np.arange(count) + 0.5 - start - centres[:, None])
        triangle = np.maximum(0, 1 - distance / scale)
        return triangle / triangle.sum(1, keepdims=True)

    rows, columns = weights(30, 0), weights(44, 7)
    expected = np.einsum("yh,hwc,xw->yxc", rows, pixels.astype(np.float64), columns)
    image = read_image(encoded(Image.fromarray(pixels)), channels=3, size=12)
    np.testing.assert_allclose(image, expected, atol=1.5)


def test_a_photograph_is_read_as_grey_as_it_looks_in_colour():
    steps = np.linspace(0, 255, 640, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(steps, steps[::-1], steps[:480, None]), -1)
    data = encoded(Image.fromarray(pixels), "JPEG", quality=95)
    colour, grey = (read_image(data, channels=channels, size=60) for channels in (3, 1))
    brightness = colour.astype(np.float64) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(grey[..., 0], brightness, atol=2)
