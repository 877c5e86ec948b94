"""Process: a program that is not edited, under a steps file and a run of its own, from the environment alone."""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import wrapt

from .. import attributes as attr
from ..checks import checked_tokens, checked_usd, mistake
from ..errors import StepBudgetExceeded, StepStop
from ..providers import PROVIDERS
from ..runtime.runs import run
from ..runtime.state import runtime
from ..setup import set_price
from .autowrap import MAIN, Autowrap
from .steps_file import RunSettings, StepsFile, read_steps_file
from .threads import ThreadScopes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

_log = logging.getLogger(attr.LOGGER_NAME)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is to hold in a process: the steps file, and its run's limits, whoever named them."""

    file: StepsFile
    run: RunSettings

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked for."""
        return self.file.path is None and not self.has_run

    @property
    def has_run(self) -> bool:
        """Whether a run was asked for: without one a server's requests stay traces of their own."""
        return self.run != RunSettings()


def settings(
    steps_file: Any = None, max_usd: Any = None, max_tokens: Any = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings in force: what is given, else the environment's, else the file's.

    Raises DefinitionError that names the option, variable or key, the value and the remedy.
    """
    env = os.environ if environ is None else environ
    if steps_file is not None and not isinstance(steps_file, str | Path):
        raise mistake("steps_file", steps_file, "the path of a TOML file")
    path = str(steps_file) if steps_file else env.get(attr.ENV_STEPS_FILE, "").strip()
    file = read_steps_file(path) if path else StepsFile()
    usd = checked_usd("max_usd", max_usd) if max_usd is not None else _usd(env)
    tokens = checked_tokens("max_tokens", max_tokens) if max_tokens is not None else _tokens(env)
    return Settings(
        file,
        RunSettings(
            file.run.name,
            file.run.max_usd if usd is None else usd,
            file.run.max_tokens if tokens is None else tokens,
        ),
    )


def _usd(env: Mapping[str, str]) -> float | None:
    text = env.get(attr.ENV_MAX_USD, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise mistake(attr.ENV_MAX_USD, text, "a number >= 0 (US dollars)")
    return value


def _tokens(env: Mapping[str, str]) -> int | None:
    text = env.get(attr.ENV_MAX_TOKENS, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise mistake(attr.ENV_MAX_TOKENS, text, "a number of tokens >= 1")
    return int(text)


class Preparation:
    """What a program gets before it starts: prices, functions wrapped as they are imported, scopes in its threads."""

    def __init__(self, file: StepsFile) -> None:
        self.wrap: Autowrap = Autowrap(file)
        self._threads = ThreadScopes()
        self._prices = file.prices
        self._in_force = False

    def begin(self) -> None:
        """From now on."""
        self._in_force = True
        for model, price in self._prices:
            set_price(model, **price)
        self.wrap.install()
        self._threads.hold()
        wrapt.when_imported("opentelemetry.sdk.trace")(self._watch_providers)

    def end_pools(self) -> None:
        """The program has run to its end, and gives its pools no more work."""
        self._threads.end_pools()

    def end(self) -> None:
        """New imports, threads and providers are as ever."""
        self._in_force = False
        self.wrap.remove()
        self._threads.let_go()

    def _watch_providers(self, module: Any) -> None:
        """A program may make a tracer provider of its own later: its spans are metered too."""

        def init(made: Callable[..., None], provider: Any, args: Any, kwargs: Any) -> None:
            made(*args, **kwargs)
            if self._in_force:
                PROVIDERS.join(runtime(), provider)

        wrapt.wrap_function_wrapper(module.TracerProvider, "__init__", init)


class Process:
    """This process from its start to its end, where no command is around it (`opentelemetry-instrument`)."""

    def __init__(self, given: Settings) -> None:
        self._given = given
        self._preparation = Preparation(given.file)
        self._run: Any = None
        self._told = False

    def begin(self) -> None:
        """Prepare, and open the run that was asked for; it closes when the interpreter ends."""
        self._preparation.begin()
        self._preparation.wrap.watch_main(_script())
        if self._given.has_run:
            limits = self._given.run
            self._run = run(limits.name or _program(), max_usd=limits.max_usd, max_tokens=limits.max_tokens)
            self._run.__enter__()
            self._catch()
        atexit.register(self.end)

    def end(self) -> None:
        """Close the run, and tell what the file named in vain. Safe to call twice."""
        atexit.unregister(self.end)
        self._preparation.end()
        opened, self._run = self._run, None
        if opened is not None:
            try:
                opened.__exit__(None, None, None)
            except (StepBudgetExceeded, StepStop) as stop:
                self._tell(stop.message)
        for line in self._preparation.wrap.unused():
            _log.warning("%s", line)

    def _catch(self) -> None:
        before = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
            if isinstance(error, StepStop):
                self._tell(error.message)
            else:
                before(kind, error, traceback)

        sys.excepthook = hook

    def _tell(self, message: str) -> None:
        if not self._told:
            self._told = True
            sys.stderr.write(f"otel-steps: {message}\n")


def _script() -> str | None:
    """The script that the interpreter is about to run, or None for `-m`, `-c` and an interpreter that runs already."""
    if MAIN in sys.modules and hasattr(sys.modules[MAIN], "__file__"):
        return None
    name = _program()
    return name if name.endswith(".py") else None


def _program() -> str:
    """The program's name, which the interpreter knows before it has set `sys.argv`."""
    for word in (*getattr(sys, "argv", ()), *sys.orig_argv[1:]):
        if word and not word.startswith("-"):
            return Path(word).name
    return _DEFAULT_NAME


_DEFAULT_NAME: Final = "program"
