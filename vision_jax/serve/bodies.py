"""The bodies of requests: JSON, bounded in bytes, in time, and over all requests together."""

import asyncio
import json
from typing import Any, NoReturn

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from vision_jax.serve.faults import Limits, RequestError

_IN_THREAD = 1 << 16  # bytes from which parsing must not hold up other requests


class Bodies:
    """Reads bodies.

    Args:
        limits: what is taken at most.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self._held = limits, 0

    async def read(self, request: Request) -> Any:
        """Read the JSON of a request.

        Raises:
            RequestError: it is no JSON, too large, or takes too long to arrive.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestError(
                f"Content-Type is {kind[:100]!r}; application/json is needed", status=415
            )
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._limits.body_bytes:
            raise self._too_large()
        data = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for part in request.stream():
                    self._held += len(part)
                    data += part
                    if len(data) > self._limits.body_bytes:
                        raise self._too_large()
                    if self._held > self._limits.total_bytes:
                        raise RequestError("too many bytes arrive at a time; try again", status=503)
            if len(data) < _IN_THREAD:
                return parse(bytes(data))
            return await anyio.to_thread.run_sync(parse, bytes(data))
        except TimeoutError:
            seconds = self._limits.body_seconds
            raise RequestError(
                f"the body did not arrive in {seconds:g} seconds; send it faster", status=408
            ) from None
        except ClientDisconnect:
            raise RequestError("the client is gone", status=400) from None
        finally:
            self._held -= len(data)

    def _too_large(self) -> RequestError:
        return RequestError(
            f"the body is too large; at most {self._limits.body_bytes:,} bytes are read", status=413
        )


def parse(data: bytes) -> Any:
    """Parse JSON strictly.

    Raises:
        RequestError: it is none.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise RequestError(
            "the body is nested too deeply; JSON as /api/openapi.json says is needed"
        ) from None
    except ValueError as error:
        raise RequestError(f"the body is no JSON: {error}") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
