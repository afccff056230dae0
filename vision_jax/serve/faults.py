"""What is wrong with a request, and what a server takes at most."""

import contextlib
import dataclasses
from collections.abc import Iterator

from vision_jax.data.decode import MAX_PIXELS
from vision_jax.errors import InputError


class RequestError(InputError):
    """A request that cannot be answered.

    Attributes:
        field: the path of the field that is wrong, such as `queries.0.box`; None for the request.
        status: of the response, 4xx or 503.
    """

    def __init__(self, message: str, *, field: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.field, self.status = field, status


@contextlib.contextmanager
def naming(field: str) -> Iterator[None]:
    """Say which field an `InputError` of the library is about."""
    try:
        yield
    except RequestError:
        raise
    except InputError as error:
        raise RequestError(str(error), field=field) from error


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server takes at most.

    Attributes:
        k: hits of a query, those before `offset` included.
        queries: queries of a request.
        examples: images and keys of a query.
        body_bytes: of a request.
        total_bytes: of all requests that are being read.
        pixels: of an image; a JPEG may have 2.5 times as many, since it is decoded at a scale.
        body_seconds: for a request's body to arrive.
        head_seconds: for a request's first lines to arrive.
        answer_seconds: for an answer to be made and read.
        requests: requests at a time.
        connections: open connections.
    """

    k: int = 1000
    queries: int = 64
    examples: int = 32
    body_bytes: int = 32 << 20
    total_bytes: int = 256 << 20
    pixels: int = MAX_PIXELS
    body_seconds: float = 30.0
    head_seconds: float = 15.0
    answer_seconds: float = 120.0
    requests: int = 128
    connections: int = 512
