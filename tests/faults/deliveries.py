"""Deliveries for tests: started, quick, and ended with the test."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from otel_steps.receipts.delivery import Delivery, Pace
from otel_steps.receipts.endpoint import Endpoint, resolve_endpoint
from otel_steps.receipts.sender import sender_for
from tests.faults.receiver import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_steps.receipts.queue import Queue
    from otel_steps.receipts.sender import Sender

    Watch = Callable[[Sender], Sender]

QUICK = Pace(max_records=64, linger_s=0.01, poll_s=30, first_backoff_s=0.004, max_backoff_s=0.01)


def endpoint_of(url: str, *, grpc: bool = False, headers: dict[str, str] | None = None, **environ: str) -> Endpoint:
    """The endpoint at `url`; `environ` are the standard variables without their prefix."""
    variables = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environ.items()}
    if grpc:
        variables["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
    endpoint = resolve_endpoint(url, headers, variables)
    assert endpoint is not None
    return endpoint


@contextmanager
def delivering(
    queue: Queue,
    endpoint: Endpoint,
    *,
    timeout_s: float = 0.4,
    pace: Pace = QUICK,
    watch: Watch = lambda sender: sender,
) -> Iterator[Delivery]:
    """A Delivery from `queue` to `endpoint`, by the endpoint's sender or what `watch` puts around it."""
    delivery = Delivery(queue, watch(sender_for(endpoint)), timeout_s=timeout_s, pace=pace)
    try:
        yield delivery
    finally:
        delivery.shutdown(0.0)
        # a request that hangs ends with its timeout: no test shall see the warnings of another
        wait_until(lambda: not any(thread.name == "otel-steps-delivery" for thread in threading.enumerate()))
