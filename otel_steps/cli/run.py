"""`otel-steps run`: a program as it is, its model calls metered, its functions steps, and a limit over all of it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from .. import attributes as attr
from ..errors import DefinitionError, StepBudgetExceeded, StepStop
from .options import endpoint_option, examples, json_option, store_option
from .run_end import End, print_end
from .run_program import CannotStart, Interrupted, Program, tell, wait_for_threads

if TYPE_CHECKING:
    from pathlib import Path

    from ..zero_code.process import Settings

_VALUES: Final = frozenset(("--steps", "--max-usd", "--max-tokens", "--endpoint", "--store"))


class _RunCommand(click.Command):
    """`-m module` ends the options, as it does for python."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        index = 0
        while index < len(args) and args[index].startswith("-") and args[index] != "--":
            if args[index].startswith("-m"):
                args.insert(index + (2 if args[index] == "-m" else 1), "--")
                break
            index += 2 if args[index] in _VALUES else 1
        return super().parse_args(ctx, args)


@click.command(
    cls=_RunCommand,
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog=examples(
        "otel-steps run --max-usd 2 agent.py --topic budgets",
        "otel-steps run --steps steps.toml --max-tokens 200000 -m my_agent",
        "OTEL_STEPS_FILE=steps.toml otel-steps run agent.py",
        codes="the program's own, but\n1 the limit of the run broke\n"
        "2 it was not started: a mistake in the steps file, an unknown option, no such file",
    ),
)
@click.option(
    "--steps", metavar="FILE", help=f"Steps file: which functions are steps.  [default: {attr.ENV_STEPS_FILE}]"
)
@click.option("--max-usd", type=float, metavar="USD", help=f"Limit of the whole run.  [default: {attr.ENV_MAX_USD}]")
@click.option("--max-tokens", type=int, metavar="N", help=f"The same in tokens.  [default: {attr.ENV_MAX_TOKENS}]")
@endpoint_option
@store_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing at the end, unless something is wrong.")
@json_option
@click.option("-m", "module", metavar="MODULE", help="Run a module, as python -m does; what follows is the program's.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED)
def run(
    *,
    steps: str | None,
    max_usd: float | None,
    max_tokens: int | None,
    endpoint: str | None,
    store: Path | None,
    quiet: bool,
    as_json: bool,
    module: str | None,
    program: tuple[str, ...],
) -> None:
    """Run a Python program as it is, under a limit, with a receipt for each of its steps.

    Every installed instrumentation of a model client or framework is put to work, and the functions that the steps file
    names become steps and personas where they are defined. All of it is one run: at --max-usd or --max-tokens its next
    model call is refused and the program ends. Standard output is the program's own; the table of receipts at the end
    goes to standard error (with --json one object).
    """
    if module is None and not program:
        raise click.UsageError("which program? Give a script, such as agent.py, or -m and a module")
    target, arguments = (program[0], program[1:]) if module is None else (module, program)
    from ..zero_code.process import settings

    try:
        given = settings(steps, max_usd, max_tokens)
        _Run(given, target, arguments, module is not None, endpoint, store).start(quiet=quiet, as_json=as_json)
    except DefinitionError as error:
        raise click.UsageError(str(error)) from None


@dataclass(slots=True)
class _Run:
    given: Settings
    target: str
    arguments: tuple[str, ...]
    is_module: bool
    endpoint: str | None
    store: Path | None

    def start(self, *, quiet: bool, as_json: bool) -> None:
        """Prepare, run, tell, and end as the program ended."""
        from .. import configure
        from .. import run as run_scope
        from ..zero_code.instrumentations import instrument
        from ..zero_code.process import Preparation

        prepared = Preparation(self.given.file)
        program = Program(self.target, self.arguments, is_module=self.is_module, wrap=prepared.wrap)
        configure(service_name=self._service(program), endpoint=self.endpoint, store=self.store)
        prepared.begin()
        loaded = instrument()
        limits = self.given.run
        block = run_scope(limits.name or program.name, max_usd=limits.max_usd, max_tokens=limits.max_tokens)
        active = block.__enter__()
        try:
            ended = program.run()
        except CannotStart as fault:
            block.__exit__(None, None, None)
            raise click.exceptions.Exit(_refused(str(fault), fault.code)) from None
        told = isinstance(ended, Exception) and not active.breached
        if told and ended is not None:
            tell(ended)
        prepared.end_pools()
        ended = wait_for_threads() or ended
        stop = _close(block, ended)
        if ended is not None and stop is None and not told and not isinstance(ended, SystemExit):
            tell(ended)
        if not program.is_forked:
            sys.stdout.flush()
            prepared.end()
            end = End(active.receipt(), limits, stop, prepared.wrap.unused(), loaded, self.store)
            print_end(end, quiet=quiet, as_json=as_json)
        _leave(ended, stop, active.breached)

    def _service(self, program: Program) -> str | None:
        """The program's name, where nobody says how the service is called."""
        told = os.environ.get(attr.ENV_SERVICE_NAME) or "service.name=" in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        return None if told else self.given.run.name or program.service


def _close(block: Any, ended: BaseException | None) -> StepBudgetExceeded | None:
    """Close the run; returns its own broken limit, if that is what ended the program or what it ended with."""
    if isinstance(ended, SystemExit) and not ended.code:
        ended = None  # the usual end of a command, and no failure
    try:
        block.__exit__(None if ended is None else type(ended), ended, None if ended is None else ended.__traceback__)
    except StepBudgetExceeded as stop:
        return stop
    except StepStop as stop:
        return StepBudgetExceeded(stop.breach)
    return None


def _leave(ended: BaseException | None, stop: StepBudgetExceeded | None, breached: tuple[str, ...]) -> None:
    if stop is not None or breached:
        sys.exit(1)
    if isinstance(ended, SystemExit):
        raise ended
    if isinstance(ended, KeyboardInterrupt):
        raise Interrupted
    if ended is not None:
        sys.exit(1)


def _refused(message: str, code: int) -> int:
    click.echo(f"otel-steps: {message}", err=True)
    return code
