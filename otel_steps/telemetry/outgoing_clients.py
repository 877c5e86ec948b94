"""The HTTP clients whose requests can carry the caller: each hop of a request, below retries and redirects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Outgoing(NamedTuple):
    """One request on its way, as far as it matters here."""

    method: str
    scheme: str | None
    host: str | None
    port: int | None
    headers: Any


class Answered(NamedTuple):
    """A public method after which a response tells its headers."""

    module: str
    owner: str
    method: str


@dataclass(frozen=True, slots=True)
class Sender:
    """One client: a public method that sends one hop, how to read what it sends, and how to change its headers.

    The request that the caller made stays as it is: a redirect is built from it, and may lead to another host.
    """

    module: str
    owner: str
    method: str
    read: Callable[[Any, tuple[Any, ...], dict[str, Any]], Outgoing]
    change: Callable[[Any, tuple[Any, ...], dict[str, Any], Mapping[str, str | None]], Arguments]
    answers: bool = True
    """Whether the method returns a response with `headers`."""


def changed(headers: Any, changes: Mapping[str, str | None]) -> Any:
    """A copy of `headers` with values set, or taken out where they are None; names in any case are the same."""
    made: Any = headers.copy() if hasattr(headers, "items") and hasattr(headers, "copy") else dict(headers)
    change(made, changes)
    return made


def change(headers: Any, changes: Mapping[str, str | None]) -> None:
    """The same, in place."""
    for known in list(headers):
        name = known.decode("latin-1") if isinstance(known, bytes) else str(known)
        if name.lower() in changes and known in headers:
            del headers[known]
    for name, value in changes.items():
        if value is not None:
            headers[name] = value


def _httpx_read(_transport: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outgoing:
    request: Any = args[0] if args else kwargs["request"]
    url = request.url
    return Outgoing(request.method, url.scheme, url.host, url.port, request.headers)


def _httpx_change(
    _transport: Any, args: tuple[Any, ...], kwargs: dict[str, Any], changes: Mapping[str, str | None]
) -> Arguments:
    request: Any = args[0] if args else kwargs["request"]
    headers = changed(request.headers, changes)
    sent = type(request)(
        request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
    )
    return (sent,), {}


def _urllib3_read(pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outgoing:
    method: str = args[0] if args else kwargs["method"]
    url: str = args[1] if len(args) > 1 else kwargs["url"]
    headers: Any = kwargs.get("headers", args[3] if len(args) > 3 else None)
    headers = pool.headers if headers is None else headers
    if not url.startswith("/"):  # through a proxy the URL is whole
        parts = urlsplit(url)
        return Outgoing(method, parts.scheme, parts.hostname, parts.port, headers)
    return Outgoing(method, pool.scheme, pool.host, pool.port, headers)


def _urllib3_change(
    pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any], changes: Mapping[str, str | None]
) -> Arguments:
    headers = changed(_urllib3_read(pool, args, kwargs).headers or {}, changes)
    if len(args) > 3:
        return (*args[:3], headers, *args[4:]), kwargs
    return args, {**kwargs, "headers": headers}


def _aiohttp_read(_connector: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outgoing:
    request: Any = args[0] if args else kwargs["req"]
    url = request.url
    return Outgoing(request.method, url.scheme, url.host, url.port, request.headers)


def _aiohttp_change(
    _connector: Any, args: tuple[Any, ...], kwargs: dict[str, Any], changes: Mapping[str, str | None]
) -> Arguments:
    # made anew for each hop, and written to the connection that it gets here
    request: Any = args[0] if args else kwargs["req"]
    change(request.headers, changes)
    return args, kwargs


SENDERS: Final = (
    *(
        Sender(module, owner, method, _httpx_read, _httpx_change)
        for module in ("httpx", "httpx2")
        for owner, method in (
            ("HTTPTransport", "handle_request"),
            ("AsyncHTTPTransport", "handle_async_request"),
            ("WSGITransport", "handle_request"),
            ("ASGITransport", "handle_async_request"),
        )
    ),
    # requests and botocore send through it
    Sender("urllib3", "HTTPConnectionPool", "urlopen", _urllib3_read, _urllib3_change),
    Sender("aiohttp", "BaseConnector", "connect", _aiohttp_read, _aiohttp_change, answers=False),
)
PLACES: Final[tuple[Sender | Answered, ...]] = (
    *SENDERS,
    # reads the head of a response: the instance has method, URL and headers then
    Answered("aiohttp", "ClientResponse", "start"),
)
"""Where the hooks go."""
