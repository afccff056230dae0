"""A prepared tfds data set as a source, its records read at random from ArrayRecord files."""

import dataclasses
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import Integer

from vision_jax.data.decode import read_image
from vision_jax.data.decode_all import Scan, find_bad, warn_of
from vision_jax.data.sources import Example, Source, Subset, check_shape
from vision_jax.errors import InputError

_READ_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsSource(Source):
    """A prepared tfds data set, its images kept encoded until they are read.

    Attributes:
        records: tfds's data source, of examples as they are stored.
        size: side to resize and crop to, or None.
        parts: the named splits that it is put together from, and how many of each.
    """

    records: Any
    size: int | None
    parts: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return len(self.records)

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Reads examples; see `Source.read`."""
        stored = zip(indices, self._stored(indices), strict=True)
        return [self._decode(index, features) for index, features in stored]

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """The labels of all examples; see `Source.labels`."""
        if self.label_names is None:
            return None
        return np.array([_label(features) for features in self._all_stored()], np.int32)

    def digests(self) -> list[str]:
        """A SHA-256 of each example's encoded image; see `Source.digests`."""
        return [sha256(image).hexdigest() for image in self.encoded()]

    def splits(self) -> list[str]:
        """The split of each example; see `Source.splits`."""
        return [name for name, count in self.parts for _ in range(count)]

    def encoded(self) -> Iterator[bytes]:
        """Gives every image as it is stored, such as PNG bytes."""
        return map(_image, self._all_stored())

    def _stored(self, indices: Sequence[int]) -> list[Any]:
        """The features of examples by name, as protocol buffers.

        tfds's own way from these to NumPy takes as long as decoding a small image.
        """
        from tensorflow_datasets.proto import tf_example_pb2

        parse = tf_example_pb2.Example.FromString
        records = self.records.__getitems__(list(indices))
        return [parse(record).features.feature for record in records]

    def _all_stored(self) -> Iterator[Any]:
        """The features of all examples, never of many at a time."""
        for start in range(0, len(self), _READ_AT_ONCE):
            yield from self._stored(range(start, min(start + _READ_AT_ONCE, len(self))))

    def _decode(self, index: int, features: Any) -> Example:
        channels, key = self.image_shape[-1], self.key(index)
        image = read_image(_image(features), channels=channels, size=self.size, name=key)
        check_shape(image, self.image_shape, key)
        if self.label_names is None:
            return {"image": image}
        return {"image": image, "label": _label(features)}


def _image(features: Any) -> bytes:
    return features["image"].bytes_list.value[0]


def _label(features: Any) -> int:
    return features["label"].int64_list.value[0]


def open_records(
    builder: Any, split: str, *, image_size: int | None, channels: int | None, skip: bool
) -> Source:
    """Opens a split of a prepared data set.

    Args:
        builder: tfds's builder of it.
        split: tfds's slicing syntax.
        image_size: side in pixels to resize and centre-crop to; None keeps the set's own.
        channels: 1 for grey, 3 for RGB; None keeps the set's own.
        skip: whether to leave bad images out; see `open_source`.

    Returns:
        The source.

    Raises:
        InputError: there is no such split, or the set is of another kind or format.
    """
    source = _open(builder, split, image_size=image_size, channels=channels)
    return _without_bad(source, str(builder.data_dir)) if skip else source


def _without_bad(source: TfdsSource, folder: str) -> Subset:
    """The images of a prepared set that can be decoded, with a warning of those that cannot."""
    bad = find_bad(scan_of(source, folder))
    if bad:
        what = f"skipped {len(bad)} of {len(source)} images of {source.name}, {source.split}"
        warn_of(what, list(bad.values()), source.name)
    if len(bad) == len(source):
        raise InputError(f"{source.name} holds 0 readable images at {source.split!r}")
    good = [i for i in range(len(source)) if i not in bad]
    return Subset.of(source, good, skipped=len(bad))


def scan_of(source: Source, folder: str) -> Scan:
    """How to look at every image of a source that does not change.

    Args:
        source: the images.
        folder: what tells it from another source of this name.
    """
    key = f"{folder} {source.name} {source.split} {source.image_shape}"
    name = f"{source.name} {source.split}"
    return Scan(key, lambda i: source.read([i]), len(source), name)


def _open(builder: Any, split: str, *, image_size: int | None, channels: int | None) -> TfdsSource:
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    if not isinstance(features.get("image"), tfds.features.Image):
        raise InputError(f"{builder.name} has features {list(features)}; an 'image' is needed")
    label = features.get("label")
    names = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else None
    height, width, depth = features["image"].shape
    if image_size is not None:
        height = width = image_size
    if height is None or width is None:
        raise InputError(
            f"{builder.name} has images of many sizes; --data.image-size is needed, such as 224"
        )
    try:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        records = builder.as_data_source(split=split, deserialize_method=raw)
    except (ValueError, KeyError) as error:
        splits = ", ".join(builder.info.splits)
        raise InputError(
            f"{builder.name} has nothing at {split!r}; its splits: {splits}"
        ) from error
    except NotImplementedError as error:
        raise InputError(
            f"{builder.name} in {builder.data_dir} is not in ArrayRecord format, which random "
            f"access needs; vision-jax prepare {builder.name} --data-dir ANOTHER writes it so"
        ) from error
    shape = (height, width, channels or depth)
    sizes = builder.info.splits
    parts = tuple(
        (part.splitname, len(range(sizes[part.splitname].num_examples)[part.from_ : part.to]))
        for part in tfds.core.ReadInstruction.from_spec(split).to_absolute(sizes)
    )
    return TfdsSource(builder.name, split, shape, names, records, image_size, parts)
