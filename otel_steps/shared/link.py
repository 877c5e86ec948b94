"""Link: one Redis, asked by one thread at a time; whatever goes wrong on the way is `Unreachable`."""

from __future__ import annotations

import contextlib
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .address import Address


class Unreachable(Exception):
    """Redis could not be asked, or did not answer as it should; the message says how, without secrets."""


class RedisLink:
    """Runs the script on the Redis at `address`: one connection at a time, made on first use and after each trouble."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._script = files("otel_steps.shared").joinpath("budget.lua").read_text(encoding="utf-8")
        self._client: Any = None
        self._sha = ""
        self._abandoned: list[Any] = []

    def run(self, keys: Sequence[bytes], arguments: Sequence[str]) -> Any:
        """What the script answers. Raises Unreachable; whether the script has run is then not known."""
        from redis.exceptions import NoScriptError

        try:
            client = self._client or self._connect()
            try:
                return client.evalsha(self._sha, len(keys), *keys, *arguments)
            except NoScriptError:  # a Redis that was restarted, or another one
                return client.eval(self._script, len(keys), *keys, *arguments)
        except Exception as error:  # whatever the network, DNS, TLS or Redis says: the agent goes on
            self.close()
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connection; the next one may be to another host, where the name's address has changed."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # it is broken already
                client.close()

    def forked(self) -> None:
        """In a forked child: its own connection; the parent's must be neither used nor closed here."""
        if self._client is not None:
            self._abandoned.append(self._client)
            self._client = None

    def _connect(self) -> Any:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        address = self._address
        kind: Any = redis.RedisCluster if address.cluster else redis.Redis
        self._client = kind.from_url(
            address.url,
            socket_timeout=address.timeout_s,
            socket_connect_timeout=address.timeout_s,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
        )
        self._sha = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        return self._client
