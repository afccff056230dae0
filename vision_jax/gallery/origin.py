"""What an index was made of: the encoder of its vectors, and the images they are of."""

import dataclasses
import warnings
from typing import Any

from vision_jax.data.sources import Source
from vision_jax.errors import DataWarning, InputError
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex


@dataclasses.dataclass(frozen=True)
class Origin:
    """What made an index; its `about` holds these fields.

    Attributes:
        workdir: The run's folder at the time.
        step: The run's checkpoint.
        source: The images: a data set's name or a folder.
        split: The part of them, in tfds's slicing syntax.
        encoder: `run.identity`; None in an index of version 0.1, which kept none.
        others: further images of a merged index, each `(source, split)`.
        views: How many views of each image its vector averages, see `Run.embed`.
    """

    workdir: str
    step: int
    source: str
    split: str
    encoder: str | None = None
    others: tuple[tuple[str, str], ...] = ()
    views: int = 1

    @classmethod
    def of(cls, run: Run, source: Source, views: int = 1) -> "Origin":
        """Return the origin of an index of these images by this run."""
        workdir = str(run.workdir.absolute())
        return cls(workdir, run.step, source.name, source.split, run.identity, views=views)

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """All images, each `(source, split)`."""
        return ((self.source, self.split), *self.others)

    def about(self) -> dict[str, Any]:
        """Return the fields as an index's `about` holds them."""
        fields = dataclasses.asdict(self)
        del fields["others"]
        if self.others:  # no index had this field before there were merged ones
            fields["others"] = [list(source) for source in self.others]
        if self.views == 1:  # earlier versions know of no views
            del fields["views"]
        return fields

    def difference(self, other: "Origin") -> str | None:
        """Say why an index of this origin cannot become one of the other; None if it can."""
        if self.encoder is None:
            return "it does not name the network that made it, as version 0.1 wrote it"
        if self.encoder != other.encoder:
            return "another network made it"
        if self.others:
            return f"it is merged, of {len(self.sources)} sources"
        if (self.source, self.split) != (other.source, other.split):
            return f"it is of other images, {self.source} ({self.split})"
        if self.views != other.views:
            return f"its vectors are of {self.views} views of an image, not of {other.views}"
        return None


def origin_of(index: CosineIndex) -> Origin:
    """Read what an index was made of.

    Raises:
        InputError: If its `about` is no origin: it was saved in another way.
    """
    about = index.about
    fields = dataclasses.fields(Origin)
    if isinstance(about, dict) and about.keys() <= {field.name for field in fields}:
        values: dict[str, Any] = {field.name: about.get(field.name) for field in fields}
        others = values.pop("others") or []
        values["views"] = about.get("views", 1)
        kinds: dict[str, Any] = {"step": int, "encoder": str | None, "views": int}
        sound = all(isinstance(value, kinds.get(name, str)) for name, value in values.items())
        if sound and isinstance(others, list) and all(map(_is_source, others)):
            return Origin(**values, others=tuple((source, split) for source, split in others))
    raise InputError(
        "the index does not say which network and images it was made of; one that "
        "`vision-jax index` or `build_index` made is needed"
    )


def _is_source(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    )


def views_of(index: CosineIndex) -> int:
    """Return how many views of an image its vector averages: those of a query must be as many."""
    views = index.about.get("views", 1) if isinstance(index.about, dict) else 1
    return views if isinstance(views, int) else 1


def check_single_view(index: CosineIndex, purpose: str) -> None:
    """Refuse an index that averages several views of an image, for what takes one.

    Args:
        index: The index.
        purpose: What takes one view, such as "a box".

    Raises:
        InputError: It does.
    """
    if (views := views_of(index)) != 1:
        raise InputError(
            f"the index averages {views} views of each image; {purpose} takes one of 1 view"
        )


def entries(index: CosineIndex) -> list[tuple[int, dict[str, Any]]]:
    """Return the id and metadata of each indexed image, in the order they were added.

    Raises:
        InputError: If there is none, or metadata are not those of images.
    """
    ids = index.ids
    rows = list(zip(ids.tolist(), index.metadata(ids), strict=True))
    if not rows:
        raise InputError("the index is empty; one of at least 1 image is needed")
    for item, row in rows:
        if not _is_of_image(row):
            raise InputError(
                f"the index does not say which image {item} is; one that `vision-jax index` or "
                "`build_index` made is needed"
            )
    return rows


def _is_of_image(row: Any) -> bool:
    return isinstance(row, dict) and all(
        isinstance(row.get(name, ""), str) and (name in row or name == "label")
        for name in ("key", "digest", "split", "label")
    )


def check_encoder(index: CosineIndex, run: Run) -> None:
    """Refuse a run that is another network than the one that made an index's vectors.

    Warns if the index does not say which one did.

    Raises:
        InputError: If the network is another.
    """
    encoder = index.about.get("encoder") if isinstance(index.about, dict) else None
    if encoder is None:
        warnings.warn(
            "the index does not name the network that made it, which is taken to be the one in "
            f"{run.workdir}; index the images again to have that checked",
            DataWarning,
            stacklevel=3,
        )
    elif encoder != run.identity:
        raise InputError(
            f"the index was made by another network than the one in {run.workdir} at step "
            f"{run.step}; index the images again, or name the run that made it"
        )
