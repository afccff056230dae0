"""Strip metadata from image files, for those in which only the metadata is damaged."""

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_XMP = b"XML:com.adobe.xmp"
_JPEG = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_SOS, _APP1 = 0xDA, 0xE1
_JPEG_DROPPED = frozenset((*range(0xE2, 0xEE), 0xEF, 0xFE))
"""Application data and comments, but for APP0 (JFIF), APP1 (EXIF) and APP14 (Adobe's colours)."""


def without_metadata(data: bytes, *, keep_orientation: bool) -> bytes:
    """Strip what the pixels do not depend on: text, profiles, thumbnails.

    Args:
        data: an image file.
        keep_orientation: keep EXIF and XMP data, which hold the orientation.

    Returns:
        The stripped file of a PNG or JPEG; any other file, or a truncated one, unchanged.
    """
    try:
        if data.startswith(_PNG):
            return _png(data, keep_orientation)
        if data.startswith(_JPEG):
            return _jpeg(data, keep_orientation)
    except (struct.error, IndexError):
        pass
    return data


def with_end(data: bytes) -> bytes | None:
    """Append an end marker to a truncated JPEG, so that decoders read what is there.

    Returns:
        The file, or None if it is not a JPEG.
    """
    return data + _JPEG_END if data.startswith(_JPEG) else None


def _png(data: bytes, keep_orientation: bool) -> bytes:
    kept, at = [_PNG], len(_PNG)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        turns = kind == b"eXIf" or data.startswith(_XMP, at + 8)
        if kind in _PNG_KEPT or (turns and keep_orientation):
            kept.append(data[at:end])
        at = end
    return b"".join(kept) if at == len(data) else data


def _jpeg(data: bytes, keep_orientation: bool) -> bytes:
    kept, at = [_JPEG], 2
    while data[at] == 0xFF and data[at + 1] != _SOS:
        (length,) = struct.unpack_from(">H", data, at + 2)
        end, kind = at + 2 + length, data[at + 1]
        if kind not in _JPEG_DROPPED and (kind != _APP1 or keep_orientation):
            kept.append(data[at:end])
        at = end
    return b"".join(kept) + data[at:]
