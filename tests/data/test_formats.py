"""Good images that are unusual: their formats, depths, colours, sizes and damaged metadata."""

import importlib.util
import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from vision_jax.data import decode, findings
from vision_jax.data.catalog import open_source
from vision_jax.data.check import check_data
from vision_jax.data.decode import BadImageError, decode_image, read_image
from vision_jax.data.loader import read_all
from vision_jax.data.resize import Resize
from vision_jax.errors import DataWarning


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits"])
def test_tiff_is_exact(compression, pixels):
    data = encoded(Image.fromarray(pixels), "TIFF", compression=compression)
    decoded = decode_image(data, channels=3)
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert (decoded.kind, decoded.notes) == ("TIFF", ())
    grey = encoded(Image.fromarray(pixels[..., 0]), "TIFF", compression=compression)
    np.testing.assert_array_equal(read_image(grey, channels=1), pixels[..., :1])


def test_a_tiff_is_upright(pixels):
    data = encoded(Image.fromarray(pixels), "TIFF", tiffinfo={0x0112: 6})
    np.testing.assert_array_equal(read_image(data, channels=3), np.rot90(pixels, -1))


def test_deep_tiffs_are_brought_to_eight_bits_or_refused(pixels):
    deep = pixels[..., 0].astype(np.uint16)
    full = encoded(Image.fromarray(deep * 257), "TIFF")
    np.testing.assert_array_equal(read_image(full, channels=1)[..., 0], pixels[..., 0])
    for values, message in (
        (deep.astype(np.int32) << 12, r"has pixels in \[0, 104\d+\]; at most 16 bits"),
        (deep.astype(np.float32) / 255, "has floating-point pixels; 8 or 16 bits"),
    ):
        with pytest.raises(BadImageError, match=message):
            read_image(encoded(Image.fromarray(values), "TIFF"), channels=1)


def test_twelve_bits_in_sixteen_are_as_bright_as_eight(pixels):
    data = encoded(Image.fromarray(pixels[..., 0].astype(np.uint16) << 4), "PNG")
    decoded = decode_image(data, channels=1)
    np.testing.assert_array_equal(decoded.pixels[..., 0], pixels[..., 0])
    assert decoded.notes == (
        "has 16-bit pixels of which none exceeds 4095, and is read as 12 bits",
    )


@pytest.mark.skipif("AVIF" not in decode.FORMATS, reason="takes Pillow with AVIF")
def test_avif_is_read_upright():
    smooth = np.broadcast_to(np.arange(0, 240, 10, dtype=np.uint8)[:, None, None], (24, 16, 3))
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encoded(Image.fromarray(smooth), "AVIF", quality=95, exif=exif)
    assert abs(read_image(data, channels=3).astype(int) - smooth[::-1, ::-1]).max() <= 4


def test_heic_is_read_or_names_the_package_that_it_takes(pixels):
    if importlib.util.find_spec("pillow_heif") is None:
        start = b"\0\0\0\x18ftypheic" + bytes(40)
        with pytest.raises(BadImageError, match=r"is HEIC, .* pip install 'vision_jax\[heic\]'"):
            read_image(start, channels=3)
        return
    import pillow_heif

    smooth = np.broadcast_to(np.arange(0, 240, 10, dtype=np.uint8)[:, None, None], (24, 16, 3))
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(smooth)).save(buffer, quality=-1)
    decoded = decode_image(buffer.getvalue(), channels=3)
    assert decoded.kind == "HEIF"
    assert abs(decoded.pixels.astype(int) - smooth).max() <= 2


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def odd_exif(*entries):
    """A TIFF header with entries of (tag, type, count, value), as cameras write badly."""
    rows = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + bytes(4)


def test_metadata_that_cannot_be_read_costs_no_pixel(pixels):
    picture = Image.fromarray(pixels)
    plain = encoded(picture, "PNG")
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 3_000_000, zip=True)
    files = {
        "broken eXIf": plain[:33] + chunk(b"eXIf", b"\0\x08garbage") + plain[33:],
        "wrong checksum": plain[:33] + chunk(b"tEXt", b"a\0b")[:-1] + b"?" + plain[33:],
        "3 MB text": encoded(picture, "PNG", pnginfo=text),
    }
    for name, data in files.items():
        decoded = decode_image(data, channels=3)
        np.testing.assert_array_equal(decoded.pixels, pixels, err_msg=name)
        assert "metadata" in decoded.notes[0] or "EXIF" in decoded.notes[0]


def test_an_odd_tag_does_not_keep_a_photograph_from_standing_upright(pixels):
    turned, resolution = (0x112, 3, 1, b"\6\0\0\0"), (0x11A, 2, 4, b"300\0")
    options = {"quality": 95, "subsampling": 0}
    plain = read_image(encoded(Image.fromarray(pixels), "JPEG", **options), channels=3)
    data = encoded(Image.fromarray(pixels), "JPEG", exif=odd_exif(turned, resolution), **options)
    np.testing.assert_array_equal(read_image(data, channels=3), np.rot90(plain, -1))


def test_a_jpeg_too_large_to_be_read_whole_is_read_at_a_reduced_scale(monkeypatch):
    steps = np.linspace(0, 255, 640, dtype=np.uint8)
    photograph = np.stack(np.broadcast_arrays(steps, steps[::-1], steps[:480, None]), -1)
    data = encoded(Image.fromarray(photograph), "JPEG", quality=95)
    whole = read_image(data, channels=3, size=60)
    for bound in (100_000, 10_000):  # above and below half of what Pillow itself opens
        monkeypatch.setattr(decode, "MAX_PIXELS", bound)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", bound)
        np.testing.assert_array_equal(read_image(data, channels=3, size=60), whole)
        with pytest.raises(BadImageError, match="640x480 pixels; at most"):
            read_image(data, channels=3)
    monkeypatch.setattr(decode, "MAX_REDUCED_PIXELS", 300_000)
    with pytest.raises(BadImageError, match="of a JPEG 300,000 if image_size is given"):
        read_image(data, channels=3, size=60)


def test_a_jpeg_without_its_last_bytes_is_refused_or_used_by_choice(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), "JPEG", quality=95, subsampling=0)
    whole, half = read_image(data, channels=3), data[: len(data) // 2]
    for cut in (data[:-2], half):
        with pytest.raises(BadImageError, match="truncated"):
            read_image(cut, channels=3)
    findings._shown.clear()
    with pytest.warns(DataWarning, match=r"a\.jpg lacks its last bytes"):
        used = read_image(data[:-2], channels=3, truncated="use", name="a.jpg")
    np.testing.assert_array_equal(used, whole)
    decoded = decode_image(half, channels=3, truncated="use")  # said once
    np.testing.assert_array_equal(decoded.pixels[:24], whole[:24])
    assert (decoded.pixels[-8:, 8:] == decoded.pixels[-1, -1]).all()
    assert decoded.notes == ("lacks its last bytes; what they held is grey",)
    with pytest.raises(BadImageError, match="not a readable image"):
        read_image(encoded(Image.fromarray(pixels), "PNG")[:-30], channels=3, truncated="use")
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(data)
    (tmp_path / "a" / "2.jpg").write_bytes(half)
    found = check_data(tmp_path, truncated="use", image_size=32)
    assert ("a/2.jpg", "lacks its last bytes; what they held is grey", False) in found.findings
    assert check_data(tmp_path, image_size=32).errors == 1
    with pytest.raises(BadImageError, match=r"a/2\.jpg is not a readable image"):
        read_all(open_source(tmp_path, "all"))
    assert len(read_all(open_source(tmp_path, "all", truncated="use"))["image"]) == 3


def profile(space, tags):
    """A colour profile of curves and primaries, of ICC's version 2."""
    blocks, table, at = [], [], 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table.append(name + struct.pack(">II", at, len(data)))
        blocks.append(data + bytes(-len(data) % 4))
        at += len(blocks[-1])
    head = struct.pack(">I4sI4s4s4s", at, b"none", 0x02100000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + b"".join(table + blocks)


def xyz(*values):
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def curve(gamma):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


WHITE = {b"wtpt": xyz(0.9642, 1.0, 0.8249), b"cprt": b"text" + bytes(5), b"desc": bytes(90)}
ADOBE = np.array([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]])
SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])


def to_srgb(linear):
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curved


def test_wide_colours_are_brought_to_srgb():
    levels = np.array([40, 90, 128, 160, 200], np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(25, 5, 3)
    columns = {name: xyz(*ADOBE[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(2.2))
    wide = profile(b"RGB ", WHITE | columns | curves)
    linear = (colours / 255) ** 2.2 @ ADOBE.T @ np.linalg.inv(SRGB).T
    expected = to_srgb(np.clip(linear, 0, 1))
    for kind in ("PNG", "TIFF"):
        data = encoded(Image.fromarray(colours), kind, icc_profile=wide)
        image = read_image(data, channels=3)
        np.testing.assert_allclose(image, expected, atol=2)
        grey = read_image(data, channels=1)[..., 0]
        np.testing.assert_allclose(grey, image @ [0.299, 0.587, 0.114], atol=1)
    same = read_image(encoded(Image.fromarray(colours), "PNG", icc_profile=b"junk"), channels=3)
    np.testing.assert_array_equal(same, colours)


def test_grey_curves_are_brought_to_srgb():
    levels = np.arange(256, dtype=np.uint8)[None]
    light = profile(b"GRAY", WHITE | {b"kTRC": curve(1.5)})
    data = encoded(Image.fromarray(levels), "PNG", icc_profile=light)
    image = read_image(data, channels=1)[..., 0]
    np.testing.assert_allclose(image, to_srgb((levels / 255) ** 1.5), atol=2)


def inks_profile():
    """A colour profile of four inks, exact where each is there in full or not at all."""
    lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    inks = np.array(list(itertools.product((0, 1), repeat=4)))
    seen = Image.fromarray((255 * (1 - inks[:, :3]) * (1 - inks[:, 3:])).astype(np.uint8)[None])
    grid = np.asarray(ImageCms.applyTransform(seen, lab))[0] ^ np.uint8([0, 128, 128])
    ramp, one = bytes(range(256)), struct.pack(">9i", *(np.eye(3, dtype=int) << 16).ravel())
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + one + ramp * 4 + grid.tobytes() + ramp * 3
    whole = bytearray(profile(b"CMYK", WHITE | {b"A2B0": table}))
    whole[12:16], whole[20:24] = b"prtr", b"Lab "
    return bytes(whole)


@pytest.mark.parametrize("channels", [1, 3])
def test_bars_are_black_beside_inks_with_a_profile(channels):
    inks = Image.fromarray(np.full((16, 48, 3), (0, 255, 255), np.uint8)).convert("CMYK")
    for options in ({}, {"icc_profile": inks_profile()}):
        data = encoded(inks, "JPEG", **options)
        found = read_image(data, channels=channels, size=48, resize=Resize(fit="pad"))
        np.testing.assert_array_equal(found[[0, 15, 32, 47]], 0)
        assert (found[24] > 100).any()


def test_an_srgb_profile_changes_nothing(pixels):
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for channels in (1, 3):
        for kind, options in (("PNG", {}), ("JPEG", {"quality": 90})):
            picture = Image.fromarray(pixels)
            plain = encoded(picture, kind, **options)
            data = encoded(picture, kind, icc_profile=same, **options)
            expected = read_image(plain, channels=channels, size=12)
            image = read_image(data, channels=channels, size=12)
            np.testing.assert_array_equal(image, expected)
