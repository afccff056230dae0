"""A prepared tfds data set, its records read at random from ArrayRecord files."""

import bisect
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from vision_jax.config import Truncated
from vision_jax.data.data_set import DataSet
from vision_jax.data.decode import BadImageError, read_image
from vision_jax.data.decode_all import Scan, find_bad
from vision_jax.data.findings import warn_of
from vision_jax.data.manifest import damaged
from vision_jax.data.resize import PLAIN, WITHIN, Resize, Size, sides
from vision_jax.data.sources import BadFiles, Example, Source, check_shape, evenly_spaced
from vision_jax.data.splits import parts_of
from vision_jax.errors import InputError

_READ_AT_ONCE = 1024
_LOOKED_AT = 32
_OPAQUE = {2: 1, 4: 3}
"""The channels without alpha, which is laid on white."""


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsSource(Source):
    """A prepared tfds data set, its images kept encoded until they are read.

    Attributes:
        records: tfds's data source, of examples as they are stored.
        size: what images are brought to, see `read_image`, or None.
        parts: its named splits in order, each with a number of records.
        files: the files that hold the records, each with a number of records.
        chosen: positions of the records in use; None for all.
        skipped: number of bad images left out; None if they were not looked for.
        truncated: see `read_image`.
        resize: see `read_image`.
    """

    records: Any
    size: Size | None
    parts: tuple[tuple[str, int], ...]
    files: tuple[tuple[str, int], ...]
    chosen: tuple[int, ...] | None = None
    skipped: int | None = None
    truncated: Truncated = "error"
    resize: Resize = PLAIN

    def __len__(self) -> int:
        return len(self.records) if self.chosen is None else len(self.chosen)

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Read examples; see `Source.read`."""
        stored = zip(indices, self._stored(indices), strict=True)
        return [self._decode(index, features) for index, features in stored]

    def picture(self, index: int, *, side: int) -> UInt8[np.ndarray, "height width channels"]:
        """Read an image as it is stored, for people; see `Source.picture`."""
        (features,) = self._stored([index])
        data, name, truncated = _image(features), self.key(index), self.truncated
        return read_image(
            data, channels=3, size=side, resize=WITHIN, name=name, truncated=truncated
        )

    def labels(self) -> Integer[np.ndarray, " examples"] | None:
        """Return the labels of all examples; see `Source.labels`."""
        if self.label_names is None:
            return None
        stored = enumerate(self._all_stored())
        return np.array([self._label(index, features) for index, features in stored], np.int32)

    def digests(self) -> list[str]:
        """Return a SHA-256 of each example's encoded image; see `Source.digests`."""
        return [sha256(image).hexdigest() for image in self.encoded()]

    def take(self, places: Sequence[int]) -> "TfdsSource":
        """Choose examples; see `Source.take`."""
        return dataclasses.replace(self, chosen=tuple(self._place(i) for i in places))

    def file_ends(self) -> list[int]:
        """Return where the examples of each file end; see `Source.file_ends`."""
        ends = list(itertools.accumulate(count for _, count in self.files))
        return ends if self.chosen is None else [bisect.bisect_left(self.chosen, e) for e in ends]

    def splits(self) -> list[str]:
        """Return the split of each example; see `Source.splits`."""
        names = [name for name, count in self.parts for _ in range(count)]
        return names if self.chosen is None else [names[i] for i in self.chosen]

    def key(self, index: int) -> str:
        """Name the example at an index; see `Source.key`."""
        return f"{self.name}/{self.split}/{self._place(index)}"

    def encoded(self) -> Iterator[bytes]:
        """Give every image as it is stored, such as PNG bytes."""
        return map(_image, self._all_stored())

    def without(self, bad: set[int]) -> "TfdsSource":
        """Leave examples out, and count them as skipped."""
        kept = tuple(self._place(i) for i in range(len(self)) if i not in bad)
        return dataclasses.replace(self, chosen=kept, skipped=len(bad))

    def is_hidden(self) -> bool:
        """Whether labels are -1, by which tfds says that a split's are kept secret.

        A few tell: they are looked for when a split is opened, which is to stay quick.
        """
        if self.label_names is None or not len(self):
            return False
        try:
            rows = (self._stored([i])[0] for i in evenly_spaced(len(self), _LOOKED_AT).tolist())
            return all(row["label"].int64_list.value[0] == -1 for row in rows)
        except BadImageError:
            return False

    def _place(self, index: int) -> int:
        return index if self.chosen is None else self.chosen[index]

    def _stored(self, indices: Sequence[int]) -> list[Any]:
        """Return the features of examples by name, as protocol buffers.

        tfds's own conversion to NumPy takes as long as decoding a small image.
        """
        from tensorflow_datasets.proto import tf_example_pb2

        parse = tf_example_pb2.Example.FromString
        return [parse(record).features.feature for record in self._raw(indices)]

    def _raw(self, indices: Sequence[int]) -> list[bytes]:
        places = [self._place(index) for index in indices]
        try:
            return self.records.__getitems__(places)
        except Exception as error:  # array_record raises RuntimeError for damage
            if len(places) > 1:
                return [self._raw([index])[0] for index in indices]
            ends = list(itertools.accumulate(count for _, count in self.files))
            file, _ = self.files[bisect.bisect_right(ends, places[0])]
            what = str(error).partition("\n")[0] or type(error).__name__
            reason = f"cannot be read: {file} is damaged ({what})"
            raise BadImageError(self.key(indices[0]), reason) from error

    def _all_stored(self) -> Iterator[Any]:
        """Give the features of all examples, reading a bounded number at a time."""
        for start in range(0, len(self), _READ_AT_ONCE):
            yield from self._stored(range(start, min(start + _READ_AT_ONCE, len(self))))

    def _decode(self, index: int, features: Any) -> Example:
        channels, key = self.image_shape[-1], self.key(index)
        image = read_image(
            _image(features),
            channels=channels,
            size=self.size,
            resize=self.resize,
            name=key,
            truncated=self.truncated,
        )
        check_shape(image, self.image_shape, key)
        if self.label_names is None:
            return {"image": image}
        return {"image": image, "label": self._label(index, features)}

    def _label(self, index: int, features: Any) -> int:
        label, names = features["label"].int64_list.value[0], self.label_names or ()
        if not 0 <= label < len(names):
            raise BadImageError(
                self.key(index), f"has the label {label}; a label in [0, {len(names)}) is needed"
            )
        return label


def _image(features: Any) -> bytes:
    return features["image"].bytes_list.value[0]


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsData(DataSet):
    """A prepared tfds data set.

    Attributes:
        builder: tfds's builder of it.
        size: what images are brought to, see `read_image`; None keeps the set's own size.
        channels: 1 for grey, 3 for RGB; None keeps the set's own.
        bad_files: see `open_source`.
        truncated: see `read_image`.
        resize: see `read_image`.
    """

    builder: Any
    size: Size | None
    channels: int | None
    bad_files: BadFiles
    truncated: Truncated
    resize: Resize = PLAIN

    @classmethod
    def of(
        cls,
        name: str,
        builder: Any,
        *,
        image_size: Size | None = None,
        channels: int | None = None,
        bad_files: BadFiles = "error",
        truncated: Truncated = "error",
        resize: Resize = PLAIN,
    ) -> "TfdsData":
        """Take a builder.

        Args:
            name: what finds the data set again, its config and version too if they were given.
            builder: tfds's builder of it.
            image_size: see `open_source`, as for the others.
            channels: likewise.
            bad_files: likewise.
            truncated: likewise.
            resize: see `read_image`.
        """
        sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
        return cls(name, sizes, builder, image_size, channels, bad_files, truncated, resize)

    def source(self, split: str) -> TfdsSource:
        """Open a split; see `DataSet.source`.

        Raises:
            InputError: there is no such split, a file is missing, or the set is of another kind or
                format.
        """
        source = self._open(split)
        if self.bad_files != "skip":
            return source
        bad = find_bad(scan_of(source, str(self.builder.data_dir)))
        if bad:
            what = f"skipped {len(bad)} of {len(source)} images of {self.name}, {split}"
            warn_of(what, list(bad.values()), self.name)
        if len(bad) == len(source):
            raise InputError(f"{self.name} holds 0 readable images at {split!r}")
        return source.without(set(bad))

    def _open(self, split: str) -> TfdsSource:
        import tensorflow_datasets as tfds

        builder, parts = self.builder, parts_of(self.sizes, split, self.name)
        shape, names = self._features()
        try:
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            records = builder.as_data_source(split=split, deserialize_method=raw)
        except NotImplementedError as error:
            raise InputError(
                f"{self.name} in {builder.data_dir} is not in ArrayRecord format, which random "
                f"access needs; vision-jax prepare {self.name} --data-dir ANOTHER writes it so"
            ) from error
        files = tuple(
            (str(part.filename), part.take) for part in builder.info.splits[split].file_instructions
        )
        for file, _ in files:
            if not (path := tfds.core.Path(file)).exists():
                raise damaged(path, "is missing")
        source = TfdsSource(
            self.name,
            split,
            shape,
            names,
            records,
            self.size,
            tuple((part.split, part.stop - part.start) for part in parts),
            files,
            truncated=self.truncated,
            resize=self.resize,
        )
        return dataclasses.replace(source, label_names=None) if source.is_hidden() else source

    def _features(self) -> tuple[tuple[int, int, int], tuple[str, ...] | None]:
        """Return the images' shape and the names of the classes."""
        import tensorflow_datasets as tfds

        name, features = self.name, dict(self.builder.info.features)
        if not isinstance(features.get("image"), tfds.features.Image):
            raise InputError(f"{name} has features {list(features)}; an 'image' is needed")
        label = features.get("label")
        names = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else None
        height, width, depth = features["image"].shape
        if self.size is not None:
            height, width = sides(self.size)
        if height is None or width is None:
            raise InputError(f"{name} has images of many sizes; image_size is needed, such as 224")
        return (height, width, self.channels or _OPAQUE.get(depth, depth)), names


def scan_of(source: TfdsSource, folder: str) -> Scan:
    """Describe how to look at every image of a prepared set, until it is written again.

    Args:
        source: the images.
        folder: where the set is.
    """
    import tensorflow_datasets as tfds

    stats = [tfds.core.Path(file).stat() for file, _ in source.files]
    files = [
        (file, stat.length, stat.mtime) for (file, _), stat in zip(source.files, stats, strict=True)
    ]
    key = f"{folder} {source.split} {source.image_shape} {source.truncated} {files}"
    name = f"{source.name} {source.split}"
    return Scan(key, lambda i: source.read([i]), len(source), name)
