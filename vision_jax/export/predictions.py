"""Classify any number of images, and write what was found as a table."""

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vision_jax.config import BadFiles
from vision_jax.data.findings import Finding, warn_of
from vision_jax.data.listing_file import SEPARATOR
from vision_jax.data.sources import Readable, Source
from vision_jax.errors import InputError, RunError
from vision_jax.files import replacing
from vision_jax.run.inputs import open_inputs
from vision_jax.run.run import Run
from vision_jax.run.thresholds import read_thresholds

_ROWS_AT_ONCE = 4096


class Prediction(NamedTuple):
    """What a classifier makes of one image.

    Attributes:
        file: the image's path, or its data set, split and index.
        classes: the likeliest classes, best first; the lower class first among equals.
        probabilities: theirs, float32.
        labels: of a run that has learnt several labels an image, those whose probability reaches
            their threshold, see `run.thresholds`; None for other runs.
    """

    file: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    labels: tuple[str, ...] | None = None


def predictions(
    run: Run,
    images: Source | str | Path | Sequence[str | Path],
    *,
    split: str | None = None,
    top: int = 5,
    bad_files: BadFiles | None = None,
) -> Iterator[Prediction]:
    """Classify images one after the other, in memory that does not grow with their number.

    Args:
        run: a classifier, trained or imported.
        images: files, folders and names of data sets; or a source in the run's image shape.
        split: see `open_inputs`.
        top: how many classes to name for each image; all, if the run has fewer.
        bad_files: unreadable images: raise, or leave them out with a warning; by default what the
            run's config says.

    Returns:
        An iterator over the predictions, in the order of the images.

    Raises:
        InputError: the run is no classifier, there are no such images, or one cannot be read.

    >>> import vision_jax
    >>> run = vision_jax.load_run("runs/quickstart/cnn")  # after `vision-jax quickstart`
    >>> first = next(vision_jax.predictions(run, "digits", split="test", top=2))
    >>> first.file, len(first.classes), first.probabilities[0] > 0.2
    ('digits/test/0', 2, True)
    """
    if top < 1:
        raise InputError(f"top is {top}; it must be at least 1")
    run.predict(np.zeros((0, *run.info.image_shape), np.uint8))  # refuses what is no classifier
    if isinstance(images, Source):
        sources = [images]
    else:
        names = [images] if isinstance(images, str | Path) else images
        sources = open_inputs(run, names, split=split, bad_files=bad_files)
    return _predictions(run, sources, top)


def _predictions(run: Run, sources: Sequence[Source], top: int) -> Iterator[Prediction]:
    names, bad = run.info.label_names or (), list[Finding]()
    thresholds = read_thresholds(run) if run.info.multi_label else None
    for source in sources:
        faults = source.faults if isinstance(source, Readable) else {}
        place = 0
        for part in run.predict_parts(source):
            order = np.argsort(-part, axis=1, kind="stable")[:, :top]
            shares = np.take_along_axis(part, order, 1)
            for row, best, likely in zip(part, order.tolist(), shares, strict=True):
                if place not in faults:
                    _check_finite(likely, source, place)
                    # The shortest decimal that is the same float32.
                    values = tuple(float(str(value)) for value in likely)
                    labels = None
                    if thresholds is not None:
                        labels = tuple(names[i] for i in np.flatnonzero(row >= thresholds))
                    best_names = tuple(names[i] for i in best)
                    yield Prediction(source.key(place), best_names, values, labels)
                place += 1
        bad += [Finding(source.key(i), faults[i], True) for i in sorted(faults)]
    count = sum(map(len, sources))
    if len(bad) == count:
        told = "".join(f"; {path} {what}" for path, what, _ in bad[:1])
        raise InputError(f"images holds 0 readable images among {count}{told}")
    if bad:
        warn_of(f"skipped {len(bad)} of {count} images", bad)


def _check_finite(values: np.ndarray, source: Source, place: int) -> None:
    if not np.isfinite(values).all():
        raise RunError(f"the probabilities of {source.key(place)} are NaN")


def check_table(path: str | Path) -> None:
    """Refuse a file that predictions cannot be written to, before work begins.

    Raises:
        InputError: its name ends otherwise than in .csv, .json, .jsonl or .parquet, or its folder
            does not exist.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"out is {str(path)!r}; its name must end in {', '.join(_WRITERS)}")
    if path.is_dir():
        raise InputError(f"out is {str(path)!r}, a folder; the name of a file to write is needed")
    if not path.parent.is_dir():
        raise InputError(f"out is {str(path)!r}; the folder {path.parent} must exist")


def write_predictions(rows: Iterable[Prediction], path: str | Path) -> int:
    """Write predictions to a file as they come, in memory that does not grow with their number.

    CSV has the columns `file`, `class` and `probability` and, where more than one class is named,
    `top1`, `top1_probability`, `top2` and so on. JSON, JSON lines and Parquet have `file`, `class`,
    `probability` and `top`, a list of `class` and `probability`. Predictions of several labels an
    image also have `labels`, a list, in CSV separated by `|`. Text is UTF-8.

    Args:
        rows: such as `predictions` gives; all name the same number of classes.
        path: the file; its suffix is its format: .csv, .json, .jsonl or .parquet. An older one
            stays until the new one is whole.

    Returns:
        The number of rows.

    Raises:
        InputError: the suffix is another one, or the file cannot be written.

    >>> import vision_jax
    >>> run = vision_jax.load_run("runs/quickstart/cnn")  # after `vision-jax quickstart`
    >>> vision_jax.write_predictions(vision_jax.predictions(run, "digits"), "digits.csv")
    1797
    """
    check_table(path)
    count = 0

    def counted() -> Iterator[Prediction]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    with replacing(path) as temporary:
        _WRITERS[Path(path).suffix.lower()](counted(), temporary)
    return count


def _write_csv(rows: Iterable[Prediction], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for number, row in enumerate(rows):
            if number == 0:
                writer.writerow(_columns(row))
            pairs = zip(row.classes, row.probabilities, strict=True)
            top = itertools.chain.from_iterable(pairs) if len(row.classes) > 1 else ()
            labels = () if row.labels is None else (SEPARATOR.join(row.labels),)
            writer.writerow([row.file, *labels, row.classes[0], row.probabilities[0], *top])


def _columns(row: Prediction) -> list[str]:
    top, labels = len(row.classes), () if row.labels is None else ("labels",)
    numbers = range(1, top + 1) if top > 1 else ()
    named = [column for i in numbers for column in (f"top{i}", f"top{i}_probability")]
    return ["file", *labels, "class", "probability", *named]


def _write_json(rows: Iterable[Prediction], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, row in enumerate(rows):
            file.write(f"{',' if number else ''}\n{_json(row)}")
        file.write("\n]\n")


def _write_json_lines(rows: Iterable[Prediction], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{_json(row)}\n" for row in rows)


def _json(row: Prediction) -> str:
    return json.dumps(_record(row), ensure_ascii=False, allow_nan=False)


def _write_parquet(rows: Iterable[Prediction], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    likely = [("class", pa.string()), ("probability", pa.float32())]
    several = iter(rows)
    rows = itertools.chain(first := list(itertools.islice(several, 1)), several)
    labels = [("labels", pa.list_(pa.string()))] if first and first[0].labels is not None else []
    top = ("top", pa.list_(pa.struct(likely)))
    schema = pa.schema([("file", pa.string()), *labels, *likely, top])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while records := [_record(row) for row in itertools.islice(rows, _ROWS_AT_ONCE)]:
            writer.write_table(pa.Table.from_pylist(records, schema))


def _record(row: Prediction) -> dict[str, Any]:
    pairs = zip(row.classes, row.probabilities, strict=True)
    top = [{"class": name, "probability": value} for name, value in pairs]
    labels = {} if row.labels is None else {"labels": list(row.labels)}
    return {"file": row.file, **labels, **top[0], "top": top}


_WRITERS: dict[str, Callable[[Iterable[Prediction], Path], None]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
