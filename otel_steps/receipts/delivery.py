"""Delivery: the one thread that carries waiting receipts to the collector; nobody's code waits for it unasked."""

from __future__ import annotations

import contextvars
import os
import random
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context, attach, detach, set_value

from otel_steps.record import parse_rfc3339

from .answers import SetUpMistake, Wait
from .flush import Flush
from .otlp import Encoder
from .settle import Settler
from .trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from .answers import Answer
    from .flush import Until
    from .queue import Batch, Queue
    from .sender import Sender

SUPPRESS_INSTRUMENTATION: Final = "suppress_instrumentation"
"""Context key that OpenTelemetry's HTTP and gRPC instrumentations honour: our own requests are nobody's spans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Bounds of a batch, and waits in seconds."""

    max_records: int = 512
    max_bytes: int = 1 << 20
    linger_s: float = 1.0
    """How long a first receipt waits for company: a request costs as much as encoding twenty of them."""
    poll_s: float = 30.0
    """How often to look without being told; other processes leave receipts too."""
    first_backoff_s: float = 1.0
    max_backoff_s: float = 60.0


class Delivery:
    """Delivers what waits in `queue` through `sender`; `timeout_s` bounds one request, in seconds.

    The thread is a daemon, starts with the first `notify` or `flush`, and reads the queue alone. A forked child has
    none of its parent's thread, connection, flushes or counts, and starts its own when it needs one.
    """

    def __init__(self, queue: Queue, sender: Sender, *, timeout_s: float = 10.0, pace: Pace | None = None) -> None:
        self._queue = queue
        self._sender = sender
        self._timeout_s = timeout_s
        self._pace = pace or Pace()
        self._trouble = Trouble(causes=16, again_s=600.0)
        self._stopping = False
        self._begin()
        if hasattr(os, "register_at_fork"):
            # a hook cannot be taken back: it must not keep us alive
            os.register_at_fork(after_in_child=_forked(weakref.ref(self)))

    def _begin(self) -> None:
        self._cond = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._flushes: list[Flush] = []
        self._news = False
        self._failures = 0
        self._internal_errors = 0
        self._settler = Settler(self._queue, Encoder(), self._trouble)

    @property
    def delivered(self) -> int:
        """Receipts that the collector acknowledged to this process."""
        return self._settler.delivered

    @property
    def set_aside(self) -> int:
        """Receipts that this process set aside."""
        return self._settler.set_aside

    @property
    def internal_errors(self) -> int:
        """Errors of our own that delivery survived."""
        return self._internal_errors

    def notify(self) -> None:
        """Say that a receipt waits. Costs an attribute's look-up where the thread knows already. Never raises."""
        if not self._news:
            self._wake()

    def flush(self, timeout_s: float) -> bool:
        """Deliver what waits now, at once and back-off or not; return within `timeout_s` seconds.

        True only if all that waited of this process's own receipts was acknowledged; False if one was set aside
        meanwhile, or time ran out, or the next attempt would come too late.
        """
        return self._flush(timeout_s, until="own")

    def shutdown(self, timeout_s: float, *, for_others: bool = False) -> bool:
        """Flush, then end the thread; return within `timeout_s` seconds. Gives up at the first mistake of set-up.

        What others left for the same endpoint is delivered too, children that have ended among them, while nothing is
        in the way; `for_others`: through any trouble, until time is up. It does not count in the answer. What is not
        delivered stays in the queue. Receipts that come later are not delivered by this object.
        """
        deadline = time.monotonic() + timeout_s
        self._queue.look_anew()
        delivered = self._flush(timeout_s, until="all" if for_others else "exit")
        with self._cond:
            self._stopping = True
            thread = self._thread
            self._cond.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(deadline - time.monotonic(), 0.0))
        return delivered

    def after_fork(self) -> None:
        """In a forked child: begin anew. Called by itself where the operating system forks."""
        self._sender.forget()
        self._begin()

    def _wake(self) -> None:
        with self._cond:
            self._news = True
            if not self._stopping:
                self._ensure_thread()
            self._cond.notify_all()

    def _flush(self, timeout_s: float, *, until: Until) -> bool:
        flush = Flush(time.monotonic() + timeout_s, until, self._queue.own())
        if self._stopping:
            return self._queue.own().waiting == 0
        with self._cond:
            self._flushes.append(flush)
            has_thread = self._ensure_thread()
            self._cond.notify_all()
        if has_thread:
            flush.done.wait(timeout_s)
        else:
            self._deliver_here(flush)
        with self._cond:
            self._flushes = [other for other in self._flushes if other is not flush]
        return flush.delivered

    def _ensure_thread(self) -> bool:
        if self._thread is not None and self._thread.is_alive():
            return True
        # an empty context: neither the step nor the span of whoever happened to wake us is around our requests
        thread = threading.Thread(
            target=contextvars.Context().run, args=(self._run,), name="otel-steps-delivery", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            return False  # the interpreter is ending or has no thread left: flush does without
        self._thread = thread
        return True

    def _run(self) -> None:
        attach(_suppressed())
        while not self._stopping:
            pause_s = self._cycle(self._timeout_s)
            if pause_s is None:
                if self._pause(self._pace.poll_s, for_news=True):
                    self._pause(self._pace.linger_s)
            elif pause_s > 0:
                self._pause(pause_s)
        self._sender.close()

    def _pause(self, seconds: float, *, for_news: bool = False) -> bool:
        """Wait until a flush or the end is asked for; whether news came, where that was waited for."""
        with self._cond:
            self._cond.wait_for(lambda: self._stopping or self._asked() or (for_news and self._news), seconds)
            return for_news and self._news and not self._asked()

    def _asked(self) -> bool:
        return any(not flush.met for flush in self._flushes)

    def _deliver_here(self, flush: Flush) -> None:
        token = attach(_suppressed())
        try:
            while not flush.done.is_set() and (left_s := flush.deadline - time.monotonic()) > 0:
                pause_s = self._cycle(min(self._timeout_s, left_s))
                if not flush.done.is_set() and pause_s:
                    time.sleep(min(pause_s, max(flush.deadline - time.monotonic(), 0.0)))
        finally:
            self._sender.close()
            detach(token)

    def _cycle(self, timeout_s: float) -> float | None:
        """Take one batch and settle what can be settled; seconds to pause then, None where nothing waits."""
        try:
            self._meet_flushes()
            # cleared before we look: what comes after the look sets it again
            self._news = False
            most = self._settler.most(self._pace.max_records)
            batch = self._queue.take(most, self._pace.max_bytes)
            if batch is None:
                self._look_at_flushes(nothing_waits=True)
                return None
            return self._deliver(batch, most, timeout_s)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end delivery
            self._internal_errors += 1
            self._trouble.warn(
                f"internal {type(error).__name__}", "delivery of receipts failed: %r", error, error=error
            )
            return self._backoff_s(None)

    def _deliver(self, batch: Batch, most: int, timeout_s: float) -> float:
        sent_bytes = 0

        def send(data: bytes) -> Answer:
            nonlocal sent_bytes
            sent_bytes += len(data)
            return self._sender.send(data, timeout_s)

        trouble = self._settler.settle(batch, send)
        self._look_at_flushes()
        if trouble is None:
            self._failures = 0
            full = len(batch.records) >= most or sent_bytes >= self._pace.max_bytes // 2
            return 0.0 if full or self._flushes or not self._is_fresh(batch) else self._pace.linger_s
        self._warn(trouble)
        pause_s = self._backoff_s(trouble)
        with self._cond:
            flushes = list(self._flushes)
        for flush in flushes:
            flush.trouble(time.monotonic() + pause_s, set_up=isinstance(trouble, SetUpMistake))
        return pause_s

    def _is_fresh(self, batch: Batch) -> bool:
        # receipts that were just written are the head of more to come; what lay there for longer is not
        age_ns = time.time_ns() - parse_rfc3339(batch.records[-1].ended_at)
        return age_ns < 2 * self._pace.linger_s * 1e9

    def _backoff_s(self, trouble: Wait | SetUpMistake | None) -> float:
        most_s = min(self._pace.first_backoff_s * 2 ** min(self._failures, 16), self._pace.max_backoff_s)
        self._failures += 1
        # all of the range, so that processes that lost the same collector do not come back together
        pause_s = max(random.uniform(0, most_s), 0.02)  # noqa: S311 - not a secret
        told_s = trouble.retry_after_s if isinstance(trouble, Wait) else None
        return pause_s if told_s is None else max(pause_s, told_s)

    def _meet_flushes(self) -> None:
        with self._cond:
            asked = [flush for flush in self._flushes if not flush.met]
        if asked:
            self._failures = 0
            for flush in asked:
                flush.met = True
            self._look_at_flushes()

    def _look_at_flushes(self, *, nothing_waits: bool = False) -> None:
        with self._cond:
            flushes = list(self._flushes)
        if flushes:
            now = self._queue.own()
            for flush in flushes:
                flush.look(now, nothing_waits=nothing_waits)

    def _warn(self, trouble: Wait | SetUpMistake) -> None:
        reason = trouble.reason
        if isinstance(trouble, SetUpMistake):
            remedy = trouble.remedy
            self._trouble.warn(remedy, "%s. Receipts wait until this is mended: %s", reason, remedy)
        else:
            self._trouble.warn(reason, "%s. Receipts wait and are sent again", reason)


def _suppressed() -> Context:
    return set_value(SUPPRESS_INSTRUMENTATION, True, Context())


def _forked(delivery: weakref.ref[Delivery]) -> Callable[[], None]:
    def forked() -> None:
        alive = delivery()
        if alive is not None:
            alive.after_fork()

    return forked
