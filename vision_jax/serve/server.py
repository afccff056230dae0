"""Run the application on a socket until it is told to stop."""

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from vision_jax.errors import InputError
from vision_jax.serve.app import Answers, make_app
from vision_jax.serve.faults import Limits
from vision_jax.serve.galleries import Galleries
from vision_jax.serve.metrics import Metrics
from vision_jax.serve.safety import Guard, is_any, is_loopback
from vision_jax.serve.searching import Searcher
from vision_jax.serve.thumbnails import MOST, Thumbnails, default_folder

_SHORTEST = 16  # characters of a token
_GRACE = 5  # seconds for requests under way at the end
_LOOK = 1.0  # seconds between looks at connections


class Service:
    """Indexes behind an application, with the threads that serve them.

    Args:
        paths: the index files, or folders of shards.
        workdir: the folder of the run that made them, if it has moved since.
        host: the address or name that is listened on.
        names: further host names under which it is reached.
        token: what requests must send; needed unless `host` is the loopback.
        cache: where thumbnails are kept; by default where `default_folder` says.
        thumbnails_mb: MiB of thumbnails to keep at most; the least recently shown go first.
        method: how to search, as for `CosineIndex.search`.
        dtype: type in which to hold vectors, as for `CosineIndex`; as in the files by default.
        limits: what is taken at most.
        watch: look for replaced files each second.

    Attributes:
        app: the application.
        limits: see above.
        galleries: what is served.

    Raises:
        InputError: a file is no index, or `host` is no loopback and `token` None or too short.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        workdir: Path | None = None,
        host: str = "127.0.0.1",
        names: Sequence[str] = (),
        token: str | None = None,
        cache: Path | None = None,
        thumbnails_mb: int = MOST >> 20,
        method: str = "exact",
        dtype: str | None = None,
        limits: Limits | None = None,
        watch: bool = True,
    ) -> None:
        check_token(host, token)
        self.limits = limits or Limits()
        metrics = Metrics()
        thumbnails = Thumbnails(default_folder() if cache is None else cache, thumbnails_mb << 20)
        self._searcher = Searcher(metrics, method)
        try:
            self.galleries = Galleries(paths, workdir, dtype, self._searcher.prepare, method=method)
        except BaseException:
            self._searcher.close()
            raise
        self.galleries.on_reload = metrics.reload
        answers = Answers(self.galleries, self._searcher, thumbnails, metrics, self.limits)
        inner = make_app(answers)
        paths_known = {route.path for route in answers.routes()}

        def done(scope: Scope, status: int, seconds: float) -> None:
            # Counted by the application's paths alone, however many a client makes up.
            path = scope["path"] if scope["path"] in paths_known else "other"
            metrics.request(path, status, seconds)

        self.app = Guard(
            inner,
            names=(host, *names, *([] if is_loopback(host) else [socket.gethostname()])),
            any_address=is_any(host),
            token=token,
            most=self.limits.requests,
            done=done,
        )
        self._watching = threading.Thread(target=self.galleries.watch, daemon=True)
        if watch:
            self._watching.start()

    def close(self) -> None:
        """End the threads."""
        self.galleries.stop()
        if self._watching.ident is not None:
            self._watching.join()
        self._searcher.close()


def check_token(host: str, token: str | None) -> None:
    """Refuse to be reached by others without a token.

    Raises:
        InputError: `host` is no loopback and there is no token, or the token is too short.
    """
    if token is None and not is_loopback(host):
        raise InputError(
            f"host is {host!r}, which other machines may reach; token is needed, {_SHORTEST} or "
            "more letters that nobody guesses"
        )
    if token is not None and (len(token) < _SHORTEST or not token.isalnum() or not token.isascii()):
        raise InputError(
            f"token has {len(token)} characters; {_SHORTEST} or more are needed, letters and digits"
        )


def listen(host: str, port: int) -> socket.socket:
    """Open the socket to serve on.

    Args:
        host: an address or name of this machine.
        port: 0 for any that is free.

    Raises:
        InputError: the port is taken or not allowed, or the host is not this machine's.
    """
    if not 0 <= port < 1 << 16:
        raise InputError(f"port is {port}; it must be in [0, 65535]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        what = error.strerror or str(error)
        raise InputError(
            f"host is {host!r} and port is {port}, where nothing can listen: {what}; "
            "another port is needed, such as 0 for any that is free"
        ) from None


def run(service: Service, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; requests under way are finished.

    Args:
        service: what answers; it is closed at the end.
        listening: what `listen` returned; likewise.
    """
    try:
        make_server(service).run(sockets=[listening])
    finally:
        listening.close()
        service.close()


def make_server(service: Service) -> uvicorn.Server:
    """Make the server of a service, which ends once its `should_exit` is set."""
    for name in ("uvicorn", "uvicorn.error"):
        # What clients do wrong is no news, and what fails here is told by the application.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        service.app,
        loop="auto",  # uvloop, but on Windows, for which there is none
        http=_protocol(service.limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """A server that a signal ends as if it had come to its end by itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _protocol(limits: Limits) -> type[H11Protocol]:
    class Bounded(H11Protocol):
        """HTTP whose connections are few, and not held open by those who send or read nothing."""

        _began = 0.0  # when what is waited for began
        _serving: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
                return
            self._began = time.monotonic()
            self.loop.call_later(_LOOK, self._look)

        def _look(self) -> None:
            if self.transport.is_closing():
                return
            serving = self.cycle if self.cycle and not self.cycle.response_complete else None
            if serving is not self._serving:
                self._serving, self._began = serving, time.monotonic()
            most = limits.head_seconds if serving is None else limits.answer_seconds
            if time.monotonic() - self._began > most:
                self.transport.abort()
                return
            self.loop.call_later(_LOOK, self._look)

    return Bounded
