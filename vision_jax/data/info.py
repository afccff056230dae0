"""What must be known of the data before a model can be built."""

import dataclasses

import numpy as np

from vision_jax.data.loader import Loader


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """The shape, the classes and the size of a training set.

    Attributes:
        image_shape: (height, width, channels).
        label_names: the classes, or the labels of which an image may have several; or None.
        train_examples: number of training images.
        steps_per_epoch: batches in one pass over them.
        skipped: number of bad training files left out.
        class_counts: training images of each class, where the task depends on them.
        multi_label: whether an image may have several labels.
    """

    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...] | None
    train_examples: int
    steps_per_epoch: int
    skipped: int = 0
    class_counts: tuple[int, ...] | None = None
    multi_label: bool = dataclasses.field(default=False, kw_only=True)

    @classmethod
    def of(cls, loader: Loader, *, count_classes: bool = False) -> "DataInfo":
        """Read it off the training batches.

        Args:
            loader: the training batches.
            count_classes: whether to count the images of each class, which reads all labels.
        """
        source = loader.source
        counts = None
        if count_classes and (labels := source.labels()) is not None:
            counts = tuple(np.bincount(labels, minlength=len(source.label_names or ())).tolist())
        return cls(
            source.image_shape,
            source.multi_label_names or source.label_names,
            len(source),
            loader.steps_per_epoch,
            source.skipped or 0,
            counts,
            multi_label=source.multi_label_names is not None,
        )
