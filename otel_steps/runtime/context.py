"""Which scope is current, across tasks, threads and generators; leaving and re-entering it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import context as otel_context

from ..checks import mistake
from .home import here
from .scope import SUSPENDED, Scope, StepScope
from .state import runtime

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.context import Context

_current: ContextVar[Scope | None] = ContextVar("otel_steps_scope", default=None)
_left: ContextVar[Scope | None] = ContextVar("otel_steps_left", default=None)
"""What was current when the scopes were left here; of interest only while SUSPENDED is current."""
OTEL_KEY: Final = otel_context.create_key("otel_steps_scope")
"""Where the OpenTelemetry context carries the scope, for threads that are given nothing else."""
_PARKED: Final = "parked"
"""A generator's scope between two of its items, where its body left nothing else current."""


def raw_current() -> Scope | None:
    """What the context variable holds: maybe a closed scope, maybe SUSPENDED."""
    return _current.get()


def current_scope() -> Scope | None:
    """The innermost open scope here, or None; a closed scope is nobody's current one."""
    scope = _current.get()
    if scope is None:
        scope = _from_otel()
    elif scope is SUSPENDED:
        return None
    while scope is not None and scope.closed:
        scope = scope.parent
    return scope


def charged_scope() -> Scope | None:
    """What usage reported here belongs to: the innermost scope, a closed step too (its receipt is then amended)."""
    scope = _current.get()
    if scope is None:
        scope = _from_otel()
    elif scope is SUSPENDED:
        return None
    while scope is not None and scope.closed and not (isinstance(scope, StepScope) and scope.record is not None):
        scope = scope.parent
    return scope


def current_step_scope() -> StepScope | None:
    """The innermost open step here, or None."""
    scope = current_scope()
    step = None if scope is None else scope.step
    while step is not None and step.closed:
        step = step.parent_step
    return step


def _from_otel() -> Scope | None:
    """The scope in the OpenTelemetry context: a thread that was given that alone (threading instrumentation)."""
    if not runtime().span_scopes:
        return None
    scope = otel_context.get_current().get(OTEL_KEY)
    return scope if isinstance(scope, Scope) and scope is not SUSPENDED else None


class Place:
    """What was current before a scope was made current, to be put back."""

    __slots__ = ("otel", "own", "scope")

    scope: Scope | None
    own: Context | None
    """The OpenTelemetry context of the scope made current; the scope itself lets go of it when it closes."""
    otel: Context | None


def activate(scope: Scope) -> Place:
    """Make `scope` (and its span) current here, or what its body had current when it was left; see `deactivate`."""
    place = Place()
    reactivate(scope, place)
    return place


def reactivate(scope: Scope, place: Place) -> None:
    """The same with `place` used again: a generator is resumed often."""
    inner: Scope | None = scope
    own = otel = scope.context
    parked = scope.parked
    if parked is not None:
        scope.parked = None
        if parked is not _PARKED:
            inner, otel = parked
        if scope.home is not None:
            scope.home = here()  # another task may have taken the generator over
    place.scope = _current.get()
    place.own = own
    _current.set(inner)
    if otel is None:
        place.otel = None
        return
    place.otel = otel_context.get_current()
    otel_context.attach(otel)


def deactivate(scope: Scope, place: Place) -> None:
    """Put back what was current, only where `scope` or something inside it still is.

    Never a token, which may belong to another task. A generator's body finds what it had again at the next `activate`.
    """
    inner = _current.get()
    if inner is not scope and not _is_inside(inner, scope):
        if place.otel is not None and otel_context.get_current() is place.own:
            otel_context.attach(place.otel)
        return
    _current.set(place.scope)
    parked = inner is scope
    otel: Context | None = None
    if place.otel is not None:
        otel = otel_context.get_current()
        parked = parked and otel is place.own
        if otel is not place.otel:
            otel_context.attach(place.otel)
    scope.parked = _PARKED if parked else (inner, otel)


def _is_inside(inner: Scope | None, scope: Scope) -> bool:
    if inner is SUSPENDED:
        inner = _left.get()
    while inner is not None and inner is not scope:
        inner = inner.parent
    return inner is scope


def forget() -> Scope | None:
    """Make nothing current here; returns what was. For a forked child, whose parent goes on with its steps."""
    scope = _current.get()
    if scope is SUSPENDED:
        scope = _left.get()
    else:
        _current.set(None)
    if otel_context.get_current().get(OTEL_KEY) is not None:
        otel_context.attach(otel_context.set_value(OTEL_KEY, None))
    return scope


class ActiveContext(NamedTuple):
    """A snapshot of the current scopes, made by `take_active_context`."""

    scope: Scope | None
    otel: Context


def _is_snapshot(value: object) -> bool:
    return isinstance(value, ActiveContext)


def take_active_context() -> ActiveContext:
    """Leave the current scopes here, and return them for `restore_active_context`.

    Until restored, model calls here are charged to nobody, and there is no current step, persona or policy.
    """
    snapshot = seen()
    if snapshot.scope is not SUSPENDED:
        _left.set(snapshot.scope)
    _current.set(SUSPENDED)
    _leave_otel(snapshot.otel)
    return snapshot


def restore_active_context(snapshot: ActiveContext) -> None:
    """Re-enter the scopes of `snapshot`, here or in another task or thread; of nothing else (DefinitionError)."""
    if not _is_snapshot(snapshot):
        raise mistake("snapshot", snapshot, "what take_active_context() returned")
    _current.set(snapshot.scope)
    if otel_context.get_current() is not snapshot.otel:
        otel_context.attach(snapshot.otel)


def _leave_otel(otel: Context) -> Context | None:
    """Say in the OpenTelemetry context, too, that the scopes are left: a thread may be given that alone."""
    if otel.get(OTEL_KEY) is None:
        return None
    left = otel_context.set_value(OTEL_KEY, SUSPENDED, otel)
    otel_context.attach(left)
    return left


def seen() -> ActiveContext:
    """What is current here, left as it is."""
    return ActiveContext(_current.get(), otel_context.get_current())


class suspended:  # noqa: N801 - used as `with suspended():`, lower case like contextlib's own
    """`with suspended():` leaves the current scopes for the block."""

    __slots__ = ("_before", "_left", "_otel")

    def __enter__(self) -> None:
        before = self._before = _current.get()
        if before is not SUSPENDED:
            _left.set(before)
        _current.set(SUSPENDED)
        self._otel = otel_context.get_current()
        self._left = _leave_otel(self._otel)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if _current.get() is SUSPENDED:
            _current.set(self._before)
        if self._left is not None and otel_context.get_current() is self._left:
            otel_context.attach(self._otel)
