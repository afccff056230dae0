"""Open an export: embed, classify and search without the run it was made of."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vision_jax.data.arrays import as_pixels
from vision_jax.data.decode import printable, read_image
from vision_jax.data.loader import to_float
from vision_jax.data.resize import Resize
from vision_jax.errors import InputError
from vision_jax.export import container
from vision_jax.export.contents import Rows
from vision_jax.export.encoder import EMBEDDING, PROBABILITIES
from vision_jax.gallery.hits import Hit, find_hits
from vision_jax.gallery.queries import Queries, key_queries
from vision_jax.run.data import row_chunks
from vision_jax.run.views import averaged, check_views
from vision_jax.search import CosineIndex
from vision_jax.search.index_file import Content
from vision_jax.training.steps import DataParallel

# An export cannot be traced; its largest map is taken to have the images' size and these channels.
_CHANNELS = 64

Images = Any
"""Image files, or what `data.arrays.as_pixels` takes: (N, H, W, C) pixels in [0, 255] or [0, 1]."""


def load_export(path: str | Path) -> "Export":
    """Open an export that `write_export` or `vision-jax export` wrote, a file that ends in `.vjx`.

    It needs neither the run's folder nor the code of its model.

    Args:
        path: the file.

    Raises:
        InputError: there is no such file; it is no export, or it is truncated, altered or newer; or
            this jax cannot read or run its encoder.

    >>> import vision_jax
    >>> run = vision_jax.load_run("runs/quickstart/cnn")  # after `vision-jax quickstart`
    >>> index = vision_jax.gallery.build_index(run, run.source("test"))
    >>> vision_jax.write_export(run, "digits.vjx", index=index)
    >>> digits = vision_jax.load_export("digits.vjx")
    >>> hits = digits.search_keys(["digits/test/0"], k=3)[0]
    >>> len(hits), hits[0].score > 0.5
    (3, True)
    """
    manifest, encoder, rows = container.read(path)
    try:
        exported = jax.export.deserialize(bytearray(encoder))
    except Exception as error:  # of many kinds: what is read is a buffer of another program
        reason = str(error).partition("\n")[0] or type(error).__name__
        written = manifest["written_by"].get("jax")
        raise InputError(
            f"{path} was written by jax {written}, and jax {jax.__version__} cannot read its "
            f"encoder ({reason}); install that version, or export the run again"
        ) from error
    platform = jax.export.default_export_platform()
    if platform not in exported.platforms:
        listed = ", ".join(exported.platforms)
        raise InputError(
            f"{path} runs on {listed}, and this jax on {platform}; set JAX_PLATFORMS=cpu"
        )
    return Export(Path(path), manifest, exported, _index_of(manifest, rows))


def _index_of(manifest: dict[str, Any], rows: Rows | None) -> CosineIndex | None:
    if rows is None:
        return None
    items = {str(item): row for item, row in zip(rows.ids.tolist(), rows.metadata, strict=True)}
    after = int(rows.ids.max(initial=-1)) + 1
    notes = {"about": manifest["index"]["about"], "items": items, "next": after}
    scale = np.ones(len(rows.ids), np.float32)
    return CosineIndex.from_content(Content("float32", rows.vectors, scale, rows.ids, notes))


@dataclasses.dataclass(frozen=True, eq=False)
class Export:
    """An encoder, what it was made for, and an index; `load_export` opens one.

    Attributes:
        path: the file.
        manifest: what the file says of itself.
        exported: the encoder, as jax reads it: float32 images (B, H, W, C) in [0, 1] to a dict of
            `embedding` and, of a classifier, `probabilities`.
        index: the index; None if the export has none.
    """

    path: Path
    manifest: dict[str, Any]
    exported: jax.export.Exported
    index: CosineIndex | None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images that the encoder takes."""
        image = self.manifest["image"]
        return image["height"], image["width"], image["channels"]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes in the order of `predict`; None if the encoder is no classifier."""
        classes = self.manifest["classes"]
        return None if classes is None else tuple(classes)

    @property
    def identity(self) -> str:
        """The identity of the run that was exported, see `Run.identity`."""
        return str(self.manifest["encoder"]["identity"])

    def read_images(
        self, paths: Sequence[str | Path]
    ) -> UInt8[np.ndarray, "images height width channels"]:
        """Read image files, and bring them to the encoder's shape as the run did.

        Raises:
            InputError: a file cannot be read.
        """
        height, width, channels = self.image_shape
        image = self.manifest["image"]
        resize = Resize(image["crop"], image["interpolation"], image["fit"])
        size = height if height == width else (height, width)
        images = [read_image(path, channels=channels, size=size, resize=resize) for path in paths]
        return np.stack(images) if images else np.zeros((0, *self.image_shape), np.uint8)

    def embed(self, images: Images, *, views: int = 1) -> Float[np.ndarray, "images features"]:
        """Turn images into the vectors that search compares, as `Run.embed` did.

        Args:
            images: a file or several; or (N, H, W, C) uint8 in [0, 255] or floats in [0, 1].
            views: see `Run.embed`.

        Returns:
            (N, D) float32.

        Raises:
            InputError: a file cannot be read, the images have another shape than the encoder's, or
                `views` is another number.
        """
        check_views(views)
        return self._map(images, EMBEDDING, views)

    def predict(self, images: Images) -> Float[np.ndarray, "images classes"]:
        """Classify images, as `Run.predict` did.

        Args:
            images: see `embed`.

        Returns:
            (N, classes) probabilities in the order of `class_names`.

        Raises:
            InputError: the encoder is no classifier; or see `embed`.
        """
        if self.class_names is None:
            raise InputError(f"{self.path} holds no classifier; one is needed to predict")
        return self._map(images, PROBABILITIES, 1)

    def search(self, images: Images, k: int = 10, **options: Any) -> list[list[Hit]]:
        """Find the indexed images that are most like the given ones.

        Args:
            images: see `embed`.
            k: how many for each, at least 1.
            **options: further options of `gallery.find_hits`.

        Returns:
            The hits of each image, best first, at most k.

        Raises:
            InputError: the export has no index; or see `embed`.
        """
        index = self._indexed()
        vectors = self.embed(images, views=self.manifest["index"]["views"])
        names = [str(place) for place in range(len(vectors))]
        return find_hits(index, Queries(names, vectors, [[] for _ in names], []), k, **options)

    def search_keys(self, keys: Sequence[str], k: int = 10, **options: Any) -> list[list[Hit]]:
        """Find the indexed images that are most like indexed ones; each leaves itself out.

        Args:
            keys: their keys, as hits' `row["key"]`.
            k: see `search`.
            **options: see `search`.

        Raises:
            InputError: the export has no index, or a key is not in it.
        """
        index = self._indexed()
        return find_hits(index, key_queries(index, keys), k, **options)

    def _indexed(self) -> CosineIndex:
        if self.index is None:
            raise InputError(f"{self.path} holds no index; export the run with one to search")
        return self.index

    @cached_property
    def _call(self) -> Any:
        return jax.jit(self.exported.call)

    def _map(self, images: Images, output: str, views: int) -> np.ndarray:
        pixels = self._pixels(images)
        height, width, _ = self.image_shape
        map_bytes = 4 * _CHANNELS * height * width

        def compute(_: Any, rows: tuple[np.ndarray]) -> np.ndarray:
            made: np.ndarray = np.asarray(self._call(rows[0])[output])
            return made

        mapped, sizes = averaged(compute, views), DataParallel.over(1).row_sizes(lambda: map_bytes)
        parts = [
            mapped(None, (_as_floats(part),))[:count] for part, count in row_chunks(pixels, sizes)
        ]
        if parts:
            return np.concatenate(parts)
        shapes = jax.tree.unflatten(self.exported.out_tree, self.exported.out_avals)
        return np.zeros((0, shapes[output].shape[1]), np.float32)

    def _pixels(self, images: Images) -> np.ndarray:
        if isinstance(images, str | Path):
            images = [images]
        if isinstance(images, list | tuple) and images and isinstance(images[0], str | Path):
            return self.read_images(images)
        pixels = as_pixels(images, image_shape=self.image_shape)
        if pixels.shape[1:] != self.image_shape:
            raise InputError(
                f"images have shape {pixels.shape[1:]}; {printable(self.path)} takes "
                f"{self.image_shape}"
            )
        return pixels


def _as_floats(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(to_float(jnp.asarray(pixels))) if pixels.dtype == np.uint8 else pixels
