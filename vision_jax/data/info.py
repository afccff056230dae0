"""What must be known of the data before a model can be built."""

import dataclasses

from vision_jax.data.loader import Loader


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """The shape, the classes and the size of a training set.

    Attributes:
        image_shape: (height, width, channels).
        label_names: the classes, or None.
        train_examples: number of training images.
        steps_per_epoch: batches in one pass over them.
        skipped: number of bad training files left out.
    """

    image_shape: tuple[int, int, int]
    label_names: tuple[str, ...] | None
    train_examples: int
    steps_per_epoch: int
    skipped: int = 0

    @classmethod
    def of(cls, loader: Loader) -> "DataInfo":
        """Read it off the training batches."""
        source = loader.source
        return cls(
            source.image_shape,
            source.label_names,
            len(source),
            loader.steps_per_epoch,
            source.skipped or 0,
        )
