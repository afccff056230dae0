"""Who may ask, and what every answer says: around the whole application."""

import hmac
import ipaddress
import time
from collections.abc import Callable, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import URL, Headers, MutableHeaders, QueryParams
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vision_jax.serve.answers import fault_answer
from vision_jax.serve.faults import RequestError

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
COOKIE = "vision_jax_token"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Refuses what comes from other sites, without the token, or in too great numbers.

    Args:
        app: the application.
        names: host names that requests may address beside the loopback's; a page of another site
            that has its own name point here (DNS rebinding) sends that one.
        any_address: accept any IP address as the host, as a server does that listens on all.
        token: what must be sent; None on the loopback.
        most: requests at a time.
        done: called with the path, the status and the seconds of each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Sequence[str] = (),
        any_address: bool = False,
        token: str | None = None,
        most: int = 128,
        done: Callable[[Scope, int, float], None] = lambda scope, status, seconds: None,
    ) -> None:
        self._app, self._token, self._most, self._done = app, token, most, done
        self._names = {name.lower() for name in (*_LOOPBACK, *names)}
        self._any_address = any_address
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        self._active += 1
        try:
            answer = self._refusal(scope)
            await (answer or self._app)(scope, receive, with_headers)
        finally:
            self._active -= 1
            self._done(scope, status, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        try:
            if self._active > self._most:
                raise RequestError("too many requests at a time; try again", status=503)
            self._check_host(headers)
            _check_origin(headers, scope)
            return self._login(scope, headers)
        except RequestError as fault:
            return fault_answer(fault)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name in self._names or (self._any_address and _is_address(name)):
            return
        raise RequestError(
            f"Host is {host[:100]!r}; one of {', '.join(sorted(self._names))} is needed",
            status=403,
        )

    def _login(self, scope: Scope, headers: Headers) -> Response | None:
        """Check the token; one in the page's address becomes a cookie."""
        if self._token is None:
            return None
        given = QueryParams(scope["query_string"]).get("token")
        if scope["path"] == "/" and given is not None and self._is_token(given):
            page = RedirectResponse(URL("/"), status_code=303)
            page.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return page
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(sent.strip()):
            return None
        if self._is_token(_cookie(headers)):
            return None
        fault = RequestError(
            "a token is needed: open /?token=… once, or send Authorization: Bearer …", status=401
        )
        answer = fault_answer(fault)
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode(errors="replace"), self._token.encode())


def _check_origin(headers: Headers, scope: Scope) -> None:
    """Refuse what another site's page sends; a link to the page may be followed."""
    origin = headers.get("origin")
    if origin is not None and _netloc(origin) != headers.get("host", "").lower():
        raise RequestError(
            f"Origin is {origin[:100]!r}; this server's own page is needed", status=403
        )
    site = headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin") and scope["path"] != "/":
        raise RequestError(
            f"the request is {site[:20]}; this server's own page is needed", status=403
        )


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _cookie(headers: Headers) -> str:
    cookie = SimpleCookie()
    try:
        cookie.load(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookie[COOKIE].value if COOKIE in cookie else ""


def is_loopback(host: str) -> bool:
    """Whether an address or name to listen on is reached from this machine alone."""
    return host in _LOOPBACK or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_any(host: str) -> bool:
    """Whether an address stands for all of this machine's."""
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
