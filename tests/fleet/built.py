"""What build.py builds, for the tests: built first where it is not in the cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.collector.servers import CONFIGS, unavailable

TOOL_MISSING = 3
"""Exit code of build.py where Go or Maven is missing."""


def built(program: str) -> Path:
    """Path of a program. Skips, in CI fails, where its builder is missing."""
    answer = subprocess.run(
        [sys.executable, str(CONFIGS / "build.py"), program], capture_output=True, text=True, check=False
    )
    if answer.returncode == TOOL_MISSING:
        unavailable(answer.stderr.strip())
    if answer.returncode != 0:
        pytest.fail(f"build.py {program} failed:\n{answer.stderr}")
    return Path(answer.stdout.strip())
