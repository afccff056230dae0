"""The command line, `vision-jax`."""

import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro

from vision_jax.config import (
    AutoencoderConfig,
    CNNConfig,
    DataConfig,
    GANConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainCNN,
    TrainConfig,
    TrainGAN,
)
from vision_jax.errors import InputError

# Each command imports what it needs: --help answers without loading JAX.

Workdir = tyro.conf.Positional[Path]


def train_cnn(workdir: Path, config: Annotated[TrainCNN, tyro.conf.arg(name="")]) -> None:
    """Train the convolutional classifier.

    The same command in the same workdir goes on where it stopped. Ctrl-C saves and stops.
    Example: vision-jax train cnn --workdir runs/fashion --data.name fashion_mnist --data.flip

    Args:
        workdir: Folder for config.json, metrics.jsonl, TensorBoard events and checkpoints.
        config: What to train.
    """
    _train(config, workdir)


def train_autoencoder(
    workdir: Path, config: Annotated[TrainAutoencoder, tyro.conf.arg(name="")]
) -> None:
    """Train an autoencoder: convolutional, dense or variational.

    The same command in the same workdir goes on where it stopped. Ctrl-C saves and stops.
    Example: vision-jax train autoencoder --workdir runs/codes --model.kind dense

    Args:
        workdir: Folder for config.json, metrics.jsonl, TensorBoard events, checkpoints and, after
            each epoch, a picture of reconstructions.
        config: What to train.
    """
    _train(config, workdir)


def train_gan(workdir: Path, config: Annotated[TrainGAN, tyro.conf.arg(name="")]) -> None:
    """Train a generator against a discriminator.

    The same command in the same workdir goes on where it stopped. Ctrl-C saves and stops.
    Example: vision-jax train gan --workdir runs/garments --data.name fashion_mnist

    Args:
        workdir: Folder for config.json, metrics.jsonl, TensorBoard events, checkpoints and, after
            each epoch, a picture of samples.
        config: What to train.
    """
    _train(config, workdir)


def evaluate(
    workdir: Workdir,
    split: str | None = None,
    checkpoint: str = "best",
    classifier: Path | None = None,
) -> None:
    """Measure a trained network on its test split: recognition, reconstruction and search.

    Prints the figures and writes evaluation.json and, for a classifier, confusion.png into the
    workdir. Example: vision-jax evaluate runs/digits

    Args:
        workdir: Folder of the run.
        split: What to measure on, in tfds's slicing syntax. Default: the run's test split.
        checkpoint: `best` by the validation metric, `last`, or a step.
        classifier: Folder of a classifier's run, by whose features the images of a GAN or a
            variational autoencoder are compared with real ones.
    """
    from vision_jax.evaluation import evaluate_run

    evaluate_run(workdir, split, _which(checkpoint), classifier)


def generate(workdir: Workdir, seed: int = 0, checkpoint: str = "best") -> None:
    """Draw what a GAN or an autoencoder makes: samples, walks between them, reconstructions.

    Writes a PNG of each and all images as generated.npz into the workdir.
    Example: vision-jax generate runs/garments --seed 7

    Args:
        workdir: Folder of the run.
        seed: Of the latents from which new images are made, in [0, 2**32).
        checkpoint: `best` by the validation metric, `last`, or a step.
    """
    from vision_jax.run import load_run
    from vision_jax.sheets import write_run_sheets

    if not 0 <= seed < 2**32:
        raise InputError(f"--seed is {seed}; it must be in [0, 2**32)")
    for path in write_run_sheets(load_run(workdir, _which(checkpoint)), seed=seed):
        print(f"images -> {path}")


def index(
    workdir: Workdir, images: str, out: Path, split: str = "all", checkpoint: str = "best"
) -> None:
    """Embed images with a trained network and write a search index.

    Where the file already holds an index of the same images by the same checkpoint, only what is
    new or has changed is embedded. Example: vision-jax index runs/digits --images ~/photos --out
    photos.index

    Args:
        workdir: Folder of the run whose network embeds.
        images: A folder of images, or a data set's name.
        out: File to write; replaced only once the new one is whole.
        split: Which part of the images, in tfds's slicing syntax.
        checkpoint: `best` by the validation metric, `last`, or a step.
    """
    from vision_jax.gallery import write_index
    from vision_jax.run import load_run

    if not out.parent.is_dir():
        raise InputError(f"--out is {str(out)!r}; the folder {out.parent} must exist")
    run = load_run(workdir, _which(checkpoint))
    change = write_index(run, run.open_images(images, split), out)
    print(
        f"{change.added + change.kept} images -> {out} "
        f"({change.added} embedded, {change.kept} kept, {change.removed} removed)"
    )


def duplicates(index: tyro.conf.Positional[Path], threshold: float = 0.999) -> None:
    """List indexed images that are nearly the same, those in both training and test split first.

    Example: vision-jax duplicates photos.index --threshold 0.99

    Args:
        index: File that `vision-jax index` wrote.
        threshold: Cosine similarity from which two images count as nearly the same, in (0, 1].
    """
    from vision_jax.gallery import find_duplicates, load_index

    groups = find_duplicates(load_index(index), threshold)
    leaks = sum(leak for leak, _ in groups)
    print(f"{len(groups)} groups, {leaks} of them across splits")
    for leak, rows in groups:
        print("across splits:" if leak else "group:")
        for row in rows:
            print(f"  {row['split']:<12}{row.get('label', ''):<14}{row['key']}")


def search(
    index: tyro.conf.Positional[Path],
    images: tyro.conf.Positional[tuple[Path, ...]],
    k: int = 10,
    workdir: Path | None = None,
    picture: Path | None = None,
) -> None:
    """Find the indexed images that are most like the given ones.

    Example: vision-jax search photos.index seven.png --k 5 --picture found.png

    Args:
        index: File that `vision-jax index` wrote.
        images: Image files to look up.
        k: How many neighbours of each.
        workdir: Folder of the run that made the index, if it has moved since.
        picture: PNG to draw the queries and their neighbours into.
    """
    from vision_jax.gallery import load_index, search_images
    from vision_jax.run import load_run

    if picture is not None and not picture.parent.is_dir():
        raise InputError(f"--picture is {str(picture)!r}; the folder {picture.parent} must exist")
    if not images:
        raise InputError("0 images to look up were given; 1 or more are needed")
    loaded = load_index(index)
    run = load_run(workdir or loaded.about["workdir"], loaded.about["step"])
    scores, ids = search_images(loaded, run, images, k)
    for path, score_row, id_row in zip(images, scores, ids, strict=True):
        print(path)
        for place, (score, row) in enumerate(
            zip(score_row, loaded.metadata(id_row), strict=True), start=1
        ):
            print(f"  {place:>3}  {score:+.4f}  {row.get('label', ''):<14}  {row['key']}")
    if picture is not None:
        from vision_jax.report import found_grid

        found_grid(loaded, run, images, scores, ids).savefig(picture, dpi=110)
        print(f"picture -> {picture}")


def report(workdir: Workdir) -> None:
    """Write report.html: curves, figures, images that were made, and searches to look at.

    Example: vision-jax report runs/digits

    Args:
        workdir: Folder of the run.
    """
    from vision_jax.report import write_report

    print(f"report -> {write_report(workdir)}")


def prepare(
    dataset: tyro.conf.Positional[str],
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
) -> None:
    """Write a data set to disk as ArrayRecord, ready to be read at random.

    `digits` and `fashion_mnist` need nothing; any other data set of tfds's catalogue needs
    TensorFlow: pip install 'vision_jax[prepare]'. Example: vision-jax prepare fashion_mnist

    Args:
        dataset: Its name.
        data_dir: Where prepared data sets live. Default: $TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
        manual_dir: Folder with files fetched by hand.
    """
    from vision_jax.data.prepare import prepare as write

    builder = write(dataset, data_dir=data_dir, manual_dir=manual_dir)
    counts = ", ".join(
        f"{name} {split.num_examples}" for name, split in builder.info.splits.items()
    )
    print(f"{dataset}: {counts} -> {builder.data_dir}")


def quickstart(workdir: Path = Path("runs/quickstart"), data_dir: str | None = None) -> None:
    """Train each kind of network on handwritten digits, evaluate, generate, index and report.

    Takes some two minutes. Nothing is downloaded: the digits come with scikit-learn.

    Args:
        workdir: Folder for the runs, one each in `cnn`, `autoencoder` and `gan`.
        data_dir: Where prepared data sets live. Default: $TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
    """
    data = DataConfig(data_dir=data_dir, batch_size=32)
    cnn = TrainCNN(
        data=dataclasses.replace(data, pad_crop=1),
        model=CNNConfig(stages=(64, 128), dropout=0.5),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        epochs=20,
    )
    autoencoder = TrainAutoencoder(
        data=data,
        model=AutoencoderConfig(hidden=(16,), code=2),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        epochs=20,
    )
    gan = TrainGAN(
        data=data,
        model=GANConfig(generator=(64, 32, 16), discriminator=(32, 64), latent_size=32, ema=0.99),
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="constant", momentum=0.5),
        epochs=30,
    )
    for config in (cnn, autoencoder, gan):
        folder = workdir / config.family
        if not _train(config, folder):
            return
        evaluate(folder, classifier=workdir / "cnn" if config is gan else None)
        target = folder / "train.index"
        index(folder, config.data.name, target, split=config.data.train_split)
        if config is not cnn:
            generate(folder)
        report(folder)
    print(f"search more with: vision-jax search {workdir / 'cnn' / 'train.index'} IMAGE.png")


COMMANDS: dict[str, Callable[..., Any]] = {
    "quickstart": quickstart,
    "evaluate": evaluate,
    "index": index,
    "search": search,
    "duplicates": duplicates,
    "generate": generate,
    "report": report,
    "prepare": prepare,
}
FAMILIES: dict[str, Callable[..., Any]] = {
    "cnn": train_cnn,
    "autoencoder": train_autoencoder,
    "gan": train_gan,
}


def train() -> None:
    """Train a network: cnn, autoencoder or gan. See `vision-jax train --help`."""


def _train(config: TrainConfig, workdir: Path) -> bool:
    """Trains, and says whether it came to the end."""
    from vision_jax.run import train as run_training

    with _stop_on_signals() as should_stop:
        result = run_training(config, workdir, should_stop=should_stop)
    if result.finished:
        print(f"trained {config.epochs} epochs -> {workdir}")
    else:
        print(f"stopped and saved at step {int(result.state.step)}; the same command goes on")
    return result.finished


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a request; a second one ends the process."""
    asked = []

    def note(number: Any, _frame: Any) -> None:
        asked.append(number)
        signal.signal(number, old[number])

    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in old:
        signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _which(text: str) -> Any:
    """A checkpoint from the command line's word for it."""
    if text in ("best", "last"):
        return text
    if text.isdecimal():
        return int(text)
    raise InputError(f"checkpoint is {text!r}; it must be best, last or a step")


def _use_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the environment says where or not to."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "vision_jax" / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


_NO_CACHE = "--no-compilation-cache"
_DESCRIPTION = f"""Image search and recognition in JAX.

Compiled programs are kept between runs in ~/.cache/vision_jax/xla, or where
$JAX_COMPILATION_CACHE_DIR says; `vision-jax {_NO_CACHE} COMMAND ...` keeps none."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: the words after `vision-jax`; the process's own by default.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad input.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == [_NO_CACHE]:
        words = words[1:]
    else:
        _use_compilation_cache()
    # tfds and orbax tell absl's log all they do; what goes wrong is raised.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        if words[:1] == ["train"]:
            tyro.extras.subcommand_cli_from_dict(
                FAMILIES, prog="vision-jax train", description="Train a network.", args=words[1:]
            )
        else:
            tyro.extras.subcommand_cli_from_dict(
                {"train": train, **COMMANDS},
                prog="vision-jax",
                description=_DESCRIPTION,
                args=words,
            )
    except InputError as error:
        print(f"vision-jax: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        from vision_jax.training.loop import TrainingDivergedError

        if not isinstance(error, TrainingDivergedError):
            raise
        print(f"vision-jax: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
