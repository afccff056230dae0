"""ResNet-50 on ImageNet, for GPUs and TPUs: the recipe of Flax's example by `train`.

Network     ResNet-50 v1.5 with 1,000 classes, in bfloat16; weights and statistics in float32
Data        tfds's `imagenet2012` in ArrayRecord, JPEG; the centre square at 224x224, from which the
            device crops at random (8 to 100% of the area) and mirrors
Training    90 epochs of 1,024 images; SGD with Nesterov momentum 0.9, rate 0.1 for each 256 images,
            5 epochs of warm-up, then a half cosine to 0; weight decay 1e-4 on kernels; label
            smoothing 0.1; moving average of the weights, 0.9999; batch norm over a device's images
Measured    accuracy on `validation` after each epoch. Not yet run on ImageNet: no accuracy is known
Command     vision-jax prepare imagenet2012 --data-dir DIR --manual-dir ARCHIVES
            python experiments/resnet50_imagenet.py --data-dir DIR --workdir runs/resnet50
            and the same in every process with --distributed.auto; rerun to resume
Cost        on paper. A step's multiply-adds are 4.09e9 an image forwards, and as many for each of
            two gradients: 24.5 GFLOP an image, 2.83e18 for 90 epochs of 1,281,167 images. XLA's
            cost analysis of the step at batch 256 counts 23.7 (the first layer has no input
            gradient) and, before fusion, 2.9 GB an image. One H100
            ran this step, without augmentation, at 5,493 images/s, 135 of 989 published TFLOP/s
            (14%; `docs/accelerators.md`), in 46.6 ms, which move at most 0.6 GB an image. Assumed:
            all devices run at that share of their published rate in bfloat16, and neither reading
            nor reduction slows them
                8 x H100    43,900 images/s    44 minutes
                v5e-8       8,700 images/s     3.7 hours (8 x 197 TFLOP/s)
            The host must decode as many JPEG files a second: with a core's 500 to 1,000, 8 x H100
            want some 50 to 90 cores, more than most hosts have
"""

import sys
from pathlib import Path

import tyro

from vision_jax.commands.train import RunOptions, run_training
from vision_jax.config import DataConfig, ModelConfig, OptimizerConfig, TrainClassifier
from vision_jax.errors import InputError, RunError
from vision_jax.parallel.processes import Distributed


def recipe(
    data_dir: str | None = None,
    *,
    model: str = "resnet50",
    batch_size: int = 1024,
    epochs: int = 90,
    image_size: int = 224,
    workers: int = 0,
) -> TrainClassifier:
    """Return the run's config; for the arguments see `main`."""
    return TrainClassifier(
        model=ModelConfig(name=model),
        data=DataConfig(
            name="imagenet2012",
            data_dir=data_dir,
            image_size=image_size,
            train_split="train",
            validation_split="validation",
            test_split="validation",
            batch_size=batch_size,
            transforms=("crop", "flip"),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            workers=workers,
        ),
        optimizer=OptimizerConfig(
            name="sgd",
            learning_rate=0.1 * batch_size / 256,
            warmup_epochs=min(5.0, epochs / 4),
            weight_decay=1e-4,
            ema=0.9999,
        ),
        epochs=epochs,
        precision="bfloat16",
        label_smoothing=0.1,
        batch_statistics="device",
    )


def main(
    workdir: Path = Path("runs/resnet50_imagenet"),
    data_dir: str | None = None,
    model: str = "resnet50",
    batch_size: int = 1024,
    epochs: int = 90,
    image_size: int = 224,
    workers: int = 0,
    distributed: Distributed = Distributed(),  # noqa: B008  frozen
) -> int:
    """Train, or resume.

    Args:
        workdir: The run's folder.
        data_dir: Where prepared data sets live, a folder or gs://BUCKET/FOLDER.
        model: A classifier's name, such as resnet50 or resnet101.
        batch_size: Images of a step, over all devices; the learning rate follows it.
        epochs: Passes over the training images.
        image_size: Side of the images.
        workers: Reader processes; 0 reads in threads.
        distributed: Other processes that train the same run.
    """
    try:
        config = recipe(
            data_dir,
            model=model,
            batch_size=batch_size,
            epochs=epochs,
            image_size=image_size,
            workers=workers,
        )
        run_training(config, RunOptions(workdir, distributed=distributed))
    except (InputError, RunError) as error:
        print(f"resnet50_imagenet: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
