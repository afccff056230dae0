"""Export a run, or the vectors of an index."""

from pathlib import Path

import tyro

from vision_jax.commands.arguments import parse_checkpoint
from vision_jax.errors import InputError


def export(
    out: Path,
    workdir: tyro.conf.Positional[Path | None] = None,
    index: Path | None = None,
    checkpoint: str | None = None,
    hnsw: bool = False,
) -> None:
    """Write a run to one file that other programs open, or an index's vectors alone.

    The file holds the encoder, how images are prepared for it, its class names and, with --index,
    an index to search. It needs neither the run's folder nor the model's code. Examples:
    vision-jax export runs/digits --index digits.index --out digits.vjx
    and, for ONNX Runtime: vision-jax export runs/digits --index digits.index --out digits.onnx
    and, the vectors alone: vision-jax export --index digits.index --out digits.parquet

    Args:
        out: File to write, replaced only once the new one is whole. Its suffix is its format. Of a
            run: .vjx, which `vision_jax.load_export` and plain jax open, on CPU, CUDA and TPU; or
            .onnx. Of an index alone: .npy, .parquet (LanceDB, Qdrant, Milvus, DuckDB) or .faiss.
            Beside .npy and .faiss a file that ends in .jsonl says what the rows are.
        workdir: Folder of the run, trained or imported. None writes the vectors of the index alone.
        index: File that `vision-jax index` wrote with this run.
        checkpoint: `best` by the validation metric, `last`, or a step. Default: that of the index,
            or `best`.
        hnsw: Of .faiss: write FAISS's approximate index, HNSW, instead of its exact one.
    """
    from vision_jax.export.vectors import SUFFIXES, check_vectors_out
    from vision_jax.export.write import WRITERS, check_out

    if workdir is None:
        if index is None:
            raise InputError("workdir and index are None; a run to export, an index, or both")
        if out.suffix.lower() in WRITERS:
            raise InputError(
                f"out is {str(out)!r}, which holds a run, and workdir is None; a run's folder is "
                f"needed, or a name that ends in {', '.join(SUFFIXES)}"
            )
        if checkpoint is not None:
            raise InputError(f"checkpoint is {checkpoint!r}, and workdir is None; a run is needed")
        check_vectors_out(out, hnsw)
        _export_vectors(out, index, hnsw)
    else:
        if out.suffix.lower() in SUFFIXES:
            raise InputError(
                f"out is {str(out)!r}, which holds vectors alone, and workdir is {str(workdir)!r}; "
                f"leave it out, or give a name that ends in {', '.join(WRITERS)}"
            )
        if hnsw:
            raise InputError(f"hnsw is True and out is {str(out)!r}; it must end in .faiss")
        check_out(out, WRITERS)
        _export_run(out, workdir, index, checkpoint)


def _export_vectors(out: Path, index: Path, hnsw: bool) -> None:
    from vision_jax.export.vectors import rows_path, write_vectors
    from vision_jax.gallery import load_index

    loaded = load_index(index)
    write_vectors(loaded, out, hnsw=hnsw)
    print(f"{len(loaded)} vectors of {loaded.dim} numbers -> {out}")
    if out.suffix.lower() != ".parquet":
        print(f"what its rows are -> {rows_path(out)}")


def _export_run(out: Path, workdir: Path, index: Path | None, checkpoint: str | None) -> None:
    from vision_jax.export.write import write_export
    from vision_jax.gallery import load_index
    from vision_jax.gallery.origin import origin_of
    from vision_jax.run.run import load_run

    loaded = None if index is None else load_index(index)
    which = parse_checkpoint(checkpoint or "best")
    if loaded is not None and checkpoint is None:
        which = origin_of(loaded).step
    run = load_run(workdir, which)
    write_export(run, out, index=loaded)
    images = "" if loaded is None else f" and an index of {len(loaded)} images"
    print(f"the run in {workdir} at step {run.step}{images} -> {out}")
