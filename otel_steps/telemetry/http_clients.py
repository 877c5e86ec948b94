"""The HTTP clients that are guarded where they are loaded: which method sends, and how to read what it sends."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Asked(NamedTuple):
    """What a request asks: method, URL, and the body where it is at hand without reading somebody's stream."""

    method: str
    url: str
    body: Any = None


@dataclass(frozen=True, slots=True)
class Client:
    """One client: the method of a public class through which all its requests go, before they leave."""

    module: str
    owner: str
    method: str
    read: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Asked]
    """From the instance and the arguments of the method to what is asked."""


def _httpx(_client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked:
    request = args[0] if args else kwargs["request"]
    try:
        body = request.content
    except Exception:  # noqa: BLE001 - httpx's own error: a body that streams, which is not ours to read
        body = None
    return Asked(request.method, str(request.url), body)


def _prepared(_session: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked:
    request = args[0] if args else kwargs["request"]
    return Asked(request.method or "", request.url or "", request.body)


def _urllib3(pool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked:
    method, url, body = (*args, None, None, None)[:3]
    method, url, body = kwargs.get("method", method), kwargs.get("url", url), kwargs.get("body", body)
    if url.startswith("/"):  # through a proxy the URL is whole
        host = f"[{pool.host}]" if ":" in pool.host else pool.host
        url = f"{pool.scheme}://{host}:{pool.port}{url}" if pool.port else f"{pool.scheme}://{host}{url}"
    return Asked(method, url, body)


def _aiohttp(_connector: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked:
    request = args[0] if args else kwargs["req"]
    body = request.body
    in_memory: Any = getattr(sys.modules.get("aiohttp"), "BytesPayload", None)
    if in_memory is not None and isinstance(body, in_memory):
        payload: Any = body
        body = payload.decode()
    return Asked(request.method, str(request.url), body)


CLIENTS: Final = (
    Client("httpx", "Client", "send", _httpx),
    Client("httpx", "AsyncClient", "send", _httpx),
    Client("httpx2", "Client", "send", _httpx),
    Client("httpx2", "AsyncClient", "send", _httpx),
    Client("requests", "Session", "send", _prepared),
    Client("urllib3", "HTTPConnectionPool", "urlopen", _urllib3),
    # the last public method before a connection is taken; the ones that users call share a private one alone
    Client("aiohttp", "BaseConnector", "connect", _aiohttp),
    Client("botocore.httpsession", "URLLib3Session", "send", _prepared),
)
