"""Address: where shared budgets are kept and how, read from one URL and checked before use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from ..checks import mistake
from ..errors import DefinitionError

SCHEMES: Final = ("redis", "rediss", "unix")
_EXAMPLE: Final = "a URL such as redis://localhost:6379/0 (rediss:// with TLS, unix:// for a socket), or None"
_SECONDS: Final = {"timeout_s": 0.25, "idle_s": 3600.0, "lease_s": 600.0}
_LONGEST_S: Final = 10.0**7


@dataclass(frozen=True, slots=True)
class Address:
    """A Redis that keeps shared budgets. `url` is for its client; the rest is ours."""

    url: str
    timeout_s: float = _SECONDS["timeout_s"]
    """How long a call of the agent may wait for it, at most."""
    idle_s: float = _SECONDS["idle_s"]
    """After how long without a call the totals of a run or persona begin at nothing again."""
    lease_s: float = _SECONDS["lease_s"]
    """After how long the room that a call holds is free again, where nobody gave it back."""
    prefix: str = "otel_steps"
    """Begins every key. It is the keys' hash tag, so that they are in one slot of a cluster."""
    cluster: bool = False


def read_address(url: Any) -> Address:
    """The address that `url` tells, with `timeout_s`, `idle_s`, `lease_s`, `prefix` and `cluster` from its query.

    Raises DefinitionError, in which a password is not repeated.
    """
    if not isinstance(url, str) or not url:
        raise mistake("shared", url, _EXAMPLE)
    parts = _parts(url)
    if parts is None or parts.scheme not in SCHEMES or not (parts.netloc or parts.path):
        raise mistake("shared", _without_password(url), _EXAMPLE)
    theirs: list[tuple[str, str]] = []
    seconds = dict(_SECONDS)
    prefix, cluster = "otel_steps", False
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key in seconds:
            seconds[key] = _seconds(key, value)
        elif key == "prefix":
            prefix = _prefix(value)
        elif key == "cluster":
            cluster = _flag(value)
        else:
            theirs.append((key, value))
    if seconds["idle_s"] < seconds["lease_s"]:
        raise mistake("shared", f"idle_s={seconds['idle_s']:g}", f"at least the lease_s of {seconds['lease_s']:g}")
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(theirs), ""))
    if parts.scheme == "unix" and not parts.netloc:
        bare = f"unix://{parts.path}" + (f"?{urlencode(theirs)}" if theirs else "")
    return Address(bare, seconds["timeout_s"], seconds["idle_s"], seconds["lease_s"], prefix, cluster)


def check_client(address: Address) -> None:
    """See that the client library is there and understands the URL; nothing is sent. Raises DefinitionError."""
    try:
        redis: Any = import_module("redis")
    except ImportError as error:
        raise DefinitionError(
            'shared= needs the client of Redis: pip install "otel-steps[shared]"',
            field="shared",
            remedy='pip install "otel-steps[shared]"',
        ) from error
    try:
        pool = redis.ConnectionPool.from_url(address.url)
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError, redis.RedisError) as error:
        url = _without_password(address.url)
        raise mistake("shared", url, f"what the client of Redis understands ({error})") from error


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # half an IPv6 address, or a port that is no number
        return None
    return None if port == 0 else parts


def _seconds(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0.001 <= number <= _LONGEST_S:
        raise mistake("shared", f"{key}={value}", "a number of seconds, at least 0.001")
    return number


def _prefix(value: str) -> str:
    if not value or not value.isprintable() or set(value) & set("{} ") or len(value) > 64:
        raise mistake("shared", f"prefix={value}", "1 to 64 characters without spaces and braces")
    return value


def _flag(value: str) -> bool:
    if value not in {"true", "false"}:
        raise mistake("shared", f"cluster={value}", "true or false")
    return value == "true"


def _without_password(url: str) -> str:
    scheme, found, _ = url.partition("://")
    return f"{scheme}://..." if found or "@" in url else url
