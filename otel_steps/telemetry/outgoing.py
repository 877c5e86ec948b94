"""Requests to the named hosts carry the caller's ids, and what comes back is charged; other hosts get nothing of it."""

from __future__ import annotations

import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import wrapt
from opentelemetry import baggage
from opentelemetry import context as otel_context

from .. import attributes as attr
from ..runtime.context import charged_scope, current_scope
from ..runtime.remote import caller_here, caller_to_tell, without_entry
from ..runtime.returned import from_header, take_back
from ..runtime.state import runtime
from ..runtime.stops import broken_owner, stop_for
from .celery_tasks import CeleryTasks
from .hosts import Hosts, port_of
from .outgoing_clients import PLACES, Answered, Outgoing, Sender
from .patching import put_around
from .trace_headers import additions, lower_case, other_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.context import Context

    from ..runtime.remote import Caller
    from ..runtime.scope import Scope

    Address = tuple[str, str, int | None]
    Arguments = tuple[tuple[Any, ...], dict[str, Any]]

ADDRESSES_MAX: Final = 256
"""Services remembered as having answered with costs."""


class _Trip(NamedTuple):
    """One request to a named host, and for whom it is sent."""

    address: Address
    scope: Scope | None
    caller: Caller | None


class Propagation:
    """The hooks in the HTTP clients and in Celery, while hosts are named. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._hosts = Hosts()
        self._in: dict[Sender | Answered, Callable[[], bool]] = {}
        self._awaited: set[str] = set()
        self._spending: dict[Address, None] = {}
        self._celery = CeleryTasks(self._is_named)

    def set_hosts(self, named: Iterable[str]) -> None:
        """Put the hooks in, where hosts are named; else take them out."""
        with self._lock:
            self._hosts = Hosts(named)
            self._spending.clear()
            if not self._hosts:
                # one that somebody has wrapped since stays where it is, and lets everything pass
                self._in = {place: take_out for place, take_out in self._in.items() if not take_out()}
                self._celery.take_out()
                return
            for name in {*(place.module for place in PLACES), CeleryTasks.MODULE}:
                if (module := sys.modules.get(name)) is not None:
                    self._put_in(module)
                elif name not in self._awaited:
                    self._awaited.add(name)
                    wrapt.register_post_import_hook(self._imported, name)

    def _imported(self, module: Any) -> None:
        with self._lock:
            if self._hosts:
                self._put_in(module)

    def _put_in(self, module: Any) -> None:
        if module.__name__ == CeleryTasks.MODULE:
            self._celery.put_in(module)
        for place in PLACES:
            owner: Any = getattr(module, place.owner, None)
            if place.module != module.__name__ or place in self._in or not hasattr(owner, place.method):
                continue
            wrapper: Callable[..., Any] = self._answered
            if isinstance(place, Sender):
                wrapper = self._around(place, getattr(owner, place.method))
            self._in[place] = put_around(owner, place.method, wrapper)

    def _is_named(self, scheme: str | None, host: str | None, port: int | None) -> bool:
        return self._hosts.name(scheme, host, port)

    def _around(self, sender: Sender, method: Any) -> Callable[..., Any]:
        def send(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            args, kwargs, own, trip = self._depart(sender, instance, args, kwargs)
            before = _enter(own)
            try:
                response = wrapped(*args, **kwargs)
            finally:
                _leave(own, before)
            if trip is not None and sender.answers:
                self._came_back(trip, response)
            return response

        async def send_async(
            wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            args, kwargs, own, trip = self._depart(sender, instance, args, kwargs)
            before = _enter(own)
            try:
                response = await wrapped(*args, **kwargs)
            finally:
                _leave(own, before)
            if trip is not None and sender.answers:
                self._came_back(trip, response)
            return response

        return send_async if inspect.iscoroutinefunction(method) else send

    def _depart(
        self, sender: Sender, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], Context | None, _Trip | None]:
        """What to send instead, in which context, and what to know of it when the answer comes.

        Raises StepStop where a limit around is broken and the service is one that answered with costs.
        """
        if not self._hosts:
            return args, kwargs, None, None
        try:
            sent = sender.read(instance, args, kwargs)
            if not self._hosts.name(sent.scheme, sent.host, sent.port):
                return *self._without(sender, instance, args, kwargs, sent), None
            self._refuse(sent)
            caller = caller_to_tell(runtime())
            if caller is None:
                return args, kwargs, None, None
            trip = _Trip(_address(sent), charged_scope(), caller_here(runtime()))
            changes = additions(lower_case(sent.headers), caller)
            args, kwargs = sender.change(instance, args, kwargs, changes)
            # an instrumentation underneath writes the header anew, from the baggage of the context
            own = baggage.set_baggage(attr.BAGGAGE_ENTRY, caller.entry) if attr.HEADER_BAGGAGE in changes else None
        except Exception as error:  # noqa: BLE001 - the request leaves as it was made
            runtime().faults.report("telling a service its caller", error)
            return args, kwargs, None, None
        return args, kwargs, own, trip

    def _without(
        self, sender: Sender, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any], sent: Outgoing
    ) -> tuple[tuple[Any, ...], dict[str, Any], Context | None]:
        """The request without our entry: an instrumentation passes on whatever baggage a service was sent."""
        told = lower_case(sent.headers).get(attr.HEADER_BAGGAGE, "")
        if attr.BAGGAGE_ENTRY in told:
            kept = ",".join(other_members(told))
            args, kwargs = sender.change(instance, args, kwargs, {attr.HEADER_BAGGAGE: kept or None})
        here = otel_context.get_current()
        own = without_entry(here)
        return args, kwargs, None if own is here else own

    def _refuse(self, sent: Outgoing) -> None:
        rt = runtime()
        if not rt.broken or not rt.options.transport_gate or _address(sent) not in self._spending:
            return
        owner = broken_owner(current_scope())
        if owner is not None:
            raise stop_for(rt, owner)

    def _came_back(self, trip: _Trip, response: Any) -> None:
        rt = runtime()
        try:
            answer = lower_case(response.headers).get(attr.HEADER_RECEIPT)
            items = [] if answer is None else from_header(answer)
            if not items:
                return
            if len(self._spending) < ADDRESSES_MAX:
                self._spending[trip.address] = None
            if trip.scope is not None:
                take_back(rt, trip.scope, items, by_hand=False)
            elif trip.caller is not None:
                for item in items:  # this service only passed the call on
                    trip.caller.finished(item)
        except Exception as error:  # noqa: BLE001 - the answer is the user's, with or without its costs
            rt.faults.report("taking back what a service spent", error)

    async def _answered(
        self, wrapped: Callable[..., Any], response: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = await wrapped(*args, **kwargs)
        if self._hosts:
            url = response.url
            if self._hosts.name(url.scheme, url.host, url.port):
                address = (str(response.method).upper(), url.host, url.port)
                self._came_back(_Trip(address, charged_scope(), caller_here(runtime())), response)
        return result


def _address(sent: Outgoing) -> Address:
    return sent.method.upper(), sent.host or "", port_of(sent.scheme, sent.port)


def _enter(own: Context | None) -> Context | None:
    if own is None:
        return None
    before = otel_context.get_current()
    otel_context.attach(own)
    return before


def _leave(own: Context | None, before: Context | None) -> None:
    # never a token, which may belong to another task
    if own is not None and before is not None and otel_context.get_current() is own:
        otel_context.attach(before)


PROPAGATION: Final = Propagation()
"""The one: the clients' classes are the process's."""
