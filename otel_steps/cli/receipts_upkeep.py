"""`otel-steps receipts ship|prune`: delivering what waits in the journal, and holding it within its bounds."""

from __future__ import annotations

import sys
from collections import Counter
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import click

from ..attributes import ENV_OTLP_ENDPOINT, ENV_STORE_MAX_DAYS, ENV_STORE_MAX_MIB
from .options import endpoint_option, examples, json_option, readable_store, store_option
from .terminal import console, line, plural, print_json, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from ..receipts.endpoint import Endpoint

_LOOK_S: Final = 0.2


@click.command(
    epilog=examples(
        "otel-steps receipts ship --endpoint http://127.0.0.1:4318",
        "otel-steps receipts ship --any-endpoint --history --set-aside",
        codes="0 all acknowledged (also: nothing waited)\n1 something still waits or was set aside\n2 no endpoint",
    )
)
@endpoint_option
@store_option
@click.option("--any-endpoint", is_flag=True, help="Also what was meant for another endpoint.")
@click.option("--history", is_flag=True, help="Also what was written without any endpoint.")
@click.option("--set-aside", is_flag=True, help="Also what a collector refused or half refused; it may come twice.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), default=30.0, help="Seconds.  [default: 30]"
)
@json_option
def ship(
    *,
    endpoint: str | None,
    store: Path | None,
    any_endpoint: bool,
    history: bool,
    set_aside: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Deliver the receipts that dead processes left waiting, and say whether the collector acknowledged them.

    Living processes deliver their own; what they hold is left alone. A receipt may arrive twice, never lost: collectors
    tell by receipt_id and revision.
    """
    place = _place(endpoint)
    folder = readable_store(store)
    came = _ship(folder, place, any_endpoint=any_endpoint, history=history, set_aside=set_aside, timeout_s=timeout_s)
    if as_json:
        print_json({"store": str(folder), "endpoint": place.logs_url, **came})
    else:
        good = came["acknowledged"]
        text = f"{plural(came['delivered'], 'receipt')} acknowledged by {place.logs_url}"
        text += f", {came['set_aside']} set aside" if came["set_aside"] else ""
        text += f", {came['waiting']} still waiting" if came["waiting"] else ""
        text = text if came["delivered"] or not good else f"nothing waits for {place.logs_url}"
        line(console(), verdict(good, text))
        if not good and came["set_aside"]:
            line(console(), "which: receipts list --state set_aside; again: receipts ship --set-aside", indent=2)
    if not came["acknowledged"]:
        sys.exit(1)


def _place(endpoint: str | None) -> Endpoint:
    from ..errors import DefinitionError
    from ..receipts.endpoint import resolve_endpoint

    try:
        place = resolve_endpoint(endpoint)
    except DefinitionError as error:
        raise click.UsageError(str(error)) from error
    if place is None:
        raise click.UsageError(f"where to? Give --endpoint http://127.0.0.1:4318, or set {ENV_OTLP_ENDPOINT}")
    return place


def _ship(
    folder: Path, place: Endpoint, *, any_endpoint: bool, history: bool, set_aside: bool, timeout_s: float
) -> dict[str, Any]:
    from ..receipts.delivery import Delivery
    from ..receipts.sender import sender_for
    from ..receipts.set_aside import resend_set_aside
    from ..receipts.store import Store

    if set_aside:
        resend_set_aside(folder, place.identity, any_endpoint=any_endpoint)
    store = Store(folder, endpoint=place.identity, any_endpoint=any_endpoint, history=history)
    delivery = Delivery(store, sender_for(place), timeout_s=min(place.timeout_s, timeout_s))
    answers: list[bool] = []
    # on a thread of its own, so that this one can show how far it is, and ends on Ctrl-C
    work = Thread(
        target=lambda: answers.append(delivery.shutdown(timeout_s, for_others=True)), name="ship", daemon=True
    )
    with console(stderr=True).status(f"delivering to {place.logs_url}", spinner="dots") as status:
        work.start()
        while work.is_alive():
            work.join(_LOOK_S)
            so_far = f"{delivery.delivered:,} acknowledged, {store.waiting():,} wait"
            status.update(f"delivering to {place.logs_url}: {so_far}")
    waiting = store.waiting()
    store.close()
    return {
        "acknowledged": answers == [True] and waiting == 0 and delivery.set_aside == 0,
        "delivered": delivery.delivered,
        "set_aside": delivery.set_aside,
        "waiting": waiting,
    }


@click.command(
    epilog=examples(
        "otel-steps receipts prune --dry-run",
        "OTEL_STEPS_STORE_MAX_DAYS=7 otel-steps receipts prune",
        codes="0 nothing that waited was dropped\n1 some of it had to go",
    )
)
@store_option
@click.option("--dry-run", is_flag=True, help="Count what is there, and drop nothing.")
@json_option
def prune(*, store: Path | None, dry_run: bool, as_json: bool) -> None:
    """Hold the journal within its bounds now: what is delivered goes first, what waits last, the oldest first.

    The bounds are OTEL_STEPS_STORE_MAX_MIB and OTEL_STEPS_STORE_MAX_DAYS. It happens by itself while steps run.
    """
    from ..receipts.store import Store

    folder = readable_store(store)
    opened = None if dry_run else Store(folder)
    if opened is not None:
        opened.recover()  # the steps that it finds interrupted are receipts that were there
    before = _count(folder)
    if opened is not None:
        opened.retain()
        opened.close()
    after = before if dry_run else _count(folder)
    lost = before["waiting"] - after["waiting"]
    size = _bytes(folder)
    if as_json:
        print_json({"store": str(folder), "before": dict(before), "after": dict(after), "bytes": size})
    else:
        out = console()
        gone = sum(before.values()) - sum(after.values())
        line(out, f"{folder}: {plural(sum(after.values()), 'receipt')}, {size / (1 << 20):.1f} MiB; {gone:,} dropped")
        for state, count in sorted(after.items()):
            line(out, f"{count:>9,} {state.replace('_', ' ')}", indent=2)
        line(out, f"bounds: {ENV_STORE_MAX_MIB}, {ENV_STORE_MAX_DAYS}", indent=2)
    if lost > 0:
        sys.exit(1)


def _count(folder: Path) -> Counter[str]:
    from ..receipts.reader import read_receipts

    return Counter(stored.state for stored in read_receipts(folder))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) if folder.is_dir() else 0
