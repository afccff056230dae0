"""An inspection as tables, as text to print, and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from vision_jax.inspection.survey import Copies, Inspection, mean_and_deviation

SHOWN_CLASSES = 40
_PRINTED_GROUPS, _PRINTED_COPIES, _PRINTED_SUSPECTS = 5, 4, 10
_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with alpha",
    "P": "palette",
    "RGBA": "RGB with alpha",
    "I": "16-bit grey",
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
}

Rows = list[tuple[str, ...]]


def summary(found: Inspection) -> str:
    """What was found, as lines to print.

    Args:
        found: what `inspect` returned.

    Returns:
        Tables of splits, classes, sizes and files, the worst copies and the likeliest label
        errors, and the training options that the data suggest.
    """
    parts: list[str] = [title(found), _aligned(*split_table(found))]
    if found.source.label_names is not None:
        head, rows = class_table(found)
        left_out = max(len(rows) - SHOWN_CLASSES, 0)
        parts.append(_aligned(head, rows[:SHOWN_CLASSES]))
        parts += [f"and {left_out} smaller classes"] if left_out else []
    parts.append(_aligned(*file_table(found)))
    for name, groups in copies_found(found):
        lines = [f"{name}: {count_copies(groups)}"]
        for group in groups[:_PRINTED_GROUPS]:
            rows = [
                (
                    f"    {likeness:.4f}",
                    found.splits[row],
                    label_of(found, row),
                    found.source.key(row),
                )
                for row, likeness in zip(group.rows, group.cosines, strict=True)
            ]
            lines += [f"  {kind_of(group)}", _aligned(rows[0], rows[1:_PRINTED_COPIES])]
        parts.append("\n".join(lines))
    if found.suspects is not None:
        head, rows = suspect_table(found, _PRINTED_SUSPECTS)
        parts.append(f"likely label errors: {count_suspects(found)}\n{_aligned(head, rows)}")
    parts.append(f"options that fit: {options(found)}")
    return "\n\n".join(parts)


def options(found: Inspection) -> str:
    """The training options for these images: name, size, channels, mean and deviation.

    The mean and deviation are those of the training split, where there is one.
    """
    height, width, channels = found.source.image_shape
    words = [f"--data.name {found.source.name}"]
    if len(found.files.sizes) > 1 or (width, height) not in found.files.sizes:
        words.append(f"--data.image-size {height}")
    if Path(found.source.name).is_dir() and channels != 3:
        words.append(f"--data.channels {channels}")
    histograms = found.pixels.histograms
    chosen = [histograms["train"]] if "train" in histograms else list(histograms.values())
    means, deviations = mean_and_deviation(np.sum(chosen, axis=0))
    words.append("--model.mean " + " ".join(f"{m:.4f}" for m in means))
    # The deviation divides, so that of images of one single colour cannot be taken.
    words.append("--model.std " + " ".join(f"{d:.4f}" if d > 5e-5 else "1" for d in deviations))
    return " ".join(words)


def split_names(found: Inspection) -> list[str]:
    """The splits, in the order of the images."""
    return list(dict.fromkeys(found.splits.tolist()))


def split_table(found: Inspection) -> tuple[tuple[str, ...], Rows]:
    """The heads and rows of a table of splits: images, mean and deviation per channel."""
    rows: Rows = []
    for split in split_names(found):
        figures = mean_and_deviation(found.pixels.histograms[split])
        means, deviations = (" ".join(f"{v:.4f}" for v in values) for values in figures)
        rows.append((split, str((found.splits == split).sum()), means, deviations))
    return ("split", "images", "mean", "deviation"), rows


def class_table(found: Inspection) -> tuple[tuple[str, ...], Rows]:
    """The heads and rows of a table of classes, the largest first: images per split and share."""
    splits, counts = class_counts(found)
    totals = counts.sum(0)
    rows = [
        (
            (found.source.label_names or ())[i],
            *(str(row[i]) for row in counts),
            f"{totals[i] / totals.sum():.1%}",
        )
        for i in np.argsort(-totals, kind="stable")
    ]
    return ("class", *splits, "share"), rows


def class_counts(
    found: Inspection,
) -> tuple[list[str], Integer[np.ndarray, "splits classes"]]:
    """The names of the splits, and how many images of each class each of them has."""
    names, count = split_names(found), len(found.source.label_names or ())
    labels = np.asarray(found.labels)
    rows = [np.bincount(labels[found.splits == name], minlength=count) for name in names]
    return names, np.stack(rows)


def file_table(found: Inspection) -> tuple[tuple[str, ...], Rows]:
    """The heads and rows of a table of stored sizes and kinds of files."""
    sizes, kinds = found.files.sizes, found.files.kinds
    rows: Rows = []
    for name, side in (("width", 0), ("height", 1)):
        values = np.repeat([size[side] for size in sizes], list(sizes.values()))
        rows.append((name, f"{values.min()} to {values.max()}, median {np.median(values):g}"))
    common = ", ".join(f"{w}x{h} ({n})" for (w, h), n in sizes.most_common(3))
    rows.append(("sizes", f"{len(sizes)}; most frequent {common}"))
    for (form, mode), count in kinds.most_common():
        rows.append((form, f"{_MODES.get(mode, mode)} ({count})"))
    return ("files", "as stored"), rows


def to_json(found: Inspection) -> str:
    """All that was found, with every image's key, as JSON text."""
    names = found.source.label_names
    content: dict[str, Any] = {
        "name": found.source.name,
        "images": len(found.source),
        "image_shape": found.source.image_shape,
        "splits": {},
        "sizes": [[*size, count] for size, count in found.files.sizes.most_common()],
        "files": [[*kind, count] for kind, count in found.files.kinds.most_common()],
        "threshold": found.threshold,
        "compared_by": found.compared_by,
        "exact_duplicates": [_copies_json(found, group) for group in found.exact],
        "near_duplicates": [_copies_json(found, group) for group in found.near],
        "options": options(found),
    }
    for split in split_names(found):
        mean, deviation = mean_and_deviation(found.pixels.histograms[split])
        count = int((found.splits == split).sum())
        content["splits"][split] = {"images": count, "mean": mean, "deviation": deviation}
    if names is not None:
        for split, row in zip(*class_counts(found), strict=True):
            content["splits"][split]["classes"] = dict(zip(names, row.tolist(), strict=True))
    if names is not None and found.suspects is not None:
        content["label_errors"] = [
            {
                "key": found.source.key(suspect.row),
                "given": names[suspect.given],
                "likely": names[suspect.likely],
                "given_probability": suspect.given_probability,
                "likely_probability": suspect.likely_probability,
                "confident": suspect.confident,
                "by": suspect.by,
            }
            for suspect in found.suspects
        ]
    return json.dumps(content, indent=2) + "\n"


def _copies_json(found: Inspection, group: Copies) -> dict[str, Any]:
    return {
        "across_labels": group.across_labels,
        "across_splits": group.across_splits,
        "images": [
            {
                "key": found.source.key(row),
                "split": str(found.splits[row]),
                "label": label_of(found, row),
                "cosine": likeness,
            }
            for row, likeness in zip(group.rows, group.cosines, strict=True)
        ],
    }


def title(found: Inspection) -> str:
    """The data set, how many images and classes it has, and their shape."""
    height, width, channels = found.source.image_shape
    names = found.source.label_names
    classes = "no labels" if names is None else f"{len(names)} classes"
    return (
        f"{found.source.name}: {len(found.source)} images, {classes}, read as "
        f"{width}x{height}x{channels}"
    )


def _aligned(head: Sequence[str], rows: Rows) -> str:
    """A table as text, its columns as wide as they need."""
    lines = [tuple(head), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def copies_found(found: Inspection) -> list[tuple[str, list[Copies]]]:
    """The exact and the near duplicates, each with a name that says what counts as one."""
    near = f"near duplicates (cosine of {found.compared_by} >= {found.threshold:g})"
    return [("exact duplicates", found.exact), (near, found.near)]


def count_copies(groups: list[Copies]) -> str:
    """How many groups there are, and how many of each bad kind."""
    images = sum(len(group.rows) for group in groups)
    across_labels = sum(group.across_labels for group in groups)
    across_splits = sum(group.across_splits for group in groups)
    return (
        f"{len(groups)} groups of {images} images, {across_labels} groups with different labels, "
        f"{across_splits} across splits"
    )


def kind_of(group: Copies) -> str:
    """What is bad about a group."""
    words = ["different labels"] * group.across_labels + ["across splits"] * group.across_splits
    return ", ".join(words) or "same label, same split"


def count_suspects(found: Inspection) -> str:
    """How many labels are likely wrong, and of how many images."""
    suspects = found.suspects or []
    return (
        f"about {sum(suspect.confident for suspect in suspects)} by confident learning; "
        f"{len(suspects)} of {len(found.source)} images look more like another class"
    )


def suspect_table(found: Inspection, limit: int) -> tuple[tuple[str, ...], Rows]:
    """The heads and first rows of a table of the likeliest label errors."""
    names = found.source.label_names or ()
    rows: Rows = [
        (
            names[suspect.given],
            f"{suspect.given_probability:.3f}",
            names[suspect.likely],
            f"{suspect.likely_probability:.3f}",
            suspect.by,
            found.source.key(suspect.row),
        )
        for suspect in (found.suspects or [])[:limit]
    ]
    return ("label", "probability", "likelier", "probability", "says", "image"), rows


def label_of(found: Inspection, row: int) -> str:
    """The name of an image's class; empty without labels."""
    names = found.source.label_names
    return "" if found.labels is None or names is None else names[found.labels[row]]
