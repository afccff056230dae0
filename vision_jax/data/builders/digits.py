"""scikit-learn's handwritten digits, which its package carries: nothing to download."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vision_jax.data.builders.examples import show_progress
from vision_jax.data.encode import to_png

TEST_EXAMPLES = 360


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 images of 8x8x1 in 10 classes: 1,437 to train, the last 360 to test.

    The split keeps scikit-learn's order, so that neighbours in the file, often of one writer, do
    not fall on both sides of it.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012  tfds declares it so

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://scikit-learn.org/stable/modules/generated/"
            "sklearn.datasets.load_digits.html",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {
            "train": self._generate_examples(slice(None, -TEST_EXAMPLES)),
            "test": self._generate_examples(slice(-TEST_EXAMPLES, None)),
        }

    def _generate_examples(self, part: slice) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        # The set counts ink in 17 levels, 0 to 16.
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        rows = zip(show_progress(images[part], self.name), digits.target[part], strict=True)
        for key, (image, label) in enumerate(rows):
            yield key, {"image": to_png(image), "label": int(label)}
