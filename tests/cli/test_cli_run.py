"""`otel-steps run`: programs end as they would have, under a limit and with receipts; and what starts none."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otel_steps.receipts.reader import read_receipts
from otel_steps.testing.provider import Reply, ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-c", "from otel_steps.cli import main; main()", "run"]
ROOT = Path(__file__).resolve().parents[2]
PRICE = '\n[prices."m"]\ninput_usd_per_mtok = 1000\noutput_usd_per_mtok = 1000\n'
SPEND = "import otel_steps\ndef spend(n=1):\n    for _ in range(n): otel_steps.record_llm_usage('m', 10, 0)\n"


class Place:
    """A folder with a program in it, and a way to run that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return name

    def environ(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "XDG_", "COLUMNS", "PYTHONPATH"))}
        return {**kept, "HOME": str(self.folder), "PYTHONPATH": str(ROOT), "NO_PROXY": "*", **more}

    def run(
        self, *arguments: str, code: int = 0, by: list[str] = COMMAND, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*by, *arguments],
            cwd=self.folder,
            env=self.environ(OTEL_STEPS_STORE=str(self.folder / "store"), **environ),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def receipts(self) -> list[Any]:
        return [stored.record for stored in read_receipts(self.folder / "store")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(lambda _: Reply("fine", input_tokens=10, output_tokens=5)) as running:
        yield running


SHOW = """
import json, sys
print(json.dumps([sys.argv, sys.path[0], __name__, __file__, __package__, __spec__ and __spec__.name,
                  sys.modules["__main__"].__dict__ is globals()]))
"""


def test_a_script_sees_what_python_shows_it(place: Place) -> None:
    place.write("sub/show.py", SHOW)
    (place.folder / "link.py").symlink_to(place.folder / "sub" / "show.py")
    for path in ("sub/show.py", "link.py"):
        ours = place.run(path, "--max-usd", "x", "-m", "-q")
        theirs = place.run(path, "--max-usd", "x", "-m", "-q", by=[sys.executable])
        assert json.loads(ours.stdout) == json.loads(theirs.stdout)


def test_a_module_a_package_a_folder_and_a_zip_file_run_as_with_python(place: Place) -> None:
    place.write("pkg/__init__.py", "")
    place.write("pkg/mod.py", SHOW)
    place.write("pkg/__main__.py", SHOW)
    place.write("dir/__main__.py", SHOW)
    with zipfile.ZipFile(place.folder / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", SHOW)
    for arguments in (("-m", "pkg.mod", "--json", "1"), ("-m", "pkg", "-q"), ("dir", "a"), ("app.pyz", "a")):
        ours = json.loads(place.run(*arguments).stdout)
        theirs = json.loads(place.run(*arguments, by=[sys.executable]).stdout)
        assert ours == theirs


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("pass", 0),
        ("sys.exit()", 0),
        ("sys.exit(7)", 7),
        ("sys.exit('why')", 1),
        ("raise ValueError('why')", 1),
        ("def f(:", 1),
        ("import threading\nthreading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()", 0),
        ("import atexit\natexit.register(print, 'last')\nprint('first')", 0),
        ("sys.excepthook = lambda *a: print('mine')\n1/0", 1),
        ("os._exit(5)", 5),
    ],
)
def test_a_program_ends_as_it_does_with_python(place: Place, body: str, code: int) -> None:
    place.write("prog.py", f"import os, sys, time\n{body}\n")
    ours = place.run("-q", "prog.py", code=code)
    theirs = place.run("prog.py", code=code, by=[sys.executable])
    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_as_it_does_with_python(place: Place, number: signal.Signals) -> None:
    place.write(
        "slow.py", "import time\ntry:\n    print('on', flush=True)\n    time.sleep(60)\nfinally: print('cleaned')\n"
    )
    for by in ([*COMMAND, "-q"], [sys.executable]):
        # a shell that puts this run into the background has SIGINT ignored in it, which children inherit
        heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        started = subprocess.Popen(
            [*by, "slow.py"],
            cwd=place.folder,
            env=place.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heard,  # noqa: PLW1509 - no thread of this test holds a lock
        )
        assert started.stdout is not None
        assert started.stdout.readline() == "on\n"
        started.send_signal(number)
        out, err = started.communicate(timeout=60)
        assert started.returncode == -number, err
        assert ("cleaned" in out, "KeyboardInterrupt" in err) == ((number is signal.SIGINT,) * 2)
        assert "Aborted" not in err


def test_what_is_not_there_is_told_with_python_s_exit_code(place: Place) -> None:
    assert "can't open file" in place.run("none.py", code=2).stderr
    assert "No module named none" in place.run("-m", "none.mod", code=1).stderr
    assert "which program?" in place.run(code=2).stderr
    assert "No such option" in place.run("--nonsense", "x.py", code=2).stderr


def test_a_mistake_in_the_file_is_told_before_the_program_starts(place: Place) -> None:
    place.write("prog.py", "print('started')")
    place.write("steps.toml", '[steps."prog:plan"]\nmax_usd = "2"\n')
    done = place.run("--steps", "steps.toml", "prog.py", code=2)
    assert 'steps.toml: [steps."prog:plan"] max_usd = "2" is not valid: write a number' in done.stderr
    assert "started" not in done.stdout
    assert "max_usd" in place.run("--max-usd", "-1", "prog.py", code=2).stderr
    assert "OTEL_STEPS_MAX_USD" in place.run("prog.py", code=2, OTEL_STEPS_MAX_USD="two").stderr


def test_functions_of_the_script_and_of_its_modules_become_steps_and_personas(place: Place) -> None:
    place.write("tools.py", f"{SPEND}\ndef search(): spend()\n")
    place.write(
        "agent.py",
        """
        import tools
        class Agent:
            def plan(self): tools.spend(2)
        def draft():
            tools.search()
            tools.spend()
        def main():
            Agent().plan()
            draft()
            print("done")
        if __name__ == "__main__":
            main()
        """,
    )
    place.write(
        "steps.toml",
        '[run]\nname = "nightly"\n[steps."agent:Agent.plan"]\nmax_usd = 1\n[steps."__main__:draft"]\nname = "write"\n'
        '[steps."tools:search"]\n[steps."tools:serch"]\n[steps."other:x"]\n[personas."agent:main"]\nname = "boss"\n'
        + PRICE,
    )
    done = place.run("--steps", "steps.toml", "--max-usd", "2", "agent.py")
    assert done.stdout == "done\n"
    assert [(r.name, r.persona, r.llm_calls) for r in place.receipts()] == [
        ("plan", "boss", 2),
        ("search", "boss", 1),
        ("write", "boss", 1),
    ]
    assert "nightly: $0.0400 of $2, 4 calls, 40 tokens, 3 steps" in done.stderr
    assert "tools has no serch; did you mean search?" in done.stderr
    assert "other was never imported" in done.stderr
    told = json.loads(place.run("--json", "agent.py", OTEL_STEPS_FILE="steps.toml").stderr.splitlines()[-1])
    assert (told["run"]["llm_calls"], told["run"]["name"], len(told["unused"])) == (4, "nightly", 2)
    assert len(told["run"]["steps"]) == 3


IN_A_LOOP = """
import asyncio
async def main():
    await asyncio.gather(*(asyncio.to_thread(spend, 3) for _ in range(3)))
asyncio.run(main())
"""
IN_A_POOL = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as pool:
    list(pool.map(lambda _: spend(), range(9)))
"""


@pytest.mark.parametrize(
    "body",
    [
        "spend(9)",
        "try: spend(9)\nexcept Exception: print('went on')",
        "try: spend(9)\nexcept BaseException: sys.exit(0)",
        IN_A_LOOP,
        IN_A_POOL,
        "import threading\nt = threading.Thread(target=spend, args=(9,)); t.start(); t.join()",
        "import threading\nthreading.Thread(target=spend, args=(9,)).start()",
    ],
)
def test_the_run_s_limit_ends_it_with_one_line_and_exit_code_1(place: Place, body: str) -> None:
    place.write("steps.toml", PRICE)
    place.write("agent.py", f"import sys\n{SPEND}\n{body}\n")
    done = place.run("-q", "--steps", "steps.toml", "--max-usd", "0.035", "agent.py", code=1)
    assert done.stderr == "otel-steps: run `agent.py` exceeded its max_usd budget (0.04 > 0.035 USD)\n"
    assert "went on" not in done.stdout


def test_a_step_s_own_limit_is_the_program_s_own_error(place: Place) -> None:
    place.write("steps.toml", '[steps."agent:plan"]\nmax_tokens = 15\n')
    place.write("agent.py", f"{SPEND}\ndef plan(): spend(5)\nplan()\n")
    done = place.run("--steps", "steps.toml", "agent.py", code=1)
    assert "StepBudgetExceeded: step `plan` exceeded its max_tokens budget (20 > 15 tokens)" in done.stderr
    assert "otel-steps: run" not in done.stderr
    (record,) = place.receipts()
    assert (record.status, record.llm_calls) == ("failed", 2)


def test_a_real_client_is_metered_and_stopped_before_the_next_request(place: Place, provider: ScriptedProvider) -> None:
    place.write("steps.toml", PRICE)
    place.write(
        "agent.py",
        f"""
        import anthropic
        client = anthropic.Anthropic(base_url={provider.anthropic_url!r}, api_key="none", max_retries=0)
        for _ in range(9):
            client.messages.create(model="m", max_tokens=9, messages=[{{"role": "user", "content": "x"}}])
        """,
    )
    done = place.run("--steps", "steps.toml", "--max-tokens", "40", "agent.py", code=1)
    assert "exceeded its max_tokens budget (45 > 40 tokens)" in done.stderr
    assert len(provider.requests) == 3


def test_a_provider_that_the_program_makes_itself_is_metered_too(place: Place) -> None:
    place.write(
        "agent.py",
        """
        from opentelemetry.sdk.trace import TracerProvider
        tracer = TracerProvider().get_tracer("mine")
        for _ in range(9):
            facts = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
            with tracer.start_as_current_span("chat", attributes=facts) as span:
                span.set_attributes({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 0})
            print("called")
        """,
    )
    done = place.run("-q", "--max-tokens", "25", "agent.py", code=1)
    assert done.stdout == "called\n" * 3


def test_many_steps_are_summed_up(place: Place) -> None:
    place.write("steps.toml", '[steps."agent:plan"]\n' + PRICE)
    place.write("agent.py", f"{SPEND}\ndef plan(): spend()\nfor _ in range(60): plan()\n")
    done = place.run("--steps", "steps.toml", "agent.py")
    assert done.stderr.count("plan") == 1
    assert "60 steps" in done.stderr


def test_a_forked_child_is_not_the_run(place: Place) -> None:
    place.write("agent.py", "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint('end', flush=True)\n")
    done = place.run("agent.py")
    assert done.stdout == "end\nend\n"
    assert done.stderr.count("agent.py:") == 1


def test_the_environment_alone_does_the_same(place: Place) -> None:
    place.write(
        "steps.toml", '[steps."agent:plan"]\nname = "planning"\n[steps."tools:look"]\n[steps."agent:no"]\n' + PRICE
    )
    place.write("tools.py", f"{SPEND}\ndef look(): spend()\n")
    place.write(
        "agent.py", f"{SPEND}\nimport tools\ndef plan(): spend(2)\nfor _ in range(9):\n    plan()\n    tools.look()\n"
    )
    # what `opentelemetry-instrument` puts on the path: the instrumentor, before the program
    place.write(
        "site/sitecustomize.py", "from otel_steps import OtelStepsInstrumentor\nOtelStepsInstrumentor().instrument()\n"
    )
    path = os.pathsep.join((str(place.folder / "site"), place.environ()["PYTHONPATH"]))
    settings = {"PYTHONPATH": path, "OTEL_STEPS_FILE": "steps.toml"}
    python = [sys.executable]
    done = place.run("agent.py", by=python, code=1, OTEL_STEPS_MAX_USD="0.045", **settings)
    assert "otel-steps: run `agent.py` exceeded its max_usd budget (0.05 > 0.045 USD)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "agent:no" in done.stderr
    assert [(r.name, r.llm_calls) for r in place.receipts()] == [("planning", 2), ("look", 1), ("planning", 2)]
    place.write("steps.toml", '[steps."agent:plan"]\nmax_usd = "1"\n')
    assert 'max_usd = "1" is not valid' in place.run("agent.py", by=python, code=2, **settings).stderr


@pytest.mark.parametrize(
    ("pool", "context"),
    [("ThreadPoolExecutor(2)", ""), ("ProcessPoolExecutor(1, mp_context=spawn)", "spawn = get_context('spawn')")],
    ids=["threads", "processes"],
)
def test_a_pool_that_the_program_leaves_open_does_not_hold_up_its_end(place: Place, pool: str, context: str) -> None:
    place.write(
        "agent.py",
        f"""
        import operator, time
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
        from multiprocessing import get_context
        if __name__ == "__main__":
            {context or "pass"}
            pool = {pool}
            print(pool.submit(operator.add, 1, 2).result(), flush=True)
            pool.submit(time.sleep, 0.2)  # what was given is still done
        """,
    )
    done = place.run("agent.py")
    assert done.stdout.startswith("3")
