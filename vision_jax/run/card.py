"""A run as a notebook shows it."""

import contextlib
import html
from collections.abc import Callable
from pathlib import Path

from vision_jax.config import TrainConfig
from vision_jax.data.info import DataInfo
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.training.metrics import read_metrics
from vision_jax.visual.html import SHEET_STYLE, table
from vision_jax.visual.sheets import Shown, row_html
from vision_jax.visual.text import shorten
from vision_jax.visual.thumbnails import file_name, source_thumbnail

_IMAGES, _CLASSES, _WIDTH = 8, 10, 100


def run_html(
    workdir: Path,
    config: TrainConfig,
    info: DataInfo,
    step: int,
    images: Callable[[], Source],
) -> str:
    """Describe a run: its model, data and metrics, and some of its images.

    Args:
        workdir: the run's folder.
        config: what was trained.
        info: the data's shape and classes.
        step: the checkpoint's step.
        images: opens the images to show; what cannot be opened is left out.

    Returns:
        HTML of bounded size.
    """
    height, width, channels = info.image_shape
    names = info.label_names or ()
    more = f", … ({len(names)} in all)" if len(names) > _CLASSES else ""
    rows = [
        ("folder", str(workdir)),
        ("task", config.name),
        ("checkpoint", f"step {step:,}"),
        ("images", f"{height} x {width} x {channels}"),
    ]
    if config.data.name:
        rows.append(("data", f"{config.data.name}, {info.train_examples:,} images to train on"))
    if names:
        rows.append(("classes", ", ".join(names[:_CLASSES]) + more))
    measured = [row for row in read_metrics(workdir) if row["step"] <= step]
    for name, value in measured[-1].items() if measured else ():
        if name.startswith("validation/") and isinstance(value, float):
            rows.append((name, f"{value:.4g}"))
    shown = [(name, shorten(value, _WIDTH)) for name, value in rows]
    pictures = ""
    with contextlib.suppress(InputError):  # the data may have moved; the run is whole without it
        pictures = _pictures(images())
    title = f"<b>{html.escape(f'Run of {config.name}')}</b>"
    return f"<style>{SHEET_STYLE}</style>{title}{table(('', ''), shown)}{pictures}"


def _pictures(source: Source) -> str:
    count = min(_IMAGES, len(source))
    labels, names = source.labels(), source.label_names
    if labels is not None and labels.ndim != 1:  # several labels an image
        labels = None
    return row_html(
        Shown(
            source_thumbnail(source, i),
            file_name(source.key(i)) if labels is None or names is None else names[labels[i]],
            source.key(i),
        )
        for i in range(count)
    )
