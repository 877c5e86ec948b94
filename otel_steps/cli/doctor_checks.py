"""The checks of `otel-steps doctor` that look at this machine: set-up, endpoint, store and prices."""

from __future__ import annotations

import logging
import os
import platform
import socket
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from .. import attributes as attr
from ..errors import DefinitionError
from ..receipts.places import store_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..receipts.endpoint import Endpoint

State = Literal["good", "note", "wrong"]
_ENDPOINT_S: Final = 2.5
_RECEIPTS_MAX: Final = 200_000
_PRICES_OLD_DAYS: Final = 150
_SAMPLERS: Final = frozenset(
    f"{parent}{name}" for parent in ("", "parentbased_") for name in ("always_on", "always_off", "traceidratio")
)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, how it is, and what to type next (empty: nothing)."""

    name: str
    state: State
    text: str
    next: str = ""


def all_checks(
    endpoint: str | None, store: Path | None, shared: str | None, tell: Callable[[str], None]
) -> Iterator[Check]:
    """Every check, in the order in which a fault makes the later ones pointless."""
    from .doctor_calls import instrumentations
    from .doctor_shared import shared_budgets
    from .doctor_spans import spans

    for what, look in (
        ("versions", versions),
        ("steps file", steps_file),
        ("provider", spans),
        ("instrumentations", instrumentations),
        ("sampler", sampler),
        ("endpoint", lambda: endpoint_check(endpoint)),
        ("store", lambda: store_check(store, has_endpoint=endpoint is not None)),
        ("prices", prices),
        ("shared budgets", lambda: shared_budgets(shared)),
    ):
        tell(what)
        try:
            yield from look()
        except Exception as error:  # noqa: BLE001 - one fault must not hide the other findings
            yield Check(what, "wrong", f"the check itself failed: {type(error).__name__}: {error}")


def versions() -> Iterator[Check]:
    """What is installed."""
    sdk = _version("opentelemetry-sdk")
    text = f"otel-steps {_version('otel-steps')}, OpenTelemetry {sdk or '(no SDK)'}, Python {platform.python_version()}"
    yield Check("versions", "good" if sdk else "wrong", text, "" if sdk else "pip install opentelemetry-sdk")


def steps_file() -> Iterator[Check]:
    """The steps file and the limits that the environment names."""
    from ..zero_code.process import settings

    try:
        given = settings()
    except DefinitionError as error:
        yield Check("steps file", "wrong", str(error), error.remedy or "")
        return
    if given.file.path is not None:
        file = given.file
        text = f"{file.path}: {len(file.steps)} steps, {len(file.personas)} personas, {len(file.prices)} prices"
        yield Check("steps file", "good", text)


def sampler() -> Iterator[Check]:
    """What becomes of spans; receipts and limits do not depend on it."""
    name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if not name:
        yield Check("sampler", "good", "every span is exported")
    elif name in _SAMPLERS:
        part = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
        text = f"{name}{f' {part}' if part else ''}: some spans are not exported; steps are metered all the same"
        yield Check("sampler", "note" if "always_on" not in name else "good", text)
    else:
        text = f"OTEL_TRACES_SAMPLER={name!r} is not one that OpenTelemetry brings"
        yield Check("sampler", "note", text, "export OTEL_TRACES_SAMPLER=parentbased_always_on")


class _Warnings(logging.Handler):
    """What our logger warns of meanwhile."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def endpoint_check(endpoint: str | None) -> Iterator[Check]:
    """Where receipts go, and an empty request to it."""
    from ..receipts.answers import Delivered, PartlyRefused, SetUpMistake
    from ..receipts.endpoint import resolve_endpoint
    from ..receipts.sender import sender_for

    logger = logging.getLogger(attr.LOGGER_NAME)
    heard = _Warnings()
    logger.addHandler(heard)
    try:
        place = resolve_endpoint(endpoint)
    except DefinitionError as error:
        yield Check("endpoint", "wrong", str(error), f"otel-steps doctor --endpoint {_LOCAL}")
        return
    finally:
        logger.removeHandler(heard)
    for text in heard.texts:
        yield Check("endpoint", "wrong", text)
    if place is None:
        yield Check("endpoint", "note", "none: receipts stay in the store", f"export {attr.ENV_OTLP_ENDPOINT}={_LOCAL}")
        return
    sender = sender_for(place)
    try:
        answer = sender.send(b"", _ENDPOINT_S)
    finally:
        sender.close()
    where = f"{place.logs_url} ({place.protocol})"
    match answer:
        case Delivered() | PartlyRefused():
            yield Check("endpoint", "good", f"{where} acknowledged an empty request")
        case SetUpMistake():
            yield Check("endpoint", "wrong", answer.reason, answer.remedy)
        case _:
            yield Check("endpoint", "wrong", answer.reason, _who_listens(place))


def _who_listens(place: Endpoint) -> str:
    """What to do about a receiver that does not answer."""
    url = urlsplit(place.logs_url)
    host = url.hostname or ""
    port = url.port or (443 if place.secure else 80)
    if _listens(host, port):
        other = "4318 is OTLP/HTTP, 4317 is OTLP/gRPC (OTEL_EXPORTER_OTLP_PROTOCOL=grpc)"
        return place.hint or f"something listens on port {port}, and it is no OTLP receiver for logs: {other}"
    other_port = {4317: 4318, 4318: 4317}.get(port)
    if other_port is not None and _listens(host, other_port):
        protocol = "grpc" if other_port == 4317 else "http/protobuf"
        base = f"{url.scheme}://{host}:{other_port}"
        return f"export {attr.ENV_OTLP_ENDPOINT}={base} OTEL_EXPORTER_OTLP_PROTOCOL={protocol}"
    return f"start the receiver, or open port {port} of {host}: nothing listens there"


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 0.5):
            return True
    except OSError:
        return False


def store_check(store: Path | None, *, has_endpoint: bool) -> Iterator[Check]:
    """Whether the journal can be written, and what is in it."""
    folder = store_folder(store)
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    fault = _fault_of(there)
    if fault is not None:
        remedy = f"mend the rights of {there}, or export {attr.ENV_STORE}=/a/folder/of/your/own"
        yield Check("store", "wrong", f"{folder} cannot be written: {fault}", remedy)
        return
    if there is not folder:
        yield Check("store", "good", f"{folder} will be made by the first receipt")
        return
    yield from _contents(folder, has_endpoint=has_endpoint or bool(os.environ.get(attr.ENV_OTLP_ENDPOINT)))


def _fault_of(folder: Path) -> str | None:
    """Why no file can be made and locked in `folder`; tried, because rights tell half of it."""
    from ..receipts.locks import UNSUPPORTED, FileLock

    if not folder.is_dir():
        return f"{folder} is no folder"
    try:
        lock = FileLock.take(folder / f".otel-steps-doctor-{os.getpid()}")
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return "its file system has no locks: what a dead process left is not found there"
        return error.strerror or str(error)
    if lock is not None:
        lock.release(remove=True)
    return None


def _contents(folder: Path, *, has_endpoint: bool) -> Iterator[Check]:
    from collections import Counter

    from ..receipts.reader import read_receipts
    from ..receipts.scanning import Findings

    findings = Findings()
    receipts = islice(read_receipts(folder, findings), _RECEIPTS_MAX)
    counts = Counter(stored.state for stored in receipts)
    total = sum(counts.values())
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / (1 << 20)
    states = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in sorted(counts.items()))
    more = "more than " if total >= _RECEIPTS_MAX else ""
    text = f"{folder}: {more}{total:,} receipts{f' ({states})' if states else ''}, {size:.1f} MiB"
    yield Check("store", "good", text)
    if counts["waiting"] and has_endpoint:
        yield Check("store", "note", f"{counts['waiting']:,} receipts wait", "otel-steps receipts ship")
    if counts["set_aside"]:
        text = f"{counts['set_aside']:,} receipts were refused by a collector"
        yield Check("store", "wrong", text, "otel-steps receipts list --state set_aside")
    if findings.damaged:
        yield Check("store", "note", f"{findings.damaged:,} damaged lines are passed over, first in {findings.first}")


def prices() -> Iterator[Check]:
    """Which price table, how old it is, and the prices of the environment."""
    from datetime import UTC, datetime

    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import StartDateConstraint

    from ..telemetry.pricing_environment import ENV_PRICES, prices_of

    today = datetime.now(UTC).date()
    changes = [
        price.constraint.start_date
        for provider in get_snapshot().providers
        for model in provider.models
        if isinstance(model.prices, list)
        for price in model.prices
        if isinstance(price.constraint, StartDateConstraint) and price.constraint.start_date <= today
    ]
    newest = max(changes, default=None)
    text = f"genai-prices {_version('genai-prices')}" + (f", newest change of {newest}" if newest else "")
    old = newest is not None and (today - newest).days > _PRICES_OLD_DAYS
    yield Check("prices", "note" if old else "good", text, "pip install --upgrade genai-prices" if old else "")
    try:
        own = prices_of(os.environ)
    except DefinitionError as error:
        yield Check("prices", "wrong", str(error))
        return
    if own:
        yield Check("prices", "good", f"{ENV_PRICES}: {len(own)} of your own")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


_LOCAL: Final = "http://127.0.0.1:4318"
