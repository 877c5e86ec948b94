"""The check of `otel-steps doctor` that asks the Redis of shared budgets; it reads there and changes nothing."""

from __future__ import annotations

import os
import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from .. import attributes as attr
from ..errors import DefinitionError
from .doctor_checks import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..shared.address import Address

_NAME: Final = "shared budgets"
_ROUNDS: Final = 9
_TIMEOUT_S: Final = 2.0


def shared_budgets(url: str | None) -> Iterator[Check]:
    """Whether the Redis at `url`, else the one the environment names, answers soon enough and keeps what it has."""
    from ..shared.address import check_client, read_address
    from ..shared.link import Unreachable

    url = url or os.environ.get(attr.ENV_SHARED, "").strip()
    if not url:
        return
    try:
        address = read_address(url)
        check_client(address)
    except DefinitionError as error:
        yield Check(_NAME, "wrong", str(error), error.remedy or "")
        return
    where = _shown(address)
    try:
        first_s, usual_s = _asked(address)
    except Unreachable as error:
        text = f"{where} does not answer: {error}; every call would count as not consulted"
        yield Check(_NAME, "wrong", text, f"redis-cli -u {where} ping")
        return
    slowest_s = max(first_s, usual_s)
    if slowest_s > address.timeout_s:
        took = f"{where} took {slowest_s * 1e3:.0f} ms for an answer"
        text = f"{took}; a call waits {address.timeout_s * 1e3:.0f} ms at most"
        yield Check(_NAME, "wrong", text, f"export {attr.ENV_SHARED}='{where}?timeout_s={4 * slowest_s:.2g}'")
        return
    yield Check(_NAME, "good", f"{where} answers in {usual_s * 1e3:.1f} ms, so much longer takes each call in a limit")
    yield from _keeps(address, where)


def _asked(address: Address) -> tuple[float, float]:
    """How long the first reading of a total takes, which connects, and the next ones usually take; in seconds."""
    from dataclasses import replace

    from ..runtime.shared_budgets import Account
    from ..shared.link import RedisLink
    from ..shared.operations import Batch, Encoding, Operation

    link = RedisLink(replace(address, timeout_s=max(address.timeout_s, _TIMEOUT_S)))
    encoding = Encoding(address.prefix, "doctor", address.idle_s, address.lease_s)
    question = encoding.keys_and_arguments(Batch(1, (Operation((Account("run", "otel-steps doctor"),)),)))
    took: list[float] = []
    try:
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            link.run(*question)
            took.append(time.perf_counter() - began)
    finally:
        link.close()
    return took[0], median(took[1:])


def _keeps(address: Address, where: str) -> Iterator[Check]:
    """Whether the Redis may forget totals to make room."""
    if address.cluster:
        return
    import redis

    kind: Any = redis.Redis
    client = kind.from_url(address.url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    try:
        memory: dict[str, Any] = client.info("memory")
    except redis.RedisError:  # not everybody is allowed to ask
        return
    finally:
        client.close()
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and memory.get("maxmemory"):
        text = f"it drops keys when its memory is full ({policy}): a budget would begin at nothing again"
        yield Check(_NAME, "wrong", text, f"redis-cli -u {where} config set maxmemory-policy noeviction")


def _shown(address: Address) -> str:
    """The URL without what is secret in it."""
    parts = urlsplit(address.url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
