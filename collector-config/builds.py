"""Builds programs into a cache outside the checkout, each once for its manifests; build.py and fleet/ stand on it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import FrameType

    from recipes import Recipe

HERE = Path(__file__).resolve().parent
OLDEST_GO = (1, 25)
TELL_EVERY_S = 20.0


class BuildError(Exception):
    """A build that failed; the message says what to do. Ends the program with `exit_code`."""

    exit_code = 1


class ToolMissingError(BuildError):
    """What builds it is not installed: Go of at least 1.25, or Maven."""

    exit_code = 3


@dataclass(frozen=True)
class Go:
    """The Go that builds, as `go env` tells it."""

    release: tuple[int, int]
    platform: str


def say(line: str) -> None:
    """Tell a person; standard output is kept for paths."""
    print(f"[collector-config] {line}", file=sys.stderr, flush=True)


def find_go() -> Go:
    """Ask the `go` on PATH who it is. Raises ToolMissingError."""
    advice = (
        f"Go {OLDEST_GO[0]}.{OLDEST_GO[1]} or newer builds the Collector and Jaeger: install it from https://go.dev/dl/,"
        " or run the official images: docker compose -f collector-config/compose.yaml up"
    )
    try:
        # From the root folder, because a go.mod nearby may ask for another toolchain.
        answer = subprocess.run(
            ["go", "env", "GOVERSION", "GOOS", "GOARCH"], cwd="/", capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ToolMissingError(f"No Go found ({error}). {advice}") from error
    found = re.search(r"go(\d+)\.(\d+)", answer[0] if answer else "")
    if found is None:
        raise ToolMissingError(f"`go env GOVERSION` answered {answer}, which names no release. {advice}")
    release = (int(found[1]), int(found[2]))
    if release < OLDEST_GO:
        raise ToolMissingError(f"Go {release[0]}.{release[1]} is too old. {advice}")
    return Go(release=release, platform="/".join(answer[1:]))


def cache_folder() -> Path:
    """Where builds are kept: `$OTEL_STEPS_CACHE/build`, else `otel-steps/build` in the user's cache folder."""
    own = os.environ.get("OTEL_STEPS_CACHE")
    if own:
        return Path(own).absolute() / "build"
    # The XDG specification has relative paths ignored.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "otel-steps" / "build"


def builder_of(recipe: Recipe) -> tuple[str, ...]:
    """What else the result depends on: Go's release and platform; of Maven nothing. Raises ToolMissingError."""
    if recipe.needs == "go":
        go = find_go()
        return (f"go{go.release[0]}.{go.release[1]}", go.platform)
    if shutil.which(recipe.needs) is None:
        raise ToolMissingError(f"No {recipe.needs} found: Maven gathers {recipe.name}; install it and Java 17 or newer")
    return ()


def build_key(recipe: Recipe, builder: Sequence[str]) -> str:
    """What the result depends on, as 16 hex digits: manifests, command, and what builds it."""
    digest = hashlib.sha256()
    for part in (*recipe.command, *builder):
        digest.update(part.encode() + b"\0")
    for manifest in recipe.manifests:
        content = (HERE / manifest).read_bytes()
        digest.update(f"{manifest}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def binary_path(recipe: Recipe) -> Path:
    """Where the program of these manifests is, or will be. Raises ToolMissingError."""
    return cache_folder() / f"{recipe.name}-{build_key(recipe, builder_of(recipe))}" / Path(recipe.output).name


@contextlib.contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """Hold the lock file; while another process has it, wait and say so."""
    with path.open("w") as file:
        waited = 0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited % TELL_EVERY_S == 0:
                    say(f"another process builds {path.stem}; waiting for it ({waited} s)")
            time.sleep(1)
            waited += 1
        yield


def run_telling(command: Sequence[str], folder: Path, log: Path, what: str) -> None:
    """Run a long command with its output in `log`, one line of progress now and then. Raises BuildError."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    started = time.monotonic()
    with log.open("wb") as output:
        # A session of its own: when we are stopped, the compilers below `go` are stopped too.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            while True:
                try:
                    code = process.wait(timeout=TELL_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    say(f"still building {what}: {time.monotonic() - started:.0f} s")
        except BaseException:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise BuildError(f"building {what} failed (exit code {code}); all of its output: {log}\n{tail}")
    say(f"built {what} in {time.monotonic() - started:.0f} s")


def build(recipe: Recipe) -> Path:
    """Give the path of the program, building it if it is not in the cache. Raises BuildError, ToolMissingError."""
    binary = binary_path(recipe)
    if binary.exists():
        return binary
    target = binary.parent
    cache = target.parent
    cache.mkdir(parents=True, exist_ok=True)
    what = f"{recipe.name} {recipe.version}"
    with locked(cache / f"{target.name}.lock"):
        if binary.exists():  # somebody else built it while we waited
            return binary
        for left_over in cache.glob(f".{target.name}-*"):  # of a build that was killed: we have the lock
            shutil.rmtree(left_over)
        say(f"building {what} into {target}; the first build takes {recipe.cost}")
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=cache) as name:
            folder = Path(name)
            for manifest in recipe.manifests:
                (folder / manifest).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(HERE / manifest, folder / manifest)
            run_telling(recipe.command, folder, cache / f"{target.name}.log", what)
            finished = folder / "finished"
            finished.mkdir()
            (folder / recipe.output).rename(finished / binary.name)
            finished.rename(target)
    return binary


def settings(config: Path) -> dict[str, str]:
    """The environment variables that a configuration reads, each with its default."""
    return dict(re.findall(r"\$\{env:(\w+):-([^}]*)\}", config.read_text(encoding="utf-8")))


def state_folder() -> Path:
    """Where a Collector that we start keeps its files."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "otel-steps" / "collector"


def stop(signum: int, _frame: FrameType | None) -> None:
    """Turn SIGTERM into an ordinary end, so that compilers are stopped and temporary folders removed."""
    sys.exit(128 + signum)
