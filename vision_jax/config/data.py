"""What images a run has, and how they reach the model."""

from dataclasses import dataclass, field
from typing import Literal

from vision_jax.checked import require

Recipe = Literal["none", "light", "standard", "strong", "views"]
BadFiles = Literal["error", "skip"]
Truncated = Literal["error", "use"]
Interpolation = Literal["bilinear", "bicubic"]
Sampling = Literal["uniform", "balanced"]
Fit = Literal["crop", "pad", "stretch"]

AUTO = "auto"
"""A split that is left to the data set, or a model that is left to the run to start from."""


@dataclass(frozen=True)
class DataConfig:
    """Images, and how they reach the model."""

    name: str = "digits"
    """`digits`, `fashion_mnist`, a folder of images, a listing (a .csv, .tsv or .jsonl file of
    images and their labels), or any prepared tfds data set."""
    data_dir: str | None = None
    """Where prepared data sets live, a folder or gs://BUCKET/FOLDER. Default: $TFDS_DATA_DIR, else
    ~/tensorflow_datasets."""
    manual_dir: str | None = None
    """Folder with manually downloaded files of a data set (Fashion-MNIST: its four IDX files)."""
    image_size: int | tuple[int, int] | None = None
    """Pixels that images are brought to: the side of a square, such as 224, or height and width,
    such as 64 96. Default: the set's own."""
    fit: Fit | None = None
    """How images of other proportions are brought there. `crop`: cut off what is beyond them at
    both ends of the longer side; `pad`: keep all, and fill up with black; `stretch`: keep all, and
    change the proportions. Default: crop."""
    crop: float | None = None
    """Share of the size that a centre crop keeps, in (0, 1], such as 0.875: images are scaled until
    they cover image_size / crop, as networks trained elsewhere want it. Default: 1."""
    interpolation: Interpolation | None = None
    """How images are resized, antialiased: bilinear or bicubic. Default: bilinear."""
    channels: int | None = None
    """1 for grey, 3 for RGB. Default: the set's own, and RGB for folders."""
    mean: tuple[float, ...] | None = None
    """Subtracted from images in [0, 1], one value or one per channel. Default: the model's own."""
    std: tuple[float, ...] | None = None
    """Divides the images after that, one value or one per channel. Default: the model's own."""
    train_split: str = AUTO
    """Split to train on, in tfds's slicing syntax. `auto`: the set's own, less what is held out."""
    validation_split: str = AUTO
    """Split to evaluate after every epoch; it chooses the best checkpoint. `auto`: the set's own,
    else a tenth of the training split."""
    test_split: str = AUTO
    """Split that `evaluate` and `report` use. `auto`: the set's own, else the validation split."""
    fold: tuple[int, int] | None = None
    """Hold out part I of K of the set's own training split, as `I K`, and test on it; a tenth of
    the rest is for validation. `--folds K` trains all K in turn."""
    fold_seed: int = 0
    """Seed of the division into folds."""
    batch_size: int = 128
    """Images per step, over all devices."""
    sampling: Sampling = field(default="uniform", kw_only=True)
    """Images of a training epoch: each once; or equally many of each class, rare ones repeated and
    common ones in part. An epoch has as many steps either way."""
    recipe: Recipe = "none"
    """Augmentation: `light` shifts and changes brightness, for digits too; `standard` also crops,
    mirrors and changes colours, for photographs and objects; `strong`, for long training of a
    classifier, distorts and mixes images; `views` is SimCLR's, for learning without labels.
    `vision-jax augmentations` shows them."""
    flip: bool = False
    """Augmentation: mirror half of the images left to right, before the recipe."""
    pad_crop: int = 0
    """Augmentation: pad by this many pixels, reflected, then crop at random to the original size,
    before the recipe."""
    transforms: tuple[str, ...] = ()
    """Augmentation: single transforms in this order, before the recipe, such as rotate erase.
    `vision-jax augmentations` shows them all."""
    on_device_mib: int = 1024
    """Sets up to this size are held on the device as uint8; larger ones are read ahead."""
    workers: int = 0
    """Reader processes for sets that are not held on the device; 0 reads in threads."""
    bad_files: BadFiles = "error"
    """Unreadable images: stop and name the file; or look for them first and skip them, with a
    warning."""
    truncated: Truncated = "error"
    """JPEG files whose last bytes are missing: count as unreadable, or use what is there."""
    links: bool = False
    """Follow symbolic links in a folder that leave it, and links to folders."""

    def check(self) -> None:
        """Refuse values out of range; `TrainConfig` calls it."""
        for name in ("name", "data_dir", "manual_dir"):
            path = getattr(self, name)
            require("\0" not in (path or ""), f"data.{name}", path, "without a null byte")
        require(self.batch_size >= 1, "data.batch_size", self.batch_size, "at least 1")
        self._check_fold()
        require(self.pad_crop >= 0, "data.pad_crop", self.pad_crop, "at least 0")
        require(self.workers >= 0, "data.workers", self.workers, "at least 0")
        require(self.on_device_mib >= 0, "data.on_device_mib", self.on_device_mib, "at least 0")
        require(self.channels in (None, 1, 3), "data.channels", self.channels, "1 or 3")
        size, crop, fit = self.image_size, self.crop, self.fit
        needed = "at least 1; one number for a square, two for height and width"
        sides = size if isinstance(size, tuple) else (size or 1, 1)
        given = size is None or isinstance(size, tuple) or size >= 1
        require(given and len(sides) == 2 and min(sides) >= 1, "data.image_size", size, needed)
        bare = fit in (None, "crop")
        require(size is not None or bare, "data.fit", fit, "crop without data.image_size")
        require(bare or crop in (None, 1), "data.crop", crop, f"1 with data.fit {fit}")
        require(crop is None or 0 < crop <= 1, "data.crop", crop, "in (0, 1]")
        require(
            size is not None or crop in (None, 1), "data.crop", crop, "1 without data.image_size"
        )
        for name, values in (("data.mean", self.mean), ("data.std", self.std)):
            require(values is None or len(values) in (1, 3), name, values, "1 value, or 3")
        require(all(s > 0 for s in self.std or ()), "data.std", self.std, "above 0")

    def _check_fold(self) -> None:
        require(self.fold_seed >= 0, "data.fold_seed", self.fold_seed, "at least 0")
        if self.fold is None:
            return
        number, count = self.fold if len(self.fold) == 2 else (0, 0)
        require(
            count >= 2 and 1 <= number <= count, "data.fold", self.fold, "I K: 1 <= I <= K >= 2"
        )
        for split in ("train", "validation", "test"):
            name = f"{split}_split"
            value = getattr(self, name)
            require(value in (AUTO, split), f"data.{name}", value, f"{AUTO} with data.fold")

    @property
    def resize(self) -> tuple[float, Interpolation, Fit]:
        """The share that the crop keeps, and how images are resized and brought to a shape."""
        return self.crop or 1.0, self.interpolation or "bilinear", self.fit or "crop"
