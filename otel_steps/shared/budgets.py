"""RedisBudgets: shared budgets asked through one thread, so that no call of the agent waits longer than a moment."""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

from ..runtime.shared_budgets import Answer
from .operations import Batch, Encoding, Operation, balances
from .owed import Owed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..runtime.faults import Warnings
    from ..runtime.shared_budgets import Account, Balance, Limits, Pair
    from .address import Address

OWED_AT_ONCE: Final = 500
ASKED_AT_ONCE: Final = 200
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 2.0


class Link(Protocol):
    """Where the script runs."""

    def run(self, keys: Sequence[bytes], arguments: Sequence[str]) -> Any:
        """What the script answers. Raises where it does not."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...

    def forked(self) -> None:
        """In a forked child: begin anew."""
        ...


class _Question:
    __slots__ = ("answer", "answered", "operation")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.answered = threading.Event()
        self.answer: Answer | None = None


class RedisBudgets:
    """Counts for all processes that name the same Redis.

    One thread asks Redis; whoever wants something waits for it, at most `timeout_s`. After trouble nobody waits at all:
    the thread goes on trying by itself, at growing distances, and sends what was spent meanwhile before anything else.
    A batch whose answer was lost is sent again under its number, so it counts once.
    """

    def __init__(
        self, address: Address, link: Link, warnings: Warnings, clock: Callable[[], float] = time.time
    ) -> None:
        self._address = address
        self._link = link
        self._warnings = warnings
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._encoding = Encoding(
            self._address.prefix, os.urandom(8).hex(), self._address.idle_s, self._address.lease_s
        )
        self._questions: list[_Question] = []
        self._owed = Owed()
        self._in_doubt: Batch | None = None
        self._numbers = itertools.count(1)
        self._batches = itertools.count(1)
        self._holds = itertools.count(1)
        self._away = False
        self._wanted = False
        self._pause_s = _FIRST_PAUSE_S
        self._again_at = 0.0
        self._closing = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def connect(self) -> None:
        """Begin to connect, in the background: the first call of the agent need not wait for it."""
        with self._changed:
            self._wanted = True
            if self._started():
                self._changed.notify_all()

    def read(self, accounts: Sequence[Account]) -> Answer:
        """The balances."""
        return self._ask(Operation(tuple(accounts)))

    def hold(self, amounts: Mapping[Account, Pair], limits: Mapping[Account, Limits]) -> Answer:
        """Hold room in all accounts, or in none where one limit would be passed."""
        name = f"{self._encoding.process}-{next(self._holds)}"
        return self._ask(Operation(tuple(amounts), hold=name, held=amounts, limits=limits))

    def charge(self, amounts: Mapping[Account, Pair], hold: str | None) -> Answer:
        """Add what was spent and give back what was held for it; kept and added later where the store is away."""
        return self._ask(Operation(tuple(amounts), add=amounts, settle=hold))

    def release(self, hold: str, accounts: Sequence[Account]) -> None:
        """Give back what was held for a call that was not charged."""
        self._ask(Operation(tuple(accounts), settle=hold))

    def forked(self) -> None:
        """In a forked child: begin anew; what the parent has open or waits for is the parent's."""
        closing = self._closing
        self._link.forked()
        self._begin()
        self._closing = self._closed = closing

    def close(self, timeout_s: float) -> None:
        """Try once more to add what is owed, for at most `timeout_s` seconds, and end."""
        with self._changed:
            self._closing = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(timeout_s)
        with self._changed:
            self._closed = True
            lost = bool(self._owed or self._in_doubt)
        if lost:
            self._warnings.once(
                "shared budgets lost",
                "the shared budgets could not be reached before the end of this process: what it spent meanwhile is "
                "missing there",
            )

    def _ask(self, operation: Operation) -> Answer:
        question = _Question(operation)
        with self._changed:
            if self._away or self._closing or threading.current_thread() is self._thread or not self._started():
                return self._missed(operation)
            self._questions.append(question)
            self._changed.notify_all()
        question.answered.wait(self._address.timeout_s)
        return question.answer or self._give_up(question)

    def _give_up(self, question: _Question) -> Answer:
        with self._changed:
            if question.answer is not None:
                return question.answer
            if question in self._questions:
                self._questions.remove(question)
                answer = self._missed(question.operation)
            else:  # it is on its way, and sent again where that fails
                answer = self._not_consulted(question.operation)
            question.answer = answer
            self._rest()
        self._warn(f"no answer within {self._address.timeout_s:g} s")
        return answer

    def _rest(self) -> None:
        """Nobody asks for a while, longer each time; for 0.5 to 1 of it, so that a fleet is not back all at once."""
        self._away = True
        self._again_at = time.monotonic() + self._pause_s * (0.5 + os.urandom(1)[0] / 510)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _started(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="otel-steps shared budgets", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, and starts no thread any more
                return False
            self._thread = thread
        return True

    def _missed(self, operation: Operation) -> Answer:
        """Keep what would have been added for later."""
        if operation.must_arrive:
            self._owed.take_in(operation, self._hour())
            self._changed.notify_all()
        return self._not_consulted(operation)

    def _not_consulted(self, operation: Operation) -> Answer:
        return Answer(consulted=False, number=next(self._numbers), hold=operation.hold)

    def _hour(self) -> int:
        return int(self._clock()) // 3600

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            batch, questions = taken
            began = time.monotonic()
            try:
                answers = self._link.run(*self._encoding.keys_and_arguments(batch))
                told = [balances(*pair) for pair in zip(batch.operations, answers, strict=True)]
            except Exception as error:  # noqa: BLE001 - this thread must live: everybody waits for it
                self._failed(batch, questions, error)
            else:
                self._arrived(questions, told[len(told) - len(questions) :], time.monotonic() - began)
        self._link.close()

    def _arrived(
        self, questions: list[_Question], told: list[tuple[dict[Account, Balance], bool]], took_s: float
    ) -> None:
        with self._changed:
            self._in_doubt = None
            if took_s > self._address.timeout_s:
                self._rest()  # too slow to be waited for
            elif time.monotonic() >= self._again_at:
                self._away = bool(self._owed)
                self._pause_s = _FIRST_PAUSE_S
            number = next(self._numbers)
            for question, (found, refused) in zip(questions, told, strict=True):
                hold = None if refused else question.operation.hold
                self._answer(question, Answer(True, number, found, hold, refused))

    def _take(self) -> tuple[Batch, list[_Question]] | None:
        """The next batch, once there is one; None at the end. What is owed goes first, what is in doubt before all."""
        with self._changed:
            while not self._closed:
                wait_s = self._again_at - time.monotonic() if self._away and not self._closing else None
                if wait_s is not None and wait_s > 0:
                    self._changed.wait(wait_s)
                elif self._in_doubt is not None:
                    return self._in_doubt, []
                elif self._questions or self._owed or ((self._away or self._wanted) and not self._closing):
                    self._wanted = False
                    owed = self._owed.take_out(OWED_AT_ONCE)
                    if self._owed:
                        asked: list[_Question] = []
                    else:
                        asked, self._questions = self._questions[:ASKED_AT_ONCE], self._questions[ASKED_AT_ONCE:]
                    operations = (*owed, *(question.operation for question in asked))
                    return Batch(next(self._batches), operations), asked
                elif self._closing:
                    return None
                else:
                    self._changed.wait()
            return None

    def _failed(self, batch: Batch, questions: list[_Question], error: Exception) -> None:
        with self._changed:
            self._rest()
            self._in_doubt = batch.to_send_again(self._hour())
            self._closed = self._closed or self._closing  # the last try
            waiting, self._questions = self._questions, []
            for question in questions:
                self._answer(question, self._not_consulted(question.operation))
            for question in waiting:
                self._answer(question, self._missed(question.operation))
        self._warn(str(error))

    def _answer(self, question: _Question, answer: Answer) -> None:
        if question.answer is None:
            question.answer = answer
        question.answered.set()

    def _warn(self, what: str) -> None:
        self._warnings.once(
            "shared budgets",
            "the shared budgets cannot be consulted (%s); this process goes on by what it knows (calls are counted and "
            "added when it can, `shared_unavailable` says whether they are made)",
            what,
        )
