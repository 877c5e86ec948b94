"""The hosts that `configure(propagate=[...])` names: how they are written, and which addresses they mean."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

from ..checks import mistake

if TYPE_CHECKING:
    from collections.abc import Iterable

HOSTS_MAX: Final = 256
_NAME = re.compile(r"(?=.{1,253}$)(\*\.)?[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443, "redis": 6379, "rediss": 6379, "amqp": 5672,
                 "pyamqp": 5672, "amqps": 5671}  # fmt: skip
_REMEDY: Final = 'hosts such as "api.internal", "api.internal:8443", "*.internal" or "[::1]:8000", no scheme or path'


class Hosts:
    """A set of named hosts. `*.example.com` means every name below it, not the name itself; no port means any."""

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._exact: set[tuple[str, int | None]] = set()
        self._below: set[tuple[str, int | None]] = set()
        for text in named:
            host, port = _parsed(text)
            if host.startswith("*."):
                self._below.add((host[1:], port))
            else:
                self._exact.add((host, port))

    def __bool__(self) -> bool:
        return bool(self._exact or self._below)

    def name(self, scheme: str | None, host: str | None, port: int | None) -> bool:
        """Whether the address is one of a named host; `port` None: the scheme's own."""
        known = (host or "").lower().rstrip(".").strip("[]")
        if not known:
            return False
        port = port_of(scheme, port)
        if (known, None) in self._exact or (known, port) in self._exact:
            return True
        return any(known.endswith(below) and at in {None, port} for below, at in self._below)


def port_of(scheme: str | None, port: int | None) -> int | None:
    """`port`, or the scheme's own."""
    return port or _PORTS.get((scheme or "").lower())


def checked_hosts(value: Any) -> tuple[str, ...]:
    """`propagate=` as it was given. Raises DefinitionError that names the host that is none."""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise mistake("propagate", value, 'a list of host names such as ["internal.example"]')
    named = tuple(value)
    if len(named) > HOSTS_MAX:
        raise mistake("propagate", f"{len(named)} hosts", f"at most {HOSTS_MAX} hosts; `*.example.com` names many")
    for text in named:
        _parsed(text)
    return named


def _parsed(text: Any) -> tuple[str, int | None]:
    if not isinstance(text, str):
        raise mistake("propagate", text, _REMEDY)
    host, port = text.lower(), None
    if (match := re.fullmatch(r"(\[[^\]]*\]|[^:]*):([0-9]{1,5})", host)) is not None:
        host, port = match[1], int(match[2])
        if not 0 < port < 65536:
            raise mistake("propagate", text, "a port from 1 to 65535")
    if host.startswith("[") or host.count(":") > 1:
        try:
            return str(ipaddress.IPv6Address(host.strip("[]"))), port
        except ValueError:
            raise mistake("propagate", text, _REMEDY) from None
    if _NAME.fullmatch(host.rstrip(".")) is None:
        raise mistake("propagate", text, _REMEDY)
    return host.rstrip("."), port
