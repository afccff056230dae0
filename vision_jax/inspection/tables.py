"""An inspection as tables, as text to print, and as JSON."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from vision_jax.files import json_text
from vision_jax.inspection.copies import Copies
from vision_jax.inspection.pixels import mean_and_deviation
from vision_jax.inspection.survey import Inspection
from vision_jax.visual.text import text_table

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
    """Format what was found as text to print.

    Args:
        found: what `inspect` returned.

    Returns:
        Tables of splits, classes, sizes and files, the worst copies and the likeliest label
        errors, and the training options that suit the data.
    """
    parts: list[str] = [title(found), text_table(*split_table(found))]
    if classes(found):
        head, rows = class_table(found)
        left_out = max(len(rows) - SHOWN_CLASSES, 0)
        parts.append(text_table(head, rows[:SHOWN_CLASSES]))
        parts += [f"and {counted(left_out, 'smaller class')}"] if left_out else []
    parts.append(text_table(*file_table(found)))
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
            lines += [f"  {kind_of(group)}", text_table(rows[0], rows[1:_PRINTED_COPIES])]
        parts.append("\n".join(lines))
    if len(found.lost):
        parts.append(lost_images(found))
    if found.suspects is not None:
        head, rows = suspect_table(found, _PRINTED_SUSPECTS)
        parts.append(f"likely label errors: {count_suspects(found)}\n{text_table(head, rows)}")
    parts.append(f"suggested training options: {options(found)}")
    return "\n\n".join(parts)


def options(found: Inspection) -> str:
    """Suggest training options for these images: name, size, channels, mean and deviation.

    The mean and deviation are those of the training split, if there is one.
    """
    height, width, channels = found.source.image_shape
    words = [f"--data.name {shlex.quote(found.source.name)}"]
    if len(found.files.sizes) > 1 or (width, height) not in found.files.sizes:
        words.append(f"--data.image-size {height}" + ("" if width == height else f" {width}"))
    if Path(found.source.name).exists() and channels != 3:
        words.append(f"--data.channels {channels}")
    histograms = found.pixels.histograms
    chosen = [histograms["train"]] if "train" in histograms else list(histograms.values())
    means, deviations = mean_and_deviation(np.sum(chosen, axis=0))
    words.append("--data.mean " + " ".join(f"{m:.4f}" for m in means))
    # Images are divided by the deviation, so it cannot be 0, as that of a single colour is.
    words.append("--data.std " + " ".join(f"{d:.4f}" if d > 5e-5 else "1" for d in deviations))
    return " ".join(words)


def split_names(found: Inspection) -> list[str]:
    """List the splits, in the order of the images."""
    return list(dict.fromkeys(found.splits.tolist()))


def split_table(found: Inspection) -> tuple[tuple[str, ...], Rows]:
    """Tabulate the splits: images, mean and deviation per channel."""
    rows: Rows = []
    for split in split_names(found):
        moments = mean_and_deviation(found.pixels.histograms[split])
        means, deviations = (" ".join(f"{v:.4f}" for v in values) for values in moments)
        rows.append((split, str((found.splits == split).sum()), means, deviations))
    return ("split", "images", "mean", "deviation"), rows


def class_table(found: Inspection) -> tuple[tuple[str, ...], Rows]:
    """Tabulate the classes, the largest first: images per split, and share of the images."""
    splits, counts = class_counts(found)
    totals = counts.sum(0)
    kind = "class" if found.source.multi_label_names is None else "label"
    rows = [
        (
            classes(found)[i],
            *(str(row[i]) for row in counts),
            f"{totals[i] / len(found.source):.1%}",
        )
        for i in np.argsort(-totals, kind="stable")
    ]
    return (kind, *splits, "share"), rows


def classes(found: Inspection) -> tuple[str, ...]:
    """Return the classes, or the labels of which an image may have several; () without any."""
    return found.source.label_names or found.source.multi_label_names or ()


def class_counts(
    found: Inspection,
) -> tuple[list[str], Integer[np.ndarray, "splits classes"]]:
    """List the splits, and count how many images of each class each of them has."""
    names, count = split_names(found), len(classes(found))
    if (several := found.source.multi_hot()) is not None:
        return names, np.stack([several[found.splits == name].sum(0) for name in names])
    labels = np.asarray(found.labels)
    rows = [np.bincount(labels[found.splits == name], minlength=count) for name in names]
    return names, np.stack(rows)


def file_table(found: Inspection) -> tuple[tuple[str, ...], Rows]:
    """Tabulate the sizes, upright, and the stored kinds of files."""
    sizes, kinds = found.files.sizes, found.files.kinds
    rows: Rows = []
    for name, side in (("width", 0), ("height", 1)):
        values = np.repeat([size[side] for size in sizes], list(sizes.values()))
        rows.append((name, f"{values.min()} to {values.max()}, median {np.median(values):g}"))
    common = ", ".join(f"{w}x{h} ({n})" for (w, h), n in sizes.most_common(3))
    rows.append(("sizes", f"{len(sizes)}; most frequent {common}"))
    for (form, mode), count in kinds.most_common():
        rows.append((form, f"{_MODES.get(mode, mode)} ({count})"))
    return ("files", "sizes upright"), rows


def to_json(found: Inspection) -> str:
    """Format all that was found, with every image's key, as JSON."""
    names = found.source.label_names
    content: dict[str, Any] = {
        "name": found.source.name,
        "images": len(found.source),
        "skipped": found.skipped,
        "image_shape": found.source.image_shape,
        "splits": {},
        "sizes": [[*size, count] for size, count in found.files.sizes.most_common()],
        "files": [[*kind, count] for kind, count in found.files.kinds.most_common()],
        "threshold": found.threshold,
        "compared_by": found.compared_by,
        "exact_duplicates": [_copies_json(found, group) for group in found.exact],
        "near_duplicates": [_copies_json(found, group) for group in found.near],
        "not_compared": [found.source.key(row) for row in found.lost.tolist()],
        "options": options(found),
    }
    for split in split_names(found):
        mean, deviation = mean_and_deviation(found.pixels.histograms[split])
        count = int((found.splits == split).sum())
        content["splits"][split] = {"images": count, "mean": mean, "deviation": deviation}
    if classes(found):
        for split, row in zip(*class_counts(found), strict=True):
            counts = dict(zip(classes(found), row.tolist(), strict=True))
            content["splits"][split]["classes"] = counts
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
    return json_text(content)


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
    """Name the data set, how many images and classes it has, and their shape."""
    height, width, channels = found.source.image_shape
    names, several = classes(found), found.source.multi_label_names
    kinds = counted(len(names), "class" if several is None else "label") if names else "no labels"
    skipped = f", {counted(found.skipped, 'bad file')} skipped" if found.skipped else ""
    return (
        f"{found.source.name}: {counted(len(found.source), 'image')}, {kinds}, read as "
        f"{width}x{height}x{channels}{skipped}"
    )


def copies_found(found: Inspection) -> list[tuple[str, list[Copies]]]:
    """Return the exact and the near duplicates, each with a name that says what counts as one."""
    near = f"near duplicates (cosine of {found.compared_by} >= {found.threshold:g})"
    return [("exact duplicates", found.exact), (near, found.near)]


def count_copies(groups: Sequence[Copies]) -> str:
    """Count the groups, and those of each bad kind."""
    if not groups:
        return "none"
    images = sum(len(group.rows) for group in groups)
    across_labels = sum(group.across_labels for group in groups)
    across_splits = sum(group.across_splits for group in groups)
    return (
        f"{counted(len(groups), 'group')} of {counted(images, 'image')}, {across_labels} with "
        f"different labels, {across_splits} across splits"
    )


def kind_of(group: Copies) -> str:
    """Tell what is bad about a group."""
    words = ["different labels"] * group.across_labels + ["across splits"] * group.across_splits
    return ", ".join(words) or "same label, same split"


def count_suspects(found: Inspection) -> str:
    """Count the labels that are likely wrong."""
    suspects = found.suspects or []
    return (
        f"about {sum(suspect.confident for suspect in suspects)}, as confident learning estimates; "
        f"{len(suspects)} of {counted(len(found.source), 'image')} look more like another class"
    )


def suspect_table(found: Inspection, limit: int) -> tuple[tuple[str, ...], Rows]:
    """Tabulate the likeliest label errors, at most `limit` of them."""
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
    return ("label", "probability", "likelier", "probability", "judged by", "image"), rows


def label_of(found: Inspection, row: int) -> str:
    """Name an image's class; empty without labels."""
    names = found.source.label_names
    return "" if found.labels is None or names is None else names[found.labels[row]]


def lost_images(found: Inspection) -> str:
    """Count and name the images that the run's embeddings cannot compare."""
    return (
        f"neither compared nor judged: {counted(len(found.lost), 'image')} whose embedding is "
        f"zero, NaN or infinite, such as {found.source.key(int(found.lost[0]))}"
    )


def counted(count: int, noun: str) -> str:
    """Put a count before its noun, in the plural where that is due."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
