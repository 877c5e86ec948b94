"""Every Python block of the pages runs, and prints what its `#>` comments say.

A block runs in a process of its own, with models scripted (each answer takes 10 tokens and gives 5). A block that
goes on where the one before it on the page stopped says so, and one that cannot run says why:

    ```python {continues="yes"}
    ```python {runs="no" because="it needs a Kafka broker"}
"""

from __future__ import annotations

import ast
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

from tests.docs.pages import ROOT, pages, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def chains() -> list[tuple[CodeExample, ...]]:
    """Each block, behind those that it continues."""
    found: list[tuple[CodeExample, ...]] = []
    for page in pages():
        before: tuple[CodeExample, ...] = ()
        for block in find_examples(page):
            if block.prefix.split()[0] not in {"python", "py"}:
                continue
            before = (*before, block) if block.prefix_settings().get("continues") == "yes" else (block,)
            found.append(before)
    return found


CHAINS = chains()


def block_id(chain: tuple[CodeExample, ...]) -> str:
    return shown(chain[-1].path, chain[-1].start_line)


def runs(chain: tuple[CodeExample, ...]) -> bool:
    return all(block.prefix_settings().get("runs") != "no" for block in chain)


def in_a_child(blocks: Sequence[CodeExample], evaluate: EvalExample) -> int:
    """Exit code of a forked process that runs the blocks one after another; only the last one's output is checked."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            from otel_steps.testing.provider import ScriptedProvider

            with ScriptedProvider() as provider:
                os.environ.update(provider.environment)
                names: dict[str, Any] = {}
                for block in blocks[:-1]:
                    names = evaluate.run(block, module_globals=names)
                evaluate.run_print_check(blocks[-1], module_globals=names)
            code = 0
        except BaseException:  # whatever it is, the parent must not go on twice
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("chain", [chain for chain in CHAINS if runs(chain)], ids=block_id)
def test_a_block_runs_and_prints_what_it_says(
    chain: tuple[CodeExample, ...], eval_example: EvalExample, readers_machine: Path
) -> None:
    assert readers_machine.is_dir()
    assert in_a_child(chain, eval_example) == 0


def test_blocks_that_do_not_run_say_why_and_are_python() -> None:
    for chain in CHAINS:
        if not runs(chain):
            assert any(block.prefix_settings().get("because") for block in chain), block_id(chain)
            ast.parse(chain[-1].source, filename=block_id(chain))


def test_every_example_is_run_by_the_matrix() -> None:
    """They need frameworks of their own, which are installed there."""
    run_there = (ROOT / "tests" / "matrix" / "test_examples.py").read_text(encoding="utf-8")
    examples = {path.stem.removeprefix("plain_") for path in (ROOT / "docs" / "examples").rglob("*.py")}
    assert sorted(name for name in examples if name not in run_there) == []


def check(tmp_path: Path, text: str, evaluate: EvalExample) -> int:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return in_a_child(list(find_examples(page)), evaluate)


@pytest.mark.parametrize(
    ("body", "ok"),
    [
        ("print(1)\n#> 1\n", True),
        ("print(1)\n#> 2\n", False),
        ("raise ValueError\n", False),
        ("raise SystemExit(0)\n", False),
        ("from openai import OpenAI\nOpenAI().models.list()\n", True),
    ],
)
def test_a_block_is_held_to_its_word(
    tmp_path: Path, body: str, ok: bool, eval_example: EvalExample, readers_machine: Path
) -> None:
    assert readers_machine.is_dir()
    assert (check(tmp_path, f"```python\n{body}```\n", eval_example) == 0) is ok
