"""How good generated images are, as seen by a classifier of this project.

These are no figures of other papers: FID and KID are defined by one certain Inception network.
"""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader, read_all
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError
from vision_jax.evaluation.distances import frechet_distance, kernel_distance
from vision_jax.evaluation.memorisation import nearest_training_images
from vision_jax.run.build import build_task
from vision_jax.run.run import Run
from vision_jax.tasks.classification import Classification
from vision_jax.training.loop import Evaluator, fit
from vision_jax.visual.grids import to_pixels

IMAGES = 10_000
_NEIGHBOURS = 1_000


def measure_generation(
    run: Run, classifier: Run, *, count: int = IMAGES, seed: int = 0
) -> dict[str, float | int]:
    """Measures how far generated images are from the test images, by a classifier's features.

    Args:
        run: a GAN or a variational autoencoder.
        classifier: a trained classifier of images of the same shape.
        count: images of each kind, at most as many as the smaller of the two splits has.
        seed: of the latents.

    Returns:
        `generated_images` and `real_images`, the counts;
        `classifier_frechet_distance` and `classifier_kernel_distance` of the generated images from
        the test images, and the same with `_floor`, of as many training images;
        `nearest_training_cosine`, the mean cosine of a generated image's pixels with those of the
        nearest training image, and `nearest_training_cosine_of_real`, the same of test images: a
        generator that copies its training images is above it.

    Raises:
        InputError: the run makes no new images, or the classifier does not suit it.
    """
    check_classifier(run, classifier)
    test = read_all(run.source(), limit=count)["image"]
    train = read_all(run.source(run.config.data.train_split), limit=count)["image"]
    count = min(len(test), len(train))
    made = to_pixels(run.generate(count, seed=seed))
    features, floor, real = (classifier.embed(part[:count]) for part in (made, train, test))
    few = slice(None, _NEIGHBOURS)
    return {
        "generated_images": count,
        "real_images": count,
        "classifier_frechet_distance": frechet_distance(features, real),
        "classifier_frechet_distance_floor": frechet_distance(floor, real),
        "classifier_kernel_distance": kernel_distance(features, real),
        "classifier_kernel_distance_floor": kernel_distance(floor, real),
        "nearest_training_cosine": _mean_nearest(run, made[few]),
        "nearest_training_cosine_of_real": _mean_nearest(run, test[few]),
    }


def train_on_generated(
    run: Run, classifier: Run, *, count: int = 20_000, epochs: int = 3, seed: int = 0
) -> float:
    """Trains the classifier's network anew on generated images, and tests it on real ones.

    The classification accuracy score of Ravuri and Vinyals, 2019, but for the labels: the
    generator has no classes, so the classifier names what it made.

    Args:
        run: a GAN or a variational autoencoder.
        classifier: a trained classifier of images of the same shape.
        count: images to train on.
        epochs: passes over them.
        seed: of the latents and of the training.

    Returns:
        Accuracy on the classifier's test split, in [0, 1].

    Raises:
        InputError: the run makes no new images, or the classifier does not suit it.
    """
    check_classifier(run, classifier)
    images = to_pixels(run.generate(count, seed=seed))
    labels = classifier.predict(images).argmax(1).astype(np.int32)
    source = ArraySource.from_arrays(
        images, labels, label_names=classifier.info.label_names, name="generated"
    )
    config = dataclasses.replace(classifier.config, epochs=epochs)
    loader = Loader(source, config.data.batch_size, train=True, seed=seed)
    task = build_task(config, DataInfo.of(loader))
    state = fit(task, loader, epochs=epochs, seed=seed, progress=False).state
    test = Loader(classifier.source(), config.data.batch_size, train=False)
    return float(Evaluator(task, test, classifier.parallel)(state)["accuracy"])


def _mean_nearest(run: Run, images: UInt8[np.ndarray, "images h w c"]) -> float:
    return float(nearest_training_images(run, images)[1].mean())


def check_classifier(run: Run, classifier: Run) -> None:
    """Refuses a run whose images the classifier cannot judge.

    Raises:
        InputError: the run makes no new images, or the classifier is none or takes another shape.
    """
    if run.latent_size is None:
        raise InputError(
            f"{run.workdir} holds a run of {run.config.name} that makes no new images; "
            "only those of a gan or a variational autoencoder can be judged by a classifier"
        )
    if not isinstance(classifier.task, Classification):
        raise InputError(
            f"{classifier.workdir} holds a run of {classifier.config.name}; a classifier is needed"
        )
    if classifier.info.image_shape != run.info.image_shape:
        raise InputError(
            f"{classifier.workdir} takes images of {classifier.info.image_shape}; the run in "
            f"{run.workdir} makes {run.info.image_shape}"
        )
