"""Show what a run's predictions, or the likeness of two images, depend on."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from vision_jax.commands.arguments import DataName, Workdir, parse_checkpoint
from vision_jax.errors import InputError
from vision_jax.reports.readings import READINGS

if TYPE_CHECKING:
    Method = str
else:
    Method = tyro.extras.literal_type_from_choices(READINGS)


def explain(
    workdir: Workdir,
    images: tyro.conf.Positional[tuple[str, ...]],
    method: tuple[Method, ...] = (),
    target: str | None = None,
    against: str | None = None,
    like: Path | None = None,
    split: str | None = None,
    checkpoint: str = "best",
    data: DataName = None,
    out: Path = Path("explain.html"),
) -> None:
    """Show which parts of images a prediction depends on, as maps over the pictures.

    Writes a page with each picture beside its maps, their scales, and what they say and do not say.

    The predicted class: vision-jax explain runs/lite0 flower.jpg

    Why a daisy rather than a bee, by two methods: vision-jax explain runs/lite0 flower.jpg --target
    daisy --against bee --method grad_cam integrated_gradients

    Which parts of two pictures match: vision-jax explain runs/lite0 cat.jpg --like lion.jpg

    An image of the run's own data: vision-jax explain runs/digits digits/test/0

    Args:
        workdir: Run whose network is explained.
        images: Image files, or keys of images of the run's data, such as digits/test/0.
        method: How maps are computed; several are shown side by side. Default: grad_cam, which
            takes one backward pass; with --like, similarity.
        target: Class to explain, by name or number. Default: the predicted one.
        against: Class that the target is held against: the maps explain the difference of the two
            logits.
        like: Image to compare with: the maps explain the cosine of the two embeddings.
        split: Where keys are looked for, in tfds's slicing syntax. Default: the run's test split.
        checkpoint: `best` by the validation metric, `last`, or a step.
        data: Where the run's data is now, a folder or a data set's name. Default: where it was in
            training.
        out: HTML page to write.
    """
    from vision_jax.export.write import check_out
    from vision_jax.reports.searches import PAGES

    methods = method or (("similarity",) if like else ("grad_cam",))
    check_out(out, PAGES)
    if not images:
        raise InputError("0 images were given; an image file, or a key of the data, is needed")
    if against is not None and target is None:
        raise InputError(f"against is {against!r}, but target is None; both are needed")
    if like is not None and target is not None:
        raise InputError(f"target is {target!r} and like is {str(like)!r}; only one is possible")
    if like is None and "similarity" in methods:
        raise InputError("method is 'similarity', but like is None; an image is needed")
    from vision_jax.reports.explaining import explain_classes, explain_likeness, find_images
    from vision_jax.reports.explanations import write_explanations
    from vision_jax.reports.seen import seen_files
    from vision_jax.run.run import load_run

    run = load_run(workdir, parse_checkpoint(checkpoint), data=data)
    seen = find_images(run, images, split)
    if like is not None:
        (other,) = seen_files(run, [like])
        explained = explain_likeness(run, seen, other, methods)
    else:
        explained = explain_classes(run, seen, methods, target=target, against=against)
    for image in explained:
        print(f"{image.seen.name}: {image.target}, {image.score}")
    write_explanations(out, f"What {workdir} looks at", explained)
    print(f"page -> {out}")
