"""Search in a browser."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from vision_jax.errors import InputError
from vision_jax.search.methods import METHODS, check_method

if TYPE_CHECKING:
    Method = str
else:
    Method = tyro.extras.literal_type_from_choices(METHODS)


def serve(
    indexes: tyro.conf.Positional[tuple[Path, ...]],
    port: int = 8000,
    host: str = "127.0.0.1",
    token: str | None = None,
    names: tuple[str, ...] = (),
    method: Method = "exact",
    dtype: Literal["float32", "bfloat16", "int8"] | None = None,
    workdir: Path | None = None,
    cache: Path | None = None,
    thumbnails_mb: int = 1024,
) -> None:
    """Search indexes in a browser, or by JSON over HTTP.

    Prints the address of a page to open. Nobody but this machine reaches it, and nothing is sent
    anywhere. Ctrl-C ends it. An index that is replaced meanwhile is loaded anew.

    Example: vision-jax serve runs/photos/Pictures.index

    For other machines too: vision-jax serve photos.index --host 0.0.0.0 --token LETTERS

    Args:
        indexes: Files or folders of shards that `vision-jax index` or `vision-jax photos` wrote;
            the page lets users choose.
        port: Port to listen on; 0 takes any that is free.
        host: Address to listen on; 0.0.0.0 is every one of this machine. Any but the loopback's
            takes a token.
        token: What others must know: 16 or more letters and digits. Their browsers open
            /?token=TOKEN once. Default: $VISION_JAX_TOKEN, which other users of this machine
            cannot see.
        names: Names under which browsers reach the server, such as that of a proxy before it.
            Requests to other names are refused.
        method: How to search, as for `vision-jax search`.
        dtype: Type in which vectors are held in memory: int8 takes a fifth of the memory, answers
            faster from large indexes, and finds the nearest of vectors that are rounded a little.
            Default: that of the file, float32.
        workdir: Folder of the run that made the indexes, if it has moved since.
        cache: Folder for thumbnails, which may be removed at any time. Default:
            ~/.cache/vision_jax/thumbnails.
        thumbnails_mb: MiB that this folder takes at most; the thumbnails that were not shown for
            longest go first. 0 keeps none.
    """
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"serving takes {error.name}, which is not installed: pip install 'vision_jax[serve]'"
        ) from None
    from vision_jax.serve.server import Service, check_token, listen, run

    check_method(method)
    token = token or os.environ.get("VISION_JAX_TOKEN") or None
    check_token(host, token)
    with listen(host, port) as listening:
        service = Service(
            indexes,
            workdir=workdir,
            host=host,
            names=names,
            token=token,
            cache=cache,
            thumbnails_mb=thumbnails_mb,
            method=method,
            dtype=dtype,
        )
        for gallery in service.galleries.all():
            print(f"{gallery.name}: {len(gallery.rows):,} images")
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        print(address + ("" if token is None else "?token=TOKEN"))
        print("Ctrl-C ends it", flush=True)
        run(service, listening)
    print("ended")
