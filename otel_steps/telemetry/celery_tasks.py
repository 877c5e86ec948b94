"""Celery: a task whose broker is a named host carries the ids of the step that sent it, and its steps hang there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from opentelemetry import baggage
from opentelemetry import context as otel_context

from .. import attributes as attr
from ..runtime.remote import caller_to_tell, enter_call, leave_call
from ..runtime.state import runtime
from .outgoing_clients import changed
from .patching import put_around
from .trace_headers import additions, caller_in, lower_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.context import Context

    from ..runtime.remote import Caller

_TASKS_MAX: Final = 100_000
_UID: Final = "otel_steps"


class CeleryTasks:
    """The hook around `Celery.send_task`, and the signals around a task in a worker."""

    MODULE: ClassVar[str] = "celery.app.base"

    def __init__(self, is_named: Callable[[str | None, str | None, int | None], bool]) -> None:
        self._is_named = is_named
        self._out: Callable[[], bool] | None = None
        self._signals: Any = None
        self._before: dict[str, Caller | None] = {}

    def put_in(self, module: Any) -> None:
        """Hook into Celery, whose application module this is."""
        if self._out is None:
            self._out = put_around(module.Celery, "send_task", self._send)
        self._signals = module.signals
        self._signals.task_prerun.connect(self._begins, weak=False, dispatch_uid=_UID)
        self._signals.task_postrun.connect(self._ended, weak=False, dispatch_uid=_UID)

    def take_out(self) -> None:
        """Undo `put_in`."""
        if self._out is None:
            return
        self._signals.task_prerun.disconnect(dispatch_uid=_UID)
        self._signals.task_postrun.disconnect(dispatch_uid=_UID)
        if self._out():
            self._out = None

    def _send(self, wrapped: Callable[..., Any], app: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        own: Context | None = None
        try:
            caller = caller_to_tell(runtime()) if self._all_named(app, kwargs) else None
            if caller is not None:
                headers: Any = kwargs.get("headers") or {}
                # a task that is sent again, or by one that was sent, has the headers of before
                told = {name: value for name, value in lower_case(headers).items() if name == attr.HEADER_BAGGAGE}
                added = additions(told, caller)
                kwargs = {**kwargs, "headers": changed(headers, added)}
                own = baggage.set_baggage(attr.BAGGAGE_ENTRY, caller.entry)
        except Exception as error:  # noqa: BLE001 - the task is sent as it was
            runtime().faults.report("telling a task its caller", error)
        if own is None:
            return wrapped(*args, **kwargs)
        before = otel_context.get_current()
        otel_context.attach(own)  # an instrumentation writes the headers anew, from the context
        try:
            return wrapped(*args, **kwargs)
        finally:
            if otel_context.get_current() is own:
                otel_context.attach(before)

    def _all_named(self, app: Any, kwargs: dict[str, Any]) -> bool:
        """Whether each broker that the task may go to is a named host; one without a host is on this machine."""
        connection: Any = kwargs.get("connection")
        given: Any = getattr(connection, "hostname", None) and connection.as_uri()
        urls: Any = given or app.conf.broker_write_url or app.conf.broker_url or "amqp://localhost"
        listed: list[str] = urls.split(";") if isinstance(urls, str) else list(urls)
        parts = [urlsplit(url if "://" in url else f"//{url}") for url in listed]
        return all(self._is_named(part.scheme, part.hostname or "localhost", part.port) for part in parts)

    def _begins(self, task_id: str = "", task: Any = None, **_: Any) -> None:
        try:
            caller = caller_in(lower_case(_told(task.request)))
            if caller is not None and len(self._before) < _TASKS_MAX:
                self._before[task_id] = enter_call(caller)
        except Exception as error:  # noqa: BLE001 - the task runs all the same
            runtime().faults.report("reading who sent a task", error)

    def _ended(self, task_id: str = "", **_: Any) -> None:
        if task_id in self._before:
            leave_call(self._before.pop(task_id))


def _told(request: Any) -> Iterator[tuple[str, Any]]:
    """A message's headers: Celery gives them as attributes of the request."""
    for name in (attr.HEADER_BAGGAGE, attr.HEADER_TRACEPARENT, attr.HEADER_TRACESTATE):
        value = request.get(name)
        if isinstance(value, str):
            yield name, value
