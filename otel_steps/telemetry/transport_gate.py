"""The gate at the HTTP clients: in when a limit breaks, out when its scope leaves; refuses model calls inside it."""

from __future__ import annotations

import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import wrapt

from ..runtime.context import current_scope
from ..runtime.state import runtime
from ..runtime.stops import broken_owner, stop_for
from .http_clients import CLIENTS, Client
from .model_requests import REQUESTS
from .patching import put_around

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..runtime.scope import Scope

    TakeOut = Callable[[], bool]


class TransportGate:
    """Guards the HTTP clients of this process while some scope has a broken limit. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owners: dict[Scope, None] = {}
        self._guarded: dict[Client, TakeOut] = {}
        self._awaited: set[str] = set()

    def limit_broke(self, owner: Scope) -> None:
        """`owner` has broken a limit: from now on model calls inside it are refused at the clients."""
        self._await_clients()
        with self._lock:
            self._owners[owner] = None
            self._put_in()

    def scope_left(self, owner: Scope) -> None:
        """`owner` is closed: with the last one the guards go."""
        with self._lock:
            self._owners.pop(owner, None)
            if not self._owners:
                guarded, self._guarded = self._guarded, {}
                for take_out in guarded.values():
                    take_out()

    def _await_clients(self) -> None:
        """See to it that a client which is imported only after the limit broke is guarded too."""
        for name in {client.module for client in CLIENTS} - self._awaited:
            self._awaited.add(name)
            if name not in sys.modules:
                wrapt.register_post_import_hook(self._imported, name)

    def _imported(self, _module: Any) -> None:
        with self._lock:
            if self._owners:
                self._put_in()

    def _put_in(self) -> None:
        for client in CLIENTS:
            if client not in self._guarded:
                owner = getattr(sys.modules.get(client.module), client.owner, None)
                if owner is not None and hasattr(owner, client.method):
                    self._guarded[client] = self._guard(client, owner)

    def _guard(self, client: Client, owner: type[Any]) -> TakeOut:
        def guard(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self._refuse(client, instance, args, kwargs)
            return wrapped(*args, **kwargs)

        async def guard_async(
            wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            self._refuse(client, instance, args, kwargs)
            return await wrapped(*args, **kwargs)

        is_async = inspect.iscoroutinefunction(getattr(owner, client.method))
        return put_around(owner, client.method, guard_async if is_async else guard)

    def _refuse(self, client: Client, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise StepStop for a model call inside a scope whose limit, or one around it, is broken."""
        if not self._owners:
            return
        owner = broken_owner(current_scope())
        if owner is None:
            return
        rt = runtime()
        try:
            model_call = REQUESTS.is_model_call(*client.read(instance, args, kwargs))
        except Exception as error:  # noqa: BLE001 - a request that cannot be read is let pass
            rt.faults.report("reading a request", error)
            return
        if model_call:
            raise stop_for(rt, owner)


GATE: Final = TransportGate()
"""The one gate: the clients' classes are the process's."""
