"""Generation metrics: how close generated images are to real ones, as a classifier sees them.

Not comparable with published FID and KID, which use one specific Inception network.
"""

import dataclasses

import numpy as np

from vision_jax.config import OptimizerConfig
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader, read_all
from vision_jax.data.sources import ArraySource, evenly_spaced
from vision_jax.errors import InputError
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.distances import frechet_distance, kernel_distance
from vision_jax.evaluation.memorisation import nearest_training_places
from vision_jax.run.build import build_task
from vision_jax.run.run import Run
from vision_jax.tasks.base import Classifies
from vision_jax.training.loop import Evaluator, fit
from vision_jax.visual.grids import to_pixels

IMAGES = 10_000
_NEIGHBOURS = 1_000


def measure_generation(
    data: EvaluationData, classifier: Run, *, count: int = IMAGES, seed: int = 0
) -> dict[str, float | int]:
    """Measure how far generated images are from test images, by a classifier's features.

    Args:
        data: a run that generates images, such as a GAN or a variational autoencoder, and its
            data.
        classifier: a trained classifier of images of the same shape.
        count: images of each kind, at most as many as the smaller split has; an even choice of
            a larger one.
        seed: seed of the latents.

    Returns:
        `generated_images` and `real_images`, the counts;
        `classifier_frechet_distance` and `classifier_kernel_distance` between generated and test
        images, and the same with `_floor` between as many training images and test images;
        `nearest_training_cosine`, the mean cosine between the pixels of a generated image and those
        of its nearest training image, and `nearest_training_cosine_of_real`, the same for test
        images: a generator that copies its training images exceeds it.

    Raises:
        InputError: the run cannot generate images, the classifier does not suit it, a split has
            fewer than two images, or a feature is NaN or infinite.
    """
    run = data.run
    check_classifier(run, classifier)
    count = min(count, len(data.test), len(data.train))
    if count < 2:
        raise InputError(
            f"{data.test.name} has {len(data.test)} images in {data.test.split} and "
            f"{len(data.train)} in {data.train.split}; two of each are needed to compare generated "
            "images with them"
        )
    test, train = (read_all(split.spaced(count))["image"] for split in (data.test, data.train))
    generated = to_pixels(run.generate(count, seed=seed))
    features, floor, real = (classifier.embed(part) for part in (generated, train, test))
    some = evenly_spaced(count, _NEIGHBOURS)
    # Both at once, since the training images are read for it.
    _, cosines = nearest_training_places(data.train, np.concatenate([generated[some], test[some]]))
    nearest, nearest_of_real = (float(part.mean()) for part in np.split(cosines, 2))
    return {
        "generated_images": count,
        "real_images": count,
        "classifier_frechet_distance": frechet_distance(features, real),
        "classifier_frechet_distance_floor": frechet_distance(floor, real),
        "classifier_kernel_distance": kernel_distance(features, real),
        "classifier_kernel_distance_floor": kernel_distance(floor, real),
        "nearest_training_cosine": nearest,
        "nearest_training_cosine_of_real": nearest_of_real,
    }


def train_on_generated(
    run: Run, classifier: Run, *, count: int = 20_000, epochs: int = 3, seed: int = 0
) -> float:
    """Train the classifier's model anew on generated images and test it on real ones.

    The classification accuracy score (Ravuri and Vinyals, "Classification accuracy score for
    conditional generative models", 2019), except for the labels: the generator has no classes, so
    the classifier labels what it generated.

    Args:
        run: a run that generates images, such as a GAN or a variational autoencoder.
        classifier: a trained classifier of images of the same shape.
        count: images to train on.
        epochs: passes over them.
        seed: seed of the latents and of the training.

    Returns:
        Accuracy on the classifier's test split, in [0, 1].

    Raises:
        InputError: the run cannot generate images, or the classifier does not suit it.
    """
    check_classifier(run, classifier)
    test = classifier.source()
    images = to_pixels(run.generate(count, seed=seed))
    labels = classifier.predict(images).argmax(1).astype(np.int32)
    source = ArraySource.from_arrays(
        images, labels, label_names=test.label_names, name="generated images"
    )
    # Anew, on generated images: without weights to start from, or what is made of them.
    plain = OptimizerConfig()
    moves = dataclasses.replace(
        classifier.config.optimizer,
        freeze=plain.freeze,
        layer_decay=plain.layer_decay,
        head_epochs=plain.head_epochs,
        shards=plain.shards,
    )
    config = dataclasses.replace(classifier.config, epochs=epochs, init_from=None, optimizer=moves)
    loader = Loader(source, config.data.batch_size, train=True, seed=seed)
    task = build_task(config, DataInfo.of(loader, count_classes=config.counts_classes))
    state = fit(task, loader, epochs=epochs, seed=seed, progress=False).state
    batches = Loader(test, config.data.batch_size, train=False)
    return float(Evaluator(task, batches, classifier.parallel)(state)["accuracy"])


def check_classifier(run: Run, classifier: Run) -> None:
    """Refuse a run whose images the classifier cannot judge.

    Raises:
        InputError: the run cannot generate images, or the classifier is none or takes another
            image shape.
    """
    if run.latent_size is None:
        raise InputError(
            f"{run.workdir} holds a run that cannot generate new images; a GAN or a variational "
            "autoencoder is needed"
        )
    if not isinstance(classifier.task, Classifies):
        raise InputError(
            f"classifier is {str(classifier.workdir)!r}, a run without classes; a classifier's run "
            "is needed"
        )
    if classifier.info.image_shape != run.info.image_shape:
        raise InputError(
            f"classifier is {str(classifier.workdir)!r}, which takes images of shape "
            f"{classifier.info.image_shape}; {run.workdir} generates {run.info.image_shape}"
        )
