"""`otel-steps doctor`: what is right and wrong here, in the order in which it matters, and what to type next."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click
from rich.text import Text

from ..attributes import ENV_SHARED
from .options import endpoint_option, examples, json_option, store_option
from .terminal import console, line, plural, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from .doctor_checks import Check

_SIGNS: Final = {"good": ("✓", "green"), "note": ("·", "dim"), "wrong": ("✗", "red")}


@click.command(
    epilog=examples(
        "otel-steps doctor",
        "otel-steps doctor --endpoint http://127.0.0.1:4318",
        "otel-steps doctor --shared redis://budgets:6379/0",
        "otel-steps doctor --json | jq '.checks[] | select(.state == \"wrong\")'",
        codes="0 nothing is wrong\n1 something is",
    )
)
@endpoint_option
@store_option
@click.option("--shared", metavar="URL", help=f"The Redis of shared budgets.  [default: {ENV_SHARED}]")
@json_option
def doctor(*, endpoint: str | None, store: Path | None, shared: str | None, as_json: bool) -> None:
    """Say what is right and wrong on this machine, and what to type next.

    Asked for real: a stop at a span of this SDK, a call of each installed model client to a scripted provider on
    loopback with each instrumentation of it, an empty request to the endpoint, a file in the store, and a total of the
    Redis that budgets are shared in. Nothing else leaves the machine, and it takes less than ten seconds.
    """
    from .doctor_checks import all_checks

    out = console()
    checks: list[Check] = []
    with console(stderr=True).status("looking", spinner="dots") as status:
        for check in all_checks(endpoint, store, shared, lambda what: status.update(f"looking at the {what}")):
            checks.append(check)
            if not as_json:
                sign, style = _SIGNS[check.state]
                line(out, Text.assemble((sign, style), " ", (f"{check.name:<16} ", "bold"), check.text))
                if check.next:
                    line(out, Text(f"-> {check.next}", style="yellow" if check.state == "wrong" else ""), indent=19)
    wrong = sum(check.state == "wrong" for check in checks)
    if as_json:
        print_json({"ok": wrong == 0, "checks": [asdict(check) for check in checks]})
    else:
        line(out)
        line(out, "Nothing is wrong." if wrong == 0 else f"{plural(wrong, 'thing')} to mend.")
    if wrong:
        sys.exit(1)
