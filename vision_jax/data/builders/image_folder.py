"""A folder of images as a tfds data set of its own name."""

import dataclasses
import os
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from vision_jax.bars import tqdm
from vision_jax.data.decode import printable
from vision_jax.data.decode_all import look_at_all
from vision_jax.data.encode import to_png
from vision_jax.data.folders import FolderSource
from vision_jax.errors import InputError

_NAME = r"[a-z][a-z0-9_]*"


@dataclasses.dataclass(frozen=True)
class Content:
    """What is written.

    Attributes:
        name: the data set's name: lower-case letters, digits and underscores.
        sources: the folder's splits.
        image_shape: (height, width, channels); height and width are None where they differ.
        resized: whether the images are written in that shape, as PNG; else their files' bytes are.
    """

    name: str
    sources: dict[str, FolderSource]
    image_shape: tuple[int | None, int | None, int]
    resized: bool

    @classmethod
    def of(cls, name: str, sources: dict[str, FolderSource]) -> "Content":
        """Find the shape of the images; without a size to bring them to, by decoding them all.

        Raises:
            InputError: the name cannot be one, only some splits have labels, a class cannot be
                written, or an image is bad.
        """
        if not re.fullmatch(_NAME, name):
            raise InputError(
                f"name is {name!r}; a lower-case letter, then lower-case letters, digits or _ are "
                "needed"
            )
        if len(kinds := {source.label_names for source in sources.values()}) > 1:
            raise InputError(
                f"the splits have labels {sorted(map(str, kinds))}; one kind is needed"
            )
        first = next(iter(sources.values()))
        if first.multi_label_names is not None:
            raise InputError(f"{first.name} has several labels an image; one is needed")
        padded = [label for label in first.label_names or () if label != label.strip()]
        if padded:  # tfds strips them, and could not tell 'cat ' from 'cat'
            raise InputError(
                f"{first.name} has the class {padded[0]!r}; a name without spaces at its ends is "
                "needed"
            )
        if first.size is not None:
            return cls(name, sources, first.image_shape, resized=True)
        shapes = {
            shape
            for source in sources.values()
            for shape in look_at_all(source.shape, len(source), f"{source.name} {source.split}")
        }
        channels = first.image_shape[-1]
        if len(shapes) == 1:
            return cls(name, sources, shapes.pop(), resized=False)
        return cls(name, sources, (None, None, channels), resized=False)


class ImageFolder(tfds.core.GeneratorBasedBuilder):
    """The images of a folder, with its splits, labels and file names.

    Args:
        content: what is written.
        data_dir: where prepared data sets live; tfds's own default if None.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "As the folder was."}  # noqa: RUF012  tfds declares it so

    def __init__(self, content: Content, data_dir: str | None) -> None:
        self.name, self._content = content.name, content
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        shape = self._content.image_shape
        features: dict[str, Any] = {
            "image": tfds.features.Image(shape=shape),
            "file": tfds.features.Text(),
        }
        names = next(iter(self._content.sources.values())).label_names
        if names is not None:
            features["label"] = tfds.features.ClassLabel(names=list(names))
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        sources = self._content.sources
        return {split: self._generate_examples(source) for split, source in sources.items()}

    def _generate_examples(self, source: FolderSource) -> Iterator[tuple[str, dict[str, Any]]]:
        labels = source.labels()
        places = tqdm(range(len(source)), f"writing {self.name}", unit="img", delay=1, leave=False)
        for place in places:
            file = source.files[place]
            if self._content.resized:
                image = to_png(source.read([place])[0]["image"])
            else:
                image = file.read_bytes()
            name = printable(os.path.relpath(file, source.root))
            label = {} if labels is None else {"label": int(labels[place])}
            yield name, {"image": image, "file": name, **label}
