"""Steps across processes and services, by hand and as middleware: `from otel_steps import propagation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from . import attributes as attr
from .checks import is_list, is_mapping, mistake
from .record import CompletedStep, completed_step_to_json
from .runtime.context import charged_scope
from .runtime.remote import Under, caller_here, caller_to_tell
from .runtime.returned import answer_to, take_back, to_header, totals_of
from .runtime.state import runtime
from .telemetry.outgoing_clients import change
from .telemetry.trace_headers import additions, caller_in, lower_case

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
    from types import TracebackType

    from .runtime.remote import Caller

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
    WSGIApp = Callable[..., Iterable[bytes]]

__all__ = ["ASGIMiddleware", "WSGIMiddleware", "absorb", "extract", "inject", "receipts"]


def inject(headers: MutableMapping[str, str]) -> None:
    """Add to `headers` what steps elsewhere need to hang under the current one: for queues and clients of your own.

    Adds a `traceparent` where there is none, and the entry `otel_steps` to `baggage`; entries of others stay. Without a
    current step, persona or run it adds nothing. Whom you send it to is yours to decide: `configure(propagate=...)`
    governs only what is sent by itself.
    """
    caller = caller_to_tell(runtime())
    if caller is not None:
        change(headers, additions(lower_case(headers), caller))


class extract:  # noqa: N801 - used as `with extract(headers):`
    """`with extract(headers):` has the outermost steps inside hang under the step that the headers tell of.

    `headers`: a mapping, or pairs of names and values, as `inject` or a named service's client made them; names in any
    case. Headers that tell of no step, or are damaged, change nothing.
    """

    __slots__ = ("_under",)

    def __init__(self, headers: Mapping[str, str] | Iterable[tuple[Any, Any]]) -> None:
        self._under = Under(caller_in(lower_case(headers)))

    def __enter__(self) -> None:
        self._under.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._under.__exit__(kind, error, traceback)


def receipts() -> list[dict[str, Any]]:
    """The receipts of the outermost steps that finished here for the caller elsewhere so far; [] without a caller.

    Each is a dict ready for JSON: send them back with the result, and give them to `absorb` there.
    """
    caller = caller_here(runtime())
    if caller is None:
        return []
    return [completed_step_to_json(each) for each in caller.receipts.values() if isinstance(each, CompletedStep)]


def absorb(receipt: CompletedStep | Mapping[str, Any] | Iterable[CompletedStep | Mapping[str, Any]], /) -> None:
    """Charge what a step elsewhere came to, to the inclusive totals of the current step and of all around it.

    `receipt`: a CompletedStep, its dict, or several. Own totals and `llm_calls` stay: the calls are the other step's.
    Each receipt counts once, however often and by whatever way it comes back; a later revision adds what it has more.
    Receipts of steps that ran in here count already. Without a current scope there is nothing to charge.

    Raises StepStop where it breaks a limit around it; DefinitionError, and charges nothing, for what is no receipt.
    """
    given: Any = receipt
    each = [given] if isinstance(given, CompletedStep) or is_mapping(given) else _listed(given)
    read = [one if isinstance(one, CompletedStep) else _read(one) for one in each]
    scope = charged_scope()
    rt = runtime()
    if scope is None:
        if (caller := caller_here(rt)) is not None:
            for one in read:
                caller.finished(one)
        return
    here = {record.receipt_id for record in rt.log.peek()} if read else set[str]()
    take_back(rt, scope, (totals_of(one) for one in read if one.receipt_id not in here), by_hand=True)


def _listed(given: Any) -> list[Any]:
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise mistake("receipt", given, "a CompletedStep, its dict, or a list of them")
    return list(given)


def _read(given: Any) -> CompletedStep:
    try:
        if not is_list(given):
            return msgspec.convert(given, CompletedStep)
    except msgspec.ValidationError as error:
        raise mistake("receipt", given, f"a CompletedStep, or its dict ({error})") from None
    raise mistake("receipt", given, "a CompletedStep, or its dict")


class ASGIMiddleware:
    """For FastAPI, Starlette and other ASGI applications: `app.add_middleware(ASGIMiddleware)`.

    The outermost steps of a request hang under the step that sent it, with and without an OpenTelemetry instrumentation
    of the server. With `answer`, a request that came from a step is answered with the response header
    `otel-steps-receipt`: what its steps had spent when the response began. Leave that out where outsiders can call.
    """

    def __init__(self, app: ASGIApp, *, answer: bool = True) -> None:
        self.app = app
        self._answer = answer

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection."""
        caller = caller_in(lower_case(scope["headers"])) if scope["type"] in {"http", "websocket"} else None
        if caller is None:
            await self.app(scope, receive, send)
            return

        async def answering(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and (told := _told(caller)):
                own = (attr.HEADER_RECEIPT.encode(), told.encode())
                message = {**message, "headers": [*message.get("headers", ()), own]}
            await send(message)

        with Under(caller):
            await self.app(scope, receive, answering if self._answer else send)


class WSGIMiddleware:
    """For Flask, Django and other WSGI applications: `app.wsgi_app = WSGIMiddleware(app.wsgi_app)`.

    The same as ASGIMiddleware. What a response spends while it is streamed comes after its headers, and is not told.
    """

    def __init__(self, app: WSGIApp, *, answer: bool = True) -> None:
        self.app = app
        self._answer = answer

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        sent = {name: environ[key] for name, key in _WSGI.items() if key in environ}
        caller = caller_in(sent)
        if caller is None:
            return self.app(environ, start_response)

        def answering(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            told = _told(caller) if self._answer else ""
            return start_response(status, [*headers, (attr.HEADER_RECEIPT, told)] if told else headers, *error)

        with Under(caller):
            return _Body(self.app(environ, answering), caller)


class _Body:
    """A response's body, whose parts are made for the caller too."""

    def __init__(self, parts: Iterable[bytes], caller: Caller) -> None:
        self._parts = parts
        self._caller = caller
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with Under(self._caller):
            if self._iterator is None:
                self._iterator = iter(self._parts)
            return next(self._iterator)

    def close(self) -> None:
        """Close the application's body."""
        close: Any = getattr(self._parts, "close", None)
        if close is not None:
            with Under(self._caller):
                close()


_WSGI: Final = {
    name: "HTTP_" + name.upper() for name in (attr.HEADER_BAGGAGE, attr.HEADER_TRACEPARENT, attr.HEADER_TRACESTATE)
}


def _told(caller: Caller) -> str:
    rt = runtime()
    try:
        return to_header(answer_to(rt, caller))
    except Exception as error:  # noqa: BLE001 - the response goes out, with or without its costs
        rt.faults.report("telling what a request came to", error)
        return ""
